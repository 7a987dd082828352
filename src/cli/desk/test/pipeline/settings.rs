//! What users write in a `NAME.test.yaml`.

use std::{borrow::Cow, collections::BTreeMap};

use forebay_sdk::{Period, ShortOr, Size, schema_of};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::scene::peers;

/// Tests of pipelines.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestFileSettings {
    /// What the tests are about. One sentence.
    #[serde(default)]
    #[expect(dead_code, reason = "for who reads the file")]
    description: Option<String>,
    /// The pipelines that run, by their names. That which the file is named after, unless given.
    pub pipelines: Option<Vec<String>>,
    /// Variables of the environment. The tests see no others.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How the world is at the beginning of each test, unless the test says otherwise.
    #[serde(default)]
    #[expect(dead_code, reason = "read by its place in the file")]
    pub world: World,
    /// The tests. Each begins anew.
    #[schemars(length(min = 1))]
    pub tests: Vec<TestSettings>,
}

/// One test.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestSettings {
    /// What it shows. One sentence.
    pub name: String,
    /// How long it runs, by its own clock. An hour passes in no time.
    #[serde(rename = "for")]
    pub lasts: Period,
    /// How the world is at the beginning.
    #[serde(default)]
    #[expect(dead_code, reason = "read by its place in the file")]
    pub world: World,
    /// What happens, in the order of time.
    #[serde(default)]
    pub steps: Vec<StepSettings>,
    /// What came out of nodes by the end, by their names: `load`, or `load.errors` for another output. Of a sink, how it is.
    #[serde(default)]
    pub expect: BTreeMap<String, ExpectSettings>,
    /// What arrived at the other sides by the end, by the names of connections; of a sink that no connection leads from, by
    /// its own.
    #[serde(default)]
    pub arrives: BTreeMap<String, ArrivesSettings>,
}

/// The other sides, by the names of connections, and of nodes that have none.
pub type World = BTreeMap<String, MemberSettings>;

/// What is said of one of them: how the way there is, or that and what the other side is to be.
pub type MemberSettings = ShortOr<LinkWord, Member>;

/// What the way there is like, and what the other side is to be: for a Modbus bus its devices, for a broker its settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Member(
    #[expect(dead_code, reason = "read by its place in the file")] Map<String, Value>,
);

impl JsonSchema for Member {
    fn schema_name() -> Cow<'static, str> {
        "Member".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut properties = properties_of(schema_of::<WaySettings>());
        for peer in peers() {
            properties.extend(properties_of((peer.schema)()));
        }
        json_schema!({
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

fn properties_of(mut schema: Value) -> Map<String, Value> {
    match schema["properties"].take() {
        Value::Object(properties) => properties,
        _ => Map::new(),
    }
}

/// How the way to another side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkWord {
    /// What is sent arrives.
    Up,
    /// Who is connected is cut off, and nobody is let in.
    Down,
    /// What is sent vanishes, and nobody is told.
    Silent,
    /// Connections are cut off once, and can be made anew.
    Cut,
}

/// The settings that every other side has.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaySettings {
    /// How the way there is.
    pub link: Option<LinkWord>,
    /// How much later what is sent arrives.
    pub latency: Option<Period>,
    /// How many bytes pass in a second, in each direction.
    pub bytes_per_second: Option<Size>,
    /// How many of a hundred packets are lost: TCP sends them again, so what is in them is late, and all behind it.
    #[schemars(range(max = 90))]
    pub loss: Option<u8>,
    /// Of a source: what `forebay record` wrote, which it sends from the beginning of the test on in the place of what it would
    /// get. Its path is relative to the test.
    pub replay: Option<String>,
}

/// Something that happens.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepSettings {
    /// When, since the beginning of the test.
    pub at: Period,
    /// What is otherwise from now on: `{ cloud: down }`, `{ bus: { values: { meter: { power: 3 } } } }`.
    #[serde(default)]
    #[expect(dead_code, reason = "read by its place in the file")]
    pub world: World,
    /// What comes from the other side of a connection, by its name; or from a source that is stood in for, by its own.
    #[serde(default)]
    pub send: BTreeMap<String, ShortOr<Vec<SendSettings>, SendSettings>>,
    /// A file that takes the place of the pipeline: the first of `pipelines`. Its path is relative to the test.
    #[serde(rename = "use")]
    pub uses: Option<String>,
    /// The nodes that `use` makes anew or begins, and no others.
    pub restarts: Option<Vec<String>>,
    /// Sets the wall clock so much ahead, or back when a `-` stands before it.
    pub clock: Option<String>,
    /// How the disk under the buffers is from now on.
    pub disk: Option<DiskWord>,
    /// Cuts the power. The program starts again at once.
    pub power: Option<PowerWord>,
    /// What came out of nodes up to now.
    #[serde(default)]
    pub expect: BTreeMap<String, ExpectSettings>,
    /// What arrived up to now.
    #[serde(default)]
    pub arrives: BTreeMap<String, ArrivesSettings>,
}

