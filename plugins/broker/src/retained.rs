//! The last message of each topic, for those who subscribe later.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use forebay_sdk::Size;
use tokio::time::Instant;

use crate::{
    budget::{Budget, Charge, Use},
    message::{Kept, Message},
    topics::{common_beginning, matches},
};

/// What a message takes in a queue, beside its text.
pub const PLACE_BYTES: usize = 128;

/// What is kept.
#[derive(Debug)]
pub struct Retained {
    messages: BTreeMap<Arc<str>, Arc<Kept>>,
    bytes: usize,
    most: usize,
    most_bytes: usize,
    budget: Budget,
}

impl Retained {
    /// With messages of at most so many topics, and so many bytes.
    pub fn new(most: usize, most_bytes: usize, budget: Budget) -> Retained {
        let most_bytes = most_bytes.min(budget.most(Use::Retained));
        Retained { messages: BTreeMap::new(), bytes: 0, most, most_bytes, budget }
    }

    /// Keeps at most so many from now on. What is there already stays.
    pub fn set_limits(&mut self, most: usize, most_bytes: usize) {
        self.most = most;
        self.most_bytes = most_bytes.min(self.budget.most(Use::Retained));
    }

    /// Keeps a message in the place of the one before; an empty one takes it back.
    ///
    /// # Errors
    ///
    /// Why it is not kept. The one before is gone then: it is not the last any more.
    pub fn keep(&mut self, message: &Message) -> Result<(), String> {
        self.remove(&message.topic);
        if message.payload.is_empty() {
            return Ok(());
        }
        if self.messages.len() >= self.most {
            return Err(format!("{} topics have one already (`max_retained`)", self.most));
        }
        let size_bytes = message.size_bytes();
        let kept = match self.bytes + size_bytes <= self.most_bytes {
            true => Kept::new(message, &self.budget, Use::Retained),
            false => None,
        };
        let kept = kept.ok_or_else(|| {
            let (most, taken) = (Size(self.most_bytes as u64), Size(self.bytes as u64));
            format!("it takes {size_bytes} bytes, and {taken} of {most} are taken (`max_retained_bytes`)")
        })?;
        self.bytes += size_bytes;
        self.messages.insert(Arc::clone(&message.topic), kept);
        Ok(())
    }

    fn remove(&mut self, topic: &str) {
        if let Some(kept) = self.messages.remove(topic) {
            self.bytes -= kept.message.size_bytes();
        }
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
            self.remove(&topic);
        }
    }
}
