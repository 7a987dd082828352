//! The node in the middle of a bridge: other topics, the QoS and the retain flag that the rule lets through,
//! and an end to what has gone round.

use std::{
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
    sync::{Arc, OnceLock},
};

use anyhow::Context;
use forebay_sdk::{
    Configured, Emitter, Fields, Filter, Input, Message, Node, Sends, Site, Topics, Transform,
    Value, Voice,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

/// How many bridges a message has come over, as HiveMQ Edge writes it.
const HOPS: &str = "hmq-bridge-hop-count";
/// Which bridge has brought a message. It is read, and taken away, by the other way of that bridge.
const MARK: &str = "forebay-bridge";

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// To the local broker.
    Local,
    /// To the remote broker.
    Remote,
}

/// One way of a bridge, as its settings were understood.
#[derive(Clone, Debug)]
pub struct Crossing {
    pub way: Way,
    pub rules: Arc<[Rule]>,
    /// How many bridges a message may go over. Not counted when 0.
    pub max_hops: u8,
    /// What goes is marked.
    pub mark: bool,
    /// What stays: a broker of MQTT 3.1.1 brings what it keeps without a mark.
    pub except: Option<String>,
}

/// What becomes of some topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub filter: Filter,
    /// What is taken away in front of a topic that fits.
    pub strip: String,
    /// What is put there.
    pub add: String,
    /// The highest QoS.
    pub qos: u8,
    /// Whether retained messages stay so.
    pub retain: bool,
}

impl Configured for Crossing {
    fn build(&self, site: Site) -> Node {
        let Crossing { way, rules, max_hops, mark, except } = self.clone();
        // Without its part: both ways of a bridge have the same.
        let bridge = site.name.rsplit_once(':').map_or(&*site.name, |(bridge, _)| bridge);
        let (towards_local, towards_remote) = (mark_of(bridge, 0), mark_of(bridge, this_run()));
        let (own, given) = match way {
            Way::Local => (towards_remote, towards_local),
            Way::Remote => (towards_local, towards_remote),
        };
        let given = mark.then_some(given);
        Node::transform(Running { rules, max_hops, own, given, except, voice: site.voice })
    }

    fn meta(&self) -> Fields {
        Fields { reads: Vec::new(), sends: Sends::Also(["mqtt".to_owned()].into()) }
    }

    fn fields(&self) -> Fields {
        Fields::passing([])
    }

    fn topics(&self) -> Topics {
        let moved = self.rules.iter().map(|rule| forebay_sdk::facts::Moved {
            filter: rule.filter.as_str().to_owned(),
            strip: rule.strip.clone(),
            add: rule.add.clone(),
        });
        Topics::Moved(moved.collect())
    }
}

/// A number of this run of the program. A mark that goes to a broker far away says whose it is only as long as
/// the program runs: another site may have a bridge of the same name.
fn this_run() -> u64 {
    static RUN: OnceLock<u64> = OnceLock::new();
    *RUN.get_or_init(|| RandomState::new().hash_one(0_u8) | 1)
}

fn mark_of(bridge: &str, run: u64) -> String {
    let mut hasher = DefaultHasher::new();
    (bridge, run).hash(&mut hasher);
    format!("{:08x}", hasher.finish() & 0xffff_ffff)
}

struct Running {
    rules: Arc<[Rule]>,
    max_hops: u8,
    /// What the other way of this bridge has marked.
    own: String,
    /// What is marked here.
    given: Option<String>,
    except: Option<String>,
    voice: Voice,
}

impl Transform for Running {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let Input { mut message, .. } = input;
        if self.except.as_deref() == Some(&*message.topic) {
            return Ok(());
        }
        let mut said = said(&message);
        let mut user = match said.remove("user") {
            Some(Value::Object(user)) => user,
            _ => Map::new(),
        };
        if user.shift_remove(MARK).is_some_and(|mark| mark == *self.own) {
            return Ok(());
        }
        if self.max_hops > 0 {
            let hops = user.get(HOPS).map_or(0, hops);
            if hops >= u64::from(self.max_hops) {
                let why = format!(
                    "it came over {hops} bridges, and may go over no more than `max_hops`: are there bridges \
                     in a circle?"
                );
                self.voice.dropped(1, &why);
                return Ok(());
            }
            user.insert(HOPS.to_owned(), json!((hops + 1).to_string()));
        }
        if let Some(mark) = &self.given {
            user.insert(MARK.to_owned(), json!(mark));
        }
        let rule = self.rules.iter().find(|rule| rule.filter.matches(&message.topic));
        let rule = rule.with_context(|| {
            format!("no rule of the bridge is about the topic `{}`", message.topic.escape_debug())
        })?;
        if !rule.strip.is_empty() || !rule.add.is_empty() {
            message.topic = match message.topic.strip_prefix(&rule.strip) {
                Some(rest) => format!("{}{rest}", rule.add).into(),
                // `a/#` fits `a` too, which does not begin with `a/`.
                None => rule.add.strip_suffix('/').unwrap_or(&rule.add).into(),
            };
        }
        let qos = said.get("qos").and_then(Value::as_u64).unwrap_or(u64::from(rule.qos));
        said.insert("qos".to_owned(), json!(qos.min(u64::from(rule.qos))));
        if !rule.retain {
            said.insert("retain".to_owned(), json!(false));
        }
        if !user.is_empty() {
            said.insert("user".to_owned(), user.into());
        }
        message.meta.insert("mqtt", said);
        out.emit(message);
        Ok(())
    }
}

/// What is said of how a message was published.
fn said(message: &Message) -> Map<String, Value> {
    message.meta.get("mqtt").and_then(Value::as_object).cloned().unwrap_or_default()
}

/// A number as text. What is none counts nothing; of several the largest counts.
fn hops(value: &Value) -> u64 {
    match value {
        Value::Array(values) => values.iter().map(hops).max().unwrap_or(0),
        Value::String(text) => text.parse().unwrap_or(0),
        other => other.as_u64().unwrap_or(0),
    }
}
