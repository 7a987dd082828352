//! A finding in one line, which other reports are made of too.

use std::borrow::Cow;

use forebay_sdk::{Finding, Level};

use crate::config::Texts;

/// Findings, and the files that they speak of.
pub struct Part<'a> {
    /// In the order in which they are printed.
    pub findings: &'a [Finding],
    /// The files.
    pub texts: &'a Texts,
}

/// `file:line:column: level[rule]: message`.
pub(super) fn short(finding: &Finding, texts: &Texts) -> String {
    let label = match finding.label.as_str() {
        "" => String::new(),
        label => format!(" ({})", printable(label)),
    };
    let place = match finding.span {
        Some(span) => {
            let (line, column) = texts.line_column(span.file, span.range().start);
            format!("{}:{line}:{column}: ", printable(&texts.seen(span.file)))
        }
        None => String::new(),
    };
    let (level, rule) = (level(finding.level), finding.rule);
    format!("{place}{level}[{rule}]: {}{label}", printable(&finding.message))
}

/// As it is written in a report.
pub fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
    }
}

/// Text from files, and the names of files, must not steer the terminal: neither with control
/// characters, nor by turning the direction of writing.
pub fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.chars().any(steers) {
        text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
    } else {
        text.into()
    }
}
