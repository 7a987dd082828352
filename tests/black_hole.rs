//! A link that goes silent, with all its sockets open, loses nothing and holds up nobody.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;

use crate::support::{
    Folder, Forebay, Mosquitto, Proxy, Subscriber, free_port, is_long, now, publish, start_inside,
    throughout, until,
};

#[test]
fn a_link_that_swallows_everything_loses_nothing() {
    check("disk", Plain, Proxy::swallow, |link, _| link.heal());
}

#[test]
fn a_link_that_swallows_everything_loses_nothing_of_a_buffer_that_spills() {
    check("spill", Plain, Proxy::swallow, |link, _| link.heal());
}

#[test]
fn a_link_that_swallows_everything_and_is_cut_loses_nothing() {
    check("disk", Plain, Proxy::swallow, |link, _| link.cut());
}

#[test]
fn a_link_that_keeps_back_everything_loses_nothing() {
    check("disk", Plain, Proxy::hold, |link, _| link.heal());
}

#[test]
fn a_link_with_tls_that_swallows_everything_loses_nothing() {
    check("disk", Tls, Proxy::swallow, |link, _| link.heal());
}

#[test]
fn a_broker_that_restarts_behind_a_silent_link_loses_nothing() {
    let restart = |link: &Proxy, broker: &mut Mosquitto| {
        broker.stop();
        broker.resume();
        link.heal();
    };
    check("disk", Plain, Proxy::swallow, restart);
}

#[test]
fn a_link_to_the_source_that_swallows_everything_loses_nothing() {
    let span = Duration::from_secs(if is_long() { 30 } else { 4 });
    let (plant, cloud) = (Mosquitto::start(), Mosquitto::start());
    let link = Proxy::to(plant.port);
    let subscriber = Subscriber::to(cloud.port, "#");
    let text = pipeline(&plain(link.port), &plain(cloud.port), "disk");
    let folder = Folder::with(&[("a.yaml", &text)]);
    let _forebay = Forebay::run(folder.path());
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);
    let mut published = BTreeSet::new();
    let mut publish_next = || {
        let n = published.len().to_string();
        publish(plant.port, "number", &n, &["-q", "1"]);
        published.insert(n);
        published.clone()
    };
    publish_next();
    subscriber.wait_for("the first", |_| true);

    link.swallow();
    let end = now() + span;
    while now() < end {
        publish_next();
        throughout(Duration::from_millis(200), "the link is silent", || {
            subscriber.got().len() == 1
        });
    }
    link.heal();
    let published = publish_next();

    let arrived = || subscriber.payloads().into_iter().collect::<BTreeSet<_>>();
    until("all arrive", || arrived() == published);
}

/// How the program speaks with the broker.
#[derive(PartialEq)]
enum Speech {
    Plain,
    Tls,
}
use Speech::{Plain, Tls};

/// Messages that a broker upstream wants acknowledged go through a link that fails for a while.
#[track_caller]
fn check(
    store: &str,
    speech: Speech,
    fail: impl Fn(&Proxy),
    repair: impl Fn(&Proxy, &mut Mosquitto),
) {
    let span = Duration::from_secs(if is_long() { 30 } else { 4 });
    let plant = Mosquitto::start();
    let (mut cloud, tls) = Mosquitto::start_with_tls();
    let link = Proxy::to(if speech == Tls { tls.port } else { cloud.port });
    let cloud_settings = match speech {
        Plain => plain(link.port),
        Tls => format!("url: 'mqtts://127.0.0.1:{}', ca: {}", link.port, json!(tls.ca)),
    };
    let subscriber = Subscriber::remembered(cloud.port, "#");
    let text = pipeline(&plain(plant.port), &cloud_settings, store);
    let folder = Folder::with(&[("a.yaml", &text)]);
    let data = Folder::new();
    let forebay = Forebay::run_on(folder.path(), data.path());
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);
    let mut published = BTreeSet::new();
    let mut publish_next = || {
        let n = published.len().to_string();
        publish(plant.port, "number", &n, &["-q", "1"]);
        published.insert(n);
        published.clone()
    };
    for _ in 0..5 {
        publish_next();
    }
    subscriber.wait_for("the last of them", |got| got.payload == "4");

    fail(&link);
    let end = now() + span;
    while now() < end {
        let count = publish_next().len();
        // The disk has it, so the source need not wait for the link.
        until("settled", || plant.acknowledged_by("forebay") == count);
        throughout(Duration::from_millis(100), "it runs", || true);
    }
    repair(&link, &mut cloud);
    let published = publish_next();

    let arrived = || subscriber.payloads().into_iter().collect::<BTreeSet<_>>();
    until("all arrive", || arrived() == published);
    println!(
        "silent for {span:?}: {} of {} messages came twice",
        subscriber.got().len() - published.len(),
        published.len()
    );
    assert_eq!(forebay.log.count_of("dropped"), 0);
}

