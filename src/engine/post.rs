//! What a node's task works with, and what keeps a panic in a node from being more than its error.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use forebay_sdk::{Configured, Message, Node, Site};
use futures_util::FutureExt;
use tokio::sync::Notify;

use super::{
    errors::Panicked, inbox::Inbox, keeper::Keeper, outbox::Outbox, status::Status, stop::Stop,
};
use crate::config::Name;

/// What a node's task works with.
#[derive(Clone)]
pub struct Post {
    pub name: Name,
    pub inbox: Arc<Inbox>,
    pub outbox: Arc<Outbox>,
    pub status: Arc<Status>,
    /// What the node remembers.
    pub keeper: Arc<Keeper>,
    /// The message of a write that must not be repeated, while it is under way.
    pub doubt: Arc<Doubt>,
    /// Tells the task to end where it stands, and to hand over what its node remembers.
    pub stop: Arc<Stop>,
    pub configured: Arc<dyn Configured>,
    pub site: Site,
}

/// A place for the message of a write that must not be repeated.
#[derive(Default)]
pub struct Doubt {
    message: Mutex<Option<Message>>,
    is_over: Notify,
}

impl Post {
    /// Makes the node, also anew after it panicked. An error when making it panics.
    pub fn build(&self) -> anyhow::Result<Node> {
        self.status.begins_anew();
        let site = Site { memory: self.keeper.remembered(), ..self.site.clone() };
        guard_call(|| self.configured.build(site))
    }
}

impl Doubt {
    /// The write of this message begins.
    pub fn begin(&self, message: Message) {
        *self.slot() = Some(message);
    }

    /// Its end is known, or is told now. The message, if one was under way.
    pub fn end(&self) -> Option<Message> {
        let message = self.slot().take();
        self.is_over.notify_waiters();
        message
    }

    /// Resolves when no write is under way.
    pub async fn over(&self) {
        loop {
            let mut told = std::pin::pin!(self.is_over.notified());
            told.as_mut().enable();
            if self.slot().is_none() {
                return;
            }
            told.await;
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Message>> {
        self.message.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a node's code and turns a panic into an error.
pub async fn guard<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| panicked(&*panic))
}

/// Like [`guard`], for code that does not wait.
pub fn guard_call<T>(work: impl FnOnce() -> T) -> anyhow::Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panicked(&*panic))
}

fn panicked(panic: &(dyn Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Panicked(text.unwrap_or("no reason given").to_owned()).into()
}
