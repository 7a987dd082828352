//! Verbs of the command line that a plugin brings: `forebay probe URL`, `forebay simulate modbus`.
//!
//! The command line reads the arguments, and a file if there is one; the plugin does the work, in the
//! world that it is given.

use std::collections::BTreeMap;

use forebay_yaml::{Finding, Yaml};
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::{settings::Problem, world::World};

/// A verb of the command line.
pub struct Tool {
    /// Its words: `["probe"]`, or `["simulate", "modbus"]`.
    pub path: &'static [&'static str],
    /// One sentence.
    pub summary: &'static str,
    /// What else a user wants to know, in lines of at most 80 columns. May be empty.
    pub about: &'static str,
    /// What can stand behind it.
    pub arguments: &'static [Argument],
    /// JSON Schema of the file that [`Takes::File`] names.
    pub schema: Option<fn() -> Value>,
    /// Does it.
    pub run: fn(Call) -> BoxFuture<'static, Result<(), Stopped>>,
}

/// Something that can stand behind a verb.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// `timeout` for `--timeout`; of what has no dashes the words in the help, such as `URL`.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// One sentence.
    pub about: &'static str,
}

/// What an argument takes, with a word for it in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Without dashes, and needed.
    Place,
    /// Without dashes: a YAML file, which is read and checked before the tool runs.
    File,
    /// Nothing: it is there or not.
    Nothing,
    /// Nothing, or a value behind `=`.
    Maybe(&'static str),
    /// A value.
    One(&'static str),
    /// A value, each time that it is given.
    Several(&'static str),
}

/// A verb as it was called.
pub struct Call {
    /// What stood behind it.
    pub given: Given,
    /// The file, read and checked against the schema.
    pub file: Option<Yaml>,
    /// What it may open.
    pub world: World,
    /// Where it says what it sees.
    pub screen: Box<dyn Screen>,
}

/// The arguments that were given, by their names.
#[derive(Clone, Debug, Default)]
pub struct Given(pub BTreeMap<&'static str, Vec<String>>);

/// Where a tool says what it sees.
pub trait Screen: Send + Sync {
    /// Prints a text for good.
    fn print(&self, text: &str);
    /// Shows for a moment how far it is, where that does not disturb. Empty: shows nothing any more.
    fn progress(&self, line: &str);
}

/// Why a tool ended without having done what it should.
pub enum Stopped {
    /// Something is wrong with the file.
    Wrong(Vec<Finding>, Vec<Problem>),
    /// Anything else.
    Failed(anyhow::Error),
}

impl Given {
    /// Whether it was given.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Its value; the last one when it was given several times.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.all(name).last().map(String::as_str)
    }

    /// Its values, in their order.
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

impl From<anyhow::Error> for Stopped {
    fn from(error: anyhow::Error) -> Stopped {
        Stopped::Failed(error)
    }
}
