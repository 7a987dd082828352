//! All that users write: of a bridge, and of the node in the middle of one.

use forebay_sdk::{Configured, Filter, Problem, Settings, ShortOr, Value, topic::check_topic};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::transform::{Crossing, Way};

/// The most rules of a bridge.
const MOST_RULES: usize = 200;

/// Ties two brokers together. What is not read here goes into the nodes as it was written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BridgeSettings {
    /// The broker here: the name of a connection, or the settings of one of its own.
    #[expect(dead_code, reason = "for the schema")]
    local: ShortOr<String, serde_json::Map<String, Value>>,
    /// The broker at the other end of the link, just so.
    #[expect(dead_code, reason = "for the schema")]
    remote: ShortOr<String, serde_json::Map<String, Value>>,
    /// What goes over it: a list of rules. Each is a map of `pattern` (topics, with the wildcards `+` and `#`),
    /// `direction` (`out`, which it is when left out, `in` or `both`), `qos` (the highest, 1 when left out), `local_prefix`
    /// and `remote_prefix` (in front of the pattern at each end) and `retain` (`false` for what nobody is to keep at the
    /// other end); or a line as in Mosquitto, `"machine/# out 1 '' site7/"`.
    #[schemars(schema_with = "rules_schema")]
    pub topics: Vec<ShortOr<String, RuleSettings>>,
    /// The highest QoS over this bridge, whatever its rules say.
    #[schemars(range(min = 0, max = 2))]
    pub max_qos: Option<u8>,
    /// How many bridges a message may go over; one that has, ends here. They are counted in a user property
    /// of MQTT 5, `hmq-bridge-hop-count`, as HiveMQ Edge does. 0 counts nothing and adds no property.
    #[serde(default = "default_max_hops")]
    #[schemars(range(max = 100))]
    pub max_hops: u8,
    /// The queue in front of the remote broker, as that of a sink. `{ store: spill }` when left out; at QoS 0, where
    /// nobody says that a message arrived, it is in memory.
    #[expect(dead_code, reason = "for the schema")]
    buffer: Option<serde_json::Map<String, Value>>,
    /// The queue in front of the local broker, just so.
    #[expect(dead_code, reason = "for the schema")]
    inbound_buffer: Option<serde_json::Map<String, Value>>,
    /// How many messages go to the remote broker at once, as `batch` of a sink. With `start: lazy` at that
    /// connection: how many wait before it is worth one.
    #[expect(dead_code, reason = "for the schema")]
    batch: Option<serde_json::Map<String, Value>>,
    /// Publishes at the local broker whether the remote one is there, as a retained `1` or `0`.
    pub notifications: Option<NotificationsSettings>,
    /// Says that no message may be lost on the way over the bridge. Lint then refuses what would lose one.
    #[serde(default)]
    #[expect(dead_code, reason = "for the schema")]
    must_deliver: bool,
}

fn default_max_hops() -> u8 {
    4
}

/// Where it is said whether the remote broker is there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotificationsSettings {
    /// The topic at the local broker. `bridge/NAME/state` when left out.
    #[schemars(length(min = 1))]
    pub topic: Option<String>,
}

/// A rule is a map, or one line as in Mosquitto.
fn rules_schema(generator: &mut SchemaGenerator) -> Schema {
    let rule = generator.subschema_for::<ShortOr<String, RuleSettings>>();
    json_schema!({ "type": "array", "items": rule, "minItems": 1, "maxItems": MOST_RULES })
}

/// Which topics go which way, and what they are called at each end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleSettings {
    /// The topics, with the wildcards `+` and `#`, without the prefixes. Empty for the one topic that the two
    /// prefixes are.
    #[serde(default)]
    pub pattern: String,
    /// Which way they go.
    #[serde(default)]
    pub direction: Direction,
    /// The highest QoS at which they go: 0, 1 or 2.
    #[serde(default = "default_qos")]
    #[schemars(range(min = 0, max = 2))]
    pub qos: u8,
    /// Stands in front of the pattern at the local broker, and not at the remote one.
    #[serde(default)]
    pub local_prefix: String,
    /// Stands in front of the pattern at the remote broker, and not at the local one.
    #[serde(default)]
    pub remote_prefix: String,
    /// Whether what was published as retained is so at the other end.
    #[serde(default = "default_retain")]
    pub retain: bool,
}

pub fn default_qos() -> u8 {
    1
}

pub fn default_retain() -> bool {
    true
}

/// Which way messages go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the local broker to the remote one.
    #[default]
    Out,
    /// From the remote broker to the local one.
    In,
    /// Both.
    Both,
}

/// The node in the middle of a bridge, one for each way.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrossingSettings {
    /// Which way messages go.
    pub towards: Way,
    /// What becomes of their topics. The first rule that fits counts.
    #[schemars(length(min = 1))]
    pub rules: Vec<CrossingRule>,
    /// How many bridges a message may go over. 0 counts nothing.
    #[serde(default = "default_max_hops")]
    #[schemars(range(max = 100))]
    pub max_hops: u8,
    /// Marks what goes, so that the other way of the same bridge leaves it out.
    #[serde(default)]
    pub mark: bool,
    /// A topic that stays on this side.
    pub except: Option<String>,
}

/// What becomes of some topics.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrossingRule {
    /// The topics, as a filter.
    pub filter: String,
    /// What is taken away in front.
    #[serde(default)]
    pub strip: String,
    /// What is put there instead.
    #[serde(default)]
    pub add: String,
    /// The highest QoS at which they go on.
    #[serde(default = "default_qos")]
    #[schemars(range(min = 0, max = 2))]
    pub qos: u8,
    /// Whether what was published as retained goes on so.
    #[serde(default = "default_retain")]
    pub retain: bool,
}

impl Settings for CrossingSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let CrossingSettings { towards, rules, max_hops, mark, except } = self;
        let mut resolved = Vec::with_capacity(rules.len());
        for (at, rule) in rules.into_iter().enumerate() {
            let CrossingRule { filter, strip, add, qos, retain } = rule;
            match Filter::parse(&filter) {
                Ok(filter) if filter.as_str().starts_with(&strip) => {
                    resolved.push(crate::transform::Rule { filter, strip, add, qos, retain });
                }
                Ok(_) => {
                    let setting = format!("rules[{at}].strip");
                    let message = format!("`{setting}` is not how the topics begin");
                    let label = format!("expected the beginning of `{filter}`");
                    problems.push(Problem::new(setting, message, label));
                }
                Err(wrong) => {
                    let setting = format!("rules[{at}].filter");
                    let message = format!("`{setting}` fits no topic");
                    problems.push(wrong.problem(setting, message));
                }
            }
        }
        Some(Crossing { way: towards, rules: resolved.into(), max_hops, mark, except })
    }
}

/// Checks a prefix; says what would be right.
pub fn check_prefix(prefix: &str) -> Result<(), forebay_sdk::topic::NoTopic> {
    match prefix {
        "" => Ok(()),
        prefix => check_topic(prefix),
    }
}
