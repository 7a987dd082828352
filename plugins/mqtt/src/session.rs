//! What the nodes of a connection share: whether it is up, and the way in and out.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use anyhow::anyhow;
use forebay_sdk::{
    Size, Voice, WriteError, Written,
    connection::Down,
    mqtt::{PubSub, Publication, Subscribe, Subscription},
};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    client::{Client, Lost},
    inbound::Inbound,
    pace::{LONGEST_CALM, Pace},
    words::HungUp,
};

/// How long the broker may take to acknowledge a message. A broker that answers pings and never
/// acknowledges would hold the sinks for ever.
pub const LONGEST_ANSWER: Duration = Duration::from_secs(60);
/// How long a node waits for the connection, which the engine tries on its own meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How long a sink may take for anything. Otherwise the engine stops waiting first, and nobody says
/// what is wrong.
pub const LONGEST_TRY: Duration = Duration::from_secs(600);
const _: () = assert!(
    LONGEST_ANSWER.as_secs() + LONGEST_CALM.as_secs() < LONGEST_TRY.as_secs()
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
    /// Who reads what comes in.
    pub inbound: Arc<Inbound>,
    link: watch::Sender<Link>,
    /// How fast it is published.
    pace: Pace,
    voice: Voice,
}

/// How the connection stands.
#[derive(Clone, Default)]
enum Link {
    /// Nothing was tried yet, or the connection was stopped.
    #[default]
    Idle,
    /// Since then.
    Up(Client, Instant),
    /// The last attempt or connection ended with this error, and by whom.
    Failed(Arc<str>, End),
}

/// Who ended a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The broker, without a word.
    HungUp,
    Otherwise,
}

impl Session {
    pub fn new(
        broker: String,
        max_packet: Size,
        is_clean: bool,
        inbound: Arc<Inbound>,
        voice: Voice,
    ) -> Session {
        let (link, pace) = (watch::Sender::default(), Pace::default());
        Session { broker, max_packet, is_clean, inbound, link, pace, voice }
    }

    /// The connection is up: whoever publishes may.
    pub fn up(&self, client: Client) {
        self.link.send_replace(Link::Up(client, Instant::now()));
    }

    /// The connection ended with an error.
    pub fn failed(&self, error: &anyhow::Error) {
        self.inbound.ended();
        let end = if error.is::<HungUp>() { End::HungUp } else { End::Otherwise };
        self.link.send_replace(Link::Failed(format!("{error:#}").into(), end));
    }

    /// The connection was stopped.
    pub fn stopped(&self) {
        self.inbound.ended();
        self.link.send_if_modified(|link| {
            let was_up = matches!(link, Link::Up(..));
            if was_up {
                *link = Link::Idle;
            }
            was_up
        });
    }

    /// The way out, when the connection is up.
    fn client(&self) -> Result<Client, Down> {
        match &*self.link.borrow() {
            Link::Up(client, _) => Ok(client.clone()),
            Link::Idle => Err(Down::new(format!("not connected to the broker at {}", self.broker))),
            Link::Failed(error, _) => Err(Down::new(Arc::clone(error))),
        }
    }

    /// Ends the connection, unless it is over already. Nobody writes to it from here on.
    fn fail(&self, client: &Client, error: anyhow::Error) {
        self.link.send_if_modified(|link| {
            let is_up = matches!(link, Link::Up(current, _) if current.is(client));
            if is_up {
                *link = Link::Failed(format!("{error:#}").into(), End::Otherwise);
            }
            is_up
        });
        client.fail(error);
    }

