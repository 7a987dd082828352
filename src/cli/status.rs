//! `forebay status`: how the pipelines that run are.

use std::{path::Path, time::Duration};

use anyhow::{anyhow, bail};

use super::{
    columns,
    folder::DataFolder,
    health, lock,
    output::{Ending, Format, Printed, about, count_of, print},
    receipts::Receipt,
    report::{Status, with_rule},
    runtime::block_on,
};
use crate::{
    api::{Answer, ask},
    engine::{FailingReport, LatencyReport, PartReport, QueueReport, StateName},
    lint::report::printable,
    warnings::LASTING_TROUBLE,
};

/// Show how the pipelines that run are: each node's state, numbers and what waits.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Only this node or connection, with all that is known of it, such as `boiler-room/meter`.
    node: Option<String>,
    #[command(flatten)]
    data: DataFolder,
    #[command(flatten)]
    printed: Printed,
}

/// An answer takes no longer.
pub(super) const WITHIN: Duration = Duration::from_secs(10);

/// How everything is that runs on a data folder.
pub(super) async fn ask_status(data: &Path) -> anyhow::Result<Status> {
    match ask(data, "/status", WITHIN).await? {
        Answer::Said(said) => Ok(serde_json::from_value(said)?),
        Answer::Nobody => Err(nobody_there(data)),
    }
}

pub(super) fn status(arguments: Arguments) -> anyhow::Result<Ending> {
    block_on(async move {
        let status = ask_status(&arguments.data.path(None)).await?;
        let text = match (&arguments.node, arguments.printed.format()) {
            (None, Format::Json) => format!("{}\n", serde_json::to_string(&status)?),
            (None, Format::Text) => all_as_text(&status),
            (Some(name), format) => {
                let part = find(&status, name)?;
                match format {
                    Format::Json => format!("{}\n", serde_json::to_string(part)?),
                    Format::Text => one_as_text(part, &status),
                }
            }
        };
        print(&text)?;
        Ok(Ending::Fine)
    })
}

/// Why nobody answers.
pub(super) fn nobody_there(data: &Path) -> anyhow::Error {
    let place = data.display();
    match lock::holder(data) {
        Some(holder) => {
            anyhow!("{holder} runs on {place} and cannot be asked; it may be another version")
        }
        None => anyhow!("nothing runs on {place}; `--data` says where else"),
    }
}

/// The node of that name, which may leave out the pipeline when there is only one such.
fn find<'a>(status: &'a Status, name: &str) -> anyhow::Result<&'a PartReport> {
    let parts = || status.report.nodes.iter().chain(&status.report.connections);
    if let Some(part) = parts().find(|part| part.name == name) {
        return Ok(part);
    }
    let is_short = |part: &&PartReport| part.name.rsplit('/').next() == Some(name);
    let found: Vec<&PartReport> = parts().filter(is_short).collect();
    match found.as_slice() {
        [part] => Ok(part),
        [] => bail!("no node or connection is named `{name}`; `forebay status` lists them"),
        several => {
            let names: Vec<_> = several.iter().map(|part| format!("`{}`", part.name)).collect();
            bail!("`{name}` can be {}", names.join(" or "))
        }
    }
}

/// What runs, in a line without an end.
pub(super) fn headline(status: &Status) -> String {
    let Status { version, pid, running_for_s, .. } = status;
    format!("forebay {version}, process {pid}, running for {}", about(*running_for_s))
}

fn all_as_text(status: &Status) -> String {
    let Status { files, report, .. } = status;
    let mut text = headline(status) + "\n";
    let runs = match files.runs.as_deref() {
        Some("the folder") => files.folder.clone(),
        Some(other) => other.to_owned(),
        None => "nothing".to_owned(),
    };
    let (pipelines, nodes) =
        (count_of(files.pipelines, "pipeline"), count_of(report.nodes.len(), "node"));
    text += &format!("runs {}: {pipelines}, {nodes}\n", printable(&runs));
    if let Some(receipt) = &files.since {
        text += &format!("{}\n", receipt_line(receipt));
    }
    if !status.clock_is_set {
        text += "the clock was not set yet: times of messages are put right later\n";
    }
    text += &health::as_text(&status.health);
    let parts: Vec<&PartReport> = report.parts().collect();
    if !parts.is_empty() {
        text += &format!("\n{}", table(&parts, None));
    }
    text
}

/// `change 4 at 2026-11-29T12:00:00.000Z: reloaded, content 5f…; no findings in 2 pipelines`.
fn receipt_line(receipt: &Receipt) -> String {
    let Receipt { number, at, result, content, findings, .. } = receipt;
    format!("change {number} at {at}: {}, content {content}, {findings}", result.word())
}

