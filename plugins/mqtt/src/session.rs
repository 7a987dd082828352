//! What the nodes of a connection share: whether it is up, and the way in and out.

use std::{
    collections::VecDeque, future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration,
};

use anyhow::{anyhow, bail};
use bytes::Bytes;
use forebay_sdk::{
    Progress, Size, Voice, WriteError, Written,
    connection::Down,
    mqtt::{Properties, PubSub, Publication, Subscribe, Subscription},
};
use futures_util::{
    future::{BoxFuture, Either, FutureExt, ready},
    stream::{self, BoxStream, StreamExt},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use crate::{
    client::{Anew, Client, Limits, Notice, Resumed, Untaken},
    cloud::{Demands, Device},
    exactly_once::ExactlyOnce,
    inbound::Inbound,
    lazy::Demand,
    once::{Claim, Once},
    pace::{LONGEST_CALM, Pace},
    understood::MqttConnection,
    version::Version,
    words::{Dismissed, HungUp},
};

/// How long the broker may take to acknowledge a message. A broker that answers pings and never
/// acknowledges would hold the sinks for ever.
pub const LONGEST_ANSWER: Duration = Duration::from_secs(60);
/// How long a node waits for the connection, which the engine tries on its own meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How long one write hands out what there is. What is left then comes with the next, so that a slow link ends
/// no write half-way, and who has to publish alone gets his turn.
const LONGEST_RUN: Duration = Duration::from_secs(30);
/// The most messages of QoS 2 that are under way in MQTT 3.1.1: Mosquitto takes no more, has no way to say so, and hangs up.
const MOST_AT_ONCE: usize = 20;
/// How many bytes may be under way. One message may, however large it is.
const MOST_BYTES_UNDER_WAY: usize = 1 << 20;
/// How long a sink may take for anything. Otherwise the engine stops waiting first, and nobody says
/// what is wrong.
pub const LONGEST_TRY: Duration = Duration::from_secs(600);
const _: () = assert!(
    LONGEST_ANSWER.as_secs() + LONGEST_CALM.as_secs() < LONGEST_TRY.as_secs()
        && LONGEST_WAIT.as_secs() < LONGEST_TRY.as_secs()
);

/// One session with a broker.
pub struct Session {
    /// `host:port`.
    broker: String,
    /// The most bytes of one packet, in both directions.
    max_packet: Size,
    /// Whether QoS 2 is spoken in a session that the broker keeps. None when it keeps none.
    exactly_once: Option<Arc<ExactlyOnce>>,
    /// Whether a broker of MQTT 3.1.1 knows us as a bridge.
    is_bridge: bool,
    demands: Option<&'static Demands>,
    device: Option<Device>,
    /// Who reads what comes in.
    pub inbound: Arc<Inbound>,
    link: watch::Sender<Link>,
    /// Who wants it to be there.
    pub demand: Arc<Demand>,
    /// How fast it is published.
    pace: Pace,
    /// What of QoS 2 was handed over.
    once: Arc<Once>,
    voice: Voice,
}

/// How the connection stands.
#[derive(Clone, Default)]
enum Link {
    /// Nothing was tried yet, or the connection was stopped.
    #[default]
    Idle,
    /// Since then.
    Up(Client, Instant),
    /// The last attempt or connection ended with this error, and by whom.
    Failed(Arc<str>, End),
}

/// Who ended a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The broker, without a word that a person would have to act on.
    HungUp,
    Otherwise,
}

impl Session {
    pub fn new(
        settings: &MqttConnection,
        inbound: Arc<Inbound>,
        exactly_once: Option<Arc<ExactlyOnce>>,
        voice: Voice,
    ) -> Session {
        Session {
            broker: settings.address.to_string(),
            max_packet: settings.hello.max_packet,
            exactly_once,
            once: Arc::default(),
            is_bridge: settings.is_bridge,
            demands: settings.demands,
            device: settings.device.clone(),
            inbound,
            link: watch::Sender::default(),
            demand: Demand::new(settings.idle_close),
            pace: Pace::default(),
            voice,
        }
    }

