//! What the nodes of a connection share: whether it is up, and the way in and out.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use rumqttc::AsyncClient;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::inbound::Inbound;

/// One session with a broker.
pub struct Session {
    /// `host:port`, or the URL's mistake.
    pub broker: String,
    /// The most bytes of one packet, in both directions.
    pub max_packet: usize,
    /// Whether the broker forgets the session when the connection ends.
    pub clean: bool,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// Who reads what comes in.
    pub inbound: Arc<Inbound>,
    link: watch::Sender<Link>,
    failures: mpsc::Sender<anyhow::Error>,
}

/// How the connection stands.
#[derive(Clone, Default)]
enum Link {
    /// Nothing was tried yet, or the connection was stopped.
    #[default]
    Idle,
    Up(AsyncClient),
    /// The last attempt or connection ended with this error.
    Failed(Arc<str>),
}

/// The errors by which nodes end the connection. Nobody needs more than the first.
pub type Failures = mpsc::Receiver<anyhow::Error>;

impl Session {
    pub fn new(
        broker: String,
        max_packet: usize,
        clean: bool,
        connect_timeout: Duration,
    ) -> (Arc<Session>, Failures) {
        let (failures, failures_out) = mpsc::channel(1);
        let session = Session {
            broker,
            max_packet,
            clean,
            connect_timeout,
            inbound: Inbound::new(),
            link: watch::Sender::default(),
            failures,
        };
        (Arc::new(session), failures_out)
    }

    /// The way out, when the connection is up.
    pub fn client(&self) -> anyhow::Result<AsyncClient> {
        match &*self.link.borrow() {
            Link::Up(client) => Ok(client.clone()),
            Link::Idle => Err(anyhow!("not connected to the broker at {}", self.broker)),
            Link::Failed(error) => Err(anyhow!("{error}")),
        }
    }

    /// Waits until the connection is up. Gives the error of the attempt under way when that fails,
    /// or of the last one when nothing happens in time.
    pub async fn wait_up(&self) -> anyhow::Result<()> {
        let mut link = self.link.subscribe();
        if self.client().is_ok() {
            return Ok(());
        }
        // The engine tries on its own; whoever waits here sees what comes of it.
        let outcome = timeout(self.connect_timeout, async {
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

    /// Ends the connection with an error; the engine then connects again.
    pub fn fail(&self, error: anyhow::Error) {
        // A failure that nobody has read yet ends the connection just as well.
        let _ = self.failures.try_send(error);
    }

    /// The connection is up. `resumed` when the broker remembers the session.
    pub fn up(&self, client: AsyncClient, resumed: bool) {
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
}
