//! MQTT 5 with brokers that others wrote: what it adds works, what was promised holds, and a broker
//! that does not speak it is spoken to in 3.1.1.

use std::collections::BTreeSet;

use crate::support::{Aedes, Folder, Forebay, Mosquitto, Subscriber, ask, publish, until};

#[test]
fn a_request_is_answered_by_a_script_and_the_asker_knows_which_it_is() {
    let broker = Mosquitto::start();
    let folder = Folder::with(&[(
        "a.yaml",
        &format!(
            "connections:
  broker: {{ type: mqtt, url: '{}', client_id: forebay, version: 5 }}
sources:
  asked: {{ type: mqtt, connection: broker, topics: [ask/+] }}
transforms:
  answer:
    from: asked
    type: script
    script: |
      msg.topic = msg.meta.mqtt.response_topic;
      msg.payload = msg.payload * 2;
      msg
sinks:
  out: {{ from: answer, type: mqtt, connection: broker, properties: {{ user: {{ by: forebay }} }} }}
",
            broker.url()
        ),
    )]);
    let _forebay = Forebay::run(folder.path());
    until("subscribed", || broker.log.count_of("Sending SUBACK to forebay") == 1);
    let answer =
        ask(broker.port, "ask/double", "21", &["-D", "publish", "correlation-data", "call-7"]);
    assert_eq!(answer, "42 call-7 by:forebay\n");
}

#[test]
fn a_script_asks_and_knows_the_answer_by_what_it_asked_with() {
    let broker = Mosquitto::start();
    let folder = Folder::with(&[(
        "a.yaml",
        &format!(
            "connections:
  broker: {{ type: mqtt, url: '{}', client_id: forebay, version: 5 }}
sources:
  numbers: {{ type: mqtt, connection: broker, topics: [number] }}
  asked: {{ type: mqtt, connection: broker, topics: [ask/double] }}
  answers: {{ type: mqtt, connection: broker, topics: [answers/forebay] }}
transforms:
  question:
    from: numbers
    type: script
    script: |
      msg.meta.mqtt = #{{ response_topic: `answers/forebay`, correlation_data: `call-${{msg.payload}}` }};
      msg
  answer:
    from: asked
    type: script
    script: |
      msg.topic = msg.meta.mqtt.response_topic;
      msg.payload = msg.payload * 2;
      msg
sinks:
  ask: {{ from: question, type: mqtt, connection: broker, topic: ask/double }}
  say: {{ from: answer, type: mqtt, connection: broker }}
  done: {{ from: answers, type: mqtt, connection: broker, topic: 'done/{{meta.mqtt.correlation_data}}' }}
",
            broker.url()
        ),
    )]);
    let done = Subscriber::to(broker.port, "done/#");
    let _forebay = Forebay::run(folder.path());
    until("subscribed", || broker.log.count_of("Sending SUBACK to forebay") == 3);
    for number in ["21", "5"] {
        publish(broker.port, "number", number, &["-q", "1"]);
    }
    until("both are answered", || done.got().len() == 2);
    let said: Vec<_> =
        done.got().into_iter().map(|it| format!("{} {}", it.topic, it.payload)).collect();
    assert_eq!(said, ["done/call-21 42", "done/call-5 10"]);
}

