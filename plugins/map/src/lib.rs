//! The `map` transform: picks, renames, scales, sets and leaves out fields, and sets the topic.
//!
//! What it does not compute with is passed on as the text that came in. See README.md.

mod node;
mod path;
mod piece;
#[cfg(test)]
mod tests;
mod topic;

use std::{borrow::Cow, fmt};

use forebay_sdk::{Links, Native, Node, Plugin, Problem, Role, Settings, Value};
use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{node::MapNode, path::Path, topic::Template};

/// What this folder offers.
pub static PLUGIN: Plugin = Plugin {
    name: "map",
    types: &[&MAP],
    readme: include_str!("../README.md"),
    sample: include_str!("../sample.yaml"),
    devices: &[],
};

static MAP: Native<MapSettings> = Native::new(
    Role::Transform,
    "map",
    "Picks, renames, scales, sets and leaves out fields, and sets the topic.",
);

/// The most fields that a node makes.
const MOST_FIELDS: usize = 256;

#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MapSettings {
    /// The fields to make, by name, in this order. `power: meter.watts` takes the value of another
    /// field; a map does more. A name with dots, such as `meter.power`, makes a field inside another.
    #[serde(default)]
    fields: IndexMap<String, Written>,
    /// What happens to the fields that nobody takes.
    #[serde(default)]
    rest: Rest,
    /// Fields to leave out, such as `raw` or `meter.raw`.
    #[serde(default)]
    remove: Vec<String>,
    /// The new topic. `{device}` stands for that field of the payload that came in, and
    /// `{topic_level: 2}` for the second level of the topic.
    topic: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Rest {
    /// They stay. A field that was taken under another name is renamed, so it does not stay.
    #[default]
    Keep,
    /// Only what stands in `fields` goes out.
    Drop,
}

/// How a field is made.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Field {
    /// The field to take: `power`, `meter.watts`, `phases[0].volts`, or `.` for the whole payload.
    from: Option<String>,
    /// A value that is always the same.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    /// The time of the message.
    time: Option<Clock>,
    /// A level of the topic that came in: 1 for the first.
    #[schemars(range(min = 1, max = 128))]
    topic_level: Option<u8>,
    /// Multiplies the number that was taken.
    scale: Option<f64>,
    /// Is added, after `scale`.
    offset: Option<f64>,
    /// Rounds to so many digits behind the point, at last. At 0 the result is a whole number.
    #[schemars(range(min = 0, max = 15))]
    round: Option<u8>,
    /// The value when the field is not there. Without it, the new field is not there either.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    default: Option<Value>,
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Clock {
    /// `2026-11-21T09:14:02.120Z`, in UTC.
    Iso,
    /// Milliseconds since 1970.
    UnixMs,
    /// Seconds since 1970.
    UnixS,
}

/// A field as users write it: as a map, or as the path of the field to take and nothing else.
#[derive(Clone)]
struct Written(Field);

/// Null is a value like any other.
fn written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Written, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Field;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of a field, or a map")
            }
            fn visit_str<E: de::Error>(self, path: &str) -> Result<Field, E> {
                Ok(Field { from: Some(path.to_owned()), ..Field::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Field, A::Error> {
                Field::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Either).map(Written)
    }
}

impl JsonSchema for Written {
    fn schema_name() -> Cow<'static, str> {
        "Field".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, generator.subschema_for::<Field>()] })
    }
}

impl Settings for MapSettings {
    fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::from_iter(self.check_sense());
        for (name, Written(field)) in &self.fields {
            problems.extend(field.check(name));
        }
        problems.extend(self.check_names());
        for (index, name) in self.remove.iter().enumerate() {
            if let Err(label) = Path::parse_names(name) {
                let message = format!("`remove` has an entry that is no field: \"{name}\"");
                problems.push(Problem::new(format!("remove[{index}]"), message, label));
            }
        }
        if let Some(Err(label)) = self.topic.as_ref().map(|text| Template::parse(text, |_| 0)) {
            problems.push(Problem::new("topic", "`topic` cannot be published to", label));
        }
        problems
    }

    fn build(self, _: Links) -> Node {
        Node::transform(MapNode::new(self))
    }
}

