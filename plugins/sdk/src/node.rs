//! The traits a node implements. One trait, one node; everything hard is the engine's.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::time::Instant;

use crate::{
    clock::Now,
    connection::{Connection, DynConnection, Shared},
    emitter::Emitter,
    held::Saved,
    message::Message,
    outlet::Outlet,
};

/// How long one connect or one write of a sink may take, unless its
/// [`crate::Capabilities::longest_try`] says otherwise. Then the engine breaks it off.
pub const LONGEST_TRY: Duration = Duration::from_secs(120);
/// The longest pause before another try, whatever the other side asks for.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Brings messages in.
pub trait Source: Send + 'static {
    /// Connects and emits until the other side hangs up.
    ///
    /// The engine calls this again, after a pause that grows, whenever it returns, and drops the
    /// future to stop the node. Neither needs code here.
    fn run(&mut self, out: &Outlet) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// What the node remembers, as data, for its successor. Asked for when the node is stopped, after its
    /// future was dropped.
    fn save(&mut self) -> Option<Saved> {
        None
    }
}

/// A message on its way into a transform.
#[derive(Clone, Debug)]
pub struct Input {
    /// What came.
    pub message: Message,
    /// By which entry of `from:` it came, as written there: `meter`, or `route.high`.
    pub from: Arc<str>,
}

/// Turns one message into none, one or many. Does no I/O, and never waits.
///
/// A node that keeps a message for later takes the promise to deliver it ([`Emitter::hold`]), keeps
/// it beside the value, and gives it to what leaves ([`Emitter::emit_held`]). What a node remembers
/// from one message to the next it writes down in [`Transform::save`], and reads from
/// [`crate::Site::remembered`] when it is made.
pub trait Transform: Send + 'static {
    /// Handles one message. After an error nothing of what it emitted is sent, and the message goes
    /// to the node's `errors` output.
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()>;

    /// When [`Transform::wake`] is to be called; None for never. Asked after each call.
    fn wake_at(&self) -> Option<Instant> {
        None
    }

    /// The moment of [`Transform::wake_at`] has come. For nodes that emit by the clock and not by
    /// their input.
    fn wake(&mut self, _now: Now, _out: &mut Emitter) -> anyhow::Result<()> {
        Ok(())
    }

    /// Somebody set the wall clock, or moved it. For nodes whose [`Transform::wake_at`] follows it.
    fn clock_was_moved(&mut self, _now: Now, _out: &mut Emitter) -> anyhow::Result<()> {
        Ok(())
    }

    /// What the node remembers: as data, with the promises that belong to it. None when it
    /// remembers nothing.
    ///
    /// Asked for when the node is replaced, and, as long as it is small ([`SMALL_STATE`]), after each
    /// message: a node that panics is made anew with what it remembered before that message.
    fn save(&self) -> Option<Saved> {
        None
    }
}

/// State of no more values than this is written down after each message. A node with more goes on,
/// after a panic, with what it remembers by then.
pub const SMALL_STATE: usize = 64;

/// Takes messages out.
pub trait Sink: Send + 'static {
    /// Makes the other side ready to be written to. Called before the first write and again
    /// after a write that is to be retried.
    fn connect(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Returns once the other side has taken responsibility for the whole batch.
    ///
    /// The engine keeps the messages until then. It may drop the future at any `await`, and will
    /// write the same messages again; but not those of a sink that says it must not repeat
    /// ([`crate::Capabilities::repeats`]).
    ///
    /// What the other side answers goes to `out`, to one of the node's outputs. The message counts
    /// as delivered once the answer is on its way.
    fn write(
        &mut self,
        batch: &[Message],
        out: &mut Emitter,
    ) -> impl Future<Output = Result<Written, WriteError>> + Send;

    /// The engine has stopped waiting for a write. What might still answer it must be cut off, so
    /// that a late answer is not taken for that of another write. [`Sink::connect`] comes next.
    fn break_off(&mut self) {}

    /// What the node remembers, as data, for its successor. Asked for when the node is stopped, after its
    /// future was dropped.
    fn save(&mut self) -> Option<Saved> {
        None
    }
}

/// What a write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes that went over the wire for it, without those of TCP and TLS. None when nobody knows.
    pub wire_bytes: Option<u64>,
}