    /// A connection begins, on which these messages go on.
    pub fn began(&self, client: Client, resumed: bool, going_on: Vec<Resumed>) {
        self.inbound.began(client, resumed);
        let notices = going_on.into_iter().map(|(message, end)| (message, Notice::GoesOn(end)));
        self.once.began(notices.collect());
    }

    /// The connection is up: whoever publishes may.
    pub fn up(&self, client: Client) {
        self.link.send_replace(Link::Up(client, Instant::now()));
    }

    /// The connection ended with an error.
    pub fn failed(&self, error: &anyhow::Error) {
        self.inbound.ended();
        let is_of_the_broker = error.is::<HungUp>() || error.is::<Dismissed>();
        let end = if is_of_the_broker { End::HungUp } else { End::Otherwise };
        self.link.send_replace(Link::Failed(format!("{error:#}").into(), end));
    }

    /// The connection was stopped.
    pub fn stopped(&self) {
        self.inbound.ended();
        self.link.send_if_modified(|link| {
            let was_up = matches!(link, Link::Up(..));
            if was_up {
                *link = Link::Idle;
            }
            was_up
        });
    }

    /// The way out, when the connection is up.
    fn client(&self) -> Result<Client, Down> {
        match &*self.link.borrow() {
            Link::Up(client, _) => Ok(client.clone()),
            Link::Idle => Err(Down::new(format!("not connected to the broker at {}", self.broker))),
            Link::Failed(error, _) => Err(Down::new(Arc::clone(error))),
        }
    }

    /// Ends the connection, unless it is over already. Nobody writes to it from here on.
    fn fail(&self, client: &Client, error: anyhow::Error) {
        self.link.send_if_modified(|link| {
            let is_up = matches!(link, Link::Up(current, _) if current.is(client));
            if is_up {
                *link = Link::Failed(format!("{error:#}").into(), End::Otherwise);
            }
            is_up
        });
        client.fail(error);
    }

    /// Waits until the connection is up, however often the engine has to try.
    async fn wait_up(&self) -> anyhow::Result<()> {
        let mut link = self.link.subscribe();
        let up = link.wait_for(|link| matches!(link, Link::Up(..)));
        // Either way the link knows more than the outcome.
        let _ = timeout(LONGEST_WAIT, up).await;
        self.client()?;
        Ok(())
    }

    /// What the broker takes, as far as it is known.
    fn limits(&self) -> Limits {
        self.client().map_or_else(|_| Limits::default(), |client| client.limits)
    }

    fn version(&self) -> Version {
        self.client().map_or(Version::V4, |client| client.version())
    }

    /// Refuses what the session would choke on. Gives how many bytes all take on the wire.
    fn check(&self, batch: &[Publication]) -> Result<usize, WriteError> {
        let (limits, version) = (self.limits(), self.version());
        let sizes = batch.iter().map(|publication| {
            let size = self.check_one(publication, limits, version)?;
            match self.pace.refuses(publication) {
                Some(times) => Err(self.guess(publication, size, times)),
                None => Ok(size),
            }
        });
        sizes.sum::<anyhow::Result<usize>>().map_err(WriteError::Reject)
    }

    /// How many bytes it takes on the wire, unless it is refused.
    fn check_one(
        &self,
        publication: &Publication,
        limits: Limits,
        version: Version,
    ) -> anyhow::Result<usize> {
        let size = packet_bytes(publication, limits.qos(publication), version);
        self.check_limits(publication, size as u64, limits)?;
        if let Some(why) = self.demands.and_then(|demands| demands.refuses(publication)) {
            bail!(why);
        }
        if size as u64 > self.max_packet.0 {
            let most = self.max_packet;
            bail!("a publication of {size} bytes is larger than `max_packet` ({most})");
        }
        Ok(size)
    }