/// How a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskWord {
    /// As it should be.
    Works,
    /// No byte more fits.
    Full,
    /// Nothing can be changed.
    ReadOnly,
    /// Nothing can be read or written.
    Gone,
}

/// What happens to the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PowerWord {
    /// It is gone, and there again. What was not safe on disk is lost.
    Cut,
}

/// A message that comes.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendSettings {
    /// Its topic. The name of the node or the connection, unless given.
    pub topic: Option<String>,
    /// Its payload.
    #[serde(default)]
    pub payload: Value,
    /// Its meta data. To a broker also `qos` (1 unless given) and `retain`.
    #[serde(default)]
    pub meta: Map<String, Value>,
    /// How often it comes. Once unless given.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub times: u32,
    /// How long after the one before it.
    #[serde(default)]
    pub every: Option<Period>,
    /// The name of a field in the payload that counts them, from 0.
    pub number: Option<String>,
}

fn once() -> u32 {
    1
}

/// What is expected of the messages at one place.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectSettings {
    /// These messages, in this order, and no others.
    pub messages: Option<Vec<ExpectedSettings>>,
    /// These messages, in this order, among others.
    pub among: Option<Vec<ExpectedSettings>>,
    /// The latest is this: of an alarm, how it stands.
    pub last: Option<ExpectedSettings>,
    /// How many there are.
    pub count: Option<u64>,
    /// How many there are at least.
    pub at_least: Option<u64>,
    /// How many there are at most.
    pub at_most: Option<u64>,
    /// An expression that holds for each: `msg.payload.power >= 0`.
    pub each: Option<String>,
    /// A file with all of them, a line for each; `forebay test --update` writes it. Its path is relative to the test.
    pub golden: Option<String>,
    /// Of a sink: what its buffer holds at most.
    pub buffer_at_most: Option<Size>,
    /// How the node is at this moment.
    pub state: Option<StateWord>,
}

/// What is expected of the messages that arrive at another side.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArrivesSettings {
    /// These messages, in this order, and no others.
    pub messages: Option<Vec<ExpectedSettings>>,
    /// These messages, in this order, among others.
    pub among: Option<Vec<ExpectedSettings>>,
    /// The latest is this: of an alarm, how it stands.
    pub last: Option<ExpectedSettings>,
    /// How many arrive.
    pub count: Option<u64>,
    /// How many arrive at least.
    pub at_least: Option<u64>,
    /// How many arrive at most.
    pub at_most: Option<u64>,
    /// An expression that holds for each: `msg.payload.power >= 0`.
    pub each: Option<String>,
    /// A file with all of them, a line for each; `forebay test --update` writes it. Its path is relative to the test.
    pub golden: Option<String>,
    /// How many at most do not arrive, of those that went to its sinks. What was not safe when the power was cut, and nobody
    /// was told is delivered, does not count.
    pub lost: Option<u64>,
    /// How many at most arrive once more.
    pub duplicates: Option<u64>,
    /// Whether they arrive in the order in which they went to its sinks, but for what arrives once more.
    pub in_order: Option<bool>,
    /// How long after it went to its sink each arrives at the latest.
    pub within: Option<Period>,
    /// How many bytes go over the way there at most, in both directions.
    pub bytes_at_most: Option<Size>,
    /// How the connection is at this moment.
    pub state: Option<StateWord>,
}

/// How a node or a connection is, as `forebay status` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateWord {
    /// Nothing heard of it yet.
    Starting,
    /// The other side is there.
    Running,
    /// It is tried again, after a pause.
    Waiting,
    /// It could not be made.
    Broken,
}

/// A message. What is left out may be anything.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectedSettings {
    /// Its topic.
    pub topic: Option<String>,
    /// Its payload, the whole of it.
    pub payload: Option<Value>,
    /// What is in its payload, beside other things.
    pub has: Option<Value>,
    /// What is in its meta data, beside other things.
    pub meta: Option<Map<String, Value>>,
    /// How far numbers may be off.
    pub tolerance: Option<f64>,
    /// An expression that holds for it.
    #[serde(rename = "where")]
    pub holds: Option<String>,
    /// When it comes at the earliest, since the beginning of the test.
    pub after: Option<Period>,
    /// When it comes at the latest.
    pub before: Option<Period>,
}

impl ArrivesSettings {
    /// What is expected of the messages themselves.
    pub fn messages(&self) -> ExpectSettings {
        ExpectSettings {
            messages: self.messages.clone(),
            among: self.among.clone(),
            last: self.last.clone(),
            count: self.count,
            at_least: self.at_least,
            at_most: self.at_most,
            each: self.each.clone(),
            golden: self.golden.clone(),
            buffer_at_most: None,
            state: self.state,
        }
    }
}
