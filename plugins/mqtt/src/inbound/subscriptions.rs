//! On whose behalf the broker was asked, where it says with each message by which subscriptions that comes.
//!
//! Without that a message that matches the filters of two readers comes once or twice, as the broker likes, and
//! nobody can tell: each copy is for both of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// The subscriptions of one connection, by number.
#[derive(Default)]
pub(super) struct Subscriptions {
    numbered: BTreeMap<u32, Subscription>,
    /// The broker has answered to all of them. Before that it may know some of an earlier connection, without
    /// a number, and then does not tell of these.
    are_whole: bool,
}

#[derive(Default)]
struct Subscription {
    filters: BTreeSet<String>,
    readers: BTreeSet<Arc<str>>,
}

/// A number takes three bytes in each message.
const MOST_NUMBERS: u64 = 1 << 14;

/// The number of a subscription to these filters. It is the same after a restart, for a broker that
/// remembers the session also remembers the numbers.
pub fn number<'a>(filters: impl Iterator<Item = &'a str>) -> u32 {
    let mut hasher = DefaultHasher::new();
    filters.for_each(|filter| filter.hash(&mut hasher));
    // From 1 on (MQTT 5 section 3.8.2.1.2).
    (hasher.finish() % (MOST_NUMBERS - 1)) as u32 + 1
}

impl Subscriptions {
    /// A connection begins.
    pub fn clear(&mut self) {
        *self = Subscriptions::default();
    }

    /// The broker has answered to all that it was asked for.
    pub fn answered(&mut self) {
        self.are_whole = true;
    }

    pub fn add<'a>(
        &mut self,
        number: u32,
        filters: impl Iterator<Item = &'a str>,
        readers: &BTreeSet<Arc<str>>,
    ) {
        let subscription = self.numbered.entry(number).or_default();
        subscription.filters.extend(filters.map(str::to_owned));
        subscription.readers.extend(readers.iter().cloned());
    }

    /// Whether what comes by these numbers is for a reader. When one of them is not known, such as of an
    /// earlier connection, it may be for everybody who asks for the topic.
    pub fn are_of<'a>(
        &self,
        numbers: &[u32],
        reader: &str,
        mut filters: impl Iterator<Item = &'a str>,
    ) -> bool {
        let known: Option<Vec<_>> = numbers.iter().map(|it| self.numbered.get(it)).collect();
        let Some(known) = known.filter(|known| !known.is_empty() && self.are_whole) else {
            return true;
        };
        known.iter().any(|it| it.readers.contains(reader))
            || filters.any(|filter| known.iter().any(|it| it.filters.contains(filter)))
    }
}
