//! The plugin against brokers: one by hand that misbehaves, and a real one.

mod broker;
mod connecting;
mod exactly_once;
mod peer;
mod publishing;
mod subscribing;
mod version5;

use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Emitter, Envelope, Figure, Message, Node, Shared, Site, Value, Voice, WriteError, Written,
    connection::DynConnection,
    node::{DynSink, DynSource},
    testing::{Collected, Heard, build_at, outlet, site, voice},
    world::{
        Listener,
        memory::{Door, Memory},
    },
};
use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, yield_now},
    time::{Instant, timeout},
};

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(40);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("it happens within the deadline")
}

/// A task that ends with the test.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Task {
    /// Drops what the task runs, as the engine does.
    async fn stop(mut self) {
        self.0.abort();
        assert!((&mut self.0).await.unwrap_err().is_cancelled());
    }
}

fn connection(settings: &str, site: Site) -> (Shared, Box<dyn DynConnection>) {
    match build_at(&crate::connection(), settings, site) {
        Node::Connection(shared, connection) => (shared, connection),
        _ => unreachable!("a connection builds a connection"),
    }
}

/// A connection that the engine runs again and again.
struct Running {
    shared: Shared,
    /// How its attempts ended. The next attempt begins when the one before the last was read.
    errors: mpsc::Receiver<String>,
    heard: Arc<Heard>,
    task: Task,
    /// The data folder, unless the test has its own.
    _data: TempDir,
}

impl Running {
    fn start(settings: &str) -> Running {
        Running::start_at(settings, site(None))
    }

    /// In a world in memory, where a broker listens at `broker:1883` and the clock is stopped.
    fn in_memory(settings: &str) -> (Door, Running) {
        let memory = Memory::new(1_795_251_600_000_000_000);
        let door = memory.open("broker:1883");
        let settings = format!("url: mqtt://broker\n{settings}");
        let running = Running::start_at(&settings, Site { world: memory.world(), ..site(None) });
        (door, running)
    }

    fn start_at(settings: &str, site: Site) -> Running {
        let (voice, heard) = voice();
        let own = tempfile::tempdir().unwrap();
        let data = if site.data.is_absolute() { Arc::clone(&site.data) } else { own.path().into() };
        let site = Site { voice: voice.clone(), data, ..site };
        let (shared, mut connection) = connection(settings, site);
        let (report, errors) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            loop {
                let error = connection.run(&voice).await.unwrap_err();
                if report.send(format!("{error:#}")).await.is_err() {
                    return;
                }
                yield_now().await;
            }
        });
        Running { shared, errors, heard, task: Task(task), _data: own }
    }

    async fn error(&mut self) -> String {
        soon(self.errors.recv()).await.unwrap()
    }

    fn sink(&self, settings: &str) -> Writing {
        let site = site(Some(self.shared.clone()));
        match build_at(&crate::sink(), settings, site) {
            Node::Sink(sink) => Writing { sink, out: Emitter::default() },
            _ => unreachable!("a sink builds a sink"),
        }
    }

    fn source(&self, settings: &str) -> Reading {
        Reading::start(settings, &self.shared, 100)
    }
}

/// A sink that is written to.
struct Writing {
    sink: Box<dyn DynSink>,
    out: Emitter,
}

impl Writing {
    async fn connect(&mut self) -> anyhow::Result<()> {
        self.sink.connect().await
    }

    async fn write(&mut self, batch: &[Message]) -> Result<Written, WriteError> {
        self.sink.write(batch, &mut self.out).await
    }
}

fn source(settings: &str, name: &str, shared: &Shared) -> Box<dyn DynSource> {
    let site = Site { name: name.into(), ..site(Some(shared.clone())) };
    match build_at(&crate::source(), settings, site) {
        Node::Source(source) => source,
        _ => unreachable!("a source builds a source"),
    }
}

/// A source that runs.
struct Reading {
    collected: Collected,
    task: Task,
}

impl Reading {
    /// The pipeline behind it has room for `capacity` messages.
    fn start(settings: &str, shared: &Shared, capacity: usize) -> Reading {
        Reading::start_named("test/node", settings, shared, capacity)
    }

    fn start_named(name: &str, settings: &str, shared: &Shared, capacity: usize) -> Reading {
        let mut source = source(settings, name, shared);
        let (out, collected) = outlet(capacity);
        let task = tokio::spawn(async move {
            let ended = source.run(&out).await;
            panic!("a source on a session goes on for ever, and ended: {ended:?}");
        });
        Reading { collected, task: Task(task) }
    }

    /// The next message, not settled.
    async fn next(&mut self) -> Envelope {
        soon(self.collected.envelopes.recv()).await.unwrap()
    }

    /// The next message, settled; as topic and payload.
    async fn delivered(&mut self) -> (Arc<str>, Value) {
        let Envelope { message, delivery, .. } = self.next().await;
        if let Some(delivery) = delivery {
            delivery.settle();
        }
        (message.topic, message.payload.value().unwrap().clone())
    }

    async fn error(&mut self) -> String {
        soon(self.collected.errors.recv()).await.unwrap()
    }
}

fn message(topic: &str, value: impl Into<Value>) -> Message {
    Message::new(topic, value.into())
}

/// How a write went: `written`, `retry: ...` or `reject: ...`.
fn said(outcome: Result<Written, WriteError>) -> String {
    match outcome {
        Ok(_) => "written".to_owned(),
        Err(WriteError::Retry { error, .. }) => format!("retry: {error:#}"),
        Err(WriteError::Reject(error)) => format!("reject: {error:#}"),
        Err(WriteError::RejectSome { dealt_with, refused }) => {
            let refused = refused.iter().map(|(at, error)| format!("{at}: {error:#}"));
            format!("{dealt_with} dealt with, refused {}", refused.collect::<Vec<_>>().join("; "))
        }
        Err(WriteError::InDoubt(error)) => format!("in doubt: {error:#}"),
    }
}
