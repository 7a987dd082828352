//! Subscribes to topics, whatever the way to the broker is.

use std::{any::Any, collections::HashMap, sync::Arc};

use anyhow::{anyhow, bail};
use forebay_sdk::{
    Capabilities, Coding, Configured, Exchange, Fields, Filter, Format, Message, Meta, Node,
    Outlet, Payload, Problem, Sends, Site, Source,
    coding::MOST_UNPACKED,
    mqtt::{Broker, Claim, Event, Manner, Parcel, Publication, Retained, Subscribe, Subscription},
};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::{
    properties,
    understood::{self, Bridged, MqttConnection, needs_version_5, refused_filters},
};

/// A source of MQTT, as its settings were understood.
#[derive(Clone, Debug)]
pub struct MqttSource {
    /// What it subscribes to.
    pub filters: Arc<[Filter]>,
    pub manner: Manner,
    pub in_flight: u16,
    pub coding: Coding,
    /// What comes goes over a bridge.
    pub bridged: Option<Bridged>,
}

impl Configured for MqttSource {
    fn build(&self, site: Site) -> Node {
        let wish = Subscribe {
            reader: Arc::clone(&site.name),
            filters: self.filters.iter().map(|filter| filter.as_str().to_owned()).collect(),
            manner: self.manner,
            capacity: usize::from(self.in_flight),
            voice: site.voice.clone(),
        };
        let broker = site.connection::<Broker>();
        // Now, so that nothing is missed which comes before the source first runs.
        let subscription = broker.as_ref().map(|broker| broker.0.subscribe(wish.clone()));
        let is_bridged = self.bridged.is_some();
        Node::source(Reading { maker: Maker::new(self), broker, wish, subscription, is_bridged })
    }

    fn check_on(&self, connection: &dyn Any) -> Vec<Problem> {
        if let Some(bridged) = self.bridged {
            let mut problems = understood::unfit_for_bridge(connection, bridged, self.manner.qos);
            problems.extend(refused_filters(connection, self.filters.iter().map(Filter::as_str)));
            return problems;
        }
        let Manner { no_local, retain_as_published, retained, .. } = self.manner;
        // A session throws away by itself what was kept and is not wanted.
        let throws_away = connection.is::<MqttConnection>() && retained == Retained::Never;
        let asked = [
            ("no_local", no_local),
            ("retain_as_published", retain_as_published),
            ("retained", retained != Retained::Always && !throws_away),
        ];
        let asked = asked.into_iter().filter(|(_, is_asked)| *is_asked);
        let mut problems = needs_version_5(connection, asked.map(|(setting, _)| setting));
        problems.extend(refused_filters(connection, self.filters.iter().map(Filter::as_str)));
        problems
    }

    fn meta(&self) -> Fields {
        let names = self.filters.iter().flat_map(Filter::names).map(str::to_owned);
        let sends = Sends::Only(names.chain(["mqtt".to_owned()]).collect());
        Fields { reads: Vec::new(), sends }
    }

    fn exchange(&self, connection: &dyn Any) -> Option<Exchange> {
        let hears = self.filters.iter().map(|filter| filter.without_group().to_owned()).collect();
        let hears_itself = !self.manner.no_local && !understood::is_bridge(connection);
        Some(Exchange { broker: understood::broker(connection), hears, hears_itself })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { resends: self.manner.qos > 0, ..Capabilities::default() }
    }
}

struct Reading {
    /// None when the connection is of a type that MQTT does not go over.
    broker: Option<Arc<Broker>>,
    wish: Subscribe,
    /// Kept when the engine stops the source for a while. None once it ended.
    subscription: Option<Box<dyn Subscription>>,
    maker: Maker,
    /// What the broker keeps is sent on only when it has changed.
    is_bridged: bool,
}

impl Source for Reading {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let Some(broker) = &self.broker else {
            bail!("the connection is not one that MQTT goes over");
        };
        let subscription =
            self.subscription.get_or_insert_with(|| broker.0.subscribe(self.wish.clone()));
        let (maker, capacity) = (&mut self.maker, self.wish.capacity);
        forward(&mut **subscription, capacity, maker, self.is_bridged, out).await;
        self.subscription = None;
        bail!("nobody serves the subscription any more");
    }
}