impl Written {
    /// So many bytes went over the wire.
    pub fn bytes(bytes: usize) -> Written {
        Written { wire_bytes: Some(bytes as u64) }
    }
}

/// Why a batch was not written.
#[derive(Debug)]
pub enum WriteError {
    /// The other side may take the rest of the batch later. The engine waits, connects and writes
    /// it again. From a sink that must not repeat: nothing of it can have happened.
    Retry {
        /// What went wrong.
        error: anyhow::Error,
        /// How long the other side asked to be left alone; [`LONGEST_PAUSE`] at most. The engine's
        /// back-off when None.
        after: Option<Duration>,
        /// How many messages at the front of the batch the other side has taken.
        taken: usize,
    },
    /// The other side took nothing of the batch and never will. The engine halves the batch to
    /// find the messages at fault, and sends those to the node's `errors` output.
    Reject(anyhow::Error),
    /// The other side has dealt with the messages at the front of the batch: it took them, but for
    /// some that it never will. Those go to the node's `errors` output, and the rest of the batch is
    /// written next.
    RejectSome {
        /// How many messages at the front it has dealt with. At least one, or it is a `Retry`.
        dealt_with: usize,
        /// Which of them it refused, in order, and why.
        refused: Vec<(usize, anyhow::Error)>,
    },
    /// Nobody knows whether the other side did what it was asked to. Only from sinks that must not
    /// repeat: the message goes to the node's `errors` output as one in doubt.
    InDoubt(anyhow::Error),
}

impl WriteError {
    /// Worth another try, after the engine's back-off.
    pub fn retry(error: impl Into<anyhow::Error>) -> WriteError {
        WriteError::Retry { error: error.into(), after: None, taken: 0 }
    }

    /// Not worth another try.
    pub fn reject(error: impl Into<anyhow::Error>) -> WriteError {
        WriteError::Reject(error.into())
    }

    /// It may have happened, or not.
    pub fn in_doubt(error: impl Into<anyhow::Error>) -> WriteError {
        WriteError::InDoubt(error.into())
    }

    /// The other side has taken this many messages of the batch.
    pub fn taken(self, taken: usize) -> WriteError {
        match self {
            WriteError::Retry { error, after, .. } => WriteError::Retry { error, after, taken },
            other => other,
        }
    }
}

/// `?` in a sink means "try again", so forgetting to classify an error loses nothing. A sink that
/// must not repeat has to say of each error what it means.
impl<E: Into<anyhow::Error>> From<E> for WriteError {
    fn from(error: E) -> WriteError {
        WriteError::retry(error)
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
    /// See [`Source::save`].
    fn save(&mut self) -> Option<Saved>;
}

/// [`Sink`] as an object.
pub trait DynSink: Send {
    /// See [`Sink::connect`].
    fn connect(&mut self) -> BoxFuture<'_, anyhow::Result<()>>;
    /// See [`Sink::write`].
    fn write<'a>(
        &'a mut self,
        batch: &'a [Message],
        out: &'a mut Emitter,
    ) -> BoxFuture<'a, Result<Written, WriteError>>;
    /// See [`Sink::break_off`].
    fn break_off(&mut self);
    /// See [`Sink::save`].
    fn save(&mut self) -> Option<Saved>;
}

impl<T: Source> DynSource for T {
    fn run<'a>(&'a mut self, out: &'a Outlet) -> BoxFuture<'a, anyhow::Result<()>> {
        Source::run(self, out).boxed()
    }

    fn save(&mut self) -> Option<Saved> {
        Source::save(self)
    }
}

impl<T: Sink> DynSink for T {
    fn connect(&mut self) -> BoxFuture<'_, anyhow::Result<()>> {
        Sink::connect(self).boxed()
    }

    fn write<'a>(
        &'a mut self,
        batch: &'a [Message],
        out: &'a mut Emitter,
    ) -> BoxFuture<'a, Result<Written, WriteError>> {
        Sink::write(self, batch, out).boxed()
    }

    fn break_off(&mut self) {
        Sink::break_off(self);
    }

    fn save(&mut self) -> Option<Saved> {
        Sink::save(self)
    }
}
