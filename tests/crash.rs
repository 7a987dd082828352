//! What a source was told is delivered arrives, however often the program is killed or stopped.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::support::{
    Folder, Forebay, Mosquitto, Proxy, Publisher, Subscriber, is_long, numbers, pause, until,
};

#[test]
fn kills_lose_nothing_of_a_buffer_on_disk() {
    check("disk", Sink::Up, End::Kill);
}

#[test]
fn kills_lose_nothing_of_a_buffer_that_spills() {
    check("spill", Sink::Up, End::Kill);
}

#[test]
fn kills_lose_nothing_on_disk_while_the_broker_is_away() {
    check("disk", Sink::Away, End::Kill);
}

#[test]
fn kills_lose_nothing_that_spilled_while_the_broker_is_away() {
    check("spill", Sink::Away, End::Kill);
}

#[test]
fn kills_lose_nothing_on_disk_while_the_link_flaps() {
    check("disk", Sink::Flaps, End::Kill);
}

#[test]
fn kills_lose_nothing_that_spilled_while_the_link_flaps() {
    check("spill", Sink::Flaps, End::Kill);
}

#[test]
fn stops_lose_nothing_of_a_buffer_on_disk() {
    check("disk", Sink::Up, End::Stop);
}

#[test]
fn stops_lose_nothing_of_a_buffer_that_spills() {
    check("spill", Sink::Up, End::Stop);
}

/// Where the messages go, while the program is killed again and again.
#[derive(PartialEq)]
enum Sink {
    Up,
    /// In the end the source is away, so that only the disk has what is missing.
    Away,
    /// The link is cut again and again.
    Flaps,
}

/// How the program ends each time.
#[derive(PartialEq)]
enum End {
    /// As when the power goes, while it starts or works.
    Kill,
    /// As when it is updated, while it works.
    Stop,
}

/// The most messages that come between two kills.
const MOST_BETWEEN: usize = 100;
/// A start up to this time is a moment like any other.
const START_MICROS: u64 = 150_000;

#[track_caller]
fn check(store: &str, sink: Sink, end: End) {
    let kills = if is_long() { 200 } else { 20 };
    let seed = std::env::var("FOREBAY_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let seed = seed.unwrap_or_else(|| now().as_secs());
    println!("to repeat the moments of the kills: FOREBAY_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut plant, mut cloud) = (Mosquitto::start(), Mosquitto::start());
    let subscriber = Subscriber::remembered(cloud.port, "#");
    let link = Proxy::to(cloud.port);
    let cloud_url = match sink {
        Sink::Flaps => format!("mqtt://127.0.0.1:{}", link.port),
        Sink::Up | Sink::Away => cloud.url(),
    };
    let data = Folder::new();
    let folder = Folder::with(&[(
        "a.yaml",
        &numbers(&plant.url(), &cloud_url, &format!("store: {store}, sync: always")),
    )]);
    let mut forebay = Forebay::run_on(folder.path(), data.path());
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);
    if sink == Sink::Away {
        cloud.stop();
    }

    let mut publisher = Publisher::to(plant.port, "number");
    let mut published = BTreeSet::new();
    for _ in 0..kills {
        let count = random.usize(1..=MOST_BETWEEN);
        for _ in 0..count {
            let n = published.len();
            let filler: String = (0..random.usize(0..400)).map(|_| random.alphanumeric()).collect();
            let payload = format!(r#"{{"n":{n},"filler":"{filler}"}}"#);
            publisher.send(&payload);
            published.insert(payload);
        }
        if sink == Sink::Flaps {
            link.cut();
        }
        match random.bool() || end == End::Stop {
            // While it is at work.
            true => {
                let settled = plant.acknowledged_by("forebay");
                let wanted = settled + random.usize(0..=count);
                until("it goes on", || plant.acknowledged_by("forebay") >= wanted);
            }
            // While it starts, perhaps.
            false => pause(Duration::from_micros(random.u64(0..START_MICROS))),
        }
        match end {
            End::Kill => forebay.kill(),
            End::Stop => {
                forebay.wait_for_log("running");
                forebay.signal("TERM");
                assert_eq!(forebay.wait_exit().code(), Some(0));
            }
        }
        forebay = Forebay::start_on(folder.path(), data.path(), &[]);
    }
    publisher.finish();
    if sink == Sink::Away {
        until("the source is told that all is safe", || {
            plant.acknowledged_by("forebay") >= published.len()
        });
        forebay.kill();
        plant.kill();
        cloud.resume();
        forebay = Forebay::run_on(folder.path(), data.path());
    }

    let arrived = || subscriber.payloads().into_iter().collect::<BTreeSet<_>>();
    until("all messages arrive", || arrived().is_superset(&published));
    assert_eq!(arrived(), published);
    println!(
        "store {store}, {kills} kills, {} messages: {} came twice",
        published.len(),
        subscriber.got().len() - published.len()
    );
    assert_eq!(forebay.log.count_of("damaged"), 0);
}
