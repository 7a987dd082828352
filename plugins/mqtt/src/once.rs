//! Messages of QoS 2 that were handed over, and whose end nobody has heard yet.
//!
//! A sink publishes a message again when its write was broken off, by a lost connection or a reload. The broker
//! must not get it twice: who publishes what is here gets the answer of the first time.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forebay_sdk::mqtt::Publication;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use tokio::{
    sync::{self, MutexGuard as Turn},
    time::Instant,
};

use crate::client::{Notice, Untaken};

/// How long an answer waits for somebody who asks. What comes later is another message with the same words.
const LONGEST_UNCLAIMED: Duration = Duration::from_secs(60);

type Answer = Shared<BoxFuture<'static, Result<(), Untaken>>>;

/// Of one session.
#[derive(Default)]
pub struct Once {
    messages: Mutex<Messages>,
    /// Whose turn it is to hand one over.
    turn: sync::Mutex<()>,
}

#[derive(Default)]
struct Messages {
    next: u64,
    all: Vec<Entry>,
}

struct Entry {
    number: u64,
    publication: Publication,
    answer: Answer,
    /// Since when nobody waits for the answer.
    unclaimed_since: Option<Instant>,
}

/// The right to the answer to one message.
pub struct Claim {
    once: Arc<Once>,
    number: u64,
    answer: Answer,
}

impl Once {
    /// Waits until fewer than so many are under way. It stays so until the turn is dropped.
    pub async fn room(&self, most: usize) -> Turn<'_, ()> {
        let turn = self.turn.lock().await;
        while let Some(first) = self.first_of(most) {
            // However it ends.
            let _ = first.await;
        }
        turn
    }

    /// The answer that has been awaited longest, when so many are.
    fn first_of(&self, most: usize) -> Option<Answer> {
        let messages = self.lock();
        let answers = messages.all.iter().map(|entry| entry.answer.clone());
        let mut open = answers.filter(|answer| answer.clone().now_or_never().is_none());
        let first = open.next();
        if 1 + open.count() >= most { first } else { None }
    }

    /// The answer to such a message that nobody waits for, if there is one.
    pub fn claim(self: &Arc<Once>, publication: &Publication) -> Option<Claim> {
        let mut messages = self.lock();
        messages.all.retain(|entry| !entry.is_forgotten());
        let is_same = |entry: &&mut Entry| {
            entry.unclaimed_since.is_some() && is_same(&entry.publication, publication)
        };
        let entry = messages.all.iter_mut().find(is_same)?;
        entry.unclaimed_since = None;
        let (number, answer) = (entry.number, entry.answer.clone());
        Some(Claim { once: Arc::clone(self), number, answer })
    }

    /// Enters a message that was handed over.
    pub fn enter(self: &Arc<Once>, publication: Publication, notice: Notice) -> Claim {
        let answer = notice.taken().boxed().shared();
        let number = self.lock().add(publication, answer.clone(), None);
        Claim { once: Arc::clone(self), number, answer }
    }

    /// A connection begins, on which these go on. Of the one before, only what has arrived counts.
    pub fn began(&self, resumed: Vec<(Publication, Notice)>) {
        let mut messages = self.lock();
        messages.all.retain_mut(|entry| {
            entry.unclaimed_since = Some(Instant::now());
            matches!(entry.answer.clone().now_or_never(), Some(Ok(())))
        });
        for (publication, notice) in resumed {
            let answer = notice.taken().boxed().shared();
            messages.add(publication, answer, Some(Instant::now()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Messages {
    /// Gives its number.
    fn add(
        &mut self,
        publication: Publication,
        answer: Answer,
        unclaimed_since: Option<Instant>,
    ) -> u64 {
        let number = self.next;
        self.next += 1;
        self.all.push(Entry { number, publication, answer, unclaimed_since });
        number
    }
}

impl Entry {
    /// Whether it has ended, and nobody came to hear so. What is under way is bounded by the connection.
    fn is_forgotten(&self) -> bool {
        self.unclaimed_since.is_some_and(|since| since.elapsed() > LONGEST_UNCLAIMED)
            && self.answer.clone().now_or_never().is_some()
    }
}

impl Claim {
    /// Resolves once the broker has the message, or has refused it.
    pub async fn taken(self) -> Result<(), Untaken> {
        let taken = self.answer.clone().await;
        self.once.lock().all.retain(|entry| entry.number != self.number);
        taken
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut messages = self.once.lock();
        if let Some(entry) = messages.all.iter_mut().find(|entry| entry.number == self.number) {
            entry.unclaimed_since = Some(Instant::now());
        }
    }
}

fn is_same(one: &Publication, other: &Publication) -> bool {
    (&one.topic, &one.payload, one.retain) == (&other.topic, &other.payload, other.retain)
}
