//! Messages that a folder sends to itself over a broker: what a sink publishes, a source that leads to it
//! subscribes to.
//!
//! Found only where it is sure that the topic is asked for. What a node on the way may drop, nobody knows.

use std::{any::Any, collections::BTreeSet};

use forebay_sdk::{Exchange, Filter, Finding, Role, Topics, facts::Moved};

use super::index::{Connections, Nodes};
use crate::{
    config::Part,
    rules::{MESSAGE_LOOP, UNBRIDGED_TOPIC},
};

/// A node that exchanges messages with a broker.
struct Speaker<'a> {
    part: &'a Part,
    nodes: &'a Nodes<'a>,
    /// Which broker: two of the same are one.
    broker: String,
    connection: &'a str,
    /// What it subscribes to.
    hears: Vec<Filter>,
    hears_itself: bool,
}

/// Reports each sink that publishes what comes back to it.
pub(super) fn check(
    pipelines: &[Nodes<'_>],
    connections: &Connections<'_>,
    findings: &mut Vec<Finding>,
) {
    let nodes = pipelines.iter().flat_map(|nodes| nodes.iter().map(move |part| (nodes, part)));
    let speakers: Vec<Speaker> =
        nodes.filter_map(|(nodes, part)| speaker(nodes, part, connections)).collect();
    findings.extend(speakers.iter().filter_map(|speaker| unbridged(speaker, &speakers)));
    let mut said = BTreeSet::new();
    for source in speakers.iter().filter(|speaker| speaker.part.role == Role::Source) {
        for filter in &source.hears {
            let mut round = Round { speakers: &speakers, begin: source, been: BTreeSet::new() };
            for (sink, last) in round.from(source, filter) {
                if said.insert((&sink.part.name, &last.part.name)) {
                    findings.push(finding(sink, last, source));
                }
            }
        }
    }
}

/// That what a node publishes does not get to a bridge that asks for it on the same connection.
fn unbridged(sink: &Speaker<'_>, speakers: &[Speaker<'_>]) -> Option<Finding> {
    let Topics::Made(topics) = sink.part.configured.as_ref()?.topics() else { return None };
    let topics = Filter::parse(&topics).ok().filter(|_| sink.part.role == Role::Sink)?;
    let bridge = |part: &Part| Some(part.name.rsplit_once(':')?.0.to_owned());
    let is_deaf = |listener: &&Speaker<'_>| {
        listener.part.origin.is_some()
            && !listener.hears_itself
            && listener.connection == sink.connection
            && bridge(listener.part) != bridge(sink.part)
            && listener.hears.iter().any(|filter| filter.covers(&topics))
    };
    let listener = speakers.iter().find(is_deaf)?;
    let whole = listener.part.short.split(':').next().unwrap_or_default();
    let (name, connection) = (&sink.part.short, sink.connection);
    let span = sink.part.settings.entry("topic").map_or(sink.part.span(), |entry| entry.value.span);
    let message = format!("what `{name}` publishes does not go over `{whole}`, which asks for it");
    let label = format!("on `{connection}`, as the bridge");
    let finding = Finding::warning(&UNBRIDGED_TOPIC, span, message, label);
    let help = format!(
        "a connection of its own for `{name}`, to the same broker under another `client_id`"
    );
    Some(finding.context(listener.part.name_span, "does not hear its own connection").help(help))
}

fn speaker<'a>(
    nodes: &'a Nodes<'a>,
    part: &'a Part,
    connections: &Connections<'a>,
) -> Option<Speaker<'a>> {
    let connection = connections.get(part.uses.as_ref()?)?;
    let settings: &dyn Any = &**connection.configured.as_ref()?;
    let exchange = part.configured.as_ref()?.exchange(settings)?;
    let Exchange { broker, hears, hears_itself } = exchange;
    let connection = &*connection.name;
    let broker = broker.unwrap_or_else(|| connection.to_owned());
    let hears = hears.iter().filter_map(|filter| Filter::parse(filter).ok()).collect();
    Some(Speaker { part, nodes, broker, connection, hears, hears_itself })
}

/// The ways of a message that came in at one source, until it is back there.
struct Round<'a> {
    speakers: &'a [Speaker<'a>],
    begin: &'a Speaker<'a>,
    /// Sources that were looked at.
    been: BTreeSet<&'a str>,
}

