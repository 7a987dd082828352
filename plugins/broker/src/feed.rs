//! Brings what a reader among the nodes subscribes to from the router to its place.
//!
//! While the place is full nothing more is taken from the router: a publisher that finds the way
//! full waits a little, and then its messages go to a queue of mqtt5, which drops its oldest.

use std::{collections::BTreeMap, future::pending, sync::Arc};

use anyhow::anyhow;
use forebay_sdk::{
    Voice,
    mqtt::{Event, Subscribe},
};
use mqtt5::{
    ProtocolVersion, QoS,
    broker::{
        MemoryBackend, StorageBackend,
        router::{DeliveryLanes, LaneReceivers, MessageRouter, SubscriptionRequest},
        storage::{QueueHandle, QueueLimits},
    },
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use crate::{
    place::Place,
    properties::{publication_of, queued_publication_of},
};

/// The most messages on the short way to a reader. What is beyond goes through its queue.
pub const MOST_IN_LANE: usize = 256;
/// How many messages leave the queue at a time.
const MOST_IN_HAND: usize = 64;

/// Fills the place of one reader.
pub struct Feed {
    place: Arc<Place>,
    number: u64,
    router: Arc<MessageRouter>,
    /// No client on the network can have it: mqtt5 refuses a `/` in theirs.
    client_id: String,
    queue: QueueHandle,
    /// The number of the queue's first message.
    first: u64,
    /// How many left the queue.
    taken: u64,
    /// How many the queue has dropped, as far as was told.
    lost: u64,
    granted: BTreeMap<String, u8>,
    /// The reader whose wish was followed last.
    holder: Option<u64>,
    voice: Voice,
}

impl Feed {
    pub fn new(
        place: Arc<Place>,
        number: u64,
        router: Arc<MessageRouter>,
        limits: QueueLimits,
        voice: Voice,
    ) -> Feed {
        let client_id = format!("forebay/{number}");
        // From a store of its own: so its numbers tell how many messages it was given.
        let queue = MemoryBackend::with_queue_limits(limits).queue_handle(&client_id);
        let first = queue.next_seq();
        Feed {
            place,
            number,
            router,
            client_id,
            queue,
            first,
            taken: 0,
            lost: 0,
            granted: BTreeMap::new(),
            holder: None,
            voice,
        }
    }

    /// Fills the place until its reader has been gone for a while.
    pub async fn run(mut self) {
        let (lanes, mut arriving) = DeliveryLanes::channel(MOST_IN_LANE);
        // Nobody else has this id, so nobody takes the place of this client.
        let (displace, _displaced) = oneshot::channel();
        let (client_id, queue) = (self.client_id.clone(), Arc::clone(&self.queue));
        self.router.register_client(client_id, lanes, queue, displace).await;
        while let Some(demand) = self.place.demand(Instant::now()) {
            if self.holder.replace(demand.holder) != Some(demand.holder) {
                self.follow(&demand.wish).await;
            }
            let most = QoS::from(demand.wish.qos);
            tokio::select! {
                () = self.bring(&mut arriving, most) => (),
                () = until(demand.until) => (),
            }
        }
        self.router.unregister_client(&self.client_id).await;
        // What was routed here in between, as to a client that is away.
        self.router.queue_handle(&self.client_id).clear(None);
    }

    /// Subscribes to what the reader wants, and to nothing else. Brings what is retained.
    async fn follow(&mut self, wish: &Subscribe) {
        for filter in &wish.filters {
            if self.granted.get(filter) == Some(&wish.qos) {
                continue;
            }
            match self.subscribe(filter, wish.qos).await {
                Ok(()) => {
                    let before = self.granted.insert(filter.clone(), wish.qos);
                    if before.is_none() {
                        self.bring_retained(filter, wish).await;
                    }
                }
                Err(error) => {
                    let (filter, why) = (filter.clone(), error.to_string());
                    self.place.tell(Event::Refused { filter, why });
                }
            }
        }
        let is_surplus = |filter: &&String| !wish.filters.contains(filter);
        let surplus: Vec<String> = self.granted.keys().filter(is_surplus).cloned().collect();
        for filter in surplus {
            self.router.unsubscribe(&self.client_id, &filter, None).await;
            self.granted.remove(&filter);
        }
        if !self.granted.is_empty() {
            self.place.tell(Event::Granted);
        }
    }

    async fn subscribe(&self, filter: &str, qos: u8) -> anyhow::Result<()> {
        mqtt5::validate_topic_filter(filter).map_err(|error| anyhow!("{error}"))?;
        let request = SubscriptionRequest::new(&*self.client_id, filter, QoS::from(qos))
            .with_protocol_version(ProtocolVersion::V5);
        self.router.subscribe(request).await.map_err(|error| anyhow!("{error}"))?;
        Ok(())
    }

    /// Brings what is retained for a new filter, unless another filter brought it already. A shared
    /// subscription gets nothing of it.
    async fn bring_retained(&self, filter: &str, wish: &Subscribe) {
        let brought = |topic: &str| {
            let earlier = wish.filters.iter().take_while(|other| *other != filter);
            let mut had = earlier.filter(|other| self.granted.contains_key(*other));
            had.any(|other| mqtt5::topic_matches_filter(topic, other))
        };
        for mut kept in self.router.get_retained_messages(filter).await {
            if !brought(&kept.topic_name) {
                kept.retain = true;
                self.place.put(publication_of(kept, QoS::from(wish.qos)));
            }
        }
    }

    /// Brings what comes, as far as there is room, until the reader wants something else.
    async fn bring(&mut self, arriving: &mut LaneReceivers, most: QoS) {
        loop {
            self.fill(arriving, most).await;
            self.tell_lost();
            let has_room = self.place.has_room();
            tokio::select! {
                () = self.place.asked() => return,
                Some(message) = arriving.qos0.recv() => {
                    // It does not wait: nobody would slow down for it.
                    if has_room {
                        self.place.put(publication_of(message.publish, most));
                    } else {
                        self.voice.dropped(1, "a source on this broker is too slow for what comes at QoS 0");
                    }
                }
                Some(message) = arriving.qos1.recv(), if has_room => {
                    self.place.put(publication_of(message.publish, most));
                }
                () = self.queue.notified() => (),
                () = self.place.room(), if !has_room => (),
            }
        }
    }

    /// Takes what is there, as long as there is room. It does not wait on the way, so nothing is lost
    /// when this is dropped: what waits in a queue in memory is at hand. What is in the lane is older than what is in
    /// the queue.
    async fn fill(&mut self, arriving: &mut LaneReceivers, most: QoS) {
        while self.place.has_room() {
            if let Ok(message) = arriving.qos1.try_recv() {
                self.place.put(publication_of(message.publish, most));
                continue;
            }
            if self.queue.is_empty() {
                return;
            }
            let before = self.queue.count();
            let batch = self.queue.take(MOST_IN_HAND).await;
            // Those that expired in the queue left it too.
            self.taken += before.saturating_sub(self.queue.count()) as u64;
            for message in batch {
                self.place.put(queued_publication_of(message, most));
            }
            self.queue.finish_drain();
        }
    }

    /// mqtt5 drops the oldest of a full queue, and does not say so: but what went in and neither
    /// came out nor is there is gone.
    fn tell_lost(&mut self) {
        let given = self.queue.next_seq() - self.first;
        let lost = given.saturating_sub(self.taken + self.queue.count() as u64);
        if lost > self.lost {
            let why = "a source on this broker is too slow: `max_queued` messages wait for it";
            self.voice.dropped(lost - self.lost, why);
            self.lost = lost;
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.place.end_feed(self.number);
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
