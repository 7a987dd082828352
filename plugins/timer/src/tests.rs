use std::time::Duration;

use forebay_sdk::{Figure, Message, Node, Site, node::DynSource, testing};
use serde_json::json;
use tokio::time::Instant;

use super::timer;

fn build(settings: &str) -> Box<dyn DynSource> {
    build_at(settings, testing::site(None))
}

fn build_at(settings: &str, site: Site) -> Box<dyn DynSource> {
    match testing::build_at(&timer(), settings, site) {
        Node::Source(timer) => timer,
        _ => panic!("a timer is a source"),
    }
}

/// What a timer sends within `period`, and when, in milliseconds from its start.
async fn sent(settings: &str, period: Duration) -> Vec<(u128, Message)> {
    let mut timer = build(settings);
    let (out, mut collected) = testing::outlet(100);
    let start = Instant::now();
    let mut sent = Vec::new();
    let listen = async {
        while let Some(envelope) = collected.envelopes.recv().await {
            assert!(envelope.delivery.is_none(), "nobody could send a beat again");
            sent.push((start.elapsed().as_millis(), envelope.message));
        }
    };
    tokio::select! {
        ended = timer.run(&out) => panic!("a timer never ends: {ended:?}"),
        () = listen => (),
        () = tokio::time::sleep(period) => (),
    }
    sent
}

#[track_caller]
fn findings(settings: &str) -> Vec<String> {
    testing::configure(&timer(), settings).err().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn the_first_message_goes_at_once_and_the_others_at_each_beat() {
    let sent = sent("every: 5s", Duration::from_millis(12_500)).await;
    let seen: Vec<_> = sent
        .iter()
        .map(|(at, message)| (*at, &*message.topic, message.payload.value().unwrap().clone()))
        .collect();
    let expected = [
        (0, "test/node", json!({"count": 1})),
        (5000, "test/node", json!({"count": 2})),
        (10_000, "test/node", json!({"count": 3})),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn topic_and_payload_are_sent_as_written() {
    let settings = "every: 1h\ntopic: site/a\npayload: {on: true, levels: [1, 2.5], note: }";
    let sent = sent(settings, Duration::from_secs(1)).await;
    assert_eq!(&*sent[0].1.topic, "site/a");
    let expected = json!({"on": true, "levels": [1, 2.5], "note": null});
    assert_eq!(sent[0].1.payload.value(), Ok(&expected));
}

#[tokio::test(start_paused = true)]
async fn beats_without_room_downstream_are_skipped_and_the_rhythm_stays() {
    let (voice, heard) = testing::voice();
    let mut timer = build_at("every: 1s", Site { voice, ..testing::site(None) });
    let (out, mut collected) = testing::outlet(1);
    let start = Instant::now();
    let mut seen = Vec::new();
    let read_late = async {
        tokio::time::sleep(Duration::from_millis(4500)).await;
        for _ in 0..3 {
            let message = collected.envelopes.recv().await.unwrap().message;
            let count = message.payload.value().unwrap()["count"].as_u64().unwrap();
            seen.push((start.elapsed().as_millis(), count));
        }
    };
    tokio::select! {
        ended = timer.run(&out) => panic!("a timer never ends: {ended:?}"),
        () = read_late => (),
    }
    // Two waited; the beats at 2, 3 and 4 seconds are over, and none is made up for.
    assert_eq!(seen, [(4500, 1), (4500, 2), (5000, 3)]);
    assert_eq!(heard.figure(Figure::Overruns), 3, "the beats at 2, 3 and 4 seconds");
}

#[tokio::test(start_paused = true)]
async fn counting_goes_on_when_the_engine_calls_again() {
    let mut timer = build("every: 1s");
    let (out, mut collected) = testing::outlet(10);
    for expected in 1..=2 {
        let message = tokio::select! {
            ended = timer.run(&out) => panic!("a timer never ends: {ended:?}"),
            envelope = collected.envelopes.recv() => envelope.unwrap().message,
        };
        assert_eq!(message.payload.value(), Ok(&json!({"count": expected})));
    }
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_the_settings() {
    assert!(findings("every: 10ms").is_empty());
    assert!(findings("every: 366d").is_empty());
    let out_of_range = |found: &str| {
        format!("setting-value: `every` is out of range [expected 10ms to 366d, found {found}]")
    };
    assert_eq!(findings("every: 9ms"), [out_of_range("9ms")]);
    assert_eq!(findings("every: 400d"), [out_of_range("400d")]);
    assert!(findings("topic: a")[0].starts_with("missing-setting"), "{:?}", findings("topic: a"));
    assert!(findings("every: 5")[0].contains("with a unit"), "{:?}", findings("every: 5"));
}
