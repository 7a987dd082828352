use std::time::Duration;

use forebay_sdk::{
    Delivery, Message, Outcome,
    testing::{Rig, Sent, configure},
};
use serde_json::{Value, json};

use super::{deadband, plugin};

fn of(payload: Value) -> Message {
    Message::new("site/meter", payload)
}

fn settle(sent: Sent) -> Option<Value> {
    let (_, envelope) = sent.into_iter().next()?;
    Delivery::settle_all(envelope.delivery);
    Some(envelope.message.payload.value().unwrap().clone())
}

/// What goes on of these messages, one a second.
async fn sent(settings: &str, payloads: &[Value]) -> Vec<Option<Value>> {
    let mut rig = Rig::new(&deadband(), settings);
    let mut sent = Vec::new();
    for payload in payloads {
        sent.push(settle(rig.send(of(payload.clone())).unwrap()));
        rig.pass(Duration::from_secs(1)).await;
    }
    sent
}

/// Those of them that go on as they came.
async fn passed(settings: &str, payloads: &[Value]) -> Vec<Value> {
    sent(settings, payloads).await.into_iter().flatten().collect()
}

#[tokio::test(start_paused = true)]
async fn a_message_goes_on_when_one_of_the_fields_has_moved() {
    let of = |a: f64, b: f64| json!({ "a": a, "b": b, "c": a * b });
    let came = [of(1.0, 1.0), of(1.5, 1.0), of(2.1, 1.0), of(2.1, 3.0), of(2.0, 3.0)];
    let went = passed("fields: { a: 1, b: { percent: 50 } }", &came).await;
    assert_eq!(went, [came[0].clone(), came[2].clone(), came[3].clone()]);
    // A slow drift is not lost.
    let drift = [json!(0.0), json!(0.4), json!(0.8), json!(1.2), json!(1.6), json!(2.0)];
    assert_eq!(passed("fields: { '.': 1 }", &drift).await, [json!(0.0), json!(1.2)]);
}

#[tokio::test(start_paused = true)]
async fn fields_that_are_not_named_do_not_decide() {
    let came = [json!({ "a": 1, "x": 1 }), json!({ "a": 1, "x": 2 }), json!({ "x": 3 })];
    let went = passed("fields: { a: 0 }", &came).await;
    assert_eq!(went, [came[0].clone(), came[2].clone()], "one without any of them is not judged");
}

#[tokio::test(start_paused = true)]
async fn only_changes_are_sent_when_asked_for() {
    let came = [
        json!({ "a": 1, "m": { "b": 5, "c": 1 }, "x": 1 }),
        json!({ "a": 1, "m": { "b": 6, "c": 2 }, "x": 2 }),
        json!({ "a": 2, "m": { "b": 6, "c": 3 }, "x": 3 }),
        json!({ "a": 2, "m": { "b": 6, "c": 4 }, "x": 4 }),
    ];
    let went = sent("fields: { a: 0, m.b: 0 }\nsend: changes", &came).await;
    let changes =
        [json!({ "m": { "b": 6, "c": 2 }, "x": 2 }), json!({ "a": 2, "m": { "c": 3 }, "x": 3 })];
    let [second, third] = changes;
    assert_eq!(went, [Some(came[0].clone()), Some(second), Some(third), None]);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_stands_still_is_sent_now_and_then() {
    let still = vec![json!({ "a": 1, "b": 1 }); 10];
    let went =
        sent("fields: { a: 5, b: { abs: 5, max_interval: 4s } }\nmax_interval: 5s", &still).await;
    let at: Vec<usize> = (0..10).filter(|second| went[*second].is_some()).collect();
    assert_eq!(at, [0, 4, 8], "the whole message when one of its fields is due");
}

#[tokio::test(start_paused = true)]
async fn each_series_is_compared_with_itself() {
    let came = [json!({ "id": 1, "a": 1 }), json!({ "id": 2, "a": 9 }), json!({ "id": 1, "a": 1 })];
    assert_eq!(passed("fields: { a: 2 }\nby: id", &came).await.len(), 2);
    let mut rig = Rig::new(&deadband(), "fields: { a: 2 }\nby: id");
    assert!(rig.send(of(json!({ "a": 1 }))).unwrap_err().starts_with("`id` is missing"));
}

#[tokio::test(start_paused = true)]
async fn null_is_sent_when_it_comes_and_when_it_goes() {
    let came = [json!({ "a": 1 }), json!({ "a": null }), json!({ "a": null }), json!({ "a": 1 })];
    let went = passed("fields: { a: 100 }", &came).await;
    assert_eq!(went, [came[0].clone(), came[1].clone(), came[3].clone()]);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_was_lost_on_the_way_is_sent_when_it_comes_again() {
    let mut rig = Rig::new(&deadband(), "fields: { a: 2 }");
    let (sent, first) = rig.send_tracked(of(json!({ "a": 1 })));
    let (near, second) = rig.send_tracked(of(json!({ "a": 2 })));
    assert_eq!(near.unwrap().len(), 0);
    drop(sent);
    assert_eq!((first.await, second.await), (Outcome::Lost, Outcome::Lost));
    let (again, third) = rig.send_tracked(of(json!({ "a": 1 })));
    assert_eq!(settle(again.unwrap()), Some(json!({ "a": 1 })));
    let (near, fourth) = rig.send_tracked(of(json!({ "a": 2 })));
    assert_eq!(near.unwrap().len(), 0);
    assert_eq!((third.await, fourth.await), (Outcome::Delivered, Outcome::Delivered));
}

#[tokio::test(start_paused = true)]
async fn a_reload_goes_on_from_what_was_delivered() {
    let mut rig = Rig::new(&deadband(), "fields: { a: 2 }\nby: id");
    assert!(settle(rig.send(of(json!({ "id": 1, "a": 1 }))).unwrap()).is_some());
    let (_under_way, _) = rig.send_tracked(of(json!({ "id": 2, "a": 1 })));
    let mut rig = rig.restart(&deadband(), "fields: { a: 3, b: 1 }\nby: id");
    assert!(settle(rig.send(of(json!({ "id": 1, "a": 3 }))).unwrap()).is_none());
    assert!(settle(rig.send(of(json!({ "id": 2, "a": 1 }))).unwrap()).is_some());
    assert!(settle(rig.send(of(json!({ "id": 1, "a": 3, "b": 1 }))).unwrap()).is_some());
}

#[test]
fn what_is_wrong_is_said() {
    for (text, says) in [
        ("fields: {}", "expected 1 to 256 fields, found 0"),
        ("fields: { a: -1 }", "expected at least 0"),
        ("fields: { a: { abs: 1, percent: -5 } }", "expected 0 or more in `percent`"),
        ("fields: { a: { absolute: 1 } }", "absolute"),
        ("fields: { a..b: 1 }", "expected a path"),
        ("fields: { 'a[0]': 1 }\nsend: changes", "expected a name"),
        ("{}", "`fields`"),
    ] {
        let found = format!("{:?}", configure(&deadband(), text).err());
        assert!(found.contains(says), "{text}: {found}");
    }
    assert!(plugin().sample.contains("type: deadband"));
}
