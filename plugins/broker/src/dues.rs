//! What one publisher was not yet told: its messages that a reader has not settled.
//!
//! A device gets the acknowledgement of a message once every reader among the nodes has settled it.
//! Its dues outlive its connection: a device that comes back sends again what was not
//! acknowledged, and what the readers still have of that is not theirs a second time.

use std::{
    collections::VecDeque,
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
}

/// What is paid.
#[derive(Default)]
pub struct Paid {
    /// As it goes over the wire.
    pub bytes: Vec<u8>,
    /// The packet ids of messages of QoS 2 that were taken.
    pub received: Vec<u16>,
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

    /// How many messages the publisher has open, but for those of QoS 2 that were taken.
    pub fn open_count(&self) -> usize {
        self.lock().owed.iter().filter(|owed| !owed.is_received()).count()
    }

    /// Nothing is left of the publisher.
    pub fn is_done(&self) -> bool {
        let mut state = self.lock();
        state.late.retain(|owed| !owed.receipt.is_settled());
        state.owed.is_empty() && state.late.is_empty()
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

    /// Owes once more that a message of QoS 2 was received, which came before: as soon as its readers have settled it.
    pub fn owe_again(&self, packet_id: u16) {
        let mut state = self.lock();
        let is_it = |owed: &Owed| owed.is_received() && owed.answer.id == packet_id;
        if !state.owed.iter().any(is_it) {
            let late = state.late.iter().rposition(is_it).and_then(|at| state.late.remove(at));
            let settled = || Owed::settled(Answer::new(Ack::Received, packet_id));
            state.owed.push_back(late.unwrap_or_else(settled));
        }
        drop(state);
        self.told.notify_waiters();
    }

    /// What tells of a message that came before and that readers still have.
    pub fn again(&self, publication: &Publication) -> Option<Receipt> {
        let mut state = self.lock();
        let is_it =
            |owed: &Owed| owed.publication.is_same(publication) && !owed.receipt.is_settled();
        let at = state.late.iter().position(is_it)?;
        state.late.remove(at).map(|owed| owed.receipt)
    }

    /// Owes an acknowledgement, once its readers have settled a message.
    pub fn owe(&self, answer: Answer, publication: Publication, receipt: Receipt) {
        self.lock().owed.push_back(Owed { answer, publication, receipt });
        self.told.notify_waiters();
    }

    /// Owes an acknowledgement that waits for those before it alone.
    pub fn owe_settled(&self, answer: Answer) {
        self.lock().owed.push_back(Owed::settled(answer));
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
    pub fn pay(&self, holder: u64, version: Version) -> Paid {
        let mut state = self.lock();
        if state.holders != holder {
            return Paid::default();
        }
        let mut received = Vec::new();
        let mut paid = Writer { version, bytes: mem::take(&mut state.answers) };
        while state.owed.front().is_some_and(|owed| owed.receipt.is_settled()) {
            let Some(owed) = state.owed.pop_front() else { break };
            let Answer { kind, id, code } = owed.answer;
            paid.ack(kind, id, code);
            received.extend(owed.is_received().then_some(id));
        }
        state.late.retain(|owed| !owed.receipt.is_settled());
        drop(state);
        self.room.notify_one();
        Paid { bytes: paid.bytes, received }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole, so a panic elsewhere does not matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owed {
    /// Nobody is waited for.
    fn settled(answer: Answer) -> Owed {
        Owed { answer, publication: Publication::new("", ""), receipt: Receipt(Weak::new()) }
    }

    /// Says that a message of QoS 2 was taken.
    fn is_received(&self) -> bool {
        self.answer.kind == Ack::Received && self.answer.code == code::SUCCESS
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
