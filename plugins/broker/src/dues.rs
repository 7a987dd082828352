//! What one publisher was not yet told: its messages that a reader has not settled.
//!
//! A device gets the acknowledgement of a message once every reader among the nodes has settled it.
//! Its dues outlive its connection: a device that comes back sends again what was not
//! acknowledged, and what the readers still have of that is not theirs a second time.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use forebay_sdk::mqtt::Publication;
use tokio::sync::{Notify, futures::Notified};

use crate::{
    budget::Charge,
    message::publication_bytes,
    wire::{Ack, Version, Writer, code},
};

/// The most messages of one publisher that are not acknowledged. Beyond, it is not read.
pub const MOST_UNACKNOWLEDGED: u16 = 200;
/// The most bytes of them, unless one message is larger.
pub const MOST_UNACKNOWLEDGED_BYTES: usize = 256 << 10;
/// The most of those that a publisher which left may send again. The oldest is forgotten: sent again, it
/// comes twice.
const MOST_LATE: usize = 2 * MOST_UNACKNOWLEDGED as usize;

/// The most answers of four bytes that wait for a publisher to read them. Beyond, it is not read.
pub const MOST_ANSWERS: usize = 1000;
/// The most messages of QoS 2 that a publisher has sent and not released.
pub const MOST_UNFINISHED: usize = 1000;

/// A reader's promise for one message goes with each copy. Dropping the last one keeps it.
pub struct Ticket {
    told: Arc<Notify>,
    /// The memory of the message.
    _charge: Option<Charge>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.told.notify_waiters();
    }
}

/// Whether every reader has settled a message.
pub struct Receipt(Weak<Ticket>);

impl Receipt {
    pub fn is_settled(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// An acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub kind: Ack,
    pub id: u16,
    pub code: u8,
}

impl Answer {
    /// All is well.
    pub fn new(kind: Ack, id: u16) -> Answer {
        Answer { kind, id, code: code::SUCCESS }
    }
}

/// The dues of one publisher.
#[derive(Default)]
pub struct Dues {
    state: Mutex<State>,
    told: Arc<Notify>,
    room: Notify,
}

#[derive(Default)]
struct State {
    /// How many connections the publisher has had. The last one is there.
    holders: u64,
    /// In the order in which they came, which is that of the acknowledgements.
    owed: VecDeque<Owed>,
    /// Of connections that are gone.
    late: VecDeque<Owed>,
    /// Answers that wait for nobody, as they are on the wire. Bounded by [`Dues::room_to_answer`].
    answers: Vec<u8>,
    /// Messages of QoS 2 that were received and not released. No more than there are packet ids.
    unfinished: BTreeSet<u16>,
}

struct Owed {
    answer: Answer,
    publication: Publication,
    receipt: Receipt,
}

impl Dues {
    /// A ticket for a message, to be copied for its readers, and what tells that they have settled it.
    pub fn ticket(&self, charge: Option<Charge>) -> (Arc<Ticket>, Receipt) {
        let ticket = Arc::new(Ticket { told: Arc::clone(&self.told), _charge: charge });
        let receipt = Receipt(Arc::downgrade(&ticket));
        (ticket, receipt)
    }

    /// The publisher is there, by a new connection: its number.
    pub fn enter(&self) -> u64 {
        let mut state = self.lock();
        state.holders += 1;
        state.leave();
        state.holders
    }

    /// That connection is gone.
    pub fn leave(&self, holder: u64) {
        let mut state = self.lock();
        if state.holders == holder {
            state.leave();
        }
    }

    /// Forgets what was received and not released: the session is a new one.
    pub fn forget_unfinished(&self) {
        self.lock().unfinished.clear();
    }

    /// How many messages the publisher has open: of QoS 2, until they are released.
    pub fn open_count(&self) -> usize {
        let state = self.lock();
        state.owed.len() + state.unfinished.len()
    }

    /// How many messages of QoS 2 the publisher has not released.
    pub fn unfinished_count(&self) -> usize {
        self.lock().unfinished.len()
    }

