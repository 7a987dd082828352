//! What a broker keeps, as far as it came here or was published from here. It sends all of it anew with each
//! subscription.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use forebay_sdk::mqtt::Publication;

/// The most topics of which it is known. What is beyond comes as new with each connection.
const MOST_KNOWN: usize = 20_000;

/// What a broker keeps.
#[derive(Default)]
pub(super) struct Kept {
    /// By topic: what it was, and on which connection. Hashes, for payloads may be large.
    known: HashMap<u64, (u64, u64)>,
}

impl Kept {
    /// Whether a message comes only because we subscribed once more: it is the first retained one of
    /// its topic on this connection, and the same as the last on the one before. Or, with `again`, because
    /// its acknowledgement was lost.
    pub fn repeats(&mut self, publication: &Publication, again: bool, connection: u64) -> bool {
        // Most are not kept, and cost nothing.
        if !publication.retain {
            return false;
        }
        let before = self.known.get(&hash(publication.topic.as_bytes())).copied();
        let is_same = before.is_some_and(|it| it.0 == hash(&publication.payload));
        if again && is_same {
            // The one for the subscription is yet to come.
            return true;
        }
        self.note(publication, connection);
        is_same && before.is_some_and(|(_, on)| on != connection)
    }

    /// Takes note of a message.
    pub fn note(&mut self, publication: &Publication, connection: u64) {
        if !publication.retain {
            return;
        }
        let topic = hash(publication.topic.as_bytes());
        if self.known.len() < MOST_KNOWN || self.known.contains_key(&topic) {
            self.known.insert(topic, (hash(&publication.payload), connection));
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_again_with_another_connection_is_known() {
        let mut kept = Kept::default();
        let retained = |payload: &'static str| Publication::new("t", payload).retain(true);
        assert!(!kept.repeats(&retained("on"), false, 1));
        assert!(!kept.repeats(&retained("on"), false, 1), "it was published once more");
        assert!(kept.repeats(&retained("on"), false, 2));
        assert!(!kept.repeats(&retained("on"), false, 2));
        assert!(!kept.repeats(&retained("off"), false, 3));
        assert!(!kept.repeats(&Publication::new("t", "off"), false, 4));
        assert!(kept.repeats(&retained("off"), false, 4));
        kept.note(&retained("ours"), 4);
        assert!(kept.repeats(&retained("ours"), true, 5), "its acknowledgement was lost");
        assert!(kept.repeats(&retained("ours"), false, 5));
    }
}
