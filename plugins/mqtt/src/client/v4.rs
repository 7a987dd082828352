//! MQTT 3.1.1, by rumqttc.

use std::{
    future::ready,
    sync::{Arc, PoisonError},
};

use anyhow::{Context, anyhow};
use forebay_sdk::mqtt::{Manner, Publication};
use futures_util::future::{BoxFuture, FutureExt};
use rumqttc::{
    AckMode, AsyncClient, Event, EventLoop, LastWill, ManualAck, MqttOptions, NetworkOptions,
    Packet, PersistedAckMode, PersistedPubRel, PersistedPublish, PersistedQoS, PersistedRequest,
    PersistedSession, PubAck, PubRec, Publish, PublishNotice, PublishOptions, QoS, SessionStore,
    SessionStoreError, SessionStoreKey, SubscribeFilterInput, SubscribeReasonCode,
};
use tokio::time::timeout;

use super::{
    kept::{GoingOn, Kept, Phase, UnderWay},
    terms::{
        Arrival, Hello, LONGEST_ANSWER, LONGEST_GOODBYE, LONGEST_WRITE, Limits, Lost,
        MOST_IN_FLIGHT, MOST_IN_WRITE, MOST_REQUESTS, Untaken, Welcome,
    },
};
use crate::{
    ledger::Ack,
    wire::{Beheaded, Way},
    words::Words,
};

/// The bound on what comes in is the wire's, which throws away what is larger. This is the most that
/// MQTT can say.
const MOST_INCOMING: usize = 268_435_460;

/// The way out.
#[derive(Clone)]
pub struct Client(AsyncClient);

/// The connection itself. It goes on only while it is asked for what comes next.
pub struct Line {
    client: AsyncClient,
    eventloop: EventLoop,
    words: Words,
    beheaded: Beheaded,
    kept: Option<Arc<Kept>>,
    going_on: Option<GoingOn>,
    /// The topic of the last message: often that of the next one too, which then needs no copy.
    topic: Arc<str>,
}

/// Tells when the broker has taken responsibility for a publication.
pub struct Notice(PublishNotice);

impl Line {
    /// A connection that is yet to be opened.
    pub fn new(
        client_id: &str,
        hello: &Hello,
        way: Way,
        words: Words,
        kept: Option<Arc<Kept>>,
    ) -> anyhow::Result<(Line, Client)> {
        let beheaded = Beheaded::clone(&way.beheaded);
        let mut options = options(client_id, hello, way);
        if let Some(kept) = &kept {
            options.set_session_store(Store {
                client_id: client_id.to_owned(),
                kept: Arc::clone(kept),
            });
        }
        let (client, mut eventloop) = AsyncClient::builder(options)
            .capacity(MOST_REQUESTS)
            .try_build()
            .context("preparing the MQTT client")?;
        let mut network = NetworkOptions::new();
        // rumqttc also bounds each write by this, so the time to connect is bounded by us.
        network.set_connection_timeout(LONGEST_WRITE.as_secs());
        eventloop.set_network_options(network);
        let line = Line {
            client: client.clone(),
            eventloop,
            words,
            beheaded,
            kept,
            going_on: None,
            topic: "".into(),
        };
        Ok((line, Client(client)))
    }

