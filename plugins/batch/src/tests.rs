use std::time::Duration;

use forebay_sdk::{
    Delivery, Envelope, Format, Message, Outcome, Payload,
    testing::{Rig, Sent, WallClock, configure},
};
use serde_json::{Value, json};

use super::{batch, plugin};

fn text(envelope: Envelope) -> String {
    Delivery::settle_all(envelope.delivery);
    String::from_utf8(envelope.message.payload.to_bytes(Format::Json).to_vec()).unwrap()
}

fn of(payload: impl Into<Value>) -> Message {
    Message::new("site/meter", payload.into())
}

fn texts(sent: Result<Sent, String>) -> Vec<String> {
    sent.unwrap().into_iter().map(|(_, envelope)| text(envelope)).collect()
}

async fn later(rig: &mut Rig, seconds: u64) -> Vec<(u64, String)> {
    let sent = rig.pass(Duration::from_secs(seconds)).await;
    sent.into_iter().map(|(at, _, envelope)| (at.as_secs(), text(envelope))).collect()
}

#[tokio::test(start_paused = true)]
async fn so_many_messages_become_one_and_fewer_after_a_while() {
    let mut rig = Rig::new(&batch(), "max_messages: 2\nlongest: 10s");
    assert_eq!(texts(rig.send(of(1))), [""; 0]);
    assert_eq!(texts(rig.send(of(2))), ["[1,2]"]);
    assert_eq!(texts(rig.send(of(3))), [""; 0]);
    later(&mut rig, 5).await;
    assert_eq!(later(&mut rig, 20).await, [(5, "[3]".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_begins_the_next_one() {
    let mut rig = Rig::new(&batch(), "max_bytes: 5B\nlongest: 10s");
    for n in [1, 2] {
        assert_eq!(texts(rig.send(of(n))), [""; 0]);
    }
    assert_eq!(texts(rig.send(of(3))), ["[1,2]"]);
    let large = Value::from("x".repeat(1000));
    assert_eq!(texts(rig.send(of(large))).len(), 2, "what waited, and what fills one by itself");
    assert_eq!(later(&mut rig, 20).await, []);
    let mut rig = Rig::new(&batch(), "max_bytes: 4MiB\nlongest: 10s");
    let early = (0..10).filter(|n| {
        let large = Value::from("x".repeat(2 << 20));
        let message = Message::new(n.to_string(), large);
        !texts(rig.send(message)).is_empty()
    });
    assert_eq!(early.count(), 3, "more than 16 MiB do not wait in many series");
}

#[tokio::test(start_paused = true)]
async fn each_series_is_a_batch_of_its_own() {
    let mut rig = Rig::new(&batch(), "max_messages: 2\nlongest: 10s\nby: id\ninto: readings");
    for id in [1, 2] {
        assert_eq!(texts(rig.send(of(json!({ "id": id })))), [""; 0]);
    }
    assert_eq!(texts(rig.send(of(json!({ "id": 1 })))), [r#"{"readings":[{"id":1},{"id":1}]}"#]);
    assert!(rig.send(of(5)).unwrap_err().starts_with("`id` is missing"));
    let broken = Message::new("a", Payload::encoded("{oops", Format::Json));
    assert!(Rig::new(&batch(), "longest: 1s").send(broken).is_err());
}

#[tokio::test(start_paused = true)]
async fn digits_stay_as_they_came_and_the_last_gives_topic_and_time() {
    let mut rig = Rig::new(&batch(), "max_messages: 2\nlongest: 10s\nby: []\nitems: message");
    let payload = Payload::encoded(r#"{"n": 123456789012345678901234567890}"#, Format::Json);
    let time = forebay_sdk::Timestamp::from_unix_nanos(1_795_251_600_000_000_000);
    let first = Message { time, ..Message::new("a", payload) };
    let second = Message { time, ..Message::new("b", json!("x")) };
    rig.send(first).unwrap();
    let (_, sent) = rig.send(second).unwrap().remove(0);
    assert_eq!((&*sent.message.topic, sent.message.time), ("b", time));
    let at = r#""time":"2026-11-21T09:00:00.000Z""#;
    let items = [
        format!(r#"{{"topic":"a",{at},"payload":{{"n": 123456789012345678901234567890}}}}"#),
        format!(r#"{{"topic":"b",{at},"payload":"x"}}"#),
    ];
    assert_eq!(text(sent), format!("[{}]", items.join(",")));
}

#[tokio::test(start_paused = true)]
async fn the_parts_share_the_fate_of_the_whole_also_over_a_reload() {
    for is_kept in [true, false] {
        let mut rig = Rig::new(&batch(), "longest: 10s");
        let (_, first) = rig.send_tracked(of(1));
        let mut rig = rig.reload(&batch(), "longest: 4s");
        let (_, second) = rig.send_tracked(of(2));
        let mut sent = rig.pass(Duration::from_secs(4)).await;
        let (_, _, sent) = sent.remove(0);
        if is_kept {
            assert_eq!(text(sent), "[1,2]");
        } else {
            drop(sent);
        }
        let outcome = if is_kept { Outcome::Delivered } else { Outcome::Lost };
        assert_eq!((first.await, second.await), (outcome, outcome));
    }
}

#[tokio::test(start_paused = true)]
async fn times_from_before_the_clock_was_set_are_put_right() {
    let clock = WallClock::not_set(50);
    let mut rig = Rig::new(&batch(), "longest: 10s\nitems: message");
    rig.send(of(1)).unwrap();
    let (_, _, mut sent) = rig.pass(Duration::from_secs(10)).await.remove(0);
    assert!(sent.message.payload.value().unwrap()[0]["time"].as_str().unwrap().starts_with("1970"));
    clock.set(1_795_251_610);
    sent.message.restamp();
    let time = sent.message.payload.value().unwrap()[0]["time"].clone();
    assert_eq!(time, "2026-11-21T09:00:00.000Z");
}

#[test]
fn what_is_wrong_is_said() {
    for (text, says) in [
        ("longest: 0s", "expected 1ms to 7d"),
        ("longest: 1s\nmax_messages: 0", "expected 1 to 10000"),
        ("longest: 1s\nmax_bytes: 5MiB", "expected 1B to 4MiB"),
        ("{}", "`longest`"),
    ] {
        let found = format!("{:?}", configure(&batch(), text).err());
        assert!(found.contains(says), "{text}: {found}");
    }
    assert!(plugin().sample.contains("type: batch"));
}
