//! What `must_deliver` and a buffer on disk promise, and what on the way breaks it.

use std::collections::BTreeSet;

use forebay_sdk::{Finding, Role, Span};
use forebay_yaml::Entry;

use super::index::{Connections, Nodes};
use crate::{
    config::{Draft, Part, Store, WhenFull},
    rules::{DROPS_WHEN_FULL, LOST_ON_RESTART, UNCONFIRMED_WRITE},
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
    // In a line of its own, or behind a comma.
    let text = draft.texts.text(promise.file);
    let before = &text[..promise.range().start];
    let indent = &before[before.rfind('\n').map_or(0, |newline| newline + 1)..];
    let separator = match indent.trim().is_empty() {
        true => format!("\n{indent}"),
        false => ", ".to_owned(),
    };
    let behind = Span { start: promise.end, ..promise };
    let title = "a buffer on disk keeps it, also when the power fails";
    finding.edit(title, behind, format!("{separator}buffer: {{ store: disk }}"))
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
