use forebay_sdk::{
    Message, Payload, Timestamp,
    testing::{Rig, configure},
};
use serde_json::{Value, json};

use super::{counter, plugin};

/// 2026-11-21T09:00:00Z
const START: i64 = 1_795_251_600;

/// What these fields become of values that come at these seconds.
fn counted(settings: &str, came: &[(i64, Value)], field: &str) -> Vec<Value> {
    let mut rig = Rig::new(&counter(), settings);
    came.iter()
        .map(|(second, value)| one(&mut rig, *second, value.clone())[field].clone())
        .collect()
}

fn one(rig: &mut Rig, second: i64, value: Value) -> Value {
    let sent = rig.send(at(second, json!({ "n": value }))).unwrap();
    sent[0].1.message.payload.value().unwrap().clone()
}

fn at(second: i64, payload: Value) -> Message {
    let time = Timestamp::from_unix_nanos((START + second) * 1_000_000_000);
    Message { time, ..Message::new("meter", payload) }
}

fn each_second(values: &[f64]) -> Vec<(i64, Value)> {
    (0..).zip(values.iter().map(|value| json!(value))).collect()
}

#[test]
fn a_total_goes_on_over_resets_and_roll_overs() {
    let total = |settings: &str, values: &[f64]| {
        counted(&format!("field: n\ntotal: t\n{settings}"), &each_second(values), "t")
    };
    assert_eq!(total("", &[100.0, 105.0, 105.0, 3.0, 4.0]), [100, 105, 105, 108, 109]);
    assert_eq!(total("rollover_at: 65536", &[65530.0, 4.0, 10.0]), [65530, 65540, 65546]);
    // Too far to have rolled over: the device began anew.
    assert_eq!(total("rollover_at: 65536", &[30000.0, 4.0]), [30000, 30004]);
    assert_eq!(total("rollover_at: 65536", &[70000.0, 4.0]), [70000, 70004]);
    // Sums of floats do not drift.
    let tenths: Vec<f64> = (0..1000).map(|n| f64::from(n) * 0.1).collect();
    assert_eq!(total("", &tenths).last(), Some(&json!(99.9)));
}

#[test]
fn a_fall_of_what_never_falls_is_an_error_and_changes_nothing() {
    let mut rig = Rig::new(&counter(), "field: n\non_fall: error\ntotal: t\nincrease: i");
    one(&mut rig, 0, json!(500));
    let error = rig.send(at(1, json!({ "n": 0 }))).unwrap_err();
    assert_eq!(error, "`n` fell from 500 to 0, and never begins anew");
    let next = one(&mut rig, 2, json!(501));
    assert_eq!((&next["t"], &next["i"]), (&json!(501), &json!(1)));
}

#[test]
fn increase_and_rate_follow_from_the_value_before() {
    let came = [(0, json!(10.0)), (900, json!(10.5)), (900, json!(11)), (1800, json!(11))];
    let settings = "field: n\nincrease: i\nrate: r\nper: 1h";
    assert_eq!(counted(settings, &came, "i"), [Value::Null, json!(0.5), json!(0.5), json!(0)]);
    let rates = [Value::Null, json!(2), Value::Null, json!(0)];
    assert_eq!(counted(settings, &came, "r"), rates, "two of one moment have no rate");
}

#[test]
fn days_and_months_begin_in_the_zone() {
    const HOUR: i64 = 3600;
    // Midnight of Berlin is 23:00 UTC, 14 hours after the start.
    let came = [
        (0, json!(100)),
        (13 * HOUR, json!(113)),
        (14 * HOUR, json!(114)),
        (15 * HOUR, json!(116)),
        (15 * HOUR + 24 * HOUR, json!(120)),
    ];
    let settings = "field: n\ntoday: d\nthis_month: m\nzone: Europe/Berlin";
    assert_eq!(counted(settings, &came, "d"), [0, 13, 1, 3, 4]);
    assert_eq!(counted(settings, &came, "m"), [0, 13, 14, 16, 20]);
    // A message that comes late does not take the day back.
    let came = [(0, json!(1)), (14 * HOUR, json!(5)), (13 * HOUR, json!(6)), (15 * HOUR, json!(7))];
    assert_eq!(counted(settings, &came, "d"), [0, 4, 5, 6]);
}

#[test]
fn what_could_not_be_read_counts_as_nothing() {
    let came = [(0, json!(10)), (1, Value::Null), (2, json!(12))];
    assert_eq!(counted("field: n\nincrease: i", &came, "i"), [Value::Null, Value::Null, json!(2)]);
    let mut rig = Rig::new(&counter(), "field: n\ntotal: t");
    let sent = rig.send(at(0, json!({ "other": 1 }))).unwrap();
    assert_eq!(sent[0].1.message.payload.value(), Ok(&json!({ "other": 1 })));
    for (payload, says) in [
        (json!({ "n": "12" }), "`n` is a text; expected a number"),
        (json!({ "n": [1] }), "`n` is a list; expected a number"),
    ] {
        assert_eq!(rig.send(at(0, payload)).unwrap_err(), says);
    }
}

#[test]
fn all_else_in_the_payload_stays_as_it_came() {
    let mut rig = Rig::new(&counter(), "field: n\ntotal: t");
    let text = r#"{"n":1.50,"big":123456789012345678901234567890}"#;
    let payload = Payload::encoded(text, forebay_sdk::Format::Json);
    let sent = rig.send(Message::new("a", payload)).unwrap();
    let left = sent[0].1.message.payload.to_bytes(forebay_sdk::Format::Json);
    assert_eq!(left, r#"{"n":1.50,"big":123456789012345678901234567890,"t":1.5}"#);
}

#[test]
fn counting_goes_on_after_a_restart() {
    let settings = "field: n\ntotal: t\nincrease: i\nby: id";
    let of = |id: u8, n: u8| at(0, json!({ "id": id, "n": n }));
    let mut rig = Rig::new(&counter(), settings);
    for (id, n) in [(1, 10), (2, 50), (1, 2)] {
        rig.send(of(id, n)).unwrap();
    }
    let mut rig = rig.restart(&counter(), settings);
    let mut total = |id: u8, n: u8| {
        let sent = rig.send(of(id, n)).unwrap();
        sent[0].1.message.payload.value().unwrap()["t"].clone()
    };
    assert_eq!((total(1, 3), total(2, 51)), (json!(13), json!(51)));
}

#[test]
fn what_is_wrong_is_said() {
    for (text, says) in [
        ("field: n", "a counter that adds no field does nothing"),
        ("field: n\ntotal: a\nrate: a", "`rate` and `total` have one name"),
        ("field: n\ntotal: a.b", "expected a name such as `energy_total`"),
        ("field: '.'\ntotal: t", "a bare number has no room"),
        ("field: n\ntotal: t\nrollover_at: 0", "expected a number above 0"),
        ("field: n\ntotal: t\nper: 0s", "expected a duration"),
        ("field: n\ntotal: t\nzone: Berlin", "expected the name of a time zone"),
        ("total: t", "`field`"),
    ] {
        let found = format!("{:?}", configure(&counter(), text).err());
        assert!(found.contains(says), "{text}: {found}");
    }
    assert!(plugin().sample.contains("type: counter"));
}
