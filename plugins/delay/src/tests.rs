use std::time::Duration;

use forebay_sdk::{
    Message, Outcome, Site,
    testing::{self, Rig, configure, delivered},
};
use serde_json::{Value, json};

use super::{delay, plugin};

fn of(payload: impl Into<Value>) -> Message {
    Message::new("a", payload.into())
}

async fn later(rig: &mut Rig, seconds: u64) -> Vec<(u64, Value)> {
    let sent = rig.pass(Duration::from_secs(seconds)).await;
    sent.into_iter().map(|(at, _, envelope)| (at.as_secs(), delivered(envelope))).collect()
}

#[tokio::test(start_paused = true)]
async fn each_message_goes_on_later_in_the_order_in_which_they_came() {
    let mut rig = Rig::new(&delay(), "for: 5s");
    rig.send(of(1)).unwrap();
    rig.send(of(2)).unwrap();
    assert_eq!(later(&mut rig, 2).await, []);
    rig.send(of(3)).unwrap();
    assert_eq!(later(&mut rig, 10).await, [(3, json!(1)), (3, json!(2)), (5, json!(3))]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_owed_and_survives_a_reload() {
    let mut rig = Rig::new(&delay(), "for: 5s");
    let (_, mut receipt) = rig.send_tracked(of(1));
    later(&mut rig, 2).await;
    let mut rig = rig.reload(&delay(), "for: 3s");
    assert!(futures_util::FutureExt::now_or_never(&mut receipt).is_none());
    assert_eq!(later(&mut rig, 10).await, [(1, json!(1))]);
    assert_eq!(receipt.await, Outcome::Delivered);
    rig.send(of(2)).unwrap();
    let mut rig = rig.restart(&delay(), "for: 3s");
    assert_eq!(later(&mut rig, 10).await, [(3, json!(2))]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_sent_early_and_said() {
    for full in ["max_messages: 2", "max_bytes: 5000B"] {
        let (voice, heard) = testing::voice();
        let site = Site { voice, ..testing::site(None) };
        let mut rig = Rig::at(&delay(), &format!("for: 5s\n{full}"), site);
        let sent: Vec<Value> = (0..4)
            .flat_map(|n| rig.send(of(json!([n, "x".repeat(2000)]))).unwrap())
            .map(|(_, envelope)| delivered(envelope)[0].clone())
            .collect();
        assert_eq!(sent, [0, 1], "{full}");
        assert!(heard.said().lasting["full"].contains("the oldest are sent before 5s"));
        let rest: Vec<_> =
            later(&mut rig, 5).await.iter().map(|(at, of)| (*at, of[0].clone())).collect();
        assert_eq!(rest, [(5, json!(2)), (5, json!(3))]);
        assert!(heard.said().lasting.is_empty());
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (text, says) in [
        ("for: 0s", "expected 1ms to 7d"),
        ("for: 8d", "expected 1ms to 7d"),
        ("for: 1s\nmax_messages: 0", "expected 1 to 100000"),
        ("for: 1s\nmax_bytes: 1GiB", "expected 1B to 64MiB"),
        ("{}", "`for`"),
    ] {
        let found = format!("{:?}", configure(&delay(), text).err());
        assert!(found.contains(says), "{text}: {found}");
    }
    assert!(plugin().sample.contains("type: delay"));
}
