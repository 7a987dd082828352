//! Publishes messages, on a session with a broker or on a broker in this process.

use std::{any::Any, borrow::Cow, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use forebay_sdk::{
    Capabilities, Format, Links, Message, Node, Problem, Settings, Sink, Size, WriteError,
    connection::{LocalBroker, PubSub, Publication},
};
use rumqttc::{PublishNoticeError, PublishOptions};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::timeout;

use crate::{
    driver::qos,
    session::Session,
    settings::SessionSettings,
    topic::{NoTopic, check_topic, doubts},
};

/// Publishes messages.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkSettings {
    /// Where to publish. The message's own topic when left out.
    pub topic: Option<String>,
    /// 0, 1 or 2. A message is delivered once the broker has acknowledged it; at 0, once it has
    /// left.
    #[serde(default = "default_qos")]
    #[schemars(range(min = 0, max = 2))]
    pub qos: u8,
    /// Whether the broker keeps the message for later subscribers.
    #[serde(default)]
    pub retain: bool,
    /// How payloads are written.
    #[serde(default)]
    pub format: Format,
}

fn default_qos() -> u8 {
    1
}

/// The most messages in one write: as many as may be on their way without an acknowledgement.
const MOST_IN_BATCH: usize = 100;
/// How long the broker may take to acknowledge a message. A broker that answers pings and never
/// acknowledges would hold the sink for ever.
const LONGEST_ANSWER: Duration = Duration::from_secs(300);

impl Settings for SinkSettings {
    fn check(&self) -> Vec<Problem> {
        let Some(topic) = &self.topic else { return Vec::new() };
        match check_topic(topic) {
            Ok(()) => doubts("topic", topic),
            Err(wrong) => vec![wrong.problem("topic", "`topic` cannot be published to")],
        }
    }

    fn check_on(&self, connection: &dyn Any) -> Vec<Problem> {
        let session = connection.downcast_ref::<SessionSettings>();
        if self.qos < 2 || session.is_none_or(|session| session.clean_session) {
            return Vec::new();
        }
        let message = "`qos: 2` is sent as 1 on a session that the broker keeps";
        let label = "expected 1, or `clean_session: true` at the connection";
        let problem = Problem::new("qos", message, label).rule("lowered-qos").warning();
        vec![problem.note("a message may come twice, as with 1")]
    }

    fn capabilities(&self) -> Capabilities {
        let unconfirmed = (self.qos == 0).then_some("`qos: 1` has the broker confirm each message");
        Capabilities { batch_messages: MOST_IN_BATCH, unconfirmed, ..Capabilities::default() }
    }

    fn build(self, links: Links) -> Node {
        let way = match (links.connection::<Session>(), links.connection::<LocalBroker>()) {
            (Some(session), _) => Way::Session(session),
            (None, Some(broker)) => Way::Local(Arc::clone(&broker.0)),
            (None, None) => Way::Nowhere,
        };
        Node::sink(MqttSink { settings: self, way })
    }
}

struct MqttSink {
    settings: SinkSettings,
    way: Way,
}

/// Where messages go.
enum Way {
    Session(Arc<Session>),
    Local(Arc<dyn PubSub>),
    /// The connection is of a type that this build does not know.
    Nowhere,
}

impl Sink for MqttSink {
    async fn connect(&mut self) -> anyhow::Result<()> {
        match &self.way {
            Way::Session(session) => session.wait_up().await,
            Way::Local(_) => Ok(()),
            Way::Nowhere => Err(anyhow!("the connection is not one that MQTT goes over")),
        }
    }

    async fn write(&mut self, batch: &[Message]) -> Result<(), WriteError> {
        let publications =
            batch.iter().map(|message| self.publication(message)).collect::<Result<Vec<_>, _>>()?;
        match &self.way {
            Way::Session(session) => {
                let qos = self.qos_on(session);
                check_sizes(&publications, qos, session.max_packet)?;
                publish(session, publications, qos).await
            }
            Way::Local(broker) => {
                for publication in publications {
                    broker.publish(publication).await?;
                }
                Ok(())
            }
            Way::Nowhere => Err(anyhow!("the connection is not one that MQTT goes over").into()),
        }
    }
}

impl MqttSink {
    /// A broker that remembers the session also remembers the packet ids of a QoS 2 handshake that
    /// a restart cut short. It would take a new message under such an id for the old one, drop it
    /// and acknowledge it. At QoS 1 it remembers nothing.
    fn qos_on(&self, session: &Session) -> u8 {
        match session.clean {
            true => self.settings.qos,
            false => self.settings.qos.min(1),
        }
    }

    fn publication(&self, message: &Message) -> Result<Publication, WriteError> {
        let SinkSettings { topic, qos, retain, format } = &self.settings;
        let topic = match topic {
            Some(topic) => Cow::Borrowed(topic.as_str()),
            None => {
                let topic = &*message.topic;
                check_topic(topic).map_err(|NoTopic { expected, .. }| {
                    WriteError::reject(anyhow!(
                        "the message's topic cannot be published to: {expected}, found `{topic}`"
                    ))
                })?;
                Cow::Borrowed(topic)
            }
        };
        let payload = message.payload.to_bytes(*format);
        Ok(Publication { topic: topic.into(), payload, qos: *qos, retain: *retain })
    }
}

/// Refuses what the session would choke on, before anything of the batch is sent.
fn check_sizes(publications: &[Publication], qos: u8, most: usize) -> Result<(), WriteError> {
    let sizes = publications.iter().map(|p| packet_bytes(&p.topic, &p.payload, qos));
    match sizes.max().filter(|size| *size > most) {
        None => Ok(()),
        Some(size) => {
            let most = Size(most as u64);
            let error =
                anyhow!("a publication of {size} bytes is larger than `max_packet` ({most})");
            Err(WriteError::reject(error))
        }
    }
}

/// How many bytes a PUBLISH takes on the wire (MQTT 3.1.1 section 3.3).
fn packet_bytes(topic: &str, payload: &Bytes, qos: u8) -> usize {
    let packet_id = if qos > 0 { 2 } else { 0 };
    let remaining = 2 + topic.len() + packet_id + payload.len();
    let length_bytes = match remaining {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    };
    1 + length_bytes + remaining
}

/// Publishes all and waits for every acknowledgement.
async fn publish(
    session: &Session,
    publications: Vec<Publication>,
    number: u8,
) -> Result<(), WriteError> {
    let client = session.client()?;
    let lost = || format!("publishing to the broker at {}", session.broker);
    let mut notices = Vec::with_capacity(publications.len());
    for publication in publications {
        let options = PublishOptions::new(qos(number)).retain(publication.retain);
        let notice = client
            .publish_tracked(&*publication.topic, publication.payload, options)
            .await
            .map_err(|_| anyhow!("the connection was lost"))
            .with_context(lost)?;
        notices.push(notice);
    }
    for notice in notices {
        match timeout(LONGEST_ANSWER, notice.wait_completion_async()).await {
            Ok(Ok(())) => (),
            Ok(Err(PublishNoticeError::Recv | PublishNoticeError::SessionReset)) => {
                Err(anyhow!("the connection was lost")).with_context(lost)?;
            }
            Ok(Err(error)) => Err(error).with_context(lost)?,
            Err(_) => {
                let error = || anyhow!("the broker at {} acknowledges nothing", session.broker);
                session.fail(error());
                Err(error())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
