//! What is in a buffer on disk stays there until it is delivered: over stops, starts, edits and
//! damage, and without growing in memory.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use forebay::engine::buffer;
use forebay_sdk::{Message, Timestamp};
use serde_json::Value;

use crate::support::{
    Folder, Forebay, Mosquitto, Publisher, Subscriber, WebServer, forebay, free_port, is_emulated,
    is_long, publish, until,
};

/// From a broker to the sink `out`, whose settings follow.
fn to_sink(plant: &Mosquitto, name: &str, settings: &str) -> String {
    format!(
        "connections:
  plant: {{ type: mqtt, url: '{}', client_id: forebay, clean_session: false }}
sources:
  numbers: {{ type: mqtt, connection: plant, topics: [number], qos: 1, format: text }}
sinks:
  {name}: {{ from: numbers, buffer: {{ store: disk, sync: always }}, {settings} }}
",
        plant.url()
    )
}

/// A web service that is not there.
fn nowhere() -> String {
    format!("type: http, url: 'http://127.0.0.1:{}/', format: text", free_port())
}

/// Publishes numbers until the buffer has them all.
#[track_caller]
fn fill(plant: &Mosquitto, numbers: std::ops::RangeInclusive<usize>) {
    let last = *numbers.end();
    let mut publisher = Publisher::to(plant.port, "number");
    numbers.for_each(|n| publisher.send(&n.to_string()));
    publisher.finish();
    until("all are in the buffer", || plant.acknowledged_by("forebay") == last);
}

#[track_caller]
fn wait_subscribed(plant: &Mosquitto) {
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") > 0);
}