/// Sends on what comes, in order, until no more can come.
async fn forward(
    subscription: &mut dyn Subscription,
    capacity: usize,
    maker: &mut Maker,
    is_bridged: bool,
    out: &Outlet,
) {
    // Of no more than `capacity` the claims are not settled, so that there is always room.
    let (sent, mut under_way) = mpsc::channel(capacity);
    let send = async {
        loop {
            match subscription.next().await {
                Event::Granted => out.ready(),
                Event::Refused { filter, why } => {
                    let error = anyhow!("the broker refused the subscription to `{filter}`: {why}");
                    out.error(&error, None).await;
                }
                Event::Ended => return,
                Event::Parcel(Parcel { publication, again, claim }) => {
                    if publication.is_known && is_bridged {
                        claim.into_iter().for_each(Claim::settle);
                        continue;
                    }
                    let message = match maker.message(publication, again) {
                        Ok(message) => message,
                        Err(Unread { error, message }) => {
                            out.error(&error, Some(message)).await;
                            // It would come again just so.
                            claim.into_iter().for_each(Claim::settle);
                            continue;
                        }
                    };
                    let Some(claim) = claim else {
                        out.send(message).await;
                        continue;
                    };
                    let kept = message.kept();
                    let receipt = out.send_tracked(message).await;
                    if sent.send((kept, receipt, claim)).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    // While the pipeline has no room, what it delivers must still be settled.
    let settle = async {
        let mut pending = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = pending.next(), if !pending.is_empty() => (),
                Some((kept, receipt, claim)) = under_way.recv() => pending.push(async {
                    out.see_delivered(kept, receipt).await;
                    claim.settle();
                }),
            }
        }
    };
    tokio::select! {
        biased;
        () = send => (),
        () = settle => (),
    }
}

/// Makes messages of publications. What it says of QoS and flags is made once for each kind, since
/// most publications are alike.
struct Maker {
    coding: Coding,
    filters: Arc<[Filter]>,
    kinds: HashMap<(u8, bool, bool), Meta>,
}

/// A message whose payload could not be unpacked, with the payload as it came.
struct Unread {
    error: anyhow::Error,
    message: Message,
}

impl Maker {
    fn new(source: &MqttSource) -> Maker {
        let MqttSource { coding, filters, .. } = source;
        Maker { coding: *coding, filters: Arc::clone(filters), kinds: HashMap::new() }
    }

    fn message(&mut self, publication: Publication, again: bool) -> Result<Message, Unread> {
        let Publication { topic, payload, qos, retain, properties, .. } = publication;
        let mut meta = match properties {
            None => {
                let kind = self.kinds.entry((qos, retain, again));
                kind.or_insert_with(|| meta(said(qos, retain, again))).clone()
            }
            Some(properties) => {
                let mut said = said(qos, retain, again);
                properties::write(&mut said, &properties);
                meta(said)
            }
        };
        self.capture(&topic, &mut meta);
        let read = self.coding.read(payload.clone(), MOST_UNPACKED);
        let (payload, error) = match read {
            Ok(payload) => (payload, None),
            Err(error) => (Payload::encoded(payload, Format::Bytes), Some(error)),
        };
        let mut message = Message::new(topic, payload);
        message.meta = meta;
        match error {
            None => Ok(message),
            Some(error) => Err(Unread { error, message }),
        }
    }

    /// Adds what stands in the topic in the place of wildcards that have a name. Of two filters that
    /// have the same name, the first counts.
    fn capture(&self, topic: &str, meta: &mut Meta) {
        let named = self.filters.iter().rev().filter(|filter| filter.names().next().is_some());
        for filter in named.filter(|filter| filter.matches(topic)) {
            for (name, found) in filter.captures(topic) {
                meta.insert(name, found);
            }
        }
    }
}

fn meta(said: Map<String, Value>) -> Meta {
    let mut meta = Meta::default();
    meta.insert("mqtt", said);
    meta
}

fn said(qos: u8, retain: bool, again: bool) -> Map<String, Value> {
    let entries = [("qos", json!(qos)), ("retain", json!(retain)), ("dup", json!(again))];
    entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests;
