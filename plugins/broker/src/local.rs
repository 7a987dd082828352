//! Publish and subscribe for the nodes of this program, without a network in between.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use forebay_sdk::{
    PubSub, Subscription,
    connection::{LocalBroker, Publication},
};
use futures_util::future::{BoxFuture, FutureExt};
use mqtt5::{
    ProtocolVersion, QoS,
    broker::{
        router::{DeliveryLanes, LaneReceivers, MessageRouter, SubscriptionRequest},
        storage::{ClientQueue, QueuedMessage},
    },
    packet::publish::PublishPacket,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

/// How long a node waits for the broker to start.
const LONGEST_START: Duration = Duration::from_secs(10);
/// The most messages on the short way to a subscriber. What is beyond goes through its queue.
pub const MOST_IN_LANE: usize = 256;
/// How many messages leave the queue at a time.
const MOST_IN_HAND: usize = 64;

/// What nodes see of the broker. Works while the broker runs.
pub struct Local {
    router: watch::Sender<Option<Arc<MessageRouter>>>,
    subscribers: mpsc::Sender<Subscriber>,
    next: AtomicU64,
}

/// A subscription that the broker's task is to serve.
pub struct Subscriber {
    /// No client on the network can have it: mqtt5 refuses a `/` in theirs.
    client_id: String,
    filters: Vec<String>,
    qos: QoS,
    capacity: usize,
    answer: oneshot::Sender<anyhow::Result<Subscription>>,
}

impl Local {
    /// The nodes' side, and where their subscriptions come out.
    pub fn new() -> (Arc<Local>, mpsc::Receiver<Subscriber>) {
        const MOST_AT_ONCE: usize = 16;
        let (subscribers, subscribers_out) = mpsc::channel(MOST_AT_ONCE);
        let local =
            Local { router: watch::Sender::default(), subscribers, next: AtomicU64::new(0) };
        (Arc::new(local), subscribers_out)
    }

    /// As the nodes get to see it.
    pub fn shared(self: &Arc<Local>) -> Arc<LocalBroker> {
        Arc::new(LocalBroker(Arc::clone(self) as Arc<dyn PubSub>))
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
        let mut router = self.router.subscribe();
        let running = timeout(LONGEST_START, router.wait_for(Option::is_some)).await;
        let running = running.ok().and_then(Result::ok).and_then(|router| router.clone());
        running.context("the broker in this program is not running")
    }

    async fn route(&self, publication: Publication) -> anyhow::Result<()> {
        let Publication { topic, payload, qos, retain } = publication;
        mqtt5::validate_topic_name(&topic).map_err(|error| anyhow!("{error}"))?;
        let mut packet = PublishPacket::new_v311(&*topic, payload, QoS::from(qos));
        packet.retain = retain;
        self.router().await?.route_message(&packet, None).await;
        Ok(())
    }

    async fn join(
        &self,
        filters: Vec<String>,
        qos: u8,
        capacity: usize,
    ) -> anyhow::Result<Subscription> {
        for filter in &filters {
            mqtt5::validate_topic_filter(filter).map_err(|error| anyhow!("{error}"))?;
        }
        self.router().await?;
        let (answer, answered) = oneshot::channel();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let subscriber = Subscriber {
            client_id: format!("forebay/{number}"),
            filters,
            qos: QoS::from(qos),
            capacity,
            answer,
        };
        let stopped = "the broker in this program stopped";
        if self.subscribers.send(subscriber).await.is_err() {
            bail!(stopped);
        }
        timeout(LONGEST_START, answered).await.ok().and_then(Result::ok).context(stopped)?
    }
}

impl PubSub for Local {
    fn publish(&self, publication: Publication) -> BoxFuture<'_, anyhow::Result<()>> {
        self.route(publication).boxed()
    }

    fn subscribe(
        &self,
        filters: Vec<String>,
        qos: u8,
        capacity: usize,
    ) -> BoxFuture<'_, anyhow::Result<Subscription>> {
        self.join(filters, qos, capacity).boxed()
    }
}

impl Subscriber {
    /// Serves the subscription until it is dropped.
    pub async fn serve(self, router: Arc<MessageRouter>) {
        let Subscriber { client_id, filters, qos, capacity, answer } = self;
        let (lanes, mut arriving) = DeliveryLanes::channel(MOST_IN_LANE);
        let queue = router.queue_handle(&client_id);
        // Nobody else has this id, so nobody takes the place of this subscriber.
        let (displace, _displaced) = oneshot::channel();
        router.register_client(client_id.clone(), lanes, Arc::clone(&queue), displace).await;

        let (out, subscription) = mpsc::channel(capacity.max(1));
        let subscribed = subscribe(&router, &client_id, &filters, qos).await;
        // A node that went away meanwhile drops the answer and with it the subscription.
        let _ = answer.send(subscribed.map(|()| subscription));
        tokio::select! {
            () = out.closed() => (),
            () = forward(&router, &filters, &mut arriving, &queue, &out) => (),
        }
        router.unregister_client(&client_id).await;
        queue.clear(None);
    }
}

async fn subscribe(
    router: &MessageRouter,
    client_id: &str,
    filters: &[String],
    qos: QoS,
) -> anyhow::Result<()> {
    for filter in filters {
        let request = SubscriptionRequest::new(client_id, filter, qos)
            .with_protocol_version(ProtocolVersion::V311);
        router
            .subscribe(request)
            .await
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| format!("subscribing to `{filter}`"))?;
    }
    Ok(())
}

/// Hands over what is retained, then what comes, and never returns while somebody reads.
///
/// A reader that is slow fills the lane; the router then waits a little and puts what follows into
/// the queue, which drops its oldest when it is full.
async fn forward(
    router: &MessageRouter,
    filters: &[String],
    arriving: &mut LaneReceivers,
    queue: &ClientQueue,
    out: &mpsc::Sender<Publication>,
) {
    let mut seen = HashSet::new();
    for filter in filters {
        // A shared subscription gets nothing that is retained.
        for kept in router.get_retained_messages(filter).await {
            if seen.insert(kept.topic_name.clone()) {
                hand_over(out, publication_of(kept, true)).await;
            }
        }
    }
    loop {
        tokio::select! {
            biased;
            Some(message) = arriving.recv() => hand_over(out, publication_of(message.publish, false)).await,
            () = queue.notified() => {
                // What is in the lane is older than what is in the queue.
                while let Ok(message) = arriving.try_recv() {
                    hand_over(out, publication_of(message.publish, false)).await;
                }
                loop {
                    let batch = queue.take(MOST_IN_HAND).await;
                    if batch.is_empty() {
                        break;
                    }
                    for message in batch {
                        hand_over(out, queued_publication_of(message)).await;
                    }
                    queue.finish_drain();
                }
            }
        }
    }
}

async fn hand_over(out: &mpsc::Sender<Publication>, publication: Publication) {
    // An error means that nobody reads any more, which ends the subscription elsewhere.
    let _ = out.send(publication).await;
}

fn publication_of(packet: PublishPacket, retain: bool) -> Publication {
    let PublishPacket { topic_name, payload, qos, .. } = packet;
    Publication { topic: topic_name.into(), payload, qos: qos as u8, retain }
}

fn queued_publication_of(message: QueuedMessage) -> Publication {
    let QueuedMessage { topic, payload, qos, .. } = message;
    Publication {
        topic: topic.into(),
        payload: Bytes::from(payload),
        qos: qos as u8,
        retain: false,
    }
}
