//! What a transform remembers with `state: persist` is there after a kill and after a stop, and has in
//! it whatever a source was told is delivered.

use crate::support::{Folder, Forebay, Mosquitto, Publisher, Subscriber, until};

/// More than go into one write of the state.
const MESSAGES: usize = 700;

struct Plant {
    broker: Mosquitto,
    subscriber: Subscriber,
    publisher: Publisher,
    folder: Folder,
    data: Folder,
}

impl Plant {
    /// Counts different numbers.
    fn new() -> Plant {
        let broker = Mosquitto::start();
        let folder = Folder::with(&[(
            "a.yaml",
            &format!(
                "connections:
  broker: {{ type: mqtt, url: '{}', client_id: forebay, clean_session: false }}
sources:
  numbers: {{ type: mqtt, connection: broker, topics: [number], qos: 1 }}
transforms:
  count:
    from: numbers
    type: script
    state: persist
    script: |
      state[`${{msg.payload.n}}`] = true;
      msg.payload = #{{ seen: state.len() }};
      msg
sinks:
  seen: {{ from: count, type: mqtt, connection: broker, topic: seen, qos: 1 }}
",
                broker.url()
            ),
        )]);
        let subscriber = Subscriber::to(broker.port, "seen");
        let publisher = Publisher::to(broker.port, "number");
        Plant { broker, subscriber, publisher, folder, data: Folder::new() }
    }

    fn start(&self) -> Forebay {
        let before = self.broker.log.count_of("Sending SUBACK to forebay");
        let forebay = Forebay::run_on(self.folder.path(), self.data.path());
        until("subscribed", || self.broker.log.count_of("Sending SUBACK to forebay") > before);
        forebay
    }

    fn saw(&self, count: usize) -> bool {
        self.subscriber.payloads().contains(&format!(r#"{{"seen":{count}}}"#))
    }
}

#[test]
fn a_kill_takes_nothing_from_a_state_that_was_acknowledged() {
    let mut plant = Plant::new();
    let mut forebay = plant.start();
    for n in 0..MESSAGES {
        plant.publisher.send(&format!(r#"{{"n":{n}}}"#));
    }
    until("the state is written, and sources hear of it", || {
        plant.broker.acknowledged_by("forebay") >= 500
    });
    forebay.kill();
    let _forebay = plant.start();
    plant.publisher.send(r#"{"n":"one more"}"#);
    until("all were counted", || plant.saw(MESSAGES + 1));
}

#[test]
fn a_stop_writes_what_a_transform_remembers() {
    let mut plant = Plant::new();
    let mut forebay = plant.start();
    for n in 0..3 {
        plant.publisher.send(&format!(r#"{{"n":{n}}}"#));
    }
    until("all were counted", || plant.saw(3));
    // Long before the state would have been written.
    assert_eq!(plant.broker.acknowledged_by("forebay"), 0);
    forebay.signal("TERM");
    assert_eq!(forebay.wait_exit().code(), Some(0));
    assert_eq!(plant.broker.acknowledged_by("forebay"), 3, "the state is safe, and they are in it");
    let _forebay = plant.start();
    plant.publisher.send(r#"{"n":"one more"}"#);
    until("it goes on counting", || plant.saw(4));
}
