//! Runs the broker: listeners, clients, and the subscriptions of nodes, all owned by one task.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use forebay_sdk::{
    Capabilities, Claim, Configured, Connection, Node, Secret, Shared, Site, Size, Voice, World,
    mqtt::Broker, world::Stream,
};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{interval, sleep},
};
use tracing::{debug, info};

use crate::{
    broker::Limits,
    budget::{Budget, Use},
    hall::Hall,
    house::House,
    listen::{Door, accept, listen},
    local::Local,
    serve::Service,
    session::Room,
    users::Users,
    wills,
};

/// How often a listener is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often it is asked who is gone for good.
const TIDY: Duration = Duration::from_secs(10);
/// How often it is asked which sessions and messages are over, and which wills are due.
const TICK: Duration = Duration::from_secs(1);
/// How often what is left of devices without a session is forgotten.
const SWEEP: Duration = Duration::from_secs(60);
/// What a connection takes: its task, and its buffers, in bytes.
const CONNECTION_BYTES: usize = 24 << 10;
/// The pause after a connection could not be accepted: too many files are open.
const PAUSE: Duration = Duration::from_millis(100);

/// Who may come, and how much of everything there may be.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The password of each user. None lets anybody in.
    pub users: Option<BTreeMap<String, Secret>>,
    pub memory: Size,
    pub max_connections: u16,
    pub max_connections_per_address: u16,
    pub max_sessions: u32,
    pub session_expiry: Duration,
    pub max_keep_alive: Option<Duration>,
    pub max_packet: Size,
    pub max_queued: u32,
    pub max_queued_bytes: Size,
    pub max_in_flight: u16,
    pub max_subscriptions: u32,
    pub max_retained: u32,
    /// None leaves it to the memory.
    pub max_retained_bytes: Option<Size>,
}

/// How many messages of QoS 0 wait for one device.
const MOST_AT_QOS_0: usize = 256;

impl Terms {
    fn limits(&self) -> Limits {
        let room = Room {
            messages: self.max_queued as usize,
            bytes: bytes(self.max_queued_bytes).max(bytes(self.max_packet)),
            at_qos_0: MOST_AT_QOS_0,
            in_flight: self.max_in_flight,
        };
        Limits {
            sessions: self.max_sessions as usize,
            subscriptions: self.max_subscriptions as usize,
            retained: self.max_retained as usize,
            retained_bytes: self.max_retained_bytes.map_or(usize::MAX, bytes),
            room,
            longest_session: self.session_expiry,
        }
    }

    fn service(&self, local: &Arc<Local>, voice: &Voice) -> Service {
        let budget = Budget::new(bytes(self.memory));
        let (most, of_one) = (self.max_connections, self.max_connections_per_address);
        let hall = Hall::new(most.into(), of_one.into());
        let seconds = self.max_keep_alive.map(|longest| longest.as_secs());
        Service {
            house: Arc::new(House::new(self.limits(), budget, voice.clone())),
            local: Arc::clone(local),
            users: Arc::new(Users::new(self.users.clone(), hall, voice.clone())),
            voice: voice.clone(),
            max_packet: bytes(self.max_packet),
            max_keep_alive: seconds.map(|seconds| u16::try_from(seconds).unwrap_or(u16::MAX)),
        }
    }
}

fn bytes(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

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
        let service = self.settings.terms.service(&self.local, voice);
        let house = &service.house;
        // The set comes before what tells the nodes that the broker stopped, so it outlives it.
        let mut tasks = JoinSet::new();
        let _open = Open::new(&self.local, house);
        voice.ready();
        // Who listens is good for something, whether anybody calls or not.
        voice.works();
        let wills = wills::publish(Arc::clone(&self.local), Arc::clone(house));
        tasks.spawn(wills);

        let mut retry = interval(RETRY);
        let (mut sweep, mut tidy, mut tick) = (interval(SWEEP), interval(TIDY), interval(TICK));
        loop {
            let is_shut = doors.len() < self.settings.listen.len();
            tokio::select! {
                // A port in use is the trouble of those who come by it, and of nobody else.
                _ = retry.tick(), if is_shut => self.listen(&mut doors, voice).await,
                accepted = accept(&doors) => match accepted {
                    Ok((stream, from)) => admit(stream, from, &service, &mut tasks),
                    Err(error) => {
                        voice.trouble(&error);
                        sleep(PAUSE).await;
                    }
                },
                () = self.local.asked() => self.local.bring_retained(house),
                Some(ended) = tasks.join_next() => told(ended, voice),
                _ = sweep.tick() => self.local.sweep(house),
                _ = tick.tick() => house.tick(),
                _ = tidy.tick() => self.local.tidy(),
            }
        }
    }
}

/// Lets a client in, if there is room.
fn admit(
    stream: Box<dyn Stream>,
    from: SocketAddr,
    service: &Service,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    let ip = from.ip();
    let refuse = |why: &dyn std::fmt::Display| {
        service.voice.trouble(&anyhow!("refused a connection from {ip}: {why}"));
    };
    let guest = match service.users.hall.enter(from) {
        Ok(guest) => guest,
        Err(error) => return refuse(&error),
    };
    let Some(charge) = service.house.budget.take(Use::Connections, CONNECTION_BYTES) else {
        return refuse(&"the memory for connections is full (`memory`)");
    };
    let (stream, service) = (at_once(stream), service.clone());
    tasks.spawn(async move {
        let served = service.serve(stream, from).await;
        drop((guest, charge));
        served.with_context(|| format!("serving {ip}"))
    });
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
    fn new(local: &'a Local, house: &Arc<House>) -> Open<'a> {
        local.open(Arc::clone(house));
        Open(local)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
