//! Runs the broker: listeners, clients, and the subscriptions of nodes, all owned by one task.

use std::{
    any::Any,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use forebay_sdk::{
    Capabilities, Claim, Configured, Connection, Node, Problem, Shared, Site, SyncPolicy, Voice,
    World, beside, mqtt::Broker, tls::Tls, world::Stream,
};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, interval, sleep, sleep_until, timeout},
};
use tracing::{debug, info};

use crate::{
    budget::{Budget, Use},
    dues::Dues,
    entrance::Entrance,
    hall::Hall,
    house::House,
    keeping::Keeping,
    listen::{Caller, Door, accept, listen},
    local::{Local, Origin},
    roll::{Roll, path_of},
    serve::{LONGEST_CONNECT, Service},
    status::Status,
    terms::{Listener, Terms, bytes},
    users::Users,
    wills,
    wire::{Refusal, code},
};

/// How often a listener is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often it is asked who is gone for good.
const TIDY: Duration = Duration::from_secs(10);
/// How often it is asked which sessions and messages are over, and which wills are due.
const TICK: Duration = Duration::from_secs(1);
/// What a connection takes: its task, and its buffers, in bytes.
const CONNECTION_BYTES: usize = 24 << 10;
/// The pause after a connection could not be accepted: too many files are open.
const PAUSE: Duration = Duration::from_millis(100);

/// An embedded broker, as its settings were understood.
#[derive(Clone, Debug)]
pub struct BrokerConnection {
    /// The ports.
    pub claims: Vec<Claim>,
    pub terms: Arc<Terms>,
}

impl Configured for BrokerConnection {
    fn build(&self, site: Site) -> Node {
        let local = Local::new(Arc::clone(&self.terms), site.voice);
        let shared = Shared::new(Arc::new(Broker(Arc::clone(&local) as _)));
        Node::connection(shared, Embedded::new(local, site.world, site.folder, &site.data))
    }

    fn adapts_from(&self, running: &dyn Any) -> bool {
        let running = running.downcast_ref::<BrokerConnection>();
        running.is_some_and(|running| running.terms.can_become(&self.terms))
    }

    fn adapt(&self, shared: &Shared) {
        let broker = shared.get::<Broker>();
        let local = broker.as_ref().and_then(|it| (&*it.0 as &dyn Any).downcast_ref::<Local>());
        if let Some(local) = local {
            local.change(Arc::clone(&self.terms));
        }
    }

    fn check_files(&self, folder: &Path) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (index, tls) in self.certificates(folder) {
            problems.extend(tls.problems().into_iter().map(|mut problem| {
                let whole = |setting: &str| format!("listen[{index}].{setting}");
                problem.setting = whole(&problem.setting);
                problem.also.iter_mut().for_each(|(setting, _)| *setting = whole(setting));
                problem
            }));
        }
        if let Some(file) = &self.terms.password_file
            && let Err(error) = Roll::default().add_file(&path_of(folder, file))
        {
            problems.push(Problem::new("password_file", format!("{error:#}"), ""));
        }
        problems
    }

    fn files(&self, folder: &Path) -> Vec<PathBuf> {
        let certificates = self.certificates(folder).flat_map(|(_, tls)| tls.files());
        let users = self.terms.password_file.iter().map(|file| path_of(folder, file));
        certificates.chain(users).collect()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { serves: true, ..Capabilities::default() }
    }

    fn claims(&self) -> Vec<Claim> {
        self.claims.clone()
    }
}

impl BrokerConnection {
    /// The certificates of each listener that has some, with its number.
    fn certificates(&self, folder: &Path) -> impl Iterator<Item = (usize, Tls)> {
        let folder: Arc<Path> = folder.into();
        let listeners = self.terms.listeners.iter().enumerate();
        listeners
            .filter_map(move |(index, it)| Some((index, it.tls.as_ref()?.certificates(&folder))))
    }
}

/// The embedded broker.
pub struct Embedded {
    local: Arc<Local>,
    world: World,
    /// Names of files are relative to it.
    folder: Arc<Path>,
    /// A folder of its own, for what must survive a restart.
    data: Arc<Path>,
    /// What is kept there, while it runs.
    keeping: Option<Arc<Keeping>>,
    /// Where the broker listens while it runs: port 0 becomes a real one.
    bound: watch::Sender<Vec<SocketAddr>>,
}

impl Embedded {
    pub fn new(local: Arc<Local>, world: World, folder: Arc<Path>, data: &Arc<Path>) -> Embedded {
        let (data, bound) = (Arc::clone(data), watch::Sender::default());
        Embedded { local, world, folder, data, keeping: None, bound }
    }

