//! What errors are about, for counting them apart.

use std::{error::Error, fmt};

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A source could not read something: a device that did not answer, a line that is no JSON.
    NotRead,
    /// A transform could not handle a message, such as a script that failed.
    NotHandled,
    /// The other side of a sink will never take a message.
    NotTaken,
    /// Nobody knows whether a write happened.
    InDoubt,
    /// The node panicked, which is a bug in it.
    Panic,
    /// Something else, which is no single message's, such as one client of many that was refused.
    Other,
}

/// Their names, in their order.
pub const ERROR_KINDS: [&str; 6] =
    ["not read", "not handled", "not taken", "in doubt", "panic", "other"];

impl ErrorKind {
    /// This kind, unless the error is a panic, which is one wherever it comes from.
    pub fn unless_panic(self, error: &anyhow::Error) -> ErrorKind {
        if error.is::<Panicked>() { ErrorKind::Panic } else { self }
    }
}

/// A node's code panicked, and said this.
#[derive(Debug)]
pub struct Panicked(pub String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the node panicked, which is a bug in it: {}", self.0)
    }
}

impl Error for Panicked {}
