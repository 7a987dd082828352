//! Findings as people and programs read them.

mod junit;
mod sarif;
mod short;

use std::collections::BTreeMap;

use annotate_snippets::{
    Annotation, AnnotationKind, Group, Level as Drawn, Patch, Renderer, Snippet,
    renderer::DecorStyle,
};
use forebay_sdk::{Finding, Level, Span};
use serde_json::json;

use self::short::short;
pub use self::{
    junit::escaped,
    short::{Part, level, printable},
};
use crate::config::Texts;

/// How findings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// With the lines of the file, the wrong text marked.
    #[default]
    #[value(name = "text", aliases = ["human", "full"])]
    Full,
    /// One line each: `file:line:column: level[rule]: message`.
    Short,
    /// One JSON object each.
    Json,
    /// JUnit XML, for CI systems: a test for each file and for each finding that fails.
    Junit,
    /// SARIF 2.1.0, for code hosts: one JSON object with all findings.
    Sarif,
}

/// All findings of one set of files as one text, each ending in a line break.
pub fn render(findings: &[Finding], texts: &Texts, format: Format, color: bool) -> String {
    render_all(&[Part { findings, texts }], format, color, Level::Error)
}

/// All findings of several sets of files as one text. Those of `least` level or worse fail, where a
/// format tells them from others.
pub fn render_all(parts: &[Part<'_>], format: Format, color: bool, least: Level) -> String {
    let each = |render: &dyn Fn(&Finding, &Texts) -> String| {
        let part = |part: &Part| part.findings.iter().map(|one| render(one, part.texts)).collect();
        parts.iter().map(part).collect::<Vec<String>>().concat()
    };
    match format {
        Format::Full => each(&|finding, texts| full(finding, texts, color) + "\n\n"),
        Format::Short => each(&|finding, texts| short(finding, texts) + "\n"),
        Format::Json => each(&|finding, texts| json(finding, texts) + "\n"),
        Format::Junit => junit::junit(parts, least),
        Format::Sarif => sarif::sarif(parts),
    }
}

fn full(finding: &Finding, texts: &Texts, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii);
    let level = match finding.level {
        Level::Error => Drawn::ERROR,
        Level::Warning => Drawn::WARNING,
    };
    let title = level.primary_title(printable(&finding.message)).id(finding.rule.name);
    let mut main = Group::with_title(title);
    for snippet in snippets(finding, texts) {
        main = main.element(snippet);
    }
    if let Some(note) = &finding.note {
        // A note may have two lines.
        let lines: Vec<_> = note.lines().map(printable).collect();
        main = main.element(Drawn::NOTE.message(lines.join("\n")));
    }
    if let Some(help) = &finding.help {
        main = main.element(Drawn::HELP.message(printable(help)));
    }
    let mut groups = vec![main];
    if let Some(edit) = &finding.edit {
        let file = edit.span.file;
        let snippet = Snippet::source(texts.shown(file))
            .path(printable(&texts.seen(file)).into_owned())
            .patch(Patch::new(edit.span.range(), edit.text.clone()));
        groups.push(Drawn::HELP.secondary_title(printable(&edit.title)).element(snippet));
    }
    renderer.render(&groups).to_string()
}

/// One snippet for each file that the finding speaks of, the one at fault first.
fn snippets<'a>(finding: &'a Finding, texts: &'a Texts) -> Vec<Snippet<'a, Annotation<'a>>> {
    let Some(span) = finding.span else { return Vec::new() };
    let mut files: BTreeMap<(bool, u32), Vec<Annotation<'a>>> = BTreeMap::new();
    let primary =
        AnnotationKind::Primary.span(marked(span, texts)).label(printable(&finding.label));
    files.entry((false, span.file)).or_default().push(primary);
    for (place, label) in &finding.context {
        let range = marked(*place, texts);
        let annotation = match label.as_str() {
            "" => AnnotationKind::Visible.span(range),
            label => AnnotationKind::Context.span(range).label(printable(label)),
        };
        files.entry((place.file != span.file, place.file)).or_default().push(annotation);
    }
    let snippet = |((_, file), annotations): ((bool, u32), Vec<Annotation<'a>>)| {
        Snippet::source(texts.shown(file))
            .path(printable(&texts.seen(file)).into_owned())
            .annotations(annotations)
    };
    files.into_iter().map(snippet).collect()
}

/// A value of many lines is marked at its first.
fn marked(span: Span, texts: &Texts) -> std::ops::Range<usize> {
    let range = span.range();
    let text = texts.text(span.file);
    let first = text.get(range.clone()).and_then(|text| text.lines().next()).map_or(0, str::len);
    range.start..range.start + first
}

fn json(finding: &Finding, texts: &Texts) -> String {
    let mut object = json!({
        "rule": finding.rule.name,
        "level": level(finding.level),
        "message": finding.message,
        "label": finding.label,
    });
    if let Some(span) = finding.span {
        let (line, column) = texts.line_column(span.file, span.range().start);
        let (end_line, end_column) = texts.line_column(span.file, span.range().end);
        object["file"] = texts.seen(span.file).into();
        object["line"] = line.into();
        object["column"] = column.into();
        object["end"] = json!({ "line": end_line, "column": end_column });
    }
    if let Some(edit) = &finding.edit {
        let (line, column) = texts.line_column(edit.span.file, edit.span.range().start);
        let (end_line, end_column) = texts.line_column(edit.span.file, edit.span.range().end);
        object["edit"] = json!({
            "title": edit.title, "text": edit.text, "line": line, "column": column,
            "end": { "line": end_line, "column": end_column },
        });
    }
    if let Some(help) = finding.help.as_ref().or(finding.note.as_ref()) {
        object["help"] = help.as_str().into();
    }
    object.to_string()
}
