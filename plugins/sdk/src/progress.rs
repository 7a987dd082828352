//! How much of a batch the other side has, told while the rest is under way; and what comes behind the
//! batch, for a sink that does not stop at its end.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;

use crate::message::Message;

/// A sink with long batches tells it, so that what arrived is not sent again after a crash. One that
/// says nothing has all of a batch taken at the end of its write.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    count: AtomicUsize,
    more: Notify,
    behind: Mutex<Behind>,
}

/// What comes behind the batch.
#[derive(Debug, Default)]
struct Behind {
    /// The sink wants it.
    is_asked_for: bool,
    given: VecDeque<Message>,
    taken: usize,
    waker: Option<Waker>,
}

impl Progress {
    /// So many messages at the front of the batch are delivered. None of them was refused.
    pub fn taken(&self, count: usize) {
        if self.0.count.fetch_max(count, Ordering::Relaxed) < count {
            self.0.more.notify_one();
        }
    }

    /// The next message behind the batch, of which it is the last from here on: what the write says in
    /// the end is said of it too. Ready once there is one, which may be never.
    pub fn poll_behind(&self, context: &mut Context<'_>) -> Poll<Message> {
        let mut behind = self.behind();
        if let Some(message) = behind.given.pop_front() {
            behind.taken += 1;
            return Poll::Ready(message);
        }
        behind.waker = Some(context.waker().clone());
        if !std::mem::replace(&mut behind.is_asked_for, true) {
            self.0.more.notify_one();
        }
        Poll::Pending
    }
}

/// For whoever calls the sink.
impl Progress {
    /// How many.
    pub fn count(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Resolves when there are more than before, or the sink asks for what is behind the batch.
    pub async fn more(&self) {
        self.0.more.notified().await;
    }

    /// Whether the sink asks for what is behind the batch.
    pub fn asks(&self) -> bool {
        self.behind().is_asked_for
    }

    /// Gives it what it asks for.
    pub fn give(&self, messages: impl IntoIterator<Item = Message>) {
        let mut behind = self.behind();
        behind.is_asked_for = false;
        behind.given.extend(messages);
        if let Some(waker) = behind.waker.take() {
            waker.wake();
        }
    }

    /// How much of that it has taken.
    pub fn taken_behind(&self) -> usize {
        self.behind().taken
    }

    fn behind(&self) -> MutexGuard<'_, Behind> {
        self.0.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
