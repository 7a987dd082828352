//! An error inside a text that the user wrote, such as a script.

use std::{fmt, sync::Arc};

/// What went wrong, and at which place of a setting's text. A node returns it as its error; the
/// engine knows where that text stands, and tells the place as one in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting that holds the text: one whose type is [`crate::Script`].
    pub setting: &'static str,
    /// Where it went wrong.
    pub at: At,
    /// Where the text called what went wrong, when that stands elsewhere.
    pub called: Option<At>,
    /// What went wrong, without the place.
    pub words: String,
    /// The values that it had in hand, such as `msg.payload.a = 5`. They differ from message to message, and the words do not.
    /// Empty when nobody knows.
    pub used: String,
}

/// A place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The file, when it is not in the text of the setting.
    pub file: Option<Arc<str>>,
    /// The line and column, both from 1: of the file, or inside the text.
    pub inside: (usize, usize),
}

impl Fault {
    /// What went wrong, without the place, and by which call. `tell` tells a place.
    pub fn said(&self, tell: impl FnOnce(&At) -> String) -> String {
        match &self.called {
            Some(called) => format!("{}; called at {}", self.words, tell(called)),
            None => self.words.clone(),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.inside;
        match &self.file {
            Some(file) => write!(f, "{file}:{line}:{column}"),
            None => write!(f, "line {line}, column {column}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.said(At::to_string))
    }
}

impl std::error::Error for Fault {}
