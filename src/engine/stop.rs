//! Asks a task that has something to hand over to end where it stands.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether a task is to end, and whoever waits for that.
#[derive(Default)]
pub struct Stop {
    is_asked: AtomicBool,
    told: Notify,
}

impl Stop {
    /// Whoever waits for its queue is to be woken besides.
    pub fn ask(&self) {
        self.is_asked.store(true, Ordering::Release);
        self.told.notify_one();
    }

    pub fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Acquire)
    }

    /// Resolves when it is asked.
    pub async fn asked(&self) {
        while !self.is_asked() {
            self.told.notified().await;
        }
    }
}
