//! The settings that every node of a role has, and that the engine takes before a node sees its own.
//!
//! Each is declared once, in the struct of its role: the parser, the schema, the tables in the READMEs
//! and what the engine gets all come from there.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
    time::Duration,
};

use forebay_sdk::{Capabilities, Finding, Problem, Role, rules::SETTING_VALUE, schema_of};
use forebay_yaml::{self as yaml, Yaml};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{Map, Value};

use super::{
    buffer::{Batch, BatchSettings, Buffer, BufferSettings, QueueSettings},
    envelope::EnvelopeSettings,
    link::{LinkRule, LinkSettings},
};

/// The settings that every node has, as the engine takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// The queue in front of it.
    pub buffer: Buffer,
    /// A sink: how many messages go into one write.
    pub batch: Batch,
    /// A sink: what it writes beside the values.
    pub envelope: Option<EnvelopeSettings>,
    /// A sink: whether no message may be lost on the way to it.
    pub must_deliver: bool,
    /// A sink: what it does while conditions on the link hold; the first that does counts.
    pub link: Arc<[LinkRule]>,
    /// A transform: where what it remembers is kept.
    pub state: StateKept,
}

/// Where what a transform remembers is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateKept {
    /// In memory: it survives a reload.
    #[default]
    Memory,
    /// On disk too, written at most this often: it survives a restart and a power cut.
    Persist {
        /// The time between two writes, in which sources wait for their acknowledgements.
        every: Duration,
    },
}

impl Default for Common {
    fn default() -> Common {
        Common {
            buffer: Buffer::default(),
            batch: Batch { max_messages: 1, max_wait: Duration::ZERO },
            envelope: None,
            must_deliver: false,
            link: Arc::new([]),
            state: StateKept::Memory,
        }
    }
}

impl Common {
    /// Whether the node can go on as it is, with at most another queue in front of it.
    pub fn keeps_node(&self, other: &Common) -> bool {
        let Common { buffer: _, batch, envelope, must_deliver: _, link, state } = self;
        *batch == other.batch
            && *envelope == other.envelope
            && *link == other.link
            && *state == other.state
    }
}

/// A setting whose place in the file matters, so that it is read out of the tree by itself.
#[derive(Default, Deserialize)]
#[serde(from = "IgnoredAny")]
struct Placed;

impl From<IgnoredAny> for Placed {
    fn from(_: IgnoredAny) -> Placed {
        Placed
    }
}

/// What can stand behind `connection:`.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "for the schema")]
enum Used {
    Name(String),
    InPlace(BTreeMap<String, Value>),
}

