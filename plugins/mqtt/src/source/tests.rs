use std::{
    sync::Mutex,
    task::{Context, Poll},
    time::Duration,
};

use forebay_sdk::{
    Envelope, Progress, Shared, WriteError, Written,
    mqtt::{Claim, Properties, PubSub},
    testing::{Collected, build, configure, outlet},
};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};

use super::*;
use crate::source as source_type;

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    match configure(&source_type(), text) {
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
        "topics: [a, $share/g/b]\nno_local: true",
        &["setting-value: `no_local` does not go with a shared subscription \
           [expected `false`: who shares hears everybody]"],
    );
    check(
        "topics: [a]\nqos: 3\nin_flight: 0",
        &[
            "setting-type: `qos` is out of range [expected 0 to 2, found 3]",
            "setting-type: `in_flight` is out of range [expected 1 to 65535, found 0]",
        ],
    );
}

#[test]
fn filters_with_names_are_checked_and_named_to_lint() {
    check("topics: [site/+device/power, $share/g/plant/+line/#rest]", &[]);
    check(
        "topics: [site/+a/x, site/+b/x, site/+mqtt]",
        &[
            "repeated-filter: `topics[1]` is there already [the same filter stands above]",
            "bad-topic: `topics[2]` cannot be subscribed to [expected another name: `meta.mqtt` is there already]",
        ],
    );
    let text = "topics: [site/+device/power, plant/+line/#rest]";
    let meta = configure(&source_type(), text).unwrap().meta();
    let names = ["device", "line", "mqtt", "rest"].map(str::to_owned);
    assert_eq!(meta.sends, Sends::Only(names.into()));
}

/// A broker that hands out one subscription after the other.
#[derive(Default)]
struct FakeBroker {
    subscriptions: Mutex<Vec<mpsc::Receiver<Event>>>,
    asked: Mutex<Vec<Subscribe>>,
}

/// Ends when the test drops its side.
struct FakeSubscription(mpsc::Receiver<Event>);

impl Subscription for FakeSubscription {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        self.0.poll_recv(context).map(|event| event.unwrap_or(Event::Ended))
    }
}

impl PubSub for FakeBroker {
    fn ready(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        unreachable!("a source publishes nothing")
    }

    fn publish(
        &self,
        _: Vec<Publication>,
        _: Progress,
    ) -> BoxFuture<'_, Result<Written, WriteError>> {
        unreachable!("a source publishes nothing")
    }

    fn subscribe(&self, wish: Subscribe) -> Box<dyn Subscription> {
        self.asked.lock().unwrap().push(wish);
        Box::new(FakeSubscription(self.subscriptions.lock().unwrap().pop().unwrap()))
    }

    fn break_off(&self, _: anyhow::Error) {
        unreachable!("a source breaks nothing off")
    }
}

/// Tells when it is settled.
struct FakeClaim(mpsc::Sender<()>);

impl Claim for FakeClaim {
    fn settle(self: Box<Self>) {
        // A test that dropped its end does not want to know.
        let _ = self.0.try_send(());
    }
}

/// A message, and how often it was settled.
fn parcel(payload: &str, qos: u8) -> (Event, mpsc::Receiver<()>) {
    let (settled, settled_out) = mpsc::channel(1);
    let publication = Publication::new("t", payload.to_owned()).qos(qos).retain(true);
    let claim = (qos > 0).then(|| Box::new(FakeClaim(settled)) as Box<dyn Claim>);
    (Event::Parcel(Parcel { publication, again: false, claim }), settled_out)
}

/// A source on a broker, run again whenever it ends, and the way into its subscription.
type Started = (Arc<FakeBroker>, mpsc::Sender<Event>, Collected, mpsc::Receiver<String>);

fn start(settings: &str) -> Started {
    start_before(settings, 100)
}

/// The pipeline behind it has room for `room` messages.
fn start_before(settings: &str, room: usize) -> Started {
    let broker = Arc::new(FakeBroker::default());
    let (sender, subscription) = mpsc::channel(10);
    broker.subscriptions.lock().unwrap().push(subscription);
    let shared = Shared::new(Arc::new(Broker(Arc::clone(&broker) as Arc<dyn PubSub>)));
    let Node::Source(mut source) = build(&source_type(), settings, Some(shared)) else {
        unreachable!()
    };
    let (out, collected) = outlet(room);
    let (report, errors) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let error = source.run(&out).await.unwrap_err();
            if report.send(error.to_string()).await.is_err() {
                return;
            }
        }
    });
    (broker, sender, collected, errors)
}

