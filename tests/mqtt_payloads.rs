//! Topics and payloads with brokers, clients and libraries that others wrote.

use crate::support::{
    Folder, Forebay, Mosquitto, Reader, Subscriber, forebay, publish, publish_value, until,
};

#[test]
fn what_is_captured_on_the_way_in_names_the_topic_on_the_way_out() {
    let broker = Mosquitto::start();
    let text = format!(
        "connections:
  plant: {{ type: mqtt, url: '{}', client_id: forebay }}
sources:
  meters: {{ type: mqtt, connection: plant, topics: [site/+device/#rest] }}
sinks:
  copy: {{ from: meters, type: mqtt, connection: plant, topic: 'copy/{{meta.device}}/{{payload.kind}}/{{topic_level: 3..}}' }}
  wrong: {{ from: copy.errors, type: mqtt, connection: plant, topic: wrong }}
",
        broker.url()
    );
    let folder = Folder::with(&[("a.yaml", &text)]);
    let linted = forebay(["lint", folder.path().to_str().unwrap()]);
    assert!(linted.status.success(), "{}", String::from_utf8_lossy(&linted.stdout));
    let (copies, wrong) =
        (Subscriber::to(broker.port, "copy/#"), Subscriber::to(broker.port, "wrong"));
    let _forebay = Forebay::run(folder.path());
    until("subscribed", || broker.log.count_of("Sending SUBACK to forebay") == 1);
    publish(broker.port, "site/pump 1/a/b", r#"{"kind":"power"}"#, &["-q", "1"]);
    publish(broker.port, "site/fan/x", r#"{"kind":7}"#, &["-q", "1"]);
    for kind in ["a/b", "+", "#"] {
        publish(broker.port, "site/fan/x", &format!(r#"{{"kind":"{kind}"}}"#), &["-q", "1"]);
    }
    until("those that can go arrive", || copies.got().len() == 2);
    until("the others are told", || wrong.got().len() == 3);
    let topics: Vec<_> = copies.got().into_iter().map(|got| got.topic).collect();
    assert_eq!(topics, ["copy/pump 1/power/a/b", "copy/fan/7/x"]);
    for (said, kind) in wrong.payloads().iter().zip(["a/b", "+", "#"]) {
        assert!(said.contains("`kind` cannot stand in a topic: ") && said.contains(kind), "{said}");
    }
    until("all are acknowledged", || broker.acknowledged_by("forebay") >= 5);
}

#[test]
fn other_libraries_read_what_is_written_and_what_they_write_is_read() {
    const VALUE: &str = r#"{"a": [1, -7, 21.5, 230.1, null, true], "t": "gr\u00fcn"}"#;
    let ways = [["cbor", "none"], ["msgpack", "zstd"], ["json", "gzip"], ["cbor", "deflate"]];
    let broker = Mosquitto::start();
    let mut text = format!(
        "connections:\n  plant: {{ type: mqtt, url: '{}', client_id: forebay }}\nsources:\n",
        broker.url()
    );
    let settings = |[format, compression]: [&str; 2]| match compression {
        "none" => format!("format: {format}"),
        _ => format!("format: {format}, compression: {compression}"),
    };
    for (n, way) in ways.into_iter().enumerate() {
        let settings = settings(way);
        text += &format!(
            "  in{n}: {{ type: mqtt, connection: plant, topics: [in/{n}], {settings} }}\n"
        );
    }
    text += "sinks:\n";
    for (n, way) in ways.into_iter().rev().enumerate() {
        let settings = settings(way);
        text += &format!(
            "  out{n}: {{ from: in{n}, type: mqtt, connection: plant, topic: out/{n}, {settings} }}\n"
        );
    }
    let folder = Folder::with(&[("a.yaml", &text)]);
    let readers = ways.into_iter().rev().enumerate();
    let readers: Vec<_> =
        readers.map(|(n, way)| Reader::to(broker.port, &format!("out/{n}"), way)).collect();
    let _forebay = Forebay::run(folder.path());
    until("subscribed", || broker.log.count_of("Sending SUBACK to forebay") >= 1);
    for (n, way) in ways.into_iter().enumerate() {
        publish_value(broker.port, &format!("in/{n}"), way, VALUE);
    }
    for (n, reader) in readers.iter().enumerate() {
        until("it arrives", || !reader.got().is_empty());
        assert_eq!(reader.got(), [format!("out/{n}\t{VALUE}")]);
    }
}

#[test]
fn what_is_packed_otherwise_or_is_a_bomb_goes_to_errors_and_does_not_come_again() {
    let broker = Mosquitto::start();
    let text = format!(
        "connections:
  plant: {{ type: mqtt, url: '{}', client_id: forebay }}
sources:
  packed: {{ type: mqtt, connection: plant, topics: [in], compression: gzip }}
sinks:
  out: {{ from: packed, type: mqtt, connection: plant, topic: out }}
  wrong: {{ from: packed.errors, type: mqtt, connection: plant, topic: wrong }}
",
        broker.url()
    );
    let folder = Folder::with(&[("a.yaml", &text)]);
    let (out, wrong) = (Subscriber::to(broker.port, "out"), Subscriber::to(broker.port, "wrong"));
    let _forebay = Forebay::run(folder.path());
    until("subscribed", || broker.log.count_of("Sending SUBACK to forebay") == 1);
    publish(broker.port, "in", "no gzip", &["-q", "1"]);
    publish_value(broker.port, "in", ["json", "gzip"], "zeros:5000000");
    publish_value(broker.port, "in", ["json", "gzip"], "7");
    until("the small one arrives", || out.payloads() == ["7"]);
    until("the wrong ones are told", || wrong.got().len() == 2);
    assert!(wrong.payloads()[0].contains("payload cannot be unpacked as gzip"));
    assert!(wrong.payloads()[1].contains("payload unpacks to more than 4194304 bytes"));
    until("all are acknowledged", || broker.acknowledged_by("forebay") >= 3);
}

#[test]
fn a_backlog_is_recognised_at_the_other_end() {
    let mut broker = Mosquitto::start();
    let text = format!(
        "connections:
  plant: {{ type: mqtt, url: '{}', client_id: forebay }}
sources:
  beat: {{ type: timer, every: 200ms }}
sinks:
  out:
    from: beat
    type: mqtt
    connection: plant
    topic: out
    envelope: {{ time: t, time_as: unix_ms, historical: old }}
",
        broker.url()
    );
    let folder = Folder::with(&[("a.yaml", &text)]);
    let out = Subscriber::remembered(broker.port, "out");
    let _forebay = Forebay::run(folder.path());
    let is_live = |payload: &String| payload.contains("\"t\":") && !payload.contains("old");
    until("live readings arrive", || out.payloads().iter().filter(|it| is_live(it)).count() >= 3);
    broker.stop();
    broker.resume();
    until("a backlog arrives", || out.payloads().iter().any(|it| it.contains("\"old\":true")));
    until("live ones come again", || out.payloads().last().is_some_and(is_live));
}

#[test]
fn readings_that_go_out_together_are_lost_together_with_nothing_else() {
    let (plant, mut cloud) = (Mosquitto::start(), Mosquitto::start());
    let text = format!(
        "connections:
  plant: {{ type: mqtt, url: '{}', client_id: forebay, clean_session: false }}
  cloud: {{ type: mqtt, url: '{}', client_id: forebay, clean_session: false }}
sources:
  numbers: {{ type: mqtt, connection: plant, topics: [number] }}
sinks:
  out:
    from: numbers
    type: mqtt
    connection: cloud
    topic: all
    segments: {{ as: object, name: all, max_messages: 7, max_wait: 300ms }}
",
        plant.url(),
        cloud.url()
    );
    let folder = Folder::with(&[("a.yaml", &text)]);
    let arrived = Subscriber::remembered(cloud.port, "all");
    let _forebay = Forebay::run(folder.path());
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);
    for number in 0..40 {
        match number {
            10 => cloud.stop(),
            25 => cloud.resume(),
            _ => (),
        }
        publish(plant.port, "number", &number.to_string(), &["-q", "1"]);
    }
    let numbers = || -> Vec<u32> {
        let lists = arrived.payloads().into_iter().map(|payload| {
            let list = payload.strip_prefix("{\"all\":[").and_then(|it| it.strip_suffix("]}"));
            list.unwrap_or_else(|| panic!("{payload}")).to_owned()
        });
        lists
            .flat_map(|list| list.split(',').map(|it| it.parse().unwrap()).collect::<Vec<_>>())
            .collect()
    };
    until("all arrive", || (0..40).all(|number| numbers().contains(&number)));
    until("all are settled", || plant.acknowledged_by("forebay") >= 40);
    assert!(arrived.got().len() < 40, "they go out together: {:?}", arrived.payloads());
}
