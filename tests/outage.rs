//! A broker that is away for a while costs nothing.

use std::{collections::BTreeSet, time::Duration};

use crate::support::{
    Folder, Forebay, Mosquitto, Subscriber, is_long, now, publish, throughout, until,
};

/// How the broker goes, and how it comes back.
trait Outage {
    fn begin(&self, broker: &mut Mosquitto);
    fn end(&self, broker: &mut Mosquitto);
}

/// It is killed, and a new one knows nothing of us.
struct Replaced;

impl Outage for Replaced {
    fn begin(&self, broker: &mut Mosquitto) {
        broker.kill();
    }
    fn end(&self, broker: &mut Mosquitto) {
        broker.resume_fresh();
    }
}

/// It is stopped, and comes back with what it wrote down.
struct Restarted;

impl Outage for Restarted {
    fn begin(&self, broker: &mut Mosquitto) {
        broker.stop();
    }
    fn end(&self, broker: &mut Mosquitto) {
        broker.resume();
    }
}

/// It answers no more, and nobody closes a socket: like a link that swallows packets.
struct Frozen;

impl Outage for Frozen {
    fn begin(&self, broker: &mut Mosquitto) {
        broker.freeze();
    }
    fn end(&self, broker: &mut Mosquitto) {
        broker.thaw();
    }
}

#[test]
fn a_broker_that_is_replaced_gets_every_message() {
    check(&Replaced);
}

#[test]
fn a_broker_that_restarts_gets_every_message() {
    check(&Restarted);
}

#[test]
fn a_broker_that_goes_silent_gets_every_message() {
    check(&Frozen);
}

/// Messages that a broker upstream wants acknowledged, and beats of a timer, go to a broker that is
/// away for a while.
#[track_caller]
fn check(outage: &dyn Outage) {
    let span = Duration::from_secs(if is_long() { 60 } else { 6 });
    let upstream = Mosquitto::start();
    let mut downstream = Mosquitto::start();
    // Retained, each under its own topic: a subscriber that comes late sees them all.
    let folder = Folder::with(&[(
        "a.yaml",
        &format!(
            "connections:
  plant: {{ type: mqtt, url: '{}', client_id: forebay, clean_session: false }}
  cloud: {{ type: mqtt, url: '{}', client_id: forebay, clean_session: false, keep_alive: 1s }}
sources:
  numbers: {{ type: mqtt, connection: plant, topics: [number/+], qos: 1 }}
  beat: {{ type: timer, every: 200ms }}
transforms:
  named:
    from: beat
    type: script
    script: |
      msg.topic = \"beat/\" + msg.payload.count;
      msg
sinks:
  cloud: {{ from: [numbers, named], type: mqtt, connection: cloud, qos: 1, retain: true }}
",
            upstream.url(),
            downstream.url()
        ),
    )]);
    let forebay = Forebay::run(folder.path());
    until("subscribed", || upstream.log.count_of("Sending SUBACK to forebay") == 1);
    let before = Subscriber::to(downstream.port, "#");
    let mut published = 0;
    let mut publish_next = || {
        published += 1;
        publish(upstream.port, &format!("number/{published}"), "{}", &["-q", "1"]);
        published
    };
    for _ in 0..5 {
        publish_next();
    }
    until("the first are settled", || upstream.acknowledged_by("forebay") == 5);
    before.wait_for("the last of them", |got| got.topic == "number/5");

    outage.begin(&mut downstream);
    let end = now() + span;
    while now() < end {
        publish_next();
        throughout(Duration::from_millis(200), "nothing is settled without the broker", || {
            upstream.acknowledged_by("forebay") == 5
        });
    }
    outage.end(&mut downstream);
    let last = publish_next();

    let after = Subscriber::to(downstream.port, "#");
    let arrived = || {
        let got = before.got().into_iter().chain(after.got());
        got.map(|got| got.topic).collect::<BTreeSet<String>>()
    };
    let missing = |kind: &str, last: usize| {
        let arrived = arrived();
        let wanted = (1..=last).map(|n| format!("{kind}/{n}"));
        wanted.filter(|topic| !arrived.contains(topic)).collect::<Vec<_>>()
    };
    until("the last number arrives", || arrived().contains(&format!("number/{last}")));
    assert_eq!(missing("number", last), <[&str; 0]>::default(), "numbers that got lost");
    until("all are settled", || upstream.acknowledged_by("forebay") >= last);

    let beats = (span.as_millis() / 200) as usize;
    until("beats arrive that came after", || arrived().contains(&format!("beat/{}", beats + 10)));
    assert_eq!(missing("beat", beats + 10), <[&str; 0]>::default(), "beats that got lost");
    assert_eq!(forebay.log.count_of("dropped"), 0);
}

