//! How everything is that runs, at one moment, for showing.

use std::{collections::BTreeMap, time::Duration};

use forebay_sdk::{Role, voice::Hears};
use serde::{Deserialize, Serialize};

use super::{
    inbox::{Inbox, Waiting},
    latency::{Histogram, Percentiles},
    past_errors::PastError,
    run_connection::RunningConnection,
    station::Station,
    status::{self, State, Status},
};
use crate::config::{Graph, Name, Output, Store};

/// All nodes and connections.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// In the order of their names.
    pub nodes: Vec<PartReport>,
    /// The same.
    pub connections: Vec<PartReport>,
}

impl Report {
    /// All of them, connections first.
    pub fn parts(&self) -> impl Iterator<Item = &PartReport> + Clone {
        self.connections.iter().chain(&self.nodes)
    }
}

/// A node or a connection.
#[derive(Debug, Serialize, Deserialize)]
pub struct PartReport {
    /// `boiler-room/meter`.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// What users write after `type:`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// The connection it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The outputs that it reads: `boiler-room/meter`, `boiler-room/route.high`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<String>,
    /// How it is.
    pub state: StateName,
    /// How long it has been in its state, in seconds.
    pub for_s: u64,
    /// Why it waits or is broken, as the log says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What the log's line of that names, and `forebay explain` knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The reader that has no room, and for which it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_up_by: Option<String>,
    /// The condition on the link that holds, and for which it writes less, or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by_link: Option<String>,
    /// When all that it does fails, and has for so long that a person should look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<FailingReport>,
    /// What is wrong and stays so until it is over, such as a register that its device refuses; ten at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lasting: Vec<String>,
    /// What went wrong last, also when it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// Whether the disk under its buffer fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disk_fails: bool,
    /// What it did since it started: messages, or bytes. Only what is not zero.
    pub counts: BTreeMap<String, u64>,
    /// The `errors` among them, by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub errors_by_kind: BTreeMap<String, u64>,
    /// What it would write to disk in a day, when it went on as it did since it started. Absent in the first minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_to_disk_a_day: Option<u64>,
    /// Of the last minute; absent in the first seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<PerSecond>,
    /// How long messages took from their source until the other side of this sink had them, of the last minute or two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyReport>,
    /// The same since the start.
    #[serde(skip)]
    pub latencies: Option<Histogram>,
    /// What waits in front of it. Sources and connections have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueReport>,
    /// The share of its time that it is busy, of a bus that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<f64>,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// Nothing heard of it yet.
    Starting,
    /// The other side is there.
    Running,
    /// It is tried again, after a pause.
    Waiting,
    /// It could not be made. The next reload tries again.
    Broken,
}

impl StateName {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            StateName::Starting => "starting",
            StateName::Running => "running",
            StateName::Waiting => "waiting",
            StateName::Broken => "broken",
        }
    }
}

/// Errors in a row, without anything that worked in between.
#[derive(Debug, Serialize, Deserialize)]
pub struct FailingReport {
    /// Since the first of them, in seconds.
    pub for_s: u64,
    /// How many.
    pub errors: u64,
}

/// What went wrong last.
#[derive(Debug, Serialize, Deserialize)]
pub struct LastError {
    /// As the log says it.
    pub text: String,
    /// What the log's line names, and `forebay explain` knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Seconds.
    pub ago_s: u64,
}

/// What happens per second.
#[derive(Debug, Serialize, Deserialize)]
pub struct PerSecond {
    /// Messages that the node read from its queue.
    pub received: f64,
    /// Messages that it sent on, or that the other side took.
    pub sent: f64,
}

/// Of so many percent of the messages, the longest time in seconds.
#[derive(Debug, Serialize, Deserialize)]
pub struct LatencyReport {
    /// Half of them.
    pub p50_s: f64,
    /// Nine of ten.
    pub p90_s: f64,
    /// All but one of a hundred.
    pub p99_s: f64,
}

impl From<Percentiles> for LatencyReport {
    fn from(Percentiles { p50, p90, p99 }: Percentiles) -> LatencyReport {
        // What is told apart is about a microsecond.
        let seconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e6;
        LatencyReport { p50_s: seconds(p50), p90_s: seconds(p90), p99_s: seconds(p99) }
    }
}

