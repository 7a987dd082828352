//! QoS 2 over connections that break, against a broker by hand.

use rumqttc::{Packet, PubComp, PubRec, QoS};
use tempfile::TempDir;

use super::{peer::Peer, *};

/// A session that the broker keeps, in a world in memory, with this data folder.
fn kept(folder: &TempDir) -> (Door, Running) {
    let memory = Memory::new(1_795_251_600_000_000_000);
    let door = memory.open("broker:1883");
    let settings = "url: mqtt://broker\nclient_id: a\nclean_session: false";
    let site = Site { world: memory.world(), data: folder.path().into(), ..site(None) };
    (door, Running::start_at(settings, site))
}

/// The next connection. The broker knows the session.
async fn resumed(door: &Door) -> Peer {
    let mut peer = peer::at(door).await;
    peer.welcome(true).await;
    peer
}

/// Writes as the engine does, until all is taken.
async fn write(running: &mut Running, sink: &mut Writing, mut rest: &[Message]) {
    let drive = async { while running.errors.recv().await.is_some() {} };
    let writing = async {
        while !rest.is_empty() {
            sink.connect().await.unwrap();
            match sink.write(rest).await {
                Ok(_) => return,
                Err(WriteError::Retry { taken, .. }) => rest = &rest[taken..],
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    tokio::select! {
        () = writing => (),
        () = drive => unreachable!("the connection is kept up"),
    }
}

/// The next PUBLISH of QoS 2: its packet id, whether it comes again, and what it says.
async fn published(peer: &mut Peer) -> (u16, bool, String) {
    let publish = peer.published().await;
    assert_eq!(publish.qos, QoS::ExactlyOnce);
    (publish.pkid, publish.dup, String::from_utf8(publish.payload.to_vec()).unwrap())
}

async fn released(peer: &mut Peer) -> u16 {
    match peer.recv().await {
        Packet::PubRel(release) => release.pkid,
        other => panic!("expected PUBREL, got {other:?}"),
    }
}

/// The broker's side of a message that came.
async fn complete(peer: &mut Peer, packet: u16) {
    peer.send(Packet::PubRec(PubRec::new(packet))).await;
    assert_eq!(released(peer).await, packet);
    peer.send(Packet::PubComp(PubComp::new(packet))).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_of_qos_2_went_out_anew_when_the_link_broke_in_the_middle_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (door, mut running) = kept(&folder);
    let mut sink = running.sink("topic: t\nqos: 2");
    let batch = [1, 1, 2].map(|number| message("", number));
    let broker = async {
        // From the first message of QoS 2 on, account is kept.
        let mut unaccounted = resumed(&door).await;
        assert_eq!(unaccounted.recv().await, Packet::Disconnect);
        let mut peer = resumed(&door).await;
        assert_eq!(published(&mut peer).await, (1, false, "1".into()));
        drop(peer);
        let mut peer = resumed(&door).await;
        assert_eq!(published(&mut peer).await, (1, true, "1".into()));
        peer.send(Packet::PubRec(PubRec::new(1))).await;
        assert_eq!(released(&mut peer).await, 1);
        drop(peer);
        let mut peer = resumed(&door).await;
        assert_eq!(released(&mut peer).await, 1);
        peer.send(Packet::PubComp(PubComp::new(1))).await;
        // The like of it is a message of its own.
        let (second, third) = (published(&mut peer).await, published(&mut peer).await);
        assert_eq!((second.1, &*second.2, third.1, &*third.2), (false, "1", false, "2"));
        complete(&mut peer, second.0).await;
        complete(&mut peer, third.0).await;
        peer
    };
    soon(async { tokio::join!(write(&mut running, &mut sink, &batch), broker) }).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_has_lost_the_session_gets_the_message_anew() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("qos-2"), "").unwrap();
    let (door, mut running) = kept(&folder);
    let mut sink = running.sink("topic: t\nqos: 2");
    let batch = [message("", 1)];
    let broker = async {
        for _ in 0..2 {
            let mut peer = peer::at(&door).await;
            peer.welcome(false).await;
            assert_eq!(published(&mut peer).await, (1, false, "1".into()));
        }
        let mut peer = peer::at(&door).await;
        peer.welcome(false).await;
        assert_eq!(published(&mut peer).await, (1, false, "1".into()));
        complete(&mut peer, 1).await;
        peer
    };
    soon(async { tokio::join!(write(&mut running, &mut sink, &batch), broker) }).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_message_was_taken_for_one_of_before_the_restart() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("qos-2"), "").unwrap();
    let (door, mut running) = kept(&folder);
    let mut sink = running.sink("topic: t\nqos: 2");
    let batch = [message("", 1)];
    let broker = async {
        let mut peer = resumed(&door).await;
        for packet in 1..=100 {
            assert_eq!(released(&mut peer).await, packet);
        }
        for packet in 1..=100 {
            peer.send(Packet::PubComp(PubComp::new(packet))).await;
        }
        let (packet, ..) = published(&mut peer).await;
        complete(&mut peer, packet).await;
        peer
    };
    soon(async { tokio::join!(write(&mut running, &mut sink, &batch), broker) }).await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_was_replaced_in_the_middle_of_a_message_of_qos_2_sent_it_twice() {
    let (door, mut running) = Running::in_memory("");
    let mut peer = peer::at(&door).await;
    peer.welcome(false).await;
    let batch = [message("", 1), message("", 2)];
    let mut old = running.sink("topic: t\nqos: 2");
    soon(old.connect()).await.unwrap();
    tokio::select! {
        biased;
        () = async { for _ in 0..2 { published(&mut peer).await; } } => (),
        _ = old.write(&batch) => unreachable!("nobody acknowledges"),
    }
    drop(old);
    complete(&mut peer, 1).await;
    let mut new = running.sink("topic: t\nqos: 2");
    let more = [message("", 1), message("", 2), message("", 3)];
    let broker = async {
        assert_eq!(published(&mut peer).await, (3, false, "3".into()));
        complete(&mut peer, 2).await;
        complete(&mut peer, 3).await;
    };
    soon(async { tokio::join!(write(&mut running, &mut new, &more), broker) }).await;
    // Two minutes later the same words are another message.
    tokio::time::advance(Duration::from_secs(120)).await;
    let broker = async {
        let (packet, ..) = published(&mut peer).await;
        complete(&mut peer, packet).await;
    };
    soon(async { tokio::join!(write(&mut running, &mut new, &more[..1]), broker) }).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_of_qos_2_on_which_the_broker_hangs_up_is_not_sent_on_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let (door, running) = kept(&folder);
    let mut sink = running.sink("topic: t\nqos: 2");
    let batch = [message("", "bad"), message("", "good")];
    let drive = async {
        let mut running = running;
        while running.errors.recv().await.is_some() {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
    };
    let broker = async {
        loop {
            let mut peer = resumed(&door).await;
            while let Some(packet) = peer.try_recv().await {
                match packet {
                    Packet::Publish(publish) if publish.payload == "\"bad\"" => break,
                    Packet::Publish(publish) => {
                        peer.send(Packet::PubRec(PubRec::new(publish.pkid))).await;
                    }
                    Packet::PubRel(release) => {
                        peer.send(Packet::PubComp(PubComp::new(release.pkid))).await;
                    }
                    _ => (),
                }
            }
        }
    };
    let refused = tokio::select! {
        refused = super::publishing::write_out(&mut sink, &batch) => refused,
        () = drive => unreachable!("the connection is kept up"),
        () = broker => unreachable!("it goes on for ever"),
    };
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].0, "bad");
}
