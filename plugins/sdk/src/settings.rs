//! The settings of one node or connection: as their author writes them down ([`Settings`]), and what
//! was understood of them ([`Configured`]). They are read once: what was checked is what runs.

use std::{
    any::Any,
    borrow::Cow,
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use forebay_yaml::{
    Finding, Level, Rule, Span,
    finding::{nearest, quoted},
};
use futures_util::future::LocalBoxFuture;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{
    claim::Claim,
    connection::Shared,
    coverage::Coverage,
    examination::Examination,
    facts::{Busy, Exchange, Fields, Topics},
    node::{LONGEST_TRY, Node},
    rules::SETTING_VALUE,
    site::Site,
};

/// One struct gives the parser, the positions of errors, the JSON Schema, the table in the README
/// and the help text. Doc comments on its fields are what users read.
///
/// Not allowed in such structs, because they lose positions: `#[serde(flatten)]`, untagged and
/// internally tagged enums. Needed on them: `#[serde(deny_unknown_fields)]`.
pub trait Settings: DeserializeOwned + JsonSchema + 'static {
    /// Turns what was written into what runs: parses texts, compiles scripts, and reports what the
    /// types cannot say, such as settings that clash. No I/O.
    ///
    /// None when there is nothing that could run. With an error among the problems the result is
    /// never built, but lint asks it for claims, outputs and the like all the same.
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured>;

    /// What a script among the settings imports. The files are read before the settings are.
    fn imports(_script: &str) -> Vec<Import> {
        Vec::new()
    }
}

/// Settings that were read and understood, whatever their type: all that lint and the engine know of
/// a node before it runs. Only `check_files` and `examine` do I/O. A new fact about nodes is a method here, with a default.
pub trait Configured: Any + Send + Sync {
    /// Makes the node. Opens nothing and cannot fail, so a reload that lints cannot fail half-way;
    /// does nothing that takes long, for all nodes run on one thread.
    fn build(&self, site: Site) -> Node;

    /// What the engine and the lint may rely on.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Names of the outputs beside the main one and `errors`.
    fn outputs(&self) -> Vec<String> {
        Vec::new()
    }

    /// What nobody else may hold at the same time.
    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }

    /// What nobody else may hold at the same time, such as a line of the chip that the connection is.
    /// `connection` is what was understood of the settings of that one.
    fn claims_on(&self, _connection: &dyn Any) -> Vec<Claim> {
        Vec::new()
    }

    /// Which fields of payloads it reads and sends.
    fn fields(&self) -> Fields {
        Fields::default()
    }

    /// Which entries of `meta` it reads and sends. All messages have `source`, `topic_levels` and, as far
    /// as they waited for a link, `historical`.
    fn meta(&self) -> Fields {
        Fields::default()
    }

    /// What topics messages have behind it; behind a sink, where it publishes.
    fn topics(&self) -> Topics {
        Topics::default()
    }

    /// What it exchanges with a broker, on this connection. None when it does not.
    fn exchange(&self, _connection: &dyn Any) -> Option<Exchange> {
        None
    }

    /// Reports what is wrong with the node on the connection that it uses. `connection` is what was
    /// understood of the settings of that connection, of whatever type it is.
    fn check_on(&self, _connection: &dyn Any) -> Vec<Problem> {
        Vec::new()
    }

    /// Whether it switches outputs of a [`crate::panel::Panel`].
    fn switches(&self) -> bool {
        false
    }

    /// What a connection says to a node that switches outputs on it. None where it may.
    fn refuses_switching(&self) -> Option<Problem> {
        None
    }

    /// What it reads and writes on the other side, for who holds the manual of a device beside it.
    fn inventory(&self) -> Inventory {
        Inventory::default()
    }

    /// Reports what is wrong with the node on its inputs, which are the entries of `from:` as written:
    /// such as a setting that names another ([`Problem::unless_input`]).
    fn check_inputs(&self, _inputs: &[&str]) -> Vec<Problem> {
        Vec::new()
    }

    /// Reports what is wrong with the files that the settings name, relative to `folder`, such as
    /// certificates. Opens nothing that is no regular file.
    fn check_files(&self, _folder: &Path) -> Vec<Problem> {
        Vec::new()
    }

    /// The files that the settings name and that are read while it runs, such as certificates. A change
    /// of one is a change of the node.
    fn files(&self, _folder: &Path) -> Vec<PathBuf> {
        Vec::new()
    }

    /// A connection: whether the one that runs with other settings can go on with these. Then a reload
    /// has it [`Configured::adapt`] in the place of making it anew, and whoever uses it goes on
    /// untouched. `running` is what was understood of those others.
    fn adapts_from(&self, _running: &dyn Any) -> bool {
        false
    }

    /// Has the connection that runs go on with these settings. `shared` is its part that nodes share.
    fn adapt(&self, _shared: &Shared) {}

    /// A connection: how much of its time its users take, as far as anybody can say. What several
    /// share is counted once. `users` are the settings of its nodes, of whatever types they are.
    fn load(&self, _users: &[&dyn Any]) -> Vec<Busy> {
        Vec::new()
    }

    /// A connection: whether it tells how the link to the outside is ([`crate::Link`]), so that conditions on
    /// sinks can ask.
    fn knows_link(&self) -> bool {
        false
    }

    /// A connection, or a node that asks web services without one: where in the world the other side is looked for, each
    /// as `host:port` or the path of a serial line, so that a test of a pipeline can put a peer there.
    fn reaches(&self) -> Vec<String> {
        Vec::new()
    }

    /// The same node, which takes note of what of its script runs, for `forebay test --coverage`. None for a node
    /// without one.
    fn noting(&self) -> Option<(Arc<dyn Configured>, Arc<Coverage>)> {
        None
    }

    /// Tries the way to the other side step by step, as `forebay doctor` shows it, and in the words of
    /// what runs. The only method that connects to anybody. None when there is nothing to look at.
    fn examine<'a>(&'a self, _: &'a Examination<'a>) -> Option<LocalBoxFuture<'a, ()>> {
        None
    }
}