#[test]
fn it_starts_before_its_broker_is_there() {
    let mut broker = Mosquitto::stopped();
    let folder = Folder::with(&[(
        "a.yaml",
        &format!(
            "connections:
  cloud: {{ type: mqtt, url: '{}' }}
sources:
  beat: {{ type: timer, every: 50ms, topic: beat }}
sinks:
  cloud: {{ from: beat, type: mqtt, connection: cloud, retain: true }}
",
            broker.url()
        ),
    )]);
    let forebay = Forebay::run(folder.path());
    forebay.wait_for_log("will try again");

    broker.resume();

    let subscriber = Subscriber::to(broker.port, "beat");
    subscriber.wait_for("a beat", |_| true);
    forebay.wait_for_log("works again");
}

/// Commands of a plant, which go to a cloud, and what the cloud would not have, which goes back.
fn forwarding(plant: &Mosquitto, cloud: &Mosquitto) -> Folder {
    Folder::with(&[(
        "a.yaml",
        &format!(
            "connections:
  plant: {{ type: mqtt, url: '{}', client_id: forebay, clean_session: false }}
  cloud: {{ type: mqtt, url: '{}', client_id: forebay }}
sources:
  commands: {{ type: mqtt, connection: plant, topics: ['scan/#'], format: text }}
sinks:
  cloud: {{ from: commands, type: mqtt, connection: cloud, format: text }}
  refused: {{ from: cloud.errors, type: mqtt, connection: plant, topic: refused }}
",
            plant.url(),
            cloud.url()
        ),
    )])
}

#[test]
fn a_message_on_which_the_broker_hangs_up_goes_to_errors_and_the_others_go_on() {
    let (plant, cloud) = (Mosquitto::start(), Mosquitto::start_with("max_packet_size 2000\n"));
    let (folder, refused) = (forwarding(&plant, &cloud), Subscriber::to(plant.port, "refused"));
    let arrived = Subscriber::to(cloud.port, "scan/#");
    let _forebay = Forebay::run(folder.path());
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);
    let large = "x".repeat(3000);
    for number in 1..=20 {
        publish(plant.port, &format!("scan/{number}"), "{}", &["-q", "1"]);
        if number % 10 == 5 {
            publish(plant.port, &format!("scan/large/{number}"), &large, &["-q", "1"]);
        }
    }
    for number in [5, 15] {
        let topic = format!("scan/large/{number}");
        let said = refused.wait_for("a refusal", |got| got.payload.contains(&topic));
        assert!(said.payload.contains("closed the connection each of the 3 times"), "{said:?}");
    }
    arrived.wait_for("the last command", |got| got.topic == "scan/20");
    until("all are settled", || plant.acknowledged_by("forebay") == 22);
    let got: Vec<_> = arrived.got().into_iter().map(|got| got.topic).collect();
    for topic in (1..=20).map(|number| format!("scan/{number}")) {
        // Twice when the acknowledgement was lost with the connection.
        let times = got.iter().filter(|got| **got == topic).count();
        assert!((1..=2).contains(&times), "{topic} came {times} times");
    }
}

