//! MQTT 5, by rumqttc.

use std::{future::ready, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use forebay_sdk::mqtt::{Manner, Properties, Publication, Retained};
use futures_util::future::{BoxFuture, FutureExt};
use rumqttc5::{
    AckMode, AsyncClient, ConnAck, ConnectProperties, ConnectionError, Event, EventLoop, LastWill,
    LastWillProperties, ManualAck, MqttOptions, NetworkOptions, Packet, PersistedAckMode,
    PersistedPubRel, PersistedPublish, PersistedPublishProperties, PersistedQoS, PersistedRequest,
    PersistedSession, PubAck, PubRec, Publish, PublishNotice, PublishOptions, PublishProperties,
    PublishResult, QoS, RetainForwardRule, SessionStore, SessionStoreError, SessionStoreKey,
    SubscribeFilterInput, SubscribeProperties, SubscribeReasonCode, TopicAliasPolicy,
};
use tokio::time::timeout;

use super::{
    kept::{Anew, GoingOn, Kept, Phase, UnderWay},
    terms::{
        Arrival, Hello, LONGEST_ANSWER, LONGEST_GOODBYE, LONGEST_WRITE, Limits, Lost,
        MOST_IN_FLIGHT, MOST_IN_WRITE, MOST_REQUESTS, Resumed, Untaken, Welcome,
    },
};
use crate::{
    ledger::Ack,
    wire::{Told, Way},
    words::Words,
    words5::{Reason, Said},
};

/// The most topics that the broker may shorten to a number.
const MOST_ALIASES: u16 = 16;

/// The way out.
#[derive(Clone)]
pub struct Client(AsyncClient);

/// The connection itself. It goes on only while it is asked for what comes next.
pub struct Line {
    client: AsyncClient,
    eventloop: EventLoop,
    words: Words,
    /// The broker's own words. rumqttc does not pass on all of them.
    told: Told,
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
        let told = Told::clone(&way.told);
        let mut options = options(client_id, hello, way);
        if !hello.clean_session {
            // Without it nothing is published in such a session.
            options.set_session_store(Store {
                client_id: client_id.to_owned(),
                expiry: hello.session_expiry,
                kept: kept.clone().unwrap_or_default(),
            });
        }
        let (client, mut eventloop) = AsyncClient::builder(options)
            .capacity(MOST_REQUESTS)
            .try_build()
            .context("preparing the MQTT client")?;
        // As for MQTT 3.1.1: this also bounds each write.
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(LONGEST_WRITE.as_secs());
        eventloop.options.set_network_options(network);
        let line = Line {
            client: client.clone(),
            eventloop,
            words,
            told,
            kept,
            going_on: None,
            topic: "".into(),
        };
        Ok((line, Client(client)))
    }

    /// Connects.
    pub async fn open(&mut self) -> anyhow::Result<Welcome> {
        let broker = &self.words.broker;
        let first = self.eventloop.poll().await;
        if self.kept.is_none() {
            // It has done its work, and would be asked to save with each packet.
            self.eventloop.options.clear_session_store();
        }
        match first {
            Err(error) => Err(self.words.unanswered(self.explain(error))),
            Ok(Event::Incoming(Packet::ConnAck(answer))) => {
                let said = answer.properties.as_ref().and_then(|said| said.server_keep_alive);
                self.told.keep_alive(said.map(|seconds| Duration::from_secs(seconds.into())));
                let most = answer.properties.as_ref().and_then(|said| said.receive_max);
                if let (Some(kept), Some(most)) = (&self.kept, most)
                    && kept.limit(most)
                {
                    // This one would say that it goes on with all of it.
                    self.eventloop.options.clear_session_store();
                    return Err(Anew.into());
                }
                let (going_on, resumed) = self.kept.as_ref().map(GoingOn::of).unzip();
                self.going_on = going_on;
                Ok(welcome(&answer, resumed.unwrap_or_default()))
            }
            Ok(_) => Err(anyhow!("{broker} does not answer as an MQTT broker does")),
        }
    }

    /// What comes next. Must not be asked again after an error, nor when this was dropped half-way.
    pub async fn next(&mut self) -> anyhow::Result<Arrival> {
        match self.eventloop.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => Ok(self.arrival(publish)),
            Ok(Event::Incoming(Packet::PubRel(release))) => Ok(Arrival::Released(release.pkid)),
            Ok(Event::Incoming(Packet::PubRec(answer))) => {
                let why =
                    refusal(answer.reason as u8, answer.properties.and_then(|it| it.reason_string));
                if let (Err(refused), Some(kept)) = (why, &self.kept) {
                    kept.refused(answer.pkid, refused);
                }
                Ok(Arrival::Other)
            }
            Ok(_) => Ok(Arrival::Other),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// What the broker said comes before what rumqttc makes of it.
    fn explain(&self, error: ConnectionError) -> anyhow::Error {
        match Said::read(&self.told.packet()) {
            Some(said) => self.words.said(&said),
            None => self.words.explain5(error),
        }
    }

    fn arrival(&mut self, publish: Publish) -> Arrival {
        let Publish { topic, payload, qos, retain, pkid: packet, dup: again, properties } = publish;
        if *topic != *self.topic.as_bytes() {
            self.topic = String::from_utf8_lossy(&topic).into();
        }
        let publication = Publication::new(Arc::clone(&self.topic), payload);
        let publication = publication.qos(qos as u8).retain(retain);
        let (publication, by) = match properties {
            Some(mut properties) => {
                let by = std::mem::take(&mut properties.subscription_identifiers);
                (publication.properties(received(properties)), by)
            }
            None => (publication, Vec::new()),
        };
        let by = by.into_iter().filter_map(|number| u32::try_from(number).ok()).collect();
        Arrival::Publish { publication, packet, again, by }
    }

    /// See [`super::Line::close`].
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
            Ack::PubAck(packet) => ManualAck::PubAck(PubAck::new(packet, None)),
            Ack::PubRec(packet) => ManualAck::PubRec(PubRec::new(packet, None)),
        };
        self.0.try_manual_ack(ack).is_ok()
    }

    /// Hands a publication over, at this QoS. Waits for room.
    pub async fn publish(&self, publication: Publication, qos: u8) -> Result<Notice, Lost> {
        let Publication { topic, payload, retain, properties, .. } = publication;
        let options = PublishOptions::new(level(qos)).retain(retain);
        let options = match properties {
            Some(properties) => options.properties(sent(&properties)),
            None => options,
        };
        let notice = self.0.publish_tracked(&*topic, payload, options).await;
        notice.map(Notice).map_err(|_| Lost)
    }

    /// See [`super::Client::subscribe`].
    pub async fn subscribe(
        &self,
        filters: &[(String, Manner)],
        number: Option<u32>,
    ) -> anyhow::Result<Vec<Result<u8, String>>> {
        let filters = filters.iter().map(|(filter, manner)| {
            SubscribeFilterInput::new(filter, level(manner.qos))
                .no_local(manner.no_local)
                .preserve_retain(manner.retain_as_published)
                .retain_forward_rule(match manner.retained {
                    Retained::Always => RetainForwardRule::OnEverySubscribe,
                    Retained::New => RetainForwardRule::OnNewSubscribe,
                    Retained::Never => RetainForwardRule::Never,
                })
        });
        let id = number.and_then(|number| usize::try_from(number).ok());
        let properties = SubscribeProperties { id, user_properties: Vec::new() };
        let notice = self.0.subscribe_many_with_properties_tracked(filters, properties).await?;
        let answer =
            timeout(LONGEST_ANSWER, notice.wait_async()).await.context("no answer in time")??;
        let reason_string = answer.properties.and_then(|properties| properties.reason_string);
        let granted = answer.return_codes.into_iter().map(|code| match code {
            SubscribeReasonCode::Success(qos) => Ok(qos as u8),
            refusal => Err(Reason::new(suback_code(refusal), reason_string.as_deref()).to_string()),
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
        let (code, reason_string) = match self.0.wait_async().await.map_err(|_| Untaken::Lost)? {
            PublishResult::Qos0Flushed => return Ok(()),
            PublishResult::Qos1(ack) => {
                (ack.reason as u8, ack.properties.and_then(|it| it.reason_string))
            }
            PublishResult::Qos2PubRecRejected(ack) => {
                (ack.reason as u8, ack.properties.and_then(|it| it.reason_string))
            }
            // The broker had taken it with PUBREC.
            PublishResult::Qos2Completed(_) => return Ok(()),
        };
        refusal(code, reason_string)
    }
}

/// What an acknowledgement says.
fn refusal(code: u8, reason_string: Option<String>) -> Result<(), Untaken> {
    match code {
        0..0x80 => Ok(()),
        _ => Err(Untaken::Refused(Reason::new(code, reason_string.as_deref()).to_string())),
    }
}

fn welcome(answer: &ConnAck, going_on: Vec<Resumed>) -> Welcome {
    let mut limits = Limits::default();
    if let Some(said) = &answer.properties {
        limits.max_packet = said.max_packet_size.map_or(u64::MAX, u64::from);
        limits.max_qos = said.max_qos.unwrap_or(2);
        limits.keeps_retained = said.retain_available != Some(0);
        limits.session_expiry = said.session_expiry_interval;
    }
    // Left out, it has them (MQTT 5 section 3.2.2.3.12).
    let said = answer.properties.as_ref().and_then(|said| said.subscription_identifiers_available);
    limits.names_subscriptions = said != Some(0);
    let said = answer.properties.as_ref();
    let assigned = said.and_then(|said| said.assigned_client_identifier.clone());
    Welcome { resumed: answer.session_present, limits, assigned, going_on }
}

fn options(client_id: &str, hello: &Hello, way: Way) -> MqttOptions {
    let broker = (way.broker.host.clone(), way.broker.port);
    let mut options = MqttOptions::new(client_id, broker);
    let mut properties = ConnectProperties::new();
    properties.max_packet_size = Some(u32::try_from(hello.max_packet.0).unwrap_or(u32::MAX));
    properties.topic_alias_max = Some(MOST_ALIASES);
    // Left out, the session ends with the connection.
    properties.session_expiry_interval = (!hello.clean_session).then_some(hello.session_expiry);
    options
        .set_connect_properties(properties)
        .set_keep_alive(hello.keep_alive)
        .set_clean_start(hello.clean_session)
        .set_ack_mode(AckMode::Manual)
        .set_outgoing_inflight_upper_limit(MOST_IN_FLIGHT)
        .set_max_request_batch(MOST_IN_WRITE)
        .set_topic_alias_policy(TopicAliasPolicy::Lru)
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
        let properties = (hello.will_delay > 0).then(|| LastWillProperties {
            delay_interval: Some(hello.will_delay),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        });
        options.set_last_will(LastWill::new(&*topic, payload, level(qos), retain, properties));
    }
    options
}

