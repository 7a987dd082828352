//! The memory of the broker: one sum, of which everything that a client can cause draws its share.
//!
//! Each kind of use has a part of its own, so that one can never starve another. What is counted is
//! what the allocator hands out, with its overhead, rather too much than too little.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// What memory is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Packets that are being received, and messages until they are handed on.
    Input,
    /// Connections, and sessions with the little that most of them hold.
    Connections,
    /// Subscriptions, wills and aliases beyond that.
    Sessions,
    /// Retained messages.
    Retained,
    /// Messages on their way to clients.
    Queues,
    /// Messages that sources have not settled.
    Sources,
}

const USES: usize = 6;
/// The share of each, in twentieths: a tenth is left for the allocator.
const SHARES: [usize; USES] = [2, 3, 3, 3, 4, 3];
const WHOLE: usize = 20;

/// The budget. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: [usize; USES],
    used: [AtomicUsize; USES],
    freed: Notify,
}

impl Budget {
    /// With so many bytes in all.
    pub fn new(bytes: usize) -> Budget {
        let most = SHARES.map(|share| bytes / WHOLE * share);
        Budget(Arc::new(Inner { most, used: Default::default(), freed: Notify::new() }))
    }

    /// The most bytes for a use.
    pub fn most(&self, what: Use) -> usize {
        self.0.most[what as usize]
    }

    /// How many bytes of a use are taken.
    #[cfg(test)]
    pub fn used(&self, what: Use) -> usize {
        self.0.used[what as usize].load(Ordering::Relaxed)
    }

    /// How many bytes are taken in all.
    pub fn used_in_all(&self) -> usize {
        self.0.used.iter().map(|used| used.load(Ordering::Relaxed)).sum()
    }

    /// Takes bytes, until the charge is dropped. None when there are not so many.
    pub fn take(&self, what: Use, bytes: usize) -> Option<Charge> {
        let mut charge = Charge { budget: self.clone(), what, bytes: 0 };
        charge.grow(bytes).then_some(charge)
    }

    /// Takes bytes once there are so many, or all that a use can have.
    pub async fn take_once_free(&self, what: Use, bytes: usize) -> Charge {
        loop {
            // It hears of what happens from here on.
            let freed = self.0.freed.notified();
            if let Some(charge) = self.take(what, bytes.min(self.most(what))) {
                return charge;
            }
            freed.await;
        }
    }
}

/// Bytes that are taken.
#[derive(Debug)]
pub struct Charge {
    budget: Budget,
    what: Use,
    bytes: usize,
}

impl Charge {
    /// Takes more. False, and nothing is taken, when there is not so much.
    #[must_use]
    pub fn grow(&mut self, by: usize) -> bool {
        let most = self.budget.most(self.what);
        let sum = |used: usize| used.checked_add(by).filter(|sum| *sum <= most);
        let used = &self.budget.0.used[self.what as usize];
        let is_taken = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok();
        if is_taken {
            self.bytes += by;
        }
        is_taken
    }

    /// How much is taken.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives some back.
    pub fn shrink(&mut self, by: usize) {
        let by = by.min(self.bytes);
        if by == 0 {
            return;
        }
        self.bytes -= by;
        self.budget.0.used[self.what as usize].fetch_sub(by, Ordering::Relaxed);
        self.budget.0.freed.notify_waiters();
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_no_use_starves_another() {
        let budget = Budget::new(1000);
        assert_eq!((budget.most(Use::Input), budget.most(Use::Queues)), (100, 200));
        let mut charge = budget.take(Use::Input, 60).unwrap();
        assert!(budget.take(Use::Input, 41).is_none());
        assert!(!charge.grow(41) && charge.grow(40));
        assert!(budget.take(Use::Input, 1).is_none());
        assert!(budget.take(Use::Queues, 200).is_some());
        charge.shrink(10);
        assert_eq!((budget.used(Use::Input), budget.used_in_all()), (90, 90));
        drop(charge);
        assert_eq!(budget.used_in_all(), 0);
        assert!(budget.take(Use::Input, usize::MAX).is_none());
    }
}
