use std::time::Duration;

use forebay_sdk::{
    Message, Outcome,
    testing::{Rig, configure, delivered},
};
use serde_json::{Value, json};

use super::{debounce, plugin};

fn of(payload: impl Into<Value>) -> Message {
    Message::new("door", payload.into())
}

/// What goes on, and when in milliseconds, of messages that come at these times.
async fn goes(settings: &str, came: &[(u64, Value)], until: u64) -> Vec<(u64, Value)> {
    let mut rig = Rig::new(&debounce(), settings);
    let (mut now, mut went) = (0, Vec::new());
    for (at, value) in came.iter().chain([&(until, Value::Null)]) {
        let sent = rig.pass(Duration::from_millis(at - now)).await;
        let millis = |passed: Duration| now + u64::try_from(passed.as_millis()).unwrap();
        went.extend(sent.into_iter().map(|(passed, _, sent)| (millis(passed), delivered(sent))));
        now = *at;
        if *at < until {
            assert_eq!(rig.send(of(value.clone())).unwrap().len(), 0, "nothing goes at once");
        }
    }
    went
}

#[tokio::test(start_paused = true)]
async fn the_latest_goes_on_once_it_is_quiet() {
    let came = [(0, json!(1)), (300, json!(2)), (600, json!(3)), (5_000, json!(4))];
    let went = goes("quiet: 500ms", &came, 10_000).await;
    assert_eq!(went, [(1_100, json!(3)), (5_500, json!(4))]);
}

#[tokio::test(start_paused = true)]
async fn what_is_never_quiet_is_sent_now_and_then() {
    let came: Vec<_> = (0..10).map(|n| (n * 300, json!(n))).collect();
    let went = goes("quiet: 500ms\nlongest: 1s", &came, 10_000).await;
    assert_eq!(went, [(1_000, json!(3)), (2_200, json!(7)), (3_200, json!(9))]);
}

#[tokio::test(start_paused = true)]
async fn a_value_goes_on_once_it_has_stood_and_only_when_it_is_another() {
    let on = |at: u64, on: bool| (at, json!({ "on": on, "at": at }));
    let came = [
        on(0, false),
        // Bounces.
        on(1_000, true),
        on(1_010, false),
        on(1_020, true),
        // Sent again by the device: no bounce.
        on(1_300, true),
        on(3_000, true),
        // A spike.
        on(4_000, false),
        on(4_100, true),
    ];
    let went = goes("quiet: 500ms\nfield: on", &came, 10_000).await;
    assert_eq!(went, [(500, on(0, false).1), (1_520, on(1_020, true).1)]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_owed_and_survives_a_reload() {
    let mut rig = Rig::new(&debounce(), "quiet: 10s");
    let (_, first) = rig.send_tracked(of(1));
    let (_, mut second) = rig.send_tracked(of(2));
    assert_eq!(first.await, Outcome::Delivered, "dropped for a newer one, on purpose");
    let mut rig = rig.reload(&debounce(), "quiet: 3s");
    assert!(futures_util::FutureExt::now_or_never(&mut second).is_none());
    let sent = rig.pass(Duration::from_secs(3)).await;
    assert_eq!(sent.into_iter().map(|(_, _, sent)| delivered(sent)).collect::<Vec<_>>(), [2]);
    assert_eq!(second.await, Outcome::Delivered);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_was_lost_on_the_way_is_sent_when_it_comes_again() {
    let mut rig = Rig::new(&debounce(), "quiet: 1s\nfield: '.'");
    let (_, receipt) = rig.send_tracked(of(true));
    let sent = rig.pass(Duration::from_secs(1)).await;
    assert_eq!(sent.len(), 1);
    let (_, same) = rig.send_tracked(of(true));
    drop(sent);
    assert_eq!((receipt.await, same.await), (Outcome::Lost, Outcome::Lost));
    let (_, again) = rig.send_tracked(of(true));
    let sent = rig.pass(Duration::from_secs(1)).await;
    assert_eq!(sent.into_iter().map(|(_, _, sent)| delivered(sent)).collect::<Vec<_>>(), [true]);
    assert_eq!(again.await, Outcome::Delivered);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_was_under_way_at_a_restart_was_forgotten_when_it_came_again() {
    let settings = "quiet: 1s\nfield: '.'";
    let mut rig = Rig::new(&debounce(), settings);
    let _ = rig.send_tracked(of(true));
    let _under_way = rig.pass(Duration::from_secs(1)).await;
    let mut rig = rig.restart(&debounce(), settings);
    for expected in [vec![json!(true)], vec![]] {
        rig.send(of(true)).unwrap();
        let sent = rig.pass(Duration::from_secs(1)).await;
        assert_eq!(
            sent.into_iter().map(|(_, _, sent)| delivered(sent)).collect::<Vec<_>>(),
            expected
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_waits_than_there_is_memory_for() {
    let mut rig = Rig::new(&debounce(), "quiet: 10s");
    for n in 0..5 {
        let topic = n.to_string();
        rig.send(Message::new(topic, Value::from("x".repeat(1 << 20)))).unwrap();
    }
    assert_eq!(rig.pass(Duration::from_secs(1)).await.len(), 2, "what goes beyond 4 MiB");
    assert_eq!(rig.pass(Duration::from_secs(10)).await.len(), 3);
}

#[test]
fn what_is_wrong_is_said() {
    for (text, says) in [
        ("quiet: 0s", "expected 1ms to 7d"),
        ("quiet: 1s\nlongest: 1s", "expected more than `quiet`"),
        ("quiet: 1s\nlongest: 2s\nfield: on", "never rests"),
        ("field: on", "`quiet`"),
    ] {
        let found = format!("{:?}", configure(&debounce(), text).err());
        assert!(found.contains(says), "{text}: {found}");
    }
    let mut rig = Rig::new(&debounce(), "quiet: 1s\nfield: on");
    assert!(rig.send(of(json!({}))).unwrap_err().starts_with("`on` is missing"));
    assert!(plugin().sample.contains("type: debounce"));
}
