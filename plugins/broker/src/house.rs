//! The broker, shared by the tasks that serve its clients, and what it asks of them.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::anyhow;
use forebay_sdk::Voice;
use tokio::{sync::Notify, time::Instant};

use crate::{
    broker::{Broker, Effect, Limits},
    budget::{Budget, Use},
    message::{Kept, Message},
    packets::Desk,
    session::ConnectionId,
    status::{Counts, add},
    turns::Turns,
    wire::Refusal,
};

/// The broker, and the lines to its clients.
pub struct House {
    broker: Mutex<Broker>,
    pub budget: Budget,
    pub desk: Arc<Desk>,
    pub turns: Turns,
    lines: Mutex<BTreeMap<ConnectionId, Arc<Line>>>,
    next_line: AtomicU64,
    wills: Mutex<VecDeque<Arc<Kept>>>,
    will_is_due: Notify,
    /// What passed.
    pub counts: Counts,
    voice: Voice,
}

/// How a connection hears from the broker.
pub struct Line {
    pub id: ConnectionId,
    woken: Notify,
    ended: Notify,
    refusal: Mutex<Option<Refusal>>,
}

impl Line {
    /// Resolves when something may wait for the client.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Resolves with the reason when the connection is to end.
    pub async fn ended(&self) -> Refusal {
        loop {
            self.ended.notified().await;
            if let Some(refusal) = lock(&self.refusal).take() {
                return refusal;
            }
        }
    }
}

/// A line, until it is dropped.
pub struct Held<'a> {
    house: &'a House,
    pub line: Arc<Line>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        lock(&self.house.lines).remove(&self.line.id);
    }
}

impl House {
    pub fn new(limits: Limits, budget: Budget, voice: Voice) -> House {
        House {
            broker: Mutex::new(Broker::new(limits, budget.clone())),
            budget,
            desk: Arc::default(),
            turns: Turns::default(),
            lines: Mutex::default(),
            next_line: AtomicU64::new(1),
            wills: Mutex::default(),
            will_is_due: Notify::new(),
            counts: Counts::default(),
            voice,
        }
    }

    /// A line for a new connection.
    pub fn line(&self) -> Held<'_> {
        let id = self.next_line.fetch_add(1, Ordering::Relaxed);
        let (woken, ended, refusal) = (Notify::new(), Notify::new(), Mutex::default());
        let line = Arc::new(Line { id, woken, ended, refusal });
        lock(&self.lines).insert(id, Arc::clone(&line));
        Held { house: self, line }
    }

    /// A client id that nobody has.
    pub fn new_client_id(&self) -> Arc<str> {
        let number = self.next_line.fetch_add(1, Ordering::Relaxed);
        let random = RandomState::new().hash_one(number);
        format!("forebay-{random:016x}-{number}").into()
    }

    /// Asks the broker, and does what it asks for.
    pub fn with<T>(&self, ask: impl FnOnce(&mut Broker) -> T) -> T {
        let mut broker = lock(&self.broker);
        let answer = ask(&mut broker);
        let effects = broker.effects();
        drop(broker);
        for effect in effects {
            self.apply(effect);
        }
        answer
    }

    fn apply(&self, effect: Effect) {
        match effect {
            Effect::Wake(id) => {
                if let Some(line) = lock(&self.lines).get(&id) {
                    line.woken.notify_one();
                }
            }
            Effect::Close(id, refusal) => self.close(id, refusal),
            Effect::Publish(will) => self.will(&will),
            Effect::Dropped(count, why) => {
                add(&self.counts.dropped, count);
                self.voice.dropped(count, &why);
            }
            Effect::Trouble(what) => self.voice.trouble(&anyhow!("{what}")),
        }
    }

    /// Has a connection end, and says why.
    pub fn close(&self, id: ConnectionId, refusal: Refusal) {
        if let Some(line) = lock(&self.lines).get(&id) {
            *lock(&line.refusal) = Some(refusal);
            line.ended.notify_one();
        }
    }

    fn will(&self, will: &Message) {
        match Kept::new(will, &self.budget, Use::Queues) {
            Some(kept) => {
                lock(&self.wills).push_back(kept);
                self.will_is_due.notify_one();
            }
            None => self.voice.dropped(1, "the memory is full (`memory`), for a will"),
        }
    }

    /// The next will that is due.
    pub async fn next_will(&self) -> Message {
        loop {
            if let Some(kept) = lock(&self.wills).pop_front() {
                return kept.message.clone();
            }
            self.will_is_due.notified().await;
        }
    }

    /// What the clock brings.
    pub fn tick(&self) {
        self.with(|broker| broker.tick(Instant::now()));
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere must not take the broker with it.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
