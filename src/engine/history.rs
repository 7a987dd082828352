//! The last values of the fields that nodes send: one message of each node in ten seconds, ten minutes of them. It is
//! there for who comes and wants to see how it went. And the last of these messages, which is newer where somebody looks.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use forebay_sdk::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::past_errors::PastError;

/// How far values are apart, in seconds: that often [`super::Engine::write_rest`] is called.
pub const EVERY_S: u64 = 10;
const MOST_VALUES: usize = 60;
/// Of one node, and of all.
const MOST_FIELDS_OF_NODE: usize = 24;
const MOST_FIELDS: usize = 600;
/// A larger message is not taken apart, nor kept.
const MOST_BYTES: usize = 16 << 10;
const DEEPEST: usize = 4;
/// Of a value that is no number.
const MOST_CHARS: usize = 100;

/// The last values of each field of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct History(BTreeMap<String, VecDeque<Option<f64>>>);

/// The same, for showing.
#[derive(Debug, Serialize, Deserialize)]
pub struct Values {
    /// How far they are apart.
    pub every_s: u64,
    /// The oldest first, by the name of the field; null when no message came.
    pub fields: BTreeMap<String, Vec<Option<f64>>>,
    /// What a node sent last; what came last, of one that sends nothing.
    pub last: Option<Last>,
    /// What went wrong last, the newest first.
    pub errors: Vec<PastError>,
}

/// The values of a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Last {
    /// What it says of itself.
    pub time: String,
    /// How long ago it passed, in seconds.
    pub ago_s: u64,
    /// As it was sent.
    pub topic: String,
    /// In the order of the message. What is inside of something has a name with dots; a long text is cut.
    pub values: Map<String, Value>,
    /// Of those fields that have one.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub units: Map<String, Value>,
    /// Why there is no value, of those that could not be read.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub quality: Map<String, Value>,
}

/// A message that passed.
#[derive(Clone)]
pub(super) struct Sample {
    message: Message,
    at: Instant,
}

impl Sample {
    /// One that passes now. What is large is not kept.
    pub(super) fn of(message: &Message) -> Sample {
        let message = match message.size_bytes() {
            0..=MOST_BYTES => message.kept(),
            bytes => Message::new(
                Arc::clone(&message.topic),
                Value::String(format!("{bytes} bytes, which are too many to be kept")),
            ),
        };
        Sample { message, at: Instant::now() }
    }

    pub(super) fn message(&self) -> &Message {
        &self.message
    }

    /// The later one.
    pub(super) fn later(self, other: Sample) -> Sample {
        if other.at > self.at { other } else { self }
    }

    /// Its values, without what is not to be shown of a node.
    pub(super) fn shown(&self, hide: impl Fn(String) -> String) -> Last {
        let Message { topic, time, payload, meta } = &self.message;
        let mut values = Map::new();
        match payload.value() {
            Ok(value) => flatten(value, "", DEEPEST, &mut |name, value| {
                if values.len() < MOST_FIELDS_OF_NODE {
                    values.insert(hide(name), shown(value, &hide));
                }
            }),
            Err(_) => {
                let bytes = self.message.size_bytes();
                values.insert("payload".to_owned(), format!("{bytes} bytes").into());
            }
        }
        let of_fields = |entry: &str| match meta.get(entry) {
            Some(Value::Object(said)) => said
                .iter()
                .filter(|(name, _)| values.contains_key(*name))
                .map(|(name, said)| (name.clone(), shown(said, &hide)))
                .collect(),
            _ => Map::new(),
        };
        let (units, quality) = (of_fields("units"), of_fields("quality"));
        let (time, ago_s) = (time.to_rfc3339(), self.at.elapsed().as_secs());
        Last { time, ago_s, topic: hide(topic.to_string()), values, units, quality }
    }
}

/// A value in its place: numbers as they are, others short.
fn shown(value: &Value, hide: impl Fn(String) -> String) -> Value {
    let text = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => return value.clone(),
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    // What is cut could not be told from what is hidden.
    let mut text = hide(text);
    if let Some((cut, _)) = text.char_indices().nth(MOST_CHARS) {
        text.truncate(cut);
        text.push('…');
    }
    text.into()
}

impl History {
    /// How many fields there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The next values, of a message if one came. `others` is how many fields other nodes have.
    pub(super) fn add(&mut self, message: Option<&Message>, others: usize) {
        let message = message.filter(|message| message.size_bytes() <= MOST_BYTES);
        let payload = message.and_then(|message| message.payload.value().ok());
        let mut came = BTreeMap::new();
        if let Some(payload) = payload {
            numbers(payload, &mut came);
        }
        for (name, values) in &mut self.0 {
            if values.len() == MOST_VALUES {
                values.pop_front();
            }
            values.push_back(came.remove(name));
        }
        self.0.retain(|_, values| values.iter().any(Option::is_some));
        for (name, value) in came {
            if self.0.len() < MOST_FIELDS_OF_NODE && self.0.len() + others < MOST_FIELDS {
                self.0.insert(name, VecDeque::from([Some(value)]));
            }
        }
    }

    pub(super) fn fields(&self) -> BTreeMap<String, Vec<Option<f64>>> {
        let fields = self.0.iter();
        fields.map(|(name, values)| (name.clone(), values.iter().copied().collect())).collect()
    }
}

fn numbers(payload: &Value, found: &mut BTreeMap<String, f64>) {
    flatten(payload, "", DEEPEST, &mut |name, value| {
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::Bool(is_true) => Some(f64::from(u8::from(*is_true))),
            _ => None,
        };
        found.extend(number.map(|number| (name, number)));
    });
}

/// Shows each value that is inside of one, with its name: `power.l1`, or `payload` when it stands alone.
pub fn flatten(value: &Value, name: &str, depth: usize, see: &mut impl FnMut(String, &Value)) {
    match value {
        Value::Object(members) if depth > 0 => {
            for (key, inner) in members {
                let dot = if name.is_empty() { "" } else { "." };
                flatten(inner, &format!("{name}{dot}{key}"), depth - 1, see);
            }
        }
        _ if name.is_empty() => see("payload".to_owned(), value),
        _ => see(name.to_owned(), value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(payload: Value) -> Message {
        Message::new("t", payload)
    }

    #[test]
    fn each_number_of_a_message_has_its_values_and_what_did_not_come_is_a_gap() {
        let mut history = History::default();
        history.add(Some(&message(json!({ "a": 1, "b": { "c": 2.5 }, "on": true, "t": "x" }))), 0);
        history.add(None, 0);
        history.add(Some(&message(json!({ "a": 3 }))), 0);
        let fields = json!({
            "a": [1.0, null, 3.0], "b.c": [2.5, null, null], "on": [1.0, null, null],
        });
        assert_eq!(json!(history.fields()), fields);
    }

    #[test]
    fn it_stays_small_and_forgets_what_comes_no_more() {
        let mut history = History::default();
        let many = (0..100).map(|at| (format!("f{at}"), json!(at)));
        history.add(Some(&message(Value::Object(many.collect()))), 0);
        assert_eq!(history.len(), MOST_FIELDS_OF_NODE);
        for count in 0..MOST_VALUES {
            history.add(Some(&message(json!({ "f0": count }))), 0);
        }
        assert_eq!(history.len(), 1);
        assert_eq!(history.fields()["f0"].len(), MOST_VALUES);
        let mut other = History::default();
        other.add(Some(&message(json!(1))), MOST_FIELDS);
        assert_eq!(other.len(), 0);
    }
}
