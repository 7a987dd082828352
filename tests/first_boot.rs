//! It starts, and keeps trying, when the network, the names, the broker, the device or the time are
//! not there yet.

use std::{fs, path::PathBuf, process::Command};

use forebay_sdk::Timestamp;
use serde_json::Value;

use crate::support::{
    Folder, Forebay, Mosquitto, Publisher, Subscriber, free_port, is_emulated, program,
    start_inside, until,
};

#[test]
fn it_starts_without_a_network_and_finds_the_broker_once_there_is_one() {
    let port = free_port();
    let folder = Folder::with(&[(
        "a.yaml",
        &format!(
            "connections:
  bus: {{ type: modbus, url: 'tcp://127.0.0.1:9' }}
  cloud: {{ type: mqtt, url: 'mqtt://broker.invalid:{port}', client_id: forebay }}
sources:
  beat: {{ type: timer, every: 100ms }}
  meter: {{ type: modbus, connection: bus, every: 1s, registers: [{{ name: a, input: 0 }}] }}
sinks:
  cloud:
    from: [beat, meter]
    type: mqtt
    connection: cloud
    topic: beat
    buffer: {{ store: disk }}
  service: {{ from: beat, type: http, url: 'http://service.invalid/' }}
  screen: {{ from: beat, type: log }}
"
        ),
    )]);
    let (data, names) = (Folder::new(), Folder::with(&[("hosts", "")]));
    let hosts = names.path().join("hosts");
    let mount = format!("mount --bind '{}' /etc/hosts", hosts.display());
    let Some(mut forebay) = start_inside("mn", &mount, folder.path(), data.path()) else { return };

    forebay.wait_for_log("running");
    for node in ["bus", "cloud", "a/service"] {
        let complains =
            |line: &str| line.contains("will try again") && line.ends_with(&format!("node={node}"));
        forebay.log.wait_for(&format!("complaint of {node}"), 0, complains);
    }
    // What needs no network goes on.
    forebay.wait_for_log(r#"{"count":20}"#);

    fs::write(&hosts, "127.0.0.1 broker.invalid\n").expect("writing a test file");
    forebay.shell_inside("n", "ip link set lo up");
    let _broker = forebay.mosquitto_inside("n", port);

    let works = |line: &str| line.contains("works again") && line.ends_with("node=cloud");
    forebay.log.wait_for("delivery", 0, works);
    forebay.signal("TERM");
    assert_eq!(forebay.wait_exit().code(), Some(0));
}

/// The library that shows a program another time, as Debian installs it.
fn faketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("it is there").flatten();
    let mut places = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    places.find(|place| place.is_file()).unwrap_or_else(|| {
        panic!("no libfaketime: run the tests with `tests/run`, it installs what they need")
    })
}

#[test]
fn a_clock_that_is_not_set_is_waited_for_and_put_right_in_messages() {
    boots_with_the_clock_at("@1970-01-01 00:01:00", "waiting for the time");
}

#[test]
fn a_router_that_boots_two_weeks_behind_is_put_right_and_keeps_good_messages() {
    boots_with_the_clock_at("-14d", "connected");
}

/// `says` is what stands in the log meanwhile.
fn boots_with_the_clock_at(wrong: &str, says: &str) {
    // A library that is loaded before would be loaded into the emulator, and is for another processor.
    if is_emulated() {
        return;
    }
    let plant = Mosquitto::start();
    let (cloud, tls) = Mosquitto::start_with_tls();
    let subscriber = Subscriber::to(cloud.port, "#");
    let pipeline = |late: &str| {
        format!(
            "connections:
  plant: {{ type: mqtt, url: '{}', client_id: forebay, clean_session: false }}
  cloud: {{ type: mqtt, url: 'mqtts://127.0.0.1:{}', ca: ca.pem, client_id: forebay }}
sources:
  numbers: {{ type: mqtt, connection: plant, topics: [number], qos: 1 }}
sinks:
  cloud:
    {{ from: numbers, type: mqtt, connection: cloud, buffer: {{ store: disk, sync: always }} }}
  late: {{ from: timed, buffer: {{ store: disk, expires_after: 1h }}, {late} }}
transforms:
  timed: {{ from: numbers, type: map, fields: {{ number: ., at: {{ time: iso }} }}, rest: drop }}
",
            plant.url(),
            tls.port
        )
    };
    let nowhere = format!("type: http, url: 'http://127.0.0.1:{}/'", free_port());
    let folder = Folder::with(&[("ca.pem", &tls.ca), ("a.yaml", &pipeline(&nowhere))]);
    let began = Timestamp::now().to_rfc3339();
    let (data, clock) = (Folder::new(), Folder::with(&[("time", &format!("{wrong}\n"))]));
    let mut command: Command = program();
    command.arg("run").arg(folder.path()).arg("--data").arg(data.path());
    command.env("LD_PRELOAD", faketime());
    command.env("FAKETIME_TIMESTAMP_FILE", clock.path().join("time"));
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command.env("TZ", "UTC");
    let forebay = Forebay::of(command);
    forebay.wait_for_log(says);
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);
    let mut publisher = Publisher::to(plant.port, "number");
    (1..=10).for_each(|n| publisher.send(&n.to_string()));
    publisher.finish();
    until("all are on the disk", || plant.acknowledged_by("forebay") == 10);
    let set_at = Timestamp::now().to_rfc3339();

    clock.replace("time", "+0\n");

    subscriber.wait_for("the last", |got| got.payload == "10");
    // A sink that shows the time of what waited since before the clock was set.
    folder.replace("a.yaml", &pipeline("type: log, format: json"));
    let first = forebay.wait_for_log(r#""number":1,"#);
    let message: Value = serde_json::from_str(&first).expect("the `log` sink prints JSON");
    for time in [&message["time"], &message["payload"]["at"]] {
        let time = time.as_str().expect("each message has a time");
        assert!((&*began..=&*set_at).contains(&time), "{time} is not in {began}..{set_at}");
    }
    let kept = fs::read_to_string(data.path().join("clock.json")).expect("it is written");
    assert!(kept.contains("is_set"), "{kept}");
}
