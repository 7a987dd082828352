use std::time::Duration;

use forebay_sdk::{
    Delivery, Message, Outcome,
    testing::{Rig, Sent, configure},
};
use serde_json::{Value, json};

use super::{dedupe, plugin};

const SERIAL: &str = "fields: [serial]\nwithin: 10s";

fn of(payload: Value) -> Message {
    Message::new("scans", payload)
}

/// Whether it went on.
fn passes(rig: &mut Rig, payload: Value) -> bool {
    settle(rig.send(of(payload)).unwrap()) == 1
}

fn settle(sent: Sent) -> usize {
    let count = sent.len();
    Delivery::settle_all(sent.into_iter().filter_map(|(_, envelope)| envelope.delivery));
    count
}

#[tokio::test(start_paused = true)]
async fn what_came_before_is_dropped_for_a_while() {
    let mut rig = Rig::new(&dedupe(), SERIAL);
    assert!(passes(&mut rig, json!({ "serial": 1, "rssi": -70 })));
    assert!(!passes(&mut rig, json!({ "serial": 1, "rssi": -71 })));
    assert!(passes(&mut rig, json!({ "serial": 2 })));
    assert!(passes(&mut rig, json!({ "serial": "2" })), "a text is not a number");
    rig.pass(Duration::from_millis(9_999)).await;
    assert!(!passes(&mut rig, json!({ "serial": 1 })));
    rig.pass(Duration::from_millis(1)).await;
    assert!(passes(&mut rig, json!({ "serial": 1 })), "a repeat does not keep it in memory");
}

#[tokio::test(start_paused = true)]
async fn without_fields_the_whole_payload_is_compared() {
    let mut rig = Rig::new(&dedupe(), "{}");
    assert!(passes(&mut rig, json!({ "a": 1 })));
    assert!(!passes(&mut rig, json!({ "a": 1 })));
    assert!(passes(&mut rig, json!({ "a": 2 })));
    assert!(passes(&mut rig, json!("text")));
    assert!(!passes(&mut rig, json!("text")));
    let elsewhere = Message::new("other", json!({ "a": 1 }));
    assert_eq!(settle(rig.send(elsewhere.clone()).unwrap()), 1, "another topic");
    let mut rig = Rig::new(&dedupe(), "by: []");
    assert!(passes(&mut rig, json!({ "a": 1 })));
    assert_eq!(settle(rig.send(elsewhere).unwrap()), 0);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_is_forgotten_for_one_too_many() {
    let mut rig = Rig::new(&dedupe(), "fields: [id]\nmost: 2");
    for id in [1, 2, 3] {
        assert!(passes(&mut rig, json!({ "id": id })));
    }
    assert!(!passes(&mut rig, json!({ "id": 3 })));
    assert!(!passes(&mut rig, json!({ "id": 2 })));
    assert!(passes(&mut rig, json!({ "id": 1 })));
}

#[tokio::test(start_paused = true)]
async fn what_lacks_the_field_is_an_error_and_no_repeat() {
    let mut rig = Rig::new(&dedupe(), SERIAL);
    for payload in [json!({}), json!({ "serial": null }), json!(5)] {
        let error = rig.send(of(payload)).unwrap_err();
        assert_eq!(error, "`serial` is missing, by which a message is known");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_lost_on_the_way_is_not_dropped_when_it_comes_again() {
    let mut rig = Rig::new(&dedupe(), SERIAL);
    let (sent, first) = rig.send_tracked(of(json!({ "serial": 1 })));
    let (repeat, second) = rig.send_tracked(of(json!({ "serial": 1 })));
    assert_eq!(repeat.unwrap().len(), 0);
    // The sink was taken away with it.
    drop(sent);
    assert_eq!((first.await, second.await), (Outcome::Lost, Outcome::Lost));
    let (again, third) = rig.send_tracked(of(json!({ "serial": 1 })));
    assert_eq!(settle(again.unwrap()), 1);
    assert_eq!(third.await, Outcome::Delivered);
    let (repeat, fourth) = rig.send_tracked(of(json!({ "serial": 1 })));
    assert_eq!(repeat.unwrap().len(), 0);
    assert_eq!(fourth.await, Outcome::Delivered);
}

#[tokio::test(start_paused = true)]
async fn a_reload_remembers_what_was_delivered_and_nothing_else() {
    let mut rig = Rig::new(&dedupe(), SERIAL);
    assert!(passes(&mut rig, json!({ "serial": 1 })));
    let (_under_way, _) = rig.send_tracked(of(json!({ "serial": 2 })));
    rig.pass(Duration::from_secs(4)).await;
    let mut rig = rig.restart(&dedupe(), SERIAL);
    assert!(!passes(&mut rig, json!({ "serial": 1 })));
    assert!(passes(&mut rig, json!({ "serial": 2 })), "nobody knows whether it arrived");
    rig.pass(Duration::from_secs(6)).await;
    assert!(passes(&mut rig, json!({ "serial": 1 })), "ten seconds are over");
}

#[test]
fn what_is_wrong_is_said() {
    for (text, says) in [
        ("within: 0s", "expected 1ms to 366d"),
        ("within: 400d", "expected 1ms to 366d"),
        ("most: 0", "expected 1 to 1000000"),
        ("fields: [a..b]", "expected a path"),
        ("by: [a, \"b[\"]", "expected a path"),
    ] {
        let found = format!("{:?}", configure(&dedupe(), text).err());
        assert!(found.contains(says), "{text}: {found}");
    }
    let reads = configure(&dedupe(), "fields: [a, b.c]\nby: d").unwrap().fields().reads;
    let reads = reads.iter().map(|read| (&*read.field, &*read.setting)).collect::<Vec<_>>();
    assert_eq!(reads, [("a", "fields[0]"), ("b", "fields[1]"), ("d", "by")]);
    assert!(plugin().sample.contains("type: dedupe"));
}
