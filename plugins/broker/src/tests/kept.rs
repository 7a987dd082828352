//! What survives a restart of the broker, and what is safe when something is acknowledged.

use std::{fs, sync::Arc};

use forebay_sdk::testing::WallClock;

use super::*;
use crate::{
    broker::{Broker, Effect},
    budget::Budget,
    journal::{Journal, Moment},
    records::{HEAD_BYTES, head, read},
    restored::Restored,
    wire::{Connect, Disconnect, Subscribe, Version, Wanted, Will},
};

/// A broker that keeps what it has in a folder.
struct Kept {
    folder: tempfile::TempDir,
    settings: BrokerConnection,
    /// Each to whom it is told ends as in a stop of the program.
    stop: tokio::sync::watch::Sender<()>,
}

impl Kept {
    fn new() -> Kept {
        let settings = with_terms(&["127.0.0.1:0"], |terms| terms.sync = Some(SyncPolicy::Always));
        Kept { folder: tempfile::tempdir().unwrap(), settings, stop: Default::default() }
    }

    async fn start(&self) -> Running {
        let (voice, heard) = voice();
        let local = Local::new(Arc::clone(&self.settings.terms), voice.clone());
        let data = self.folder.path().into();
        let mut broker =
            Embedded::new(Arc::clone(&local), World::system(), Path::new(".").into(), &data);
        let (mut bound, to_run) = (broker.bound(), voice.clone());
        let mut stopped = self.stop.subscribe();
        let task = tokio::spawn(async move {
            tokio::select! {
                ended = broker.run(&to_run) => ended,
                _ = stopped.changed() => {
                    broker.close().await;
                    Ok(())
                }
            }
        });
        let addresses = soon(bound.wait_for(|b| !b.is_empty())).await.unwrap().clone();
        soon(local.house()).await.unwrap();
        Running { local, heard, voice, addresses, task }
    }

    async fn stop(&self, mut broker: Running) {
        self.stop.send_replace(());
        soon(&mut broker.task).await.unwrap().unwrap();
    }

    /// As [`Kept::stop`], but what happens from here on does not reach the disk.
    async fn crash(&self, broker: Running) {
        let on_disk = fs::read(self.file()).unwrap();
        broker.stop().await;
        fs::write(self.file(), on_disk).unwrap();
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("kept")
    }
}

/// Connects with a session that lasts.
async fn lasting(broker: &Running, client_id: &str) -> Client {
    let mut options = broker.options(client_id);
    options.set_clean_session(false);
    Client::connect(options).await.unwrap()
}

/// What a client gets until there is nothing more, its QoS 1 acknowledged.
async fn all(client: &mut Client) -> Vec<String> {
    let mut got = Vec::new();
    loop {
        let publish = timeout(Duration::from_millis(500), client.next()).await;
        let Ok(publish) = publish else { return got };
        got.push(String::from_utf8(publish.payload.to_vec()).unwrap());
    }
}

