//! Publish and subscribe for the nodes of this program, without a network in between.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, anyhow};
use forebay_sdk::{
    Voice, WriteError, Written,
    mqtt::{PubSub, Publication, Subscribe, Subscription},
};
use futures_util::future::{BoxFuture, FutureExt};
use mqtt5::broker::router::{MessageRouter, ROUTE_BUDGET_MAX};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use crate::{place::Place, properties::packet_of};

/// How long a node waits for the broker to start.
const LONGEST_START: Duration = Duration::from_secs(10);
/// How long the messages of one batch may wait for slow subscribers, all together.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What nodes see of the broker. Outlives a run of it, and so does what they have not settled.
pub struct Local {
    router: watch::Sender<Option<Arc<MessageRouter>>>,
    desk: Mutex<Desk>,
    /// A reader came.
    asked: Notify,
    voice: Voice,
}

#[derive(Default)]
struct Desk {
    /// The places of readers, by their names.
    places: BTreeMap<Arc<str>, Arc<Place>>,
    feeds: u64,
}

impl Local {
    /// Without readers. `voice` hears of what is dropped.
    pub fn new(voice: Voice) -> Arc<Local> {
        Arc::new(Local {
            router: watch::Sender::default(),
            desk: Mutex::default(),
            asked: Notify::new(),
            voice,
        })
    }

    /// The broker runs.
    pub fn open(&self, router: Arc<MessageRouter>) {
        self.router.send_replace(Some(router));
    }

    /// The broker stopped.
    pub fn close(&self) {
        self.router.send_replace(None);
    }

    /// The router, once the broker runs.
    pub async fn router(&self) -> anyhow::Result<Arc<MessageRouter>> {
        if let Some(router) = &*self.router.borrow() {
            return Ok(Arc::clone(router));
        }
        let mut router = self.router.subscribe();
        let running = timeout(LONGEST_START, router.wait_for(Option::is_some)).await;
        let running = running.ok().and_then(Result::ok).and_then(|router| router.clone());
        running.context("the broker in this program is not running")
    }

    /// Resolves when a reader came that may not be fed yet.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// The places that nobody fills, each with a number for its feed. Also gives up those to which
    /// nobody came back.
    pub fn unfed(&self) -> Vec<(Arc<Place>, u64)> {
        let now = Instant::now();
        let mut desk = self.lock();
        let Desk { places, feeds } = &mut *desk;
        places.retain(|_, place| match place.is_given_up(now) {
            None => true,
            Some(0) => false,
            Some(left) => {
                let left = u64::try_from(left).unwrap_or(u64::MAX);
                self.voice.dropped(left, "the source for which they came is gone");
                false
            }
        });
        let mut unfed = Vec::new();
        for place in places.values() {
            if place.begin_feed(*feeds, now) {
                unfed.push((Arc::clone(place), *feeds));
                *feeds += 1;
            }
        }
        unfed
    }

    async fn route(&self, batch: Vec<Publication>) -> Result<Written, WriteError> {
        for publication in &batch {
            let topic = &publication.topic;
            mqtt5::validate_topic_name(topic).map_err(|error| {
                WriteError::reject(anyhow!(
                    "the message's topic cannot be published to: {error}, found `{topic}`"
                ))
            })?;
        }
        let longest = Instant::now() + LONGEST_WAIT;
        for (taken, publication) in batch.into_iter().enumerate() {
            let router =
                self.router().await.map_err(|error| WriteError::retry(error).taken(taken))?;
            let deadline = longest.min(Instant::now() + ROUTE_BUDGET_MAX);
            router.route_message_with_deadline(&packet_of(publication), None, deadline).await;
        }
        // No wire is between us.
        Ok(Written::default())
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        // Every change leaves the desk whole, so a panic elsewhere does not matter.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PubSub for Local {
    fn ready(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async { self.router().await.map(drop) }.boxed()
    }

    fn publish(&self, batch: Vec<Publication>) -> BoxFuture<'_, Result<Written, WriteError>> {
        self.route(batch).boxed()
    }

    fn subscribe(&self, wish: Subscribe) -> Box<dyn Subscription> {
        let mut desk = self.lock();
        let new = || Place::new(wish.clone());
        let place = desk.places.entry(Arc::clone(&wish.reader)).or_insert_with(new);
        let seat = place.sit(wish);
        drop(desk);
        self.asked.notify_one();
        Box::new(seat)
    }

    fn break_off(&self, _: anyhow::Error) {
        // Nothing is under way that could come late: what was routed has arrived.
    }
}
