//! What came out of variables. It may be secret, so neither findings nor errors at run time show it.

use std::sync::Arc;

use forebay_sdk::{Finding, Span};

/// What came out of variables, and where they stand. It may be secret.
#[derive(Default)]
pub struct Filled(Vec<(Span, String, String)>);

/// The values in some settings that came out of variables, each with its variable.
#[derive(Clone, Debug, Default)]
pub struct Unshown(Arc<[(String, String)]>);

impl Unshown {
    /// Puts the variables in the place of their values.
    pub fn hide(&self, text: String) -> String {
        self.0.iter().fold(text, |text, (value, variable)| replace(&text, value, variable))
    }

    /// The values of both.
    pub fn and(&self, other: &Unshown) -> Unshown {
        Unshown(self.0.iter().chain(&*other.0).cloned().collect())
    }
}

impl Filled {
    /// Takes note of what a variable gave.
    pub(super) fn note(&mut self, span: Span, name: &str, value: String) {
        // A default stands in the file itself.
        if !value.is_empty() && !name.contains(&value) {
            self.0.push((span, value, format!("${{{name}}}")));
        }
    }

    /// What stands in a part of a file.
    pub(super) fn inside(&self, span: Span) -> Unshown {
        let inside = self.0.iter().filter(|(place, ..)| span.holds(*place));
        Unshown(inside.map(|(_, value, variable)| (value.clone(), variable.clone())).collect())
    }

    /// Puts the variable in the place of its value in what a finding says about that place.
    pub fn hide(&self, finding: &mut Finding) {
        let places = finding.span.into_iter().chain(finding.context.iter().map(|(span, _)| *span));
        let places: Vec<Span> = places.collect();
        let is_shown = |span: Span| places.iter().any(|place| span.holds(*place));
        for (_, value, variable) in self.0.iter().filter(|(span, ..)| is_shown(*span)) {
            replace_in(finding, value, variable);
        }
    }
}

/// Puts something else in the place of a value in all that a finding says.
pub(super) fn replace_in(finding: &mut Finding, value: &str, instead: &str) {
    if value.is_empty() {
        return;
    }
    let labels = finding.context.iter_mut().map(|(_, label)| label);
    let texts = [&mut finding.message, &mut finding.label].into_iter();
    let texts = texts.chain(&mut finding.help).chain(&mut finding.note).chain(labels);
    texts.for_each(|text| *text = replace(text, value, instead));
    // It would show the value, or put it into the file.
    finding.edit.take_if(|edit| edit.text.contains(value));
}

/// Puts the variable where its value stands. A short one, such as a number of seconds, also stands
/// in words that have nothing to do with it, so it counts only where it is quoted or found.
fn replace(text: &str, value: &str, variable: &str) -> String {
    const SHORT: usize = 4;
    if value.is_empty() || !text.contains(value) {
        return text.to_owned();
    }
    if value.len() >= SHORT {
        return text.replace(value, variable);
    }
    let quoted = |text: String, quote: &str| {
        text.replace(&format!("{quote}{value}{quote}"), &format!("{quote}{variable}{quote}"))
    };
    let text = quoted(quoted(text.to_owned(), "`"), "\"");
    match text.strip_suffix(&format!("found {value}")) {
        Some(front) => format!("{front}found {variable}"),
        None => text,
    }
}
