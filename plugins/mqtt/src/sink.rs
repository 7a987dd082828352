//! Publishes messages, whatever the way to the broker is.

use std::{any::Any, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use forebay_sdk::{
    Capabilities, Coding, Configured, Emitter, Exchange, Fields, Message, Node, Problem, Progress,
    Sink, Site, Template, Topics, WriteError, Written,
    mqtt::{Broker, Properties, Publication},
    template::Place,
    topic::check_topic,
};
use futures_util::stream::{StreamExt, poll_fn};

use crate::{
    client::MOST_IN_FLIGHT,
    properties,
    segments::{Segment, Segments},
    session::LONGEST_TRY,
    understood::{self, MqttConnection, needs_version_5, refused_publisher},
};

/// As many as may be on their way without an acknowledgement, several times. What comes behind a batch goes on
/// with it.
const MOST_IN_BATCH: usize = 10 * MOST_IN_FLIGHT as usize;

/// A sink of MQTT, as its settings were understood.
#[derive(Clone, Debug)]
pub struct MqttSink {
    /// The message's own topic when None.
    pub topic: Option<Template>,
    pub qos: u8,
    pub retain: bool,
    /// As far as a message says how it was published, it goes on so.
    pub as_published: bool,
    pub coding: Coding,
    /// What is said beside the payload of each message.
    pub properties: Option<Properties>,
    /// Readings are put together. Each is a message of its own when None.
    pub segments: Option<Segments>,
    /// How long readings wait to be put together.
    pub longest_wait: Duration,
}

impl Configured for MqttSink {
    fn build(&self, site: Site) -> Node {
        Node::sink(Publishing { broker: site.connection(), sink: self.clone() })
    }

    fn capabilities(&self) -> Capabilities {
        let unconfirmed = (self.qos == 0).then_some("`qos: 1` has the broker confirm each message");
        let most = self.segments.as_ref().map(|segments| segments.max_messages);
        Capabilities {
            batch_messages: most.unwrap_or(MOST_IN_BATCH),
            batch_wait: self.longest_wait,
            unconfirmed,
            longest_try: LONGEST_TRY,
            ..Capabilities::default()
        }
    }

    fn fields(&self) -> Fields {
        self.reads(Place::Payload)
    }

    fn meta(&self) -> Fields {
        self.reads(Place::Meta)
    }

    fn topics(&self) -> Topics {
        self.topic.as_ref().map_or(Topics::Kept, |topic| Topics::Made(topic.pattern()))
    }

    fn exchange(&self, connection: &dyn Any) -> Option<Exchange> {
        Some(Exchange { broker: understood::broker(connection), ..Exchange::default() })
    }

    fn check_on(&self, connection: &dyn Any) -> Vec<Problem> {
        let session = connection.downcast_ref::<MqttConnection>();
        let mut problems = match session {
            Some(_) => needs_version_5(connection, self.properties.iter().map(|_| "properties")),
            // The embedded broker passes them on.
            None => Vec::new(),
        };
        // What a topic begins with must be known.
        let topic = self.topic.as_ref().map(Template::pattern);
        let topic = topic.filter(|pattern| !pattern.starts_with('+'));
        problems.extend(refused_publisher(connection, topic.as_deref(), self.qos, self.retain));
        problems
    }
}

impl MqttSink {
    /// What the topic is filled with.
    fn reads(&self, place: Place) -> Fields {
        Fields::passing(self.topic.iter().flat_map(|topic| topic.reads(place, "topic")))
    }
}

struct Publishing {
    sink: MqttSink,
    /// None when the connection is of a type that MQTT does not go over.
    broker: Option<Arc<Broker>>,
}

impl Publishing {
    fn broker(&self) -> anyhow::Result<&Broker> {
        self.broker.as_deref().context("the connection is not one that MQTT goes over")
    }

    /// What each message becomes. An error is the fault of one of them.
    fn segments(&self, batch: &[Message]) -> anyhow::Result<Vec<Segment>> {
        let mut checked = None;
        batch.iter().map(|message| self.segment(message, &mut checked)).collect()
    }

    /// What a message becomes. `checked` is a topic that can be published to.
    fn segment(
        &self,
        message: &Message,
        checked: &mut Option<Arc<str>>,
    ) -> anyhow::Result<Segment> {
        let topic = match &self.sink.topic {
            Some(template) => template.fill(message)?,
            // Most often all of them go to one topic.
            None if checked.as_ref().is_some_and(|last| Arc::ptr_eq(last, &message.topic)) => {
                Arc::clone(&message.topic)
            }
            None => {
                let topic = own_topic(message)?;
                *checked = Some(Arc::clone(&topic));
                topic
            }
        };
        let coding = self.sink.coding;
        let item = match self.sink.segments {
            None => coding.write(&message.payload)?,
            Some(_) => message.payload.to_item(coding.format)?,
        };
        let properties = match self.properties(message) {
            Some(properties) if self.sink.as_published => {
                let properties = properties::still_text(properties, message, &item);
                Some(properties::left(properties, message)?)
            }
            properties => properties,
        };
        Ok(Segment { topic, properties, item })
    }

    fn properties(&self, message: &Message) -> Option<Properties> {
        let (said, settings) = (message.meta.get("mqtt"), &self.sink.properties);
        if said.is_none() && settings.is_none() {
            return None;
        }
        Some(match settings {
            None => properties::read(said, &Properties::default()),
            Some(settings) => properties::read(said, settings),
        })
    }

    /// A message of its own.
    fn single(&self, segment: Segment, message: &Message) -> Publication {
        let publication = self.publication(&segment.topic, segment.item);
        let publication = match self.sink.as_published {
            true => properties::as_published(publication, message),
            false => publication,
        };
        match segment.properties {
            Some(properties) => publication.properties(properties),
            None => publication,
        }
    }

    fn publication(&self, topic: &Arc<str>, payload: Bytes) -> Publication {
        let MqttSink { qos, retain, .. } = self.sink;
        Publication::new(Arc::clone(topic), payload).qos(qos).retain(retain)
    }
}

/// A topic of a message's own, unless a broker would close the connection on it.
fn own_topic(message: &Message) -> anyhow::Result<Arc<str>> {
    let topic = &message.topic;
    match check_topic(topic) {
        Ok(()) => Ok(Arc::clone(topic)),
        Err(wrong) => Err(anyhow!(
            "the message's topic cannot be published to: {}, found `{}`",
            wrong.expected,
            topic.escape_debug()
        )),
    }
}

impl Sink for Publishing {
    async fn connect(&mut self) -> anyhow::Result<()> {
        self.broker()?.0.ready().await
    }

    async fn write(&mut self, batch: &[Message], out: &mut Emitter) -> Result<Written, WriteError> {
        let written = self.segments(batch).map_err(WriteError::Reject)?;
        let broker = self.broker()?;
        let Some(segments) = &self.sink.segments else {
            let pairs = written.into_iter().zip(batch);
            let batch = pairs.map(|(segment, message)| self.single(segment, message)).collect();
            let (progress, mut checked) = (out.progress(), None);
            let behind = poll_fn(|context| progress.poll_behind(context).map(Some));
            let behind = behind.map(|message| {
                let segment = self.segment(&message, &mut checked)?;
                Ok(self.single(segment, &message))
            });
            return broker.0.publish_on(batch, behind.boxed(), progress.clone()).await;
        };
        let grouped = segments.group(written);
        let coding = self.sink.coding;
        let publications = grouped.publications(segments, coding.format, |topic, payload| {
            self.publication(topic, coding.pack(payload))
        });
        // What is told is counted in messages, and these are others.
        let progress = Progress::default();
        broker.0.publish(publications, progress).await.map_err(|error| grouped.in_readings(error))
    }

    fn break_off(&mut self) {
        if let Some(broker) = &self.broker {
            broker.0.break_off(anyhow!("the broker did not take a message in time"));
        }
    }
}

#[cfg(test)]
mod tests;