/// Has the client go on with what is kept, and keeps what is under way.
#[derive(Debug)]
struct Store {
    client_id: String,
    /// In seconds.
    expiry: u32,
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
            clean_start: false,
            session_expiry_interval: Some(self.expiry),
            outgoing_inflight_upper_limit: Some(MOST_IN_FLIGHT),
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
            properties: publication.properties.as_deref().map(persisted),
        }),
    }
}

/// At QoS 1 a message is published anew.
fn under_way(request: &PersistedRequest) -> Option<UnderWay> {
    match request {
        PersistedRequest::Publish(publish) if publish.qos == PersistedQoS::ExactlyOnce => {
            let topic = String::from_utf8_lossy(&publish.topic);
            let publication = Publication::new(&*topic, publish.payload.clone());
            let publication = publication.qos(2).retain(publish.retain);
            let phase = Phase::Sent(match &publish.properties {
                Some(properties) => publication.properties(restored(properties)),
                None => publication,
            });
            Some(UnderWay { packet: publish.pkid, phase })
        }
        PersistedRequest::PubRel(release) => {
            Some(UnderWay { packet: release.pkid, phase: Phase::Released(None) })
        }
        _ => None,
    }
}

fn persisted(properties: &Properties) -> PersistedPublishProperties {
    PersistedPublishProperties {
        payload_format_indicator: properties.is_text.then_some(1),
        message_expiry_interval: properties.expires_after_seconds,
        response_topic: properties.response_topic.clone(),
        correlation_data: properties.correlation_data.as_ref().map(|data| data.to_vec()),
        user_properties: properties.user.clone(),
        subscription_identifiers: Vec::new(),
        content_type: properties.content_type.clone(),
    }
}

