//! All that is seen of a test while it runs, each with when.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forebay_sdk::{Delivery, Message, Outcome, Port, Receipt};
use futures_util::FutureExt;
use tokio::time::Instant;

use crate::{config::Name, engine::Observer};

/// The most messages that are remembered of one place.
pub const MOST_SEEN: usize = 1_000_000;

/// A message, and when it was seen, since the beginning of the test.
#[derive(Clone)]
pub struct Event {
    pub at: Duration,
    pub message: Message,
}

/// A message that went to a sink.
pub struct Entered {
    pub at: Duration,
    pub message: Message,
    /// What it says, to be known by when it arrives.
    pub key: String,
    /// How it ends, as its source would hear.
    receipt: Option<Receipt>,
    /// It was not safe when the power was cut, and nobody was told that it is.
    pub is_excused: bool,
}

/// What is seen.
pub struct Seen {
    began: Instant,
    /// The outputs of which messages are remembered.
    wanted: BTreeSet<(Name, Port)>,
    sinks: BTreeSet<Name>,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    came_out: BTreeMap<(Name, Port), Vec<Event>>,
    counts: BTreeMap<(Name, Port), u64>,
    entered: BTreeMap<Name, Vec<Entered>>,
}

/// What was seen up to some moment.
#[derive(Default)]
pub struct Record {
    /// Of outputs that a test asks for.
    pub came_out: BTreeMap<(Name, Port), Vec<Event>>,
    /// How many messages left by each output.
    pub counts: BTreeMap<(Name, Port), u64>,
    /// By sink.
    pub entered: BTreeMap<Name, Vec<Entered>>,
    /// By member of the world.
    pub arrived: BTreeMap<Name, Vec<Event>>,
    /// Bytes that went over the way to each.
    pub bytes: BTreeMap<Name, u64>,
    /// The most that the buffer of each sink held, in bytes, as far as it was looked at.
    pub fullest: BTreeMap<Name, u64>,
    /// How many messages wait in front of each sink.
    pub waiting: BTreeMap<Name, usize>,
    /// How many messages each sink dropped because of its limits.
    pub dropped: BTreeMap<Name, u64>,
    /// How each node and connection is.
    pub states: BTreeMap<Name, (&'static str, Option<String>)>,
}

impl Seen {
    /// From now on.
    pub fn new(wanted: BTreeSet<(Name, Port)>, sinks: BTreeSet<Name>) -> Seen {
        Seen { began: Instant::now(), wanted, sinks, inside: Mutex::default() }
    }

    /// How long ago it began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// When something was.
    pub fn since_begin(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.began)
    }

    /// The power is gone: of what is under way, nobody was told anything.
    pub fn excuse_what_is_under_way(&self) {
        for entered in self.inside().entered.values_mut().flatten() {
            let Some(receipt) = entered.receipt.take() else { continue };
            entered.is_excused = receipt.now_or_never() != Some(Outcome::Delivered);
        }
    }

    /// Gives what was seen into a record, and goes on.
    pub fn fill(&self, record: &mut Record) {
        let inside = self.inside();
        record.came_out.clone_from(&inside.came_out);
        record.counts.clone_from(&inside.counts);
        let copy = |entered: &Entered| Entered {
            at: entered.at,
            message: entered.message.clone(),
            key: entered.key.clone(),
            receipt: None,
            is_excused: entered.is_excused,
        };
        let all = inside.entered.iter();
        record.entered =
            all.map(|(name, all)| (Arc::clone(name), all.iter().map(copy).collect())).collect();
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Seen {
    fn came_out(&self, node: &Name, port: Port, message: &Message) {
        let place = (Arc::clone(node), port);
        let at = self.elapsed();
        let mut inside = self.inside();
        if self.wanted.contains(&place) {
            let events = inside.came_out.entry(place.clone()).or_default();
            if events.len() < MOST_SEEN {
                events.push(Event { at, message: message.clone() });
            }
        }
        *inside.counts.entry(place).or_default() += 1;
    }

    fn goes_in(&self, reader: &Name, message: &Message) -> Option<Delivery> {
        if !self.sinks.contains(reader) {
            return None;
        }
        let (delivery, receipt) = Delivery::track();
        let (at, key, receipt) = (self.elapsed(), key(message), Some(receipt));
        let mut inside = self.inside();
        let entered = inside.entered.entry(Arc::clone(reader)).or_default();
        if entered.len() >= MOST_SEEN {
            return None;
        }
        let message = message.clone();
        entered.push(Entered { at, message, key, receipt, is_excused: false });
        Some(delivery)
    }
}

/// What a message says: by it one that arrives is known for one that was sent.
pub fn key(message: &Message) -> String {
    message.payload.to_value_lossy().to_string()
}
