//! A node's place in the engine: what stays when the node itself is replaced.

use std::{any::Any, panic::AssertUnwindSafe, path::Path, sync::Arc};

use forebay_sdk::{Configured, Links, Memory, Node, Role};
use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tracing::{error, warn};

use super::{
    buffer::folder_of, inbox::Inbox, outbox::Outbox, run_buffer::run_buffer, run_sink::run_sink,
    run_source::run_source, run_transform::run_transform, status::Status,
};
use crate::config::{Name, NodeSpec, Store};

/// The queue in front of a node, the wires behind it, its numbers, and the task that runs it.
pub struct Station {
    pub name: Name,
    pub inbox: Arc<Inbox>,
    pub outbox: Arc<Outbox>,
    pub status: Arc<Status>,
    /// What the node leaves to its successor.
    pub memory: Memory,
    task: Option<JoinHandle<()>>,
    /// Keeps the log behind the inbox.
    keeper: Option<JoinHandle<()>>,
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
            inbox: Arc::new(Inbox::new(Arc::clone(&name), Arc::clone(&status))),
            name,
            outbox: Arc::new(outbox),
            status,
            memory: Memory::default(),
            task: None,
            keeper: None,
        }
    }

    /// Sets the limits of the queue, and puts a log behind that of a sink if that is asked for, or if
    /// there is one from when it was.
    pub fn set_buffer(&mut self, spec: &NodeSpec, data: &Path) {
        let buffer = spec.buffer;
        self.inbox.set_limits(buffer);
        if spec.role != Role::Sink || self.keeper.is_some() {
            return;
        }
        let folder = folder_of(data, &self.name);
        if buffer.store != Store::Memory || folder.is_dir() {
            self.inbox.expect_log();
            let (name, inbox) = (Arc::clone(&self.name), Arc::clone(&self.inbox));
            let status = Arc::clone(&self.status);
            self.keeper = Some(tokio::spawn(run_buffer(folder, buffer, name, inbox, status)));
        }
    }

    /// Puts on disk what is not there yet and can be. Only for a node that was halted.
    pub async fn keep(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            self.inbox.finish();
            let _ = keeper.await;
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

    /// Ends a node that is gone from the files, once nobody is wired to it. Says what is left of it,
    /// or lost with it.
    pub async fn retire(mut self) {
        self.keep().await;
        let (left, lost) = (self.inbox.len(), self.inbox.unsafe_len());
        if lost > 0 {
            error!(node = %self.name, lost, "removed with messages in its queue; they are lost");
        }
        if left > lost {
            let kept = left - lost;
            warn!(node = %self.name, kept, "removed with messages in its buffer on disk; they stay there, see `forebay buffer ls`");
        }
        self.inbox.clear();
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
