//! Runs the broker: listeners, clients, and the subscriptions of nodes, all owned by one task.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use forebay_sdk::{
    Capabilities, Claim, Configured, Connection, Node, Shared, Site, Voice, World, mqtt::Broker,
    world::Stream,
};
use mqtt5::broker::router::MessageRouter;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{interval, sleep},
};
use tracing::{debug, info};

use crate::{
    gate,
    house::{House, SWEEP, Terms},
    listen::{Door, accept, listen},
    local::Local,
    wills,
};

/// How often a listener is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often it is asked who is gone for good.
const TIDY: Duration = Duration::from_secs(10);
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

    /// Listens at what it does not listen at yet, as far as that is possible.
    async fn listen(&self, doors: &mut Vec<Door>, voice: &Voice) {
        for (index, address) in self.settings.listen.iter().enumerate() {
            if doors.iter().any(|door| door.index == index) {
                continue;
            }
            let what = format!("the listener at {address}");
            match listen(&self.world, *address).await {
                Ok(listener) => {
                    voice.trouble_is_over(&what);
                    info!(%address, "the broker listens");
                    doors.push(Door { index, listener });
                }
                Err(error) => voice.trouble_lasts(&what, &error),
            }
        }
        self.bound.send_replace(doors.iter().flat_map(|door| door.listener.local_addr()).collect());
    }
}

impl Connection for Embedded {
    async fn run(&mut self, voice: &Voice) -> anyhow::Result<()> {
        // First of all: what starts beside it may call at once.
        let mut doors = Vec::new();
        self.listen(&mut doors, voice).await;
        let house = Arc::new(House::new(&self.settings.terms, voice.clone()));
        house.router.initialize().await.map_err(|error| anyhow!("{error}"))?;
        // The set comes before what tells the nodes that the broker stopped, so it outlives it.
        let mut tasks = JoinSet::new();
        let _open = Open::new(&self.local, &house.router);
        voice.ready();
        // Who listens is good for something, whether anybody calls or not.
        voice.works();
        let wills = wills::publish(Arc::clone(&self.local), Arc::clone(&house.router));
        tasks.spawn(wills);

        let mut retry = interval(RETRY);
        let (mut sweep, mut tidy) = (interval(SWEEP), interval(TIDY));
        loop {
            let is_shut = doors.len() < self.settings.listen.len();
            tokio::select! {
                // A port in use is the trouble of those who come by it, and of nobody else.
                _ = retry.tick(), if is_shut => self.listen(&mut doors, voice).await,
                accepted = accept(&doors) => match accepted {
                    Ok((stream, from)) => self.admit(stream, from, &house, &mut tasks, voice),
                    Err(error) => {
                        voice.trouble(&error);
                        sleep(PAUSE).await;
                    }
                },
                () = self.local.asked() => self.local.bring_retained(&house.router).await,
                Some(ended) = tasks.join_next() => told(ended, voice),
                _ = sweep.tick() => house.sweep(&self.local).await,
                _ = tidy.tick() => self.local.tidy(),
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
        house: &Arc<House>,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        voice: &Voice,
    ) {
        let ip = from.ip();
        let guest = match house.hall.enter(from) {
            Ok(guest) => guest,
            Err(error) => {
                return voice.trouble(&anyhow!("refused a connection from {ip}: {error}"));
            }
        };
        let stream = at_once(stream);
        let (house, local, voice) = (Arc::clone(house), Arc::clone(&self.local), voice.clone());
        tasks.spawn(async move {
            let served = gate::serve(stream, from, &house, local, voice).await;
            drop(guest);
            served.with_context(|| format!("serving {ip}"))
        });
    }
}

/// Has what is sent leave at once: an acknowledgement is small, and the device waits for it.
fn at_once(stream: Box<dyn Stream>) -> Box<dyn Stream> {
    match stream.into_tcp() {
        Ok(stream) => {
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "could not turn Nagle's algorithm off");
            }
            Box::new(stream)
        }
        Err(other) => other,
    }
}

/// Says how a task ended.
fn told(ended: Result<anyhow::Result<()>, JoinError>, voice: &Voice) {
    match ended {
        Ok(Ok(())) => (),
        // Devices come and go.
        Ok(Err(error)) if error.root_cause().is::<io::Error>() => {
            debug!(error = format!("{error:#}"), "a client left");
        }
        Ok(Err(error)) => voice.trouble(&error),
        Err(error) => {
            let error = anyhow::Error::new(error);
            voice.trouble(&error.context("serving a client, which is dropped"));
        }
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
