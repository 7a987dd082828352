//! What comes in on a session, and who reads it.
//!
//! The task that owns the connection must never wait for a reader: it also carries the
//! acknowledgements of every sink. So each reader has a bounded queue here, and when one is full
//! nothing more is read from the broker ([`crate::gate`]).

mod kept;
mod state;
mod subscriptions;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use forebay_sdk::{
    Voice,
    mqtt::{Claim, Event, Manner, Parcel, Publication, Subscribe, Subscription},
};
use tokio::{sync::Notify, time::Instant};

use self::state::{Item, Next, State};
pub use self::{
    state::{Answers, Full, Wanted, Wish},
    subscriptions::number,
};
use crate::{client::Client, gate::Gate};

/// The readers of one session, and what they have not settled yet.
pub struct Inbound {
    state: Mutex<State>,
    changed: Notify,
    /// Closed as long as a reader is full.
    pub gate: Arc<Gate>,
}

impl Inbound {
    /// Without readers. `voice` hears of what is dropped.
    pub fn new(voice: Voice) -> Arc<Inbound> {
        let state = Mutex::new(State::new(voice));
        Arc::new(Inbound { state, changed: Notify::new(), gate: Arc::default() })
    }

    /// Adds a reader. It gets what a reader of the same name left behind, and what nobody was
    /// there to read.
    pub fn register(self: &Arc<Inbound>, wish: Subscribe) -> Inlet {
        let reader = self.with(|state| state.register(wish));
        self.changed.notify_one();
        Inlet { inbound: Arc::clone(self), reader }
    }

    /// A connection begins. `resumed` when the broker remembers the session.
    pub fn began(&self, client: Client, resumed: bool) {
        let mut state = self.lock();
        state.begin(resumed);
        state.client = Some(client);
    }

    /// The connection ended.
    pub fn ended(&self) {
        self.lock().client = None;
    }

    /// Takes in a message. An error ends the connection, so that the broker sends it again.
    pub fn arrived(
        &self,
        publication: Publication,
        packet: u16,
        again: bool,
        by: &[u32],
    ) -> Result<(), Full> {
        self.with(|state| state.take_in(publication, packet, again, by))
    }

    /// The broker is asked for these filters under this number, on behalf of these readers.
    pub fn numbered(
        &self,
        number: u32,
        filters: &[(String, Manner)],
        readers: &BTreeSet<Arc<str>>,
    ) {
        let filters = filters.iter().map(|(filter, _)| filter.as_str());
        self.lock().subscriptions.add(number, filters, readers);
    }

    /// Acknowledges a message that was too large, of which nobody has the payload.
    pub fn beheaded(&self, publication: Publication, packet: u16, again: bool) {
        self.with(|state| state.acknowledge(publication, packet, again));
    }

    /// The broker has taken a message of ours, of which we get a copy when we ask for it.
    pub fn published(&self, publication: &Publication) {
        self.lock().published(publication);
    }

    /// The same, when only what is kept comes back of it.
    pub fn published_apart(&self, publication: &Publication) {
        self.lock().published_apart(publication);
    }

    /// The broker has released a message of QoS 2.
    pub fn released(&self, packet: u16) {
        self.lock().ledger.released(packet);
    }

    /// Sends the acknowledgements that are due, as far as there is room.
    pub fn send_acks(&self) {
        self.lock().send_acks();
    }

    /// What the session should be subscribed to now. Also drops what waited for too long.
    pub fn wanted(&self) -> Wanted {
        self.with(|state| state.wanted(Instant::now()))
    }

    /// Resolves when [`Inbound::wanted`] may have changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Tells the readers what the broker granted, and what it refused.
    pub fn answered(&self, answers: &Answers) {
        self.lock().answered(answers);
    }

    /// Changes the state, and whether more is read.
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let was_full = state.is_full();
        let outcome = change(&mut state);
        match (was_full, state.is_full()) {
            (false, true) => self.gate.close(),
            (true, false) => self.gate.open(),
            _ => (),
        }
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole, so a panic elsewhere does not matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a reader takes messages from. Dropping it leaves what is not settled to the reader that
/// takes its place.
pub struct Inlet {
    inbound: Arc<Inbound>,
    reader: u64,
}

impl Subscription for Inlet {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let next = self.inbound.with(|state| state.next(self.reader, context.waker()));
        match next {
            None => Poll::Pending,
            Some(Next::Told(event)) => Poll::Ready(event),
            Some(Next::Item(item, node)) => Poll::Ready(Event::Parcel(self.parcel(item, node))),
        }
    }
}

impl Inlet {
    fn parcel(&self, item: Item, node: Arc<str>) -> Parcel {
        let (mut publication, again) = (item.publication.clone(), item.again);
        publication.is_known = item.is_known;
        // Nobody waits to hear how a message of QoS 0 ends.
        let claim = item.arrival.is_some().then(|| {
            let (inbound, reader) = (Arc::clone(&self.inbound), self.reader);
            Box::new(Taken { inbound, reader, node, item: Some(item) }) as Box<dyn Claim>
        });
        Parcel { publication, again, claim }
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.inbound.with(|state| state.depart(self.reader));
        self.inbound.changed.notify_one();
    }
}

/// A reader's promise to deliver a message.
struct Taken {
    inbound: Arc<Inbound>,
    reader: u64,
    node: Arc<str>,
    item: Option<Item>,
}

impl Claim for Taken {
    fn settle(mut self: Box<Self>) {
        if let Some(item) = self.item.take() {
            self.inbound.with(|state| state.settle(self.reader, item.arrival));
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            self.inbound.with(|state| state.give_back(self.reader, &self.node, item));
            self.inbound.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