    /// Where the broker listens.
    #[cfg(test)]
    pub fn bound(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.bound.subscribe()
    }

    /// Listens at what it does not listen at yet, as far as that is possible.
    async fn listen(&self, doors: &mut Vec<Door>, listeners: &[Listener], voice: &Voice) {
        for wanted in listeners {
            let is_it = |door: &Door| door.entrance.listener.address == wanted.address;
            // Port 0 is another one each time.
            let wants = listeners.iter().filter(|it| it.address == wanted.address).count();
            if doors.iter().filter(|door| is_it(door)).count() >= wants {
                continue;
            }
            let address = wanted.address;
            let what = format!("the listener at {address}");
            match self.open(wanted).await {
                Ok(door) => {
                    voice.trouble_is_over(&what);
                    info!(%address, "the broker listens");
                    doors.push(door);
                }
                Err(error) => voice.trouble_lasts(&what, &error),
            }
        }
        self.bound.send_replace(doors.iter().flat_map(|door| door.listener.local_addr()).collect());
    }

    async fn open(&self, wanted: &Listener) -> anyhow::Result<Door> {
        let entrance = Entrance::new(wanted.clone(), Arc::clone(&self.folder)).await?;
        let listener = listen(&self.world, wanted.address).await?;
        Ok(Door { entrance: Arc::new(entrance), listener })
    }

    /// Has open doors do as they are to from now on, and shuts those that nobody wants.
    async fn change_doors(&self, doors: &mut Vec<Door>, listeners: &[Listener], voice: &Voice) {
        doors
            .retain(|door| listeners.iter().any(|it| it.address == door.entrance.listener.address));
        for door in doors {
            let address = door.entrance.listener.address;
            let Some(wanted) = listeners.iter().find(|it| it.address == address) else { continue };
            // Files may have changed where settings have not.
            match Entrance::new(wanted.clone(), Arc::clone(&self.folder)).await {
                Ok(entrance) => door.entrance = Arc::new(entrance),
                Err(error) => {
                    let error =
                        error.context(format!("the listener at {address} goes on as before"));
                    voice.trouble(&error);
                }
            }
        }
    }

    /// Publishes what has changed of how the broker is.
    async fn say_how_it_is(&self, status: &mut Status, house: &House) {
        let census = house.with(|broker| broker.census());
        let used = house.budget.used_in_all();
        let nobody = Dues::default();
        for message in status.news(&census, &house.counts, used, Instant::now()) {
            // At QoS 0 nobody waits.
            let ways = self.local.ways(&message.topic, 0, Origin::Nobody).await;
            if let Err(error) = self.local.send(message, ways, Origin::Nobody, &nobody, None).await
            {
                debug!(%error, "the broker could not say how it is");
            }
        }
    }

    /// The users of the settings, and those in the file.
    async fn roll(&self, terms: &Terms) -> anyhow::Result<Roll> {
        let mut roll = terms.users.clone();
        let Some(file) = &terms.password_file else { return Ok(roll) };
        let path = path_of(&self.folder, file);
        beside(move || roll.add_file(&path).map(|()| roll)).await?
    }

    /// Goes on with other settings. Who may not stay is let go.
    async fn change(
        &self,
        terms: &Terms,
        service: &mut Service,
        doors: &mut Vec<Door>,
        voice: &Voice,
    ) {
        self.change_doors(doors, &terms.listeners, voice).await;
        match self.roll(terms).await {
            Ok(roll) => {
                let users = roll.len();
                for id in service.users.change(roll, &terms.listeners) {
                    let why = "the settings of the broker have changed, and it may not stay";
                    service.house.close(id, Refusal::new(code::NOT_AUTHORIZED, why));
                }
                debug!(users, "the broker knows its users");
            }
            Err(error) => voice.trouble(&error.context("the users are those of before")),
        }
        service.take(terms);
    }
}