#[test]
fn a_stop_keeps_what_is_on_disk_and_the_next_start_sends_it_with_its_time() {
    let (plant, data) = (Mosquitto::start(), Folder::new());
    let folder = Folder::with(&[("a.yaml", &to_sink(&plant, "out", &nowhere()))]);
    let mut first = Forebay::run_on(folder.path(), data.path());
    wait_subscribed(&plant);
    let before = now();
    fill(&plant, 1..=20);
    let after = now();

    first.signal("TERM");

    assert_eq!(first.wait_exit().code(), Some(0));
    let line = first.wait_for_log("what is in buffers on disk is sent after the next start");
    assert!(line.contains("kept=20"), "{line}");

    // The same node, whose sink now shows what it gets.
    folder.write("a.yaml", &to_sink(&plant, "out", "type: log, format: json"));
    let second = Forebay::run_on(folder.path(), data.path());
    second.wait_for_log("going on with what is in the buffer on disk");
    second.wait_for_log(r#""payload":"20""#);
    publish(plant.port, "number", "21", &["-q", "1"]);
    second.wait_for_log(r#""payload":"21""#);

    let shown: Vec<Value> =
        second.log.all().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let payloads: Vec<_> = shown.iter().map(|m| m["payload"].as_str().unwrap_or("?")).collect();
    let wanted: Vec<_> = (1..=21).map(|n| n.to_string()).collect();
    assert_eq!(payloads, wanted);
    for message in &shown[..20] {
        let time = message["time"].as_str().unwrap_or("?");
        assert!((&*before..=&*after).contains(&time), "{time} in {before}..{after}");
        assert_eq!(message["meta"]["historical"], true, "{message}");
    }
    assert_eq!(shown[20]["meta"]["historical"], Value::Null);
    assert!(shown[20]["time"].as_str() > Some(&after));
}

/// The time as messages show it.
fn now() -> String {
    Timestamp::now().to_rfc3339()
}

#[test]
fn a_sink_with_other_settings_goes_on_with_its_buffer() {
    let (plant, service) = (Mosquitto::start(), WebServer::start());
    let folder = Folder::with(&[("a.yaml", &to_sink(&plant, "out", &nowhere()))]);
    let forebay = Forebay::run(folder.path());
    wait_subscribed(&plant);
    fill(&plant, 1..=20);
    forebay.wait_for_log("will try again");

    let settings = format!("type: http, url: '{}', format: text", service.url());
    forebay.log_after("reloaded: replace a/out; 1 node untouched", || {
        folder.replace("a.yaml", &to_sink(&plant, "out", &settings));
    });

    let wanted: Vec<_> = (1..=20).map(|n| n.to_string()).collect();
    until("all arrive", || service.bodies.count() >= wanted.len());
    assert_eq!(service.bodies.all(), wanted);
}

#[test]
fn a_renamed_sink_leaves_its_buffer_and_says_where_it_is_listed() {
    let (plant, service, data) = (Mosquitto::start(), WebServer::start(), Folder::new());
    let folder = Folder::with(&[("a.yaml", &to_sink(&plant, "out", &nowhere()))]);
    let running = Forebay::run_on(folder.path(), data.path());
    wait_subscribed(&plant);
    fill(&plant, 1..=20);

    let settings = format!("type: http, url: '{}', format: text", service.url());
    let line = running.log_after("see `forebay buffer ls`", || {
        folder.replace("a.yaml", &to_sink(&plant, "uplink", &settings));
    });
    assert!(line.contains("node=a/out") && line.contains("kept=20"), "{line}");

    // The new one begins with nothing.
    publish(plant.port, "number", "21", &["-q", "1"]);
    until("the next arrives", || service.bodies.count() > 0);
    assert_eq!(service.bodies.all(), ["21"]);
    let (pipelines, data_path) = (folder.path().as_os_str(), data.path().as_os_str());
    let listed =
        forebay(["buffer".as_ref(), "ls".as_ref(), pipelines, "--data".as_ref(), data_path]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let is_orphan = |line: &str| line.contains("no sink uses it: `forebay buffer move a/out NEW`");
    assert!(listed.lines().any(is_orphan), "{listed}");

    // Its old name brings it back.
    folder.replace("a.yaml", &to_sink(&plant, "out", &settings));
    until("all arrive", || service.bodies.count() == 21);
    let wanted: Vec<_> = (1..=20).map(|n| n.to_string()).collect();
    assert_eq!(service.bodies.all()[1..], wanted);
}

/// The file of a buffer that was written last.
fn newest_segment(buffer: &Path) -> PathBuf {
    let files = fs::read_dir(buffer).expect("the buffer is there");
    let paths = files.map(|file| file.expect("it can be read").path());
    let segments = paths.filter(|path| path.extension().is_some_and(|end| end == "log"));
    // Their names begin with their numbers.
    segments.max().expect("there is one")
}

#[test]
fn a_damaged_byte_costs_one_message_and_is_counted() {
    let log = check_damage(|bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
    });
    assert_eq!(log.lost, 1, "{log:?}");
    assert!(log.line.contains("lost_records=1 "), "{log:?}");
}

#[test]
fn a_buffer_that_was_cut_off_goes_on_with_what_is_left() {
    let log = check_damage(|bytes| bytes.truncate(bytes.len() / 2));
    assert!((50..150).contains(&log.lost), "{log:?}");
    assert!(log.line.contains(&format!("lost_records={} ", log.lost)), "{log:?}");
}

#[derive(Debug)]
struct Damage {
    /// Messages that did not come back.
    lost: usize,
    /// What the log says.
    line: String,
}

/// Damages a buffer of 200 messages. Counts what is lost when the program starts on it; what comes
/// afterwards must not be.
#[track_caller]
fn check_damage(damage: impl Fn(&mut Vec<u8>)) -> Damage {
    let (plant, service, data) = (Mosquitto::start(), WebServer::start(), Folder::new());
    let folder = Folder::with(&[("a.yaml", &to_sink(&plant, "out", &nowhere()))]);
    let mut first = Forebay::run_on(folder.path(), data.path());
    wait_subscribed(&plant);
    fill(&plant, 1..=200);
    first.kill();
    let segment = newest_segment(&data.path().join("buffers/a/out"));
    let mut bytes = fs::read(&segment).expect("it is there");
    // Behind the messages the file may go on with zeros.
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("there are messages");
    bytes.truncate(end + 1);
    damage(&mut bytes);
    fs::write(&segment, bytes).expect("it can be written");

    let settings = format!("type: http, url: '{}', format: text", service.url());
    folder.write("a.yaml", &to_sink(&plant, "out", &settings));
    let forebay = Forebay::run_on(folder.path(), data.path());
    let line = forebay.wait_for_log("the buffer on disk ");
    fill(&plant, 201..=210);
    until("the last arrives", || service.bodies.all().last().is_some_and(|body| body == "210"));

    let arrived: BTreeSet<String> = service.bodies.all().into_iter().collect();
    let is_missing = |n: &usize| !arrived.contains(&n.to_string());
    assert_eq!((201..=210).find(is_missing), None);
    Damage { lost: (1..=200).filter(is_missing).count(), line }
}

/// What a backlog may take beside what an idle program takes.
const MOST_GROWTH_BYTES: u64 = 8 << 20;

#[test]
fn memory_does_not_grow_with_the_backlog() {
    if is_emulated() {
        return;
    }
    const PAYLOAD_BYTES: usize = 5000;
    let backlog_bytes = if is_long() { 1_000_000_000 } else { 50_000_000 };
    let messages = backlog_bytes / PAYLOAD_BYTES;
    let cloud = Mosquitto::start_prompt();
    let subscriber = Subscriber::to(cloud.port, "last");
    let pipeline = format!(
        "connections:
  cloud: {{ type: mqtt, url: '{}', client_id: forebay }}
sources:
  last: {{ type: timer, every: 1h, topic: last }}
sinks:
  cloud:
    {{ from: last, type: mqtt, connection: cloud, buffer: {{ store: disk, max_bytes: 2GiB }} }}
",
        cloud.url()
    );
    let folder = Folder::with(&[("a.yaml", &pipeline)]);
    // What it takes to deliver the one message of the timer.
    let idle = Forebay::run(folder.path());
    subscriber.wait_for("the one message", |_| true);
    let idle_bytes = idle.rss_bytes();
    drop(idle);

    let data = Folder::new();
    fill_directly(data.path(), messages, PAYLOAD_BYTES);
    let draining = Forebay::run_on(folder.path(), data.path());
    subscriber.wait_for_new("the message behind the backlog", |_| true);
    let peak_bytes = draining.peak_rss_bytes();

    println!(
        "{backlog_bytes} bytes of backlog: {} KiB at most, {} KiB idle",
        peak_bytes / 1024,
        idle_bytes / 1024
    );
    // The broker's lines come to us later than its messages do.
    let received = || cloud.log.count_of("Received PUBLISH from forebay ");
    until("all were received", || received() >= messages + 2);
    assert!(peak_bytes < idle_bytes + MOST_GROWTH_BYTES, "{peak_bytes} against {idle_bytes}");
}

/// Makes the buffer of `a/cloud` as the program would, at the speed of the disk.
fn fill_directly(data: &Path, messages: usize, payload_bytes: usize) {
    const AT_ONCE: usize = 100;
    let folder = buffer::Folder::new(buffer::folder_of(data, "a/cloud"));
    let limits = buffer::Limits { max_bytes: 2 << 30 };
    let (mut log, _) = buffer::Log::open(folder, limits).expect("the folder is new");
    let filler = Value::from(".".repeat(payload_bytes));
    for _ in 0..messages / AT_ONCE {
        let mut batch = buffer::Batch::new(log.next_seq());
        (0..AT_ONCE).for_each(|_| batch.push(&Message::new("backlog", filler.clone())));
        log.append(&batch).expect("there is room");
    }
    log.sync().expect("the disk works");
}