    /// Refuses what the broker has said that it does not take.
    fn check_limits(
        &self,
        publication: &Publication,
        size: u64,
        limits: Limits,
    ) -> anyhow::Result<()> {
        let broker = &self.broker;
        if size > limits.max_packet {
            let most = limits.max_packet;
            bail!("the broker at {broker} takes {most} bytes at most, and the message has {size}");
        }
        if publication.retain && !limits.keeps_retained {
            bail!("the broker at {broker} takes no retained messages: write `retain: false`");
        }
        Ok(())
    }

    /// What is likely the matter with a message on which the broker hangs up.
    fn guess(&self, publication: &Publication, size: usize, times: u32) -> anyhow::Error {
        let Publication { topic, retain, .. } = publication;
        let mut causes = format!(
            "it may not take messages of {size} bytes, or nothing of this client on `{}`",
            topic.escape_debug()
        );
        if *retain {
            causes += ", or no retained messages";
        }
        if self.limits().qos(publication) == 2 {
            causes += ", or no QoS 2";
        }
        let broker = &self.broker;
        anyhow!(
            "the broker at {broker} closed the connection each of the {times} times that this message \
             was sent to it alone: {causes}"
        )
    }

    /// Publishes all, and what comes behind it, and waits for every acknowledgement.
    async fn publish_all(
        &self,
        batch: &[Publication],
        mut behind: BoxStream<'_, anyhow::Result<Publication>>,
        progress: &Progress,
    ) -> Result<Written, WriteError> {
        let mut bytes = self.check(batch)?;
        let mut front = 0;
        while front < batch.len() {
            let told = |taken| progress.taken(front + taken);
            let some = self.publish_some(&batch[front..], &mut behind, told).await;
            let (taken, bytes_behind) = some.map_err(|error| beyond(error, front))?;
            front += taken;
            bytes += bytes_behind;
        }
        Ok(Written::bytes(bytes))
    }

    /// Publishes as many as may go at once, and gives how many those are, and the bytes of those behind the
    /// batch. Ends with what the broker refused of them, when it did. Tells how many it has taken meanwhile.
    async fn publish_some(
        &self,
        batch: &[Publication],
        behind: &mut BoxStream<'_, anyhow::Result<Publication>>,
        told: impl Fn(usize) + Send,
    ) -> Result<(usize, usize), WriteError> {
        self.see_calm(&batch[0]).await?;
        let turn = self.pace.turn(batch).await;
        let some = &batch[..turn.most];
        let client = self.client()?;
        // An acknowledgement is read even when nobody has room for the messages in front of it.
        let _awaited = self.inbound.gate.await_answer();
        let mut run = Run::of(some.len(), told);
        let outcome = match turn.is_shared() {
            true => self.slide(&client, some, behind, &mut run).await,
            false => self.slide(&client, some, &mut stream::pending().boxed(), &mut run).await,
        };
        let Run { taken, all, refused, has_confirmed, bytes_behind, .. } = run;
        self.pace.passed(&some[..taken.min(some.len())]);
        if has_confirmed {
            self.voice.works();
        }
        if outcome.is_err() {
            self.pace.lost();
            if let Some(single) = turn.single(batch).filter(|_| self.was_hung_up()) {
                self.pace.hung_up_on(single);
            }
        }
        match outcome {
            // When the connection was lost too, the next write tells.
            _ if !refused.is_empty() => Err(WriteError::RejectSome { dealt_with: taken, refused }),
            // It was enough for one run, and the engine comes again with the rest.
            Ok(()) if taken < all => Err(WriteError::RejectSome { dealt_with: taken, refused }),
            Ok(()) => Ok((taken, bytes_behind)),
            Err(error) => Err(WriteError::from(error).taken(taken)),
        }
    }

