use std::time::Duration;

use forebay_sdk::{
    Message, Outcome,
    testing::{Rig, configure, delivered},
};
use serde_json::{Value, json};

use super::{plugin, throttle};

fn of(payload: impl Into<Value>) -> Message {
    Message::new("meter", payload.into())
}

fn goes(rig: &mut Rig, payload_in: impl Into<Value>) -> bool {
    let sent = rig.send(of(payload_in)).unwrap();
    let payloads: Vec<Value> = sent.into_iter().map(|(_, sent)| delivered(sent)).collect();
    payloads.len() == 1
}

async fn later(rig: &mut Rig, millis: u64) -> Vec<(u128, Value)> {
    let sent = rig.pass(Duration::from_millis(millis)).await;
    sent.into_iter().map(|(at, _, envelope)| (at.as_millis(), delivered(envelope))).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_ones_go_on_and_the_rest_is_dropped() {
    let mut rig = Rig::new(&throttle(), "every: 10s\nmost: 2");
    assert_eq!([1, 2, 3].map(|n| goes(&mut rig, n)), [true, true, false]);
    assert_eq!(later(&mut rig, 9_999).await, []);
    assert!(!goes(&mut rig, 4));
    later(&mut rig, 1).await;
    assert_eq!([5, 6, 7].map(|n| goes(&mut rig, n)), [true, true, false]);
}

#[tokio::test(start_paused = true)]
async fn the_latest_goes_at_the_end() {
    let mut rig = Rig::new(&throttle(), "every: 10s\nsend: latest");
    assert_eq!([1, 2, 3].map(|n| goes(&mut rig, n)), [true, false, false]);
    assert_eq!(later(&mut rig, 5_000).await, []);
    assert!(!goes(&mut rig, 4));
    assert_eq!(later(&mut rig, 15_000).await, [(5_000, json!(4))], "and nothing that did not come");
    assert!(goes(&mut rig, 5), "ten seconds after the last one");
    assert!(!goes(&mut rig, 6));
    assert_eq!(later(&mut rig, 20_000).await, [(10_000, json!(6))]);
}

#[tokio::test(start_paused = true)]
async fn each_series_has_its_own_turn() {
    let mut rig = Rig::new(&throttle(), "every: 10s\nby: id\nsend: latest");
    let of = |id: u8, n: u8| json!({ "id": id, "n": n });
    assert_eq!(
        [goes(&mut rig, of(1, 1)), goes(&mut rig, of(2, 1)), goes(&mut rig, of(2, 2))],
        [true, true, false]
    );
    later(&mut rig, 1_000).await;
    assert!(!goes(&mut rig, of(1, 2)));
    let sent = later(&mut rig, 20_000).await;
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert!(rig.send(Message::new("meter", json!({}))).unwrap_err().contains("`id` is missing"));
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_owed_until_it_is_sent_or_dropped() {
    let mut rig = Rig::new(&throttle(), "every: 10s\nsend: latest");
    goes(&mut rig, 1);
    let (_, mut second) = rig.send_tracked(of(2));
    let is_open = |receipt: &mut forebay_sdk::Receipt| {
        futures_util::FutureExt::now_or_never(receipt).is_none()
    };
    assert!(is_open(&mut second));
    let (_, mut third) = rig.send_tracked(of(3));
    assert_eq!(second.await, Outcome::Delivered, "dropped for a newer one, on purpose");
    let mut rig = rig.reload(&throttle(), "every: 4s\nsend: latest");
    assert!(is_open(&mut third));
    assert_eq!(later(&mut rig, 4_000).await, [(4_000, json!(3))]);
    assert_eq!(third.await, Outcome::Delivered);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_lost_on_the_way_finds_room_when_it_comes_again() {
    let mut rig = Rig::new(&throttle(), "every: 10s");
    let (sent, receipt) = rig.send_tracked(of(1));
    assert_eq!(sent.as_ref().unwrap().len(), 1);
    drop(sent);
    assert_eq!(receipt.await, Outcome::Lost);
    assert_eq!([goes(&mut rig, 1), goes(&mut rig, 2)], [true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_under_way_at_a_restart_found_no_room_when_it_came_again() {
    let mut rig = Rig::new(&throttle(), "every: 10s");
    let (_under_way, _) = rig.send_tracked(of(1));
    let mut rig = rig.restart(&throttle(), "every: 10s");
    assert_eq!([goes(&mut rig, 1), goes(&mut rig, 2)], [true, false]);
}

#[tokio::test(start_paused = true)]
async fn no_more_waits_than_there_is_memory_for() {
    let mut rig = Rig::new(&throttle(), "every: 10s\nsend: latest");
    for n in 0..5 {
        let topic = n.to_string();
        rig.send(Message::new(topic.clone(), json!(0))).unwrap();
        rig.send(Message::new(topic, Value::from("x".repeat(1 << 20)))).unwrap();
    }
    assert_eq!(rig.pass(Duration::from_secs(1)).await.len(), 2, "what goes beyond 4 MiB");
    assert_eq!(rig.pass(Duration::from_secs(10)).await.len(), 3);
}

#[test]
fn what_is_wrong_is_said() {
    for (text, says) in [
        ("every: 0s", "expected 1ms to 366d"),
        ("every: 1s\nmost: 0", "expected 1 to 1000"),
        ("every: 1s\nmost: 2\nsend: latest", "there is one latest message"),
        ("most: 2", "`every`"),
    ] {
        let found = format!("{:?}", configure(&throttle(), text).err());
        assert!(found.contains(says), "{text}: {found}");
    }
    assert!(plugin().sample.contains("type: throttle"));
}
