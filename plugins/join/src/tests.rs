use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Emitter, Format, Input, Message, Node, Payload, Site, Transform,
    testing::{self, build_at, configure},
};
use serde_json::{Value, json};

use super::{join, plugin};

fn node(settings: &str, memory: Option<forebay_sdk::Saved>) -> Box<dyn Transform> {
    let inputs = Arc::from(["meter", "weather.now"].map(Arc::from));
    match build_at(&join(), settings, Site { inputs, memory, ..testing::site(None) }) {
        Node::Transform(node) => node,
        _ => panic!("not a transform"),
    }
}

fn send(
    node: &mut Box<dyn Transform>,
    from: &str,
    payload: impl Into<Payload>,
) -> Result<String, String> {
    let mut out = Emitter::default();
    let message = Message::new(from, payload);
    node.apply(Input { message, from: from.into() }, &mut out)
        .map_err(|error| format!("{error:#}"))?;
    let sent = out.drain().map(|(_, envelope)| {
        String::from_utf8(envelope.message.payload.to_bytes(Format::Json).to_vec()).unwrap()
    });
    Ok(sent.collect::<Vec<_>>().join(" "))
}

fn goes(node: &mut Box<dyn Transform>, from: &str, payload: Value) -> String {
    send(node, from, payload).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_latest_of_all_inputs_go_together() {
    let mut node = node("{}", None);
    assert_eq!(goes(&mut node, "meter", json!({ "kw": 1 })), "", "the other is missing");
    assert_eq!(
        goes(&mut node, "weather.now", json!(21.5)),
        r#"{"meter":{"kw":1},"weather.now":21.5}"#
    );
    assert_eq!(
        goes(&mut node, "meter", json!({ "kw": 2 })),
        r#"{"meter":{"kw":2},"weather.now":21.5}"#
    );
}

#[tokio::test(start_paused = true)]
async fn only_some_inputs_send_when_that_is_said() {
    let mut node = node("send_on: [meter]\nshape: flat", None);
    let long = Payload::encoded(r#"{"kw": 1, "n": 123456789012345678901234567890}"#, Format::Json);
    assert_eq!(send(&mut node, "meter", long.clone()).unwrap(), "");
    assert_eq!(goes(&mut node, "weather.now", json!({ "t": 5, "kw": 9 })), "");
    let flat = r#"{"n":123456789012345678901234567890,"t":5,"kw":9}"#;
    assert_eq!(send(&mut node, "meter", long).unwrap(), flat, "the later entry of `from` counts");
    let error = send(&mut node, "meter", json!(5)).unwrap_err();
    assert_eq!(error, "payload is a number; expected a map to put together with others");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_not_there() {
    let mut all = node("max_age: 10s", None);
    let mut any = node("max_age: 10s\nneed: any", None);
    for node in [&mut all, &mut any] {
        goes(node, "weather.now", json!(1));
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(goes(&mut all, "meter", json!(2)), r#"{"meter":2,"weather.now":1}"#);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(goes(&mut all, "meter", json!(3)), "");
    assert_eq!(goes(&mut any, "meter", json!(3)), r#"{"meter":3}"#);
}

#[tokio::test(start_paused = true)]
async fn each_series_is_joined_with_itself_also_after_a_restart() {
    let mut before = node("by: id", None);
    goes(&mut before, "meter", json!({ "id": 1, "a": 1 }));
    goes(&mut before, "meter", json!({ "id": 2, "a": 2 }));
    let mut node = node("by: id\nshape: flat", before.save());
    assert_eq!(
        goes(&mut node, "weather.now", json!({ "id": 2, "t": 5 })),
        r#"{"a":2,"id":2,"t":5}"#
    );
    assert!(send(&mut node, "meter", json!({})).unwrap_err().starts_with("`id` is missing"));
}

#[tokio::test(start_paused = true)]
async fn no_more_is_remembered_than_there_is_memory_for() {
    let mut node = node("by: id", None);
    let large = |id: u8| json!({ "id": id, "x": "x".repeat(5 << 20) });
    for id in 0..3 {
        goes(&mut node, "meter", large(id));
    }
    assert_eq!(
        send(&mut node, "meter", large(3)).unwrap_err(),
        "what is remembered takes more than 16 MiB"
    );
    goes(&mut node, "meter", large(2));
}

#[test]
fn what_is_wrong_is_said() {
    for (text, says) in [("max_age: 0s", "expected 1ms to 31d"), ("need: some", "need")] {
        let found = format!("{:?}", configure(&join(), text).err());
        assert!(found.contains(says), "{text}: {found}");
    }
    let problems =
        configure(&join(), "send_on: [metre]").unwrap().check_inputs(&["meter", "weather"]);
    assert_eq!(problems[0].label, "expected one of `from`: `meter`, `weather`");
    assert_eq!(problems[0].instead.as_deref(), Some("meter"));
    let problems = configure(&join(), "{}").unwrap().check_inputs(&["meter"]);
    assert_eq!(problems[0].message, "a join of one input puts nothing together");
    assert!(plugin().sample.contains("type: join"));
}
