//! What `window`, `counter`, `deadband` and `alarm` make of random series, with gaps, duplicates, late
//! messages, changes of clocks and clocks that are set, is what pandas makes of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use forebay::plugins;
use forebay_sdk::{
    Fields, Message, NodeType, Sends, Timestamp, Topics,
    testing::{Rig, Sent, WallClock, configure, delivered},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::python;

/// 2026-10-24T12:00:00Z: half a day before clocks in Berlin are set back.
const AUTUMN: i64 = 1_792_843_200;
/// 2026-03-28T12:00:00Z: half a day before they are put forward.
const SPRING: i64 = 1_774_699_200;
const SECOND: i64 = 1_000_000_000;

/// A value, when it was read, and when it comes: both in seconds from the start.
struct Reading {
    read: i64,
    comes: i64,
    meter: u8,
    value: Option<f64>,
}

/// Two days of two meters, every few minutes.
fn series(random: &mut fastrand::Rng) -> Vec<Reading> {
    let mut readings = Vec::new();
    for meter in [1, 2] {
        let (mut at, mut value) = (0, 20.0);
        while at < 2 * 86_400 {
            value += random.f64() * 4.0 - 2.0;
            let rounded = (value * 100.0_f64).round() / 100.0;
            let shown = (random.u8(..) > 10).then_some(rounded);
            let late = if random.u8(..) < 20 { random.i64(0..30) } else { 0 };
            readings.push(Reading { read: at, comes: at + late, meter, value: shown });
            if random.u8(..) < 8 {
                // Sent once more by its gateway.
                readings.push(Reading { read: at, comes: at + late + 1, meter, value: shown });
            }
            // A gap now and then.
            at += if random.u8(..) < 3 { random.i64(3600..20_000) } else { random.i64(60..400) };
        }
    }
    readings.sort_by_key(|reading| reading.comes);
    readings
}

fn node_type(name: &str) -> Arc<dyn NodeType> {
    let types = plugins::all().into_iter().flat_map(|plugin| plugin.types);
    let mut named = types.filter(|node_type| node_type.name() == name);
    named.next().expect("it is in this build")
}

/// Sends the readings at their times to a node, and gives the payloads that it sent.
async fn run(name: &str, settings: &str, start: i64, readings: &[Reading]) -> Vec<Value> {
    let began = Instant::now();
    let clock = WallClock::at(start);
    let mut is_ahead = false;
    let mut rig = Rig::new(&*node_type(name), settings);
    let mut sent = Vec::new();
    let mut take = |made: Sent| {
        sent.extend(made.into_iter().map(|(_, envelope)| delivered(envelope)));
    };
    for (number, reading) in readings.iter().enumerate() {
        let due = began + Duration::from_secs(u64::try_from(reading.comes).unwrap());
        let passed = rig.pass(due.saturating_duration_since(Instant::now())).await;
        take(passed.into_iter().map(|(_, port, envelope)| (port, envelope)).collect());
        if number % 50 == 0 {
            // Somebody corrects the clock by some seconds, forth and back.
            is_ahead = !is_ahead;
            let passed = i64::try_from(began.elapsed().as_secs()).unwrap();
            clock.set(start + passed + if is_ahead { 3 } else { 0 });
            rig.clock_was_moved();
        }
        let time = Timestamp::from_unix_nanos((start + reading.read) * SECOND);
        let payload =
            json!({ "meter": reading.meter, "v": reading.value, "at": time.to_rfc3339() });
        take(rig.send(Message { time, ..Message::new("site", payload) }).unwrap());
    }
    let rest = rig.pass(Duration::from_secs(3 * 86_400)).await;
    take(rest.into_iter().map(|(_, port, envelope)| (port, envelope)).collect());
    sent
}

/// Asks pandas what the node should have sent, and compares.
fn compare(node: &str, settings: Value, start: i64, readings: &[Reading], sent: &[Value]) {
    let at = |second: i64| Timestamp::from_unix_nanos((start + second) * SECOND).to_rfc3339();
    let rows: Vec<Value> = readings
        .iter()
        .map(
            |reading| json!({ "at": at(reading.read), "meter": reading.meter, "v": reading.value }),
        )
        .collect();
    let question = json!({ "node": node, "settings": settings, "rows": rows, "sent": sent });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/independent.py");
    let mut pandas = Command::new(python())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let mut stdin = pandas.stdin.take().unwrap();
    stdin.write_all(question.to_string().as_bytes()).unwrap();
    drop(stdin);
    let answer = pandas.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.status.success() && said.starts_with("compared "), "{node} {settings}: {said}");
}

