//! Sinks on a session.

use std::{collections::VecDeque, sync::Mutex};

use rumqttc::{Packet, PubAck, PubComp, PubRec, QoS};
use tokio::time::sleep_until;

use super::{
    peer::{self, Port},
    *,
};

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

/// A broker behind a link that takes a message every three milliseconds, and far away: each is answered
/// after 300 more.
async fn slow_and_far(mut peer: super::peer::Peer) {
    let mut free_at = Instant::now();
    let mut answers: VecDeque<(Instant, u16)> = VecDeque::new();
    loop {
        let next = answers.front().map_or(free_at, |(at, _)| *at);
        tokio::select! {
            packet = peer.try_recv() => match packet {
                Some(Packet::Publish(publish)) => {
                    free_at = free_at.max(Instant::now()) + Duration::from_millis(3);
                    answers.push_back((free_at + Duration::from_millis(300), publish.pkid));
                }
                other => panic!("{other:?}"),
            },
            () = sleep_until(next), if !answers.is_empty() => {
                let (_, packet) = answers.pop_front().unwrap();
                peer.send(Packet::PubAck(PubAck::new(packet))).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_and_long_link_is_kept_full_over_a_whole_batch() {
    let (door, running) = Running::in_memory("");
    let mut sink = running.sink("topic: t");
    let mut peer = peer::at(&door).await;
    peer.welcome(false).await;
    sink.connect().await.unwrap();
    let batch: Vec<_> = (0..1000).map(|number| message("", number)).collect();
    let began = Instant::now();
    let written = tokio::select! {
        written = sink.write(&batch) => written,
        () = slow_and_far(peer) => unreachable!("it goes on"),
    };
    assert_eq!(said(written), "written");
    // 3.3 seconds for a window that never closes, and 6 for one that waits for each hundred.
    let took = began.elapsed();
    assert!(took < Duration::from_millis(3500), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_link_was_idle_for_a_round_trip_between_batches() {
    let (door, running) = Running::in_memory("");
    let mut sink = running.sink("topic: t");
    let mut peer = peer::at(&door).await;
    peer.welcome(false).await;
    sink.connect().await.unwrap();
    // Ten batches of a hundred, as the engine shows them.
    let mut batches = (0..10).map(|batch| (0..100).map(move |at| message("", batch * 100 + at)));
    let first: Vec<_> = batches.next().unwrap().collect();
    let progress = sink.out.progress();
    let give = async {
        for batch in batches {
            while !progress.asks() {
                progress.more().await;
            }
            progress.give(batch);
        }
        std::future::pending().await
    };
    let began = Instant::now();
    let written = tokio::select! {
        written = sink.sink.write(&first, &mut sink.out) => written,
        () = give => unreachable!("it goes on"),
        () = slow_and_far(peer) => unreachable!("it goes on"),
    };
    assert_eq!(said(written), "written");
    assert_eq!((progress.count(), progress.taken_behind()), (1000, 900));
    // 6.3 seconds with a pause after each.
    let took = began.elapsed();
    assert!(took < Duration::from_millis(3500), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_published_behind_a_batch_is_refused_alone() {
    let (door, running) = Running::in_memory("max_packet: 1KiB");
    let mut sink = running.sink("{}");
    let mut peer = peer::at(&door).await;
    peer.welcome(false).await;
    sink.connect().await.unwrap();
    let progress = sink.out.progress();
    let first = [message("t", 0)];
    progress.give([message("t", 1), message("a/+", 2), message("t", 3)]);
    let acknowledge = async {
        let first = [peer.published().await, peer.published().await];
        for publish in first {
            peer.send(Packet::PubAck(PubAck::new(publish.pkid))).await;
        }
        std::future::pending().await
    };
    let written = tokio::select! {
        written = sink.sink.write(&first, &mut sink.out) => written,
        () = acknowledge => unreachable!("it goes on"),
    };
    let refused = "3 dealt with, refused 2: the message's topic cannot be published to: ";
    assert!(said(written).starts_with(refused));
    assert_eq!((progress.count(), progress.taken_behind()), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_very_slow_ends_no_write_half_way() {
    let (door, running) = Running::in_memory("");
    let mut sink = running.sink("topic: t");
    let mut peer = peer::at(&door).await;
    peer.welcome(false).await;
    sink.connect().await.unwrap();
    let batch: Vec<_> = (0..300).map(|number| message("", number)).collect();
    let acknowledge = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            peer.acknowledge().await;
        }
    };
    let written = tokio::select! {
        written = sink.write(&batch) => written,
        () = acknowledge => unreachable!("it goes on"),
    };
    // What went within a minute, and what was under way by then.
    let Err(WriteError::RejectSome { dealt_with, refused }) = written else {
        panic!("a part of it")
    };
    assert!((60..300).contains(&dealt_with) && refused.is_empty(), "{dealt_with}");
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

/// A broker that hangs up on every publication with `bad` in it, and takes the others. It adds what
/// it got, in order.
async fn strict(door: Door, got: &Mutex<Vec<String>>) {
    loop {
        let mut peer = peer::at(&door).await;
        peer.welcome(false).await;
        while let Some(Packet::Publish(publish)) = peer.try_recv().await {
            let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
            let is_bad = payload.contains("bad");
            got.lock().unwrap().push(payload);
            if is_bad {
                break;
            }
            peer.send(Packet::PubAck(rumqttc::PubAck::new(publish.pkid))).await;
        }
    }
}

/// Writes messages as the engine does, until all are taken or refused. What was refused, and why.
pub async fn write_out(sink: &mut Writing, mut rest: &[Message]) -> Vec<(Value, String)> {
    let (mut refused, mut most) = (Vec::new(), rest.len());
    while !rest.is_empty() {
        sink.connect().await.unwrap();
        let some = &rest[..most.min(rest.len())];
        match sink.write(some).await {
            Ok(_) => {
                rest = &rest[some.len()..];
                most *= 2;
            }
            Err(WriteError::Retry { taken, .. }) => rest = &rest[taken..],
            Err(WriteError::Reject(_)) if some.len() > 1 => most = some.len() / 2,
            Err(WriteError::Reject(error)) => {
                refused.push((some[0].payload.value().unwrap().clone(), error.to_string()));
                rest = &rest[1..];
            }
            Err(error) => panic!("{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    refused
}

#[tokio::test(start_paused = true)]
async fn a_message_on_which_the_broker_hangs_up_is_refused_and_the_others_go_on() {
    let (door, mut running) = Running::in_memory("");
    let mut sink = running.sink("topic: t/1\nretain: true");
    let mut other = running.sink("topic: t/2");
    let texts = ["a", "b", "bad 1", "c", "d", "bad 2", "bad 3", "e", "f", "end"];
    let batch = texts.map(|text| message("", text));
    let others: Vec<_> = (0..20).map(|number| message("", number)).collect();
    let drive = async { while running.errors.recv().await.is_some() {} };
    let written =
        async { tokio::join!(write_out(&mut sink, &batch), write_out(&mut other, &others)) };
    let got = Mutex::default();
    let (refused, of_others) = tokio::select! {
        written = written => written,
        () = strict(door, &got) => unreachable!("it goes on for ever"),
        () = drive => unreachable!("the connection is kept up"),
    };
    let got = got.into_inner().unwrap();
    assert_eq!(of_others, []);
    let bad = refused.iter().map(|(payload, _)| payload.as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(bad, ["bad 1", "bad 2", "bad 3"]);
    let why = "the broker at broker:1883 closed the connection each of the 3 times that this message \
        was sent to it alone: it may not take messages of 16 bytes, or nothing of this client on `t/1`, \
        or no retained messages";
    assert_eq!(refused[0].1, why);
    let times = |text: &str| got.iter().filter(|got| got.trim_matches('"') == text).count();
    for text in texts.iter().filter(|text| !text.starts_with("bad")) {
        assert_eq!(times(text), 1, "{text}");
    }
    // Once more, before anybody suspects it.
    for text in bad {
        assert!((3..=4).contains(&times(text)), "{text}: {got:?}");
    }
    for number in 0..20 {
        assert_eq!(times(&number.to_string()), 1, "{number}: {got:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_hangs_up_on_everybody_has_no_message_refused() {
    let (door, mut running) = Running::in_memory("");
    let mut sink = running.sink("topic: t");
    let batch = ["a", "b"].map(|text| message("", text));
    let broker = async {
        // It takes CONNECT, and hangs up after two seconds whatever comes.
        for _ in 0..20 {
            let mut peer = peer::at(&door).await;
            peer.welcome(false).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            drop(peer);
            running.error().await;
        }
        let mut peer = peer::at(&door).await;
        peer.welcome(false).await;
        (peer.acknowledge().await.payload, peer.acknowledge().await.payload, peer)
    };
    let (refused, (first, second, _peer)) = tokio::join!(write_out(&mut sink, &batch), broker);
    assert_eq!(refused, []);
    assert_eq!((&first[..], &second[..]), (&b"\"a\""[..], &b"\"b\""[..]));
}
