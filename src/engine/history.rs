//! The last values of the fields that nodes send: one message of each node in ten seconds, ten minutes of them. It is
//! there for who comes and wants to see how it went.

use std::collections::{BTreeMap, VecDeque};

use forebay_sdk::Message;
use serde::Serialize;
use serde_json::Value;

/// How far values are apart, in seconds: that often [`super::Engine::write_rest`] is called.
pub const EVERY_S: u64 = 10;
const MOST_VALUES: usize = 60;
/// Of one node, and of all.
const MOST_FIELDS_OF_NODE: usize = 24;
const MOST_FIELDS: usize = 600;
/// A larger message is not taken apart.
const MOST_BYTES: usize = 16 << 10;
const DEEPEST: usize = 4;

/// The last values of each field of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct History(BTreeMap<String, VecDeque<Option<f64>>>);

/// The same, for showing.
#[derive(Debug, Serialize)]
pub struct Values {
    /// How far they are apart.
    pub every_s: u64,
    /// The oldest first, by the name of the field; null when no message came.
    pub fields: BTreeMap<String, Vec<Option<f64>>>,
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
            numbers(payload, "", DEEPEST, &mut came);
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

    pub(super) fn values(&self) -> Values {
        let fields = self.0.iter();
        let fields = fields.map(|(name, values)| (name.clone(), values.iter().copied().collect()));
        Values { every_s: EVERY_S, fields: fields.collect() }
    }
}

fn numbers(value: &Value, name: &str, depth: usize, found: &mut BTreeMap<String, f64>) {
    match value {
        Value::Number(number) => {
            let name = if name.is_empty() { "payload" } else { name };
            found.extend(number.as_f64().map(|number| (name.to_owned(), number)));
        }
        Value::Bool(is_true) => {
            found.insert(name.to_owned(), f64::from(u8::from(*is_true)));
        }
        Value::Object(members) if depth > 0 => {
            for (key, inner) in members {
                let dot = if name.is_empty() { "" } else { "." };
                numbers(inner, &format!("{name}{dot}{key}"), depth - 1, found);
            }
        }
        _ => (),
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
        assert_eq!(json!(history.values()), json!({ "every_s": 10, "fields": fields }));
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
        assert_eq!(history.values().fields["f0"].len(), MOST_VALUES);
        let mut other = History::default();
        other.add(Some(&message(json!(1))), MOST_FIELDS);
        assert_eq!(other.len(), 0);
    }
}
