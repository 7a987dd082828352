//! Publish and subscribe for the nodes of this program, without a network in between.
//!
//! What is published goes to the places of its readers here, and by way of mqtt5's router to the
//! devices. mqtt5 does not know the nodes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, anyhow};
use forebay_sdk::{
    Progress, Voice, WriteError, Written,
    mqtt::{PubSub, Publication, Subscribe, Subscription},
};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use mqtt5::{
    broker::router::{MessageRouter, ROUTE_BUDGET_MAX},
    packet::publish::PublishPacket,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    dues::{Dues, Receipt},
    place::{Interest, Place},
    private::is_private,
    properties::{packet_of, publication_of},
};

/// The most bytes of a message that is kept, with its topic and its properties.
pub const LARGEST_RETAINED: usize = 64 << 10;
/// How long a node waits for the broker to start.
const LONGEST_START: Duration = Duration::from_secs(10);
/// How long a batch of a node waits for its readers, before it is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What nodes see of the broker. Outlives a run of it, and so does what they have not settled.
pub struct Local {
    router: watch::Sender<Option<Arc<MessageRouter>>>,
    /// The places of readers, by their names.
    places: Mutex<BTreeMap<Arc<str>, Arc<Place>>>,
    /// What the devices are owed, by their client ids.
    devices: Mutex<BTreeMap<Arc<str>, Arc<Dues>>>,
    /// What the nodes are owed.
    nodes: Dues,
    /// Whose turn it is among those who share a subscription.
    turn: AtomicUsize,
    /// A reader came.
    asked: Notify,
    voice: Voice,
}

/// A place, and the QoS at which a message goes there.
type Way = (Arc<Place>, u8);

impl Local {
    /// Without readers. `voice` hears of what is dropped.
    pub fn new(voice: Voice) -> Arc<Local> {
        Arc::new(Local {
            router: watch::Sender::default(),
            places: Mutex::default(),
            devices: Mutex::default(),
            nodes: Dues::default(),
            turn: AtomicUsize::new(0),
            asked: Notify::new(),
            voice,
        })
    }

