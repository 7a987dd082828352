//! Owns the connection: opens it, carries everything in and out, keeps it subscribed.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fmt,
    future::pending,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use forebay_sdk::{
    Capabilities, Claim, Configured, Connection, Examination, Node, Problem, Shared, Site,
    Timestamp, Voice, World,
    connection::Refused,
    mqtt::{Broker, Manner, Publication},
};
use futures_util::future::{FutureExt, LocalBoxFuture};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};

use crate::{
    address::Address,
    asked::Asked,
    client::{Anew, Arrival, Client, Line, Untaken, Welcome},
    cloud::Device,
    dialect::Dialect,
    exactly_once::ExactlyOnce,
    examine::examine,
    inbound::{Answers, Full, Inbound, Wish, number},
    lazy::Quiet,
    session::{LONGEST_ANSWER, Session},
    understood::MqttConnection,
    version::Version,
    wire::{Beheaded, Told, Way},
    words::{HungUp, OtherVersion},
    words5::Redirected,
};

/// The most filters in one SUBSCRIBE. AWS allows 8.
const MOST_FILTERS: usize = 8;
/// When a broker is told that nobody asks any more for what was asked for before a restart: sources may still
/// be on their way.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(30);
/// The pause before a filter that the broker refused is asked for again. It doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

impl Configured for MqttConnection {
    fn build(&self, site: Site) -> Node {
        let client_id = self.client_id_or_random();
        let inbound = Inbound::new(site.voice.clone());
        let exactly_once = (!self.hello.clean_session)
            .then(|| Arc::new(ExactlyOnce::of(&site.data, self.addresses().count())));
        let session = Session::new(self, inbound, exactly_once.clone(), site.voice);
        let session = Arc::new(session);
        let driver = Driver {
            settings: self.clone(),
            client_id,
            dialects: Dialect::of_all(self.version, self.addresses(), &site.data),
            folder: site.folder,
            world: site.world,
            session: Arc::clone(&session),
            exactly_once,
            asked: (!self.hello.clean_session).then(|| Asked::of(&site.data)),
            has_session: false,
            detour: None,
            live: None,
            up_since: None,
            hang_ups: 0,
        };
        Node::connection(Shared::new(Arc::new(Broker(session))), driver)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            resends: !self.hello.clean_session,
            is_near: self.addresses().all(|address| address.endpoint.is_local()),
            ..Capabilities::default()
        }
    }

    fn reaches(&self) -> Vec<String> {
        self.addresses().map(|address| address.endpoint.to_string()).collect()
    }

    fn examine<'a>(&'a self, asked: &'a Examination<'a>) -> Option<LocalBoxFuture<'a, ()>> {
        Some(examine(self, asked).boxed_local())
    }

    fn check_files(&self, folder: &Path) -> Vec<Problem> {
        match self.addresses().any(|address| address.tls) {
            true => self.certificates(folder.into()).problems(),
            false => Vec::new(),
        }
    }

    fn files(&self, folder: &Path) -> Vec<PathBuf> {
        match self.addresses().any(|address| address.tls) {
            true => self.certificates(folder.into()).files(),
            false => Vec::new(),
        }
    }

    fn claims(&self) -> Vec<Claim> {
        let Some(id) = &self.client_id else { return Vec::new() };
        // The names of hosts are the same in either case.
        let brokers = self.addresses().map(|address| address.to_string().to_lowercase());
        let claim = |broker| Claim::named(format!("client id `{id}` at {broker}"), "client_id");
        brokers.map(claim).collect()
    }
}

/// A broker that hangs up so soon after it let us in did not lose the link.
const SHORT_STAY: Duration = Duration::from_secs(5);
/// What is said of a connection that is not made again.
const NOT_AGAIN: &str = "it is not connected again (`start: once`)";
/// How long a good-bye may take when the password is renewed.
const LONGEST_FAREWELL: Duration = Duration::from_secs(1);
/// How often that may be chance.
const MOST_HANG_UPS: u32 = 3;

