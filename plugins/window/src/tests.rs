use std::time::Duration;

use forebay_sdk::{
    Envelope, Message, Outcome, Timestamp,
    testing::{Rig, WallClock, configure, delivered},
};
use serde_json::{Value, json};

use super::{plugin, window};

/// 2026-11-21T09:00:00Z
const START: i64 = 1_795_251_600;
const SECOND: i64 = 1_000_000_000;

fn at(second: i64, payload: Value) -> Message {
    let time = Timestamp::from_unix_nanos((START + second) * SECOND);
    Message { time, ..Message::new("meter", payload) }
}

fn told(envelope: Envelope) -> Value {
    let mut payload = delivered(envelope);
    // Minutes and seconds are enough.
    for name in ["start", "end"] {
        let text = payload[name].as_str().unwrap()[14..19].to_owned();
        payload[name] = text.into();
    }
    payload
}

async fn later(rig: &mut Rig, seconds: u64) -> Vec<(u64, Value)> {
    let sent = rig.pass(Duration::from_secs(seconds)).await;
    sent.into_iter().map(|(passed, _, envelope)| (passed.as_secs(), told(envelope))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_window_ends_by_the_clock_and_tells_what_was_in_it() {
    let _clock = WallClock::at(START);
    let settings = "every: 1m\nlate: 2s\nfields: { p: [mean, max], e: last }";
    let mut rig = Rig::new(&window(), settings);
    assert_eq!(rig.send(at(0, json!({ "p": 1, "e": 10 }))).unwrap().len(), 0);
    later(&mut rig, 59).await;
    rig.send(at(59, json!({ "p": 3 }))).unwrap();
    rig.send(at(61, json!({ "p": 100, "e": 20 }))).unwrap();
    later(&mut rig, 1).await;
    // Read before the end, and come after it.
    rig.send(at(58, json!({ "p": 5, "e": null }))).unwrap();
    let first =
        json!({ "start": "00:00", "end": "01:00", "count": 3, "p_mean": 3, "p_max": 5, "e": 10 });
    let second = json!({ "start": "01:00", "end": "02:00", "count": 1, "p_mean": 100, "p_max": 100, "e": 20 });
    assert_eq!(later(&mut rig, 600).await, [(2, first), (62, second)], "and none that is empty");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_late_is_an_error_that_says_so() {
    let _clock = WallClock::at(START);
    let mut rig = Rig::new(&window(), "every: 1m\nfields: { p: sum }");
    rig.send(at(0, json!({ "p": 1 }))).unwrap();
    assert_eq!(later(&mut rig, 100).await.len(), 1);
    let error = rig.send(at(59, json!({ "p": 1 }))).unwrap_err();
    assert_eq!(error, "its time, 2026-11-21T09:00:59.000Z, lies in a window that was told before");
    let error = rig.send(at(100_000, json!({ "p": 1 }))).unwrap_err();
    assert!(error.ends_with("lies ahead of the clock"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn windows_that_overlap_see_a_message_more_than_once() {
    let _clock = WallClock::at(START);
    let mut rig = Rig::new(&window(), "every: 1m\nlength: 2m\nfields: { p: sum }");
    let (_, mut first) = rig.send_tracked(at(30, json!({ "p": 1 })));
    rig.send(at(90, json!({ "p": 10 }))).unwrap();
    let sums: Vec<Value> =
        later(&mut rig, 62).await.into_iter().map(|(_, told)| told["p"].clone()).collect();
    assert_eq!(sums, [1]);
    assert!(futures_util::FutureExt::now_or_never(&mut first).is_none(), "another window has it");
    let rest = later(&mut rig, 600).await;
    let told: Vec<_> =
        rest.iter().map(|(_, told)| (told["start"].clone(), told["p"].clone())).collect();
    assert_eq!(told, [(json!("00:00"), json!(11)), (json!("01:00"), json!(10))]);
    assert_eq!(first.await, Outcome::Delivered);
}

#[tokio::test(start_paused = true)]
async fn windows_of_messages_and_of_silence() {
    let _clock = WallClock::at(START);
    let mut rig = Rig::new(&window(), "count: 2\ngap: 10s\nfields: { p: sum }");
    rig.send(at(0, json!({ "p": 1 }))).unwrap();
    let (_, sent) = rig.send(at(5, json!({ "p": 2 }))).unwrap().remove(0);
    assert_eq!(told(sent), json!({ "start": "00:00", "end": "00:05", "count": 2, "p": 3 }));
    rig.send(at(6, json!({ "p": 7 }))).unwrap();
    let left = json!({ "start": "00:06", "end": "00:06", "count": 1, "p": 7 });
    assert_eq!(later(&mut rig, 60).await, [(10, left)]);
}

#[tokio::test(start_paused = true)]
async fn a_value_stands_until_the_next() {
    let _clock = WallClock::at(START);
    let settings = "every: 1m\nfields: { kw: [integral, time_mean] }";
    let mut rig = Rig::new(&window(), settings);
    rig.send(at(0, json!({ "kw": 60 }))).unwrap();
    rig.send(at(30, json!({ "kw": 0 }))).unwrap();
    rig.send(at(90, json!({ "kw": 120 }))).unwrap();
    let told: Vec<_> = later(&mut rig, 200).await.into_iter().map(|(_, told)| told).collect();
    assert_eq!((&told[0]["kw_integral"], &told[0]["kw_time_mean"]), (&json!(0.5), &json!(30)));
    assert_eq!((&told[1]["kw_integral"], &told[1]["kw_time_mean"]), (&json!(1), &json!(60)));
}

#[tokio::test(start_paused = true)]
async fn each_series_has_its_own_window_and_says_which_it_is() {
    let _clock = WallClock::at(START);
    let mut rig = Rig::new(&window(), "every: 1m\nby: id\nfields: { '.': count, p: max }");
    assert!(rig.send(at(0, json!({ "id": 1, "p": 1 }))).unwrap_err().starts_with("`.` is a map"));
    let mut rig = Rig::new(&window(), "every: 1m\nby: id\nfields: { p: max }");
    for (id, p) in [(1, 5), (2, 6), (1, 4)] {
        rig.send(at(0, json!({ "id": id, "p": p }))).unwrap();
    }
    let mut told: Vec<_> = later(&mut rig, 70)
        .await
        .iter()
        .map(|(_, told)| (told["id"].as_u64(), told["p"].as_u64()))
        .collect();
    told.sort();
    assert_eq!(told, [(Some(1), Some(5)), (Some(2), Some(6))]);
}

#[tokio::test(start_paused = true)]
async fn an_open_window_survives_a_restart() {
    let _clock = WallClock::at(START);
    let settings = "every: 1m\nfields: { p: sum }";
    let mut rig = Rig::new(&window(), settings);
    rig.send(at(0, json!({ "p": 1 }))).unwrap();
    later(&mut rig, 30).await;
    let mut rig = rig.restart(&window(), "every: 1m\nfields: { p: sum, q: max }");
    rig.send(at(30, json!({ "p": 2, "q": 5 }))).unwrap();
    let told = later(&mut rig, 60).await;
    assert_eq!((told[0].0, &told[0].1["p"], &told[0].1["q"]), (31, &json!(3), &json!(5)));
    let mut rig = Rig::new(&window(), settings);
    rig.send(at(100, json!({ "p": 1 }))).unwrap();
    later(&mut rig, 1000).await;
    // Its window ended while the program was away.
    let (_, receipt) = rig.send_tracked(at(1100, json!({ "p": 4 })));
    let mut rig = rig.reload(&window(), settings);
    let told = later(&mut rig, 200).await;
    assert_eq!(told[0].1["p"], 4);
    assert_eq!(receipt.await, Outcome::Delivered);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_the_clock_was_set_is_in_the_window_of_its_real_time() {
    let clock = WallClock::not_set(5);
    let mut rig = Rig::new(&window(), "every: 1m\nfields: { p: sum }");
    rig.send(Message::new("meter", json!({ "p": 1 }))).unwrap();
    later(&mut rig, 20).await;
    clock.set(START + 20);
    rig.clock_was_moved();
    rig.send(at(20, json!({ "p": 2 }))).unwrap();
    let expected = json!({ "start": "00:00", "end": "01:00", "count": 2, "p": 3 });
    assert_eq!(later(&mut rig, 100).await, [(41, expected)]);
}

#[test]
fn what_is_wrong_is_said() {
    for (text, says) in [
        ("fields: { p: mean }", "expected `every`, `count` or `gap`"),
        ("every: 1m\ncount: 5\nfields: { p: mean }", "two ways to end a window"),
        ("every: 7m\nfields: { p: mean }", "expected what divides a day"),
        ("every: 1h\nlength: 1m\nfields: { p: mean }", "expected at least `every`, which is 1h"),
        ("every: 40d\nfields: { p: mean }", "expected 100ms to 31d"),
        ("count: 5\nlength: 1m\nfields: { p: mean }", "goes with `every`"),
        ("every: 1m\nfields: {}", "expected 1 to 64 fields"),
        ("every: 1m\nfields: { p: avg }", "expected one of min, max, mean"),
        ("every: 1m\nfields: { p: [] }", "fields.p"),
        ("every: 1m\nfields: { p: mean }\nzone: Mars", "expected the name of a time zone"),
        ("every: 1m", "`fields`"),
    ] {
        let found = format!("{:?}", configure(&window(), text).err());
        assert!(found.contains(says), "{text}: {found}");
    }
    assert!(plugin().sample.contains("type: window"));
}