#[tokio::test]
async fn a_restart_forgot_sessions_with_what_waited_and_retained_messages() {
    let kept = Kept::new();
    let broker = kept.start().await;
    let mut away = lasting(&broker, "away").await;
    away.subscribe("q/#", QoS::AtLeastOnce).await;
    away.subscribe("other", QoS::AtLeastOnce).await;
    away.client.unsubscribe("other").await.unwrap();
    away.wait_for(|packet| matches!(packet, Packet::UnsubAck(_)).then_some(())).await;
    drop(away);
    let mut device = broker.client("device").await;
    for (topic, payload, qos, retain) in [
        ("q/1", "one", QoS::AtLeastOnce, false),
        ("q/2", "two", QoS::ExactlyOnce, false),
        ("other", "no", QoS::AtLeastOnce, false),
        ("r/1", "old", QoS::AtLeastOnce, true),
        ("r/1", "new", QoS::AtLeastOnce, true),
        ("r/2", "cleared", QoS::AtLeastOnce, true),
        ("r/2", "", QoS::AtLeastOnce, true),
    ] {
        device.publish(topic, payload, qos, retain).await;
    }
    // No good-bye: as it stands on disk by now, so it comes back.
    let copy = fs::read(kept.file()).unwrap();
    broker.stop().await;
    fs::write(kept.file(), copy).unwrap();

    for round in 0..2 {
        let broker = kept.start().await;
        let mut late = broker.client("late").await;
        late.subscribe("r/#", QoS::AtMostOnce).await;
        assert_eq!(all(&mut late).await, ["new"], "round {round}");
        kept.stop(broker).await;
    }
    let broker = kept.start().await;
    let mut away = lasting(&broker, "away").await;
    assert_eq!(all(&mut away).await, ["one", "two"]);
    let mut device = broker.client("device").await;
    device.publish("q/3", "three", QoS::AtLeastOnce, false).await;
    assert_eq!(away.next().await.payload, "three");
    // Has its acknowledgement leave.
    away.ping().await;
    drop(away);
    kept.stop(broker).await;

    // What was acknowledged does not come back, and a session that is thrown away is gone.
    let broker = kept.start().await;
    let mut away = lasting(&broker, "away").await;
    assert_eq!(all(&mut away).await, <[&str; 0]>::default());
    let mut options = broker.options("away");
    options.set_clean_session(true);
    Client::connect(options).await.unwrap();
    kept.stop(broker).await;
    let broker = kept.start().await;
    let mut device = broker.client("device").await;
    device.publish("q/4", "four", QoS::AtLeastOnce, false).await;
    let mut away = lasting(&broker, "away").await;
    assert_eq!(all(&mut away).await, <[&str; 0]>::default());
}