fn restored(properties: &PersistedPublishProperties) -> Properties {
    Properties {
        is_text: properties.payload_format_indicator == Some(1),
        expires_after_seconds: properties.message_expiry_interval,
        content_type: properties.content_type.clone(),
        response_topic: properties.response_topic.clone(),
        correlation_data: properties.correlation_data.clone().map(Into::into),
        user: properties.user_properties.clone(),
    }
}

fn sent(properties: &Properties) -> PublishProperties {
    PublishProperties {
        payload_format_indicator: properties.is_text.then_some(1),
        message_expiry_interval: properties.expires_after_seconds,
        topic_alias: None,
        response_topic: properties.response_topic.clone(),
        correlation_data: properties.correlation_data.clone(),
        user_properties: properties.user.clone(),
        subscription_identifiers: Vec::new(),
        content_type: properties.content_type.clone(),
    }
}

fn received(properties: PublishProperties) -> Properties {
    Properties {
        is_text: properties.payload_format_indicator == Some(1),
        expires_after_seconds: properties.message_expiry_interval,
        content_type: properties.content_type,
        response_topic: properties.response_topic,
        correlation_data: properties.correlation_data,
        user: properties.user_properties,
    }
}

/// The code of a refusal on the wire (MQTT 5 section 3.9.3).
fn suback_code(refusal: SubscribeReasonCode) -> u8 {
    match refusal {
        SubscribeReasonCode::Success(qos) => qos as u8,
        SubscribeReasonCode::Failure | SubscribeReasonCode::Unspecified => 0x80,
        SubscribeReasonCode::ImplementationSpecific => 0x83,
        SubscribeReasonCode::NotAuthorized => 0x87,
        SubscribeReasonCode::TopicFilterInvalid => 0x8f,
        SubscribeReasonCode::PkidInUse => 0x91,
        SubscribeReasonCode::QuotaExceeded => 0x97,
        SubscribeReasonCode::SharedSubscriptionsNotSupported => 0x9e,
        SubscribeReasonCode::SubscriptionIdNotSupported => 0xa1,
        SubscribeReasonCode::WildcardSubscriptionsNotSupported => 0xa2,
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
