//! The traits a node implements. One trait, one node; everything hard is the engine's.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::time::Instant;

use crate::{
    connection::{Connection, DynConnection, Shared},
    message::Message,
    outlet::Outlet,
};

/// Brings messages in.
pub trait Source: Send + 'static {
    /// Connects and emits until the other side hangs up.
    ///
    /// The engine calls this again, after a pause that grows, whenever it returns, and drops the
    /// future to stop the node. Neither needs code here.
    fn run(&mut self, out: &Outlet) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Turns one message into none, one or many. Does no I/O.
pub trait Transform: Send + 'static {
    /// Handles one message. An error sends the message to the node's `errors` output.
    fn apply(&mut self, message: Message, out: &mut Emitter) -> anyhow::Result<()>;

    /// How often [`Transform::tick`] is to be called; None for never.
    fn tick_every(&self) -> Option<Duration> {
        None
    }

    /// For nodes that emit by the clock and not by their input.
    fn tick(&mut self, _now: Instant, _out: &mut Emitter) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Takes messages out.
pub trait Sink: Send + 'static {
    /// Makes the other side ready to be written to. Called before the first write and again
    /// after a write that is to be retried.
    fn connect(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Returns once the other side has taken responsibility for the whole batch.
    ///
    /// The engine keeps the messages until then. It may drop the future at any `await`, and will
    /// write the same messages again.
    fn write(&mut self, batch: &[Message]) -> impl Future<Output = Result<(), WriteError>> + Send;
}

/// Why a batch was not written.
#[derive(Debug)]
pub enum WriteError {
    /// The other side may take the batch later. The engine waits, connects and writes it again.
    Retry {
        /// What went wrong.
        error: anyhow::Error,
        /// How long the other side asked to be left alone. The engine's back-off when None.
        after: Option<Duration>,
    },
    /// The other side took nothing of the batch and never will. The engine halves the batch to
    /// find the messages at fault, and sends those to the node's `errors` output.
    Reject(anyhow::Error),
}

impl WriteError {
    /// Worth another try, after the engine's back-off.
    pub fn retry(error: impl Into<anyhow::Error>) -> WriteError {
        WriteError::Retry { error: error.into(), after: None }
    }

    /// Not worth another try.
    pub fn reject(error: impl Into<anyhow::Error>) -> WriteError {
        WriteError::Reject(error.into())
    }
}

/// `?` in a sink means "try again", so forgetting to classify an error loses nothing.
impl<E: Into<anyhow::Error>> From<E> for WriteError {
    fn from(error: E) -> WriteError {
        WriteError::retry(error)
    }
}

/// An output of a node, by number: [`Port::MAIN`], [`Port::ERRORS`], then the named ones in the
/// order of [`crate::Settings::outputs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u16);

impl Port {
    /// Where messages go unless a node says otherwise.
    pub const MAIN: Port = Port(0);
    /// Where a message goes that the node could not handle.
    pub const ERRORS: Port = Port(1);

    /// The port of the output that stands at `index` in [`crate::Settings::outputs`].
    pub fn named(index: usize) -> Port {
        let index = u16::try_from(index).unwrap_or(u16::MAX - 2);
        Port(index + 2)
    }
}

/// Collects what a transform makes of one message.
#[derive(Default)]
pub struct Emitter {
    emitted: Vec<(Port, Message)>,
    holds: bool,
}

impl Emitter {
    /// Sends a message on.
    pub fn emit(&mut self, message: Message) {
        self.emit_to(Port::MAIN, message);
    }

    /// Sends a message to one of the node's outputs.
    pub fn emit_to(&mut self, port: Port, message: Message) {
        self.emitted.push((port, message));
    }

    /// Keeps the source of this message waiting until a later message leaves the node: for nodes
    /// that make one message out of many. What is emitted together with it carries the messages
    /// that were held before.
    pub fn hold(&mut self) {
        self.holds = true;
    }

    /// Whether the message at hand lives on inside the node.
    pub fn holds(&self) -> bool {
        self.holds
    }

    /// Whether nothing was emitted.
    pub fn is_empty(&self) -> bool {
        self.emitted.is_empty()
    }

    /// Takes out what was emitted, in order, and forgets that anything was held.
    pub fn drain(&mut self) -> impl Iterator<Item = (Port, Message)> + '_ {
        self.holds = false;
        self.emitted.drain(..)
    }
}

/// A node or connection of any kind, ready to run.
pub enum Node {
    /// Brings messages in.
    Source(Box<dyn DynSource>),
    /// Turns messages into others.
    Transform(Box<dyn Transform>),
    /// Takes messages out.
    Sink(Box<dyn DynSink>),
    /// What several nodes share, and the task that serves it.
    Connection(Shared, Box<dyn DynConnection>),
}

impl Node {
    /// Boxes a source.
    pub fn source(node: impl Source) -> Node {
        Node::Source(Box::new(node))
    }

    /// Boxes a transform.
    pub fn transform(node: impl Transform) -> Node {
        Node::Transform(Box::new(node))
    }

    /// Boxes a sink.
    pub fn sink(node: impl Sink) -> Node {
        Node::Sink(Box::new(node))
    }

    /// Boxes a connection. `shared` is what the nodes that use it get to see.
    pub fn connection(shared: Shared, connection: impl Connection) -> Node {
        Node::Connection(shared, Box::new(connection))
    }
}

// An `async fn` in a trait object needs a box; that happens once, here.

/// [`Source`] as an object.
pub trait DynSource: Send {
    /// See [`Source::run`].
    fn run<'a>(&'a mut self, out: &'a Outlet) -> BoxFuture<'a, anyhow::Result<()>>;
}

/// [`Sink`] as an object.
pub trait DynSink: Send {
    /// See [`Sink::connect`].
    fn connect(&mut self) -> BoxFuture<'_, anyhow::Result<()>>;
    /// See [`Sink::write`].
    fn write<'a>(&'a mut self, batch: &'a [Message]) -> BoxFuture<'a, Result<(), WriteError>>;
}

impl<T: Source> DynSource for T {
    fn run<'a>(&'a mut self, out: &'a Outlet) -> BoxFuture<'a, anyhow::Result<()>> {
        Source::run(self, out).boxed()
    }
}

impl<T: Sink> DynSink for T {
    fn connect(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        Sink::connect(self).boxed()
    }

    fn write<'a>(&'a mut self, batch: &'a [Message]) -> BoxFuture<'a, Result<(), WriteError>> {
        Sink::write(self, batch).boxed()
    }
}