    /// Hands out all, and what comes behind it meanwhile, or as much as one run may have, and waits for the
    /// answers. The client has as many under way as it may, and with each answer the next goes.
    async fn slide<'s, T: Fn(usize) + Send>(
        &'s self,
        client: &Client,
        some: &[Publication],
        behind: &mut BoxStream<'_, anyhow::Result<Publication>>,
        run: &mut Run<'s, T>,
    ) -> Result<(), Unwritten> {
        let (began, limits, version) = (Instant::now(), client.limits, client.version());
        let mut some = some.iter();
        let mut lost = None;
        loop {
            while let Some(answer) = run.first().and_then(FutureExt::now_or_never) {
                run.deal(answer)?;
            }
            let has_room = run.bytes == 0 || run.bytes < MOST_BYTES_UNDER_WAY;
            let may_go = lost.is_none() && began.elapsed() < LONGEST_RUN;
            if let Some(publication) = some.as_slice().first().filter(|_| may_go && has_room) {
                match self.hand_over(client, publication.clone(), limits).await {
                    Ok(sent) => run.sent(sent),
                    Err(error) => lost = Some(error),
                }
                some.next();
                continue;
            }
            let goes_on = may_go && has_room && run.refused.is_empty() && self.pace.is_free();
            let (since, first) = (run.since, run.first());
            let Some(first) = first else {
                return lost.map_or(Ok(()), Err);
            };
            tokio::select! {
                biased;
                answer = self.in_time(client, since, first) => {
                    // What went wrong first is the reason.
                    if let Err(error) = run.deal(answer) {
                        return Err(lost.unwrap_or(error));
                    }
                }
                next = behind.next(), if goes_on => {
                    run.all += 1;
                    let next = next.unwrap_or_else(|| unreachable!("it goes on for ever"));
                    let next = next.map(|publication| self.outgoing(publication));
                    let checked = next.and_then(|publication| {
                        let bytes = self.check_one(&publication, limits, version)?;
                        Ok((publication, bytes))
                    });
                    match checked {
                        Ok((publication, bytes)) => {
                            run.bytes_behind += bytes;
                            match self.hand_over(client, publication, limits).await {
                                Ok(sent) => run.sent(sent),
                                Err(error) => lost = Some(error),
                            }
                        }
                        Err(error) => run.sent(Sent::refused(error)),
                    }
                }
            }
        }
    }

    /// Hands a publication to the client.
    async fn hand_over(
        &self,
        client: &Client,
        publication: Publication,
        limits: Limits,
    ) -> Result<Sent<'_>, Unwritten> {
        let (qos, bytes) = (limits.qos(&publication), publication.payload.len());
        let answer = match qos {
            2 => Either::Left(self.hand_over_once(client, &publication).await?.taken()),
            _ => Either::Right(self.publish_at(client, &publication, qos).await?.taken()),
        };
        let comes_apart = self.is_bridge && client.version() == Version::V4;
        let answer = answer.map(move |answer| match answer {
            Ok(()) => {
                match comes_apart {
                    true => self.inbound.published_apart(&publication),
                    false => self.inbound.published(&publication),
                }
                Ok(())
            }
            Err(untaken) => Err(self.unwritten(untaken, &publication.topic)),
        });
        Ok(Sent { is_confirmed: qos > 0, bytes, answer: answer.boxed() })
    }

    /// Hands a publication of QoS 2 over, unless it was handed over before.
    async fn hand_over_once(
        &self,
        client: &Client,
        publication: &Publication,
    ) -> Result<Claim, Unwritten> {
        if let Some(exactly_once) = &self.exactly_once
            && !client.keeps_account
        {
            exactly_once.begin().await;
            self.fail(client, Anew.into());
            return Err(Unwritten::Retry(Down::new(Anew.to_string())));
        }
        if let Some(claim) = self.once.claim(publication) {
            return Ok(claim);
        }
        let _turn = match client.version() {
            Version::V4 => {
                let room = self.once.room(MOST_AT_ONCE).map(Ok);
                Some(self.in_time(client, Instant::now(), room).await?)
            }
            // There the broker says how many it takes.
            Version::V5 => None,
        };
        let notice = self.publish_at(client, publication, 2).await?;
        Ok(self.once.enter(publication.clone(), notice))
    }

    async fn publish_at(
        &self,
        client: &Client,
        publication: &Publication,
        qos: u8,
    ) -> Result<Notice, Unwritten> {
        let handed = client
            .publish(publication.clone(), qos)
            .map(|notice| notice.map_err(|lost| self.unwritten(lost.into(), &publication.topic)));
        self.in_time(client, Instant::now(), handed).await
    }

    fn was_hung_up(&self) -> bool {
        matches!(&*self.link.borrow(), Link::Failed(_, End::HungUp))
    }

    /// Waits until the connection has lasted for long enough without a message on which the broker
    /// seems to hang up.
    async fn see_calm(&self, publication: &Publication) -> Result<(), WriteError> {
        let Some(calm) = self.pace.calm_before(publication) else { return Ok(()) };
        let mut link = self.link.subscribe();
        let Link::Up(_, since) = *link.borrow_and_update() else {
            return self.client().map(|_| ()).map_err(WriteError::retry);
        };
        tokio::select! {
            biased;
            () = sleep_until(since + calm) => Ok(()),
            _ = link.changed() => self.client().map(|_| ()).map_err(WriteError::retry),
        }
    }

    fn unwritten(&self, untaken: Untaken, topic: &str) -> Unwritten {
        let (broker, topic) = (&self.broker, topic.escape_debug());
        match untaken {
            Untaken::Refused(why) => Unwritten::Refused(anyhow!(
                "the broker at {broker} refused the message on `{topic}`: {why}"
            )),
            Untaken::Lost => Unwritten::Retry(Down::new(format!(
                "publishing to the broker at {broker}: the connection was lost"
            ))),
        }
    }

    /// Waits for the broker as long as it may take, since then. After that the session is no good.
    async fn in_time<T>(
        &self,
        client: &Client,
        since: Instant,
        answer: impl Future<Output = Result<T, Unwritten>>,
    ) -> Result<T, Unwritten> {
        let broker = &self.broker;
        let mut answer = pin!(answer);
        // Most answers are there already, and then need no timer.
        let answered = match poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
            Poll::Ready(answered) => Ok(answered),
            Poll::Pending => timeout_at(since + LONGEST_ANSWER, answer).await,
        };
        answered.unwrap_or_else(|_| {
            let why = format!("the broker at {broker} acknowledges nothing");
            self.fail(client, anyhow!("{why}"));
            Err(Unwritten::Retry(Down::new(why)))
        })
    }

    /// As the broker is to get it.
    fn outgoing(&self, publication: Publication) -> Publication {
        match &self.device {
            None => publication,
            Some(device) => device.outgoing(publication),
        }
    }
}

