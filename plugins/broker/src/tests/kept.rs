//! What survives a restart of the broker, and what is safe when something is acknowledged.

use std::{fs, sync::Arc};

use super::*;

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