/// The settings of a connection without TLS.
fn plain(port: u16) -> String {
    format!("url: 'mqtt://127.0.0.1:{port}'")
}

/// From a broker through a buffer to another. Lets a silent link be noticed soon.
fn pipeline(plant: &str, cloud: &str, store: &str) -> String {
    let both = "client_id: forebay, keep_alive: 1s, connect_timeout: 1s";
    format!(
        "connections:
  plant: {{ type: mqtt, {plant}, {both}, clean_session: false }}
  cloud: {{ type: mqtt, {cloud}, {both} }}
sources:
  numbers: {{ type: mqtt, connection: plant, topics: [number], qos: 1 }}
transforms:
  pass: {{ from: numbers, type: script, script: msg }}
sinks:
  cloud:
    {{ from: pass, type: mqtt, connection: cloud, buffer: {{ store: {store}, sync: always }} }}
"
    )
}

#[test]
fn a_link_that_drops_every_packet_loses_nothing() {
    // Longer than the kernel waits for what was sent and is not confirmed.
    let span = Duration::from_secs(if is_long() { 60 } else { 4 });
    let port = free_port();
    let folder = Folder::with(&[(
        "a.yaml",
        &format!(
            "connections:
  cloud:
    {{ type: mqtt, url: 'mqtt://127.0.0.1:{port}', client_id: forebay, keep_alive: 1s }}
sources:
  beat: {{ type: timer, every: 100ms }}
transforms:
  named:
    from: beat
    type: script
    script: |
      msg.topic = \"beat/\" + msg.payload.count;
      msg
sinks:
  cloud: {{ from: named, type: mqtt, connection: cloud, buffer: {{ store: disk }} }}
"
        ),
    )]);
    let data = Folder::new();
    let up = "ip link set lo up";
    let Some(mut forebay) = start_inside("n", up, folder.path(), data.path()) else { return };
    forebay.wait_for_log("running");
    let broker = forebay.mosquitto_inside("n", port);
    let missing = |last: usize| {
        let log = broker.log.all();
        let came = |n: &usize| log.iter().any(|line| line.contains(&format!("'beat/{n}'")));
        (1..=last).filter(|n| !came(n)).count()
    };
    until("the first arrive", || missing(5) == 0);

    forebay.shell_inside("n", "tc qdisc add dev lo root pfifo limit 0");
    throughout(span, "it runs", || forebay.is_alive());
    forebay.shell_inside("n", "tc qdisc del dev lo root");

    // As many as there were by then, and some.
    let beats = 10 * span.as_secs() as usize + 20;
    until("all arrive", || missing(beats) == 0);
}

