//! Where a node's messages leave, and what the wires have not taken yet. It outlives the node too.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use forebay_sdk::{
    Delivery, Message, Port, Timestamp,
    outlet::{Envelope, Wires},
};
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};

use super::{
    inbox::{Inbox, Pushed},
    status::{Count, Status},
};
use crate::config::Name;

/// From one output of a node to the queue of another.
#[derive(Clone)]
pub struct Wire {
    pub port: Port,
    pub inbox: Arc<Inbox>,
}

/// The outputs of a node.
pub struct Outbox {
    node: Name,
    status: Arc<Status>,
    state: Mutex<State>,
    draining: AtomicBool,
    tracked: AtomicBool,
}

#[derive(Default)]
struct State {
    wires: Vec<Wire>,
    /// Posted, and no room yet. Bounded by what a node posts before it waits for room: the outputs
    /// of one message.
    pending: VecDeque<(Arc<Inbox>, Envelope)>,
}

impl Outbox {
    pub fn new(node: Name, status: Arc<Status>) -> Outbox {
        Outbox {
            node,
            status,
            state: Mutex::default(),
            draining: AtomicBool::new(false),
            tracked: AtomicBool::new(false),
        }
    }

    /// Replaces the wires. What waits for a reader that is gone is lost, and its source hears so.
    pub fn rewire(&self, wires: Vec<Wire>) {
        let mut state = self.state();
        state.pending.retain(|(inbox, _)| wires.iter().any(|wire| Arc::ptr_eq(&wire.inbox, inbox)));
        state.wires = wires;
    }

    /// From now on the node's outlet takes nothing new.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the node ever sent a message whose end it wants to know.
    pub fn has_tracked(&self) -> bool {
        self.tracked.load(Ordering::Acquire)
    }

    /// How many messages wait for room.
    pub fn len(&self) -> usize {
        self.state().pending.len()
    }

    /// Whether anybody reads the port.
    pub fn is_read(&self, port: Port) -> bool {
        self.state().wires.iter().any(|wire| wire.port == port)
    }

    /// Posts a message that the node could not handle to its `errors` output, counts and logs it.
    /// False when a reader has no room.
    pub fn post_error(
        &self,
        error: &anyhow::Error,
        about: Option<&Message>,
        delivery: Option<&Delivery>,
    ) -> bool {
        self.status.error(&self.node, error, self.is_read(Port::ERRORS));
        let topic =
            about.map_or_else(|| Arc::clone(&self.node), |message| Arc::clone(&message.topic));
        let mut message = Message::new(topic, complaint(&self.node, error, about));
        message.meta.source = Some(Arc::clone(&self.node));
        self.post(Port::ERRORS, Envelope { message, delivery: delivery.cloned() })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the lock is held")
    }

    /// Hands one copy to a reader. Gives it back when there is no room.
    fn push(&self, inbox: &Inbox, envelope: Envelope) -> Option<Envelope> {
        match inbox.push(envelope) {
            Pushed::Taken => None,
            Pushed::Full(envelope) => Some(envelope),
            Pushed::DroppedOldest | Pushed::DroppedNewest => {
                self.status.dropped(&self.node);
                None
            }
        }
    }
}

impl Wires for Outbox {
    fn post(&self, port: Port, envelope: Envelope) -> bool {
        let mut state = self.state();
        if envelope.delivery.is_some() {
            self.tracked.store(true, Ordering::Release);
        }
        if port != Port::ERRORS {
            self.status.add(Count::Emitted);
        }
        let State { wires, pending } = &mut *state;
        for wire in wires.iter().filter(|wire| wire.port == port) {
            // Behind what waits already, so that order is kept.
            let refused = match pending.is_empty() {
                true => self.push(&wire.inbox, envelope.clone()),
                false => Some(envelope.clone()),
            };
            pending.extend(refused.map(|envelope| (Arc::clone(&wire.inbox), envelope)));
        }
        // The copies carry the promise on; where nobody reads, there is nothing to promise.
        envelope.delivery.into_iter().for_each(Delivery::settle);
        pending.is_empty()
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        async {
            loop {
                let full = {
                    let mut state = self.state();
                    loop {
                        let Some((inbox, envelope)) = state.pending.pop_front() else { return };
                        if let Some(envelope) = self.push(&inbox, envelope) {
                            state.pending.push_front((Arc::clone(&inbox), envelope));
                            break inbox;
                        }
                    }
                };
                full.room().await;
            }
        }
        .boxed()
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn report(&self, error: &anyhow::Error, about: Option<Message>) -> bool {
        self.post_error(error, about.as_ref(), None)
    }

    fn ready(&self) {
        self.status.running(&self.node);
    }
}

/// What comes out of an `errors` output: all that is known, so that any sink can keep it.
fn complaint(node: &Name, error: &anyhow::Error, about: Option<&Message>) -> Value {
    let now = Timestamp::now().to_rfc3339();
    let mut complaint = json!({ "node": &**node, "error": format!("{error:#}"), "time": now });
    if let Some(message) = about {
        let payload = match message.payload.value() {
            Ok(value) => value.clone(),
            Err(_) => {
                let bytes = message.payload.to_bytes(forebay_sdk::Format::Bytes);
                String::from_utf8_lossy(&bytes).into_owned().into()
            }
        };
        complaint["message"] = json!({
            "topic": &*message.topic, "time": message.time.to_rfc3339(), "payload": payload,
        });
    }
    complaint
}
