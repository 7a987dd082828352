use std::sync::Mutex;

use forebay_sdk::{
    Progress, Shared,
    mqtt::{PubSub, Subscribe, Subscription},
    testing::{build, configure},
};
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::json;

use super::*;
use crate::{connection as connection_type, sink as sink_type};

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

#[test]
fn qos_2_is_not_kept_on_a_session_that_the_broker_keeps() {
    let said = |sink: &str, connection: &str| {
        let connection = configure(&connection_type(), connection).unwrap();
        let problems = configure(&sink_type(), sink).unwrap().check_on(&*connection as &dyn Any);
        problems.iter().map(|problem| problem.rule.name).collect::<Vec<_>>()
    };
    let kept = "{ url: mqtt://b, clean_session: false, client_id: a }";
    assert_eq!(said("qos: 2", kept), ["lowered-qos"]);
    assert_eq!(said("qos: 1", kept), <[&str; 0]>::default());
    assert_eq!(said("qos: 2", "url: mqtt://b"), <[&str; 0]>::default());
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
