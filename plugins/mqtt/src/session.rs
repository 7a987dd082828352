//! What the nodes of a connection share: whether it is up, and the way in and out.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use anyhow::anyhow;
use forebay_sdk::{
    Size, WriteError, Written,
    mqtt::{PubSub, Publication, Subscribe, Subscription},
    node::LONGEST_TRY,
};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::{sync::watch, time::timeout};

use crate::{
    client::{Client, Lost},
    inbound::Inbound,
    topic::check_topic,
};

/// How long the broker may take to acknowledge a message. A broker that answers pings and never
/// acknowledges would hold the sinks for ever.
pub const LONGEST_ANSWER: Duration = Duration::from_secs(60);
/// How long a node waits for the connection. The engine tries on its own meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
// Otherwise the engine stops waiting first, and nobody says what is wrong.
const _: () = assert!(
    LONGEST_ANSWER.as_secs() < LONGEST_TRY.as_secs()
        && LONGEST_WAIT.as_secs() < LONGEST_TRY.as_secs()
);

/// One session with a broker.
pub struct Session {
    /// `host:port`.
    broker: String,
    /// The most bytes of one packet, in both directions.
    max_packet: Size,
    /// Whether the broker forgets the session when the connection ends.
    is_clean: bool,
    /// How long one attempt to connect may take.
    connect_timeout: Duration,
    /// Who reads what comes in.
    pub inbound: Arc<Inbound>,
    link: watch::Sender<Link>,
}

/// How the connection stands.
#[derive(Clone, Default)]
enum Link {
    /// Nothing was tried yet, or the connection was stopped.
    #[default]
    Idle,
    Up(Client),
    /// The last attempt or connection ended with this error.
    Failed(Arc<str>),
}

impl Session {
    pub fn new(
        broker: String,
        max_packet: Size,
        is_clean: bool,
        connect_timeout: Duration,
        inbound: Arc<Inbound>,
    ) -> Session {
        let link = watch::Sender::default();
        Session { broker, max_packet, is_clean, connect_timeout, inbound, link }
    }

    /// The connection is up. `resumed` when the broker remembers the session.
    pub fn up(&self, client: Client, resumed: bool) {
        self.inbound.began(client.clone(), resumed);
        self.link.send_replace(Link::Up(client));
    }

    /// The connection ended with an error.
    pub fn failed(&self, error: &anyhow::Error) {
        self.inbound.ended();
        self.link.send_replace(Link::Failed(format!("{error:#}").into()));
    }

    /// The connection was stopped.
    pub fn stopped(&self) {
        self.inbound.ended();
        self.link.send_if_modified(|link| {
            let was_up = matches!(link, Link::Up(_));
            if was_up {
                *link = Link::Idle;
            }
            was_up
        });
    }

    /// The way out, when the connection is up.
    fn client(&self) -> anyhow::Result<Client> {
        match &*self.link.borrow() {
            Link::Up(client) => Ok(client.clone()),
            Link::Idle => Err(anyhow!("not connected to the broker at {}", self.broker)),
            Link::Failed(error) => Err(anyhow!("{error}")),
        }
    }

    /// Ends the connection, unless it is over already. Nobody writes to it from here on.
    fn fail(&self, client: &Client, error: anyhow::Error) {
        self.link.send_if_modified(|link| {
            let is_up = matches!(link, Link::Up(current) if current.is(client));
            if is_up {
                *link = Link::Failed(format!("{error:#}").into());
            }
            is_up
        });
        client.fail(error);
    }

    /// Waits until the connection is up. Gives the error of the attempt under way when that fails,
    /// or of the last one when nothing happens in time.
    async fn wait_up(&self) -> anyhow::Result<()> {
        let mut link = self.link.subscribe();
        if self.client().is_ok() {
            return Ok(());
        }
        // The engine tries on its own; whoever waits here sees what comes of it.
        let outcome = timeout(self.connect_timeout.min(LONGEST_WAIT), async {
            while link.changed().await.is_ok() {
                if !matches!(&*link.borrow_and_update(), Link::Idle) {
                    return;
                }
            }
        });
        // Either way the link knows more than the outcome.
        let _ = outcome.await;
        self.client().map(|_| ())
    }

    /// A broker that remembers the session also remembers the packet ids of a QoS 2 handshake that
    /// a restart cut short. It would take a new message under such an id for the old one, drop it
    /// and acknowledge it. At QoS 1 it remembers nothing.
    fn qos(&self, publication: &Publication) -> u8 {
        match self.is_clean {
            true => publication.qos,
            false => publication.qos.min(1),
        }
    }

