//! The client of one connection to a broker. With [`crate::words`], the only room that knows
//! rumqttc.
//!
//! Each connection gets a new client and event loop of rumqttc: nothing of the one before, such as
//! an acknowledgement, can reach the new one.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::{Context, anyhow};
use forebay_sdk::{Secret, Size, mqtt::Publication};
use rumqttc::{
    AckMode, AsyncClient, Event, EventLoop, LastWill, ManualAck, MqttOptions, NetworkOptions,
    Packet, PubAck, PubRec, Publish, PublishNotice, PublishOptions, QoS, SubscribeFilterInput,
    SubscribeReasonCode,
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    ledger::Ack,
    wire::{Beheaded, Way},
    words::Words,
};

/// The most publications on their way without an acknowledgement. AWS allows 100.
pub const MOST_IN_FLIGHT: u16 = 100;
/// The most requests that wait for the connection to take them.
const MOST_REQUESTS: usize = 128;
/// The most requests that leave in one write.
const MOST_IN_WRITE: usize = 64;
/// How long one write may be stuck. The kernel notices a dead link earlier; this is for the rest.
const LONGEST_WRITE: Duration = Duration::from_secs(300);
/// How long the broker may take to answer a SUBSCRIBE.
const LONGEST_ANSWER: Duration = Duration::from_secs(60);
/// How long acknowledgements may take to leave when we end a session.
const LONGEST_FLUSH: Duration = Duration::from_secs(1);
/// How long the broker may take to acknowledge the last words. We have a second for good-bye.
const LONGEST_GOODBYE: Duration = Duration::from_millis(800);
/// The bound on what comes in is the wire's, which throws away what is larger. This is the most that
/// MQTT can say.
const MOST_INCOMING: usize = 268_435_460;

/// What we say of ourselves in CONNECT, beside the client id.
#[derive(Clone, Debug)]
pub struct Hello {
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Whole seconds.
    pub keep_alive: u16,
    pub clean_session: bool,
    pub will: Option<Publication>,
    /// Published first on each connection.
    pub birth: Option<Publication>,
    /// Published before the connection is closed.
    pub goodbye: Option<Publication>,
    pub max_packet: Size,
}

/// The way out over one connection, for everybody who uses it.
#[derive(Clone)]
pub struct Client {
    inner: AsyncClient,
    /// By which a node ends the connection. Nobody needs more than the first.
    failures: mpsc::Sender<anyhow::Error>,
}

/// The errors by which nodes end a connection.
pub type Failures = mpsc::Receiver<anyhow::Error>;

/// The connection itself. It goes on only while it is asked for what comes next.
pub struct Line {
    client: AsyncClient,
    eventloop: EventLoop,
    words: Words,
    beheaded: Beheaded,
    /// The topic of the last message: often that of the next one too, which then needs no copy.
    topic: Arc<str>,
}

/// What a connection brings.
pub enum Arrival {
    /// A message.
    Publish {
        publication: Publication,
        /// Its packet id. 0 at QoS 0.
        packet: u16,
        /// The broker's mark for what it sends once more.
        again: bool,
    },
    /// A message that was too large, without its payload. It is to be acknowledged all the same.
    Beheaded { publication: Publication, packet: u16, again: bool },
    /// The broker has released a message of QoS 2.
    Released(u16),
    /// Something that the client dealt with by itself.
    Other,
}

/// Tells when the broker has taken responsibility for a publication.
pub struct Notice(PublishNotice);

/// The connection ended before the broker answered, or could not take any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl Line {
    /// A connection that is yet to be opened.
    pub fn new(
        client_id: &str,
        hello: &Hello,
        way: Way,
        words: Words,
    ) -> anyhow::Result<(Line, Client, Failures)> {
        let beheaded = Beheaded::clone(&way.beheaded);
        let (client, mut eventloop) = AsyncClient::builder(options(client_id, hello, way))
            .capacity(MOST_REQUESTS)
            .try_build()
            .context("preparing the MQTT client")?;
        let mut network = NetworkOptions::new();
        // rumqttc also bounds each write by this, so the time to connect is bounded by us.
        network.set_connection_timeout(LONGEST_WRITE.as_secs());
        eventloop.set_network_options(network);
        let (failures, failures_out) = mpsc::channel(1);
        let line = Line { client: client.clone(), eventloop, words, beheaded, topic: "".into() };
        Ok((line, Client { inner: client, failures }, failures_out))
    }

    /// Connects. True when the broker remembers the session.
    pub async fn open(&mut self) -> anyhow::Result<bool> {
        let broker = &self.words.broker;
        match self.eventloop.poll().await {
            Err(error) => Err(self.words.unanswered(self.words.explain(error))),
            Ok(Event::Incoming(Packet::ConnAck(answer))) => Ok(answer.session_present),
            Ok(_) => Err(anyhow!("{broker} does not answer as an MQTT broker does")),
        }
    }

    /// What comes next. Must not be asked again after an error, nor when this was dropped half-way.
    pub async fn next(&mut self) -> anyhow::Result<Arrival> {
        match self.eventloop.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => Ok(self.arrival(publish)),
            Ok(Event::Incoming(Packet::PubRel(release))) => Ok(Arrival::Released(release.pkid)),
            Ok(_) => Ok(Arrival::Other),
            Err(error) => Err(self.words.explain(error)),
        }
    }

    fn arrival(&mut self, publish: Publish) -> Arrival {
        let Publish { topic, payload, qos, retain, pkid: packet, dup: again, .. } = publish;
        if *topic != *self.topic.as_bytes() {
            self.topic = String::from_utf8_lossy(&topic).into();
        }
        let is_empty = payload.is_empty();
        let publication = Publication::new(Arc::clone(&self.topic), payload);
        let publication = publication.qos(qos as u8).retain(retain);
        let mut beheaded = self.beheaded.lock().unwrap_or_else(PoisonError::into_inner);
        if is_empty && beheaded.remove(&packet) {
            return Arrival::Beheaded { publication, packet, again };
        }
        Arrival::Publish { publication, packet, again }
    }

    /// Lets the acknowledgements leave that are due, before the connection is dropped.
    pub async fn flush(&mut self) {
        let acks = async { while let Ok(Arrival::Other) = self.next().await {} };
        // What takes longer comes again, and so do its messages.
        let _ = timeout(LONGEST_FLUSH, acks).await;
    }

    /// Says good-bye, with these last words. When they don't get through, the connection is dropped
    /// without a good-bye: then the broker publishes the will.
    pub async fn close(mut self, last_words: Option<Publication>) {
        let asked = match last_words {
            None => self.client.try_disconnect_now(),
            Some(Publication { topic, payload, qos, retain, .. }) => {
                let options = PublishOptions::new(level(qos)).retain(retain);
                let sent = self.client.try_publish(&*topic, payload, options);
                sent.and_then(|()| self.client.try_disconnect_with_timeout(LONGEST_GOODBYE))
            }
        };
        if asked.is_err() {
            return;
        }
        // Ends with an error once the DISCONNECT is written, or when there is no connection.
        while self.eventloop.poll().await.is_ok() {}
    }
}

