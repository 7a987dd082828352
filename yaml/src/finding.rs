//! A finding: what is wrong, where, and what would be right. Data only; drawing is elsewhere.

use std::ops::Range;

use crate::rule::{Level, Rule};

/// A range of bytes in one of the files that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Number of the file, in the order in which the files were read.
    pub file: u32,
    /// First byte.
    pub start: u32,
    /// One behind the last byte.
    pub end: u32,
}

impl Span {
    /// A range of bytes in a file.
    pub fn new(file: u32, range: Range<usize>) -> Span {
        // Files are at most a few MiB.
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { file, start: offset(range.start), end: offset(range.end) }
    }

    /// Whether another place is inside this one, or the same.
    pub fn holds(self, other: Span) -> bool {
        self.file == other.file && self.start <= other.start && other.end <= self.end
    }

    /// The range, to cut the file's text with.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A change that mends what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// What to do, in a few words.
    pub title: String,
    /// What to replace; empty to insert.
    pub span: Span,
    /// What to put there.
    pub text: String,
}

/// What is wrong, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Names the problem in words: `unknown-node`.
    pub rule: &'static Rule,
    /// How bad it is.
    pub level: Level,
    /// One short sentence in the user's words. Stands alone.
    pub message: String,
    /// The smallest text that is wrong. None when the problem has no place in a file.
    pub span: Option<Span>,
    /// What would be right: `expected 0 to 255, found 300`. May be empty.
    pub label: String,
    /// Other places that matter, each with a few words or none.
    pub context: Vec<(Span, String)>,
    /// A change that can be pasted.
    pub edit: Option<Edit>,
    /// Advice that is no edit.
    pub help: Option<String>,
    /// Why, at most two lines.
    pub note: Option<String>,
}

impl Finding {
    /// An error at a place.
    pub fn error(
        rule: &'static Rule,
        span: impl Into<Option<Span>>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Finding {
        Finding {
            rule,
            level: Level::Error,
            message: message.into(),
            span: span.into(),
            label: label.into(),
            context: Vec::new(),
            edit: None,
            help: None,
            note: None,
        }
    }

    /// A warning at a place.
    pub fn warning(
        rule: &'static Rule,
        span: impl Into<Option<Span>>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Finding {
        Finding { level: Level::Warning, ..Finding::error(rule, span, message, label) }
    }

    /// Shows another place that matters.
    pub fn context(mut self, span: Span, label: impl Into<String>) -> Finding {
        self.context.push((span, label.into()));
        self
    }

    /// Offers a change.
    pub fn edit(
        mut self,
        title: impl Into<String>,
        span: Span,
        text: impl Into<String>,
    ) -> Finding {
        self.edit = Some(Edit { title: title.into(), span, text: text.into() });
        self
    }

    /// Adds advice.
    pub fn help(mut self, help: impl Into<String>) -> Finding {
        self.help = Some(help.into());
        self
    }

    /// Adds why.
    pub fn note(mut self, note: impl Into<String>) -> Finding {
        self.note = Some(note.into());
        self
    }
}

/// The one of `choices` that `word` was probably meant to be: within two edits, and not another
/// word altogether; or the short form of it, as `f32` is of `float32`.
pub fn nearest<'a>(word: &str, choices: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Of one letter, any other is one edit away; of four, two are another word: `port` is not `cert`.
    let most = match word.chars().count() {
        0 | 1 => 0,
        2..=4 => 1,
        _ => 2,
    };
    choices
        .into_iter()
        .map(|choice| {
            let distance = if is_short_for(choice, word) { 1 } else { edit_distance(word, choice) };
            (distance, choice)
        })
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, choice)| choice)
}

/// Words in backticks, the first eight of them: `a`, `b`, `c`.
pub fn quoted<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 8;
    let mut words = words.into_iter();
    let mut quoted: Vec<String> =
        words.by_ref().take(MOST).map(|word| format!("`{word}`")).collect();
    if words.next().is_some() {
        quoted.push("…".to_owned());
    }
    quoted.join(", ")
}

/// Whether one begins with the same letter and ends in the same number: `u16` and `UINT16`.
fn is_short_for(short: &str, word: &str) -> bool {
    let split = |text: &str| {
        let letters = text.trim_end_matches(|c: char| c.is_ascii_digit());
        (letters.to_lowercase(), text[letters.len()..].to_owned())
    };
    let ((letter, number), (letters, same)) = (split(short), split(word));
    letter.chars().count() == 1
        && letters.starts_with(&letter)
        && !number.is_empty()
        && number == same
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn edit_distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.to_lowercase().chars().take(64).collect();
    let to: Vec<char> = to.to_lowercase().chars().take(64).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, &a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &b) in to.iter().enumerate() {
            let mut best = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a == to[j - 1] && from[i - 1] == b {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_found() {
        let nodes = ["meter", "boiler", "plant"];
        assert_eq!(nearest("metr", nodes), Some("meter"));
        assert_eq!(nearest("biolers", nodes), Some("boiler"));
        assert_eq!(nearest("Plant", nodes), Some("plant"));
        assert_eq!(nearest("cloud", nodes), None);
        assert_eq!(nearest("in", ["to", "or"]), None);
        assert_eq!(nearest("port", ["cert", "url"]), None);
        assert_eq!(nearest("y", ["a", "x"]), None);
    }

    #[test]
    fn many_words_are_cut_short() {
        assert_eq!(quoted([]), "");
        assert_eq!(quoted(["a", "b"]), "`a`, `b`");
        assert_eq!(quoted(["a"; 8]).matches("`a`").count(), 8);
        assert_eq!(quoted(["a"; 9]), format!("{}, …", quoted(["a"; 8])));
    }

    #[test]
    fn a_short_form_is_found() {
        let kinds = ["u16", "i16", "u32", "i32", "f32", "f64"];
        assert_eq!(nearest("float32", kinds), Some("f32"));
        assert_eq!(nearest("UINT16", kinds), Some("u16"));
        assert_eq!(nearest("int32", kinds), Some("i32"));
        assert_eq!(nearest("double64", kinds), None);
        assert_eq!(nearest("string", kinds), None);
    }
}