/// Of a name, at least so much is shown.
const SHORTEST_NAME: usize = 8;

const HEADS: [&str; 7] = ["NODE", "STATE", "FOR", "IN/S", "OUT/S", "WAITING", "ERRORS"];

/// What is left of it where there is little room: the name, the state, what waits, errors.
const NARROW: [usize; 4] = [0, 1, 5, 6];
const NARROW_BELOW: usize = 60;

/// A line for each, under a line of what stands in it; where they are to be no wider than this, with shorter names.
pub(super) fn table(parts: &[&PartReport], most: Option<usize>) -> String {
    let mut rows: Vec<[String; HEADS.len()]> = parts.iter().map(|part| row(part)).collect();
    let heads = HEADS.map(str::to_owned);
    let all: [usize; HEADS.len()] = std::array::from_fn(|column| column);
    let shown = match most {
        Some(..NARROW_BELOW) => &NARROW[..],
        _ => &all[..],
    };
    let width = |column: usize| {
        let cells = rows.iter().chain([&heads]).map(|row| columns::width(&row[column]));
        cells.max().unwrap_or(0)
    };
    let mut widths: [usize; HEADS.len()] = std::array::from_fn(width);
    if let Some(most) = most {
        let others: usize = shown[1..].iter().map(|column| widths[*column] + 2).sum();
        widths[0] = widths[0].min(most.saturating_sub(others)).max(SHORTEST_NAME);
        // Its end tells nodes apart: `…oom/meter`.
        rows.iter_mut().for_each(|row| row[0] = columns::cut_beginning(&row[0], widths[0]));
    }
    let mut text = String::new();
    for row in [&heads].into_iter().chain(&rows) {
        let mut line = String::new();
        for &column in shown {
            let (cell, width) = (&row[column], widths[column]);
            // Words to the left, numbers to the right.
            line += &if column < 2 {
                columns::padded(cell, width) + "  "
            } else {
                format!("{cell:>width$}  ")
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn row(part: &PartReport) -> [String; HEADS.len()] {
    let rate = |rate: f64| match rate {
        0.0 => "0".to_owned(),
        small if small < 10.0 => format!("{small:.2}"),
        large => format!("{large:.0}"),
    };
    let (state, for_s) = match part.failing {
        Some(FailingReport { for_s, .. }) => ("failing", for_s),
        None => (part.state.word(), part.for_s),
    };
    let rates = part.per_second.as_ref();
    let count = |name: &str| part.counts.get(name).copied().unwrap_or(0);
    let waiting = |queue: &QueueReport| match queue.messages {
        0 => "0".to_owned(),
        messages => format!("{messages} ({:.0} %)", queue.used * 100.0),
    };
    [
        printable(&part.name).into_owned(),
        state.to_owned(),
        short(for_s),
        rates.map_or_else(|| "-".to_owned(), |rates| rate(rates.received)),
        rates.map_or_else(|| "-".to_owned(), |rates| rate(rates.sent)),
        part.queue.as_ref().map_or_else(|| "-".to_owned(), waiting),
        count("errors").to_string(),
    ]
}

/// A time in a table: `45s`, `12m`, `3h12m`, `5d`.
pub(super) fn short(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600, seconds / 60) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, minutes) => format!("{hours}h{:02}m", minutes % 60),
        (days, ..) => format!("{days}d"),
    }
}

/// From the source to the other side: `half within 2.1 ms, 90 % within 3.4 ms, 99 % within 12 ms`.
pub(super) fn latency_of(latency: &LatencyReport) -> String {
    let LatencyReport { p50_s, p90_s, p99_s } = *latency;
    let [p50, p90, p99] = [p50_s, p90_s, p99_s].map(brief);
    format!("half within {p50}, 90 % within {p90}, 99 % within {p99}")
}

/// A time of a message: `0.12 ms`, `45 ms`, `3.2 s`, `12m`.
fn brief(seconds: f64) -> String {
    match seconds * 1e3 {
        millis if millis < 10.0 => format!("{millis:.2} ms"),
        millis if millis < 1000.0 => format!("{millis:.0} ms"),
        _ if seconds < 60.0 => format!("{seconds:.1} s"),
        _ => short(seconds as u64),
    }
}

/// `waiting for 12 minutes: nothing listens at 10.0.0.7:1883 (forebay explain tried-again)`.
fn state_of(part: &PartReport) -> String {
    let since = format!("{} for {}", part.state.word(), about(part.for_s));
    match &part.why {
        Some(why) => format!("{since}: {}", with_rule(why, part.rule.as_deref())),
        None => since,
    }
}

/// Whether a message ever came out of an output. What left a node by which of them is not told.
fn has_sent(output: &str, status: &Status) -> bool {
    let (counted, is_it) = match output.strip_suffix(".errors") {
        Some(node) => ("errors", node),
        None => ("emitted", output),
    };
    let of = |part: &&PartReport| {
        is_it.strip_prefix(&*part.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let part = status.report.nodes.iter().find(of);
    part.is_none_or(|part| part.counts.contains_key(counted))
}

/// Of errors: `: 12 not read, 5 other`.
fn kinds_of(part: &PartReport) -> String {
    let kinds = part.errors_by_kind.iter();
    let kinds: Vec<_> = kinds.map(|(kind, n)| format!("{n} {}", kind.replace('_', " "))).collect();
    format!(": {}", kinds.join(", "))
}

/// Of what is written to disk: `, at this rate 3.1 MB a day`.
fn a_day(part: &PartReport) -> String {
    let bytes = part.bytes_to_disk_a_day;
    bytes.map_or_else(String::new, |bytes| format!(", at this rate {} a day", large(bytes)))
}

/// Bytes: `412 kB`, `3.1 MB`, `12 GB`.
fn large(bytes: u64) -> String {
    let bytes = bytes as f64;
    let (number, unit) = match bytes {
        _ if bytes < 999.5e3 => (bytes / 1e3, "kB"),
        _ if bytes < 999.5e6 => (bytes / 1e6, "MB"),
        _ => (bytes / 1e9, "GB"),
    };
    let decimals = usize::from(number < 9.95);
    format!("{number:.decimals$} {unit}")
}

/// All that is known of one.
fn one_as_text(part: &PartReport, status: &Status) -> String {
    let mut text = format!(
        "{}: {} of type {}\n",
        printable(&part.name),
        part.role.noun(),
        printable(&part.type_name)
    );
    let mut line = |what: &str, value: String| {
        text += &format!("{what:<14}{}\n", printable(&value));
    };
    line("state", state_of(part));
    if let Some(FailingReport { for_s, errors }) = part.failing {
        line("fails", format!("for {}, {errors} errors in a row", about(for_s)));
    }
    for what in &part.lasting {
        line("trouble", with_rule(what, Some(LASTING_TROUBLE.name)));
    }
    if let Some(by) = &part.held_up_by {
        line("held up by", format!("{by}, which has no room"));
    }
    if let Some(when) = &part.held_by_link {
        let less = if part.state == StateName::Waiting { "nothing" } else { "less" };
        line("link", format!("writes {less} as long as {when}"));
    }
    if !part.reads.is_empty() {
        let read = |output: &String| match has_sent(output, status) {
            true => output.clone(),
            false => format!("{output} (has sent nothing yet)"),
        };
        line("reads", part.reads.iter().map(read).collect::<Vec<_>>().join(", "));
    }
    if let Some(used) = &part.connection {
        let of_it = status.report.connections.iter().find(|other| other.name == *used);
        let stuck = of_it.filter(|other| other.state != StateName::Running);
        line(
            "connection",
            stuck.map_or_else(|| used.clone(), |it| format!("{used}: {}", state_of(it))),
        );
    }
    if let Some(queue) = &part.queue {
        let messages = count_of(queue.messages, "message");
        let used = format!("{messages}, {} bytes, {:.0} % full", queue.bytes, queue.used * 100.0);
        let oldest = queue.oldest_s.map(|age| format!("{used}, the oldest for {}", about(age)));
        line("waiting", oldest.unwrap_or(used));
    }
    if let Some(busy) = part.busy {
        line("busy", format!("{:.0} % of the time", busy * 100.0));
    }
    if let Some(rates) = &part.per_second {
        let (received, sent) = (rates.received, rates.sent);
        line("per second", format!("{received:.2} received, {sent:.2} sent"));
    }
    if let Some(latency) = &part.latency {
        line("latency", latency_of(latency));
    }
    for (name, number) in &part.counts {
        let more = match &**name {
            "errors" => kinds_of(part),
            "bytes_to_disk" => a_day(part),
            _ => String::new(),
        };
        line(&name.replace('_', " "), format!("{number}{more}"));
    }
    if let Some(error) = &part.last_error {
        let text = with_rule(&error.text, error.rule.as_deref());
        line("last error", format!("{} ago: {text}", about(error.ago_s)));
    }
    text
}