impl PubSub for Session {
    fn ready(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        if self.demand.is_lazy() {
            // Only who has something to say is worth a connection.
            return async { Ok(()) }.boxed();
        }
        self.wait_up().boxed()
    }

    fn publish(
        &self,
        batch: Vec<Publication>,
        progress: Progress,
    ) -> BoxFuture<'_, Result<Written, WriteError>> {
        self.publish_on(batch, stream::pending().boxed(), progress)
    }

    fn publish_on<'a>(
        &'a self,
        batch: Vec<Publication>,
        behind: BoxStream<'a, anyhow::Result<Publication>>,
        progress: Progress,
    ) -> BoxFuture<'a, Result<Written, WriteError>> {
        let batch: Vec<_> = batch.into_iter().map(|message| self.outgoing(message)).collect();
        async move {
            let speaker = self.demand.is_lazy().then(|| self.demand.speak());
            if speaker.is_some() {
                self.wait_up().await.map_err(WriteError::retry)?;
            }
            self.publish_all(&batch, behind, &progress).await
        }
        .boxed()
    }

    fn subscribe(&self, wish: Subscribe) -> Box<dyn Subscription> {
        Box::new(self.inbound.register(wish))
    }

    fn turned(&self, was: bool) -> BoxFuture<'_, bool> {
        let mut link = self.link.subscribe();
        async move {
            // It cannot end: the sender is here.
            let _ = link.wait_for(|link| matches!(link, Link::Up(..)) != was).await;
            !was
        }
        .boxed()
    }

    fn break_off(&self, why: anyhow::Error) {
        if let Ok(client) = self.client() {
            self.fail(&client, why);
        }
    }
}

