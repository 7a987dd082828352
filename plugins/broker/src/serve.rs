//! Runs the broker: listeners, clients, and the subscriptions of nodes, all owned by one task.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::anyhow;
use forebay_sdk::{Connection, Tally};
use mqtt5::broker::{
    BrokerConfig, DynamicStorage, MemoryBackend, ResourceLimits, ResourceMonitor,
    client_handler::ClientHandler, router::MessageRouter, storage::QueueLimits,
    storage::StorageBackend, sys_topics::BrokerStats, transport::BrokerTransport,
};
use tokio::{
    net::TcpStream,
    sync::{broadcast, mpsc, watch},
    task::JoinSet,
    time::{Instant, interval, sleep},
};
use tracing::{debug, info, warn};

use crate::{
    listen::{accept, listen},
    local::{Local, MOST_IN_LANE, Subscriber},
    settings::BrokerSettings,
    users::Users,
};

/// The most topics whose last message is kept.
const MOST_RETAINED: usize = 1000;
/// The largest message that is kept.
const LARGEST_RETAINED: usize = 64 << 10;
/// The most subscriptions of one client.
const MOST_SUBSCRIPTIONS: usize = 100;
/// The most messages of QoS 2 that a client may leave unfinished. Each is held in memory.
const MOST_UNFINISHED: u16 = 200;
/// The most topic aliases of an MQTT 5 client.
const MOST_ALIASES: u16 = 32;
/// How many sessions are remembered for each connection that is allowed.
const SESSIONS_PER_CONNECTION: usize = 2;
/// The most bytes that wait for one subscriber, unless one packet is larger.
const MOST_QUEUED_BYTES: usize = 1 << 20;
/// How long the broker remembers the session of a client that is away.
const LONGEST_SESSION: Duration = Duration::from_secs(24 * 3600);
/// How often expired sessions are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// The pause after a connection could not be accepted: too many files are open.
const PAUSE: Duration = Duration::from_millis(100);

/// The embedded broker.
pub struct Broker {
    settings: BrokerSettings,
    local: Arc<Local>,
    subscribers: mpsc::Receiver<Subscriber>,
    /// Where the broker listens while it runs: port 0 becomes a real one.
    bound: watch::Sender<Vec<SocketAddr>>,
}

/// What every client needs, in mqtt5's words.
struct House {
    config: Arc<BrokerConfig>,
    router: Arc<MessageRouter>,
    storage: Arc<DynamicStorage>,
    users: Arc<Users>,
    stats: Arc<BrokerStats>,
    monitor: Arc<ResourceMonitor>,
    shutdown: broadcast::Sender<()>,
}

impl Broker {
    pub fn new(
        settings: BrokerSettings,
        local: Arc<Local>,
        subscribers: mpsc::Receiver<Subscriber>,
    ) -> Broker {
        Broker { settings, local, subscribers, bound: watch::Sender::default() }
    }

    /// Where the broker listens.
    #[cfg(test)]
    pub fn bound(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.bound.subscribe()
    }
}

impl Connection for Broker {
    async fn run(&mut self, ready: &(dyn Fn() + Send + Sync)) -> anyhow::Result<()> {
        let listeners = listen(&self.settings.addresses()).await?;
        let bound: Vec<SocketAddr> = listeners.iter().flat_map(|l| l.local_addr()).collect();
        info!(?bound, "the broker listens");
        self.bound.send_replace(bound);

        let house = House::new(&self.settings);
        house.router.initialize().await.map_err(|error| anyhow!("{error}"))?;
        // The set comes before what tells the nodes that the broker stopped, so it outlives it.
        let mut tasks = JoinSet::new();
        let _open = Open::new(&self.local, &house.router);
        ready();

        let most = usize::from(self.settings.max_connections);
        let mut refused = Tally::default();
        let clients = Clients::default();
        let mut sweep = interval(SWEEP);
        loop {
            tokio::select! {
                accepted = accept(&listeners) => match accepted {
                    Ok((stream, from)) if clients.count() < most => {
                        let client = house.serve(stream, from);
                        let guest = clients.enter();
                        tasks.spawn(async move {
                            client.await;
                            drop(guest);
                        });
                    }
                    Ok((_, from)) => {
                        if let Some(times) = refused.add(Instant::now()) {
                            warn!(%from, most, times, "refused a connection: `max_connections` reached");
                        }
                    }
                    Err(error) => {
                        if let Some(times) = refused.add(Instant::now()) {
                            warn!(%error, times, "could not accept a connection");
                        }
                        sleep(PAUSE).await;
                    }
                },
                Some(subscriber) = self.subscribers.recv() => {
                    let router = Arc::clone(&house.router);
                    tasks.spawn(subscriber.serve(router));
                }
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        warn!(%error, "the broker dropped a client because of an error of its own");
                    }
                }
                _ = sweep.tick() => house.sweep().await,
            }
        }
    }
}

