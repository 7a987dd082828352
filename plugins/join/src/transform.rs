//! What came last of each input.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::bail;
use forebay_sdk::{
    By, Capabilities, Configured, Emitter, Fields, Format, Input, Kept, Mark, Message, Node,
    Payload, Problem, Saved, Series, Site, Topics, Transform, json, payload::kind,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const VERSION: u32 = 1;
/// What all that is remembered may take together.
const MOST_BYTES: usize = 16 << 20;

/// When something is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Need {
    /// Nothing is sent until all inputs have something.
    #[default]
    All,
    /// What is there is sent.
    Any,
}

/// How inputs are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shape {
    /// The payload of each input under its name, in the order of `from`.
    #[default]
    Nested,
    /// The fields of all, in one map. Of two of the same name, that of the later entry of `from` counts.
    Flat,
}

/// A node that was understood.
#[derive(Clone)]
pub(crate) struct Join {
    pub send_on: Vec<String>,
    pub max_age: Option<Duration>,
    pub need: Need,
    pub shape: Shape,
    pub by: By,
}

impl Configured for Join {
    fn build(&self, site: Site) -> Node {
        let latest: Series<Latest> = site.remembered(VERSION).unwrap_or_default();
        let bytes = latest.all().map(Latest::bytes).sum();
        Node::transform(Joining { join: self.clone(), inputs: site.inputs, latest, bytes })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { tells_inputs_apart: true, ..Capabilities::default() }
    }

    fn check_inputs(&self, inputs: &[&str]) -> Vec<Problem> {
        let named = self.send_on.iter().enumerate();
        let unknown = named
            .filter_map(|(at, name)| Problem::unless_input(format!("send_on[{at}]"), name, inputs));
        let alone = (inputs.len() == 1).then(|| {
            let message = "a join of one input puts nothing together";
            Problem::new("", message, "expected two or more in `from`").warning()
        });
        unknown.chain(alone).collect()
    }

    fn fields(&self) -> Fields {
        Fields { reads: self.by.reads().collect(), ..Fields::default() }
    }

    fn meta(&self) -> Fields {
        Fields::passing([])
    }

    fn topics(&self) -> Topics {
        Topics::Kept
    }
}

struct Joining {
    join: Join,
    inputs: Arc<[Arc<str>]>,
    latest: Series<Latest>,
    /// What they take of memory.
    bytes: usize,
}

/// Of one series, by input.
#[derive(Default, Serialize, Deserialize)]
struct Latest(HashMap<String, One>);

#[derive(Serialize, Deserialize)]
struct One {
    came: Mark,
    kept: Kept,
}

impl Transform for Joining {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let Input { message, from } = input;
        let Joining { join, inputs, latest, bytes } = self;
        let value = message.payload.value().map_err(Clone::clone)?;
        if join.shape == Shape::Flat && !value.is_object() {
            bail!("payload is {}; expected a map to put together with others", kind(value));
        }
        let key = join.by.of(&message)?;
        let now = out.now().at;
        let (there, forgotten) = latest.of(key);
        *bytes -= forgotten.map_or(0, |forgotten| forgotten.bytes());
        let before = there.bytes();
        // What is remembered is a state, and no message that somebody waits for.
        let kept = Kept { message: message.clone(), held: Default::default() };
        there.0.insert(from.to_string(), One { came: Mark(now), kept });
        *bytes = *bytes - before + there.bytes();
        if *bytes > MOST_BYTES {
            *bytes -= there.bytes();
            there.0.clear();
            bail!("what is remembered takes more than {} MiB", MOST_BYTES >> 20);
        }
        let sends = join.send_on.is_empty() || join.send_on.iter().any(|name| **name == *from);
        let parts = inputs.iter().map(|name| (&**name, there.fresh(name, join.max_age, now)));
        let parts: Vec<(&str, Option<&Message>)> = parts.collect();
        let is_whole = parts.iter().all(|(_, part)| part.is_some());
        if sends && (is_whole || join.need == Need::Any) {
            let payload = join.payload(&parts);
            out.emit(Message { payload, ..message });
        }
        Ok(())
    }

    fn save(&self) -> Option<Saved> {
        Saved::of(VERSION, &self.latest).ok()
    }
}

impl Latest {
    fn bytes(&self) -> usize {
        self.0.values().map(|one| one.kept.size_bytes()).sum()
    }

    /// What came last of an input, unless that is too long ago.
    fn fresh(&self, input: &str, max_age: Option<Duration>, now: Instant) -> Option<&Message> {
        let one = self.0.get(input)?;
        let is_old = max_age.is_some_and(|max_age| one.came.age(now) > max_age);
        (!is_old).then_some(&one.kept.message)
    }
}

impl Join {
    /// Puts payloads together, each with its digits as they came.
    fn payload(&self, parts: &[(&str, Option<&Message>)]) -> Payload {
        let mut out = vec![b'{'];
        let there = parts.iter().filter_map(|(name, part)| Some((*name, (*part)?)));
        let texts: Vec<_> =
            there.map(|(name, part)| (name, part.payload.to_bytes(Format::Json))).collect();
        match self.shape {
            Shape::Nested => {
                for (name, text) in &texts {
                    json::write_name(name, &mut out);
                    out.extend_from_slice(text);
                }
            }
            Shape::Flat => {
                let texts = texts.iter().filter_map(|(_, text)| std::str::from_utf8(text).ok());
                let all: json::Members =
                    texts.filter_map(|text| json::members(text).ok()).flatten().collect();
                for (at, (name, value)) in all.iter().enumerate() {
                    if !all[at + 1..].iter().any(|(later, _)| later == name) {
                        json::write_member(name, json::RawValue::get(value), &mut out);
                    }
                }
            }
        }
        out.push(b'}');
        Payload::encoded(out, Format::Json)
    }
}