/// What became of the publications of one write so far.
struct Run<'s, T> {
    under_way: VecDeque<Sent<'s>>,
    /// Of those.
    bytes: usize,
    /// Since when the first of those is.
    since: Instant,
    /// How many there are, those behind the batch too.
    all: usize,
    bytes_behind: usize,
    /// How many at the front the broker has dealt with.
    taken: usize,
    refused: Vec<(usize, anyhow::Error)>,
    /// The broker has said so of one. At QoS 0 nobody says anything.
    has_confirmed: bool,
    /// Hears how many at the front were taken.
    told: T,
}

/// A publication that is under way.
struct Sent<'s> {
    is_confirmed: bool,
    bytes: usize,
    answer: BoxFuture<'s, Result<(), Unwritten>>,
}

impl Sent<'_> {
    /// One that is not sent.
    fn refused(why: anyhow::Error) -> Sent<'static> {
        Sent { is_confirmed: false, bytes: 0, answer: ready(Err(Unwritten::Refused(why))).boxed() }
    }
}

impl<'s, T: Fn(usize)> Run<'s, T> {
    fn of(all: usize, told: T) -> Run<'s, T> {
        Run {
            under_way: VecDeque::new(),
            bytes: 0,
            since: Instant::now(),
            all,
            bytes_behind: 0,
            taken: 0,
            refused: Vec::new(),
            has_confirmed: false,
            told,
        }
    }

    fn sent(&mut self, sent: Sent<'s>) {
        if self.under_way.is_empty() {
            self.since = Instant::now();
        }
        self.bytes += sent.bytes;
        self.under_way.push_back(sent);
    }

    /// The answer that comes next.
    fn first(&mut self) -> Option<&mut BoxFuture<'s, Result<(), Unwritten>>> {
        self.under_way.front_mut().map(|sent| &mut sent.answer)
    }

    /// Counts what was dealt with, and tells what of it was refused.
    fn deal(&mut self, answer: Result<(), Unwritten>) -> Result<(), Unwritten> {
        match answer {
            Ok(()) => (),
            Err(Unwritten::Refused(why)) => self.refused.push((self.taken, why)),
            Err(error) => return Err(error),
        }
        let Some(sent) = self.under_way.pop_front() else { return Ok(()) };
        self.bytes -= sent.bytes;
        self.since = Instant::now();
        self.taken += 1;
        self.has_confirmed |= sent.is_confirmed;
        if self.refused.is_empty() && sent.is_confirmed {
            (self.told)(self.taken);
        }
        Ok(())
    }
}

/// Why a message was not written.
enum Unwritten {
    /// The broker will never have it.
    Refused(anyhow::Error),
    /// The connection is no good.
    Retry(Down),
}

impl From<Unwritten> for WriteError {
    fn from(unwritten: Unwritten) -> WriteError {
        match unwritten {
            Unwritten::Refused(why) => WriteError::Reject(why),
            Unwritten::Retry(down) => WriteError::retry(down),
        }
    }
}

