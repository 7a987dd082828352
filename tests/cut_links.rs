//! Links that are cut behind each packet of a conversation, in either direction: no message is lost, and one
//! of QoS 2 comes once.

use std::collections::BTreeSet;

use crate::support::{
    By, Cutter, Folder, Forebay, Mosquitto, Subscriber, longest_wait, now, publish, until,
};

/// The longest conversation that is cut: CONNECT, SUBSCRIBE, and a few messages of QoS 2, each of which takes two
/// packets in either direction.
const MOST_PACKETS: usize = 8;

#[test]
fn a_link_that_is_cut_behind_any_packet_loses_nothing_with_3_1_1() {
    check("3.1.1");
}

#[test]
fn a_link_that_is_cut_behind_any_packet_loses_nothing_with_mqtt_5() {
    check("5");
}

#[track_caller]
fn check(version: &str) {
    // Mosquitto 2.0.11 leaves messages of QoS 2 in its queue when more than 20 are under way to one client, and with no
    // limit (0) closes the connection.
    let prompt = "set_tcp_nodelay true\nmax_queued_messages 10000\nmax_inflight_messages 1000\n";
    let (plant, cloud) = (Mosquitto::start_with(prompt), Mosquitto::start_with(prompt));
    for length in 1..=MOST_PACKETS {
        check_length(version, length, &plant, &cloud);
    }
}

/// Each link is cut twice: behind so many packets of one side, and then of the other.
#[track_caller]
fn check_length(version: &str, length: usize, plant: &Mosquitto, cloud: &Mosquitto) {
    let cuts = || vec![(By::Client, length), (By::Broker, length)];
    let (to_plant, to_cloud) = (Cutter::to(plant.port, cuts()), Cutter::to(cloud.port, cuts()));
    let to_kept = Cutter::to(cloud.port, cuts());
    let text = format!(
        "connections:
  plant: {{ type: mqtt, url: '{}', client_id: cut-{length}, clean_session: false, version: '{version}' }}
  cloud: {{ type: mqtt, url: '{}', client_id: cut-{length}, version: '{version}' }}
  kept: {{ type: mqtt, url: '{}', client_id: kept-{length}, clean_session: false, version: '{version}' }}
  steady: {{ type: mqtt, url: '{}', client_id: steady-{length} }}
sources:
  numbers: {{ type: mqtt, connection: plant, topics: [number/{length}], qos: 2 }}
sinks:
  seen: {{ from: numbers, type: mqtt, connection: steady, topic: {length}/seen, qos: 2 }}
  once: {{ from: numbers, type: mqtt, connection: kept, topic: {length}/once, qos: 2 }}
  one: {{ from: numbers, type: mqtt, connection: cloud, topic: {length}/one, qos: 1 }}
  two: {{ from: numbers, type: mqtt, connection: cloud, topic: {length}/two, qos: 2 }}
",
        to_plant.url(),
        to_cloud.url(),
        to_kept.url(),
        cloud.url()
    );
    let folder = Folder::with(&[("a.yaml", &text)]);
    let arrived = Subscriber::to(cloud.port, &format!("{length}/#"));
    let _forebay = Forebay::run(folder.path());
    // From here on the broker keeps what it cannot deliver.
    let asked = format!("Received SUBSCRIBE from cut-{length}");
    until("subscribed", || plant.log.count_of(&asked) > 0);
    let (mut last, deadline) = (0, now() + longest_wait());
    while [&to_plant, &to_cloud, &to_kept].iter().any(|cutter| cutter.cuts() < 2) || last == 0 {
        let cuts = [&to_plant, &to_cloud, &to_kept].map(Cutter::cuts);
        assert!(now() < deadline, "cut {cuts:?} times");
        last += 1;
        publish(plant.port, &format!("number/{length}"), &last.to_string(), &["-q", "2"]);
    }
    let wanted: BTreeSet<String> = (1..=last).map(|number| number.to_string()).collect();
    let of = |name: &str| {
        let topic = format!("{length}/{name}");
        let got = arrived.got().into_iter().filter(|got| got.topic == topic);
        got.map(|got| got.payload).collect::<Vec<_>>()
    };
    for name in ["seen", "once", "one", "two"] {
        until(name, || of(name).into_iter().collect::<BTreeSet<_>>() == wanted);
    }
    let once: Vec<_> = (1..=last).map(|number| number.to_string()).collect();
    for name in ["seen", "once"] {
        let mut got = of(name);
        got.sort_by_key(|number| number.parse::<usize>().unwrap_or(0));
        assert_eq!(got, once, "{name}, of QoS 2, with {version}, cut behind {length}");
    }
}

#[test]
fn a_process_that_is_killed_in_the_middle_of_qos_2_loses_nothing() {
    for version in ["3.1.1", "5"] {
        // Both as they come: 20 messages of QoS 2 may be under way.
        let (plant, cloud) = (Mosquitto::start(), Mosquitto::start());
        let text = format!(
            "connections:
  plant: {{ type: mqtt, url: '{}', client_id: here, clean_session: false }}
  cloud: {{ type: mqtt, url: '{}', client_id: here, clean_session: false, version: '{version}' }}
sources:
  numbers: {{ type: mqtt, connection: plant, topics: [number], qos: 1 }}
sinks:
  out: {{ from: numbers, type: mqtt, connection: cloud, topic: out, qos: 2 }}
",
            plant.url(),
            cloud.url()
        );
        let (folder, data) = (Folder::with(&[("a.yaml", &text)]), tempfile::tempdir().unwrap());
        let arrived = Subscriber::to(cloud.port, "out");
        let mut last = 0;
        for _ in 0..4 {
            let forebay = Forebay::run_on(folder.path(), data.path());
            until("subscribed", || plant.log.count_of("Received SUBSCRIBE from here") > 0);
            let wanted = last + 60;
            while last < wanted {
                last += 1;
                publish(plant.port, "number", &last.to_string(), &["-q", "1"]);
            }
            drop(forebay);
        }
        let _forebay = Forebay::run_on(folder.path(), data.path());
        let wanted: BTreeSet<String> = (1..=last).map(|number| number.to_string()).collect();
        until("all arrive", || {
            let got = arrived.got().into_iter().map(|got| got.payload).collect::<BTreeSet<_>>();
            got == wanted
        });
    }
}
