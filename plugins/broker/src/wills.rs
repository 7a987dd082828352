//! The last wills of devices. mqtt5 knows when one is due; the nodes hear of it from us.
//!
//! So a will goes to mqtt5 with another topic, which only this task subscribes to. It publishes the
//! will as it was meant, to nodes and devices alike.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use mqtt5::{
    QoS,
    broker::{
        MemoryBackend, StorageBackend,
        router::{DeliveryLanes, MessageRouter, SubscriptionRequest},
        storage::QueueLimits,
    },
    packet::{connect::ConnectPacket, publish::PublishPacket},
};
use tokio::sync::oneshot;
use tracing::debug;

use crate::{dues::Dues, local::Local};

/// No device can have this client id: mqtt5 refuses a `/` in theirs.
const CLIENT_ID: &str = "forebay/wills";
const KEPT: &str = "$forebay/will/kept/";
const PASSING: &str = "$forebay/will/passing/";
/// How much longer a packet becomes.
pub const LONGEST_PREFIX: usize = PASSING.len();
/// How long wills wait for a source that is full. From then on they pass that one by until it has
/// room, so that it does not hold up the wills behind them.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The most wills that wait to be published.
const MOST_WAITING: usize = 256;

/// Has the will of a device come by way of here.
pub fn send_here(connect: &mut ConnectPacket) {
    if let Some(will) = &mut connect.will
        && mqtt5::validate_topic_name(&will.topic).is_ok()
    {
        let prefix = if will.retain { KEPT } else { PASSING };
        will.topic.insert_str(0, prefix);
        will.retain = false;
    }
}

/// A will, as it was meant.
fn as_meant(mut packet: PublishPacket) -> Option<PublishPacket> {
    let topic = &packet.topic_name;
    let kept = topic.strip_prefix(KEPT);
    let meant = kept.or_else(|| topic.strip_prefix(PASSING))?.to_owned();
    packet.retain = kept.is_some();
    packet.topic_name = meant;
    // mqtt5 adds who published it.
    packet.properties.inject_client_id(None);
    packet.properties.inject_sender(None);
    Some(packet)
}

/// Publishes wills as they become due. Runs as long as the broker does.
pub async fn publish(local: Arc<Local>, router: Arc<MessageRouter>) -> anyhow::Result<()> {
    let (lanes, mut arriving) = DeliveryLanes::channel(MOST_WAITING);
    let limits = QueueLimits { max_messages: MOST_WAITING, max_bytes: 1 << 20 };
    let queue = MemoryBackend::with_queue_limits(limits).queue_handle(CLIENT_ID);
    let (displace, _displaced) = oneshot::channel();
    router.register_client(CLIENT_ID.to_owned(), lanes, Arc::clone(&queue), displace).await;
    for prefix in [KEPT, PASSING] {
        let all = format!("{prefix}#");
        let wish = SubscriptionRequest::new(CLIENT_ID, all, QoS::ExactlyOnce);
        router.subscribe(wish).await.map_err(|error| anyhow!("{error}"))?;
    }
    let nobody = Dues::default();
    let publish = async |packet: PublishPacket| {
        let Some(will) = as_meant(packet) else { return };
        let ways = local.ways_within(&will.topic_name, will.qos as u8, LONGEST_WAIT).await;
        if let Err(error) = local.send(will, ways, None, &nobody).await {
            debug!(%error, "a will was not published");
        }
    };
    loop {
        tokio::select! {
            Some(message) = arriving.qos1.recv() => publish(message.publish).await,
            Some(message) = arriving.qos0.recv() => publish(message.publish).await,
            () = queue.notified() => {
                for message in queue.take(MOST_WAITING).await {
                    publish(message.to_publish_packet()).await;
                }
                queue.finish_drain();
            }
        }
    }
}
