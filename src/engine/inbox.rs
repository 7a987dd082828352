//! A node's queue. It belongs to the engine and outlives the node that reads it.
//!
//! A sink reads from the front without taking: a message leaves once it is settled. So a sink can
//! be stopped at any moment, and its successor finds everything that was not delivered.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use forebay_sdk::{Delivery, Message, outlet::Envelope};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::config::{Buffer, WhenFull};

/// A bounded queue of messages.
pub struct Inbox {
    state: Mutex<State>,
    /// Told when a message came or the inbox was closed.
    work: Notify,
    /// Told when a message left or the limits grew.
    room: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Envelope>,
    /// How many at the front are being written right now. They are not dropped for newer ones.
    held: usize,
    size_bytes: usize,
    limits: Buffer,
    closed: bool,
}

/// What became of a message that was pushed.
pub enum Pushed {
    /// It waits.
    Taken,
    /// It waits, and one that waited longer was dropped for it.
    DroppedOldest,
    /// The buffer is full and set to drop what comes.
    DroppedNewest,
    /// There is no room: come again.
    Full(Envelope),
}

impl Inbox {
    pub fn new() -> Inbox {
        Inbox { state: Mutex::default(), work: Notify::new(), room: Notify::new() }
    }

    pub fn set_limits(&self, limits: Buffer) {
        self.state().limits = limits;
        self.room.notify_waiters();
    }

    /// Puts a message in, or says why not. Never waits.
    pub fn push(&self, envelope: Envelope) -> Pushed {
        let mut state = self.state();
        let mut outcome = Pushed::Taken;
        while state.is_full() {
            match state.limits.when_full {
                WhenFull::Block => return Pushed::Full(envelope),
                WhenFull::DropNewest => {
                    // Dropped by the author's wish, so the promise is kept.
                    envelope.delivery.into_iter().for_each(Delivery::settle);
                    return Pushed::DroppedNewest;
                }
                WhenFull::DropOldest => match state.drop_oldest() {
                    true => outcome = Pushed::DroppedOldest,
                    // Everything that waits is being written.
                    false => return Pushed::Full(envelope),
                },
            }
        }
        state.size_bytes += envelope.message.size_bytes();
        state.waiting.push_back(envelope);
        drop(state);
        self.work.notify_one();
        outcome
    }

    /// Resolves when there may be room.
    pub async fn room(&self) {
        let mut told = std::pin::pin!(self.room.notified());
        // Registered before looking, so that room made in between is not missed.
        told.as_mut().enable();
        if self.state().is_full() {
            told.await;
        }
    }

    /// Takes the first message, for a reader that handles it without an `await`.
    pub fn pop(&self) -> Option<Envelope> {
        let envelope = self.state().take_first()?;
        self.room.notify_waiters();
        Some(envelope)
    }

    /// Waits for a message. False once the inbox is closed and empty.
    pub async fn wait(&self) -> bool {
        loop {
            {
                let state = self.state();
                if !state.waiting.is_empty() {
                    return true;
                }
                if state.closed {
                    return false;
                }
            }
            self.work.notified().await;
        }
    }

    /// Waits for messages and shows up to `most` of them, which stay until they are settled. Waits
    /// up to `max_wait` for more when there are fewer. None once the inbox is closed and empty.
    pub async fn hold(&self, most: usize, max_wait: Duration) -> Option<Vec<Message>> {
        if !self.wait().await {
            return None;
        }
        let deadline = Instant::now() + max_wait;
        while !max_wait.is_zero() && self.is_worth_waiting_for(most) {
            if timeout_at(deadline, self.work.notified()).await.is_err() {
                break;
            }
        }
        let mut state = self.state();
        let batch: Vec<Message> =
            state.waiting.iter().take(most).map(|envelope| envelope.message.clone()).collect();
        state.held = batch.len();
        Some(batch)
    }

    /// Takes out the first `count` messages; the caller owes their deliveries.
    pub fn release(&self, count: usize) -> Vec<Envelope> {
        let mut state = self.state();
        state.held = 0;
        let released = (0..count).map_while(|_| state.take_first()).collect();
        drop(state);
        self.room.notify_waiters();
        released
    }

    /// Nothing more comes: readers end once they have read what is there.
    pub fn close(&self) {
        self.state().closed = true;
        self.work.notify_one();
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.state().waiting.len()
    }

    fn is_worth_waiting_for(&self, most: usize) -> bool {
        let state = self.state();
        !state.closed && state.waiting.len() < most && !state.is_full()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the lock is held")
    }
}

impl State {
    fn is_full(&self) -> bool {
        // One message larger than the limit passes alone; it could never be sent otherwise.
        let too_many = self.waiting.len() >= self.limits.max_messages as usize;
        too_many || (self.size_bytes as u64 >= self.limits.max_bytes && !self.waiting.is_empty())
    }

    fn take_first(&mut self) -> Option<Envelope> {
        let envelope = self.waiting.pop_front()?;
        self.size_bytes = self.size_bytes.saturating_sub(envelope.message.size_bytes());
        self.held = self.held.saturating_sub(1);
        Some(envelope)
    }

    /// Drops the oldest message that is not being written. False when there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some(envelope) = self.waiting.remove(self.held) else { return false };
        self.size_bytes = self.size_bytes.saturating_sub(envelope.message.size_bytes());
        envelope.delivery.into_iter().for_each(Delivery::settle);
        true
    }
}
