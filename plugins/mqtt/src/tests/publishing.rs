//! Sinks on a session.

use rumqttc::{Packet, PubComp, PubRec, QoS};

use super::{peer::Port, *};

/// A connection that is up, and the other side of it.
async fn connected(settings: &str) -> (Port, Running, super::peer::Peer) {
    let port = Port::open().await;
    let running = Running::start(&format!("url: {}\n{settings}", port.url()));
    let mut peer = port.accept().await;
    peer.welcome(false).await;
    (port, running, peer)
}

#[tokio::test]
async fn a_write_ends_with_the_last_acknowledgement() {
    let (_port, running, mut peer) = connected("").await;
    let mut sink = running.sink("topic: a/b\nretain: true");
    soon(sink.connect()).await.unwrap();
    let batch = [message("x", 1), message("y", 2)];
    let acknowledge = async {
        let (first, second) = (peer.published().await, peer.published().await);
        assert_eq!((&first.topic[..], &first.payload[..]), (&b"a/b"[..], &b"1"[..]));
        assert_eq!(
            (first.qos, first.retain, &second.payload[..]),
            (QoS::AtLeastOnce, true, &b"2"[..])
        );
        // Not in order: the broker may do so.
        for publish in [second, first] {
            peer.send(Packet::PubAck(rumqttc::PubAck::new(publish.pkid))).await;
        }
    };
    let (written, ()) = soon(async { tokio::join!(sink.write(&batch), acknowledge) }).await;
    assert_eq!(said(written), "written");
}

#[tokio::test]
async fn qos_2_ends_with_pubcomp_and_qos_0_with_the_write() {
    let (_port, running, mut peer) = connected("").await;
    let mut sink = running.sink("qos: 2");
    soon(sink.connect()).await.unwrap();
    let handshake = async {
        let publish = peer.published().await;
        assert_eq!((&publish.topic[..], publish.qos), (&b"own"[..], QoS::ExactlyOnce));
        peer.send(Packet::PubRec(PubRec::new(publish.pkid))).await;
        let Packet::PubRel(release) = peer.recv().await else { panic!() };
        peer.send(Packet::PubComp(PubComp::new(release.pkid))).await;
    };
    let batch = [message("own", "text")];
    let (written, ()) = soon(async { tokio::join!(sink.write(&batch), handshake) }).await;
    assert_eq!(said(written), "written");

    let mut sink = running.sink("qos: 0\nformat: text");
    soon(sink.connect()).await.unwrap();
    assert_eq!(said(soon(sink.write(&batch)).await), "written");
    let publish = peer.published().await;
    assert_eq!((&publish.payload[..], publish.qos), (&b"text"[..], QoS::AtMostOnce));
}

#[tokio::test]
async fn a_lost_connection_has_the_rest_of_the_batch_written_again() {
    let (port, mut running, mut peer) = connected("").await;
    let broker = format!("127.0.0.1:{}", port.number());
    let mut sink = running.sink("topic: t");
    soon(sink.connect()).await.unwrap();
    let batch: Vec<_> = (0..5).map(|number| message("", number)).collect();
    let lose = async {
        // Acknowledged: the first two, and one that is not at the front.
        for is_taken in [true, true, false, true] {
            let publish = peer.published().await;
            if is_taken {
                peer.send(Packet::PubAck(rumqttc::PubAck::new(publish.pkid))).await;
            }
        }
        drop(peer);
    };
    let (written, ()) = soon(async { tokio::join!(sink.write(&batch), lose) }).await;
    let Err(WriteError::Retry { error, taken, .. }) = written else { panic!("{written:?}") };
    assert_eq!(
        (format!("{error:#}"), taken),
        (format!("publishing to the broker at {broker}: the connection was lost"), 2)
    );
    assert_eq!(running.error().await, format!("the broker at {broker} closed the connection"));

    let mut peer = port.accept().await;
    peer.welcome(false).await;
    soon(sink.connect()).await.unwrap();
    let (written, publish) =
        soon(async { tokio::join!(sink.write(&batch[2..3]), peer.acknowledge()) }).await;
    assert_eq!(said(written), "written");
    // A new message on a new connection, not what was left over.
    assert_eq!((publish.pkid, publish.dup), (1, false));
}

