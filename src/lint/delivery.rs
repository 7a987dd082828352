//! What `must_deliver` and a buffer on disk promise, and what on the way breaks it.

use std::{collections::BTreeSet, time::Duration};

use forebay_sdk::{Finding, Period, Role, Span};
use forebay_yaml::Entry;

use super::{
    edits::beside,
    index::{Connections, Nodes},
};
use crate::{
    config::{Draft, Order, Part, Store, WhenFull},
    rules::{DROPS_WHEN_FULL, LOST_ON_RESTART, NEVER_CATCHES_UP, UNCONFIRMED_WRITE, UNREAD_ERRORS},
};

/// Reports what breaks the promises of the sinks of a pipeline.
pub(super) fn check(
    draft: &Draft,
    connections: &Connections<'_>,
    nodes: &Nodes<'_>,
    findings: &mut Vec<Finding>,
) {
    for sink in nodes.iter().filter(|node| node.role == Role::Sink) {
        let Some(configured) = &sink.configured else { continue };
        let capabilities = configured.capabilities();
        let must_deliver =
            sink.common_setting("must_deliver").filter(|_| sink.common.must_deliver).map(whole);
        findings.extend(never_catches_up(sink, nodes));
        let on_disk = sink.common.buffer.store != Store::Memory;
        if let Some(how) = capabilities.unconfirmed {
            let store = sink.common_setting("buffer").map(|buffer| buffer.value.at("store").span);
            match (must_deliver, store) {
                (Some(promise), _) => findings.push(unconfirmed(sink, promise, UNSURE, how)),
                (None, Some(store)) if on_disk => {
                    findings.push(unconfirmed(sink, store, LEAVES, how));
                }
                _ => (),
            }
        }
        let Some(promise) = must_deliver else { continue };
        let way = upstream(sink, nodes);
        for node in
            way.iter().copied().filter(|node| node.common.buffer.when_full != WhenFull::Block)
        {
            findings.push(drops(sink, promise, node));
        }
        // What a source heard to be safe is on disk then.
        if sink.common.buffer.store == Store::Disk {
            continue;
        }
        let sources = way.into_iter().filter(|node| node.role == Role::Source);
        let forgetful: Vec<(&Part, &str)> =
            sources.filter_map(|source| Some((source, forgets(source, connections)?))).collect();
        if !forgetful.is_empty() {
            findings.push(lost(draft, sink, promise, &forgetful));
        }
    }
}

/// Asks who reads what a sink that must deliver is refused. For pipelines whose wires are known.
pub(super) fn unread_errors(nodes: &Nodes<'_>, findings: &mut Vec<Finding>) {
    let is_read = |sink: &Part| {
        let mut inputs = nodes.iter().flat_map(|node| &node.from);
        inputs.any(|input| input.node == sink.short && input.output.as_deref() == Some("errors"))
    };
    let has_a_name = |sink: &Part| nodes.named(&sink.short).is_some();
    for sink in nodes.iter().filter(|sink| sink.common.must_deliver && has_a_name(sink)) {
        let capabilities = sink.configured.as_ref().map(|configured| configured.capabilities());
        let promise = sink.common_setting("must_deliver").map(whole);
        if let Some((capabilities, promise)) = capabilities.zip(promise)
            && capabilities.errors
            && !is_read(sink)
        {
            findings.push(nobody_reads_errors(sink, promise, capabilities.repeats));
        }
    }
}

fn nobody_reads_errors(sink: &Part, promise: Span, repeats: bool) -> Finding {
    let name = &sink.short;
    let label = if repeats {
        "what the other side will never take goes into the log, and is gone"
    } else {
        "what may have arrived is not sent again: it goes into the log, and is gone"
    };
    let message = format!("`{name}` must deliver, and nobody reads its errors");
    Finding::warning(&UNREAD_ERRORS, promise, message, label)
        .context(sink.name_span, "")
        .help(format!("read them with `from: {name}.errors`, and keep them in a file, say"))
}

