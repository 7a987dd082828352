//! The other side of a connection, played in memory: a device, a broker. Pipelines are tested against it, and
//! the code that runs against the real one does not notice.
//!
//! A peer is offered by the plugin that knows its protocol. It opens nothing but doors of a world in memory.

use std::{
    any::Any,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::anyhow;
use forebay_yaml::{Finding, Yaml};
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    message::Message,
    mqtt::{Broker, Event, Manner, Publication, Subscribe},
    node::WriteError,
    payload::{Format, Payload},
    progress::Progress,
    settings::Configured,
    voice::Voice,
    world::memory::Memory,
};

/// What an onlooker reads at the same time. It settles at once.
const MOST_READ: usize = 1024;

/// A peer that a plugin can play.
#[derive(Clone, Copy)]
pub struct Peer {
    /// Whose other side it is.
    pub side: Side,
    /// One sentence.
    pub summary: &'static str,
    /// JSON Schema of what a test says of it.
    pub schema: fn() -> Value,
    /// Makes one. Opens nothing yet, and answers nobody.
    pub play: fn(Stage) -> Box<dyn Played>,
}

/// Whose other side a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// That of connections of this type.
    Connection(&'static str),
    /// That of nodes without a connection that ask web services.
    Web,
}

/// Where a peer is played.
pub struct Stage {
    /// The connection whose other side it is, or the node.
    pub connection: Arc<dyn Configured>,
    /// The nodes that use that connection, by the names that a test has for them.
    pub users: Vec<(Arc<str>, Arc<dyn Configured>)>,
    /// The world, and the places in it at which the peer is looked for: `host:port`, or the path of a serial line.
    pub memory: Memory,
    /// See `memory`.
    pub places: Vec<String>,
    /// An address of the world that is nobody else's.
    pub address: SocketAddr,
    /// A folder for the peer alone, should it need one.
    pub data: PathBuf,
    /// What all its chance comes from.
    pub seed: u64,
}

/// A peer that is played.
pub trait Played: Send {
    /// What a test says of it, at first and later. It was checked against the schema; what else is wrong is reported.
    fn tell(&mut self, said: &Yaml, findings: &mut Vec<Finding>);

    /// Answers until dropped.
    fn serve(&mut self) -> BoxFuture<'static, ()>;

    /// Has it send a message, as somebody else there would. Resolves once it has taken it.
    ///
    /// # Errors
    ///
    /// When nothing is sent from there.
    fn send(&self, message: Message) -> BoxFuture<'static, anyhow::Result<()>>;

    /// What it took since this was last asked, and when.
    fn taken(&self) -> Vec<(Instant, Message)>;
}

impl Stage {
    /// The connection, when its settings are a `T`.
    pub fn connection<T: Any>(&self) -> Option<&T> {
        (&*self.connection as &dyn Any).downcast_ref()
    }
}

/// Reads all that is published to a broker, as somebody else there. Cloning shares what it has read.
#[derive(Clone, Default)]
pub struct Onlooker(Arc<Mutex<Vec<(Instant, Message)>>>);

impl Onlooker {
    /// Reads, until dropped.
    pub async fn read(self, broker: Arc<Broker>) {
        loop {
            let mut subscription = broker.0.subscribe(Subscribe {
                reader: "onlooker of the test".into(),
                filters: vec!["#".to_owned()],
                manner: Manner { retain_as_published: true, ..Manner::of_qos(2) },
                capacity: MOST_READ,
                voice: Voice::unheard(),
            });
            loop {
                match subscription.next().await {
                    Event::Parcel(parcel) => {
                        self.lock().push((Instant::now(), message(&parcel.publication)));
                        if let Some(claim) = parcel.claim {
                            claim.settle();
                        }
                    }
                    Event::Granted | Event::Refused { .. } => (),
                    Event::Ended => break,
                }
            }
        }
    }

    /// Publishes a message: at QoS 1, unless it says otherwise in its `meta`.
    ///
    /// # Errors
    ///
    /// When the broker does not take it.
    pub async fn publish(broker: &Broker, message: &Message) -> anyhow::Result<()> {
        let published = broker.0.publish(vec![publication(message)], Progress::default()).await;
        published.map(|_| ()).map_err(|error| match error {
            WriteError::Reject(error) | WriteError::Retry { error, .. } => error,
            _ => anyhow!("the broker did not take it"),
        })
    }

    /// What was published since this was last asked, and when.
    pub fn taken(&self) -> Vec<(Instant, Message)> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, Message)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn publication(message: &Message) -> Publication {
    let qos = message.meta.get("qos").and_then(Value::as_u64);
    let qos = qos.and_then(|qos| u8::try_from(qos).ok()).unwrap_or(1).min(2);
    let retain = message.meta.get("retain").and_then(Value::as_bool).unwrap_or(false);
    let payload = match message.payload.value() {
        // A text is what it says, and no JSON.
        Ok(Value::String(text)) => text.clone().into(),
        _ => message.payload.to_bytes(Format::Json),
    };
    Publication::new(Arc::clone(&message.topic), payload).qos(qos).retain(retain)
}

fn message(publication: &Publication) -> Message {
    let json = Payload::encoded(publication.payload.clone(), Format::Json);
    let payload = match json.value() {
        Ok(_) => json,
        Err(_) => Payload::encoded(publication.payload.clone(), Format::Text),
    };
    let mut message = Message::new(Arc::clone(&publication.topic), payload);
    message.meta.insert("qos", u64::from(publication.qos));
    message.meta.insert("retain", publication.retain);
    message
}