#[tokio::test]
async fn writing_while_the_connection_is_down_is_an_error_that_says_why() {
    let port = Port::open().await;
    let mut running = Running::start(&format!("url: {}", port.url()));
    let mut sink = running.sink("topic: t");
    let broker = format!("127.0.0.1:{}", port.number());
    assert_eq!(
        said(soon(sink.write(&[message("", 1)])).await),
        format!("retry: not connected to the broker at {broker}")
    );
    drop(port.accept().await);
    let error = running.error().await;
    assert_eq!(said(soon(sink.write(&[message("", 1)])).await), format!("retry: {error}"));
}

#[tokio::test]
async fn what_the_broker_can_never_take_is_rejected_before_anything_is_sent() {
    let (_port, running, mut peer) = connected("max_packet: 1KiB").await;
    let mut sink = running.sink("{}");
    soon(sink.connect()).await.unwrap();
    let large = message("t", "x".repeat(1020));
    let written = soon(sink.write(&[message("t", 1), large])).await;
    assert_eq!(
        said(written),
        "reject: a publication of 1030 bytes is larger than `max_packet` (1KiB)"
    );
    for topic in ["", "a/+", "#"] {
        let written = said(soon(sink.write(&[message("t", 1), message(topic, 1)])).await);
        assert!(written.starts_with("reject: the message's topic cannot be published to: "));
    }
    // What just fits is the first that the broker sees.
    let fits = [message("t", "x".repeat(1014))];
    let (written, publish) =
        soon(async { tokio::join!(sink.write(&fits), peer.acknowledge()) }).await;
    assert_eq!(said(written), "written");
    assert_eq!(publish.size(), 1024);
}

#[tokio::test]
async fn a_large_batch_flows_through_a_small_window() {
    let (_port, running, mut peer) = connected("").await;
    let mut sink = running.sink("topic: t");
    soon(sink.connect()).await.unwrap();
    let batch: Vec<_> = (0..500).map(|number| message("", number)).collect();
    let acknowledge = async {
        for number in 0..500 {
            assert_eq!(peer.acknowledge().await.payload, number.to_string());
        }
    };
    let (written, ()) = soon(async { tokio::join!(sink.write(&batch), acknowledge) }).await;
    assert_eq!(said(written), "written");
}

#[tokio::test]
async fn qos_2_is_not_risked_on_a_session_that_the_broker_remembers() {
    let (_port, running, mut peer) = connected("client_id: a\nclean_session: false").await;
    let mut sink = running.sink("topic: t\nqos: 2");
    soon(sink.connect()).await.unwrap();
    let batch = [message("", 1)];
    let (written, publish) =
        soon(async { tokio::join!(sink.write(&batch), peer.acknowledge()) }).await;
    assert_eq!((said(written).as_str(), publish.qos), ("written", QoS::AtLeastOnce));
}

#[tokio::test]
async fn a_dropped_write_leaves_the_session_in_order() {
    let (_port, running, mut peer) = connected("").await;
    let mut sink = running.sink("topic: t");
    soon(sink.connect()).await.unwrap();
    let batch = [message("", 1)];
    let first = {
        let write = sink.write(&batch);
        tokio::select! {
            biased;
            publish = peer.published() => publish,
            _ = write => unreachable!("nobody acknowledges"),
        }
    };
    let again = async {
        let second = peer.published().await;
        for publish in [first, second] {
            peer.send(Packet::PubAck(rumqttc::PubAck::new(publish.pkid))).await;
        }
    };
    let (written, ()) = soon(async { tokio::join!(sink.write(&batch), again) }).await;
    assert_eq!(said(written), "written");
}
