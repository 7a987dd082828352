//! A node's place in the engine: what stays when the node itself is replaced.

use std::{path::Path, sync::Arc};

use forebay_sdk::{Node, Role, Site};
use tokio::task::JoinHandle;
use tracing::warn;

use super::{
    buffer::{Disks, folder_of},
    history::History,
    inbox::Inbox,
    keeper::Keeper,
    observer::Observer,
    outbox::Outbox,
    post::{Doubt, Post},
    run_buffer::run_buffer,
    run_sink::run_sink,
    run_source::run_source,
    run_transform::run_transform,
    status::Status,
    stop::Stop,
};
use crate::{
    config::{Name, NodeSpec, StateKept, Store},
    warnings::REMOVED_WITH_BACKLOG,
};

/// The queue in front of a node, the wires behind it, its numbers, and the task that runs it.
pub struct Station {
    pub name: Name,
    pub inbox: Arc<Inbox>,
    pub outbox: Arc<Outbox>,
    pub status: Arc<Status>,
    /// What the node remembers.
    pub keeper: Arc<Keeper>,
    /// Of what it sent.
    pub history: History,
    doubt: Arc<Doubt>,
    task: Option<Task>,
    /// Keeps the log behind the inbox.
    log: Option<JoinHandle<()>>,
    /// Whether it is known that there is no log from an earlier run.
    has_looked: bool,
}

struct Task {
    handle: JoinHandle<()>,
    /// Ends it where it stands.
    stop: Arc<Stop>,
}

impl Station {
    pub fn new(name: Name, observer: Option<Arc<dyn Observer>>) -> Station {
        let status = Arc::new(Status::new(Arc::clone(&name)));
        let outbox = Outbox::new(Arc::clone(&name), Arc::clone(&status), observer);
        Station {
            inbox: Arc::new(Inbox::new(Arc::clone(&status))),
            name,
            outbox: Arc::new(outbox),
            keeper: Arc::new(Keeper::new(Arc::clone(&status))),
            status,
            history: History::default(),
            doubt: Arc::default(),
            task: None,
            log: None,
            has_looked: false,
        }
    }

    /// Sets the limits of the queue, and puts a log behind that of a sink if that is asked for, or if
    /// there is one from when it was.
    pub fn set_buffer(&mut self, spec: &NodeSpec, data: &Path, disks: &Disks) {
        let buffer = spec.common.buffer;
        self.inbox.set_limits(buffer);
        if spec.role != Role::Sink || self.log.is_some() {
            return;
        }
        // Once is enough: nobody else makes the folder, and thousands of sinks ask the disk.
        let is_first = !std::mem::replace(&mut self.has_looked, true);
        if buffer.store == Store::Memory && !is_first {
            return;
        }
        let folder = folder_of(data, &self.name);
        if buffer.store != Store::Memory || disks.has(&folder) {
            self.inbox.expect_log();
            let (name, inbox) = (Arc::clone(&self.name), Arc::clone(&self.inbox));
            let (outbox, status) = (Arc::clone(&self.outbox), Arc::clone(&self.status));
            let log = run_buffer((disks.clone(), folder), buffer, name, inbox, outbox, status);
            self.log = Some(tokio::spawn(log));
        }
    }

    /// Sets where what the node remembers is kept. Reads what is there from an earlier run.
    pub async fn set_state(&self, spec: &NodeSpec, folder: &Path) {
        match spec.common.state {
            StateKept::Memory => self.keeper.keep_in_memory(),
            StateKept::Persist { .. } => self.keeper.keep_on_disk(folder).await,
        }
    }

    /// Puts on disk what is not there yet and can be. Only for a node that was halted.
    pub async fn keep(&mut self) {
        self.keeper.finish().await;
        if let Some(log) = self.log.take() {
            self.inbox.finish();
            let _ = log.await;
        }
    }

    /// Whether a node runs here.
    pub fn runs(&self) -> bool {
        self.task.as_ref().is_some_and(|task| !task.handle.is_finished())
    }

    /// Starts the node.
    pub fn launch(&mut self, spec: &NodeSpec, site: Site) {
        let stop = Arc::new(Stop::default());
        let post = Post {
            name: Arc::clone(&self.name),
            inbox: Arc::clone(&self.inbox),
            outbox: Arc::clone(&self.outbox),
            status: Arc::clone(&self.status),
            keeper: Arc::clone(&self.keeper),
            doubt: Arc::clone(&self.doubt),
            stop: Arc::clone(&stop),
            configured: Arc::clone(&spec.configured),
            site,
        };
        let common = spec.common.clone();
        let handle = match post.build() {
            Ok(Node::Source(source)) => tokio::spawn(run_source(source, post)),
            Ok(Node::Transform(transform)) => {
                tokio::spawn(run_transform(transform, post, common.state))
            }
            Ok(Node::Sink(sink)) => tokio::spawn(run_sink(sink, post, common)),
            Ok(Node::Connection(..)) => {
                unreachable!("a node type is registered under its own role")
            }
            Err(panic) => return self.status.broken(&panic),
        };
        self.task = Some(Task { handle, stop });
    }

    /// The node cannot be made, because what it stands on could not be.
    pub fn cannot_launch(&self, why: &anyhow::Error) {
        self.status.broken(why);
    }

    /// Stops the node where it stands. Its queue, what it posted and what it remembers stay.
    pub async fn halt(&mut self) {
        if let Some(Task { handle, stop }) = self.task.take() {
            stop.ask();
            self.inbox.wake();
            // An error here says that it was stopped, which is known.
            let _ = handle.await;
        }
        if let Some(message) = self.doubt.end() {
            self.outbox.post_in_doubt("the node was stopped meanwhile", &message);
            self.inbox.doubt_is_over();
        }
    }

    /// Ends all that runs here as it stands, as a power cut does.
    pub async fn kill(mut self) {
        let node = self.task.take().map(|task| task.handle);
        for task in node.into_iter().chain(self.log.take()) {
            task.abort();
            let _ = task.await;
        }
    }

    /// Resolves when the node has read its closed queue to the end.
    pub async fn finished(&mut self) {
        if let Some(task) = &mut self.task {
            let _ = (&mut task.handle).await;
            self.task = None;
        }
    }

    /// Ends a node that is gone from the files, once nobody is wired to it. Says what is left of it,
    /// or lost with it.
    pub async fn retire(mut self) {
        self.keep().await;
        let (left, gone) = (self.inbox.len(), self.inbox.unsafe_len());
        let lost = self.inbox.untracked_len();
        if lost > 0 {
            self.status.lost(lost as u64, "removed with messages in its queue; they are lost");
        }
        if gone > lost {
            let again = gone - lost;
            warn!(rule = %REMOVED_WITH_BACKLOG, node = %self.name, again, "removed with messages in its queue; their sources send them again");
        }
        if left > gone {
            let kept = left - gone;
            warn!(rule = %REMOVED_WITH_BACKLOG, node = %self.name, kept, "removed with messages in its buffer on disk; they stay there, see `forebay buffer ls`");
        }
        self.inbox.clear();
        self.status.write_all_the_rest();
    }
}
