//! Promises that a node keeps beside what it holds, and what it remembers.
//!
//! A transform that keeps a message for later takes the promise to deliver it, [`Held`], and keeps
//! it beside the value. It gives the promise to whatever leaves the node in its place. A promise
//! that is dropped is broken: the source sends the message again.
//!
//! What a node remembers is data: [`Saved`]. A [`Held`] inside of it is written as a number and
//! finds its promise again when it is read, so a node that is replaced hands both on.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;

use crate::delivery::{Delivery, Witness};

/// The promise to deliver a message that a node holds.
///
/// Dropping it breaks the promise. A clone is the same promise, not another: it is kept or broken
/// once, and broken only when the last clone is gone.
#[derive(Clone, Debug, Default)]
#[must_use = "a promise that is dropped is broken, and the source sends the message again"]
pub struct Held(Option<Arc<Mutex<Option<Delivery>>>>);

impl Held {
    /// Holds a promise. None, when nobody wants to know how the message ends.
    pub fn new(delivery: Option<Delivery>) -> Held {
        Held(delivery.map(|delivery| Arc::new(Mutex::new(Some(delivery)))))
    }

    /// One promise for a message that was made out of many.
    pub fn join(parts: impl IntoIterator<Item = Held>) -> Held {
        Held::new(Delivery::join(parts.into_iter().filter_map(Held::into_delivery)))
    }

    /// The same promise, and a witness of how it ends.
    pub fn witnessed(self) -> (Held, Witness) {
        let (delivery, witness) = Delivery::witnessed(self.into_delivery());
        (Held::new(delivery), witness)
    }

    /// Whether a source waits to hear how the message ends.
    pub fn is_owed(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner).is_some())
    }

    /// Keeps the promise without sending anything: the node dropped the message on purpose.
    pub fn settle(self) {
        Delivery::settle_all(self.into_delivery());
    }

    /// Takes the promise out, to travel with a message. None when there is none, or another clone
    /// has passed it on.
    pub fn into_delivery(self) -> Option<Delivery> {
        self.0?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

thread_local! {
    /// The promises of the state that is being written or read on this thread.
    static PROMISES: RefCell<Option<Vec<Held>>> = const { RefCell::new(None) };
}

impl Serialize for Held {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = PROMISES.with_borrow_mut(|promises| {
            let promises = promises.as_mut().filter(|_| self.is_owed())?;
            promises.push(self.clone());
            Some(promises.len() - 1)
        });
        number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Held, D::Error> {
        let number = Option::<usize>::deserialize(deserializer)?;
        let held = PROMISES.with_borrow(|promises| promises.as_ref()?.get(number?).cloned());
        Ok(held.unwrap_or_default())
    }
}

/// What a node remembers: data of a version, which tools can show and a disk can keep, and the
/// promises that belong to it.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// Grows when a node type remembers in another way than before.
    pub version: u32,
    /// The data. A promise in it is its place in `held`, or null.
    pub value: Value,
    /// The promises for what is in it. Not there any more once read from a disk.
    pub held: Vec<Held>,
}

impl Saved {
    /// Writes down what a node remembers.
    ///
    /// # Errors
    ///
    /// When it is not data that JSON can say: a map whose keys are neither texts nor numbers.
    pub fn of<T: Serialize>(version: u32, remembered: &T) -> serde_json::Result<Saved> {
        let (value, held) = with_promises(Vec::new(), || serde_json::to_value(remembered));
        Ok(Saved { version, value: value?, held })
    }

    /// Reads it back. None when it is of another version, or does not fit.
    pub fn read<T: DeserializeOwned>(&self, version: u32) -> Option<T> {
        if self.version != version {
            return None;
        }
        with_promises(self.held.clone(), || T::deserialize(&self.value)).0.ok()
    }

    /// Roughly how much work it is to write it down: how many values it has. Counts to `most`.
    pub fn values(&self, most: usize) -> usize {
        fn count(value: &Value, room: &mut usize) {
            *room = room.saturating_sub(1);
            if *room == 0 {
                return;
            }
            match value {
                Value::Array(items) => items.iter().for_each(|item| count(item, room)),
                Value::Object(fields) => fields.values().for_each(|field| count(field, room)),
                _ => (),
            }
        }
        let mut room = most;
        count(&self.value, &mut room);
        most - room
    }
}

/// Works with these promises at hand; gives back what is there afterwards.
fn with_promises<T>(promises: Vec<Held>, work: impl FnOnce() -> T) -> (T, Vec<Held>) {
    /// Puts back what was there, also when a node's code panics in between.
    struct Restore(Option<Vec<Held>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PROMISES.set(self.0.take());
        }
    }
    let _restore = Restore(PROMISES.replace(Some(promises)));
    let outcome = work();
    (outcome, PROMISES.take().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Outcome, Receipt};

    fn held() -> (Held, Receipt) {
        let (delivery, receipt) = Delivery::track();
        (Held::new(Some(delivery)), receipt)
    }

    #[tokio::test]
    async fn a_promise_that_is_dropped_is_broken() {
        let (promise, receipt) = held();
        let same = promise.clone();
        drop(promise);
        assert!(same.is_owed());
        drop(same);
        assert_eq!(receipt.await, Outcome::Lost);
    }

    #[tokio::test]
    async fn a_promise_is_passed_on_once() {
        let (promise, receipt) = held();
        let same = promise.clone();
        promise.into_delivery().unwrap().settle();
        assert_eq!(receipt.await, Outcome::Delivered);
        assert!(!same.is_owed());
        assert!(same.into_delivery().is_none());
    }

    #[derive(Serialize, Deserialize)]
    struct Lane {
        sum: f64,
        held: Vec<Held>,
    }

    #[tokio::test]
    async fn what_is_read_back_has_its_promises() {
        let (promise, receipt) = held();
        let lane = Lane { sum: 1.5, held: vec![Held::default(), promise] };
        let saved = Saved::of(1, &lane).unwrap();
        assert_eq!(saved.value, serde_json::json!({"sum": 1.5, "held": [null, 0]}));
        drop(lane);
        assert!(saved.read::<Lane>(2).is_none());
        let lane: Lane = saved.read(1).unwrap();
        drop(saved);
        assert_eq!(lane.sum, 1.5);
        Held::join(lane.held).settle();
        assert_eq!(receipt.await, Outcome::Delivered);
    }

    #[test]
    fn work_is_counted_no_further_than_asked() {
        let saved = Saved::of(1, &vec![1; 1000]).unwrap();
        assert_eq!(saved.values(10), 10);
        assert_eq!(Saved::of(1, &[1, 2]).unwrap().values(10), 3);
    }
}
