//! What comes in on a session, and who reads it.
//!
//! The task that owns the connection must never wait for a reader: it also carries the
//! acknowledgements of every sink. So each reader has a bounded queue here, and a message that finds
//! it full is refused.

mod state;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use forebay_sdk::connection::Publication;
use rumqttc::{AsyncClient, Publish};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use self::state::{Item, Reader, State};
use crate::topic::Filter;

/// The readers of one session, and what they have not settled yet.
pub struct Inbound {
    state: Mutex<State>,
    changed: Notify,
}

/// How the broker took a reader's subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not answered yet, or not connected.
    Asked,
    /// Messages come.
    Granted,
    /// This filter was refused.
    Refused(String),
}

/// What the session should be subscribed to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Filters with the highest QoS that anybody asks for.
    pub filters: BTreeMap<String, u8>,
    /// Filters that nobody asks for at the moment, and that stay.
    pub kept: Vec<String>,
    /// When this changes by itself.
    pub until: Option<Instant>,
}

impl Inbound {
    pub fn new() -> Arc<Inbound> {
        Arc::new(Inbound { state: Mutex::new(State::new()), changed: Notify::new() })
    }

    /// Adds a reader. It gets what a reader of the same node left behind, and what nobody was
    /// there to read.
    pub fn register(
        self: &Arc<Inbound>,
        node: Arc<str>,
        filters: Vec<Filter>,
        qos: u8,
        most: usize,
    ) -> Inlet {
        let (standing_in, standing) = watch::channel(Standing::Asked);
        let arrived = Arc::new(Notify::new());
        let mut state = self.lock();
        let id = state.next_reader;
        state.next_reader += 1;
        let named = Arc::clone(&node);
        state.readers.push(Reader::new(id, named, filters, qos, most, &arrived, standing_in));
        state.take_up_waiting();
        drop(state);
        self.changed.notify_one();
        Inlet { inbound: Arc::clone(self), reader: id, node, arrived, standing }
    }

    /// A connection begins. `resumed` when the broker remembers the session.
    pub fn began(&self, client: AsyncClient, resumed: bool) {
        self.lock().begin(client, resumed);
    }

    /// The connection ended.
    pub fn ended(&self) {
        self.lock().client = None;
    }

    /// Takes in a message. An error ends the connection, so that the broker sends it again.
    pub fn arrived(&self, publish: &Publish) -> anyhow::Result<()> {
        let publication = Publication {
            topic: String::from_utf8_lossy(&publish.topic).into(),
            payload: publish.payload.clone(),
            qos: publish.qos as u8,
            retain: publish.retain,
        };
        self.lock().take_in(publication, publish.pkid, publish.dup)
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
        self.lock().wanted(Instant::now())
    }

    /// Resolves when [`Inbound::wanted`] may have changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Tells the readers what the broker granted, and what it refused.
    pub fn answered(&self, granted: &BTreeMap<String, u8>, refused: &[String]) {
        for reader in &self.lock().readers {
            reader.standing.send_if_modified(|standing| {
                let asks = |filter: &&String| reader.filters.iter().any(|f| f.as_str() == *filter);
                let now = match refused.iter().find(asks) {
                    Some(filter) => Standing::Refused(filter.clone()),
                    None if reader.filters.iter().all(|f| granted.contains_key(f.as_str())) => {
                        Standing::Granted
                    }
                    None => standing.clone(),
                };
                std::mem::replace(standing, now) != *standing
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below leaves the state whole, so a panic elsewhere does not matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a reader takes messages from. Dropping it leaves what is not settled to the reader that
/// takes its place.
pub struct Inlet {
    inbound: Arc<Inbound>,
    reader: u64,
    node: Arc<str>,
    arrived: Arc<Notify>,
    standing: watch::Receiver<Standing>,
}

/// A message, and what to do once it is delivered.
pub struct Parcel {
    /// What the broker sent.
    pub publication: Publication,
    /// The broker sent it before.
    pub again: bool,
    /// To be settled.
    pub claim: Claim,
}

impl Inlet {
    /// The next message. Dropping the future loses nothing.
    pub async fn next(&self) -> Parcel {
        loop {
            if let Some(parcel) = self.take() {
                return parcel;
            }
            self.arrived.notified().await;
        }
    }

    /// How the broker took the subscriptions, as it changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Subscribes again after a refusal.
    pub fn ask_again(&self) {
        let mut state = self.inbound.lock();
        let Some(reader) = state.readers.iter().find(|r| r.id == self.reader) else { return };
        let refused = reader.standing.send_if_modified(|standing| {
            let refused = matches!(standing, Standing::Refused(_));
            if refused {
                *standing = Standing::Asked;
            }
            refused
        });
        if refused {
            state.take_up_waiting();
            self.inbound.changed.notify_one();
        }
    }

    fn take(&self) -> Option<Parcel> {
        let mut state = self.inbound.lock();
        let reader = state.readers.iter_mut().find(|r| r.id == self.reader)?;
        let item = reader.claim()?;
        let (publication, again) = (item.publication.clone(), item.again);
        let claim = Claim {
            inbound: Arc::clone(&self.inbound),
            reader: self.reader,
            node: Arc::clone(&self.node),
            item: Some(item),
        };
        Some(Parcel { publication, again, claim })
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.inbound.lock().depart(self.reader);
        self.inbound.changed.notify_one();
    }
}

/// A reader's promise to deliver a message. Dropping it gives the message back.
pub struct Claim {
    inbound: Arc<Inbound>,
    reader: u64,
    node: Arc<str>,
    item: Option<Item>,
}

impl Claim {
    /// The message is delivered: the broker may be told.
    pub fn settle(mut self) {
        if let Some(item) = self.item.take() {
            self.inbound.lock().settle(self.reader, item.arrival);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            self.inbound.lock().give_back(self.reader, &self.node, item);
            self.inbound.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
