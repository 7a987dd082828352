//! Subscribes to topics, on a session with a broker or on a broker in this process.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::bail;
use forebay_sdk::{
    Capabilities, Format, Links, Message, Meta, Node, Outcome, Outlet, Payload, Problem, Receipt,
    Settings, Source, Subscription,
    connection::{LocalBroker, PubSub, Publication},
};
use futures_util::stream::{FuturesUnordered, StreamExt};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::sleep,
};

use crate::{
    inbound::{Claim, Inlet, Standing},
    session::Session,
    topic::{Filter, NoTopic},
};

/// Subscribes to topics.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// Topic filters, such as `site/+/power` or `plc/#`.
    #[schemars(length(min = 1))]
    pub topics: Vec<String>,
    /// The highest QoS at which messages come: 0, 1 or 2. At 1 and 2 the broker is told that a
    /// message arrived once the pipeline has delivered it.
    #[serde(default = "default_qos")]
    #[schemars(range(min = 0, max = 2))]
    pub qos: u8,
    /// The most messages that are passed on and not delivered yet. What comes meanwhile waits; at
    /// QoS 0 no more than as many again, and what comes beyond that is dropped.
    #[serde(default = "default_in_flight")]
    #[schemars(range(min = 1, max = 65535))]
    pub in_flight: u16,
    /// How payloads are read.
    #[serde(default)]
    pub format: Format,
}

fn default_qos() -> u8 {
    1
}
fn default_in_flight() -> u16 {
    1000
}

/// The pause before a message that was lost downstream is sent on again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Settings for SourceSettings {
    fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let parsed: Vec<_> = self.topics.iter().map(|topic| Filter::parse(topic)).collect();
        for (index, (topic, filter)) in self.topics.iter().zip(&parsed).enumerate() {
            let setting = format!("topics[{index}]");
            let filter = match filter {
                Ok(filter) => filter,
                Err(wrong) => {
                    let message = format!("`{setting}` cannot be subscribed to");
                    problems.push(wrong.clone().problem(setting, message));
                    continue;
                }
            };
            if self.topics[..index].contains(topic) {
                let message = format!("`{setting}` is there already");
                let label = "the same filter stands above";
                let problem = Problem::new(setting, message, label);
                problems.push(problem.rule("repeated-filter").warning());
                continue;
            }
            let covers = |(_, other): &(usize, &Result<Filter, NoTopic>)| {
                other.as_ref().is_ok_and(|other| other.as_str() != topic && other.covers(filter))
            };
            if let Some((wider, _)) = parsed.iter().enumerate().find(covers) {
                let message =
                    format!("`{topic}` is part of what `{}` asks for", self.topics[wider]);
                let problem = Problem::new(setting, message, "asked for twice")
                    .rule("overlapping-filters")
                    .warning()
                    .also(format!("topics[{wider}]"), "asks for all of it");
                let note = "some brokers then send each message twice";
                problems.push(problem.note(note));
            }
        }
        problems
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { resends: self.qos > 0, ..Capabilities::default() }
    }

    fn build(self, links: Links) -> Node {
        let most = usize::from(self.in_flight);
        // Registered now, so that nothing is missed which comes before the source first runs.
        let way = match (links.connection::<Session>(), links.connection::<LocalBroker>()) {
            (Some(session), _) => {
                let filters = self.topics.iter().filter_map(|t| Filter::parse(t).ok()).collect();
                Way::Session(session.inbound.register(links.name, filters, self.qos, most))
            }
            (None, Some(broker)) => Way::Local {
                broker: Arc::clone(&broker.0),
                subscription: None,
                room: Arc::new(Semaphore::new(most)),
            },
            (None, None) => Way::Nowhere,
        };
        Node::source(MqttSource { settings: self, way })
    }
}

struct MqttSource {
    settings: SourceSettings,
    way: Way,
}

/// Where messages come from.
enum Way {
    Session(Inlet),
    Local {
        broker: Arc<dyn PubSub>,
        /// Kept when the engine stops the source for a while.
        subscription: Option<Subscription>,
        /// A permit for each message that is taken and not delivered.
        room: Arc<Semaphore>,
    },
    /// The connection is of a type that this build does not know.
    Nowhere,
}

/// A way in that is open.
enum Intake<'a> {
    Session(&'a Inlet),
    Local { subscription: &'a mut Subscription, room: &'a Arc<Semaphore> },
}

