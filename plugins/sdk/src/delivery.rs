//! At-least-once accounting: who still owes a delivery, and how it ended.
//!
//! A [`Delivery`] is a promise to hand one copy of a message on. Cloning it makes another
//! promise, [`Delivery::settle`] keeps one, dropping one breaks it. When the last promise is gone,
//! the source's [`Receipt`] resolves. So a message that is lost by accident can never look like a
//! success.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::oneshot;

/// How a tracked message ended, over all of its copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every copy was accepted by its sink, or dropped by a node on purpose.
    Delivered,
    /// At least one copy was lost. The source should send the message again.
    Lost,
}

/// A promise to deliver one copy of a message.
#[derive(Debug)]
pub struct Delivery {
    ledger: Arc<Ledger>,
    kept: bool,
}

/// Resolves once every copy of a message is accounted for.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Outcome>);

/// Shared by all copies. Its `Drop` is the moment at which the last promise is gone.
#[derive(Debug)]
struct Ledger {
    broken: AtomicBool,
    /// Taken when the ledger closes.
    close: Option<Close>,
}

#[derive(Debug)]
enum Close {
    Report(oneshot::Sender<Outcome>),
    /// The messages that went into this one share its fate.
    Settle(Vec<Delivery>),
    /// The same, and a witness is told.
    Tell(Arc<Mutex<Fate>>),
}

/// Knows how a message ended that a node sent. A node that drops what it has sent before asks it:
/// what was lost on the way was not sent, and must not be dropped when it comes again.
///
/// As part of what a node remembers it is written down as whether the message was delivered. What is
/// still under way then may be lost, so to who reads it, it was. By itself it speaks of a message that
/// was delivered.
#[derive(Clone, Debug)]
pub struct Witness(Arc<Mutex<Fate>>);

#[derive(Debug)]
enum Fate {
    /// With the promises of all that share it.
    Open(Vec<Delivery>),
    Kept,
    Broken,
}

impl Delivery {
    /// The first promise for a message, and the receipt that tells how it ended.
    pub fn track() -> (Delivery, Receipt) {
        let (report, receipt) = oneshot::channel();
        (Delivery::open(Close::Report(report)), Receipt(receipt))
    }

    /// Folds several promises into one, for a message that was made out of many.
    pub fn join(parts: impl IntoIterator<Item = Delivery>) -> Option<Delivery> {
        let mut parts: Vec<Delivery> = parts.into_iter().collect();
        match parts.len() {
            0 | 1 => parts.pop(),
            _ => Some(Delivery::open(Close::Settle(parts))),
        }
    }

    /// The same promise, and a witness of how it ends. Without a promise nobody sends again, and what
    /// is sent is sent.
    pub fn witnessed(delivery: Option<Delivery>) -> (Option<Delivery>, Witness) {
        let Some(delivery) = delivery else { return (None, Witness::default()) };
        let witness = Witness::of(Fate::Open(vec![delivery]));
        (Some(Delivery::open(Close::Tell(Arc::clone(&witness.0)))), witness)
    }

    /// Keeps the promise.
    pub fn settle(mut self) {
        self.kept = true;
    }

    /// Keeps several.
    pub fn settle_all(deliveries: impl IntoIterator<Item = Delivery>) {
        for delivery in deliveries {
            delivery.settle();
        }
    }

    fn open(close: Close) -> Delivery {
        let ledger = Ledger { broken: AtomicBool::new(false), close: Some(close) };
        Delivery { ledger: Arc::new(ledger), kept: false }
    }
}

impl Clone for Delivery {
    fn clone(&self) -> Delivery {
        Delivery { ledger: Arc::clone(&self.ledger), kept: false }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.kept {
            self.ledger.broken.store(true, Ordering::Release);
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let broken = *self.broken.get_mut();
        match self.close.take() {
            Some(Close::Report(report)) => {
                let outcome = if broken { Outcome::Lost } else { Outcome::Delivered };
                // The source may have stopped waiting; that is its choice.
                let _ = report.send(outcome);
            }
            Some(Close::Settle(parts)) if !broken => Delivery::settle_all(parts),
            // Dropping the parts breaks them.
            Some(Close::Settle(_)) | None => (),
            Some(Close::Tell(fate)) => {
                let end = if broken { Fate::Broken } else { Fate::Kept };
                let mut fate = fate.lock().unwrap_or_else(PoisonError::into_inner);
                let was = std::mem::replace(&mut *fate, end);
                // Outside of the lock: whoever is told may ask the witness.
                drop(fate);
                if let Fate::Open(parts) = was
                    && !broken
                {
                    Delivery::settle_all(parts);
                }
            }
        }
    }
}

impl Witness {
    /// Whether the message was delivered, and nobody will send it again.
    pub fn was_kept(&self) -> bool {
        matches!(*self.fate(), Fate::Kept)
    }

