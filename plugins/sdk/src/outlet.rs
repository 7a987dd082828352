//! Where a source's messages go. The engine owns the wires behind it.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use crate::{
    delivery::{Delivery, Receipt},
    message::Message,
    node::Port,
};

const PAUSE_WHILE_DRAINING: Duration = Duration::from_millis(50);

/// A message on a wire, with the promise to deliver it when its source wants to know.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// What travels.
    pub message: Message,
    /// None when the source does not track the message.
    pub delivery: Option<Delivery>,
}

/// What an outlet stands on. The engine implements it; so do tests.
pub trait Wires: Send + Sync {
    /// Hands the envelope to every reader of `port`, without waiting. False when a reader has no
    /// room: its copy waits in a place that outlives the node, and the caller waits for `room`.
    fn post(&self, port: Port, envelope: Envelope) -> bool;

    /// Resolves once everything posted has found room.
    fn room(&self) -> BoxFuture<'_, ()>;

    /// True once the program is stopping and takes nothing new.
    fn draining(&self) -> bool;

    /// Counts and logs an error of the node, and posts it to the `errors` output.
    fn report(&self, error: &anyhow::Error, about: Option<Message>) -> bool;

    /// The node works: its pause after an error starts small again.
    fn ready(&self);
}

/// Where a source's messages go.
#[derive(Clone)]
pub struct Outlet {
    wires: Arc<dyn Wires>,
    node: Arc<str>,
}

impl Outlet {
    /// An outlet of the node called `node`.
    pub fn new(node: impl Into<Arc<str>>, wires: Arc<dyn Wires>) -> Outlet {
        Outlet { wires, node: node.into() }
    }

    /// The name of the node, as `pipeline/node`.
    pub fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// Sends a message on and waits for room downstream. For what cannot be read a second time.
    ///
    /// Dropping the future loses nothing. It never resolves once the program is stopping.
    pub async fn send(&self, message: Message) {
        if self.wires.draining() {
            return std::future::pending().await;
        }
        self.forward(message, None).await;
    }

    /// Sends a message on, waits for room, and returns a receipt that tells how it ended. Once the
    /// program is stopping nothing is taken, and after a short pause the receipt says so.
    pub async fn send_tracked(&self, message: Message) -> Receipt {
        let (delivery, receipt) = Delivery::track();
        match self.wires.draining() {
            false => self.forward(message, Some(delivery)).await,
            // A source that tries again at once would keep everybody else from finishing.
            true => tokio::time::sleep(PAUSE_WHILE_DRAINING).await,
        }
        receipt
    }

    /// Reports an error that does not end the source, such as a device that does not answer. It is
    /// counted, logged, and sent to the node's `errors` output.
    pub async fn error(&self, error: &anyhow::Error, about: Option<Message>) {
        if !self.wires.report(error, about) {
            self.wires.room().await;
        }
    }

    /// Says that the other side is there: the engine's pause after the next error starts small.
    pub fn ready(&self) {
        self.wires.ready();
    }

    async fn forward(&self, mut message: Message, delivery: Option<Delivery>) {
        message.meta.source.get_or_insert_with(|| Arc::clone(&self.node));
        if !self.wires.post(Port::MAIN, Envelope { message, delivery }) {
            self.wires.room().await;
        }
    }
}