impl Intake<'_> {
    /// The next message and whether it came before, or None when no more can come. Dropping the
    /// future loses nothing.
    async fn next(&mut self) -> Option<(Publication, bool, Hold)> {
        match self {
            Intake::Session(inlet) => {
                let parcel = inlet.next().await;
                Some((parcel.publication, parcel.again, Hold::Claim(parcel.claim)))
            }
            Intake::Local { subscription, room } => {
                let permit = Arc::clone(room).acquire_owned().await.ok()?;
                let publication = subscription.recv().await?;
                Some((publication, false, Hold::Room(permit)))
            }
        }
    }
}

/// What is to be let go once a message is delivered.
enum Hold {
    Claim(Claim),
    Room(#[allow(dead_code, reason = "letting it go is all it is for")] OwnedSemaphorePermit),
}

impl Hold {
    fn settle(self) {
        match self {
            Hold::Claim(claim) => claim.settle(),
            Hold::Room(_) => (),
        }
    }
}

impl Source for MqttSource {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let MqttSource { settings, way } = self;
        match way {
            Way::Session(inlet) => {
                inlet.ask_again();
                let standing = inlet.standing();
                tokio::select! {
                    ended = forward(settings, Intake::Session(inlet), out) => ended,
                    refused = watch_standing(standing, out) => refused,
                }
            }
            Way::Local { broker, subscription, room } => {
                let subscription = match subscription {
                    Some(open) if !open.is_closed() || !open.is_empty() => open,
                    closed => {
                        let most = usize::from(settings.in_flight);
                        let topics = settings.topics.clone();
                        let open = broker.subscribe(topics, settings.qos, most).await?;
                        out.ready();
                        closed.insert(open)
                    }
                };
                forward(settings, Intake::Local { subscription, room }, out).await
            }
            Way::Nowhere => bail!("the connection is not one that MQTT goes over"),
        }
    }
}

/// Sends on what comes, until nothing can come any more.
async fn forward(
    settings: &SourceSettings,
    mut intake: Intake<'_>,
    out: &Outlet,
) -> anyhow::Result<()> {
    let (sent, mut to_settle) = mpsc::channel(usize::from(settings.in_flight));
    let mut maker = Maker::new(settings.format);
    let send = async {
        while let Some((publication, again, hold)) = intake.next().await {
            let tracked = publication.qos > 0;
            let message = maker.message(publication, again);
            if !tracked {
                out.send(message).await;
                hold.settle();
                continue;
            }
            let kept = Message { payload: message.payload.kept(), ..message.clone() };
            let receipt = out.send_tracked(message).await;
            if sent.send((kept, hold, receipt)).await.is_err() {
                break;
            }
        }
    };
    // While the pipeline has no room, what it delivers must still be settled.
    let settle = async {
        let mut pending = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some((message, hold, receipt)) = to_settle.recv() => {
                    pending.push(see_delivered(message, hold, receipt, out));
                }
                Some(()) = pending.next(), if !pending.is_empty() => (),
            }
        }
    };
    tokio::select! {
        () = send => bail!("the broker in this process stopped"),
        () = settle => Ok(()),
    }
}

/// Sends a message again until it is delivered.
async fn see_delivered(message: Message, hold: Hold, mut receipt: Receipt, out: &Outlet) {
    let mut pause = FIRST_PAUSE;
    while receipt.await == Outcome::Lost {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        receipt = out.send_tracked(message.clone()).await;
    }
    hold.settle();
}

/// Makes messages of publications. What it says of QoS and flags is made once for each kind, since
/// most publications are alike.
struct Maker {
    format: Format,
    kinds: HashMap<(u8, bool, bool), Meta>,
}

impl Maker {
    fn new(format: Format) -> Maker {
        Maker { format, kinds: HashMap::new() }
    }

    fn message(&mut self, publication: Publication, again: bool) -> Message {
        let Publication { topic, payload, qos, retain } = publication;
        let mut message = Message::new(topic, Payload::encoded(payload, self.format));
        let meta = self.kinds.entry((qos, retain, again)).or_insert_with(|| {
            let mut meta = Meta::default();
            meta.insert("mqtt", json!({ "qos": qos, "retain": retain, "dup": again }));
            meta
        });
        message.meta = meta.clone();
        message
    }
}

/// Ends with an error when the broker refuses a subscription.
async fn watch_standing(
    mut standing: watch::Receiver<Standing>,
    out: &Outlet,
) -> anyhow::Result<()> {
    loop {
        match &*standing.borrow_and_update() {
            Standing::Asked => (),
            Standing::Granted => out.ready(),
            Standing::Refused(filter) => bail!("the broker refused the subscription to `{filter}`"),
        }
        if standing.changed().await.is_err() {
            // The inlet lives as long as the source, so this never comes.
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests;