#[tokio::test]
async fn what_everybody_has_by_then_is_not_written() {
    let mut kept = Kept::new();
    Arc::make_mut(&mut kept.settings.terms).sync = Some(SyncPolicy::Every(Duration::from_secs(5)));
    let broker = kept.start().await;
    let mut there = lasting(&broker, "there").await;
    there.client.subscribe("q", QoS::AtLeastOnce).await.unwrap();
    there.wait_for(|packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
    let before = fs::metadata(kept.file()).unwrap().len();
    let mut device = broker.client("device").await;
    let began = std::time::SystemTime::now();
    for number in 0..20 {
        let payload = number.to_string();
        let publish = device.publish("q", &payload, QoS::AtLeastOnce, false);
        let (got, ()) = tokio::join!(
            async {
                let got = there.next().await;
                // Polls once more, so that its acknowledgement leaves.
                there.client.subscribe("q", QoS::AtLeastOnce).await.unwrap();
                there.wait_for(|packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
                got
            },
            publish
        );
        assert_eq!(got.payload, payload);
    }
    assert!(began.elapsed().unwrap() < Duration::from_secs(5), "none waited for the disk");
    assert_eq!(fs::metadata(kept.file()).unwrap().len(), before);
}

#[tokio::test]
async fn a_damaged_end_of_the_file_costs_no_more_than_that() {
    let kept = Kept::new();
    let broker = kept.start().await;
    let mut device = broker.client("device").await;
    for number in 0..5 {
        device.publish(&format!("r/{number}"), "x", QoS::AtLeastOnce, true).await;
    }
    kept.stop(broker).await;
    let whole = fs::read(kept.file()).unwrap();
    for cut in [0, 3, 8, 9, 20, whole.len() / 2, whole.len() - 1] {
        fs::write(kept.file(), &whole[..cut]).unwrap();
        let broker = kept.start().await;
        let mut late = broker.client("late").await;
        late.subscribe("r/#", QoS::AtMostOnce).await;
        let left = all(&mut late).await.len();
        assert!(left < 5, "{cut}");
        assert_eq!(cut >= whole.len() / 2, left > 0, "{cut}");
        device = broker.client("device").await;
        device.publish("r/again", "x", QoS::AtLeastOnce, true).await;
        kept.stop(broker).await;
        let broker = kept.start().await;
        let mut late = broker.client("late").await;
        late.subscribe("r/again", QoS::AtMostOnce).await;
        assert_eq!(all(&mut late).await.len(), 1, "{cut}");
        kept.stop(broker).await;
    }
}

#[tokio::test]
async fn a_file_that_is_changed_for_ever_stays_small() {
    let kept = Kept::new();
    let broker = kept.start().await;
    let mut device = broker.client("device").await;
    let large = "x".repeat(100_000);
    for number in 0..60 {
        device.publish("r", &format!("{number}{large}"), QoS::AtLeastOnce, true).await;
    }
    let size = fs::metadata(kept.file()).unwrap().len();
    assert!(size < 2 << 20, "{size}");
}

#[tokio::test]
async fn a_disk_that_takes_nothing_holds_nobody_up_and_is_told() {
    let kept = Kept::new();
    // A folder stands in the place of the file.
    fs::create_dir_all(kept.file().join("in the way")).unwrap();
    let broker = kept.start().await;
    let mut device = broker.client("device").await;
    device.publish("r", "x", QoS::AtLeastOnce, true).await;
    let said = broker.heard.said();
    assert!(said.lasting.keys().any(|what| what.starts_with("keeping sessions")), "{said:?}");
}

/// The next packet of a device: its first byte, and what follows its length.
async fn packet(device: &mut Raw) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    soon(device.0.read_exact(&mut head)).await.unwrap();
    let mut body = vec![0; head[1].into()];
    soon(device.0.read_exact(&mut body)).await.unwrap();
    (head[0], body)
}

#[tokio::test]
async fn what_a_device_sends_again_at_qos_2_after_a_crash_comes_once() {
    const AGAIN: u8 = 0x08;
    let kept = Kept::new();
    let broker = kept.start().await;
    let mut away = lasting(&broker, "away").await;
    away.subscribe("q", QoS::ExactlyOnce).await;
    drop(away);
    let mut device = Raw::connect(&broker, "device").await;
    device.send(&publish_packet(4, 7, "q", b"one")).await;
    assert_eq!(device.acknowledged(0x50).await, 7);
    kept.crash(broker).await;

    // It has not heard of that, and sends again.
    let broker = kept.start().await;
    let mut device = Raw::connect(&broker, "device").await;
    device.send(&publish_packet(4 | AGAIN, 7, "q", b"one")).await;
    assert_eq!(device.acknowledged(0x50).await, 7);
    device.send(&[0x62, 2, 0, 7]).await;
    assert_eq!(device.acknowledged(0x70).await, 7);
    device.send(&publish_packet(4, 8, "q", b"two")).await;
    assert_eq!(device.acknowledged(0x50).await, 8);
    let before_the_release = fs::read(kept.file()).unwrap();
    device.send(&[0x62, 2, 0, 8]).await;
    assert_eq!(device.acknowledged(0x70).await, 8);
    broker.stop().await;
    fs::write(kept.file(), before_the_release).unwrap();

    // That it had released one may not have reached the disk: with the packet id comes another message.
    let broker = kept.start().await;
    let mut device = Raw::connect(&broker, "device").await;
    device.send(&publish_packet(4, 8, "q", b"three")).await;
    assert_eq!(device.acknowledged(0x50).await, 8);
    let mut away = lasting(&broker, "away").await;
    assert_eq!(all(&mut away).await, ["one", "two", "three"]);
}

#[tokio::test]
async fn what_was_on_its_way_at_qos_2_in_a_crash_comes_once() {
    let kept = Kept::new();
    let broker = kept.start().await;
    let mut device = Raw::connect(&broker, "device").await;
    device.send(&[0x82, 6, 0, 1, 0, 1, b'q', 2]).await;
    assert_eq!(packet(&mut device).await, (0x90, vec![0, 1, 2]));
    let mut other = broker.client("other").await;
    other.publish("q", "one", QoS::ExactlyOnce, false).await;
    let (first, sent) = packet(&mut device).await;
    assert_eq!((first, &sent[5..]), (0x34, &b"one"[..]));
    let id = [sent[3], sent[4]];
    other.publish("q", "two", QoS::ExactlyOnce, false).await;
    let (_, two) = packet(&mut device).await;
    // What is waited for here was written behind that it was sent.
    other.publish("kept", "x", QoS::AtLeastOnce, true).await;
    kept.crash(broker).await;

    let broker = kept.start().await;
    let mut device = Raw::connect(&broker, "device").await;
    for expected in [&sent, &two] {
        let again = packet(&mut device).await;
        assert_eq!(again, (0x3c, expected.clone()), "with the same packet id, and marked");
    }
    device.send(&[0x50, 2, id[0], id[1]]).await;
    assert_eq!(packet(&mut device).await, (0x62, id.to_vec()));
    let mut other = broker.client("other").await;
    other.publish("kept", "y", QoS::AtLeastOnce, true).await;
    kept.crash(broker).await;

    // What it has does not come again, and is released.
    let broker = kept.start().await;
    let mut device = Raw::connect(&broker, "device").await;
    assert_eq!(packet(&mut device).await, (0x62, id.to_vec()));
    assert_eq!(packet(&mut device).await, (0x3c, two.clone()));
    device.send(&[0x70, 2, id[0], id[1]]).await;
    for kind in [0x50, 0x70] {
        device.send(&[kind, 2, two[3], two[4]]).await;
    }
    assert_eq!(packet(&mut device).await.0, 0x62);
    device.has_nothing_yet().await;
    kept.stop(broker).await;
    let broker = kept.start().await;
    let mut device = Raw::connect(&broker, "device").await;
    device.has_nothing_yet().await;
}

/// A broker whose journal is read by the next one.
struct Run {
    broker: Broker,
    journal: Journal,
    now: Instant,
}

impl Run {
    fn after(bytes: &[u8], now: Instant) -> Run {
        let mut restored = Restored::default();
        let mut left = bytes;
        while let Some((first, rest)) = left.split_first_chunk::<HEAD_BYTES>() {
            let (length, _) = head(*first);
            let (body, rest) = rest.split_at(length);
            restored.take(read(body).unwrap());
            left = rest;
        }
        let limits = settings(&[]).terms.limits();
        let (mut broker, journal) = (Broker::new(limits, Budget::new(1 << 20)), Journal::default());
        broker.keep(&journal, restored, now);
        Run { broker, journal, now }
    }

    fn connect(&mut self, client_id: &str, clean: bool, will: Option<&str>) -> crate::broker::Seat {
        let connect = Connect {
            version: Version::V5,
            is_bridge: false,
            clean_start: clean,
            keep_alive: 0,
            client_id: client_id.to_owned(),
            user: None,
            password: None,
            will: will.map(|topic| Will {
                topic: topic.into(),
                payload: bytes::Bytes::from_static(b"gone"),
                qos: 1,
                retain: true,
                delay_seconds: 0,
                expiry_seconds: None,
                properties: bytes::Bytes::new(),
            }),
            expiry_seconds: if clean { 0 } else { 3600 },
            receive_maximum: 10,
            max_packet: u32::MAX,
            alias_maximum: 0,
            wants_reasons: true,
        };
        let connected = self.broker.connect(connect, client_id.into(), None, 1, self.now);
        connected.unwrap().seat
    }

    /// The topics of the wills that came until then.
    fn wills_by(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        self.broker.tick(self.now);
        let wills = self.broker.effects().into_iter().filter_map(|effect| match effect {
            Effect::Publish(will) => Some(will.topic.to_string()),
            _ => None,
        });
        wills.collect()
    }

    /// What is on disk, by changes or as a whole.
    fn on_disk(&self, as_a_whole: bool) -> Vec<u8> {
        let moment = Moment::of(self.now);
        let mut bytes = Vec::new();
        let take = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        let changes = self.journal.take();
        let written = if as_a_whole { self.broker.snapshot() } else { changes };
        written.encode(moment, take).unwrap();
        bytes
    }
}

#[tokio::test(start_paused = true)]
async fn the_wills_of_who_was_there_in_a_crash_are_published_unless_they_come_back() {
    for as_a_whole in [false, true] {
        let mut run = Run::after(&[], Instant::now());
        for (name, clean) in [("lasting", false), ("clean", true), ("back", true), ("kept", false)]
        {
            run.connect(name, clean, Some(&format!("will/{name}")));
        }
        let said_good_bye = run.connect("leaves", true, Some("will/leaves"));
        let bye = Disconnect { code: 0, expiry_seconds: None };
        run.broker.disconnect(said_good_bye, bye, run.now).unwrap();
        let lost = run.connect("lost", false, Some("will/lost"));
        run.broker.lost(lost, run.now);
        assert_eq!(run.wills_by(0), ["will/lost"]);

        let mut run = Run::after(&run.on_disk(as_a_whole), run.now);
        assert_eq!(run.broker.census().sessions, 5, "and `lost`, without its will");
        assert_eq!(run.wills_by(20), <[&str; 0]>::default());
        run.connect("back", true, None);
        run.connect("kept", false, None);
        assert_eq!(run.wills_by(5), <[&str; 0]>::default());
        let mut again = Run::after(&run.on_disk(true), run.now);
        for run in [&mut run, &mut again] {
            let mut wills = run.wills_by(31);
            wills.sort_unstable();
            assert_eq!(wills, ["will/clean", "will/lasting"]);
            assert_eq!(run.wills_by(100), <[&str; 0]>::default());
        }
        // What was published is not published by the next run.
        let mut run = Run::after(&run.on_disk(true), run.now);
        assert_eq!(run.wills_by(100), <[&str; 0]>::default());
    }
}

/// eclipse-mosquitto/mosquitto#2311: what had expired came back after a restart. Where nobody keeps the clock right, it had its whole time
/// again.
#[tokio::test(start_paused = true)]
async fn what_expires_does_so_over_restarts_whether_the_clock_was_set_or_not() {
    for wall in [WallClock::at, WallClock::not_set] {
        let _wall = wall(1_000_000);
        let mut run = Run::after(&[], Instant::now());
        let mut message = Message::of_node(Publication::new("t", "1").retain(true), run.now);
        message.expires_at = run.now.checked_add(Duration::from_secs(60));
        run.broker.publish(&message, None, None, run.now);
        for left in [Some(40), Some(20), None] {
            let bytes = run.on_disk(left != Some(40));
            advance(Duration::from_secs(20)).await;
            run = Run::after(&bytes, Instant::now());
            let found = run.broker.retained().get("t").cloned();
            assert_eq!(found.and_then(|kept| kept.message.seconds_left(run.now)), left);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_goes_on_after_a_restart_as_it_was_asked_for() {
    let mut run = Run::after(&[], Instant::now());
    let seat = run.connect("device", false, None);
    let wanted = Wanted {
        filter: "t".to_owned(),
        qos: 1,
        no_local: true,
        retain_as_published: true,
        retain_handling: 2,
    };
    let asked = Subscribe { id: 1, identifier: None, wanted: vec![wanted] };
    assert_eq!(run.broker.subscribe(seat, &asked), [1]);
    let publication = Publication::new("t", "1").qos(1).retain(true);
    for _ in 0..2 {
        let seat = run.connect("device", false, None);
        let message = Message::of_node(publication.clone(), run.now);
        run.broker.publish(&message, Some(seat.session), None, run.now);
        assert!(run.broker.next(seat, run.now).is_empty(), "what it published itself");
        run.broker.publish(&message, None, None, run.now);
        let next = run.broker.next(seat, run.now);
        assert_eq!((next.messages, next.bytes[0]), (1, 0x33), "at QoS 1, and retained");
        run.broker.acknowledge(seat, 1);
        run = Run::after(&run.on_disk(true), run.now);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_over_when_its_time_is() {
    let mut run = Run::after(&[], Instant::now());
    let seat = run.connect("device", false, None);
    run.broker.lost(seat, run.now);
    for (seconds, sessions) in [(3599, 1), (1, 0)] {
        run.now += Duration::from_secs(seconds);
        run.broker.tick(run.now);
        assert_eq!(run.broker.census().sessions, sessions);
        let again = Run::after(&run.on_disk(true), run.now);
        assert_eq!(again.broker.census().sessions, sessions);
    }
}