impl Connection for Embedded {
    async fn run(&mut self, voice: &Voice) -> anyhow::Result<()> {
        let mut wanted = self.local.wanted();
        let mut terms = Arc::clone(&wanted.borrow_and_update());
        let budget = Budget::new(bytes(terms.memory));
        let house = Arc::new(House::new(terms.limits(), budget, voice.clone()));
        let hall =
            Hall::new(terms.max_connections.into(), terms.max_connections_per_address.into());
        let users = Arc::new(Users::new(hall, voice.clone())?);
        let mut service =
            Service::new(Arc::clone(&house), Arc::clone(&self.local), users, voice.clone());
        // First of all: what starts beside it may call at once, and waits until what was kept is there.
        let mut doors = Vec::new();
        self.listen(&mut doors, &terms.listeners, voice).await;
        let sync = terms.sync.unwrap_or(SyncPolicy::Never);
        let keeping = Arc::new(Keeping::new(&self.data, sync));
        match terms.sync {
            Some(_) => {
                let restored = keeping.restore(voice).await;
                house.with(|broker| broker.keep(&keeping.journal, restored, Instant::now()));
                self.keeping = Some(Arc::clone(&keeping));
            }
            None => keeping.forget().await,
        }
        self.change(&terms, &mut service, &mut doors, voice).await;
        // The set comes before what tells the nodes that the broker stopped, so it outlives it.
        let mut tasks = JoinSet::new();
        let _open = Open::new(&self.local, &house, self.keeping.as_deref());
        voice.ready();
        // Who listens is good for something, whether anybody calls or not.
        voice.works();
        let wills = wills::publish(Arc::clone(&self.local), Arc::clone(&house));
        tasks.spawn(wills);
        if let Some(keeping) = self.keeping.clone() {
            let (house, voice) = (Arc::clone(&house), voice.clone());
            tasks.spawn(async move {
                keeping.run(&house, &voice).await;
                Ok(())
            });
        }

        let mut status = Status::new(Instant::now());
        let mut next_status = Instant::now();
        let mut retry = interval(RETRY);
        let (mut tidy, mut tick) = (interval(TIDY), interval(TICK));
        loop {
            let is_shut = doors.len() < terms.listeners.len();
            tokio::select! {
                biased;
                Ok(()) = wanted.changed() => {
                    terms = Arc::clone(&wanted.borrow_and_update());
                    self.change(&terms, &mut service, &mut doors, voice).await;
                    self.listen(&mut doors, &terms.listeners, voice).await;
                }
                // A port in use is the trouble of those who come by it, and of nobody else.
                _ = retry.tick(), if is_shut => self.listen(&mut doors, &terms.listeners, voice).await,
                () = self.local.asked() => self.local.bring_retained(&house),
                Some(ended) = tasks.join_next() => told(ended, voice),
                () = sleep_until(next_status), if terms.status_every.is_some() => {
                    self.say_how_it_is(&mut status, &house).await;
                    next_status = Instant::now() + terms.status_every.unwrap_or_default();
                }
                _ = tick.tick() => house.tick(),
                _ = tidy.tick() => self.local.tidy(),
                // Last, so that a flood of callers keeps the broker from nothing else.
                accepted = accept(&doors) => match accepted {
                    Ok(caller) => admit(caller, &service, &mut tasks),
                    Err(error) => {
                        voice.trouble(&error);
                        sleep(PAUSE).await;
                    }
                },
            }
        }
    }

    async fn close(&mut self) {
        if let Some(keeping) = &self.keeping {
            keeping.finish().await;
        }
    }
}

/// Lets a client in, if there is room.
fn admit(caller: Caller, service: &Service, tasks: &mut JoinSet<anyhow::Result<()>>) {
    let Caller { entrance, stream, from } = caller;
    let ip = from.ip();
    let refuse = |why: &dyn std::fmt::Display| {
        service.voice.trouble(&anyhow!("refused a connection from {ip}: {why}"));
    };
    let guest = match service.users.hall.enter(from) {
        Ok(guest) => guest,
        Err(error) => return refuse(&error),
    };
    let bytes = CONNECTION_BYTES + entrance.connection_bytes();
    let Some(charge) = service.house.budget.take(Use::Connections, bytes) else {
        return refuse(&"the memory for connections is full (`memory`)");
    };
    let (stream, service) = (at_once(stream), service.clone());
    tasks.spawn(async move {
        let serve = async {
            let welcomed = timeout(LONGEST_CONNECT, entrance.welcome(stream)).await;
            let welcomed = welcomed.context("it did not say who it is")??;
            service.serve(welcomed, &entrance.listener, from).await
        };
        let served = serve.await;
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
struct Open<'a> {
    local: &'a Local,
    keeping: Option<&'a Keeping>,
}

impl<'a> Open<'a> {
    fn new(local: &'a Local, house: &Arc<House>, keeping: Option<&'a Keeping>) -> Open<'a> {
        local.open(Arc::clone(house));
        Open { local, keeping }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // The end of the broker is the end of nobody's session.
        if let Some(keeping) = self.keeping {
            keeping.journal.close();
        }
        self.local.close();
    }
}
