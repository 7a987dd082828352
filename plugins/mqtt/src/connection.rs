//! Owns the connection: opens it, carries everything in and out, keeps it subscribed.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::pending,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use forebay_sdk::{
    Capabilities, Claim, Configured, Connection, Endpoint, Examination, Node, Problem, Shared,
    Site, Voice, World,
    mqtt::{Broker, Manner, Publication},
};
use futures_util::future::{FutureExt, LocalBoxFuture};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info};

use crate::{
    client::{Arrival, Client, Line, Untaken, Welcome},
    dialect::Dialect,
    examine::examine,
    inbound::{Answers, Full, Inbound},
    session::{LONGEST_ANSWER, Session},
    understood::MqttConnection,
    version::Version,
    wire::{Beheaded, Told, Way},
    words::{HungUp, OtherVersion, Words},
    words5::Redirected,
};

/// The most filters in one SUBSCRIBE. AWS allows 8.
const MOST_FILTERS: usize = 8;
/// The pause before a filter that the broker refused is asked for again. It doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

impl Configured for MqttConnection {
    fn build(&self, site: Site) -> Node {
        let words = self.words();
        let client_id = self.client_id_or_random();
        let inbound = Inbound::new(site.voice.clone());
        let session = Arc::new(Session::new(
            words.broker.clone(),
            self.hello.max_packet,
            self.hello.clean_session,
            inbound,
            site.voice,
        ));
        let driver = Driver {
            settings: self.clone(),
            client_id,
            words,
            folder: site.folder,
            world: site.world,
            session: Arc::clone(&session),
            dialect: Dialect::of(self.version, &self.address, &site.data),
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
            is_near: self.address.endpoint.is_local(),
            ..Capabilities::default()
        }
    }

    fn examine<'a>(&'a self, asked: &'a Examination<'a>) -> Option<LocalBoxFuture<'a, ()>> {
        Some(examine(self, asked).boxed_local())
    }

    fn check_files(&self, folder: &Path) -> Vec<Problem> {
        match self.address.tls {
            true => self.certificates(folder.into()).problems(),
            false => Vec::new(),
        }
    }

    fn files(&self, folder: &Path) -> Vec<PathBuf> {
        match self.address.tls {
            true => self.certificates(folder.into()).files(),
            false => Vec::new(),
        }
    }

    fn claims(&self) -> Vec<Claim> {
        // The names of hosts are the same in either case.
        let broker = self.address.to_string().to_lowercase();
        let claim =
            |id: &String| Claim::named(format!("client id `{id}` at {broker}"), "client_id");
        self.client_id.iter().map(claim).collect()
    }
}

/// A broker that hangs up so soon after it let us in did not lose the link.
const SHORT_STAY: Duration = Duration::from_secs(5);
/// How often that may be chance.
const MOST_HANG_UPS: u32 = 3;

/// Runs one session, over one connection after the other.
struct Driver {
    settings: MqttConnection,
    /// Stays the same across reconnects.
    client_id: String,
    words: Words,
    /// Names of certificates are relative to it.
    folder: Arc<Path>,
    world: World,
    session: Arc<Session>,
    dialect: Dialect,
    /// Where a broker has sent us to, for one attempt.
    detour: Option<Endpoint>,
    /// Stays when `run` is dropped, so that `close` can say good-bye.
    live: Option<Line>,
    /// When the broker let us in last, unless that was looked at.
    up_since: Option<Instant>,
    /// How often in a row the broker hung up within seconds of letting us in.
    hang_ups: u32,
}

impl Driver {
    /// Where the broker does not speak one version of MQTT, tries the other, unless told which.
    async fn serve_in_any_version(&mut self, voice: &Voice) -> anyhow::Result<Infallible> {
        let endpoint = self.detour.take();
        let is_detour = endpoint.is_some();
        let endpoint = endpoint.unwrap_or_else(|| self.settings.address.endpoint.clone());
        let first = self.dialect.first().await;
        let ended = match self.serve(first, &endpoint, voice).await {
            Err(error) if error.is::<OtherVersion>() && self.settings.version.is_none() => {
                self.live = None;
                self.serve(first.other(), &endpoint, voice).await
            }
            ended => ended,
        };
        ended.map_err(|error| match error.downcast::<Redirected>() {
            Ok(redirected) => {
                // Who is sent on from there would run in circles.
                self.detour = redirected.to.clone().filter(|_| !is_detour);
                redirected.into_error()
            }
            Err(error) => match error.downcast::<OtherVersion>() {
                Ok(other) => other.into_error(self.settings.version),
                Err(error) => error,
            },
        })
    }

