//! The settings of one node or connection, as their author writes them down.

use std::{
    any::Any,
    borrow::Cow,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{
    claim::Claim,
    connection::Shared,
    facts::{Busy, Fields},
    finding::Level,
    node::Node,
};

/// One struct gives the parser, the positions of errors, the JSON Schema, the table in the README
/// and the help text. Doc comments on its fields are what users read.
///
/// Not allowed in such structs, because they lose positions: `#[serde(flatten)]`, untagged and
/// internally tagged enums. Needed on them: `#[serde(deny_unknown_fields)]`.
pub trait Settings: DeserializeOwned + JsonSchema + Clone + Send + Sync + 'static {
    /// Reports what the types cannot say: settings that clash, limits of the device. No I/O.
    fn check(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// Reports what is wrong with the node on the connection that it uses. `connection` is the
    /// settings struct of that connection, of whatever type it is. No I/O.
    fn check_on(&self, _connection: &dyn Any) -> Vec<Problem> {
        Vec::new()
    }

    /// What nobody else may hold at the same time.
    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }

    /// Which fields of payloads it reads and sends.
    fn fields(&self) -> Fields {
        Fields::default()
    }

    /// How much of its connection's time the node takes. None when nobody can say. `connection` is
    /// as for [`Settings::check_on`].
    fn busy(&self, _connection: &dyn Any) -> Option<Busy> {
        None
    }

    /// Names of the outputs beside the main one and `errors`.
    fn outputs(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the engine and the lint may rely on.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Makes the node. Opens nothing and cannot fail, so a reload that lints cannot fail half-way.
    fn build(self, links: Links) -> Node;
}

/// What a node of these settings can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// A sink: how many messages one write takes unless `batch:` says otherwise. 1 for sinks that
    /// have no use for batches; `batch:` cannot change that.
    pub batch_messages: usize,
    /// A source: the other side keeps each message until the pipeline has delivered it, and sends
    /// it again otherwise. On a connection, only as long as that has it too.
    ///
    /// A connection: it has the other side keep such messages while this program is away.
    pub resends: bool,
    /// A sink: what would have the other side say that it has a message, when it does not. Then a
    /// message that is lost on the way counts as delivered.
    pub unconfirmed: Option<&'static str>,
    /// Whether anything can ever come out of the output `errors`.
    pub errors: bool,
}

impl Default for Capabilities {
    fn default() -> Capabilities {
        Capabilities { batch_messages: 1, resends: false, unconfirmed: None, errors: true }
    }
}

/// What a node is given beside its settings.
#[derive(Clone)]
pub struct Links {
    /// The node's name, as `pipeline/node`, or the name of the connection.
    pub name: Arc<str>,
    /// The folder of the configuration: names of files in settings are relative to it.
    pub folder: Arc<Path>,
    /// The connection it uses, when its type uses one.
    pub connection: Option<Shared>,
    /// What a node of this name left behind.
    pub memory: Memory,
}

/// A place where a node that is replaced leaves what its successor should know. Cloning shares it.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Option<Box<dyn Any + Send>>>>);

impl Memory {
    /// Leaves something, in place of what was left before. A node does so when it is dropped.
    pub fn leave<T: Any + Send>(&self, left: T) {
        *self.slot() = Some(Box::new(left));
    }

    /// Takes what was left, when it is a `T`.
    pub fn take<T: Any + Send>(&self) -> Option<T> {
        self.slot().take()?.downcast().ok().map(|left| *left)
    }

    fn slot(&self) -> MutexGuard<'_, Option<Box<dyn Any + Send>>> {
        // What is inside is whole whenever the lock is free.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Links {
    /// The connection, when it is a `T`.
    pub fn connection<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.connection.as_ref()?.get()
    }
}

