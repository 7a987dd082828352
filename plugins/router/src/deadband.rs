//! Which values of a message have moved.

use std::collections::BTreeMap;

use forebay_sdk::{Sending, Sent};
use serde_json::{Map, Value};
use tokio::time::Instant;

/// More values than any router says; what is beyond is always sent.
const MOST_REMEMBERED: usize = 1000;

/// How far values must move, by their paths and by those in front of them.
pub type Deadbands = BTreeMap<String, Sending>;

/// What was sent last, by path.
#[derive(Default)]
pub struct SentBefore(BTreeMap<String, Option<Sent>>);

impl SentBefore {
    /// Leaves out of a message what has not moved since it was sent.
    pub fn thin(
        &mut self,
        message: Map<String, Value>,
        deadbands: &Deadbands,
    ) -> Map<String, Value> {
        if deadbands.is_empty() {
            return message;
        }
        self.thin_map("", message, None, deadbands)
    }

    fn thin_map(
        &mut self,
        path: &str,
        map: Map<String, Value>,
        around: Option<Sending>,
        deadbands: &Deadbands,
    ) -> Map<String, Value> {
        let mut left = Map::new();
        for (name, value) in map {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let sending = deadbands.get(&path).copied().or(around);
            match (value, sending) {
                (Value::Object(inner), _) => {
                    let inner = self.thin_map(&path, inner, sending, deadbands);
                    if !inner.is_empty() {
                        left.insert(name, inner.into());
                    }
                }
                (value, Some(sending)) if !self.lets_through(&path, &value, sending) => (),
                (value, _) => drop(left.insert(name, value)),
            }
        }
        left
    }

    fn lets_through(&mut self, path: &str, value: &Value, sending: Sending) -> bool {
        let is_full = self.0.len() >= MOST_REMEMBERED;
        let last = match self.0.get_mut(path) {
            Some(last) => last,
            None if is_full => return true,
            None => self.0.entry(path.to_owned()).or_default(),
        };
        sending.lets_through(last, value, Instant::now())
    }
}