    /// Connects.
    pub async fn open(&mut self) -> anyhow::Result<Welcome> {
        let broker = &self.words.broker;
        match self.eventloop.poll().await {
            Err(error) => Err(self.words.unanswered(self.words.explain(error))),
            Ok(Event::Incoming(Packet::ConnAck(answer))) => {
                let (going_on, resumed) = self.kept.as_ref().map(GoingOn::of).unzip();
                self.going_on = going_on;
                let limits = Limits::default();
                Ok(Welcome {
                    resumed: answer.session_present,
                    limits,
                    assigned: None,
                    going_on: resumed.unwrap_or_default(),
                })
            }
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
        Arrival::Publish { publication, packet, again, by: Vec::new() }
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
        self.0.try_manual_ack(ack).is_ok()
    }

    /// Hands a publication over, at this QoS. Waits for room.
    pub async fn publish(&self, publication: Publication, qos: u8) -> Result<Notice, Lost> {
        let Publication { topic, payload, retain, .. } = publication;
        let options = PublishOptions::new(level(qos)).retain(retain);
        let notice = self.0.publish_tracked(&*topic, payload, options).await;
        notice.map(Notice).map_err(|_| Lost)
    }

    /// Subscribes. For each filter the QoS that the broker granted, or why it refused.
    pub async fn subscribe(
        &self,
        filters: &[(String, Manner)],
    ) -> anyhow::Result<Vec<Result<u8, String>>> {
        let filters = filters
            .iter()
            .map(|(filter, manner)| SubscribeFilterInput::new(filter, level(manner.qos)));
        let notice = self.0.subscribe_many_tracked(filters).await?;
        let answer =
            timeout(LONGEST_ANSWER, notice.wait_async()).await.context("no answer in time")??;
        let granted = answer.return_codes.into_iter().map(|code| match code {
            SubscribeReasonCode::Success(qos) => Ok(qos as u8),
            SubscribeReasonCode::Failure => Err("it gives no reason".to_owned()),
        });
        Ok(granted.collect())
    }

    /// Ends subscriptions.
    pub async fn unsubscribe(&self, filters: &[String]) -> anyhow::Result<()> {
        let notice = self.0.unsubscribe_many_tracked(filters.iter()).await?;
        timeout(LONGEST_ANSWER, notice.wait_async()).await.context("no answer in time")??;
        Ok(())
    }
}

impl Notice {
    /// Resolves once the broker has taken responsibility; at QoS 0, once it has left.
    pub async fn taken(self) -> Result<(), Untaken> {
        self.0.wait_completion_async().await.map_err(|_| Untaken::Lost)
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

/// Has the client go on with what is kept, and keeps what is under way.
#[derive(Debug)]
struct Store {
    client_id: String,
    kept: Arc<Kept>,
}

impl SessionStore for Store {
    fn load<'a>(
        &'a self,
        _: &'a SessionStoreKey,
    ) -> BoxFuture<'a, Result<Option<PersistedSession>, SessionStoreError>> {
        let session = PersistedSession {
            format_version: 1,
            client_id: self.client_id.clone(),
            clean_session: false,
            max_inflight: MOST_IN_FLIGHT,
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: self.kept.under_way().into_iter().map(request).collect(),
            // Our own ledger has them.
            incoming_qos2: Vec::new(),
        };
        ready(Ok(Some(session))).boxed()
    }

    fn save<'a>(
        &'a self,
        _: &'a SessionStoreKey,
        session: &'a PersistedSession,
    ) -> BoxFuture<'a, Result<(), SessionStoreError>> {
        self.kept.note(session.replay.iter().filter_map(under_way));
        ready(Ok(())).boxed()
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> BoxFuture<'a, Result<(), SessionStoreError>> {
        self.kept.forget();
        ready(Ok(())).boxed()
    }
}

fn request(under_way: UnderWay) -> PersistedRequest {
    let pkid = under_way.packet;
    match under_way.phase {
        Phase::Released(_) => PersistedRequest::PubRel(PersistedPubRel { pkid }),
        Phase::Sent(publication) => PersistedRequest::Publish(PersistedPublish {
            dup: true,
            qos: PersistedQoS::ExactlyOnce,
            retain: publication.retain,
            topic: publication.topic.as_bytes().to_vec(),
            pkid,
            payload: publication.payload.to_vec(),
        }),
    }
}

/// At QoS 1 a message is published anew.
fn under_way(request: &PersistedRequest) -> Option<UnderWay> {
    match request {
        PersistedRequest::Publish(publish) if publish.qos == PersistedQoS::ExactlyOnce => {
            let topic = String::from_utf8_lossy(&publish.topic);
            let publication = Publication::new(&*topic, publish.payload.clone());
            let phase = Phase::Sent(publication.qos(2).retain(publish.retain));
            Some(UnderWay { packet: publish.pkid, phase })
        }
        PersistedRequest::PubRel(release) => {
            Some(UnderWay { packet: release.pkid, phase: Phase::Released(None) })
        }
        _ => None,
    }
}

/// The QoS of a checked setting.
fn level(number: u8) -> QoS {
    match number {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}
