use std::time::Duration;

use forebay_sdk::{
    Delivery, Envelope, Input, Message, Outcome, Timestamp,
    testing::{Rig, configure},
};
use serde_json::{Value, json};

use super::{alarm, plugin};

/// What a message tells: its state, why, and the value.
fn told(envelope: Envelope) -> String {
    Delivery::settle_all(envelope.delivery);
    let payload = envelope.message.payload.value().unwrap().clone();
    let text = |name: &str| payload[name].as_str().unwrap_or_default().to_owned();
    format!("{} {} {}", text("state"), text("why"), payload["value"])
        .replace(" null", "")
        .trim()
        .to_owned()
}

/// Sends these values, one a second, and gives what was told, with the second.
async fn tells(settings: &str, values: &[Value], until: u64) -> Vec<String> {
    let mut rig = Rig::new(&alarm(), settings);
    let mut all = Vec::new();
    for second in 0..until {
        if let Some(value) = values.get(usize::try_from(second).unwrap()) {
            let message = Message::new("a", json!({ "v": value }));
            all.extend(
                rig.send(message)
                    .unwrap()
                    .into_iter()
                    .map(|(_, sent)| format!("{second}: {}", told(sent))),
            );
        }
        let passed = rig.pass(Duration::from_secs(1)).await;
        all.extend(
            passed
                .into_iter()
                .map(|(at, _, sent)| format!("{}: {}", second + at.as_secs(), told(sent))),
        );
    }
    all
}

