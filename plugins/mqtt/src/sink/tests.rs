use std::sync::Mutex;

use forebay_sdk::{
    Format, Payload, Progress, Shared,
    mqtt::{PubSub, Subscribe, Subscription},
    testing::{build, configure},
};
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::json;

use super::*;
use crate::sink as sink_type;

#[test]
fn settings_are_checked() {
    let said = |text: &str| configure(&sink_type(), text).err().unwrap_or_default();
    assert_eq!(said("{}"), <[&str; 0]>::default());
    assert_eq!(said("topic: a/b\nqos: 2\nretain: true\nformat: bytes"), <[&str; 0]>::default());
    assert_eq!(
        said("topic: a/+"),
        ["bad-topic: `topic` cannot be published to [expected a topic without `+` and `#`]"]
    );
    assert_eq!(said("qos: 3"), ["setting-type: `qos` is out of range [expected 0 to 2, found 3]"]);
}

/// A broker that takes everything, or nothing.
#[derive(Default)]
struct FakeBroker {
    taken: Mutex<Vec<Publication>>,
    stopped: bool,
    broken_off: Mutex<Vec<String>>,
}

impl PubSub for FakeBroker {
    fn ready(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn publish(
        &self,
        batch: Vec<Publication>,
        _: Progress,
    ) -> BoxFuture<'_, Result<Written, WriteError>> {
        async move {
            if self.stopped {
                return Err(WriteError::retry(anyhow!("not running")));
            }
            self.taken.lock().unwrap().extend(batch);
            Ok(Written::bytes(7))
        }
        .boxed()
    }

    fn subscribe(&self, _: Subscribe) -> Box<dyn Subscription> {
        unreachable!("a sink subscribes to nothing")
    }

    fn break_off(&self, why: anyhow::Error) {
        self.broken_off.lock().unwrap().push(why.to_string());
    }
}

fn sink(broker: &Arc<FakeBroker>, settings: &str) -> Box<dyn forebay_sdk::node::DynSink> {
    let shared = Shared::new(Arc::new(Broker(Arc::clone(broker) as Arc<dyn PubSub>)));
    match build(&sink_type(), settings, Some(shared)) {
        Node::Sink(sink) => sink,
        _ => unreachable!("a sink builds a sink"),
    }
}

async fn write(
    broker: &Arc<FakeBroker>,
    settings: &str,
    batch: &[Message],
) -> Result<Written, WriteError> {
    let mut sink = sink(broker, settings);
    sink.connect().await.unwrap();
    sink.write(batch, &mut Emitter::default()).await
}

