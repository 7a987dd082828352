//! How things are said.

use forebay_sdk::{Problem, Rule, finding::nearest};
use rhai::Position;

/// `, did you mean ...`, or nothing when no choice is near.
pub(crate) fn did_you_mean<'a>(word: &str, choices: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, choices).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default()
}

pub(crate) fn lowercase_first(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// A problem at a place of the script.
pub(crate) fn problem(
    rule: &'static Rule,
    at: Position,
    message: String,
    label: String,
) -> Problem {
    let problem = Problem::new("script", message, label).rule(rule);
    match (at.line(), at.position()) {
        (Some(line), column) => problem.inside(line, column.unwrap_or(1)),
        (None, _) => problem,
    }
}
