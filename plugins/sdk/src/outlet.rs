//! Where a source's messages go. The engine owns the wires behind it.

#[cfg(all(test, feature = "testing"))]
mod tests;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::sleep;

use crate::{
    delivery::{Delivery, Outcome, Receipt},
    envelope::{Envelope, Port},
    message::Message,
};

const PAUSE_WHILE_DRAINING: Duration = Duration::from_millis(50);
/// The pause before a message that was lost downstream is sent on again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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
        self.send_to(Port::MAIN, message).await;
    }

    /// The same, to one of the node's outputs.
    pub async fn send_to(&self, port: Port, message: Message) {
        if self.wires.draining() {
            return std::future::pending().await;
        }
        self.forward(port, message, None).await;
    }

    /// The same of several messages, which leave in one step: none without the others.
    pub async fn send_all(&self, messages: impl IntoIterator<Item = (Port, Message)>) {
        if self.wires.draining() {
            return std::future::pending().await;
        }
        let mut had_room = true;
        for (port, message) in messages {
            had_room &= self.post(port, message, None);
        }
        if !had_room {
            self.wires.room().await;
        }
    }

    /// Sends a message on, waits for room, and returns a receipt that tells how it ended. Once the
    /// program is stopping nothing is taken, and after a short pause the receipt says so.
    pub async fn send_tracked(&self, message: Message) -> Receipt {
        let (delivery, receipt) = Delivery::track();
        match self.wires.draining() {
            false => self.forward(Port::MAIN, message, Some(delivery)).await,
            // A source that tries again at once would keep everybody else from finishing.
            true => sleep(PAUSE_WHILE_DRAINING).await,
        }
        receipt
    }

    /// Sends a message on, and again for as long as it is lost on the way; resolves once it is
    /// delivered. For sources whose other side keeps a message until then. How many of these may be
    /// under way at once is the source's bound.
    pub async fn deliver(&self, message: Message) {
        let kept = message.kept();
        let receipt = self.send_tracked(message).await;
        self.see_delivered(kept, receipt).await;
    }

    /// The second half of [`Outlet::deliver`], for a source that keeps order: it sends one message
    /// after the other, and sees to all of them at once. `kept` is the message once more, by
    /// [`Message::kept`].
    pub async fn see_delivered(&self, kept: Message, mut receipt: Receipt) {
        let mut pause = FIRST_PAUSE;
        while receipt.await == Outcome::Lost {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            receipt = self.send_tracked(kept.clone()).await;
        }
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

    async fn forward(&self, port: Port, message: Message, delivery: Option<Delivery>) {
        if !self.post(port, message, delivery) {
            self.wires.room().await;
        }
    }

    fn post(&self, port: Port, mut message: Message, delivery: Option<Delivery>) -> bool {
        message.meta.source.get_or_insert_with(|| Arc::clone(&self.node));
        self.wires.post(port, Envelope::new(message, delivery))
    }
}