    /// Whether it was lost on the way.
    pub fn was_broken(&self) -> bool {
        matches!(*self.fate(), Fate::Broken)
    }

    /// Lets the promise of another message share the fate of this one, however that ends: of one that
    /// need not be sent, because this one was.
    pub fn share(&self, delivery: Option<Delivery>) {
        let Some(delivery) = delivery else { return };
        let mut fate = self.fate();
        match &mut *fate {
            Fate::Open(parts) => parts.push(delivery),
            Fate::Kept => {
                drop(fate);
                delivery.settle();
            }
            // Dropped is broken.
            Fate::Broken => drop(fate),
        }
    }

    fn of(fate: Fate) -> Witness {
        Witness(Arc::new(Mutex::new(fate)))
    }

    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Witness {
    fn default() -> Witness {
        Witness::of(Fate::Kept)
    }
}

impl Serialize for Witness {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.was_kept().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Witness {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Witness, D::Error> {
        let was_kept = bool::deserialize(deserializer)?;
        Ok(if was_kept { Witness::default() } else { Witness::of(Fate::Broken) })
    }
}

impl Future for Receipt {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        Pin::new(&mut self.0).poll(context).map(|outcome| outcome.unwrap_or(Outcome::Lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn delivered_once_every_copy_is_settled() {
        let (first, receipt) = Delivery::track();
        let second = first.clone();
        first.settle();
        second.settle();
        assert_eq!(receipt.await, Outcome::Delivered);
    }

    #[tokio::test]
    async fn lost_when_any_copy_is_dropped() {
        let (first, receipt) = Delivery::track();
        let second = first.clone();
        first.settle();
        drop(second);
        assert_eq!(receipt.await, Outcome::Lost);
    }

    #[tokio::test]
    async fn parts_share_the_fate_of_the_whole() {
        let (a, receipt_a) = Delivery::track();
        let (b, receipt_b) = Delivery::track();
        let whole = Delivery::join([a, b]).unwrap();
        let copy = whole.clone();
        whole.settle();
        copy.settle();
        assert_eq!((receipt_a.await, receipt_b.await), (Outcome::Delivered, Outcome::Delivered));

        let (a, receipt_a) = Delivery::track();
        let (b, receipt_b) = Delivery::track();
        drop(Delivery::join([a, b]));
        assert_eq!((receipt_a.await, receipt_b.await), (Outcome::Lost, Outcome::Lost));
    }

    #[tokio::test]
    async fn what_is_not_sent_because_it_was_sent_shares_its_fate() {
        for is_kept in [true, false] {
            let (first, first_receipt) = Delivery::track();
            let (sent, witness) = Delivery::witnessed(Some(first));
            let (again, again_receipt) = Delivery::track();
            witness.share(Some(again));
            assert!(!witness.was_kept() && !witness.was_broken());
            let again = |witness: &Witness| -> Witness {
                serde_json::from_value(serde_json::to_value(witness).unwrap()).unwrap()
            };
            assert!(again(&witness).was_broken(), "nobody knows whether it arrived");
            let sent = sent.unwrap();
            if is_kept {
                sent.settle()
            } else {
                drop(sent)
            }
            assert_eq!((witness.was_kept(), witness.was_broken()), (is_kept, !is_kept));
            assert_eq!(again(&witness).was_kept(), is_kept);
            let outcome = if is_kept { Outcome::Delivered } else { Outcome::Lost };
            assert_eq!((first_receipt.await, again_receipt.await), (outcome, outcome));
            let (late, late_receipt) = Delivery::track();
            witness.share(Some(late));
            assert_eq!(late_receipt.await, outcome);
        }
        let (none, witness) = Delivery::witnessed(None);
        assert!(none.is_none() && witness.was_kept());
    }

    #[test]
    fn nothing_joined_is_nothing_owed() {
        assert!(Delivery::join([]).is_none());
    }
}