/// With `order: fifo` what comes now waits behind what waited, so all of it leaves at `drain_rate`.
/// Looks at what the sink reads from sources directly: a transform may pass on less.
fn never_catches_up(sink: &Part, nodes: &Nodes<'_>) -> Option<Finding> {
    let drain_every = sink.common.buffer.drain_every?;
    let sources = sink.from.iter().filter(|input| input.output.is_none());
    let sources = sources.filter_map(|input| {
        let source = nodes.read_by(input).filter(|node| node.role == Role::Source)?;
        let every = source.settings.get("every")?.scalar()?.as_text()?.to_owned();
        Some((source, Period::parse(&every).ok()?.0))
    });
    let sources: Vec<(&Part, Duration)> = sources.collect();
    let live: f64 = sources.iter().map(|(_, every)| every.as_secs_f64().recip()).sum();
    if sink.common.buffer.order != Order::Fifo || live * drain_every.as_secs_f64() < 1.0 {
        return None;
    }
    let names: Vec<String> = sources.iter().map(|(node, _)| format!("`{}`", node.short)).collect();
    let (names, sends) = (names.join(" and "), if sources.len() == 1 { "sends" } else { "send" });
    let message = format!("`{}` never catches up after an outage", sink.short);
    let label = format!("{names} {sends} {}", rate(live));
    let place = sink.common_setting("buffer")?.value.at("drain_rate").span;
    Some(
        Finding::warning(&NEVER_CATCHES_UP, place, message, label)
            .context(sink.name_span, "")
            .help(format!(
                "a rate above {}, or `order: live_first`, which sends what comes now at once",
                rate(live)
            ))
            .note("with `order: fifo`, what comes now waits behind what waited, at the same rate"),
    )
}

/// In the largest unit that suits: `2/s`, `12/m`.
fn rate(per_second: f64) -> String {
    let units = [("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let fits = |(_, seconds): &&(&str, f64)| per_second * seconds >= 1.0;
    let (unit, seconds) = units.iter().find(fits).unwrap_or(&units[2]);
    format!("{}/{unit}", (per_second * seconds * 10.0).round() / 10.0)
}

/// Why a source would not send again what was lost. None when it would, or when nobody knows.
fn forgets(source: &Part, connections: &Connections<'_>) -> Option<&'static str> {
    if !source.configured.as_ref()?.capabilities().resends {
        return Some("cannot send again what was lost");
    }
    let connection = connections.get(source.uses.as_ref()?)?;
    let keeps = connection.configured.as_ref()?.capabilities().resends;
    (!keeps).then_some("its connection keeps nothing while this program is away")
}

const UNSURE: &str = "so this cannot be promised";
const LEAVES: &str = "leaves the buffer when it is sent, not when it arrives";

/// The node itself, and all from which messages come to it.
fn upstream<'a>(node: &'a Part, nodes: &Nodes<'a>) -> Vec<&'a Part> {
    let mut seen: BTreeSet<&str> = BTreeSet::from([node.short.as_str()]);
    let mut way = vec![node];
    let mut next = 0;
    while let Some(here) = way.get(next).copied() {
        next += 1;
        for input in &here.from {
            let source = nodes.read_by(input);
            way.extend(source.filter(|source| seen.insert(&source.short)));
        }
    }
    way
}

fn lost(draft: &Draft, sink: &Part, promise: Span, sources: &[(&Part, &str)]) -> Finding {
    let names: Vec<String> = sources.iter().map(|(node, _)| format!("`{}`", node.short)).collect();
    let (names, sends) = (names.join(" and "), if sources.len() == 1 { "sends" } else { "send" });
    let message = format!("what {names} {sends} to `{}` is lost by a restart", sink.short);
    let mut finding = Finding::error(&LOST_ON_RESTART, promise, message, "it waits in memory");
    for (source, why) in sources {
        finding = finding.context(source.name_span, *why);
    }
    finding = finding.context(sink.name_span, "");
    if let Some(buffer) = sink.common_setting("buffer") {
        let help = match buffer.value.get("store") {
            Some(_) => "`store: disk` keeps it",
            None => "`store: disk` in its `buffer` keeps it",
        };
        return finding.help(help);
    }
    if sink.origin.is_some() {
        // What it was made of may have no place for one.
        return finding.help("`store: disk` in a `buffer` keeps it");
    }
    let (behind, text) = beside(&draft.texts, promise, "buffer: { store: disk }");
    finding.edit("a buffer on disk keeps it, also when the power fails", behind, text)
}

fn drops(sink: &Part, promise: Span, node: &Part) -> Finding {
    let place = node.common_setting("buffer").map(|buffer| buffer.value.at("when_full").span);
    let place = place.unwrap_or(node.span());
    let message = match node.short == sink.short {
        true => format!("`{}` must deliver, and drops what finds its buffer full", sink.short),
        false => {
            format!("`{}` drops messages that `{}` must deliver", node.short, sink.short)
        }
    };
    Finding::error(&DROPS_WHEN_FULL, place, message, "expected `block`, so that sources wait")
        .context(promise, "promised here")
        .edit("`block` drops nothing", place, "block")
}

fn unconfirmed(sink: &Part, span: Span, label: &str, how: &str) -> Finding {
    let message = format!("{} does not hear whether a message arrived", sink.title());
    Finding::error(&UNCONFIRMED_WRITE, span, message, label).context(sink.name_span, "").help(how)
}

/// A setting with its value, or its first line.
fn whole(entry: &Entry) -> Span {
    Span { end: entry.value.span.end.max(entry.key_span.end), ..entry.key_span }
}
