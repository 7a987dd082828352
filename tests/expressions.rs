//! Expressions in the settings of `map` and `alarm`: the language comes from another plugin, and lint knows it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{sync::Arc, time::Duration};

use forebay::plugins;
use forebay_sdk::{
    Format, Message, NodeType, Payload, Timestamp,
    testing::{Rig, configure},
};
use serde_json::{Value, json};

fn node_type(name: &str) -> Arc<dyn NodeType> {
    let types = plugins::all().into_iter().flat_map(|plugin| plugin.types);
    let mut named = types.filter(|node_type| node_type.name() == name);
    named.next().expect("it is in this build")
}

/// What a `map` makes of a payload.
fn mapped(settings: &str, payload: &str) -> Result<String, String> {
    let came = Payload::encoded(payload.to_owned(), Format::Json);
    let mut sent = Rig::new(&*node_type("map"), settings).send(Message::new("a/b", came))?;
    let payload = sent.remove(0).1.message.payload.to_bytes(Format::Json);
    Ok(String::from_utf8(payload.to_vec()).unwrap())
}

#[test]
fn a_map_computes_with_several_fields() {
    for (settings, payload, expected) in [
        (
            "fields: { w: { compute: msg.payload.v * msg.payload.a, round: 1 } }",
            r#"{"v":230.5,"a":1.25}"#,
            r#"{"v":230.5,"a":1.25,"w":288.1}"#,
        ),
        (
            "{ rest: drop, fields: { w: { compute: msg.payload.v * 2 }, t: { compute: 'msg.topic + \"!\"' } } }",
            r#"{"v":2}"#,
            r#"{"w":4,"t":"a/b!"}"#,
        ),
        ("fields: { double: { compute: msg.payload * 2.0 } }", "21.5", r#"{"double":43.0}"#),
        (
            "fields: { a: { compute: msg.payload.x, round: 2 } }",
            r#"{"y":1}"#,
            r#"{"y":1,"a":null}"#,
        ),
        (
            "fields: { mean: { compute: 'mean([msg.payload.a, msg.payload.b ?? 0])' } }",
            r#"{"a":1}"#,
            r#"{"a":1,"mean":0.5}"#,
        ),
        (
            "fields: { hot: { compute: msg.payload.t > 80 } }",
            r#"{"t":81}"#,
            r#"{"t":81,"hot":true}"#,
        ),
    ] {
        assert_eq!(mapped(settings, payload), Ok(expected.to_owned()), "{settings}");
    }
    let settings = "fields: { w: { compute: msg.payload.v * msg.payload.a } }";
    let error = mapped(settings, r#"{"v":1}"#).unwrap_err();
    assert!(error.contains("`fields.w.compute`: `msg.payload.a` is missing or null"), "{error}");
    let settings = "fields: { w: { compute: msg.topic, round: 1 } }";
    assert!(mapped(settings, "{}").unwrap_err().contains("`w` is a text; expected a number"));
}

#[test]
fn a_time_that_an_expression_took_before_the_clock_was_set_is_put_right() {
    let mut message = Message::new("a", json!({}));
    message.time = Timestamp::before_clock_was_set(1_794_042_000_123_000_000);
    let settings = "fields: { at: { compute: msg.time } }";
    let mut sent = Rig::new(&*node_type("map"), settings).send(message).unwrap();
    let made = &mut sent[0].1.message;
    made.restamp_by(|_| Timestamp::from_unix_nanos(1_795_251_600_123_000_000));
    assert_eq!(made.payload.value(), Ok(&json!({ "at": 1_795_251_600_123_i64 })));
}

#[test]
fn what_is_wrong_with_an_expression_is_said_by_lint() {
    for (name, settings, says) in [
        (
            "map",
            "fields: { w: { compute: pwr * 2 } }",
            "a field of the payload is `msg.payload.pwr`",
        ),
        (
            "map",
            "fields: { w: { compute: msg.payload.a = 5 } }",
            "expected one expression, such as",
        ),
        ("map", "fields: { w: { compute: let a = 5; a } }", "expected one expression, such as"),
        ("map", "fields: { w: { compute: state.x } }", "expected one expression, such as"),
        (
            "map",
            "fields: { w: { compute: msg.payload.a, scale: 2 } }",
            "does nothing beside `compute`",
        ),
        ("map", "fields: { w: { compute: msg.payload.a, from: a } }", "found `from`, `compute`"),
        ("map", "fields: { w: { compute: rnd(msg.payload.a) } }", "function"),
        ("alarm", "when: msg.payload.a >", "the script ends here"),
        ("alarm", "when: msg.payload.a = 5", "`=` changes a value; `==` compares"),
        ("alarm", "{ when: msg.payload.a > 5, field: a }", "`field` does nothing"),
        ("alarm", "above: 5", "an alarm has no `field` to watch"),
        ("alarm", "field: a", "or `when`"),
    ] {
        let found = format!("{:?}", configure(&*node_type(name), settings).err());
        assert!(found.contains(says), "{settings}: {found}");
    }
    let configured = configure(&*node_type("map"), "fields: { w: { compute: msg.payload.v * 2 } }");
    let reads = configured.unwrap().fields().reads;
    assert_eq!((&*reads[0].field, &*reads[0].setting), ("v", "fields.w.compute"));
}

#[tokio::test(start_paused = true)]
async fn an_alarm_is_told_by_an_expression_over_several_fields() {
    let settings = "when: msg.payload.pump && msg.payload.flow < 1\nfor: 2s\nname: dry";
    let mut rig = Rig::new(&*node_type("alarm"), settings);
    let mut told: Vec<Value> = Vec::new();
    for (pump, flow) in [(true, 5), (true, 0), (true, 0), (true, 0), (true, 0), (false, 0)] {
        let sent = rig.send(Message::new("a", json!({ "pump": pump, "flow": flow }))).unwrap();
        let passed =
            rig.pass(Duration::from_secs(1)).await.into_iter().map(|(_, port, sent)| (port, sent));
        let all = sent.into_iter().chain(passed);
        told.extend(all.map(|(_, sent)| sent.message.payload.value().unwrap().clone()));
    }
    let states: Vec<&str> = told.iter().map(|told| told["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["raised", "cleared"]);
    assert_eq!(told[0]["why"], "when");
    assert_eq!(told[0]["field"], "msg.payload.pump && msg.payload.flow < 1");
    assert_eq!((&told[0]["value"], &told[1]["value"]), (&json!(true), &json!(false)));

    let settings = "field: temp\nabove: 80\nwhen: msg.payload.temp > msg.payload.limit";
    let mut rig = Rig::new(&*node_type("alarm"), settings);
    let sent = rig.send(Message::new("a", json!({ "temp": 90, "limit": 85 }))).unwrap();
    let whys: Vec<Value> = sent
        .into_iter()
        .map(|(_, sent)| sent.message.payload.value().unwrap()["why"].clone())
        .collect();
    assert_eq!(whys, [json!("above"), json!("when")]);
    let error = rig.send(Message::new("a", json!({ "x": true }))).unwrap();
    assert_eq!(error.len(), 0, "what lacks the fields says nothing");
}
