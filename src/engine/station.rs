//! A node's place in the engine: what stays when the node itself is replaced.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use forebay_sdk::{Configured, Links, Memory, Node};
use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tracing::error;

use super::{
    inbox::Inbox, outbox::Outbox, run_sink::run_sink, run_source::run_source,
    run_transform::run_transform, status::Status,
};
use crate::config::{Name, NodeSpec};

/// The queue in front of a node, the wires behind it, its numbers, and the task that runs it.
pub struct Station {
    pub name: Name,
    pub inbox: Arc<Inbox>,
    pub outbox: Arc<Outbox>,
    pub status: Arc<Status>,
    /// What the node leaves to its successor.
    pub memory: Memory,
    task: Option<JoinHandle<()>>,
}

/// What a node's task works with.
#[derive(Clone)]
pub struct Post {
    pub name: Name,
    pub inbox: Arc<Inbox>,
    pub outbox: Arc<Outbox>,
    pub status: Arc<Status>,
    configured: Arc<dyn Configured>,
    links: Links,
}

impl Post {
    /// Makes the node, also anew after it panicked.
    pub fn build(&self) -> Node {
        self.configured.build(self.links.clone())
    }
}

impl Station {
    pub fn new(name: Name) -> Station {
        let status = Arc::new(Status::new());
        let outbox = Outbox::new(Arc::clone(&name), Arc::clone(&status));
        Station {
            name,
            inbox: Arc::new(Inbox::new()),
            outbox: Arc::new(outbox),
            status,
            memory: Memory::default(),
            task: None,
        }
    }

    /// Starts the node.
    pub fn launch(&mut self, spec: &NodeSpec, links: Links) {
        let post = Post {
            name: Arc::clone(&self.name),
            inbox: Arc::clone(&self.inbox),
            outbox: Arc::clone(&self.outbox),
            status: Arc::clone(&self.status),
            configured: Arc::clone(&spec.configured),
            links,
        };
        self.task = Some(match post.build() {
            Node::Source(source) => tokio::spawn(run_source(source, post)),
            Node::Transform(transform) => tokio::spawn(run_transform(transform, post)),
            Node::Sink(sink) => tokio::spawn(run_sink(sink, post, spec.batch)),
            Node::Connection(..) => unreachable!("a node type is registered under its own role"),
        });
    }

    /// Stops the node where it stands. Its queue, and what it posted, stay.
    pub async fn halt(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // An error here says that it was stopped, which is known.
            let _ = task.await;
        }
    }

    /// Resolves when the node has read its closed queue to the end.
    pub async fn finished(&mut self) {
        if let Some(task) = &mut self.task {
            let _ = task.await;
            self.task = None;
        }
    }

    /// Says what is lost with a node that is gone from the files.
    pub fn report_left(&self) {
        match self.inbox.len() {
            0 => (),
            left => {
                error!(node = %self.name, left, "removed with messages in its queue; they are lost")
            }
        }
    }
}

/// Runs a node's code and turns a panic into an error.
pub async fn guard<T>(work: impl Future<Output = T>) -> Result<T, anyhow::Error> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| panicked(&*panic))
}

/// Like [`guard`], for code that does not wait.
pub fn guard_call<T>(work: impl FnOnce() -> T) -> Result<T, anyhow::Error> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panicked(&*panic))
}

fn panicked(panic: &(dyn Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    anyhow::anyhow!(
        "the node panicked, which is a bug in it: {}",
        text.unwrap_or("no reason given")
    )
}