/// Runs one session, over one connection after the other.
struct Driver {
    settings: MqttConnection,
    /// Stays the same across reconnects.
    client_id: String,
    /// Names of certificates are relative to it.
    folder: Arc<Path>,
    world: World,
    session: Arc<Session>,
    /// In a session that the broker keeps.
    exactly_once: Option<Arc<ExactlyOnce>>,
    /// What it was asked for there.
    asked: Option<Asked>,
    /// Whether the broker is known to have begun one.
    has_session: bool,
    /// What each of the addresses speaks.
    dialects: Vec<Dialect>,
    /// Where a broker has sent us to, for one attempt.
    detour: Option<Address>,
    /// Stays when `run` is dropped, so that `close` can say good-bye.
    live: Option<Line>,
    /// When the broker let us in last, unless that was looked at.
    up_since: Option<Instant>,
    /// How often in a row the broker hung up within seconds of letting us in.
    hang_ups: u32,
}

impl Driver {
    /// Serves at the first address that lets us in.
    async fn serve_somewhere(&mut self, voice: &Voice) -> anyhow::Result<Infallible> {
        if let Some(detour) = self.detour.take() {
            // Who is sent on from there would run in circles.
            let ended = self.serve_in_any_version(0, &detour, voice).await;
            return ended.map_err(|error| match error.downcast::<Redirected>() {
                Ok(redirected) => redirected.into_error(),
                Err(error) => error,
            });
        }
        let addresses: Vec<Address> = self.settings.addresses().cloned().collect();
        let mut failures = Vec::new();
        for (place, address) in addresses.iter().enumerate() {
            self.up_since = None;
            let Err(error) = self.serve_in_any_version(place, address, voice).await;
            if error.is::<Redirected>() {
                return Err(self.follow(error, address));
            }
            if self.up_since.is_some() || error.is::<Anew>() {
                return Err(error);
            }
            self.live = None;
            failures.push(error);
        }
        Err(together(failures))
    }

    /// Takes note of where a broker has sent us to.
    fn follow(&mut self, error: anyhow::Error, from: &Address) -> anyhow::Error {
        match error.downcast::<Redirected>() {
            Ok(redirected) => {
                let to = redirected.to.clone();
                self.detour = to.map(|endpoint| Address { endpoint, ..from.clone() });
                redirected.into_error()
            }
            Err(error) => error,
        }
    }

    /// Where the broker does not speak one version of MQTT, tries the other, unless told which.
    async fn serve_in_any_version(
        &mut self,
        place: usize,
        address: &Address,
        voice: &Voice,
    ) -> anyhow::Result<Infallible> {
        let first = self.dialects[place].first().await;
        let ended = match self.serve(first, place, address, voice).await {
            Err(error) if error.is::<OtherVersion>() && self.settings.version.is_none() => {
                self.live = None;
                self.serve(first.other(), place, address, voice).await
            }
            ended => ended,
        };
        ended.map_err(|error| match error.downcast::<OtherVersion>() {
            Ok(other) => other.into_error(self.settings.version),
            Err(error) => error,
        })
    }