#[tokio::test(start_paused = true)]
async fn a_sink_publishes_on_the_broker_in_this_process() {
    let broker = Arc::new(FakeBroker::default());
    let batch = [Message::new("own", json!({"a": 1})), Message::new("other", json!("text"))];
    let written = write(&broker, "qos: 2\nretain: true", &batch).await.unwrap();
    assert_eq!(written, Written::bytes(7));
    write(&broker, "topic: set\nqos: 0\nformat: text", &batch[1..]).await.unwrap();
    let expected = |topic: &str, payload: &'static str, qos, retain| {
        Publication::new(topic, payload).qos(qos).retain(retain)
    };
    assert_eq!(
        *broker.taken.lock().unwrap(),
        [
            expected("own", r#"{"a":1}"#, 2, true),
            expected("other", r#""text""#, 2, true),
            expected("set", "text", 0, false),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn as_published_keeps_qos_and_retain_of_each_message() {
    let broker = Arc::new(FakeBroker::default());
    let came = |mqtt: serde_json::Value| {
        let mut message = Message::new("t", json!(1));
        message.meta.insert("mqtt", mqtt);
        message
    };
    let batch = [
        came(json!({ "qos": 0, "retain": true })),
        came(json!({ "qos": 2, "retain": false })),
        came(json!({})),
        Message::new("t", json!(1)),
    ];
    write(&broker, "qos: 1\nretain: true\nas_published: true", &batch).await.unwrap();
    let taken: Vec<_> = broker.taken.lock().unwrap().iter().map(|it| (it.qos, it.retain)).collect();
    assert_eq!(taken, [(0, true), (1, false), (1, true), (1, true)]);
}

#[tokio::test(start_paused = true)]
async fn as_published_says_of_text_that_it_is_text_as_long_as_it_is() {
    let is_text = async |settings: &str, payload: &'static [u8], mqtt: serde_json::Value| {
        let broker = Arc::new(FakeBroker::default());
        let mut message = Message::new("t", Payload::encoded(payload, Format::Bytes));
        message.meta.insert("mqtt", mqtt);
        write(&broker, settings, &[message]).await.unwrap();
        let taken = broker.taken.lock().unwrap();
        taken[0].properties.as_ref().is_some_and(|properties| properties.is_text)
    };
    let (bridge, said) = ("as_published: true\nformat: bytes", || json!({ "is_text": true }));
    assert!(is_text(bridge, "5 °C".as_bytes(), said()).await);
    assert!(!is_text(bridge, b"\xff", said()).await);
    assert!(!is_text(bridge, b"5", json!({})).await);
    assert!(!is_text("format: bytes", b"5", said()).await);
}

#[tokio::test(start_paused = true)]
async fn as_published_has_a_message_expire_when_it_would_have_where_it_came_from() {
    let waited = |seconds: u64, mqtt: serde_json::Value| {
        let mut message = Message::new("t", json!(1));
        message.time = message.time.earlier(Duration::from_secs(seconds));
        message.meta.insert("mqtt", mqtt);
        message
    };
    let left = async |settings: &str, message: Message| {
        let broker = Arc::new(FakeBroker::default());
        let written = write(&broker, settings, &[message]).await;
        let taken = broker.taken.lock().unwrap();
        let expires = taken.first().map(|it| it.properties.as_ref()?.expires_after_seconds);
        written.map(|_| expires.unwrap())
    };
    let minute = || json!({ "expires_after": 60 });
    assert_eq!(left("as_published: true", waited(50, minute())).await.unwrap(), Some(10));
    assert_eq!(left("as_published: true", waited(0, minute())).await.unwrap(), Some(60));
    assert_eq!(left("as_published: true", waited(50, json!({}))).await.unwrap(), None);
    // Of the message as this sink makes it, nothing has passed.
    assert_eq!(left("{}", waited(50, minute())).await.unwrap(), Some(60));
    let own = "as_published: true\nproperties: { expires_after: 30s }";
    assert_eq!(left(own, waited(50, json!({}))).await.unwrap(), Some(30));
    for seconds in [60, 61, 1_000_000] {
        let refused = left("as_published: true", waited(seconds, minute())).await.unwrap_err();
        let WriteError::Reject(error) = refused else { panic!("{refused:?}") };
        let expected =
            format!("the message has waited for {seconds} s, and was to expire after 60 s");
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_closes_connections_is_refused_whatever_the_broker() {
    let broker = Arc::new(FakeBroker::default());
    let batch = [Message::new("own", json!(1)), Message::new("parts/SN2\r", json!(2))];
    let refused = write(&broker, "{}", &batch).await.unwrap_err();
    let WriteError::Reject(error) = refused else { panic!("{refused:?}") };
    assert_eq!(
        error.to_string(),
        "the message's topic cannot be published to: expected a topic without the character U+000D \
         (a carriage return), found `parts/SN2\\r`"
    );
    assert_eq!(broker.taken.lock().unwrap().len(), 0);
    // Its own topic does not matter where the sink has one.
    write(&broker, "topic: t", &batch).await.unwrap();
}

fn published(broker: &FakeBroker) -> Vec<String> {
    let taken = broker.taken.lock().unwrap();
    let shown = |it: &Publication| format!("{} {}", it.topic, String::from_utf8_lossy(&it.payload));
    taken.iter().map(shown).collect()
}

/// redpanda-data/connect#298, influxdata/telegraf#10732.
#[tokio::test(start_paused = true)]
async fn the_topic_is_filled_in_for_each_message() {
    let broker = Arc::new(FakeBroker::default());
    let settings = "topic: 'site/{meta.device}/{payload.kind}/{topic_level: 2}'";
    let mut batch =
        [Message::new("a/b", json!({"kind": "power"})), Message::new("x/y", json!({"kind": 7}))];
    batch.iter_mut().for_each(|message| message.meta.insert("device", "pump"));
    write(&broker, settings, &batch).await.unwrap();
    let expected = [r#"site/pump/power/b {"kind":"power"}"#, r#"site/pump/7/y {"kind":7}"#];
    assert_eq!(published(&broker), expected);
}

/// vogler75/monster-mq#144: what came from outside was published to a wildcard.
#[tokio::test(start_paused = true)]
async fn a_field_that_would_choose_another_topic_is_refused_with_its_name_and_value() {
    let broker = Arc::new(FakeBroker::default());
    for (kind, why) in
        [("a/b", "a `/`"), ("+", "a `+`"), ("#", "a `#`"), ("a\n", "the character U+000A")]
    {
        let batch = [Message::new("t", json!({"kind": kind}))];
        let refused = write(&broker, "topic: 'site/{kind}'", &batch).await.unwrap_err();
        let WriteError::Reject(error) = refused else { panic!("{refused:?}") };
        assert_eq!(
            error.to_string(),
            format!("`kind` cannot stand in a topic: {kind:?} has {why}")
        );
    }
    assert_eq!(published(&broker), <[&str; 0]>::default());
}

#[test]
fn lint_hears_what_a_topic_reads() {
    let fields = configure(&sink_type(), "topic: '{meta.device}/{kind}/{topic_level: 1}'");
    let configured = fields.unwrap();
    let names = |reads: &[forebay_sdk::FieldRead]| {
        reads.iter().map(|read| format!("{}@{:?}", read.field, read.inside)).collect::<Vec<_>>()
    };
    assert_eq!(names(&configured.meta().reads), ["device@Some((1, 7))"]);
    assert_eq!(names(&configured.fields().reads), ["kind@Some((1, 16))"]);
}

#[tokio::test(start_paused = true)]
async fn a_payload_is_written_in_another_format_and_packed() {
    let broker = Arc::new(FakeBroker::default());
    let batch = [Message::new("t", json!({"a": [1, 2.5]}))];
    for (settings, expected) in [
        ("format: cbor", &b"\xa1\x61a\x82\x01\xf9\x41\x00"[..]),
        ("format: msgpack", b"\x81\xa1a\x92\x01\xca\x40\x20\x00\x00"),
    ] {
        write(&broker, settings, &batch).await.unwrap();
        assert_eq!(broker.taken.lock().unwrap().pop().unwrap().payload, expected);
    }
    for compression in ["gzip", "zstd", "deflate"] {
        write(&broker, &format!("compression: {compression}"), &batch).await.unwrap();
        let packed = broker.taken.lock().unwrap().pop().unwrap().payload;
        let compression = serde_json::from_value(json!(compression)).unwrap();
        let coding = Coding { compression: Some(compression), ..Coding::default() };
        assert_eq!(
            coding.read(packed, 99).unwrap().to_bytes(Default::default()),
            r#"{"a":[1,2.5]}"#
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_not_written_in_another_format() {
    let broker = Arc::new(FakeBroker::default());
    let broken = forebay_sdk::Payload::encoded("{oops", forebay_sdk::Format::Json);
    for settings in ["format: cbor", "format: msgpack", "segments: {}"] {
        let refused = write(&broker, settings, &[Message::new("t", broken.clone())]).await;
        assert!(matches!(refused, Err(WriteError::Reject(_))), "{settings} {refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn readings_go_out_together_as_segments() {
    let broker = Arc::new(FakeBroker::default());
    let message = |topic: &str, n: i64| Message::new(topic, json!({"n": n}));
    let batch = [message("a", 1), message("b", 2), message("a", 3)];
    write(&broker, "segments: {}", &batch).await.unwrap();
    write(&broker, "segments: { as: object, name: readings }", &batch[..1]).await.unwrap();
    let expected = [r#"a [{"n":1},{"n":3}]"#, r#"b [{"n":2}]"#, r#"a {"readings":[{"n":1}]}"#];
    assert_eq!(published(&broker), expected);
    let capabilities = configure(&sink_type(), "segments: { max_messages: 9, max_wait: 5s }");
    let capabilities = capabilities.unwrap().capabilities();
    assert_eq!((capabilities.batch_messages, capabilities.batch_wait.as_secs()), (9, 5));
}

#[test]
fn segments_are_checked() {
    let said = |text: &str| configure(&sink_type(), text).err().unwrap_or_default();
    assert_eq!(
        said("segments: { as: array, max_bytes: 1KiB, max_wait: 1s }"),
        <[&str; 0]>::default()
    );
    assert_eq!(
        said("format: text\nsegments: { name: x, max_bytes: 1B, max_wait: 2d }"),
        [
            "setting-value: `segments` need a format that has lists [expected `json`, `cbor` or `msgpack`]",
            "setting-value: a list has no `segments.name` [expected `as: object` beside it]",
            "setting-value: `segments.max_bytes` is out of range [expected `64B` to `255MiB`]",
            "setting-value: `segments.max_wait` is out of range [expected `10ms` to `1d`]",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_not_running_is_tried_again() {
    let broker = Arc::new(FakeBroker { stopped: true, ..FakeBroker::default() });
    let failed = write(&broker, "topic: t", &[Message::new("", json!(1))]).await.unwrap_err();
    let WriteError::Retry { error, .. } = failed else { panic!("{failed:?}") };
    assert_eq!(error.to_string(), "not running");
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_another_kind_is_an_error() {
    let shared = Some(Shared::new(Arc::new(7)));
    let Node::Sink(mut sink) = build(&sink_type(), "topic: t", shared) else { unreachable!() };
    let error = sink.connect().await.unwrap_err();
    assert_eq!(error.to_string(), "the connection is not one that MQTT goes over");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_broken_off_ends_the_session() {
    let broker = Arc::new(FakeBroker::default());
    sink(&broker, "topic: t").break_off();
    assert_eq!(*broker.broken_off.lock().unwrap(), ["the broker did not take a message in time"]);
}