/// What can stand behind `from:`.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "for the schema")]
enum Reads {
    One(String),
    Several(#[schemars(length(min = 1))] Vec<String>),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "each has a place")]
struct ConnectionCommon {
    #[schemars(with = "String")]
    r#type: Placed,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "each has a place")]
struct SourceCommon {
    #[schemars(with = "String")]
    r#type: Placed,
    /// The connection to use: the name of a shared one, or the settings of one of its own.
    #[schemars(with = "Used")]
    #[serde(default)]
    connection: Placed,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TransformCommon {
    #[expect(dead_code, reason = "it has a place")]
    #[schemars(with = "String")]
    r#type: Placed,
    /// The connection to use: the name of a shared one, or the settings of one of its own.
    #[expect(dead_code, reason = "it has a place")]
    #[schemars(with = "Used")]
    #[serde(default)]
    connection: Placed,
    /// The node to read, or a list of nodes; `node.output` reads a named output, `node.errors` what
    /// a node could not handle.
    #[expect(dead_code, reason = "it has a place")]
    #[schemars(with = "Reads", extend("x-forebay-needed" = true))]
    #[serde(default)]
    from: Placed,
    #[serde(default, skip_serializing_if = "always")]
    buffer: QueueSettings,
    #[serde(default)]
    state: State,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SinkCommon {
    #[expect(dead_code, reason = "it has a place")]
    #[schemars(with = "String")]
    r#type: Placed,
    /// The connection to use: the name of a shared one, or the settings of one of its own.
    #[expect(dead_code, reason = "it has a place")]
    #[schemars(with = "Used")]
    #[serde(default)]
    connection: Placed,
    /// The node to read, or a list of nodes; `node.output` reads a named output, `node.errors` what
    /// a node could not handle.
    #[expect(dead_code, reason = "it has a place")]
    #[schemars(with = "Reads", extend("x-forebay-needed" = true))]
    #[serde(default)]
    from: Placed,
    #[serde(default, skip_serializing_if = "always")]
    buffer: BufferSettings,
    #[serde(default, skip_serializing_if = "always")]
    batch: BatchSettings,
    envelope: Option<EnvelopeSettings>,
    /// Says that no message may be lost on the way to this sink. Lint then refuses what would lose
    /// one.
    #[serde(default)]
    must_deliver: bool,
    /// What the sink does while the link to the outside is in a state: conditions, of which the first that holds
    /// counts. Needs a connection of type `router` in the folder, which tells how the link is.
    #[serde(default)]
    #[schemars(length(max = 16))]
    link: Vec<LinkSettings>,
}

/// Where what the transform remembers is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum State {
    /// In memory. It survives a reload, and is gone when the program ends.
    #[default]
    Memory,
    /// On disk too, in the data folder. It survives a restart and a power cut. It is written 10 seconds
    /// after a change. A source that can send again hears only then that a message arrived, so it is
    /// written a second after that came, or a second for each 4 KiB that there are to write.
    Persist,
}

/// How often state is written: flash wears, and sources wait meanwhile.
const PERSIST_EVERY: Duration = Duration::from_secs(10);

impl From<State> for StateKept {
    fn from(state: State) -> StateKept {
        match state {
            State::Memory => StateKept::Memory,
            State::Persist => StateKept::Persist { every: PERSIST_EVERY },
        }
    }
}

/// In a schema, marks a setting that must be there, and that lint has a rule of its own for.
pub const NEEDED: &str = "x-forebay-needed";

/// Those that stand in front of a type's own: what it is, and what it is wired to.
pub(super) const IN_FRONT: [&str; 3] = ["type", "connection", "from"];

/// The settings that every node of a role has, each with its JSON Schema.
pub(super) fn settings(role: Role) -> Map<String, Value> {
    let mut schema = match role {
        Role::Connection => schema_of::<ConnectionCommon>(),
        Role::Source => schema_of::<SourceCommon>(),
        Role::Transform => schema_of::<TransformCommon>(),
        Role::Sink => schema_of::<SinkCommon>(),
    };
    match schema["properties"].take() {
        Value::Object(settings) => settings,
        _ => Map::new(),
    }
}

/// Whether every node of a role has this setting, so that no type can have one of that name.
pub fn is_common(role: Role, setting: &str) -> bool {
    static NAMES: LazyLock<BTreeMap<Role, BTreeSet<String>>> = LazyLock::new(|| {
        let names = |role| settings(role).into_iter().map(|(name, _)| name).collect();
        Role::ALL.into_iter().map(|role| (role, names(role))).collect()
    });
    NAMES[&role].contains(setting)
}

/// Reads those of a node. `written` was checked together with the settings of its type; `title`
/// names the node.
pub(super) fn read(
    role: Role,
    written: &Yaml,
    title: &str,
    capabilities: Capabilities,
    findings: &mut Vec<Finding>,
) -> Option<Common> {
    let usual = Common::default();
    match role {
        Role::Connection | Role::Source => Some(usual),
        Role::Transform => {
            let settings: TransformCommon = yaml::decode(written, title, findings)?;
            let TransformCommon { buffer, state, .. } = settings;
            Some(Common { buffer: buffer.into(), state: state.into(), ..usual })
        }
        Role::Sink => {
            let settings: SinkCommon = yaml::decode(written, title, findings)?;
            let SinkCommon { buffer, batch, envelope, must_deliver, link, .. } = settings;
            let finding = |setting: &'static str| {
                move |problem: Problem| {
                    let place = written.at(setting).at(&problem.setting);
                    Finding::error(problem.rule, place.span, problem.message, problem.label)
                }
            };
            findings.extend(buffer.check().into_iter().map(finding("buffer")));
            let problems = envelope.iter().flat_map(EnvelopeSettings::check);
            findings.extend(problems.map(finding("envelope")));
            findings.extend(useless_envelope(written, title, capabilities));
            let (batch, useless) = batch_of(batch, written, title, capabilities);
            findings.extend(useless);
            let link = rules_of(&link, written, title, capabilities, findings).into();
            Some(Common { buffer: buffer.into(), batch, envelope, must_deliver, link, ..usual })
        }
    }
}

/// The conditions on the link that are right, and what is wrong with the others.
fn rules_of(
    settings: &[LinkSettings],
    written: &Yaml,
    title: &str,
    capabilities: Capabilities,
    findings: &mut Vec<Finding>,
) -> Vec<LinkRule> {
    let is_single = !capabilities.repeats || capabilities.batch_messages <= 1;
    let mut rules = Vec::new();
    for (at, settings) in settings.iter().enumerate() {
        let path = format!("link[{at}]");
        match settings.resolve(&path) {
            Ok(rule) if is_single && rule.max_messages.is_some_and(|most| most > 1) => {
                let message = format!("{title} writes one message at a time");
                let place = written.at(&format!("{path}.batch"));
                let label = "`batch` has no effect here";
                findings.push(Finding::error(&SETTING_VALUE, place.span, message, label));
            }
            Ok(rule) => rules.push(rule),
            Err(problem) => findings.push(problem.at(|setting| written.at(setting).span)),
        }
    }
    rules
}

/// How many messages go into one write, and what is wrong when the sink cannot choose.
fn batch_of(
    settings: BatchSettings,
    written: &Yaml,
    title: &str,
    capabilities: Capabilities,
) -> (Batch, Option<Finding>) {
    // What must not be done twice is let go of one by one.
    let usual = if capabilities.repeats { capabilities.batch_messages } else { 1 };
    let Some(entry) = written.entry("batch") else {
        return (Batch { max_messages: usual, max_wait: capabilities.batch_wait }, None);
    };
    let batch = Batch {
        max_messages: settings.max_messages.map_or(usual, |asked| asked as usize),
        max_wait: settings.max_wait.map_or(capabilities.batch_wait, |asked| *asked),
    };
    if usual > 1 {
        return (batch, None);
    }
    let message = format!("{title} writes one message at a time");
    let label = "`batch` has no effect here";
    let finding = Finding::error(&SETTING_VALUE, entry.key_span, message, label);
    let finding = match capabilities.repeats {
        true => finding,
        false => finding.note("what must not be done twice is let go of one by one"),
    };
    (batch, Some(finding))
}

/// A command has the fields that it has.
fn useless_envelope(written: &Yaml, title: &str, capabilities: Capabilities) -> Option<Finding> {
    let entry = written.entry("envelope").filter(|_| !capabilities.repeats)?;
    let message = format!("{title} carries out what a payload says");
    let label = "expected no `envelope`";
    Some(Finding::error(&SETTING_VALUE, entry.key_span, message, label))
}

/// That there is a usual value is said by each of the settings inside.
fn always<T>(_: &T) -> bool {
    true
}