/// The error of the rest of a batch, as one of the whole.
fn beyond(error: WriteError, front: usize) -> WriteError {
    match error {
        WriteError::Retry { taken, .. } => error.taken(front + taken),
        WriteError::RejectSome { dealt_with, refused } => WriteError::RejectSome {
            dealt_with: front + dealt_with,
            refused: refused.into_iter().map(|(at, error)| (front + at, error)).collect(),
        },
        other => other,
    }
}

/// How many bytes a PUBLISH takes on the wire (MQTT 3.1.1 and 5, section 3.3), when its topic stands
/// in it as it is.
fn packet_bytes(publication: &Publication, qos: u8, version: Version) -> usize {
    let packet_id = if qos > 0 { 2 } else { 0 };
    let beside = match version {
        Version::V4 => 0,
        Version::V5 => {
            let bytes = publication.properties.as_deref().map_or(0, properties_bytes);
            length_bytes(bytes) + bytes
        }
    };
    let remaining = 2 + publication.topic.len() + packet_id + beside + publication.payload.len();
    1 + length_bytes(remaining) + remaining
}

/// How many bytes a length has in front of so many.
fn length_bytes(bytes: usize) -> usize {
    match bytes {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// What properties take, each behind a byte that says which it is (MQTT 5 section 2.2.2).
fn properties_bytes(properties: &Properties) -> usize {
    let Properties { content_type, response_topic, correlation_data, user, .. } = properties;
    let texts = [content_type, response_topic].into_iter().flatten().map(String::len);
    let data = correlation_data.iter().map(Bytes::len);
    let pairs = user.iter().map(|(name, value)| 2 + name.len() + value.len());
    let flag = if properties.is_text { 2 } else { 0 };
    let expiry = if properties.expires_after_seconds.is_some() { 5 } else { 0 };
    flag + expiry + texts.chain(data).chain(pairs).map(|bytes| 3 + bytes).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use rumqttc::{Publish, QoS};

    use super::*;

    #[test]
    fn properties_count_as_they_go_over_the_wire() {
        let name = "n".repeat(100);
        for user in [vec![], vec![(name.clone(), String::new()), (name, "v".to_owned())]] {
            let properties = Properties {
                is_text: true,
                expires_after_seconds: Some(7),
                content_type: Some("text/plain".to_owned()),
                response_topic: Some("answers".to_owned()),
                correlation_data: Some(Bytes::from_static(b"7")),
                user: user.clone(),
            };
            let sent = rumqttc5::PublishProperties {
                payload_format_indicator: Some(1),
                message_expiry_interval: Some(7),
                topic_alias: None,
                response_topic: properties.response_topic.clone(),
                correlation_data: properties.correlation_data.clone(),
                user_properties: user,
                subscription_identifiers: Vec::new(),
                content_type: properties.content_type.clone(),
            };
            let qos = rumqttc5::QoS::AtMostOnce;
            let publish = rumqttc5::Publish::new("a/b", qos, "payload", Some(sent));
            let publication = Publication::new("a/b", "payload").properties(properties);
            assert_eq!(packet_bytes(&publication, 0, Version::V5), publish.size());
        }
        let bare = Publication::new("a/b", "payload");
        assert_eq!(packet_bytes(&bare, 1, Version::V5), packet_bytes(&bare, 1, Version::V4) + 1);
    }

    #[test]
    fn the_size_of_a_packet_is_what_goes_over_the_wire() {
        for payload_bytes in [0, 1, 120, 121, 122, 123, 16_376, 16_377, 16_378, 2_097_149] {
            for (number, qos) in
                [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate()
            {
                let publication = Publication::new("a/b", vec![0; payload_bytes]);
                let mut publish = Publish::from_bytes("a/b", qos, publication.payload.clone());
                publish.pkid = u16::from(number > 0);
                let qos = number as u8;
                assert_eq!(packet_bytes(&publication, qos, Version::V4), publish.size());
            }
        }
    }
}