fn numbers(values: &[f64]) -> Vec<Value> {
    values.iter().map(|value| json!(value)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_told_when_it_is_passed_and_when_the_value_is_back() {
    let values = numbers(&[70.0, 81.0, 85.0, 79.0, 77.9, 90.0]);
    let all = tells("field: v\nabove: 80\nhysteresis: 2", &values, 6).await;
    assert_eq!(all, ["1: raised above 81.0", "4: cleared above 77.9", "5: raised above 90.0"]);
    let all = tells("field: v\nabove: 80\nbelow: 10", &numbers(&[5.0, 90.0, 50.0]), 3).await;
    assert_eq!(
        all,
        [
            "0: raised below 5.0",
            "1: raised above 90.0",
            "1: cleared below 90.0",
            "2: cleared above 50.0"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_does_not_last_is_not_told() {
    let values = numbers(&[90.0, 50.0, 90.0, 90.0, 90.0, 90.0, 50.0, 90.0, 50.0, 50.0]);
    let all = tells("field: v\nabove: 80\nfor: 3s\nclear_for: 2s", &values, 15).await;
    assert_eq!(all, ["5: raised above 90.0", "10: cleared above 50.0"]);
    // By the clock, also when nothing more comes.
    let all = tells("field: v\nabove: 80\nfor: 3s", &numbers(&[90.0]), 10).await;
    assert_eq!(all, ["3: raised above 90.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_state_is_told() {
    let values =
        [json!("run"), json!("fault"), json!("tripped"), json!("run"), json!(1.0), json!(0)];
    let all = tells("field: v\nis: [fault, tripped, 1]", &values, 6).await;
    assert_eq!(
        all,
        [
            r#"1: raised is "fault""#,
            r#"3: cleared is "run""#,
            "4: raised is 1.0",
            "5: cleared is 0"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_value_that_changes_too_fast_is_told() {
    let mut rig = Rig::new(&alarm(), "field: v\nchanges_by: 5\nwithin: 10s");
    let mut at = |second: i64, value: f64| {
        let time = Timestamp::from_unix_nanos(1_795_251_600_000_000_000 + second * 1_000_000_000);
        let message = Message { time, ..Message::new("a", json!({ "v": value })) };
        rig.send(message)
            .unwrap()
            .into_iter()
            .map(|(_, sent)| told(sent))
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert_eq!([at(0, 0.0), at(5, 3.0), at(11, 6.0)], ["", "", ""]);
    assert_eq!(
        [at(14, 0.5), at(20, 1.0), at(30, 1.0)],
        ["raised changes 0.5", "", "cleared changes 1.0"]
    );
}

#[tokio::test(start_paused = true)]
async fn silence_is_told_and_null_is_silence() {
    let values = [json!(1), Value::Null, Value::Null, Value::Null, Value::Null, json!(2)];
    let all = tells("field: v\nsilent_for: 3s\nrepeat: 10s", &values, 20).await;
    assert_eq!(
        all,
        [
            "3: raised silent 1",
            "5: cleared silent 2",
            "8: raised silent 2",
            "18: repeated silent 2"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_alarm_stays_until_it_is_acknowledged() {
    let settings = "field: v\nabove: 80\nby: id\nacknowledge: test2\nrepeat: 5s";
    let mut node = match forebay_sdk::testing::build(&alarm(), settings, None) {
        forebay_sdk::Node::Transform(node) => node,
        _ => panic!("not a transform"),
    };
    let mut out = forebay_sdk::Emitter::default();
    let mut send = |from: &str, payload: Value| {
        let message = Message::new("a", payload);
        node.apply(Input { message, from: from.into() }, &mut out).unwrap();
        out.drain().map(|(_, sent)| told(sent)).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(send("test", json!({ "id": 1, "v": 90 })), "raised above 90");
    assert_eq!(send("test", json!({ "id": 2, "v": 91 })), "raised above 91");
    assert_eq!(send("test", json!({ "id": 1, "v": 50 })), "", "over, and nobody has seen it");
    assert_eq!(send("test2", json!({ "id": 1 })), "acknowledged above 50, cleared above 50");
    assert_eq!(send("test2", json!("all")), "acknowledged above 91");
    assert_eq!(send("test2", json!("all")), "");
    assert_eq!(send("test", json!({ "id": 2, "v": 50 })), "cleared above 50");
    assert_eq!(send("test", json!({ "id": 1, "v": 95 })), "raised above 95");
}

#[tokio::test(start_paused = true)]
async fn too_many_are_told_as_one_and_the_rest_when_it_is_over() {
    let mut rig = Rig::new(&alarm(), "field: v\nabove: 80\nby: id\nstorm: 2\nstorm_within: 60s");
    let mut send = |id: u8, v: u8| {
        let sent = rig.send(Message::new("a", json!({ "id": id, "v": v }))).unwrap();
        sent.into_iter().map(|(_, sent)| told(sent)).collect::<Vec<_>>().join(", ")
    };
    assert_eq!([send(1, 90), send(2, 90)], ["raised above 90", "raised above 90"]);
    assert_eq!([send(3, 91), send(4, 92)], ["storm", ""]);
    assert_eq!(send(1, 50), "cleared above 50", "the end of what was told is told");
    assert_eq!(send(3, 50), "", "that of what was not is not");
    let passed = rig.pass(Duration::from_secs(61)).await;
    let passed: Vec<_> = passed
        .into_iter()
        .map(|(at, _, sent)| format!("{} {}", at.as_secs(), told(sent)))
        .collect();
    assert_eq!(passed, ["60 storm over", "60 raised above 92"]);
}

#[tokio::test(start_paused = true)]
async fn an_alarm_that_was_lost_on_the_way_is_told_when_the_message_comes_again() {
    let mut rig = Rig::new(&alarm(), "field: v\nabove: 80");
    let high = || Message::new("a", json!({ "v": 90 }));
    let (sent, receipt) = rig.send_tracked(high());
    assert_eq!(sent.as_ref().unwrap().len(), 1);
    drop(sent);
    assert_eq!(receipt.await, Outcome::Lost);
    let (sent, receipt) = rig.send_tracked(high());
    assert_eq!(
        sent.unwrap().into_iter().map(|(_, sent)| told(sent)).collect::<Vec<_>>(),
        ["raised above 90"]
    );
    assert_eq!(receipt.await, Outcome::Delivered);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_lost_on_the_way_is_told_when_the_message_comes_again() {
    let mut rig = Rig::new(&alarm(), "field: v\nabove: 80");
    rig.send(Message::new("a", json!({ "v": 90 }))).unwrap();
    let low = || Message::new("a", json!({ "v": 50 }));
    let (sent, receipt) = rig.send_tracked(low());
    assert_eq!(sent.as_ref().unwrap().len(), 1);
    drop(sent);
    assert_eq!(receipt.await, Outcome::Lost);
    for expected in [vec!["cleared above 50"], vec![]] {
        let (sent, receipt) = rig.send_tracked(low());
        let said: Vec<_> = sent.unwrap().into_iter().map(|(_, sent)| told(sent)).collect();
        assert_eq!(said, expected);
        assert_eq!(receipt.await, Outcome::Delivered);
    }
}

#[tokio::test(start_paused = true)]
async fn an_alarm_that_was_under_way_at_a_restart_was_forgotten_when_it_came_again() {
    let mut rig = Rig::new(&alarm(), "field: v\nabove: 80");
    let high = || Message::new("a", json!({ "v": 90 }));
    let (_under_way, _) = rig.send_tracked(high());
    let mut rig = rig.restart(&alarm(), "field: v\nabove: 80");
    let mut tells = || {
        let sent = rig.send(high()).unwrap();
        sent.into_iter().map(|(_, sent)| told(sent)).collect::<Vec<_>>()
    };
    assert_eq!(tells(), ["raised above 90"]);
    assert_eq!(tells(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_told_yet_is_owed_and_survives_a_restart() {
    let settings = "field: v\nabove: 80\nfor: 5s";
    let mut rig = Rig::new(&alarm(), settings);
    let (_, mut receipt) = rig.send_tracked(Message::new("a", json!({ "v": 90 })));
    rig.pass(Duration::from_secs(3)).await;
    assert!(futures_util::FutureExt::now_or_never(&mut receipt).is_none());
    let mut rig = rig.reload(&alarm(), settings);
    let sent = rig.pass(Duration::from_secs(2)).await;
    assert_eq!(
        sent.into_iter().map(|(_, _, sent)| told(sent)).collect::<Vec<_>>(),
        ["raised above 90"]
    );
    assert_eq!(receipt.await, Outcome::Delivered);
    let mut rig = rig.restart(&alarm(), settings);
    let sent = rig.send(Message::new("a", json!({ "v": 50 }))).unwrap();
    assert_eq!(
        sent.into_iter().map(|(_, sent)| told(sent)).collect::<Vec<_>>(),
        ["cleared above 50"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_says_all_that_one_must_know() {
    let mut rig = Rig::new(&alarm(), "field: m.v\nabove: 80\nname: too hot\nby: id");
    let sent = rig.send(Message::new("site/a", json!({ "id": 7, "m": { "v": 81.5 } }))).unwrap();
    let message = &sent[0].1.message;
    let mut payload = message.payload.value().unwrap().clone();
    assert_eq!(payload["since"], payload["time"]);
    payload.as_object_mut().unwrap().retain(|name, _| name != "since" && name != "time");
    let expected = json!({
        "id": 7, "alarm": "too hot", "state": "raised", "active": true, "why": "above", "field": "m.v", "value": 81.5, "limit": 80,
    });
    assert_eq!((&*message.topic, payload), ("site/a", expected));
}

#[test]
fn what_is_wrong_is_said() {
    for (text, says) in [
        ("field: v", "an alarm without a condition is never told"),
        ("field: v\nabove: 5\nbelow: 5", "expected more than `below`, which is 5"),
        ("field: v\nis: [a]\nhysteresis: 1", "goes with `above` or `below`"),
        ("field: v\nabove: 5\nhysteresis: -1", "expected more than nothing"),
        ("field: v\nchanges_by: 5", "`changes_by` says nothing without `within`"),
        ("field: v\nabove: 5\nwithin: 5s", "`within` says nothing without `changes_by`"),
        ("field: v\nis: [[1]]", "no single value"),
        ("field: v\nabove: 5\nfor: 31d", "expected 1ms to 30d"),
        ("above: 5", "`field`"),
    ] {
        let found = format!("{:?}", configure(&alarm(), text).err());
        assert!(found.contains(says), "{text}: {found}");
    }
    let configured = configure(&alarm(), "field: v\nabove: 5\nacknowledge: pannel").unwrap();
    let problems = configured.check_inputs(&["meter", "panel"]);
    assert_eq!(problems[0].instead.as_deref(), Some("panel"));
    assert_eq!(configured.check_inputs(&["pannel"]), []);
    let mut rig = Rig::new(&alarm(), "field: v\nabove: 5\nby: id");
    assert!(
        rig.send(Message::new("a", json!({ "v": 1 }))).unwrap_err().contains("`id` is missing")
    );
    assert_eq!(rig.send(Message::new("a", json!({ "x": 1 }))).unwrap().len(), 0);
    assert!(plugin().sample.contains("type: alarm"));
}