async fn next(collected: &mut Collected) -> Envelope {
    collected.envelopes.recv().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_source_subscribes_and_settles_what_is_delivered() {
    let (broker, sender, mut collected, mut errors) =
        start("topics: [t, u/#]\nqos: 2\nin_flight: 7");
    sender.send(parcel("1", 0).0).await.unwrap();
    let (second, mut settled) = parcel("2", 2);
    sender.send(second).await.unwrap();
    let first = next(&mut collected).await;
    assert!(first.delivery.is_none());
    let second = next(&mut collected).await;
    assert_eq!(second.message.payload.value(), Ok(&Value::from(2)));
    let meta = second.message.meta.get("mqtt").unwrap();
    assert_eq!(*meta, json!({ "qos": 2, "retain": true, "dup": false }));
    let filters = vec!["t".to_owned(), "u/#".to_owned()];
    let asked = || {
        let asked = std::mem::take(&mut *broker.asked.lock().unwrap());
        let is_as_wished = |wish: &Subscribe| {
            (&*wish.reader, wish.manner.qos, wish.capacity) == ("test/node", 2, 7)
                && wish.filters == filters
        };
        assert!(asked.len() == 1 && is_as_wished(&asked[0]), "{asked:?}");
    };
    asked();
    assert!(settled.try_recv().is_err());
    second.delivery.unwrap().settle();
    settled.recv().await.unwrap();

    // Whoever served it is gone: the next run subscribes anew.
    let (_other, subscription) = mpsc::channel(1);
    broker.subscriptions.lock().unwrap().push(subscription);
    drop(sender);
    assert_eq!(errors.recv().await.unwrap(), "nobody serves the subscription any more");
    let nothing = timeout(Duration::from_secs(60), errors.recv()).await;
    assert!(nothing.is_err());
    asked();
}

#[tokio::test(start_paused = true)]
async fn a_refused_filter_is_an_error_and_ends_nothing() {
    let (_broker, sender, mut collected, _errors) = start("topics: [t, secret]");
    let refused = Event::Refused { filter: "secret".to_owned(), why: "not authorized".to_owned() };
    sender.send(refused).await.unwrap();
    sender.send(Event::Granted).await.unwrap();
    sender.send(parcel("1", 1).0).await.unwrap();
    assert_eq!(
        collected.errors.recv().await.unwrap(),
        "the broker refused the subscription to `secret`: not authorized"
    );
    next(&mut collected).await;
}

#[tokio::test(start_paused = true)]
async fn what_mqtt_5_says_beside_the_payload_is_in_the_meta() {
    let (_broker, sender, mut collected, _errors) = start("topics: [t]");
    let user = [("site", "a"), ("unit", "W"), ("site", "b")];
    let user = user.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let properties =
        Properties { user, content_type: Some("text/csv".to_owned()), ..Properties::default() };
    let publication = Publication::new("t", "1").properties(properties);
    let parcel = Parcel { publication, again: false, claim: None };
    sender.send(Event::Parcel(parcel)).await.unwrap();
    let expected = json!({
        "qos": 0, "retain": false, "dup": false,
        "content_type": "text/csv", "user": { "site": ["a", "b"], "unit": "W" },
    });
    assert_eq!(next(&mut collected).await.message.meta.get("mqtt"), Some(&expected));
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_is_sent_on_again_after_a_growing_pause() {
    let (_broker, sender, mut collected, _errors) = start("topics: [t]");
    let (first, mut settled) = parcel("1", 1);
    sender.send(first).await.unwrap();
    let mut pauses = Vec::new();
    let mut last = Instant::now();
    for _ in 0..12 {
        drop(next(&mut collected).await);
        pauses.push(std::mem::replace(&mut last, Instant::now()).elapsed());
    }
    assert!(pauses[1..].is_sorted() && pauses[2] > pauses[1], "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(31)), "{pauses:?}");
    assert!(settled.try_recv().is_err());
    next(&mut collected).await.delivery.unwrap().settle();
    settled.recv().await.unwrap();
    let nothing = timeout(Duration::from_secs(120), collected.envelopes.recv()).await;
    assert!(nothing.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_delivered_is_settled_while_the_next_waits_for_room() {
    let (_broker, sender, mut collected, _errors) = start_before("topics: [t]", 1);
    let (first, mut settled) = parcel("1", 1);
    for event in [first, parcel("2", 1).0, parcel("3", 1).0] {
        sender.send(event).await.unwrap();
    }
    let first = next(&mut collected).await;
    // The second is in the pipeline, and the source waits for room for the third.
    let nothing = timeout(Duration::from_secs(60), settled.recv()).await;
    assert!(nothing.is_err());
    first.delivery.unwrap().settle();
    settled.recv().await.unwrap();
    assert_eq!(collected.envelopes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_another_kind_is_an_error() {
    let shared = Some(Shared::new(Arc::new(7)));
    let Node::Source(mut source) = build(&source_type(), "topics: [t]", shared) else {
        unreachable!()
    };
    let (out, _collected) = outlet(1);
    let error = source.run(&out).await.unwrap_err();
    assert_eq!(error.to_string(), "the connection is not one that MQTT goes over");
}

/// The next message, which is delivered.
async fn taken(collected: &mut Collected) -> Message {
    let Envelope { message, delivery, .. } = next(collected).await;
    forebay_sdk::Delivery::settle_all(delivery);
    message
}

fn on(topic: &str, payload: impl Into<bytes::Bytes>) -> (Event, mpsc::Receiver<()>) {
    let (settled, settled_out) = mpsc::channel(1);
    let publication = Publication::new(topic, payload).qos(1);
    let claim = Some(Box::new(FakeClaim(settled)) as Box<dyn Claim>);
    (Event::Parcel(Parcel { publication, again: false, claim }), settled_out)
}

/// influxdata/telegraf#10716: topics of several lengths could not be told apart.
#[tokio::test(start_paused = true)]
async fn what_stands_in_the_place_of_a_named_wildcard_is_in_meta() {
    let settings =
        "topics: [root/+maker/data/+form, 'root/+maker/data/+form/+/#rest', '+a/b', 'x/+a']";
    let (broker, sender, mut collected, _errors) = start(settings);
    for (topic, expected) in [
        ("root/m/data/f", json!({"maker": "m", "form": "f"})),
        ("root/m/data/f/1/2/3", json!({"maker": "m", "form": "f", "rest": "2/3"})),
        ("x/b", json!({"a": "x"})),
        ("other", json!({})),
    ] {
        sender.send(on(topic, "1").0).await.unwrap();
        let Message { meta, .. } = taken(&mut collected).await;
        let captured = meta.entries().filter(|(name, _)| *name != "mqtt");
        let captured: Map<String, Value> =
            captured.map(|(name, value)| (name.to_owned(), value.clone())).collect();
        assert_eq!(Value::from(captured), expected, "{topic}");
    }
    let asked = broker.asked.lock().unwrap()[0].filters.clone();
    assert_eq!(asked, ["root/+/data/+", "root/+/data/+/+/#", "+/b", "x/+"]);
}

/// node-red/node-red#483: an unsigned number of four bytes was no MessagePack. mqttjs/MQTT.js#481: what
/// pako deflates has the zlib frame.
#[tokio::test(start_paused = true)]
async fn payloads_are_read_in_their_format_and_unpacked() {
    let zlib = b"\x78\x9c\xab\x56\x4a\x54\xb2\xb2\x30\xac\x05\x00\x0a\x2d\x02\x41";
    for (settings, payload, expected) in [
        ("format: msgpack", &b"\xce\x54\x5f\x54\x53"[..], json!(1_415_533_651)),
        ("format: cbor", b"\xa1\x00\x64test", json!({"0": "test"})),
        ("format: cbor", b"\x1b\x00\x00\x01\x98\x73\xdc\x6e\x80", json!(1_754_290_482_816_u64)),
        ("compression: deflate", zlib, json!({"a": 81})),
    ] {
        let (_broker, sender, mut collected, _errors) = start(&format!("topics: [t]\n{settings}"));
        sender.send(on("t", payload).0).await.unwrap();
        let Message { payload, .. } = taken(&mut collected).await;
        assert_eq!(payload.value(), Ok(&expected), "{settings}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_unpack_is_an_error_of_the_source_and_does_not_come_again() {
    let (_broker, sender, mut collected, _errors) = start("topics: [t]\ncompression: gzip");
    let (event, mut settled) = on("t", "no gzip");
    sender.send(event).await.unwrap();
    settled.recv().await.unwrap();
    let error = collected.errors.recv().await.unwrap();
    assert!(error.starts_with("payload cannot be unpacked as gzip: "), "{error}");
    assert!(collected.envelopes.try_recv().is_err());
}
