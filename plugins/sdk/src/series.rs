//! Messages of many devices through one node: which belong together, and what is remembered of each.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    fmt::Write,
};

use anyhow::anyhow;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use tokio::time::Instant;

use crate::{
    facts::FieldRead,
    message::Message,
    path::{Path, Step},
    payload::{Value, kind},
    short::ShortOr,
};

/// The most series that a node tells apart. For one more, it forgets that which was silent longest.
pub const MOST_SERIES: usize = 10_000;
/// The most fields that tell series apart.
const MOST_FIELDS: usize = 8;

/// The setting that says which messages belong to one series: some fields of the payload, or the
/// topic when left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct By(Option<ShortOr<Path, Vec<Path>>>);

/// What is remembered of each series.
#[derive(Debug, Serialize, Deserialize)]
pub struct Series<T> {
    entries: HashMap<String, Entry<T>>,
    /// How many messages came.
    messages: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry<T> {
    /// The number of its last message: the least is that of the one that was silent longest.
    last: u64,
    remembered: T,
}

/// When each series is due, for a node that wakes for them.
#[derive(Debug, Default)]
pub struct Due {
    by_series: HashMap<String, Instant>,
    in_order: BTreeSet<(Instant, String)>,
}

impl By {
    /// All messages are of one series.
    pub fn nothing() -> By {
        By(Some(ShortOr::Long(Vec::new())))
    }

    /// Which series a message belongs to.
    ///
    /// # Errors
    ///
    /// When it lacks a field that says so, or has no value there to tell by.
    pub fn of(&self, message: &Message) -> anyhow::Result<String> {
        if self.0.is_none() {
            return Ok(message.topic.as_ref().to_owned());
        }
        let mut key = String::new();
        for path in self.paths() {
            match path.find(&message.payload)? {
                None | Some(Value::Null) => {
                    return Err(anyhow!("`{path}` is missing, by which messages are told apart"));
                }
                Some(value @ (Value::Array(_) | Value::Object(_))) => {
                    let kind = kind(value);
                    return Err(anyhow!(
                        "`{path}` is {kind}; expected a text or a number to tell messages apart by"
                    ));
                }
                // Written as JSON, so that the text "1" is not the number 1.
                Some(value) => write!(key, "{value},")?,
            }
        }
        Ok(key)
    }

    /// The values that tell the series of a message from others, by the names of their fields: for what
    /// speaks of the series and not of the message. None when they are told apart by topic.
    pub fn members(&self, message: &Message) -> Map<String, Value> {
        let member = |path: &Path| {
            let value = path.find(&message.payload).ok()??.clone();
            match path.0.last()? {
                Step::Name(name) => Some((name.clone(), value)),
                Step::Index(_) => None,
            }
        };
        self.paths().iter().filter_map(member).collect()
    }

    /// The fields that it reads, for [`crate::Fields::reads`].
    pub fn reads(&self) -> impl Iterator<Item = FieldRead> {
        self.paths().iter().filter_map(|path| path.reads("by"))
    }

    fn paths(&self) -> &[Path] {
        match &self.0 {
            None => &[],
            Some(ShortOr::Short(path)) => std::slice::from_ref(path),
            Some(ShortOr::Long(paths)) => paths,
        }
    }
}

impl JsonSchema for By {
    fn schema_name() -> Cow<'static, str> {
        "By".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let field = json_schema!({ "type": "string" });
        json_schema!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": field, "maxItems": MOST_FIELDS },
        ] })
    }
}

impl<T> Default for Series<T> {
    fn default() -> Series<T> {
        Series { entries: HashMap::new(), messages: 0 }
    }
}

impl<T: Default> Series<T> {
    /// What is remembered of a series, which has a message now. Beside it, what was forgotten for it.
    pub fn of(&mut self, key: String) -> (&mut T, Option<T>) {
        let is_full = self.entries.len() >= MOST_SERIES && !self.entries.contains_key(&key);
        let forgotten = is_full.then(|| self.forget_most_silent()).flatten();
        self.messages += 1;
        let last = self.messages;
        let entry =
            self.entries.entry(key).or_insert_with(|| Entry { last, remembered: T::default() });
        entry.last = last;
        (&mut entry.remembered, forgotten)
    }
}

impl<T> Series<T> {
    /// What is remembered of one, which has no message now.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut T> {
        self.entries.get_mut(key).map(|entry| &mut entry.remembered)
    }

    /// Forgets one.
    pub fn remove(&mut self, key: &str) -> Option<T> {
        self.entries.remove(key).map(|entry| entry.remembered)
    }

    /// What is remembered of all of them.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.entries.values().map(|entry| &entry.remembered)
    }

    /// The same, to change it.
    pub fn all_mut(&mut self) -> impl Iterator<Item = (&str, &mut T)> {
        self.entries.iter_mut().map(|(key, entry)| (key.as_str(), &mut entry.remembered))
    }

    fn forget_most_silent(&mut self) -> Option<T> {
        let (key, _) = self.entries.iter().min_by_key(|(_, entry)| entry.last)?;
        let key = key.clone();
        self.entries.remove(&key).map(|entry| entry.remembered)
    }
}

impl Due {
    /// A series is due then, and not when it was before.
    pub fn set(&mut self, series: &str, at: Instant) {
        self.clear(series);
        self.by_series.insert(series.to_owned(), at);
        self.in_order.insert((at, series.to_owned()));
    }

    /// A series is not due any more.
    pub fn clear(&mut self, series: &str) {
        if let Some(at) = self.by_series.remove(series) {
            self.in_order.remove(&(at, series.to_owned()));
        }
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Instant> {
        self.in_order.first().map(|(at, _)| *at)
    }

    /// Takes out one that is due by now.
    pub fn take(&mut self, now: Instant) -> Option<String> {
        let (_, series) = self.in_order.first().filter(|(at, _)| *at <= now)?;
        let series = series.clone();
        self.clear(&series);
        Some(series)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn by(text: &str) -> By {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn messages_are_told_apart_by_topic_or_by_fields() {
        let message =
            Message::new("site/a", json!({ "line": 1, "machine": { "id": "m" }, "on": null }));
        let key = |text: &str| by(text).of(&message).map_err(|error| error.to_string());
        assert_eq!(By::default().of(&message).unwrap(), "site/a");
        assert_eq!(key(r#""machine.id""#), Ok("\"m\",".to_owned()));
        assert_eq!(key(r#"["line", "machine.id"]"#), Ok("1,\"m\",".to_owned()));
        assert_eq!(key("[]"), Ok(String::new()));
        let members = by(r#"["line", "machine.id"]"#).members(&message);
        assert_eq!(Value::Object(members), json!({ "line": 1, "id": "m" }));
        for (field, says) in
            [("on", "`on` is missing"), ("x", "`x` is missing"), ("machine", "`machine` is a")]
        {
            assert!(key(&format!("\"{field}\"")).unwrap_err().starts_with(says), "{field}");
        }
        let text = Message::new("site/a", json!({ "line": "1" }));
        assert_ne!(by(r#""line""#).of(&text).unwrap(), by(r#""line""#).of(&message).unwrap());
    }

    #[test]
    fn the_series_that_was_silent_longest_is_forgotten_for_one_too_many() {
        let mut series = Series::<usize>::default();
        for number in 0..MOST_SERIES {
            *series.of(number.to_string()).0 = number;
        }
        assert_eq!(series.of("0".to_owned()).1, None);
        assert_eq!(series.of("new".to_owned()).1, Some(1), "the first has had a message since");
        assert_eq!(series.all().count(), MOST_SERIES);
    }
}
