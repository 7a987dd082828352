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
