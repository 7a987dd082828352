//! Publishes messages, whatever the way to the broker is.

use std::{any::Any, sync::Arc};

use anyhow::{Context, anyhow};
use forebay_sdk::{
    Capabilities, Configured, Emitter, Format, Message, Node, Problem, Sink, Site, WriteError,
    Written,
    mqtt::{Broker, Properties, Publication},
};

use crate::{
    client::MOST_IN_FLIGHT,
    properties,
    rules::LOWERED_QOS,
    session::LONGEST_TRY,
    topic::check_topic,
    understood::{MqttConnection, needs_version_5},
};

/// Ten times as many as may be on their way without an acknowledgement: between two batches the line is idle
/// for a round trip.
const MOST_IN_BATCH: usize = 10 * MOST_IN_FLIGHT as usize;

/// A sink of MQTT, as its settings were understood.
#[derive(Clone, Debug)]
pub struct MqttSink {
    /// The message's own topic when None.
    pub topic: Option<Arc<str>>,
    pub qos: u8,
    pub retain: bool,
    pub format: Format,
    /// What is said beside the payload of each message.
    pub properties: Option<Properties>,
}

impl Configured for MqttSink {
    fn build(&self, site: Site) -> Node {
        Node::sink(Publishing { broker: site.connection(), sink: self.clone() })
    }

    fn capabilities(&self) -> Capabilities {
        let unconfirmed = (self.qos == 0).then_some("`qos: 1` has the broker confirm each message");
        let batch_messages = MOST_IN_BATCH;
        let longest_try = LONGEST_TRY;
        Capabilities { batch_messages, unconfirmed, longest_try, ..Capabilities::default() }
    }

    fn check_on(&self, connection: &dyn Any) -> Vec<Problem> {
        let session = connection.downcast_ref::<MqttConnection>();
        let mut problems = match session {
            Some(_) => needs_version_5(connection, self.properties.iter().map(|_| "properties")),
            // The embedded broker passes them on.
            None => Vec::new(),
        };
        if self.qos < 2 || session.is_none_or(|session| session.hello.clean_session) {
            return problems;
        }
        let message = "`qos: 2` is sent as 1 on a session that the broker keeps";
        let label = "expected 1, or `clean_session: true` at the connection";
        let problem = Problem::new("qos", message, label).rule(&LOWERED_QOS).warning();
        problems.push(problem.note("a message may come twice, as with 1"));
        problems
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

    /// Refuses a topic of a message's own on which a broker would close the connection.
    fn check(&self, batch: &[Message]) -> Result<(), WriteError> {
        if self.sink.topic.is_some() {
            return Ok(());
        }
        let mut checked: Option<&Arc<str>> = None;
        for topic in batch.iter().map(|message| &message.topic) {
            // Most often all of them go to one topic.
            if checked.is_some_and(|checked| Arc::ptr_eq(checked, topic)) {
                continue;
            }
            check_topic(topic).map_err(|wrong| {
                let (expected, topic) = (wrong.expected, topic.escape_debug());
                WriteError::reject(anyhow!(
                    "the message's topic cannot be published to: {expected}, found `{topic}`"
                ))
            })?;
            checked = Some(topic);
        }
        Ok(())
    }

    fn publication(&self, message: &Message) -> Publication {
        let MqttSink { topic, qos, retain, format, properties } = &self.sink;
        let topic = topic.as_ref().unwrap_or(&message.topic);
        let publication = Publication::new(Arc::clone(topic), message.payload.to_bytes(*format))
            .qos(*qos)
            .retain(*retain);
        match (message.meta.get("mqtt"), properties) {
            (None, None) => publication,
            (said, None) => publication.properties(properties::read(said, &Properties::default())),
            (said, Some(settings)) => publication.properties(properties::read(said, settings)),
        }
    }
}

impl Sink for Publishing {
    async fn connect(&mut self) -> anyhow::Result<()> {
        self.broker()?.0.ready().await
    }

    async fn write(&mut self, batch: &[Message], out: &mut Emitter) -> Result<Written, WriteError> {
        self.check(batch)?;
        let publications = batch.iter().map(|message| self.publication(message)).collect();
        self.broker()?.0.publish(publications, out.progress()).await
    }

    fn break_off(&mut self) {
        if let Some(broker) = &self.broker {
            broker.0.break_off(anyhow!("the broker did not take a message in time"));
        }
    }
}

#[cfg(test)]
mod tests;
