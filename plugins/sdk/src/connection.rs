//! What several nodes share: one bus, one broker session.

use std::{any::Any, fmt, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt};

use crate::voice::Voice;

/// Something that nodes share, such as a bus or a session. The engine builds it once per name,
/// keeps it across reloads that do not change it, and restarts the nodes that use it when they do.
pub trait Connection: Send + 'static {
    /// Opens the connection and serves the nodes that share it, until the other side hangs up.
    ///
    /// The engine calls this again, after a pause that grows, whenever it returns, and drops the
    /// future to stop it. A connection that panics is built anew, and the nodes that use it too.
    ///
    /// The pause starts small again once the connection was any good: when it lasted for twenty
    /// seconds after [`Voice::ready`], or said [`Voice::works`].
    fn run(&mut self, voice: &Voice) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Says good-bye to the other side, after `run` was dropped for good. Has a second at most.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// A sink's error when its connection is down. The connection says itself what is wrong, so nobody
/// writes that into the log a second time. The engine calls [`crate::Sink::connect`] at once, which
/// waits for the connection, where other errors are followed by a pause.
#[derive(Clone, Debug)]
pub struct Down(Arc<str>);

impl Down {
    /// With what is wrong.
    pub fn new(why: impl Into<Arc<str>>) -> Down {
        Down(why.into())
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Down {}

/// A connection's error when the other side will not have us, and will not until a person has mended
/// something: a password, a certificate, a name that somebody else uses. The engine's pauses grow to
/// minutes.
#[derive(Clone, Debug)]
pub struct Refused(Arc<str>);

impl Refused {
    /// With what is to be mended.
    pub fn new(why: impl Into<Arc<str>>) -> Refused {
        Refused(why.into())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refused {}

/// [`Connection`] as an object.
pub trait DynConnection: Send {
    /// See [`Connection::run`].
    fn run<'a>(&'a mut self, voice: &'a Voice) -> BoxFuture<'a, anyhow::Result<()>>;
    /// See [`Connection::close`].
    fn close(&mut self) -> BoxFuture<'_, ()>;
}

impl<T: Connection> DynConnection for T {
    fn run<'a>(&'a mut self, voice: &'a Voice) -> BoxFuture<'a, anyhow::Result<()>> {
        Connection::run(self, voice).boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Connection::close(self).boxed()
    }
}

/// What the nodes of a connection get to see of it. Cloning shares it.
#[derive(Clone)]
pub struct Shared {
    part: Arc<dyn Any + Send + Sync>,
    other: Option<Arc<dyn Any + Send + Sync>>,
}

impl Shared {
    /// Shares `part` among all nodes that use the connection.
    pub fn new<T: Any + Send + Sync>(part: Arc<T>) -> Shared {
        Shared { part, other: None }
    }

    /// Shares another part beside it, of another type, for nodes that know the connection only by that.
    pub fn also<T: Any + Send + Sync>(self, other: Arc<T>) -> Shared {
        Shared { other: Some(other), ..self }
    }

    /// The shared part that is a `T`, when one is.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let parts = [Some(&self.part), self.other.as_ref()];
        parts.into_iter().flatten().find_map(|part| Arc::clone(part).downcast().ok())
    }
}
