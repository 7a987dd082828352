//! Publish and subscribe as MQTT has it, between a connection that leads to a broker and the nodes
//! on it. A session with a broker far away and the broker in this process look the same from here.
//!
//! A connection offers it as `Shared::new(Arc::new(Broker(..)))`.

use std::{
    any::Any,
    future::{pending, poll_fn},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    node::{WriteError, Written},
    progress::Progress,
    voice::Voice,
};

/// A way to a broker, as the nodes of a connection get to see it.
pub struct Broker(pub Arc<dyn PubSub>);

/// Publish and subscribe.
pub trait PubSub: Any + Send + Sync {
    /// Resolves once the broker can be published to, or with the reason why it cannot.
    fn ready(&self) -> BoxFuture<'_, anyhow::Result<()>>;

    /// Resolves once the broker has taken responsibility for all of them, in this order. At QoS 0,
    /// once they have left. Tells how many at the front it has meanwhile. Dropping the future takes nothing
    /// back.
    fn publish(
        &self,
        batch: Vec<Publication>,
        progress: Progress,
    ) -> BoxFuture<'_, Result<Written, WriteError>>;

    /// The same, and goes on with what comes behind the batch while that is under way. So there is no
    /// pause between batches. For one that cannot be published, `behind` has the reason why it is refused.
    fn publish_on<'a>(
        &'a self,
        batch: Vec<Publication>,
        behind: BoxStream<'a, anyhow::Result<Publication>>,
        progress: Progress,
    ) -> BoxFuture<'a, Result<Written, WriteError>> {
        drop(behind);
        self.publish(batch, progress)
    }

    /// Subscribes, now and whenever the connection is there again. What came for a reader of the same
    /// name that is gone, and was not settled, comes first.
    fn subscribe(&self, wish: Subscribe) -> Box<dyn Subscription>;

    /// Whether the broker can be reached, once that is not as `was` says. The default is for one that always can be.
    fn turned(&self, was: bool) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            if was {
                pending::<()>().await;
            }
            true
        })
    }

    /// Ends the session, so that nothing that is late can be taken for an answer. It is opened anew.
    fn break_off(&self, why: anyhow::Error);
}

/// What a reader wants.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// The node that reads, as `pipeline/node`. Its successor has the same name.
    pub reader: Arc<str>,
    /// Topic filters (MQTT 3.1.1 section 4.7, MQTT 5 section 4.7).
    pub filters: Vec<String>,
    /// How messages come.
    pub manner: Manner,
    /// The most publications that are taken and not settled.
    pub capacity: usize,
    /// Tells what holds the reader up.
    pub voice: Voice,
}

impl Subscribe {
    /// Why the reader takes no more, in words that name the buffer that is full.
    pub fn why_full(&self) -> String {
        let reader = &self.reader;
        match self.voice.held_up_by() {
            Some(node) => format!("the buffer of {node} is full, so {reader} takes no more"),
            None => format!("{reader} has as many on their way as its `in_flight` lets it"),
        }
    }
}

/// How messages come to a reader. All but the QoS is of MQTT 5 (section 3.8.3.1), and left out with
/// brokers of before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// The highest QoS at which they come: 0, 1 or 2.
    pub qos: u8,
    /// Not what this session itself publishes.
    pub no_local: bool,
    /// Marked as retained when they were published so, not only when the broker had kept them.
    pub retain_as_published: bool,
    /// Which of the messages that the broker keeps come.
    pub retained: Retained,
}

impl Manner {
    /// At this QoS, and else as with MQTT 3.1.1.
    pub fn of_qos(qos: u8) -> Manner {
        Manner { qos, ..Manner::default() }
    }

    /// One by which two readers get all that they ask for.
    pub fn with(self, other: Manner) -> Manner {
        Manner {
            qos: self.qos.max(other.qos),
            no_local: self.no_local && other.no_local,
            retain_as_published: self.retain_as_published || other.retain_as_published,
            retained: self.retained.min(other.retained),
        }
    }
}