#[test]
fn a_message_that_the_broker_refuses_is_an_error_and_the_others_arrive_once() {
    let folder = Folder::new();
    folder.write("acl", "topic read #\ntopic write in/#\ntopic write out/#\ntopic write refused\n");
    let acl = folder.path().join("acl");
    // With no limit (0), Mosquitto 2.0.11 closes the connection after a refusal.
    let more = format!("acl_file {}\nmax_queued_messages 10000\n", acl.display());
    let broker = Mosquitto::start_with(&more);
    let text = format!(
        "connections:
  broker: {{ type: mqtt, url: '{}', client_id: forebay, version: 5 }}
sources:
  numbers: {{ type: mqtt, connection: broker, topics: [in/+] }}
transforms:
  named:
    from: numbers
    type: script
    script: |
      let place = if msg.payload % 10 == 3 {{ \"secret/\" }} else {{ \"out/\" }};
      msg.topic = place + msg.payload;
      msg
sinks:
  out: {{ from: named, type: mqtt, connection: broker }}
  refused: {{ from: out.errors, type: mqtt, connection: broker, topic: refused }}
",
        broker.url()
    );
    let pipelines = Folder::with(&[("a.yaml", &text)]);
    let (arrived, refused) =
        (Subscriber::to(broker.port, "out/#"), Subscriber::to(broker.port, "refused"));
    let _forebay = Forebay::run(pipelines.path());
    until("subscribed", || broker.log.count_of("Sending SUBACK to forebay") == 1);
    for number in 0..40 {
        publish(broker.port, "in/a", &number.to_string(), &["-q", "1"]);
    }
    until("all are settled", || broker.acknowledged_by("forebay") == 40);
    until("all refusals are told", || refused.got().len() == 4);
    until("all others arrive", || arrived.got().len() == 36);
    for said in refused.payloads() {
        assert!(said.contains("refused the message on `secret/"), "{said}");
        assert!(said.contains("not authorized"), "{said}");
    }
    assert_eq!(broker.connections_of("forebay"), 1);
}

#[test]
fn a_broker_that_restarts_under_load_loses_nothing_with_mqtt_5() {
    let (plant, mut cloud) = (Mosquitto::start(), Mosquitto::start());
    let session = |broker: &Mosquitto, id: &str| {
        let url = broker.url();
        format!("{{ type: mqtt, url: '{url}', client_id: {id}, clean_session: false, version: 5 }}")
    };
    let text = format!(
        "connections:
  plant: {}
  cloud: {}
sources:
  numbers: {{ type: mqtt, connection: plant, topics: [number], qos: 1 }}
sinks:
  out: {{ from: numbers, type: mqtt, connection: cloud, topic: a/long/topic/for/numbers }}
",
        session(&plant, "forebay"),
        session(&cloud, "forebay")
    );
    let folder = Folder::with(&[("a.yaml", &text)]);
    let arrived = Subscriber::remembered(cloud.port, "a/#");
    let _forebay = Forebay::run(folder.path());
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);
    let wanted: BTreeSet<String> = (0..60).map(|number| number.to_string()).collect();
    for number in 0..60 {
        match number {
            20 => cloud.stop(),
            40 => cloud.resume(),
            _ => (),
        }
        publish(plant.port, "number", &number.to_string(), &["-q", "1"]);
    }
    until("all arrive", || arrived.payloads().into_iter().collect::<BTreeSet<_>>() == wanted);
    until("all are settled", || plant.acknowledged_by("forebay") >= 60);
}

#[test]
fn a_broker_that_speaks_3_1_1_alone_is_found_out_and_remembered() {
    let broker = Aedes::start();
    let text = format!(
        "connections: {{ broker: {{ type: mqtt, url: '{}', client_id: forebay, version: auto }} }}
sources: {{ numbers: {{ type: mqtt, connection: broker, topics: [in] }} }}
sinks: {{ out: {{ from: numbers, type: mqtt, connection: broker, topic: out, qos: 2 }} }}
",
        broker.url()
    );
    let (folder, data) = (Folder::with(&[("a.yaml", &text)]), Folder::new());
    for times in 1..=2 {
        let mut forebay = Forebay::run_on(folder.path(), data.path());
        forebay.wait_for_log("version=3.1.1");
        until("subscribed", || broker.log.count_of("subscribe in") == times);
        publish(broker.port, "in", "7", &["-q", "1"]);
        until("it arrives", || broker.log.count_of("publish out 7") == times);
        assert_eq!(broker.log.count_of("unacceptable protocol version"), 1);
        forebay.signal("TERM");
        forebay.wait_exit();
    }
}
