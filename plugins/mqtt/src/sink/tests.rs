use std::sync::Mutex;

use forebay_sdk::{
    Shared,
    testing::{build, configure},
};
use futures_util::future::{BoxFuture, FutureExt};
use rumqttc::Publish;
use serde_json::json;

use super::*;
use crate::{CONNECTION, SINK};

#[test]
fn settings_are_checked() {
    let said = |text: &str| configure(&SINK, text).err().unwrap_or_default();
    assert_eq!(said("{}"), <[&str; 0]>::default());
    assert_eq!(said("topic: a/b\nqos: 2\nretain: true\nformat: bytes"), <[&str; 0]>::default());
    assert_eq!(
        said("topic: a/+"),
        ["bad-topic: `topic` cannot be published to [expected a topic without `+` and `#`]"]
    );
    assert_eq!(said("qos: 3"), ["setting-type: `qos` is out of range [expected 0 to 2, found 3]"]);
}

#[test]
fn qos_2_is_not_kept_on_a_session_that_the_broker_keeps() {
    let said = |sink: &str, connection: &str| {
        let connection = configure(&CONNECTION, connection).unwrap();
        let problems = configure(&SINK, sink).unwrap().check_on(&*connection);
        problems.iter().map(|problem| problem.rule).collect::<Vec<_>>()
    };
    let kept = "{ url: mqtt://b, clean_session: false, client_id: a }";
    assert_eq!(said("qos: 2", kept), ["lowered-qos"]);
    assert_eq!(said("qos: 1", kept), <[&str; 0]>::default());
    assert_eq!(said("qos: 2", "url: mqtt://b"), <[&str; 0]>::default());
}

#[test]
fn the_size_of_a_packet_is_what_goes_over_the_wire() {
    for payload_bytes in [0, 1, 120, 121, 122, 123, 16_376, 16_377, 16_378, 2_097_149] {
        for number in 0..=2 {
            let payload = Bytes::from(vec![0; payload_bytes]);
            let mut publish = Publish::from_bytes("a/b", qos(number), payload.clone());
            publish.pkid = u16::from(number > 0);
            assert_eq!(packet_bytes("a/b", &payload, number), publish.size());
        }
    }
}

/// A broker in this process that takes everything, or nothing.
#[derive(Default)]
struct FakeBroker {
    taken: Mutex<Vec<Publication>>,
    stopped: bool,
}

impl PubSub for FakeBroker {
    fn publish(&self, publication: Publication) -> BoxFuture<'_, anyhow::Result<()>> {
        async move {
            anyhow::ensure!(!self.stopped, "not running");
            self.taken.lock().unwrap().push(publication);
            Ok(())
        }
        .boxed()
    }

    fn subscribe(
        &self,
        _: Vec<String>,
        _: u8,
        _: usize,
    ) -> BoxFuture<'_, anyhow::Result<forebay_sdk::Subscription>> {
        unreachable!("a sink subscribes to nothing")
    }
}

async fn write(
    broker: &Arc<FakeBroker>,
    settings: &str,
    batch: &[Message],
) -> Result<(), WriteError> {
    let shared = Shared::new(Arc::new(LocalBroker(Arc::clone(broker) as Arc<dyn PubSub>)));
    let Node::Sink(mut sink) = build(&SINK, settings, Some(shared)) else { unreachable!() };
    sink.connect().await.unwrap();
    sink.write(batch).await
}

#[tokio::test(start_paused = true)]
async fn a_sink_publishes_on_the_broker_in_this_process() {
    let broker = Arc::new(FakeBroker::default());
    let batch = [Message::new("own", json!({"a": 1})), Message::new("other", json!("text"))];
    write(&broker, "qos: 2\nretain: true", &batch).await.unwrap();
    write(&broker, "topic: set\nqos: 0\nformat: text", &batch[1..]).await.unwrap();
    let expected = |topic: &str, payload: &'static str, qos, retain| Publication {
        topic: topic.into(),
        payload: payload.into(),
        qos,
        retain,
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
async fn a_broker_that_is_not_running_is_tried_again() {
    let broker = Arc::new(FakeBroker { stopped: true, ..FakeBroker::default() });
    let failed = write(&broker, "topic: t", &[Message::new("", json!(1))]).await.unwrap_err();
    let WriteError::Retry { error, .. } = failed else { panic!("{failed:?}") };
    assert_eq!(error.to_string(), "not running");
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_another_kind_is_an_error() {
    let shared = Some(Shared::new(Arc::new(7)));
    let Node::Sink(mut sink) = build(&SINK, "topic: t", shared) else { unreachable!() };
    let error = sink.connect().await.unwrap_err();
    assert_eq!(error.to_string(), "the connection is not one that MQTT goes over");
}