    async fn serve(
        &mut self,
        version: Version,
        place: usize,
        address: &Address,
        voice: &Voice,
    ) -> anyhow::Result<Infallible> {
        let max_packet = self.settings.hello.max_packet;
        let way = Way {
            world: self.world.clone(),
            broker: address.endpoint.clone(),
            keep_alive: self.settings.keep_alive.0,
            via: self.settings.via.clone(),
            tls: match self.world.is_private() {
                true => None,
                false => self.settings.tls(address, &self.folder).await?,
            },
            server_name: self.settings.server_name.clone(),
            websocket: address.websocket(&self.settings.headers),
            max_packet: (version == Version::V4).then_some(max_packet),
            gate: Arc::clone(&self.session.inbound.gate),
            beheaded: Beheaded::default(),
            told: Told::default(),
            is_bridge: version == Version::V4 && self.settings.is_bridge,
            voice: voice.clone(),
        };
        let words = self.settings.words(address);
        let now = Timestamp::now();
        let (hello, renew_at) = self.settings.hello(now);
        let kept = match &self.exactly_once {
            Some(exactly_once) => exactly_once.kept(place).await,
            None => None,
        };
        if let Some(kept) = kept.as_ref().filter(|_| self.hang_ups >= MOST_HANG_UPS) {
            kept.give_up();
        }
        let (line, mut client, mut failures) =
            Line::new(version, &self.client_id, &hello, way, words.clone(), kept)?;
        let line = self.live.insert(line);
        let (session, broker) = (&self.session, &words.broker);

        let most = self.settings.connect_timeout;
        let awaited = session.inbound.gate.await_answer();
        let opened = timeout(most.0, line.open()).await;
        let opened = opened.unwrap_or_else(|_| {
            Err(anyhow!("the broker at {broker} did not answer within {most}"))
        });
        let opened = opened.map_err(|error| match renew_at {
            // The password is made by the clock.
            Some(_) if error.is::<Refused>() && !now.clock_was_set() => {
                anyhow!("{error:#}; the clock here is not set yet, and the password is made by it: waiting for the time")
            }
            _ => error,
        });
        let Welcome { resumed, limits, assigned, going_on } = opened?;
        drop(awaited);
        self.up_since = Some(Instant::now());
        self.dialects[place].understood(version).await;
        // One that hangs up at once, again and again, is no news each time.
        match self.hang_ups {
            0 => info!(%broker, %version, resumed, client_id = assigned, "connected"),
            _ => debug!(%broker, %version, resumed, "connected"),
        }
        client.limits = self.settings.limits(limits);
        // A broker keeps it from now on.
        if !self.settings.hello.clean_session {
            if self.has_session && !resumed {
                voice.trouble(&anyhow!("the broker at {broker} has lost the session: what was published to this client meanwhile does not come"));
            }
            let asked = self.settings.hello.session_expiry;
            if let Some(kept) = limits.session_expiry.filter(|kept| *kept < asked)
                && !self.has_session
            {
                let words = format!(
                    "the broker at {broker} keeps the session for {kept} s and no longer: what is published while this client is away for longer does not come"
                );
                // Whoever named no time asks for as long as can be, and has to expect less.
                match asked {
                    u32::MAX => info!("{words}"),
                    _ => voice.trouble(&anyhow!(words)),
                }
            }
            self.has_session = true;
        }
        let asked = self.asked.as_mut();
        session.began(client.clone(), resumed, going_on);
        let serve = async {
            if let Some(birth) = &self.settings.hello.birth {
                announce(&client, birth, &session.inbound, broker, voice).await?;
            }
            session.up(client.clone());
            voice.ready();
            keep_subscribed(&client, &session.inbound, broker, voice, asked).await
        };
        // Each of these ends only with an error, and is never polled again then.
        session.demand.heard();
        tokio::select! {
            biased;
            error = carry(line, session, self.settings.device.as_ref()) => error,
            () = is_due(renew_at, &self.world) => Err(Renewed.into()),
            quiet = session.demand.quiet() => Err(quiet.into()),
            error = serve => error,
            Some(error) = failures.recv() => Err(error),
        }
    }

    /// Who lets us in and hangs up within seconds, again and again, has a reason that another try
    /// does not change.
    fn judge(&mut self, error: anyhow::Error) -> anyhow::Error {
        let stayed = self.up_since.take().map(|since| since.elapsed());
        match stayed {
            Some(stayed) if stayed < SHORT_STAY && error.is::<HungUp>() => self.hang_ups += 1,
            Some(_) => self.hang_ups = 0,
            None => (),
        }
        match stayed.filter(|_| self.hang_ups >= MOST_HANG_UPS) {
            Some(_) => self.settings.words(&self.settings.address).thrown_out(self.hang_ups),
            None => error,
        }
    }
}

impl Connection for Driver {
    async fn run(&mut self, voice: &Voice) -> anyhow::Result<()> {
        self.live = None;
        let stopped = OnDrop(Arc::clone(&self.session));
        let error = loop {
            if self.session.demand.is_lazy() {
                voice.ready();
                self.session.demand.asked().await;
            }
            let Err(error) = self.serve_somewhere(voice).await;
            if error.is::<Quiet>() {
                debug!("hanging up until there is something to say");
                self.session.stopped();
                self.up_since = None;
                self.close().await;
                continue;
            }
            self.session.failed(&error);
            match () {
                () if error.is::<Renewed>() => info!("the password is renewed before it ends"),
                () if error.is::<Anew>() => debug!("{error}"),
                () => break error,
            }
            if let Some(line) = self.live.take() {
                // Without last words: we are back at once.
                let _ = timeout(LONGEST_FAREWELL, line.close(None)).await;
            }
            self.up_since = None;
        };
        if let (Some(line), true) = (&mut self.live, error.is::<Full>()) {
            line.flush().await;
        }
        // Whoever waits for an acknowledgement learns now that it will not come.
        self.live = None;
        drop(stopped);
        let error = self.judge(error);
        // Where a broker sends us to is where this one begins.
        if self.settings.starts_once && self.detour.is_none() {
            voice.trouble_lasts(NOT_AGAIN, &error);
            pending::<()>().await;
        }
        Err(error)
    }