impl Client {
    /// Hands an acknowledgement over. False when there is no room at the moment.
    pub fn acknowledge(&self, ack: Ack) -> bool {
        let ack = match ack {
            Ack::PubAck(packet) => ManualAck::PubAck(PubAck::new(packet)),
            Ack::PubRec(packet) => ManualAck::PubRec(PubRec::new(packet)),
        };
        self.inner.try_manual_ack(ack).is_ok()
    }

    /// Hands a publication over, at this QoS. Waits for room.
    pub async fn publish(&self, publication: Publication, qos: u8) -> Result<Notice, Lost> {
        let Publication { topic, payload, retain, .. } = publication;
        let options = PublishOptions::new(level(qos)).retain(retain);
        let notice = self.inner.publish_tracked(&*topic, payload, options).await;
        notice.map(Notice).map_err(|_| Lost)
    }

    /// Subscribes. For each filter the QoS that the broker granted, or None when it refused.
    pub async fn subscribe(&self, filters: &[(String, u8)]) -> anyhow::Result<Vec<Option<u8>>> {
        let filters =
            filters.iter().map(|(filter, qos)| SubscribeFilterInput::new(filter, level(*qos)));
        let notice = self.inner.subscribe_many_tracked(filters).await?;
        let answer =
            timeout(LONGEST_ANSWER, notice.wait_async()).await.context("no answer in time")??;
        let granted = answer.return_codes.into_iter().map(|code| match code {
            SubscribeReasonCode::Success(qos) => Some(qos as u8),
            SubscribeReasonCode::Failure => None,
        });
        Ok(granted.collect())
    }

    /// Ends subscriptions.
    pub async fn unsubscribe(&self, filters: &[String]) -> anyhow::Result<()> {
        let notice = self.inner.unsubscribe_many_tracked(filters.iter()).await?;
        timeout(LONGEST_ANSWER, notice.wait_async()).await.context("no answer in time")??;
        Ok(())
    }

    /// Ends the connection with an error.
    pub fn fail(&self, error: anyhow::Error) {
        // A failure that nobody has read yet ends the connection just as well.
        let _ = self.failures.try_send(error);
    }

    /// Whether both go over the same connection.
    pub fn is(&self, other: &Client) -> bool {
        self.failures.same_channel(&other.failures)
    }
}

impl Notice {
    /// Resolves once the broker has taken responsibility; at QoS 0, once it has left.
    pub async fn taken(self) -> Result<(), Lost> {
        self.0.wait_completion_async().await.map_err(|_| Lost)
    }
}

fn options(client_id: &str, hello: &Hello, way: Way) -> MqttOptions {
    let broker = (way.broker.host.clone(), way.broker.port);
    let mut options = MqttOptions::new(client_id, broker);
    let most = usize::try_from(hello.max_packet.0).unwrap_or(usize::MAX);
    options
        .set_keep_alive(hello.keep_alive)
        .set_clean_session(hello.clean_session)
        .set_max_packet_size(MOST_INCOMING, most)
        .set_ack_mode(AckMode::Manual)
        .set_inflight(MOST_IN_FLIGHT)
        .set_max_request_batch(MOST_IN_WRITE)
        // Whatever TLS there is, is ours: what goes over it is counted.
        .set_socket_connector(move |_, _| way.clone().open());
    match (&hello.username, &hello.password) {
        (Some(name), Some(password)) => {
            options.set_credentials(name.clone(), password.expose().to_owned());
        }
        (Some(name), None) => {
            options.set_username(name.clone());
        }
        (None, _) => (),
    }
    if let Some(will) = &hello.will {
        let Publication { topic, payload, qos, retain, .. } = will.clone();
        options.set_last_will(LastWill::new(&*topic, payload, level(qos), retain));
    }
    options
}

/// The QoS of a checked setting.
fn level(number: u8) -> QoS {
    match number {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}