    /// The broker runs.
    pub fn open(&self, router: Arc<MessageRouter>) {
        self.router.send_replace(Some(router));
        self.asked.notify_one();
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

    /// Resolves when a reader came for which what is retained may not have been brought.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Brings what is retained to readers with new filters. What matches several of them comes once.
    pub async fn bring_retained(&self, router: &MessageRouter) {
        let places: Vec<Arc<Place>> = lock(&self.places).values().cloned().collect();
        for place in places {
            for (pattern, earlier) in place.unbrought() {
                for mut kept in router.get_retained_messages(&pattern).await {
                    let matches =
                        |other: &String| mqtt5::topic_matches_filter(&kept.topic_name, other);
                    if !earlier.iter().any(matches) {
                        kept.retain = true;
                        let qos = (kept.qos as u8).min(place.qos());
                        place.put(publication_of(&kept, qos), None);
                    }
                }
            }
            place.grant();
        }
    }

    /// Gives up the places to which nobody came back, and forgets devices that are owed nothing.
    pub fn tidy(&self) {
        let now = Instant::now();
        lock(&self.places).retain(|_, place| match place.is_given_up(now) {
            None => true,
            Some(0) => false,
            Some(left) => {
                let left = u64::try_from(left).unwrap_or(u64::MAX);
                self.voice.dropped(left, "the source for which they came is gone");
                false
            }
        });
        lock(&self.devices).retain(|_, dues| Arc::strong_count(dues) > 1 || !dues.is_done());
    }

    /// What a device is owed.
    pub fn dues(&self, client_id: &str) -> Arc<Dues> {
        Arc::clone(lock(&self.devices).entry(client_id.into()).or_default())
    }

    /// The clients of which something is remembered and that are not there.
    pub fn absent(&self) -> Vec<Arc<str>> {
        let devices = lock(&self.devices);
        let absent = devices.iter().filter(|(_, dues)| Arc::strong_count(dues) == 1);
        absent.map(|(client_id, _)| Arc::clone(client_id)).collect()
    }

    /// The ways to the readers of a topic, once each has room for a message of that QoS. At QoS 0
    /// nobody waits.
    pub async fn ways(&self, topic: &str, qos: u8) -> Vec<Way> {
        let ways: Vec<Way> =
            self.readers(topic).map(|(place, most)| (place, qos.min(most))).collect();
        for (place, qos) in &ways {
            if *qos > 0 {
                place.room().await;
            }
        }
        ways
    }

    /// The same, but no reader is waited for longer than that since it was full. One that still is gets
    /// it at QoS 0, which it loses, and that is counted.
    pub async fn ways_within(&self, topic: &str, qos: u8, most: Duration) -> Vec<Way> {
        let ways = self.readers(topic).map(async |(place, highest)| {
            let qos = qos.min(highest);
            let has_room = qos == 0 || place.room_within(most).await;
            (place, if has_room { qos } else { 0 })
        });
        join_all(ways).await
    }

    /// Why a message of that topic has to wait, in words.
    fn why_full(&self, topic: &str) -> String {
        let mut full = self.readers(topic).filter(|(place, _)| !place.has_room());
        let first = full.next().map(|(place, _)| place.why_full());
        first.unwrap_or_else(|| "a source on this broker was too slow".to_owned())
    }

    /// Publishes along those ways, and to the devices but the one from which it comes.
    pub async fn send(
        &self,
        mut packet: PublishPacket,
        ways: Vec<Way>,
        from: Option<&str>,
        dues: &Dues,
    ) -> anyhow::Result<Receipt> {
        let router = self.router().await?;
        let (ticket, receipt) = dues.ticket();
        for (place, qos) in ways {
            let mut publication = publication_of(&packet, qos);
            // Only what was kept before a reader came is retained for it.
            publication.retain = false;
            if qos > 0 {
                place.put(publication, Some(Arc::clone(&ticket)));
            } else if !place.offer(publication) {
                let why = place.why_full();
                self.voice.dropped(1, &format!("{why}, and what comes at QoS 0 does not wait"));
            }
        }
        drop(ticket);
        if packet.retain {
            packet.retain = self.may_keep(&packet, &router).await;
        }
        let deadline = Instant::now() + ROUTE_BUDGET_MAX;
        router.route_message_with_deadline(&packet, from, deadline).await;
        Ok(receipt)
    }

    /// Whether there is room to keep a message for later subscribers.
    async fn may_keep(&self, packet: &PublishPacket, router: &MessageRouter) -> bool {
        if packet.payload.is_empty() {
            // It takes back what is kept.
            return true;
        }
        let topic = &packet.topic_name;
        // With its topic and its properties.
        let size_bytes = packet.body_encoded_size();
        if size_bytes > LARGEST_RETAINED {
            self.voice.trouble(&anyhow!(
                "passed on without keeping it for later subscribers: a retained message of \
                 {size_bytes} bytes, more than {LARGEST_RETAINED}, for `{topic}`"
            ));
            return false;
        }
        if router.retained_store_full(topic).await {
            let most = router.max_retained_messages();
            self.voice.trouble(&anyhow!(
                "passed on without keeping it for later subscribers: a retained message for \
                 `{topic}`, since {most} topics have one already"
            ));
            return false;
        }
        true
    }

    /// Who reads a topic, and up to which QoS. Of those who share a subscription one gets it, if
    /// possible one who is there.
    fn readers(&self, topic: &str) -> impl Iterator<Item = Way> + use<> {
        let now = Instant::now();
        let mut ways: Vec<Way> = Vec::new();
        let mut groups: BTreeMap<String, Vec<(bool, Way)>> = BTreeMap::new();
        for place in lock(&self.places).values() {
            let Some(interest) = place.interest(topic, now) else { continue };
            let Interest { qos, alone, shared, is_taken } = interest;
            if alone {
                ways.push((Arc::clone(place), qos));
            }
            for group in shared {
                groups.entry(group).or_default().push((is_taken, (Arc::clone(place), qos)));
            }
        }
        for mut members in groups.into_values() {
            if members.iter().any(|(is_taken, _)| *is_taken) {
                members.retain(|(is_taken, _)| *is_taken);
            }
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % members.len();
            ways.push(members.swap_remove(turn).1);
        }
        ways.into_iter()
    }

    async fn route(&self, batch: Vec<Publication>) -> Result<Written, WriteError> {
        for publication in &batch {
            let topic = &publication.topic;
            mqtt5::validate_topic_name(topic).map_err(|error| {
                WriteError::reject(anyhow!(
                    "the message's topic cannot be published to: {error}, found `{topic}`"
                ))
            })?;
            if is_private(topic) {
                return Err(WriteError::reject(anyhow!(
                    "the message's topic cannot be published to: what begins with `$forebay/` is \
                     the broker's own, found `{topic}`"
                )));
            }
        }
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut open = Open { dues: &self.nodes, messages: Vec::with_capacity(batch.len()) };
        let placed = self.place(batch, deadline, &mut open).await;
        let settled = match placed {
            Ok(()) => timeout_at(deadline, open.settled()).await.is_ok(),
            Err(_) => false,
        };
        if settled {
            // No wire is between us.
            return Ok(Written::default());
        }
        let is_settled = |(_, receipt): &&(Publication, Receipt)| receipt.is_settled();
        let taken = open.messages.iter().take_while(is_settled).count();
        let late = || anyhow!("the pipeline behind a source on this broker takes too long");
        Err(WriteError::retry(placed.err().unwrap_or_else(late)).taken(taken))
    }

    /// Puts a batch to the places of its readers, up to the first message for which there is no room.
    async fn place(
        &self,
        batch: Vec<Publication>,
        deadline: Instant,
        open: &mut Open<'_>,
    ) -> anyhow::Result<()> {
        for publication in batch {
            let receipt = match self.nodes.again(&publication) {
                Some(receipt) => receipt,
                None => {
                    let (topic, qos) = (&publication.topic, publication.qos);
                    let ways = timeout_at(deadline, self.ways(topic, qos)).await;
                    let ways = ways.map_err(|_| anyhow!(self.why_full(topic)))?;
                    self.send(packet_of(publication.clone()), ways, None, &self.nodes).await?
                }
            };
            open.messages.push((publication, receipt));
        }
        Ok(())
    }
}

/// Messages of a node that readers have not settled. Those left when it is dropped are not put to
/// them once more when the node sends them again.
struct Open<'a> {
    dues: &'a Dues,
    messages: Vec<(Publication, Receipt)>,
}

impl Open<'_> {
    async fn settled(&self) {
        loop {
            let told = self.dues.told();
            if self.messages.iter().all(|(_, receipt)| receipt.is_settled()) {
                return;
            }
            told.await;
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        for (publication, receipt) in self.messages.drain(..) {
            if !receipt.is_settled() {
                self.dues.leave_late(publication, receipt);
            }
        }
    }
}

impl PubSub for Local {
    fn ready(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async { self.router().await.map(drop) }.boxed()
    }

    fn publish(
        &self,
        batch: Vec<Publication>,
        _: Progress,
    ) -> BoxFuture<'_, Result<Written, WriteError>> {
        self.route(batch).boxed()
    }

    fn subscribe(&self, wish: Subscribe) -> Box<dyn Subscription> {
        let mut places = lock(&self.places);
        let new = || Place::new(wish.clone());
        let place = places.entry(Arc::clone(&wish.reader)).or_insert_with(new);
        let seat = place.sit(wish);
        drop(places);
        self.asked.notify_one();
        Box::new(seat)
    }

    fn break_off(&self, _: anyhow::Error) {
        // Nothing is under way that could come late.
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change leaves it whole, so a panic elsewhere does not matter.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
