//! MQTT 5, against a broker by hand.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use forebay_sdk::world::memory::Door;
use rumqttc5::{
    ConnAck, ConnAckProperties, Connect, ConnectReturnCode, Disconnect, DisconnectProperties,
    DisconnectReasonCode, LastWill, Packet, PubAck, PubAckProperties, PubAckReason, PubComp,
    PubRec, PubRecReason, Publish, PublishProperties, QoS, RetainForwardRule, SubAck,
    SubAckProperties, SubscribeReasonCode,
    mqttbytes::{self},
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{peer, peer::Stream, *};

/// One connection of a client that speaks MQTT 5.
struct Peer {
    stream: Box<dyn Stream>,
    buffer: BytesMut,
}

async fn at(door: &Door) -> Peer {
    let stream = soon(door.accept()).await.unwrap().0;
    Peer { stream: Box::new(stream), buffer: BytesMut::new() }
}

impl Peer {
    /// The next packet, or None when the client is gone.
    async fn try_recv(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.buffer, None) {
                Ok(packet) => return Some(packet),
                Err(mqttbytes::Error::InsufficientBytes(_)) => (),
                Err(error) => panic!("{error}"),
            }
            if soon(self.stream.read_buf(&mut self.buffer)).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn recv(&mut self) -> Packet {
        self.try_recv().await.expect("the client is there")
    }

    async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        soon(self.stream.write_all(&bytes)).await.unwrap();
    }

    /// Takes the CONNECT and answers it.
    async fn greet(
        &mut self,
        code: ConnectReturnCode,
        properties: ConnAckProperties,
    ) -> (Connect, Option<LastWill>) {
        let Packet::Connect(connect, will, _) = self.recv().await else {
            panic!("CONNECT comes first")
        };
        let properties = Some(properties);
        self.send(Packet::ConnAck(ConnAck { session_present: false, code, properties })).await;
        (connect, will)
    }

    /// Lets in a client whose session is remembered.
    async fn remember(&mut self) {
        assert!(matches!(self.recv().await, Packet::Connect(..)));
        let code = ConnectReturnCode::Success;
        self.send(Packet::ConnAck(ConnAck { session_present: true, code, properties: None })).await;
    }

    async fn welcome(&mut self) -> (Connect, Option<LastWill>) {
        self.greet(ConnectReturnCode::Success, nothing()).await
    }

    async fn published(&mut self) -> Publish {
        match self.recv().await {
            Packet::Publish(publish) => publish,
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }

    async fn answer(&mut self, publish: &Publish, reason: PubAckReason, text: &str) {
        let properties = (!text.is_empty()).then(|| PubAckProperties {
            reason_string: Some(text.to_owned()),
            user_properties: Vec::new(),
        });
        self.send(Packet::PubAck(PubAck { pkid: publish.pkid, reason, properties })).await;
    }
}

/// A CONNACK that says nothing beside its code.
fn nothing() -> ConnAckProperties {
    ConnAckProperties {
        session_expiry_interval: None,
        receive_max: None,
        max_qos: None,
        retain_available: None,
        max_packet_size: None,
        assigned_client_identifier: None,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}

/// A connection that was let in with these limits.
async fn connected(settings: &str, limits: ConnAckProperties) -> (Running, Peer, Door) {
    let (door, running) = Running::in_memory(&format!("version: \"5\"\n{settings}"));
    let mut peer = at(&door).await;
    peer.greet(ConnectReturnCode::Success, limits).await;
    (running, peer, door)
}

async fn writing(running: &Running, settings: &str) -> Writing {
    let mut sink = running.sink(settings);
    soon(sink.connect()).await.unwrap();
    sink
}

#[tokio::test(start_paused = true)]
async fn connect_asks_for_what_the_settings_say() {
    let (door, _running) = Running::in_memory(
        "version: \"5\"\nclient_id: a\nclean_session: false\nsession_expiry: 1h\n\
         max_packet: 64KiB\nwill: { topic: state, payload: gone, retain: false, delay: 30s }",
    );
    let (connect, will) = at(&door).await.welcome().await;
    assert!(!connect.clean_start);
    let asked = connect.properties.unwrap();
    assert_eq!(asked.session_expiry_interval, Some(3600));
    assert_eq!(asked.max_packet_size, Some(64 << 10));
    assert_eq!(will.unwrap().properties.unwrap().delay_interval, Some(30));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_kept_for_ever_or_not_at_all_when_nothing_is_said() {
    for (settings, expiry) in [("clean_session: false\nclient_id: a", Some(u32::MAX)), ("", None)] {
        let (door, _running) = Running::in_memory(&format!("version: \"5\"\n{settings}"));
        let (connect, _) = at(&door).await.welcome().await;
        assert_eq!(connect.properties.unwrap().session_expiry_interval, expiry);
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_keeps_the_session_for_less_than_asked_was_not_told_of() {
    let kept = "client_id: a\nclean_session: false";
    // Whoever named no time is told as news, not as trouble.
    for (asked, given, expected) in [
        ("\nsession_expiry: 2h", Some(3600), 1),
        ("\nsession_expiry: 1h", Some(3600), 0),
        ("", Some(3600), 0),
        ("", None, 0),
    ] {
        let limits = ConnAckProperties { session_expiry_interval: given, ..nothing() };
        let (running, _peer, _door) = connected(&format!("{kept}{asked}"), limits).await;
        soon(async {
            while running.heard.said().ready == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let troubles = running.heard.said().troubles;
        assert_eq!(troubles.len(), expected, "{troubles:?}");
        let words = "keeps the session for 3600 s and no longer";
        assert!(troubles.iter().all(|trouble| trouble.contains(words)), "{troubles:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_chooses_the_client_id_when_it_is_asked_to() {
    for version in ["5", "3.1.1"] {
        let (door, _running) = Running::in_memory(&format!("version: '{version}'\nclient_id: ''"));
        if version == "5" {
            let chosen = ConnAckProperties {
                assigned_client_identifier: Some("auto-7".to_owned()),
                ..nothing()
            };
            let (connect, _) = at(&door).await.greet(ConnectReturnCode::Success, chosen).await;
            assert_eq!((connect.client_id.as_str(), connect.clean_start), ("", true));
        } else {
            let connect = peer::at(&door).await.welcome(false).await;
            assert_eq!((connect.client_id.as_str(), connect.clean_session), ("", true));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_the_broker_remembers_is_published_and_subscribed_in() {
    let (door, mut running) =
        Running::in_memory("version: \"5\"\nclient_id: a\nclean_session: false");
    let mut sink = running.sink("topic: t");
    let _reading = running.source("topics: [in]");
    for _ in 0..2 {
        let mut peer = at(&door).await;
        peer.remember().await;
        assert!(matches!(peer.recv().await, Packet::Subscribe(..)));
        sink.connect().await.unwrap();
        let batch = [message("", 1)];
        let (written, ()) = tokio::join!(sink.write(&batch), async {
            let publish = peer.published().await;
            peer.answer(&publish, PubAckReason::Success, "").await;
        });
        assert_eq!(said(written), "written");
        drop(peer);
        running.error().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_broker_refuses_is_refused_alone_and_the_others_are_taken() {
    let (running, mut peer, _door) = connected("", nothing()).await;
    let mut sink = writing(&running, "topic: plant/a").await;
    let batch: Vec<_> = (0..4).map(|number| message("", number)).collect();
    let broker = async {
        for number in 0..4 {
            let publish = peer.published().await;
            match number {
                1 => peer.answer(&publish, PubAckReason::NotAuthorized, "").await,
                2 => peer.answer(&publish, PubAckReason::QuotaExceeded, "10 an hour\n").await,
                // Nobody listens, and it was taken.
                _ => peer.answer(&publish, PubAckReason::NoMatchingSubscribers, "").await,
            }
        }
    };
    let (written, ()) = tokio::join!(sink.write(&batch), broker);
    let refused = "the broker at broker:1883 refused the message on `plant/a`";
    assert_eq!(
        said(written),
        format!(
            "4 dealt with, refused 1: {refused}: not authorized; 2: {refused}: a quota is used up \
             (in its words: 10 an hour\\n)"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_of_qos_2_that_the_broker_refuses_is_refused_and_not_released() {
    let (running, mut peer, _door) = connected("", nothing()).await;
    let mut sink = writing(&running, "topic: t\nqos: 2").await;
    let batch = [message("", 1), message("", 2)];
    let broker = async {
        let (first, second) = (peer.published().await, peer.published().await);
        let mut refusal = PubRec::new(first.pkid, None);
        refusal.reason = PubRecReason::PayloadFormatInvalid;
        peer.send(Packet::PubRec(refusal)).await;
        peer.send(Packet::PubRec(PubRec::new(second.pkid, None))).await;
        let Packet::PubRel(release) = peer.recv().await else { panic!("PUBREL") };
        assert_eq!(release.pkid, second.pkid);
        peer.send(Packet::PubComp(PubComp::new(second.pkid, None))).await;
    };
    let (written, ()) = tokio::join!(sink.write(&batch), broker);
    let why = "the payload is not what it was said to be";
    assert_eq!(
        said(written),
        format!(
            "2 dealt with, refused 0: the broker at broker:1883 refused the message on `t`: {why}"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_is_told_also_when_the_connection_is_lost_right_after() {
    let (mut running, mut peer, _door) = connected("", nothing()).await;
    let mut sink = writing(&running, "topic: t").await;
    let batch: Vec<_> = (0..3).map(|number| message("", number)).collect();
    let broker = async {
        let publish = peer.published().await;
        peer.answer(&publish, PubAckReason::TopicNameInvalid, "").await;
        drop(peer);
        running.error().await;
    };
    let (written, ()) = tokio::join!(sink.write(&batch), broker);
    assert!(said(written).starts_with("1 dealt with, refused 0: "));
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_says_it_does_not_take_is_refused_before_it_is_sent() {
    let limits =
        ConnAckProperties { max_packet_size: Some(100), retain_available: Some(0), ..nothing() };
    let (running, mut peer, _door) = connected("", limits).await;
    let mut sink = writing(&running, "topic: t").await;
    let large = message("", "x".repeat(100));
    assert_eq!(
        said(sink.write(&[large]).await),
        "reject: the broker at broker:1883 takes 100 bytes at most, and the message has 110"
    );
    let mut kept = writing(&running, "topic: t\nretain: true").await;
    assert_eq!(
        said(kept.write(&[message("", 1)]).await),
        "reject: the broker at broker:1883 takes no retained messages: write `retain: false`"
    );
    // And the session goes on.
    let batch = [message("", 1)];
    let (written, publish) = tokio::join!(sink.write(&batch), async {
        let publish = peer.published().await;
        peer.answer(&publish, PubAckReason::Success, "").await;
        publish
    });
    assert_eq!((said(written), &publish.payload[..]), ("written".to_owned(), &b"1"[..]));
}

#[tokio::test(start_paused = true)]
async fn qos_is_lowered_to_what_the_broker_takes() {
    let limits = ConnAckProperties { max_qos: Some(1), ..nothing() };
    let (running, mut peer, _door) = connected("", limits).await;
    let mut sink = writing(&running, "topic: t\nqos: 2").await;
    let batch = [message("", 1)];
    let (written, qos) = tokio::join!(sink.write(&batch), async {
        let publish = peer.published().await;
        peer.answer(&publish, PubAckReason::Success, "").await;
        publish.qos
    });
    assert_eq!((said(written), qos), ("written".to_owned(), QoS::AtLeastOnce));
}

#[tokio::test(start_paused = true)]
async fn no_more_is_under_way_than_the_broker_takes() {
    let limits = ConnAckProperties { receive_max: Some(2), ..nothing() };
    let (running, mut peer, _door) = connected("", limits).await;
    let mut sink = writing(&running, "topic: t").await;
    let batch: Vec<_> = (0..5).map(|number| message("", number)).collect();
    let broker = async {
        let mut under_way = std::collections::VecDeque::new();
        let mut came = 0;
        while came < 5 || !under_way.is_empty() {
            let more = timeout(Duration::from_secs(1), peer.published());
            match more.await {
                Ok(publish) => {
                    under_way.push_back(publish);
                    came += 1;
                    assert!(under_way.len() <= 2, "{} under way", under_way.len());
                }
                Err(_) => {
                    let publish = under_way.pop_front().unwrap();
                    peer.answer(&publish, PubAckReason::Success, "").await;
                }
            }
        }
    };
    let (written, ()) = tokio::join!(sink.write(&batch), broker);
    assert_eq!(said(written), "written");
}

#[tokio::test(start_paused = true)]
async fn a_topic_goes_over_the_wire_once_when_the_broker_lets_it() {
    let limits = ConnAckProperties { topic_alias_max: Some(1), ..nothing() };
    let (running, mut peer, _door) = connected("", limits).await;
    let mut sink = writing(&running, "qos: 0").await;
    let batch: Vec<_> = ["long/topic", "long/topic", "other"].map(|topic| message(topic, 1)).into();
    assert_eq!(said(sink.write(&batch).await), "written");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let Publish { topic, properties, .. } = peer.published().await;
        let alias = properties.and_then(|properties| properties.topic_alias);
        seen.push((String::from_utf8(topic.to_vec()).unwrap(), alias));
    }
    assert_eq!(
        seen,
        [("long/topic".into(), Some(1)), (String::new(), Some(1)), ("other".into(), Some(1))]
    );
}

#[tokio::test(start_paused = true)]
async fn a_broker_says_in_words_why_it_does_not_let_us_in() {
    let (door, mut running) = Running::in_memory("version: \"5\"\nclient_id: site-a");
    let text = |text: &str| ConnAckProperties { reason_string: Some(text.into()), ..nothing() };
    for (code, properties, why) in [
        (
            ConnectReturnCode::NotAuthorized,
            nothing(),
            "not authorized; it may want `username` and `password`",
        ),
        (
            ConnectReturnCode::ClientIdentifierNotValid,
            text("too long"),
            "it does not accept the client id `site-a` (in its words: too long)",
        ),
        (ConnectReturnCode::BadUserNamePassword, nothing(), "bad user name or password"),
        (ConnectReturnCode::QuotaExceeded, nothing(), "a quota is used up"),
        (ConnectReturnCode::Banned, text("\u{7}"), "this client is banned (in its words: \\u{7})"),
        (
            ConnectReturnCode::RetainNotSupported,
            nothing(),
            "it keeps no retained messages: write `retain: false` in the `will`",
        ),
        (
            ConnectReturnCode::UnsupportedProtocolVersion,
            nothing(),
            "it does not speak MQTT 5; write `version: auto`, or leave it out",
        ),
    ] {
        at(&door).await.greet(code, properties).await;
        let expected = format!("the broker at broker:1883 refused the connection: {why}");
        assert_eq!(running.error().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_says_in_words_why_it_closes_the_connection() {
    let (door, mut running) = Running::in_memory("version: \"5\"\nclient_id: site-a");
    for (code, text, why) in [
        (
            DisconnectReasonCode::SessionTakenOver,
            None,
            "another client came with the client id `site-a`",
        ),
        (DisconnectReasonCode::ServerShuttingDown, None, "it is shutting down"),
        (
            DisconnectReasonCode::AdministrativeAction,
            Some("bye"),
            "somebody there ended it (in its words: bye)",
        ),
    ] {
        let mut peer = at(&door).await;
        peer.welcome().await;
        peer.send(Packet::Disconnect(disconnect(code, text, None))).await;
        let expected = format!("the broker at broker:1883 closed the connection: {why}");
        assert_eq!(running.error().await, expected);
    }
}

fn disconnect(
    code: DisconnectReasonCode,
    text: Option<&str>,
    server_reference: Option<&str>,
) -> Disconnect {
    let properties = DisconnectProperties {
        session_expiry_interval: None,
        reason_string: text.map(str::to_owned),
        user_properties: Vec::new(),
        server_reference: server_reference.map(str::to_owned),
    };
    Disconnect::new_with_properties(code, properties)
}

#[tokio::test(start_paused = true)]
async fn a_message_on_which_the_broker_hangs_up_with_a_reason_is_suspected_too() {
    let (door, mut running) = Running::in_memory("version: \"5\"");
    let mut sink = running.sink("topic: t");
    let batch = [message("", "bad")];
    let broker = async {
        loop {
            let mut peer = at(&door).await;
            peer.welcome().await;
            if let Some(Packet::Publish(_)) = peer.try_recv().await {
                let code = DisconnectReasonCode::PacketTooLarge;
                peer.send(Packet::Disconnect(disconnect(code, None, None))).await;
            }
        }
    };
    let write = async {
        loop {
            sink.connect().await.unwrap();
            match sink.write(&batch).await {
                Err(WriteError::Reject(error)) => return error.to_string(),
                outcome => assert!(said(outcome).starts_with("retry")),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let errors = async { while running.errors.recv().await.is_some() {} };
    let refused = tokio::select! {
        refused = write => refused,
        () = broker => unreachable!("it goes on"),
        () = errors => unreachable!("it goes on"),
    };
    assert!(refused.contains("closed the connection each of the 3 times"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_pointed_to_is_followed_once() {
    let memory = Memory::new(1_795_251_600_000_000_000);
    let (door, other) = (memory.open("broker:1883"), memory.open("other:1884"));
    let site = Site { world: memory.world(), ..site(None) };
    let mut running = Running::start_at("url: mqtt://broker\nversion: \"5\"", site);
    let moved = || ConnAckProperties { server_reference: Some("other:1884".into()), ..nothing() };
    let refused = |at: &str| {
        format!("the broker at {at} refused the connection: it says to use `other:1884`")
    };

    at(&door).await.greet(ConnectReturnCode::ServerMoved, moved()).await;
    assert_eq!(running.error().await, refused("broker:1883"));
    // Who points back to itself is not followed for ever.
    at(&other).await.greet(ConnectReturnCode::UseAnotherServer, moved()).await;
    assert_eq!(running.error().await, refused("other:1884"));
    let mut peer = at(&door).await;
    peer.welcome().await;
    let code = DisconnectReasonCode::UseAnotherServer;
    peer.send(Packet::Disconnect(disconnect(code, None, Some("other:1884")))).await;
    assert_eq!(
        running.error().await,
        "the broker at broker:1883 closed the connection: it says to use `other:1884`"
    );
    at(&other).await.welcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_pointed_to_and_not_named_is_for_a_person_to_find() {
    let (door, mut running) = Running::in_memory("version: \"5\"");
    at(&door).await.greet(ConnectReturnCode::ServerMoved, nothing()).await;
    let error = running.error().await;
    assert!(error.ends_with("it says to use another server, and not which"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_says_how_messages_come_and_hears_why_it_is_refused() {
    let (running, mut peer, _door) = connected("", nothing()).await;
    let mut reading = running
        .source("topics: [secret, open]\nno_local: true\nretain_as_published: true\nretained: new");
    let Packet::Subscribe(subscribe) = peer.recv().await else { panic!("SUBSCRIBE") };
    let asked: Vec<_> = subscribe.filters.iter().map(|filter| filter.path.as_str()).collect();
    assert_eq!(asked, ["open", "secret"]);
    for filter in &subscribe.filters {
        assert!(filter.nolocal && filter.preserve_retain);
        assert_eq!(filter.retain_forward_rule, RetainForwardRule::OnNewSubscribe);
    }
    let answer = SubAck {
        pkid: subscribe.pkid,
        return_codes: vec![
            SubscribeReasonCode::Success(QoS::AtLeastOnce),
            SubscribeReasonCode::NotAuthorized,
        ],
        properties: Some(SubAckProperties {
            reason_string: Some("ask Ann".to_owned()),
            user_properties: Vec::new(),
        }),
    };
    peer.send(Packet::SubAck(answer)).await;
    assert_eq!(
        reading.error().await,
        "the broker refused the subscription to `secret`: not authorized (in its words: ask Ann)"
    );
}

/// Takes a SUBSCRIBE and grants all of it. The filters, and the number.
async fn grant(peer: &mut Peer) -> (Vec<String>, Option<usize>) {
    let Packet::Subscribe(subscribe) = peer.recv().await else { panic!("SUBSCRIBE") };
    let return_codes =
        vec![SubscribeReasonCode::Success(QoS::AtLeastOnce); subscribe.filters.len()];
    peer.send(Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes, properties: None }))
        .await;
    let filters = subscribe.filters.into_iter().map(|filter| filter.path).collect();
    (filters, subscribe.properties.and_then(|properties| properties.id))
}

async fn send_by(peer: &mut Peer, topic: &str, payload: &str, by: &[usize]) {
    let properties =
        PublishProperties { subscription_identifiers: by.to_vec(), ..PublishProperties::default() };
    let publish = Publish::new(topic, QoS::AtMostOnce, payload.to_owned(), Some(properties));
    peer.send(Packet::Publish(publish)).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_sends_a_copy_for_each_subscription_had_each_source_get_all_copies() {
    let (door, running) = Running::in_memory("version: \"5\"");
    let start = |name, topics: &str| {
        Reading::start_named(name, &format!("topics: [{topics}]"), &running.shared, 10)
    };
    let (mut all, mut one) = (start("p/all", "t/+"), start("p/one", "t/a"));
    let mut peer = at(&door).await;
    peer.welcome().await;
    let (first, second) = (grant(&mut peer).await, grant(&mut peer).await);
    assert_eq!((&first.0[..], &second.0[..]), (&["t/+".into()][..], &["t/a".into()][..]));
    let (by_all, by_one) = (first.1.unwrap(), second.1.unwrap());
    // By then what was granted is known.
    send_by(&mut peer, "t/a", "0", &[]).await;
    assert_eq!((all.delivered().await.1, one.delivered().await.1), (json!(0), json!(0)));
    send_by(&mut peer, "t/a", "1", &[by_all]).await;
    send_by(&mut peer, "t/a", "2", &[by_one]).await;
    send_by(&mut peer, "t/a", "3", &[by_one, by_all]).await;
    for number in [1, 3] {
        assert_eq!(all.delivered().await.1, number);
    }
    for number in [2, 3] {
        assert_eq!(one.delivered().await.1, number);
    }
}

#[tokio::test(start_paused = true)]
async fn numbers_are_left_out_where_one_source_reads_and_where_the_broker_has_none() {
    let (running, mut peer, _door) = connected("", nothing()).await;
    let _reading = running.source("topics: [a, b]");
    assert_eq!(grant(&mut peer).await, (vec!["a".to_owned(), "b".to_owned()], None));
    let has_none = ConnAckProperties { subscription_identifiers_available: Some(0), ..nothing() };
    let (door, running) = Running::in_memory("version: \"5\"");
    let start = |name, topics: &str| {
        Reading::start_named(name, &format!("topics: [{topics}]"), &running.shared, 10)
    };
    let _both = (start("p/a", "a"), start("p/b", "b"));
    let mut peer = at(&door).await;
    peer.greet(ConnectReturnCode::Success, has_none).await;
    assert_eq!(grant(&mut peer).await, (vec!["a".to_owned(), "b".to_owned()], None));
}

#[tokio::test(start_paused = true)]
async fn a_silent_link_is_noticed_by_the_keep_alive_of_the_broker_not_by_ours() {
    let limits = ConnAckProperties { server_keep_alive: Some(6), ..nothing() };
    let (mut running, mut peer, _door) = connected("keep_alive: 1h", limits).await;
    let began = Instant::now();
    assert!(matches!(peer.recv().await, Packet::PingReq));
    let error = running.error().await;
    assert!(error.contains("did not answer a ping"), "{error}");
    assert_eq!(began.elapsed().as_secs(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_request_carries_all_that_its_answer_needs() {
    let (running, mut peer, _door) = connected("", nothing()).await;
    let mut reading = running.source("topics: [ask]");
    let Packet::Subscribe(subscribe) = peer.recv().await else { panic!("SUBSCRIBE") };
    let return_codes = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)];
    peer.send(Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes, properties: None }))
        .await;
    let asked = PublishProperties {
        payload_format_indicator: None,
        message_expiry_interval: Some(30),
        topic_alias: None,
        response_topic: Some("answers/7".to_owned()),
        correlation_data: Some(Bytes::from_static(b"\xff7")),
        user_properties: vec![("from".to_owned(), "me".to_owned())],
        subscription_identifiers: Vec::new(),
        content_type: None,
    };
    let mut publish = Publish::new("ask", QoS::AtLeastOnce, "1", Some(asked));
    publish.pkid = 1;
    peer.send(Packet::Publish(publish)).await;
    let Envelope { message: mut asked, .. } = reading.next().await;
    let said_beside = asked.meta.get("mqtt").unwrap().clone();
    assert_eq!(
        said_beside,
        json!({
            "qos": 1, "retain": false, "dup": false, "expires_after": 30,
            "response_topic": "answers/7", "correlation_base64": "/zc=", "user": { "from": "me" },
        })
    );

    // As a script answers.
    asked.topic = said_beside["response_topic"].as_str().unwrap().into();
    let mut sink = writing(&running, "properties: { user: { by: forebay } }").await;
    let batch = [asked];
    let (written, answer) = tokio::join!(sink.write(&batch), async {
        let publish = peer.published().await;
        peer.answer(&publish, PubAckReason::Success, "").await;
        publish
    });
    assert_eq!(said(written), "written");
    assert_eq!(&answer.topic[..], b"answers/7");
    let carried = answer.properties.unwrap();
    assert_eq!(carried.correlation_data.as_deref(), Some(&b"\xff7"[..]));
    let user: Vec<_> = carried.user_properties.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(user, ["by", "from"]);
}

/// A connection that finds out by itself what the broker speaks, and remembers it in a folder.
fn finding_out(door_of: &Memory, folder: &Path) -> Running {
    let site = Site { world: door_of.world(), data: folder.into(), ..site(None) };
    Running::start_at("url: mqtt://broker\nversion: auto", site)
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_speaks_3_1_1_alone_is_spoken_to_in_3_1_1_also_after_a_restart() {
    let memory = Memory::new(1_795_251_600_000_000_000);
    let door = memory.open("broker:1883");
    let folder = tempfile::tempdir().unwrap();
    for answers in [true, false] {
        let running = finding_out(&memory, folder.path());
        if answers {
            // An old broker refuses in its own version.
            let mut peer = at(&door).await;
            assert!(matches!(peer.recv().await, Packet::Connect(..)));
            soon(peer.stream.write_all(&[0x20, 2, 0, 1])).await.unwrap();
        }
        let mut peer = peer::at(&door).await;
        peer.welcome(false).await;
        let mut sink = running.sink("topic: t");
        soon(sink.connect()).await.unwrap();
        let batch = [message("", 1)];
        let (written, _) = tokio::join!(sink.write(&batch), peer.acknowledge());
        assert_eq!(said(written), "written");
        running.task.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_hangs_up_on_mqtt_5_is_spoken_to_in_3_1_1() {
    let memory = Memory::new(1_795_251_600_000_000_000);
    let door = memory.open("broker:1883");
    let folder = tempfile::tempdir().unwrap();
    let mut running = finding_out(&memory, folder.path());
    drop(at(&door).await);
    peer::at(&door).await.welcome(false).await;
    running.error().await;
    // Then it is tried first; and when it speaks 5 one day, that is found out too.
    drop(peer::at(&door).await);
    at(&door).await.welcome().await;
    running.error().await;
    at(&door).await.welcome().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_refuses_us_is_not_asked_in_another_version() {
    let memory = Memory::new(1_795_251_600_000_000_000);
    let door = memory.open("broker:1883");
    let folder = tempfile::tempdir().unwrap();
    let mut running = finding_out(&memory, folder.path());
    at(&door).await.greet(ConnectReturnCode::NotAuthorized, nothing()).await;
    assert!(running.error().await.contains("not authorized"));
    at(&door).await.welcome().await;
}