const SEEDS: u64 = 2;

#[tokio::test(start_paused = true)]
async fn windows_are_what_pandas_computes_also_when_clocks_change() {
    let functions = "[count, min, max, mean, sum, first, last, stddev, median, p95, range, increase, \
                     rate, integral, time_mean]";
    for (seed, start) in (0..SEEDS).flat_map(|seed| [(seed, AUTUMN), (seed, SPRING)]) {
        for (every, length) in
            [("15m", "15m"), ("1h", "1h"), ("6h", "6h"), ("1d", "1d"), ("15m", "1h")]
        {
            let readings = series(&mut fastrand::Rng::with_seed(seed));
            let settings = format!(
                "every: {every}\nlength: {length}\nlate: 1m\nzone: Europe/Berlin\nby: meter\nfields: {{ v: {functions} }}"
            );
            let sent = run("window", &settings, start, &readings).await;
            assert!(sent.len() > 3, "{every}: {}", sent.len());
            let settings = json!({ "every": every, "length": length });
            compare("window", settings, start, &readings, &sent);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn counters_are_what_pandas_computes() {
    for (seed, start) in (0..SEEDS).flat_map(|seed| [(seed, AUTUMN), (seed, SPRING)]) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut readings = series(&mut random);
        // As a device counts: up, with 16 bits, and now and then from 0.
        let mut counts = [0_i64, 60_000];
        for reading in &mut readings {
            let count = &mut counts[usize::from(reading.meter - 1)];
            *count = if random.u8(..) < 2 { 0 } else { (*count + random.i64(0..900)) % 65_536 };
            #[expect(clippy::cast_precision_loss, reason = "below 65536")]
            let counted = *count as f64;
            reading.value = reading.value.map(|_| counted);
        }
        let settings = "field: v\nby: meter\nrollover_at: 65536\ntotal: t\nincrease: i\nrate: r\nper: 1m\ntoday: d\n\
                        this_month: m\nzone: Europe/Berlin";
        let sent = run("counter", settings, start, &readings).await;
        assert_eq!(sent.len(), readings.len());
        compare("counter", json!({}), start, &readings, &sent);
    }
}

#[tokio::test(start_paused = true)]
async fn deadbands_and_alarms_are_what_an_independent_loop_finds() {
    for seed in 0..SEEDS {
        let readings = series(&mut fastrand::Rng::with_seed(seed));
        let settings = "by: meter\nfields: { v: { abs: 1.5, percent: 5 } }";
        let sent = run("deadband", settings, AUTUMN, &readings).await;
        compare("deadband", json!({ "abs": 1.5, "percent": 5 }), AUTUMN, &readings, &sent);
        let settings = "by: meter\nfield: v\nabove: 22\nbelow: 15\nhysteresis: 1";
        let sent = run("alarm", settings, AUTUMN, &readings).await;
        compare("alarm", json!({ "above": 22, "below": 15, "back": 1 }), AUTUMN, &readings, &sent);
    }
}

#[test]
fn what_transforms_pass_of_meta_and_topic_is_known_to_lint() {
    for (name, settings) in [
        ("counter", "{ field: n, total: t }"),
        ("deadband", "fields: { n: 1 }"),
        ("dedupe", "{}"),
        ("delay", "for: 1s"),
        ("throttle", "every: 1s"),
        ("debounce", "quiet: 1s"),
        ("split", "{}"),
        ("batch", "longest: 1m"),
        ("decode", "format: json"),
        ("encode", "format: json"),
        ("validate", "schema: { type: object }"),
        ("filter", "when: msg.payload.n > 1"),
    ] {
        let configured = configure(&*node_type(name), settings).unwrap();
        assert_eq!(configured.meta(), Fields::passing([]), "{name}");
        assert_eq!(configured.topics(), Topics::Kept, "{name}");
    }
    for (name, settings) in
        [("window", "{ every: 1m, fields: { n: mean } }"), ("alarm", "{ field: n, above: 1 }")]
    {
        let meta = configure(&*node_type(name), settings).unwrap().meta();
        assert_eq!(meta.sends, Sends::Only([].into()), "{name}");
    }
}
