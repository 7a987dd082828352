//! The plugin against brokers: one by hand that misbehaves, and a real one.

mod broker;
mod connecting;
mod peer;
mod publishing;
mod subscribing;

use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Envelope, Message, Node, Outlet, Shared, Value, WriteError,
    node::DynSink,
    testing::{Collected, build, outlet},
};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, yield_now},
    time::timeout,
};

use crate::{CONNECTION, SINK, SOURCE};

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(20);

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

/// A connection that the engine runs again and again.
struct Running {
    shared: Shared,
    /// How its attempts ended. The next attempt begins when the one before the last was read.
    errors: mpsc::Receiver<String>,
    task: Task,
}

impl Running {
    fn start(settings: &str) -> Running {
        let Node::Connection(shared, mut connection) = build(&CONNECTION, settings, None) else {
            unreachable!("a connection builds a connection")
        };
        let (report, errors) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            loop {
                let error = connection.run(&|| ()).await.unwrap_err();
                if report.send(format!("{error:#}")).await.is_err() {
                    return;
                }
                yield_now().await;
            }
        });
        Running { shared, errors, task: Task(task) }
    }

    async fn error(&mut self) -> String {
        soon(self.errors.recv()).await.unwrap()
    }

    fn sink(&self, settings: &str) -> Box<dyn DynSink> {
        sink(settings, &self.shared)
    }

    fn source(&self, settings: &str) -> Reading {
        Reading::start(settings, &self.shared, 100)
    }
}

fn sink(settings: &str, shared: &Shared) -> Box<dyn DynSink> {
    match build(&SINK, settings, Some(shared.clone())) {
        Node::Sink(sink) => sink,
        _ => unreachable!("a sink builds a sink"),
    }
}

/// A source that the engine runs again and again.
struct Reading {
    collected: Collected,
    errors: mpsc::Receiver<String>,
    task: Task,
}

impl Reading {
    /// The pipeline behind it has room for `capacity` messages.
    fn start(settings: &str, shared: &Shared, capacity: usize) -> Reading {
        let Node::Source(mut source) = build(&SOURCE, settings, Some(shared.clone())) else {
            unreachable!("a source builds a source")
        };
        let (out, collected): (Outlet, Collected) = outlet(capacity);
        let (report, errors) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            loop {
                let ended = source.run(&out).await;
                let error = ended.expect_err("a source of MQTT ends with an error");
                if report.send(format!("{error:#}")).await.is_err() {
                    return;
                }
                yield_now().await;
            }
        });
        Reading { collected, errors, task: Task(task) }
    }

    /// The next message, not settled.
    async fn next(&mut self) -> Envelope {
        soon(self.collected.envelopes.recv()).await.unwrap()
    }

    /// The next message, settled; as topic and payload.
    async fn delivered(&mut self) -> (Arc<str>, Value) {
        let Envelope { message, delivery } = self.next().await;
        if let Some(delivery) = delivery {
            delivery.settle();
        }
        (message.topic, message.payload.value().unwrap().clone())
    }

    async fn error(&mut self) -> String {
        soon(self.errors.recv()).await.unwrap()
    }
}

fn message(topic: &str, value: impl Into<Value>) -> Message {
    Message::new(topic, value.into())
}

/// Why a write failed: `retry: ...` or `reject: ...`.
fn said(outcome: Result<(), WriteError>) -> String {
    match outcome {
        Ok(()) => "written".to_owned(),
        Err(WriteError::Retry { error, .. }) => format!("retry: {error:#}"),
        Err(WriteError::Reject(error)) => format!("reject: {error:#}"),
    }
}
