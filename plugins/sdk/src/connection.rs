//! What several nodes share: one bus, one broker session.

use std::{any::Any, sync::Arc};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::mpsc;

/// Something that nodes share, such as a bus or a session. The engine builds it once per name,
/// keeps it across reloads that do not change it, and restarts the nodes that use it when they do.
pub trait Connection: Send + 'static {
    /// Opens the connection and serves the nodes that share it, until the other side hangs up.
    ///
    /// The engine calls this again, after a pause that grows, whenever it returns, and drops the
    /// future to stop it. `ready` tells the engine that the other side is there.
    fn run(
        &mut self,
        ready: &(dyn Fn() + Send + Sync),
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Says good-bye to the other side, after `run` was dropped for good. Has a second at most.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// [`Connection`] as an object.
pub trait DynConnection: Send {
    /// See [`Connection::run`].
    fn run<'a>(
        &'a mut self,
        ready: &'a (dyn Fn() + Send + Sync),
    ) -> BoxFuture<'a, anyhow::Result<()>>;
    /// See [`Connection::close`].
    fn close(&mut self) -> BoxFuture<'_, ()>;
}

impl<T: Connection> DynConnection for T {
    fn run<'a>(
        &'a mut self,
        ready: &'a (dyn Fn() + Send + Sync),
    ) -> BoxFuture<'a, anyhow::Result<()>> {
        Connection::run(self, ready).boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Connection::close(self).boxed()
    }
}

/// What the nodes of a connection get to see of it. Cloning shares it.
#[derive(Clone)]
pub struct Shared(Arc<dyn Any + Send + Sync>);

impl Shared {
    /// Shares `part` among all nodes that use the connection.
    pub fn new<T: Any + Send + Sync>(part: Arc<T>) -> Shared {
        Shared(part)
    }

    /// The shared part, when it is a `T`.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(&self.0).downcast().ok()
    }
}

/// A broker in this process. A connection offers it as `Shared::new(Arc::new(LocalBroker(..)))`,
/// so the nodes that publish and subscribe need not know whose broker it is.
pub struct LocalBroker(pub Arc<dyn PubSub>);

/// Publish and subscribe without a network in between.
pub trait PubSub: Send + Sync + 'static {
    /// Resolves once the broker has taken responsibility for the publication.
    fn publish(&self, publication: Publication) -> BoxFuture<'_, anyhow::Result<()>>;

    /// Subscribes to topic filters (MQTT 3.1.1 section 4.7). Retained publications come first.
    /// At most `capacity` publications wait to be read. Dropping the subscription ends it.
    fn subscribe(
        &self,
        filters: Vec<String>,
        qos: u8,
        capacity: usize,
    ) -> BoxFuture<'_, anyhow::Result<Subscription>>;
}

/// One publication, on its way to or from a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Without wildcards.
    pub topic: Arc<str>,
    /// Opaque to the broker.
    pub payload: Bytes,
    /// 0, 1 or 2.
    pub qos: u8,
    /// On its way to a broker: keep it for later subscribers. From a broker: it was kept.
    pub retain: bool,
}

/// The publications that match a subscription, until it is dropped or the broker stops.
pub type Subscription = mpsc::Receiver<Publication>;
