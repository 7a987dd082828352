//! What flows between nodes. Cloning a message never copies its payload.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{clock, own_time::OwnTime, payload::Payload, timestamp::Timestamp};

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

    /// Gives a message that was stamped before the clock was set its real time, once it is known.
    pub fn restamp(&mut self) {
        if !self.time.clock_was_set() || !self.meta.own_times().is_empty() {
            self.restamp_by(clock::restamped);
        }
    }

    /// Gives the message its real time, and the times that nodes wrote into it, as far as `real` knows
    /// them. What somebody changed since stays as it is.
    pub fn restamp_by(&mut self, real: impl Fn(Timestamp) -> Timestamp) {
        self.time = real(self.time);
        for own in self.meta.take_own_times() {
            let time = real(Timestamp::before_clock_was_set(own.unix_nanos));
            if !time.clock_was_set() {
                self.meta.add_own_time(own);
            } else if own.path.is_none() {
                self.topic = own.in_topic(&self.topic, time).into();
            } else if let Some(payload) = own.in_payload(&self.payload, time) {
                self.payload = payload;
            }
        }
    }

    /// Takes note of where a time stands in the payload that was given before the clock was set. Does
    /// nothing with any other.
    pub fn note_own_time(&mut self, time: Timestamp) {
        if time.clock_was_set() {
            return;
        }
        let Ok(payload) = self.payload.value() else { return };
        let found = OwnTime::all_in(payload, time);
        found.into_iter().for_each(|own| self.meta.add_own_time(own));
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
    /// Times in topic and payload that are to be put right. There are none once the clock is set.
    own_times: Option<Arc<Vec<OwnTime>>>,
}

/// Under which entry times that are to be put right are kept on disk. Nobody writes such a name.
const OWN_TIMES: &str = "\u{1}times";

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

    /// A time stands in topic or payload that this machine's clock gave before it was set.
    pub fn add_own_time(&mut self, time: OwnTime) {
        Arc::make_mut(self.own_times.get_or_insert_default()).push(time);
    }

    /// Those that were added and not put right yet.
    pub fn own_times(&self) -> &[OwnTime] {
        self.own_times.as_deref().map_or(&[], Vec::as_slice)
    }

    /// The same, out of here.
    pub fn take_own_times(&mut self) -> Vec<OwnTime> {
        self.own_times.take().map(Arc::unwrap_or_clone).unwrap_or_default()
    }

    /// All but the source, for a disk. None when there is nothing.
    pub fn to_stored(&self) -> Option<Map<String, Value>> {
        let mut stored = self.entries.as_deref().cloned().unwrap_or_default();
        if let Some(times) = &self.own_times {
            let times = serde_json::to_value(&**times).expect("they are texts and numbers");
            stored.insert(OWN_TIMES.to_owned(), times);
        }
        (!stored.is_empty()).then_some(stored)
    }

    /// What [`Meta::to_stored`] gave.
    pub fn from_stored(mut stored: Map<String, Value>) -> Meta {
        let own_times = stored.shift_remove(OWN_TIMES);
        let own_times = own_times.and_then(|times| serde_json::from_value(times).ok());
        let entries = (!stored.is_empty()).then(|| Arc::new(stored));
        Meta { source: None, entries, own_times: own_times.map(Arc::new) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_gives_back_what_it_was_given() {
        assert_eq!(Meta::default().to_stored(), None);
        let mut meta = Meta::default();
        meta.insert("quality", "good");
        let own = OwnTime { path: None, form: crate::TimeForm::UnixMs, unix_nanos: 7_000_000 };
        meta.add_own_time(own);
        assert_eq!(Meta::from_stored(meta.to_stored().unwrap()), meta);
        assert_eq!(meta.entries().count(), 1, "nobody sees how times are kept");
    }

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
