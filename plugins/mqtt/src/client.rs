//! The client of one connection to a broker, in either version of MQTT. Its folder and the rooms for
//! words ([`crate::words`], [`crate::words5`]) are all that knows rumqttc.
//!
//! Each connection gets a new client and event loop of rumqttc: nothing of the one before, such as
//! an acknowledgement, can reach the new one.

mod kept;
mod terms;
mod v4;
mod v5;

use std::{sync::Arc, time::Duration};

use forebay_sdk::mqtt::{Manner, Publication};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

pub use self::kept::{Anew, Kept};
pub use self::terms::{Arrival, Hello, Limits, Lost, MOST_IN_FLIGHT, Resumed, Untaken, Welcome};
use crate::{ledger::Ack, version::Version, wire::Way, words::Words};

/// How long acknowledgements may take to leave when we end a session.
const LONGEST_FLUSH: Duration = Duration::from_secs(1);

/// The way out over one connection, for everybody who uses it.
#[derive(Clone)]
pub struct Client {
    inner: Inner,
    /// What the broker takes.
    pub limits: Limits,
    /// Whether account is kept of what is under way at QoS 2.
    pub keeps_account: bool,
    /// By which a node ends the connection. Nobody needs more than the first.
    failures: mpsc::Sender<anyhow::Error>,
}

#[derive(Clone)]
enum Inner {
    V4(v4::Client),
    V5(v5::Client),
}

/// The errors by which nodes end a connection.
pub type Failures = mpsc::Receiver<anyhow::Error>;

/// The connection itself. It goes on only while it is asked for what comes next.
pub enum Line {
    V4(Box<v4::Line>),
    V5(Box<v5::Line>),
}

/// Tells when the broker has taken responsibility for a publication.
pub enum Notice {
    V4(v4::Notice),
    V5(v5::Notice),
    /// It was published on an earlier connection.
    GoesOn(oneshot::Receiver<Result<(), Untaken>>),
}

impl Line {
    /// A connection that is yet to be opened. In a session that the broker keeps, what is `kept` goes on;
    /// without that, no message of QoS 2 may be published in one.
    pub fn new(
        version: Version,
        client_id: &str,
        hello: &Hello,
        way: Way,
        words: Words,
        kept: Option<Arc<Kept>>,
    ) -> anyhow::Result<(Line, Client, Failures)> {
        let keeps_account = kept.is_some();
        let (line, inner) = match version {
            Version::V4 => {
                let (line, client) = v4::Line::new(client_id, hello, way, words, kept)?;
                (Line::V4(Box::new(line)), Inner::V4(client))
            }
            Version::V5 => {
                let (line, client) = v5::Line::new(client_id, hello, way, words, kept)?;
                (Line::V5(Box::new(line)), Inner::V5(client))
            }
        };
        let (failures, failures_out) = mpsc::channel(1);
        Ok((
            line,
            Client { inner, limits: Limits::default(), keeps_account, failures },
            failures_out,
        ))
    }

    /// Connects.
    pub async fn open(&mut self) -> anyhow::Result<Welcome> {
        match self {
            Line::V4(line) => line.open().await,
            Line::V5(line) => line.open().await,
        }
    }

    /// What comes next. Must not be asked again after an error, nor when this was dropped half-way.
    pub async fn next(&mut self) -> anyhow::Result<Arrival> {
        match self {
            Line::V4(line) => line.next().await,
            Line::V5(line) => line.next().await,
        }
    }

    /// Lets the acknowledgements leave that are due, before the connection is dropped.
    pub async fn flush(&mut self) {
        let acks = async { while let Ok(Arrival::Other) = self.next().await {} };
        // What takes longer comes again, and so do its messages.
        let _ = timeout(LONGEST_FLUSH, acks).await;
    }

    /// Says good-bye, with these last words. When they don't get through, the connection is dropped
    /// without a good-bye: then the broker publishes the will.
    pub async fn close(self, last_words: Option<Publication>) {
        match self {
            Line::V4(line) => line.close(last_words).await,
            Line::V5(line) => line.close(last_words).await,
        }
    }
}

impl Client {
    /// Hands an acknowledgement over. False when there is no room at the moment.
    pub fn acknowledge(&self, ack: Ack) -> bool {
        match &self.inner {
            Inner::V4(client) => client.acknowledge(ack),
            Inner::V5(client) => client.acknowledge(ack),
        }
    }

    /// Hands a publication over, at this QoS. Waits for room.
    pub async fn publish(&self, publication: Publication, qos: u8) -> Result<Notice, Lost> {
        match &self.inner {
            Inner::V4(client) => client.publish(publication, qos).await.map(Notice::V4),
            Inner::V5(client) => client.publish(publication, qos).await.map(Notice::V5),
        }
    }

    /// Subscribes, and gives the subscription a number where the broker has those. For each filter the QoS
    /// that the broker granted, or why it refused.
    pub async fn subscribe(
        &self,
        filters: &[(String, Manner)],
        number: Option<u32>,
    ) -> anyhow::Result<Vec<Result<u8, String>>> {
        match &self.inner {
            Inner::V4(client) => client.subscribe(filters).await,
            Inner::V5(client) => client.subscribe(filters, number).await,
        }
    }

    /// Ends subscriptions.
    pub async fn unsubscribe(&self, filters: &[String]) -> anyhow::Result<()> {
        match &self.inner {
            Inner::V4(client) => client.unsubscribe(filters).await,
            Inner::V5(client) => client.unsubscribe(filters).await,
        }
    }

    /// What is spoken.
    pub fn version(&self) -> Version {
        match &self.inner {
            Inner::V4(_) => Version::V4,
            Inner::V5(_) => Version::V5,
        }
    }

    /// Ends the connection with an error.
    pub fn fail(&self, error: anyhow::Error) {
        // A failure that nobody has read yet ends the connection just as well.
        let _ = self.failures.try_send(error);
    }

    /// Whether both go over the same connection.
    pub fn is(&self, other: &Client) -> bool {
        self.failures.same_channel(&other.failures)
    }
}

impl Notice {
    /// Resolves once the broker has taken responsibility; at QoS 0, once it has left.
    pub async fn taken(self) -> Result<(), Untaken> {
        match self {
            Notice::V4(notice) => notice.taken().await,
            Notice::V5(notice) => notice.taken().await,
            Notice::GoesOn(end) => end.await.unwrap_or(Err(Untaken::Lost)),
        }
    }
}
