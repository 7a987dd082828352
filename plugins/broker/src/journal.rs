//! What has happened since the last write to disk and must survive a restart.
//!
//! A message that all its clients have before it was written is never written. Whoever published one hears that it is
//! taken once it is safe, or needs no safety any more.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use forebay_sdk::Timestamp;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::{
    dues::Ticket,
    message::{Kept, Message},
    records::{Recipient, Record, Stored, write},
    tree::SessionId,
};

/// With more than that of changes of sessions, the file is written anew instead, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// The changes. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Changes of sessions, as they are on disk.
    records: Vec<u8>,
    /// They were too many, or could not be written.
    is_lost: bool,
    /// The last message of each topic that has another; None for topics without one.
    retained: BTreeMap<Arc<str>, Option<Arc<Kept>>>,
    messages: BTreeMap<u64, Pending>,
    awaited: Awaited,
    last_number: u64,
    /// The broker ends: what is dropped from now on is kept.
    is_closed: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("messages", &self.messages.len()).finish_non_exhaustive()
    }
}

struct Pending {
    kept: Arc<Kept>,
    recipients: Vec<Recipient>,
    tickets: Vec<Arc<Ticket>>,
}

/// Who waits until something is safe. Dropping it tells them.
#[derive(Default)]
pub struct Awaited {
    tickets: Vec<Arc<Ticket>>,
    others: Vec<oneshot::Sender<()>>,
}

/// A message that a session has not had yet. Dropping it says that it is done with.
#[derive(Debug)]
pub struct Stake {
    journal: Journal,
    session: SessionId,
    pub number: u64,
}

impl Drop for Stake {
    fn drop(&mut self) {
        self.journal.done(self.session, self.number);
    }
}

impl Journal {
    /// Something that happened to a session.
    pub fn record(&self, record: &Record) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        write(record, &mut state.records);
        if state.records.len() > MOST_BYTES {
            state.records = Vec::new();
            state.is_lost = true;
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// A topic has another retained message, or none any more.
    pub fn retain(&self, topic: &Arc<str>, kept: Option<Arc<Kept>>, ticket: Option<&Arc<Ticket>>) {
        let mut state = self.lock();
        state.retained.insert(Arc::clone(topic), kept);
        state.awaited.tickets.extend(ticket.cloned());
        drop(state);
        self.0.changed.notify_one();
    }

    /// A number for a message.
    pub fn number(&self) -> u64 {
        let mut state = self.lock();
        state.last_number += 1;
        state.last_number
    }

    /// All numbers up to this one are taken.
    pub fn skip_to(&self, number: u64) {
        let mut state = self.lock();
        state.last_number = state.last_number.max(number);
    }

    /// A message waits for one more session.
    pub fn message(
        &self,
        number: u64,
        kept: &Arc<Kept>,
        recipient: Recipient,
        ticket: Option<&Arc<Ticket>>,
    ) -> Stake {
        let session = recipient.id;
        let mut state = self.lock();
        let new = || Pending {
            kept: Arc::clone(kept),
            recipients: Vec::new(),
            tickets: ticket.cloned().into_iter().collect(),
        };
        state.messages.entry(number).or_insert_with(new).recipients.push(recipient);
        drop(state);
        self.0.changed.notify_one();
        self.stake(session, number)
    }

    /// That a session has not had a message which is on disk.
    pub fn stake(&self, session: SessionId, number: u64) -> Stake {
        Stake { journal: self.clone(), session, number }
    }

    fn done(&self, session: SessionId, number: u64) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        let Some(pending) = state.messages.get_mut(&number) else {
            drop(state);
            return self.record(&Record::Done(session, number));
        };
        pending.recipients.retain(|recipient| recipient.id != session);
        if pending.recipients.is_empty() {
            // Its sender is told outside of the lock.
            let gone = state.messages.remove(&number);
            drop(state);
            drop(gone);
        }
    }

    /// Resolves once all that has happened until now is safe.
    pub async fn safe(&self) {
        let (told, safe) = oneshot::channel();
        {
            let mut state = self.lock();
            if state.is_empty() {
                return;
            }
            state.awaited.others.push(told);
        }
        self.0.changed.notify_one();
        // Dropping the other end says so.
        let _ = safe.await;
    }

    /// Resolves when there may be something to write.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Nothing happens from now on: what is dropped with the broker stays on disk.
    pub fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Whether the file has to be written anew, since changes of it were lost.
    pub fn is_lost(&self) -> bool {
        self.lock().is_lost
    }

    /// What could be written was not: the file has to be written anew.
    pub fn lose(&self) {
        self.lock().is_lost = true;
    }

    /// Takes all changes, as they are written behind the others, and who waits for that.
    pub fn take(&self, now: Instant) -> (Vec<u8>, Awaited) {
        let (records, retained, messages, mut awaited) = {
            let mut state = self.lock();
            state.is_lost = false;
            (
                mem::take(&mut state.records),
                mem::take(&mut state.retained),
                mem::take(&mut state.messages),
                mem::take(&mut state.awaited),
            )
        };
        let mut bytes = records;
        for (topic, kept) in retained {
            let stored = kept.map(|kept| stored(&kept.message, now));
            write(&Record::Retained(topic, stored), &mut bytes);
        }
        for (number, Pending { kept, recipients, tickets }) in messages {
            let stored = stored(&kept.message, now);
            write(&Record::Message { number, stored, recipients }, &mut bytes);
            awaited.tickets.extend(tickets);
        }
        (bytes, awaited)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole, so a panic elsewhere does not matter.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.retained.is_empty()
            && self.messages.is_empty()
            && !self.is_lost
    }
}

/// A message as it is kept.
pub fn stored(message: &Message, now: Instant) -> Stored {
    let expires = message.seconds_left(now).map(|left| (left, Timestamp::now().unix_millis()));
    Stored { message: Message { expires_at: None, ..message.clone() }, expires }
}