/// A file that a script imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// As it is written: `lib/units`.
    pub name: String,
    /// The line and column in the script, both from 1.
    pub inside: (usize, usize),
}

/// What a node reads or writes on the other side, one row each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// What stands above the cells.
    pub heads: Vec<&'static str>,
    /// As many cells as heads.
    pub rows: Vec<Vec<String>>,
}

/// What a node of these settings can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// A sink: how many messages one write takes unless `batch:` says otherwise. 1 for sinks that
    /// have no use for batches; `batch:` cannot change that.
    pub batch_messages: usize,
    /// A sink: how long a batch that is not full waits for more, unless `batch:` says otherwise.
    pub batch_wait: Duration,
    /// A source: the other side keeps each message until the pipeline has delivered it, and sends
    /// it again otherwise. On a connection, only as long as that has it too.
    ///
    /// A connection: it has the other side keep such messages while this program is away.
    pub resends: bool,
    /// A sink: what would have the other side say that it has a message, when it does not. Then a
    /// message that is lost on the way counts as delivered.
    pub unconfirmed: Option<&'static str>,
    /// A sink: whether a write may be done twice. When not (a command, a text message), the engine
    /// lets go of a message before it writes it, one at a time; what then is in doubt, after a
    /// time-out, a reload, a panic or a crash, goes to `errors` as that.
    pub repeats: bool,
    /// A sink: how long one connect or one write may take. Then the engine breaks it off.
    pub longest_try: Duration,
    /// A connection: it does its work for others than the nodes of this program, as a broker does.
    pub serves: bool,
    /// A connection, or a sink that has its own: the other side is on the local network, where a try
    /// costs nothing. It is tried again within ten seconds, another within half a minute.
    pub is_near: bool,
    /// A transform: it tells its inputs apart, so another `from:` is another node.
    pub tells_inputs_apart: bool,
    /// Whether anything can ever come out of the output `errors`.
    pub errors: bool,
    /// A source or a sink without a connection: it needs nothing outside of this program, as a timer.
    pub is_inward: bool,
}

impl Default for Capabilities {
    fn default() -> Capabilities {
        Capabilities {
            batch_messages: 1,
            batch_wait: Duration::ZERO,
            resends: false,
            unconfirmed: None,
            repeats: true,
            longest_try: LONGEST_TRY,
            serves: false,
            is_near: false,
            tells_inputs_apart: false,
            errors: true,
            is_inward: false,
        }
    }
}

/// A problem that [`Settings::resolve`] found. The engine adds file, line and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Names the problem: `setting-value`, `script-syntax`.
    pub rule: &'static Rule,
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
    /// By this name the text imports the one in which that line is.
    pub module: Option<Arc<str>>,
    /// Other settings that matter, each with a few words.
    pub also: Vec<(String, String)>,
    /// What could stand there instead, when that is sure.
    pub instead: Option<Cow<'static, str>>,
    /// A setting and its value that the connection of the node should have.
    pub of_connection: Option<(&'static str, String)>,
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
            rule: &SETTING_VALUE,
            level: Level::Error,
            setting: setting.into(),
            message: message.into(),
            label: label.into(),
            inside: None,
            module: None,
            also: Vec::new(),
            instead: None,
            of_connection: None,
            help: None,
            note: None,
        }
    }

    /// Gives it a place in a file. `place` tells where a setting stands.
    pub fn at(self, place: impl Fn(&str) -> Span) -> Finding {
        let span = place(&self.setting);
        let mut finding = Finding::error(self.rule, span, self.message, self.label);
        (finding.level, finding.note, finding.help) = (self.level, self.note, self.help);
        for (setting, label) in self.also {
            finding = finding.context(place(&setting), label);
        }
        match self.instead {
            Some(text) => finding.edit("this would be right", span, text),
            None => finding,
        }
    }

    /// That a value is out of its range. None when it lies in it.
    pub fn unless_within<T: PartialOrd + fmt::Display>(
        setting: impl Into<String>,
        value: &T,
        range: RangeInclusive<T>,
    ) -> Option<Problem> {
        if range.contains(value) {
            return None;
        }
        let setting = setting.into();
        let message = format!("`{setting}` is out of range");
        let label = format!("expected {} to {}, found {value}", range.start(), range.end());
        Some(Problem::new(setting, message, label))
    }

    /// That a setting names an input which is none.
    pub fn unless_input(
        setting: impl Into<String>,
        name: &str,
        inputs: &[&str],
    ) -> Option<Problem> {
        if inputs.contains(&name) {
            return None;
        }
        let setting = setting.into();
        let message = format!("`{setting}` names `{name}`, which the node does not read");
        let label = format!("expected one of `from`: {}", quoted(inputs.iter().copied()));
        let problem = Problem::new(setting, message, label);
        Some(match nearest(name, inputs.iter().copied()) {
            Some(near) => problem.instead(near.to_owned()),
            None => problem,
        })
    }

    /// Files the problem under another rule.
    pub fn rule(mut self, rule: &'static Rule) -> Problem {
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

    /// Puts that line and column into a text that the setting's text imports.
    pub fn in_module(mut self, name: &Arc<str>) -> Problem {
        self.module = Some(Arc::clone(name));
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

    /// Offers a setting for the connection of the node.
    pub fn of_connection(mut self, setting: &'static str, value: impl Into<String>) -> Problem {
        self.of_connection = Some((setting, value.into()));
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
