//! An error inside a text that the user wrote, such as a script.

use std::{fmt, sync::Arc};

/// What went wrong, and at which place of a setting's text. A node returns it as its error; the
/// engine knows where that text stands, and tells the place as one in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting that holds the text: one whose type is [`crate::Script`].
    pub setting: &'static str,
    /// The file that holds the text, when that is no setting of the node.
    pub file: Option<Arc<str>>,
    /// The line and column inside the text, both from 1.
    pub inside: (usize, usize),
    /// What went wrong, without the place.
    pub words: String,
    /// The values that it had in hand, such as `msg.payload.a = 5`. They differ from message to message, and the words do not.
    /// Empty when nobody knows.
    pub used: String,
}

impl Fault {
    /// The place in its own file; without one, that inside the text.
    pub fn place(&self) -> String {
        let (line, column) = self.inside;
        match &self.file {
            Some(file) => format!("{file}:{line}:{column}"),
            None => format!("line {line}, column {column}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.words)
    }
}

impl std::error::Error for Fault {}