    /// Refuses what the session would choke on. Gives how many bytes all take on the wire.
    fn check(&self, batch: &[Publication]) -> Result<usize, WriteError> {
        let mut checked: Option<&Arc<str>> = None;
        let mut bytes = 0;
        for publication in batch {
            let topic = &publication.topic;
            // Most often all of them go to one topic.
            if !checked.is_some_and(|checked| Arc::ptr_eq(checked, topic)) {
                check_topic(topic).map_err(|wrong| {
                    let expected = wrong.expected;
                    WriteError::reject(anyhow!(
                        "the message's topic cannot be published to: {expected}, found `{topic}`"
                    ))
                })?;
                checked = Some(topic);
            }
            let size = packet_bytes(publication, self.qos(publication));
            if size as u64 > self.max_packet.0 {
                let most = self.max_packet;
                return Err(WriteError::reject(anyhow!(
                    "a publication of {size} bytes is larger than `max_packet` ({most})"
                )));
            }
            bytes += size;
        }
        Ok(bytes)
    }

    /// Publishes all and waits for every acknowledgement.
    async fn publish_all(&self, batch: Vec<Publication>) -> Result<Written, WriteError> {
        let bytes = self.check(&batch)?;
        let client = self.client()?;
        let mut notices = Vec::with_capacity(batch.len());
        let mut outcome = Ok(());
        for publication in batch {
            let qos = self.qos(&publication);
            match self.in_time(&client, client.publish(publication, qos)).await {
                Ok(notice) => notices.push(notice),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        let mut taken = 0;
        for notice in notices {
            if let Err(error) = self.in_time(&client, notice.taken()).await {
                // What went wrong first is the reason.
                return Err(outcome.err().unwrap_or(error)).map_err(|error| error.taken(taken));
            }
            taken += 1;
        }
        outcome.map_err(|error| error.taken(taken))?;
        Ok(Written::bytes(bytes))
    }

    /// Waits for the broker as long as it may take. After that the session is no good.
    async fn in_time<T>(
        &self,
        client: &Client,
        answer: impl Future<Output = Result<T, Lost>>,
    ) -> Result<T, WriteError> {
        let broker = &self.broker;
        let mut answer = pin!(answer);
        // Most answers are there already, and then need no timer.
        let answered = match poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
            Poll::Ready(answered) => Ok(answered),
            Poll::Pending => timeout(LONGEST_ANSWER, answer).await,
        };
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Lost)) => Err(WriteError::retry(
                anyhow!("the connection was lost")
                    .context(format!("publishing to the broker at {broker}")),
            )),
            Err(_) => {
                let error = || anyhow!("the broker at {broker} acknowledges nothing");
                self.fail(client, error());
                Err(WriteError::retry(error()))
            }
        }
    }
}

impl PubSub for Session {
    fn ready(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        self.wait_up().boxed()
    }

    fn publish(&self, batch: Vec<Publication>) -> BoxFuture<'_, Result<Written, WriteError>> {
        self.publish_all(batch).boxed()
    }

    fn subscribe(&self, wish: Subscribe) -> Box<dyn Subscription> {
        Box::new(self.inbound.register(wish))
    }

    fn break_off(&self, why: anyhow::Error) {
        if let Ok(client) = self.client() {
            self.fail(&client, why);
        }
    }
}

/// How many bytes a PUBLISH takes on the wire (MQTT 3.1.1 section 3.3).
fn packet_bytes(publication: &Publication, qos: u8) -> usize {
    let packet_id = if qos > 0 { 2 } else { 0 };
    let remaining = 2 + publication.topic.len() + packet_id + publication.payload.len();
    let length_bytes = match remaining {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    };
    1 + length_bytes + remaining
}

#[cfg(test)]
mod tests {
    use rumqttc::{Publish, QoS};

    use super::*;

    #[test]
    fn the_size_of_a_packet_is_what_goes_over_the_wire() {
        for payload_bytes in [0, 1, 120, 121, 122, 123, 16_376, 16_377, 16_378, 2_097_149] {
            for (number, qos) in
                [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate()
            {
                let publication = Publication::new("a/b", vec![0; payload_bytes]);
                let mut publish = Publish::from_bytes("a/b", qos, publication.payload.clone());
                publish.pkid = u16::from(number > 0);
                assert_eq!(packet_bytes(&publication, number as u8), publish.size());
            }
        }
    }
}
