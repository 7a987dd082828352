//! A node that runs outside of any graph: on messages that it is handed, or beat by beat.

use std::{
    future::poll_fn,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use anyhow::anyhow;
use forebay_sdk::Envelope;
use forebay_sdk::{
    Configured, Delivery, Emitter, Input, Links, Message, Node, Outlet, Port, Site, Transform,
    Voice, World, WriteError,
    node::{DynSink, DynSource},
    outlet::Wires,
};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::runtime::{Builder, Runtime};

/// Where its messages come from.
const INPUT: &str = "test";

/// The node, and the names of its outputs.
pub(super) struct Tried {
    node: Running,
    outputs: Vec<String>,
    /// Has the clock by which a source beats. Nothing else waits.
    runtime: Runtime,
}

enum Running {
    Transform(Box<dyn Transform>),
    Sink(Box<dyn DynSink>),
    Source(Box<dyn DynSource>),
}

impl Tried {
    /// Under a name, in a world. None for what is no node.
    pub(super) fn new(name: &str, configured: &dyn Configured, world: World) -> Option<Tried> {
        let runtime = Builder::new_current_thread().enable_time().build().ok()?;
        let site = Site {
            name: name.into(),
            folder: Path::new(".").into(),
            data: Path::new("no-data").into(),
            connection: None,
            inputs: Arc::new([INPUT.into()]),
            memory: None,
            world,
            voice: Voice::unheard(),
            links: Links::default(),
        };
        let inside = runtime.enter();
        let node = match configured.build(site) {
            Node::Transform(node) => Running::Transform(node),
            Node::Sink(node) => Running::Sink(node),
            Node::Source(node) => Running::Source(node),
            Node::Connection(..) => return None,
        };
        drop(inside);
        Some(Tried { node, outputs: configured.outputs(), runtime })
    }

    /// What comes of a message, each with the output on which it leaves. A source runs for one beat, and looks at no message.
    pub(super) fn send(&mut self, message: Message) -> anyhow::Result<Vec<(String, Message)>> {
        let made = match &mut self.node {
            Running::Transform(node) => {
                emitted(|out| node.apply(Input { message, from: INPUT.into() }, out))
            }
            Running::Sink(node) => emitted(|out| {
                let write = async {
                    node.connect().await?;
                    node.write(&[message], out).await.map_err(why)
                };
                self.runtime.block_on(write).map(|_| ())
            }),
            Running::Source(node) => self.runtime.block_on(beat(&mut **node)),
        };
        let name = |port: Port| {
            let named = (0..).zip(&self.outputs).find(|(index, _)| Port::named(*index) == port);
            named.map_or("main", |(_, name)| name.as_str()).to_owned()
        };
        Ok(made?.into_iter().map(|(port, message)| (name(port), message)).collect())
    }
}

type Made = Vec<(Port, Message)>;

/// What a call emits.
fn emitted(call: impl FnOnce(&mut Emitter) -> anyhow::Result<()>) -> anyhow::Result<Made> {
    let mut out = Emitter::default();
    out.begin(None);
    let called = call(&mut out);
    if let Err(error) = called.and_then(|()| out.end()) {
        Delivery::settle_all(out.discard());
        return Err(error);
    }
    let made = out.drain().map(|(port, envelope)| {
        Delivery::settle_all(envelope.delivery);
        (port, envelope.message)
    });
    Ok(made.collect())
}

fn why(error: WriteError) -> anyhow::Error {
    match error {
        WriteError::Retry { error, .. }
        | WriteError::Reject(error)
        | WriteError::InDoubt(error) => error,
        WriteError::RejectSome { refused, .. } => {
            let first = refused.into_iter().next().map(|(_, error)| error);
            first.unwrap_or_else(|| anyhow!("it was refused"))
        }
    }
}

/// Runs a source until it waits for its second beat.
async fn beat(source: &mut dyn DynSource) -> anyhow::Result<Made> {
    let caught = Arc::new(Caught::default());
    let outlet = Outlet::new("test/node", Arc::clone(&caught) as Arc<dyn Wires>);
    let mut run = source.run(&outlet);
    let ended = poll_fn(|cx| match run.poll_unpin(cx) {
        Poll::Pending if caught.has_beaten.load(Ordering::Relaxed) => Poll::Ready(Ok(())),
        other => other,
    });
    ended.await?;
    drop(run);
    let error = caught.error.lock().map(|mut error| error.take()).unwrap_or_default();
    match error {
        Some(error) => Err(error),
        None => {
            Ok(caught.made.lock().map(|mut made| std::mem::take(&mut *made)).unwrap_or_default())
        }
    }
}

/// What a source says in one beat.
#[derive(Default)]
struct Caught {
    made: Mutex<Made>,
    error: Mutex<Option<anyhow::Error>>,
    has_beaten: AtomicBool,
}

impl Wires for Caught {
    fn post(&self, port: Port, envelope: Envelope) -> bool {
        Delivery::settle_all(envelope.delivery);
        if let Ok(mut made) = self.made.lock() {
            made.push((port, envelope.message));
        }
        true
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }

    fn draining(&self) -> bool {
        false
    }

    fn report(&self, error: &anyhow::Error, _: Option<Message>) -> bool {
        if let Ok(mut first) = self.error.lock() {
            let fault = error.downcast_ref::<forebay_sdk::Fault>().cloned();
            let error = fault.map_or_else(|| anyhow!("{error:#}"), anyhow::Error::new);
            first.get_or_insert(error);
        }
        self.has_beaten.store(true, Ordering::Relaxed);
        true
    }

    fn ready(&self) {
        self.has_beaten.store(true, Ordering::Relaxed);
    }
}