#[test]
fn a_topic_with_a_control_character_is_refused_and_the_connection_stays() {
    let broker = Mosquitto::start();
    let folder = Folder::with(&[(
        "a.yaml",
        &format!(
            "connections:
  broker: {{ type: mqtt, url: '{}', client_id: forebay }}
sources:
  scans: {{ type: mqtt, connection: broker, topics: [scan/+] }}
transforms:
  named: {{ from: scans, type: map, topic: 'parts/{{serial}}' }}
sinks:
  parts: {{ from: named, type: mqtt, connection: broker }}
  refused: {{ from: [named.errors, parts.errors], type: mqtt, connection: broker, topic: refused }}
",
            broker.url()
        ),
    )]);
    let (parts, refused) =
        (Subscriber::to(broker.port, "parts/#"), Subscriber::to(broker.port, "refused"));
    let _forebay = Forebay::run(folder.path());
    until("subscribed", || broker.log.count_of("Sending SUBACK to forebay") == 1);
    for serial in ["SN1", r"SN2\r", "SN3"] {
        publish(broker.port, "scan/1", &format!(r#"{{"serial":"{serial}"}}"#), &["-q", "1"]);
    }
    parts.wait_for("the part after it", |got| got.topic == "parts/SN3");
    let said = refused.wait_for("the refusal", |_| true);
    assert!(said.payload.contains("has the character U+000D"), "{said:?}");
    assert_eq!(broker.connections_of("forebay"), 1);
}

#[test]
fn a_filter_that_the_broker_refuses_takes_no_message_of_the_others_along() {
    let broker = Mosquitto::start_granting(&["ok/#", "out/#"]);
    let folder = Folder::with(&[(
        "a.yaml",
        &format!(
            "connections:
  broker: {{ type: mqtt, url: '{}', client_id: forebay, clean_session: false }}
sources:
  numbers: {{ type: mqtt, connection: broker, topics: ['ok/#', 'secret/#'] }}
transforms:
  named: {{ from: numbers, type: map, topic: 'out/{{n}}' }}
sinks:
  out: {{ from: named, type: mqtt, connection: broker }}
",
            broker.url()
        ),
    )]);
    let arrived = Subscriber::to(broker.port, "out/#");
    let forebay = Forebay::run(folder.path());
    forebay.wait_for_log("the broker refused the subscription to `secret/#`");
    for number in 0..100 {
        publish(broker.port, "ok/a", &format!(r#"{{"n":{number}}}"#), &["-q", "1"]);
    }
    until("all are settled", || broker.acknowledged_by("forebay") >= 100);
    until("all have arrived", || arrived.got().len() >= 100);
    assert_eq!((broker.acknowledged_by("forebay"), arrived.got().len()), (100, 100));
    assert_eq!(forebay.log.count_of("dropped"), 0);
}

#[test]
fn a_packet_that_is_too_large_ends_no_session() {
    let broker = Mosquitto::start();
    publish(broker.port, "in/kept", &"x".repeat(5000), &["-q", "1", "-r"]);
    let folder = Folder::with(&[(
        "a.yaml",
        &format!(
            "connections:
  broker: {{ type: mqtt, url: '{}', client_id: forebay, max_packet: 2KiB }}
sources:
  all: {{ type: mqtt, connection: broker, topics: ['in/#'] }}
sinks:
  out: {{ from: all, type: mqtt, connection: broker, topic: out }}
",
            broker.url()
        ),
    )]);
    let arrived = Subscriber::to(broker.port, "out");
    let forebay = Forebay::run(folder.path());
    forebay.wait_for_log("on `in/kept` is larger than `max_packet` (2KiB)");
    publish(broker.port, "in/a", "1", &["-q", "1"]);
    arrived.wait_for("what fits", |got| got.payload == "1");
    until("both are settled", || broker.acknowledged_by("forebay") == 2);
    assert_eq!(broker.connections_of("forebay"), 1);
}
