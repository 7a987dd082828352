//! What every client of the broker needs, in mqtt5's words, and the limits it keeps to.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use forebay_sdk::{Secret, Size, Voice};
use mqtt5::broker::{
    AuthProvider, BrokerConfig, DynamicStorage, MemoryBackend, ResourceLimits, ResourceMonitor,
    client_handler::ClientHandler, router::MessageRouter, storage::QueueLimits,
    storage::StorageBackend, sys_topics::BrokerStats, transport::BrokerTransport,
};
use tokio::sync::broadcast;
use tracing::debug;

use crate::{
    dues::MOST_UNACKNOWLEDGED,
    hall::Hall,
    local::{LARGEST_RETAINED, Local},
    users::Users,
};

/// The most topics whose last message is kept.
const MOST_RETAINED: usize = 1000;
/// The most subscriptions of one client.
const MOST_SUBSCRIPTIONS: usize = 100;
/// The most messages on the short way to a device. What is beyond goes through its queue.
const MOST_IN_LANE: usize = 256;
/// The most topic aliases of an MQTT 5 client.
pub const MOST_ALIASES: u16 = 32;
/// How many sessions are remembered for each connection that is allowed.
const SESSIONS_PER_CONNECTION: usize = 2;
/// The most bytes that wait for one subscriber, unless one packet is larger.
const MOST_QUEUED_BYTES: usize = 1 << 20;
/// How long the broker remembers the session of a client that is away.
const LONGEST_SESSION: Duration = Duration::from_secs(24 * 3600);
/// How often expired sessions are looked for.
pub const SWEEP: Duration = Duration::from_secs(60);

/// Who may come, and how much of everything there may be.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The password of each user. None lets anybody in.
    pub users: Option<BTreeMap<String, Secret>>,
    pub max_connections: u16,
    pub max_packet: Size,
    /// The most messages of QoS 1 and 2 that wait for one subscriber.
    pub max_queued: u32,
}

impl Terms {
    fn max_packet(&self) -> usize {
        usize::try_from(self.max_packet.0).unwrap_or(usize::MAX)
    }

    /// The limits of the queue of one device.
    fn queue(&self) -> QueueLimits {
        QueueLimits {
            max_messages: usize::try_from(self.max_queued).unwrap_or(usize::MAX),
            max_bytes: MOST_QUEUED_BYTES.max(self.max_packet()),
        }
    }
}

/// What every client needs, in mqtt5's words.
pub struct House {
    config: Arc<BrokerConfig>,
    pub router: Arc<MessageRouter>,
    storage: Arc<DynamicStorage>,
    users: Arc<Users>,
    pub hall: Arc<Hall>,
    stats: Arc<BrokerStats>,
    monitor: Arc<ResourceMonitor>,
    shutdown: broadcast::Sender<()>,
}

impl House {
    pub fn new(terms: &Terms, voice: Voice) -> House {
        let limits = terms.queue();
        let storage = Arc::new(DynamicStorage::Memory(MemoryBackend::with_queue_limits(limits)));
        let router = MessageRouter::with_storage(Arc::clone(&storage))
            .with_retained_limits(MOST_RETAINED, LARGEST_RETAINED);
        let config = BrokerConfig {
            max_packet_size: terms.max_packet(),
            max_subscriptions_per_client: MOST_SUBSCRIPTIONS,
            client_channel_capacity: MOST_IN_LANE,
            server_receive_maximum: Some(MOST_UNACKNOWLEDGED),
            topic_alias_maximum: MOST_ALIASES,
            session_expiry_interval: LONGEST_SESSION,
            ..BrokerConfig::default()
        };
        // Connections are bounded by us, so that those count which have not said who they are.
        let monitor = ResourceMonitor::new(ResourceLimits {
            max_connections: usize::MAX,
            max_connections_per_ip: usize::MAX,
            max_message_rate_per_client: 0,
            max_bandwidth_per_client: 0,
            max_connection_rate: u32::MAX,
            rate_limit_window: SWEEP,
        });
        let hall = Hall::new(usize::from(terms.max_connections));
        let most_sessions = usize::from(terms.max_connections) * SESSIONS_PER_CONNECTION;
        let users = Users {
            passwords: terms.users.clone(),
            storage: Arc::clone(&storage),
            most_sessions,
            hall: Arc::clone(&hall),
            guesses: Mutex::default(),
            voice,
        };
        House {
            config: Arc::new(config),
            router: Arc::new(router),
            storage,
            users: Arc::new(users),
            hall,
            stats: Arc::new(BrokerStats::new()),
            monitor: Arc::new(monitor),
            shutdown: broadcast::Sender::new(1),
        }
    }

    /// The largest packet of a device, in bytes.
    pub fn max_packet(&self) -> usize {
        self.config.max_packet_size
    }

    /// Serves one client until it leaves.
    pub fn serve(
        &self,
        transport: BrokerTransport,
        from: SocketAddr,
    ) -> impl Future<Output = ()> + use<> {
        let handler = ClientHandler::new(
            transport,
            from,
            Arc::clone(&self.config),
            Arc::clone(&self.router),
            Arc::clone(&self.users) as Arc<dyn AuthProvider>,
            Some(Arc::clone(&self.storage)),
            Arc::clone(&self.stats),
            Arc::clone(&self.monitor),
            self.shutdown.subscribe(),
        );
        async move {
            if let Err(error) = handler.run().await {
                debug!(%from, %error, "a client left with an error");
            }
        }
    }

    /// Forgets what has expired. To be called every [`SWEEP`].
    pub async fn sweep(&self, local: &Local) {
        if let Err(error) = self.storage.cleanup_expired().await {
            debug!(%error, "could not clean up expired messages");
        }
        self.router.sweep_sessions().await;
        self.monitor.cleanup_expired_windows().await;
        for client_id in local.absent() {
            if let Ok(None) = self.storage.get_session(&client_id).await {
                local.dues(&client_id).forget_unfinished();
            }
        }
    }
}