impl<'a> Round<'a> {
    /// The sinks that send a message of these topics, which comes in at `source`, back to where it began,
    /// each with the source where it comes in again.
    fn from(
        &mut self,
        source: &'a Speaker<'a>,
        topics: &Filter,
    ) -> Vec<(&'a Speaker<'a>, &'a Speaker<'a>)> {
        if !self.been.insert(&source.part.name) {
            return Vec::new();
        }
        let mut found = Vec::new();
        let mut sent = Vec::new();
        let topics = std::slice::from_ref(topics);
        sent_on(source.nodes, source.part, topics, &mut BTreeSet::new(), &mut sent);
        for (part, topics) in sent {
            let Some(sink) = self.speakers.iter().find(|it| it.part.name == part.name) else {
                continue;
            };
            for listener in self.speakers.iter().filter(|it| it.hears(sink, &topics)) {
                let comes_back = listener.part.name == self.begin.part.name
                    || !self.from(listener, &topics).is_empty();
                if comes_back {
                    found.push((sink, listener));
                }
            }
        }
        found
    }
}

impl Speaker<'_> {
    /// Whether all that a sink publishes to these topics comes in here.
    fn hears(&self, sink: &Speaker<'_>, topics: &Filter) -> bool {
        let is_own = self.connection == sink.connection;
        self.broker == sink.broker
            && (self.hears_itself || !is_own)
            && self.hears.iter().any(|filter| filter.covers(topics))
    }
}

/// The sinks that messages of these topics get to from a node, and the topics that they have there.
fn sent_on<'a>(
    nodes: &Nodes<'a>,
    from: &Part,
    topics: &[Filter],
    been: &mut BTreeSet<&'a str>,
    sent: &mut Vec<(&'a Part, Filter)>,
) {
    for reader in nodes.iter() {
        let reads = reader.from.iter().any(|upstream| {
            let is_error = upstream.output.as_deref() == Some("errors");
            !is_error && nodes.read_by(upstream).is_some_and(|read| read.name == from.name)
        });
        if !reads || !been.insert(&reader.name) {
            continue;
        }
        let Some(configured) = &reader.configured else { continue };
        let topics = match configured.topics() {
            Topics::Unknown => continue,
            Topics::Kept => topics.to_vec(),
            Topics::Made(pattern) => Filter::parse(&pattern).into_iter().collect(),
            Topics::Moved(ways) => topics
                .iter()
                .flat_map(|topics| ways.iter().filter_map(|way| moved(topics, way)))
                .collect(),
        };
        match reader.role {
            Role::Sink => sent.extend(topics.into_iter().map(|topics| (reader, topics))),
            _ => sent_on(nodes, reader, &topics, been, sent),
        }
    }
}

/// What becomes of topics that begin otherwise. None when it is not sure that these do.
fn moved(topics: &Filter, way: &Moved) -> Option<Filter> {
    let asked = Filter::parse(&way.filter).ok()?;
    let some = if asked.covers(topics) { topics } else { &asked };
    if !topics.covers(some) {
        return None;
    }
    let rest = some.as_str().strip_prefix(&way.strip)?;
    Filter::parse(&format!("{}{rest}", way.add)).ok()
}

fn finding(sink: &Speaker<'_>, listener: &Speaker<'_>, begin: &Speaker<'_>) -> Finding {
    let (sink_name, listener_name) = (&sink.part.short, &listener.part.short);
    let message =
        format!("`{sink_name}` publishes what `{listener_name}` subscribes to, on the same broker");
    let span = match sink.part.settings.entry("topic") {
        Some(entry) => entry.value.span,
        None => sink.part.span(),
    };
    let way = match begin.part.name == listener.part.name {
        true => "each message comes back here".to_owned(),
        false => format!("each message comes back here by way of `{}`", begin.part.short),
    };
    let finding = Finding::warning(&MESSAGE_LOOP, span, message, way);
    let filters = listener.hears.iter().map(Filter::as_str);
    let asks = format!("asks for {}", forebay_sdk::finding::quoted(filters));
    let help = match listener.connection == sink.connection {
        true => "publish to another topic, or set `no_local: true` at the source, with MQTT 5",
        false => "publish to another topic",
    };
    finding.context(listener.part.name_span, asks).help(help)
}