    /// Waits until the connection is up, however often the engine has to try.
    async fn wait_up(&self) -> anyhow::Result<()> {
        let mut link = self.link.subscribe();
        let up = link.wait_for(|link| matches!(link, Link::Up(..)));
        // Either way the link knows more than the outcome.
        let _ = timeout(LONGEST_WAIT, up).await;
        self.client()?;
        Ok(())
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
        let mut bytes = 0;
        for publication in batch {
            let size = packet_bytes(publication, self.qos(publication));
            if let Some(times) = self.pace.refuses(publication) {
                return Err(WriteError::reject(self.guess(publication, size, times)));
            }
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

    /// What is likely the matter with a message on which the broker hangs up.
    fn guess(&self, publication: &Publication, size: usize, times: u32) -> anyhow::Error {
        let Publication { topic, retain, .. } = publication;
        let mut causes = format!(
            "it may not take messages of {size} bytes, or nothing of this client on `{}`",
            topic.escape_debug()
        );
        if *retain {
            causes += ", or no retained messages";
        }
        if self.qos(publication) == 2 {
            causes += ", or no QoS 2";
        }
        let broker = &self.broker;
        anyhow!(
            "the broker at {broker} closed the connection each of the {times} times that this message \
             was sent to it alone: {causes}"
        )
    }

    /// Publishes all and waits for every acknowledgement.
    async fn publish_all(&self, batch: &[Publication]) -> Result<Written, WriteError> {
        let bytes = self.check(batch)?;
        let mut taken = 0;
        while taken < batch.len() {
            let rest = &batch[taken..];
            taken += self.publish_some(rest).await.map_err(|error| behind(error, taken))?;
        }
        Ok(Written::bytes(bytes))
    }

    /// Publishes as many as may go at once, and gives how many those are.
    async fn publish_some(&self, batch: &[Publication]) -> Result<usize, WriteError> {
        self.see_calm(&batch[0]).await?;
        let turn = self.pace.turn(batch).await;
        let some = &batch[..turn.most];
        let client = self.client()?;
        // An acknowledgement is read even when nobody has room for the messages in front of it.
        let _awaited = self.inbound.gate.await_answer();
        let mut notices = Vec::with_capacity(some.len());
        let mut outcome = Ok(());
        for publication in some {
            let qos = self.qos(publication);
            match self.in_time(&client, client.publish(publication.clone(), qos)).await {
                Ok(notice) => notices.push(notice),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        let mut taken = 0;
        for notice in notices {
            match self.in_time(&client, notice.taken()).await {
                Ok(()) => taken += 1,
                Err(error) => {
                    // What went wrong first is the reason.
                    outcome = outcome.and(Err(error));
                    break;
                }
            }
        }
        self.pace.passed(&some[..taken]);
        // At QoS 0 nobody has said so.
        if some[..taken].iter().any(|publication| publication.qos > 0) {
            self.voice.works();
        }
        if outcome.is_err() {
            self.pace.lost();
            if let Some(single) = turn.single(batch).filter(|_| self.was_hung_up()) {
                self.pace.hung_up_on(single);
            }
        }
        outcome.map(|()| taken).map_err(|error| error.taken(taken))
    }

    fn was_hung_up(&self) -> bool {
        matches!(&*self.link.borrow(), Link::Failed(_, End::HungUp))
    }

    /// Waits until the connection has lasted for long enough without a message on which the broker
    /// seems to hang up.
    async fn see_calm(&self, publication: &Publication) -> Result<(), WriteError> {
        let Some(calm) = self.pace.calm_before(publication) else { return Ok(()) };
        let mut link = self.link.subscribe();
        let Link::Up(_, since) = *link.borrow_and_update() else {
            return self.client().map(|_| ()).map_err(WriteError::retry);
        };
        tokio::select! {
            () = sleep_until(since + calm) => Ok(()),
            _ = link.changed() => self.client().map(|_| ()).map_err(WriteError::retry),
        }
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
            Ok(Err(Lost)) => {
                let why = format!("publishing to the broker at {broker}: the connection was lost");
                Err(WriteError::retry(Down::new(why)))
            }
            Err(_) => {
                let why = format!("the broker at {broker} acknowledges nothing");
                self.fail(client, anyhow!("{why}"));
                Err(WriteError::retry(Down::new(why)))
            }
        }
    }
}

impl PubSub for Session {
    fn ready(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        self.wait_up().boxed()
    }

    fn publish(&self, batch: Vec<Publication>) -> BoxFuture<'_, Result<Written, WriteError>> {
        async move { self.publish_all(&batch).await }.boxed()
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

/// The error of the rest of a batch, as one of the whole.
fn behind(error: WriteError, front: usize) -> WriteError {
    match error {
        WriteError::Retry { taken, .. } => error.taken(front + taken),
        other => other,
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
