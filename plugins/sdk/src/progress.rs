//! How much of a batch the other side has, told while the rest is under way.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// A sink with long batches tells it, so that what arrived is not sent again after a crash. One that
/// says nothing has all of a batch taken at the end of its write.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    count: AtomicUsize,
    more: Notify,
}

impl Progress {
    /// So many messages at the front of the batch are delivered. None of them was refused.
    pub fn taken(&self, count: usize) {
        if self.0.count.fetch_max(count, Ordering::Relaxed) < count {
            self.0.more.notify_one();
        }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Resolves when there are more than before.
    pub async fn more(&self) {
        self.0.more.notified().await;
    }
}