/// What waits in front of a node.
#[derive(Debug, Serialize, Deserialize)]
pub struct QueueReport {
    /// In memory and on disk.
    pub messages: usize,
    /// On disk, where they are there, else in memory.
    pub bytes: u64,
    /// How much of its limits is used, from 0 to 1.
    pub used: f64,
    /// How long the oldest that is in memory has waited, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_s: Option<u64>,
}

/// The report of what runs.
pub(super) fn of(
    graph: &Graph,
    stations: &BTreeMap<Name, Station>,
    connections: &BTreeMap<Name, RunningConnection>,
) -> Report {
    let node = |(name, station): (&Name, &Station)| {
        let spec = graph.nodes.get(name)?;
        let mut report = part(name, spec.role, &spec.type_name, &station.status);
        report.queue = (spec.role != Role::Source).then(|| queue(&station.inbox));
        report.connection = spec.connection.as_deref().map(str::to_owned);
        report.reads = spec.from.iter().map(Output::full_name).collect();
        // A sink waits for it without an attempt of its own, and has nothing to say.
        let used = spec.connection.as_ref().and_then(|used| Some((used, connections.get(used)?)));
        if let Some((used, connection)) = used
            && report.state == StateName::Starting
            && connection.status.state() != State::Running
        {
            report.state = StateName::Waiting;
            report.why = Some(format!("its connection {used} is not there yet"));
        }
        Some(report)
    };
    let connection = |(name, running): (&Name, &RunningConnection)| {
        let spec = graph.connections.get(name)?;
        let busy = Some(running.status.busy()).filter(|share| *share > 0.0);
        // What goes wrong with one of its clients says nothing of the others.
        let failing = None;
        Some(PartReport {
            busy,
            failing,
            ..part(name, Role::Connection, &spec.type_name, &running.status)
        })
    };
    Report {
        nodes: stations.iter().filter_map(node).collect(),
        connections: connections.iter().filter_map(connection).collect(),
    }
}

fn part(name: &Name, role: Role, type_name: &str, status: &Status) -> PartReport {
    let (state, why) = match status.state() {
        State::Starting => (StateName::Starting, None),
        State::Running => (StateName::Running, None),
        State::Waiting(why) => (StateName::Waiting, Some(why)),
        State::Broken(why) => (StateName::Broken, Some(why)),
    };
    let last_error = status.last_error();
    let by_name = |(name, number): (&str, u64)| (name.replace(' ', "_"), number);
    let rates = status.rates();
    let (latency, latencies) = status.latency().unzip();
    PartReport {
        name: name.to_string(),
        role,
        type_name: type_name.to_owned(),
        connection: None,
        reads: Vec::new(),
        state,
        for_s: status.stands_for().as_secs(),
        why,
        rule: status.rule().map(|rule| rule.name.to_owned()),
        held_up_by: status.held_up_by().map(|name| name.to_string()),
        held_by_link: status.held_by_link(),
        failing: status.failing().map(|status::Failing { lasts, errors }| FailingReport {
            for_s: lasts.as_secs(),
            errors,
        }),
        lasting: status.lasting(),
        last_error: last_error.map(|PastError { text, rule, ago_s, .. }| LastError {
            text,
            rule,
            ago_s,
        }),
        disk_fails: status.has_disk_failed(),
        counts: status.counts().some().map(by_name).collect(),
        errors_by_kind: status.errors_by_kind().map(by_name).collect(),
        bytes_to_disk_a_day: status.bytes_to_disk_a_day(),
        per_second: rates.map(|rates| PerSecond { received: rates.received, sent: rates.sent }),
        latency: latency.flatten().map(LatencyReport::from),
        latencies,
        queue: None,
        busy: None,
    }
}

fn queue(inbox: &Inbox) -> QueueReport {
    let Waiting { messages, bytes, oldest, limits } = inbox.look();
    let of_bytes = bytes as f64 / limits.max_bytes.max(1) as f64;
    let of_messages = messages as f64 / f64::from(limits.max_messages.max(1));
    let used = match limits.store {
        Store::Memory => of_bytes.max(of_messages),
        Store::Disk | Store::Spill => of_bytes,
    };
    QueueReport { messages, bytes, used: used.min(1.0), oldest_s: oldest.map(|age| age.as_secs()) }
}
