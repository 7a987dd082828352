use std::sync::Mutex;

use forebay_sdk::{
    Envelope, Shared, Value,
    testing::{Collected, build, configure, outlet},
};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::time::{Instant, timeout};

use super::*;
use crate::SOURCE;

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    match configure(&SOURCE, text) {
        Ok(_) => assert_eq!(expected, <[&str; 0]>::default()),
        Err(said) => assert_eq!(said, expected),
    }
}

#[test]
fn settings_are_checked() {
    check("topics: ['#', $SYS/#, $share/g/a]\nqos: 0\nin_flight: 1\nformat: text", &[]);
    check(
        "topics: []",
        &["setting-type: `topics` has too few entries [expected at least 1, found 0]"],
    );
    check("{}", &["missing-setting: mqtt source needs `topics` [`topics` is missing]"]);
    check(
        "topics: [a, a/#/b, a]",
        &[
            "bad-topic: `topics[1]` cannot be subscribed to [expected `#` only as the whole last level]",
            "repeated-filter: `topics[2]` is there already [the same filter stands above]",
        ],
    );
    check(
        "topics: [plant/a/temp, plant/+/temp, 'x/#', x, y]",
        &[
            "overlapping-filters: `plant/a/temp` is part of what `plant/+/temp` asks for [asked for twice]",
            "overlapping-filters: `x` is part of what `x/#` asks for [asked for twice]",
        ],
    );
    check(
        "topics: [a]\nqos: 3\nin_flight: 0",
        &[
            "setting-type: `qos` is out of range [expected 0 to 2, found 3]",
            "setting-type: `in_flight` is out of range [expected 1 to 65535, found 0]",
        ],
    );
}

/// A broker in this process that hands out one subscription after the other.
#[derive(Default)]
struct FakeBroker {
    subscriptions: Mutex<Vec<Subscription>>,
    asked: Mutex<Vec<(Vec<String>, u8, usize)>>,
}

impl PubSub for FakeBroker {
    fn publish(&self, _: Publication) -> BoxFuture<'_, anyhow::Result<()>> {
        unreachable!("a source publishes nothing")
    }

    fn subscribe(
        &self,
        filters: Vec<String>,
        qos: u8,
        capacity: usize,
    ) -> BoxFuture<'_, anyhow::Result<Subscription>> {
        self.asked.lock().unwrap().push((filters, qos, capacity));
        let next = self.subscriptions.lock().unwrap().pop();
        async move { next.ok_or_else(|| anyhow::anyhow!("not running")) }.boxed()
    }
}

fn publication(payload: &str, qos: u8) -> Publication {
    Publication { topic: "t".into(), payload: payload.to_owned().into(), qos, retain: true }
}

/// A source on a broker in this process, run again whenever it ends.
fn start(broker: &Arc<FakeBroker>, settings: &str) -> (Collected, mpsc::Receiver<String>) {
    let shared = Shared::new(Arc::new(LocalBroker(Arc::clone(broker) as Arc<dyn PubSub>)));
    let Node::Source(mut source) = build(&SOURCE, settings, Some(shared)) else { unreachable!() };
    let (out, collected) = outlet(100);
    let (report, errors) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let error = source.run(&out).await.unwrap_err();
            if report.send(error.to_string()).await.is_err() {
                return;
            }
        }
    });
    (collected, errors)
}

async fn next(collected: &mut Collected) -> Envelope {
    collected.envelopes.recv().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_source_reads_from_the_broker_in_this_process() {
    let broker = Arc::new(FakeBroker::default());
    let (sender, subscription) = mpsc::channel(10);
    broker.subscriptions.lock().unwrap().push(subscription);
    let (mut collected, mut errors) = start(&broker, "topics: [t, u/#]\nqos: 2\nin_flight: 7");
    sender.send(publication("1", 0)).await.unwrap();
    sender.send(publication("2", 2)).await.unwrap();
    let first = next(&mut collected).await;
    assert!(first.delivery.is_none());
    let second = next(&mut collected).await;
    assert_eq!(second.message.payload.value(), Ok(&Value::from(2)));
    let meta = second.message.meta.get("mqtt").unwrap();
    assert_eq!(*meta, json!({ "qos": 2, "retain": true, "dup": false }));
    let asked = broker.asked.lock().unwrap().clone();
    assert_eq!(asked, [(vec!["t".to_owned(), "u/#".to_owned()], 2, 7)]);

    drop(sender);
    assert_eq!(errors.recv().await.unwrap(), "the broker in this process stopped");
    assert_eq!(errors.recv().await.unwrap(), "not running");
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_is_sent_on_again_after_a_growing_pause() {
    let broker = Arc::new(FakeBroker::default());
    let (sender, subscription) = mpsc::channel(10);
    broker.subscriptions.lock().unwrap().push(subscription);
    let (mut collected, _errors) = start(&broker, "topics: [t]");
    sender.send(publication("1", 1)).await.unwrap();
    let mut pauses = Vec::new();
    let mut last = Instant::now();
    for _ in 0..12 {
        drop(next(&mut collected).await);
        let pause = std::mem::replace(&mut last, Instant::now()).elapsed();
        pauses.push(pause);
    }
    assert!(pauses[1] >= FIRST_PAUSE && pauses[2] >= 2 * FIRST_PAUSE, "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE + FIRST_PAUSE), "{pauses:?}");
    next(&mut collected).await.delivery.unwrap().settle();
    let nothing = timeout(2 * LONGEST_PAUSE, collected.envelopes.recv()).await;
    assert!(nothing.is_err());
}

#[tokio::test(start_paused = true)]
async fn no_more_is_taken_than_may_be_unsettled() {
    let broker = Arc::new(FakeBroker::default());
    let (sender, subscription) = mpsc::channel(10);
    broker.subscriptions.lock().unwrap().push(subscription);
    let (mut collected, _errors) = start(&broker, "topics: [t]\nin_flight: 2");
    for number in 0..3 {
        sender.send(publication(&number.to_string(), 1)).await.unwrap();
    }
    let held = [next(&mut collected).await, next(&mut collected).await];
    let nothing = timeout(Duration::from_secs(60), collected.envelopes.recv()).await;
    assert!(nothing.is_err());
    for envelope in held {
        envelope.delivery.unwrap().settle();
    }
    assert_eq!(next(&mut collected).await.message.payload.value(), Ok(&Value::from(2)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_another_kind_is_an_error() {
    let Node::Source(mut source) = build(&SOURCE, "topics: [t]", Some(Shared::new(Arc::new(7))))
    else {
        unreachable!()
    };
    let (out, _collected) = outlet(1);
    let error = source.run(&out).await.unwrap_err();
    assert_eq!(error.to_string(), "the connection is not one that MQTT goes over");
}