    async fn close(&mut self) {
        if let Some(line) = self.live.take() {
            line.close(self.settings.hello.goodbye.clone()).await;
        }
    }
}

/// The password holds only for a while, and that is nearly over.
#[derive(Clone, Copy, Debug)]
struct Renewed;

impl fmt::Display for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the password is being renewed")
    }
}

impl std::error::Error for Renewed {}

/// Resolves at a moment of the wall clock, also when somebody sets that meanwhile.
async fn is_due(moment: Option<i64>, world: &World) {
    let Some(moment) = moment else { return pending().await };
    loop {
        let left = moment - Timestamp::now().unix_millis() / 1000;
        let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) else { return };
        tokio::select! {
            biased;
            () = sleep(Duration::from_secs(left)) => (),
            () = world.clock_was_moved() => (),
        }
    }
}

/// What went wrong at each address. A person has to mend something when that is so at all of them.
fn together(mut failures: Vec<anyhow::Error>) -> anyhow::Error {
    if failures.len() == 1 {
        return failures.remove(0);
    }
    let said =
        failures.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("; then: ");
    match failures.iter().all(anyhow::Error::is::<Refused>) {
        true => Refused::new(said).into(),
        false => anyhow!(said),
    }
}

/// Tells the nodes when the engine drops `run`.
struct OnDrop(Arc<Session>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.stopped();
    }
}

/// Publishes that we are there, and waits until the broker has it.
async fn announce(
    client: &Client,
    birth: &Publication,
    inbound: &Inbound,
    broker: &str,
    voice: &Voice,
) -> anyhow::Result<()> {
    let _awaited = inbound.gate.await_answer();
    let told = async { client.publish(birth.clone(), birth.qos).await?.taken().await };
    // When the connection is lost, that is told where it is carried.
    match timeout(LONGEST_ANSWER, told).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Untaken::Refused(why))) => {
            voice.trouble(&anyhow!("the broker at {broker} refused the `birth` message: {why}"));
            Ok(())
        }
        Ok(Err(Untaken::Lost)) => pending().await,
        Err(_) => Err(anyhow!("the broker at {broker} does not acknowledge the `birth` message")),
    }
}

/// Carries packets until the connection ends.
async fn carry(
    line: &mut Line,
    session: &Session,
    device: Option<&Device>,
) -> anyhow::Result<Infallible> {
    let inbound = &session.inbound;
    loop {
        match line.next().await? {
            Arrival::Publish { publication, packet, again, by } => {
                let publication = match device {
                    None => publication,
                    Some(device) => device.incoming(publication),
                };
                inbound.arrived(publication, packet, again, &by)?;
                session.demand.heard();
            }
            Arrival::Beheaded { publication, packet, again } => {
                inbound.beheaded(publication, packet, again);
            }
            Arrival::Released(packet) => inbound.released(packet),
            Arrival::Other => (),
        }
        inbound.send_acks();
    }
}

/// A filter that the broker will not have for now.
struct Refusal {
    again_at: Instant,
    pause: Duration,
}

impl Refusal {
    /// Refused once more, or for the first time.
    fn after(earlier: Option<Refusal>) -> Refusal {
        let pause = earlier.map_or(FIRST_PAUSE, |earlier| (earlier.pause * 2).min(LONGEST_PAUSE));
        Refusal { again_at: Instant::now() + pause, pause }
    }
}

/// Filters, and how they are asked for, by who asks for them.
type ByReaders = BTreeMap<BTreeSet<Arc<str>>, Vec<(String, Manner)>>;

fn by_readers<'a>(filters: impl Iterator<Item = (&'a String, &'a Wish)>) -> ByReaders {
    let mut by_readers = ByReaders::new();
    for (filter, wish) in filters {
        let some = by_readers.entry(wish.readers.clone()).or_default();
        some.push((filter.clone(), wish.manner));
    }
    by_readers
}

