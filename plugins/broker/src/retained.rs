//! The last message of each topic, for those who subscribe later.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use forebay_sdk::Size;
use tokio::time::Instant;

use crate::{
    budget::{Budget, Charge, Use},
    message::{Kept, Message},
    topics::{common_beginning, is_status, matches},
};

/// What a message takes in a queue, beside its text.
pub const PLACE_BYTES: usize = 128;

/// What is kept.
#[derive(Debug)]
pub struct Retained {
    messages: BTreeMap<Arc<str>, Arc<Kept>>,
    /// How many of them are the broker's own, which have no limit.
    statuses: usize,
    /// Of all others.
    bytes: usize,
    most: usize,
    most_bytes: usize,
    budget: Budget,
}

impl Retained {
    /// With messages of at most so many topics, and so many bytes.
    pub fn new(most: usize, most_bytes: usize, budget: Budget) -> Retained {
        let most_bytes = most_bytes.min(budget.most(Use::Retained));
        Retained { messages: BTreeMap::new(), statuses: 0, bytes: 0, most, most_bytes, budget }
    }

    /// Keeps at most so many from now on. What is there already stays.
    pub fn set_limits(&mut self, most: usize, most_bytes: usize) {
        self.most = most;
        self.most_bytes = most_bytes.min(self.budget.most(Use::Retained));
    }

    /// The message of a topic.
    pub fn get(&self, topic: &str) -> Option<&Arc<Kept>> {
        self.messages.get(topic)
    }

    /// Every message.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kept>> {
        self.messages.values()
    }

    /// Keeps a message in the place of the one before; an empty one takes it back.
    ///
    /// # Errors
    ///
    /// Why it is not kept. The one before is still there.
    pub fn keep(&mut self, message: &Message) -> Result<(), String> {
        if message.payload.is_empty() {
            self.remove(&message.topic);
            return Ok(());
        }
        self.check(message)?;
        let before = self.remove(&message.topic);
        let Some(kept) = Kept::new(message, &self.budget, Use::Retained) else {
            let why = "the memory for retained messages is full (`memory`)".to_owned();
            // There was room for it before.
            before.into_iter().for_each(|before| self.insert(before));
            return Err(why);
        };
        self.insert(kept);
        Ok(())
    }

    /// Says why there is no room for a message.
    pub fn check(&self, message: &Message) -> Result<(), String> {
        if message.payload.is_empty() || is_status(&message.topic) {
            return Ok(());
        }
        let before = self.messages.get(&message.topic);
        if before.is_none() && self.count() >= self.most {
            return Err(format!("{} topics have one already (`max_retained`)", self.most));
        }
        let freed = before.map_or(0, |before| before.message.size_bytes());
        let (size_bytes, taken) = (message.size_bytes(), self.bytes - freed);
        if taken + size_bytes > self.most_bytes {
            let (most, taken) = (Size(self.most_bytes as u64), Size(taken as u64));
            return Err(format!(
                "it takes {size_bytes} bytes, and {taken} of {most} are taken (`max_retained_bytes`)"
            ));
        }
        Ok(())
    }

    /// How many there are, but for those in which the broker says how it is.
    pub fn count(&self) -> usize {
        self.messages.len() - self.statuses
    }

    fn insert(&mut self, kept: Arc<Kept>) {
        match is_status(&kept.message.topic) {
            true => self.statuses += 1,
            false => self.bytes += kept.message.size_bytes(),
        }
        self.messages.insert(Arc::clone(&kept.message.topic), kept);
    }

    fn remove(&mut self, topic: &str) -> Option<Arc<Kept>> {
        let kept = self.messages.remove(topic)?;
        match is_status(topic) {
            true => self.statuses -= 1,
            false => self.bytes -= kept.message.size_bytes(),
        }
        Some(kept)
    }

    /// The next message of a pattern, in the order of topics, behind one of them.
    pub fn next(
        &self,
        pattern: &str,
        after: Option<&Arc<str>>,
        now: Instant,
    ) -> Option<&Arc<Kept>> {
        let beginning = common_beginning(pattern);
        let from = match after {
            Some(topic) => Bound::Excluded(&**topic),
            None => Bound::Included(beginning),
        };
        let behind = self.messages.range::<str, _>((from, Bound::Unbounded));
        behind
            .take_while(|(topic, _)| topic.starts_with(beginning))
            .find(|(topic, kept)| matches(pattern, topic) && !kept.message.is_expired(now))
            .map(|(_, kept)| kept)
    }

    /// One of them on its way to a client, where it counts as what waits there. None when there is no
    /// memory for it.
    pub fn on_its_way(&self, kept: &Kept) -> Option<(Arc<Kept>, Charge)> {
        let place = self.budget.take(Use::Queues, PLACE_BYTES)?;
        Some((Kept::new(&kept.message, &self.budget, Use::Queues)?, place))
    }

    /// All messages of a pattern.
    pub fn all<'a>(&'a self, pattern: &'a str, now: Instant) -> impl Iterator<Item = &'a Message> {
        let mut after = None;
        std::iter::from_fn(move || {
            let kept = self.next(pattern, after.as_ref(), now)?;
            after = Some(Arc::clone(&kept.message.topic));
            Some(&kept.message)
        })
    }

    /// Forgets what has expired.
    pub fn tidy(&mut self, now: Instant) {
        let expired = |kept: &&Arc<Kept>| kept.message.is_expired(now);
        let topics: Vec<_> = self
            .messages
            .values()
            .filter(expired)
            .map(|kept| Arc::clone(&kept.message.topic))
            .collect();
        for topic in topics {
            let _ = self.remove(&topic);
        }
    }
}