impl MapSettings {
    fn check_sense(&self) -> Option<Problem> {
        let (no_fields, no_remove) = (self.fields.is_empty(), self.remove.is_empty());
        if no_fields && self.rest == Rest::Drop {
            let message = "`rest: drop` without `fields` leaves nothing of a message";
            return Some(Problem::new("rest", message, "name the fields that stay in `fields`"));
        }
        if no_fields && no_remove && self.topic.is_none() {
            let message = "a map without `fields`, `remove` and `topic` does nothing";
            return Some(Problem::new("", message, "expected one of them"));
        }
        if !no_remove && self.rest == Rest::Drop {
            let message = "`remove` does nothing, as `rest` is `drop`";
            return Some(Problem::new("remove", message, "what is not in `fields` goes").warning());
        }
        if self.fields.len() > MOST_FIELDS {
            let label = format!("expected at most {MOST_FIELDS}, found {}", self.fields.len());
            return Some(Problem::new("fields", "`fields` has too many entries", label));
        }
        None
    }

    /// A name must be one that can be made, and not inside another field that is made.
    fn check_names(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for name in self.fields.keys() {
            let setting = format!("fields.{name}");
            if let Err(label) = Path::parse_names(name) {
                let message = format!("`fields` has a name that cannot be made: \"{name}\"");
                problems.push(Problem::new(setting, message, label));
                continue;
            }
            let is_outer = |outer: &&String| {
                name.strip_prefix(outer.as_str()).is_some_and(|rest| rest.starts_with('.'))
            };
            if let Some(outer) = self.fields.keys().find(is_outer) {
                let message = format!("`{name}` lies inside `{outer}`, and `fields` makes both");
                problems.push(Problem::new(setting, message, format!("`{outer}` is made above")));
            }
        }
        problems
    }
}

impl Field {
    fn check(&self, name: &str) -> Vec<Problem> {
        let setting = format!("fields.{name}");
        let ways = [
            ("from", self.from.is_some()),
            ("value", self.value.is_some()),
            ("time", self.time.is_some()),
            ("topic_level", self.topic_level.is_some()),
        ];
        let chosen: Vec<&str> = ways.iter().filter(|(_, is)| *is).map(|(way, _)| *way).collect();
        let [way] = chosen.as_slice() else {
            let message = format!("`{setting}` needs one thing that it is made of");
            let found = match chosen.is_empty() {
                true => "none".to_owned(),
                false => chosen.iter().map(|way| format!("`{way}`")).collect::<Vec<_>>().join(", "),
            };
            let label = format!("expected `from`, `value`, `time` or `topic_level`, found {found}");
            return vec![Problem::new(setting, message, label)];
        };
        let mut problems = Vec::new();
        if let Some(Err(label)) = self.from.as_deref().map(Path::parse) {
            let message = format!("`{setting}` takes a field that cannot be");
            problems.push(Problem::new(format!("{setting}.from"), message, label));
        }
        let extras = [
            ("scale", self.scale.is_some(), &["from"][..]),
            ("offset", self.offset.is_some(), &["from"]),
            ("round", self.round.is_some(), &["from"]),
            ("default", self.default.is_some(), &["from", "topic_level"]),
        ];
        for (extra, is_set, goes_with) in extras {
            if is_set && !goes_with.contains(way) {
                let message = format!("`{setting}.{extra}` does nothing beside `{way}`");
                let label = format!("goes with `{}`", goes_with.join("` or `"));
                problems.push(Problem::new(format!("{setting}.{extra}"), message, label));
            }
        }
        for (extra, number) in [("scale", self.scale), ("offset", self.offset)] {
            if number.is_some_and(|number| !number.is_finite()) {
                let message = format!("`{setting}.{extra}` is not a number to compute with");
                let label = "expected a number such as `0.001`";
                problems.push(Problem::new(format!("{setting}.{extra}"), message, label));
            }
        }
        problems
    }
}
