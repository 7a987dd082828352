//! What flows between nodes. Cloning a message never copies its payload.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{payload::Payload, timestamp::Timestamp};

/// One reading, event or document on its way through a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What the message is about, such as `site/a/boiler`. May be empty.
    pub topic: Arc<str>,
    /// When it was read or received.
    pub time: Timestamp,
    /// What it says.
    pub payload: Payload,
    /// What else is known about it.
    pub meta: Meta,
}

impl Message {
    /// A message of now.
    pub fn new(topic: impl Into<Arc<str>>, payload: impl Into<Payload>) -> Message {
        Message {
            topic: topic.into(),
            time: Timestamp::now(),
            payload: payload.into(),
            meta: Meta::default(),
        }
    }

    /// The same message for who keeps it while others work on this one: see [`Payload::kept`].
    pub fn kept(&self) -> Message {
        let (topic, payload) = (Arc::clone(&self.topic), self.payload.kept());
        Message { topic, time: self.time, payload, meta: self.meta.clone() }
    }

    /// Roughly how much memory the message holds, in bytes. Queues are bounded by it.
    pub fn size_bytes(&self) -> usize {
        const ENVELOPE_BYTES: usize = 128;
        ENVELOPE_BYTES + self.topic.len() + self.payload.size_bytes()
    }
}

/// What is known about a message beside its payload: the source node, quality, protocol
/// properties. Cloning is cheap; the first change after a clone copies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// The node that brought the message in, as `pipeline/node`. The engine fills it in.
    pub source: Option<Arc<str>>,
    entries: Option<Arc<Map<String, Value>>>,
}

impl Meta {
    /// The entry called `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.entries.as_ref()?.get(name)
    }

    /// Adds or replaces the entry called `name`.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        Arc::make_mut(self.entries.get_or_insert_default()).insert(name.into(), value.into());
    }

    /// All entries but `source`, in the order in which they were added.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().flat_map(|map| map.iter()).map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there is nothing but perhaps a source.
    pub fn is_empty(&self) -> bool {
        self.entries.as_ref().is_none_or(|map| map.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changing_a_copy_leaves_the_original_alone() {
        let mut first = Meta::default();
        first.insert("quality", "good");
        let mut second = first.clone();
        second.insert("quality", "bad");
        assert_eq!(first.get("quality"), Some(&Value::from("good")));
        assert_eq!(second.get("quality"), Some(&Value::from("bad")));
    }
}
