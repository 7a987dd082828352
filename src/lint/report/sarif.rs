//! SARIF 2.1.0, which code hosts show beside the lines of a change.

use std::collections::BTreeSet;

use forebay_sdk::{Finding, Span};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::short::{Part, level};
use crate::config::Texts;

/// One log of all findings. Ends in a line break.
pub(super) fn sarif(parts: &[Part<'_>]) -> String {
    let findings = parts.iter().flat_map(|part| part.findings.iter().map(|one| (one, part.texts)));
    let rules: BTreeSet<&str> = findings.clone().map(|(finding, _)| finding.rule.name).collect();
    let rules: Vec<Value> = rules.into_iter().map(|rule| json!({ "id": rule })).collect();
    let results: Vec<Value> = findings.map(|(finding, texts)| result(finding, texts)).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "forebay", "version": env!("CARGO_PKG_VERSION"), "rules": rules,
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn result(finding: &Finding, texts: &Texts) -> Value {
    let parts = [Some(&finding.message), Some(&finding.label), finding.help.as_ref()];
    let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
    let text = parts.map(String::as_str).collect::<Vec<_>>().join("; ");
    let mut result = json!({
        "ruleId": finding.rule.name,
        "level": level(finding.level),
        "message": { "text": text },
    });
    if let Some(span) = finding.span {
        result["locations"] = json!([{ "physicalLocation": place(span, texts) }]);
    }
    let related = |(span, label): &(Span, String)| json!({ "physicalLocation": place(*span, texts), "message": { "text": label } });
    let related: Vec<Value> =
        finding.context.iter().filter(|(_, label)| !label.is_empty()).map(related).collect();
    if !related.is_empty() {
        result["relatedLocations"] = related.into();
    }
    if let Some(edit) = &finding.edit {
        let place = place(edit.span, texts);
        let replacement = json!({
            "deletedRegion": place["region"],
            "insertedContent": { "text": edit.text },
        });
        let change = json!({
            "artifactLocation": place["artifactLocation"],
            "replacements": [replacement],
        });
        let title = json!({ "text": edit.title });
        result["fixes"] = json!([{ "description": title, "artifactChanges": [change] }]);
    }
    result
}

fn place(span: Span, texts: &Texts) -> Value {
    let range = span.range();
    let (line, column) = texts.line_column(span.file, range.start);
    let (end_line, end_column) = texts.line_column(span.file, range.end);
    json!({
        "artifactLocation": { "uri": uri(&texts.seen(span.file)) },
        "region": {
            "startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column,
        },
    })
}

/// All but what stands in a path as it is (RFC 3986, section 3.3), and its slashes.
const NOT_OF_A_PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A path as a URI: an absolute one with its scheme.
fn uri(path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    let scheme = if path.starts_with('/') { "file://" } else { "" };
    format!("{scheme}{}", utf8_percent_encode(path, NOT_OF_A_PATH))
}
