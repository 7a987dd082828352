//! What has happened since the last write to disk and must survive a restart.
//!
//! A message that all its clients have before it was written is never written. Whoever published one hears that it is
//! taken once it is safe, or needs no safety any more.

use std::{
    collections::BTreeMap,
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use forebay_sdk::clock;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::{
    dues::Ticket,
    message::{Kept, Message},
    records::{Recipient, Record, Stored, UnderWay, When, write, write_in_pieces},
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
    hurried: Notify,
}

#[derive(Default)]
struct State {
    changes: Changes,
    /// They were too many, or could not be written.
    is_lost: bool,
    last_number: u64,
    /// The broker ends: what is dropped from now on is kept.
    is_closed: bool,
}

/// What has happened, or all that is so.
#[derive(Default)]
pub struct Changes {
    /// Of sessions, as it is on disk.
    records: Vec<u8>,
    /// Behind that.
    others: Vec<Record>,
    /// The last message of each topic that has another; None for topics without one.
    retained: BTreeMap<Arc<str>, Option<Arc<Kept>>>,
    messages: BTreeMap<u64, Pending>,
    /// How far messages of QoS 2 are on their way.
    sent: BTreeMap<(SessionId, u64), UnderWay>,
    /// Packet ids of QoS 2 that were received (true), or released.
    received: BTreeMap<(SessionId, u16), bool>,
    awaited: Awaited,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.others.is_empty()
            && self.retained.is_empty()
            && self.messages.is_empty()
            && self.sent.is_empty()
            && self.received.is_empty()
    }

    /// A record that goes in front of all messages.
    pub fn add(&mut self, record: Record) {
        self.others.push(record);
    }

    /// A topic has another retained message, or none any more.
    pub fn retain(&mut self, topic: &Arc<str>, kept: Option<Arc<Kept>>) {
        self.retained.insert(Arc::clone(topic), kept);
    }

    /// A message waits for one more session.
    pub fn message(
        &mut self,
        number: u64,
        kept: &Arc<Kept>,
        recipient: Recipient,
        ticket: Option<&Arc<Ticket>>,
    ) {
        let new = || Pending {
            kept: Arc::clone(kept),
            recipients: Vec::with_capacity(1),
            tickets: ticket.cloned().into_iter().collect(),
        };
        self.messages.entry(number).or_insert_with(new).recipients.push(recipient);
    }

    /// A message is on its way to a session, at QoS 2.
    pub fn sent(&mut self, session: SessionId, number: u64, way: UnderWay) {
        self.sent.insert((session, number), way);
    }

    /// Passes on what is to be written behind what is on disk, in pieces; who waits for that. Takes its time.
    ///
    /// # Errors
    ///
    /// What `take` says.
    pub fn encode(
        self,
        moment: Moment,
        take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Awaited> {
        let Changes { records, others, retained, messages, sent, received, mut awaited } = self;
        let retained = retained.into_iter().map(|(topic, kept)| {
            Record::Retained(topic, kept.map(|kept| moment.stored(&kept.message)))
        });
        let messages = messages.into_iter().map(|(number, pending)| {
            let Pending { kept, recipients, tickets } = pending;
            awaited.tickets.extend(tickets);
            Record::Message { number, stored: moment.stored(&kept.message), recipients }
        });
        let sent =
            sent.into_iter().map(|((session, number), way)| Record::Sent(session, number, way));
        let received =
            received.into_iter().map(|((session, packet_id), is_there)| match is_there {
                true => Record::Received(session, packet_id),
                false => Record::Released(session, packet_id),
            });
        let behind = others.into_iter().chain(retained).chain(messages).chain(sent).chain(received);
        write_in_pieces(records, behind, take)?;
        Ok(awaited)
    }
}

/// A moment, by both clocks.
#[derive(Clone, Copy)]
pub struct Moment {
    now: Instant,
    wall: When,
}

impl Moment {
    /// That one, which is now.
    pub fn of(now: Instant) -> Moment {
        Moment { now, wall: When::of(&clock::moment()) }
    }

    /// A message as it is kept.
    pub fn stored(&self, message: &Message) -> Stored {
        let left = message.seconds_left(self.now);
        let expires = left.map(|left| (left, self.wall));
        Stored { message: Message { expires_at: None, ..message.clone() }, expires }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("messages", &self.changes.messages.len())
            .finish_non_exhaustive()
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

impl Stake {
    /// The message is on its way, at QoS 2.
    pub fn sent(&self, way: UnderWay) {
        self.journal.change(|state| {
            state.changes.sent(self.session, self.number, way);
        });
    }
}

impl Journal {
    /// Something that happened to a session.
    pub fn record(&self, record: &Record) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        write(record, &mut state.changes.records);
        if state.changes.records.len() > MOST_BYTES {
            state.changes.records = Vec::new();
            state.is_lost = true;
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// A client has sent a message of QoS 2. Nobody waits until that is safe: a message that is not safe itself is sent again.
    pub fn received(&self, session: SessionId, packet_id: u16) {
        self.note(session, packet_id, true);
    }

    /// It has released it. Nobody waits for that either: what is sent with a packet id for the first time is another message.
    pub fn released(&self, session: SessionId, packet_id: u16) {
        self.note(session, packet_id, false);
    }

    fn note(&self, session: SessionId, packet_id: u16, is_received: bool) {
        self.change(|state| {
            let noted = state.changes.received.insert((session, packet_id), is_received);
            if noted.is_some_and(|noted| noted != is_received) {
                // Back to what is on disk.
                state.changes.received.remove(&(session, packet_id));
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        change(&mut state);
        drop(state);
        self.0.changed.notify_one();
    }

    /// A topic has another retained message, or none any more.
    pub fn retain(&self, topic: &Arc<str>, kept: Option<Arc<Kept>>, ticket: Option<&Arc<Ticket>>) {
        let mut state = self.lock();
        state.changes.retain(topic, kept);
        state.changes.awaited.tickets.extend(ticket.cloned());
        drop(state);
        self.0.changed.notify_one();
        if ticket.is_some() {
            self.hurry();
        }
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
        state.changes.message(number, kept, recipient, ticket);
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
        state.changes.sent.remove(&(session, number));
        let Some(pending) = state.changes.messages.get_mut(&number) else {
            drop(state);
            return self.record(&Record::Done(session, number));
        };
        pending.recipients.retain(|recipient| recipient.id != session);
        if pending.recipients.is_empty() {
            // Its sender is told outside of the lock.
            let gone = state.changes.messages.remove(&number);
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
            state.changes.awaited.others.push(told);
        }
        self.0.changed.notify_one();
        self.hurry();
        // Dropping the other end says so.
        let _ = safe.await;
    }

    /// Says that waiting saves nothing: what has happened will have to be written.
    pub fn hurry(&self) {
        self.0.hurried.notify_one();
    }

    /// Resolves when somebody says so.
    pub async fn hurried(&self) {
        self.0.hurried.notified().await;
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

    /// Takes all changes, and who waits for them.
    pub fn take(&self) -> Changes {
        let mut state = self.lock();
        state.is_lost = false;
        mem::take(&mut state.changes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole, so a panic elsewhere does not matter.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.is_lost
    }
}
