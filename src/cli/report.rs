//! How what runs is, for whoever asks.

use std::fs;

use forebay_sdk::{Role, clock};
use serde::{Deserialize, Serialize};

use super::{
    output::{about, count_of},
    receipts::Receipt,
    running::Running,
};
use crate::{
    config::runtime::Allowed,
    engine::{PartReport, Report, StateName},
};

/// A node that waits for a shorter time is no reason to worry: devices are switched off, links come and go.
const WORRIES_AFTER_S: u64 = 30;
/// A buffer this full is.
const NEARLY_FULL: f64 = 0.9;
/// So many of what came of changes are told.
const MOST_RECEIPTS: usize = 20;

/// Whether all is well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Health {
    pub(super) state: Wellness,
    /// What is not well, a line each.
    pub(super) why: Vec<String>,
}

/// How well it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wellness {
    Well,
    /// It runs, and a person should look at something.
    Degraded,
    /// Nothing runs.
    NotReady,
}

/// Everything that is known.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) pid: u32,
    pub(super) running_for_s: u64,
    /// Memory that the process takes. Absent where the system does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory_bytes: Option<u64>,
    pub(super) health: Health,
    pub(super) files: Files,
    /// Whether the clock can be trusted.
    pub(super) clock_is_set: bool,
    #[serde(flatten)]
    pub(super) report: Report,
    /// What came of the changes so far, the newest first.
    pub(super) reloads: Vec<Receipt>,
    /// What whoever asks may have done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) allow: Vec<Allowed>,
}

/// Which files run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Files {
    pub(super) folder: String,
    pub(super) data: String,
    /// What runs, in words. Absent when nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) runs: Option<String>,
    pub(super) pipelines: usize,
    /// What was started or reloaded last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Receipt>,
    /// Why the folder as it stands now does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
    /// What lint finds in it, a line each.
    #[serde(default)]
    pub(super) findings: Vec<String>,
}

/// Everything that is known now.
pub(super) fn status(running: &Running, report: Report) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        running_for_s: running.began.elapsed().as_secs(),
        memory_bytes: resident_bytes(),
        health: health(running, &report),
        files: Files {
            folder: running.folder().display().to_string(),
            data: running.data().display().to_string(),
            runs: running.what_runs(),
            pipelines: running.pipelines,
            since: running.receipts.running().cloned(),
            refused: running.refused().map(str::to_owned),
            findings: running.findings.clone(),
        },
        clock_is_set: clock::moment().is_set,
        report,
        reloads: running.receipts.newest_first().take(MOST_RECEIPTS).cloned().collect(),
        allow: running.allowed().to_vec(),
    }
}

/// proc_pid_status(5).
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Whether all is well now.
pub(super) fn health(running: &Running, report: &Report) -> Health {
    let mut why = Vec::new();
    let what_runs = running.what_runs();
    if let Some(refused) = running.refused() {
        let goes_on = what_runs.as_deref().unwrap_or("nothing");
        why.push(match goes_on {
            "the folder" => format!("the files on disk are refused ({refused}); older ones run"),
            other => format!("the files on disk are refused ({refused}); {other} runs"),
        });
    }
    let parts = || report.connections.iter().chain(&report.nodes);
    why.extend(parts().flat_map(|part| complaints(part, report)));
    let state = match (what_runs, why.is_empty()) {
        (None, _) => Wellness::NotReady,
        (Some(_), true) => Wellness::Well,
        (Some(_), false) => Wellness::Degraded,
    };
    Health { state, why }
}

/// What is wrong with a node or connection. Of a node that only waits for its connection, that one tells.
fn complaints(part: &PartReport, report: &Report) -> Vec<String> {
    let mut said = Vec::new();
    let mut say = |what: String| said.push(format!("{} {}: {what}", part.role.noun(), part.name));
    let waits_for_connection = part.connection.as_ref().is_some_and(|used| {
        report
            .connections
            .iter()
            .any(|other| other.name == *used && other.state != StateName::Running)
    });
    let since = about(part.for_s);
    match (part.state, &part.why) {
        (StateName::Broken, Some(why)) => say(format!("broken for {since}: {why}")),
        _ if part.for_s < WORRIES_AFTER_S || waits_for_connection => (),
        (StateName::Waiting, Some(why)) => say(format!("waiting for {since}: {why}")),
        // A source or a device that has not said anything yet is not there.
        (StateName::Starting, _) if part.role == Role::Connection => {
            say(format!("nothing heard of the other side for {since}"));
        }
        _ => (),
    }
    if part.disk_fails {
        say("the disk under its buffer fails".to_owned());
    }
    if let Some(queue) = part.queue.as_ref().filter(|queue| queue.used >= NEARLY_FULL) {
        let waiting = count_of(queue.messages, "message");
        say(format!("its buffer is {:.0} % full, with {waiting}", queue.used * 100.0));
    }
    said
}