#[test]
fn a_host_whose_first_address_is_silent_is_reached_by_the_next() {
    let port = free_port();
    let text = format!(
        "connections: {{ far: {{ type: mqtt, url: 'mqtt://broker.example:{port}' }} }}\n\
         sources: {{ beat: {{ type: timer, every: 100ms }} }}\n\
         sinks: {{ out: {{ from: beat, type: mqtt, connection: far, topic: beat }} }}\n"
    );
    let folder = Folder::with(&[("a.yaml", &text)]);
    let data = Folder::new();
    // What is sent to the first, which the system prefers, vanishes.
    let up = "ip link set lo up
        ip link add hole type veth peer name bottom
        ip addr add 2001:db8::1/64 dev hole nodad
        ip link set hole up
        ip link set bottom up
        ip neigh add 2001:db8::9 lladdr 02:00:00:00:00:09 dev hole
        printf '2001:db8::9 broker.example\\n127.0.0.1 broker.example\\n' >$DATA/hosts
        mount --bind $DATA/hosts /etc/hosts";
    let Some(forebay) = start_inside("mn", up, folder.path(), data.path()) else { return };
    let broker = forebay.mosquitto_inside("n", port);
    until("it arrives", || broker.log.count_of("'beat'") > 0);
}

#[test]
fn a_broker_that_has_moved_is_looked_up_again() {
    let port = free_port();
    let text = format!(
        "connections: {{ far: {{ type: mqtt, url: 'mqtt://broker.example:{port}' }} }}\n\
         sources: {{ beat: {{ type: timer, every: 100ms }} }}\n\
         sinks: {{ out: {{ from: beat, type: mqtt, connection: far, topic: beat }} }}\n"
    );
    let (folder, data) = (Folder::with(&[("a.yaml", &text)]), Folder::new());
    let up = "ip link set lo up
        ip addr add 192.0.2.9/32 dev lo
        printf '192.0.2.8 broker.example\n192.0.2.9 broker.example\n' >$DATA/hosts
        mount --bind $DATA/hosts /etc/hosts";
    let Some(forebay) = start_inside("mn", up, folder.path(), data.path()) else { return };
    // Neither of the addresses that it has at first.
    forebay.wait_for_log("nothing listens at broker.example");
    let broker = forebay.mosquitto_inside("n", port);
    std::fs::write(data.path().join("hosts"), "127.0.0.1 broker.example\n").unwrap();
    until("it arrives", || broker.log.count_of("'beat'") > 0);
}

#[test]
fn a_reload_is_as_fast_while_the_link_is_silent() {
    let (plant, cloud) = (Mosquitto::start(), Mosquitto::start());
    let link = Proxy::to(cloud.port);
    let subscriber = Subscriber::to(cloud.port, "#");
    // Each differs from the one before: in a script, in the sink, in the connection.
    let first = pipeline(&plain(plant.port), &plain(link.port), "disk");
    let script = first.replace("script: msg", "script: 'let m = msg; m'");
    let sink = script.replace("connection: cloud,", "connection: cloud, retain: true,");
    let connection = sink.replace("1s }", "2s }");
    let versions = [&first, &script, &sink, &connection];
    let folder = Folder::with(&[("a.yaml", &first)]);
    let forebay = Forebay::run(folder.path());
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);
    let mut published = 0;
    let mut longest_reload = || {
        let reloads = (1..=versions.len()).map(|n| {
            let asked = now();
            forebay.log_after("reloaded: replace ", || {
                folder.replace("a.yaml", versions[n % versions.len()]);
            });
            let took = asked.elapsed();
            published += 1;
            publish(plant.port, "number", &published.to_string(), &["-q", "1"]);
            took
        });
        reloads.max().expect("there are some")
    };

    let with_link = longest_reload();
    subscriber.wait_for("the last of them", |got| got.payload == "4");
    link.swallow();
    let silent = longest_reload();
    link.heal();

    println!("the longest reload took {with_link:?} with the link and {silent:?} without");
    // What a busy machine may add.
    assert!(silent < with_link * 2 + Duration::from_secs(3), "{silent:?} after {with_link:?}");
    let wanted: BTreeSet<_> = (1..=8).map(|n: u8| n.to_string()).collect();
    until("all arrive", || wanted.is_subset(&subscriber.payloads().into_iter().collect()));
}
