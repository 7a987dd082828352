//! What is told of the status of the program: as little as tells a person at the other end of a metered link whether
//! and where to look.

use std::collections::BTreeMap;

use forebay_sdk::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

/// Which nodes and connections a message has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shown {
    /// Those that wait, are broken, fail at all they do, or have a buffer that is nearly full or on a disk that fails.
    #[default]
    Wrong,
    /// All.
    All,
    /// None.
    None,
}

/// What a message has.
pub(crate) const NAMES: [&str; 13] = [
    "state",
    "why",
    "version",
    "uptime_s",
    "memory_bytes",
    "clock_is_set",
    "pipelines",
    "files",
    "errors",
    "lost",
    "dropped",
    "bytes_to_disk",
    "nodes",
];

/// What `forebay status --format json` prints, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct Status {
    version: String,
    running_for_s: u64,
    memory_bytes: Option<u64>,
    clock_is_set: bool,
    health: Health,
    files: Files,
    nodes: Vec<Part>,
    connections: Vec<Part>,
}

#[derive(Deserialize)]
struct Health {
    state: String,
    why: Vec<String>,
}

#[derive(Deserialize)]
struct Files {
    pipelines: u64,
    since: Option<Change>,
    refused: Option<String>,
}

/// What came of a change of the files.
#[derive(Deserialize)]
struct Change {
    number: u64,
    result: String,
    at: String,
    content: String,
}

/// A node or connection.
#[derive(Deserialize, Serialize)]
struct Part {
    #[serde(skip_serializing)]
    name: String,
    state: String,
    for_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    disk_fails: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    counts: BTreeMap<String, u64>,
    /// The `errors` among the counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    errors_by_kind: BTreeMap<String, u64>,
    /// When all that it does fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    failing: Option<Failing>,
    /// What tells what to do about `why`.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_to_disk_a_day: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Queue>,
    /// How long messages took to be delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Latency>,
}

/// Of so many percent of them, the longest time in seconds.
#[derive(Deserialize, Serialize)]
struct Latency {
    p50_s: f64,
    p90_s: f64,
    p99_s: f64,
}

/// Errors in a row, without anything that worked in between.
#[derive(Deserialize, Serialize)]
struct Failing {
    for_s: u64,
    errors: u64,
}

/// What waits in front of a node.
#[derive(Deserialize, Serialize)]
struct Queue {
    messages: u64,
    bytes: u64,
    used: f64,
}

/// What is told at once when it changes.
#[derive(PartialEq, Eq)]
pub(crate) struct Standing {
    state: String,
    change: Option<u64>,
    refused: Option<String>,
    wrong: Vec<(String, String)>,
}

impl Status {
    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.connections.iter().chain(&self.nodes)
    }

    pub(crate) fn standing(&self) -> Standing {
        let wrong = self.parts().filter(|part| part.is_wrong());
        Standing {
            state: self.health.state.clone(),
            change: self.files.since.as_ref().map(|change| change.number),
            refused: self.files.refused.clone(),
            wrong: wrong.map(|part| (part.name.clone(), part.state.clone())).collect(),
        }
    }

    pub(crate) fn summary(&self, shown: Shown) -> Value {
        let all =
            |name: &str| -> u64 { self.parts().filter_map(|part| part.counts.get(name)).sum() };
        let files = self.files.since.as_ref().map(|change| {
            let Change { number, result, at, content } = change;
            json!({ "change": number, "result": result, "at": at, "content": content })
        });
        let mut said = json!({
            "state": self.health.state,
            "why": self.health.why,
            "version": self.version,
            "uptime_s": self.running_for_s,
            "memory_bytes": self.memory_bytes,
            "clock_is_set": self.clock_is_set,
            "pipelines": self.files.pipelines,
            "files": files,
            "errors": all("errors"),
            "lost": all("lost") + all("refused"),
            "dropped": all("dropped"),
            "bytes_to_disk": all("bytes_to_disk"),
        });
        if let Some(refused) = &self.files.refused {
            said["files"]["refused"] = refused.as_str().into();
        }
        let is_shown = |part: &&Part| match shown {
            Shown::All => true,
            Shown::Wrong => part.is_wrong(),
            Shown::None => false,
        };
        if shown != Shown::None {
            let named = |part: &Part| Some((part.name.clone(), serde_json::to_value(part).ok()?));
            let nodes: Map<_, _> = self.parts().filter(is_shown).filter_map(named).collect();
            said["nodes"] = nodes.into();
        }
        said
    }
}

impl Part {
    fn is_wrong(&self) -> bool {
        const NEARLY_FULL: f64 = 0.9;
        ["waiting", "broken"].contains(&&*self.state)
            || self.disk_fails
            || self.failing.is_some()
            || self.queue.as_ref().is_some_and(|queue| queue.used >= NEARLY_FULL)
    }
}