    /// Nothing is left of the publisher.
    pub fn is_done(&self) -> bool {
        let mut state = self.lock();
        state.late.retain(|owed| !owed.receipt.is_settled());
        state.owed.is_empty() && state.late.is_empty() && state.unfinished.is_empty()
    }

    /// Resolves once the publisher may have one more message unacknowledged.
    pub async fn room(&self) {
        while !self.lock().has_room() {
            self.room.notified().await;
        }
    }

    /// Resolves once there is room for one more answer: a publisher that never reads them is not read.
    pub async fn room_to_answer(&self) {
        while self.lock().answers.len() >= 4 * MOST_ANSWERS {
            self.room.notified().await;
        }
    }

    /// Whether a message of QoS 2 was received before.
    pub fn is_unfinished(&self, packet_id: u16) -> bool {
        self.lock().unfinished.contains(&packet_id)
    }

    /// A message of QoS 2 is released. Whether there was one.
    pub fn release(&self, packet_id: u16) -> bool {
        self.lock().unfinished.remove(&packet_id)
    }

    /// What tells of a message that came before and that readers still have.
    pub fn again(&self, publication: &Publication) -> Option<Receipt> {
        let mut state = self.lock();
        let is_it = |owed: &Owed| owed.publication == *publication && !owed.receipt.is_settled();
        let at = state.late.iter().position(is_it)?;
        state.late.remove(at).map(|owed| owed.receipt)
    }

    /// Owes an acknowledgement, once its readers have settled a message.
    pub fn owe(&self, answer: Answer, publication: Publication, receipt: Receipt) {
        self.lock().owed.push_back(Owed { answer, publication, receipt });
        self.told.notify_waiters();
    }

    /// Owes an answer that waits for nobody.
    pub fn answer(&self, packet: &[u8]) {
        self.lock().answers.extend(packet);
        self.told.notify_waiters();
    }

    /// Resolves when something was settled or owed after this was called.
    pub fn told(&self) -> Notified<'_> {
        self.told.notified()
    }

    /// Leaves what readers still have to whoever sends it again.
    pub fn leave_late(&self, publication: Publication, receipt: Receipt) {
        // Of a node, which waits for the receipt itself.
        let answer = Answer::new(Ack::Acknowledged, 0);
        let mut state = self.lock();
        state.owed.push_back(Owed { answer, publication, receipt });
        state.leave();
    }

    /// What can be acknowledged by now, as it goes over the wire of that connection.
    pub fn pay(&self, holder: u64, version: Version) -> Vec<u8> {
        let mut state = self.lock();
        if state.holders != holder {
            return Vec::new();
        }
        let mut paid = Writer { version, bytes: mem::take(&mut state.answers) };
        while state.owed.front().is_some_and(|owed| owed.receipt.is_settled()) {
            let Some(Owed { answer, .. }) = state.owed.pop_front() else { break };
            paid.ack(answer.kind, answer.id, answer.code);
            if answer.kind == Ack::Received && answer.code == code::SUCCESS {
                state.unfinished.insert(answer.id);
            }
        }
        state.late.retain(|owed| !owed.receipt.is_settled());
        drop(state);
        self.room.notify_one();
        paid.bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole, so a panic elsewhere does not matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn leave(&mut self) {
        self.answers.clear();
        let open = mem::take(&mut self.owed);
        self.late.extend(open);
        self.late.retain(|owed| !owed.receipt.is_settled());
        let surplus = self.late.len().saturating_sub(MOST_LATE);
        self.late.drain(..surplus);
    }

    fn has_room(&self) -> bool {
        let open = || self.owed.iter().chain(&self.late);
        let size_bytes = |owed: &Owed| publication_bytes(&owed.publication);
        open().count() < usize::from(MOST_UNACKNOWLEDGED)
            && open().map(size_bytes).sum::<usize>() < MOST_UNACKNOWLEDGED_BYTES
    }
}
