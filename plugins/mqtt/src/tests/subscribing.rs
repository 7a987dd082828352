//! Sources on a session: what they are given, and when the broker is told.

use rumqttc::{Packet, PubRel, QoS};

use super::{
    peer::{self, Peer, Port},
    *,
};

/// A connection that is up, with one source of QoS 1 that is subscribed to `in/#`.
async fn subscribed(connection: &str, source: &str) -> (Port, Running, Reading, Peer) {
    let port = Port::open().await;
    let running = Running::start(&format!("url: {}\n{connection}", port.url()));
    let reading = running.source(&format!("topics: [in/#]\n{source}"));
    let mut peer = port.accept().await;
    peer.welcome(false).await;
    peer.grant("").await;
    (port, running, reading, peer)
}

/// Has a sink publish, so that the broker sees everything that came before.
async fn publish_marker(running: &Running, peer: &mut Peer) {
    let mut sink = running.sink("topic: marker\nqos: 0");
    soon(sink.connect()).await.unwrap();
    assert_eq!(said(soon(sink.write(&[message("", 0)])).await), "written");
    assert_eq!(&peer.published().await.topic[..], b"marker");
}

#[tokio::test]
async fn the_broker_is_told_once_the_pipeline_has_delivered() {
    let (_port, running, mut reading, mut peer) = subscribed("", "").await;
    peer.publish("in/a", r#"{"t":1}"#, QoS::AtLeastOnce, 5).await;
    let envelope = reading.next().await;
    assert_eq!(&*envelope.message.topic, "in/a");
    assert_eq!(envelope.message.payload.value().unwrap()["t"], 1);
    let meta = envelope.message.meta.get("mqtt").unwrap();
    assert_eq!(*meta, serde_json::json!({ "qos": 1, "retain": false, "dup": false }));
    publish_marker(&running, &mut peer).await;
    envelope.delivery.unwrap().settle();
    assert_eq!(peer.acknowledged().await, 5);
}

#[tokio::test]
async fn acknowledgements_leave_in_the_order_of_arrival() {
    let (_port, running, mut reading, mut peer) = subscribed("", "qos: 2").await;
    peer.publish("in/a", "1", QoS::AtLeastOnce, 9).await;
    peer.publish("in/a", "2", QoS::ExactlyOnce, 3).await;
    let (first, second) = (reading.next().await, reading.next().await);
    second.delivery.unwrap().settle();
    publish_marker(&running, &mut peer).await;
    first.delivery.unwrap().settle();
    assert_eq!(peer.acknowledged().await, 9);
    let Packet::PubRec(received) = peer.recv().await else { panic!("expected PUBREC") };
    assert_eq!(received.pkid, 3);
    peer.send(Packet::PubRel(PubRel::new(3))).await;
    let Packet::PubComp(done) = peer.recv().await else { panic!("expected PUBCOMP") };
    assert_eq!(done.pkid, 3);
}

#[tokio::test]
async fn what_is_lost_downstream_is_sent_on_again() {
    let (_port, running, mut reading, mut peer) = subscribed("", "").await;
    peer.publish("in/a", "1", QoS::AtLeastOnce, 1).await;
    drop(reading.next().await);
    let again = reading.next().await;
    assert_eq!(again.message.payload.value().unwrap(), 1);
    publish_marker(&running, &mut peer).await;
    again.delivery.unwrap().settle();
    assert_eq!(peer.acknowledged().await, 1);
}

#[tokio::test]
async fn an_acknowledgement_of_an_earlier_connection_is_not_sent() {
    let (port, mut running, mut reading, mut peer) = subscribed("", "").await;
    peer.publish("in/a", "1", QoS::AtLeastOnce, 1).await;
    let old = reading.next().await;
    drop(peer);
    running.error().await;

    let mut peer = port.accept().await;
    peer.welcome(false).await;
    peer.grant("").await;
    // Another message under the same packet id.
    peer.publish("in/a", "2", QoS::AtLeastOnce, 1).await;
    let new = reading.next().await;
    old.delivery.unwrap().settle();
    publish_marker(&running, &mut peer).await;
    new.delivery.unwrap().settle();
    assert_eq!(peer.acknowledged().await, 1);
}

#[tokio::test]
async fn a_message_that_comes_again_after_a_reconnect_is_not_delivered_twice() {
    let settings = "client_id: a\nclean_session: false";
    let (port, mut running, mut reading, mut peer) = subscribed(settings, "").await;
    peer.publish("in/a", "1", QoS::AtLeastOnce, 1).await;
    peer.publish("in/a", "2", QoS::AtLeastOnce, 2).await;
    let (first, second) = (reading.next().await, reading.next().await);
    second.delivery.unwrap().settle();
    drop(peer);
    running.error().await;

    let mut peer = port.accept().await;
    peer.welcome(true).await;
    peer.grant("").await;
    peer.publish_marked("in/a", "1", QoS::AtLeastOnce, 1, true).await;
    peer.publish_marked("in/a", "2", QoS::AtLeastOnce, 2, true).await;
    peer.publish("in/a", "3", QoS::AtLeastOnce, 3).await;
    // The next that the pipeline sees is the third.
    let third = reading.next().await;
    assert_eq!(third.message.payload.value().unwrap(), 3);
    third.delivery.unwrap().settle();
    first.delivery.unwrap().settle();
    for packet in [1, 2, 3] {
        assert_eq!(peer.acknowledged().await, packet);
    }
}

#[tokio::test]
async fn what_comes_before_a_source_runs_waits_for_it() {
    let port = Port::open().await;
    let settings = format!("url: {}\nclient_id: a\nclean_session: false", port.url());
    let running = Running::start(&settings);
    let mut peer = port.accept().await;
    peer.welcome(true).await;
    peer.publish("in/a", "1", QoS::AtLeastOnce, 1).await;
    publish_marker(&running, &mut peer).await;
    let mut reading = running.source("topics: [in/#]");
    assert_eq!(peer.grant("").await, [("in/#".to_owned(), 1)]);
    assert_eq!(reading.delivered().await, ("in/a".into(), 1.into()));
    assert_eq!(peer.acknowledged().await, 1);
}

#[tokio::test]
async fn a_source_that_is_replaced_leaves_its_messages_to_the_new_one() {
    let (_port, running, mut old, mut peer) = subscribed("", "").await;
    for packet in [1, 2] {
        peer.publish("in/a", &packet.to_string(), QoS::AtLeastOnce, packet).await;
    }
    let first = old.next().await;
    old.task.stop().await;
    let mut new = running.source("topics: [in/#]\nin_flight: 5");
    // The old pipeline may still deliver the first: it comes twice rather than never.
    drop(first);
    for number in [1, 2] {
        assert_eq!(new.delivered().await, ("in/a".into(), number.into()));
    }
    for packet in [1, 2] {
        assert_eq!(peer.acknowledged().await, packet);
    }
}

#[tokio::test]
async fn a_stuck_source_does_not_hold_up_a_sink() {
    let port = Port::open().await;
    let running = Running::start(&format!("url: {}", port.url()));
    // A pipeline with room for one message.
    let mut stuck = Reading::start("topics: [in/#]\nin_flight: 500\nqos: 0", &running.shared, 1);
    let mut peer = port.accept().await;
    peer.welcome(false).await;
    peer.grant("").await;
    let mut sink = running.sink("topic: out");
    soon(sink.connect()).await.unwrap();
    let batch: Vec<_> = (0..50).map(|number| message("", number)).collect();
    let broker = async {
        for number in 0..50 {
            peer.publish("in/a", "1", QoS::AtLeastOnce, number + 1).await;
            peer.acknowledge().await;
        }
    };
    let (written, ()) = soon(async { tokio::join!(sink.write(&batch), broker) }).await;
    assert_eq!(said(written), "written");
    for _ in 0..50 {
        stuck.delivered().await;
    }
}

#[tokio::test]
async fn a_full_queue_drops_qos_0_and_keeps_qos_1() {
    let (_port, _running, mut reading, mut peer) = subscribed("", "in_flight: 2").await;
    peer.publish("in/a", "1", QoS::AtLeastOnce, 1).await;
    peer.publish("in/a", "2", QoS::AtLeastOnce, 2).await;
    peer.publish("in/a", "dropped", QoS::AtMostOnce, 0).await;
    peer.publish("in/a", "3", QoS::AtLeastOnce, 3).await;
    for number in [1, 2, 3] {
        assert_eq!(reading.delivered().await.1, number);
        assert_eq!(peer.acknowledged().await, number as u16);
    }
}

#[tokio::test]
async fn sources_share_subscriptions_and_each_gets_its_copy() {
    let port = Port::open().await;
    let running = Running::start(&format!("url: {}", port.url()));
    let mut all = Reading::start("topics: [+/a, in/+]\nqos: 0", &running.shared, 10);
    let mut other =
        Reading::start_named("pipeline/other", "topics: [in/+]\nqos: 2", &running.shared, 10);
    let mut peer = port.accept().await;
    peer.welcome(false).await;
    assert_eq!(peer.grant("").await, [("+/a".to_owned(), 0), ("in/+".to_owned(), 2)]);
    peer.publish("in/a", "1", QoS::AtLeastOnce, 1).await;
    assert_eq!(all.delivered().await.1, 1);
    publish_marker(&running, &mut peer).await;
    other.delivered().await;
    assert_eq!(peer.acknowledged().await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_granted_goes_on_beside_what_is_refused() {
    let (door, running) = Running::in_memory("keep_alive: 0s");
    let mut reading = running.source("topics: [in/secret, out/#]");
    let mut peer = peer::at(&door).await;
    peer.welcome(false).await;
    peer.grant("in/secret").await;
    let refused = "the broker refused the subscription to `in/secret`: it gives no reason";
    assert_eq!(reading.error().await, refused);
    peer.publish("out/a", "1", QoS::AtLeastOnce, 1).await;
    assert_eq!(reading.delivered().await, ("out/a".into(), 1.into()));
    assert_eq!(peer.acknowledged().await, 1);

    // What is refused is asked for again, alone, and may be granted then.
    for pause in [15, 30] {
        let before = Instant::now();
        assert_eq!(peer.grant("in/secret").await, [("in/secret".to_owned(), 1)]);
        assert_eq!(before.elapsed().as_secs(), pause);
        assert_eq!(reading.error().await, refused);
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(peer.grant("").await, [("in/secret".to_owned(), 1)]);
    peer.publish("in/secret", "2", QoS::AtLeastOnce, 2).await;
    assert_eq!(reading.delivered().await, ("in/secret".into(), 2.into()));
    assert_eq!(peer.acknowledged().await, 2);
}

#[tokio::test]
async fn a_refusal_does_not_end_the_session() {
    let port = Port::open().await;
    let running = Running::start(&format!("url: {}", port.url()));
    let mut reading = running.source("topics: [in/secret]");
    let mut peer = port.accept().await;
    peer.welcome(false).await;
    peer.grant("in/secret").await;
    reading.error().await;
    publish_marker(&running, &mut peer).await;
}

#[tokio::test]
async fn whoever_comes_new_has_a_refused_filter_asked_for_at_once() {
    let port = Port::open().await;
    let running = Running::start(&format!("url: {}", port.url()));
    let mut reading = running.source("topics: [in/secret]");
    let mut peer = port.accept().await;
    peer.welcome(false).await;
    peer.grant("in/secret").await;
    reading.error().await;
    reading.task.stop().await;
    let mut reading = running.source("topics: [in/secret]");
    assert_eq!(peer.grant("").await, [("in/secret".to_owned(), 1)]);
    peer.publish("in/secret", "1", QoS::AtLeastOnce, 1).await;
    assert_eq!(reading.delivered().await.1, 1);
}

#[tokio::test]
async fn subscriptions_come_back_after_a_reconnect() {
    let (port, mut running, mut reading, peer) = subscribed("", "").await;
    drop(peer);
    running.error().await;
    let mut peer = port.accept().await;
    peer.welcome(false).await;
    assert_eq!(peer.grant("").await, [("in/#".to_owned(), 1)]);
    peer.publish("in/a", "1", QoS::AtMostOnce, 0).await;
    assert_eq!(reading.delivered().await.1, 1);
}

#[tokio::test]
async fn many_filters_are_asked_for_in_portions() {
    let port = Port::open().await;
    let running = Running::start(&format!("url: {}", port.url()));
    let topics: Vec<_> = (0..20).map(|number| format!("in/{number}")).collect();
    let _reading = running.source(&format!("topics: [{}]", topics.join(", ")));
    let mut peer = port.accept().await;
    peer.welcome(false).await;
    let sizes =
        [peer.grant("").await.len(), peer.grant("").await.len(), peer.grant("").await.len()];
    assert_eq!(sizes, [8, 8, 4]);
}

/// A connection in a world in memory, with one source of `in/#` that is subscribed, and room for one
/// message behind it.
async fn narrow(connection: &str) -> (Running, Reading, Peer) {
    let (door, running) = Running::in_memory(connection);
    let reading = Reading::start("topics: [in/#]\nin_flight: 1\nqos: 2", &running.shared, 1);
    let mut peer = peer::at(&door).await;
    peer.welcome(false).await;
    peer.grant("").await;
    (running, reading, peer)
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_is_thrown_away_and_acknowledged() {
    let (running, mut reading, mut peer) = narrow("max_packet: 1KiB").await;
    let large = "x".repeat(2000);
    peer.publish("in/kept", &large, QoS::AtMostOnce, 0).await;
    peer.publish("in/kept", &large, QoS::AtLeastOnce, 1).await;
    peer.publish("in/twice", &large, QoS::ExactlyOnce, 2).await;
    peer.publish("in/a", "7", QoS::AtLeastOnce, 3).await;
    assert_eq!(reading.delivered().await, ("in/a".into(), 7.into()));
    assert_eq!(peer.acknowledged().await, 1);
    let Packet::PubRec(received) = peer.recv().await else { panic!("expected PUBREC") };
    assert_eq!((received.pkid, peer.acknowledged().await), (2, 3));
    // An empty one of the same packet id is a message like any other.
    peer.publish("in/empty", "", QoS::AtLeastOnce, 1).await;
    assert_eq!(&*reading.next().await.message.topic, "in/empty");
    assert_eq!(running.heard.figure(Figure::Dropped), 3);
    let expected =
        "a message of 2012 bytes on `in/kept` is larger than `max_packet` (1KiB)".to_owned();
    assert_eq!(running.heard.said().dropped[0], expected);
}

#[tokio::test(start_paused = true)]
async fn a_source_without_room_has_the_broker_wait_and_the_session_stays() {
    let (mut running, mut reading, mut peer) = narrow("keep_alive: 20s").await;
    let began = Instant::now();
    let large = format!("\"{}\"", "x".repeat(900_000));
    let send = async {
        for packet in 1..=20 {
            peer.publish("in/a", &large, QoS::AtLeastOnce, packet).await;
        }
        peer
    };
    let read = async {
        // Longer than any ping would wait.
        tokio::time::sleep(Duration::from_secs(30)).await;
        for _ in 0..20 {
            assert_eq!(reading.delivered().await.0, "in/a".into());
        }
    };
    let (mut peer, ()) = tokio::join!(send, read);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 20 {
        match peer.recv().await {
            Packet::PubAck(ack) => acknowledged.push(ack.pkid),
            other => assert_eq!(other, Packet::PingReq),
        }
    }
    assert_eq!(acknowledged, (1..=20).collect::<Vec<_>>());
    assert_eq!(running.errors.try_recv().ok(), None, "the session goes on");
}

#[tokio::test(start_paused = true)]
async fn a_source_without_room_does_not_keep_a_sink_from_its_acknowledgement() {
    let (running, _reading, mut peer) = narrow("").await;
    let large = format!("\"{}\"", "x".repeat(900_000));
    let mut sink = running.sink("topic: out");
    soon(sink.connect()).await.unwrap();
    let batch = [message("", 1)];
    let broker = async {
        let publish = peer.published().await;
        for packet in 1..=15 {
            peer.publish("in/a", &large, QoS::AtLeastOnce, packet).await;
        }
        peer.send(Packet::PubAck(rumqttc::PubAck::new(publish.pkid))).await;
    };
    let (written, ()) = tokio::join!(sink.write(&batch), broker);
    assert_eq!(said(written), "written");
}

/// A session that the broker keeps, with this data folder and a source.
fn kept(folder: &std::path::Path) -> (Door, Running) {
    let memory = Memory::new(1_795_251_600_000_000_000);
    let door = memory.open("broker:1883");
    let settings = "url: mqtt://broker\nclient_id: a\nclean_session: false";
    let site = Site { world: memory.world(), data: folder.into(), ..site(None) };
    (door, Running::start_at(settings, site))
}

#[tokio::test(start_paused = true)]
async fn a_broker_went_on_sending_what_an_earlier_configuration_had_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("subscriptions");
    std::fs::write(&file, "in/#\nold/#\n").unwrap();
    let (door, running) = kept(folder.path());
    let _reading = running.source("topics: [in/#, more]");
    let mut peer = peer::at(&door).await;
    peer.welcome(true).await;
    peer.grant("").await;
    let began = Instant::now();
    let Packet::Unsubscribe(over) = peer.recv().await else { panic!("expected UNSUBSCRIBE") };
    assert_eq!(over.topics, ["old/#"]);
    // Nobody is taken for gone who is only late.
    assert!(began.elapsed() >= Duration::from_secs(29));
    peer.send(Packet::UnsubAck(rumqttc::UnsubAck { pkid: over.pkid })).await;
    let is_remembered = async {
        while std::fs::read_to_string(&file).unwrap_or_default() != "in/#\nmore\n" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(is_remembered).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_has_lost_the_session_was_not_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let (door, mut running) = kept(folder.path());
    for _ in 0..2 {
        let mut peer = peer::at(&door).await;
        peer.welcome(false).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(peer);
        running.error().await;
    }
    let said = running.heard.said();
    assert_eq!(
        said.troubles,
        [
            "the broker at broker:1883 has lost the session: what was published to this client meanwhile does not come"
        ]
    );
}