impl House {
    fn new(settings: &BrokerSettings) -> House {
        let max_packet = usize::try_from(settings.max_packet.0).unwrap_or(usize::MAX);
        let limits = QueueLimits {
            max_messages: usize::try_from(settings.max_queued).unwrap_or(usize::MAX),
            max_bytes: MOST_QUEUED_BYTES.max(max_packet),
        };
        let storage = Arc::new(DynamicStorage::Memory(MemoryBackend::with_queue_limits(limits)));
        let router = MessageRouter::with_storage(Arc::clone(&storage))
            .with_retained_limits(MOST_RETAINED, LARGEST_RETAINED);
        let config = BrokerConfig {
            max_packet_size: max_packet,
            max_subscriptions_per_client: MOST_SUBSCRIPTIONS,
            client_channel_capacity: MOST_IN_LANE,
            server_receive_maximum: Some(MOST_UNFINISHED),
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
        let most_sessions = usize::from(settings.max_connections) * SESSIONS_PER_CONNECTION;
        let users = Users {
            passwords: settings.users.clone(),
            storage: Arc::clone(&storage),
            most_sessions,
            refused: Mutex::default(),
        };
        House {
            config: Arc::new(config),
            router: Arc::new(router),
            storage,
            users: Arc::new(users),
            stats: Arc::new(BrokerStats::new()),
            monitor: Arc::new(monitor),
            shutdown: broadcast::Sender::new(1),
        }
    }

    /// Serves one client until it leaves.
    fn serve(&self, stream: TcpStream, from: SocketAddr) -> impl Future<Output = ()> + use<> {
        // Small answers go out at once: this is a local network.
        let quick = stream.set_nodelay(true);
        let handler = ClientHandler::new(
            BrokerTransport::tcp(stream),
            from,
            Arc::clone(&self.config),
            Arc::clone(&self.router),
            Arc::clone(&self.users) as Arc<dyn mqtt5::broker::AuthProvider>,
            Some(Arc::clone(&self.storage)),
            Arc::clone(&self.stats),
            Arc::clone(&self.monitor),
            self.shutdown.subscribe(),
        );
        async move {
            if let Err(error) = quick {
                debug!(%from, %error, "a client stays on Nagle's algorithm");
            }
            if let Err(error) = handler.run().await {
                debug!(%from, %error, "a client left with an error");
            }
        }
    }

    async fn sweep(&self) {
        if let Err(error) = self.storage.cleanup_expired().await {
            debug!(%error, "could not clean up expired messages");
        }
        self.router.sweep_sessions().await;
        self.monitor.cleanup_expired_windows().await;
    }
}

/// Counts the clients that are connected.
#[derive(Default)]
struct Clients(Arc<()>);

impl Clients {
    fn enter(&self) -> Arc<()> {
        Arc::clone(&self.0)
    }

    fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// Lets the nodes in, until it is dropped.
struct Open<'a>(&'a Local);

impl<'a> Open<'a> {
    fn new(local: &'a Local, router: &Arc<MessageRouter>) -> Open<'a> {
        local.open(Arc::clone(router));
        Open(local)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