/// What goes into one SUBSCRIBE each.
fn packets(
    missing: &ByReaders,
) -> impl Iterator<Item = (&BTreeSet<Arc<str>>, &[(String, Manner)])> {
    missing.iter().flat_map(|(readers, filters)| {
        filters.chunks(MOST_FILTERS).map(move |some| (readers, some))
    })
}

/// Subscribes to what the sources ask for, as it changes. What is refused is asked for again.
async fn keep_subscribed(
    client: &Client,
    inbound: &Inbound,
    broker: &str,
    voice: &Voice,
    mut asked: Option<&mut Asked>,
) -> anyhow::Result<Infallible> {
    let mut left_over = match &mut asked {
        Some(asked) => asked.filters().await,
        None => BTreeSet::new(),
    };
    let left_over_until = Instant::now() + LEFT_OVER_AFTER;
    let asking = || format!("asking the broker at {broker} for subscriptions");
    let mut granted: BTreeMap<String, Manner> = BTreeMap::new();
    let mut refused: BTreeMap<String, Refusal> = BTreeMap::new();
    let mut has_numbers = None;
    loop {
        let wanted = inbound.wanted();
        // Whoever comes new need not wait for the end of a pause.
        refused.retain(|filter, _| {
            wanted.filters.contains_key(filter) && !wanted.anew.contains(filter)
        });
        let now = Instant::now();
        let missing = wanted
            .filters
            .iter()
            .filter(|(filter, wish)| {
                granted.get(*filter).is_none_or(|have| have.with(wish.manner) != *have)
            })
            .filter(|(filter, _)| refused.get(*filter).is_none_or(|it| it.again_at <= now));
        let mut missing = by_readers(missing);
        // With one reader all that comes is for him. When there are more later on, all of their subscriptions
        // have numbers or none has: a broker tells only of those that have.
        let are_many = client.limits.names_subscriptions && missing.len() > 1;
        let has_numbers = !missing.is_empty() && *has_numbers.get_or_insert(are_many);
        if !has_numbers {
            let mut all: Vec<_> = std::mem::take(&mut missing).into_values().flatten().collect();
            all.sort_by(|(a, _), (b, _)| a.cmp(b));
            missing.insert(BTreeSet::new(), all);
        }
        let mut answers = Answers::default();
        // Only until the answers are there: behind them comes what nobody may have room for.
        let awaited = inbound.gate.await_answer();
        for (readers, some) in packets(&missing) {
            let number = has_numbers.then(|| number(some.iter().map(|(filter, _)| &**filter)));
            if let Some(number) = number {
                inbound.numbered(number, some, readers);
            }
            let told = client.subscribe(some, number).await.with_context(asking)?;
            for ((filter, asked), answer) in some.iter().zip(told) {
                let earlier = refused.remove(filter);
                let qos = match answer {
                    Ok(qos) => qos,
                    Err(why) => {
                        refused.insert(filter.clone(), Refusal::after(earlier));
                        answers.refused_now.push((filter.clone(), why));
                        continue;
                    }
                };
                if qos < asked.qos {
                    voice.trouble(&anyhow!(
                        "the broker at {broker} grants only QoS {qos} for `{filter}`"
                    ));
                }
                granted.insert(filter.clone(), *asked);
            }
        }
        answers.granted = granted.keys().cloned().collect();
        answers.refused = refused.keys().cloned().collect();
        inbound.answered(&answers);

        let is_wanted =
            |filter: &String| wanted.filters.contains_key(filter) || wanted.kept.contains(filter);
        left_over.retain(|filter| !is_wanted(filter));
        let over = left_over.iter().filter(|_| left_over_until <= Instant::now());
        let surplus = granted.keys().filter(|filter| !is_wanted(filter)).chain(over);
        let surplus: Vec<String> = surplus.cloned().collect();
        for some in surplus.chunks(MOST_FILTERS) {
            client.unsubscribe(some).await.with_context(asking)?;
            granted.retain(|filter, _| !some.contains(filter));
            left_over.retain(|filter| !some.contains(filter));
        }
        drop(awaited);
        if let Some(asked) = &mut asked {
            asked.are(granted.keys().chain(&left_over).cloned().collect()).await;
        }

        let until =
            wanted.until.into_iter().chain((!left_over.is_empty()).then_some(left_over_until));
        let next = refused.values().map(|refusal| refusal.again_at).chain(until).min();
        let until = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = inbound.changed() => (),
            () = until => (),
        }
    }
}
