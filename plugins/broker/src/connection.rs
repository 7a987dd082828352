//! Runs the broker: listeners, clients, and the subscriptions of nodes, all owned by one task.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::anyhow;
use forebay_sdk::{
    Capabilities, Claim, Configured, Connection, Node, Shared, Site, Voice, World, mqtt::Broker,
    world::Stream,
};
use mqtt5::broker::{router::MessageRouter, transport::BrokerTransport};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{interval, sleep},
};
use tracing::info;

use crate::{
    feed::Feed,
    house::{House, SWEEP, Terms},
    listen::{accept, listen},
    local::Local,
};

/// The pause after a connection could not be accepted: too many files are open.
const PAUSE: Duration = Duration::from_millis(100);

/// An embedded broker, as its settings were understood.
#[derive(Clone, Debug)]
pub struct BrokerConnection {
    pub listen: Vec<SocketAddr>,
    /// The ports.
    pub claims: Vec<Claim>,
    pub terms: Terms,
}

impl Configured for BrokerConnection {
    fn build(&self, site: Site) -> Node {
        let local = Local::new(site.voice);
        let shared = Shared::new(Arc::new(Broker(Arc::clone(&local) as _)));
        Node::connection(shared, Embedded::new(self.clone(), site.world, local))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { serves: true, ..Capabilities::default() }
    }

    fn claims(&self) -> Vec<Claim> {
        self.claims.clone()
    }
}

/// The embedded broker.
pub struct Embedded {
    settings: BrokerConnection,
    world: World,
    local: Arc<Local>,
    /// Where the broker listens while it runs: port 0 becomes a real one.
    bound: watch::Sender<Vec<SocketAddr>>,
}

impl Embedded {
    pub fn new(settings: BrokerConnection, world: World, local: Arc<Local>) -> Embedded {
        Embedded { settings, world, local, bound: watch::Sender::default() }
    }

    /// Where the broker listens.
    #[cfg(test)]
    pub fn bound(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.bound.subscribe()
    }

    /// Begins to fill the places of readers that nobody fills.
    fn feed(&self, house: &House, tasks: &mut JoinSet<()>, voice: &Voice) {
        for (place, number) in self.local.unfed() {
            let (router, limits) = (Arc::clone(&house.router), self.settings.terms.queue());
            tasks.spawn(Feed::new(place, number, router, limits, voice.clone()).run());
        }
    }
}

impl Connection for Embedded {
    async fn run(&mut self, voice: &Voice) -> anyhow::Result<()> {
        let listeners = listen(&self.world, &self.settings.listen).await?;
        let bound: Vec<SocketAddr> = listeners.iter().flat_map(|l| l.local_addr()).collect();
        info!(?bound, "the broker listens");
        self.bound.send_replace(bound);

        let house = House::new(&self.settings.terms, voice.clone());
        house.router.initialize().await.map_err(|error| anyhow!("{error}"))?;
        // The set comes before what tells the nodes that the broker stopped, so it outlives it.
        let mut tasks = JoinSet::new();
        let _open = Open::new(&self.local, &house.router);
        voice.ready();
        // Who listens is good for something, whether anybody calls or not.
        voice.works();
        self.feed(&house, &mut tasks, voice);

        let clients = Clients::default();
        let mut sweep = interval(SWEEP);
        loop {
            tokio::select! {
                accepted = accept(&listeners) => match accepted {
                    Ok((stream, from)) => self.admit(stream, from, &house, &clients, &mut tasks, voice),
                    Err(error) => {
                        voice.trouble(&error);
                        sleep(PAUSE).await;
                    }
                },
                () = self.local.asked() => self.feed(&house, &mut tasks, voice),
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        let error = anyhow::Error::new(error);
                        voice.trouble(&error.context("serving a client, which is dropped"));
                    }
                    // A reader that has just come may have found the feed that ended.
                    self.feed(&house, &mut tasks, voice);
                }
                _ = sweep.tick() => house.sweep().await,
            }
        }
    }
}

impl Embedded {
    /// Lets a client in, if there is room.
    fn admit(
        &self,
        stream: Box<dyn Stream>,
        from: SocketAddr,
        house: &House,
        clients: &Clients,
        tasks: &mut JoinSet<()>,
        voice: &Voice,
    ) {
        let ip = from.ip();
        if clients.count() >= usize::from(self.settings.terms.max_connections) {
            let error = anyhow!("refused a connection from {ip}: `max_connections` reached");
            return voice.trouble(&error);
        }
        // mqtt5 serves sockets of TCP and no other stream. In a world in memory nodes reach the
        // broker in-process all the same.
        let Ok(stream) = stream.into_tcp() else {
            return voice.trouble(&anyhow!("refused a connection from {ip}: it is no TCP socket"));
        };
        let client = house.serve(BrokerTransport::tcp(stream), from);
        let guest = clients.enter();
        tasks.spawn(async move {
            client.await;
            drop(guest);
        });
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