    async fn serve(
        &mut self,
        version: Version,
        endpoint: &Endpoint,
        voice: &Voice,
    ) -> anyhow::Result<Infallible> {
        let max_packet = self.settings.hello.max_packet;
        let way = Way {
            world: self.world.clone(),
            broker: endpoint.clone(),
            keep_alive: self.settings.keep_alive.0,
            tls: self.settings.tls(&self.folder).await?,
            max_packet: (version == Version::V4).then_some(max_packet),
            gate: Arc::clone(&self.session.inbound.gate),
            beheaded: Beheaded::default(),
            told: Told::default(),
            voice: voice.clone(),
        };
        let words = Words { broker: endpoint.to_string(), ..self.words.clone() };
        let (line, mut client, mut failures) =
            Line::new(version, &self.client_id, &self.settings.hello, way, words.clone())?;
        let line = self.live.insert(line);
        let (session, broker) = (&self.session, &words.broker);

        let most = self.settings.connect_timeout;
        let awaited = session.inbound.gate.await_answer();
        let opened = timeout(most.0, line.open()).await;
        let Welcome { resumed, limits } = opened.unwrap_or_else(|_| {
            Err(anyhow!("the broker at {broker} did not answer within {most}"))
        })?;
        drop(awaited);
        self.up_since = Some(Instant::now());
        self.dialect.understood(version).await;
        // One that hangs up at once, again and again, is no news each time.
        match self.hang_ups {
            0 => info!(%broker, %version, resumed, "connected"),
            _ => debug!(%broker, %version, resumed, "connected"),
        }
        client.limits = limits;
        session.inbound.began(client.clone(), resumed);
        let serve = async {
            if let Some(birth) = &self.settings.hello.birth {
                announce(&client, birth, &session.inbound, broker, voice).await?;
            }
            session.up(client.clone());
            voice.ready();
            keep_subscribed(&client, &session.inbound, broker, voice).await
        };
        // Each of these ends only with an error, and is never polled again then.
        tokio::select! {
            error = carry(line, &session.inbound) => error,
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
            Some(_) => self.words.thrown_out(self.hang_ups),
            None => error,
        }
    }
}

impl Connection for Driver {
    async fn run(&mut self, voice: &Voice) -> anyhow::Result<()> {
        self.live = None;
        let stopped = OnDrop(Arc::clone(&self.session));
        let Err(error) = self.serve_in_any_version(voice).await;
        self.session.failed(&error);
        if let (Some(line), true) = (&mut self.live, error.is::<Full>()) {
            line.flush().await;
        }
        // Whoever waits for an acknowledgement learns now that it will not come.
        self.live = None;
        drop(stopped);
        Err(self.judge(error))
    }

    async fn close(&mut self) {
        if let Some(line) = self.live.take() {
            line.close(self.settings.hello.goodbye.clone()).await;
        }
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
async fn carry(line: &mut Line, inbound: &Inbound) -> anyhow::Result<Infallible> {
    loop {
        match line.next().await? {
            Arrival::Publish { publication, packet, again } => {
                inbound.arrived(publication, packet, again)?;
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

/// Subscribes to what the sources ask for, as it changes. What is refused is asked for again.
async fn keep_subscribed(
    client: &Client,
    inbound: &Inbound,
    broker: &str,
    voice: &Voice,
) -> anyhow::Result<Infallible> {
    let asking = || format!("asking the broker at {broker} for subscriptions");
    let mut granted: BTreeMap<String, Manner> = BTreeMap::new();
    let mut refused: BTreeMap<String, Refusal> = BTreeMap::new();
    loop {
        let wanted = inbound.wanted();
        // Whoever comes new need not wait for the end of a pause.
        refused.retain(|filter, _| {
            wanted.filters.contains_key(filter) && !wanted.anew.contains(filter)
        });
        let now = Instant::now();
        let missing: Vec<(String, Manner)> = wanted
            .filters
            .iter()
            .filter(|(filter, manner)| {
                granted.get(*filter).is_none_or(|have| have.with(**manner) != *have)
            })
            .filter(|(filter, _)| refused.get(*filter).is_none_or(|it| it.again_at <= now))
            .map(|(filter, manner)| (filter.clone(), *manner))
            .collect();
        let mut answers = Answers::default();
        // Only until the answers are there: behind them comes what nobody may have room for.
        let awaited = inbound.gate.await_answer();
        for some in missing.chunks(MOST_FILTERS) {
            let told = client.subscribe(some).await.with_context(asking)?;
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

        let surplus: Vec<String> = granted
            .keys()
            .filter(|filter| !wanted.filters.contains_key(*filter) && !wanted.kept.contains(filter))
            .cloned()
            .collect();
        for some in surplus.chunks(MOST_FILTERS) {
            client.unsubscribe(some).await.with_context(asking)?;
            granted.retain(|filter, _| !some.contains(filter));
        }
        drop(awaited);

        let next = refused.values().map(|refusal| refusal.again_at).chain(wanted.until).min();
        let until = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = inbound.changed() => (),
            () = until => (),
        }
    }
}
