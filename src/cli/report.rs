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
    warnings::{BUFFER_DISK_FAILS, LAST_GOOD_CANNOT_RUN, LAST_GOOD_RUNS, RELOAD_REFUSED},
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
        let (goes_on, rule) = match what_runs.as_deref() {
            Some("the folder") => ("older ones run".to_owned(), &RELOAD_REFUSED),
            Some(other) => (format!("{other} runs"), &LAST_GOOD_RUNS),
            None => ("nothing runs".to_owned(), &LAST_GOOD_CANNOT_RUN),
        };
        let what = format!("the files on disk are refused ({refused}); {goes_on}");
        why.push(with_rule(&what, Some(rule.name)));
    }
    why.extend(report.parts().flat_map(|part| complaints(part, report)));
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
    let because = |why| with_rule(why, part.rule.as_deref());
    match (part.state, &part.why) {
        (StateName::Broken, Some(why)) => say(format!("broken for {since}: {}", because(why))),
        _ if part.for_s < WORRIES_AFTER_S || waits_for_connection => (),
        (StateName::Waiting, Some(why)) => say(format!("waiting for {since}: {}", because(why))),
        // A source or a device that has not said anything yet is not there.
        (StateName::Starting, _) if part.role == Role::Connection => {
            say(format!("nothing heard of the other side for {since}"));
        }
        _ => (),
    }
    if let (Some(failing), Some(error)) = (&part.failing, &part.last_error) {
        let why = with_rule(&error.text, error.rule.as_deref());
        say(format!("fails for {}: {why}", about(failing.for_s)));
    }
    if part.disk_fails {
        say(with_rule("the disk under its buffer fails", Some(BUFFER_DISK_FAILS.name)));
    }
    if let Some(queue) = part.queue.as_ref().filter(|queue| queue.used >= NEARLY_FULL) {
        let waiting = count_of(queue.messages, "message");
        let held_up =
            report.nodes.iter().filter(|other| other.held_up_by.as_ref() == Some(&part.name));
        let held_up: Vec<&str> = held_up.map(|other| &*other.name).collect();
        let held_up = match &*held_up {
            [] => String::new(),
            [one] => format!("; {one} waits for room"),
            [one, others @ ..] => {
                format!("; {one} and {} wait for room", count_of(others.len(), "other"))
            }
        };
        say(format!("its buffer is {:.0} % full, with {waiting}{held_up}", queue.used * 100.0));
    }
    said
}

/// With what tells what to do about it.
pub(super) fn with_rule(what: &str, rule: Option<&str>) -> String {
    match rule {
        Some(rule) => format!("{what} (forebay explain {rule})"),
        None => what.to_owned(),
    }
}