/// Which of the messages that the broker keeps come when it is asked for a filter. What asks for more
/// comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retained {
    /// All of them, with each new connection.
    #[default]
    Always,
    /// All of them, unless the broker remembers the subscription.
    New,
    /// None.
    Never,
}

/// What comes in for one reader. Dropping it leaves what is not settled to the reader of the same
/// name that takes its place.
pub trait Subscription: Send {
    /// What comes next. When nothing is there yet, the waker of the last call is woken once there
    /// may be.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Event>;
}

impl dyn Subscription + '_ {
    /// What comes next. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Event {
        poll_fn(|context| self.poll_next(context)).await
    }
}

/// What comes in for a reader.
pub enum Event {
    /// The broker granted all that it was asked for and did not refuse.
    Granted,
    /// The broker will not have this filter; it is asked again by itself. What else was granted
    /// stays.
    Refused {
        /// The filter.
        filter: String,
        /// The broker's reason, in words.
        why: String,
    },
    /// A message.
    Parcel(Parcel),
    /// No more can come: whoever serves the subscription is gone. The reader subscribes anew.
    Ended,
}

/// A message for a reader.
pub struct Parcel {
    /// What was published.
    pub publication: Publication,
    /// The broker sent it before.
    pub again: bool,
    /// To be settled once the message is delivered. None at QoS 0, when nobody waits for it.
    pub claim: Option<Box<dyn Claim>>,
}

/// A reader's promise to deliver a message. Dropping it gives the message back: the reader, or
/// whoever takes its place, gets it again.
pub trait Claim: Send {
    /// The message is delivered: the broker may be told.
    fn settle(self: Box<Self>);
}

/// One publication, on its way to or from a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication {
    /// Without wildcards.
    pub topic: Arc<str>,
    /// Opaque to the broker.
    pub payload: Bytes,
    /// 0, 1 or 2.
    pub qos: u8,
    /// On its way to a broker: keep it for later subscribers. From a broker: it was kept.
    pub retain: bool,
    /// What MQTT 5 says beside the payload. None when it says nothing.
    pub properties: Option<Arc<Properties>>,
    /// From a broker: it kept the message, and sends it anew because it was asked once more. It is as it
    /// came last, or as it was published from here.
    pub is_known: bool,
}

impl Publication {
    /// A publication of QoS 0 that is not retained.
    pub fn new(topic: impl Into<Arc<str>>, payload: impl Into<Bytes>) -> Publication {
        let (topic, payload) = (topic.into(), payload.into());
        Publication { topic, payload, qos: 0, retain: false, properties: None, is_known: false }
    }

    /// Sets the QoS: 0, 1 or 2.
    pub fn qos(mut self, qos: u8) -> Publication {
        self.qos = qos;
        self
    }

    /// Has the broker keep it for later subscribers, or says that it was kept.
    pub fn retain(mut self, retain: bool) -> Publication {
        self.retain = retain;
        self
    }

    /// Adds what MQTT 5 says beside the payload.
    pub fn properties(mut self, properties: Properties) -> Publication {
        self.properties = (properties != Properties::default()).then(|| Arc::new(properties));
        self
    }

    /// Whether this can be the other one, sent again. What MQTT 5 says beside the payload may have changed: the time until it
    /// expires goes down.
    pub fn is_same(&self, other: &Publication) -> bool {
        (&self.topic, &self.payload, self.qos, self.retain)
            == (&other.topic, &other.payload, other.qos, other.retain)
    }
}

/// What MQTT 5 says beside the payload (MQTT 5 section 3.3.2.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// The payload is UTF-8 text.
    pub is_text: bool,
    /// Seconds after which the broker need not deliver it any more.
    pub expires_after_seconds: Option<u32>,
    /// What the payload is, such as `application/json`.
    pub content_type: Option<String>,
    /// Where an answer is to be published.
    pub response_topic: Option<String>,
    /// What the answer is to carry, so that the asker knows which it is.
    pub correlation_data: Option<Bytes>,
    /// Names and values of the users' own. A name may come more than once.
    pub user: Vec<(String, String)>,
}