/// A problem that [`Settings::check`] found. The engine adds file, line and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Names the problem: `setting-value`, `script-syntax`.
    pub rule: &'static str,
    /// An error keeps the pipeline from running.
    pub level: Level,
    /// Where: `registers[3].kind`. Empty for the node as a whole.
    pub setting: String,
    /// One short sentence in the user's words that stands alone. Names the setting.
    pub message: String,
    /// What would be right: `expected 0 to 2, found 3`.
    pub label: String,
    /// A line and column inside the setting's text, both from 1.
    pub inside: Option<(usize, usize)>,
    /// Other settings that matter, each with a few words.
    pub also: Vec<(String, String)>,
    /// What could stand there instead, when that is sure.
    pub instead: Option<Cow<'static, str>>,
    /// Advice that is no edit.
    pub help: Option<String>,
    /// Why, at most two lines.
    pub note: Option<String>,
}

impl Problem {
    /// An error about one setting, under the rule `setting-value`.
    pub fn new(
        setting: impl Into<String>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Problem {
        Problem {
            rule: "setting-value",
            level: Level::Error,
            setting: setting.into(),
            message: message.into(),
            label: label.into(),
            inside: None,
            also: Vec::new(),
            instead: None,
            help: None,
            note: None,
        }
    }

    /// Files the problem under another rule.
    pub fn rule(mut self, rule: &'static str) -> Problem {
        self.rule = rule;
        self
    }

    /// A warning does not keep the pipeline from running.
    pub fn warning(mut self) -> Problem {
        self.level = Level::Warning;
        self
    }

    /// Marks a line and column inside the setting's text, both from 1.
    pub fn inside(mut self, line: usize, column: usize) -> Problem {
        self.inside = Some((line, column));
        self
    }

    /// Shows another setting that matters.
    pub fn also(mut self, setting: impl Into<String>, label: impl Into<String>) -> Problem {
        self.also.push((setting.into(), label.into()));
        self
    }

    /// Offers a text to paste in place of the setting's value.
    pub fn instead(mut self, text: impl Into<Cow<'static, str>>) -> Problem {
        self.instead = Some(text.into());
        self
    }

    /// Adds advice.
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    /// Adds why.
    pub fn note(mut self, note: impl Into<String>) -> Problem {
        self.note = Some(note.into());
        self
    }
}

/// Settings that were read, whatever their type. What `lint` checks is what `run` builds.
pub trait Configured: Send + Sync {
    /// The settings struct, for those who know its type.
    fn as_any(&self) -> &dyn Any {
        &()
    }
    /// See [`Settings::check`].
    fn check(&self) -> Vec<Problem>;
    /// See [`Settings::check_on`].
    fn check_on(&self, _connection: &dyn Configured) -> Vec<Problem> {
        Vec::new()
    }
    /// See [`Settings::fields`].
    fn fields(&self) -> Fields {
        Fields::default()
    }
    /// See [`Settings::busy`].
    fn busy(&self, _connection: &dyn Configured) -> Option<Busy> {
        None
    }
    /// See [`Settings::claims`].
    fn claims(&self) -> Vec<Claim>;
    /// See [`Settings::outputs`].
    fn outputs(&self) -> Vec<String>;
    /// See [`Settings::capabilities`].
    fn capabilities(&self) -> Capabilities;
    /// See [`Settings::build`]. Makes a new node at each call.
    fn build(&self, links: Links) -> Node;
}

impl<S: Settings> Configured for S {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn check_on(&self, connection: &dyn Configured) -> Vec<Problem> {
        Settings::check_on(self, connection.as_any())
    }
    fn fields(&self) -> Fields {
        Settings::fields(self)
    }
    fn busy(&self, connection: &dyn Configured) -> Option<Busy> {
        Settings::busy(self, connection.as_any())
    }
    fn check(&self) -> Vec<Problem> {
        Settings::check(self)
    }
    fn claims(&self) -> Vec<Claim> {
        Settings::claims(self)
    }
    fn outputs(&self) -> Vec<String> {
        Settings::outputs(self)
    }
    fn capabilities(&self) -> Capabilities {
        Settings::capabilities(self)
    }
    fn build(&self, links: Links) -> Node {
        self.clone().build(links)
    }
}
