//! Every connection that a node uses is there, suits it, and is used by somebody.

use std::{any::Any, collections::BTreeSet};

use forebay_sdk::{
    Finding, Level, Span,
    finding::{nearest, quoted},
};

use super::{edits::beside, index::Connections};
use crate::{
    config::{Draft, How, Part, Uses},
    rules::{UNKNOWN_CONNECTION, UNUSED_CONNECTION},
};

pub(super) fn check(draft: &Draft, connections: &Connections<'_>, findings: &mut Vec<Finding>) {
    let mut used = BTreeSet::new();
    for part in &draft.parts {
        let Some(uses) = &part.uses else { continue };
        match connections.get(uses) {
            Some(connection) => {
                used.insert(&*connection.name);
                findings.extend(unfit(part, uses, connection));
                on_connection(draft, part, connection, findings);
            }
            // One that is written in place and could not be read was reported there.
            None if uses.how == How::InPlace => (),
            None => findings.push(unknown(part, uses, connections)),
        }
    }
    if findings.iter().any(|finding| finding.level == Level::Error) {
        // What seems unused may be what an error stands in for.
        return;
    }
    let asks_link = draft.parts.iter().any(|part| !part.common.link.is_empty());
    for part in connections.iter().filter(|part| !used.contains(&*part.name)) {
        let Some(configured) = &part.configured else { continue };
        if asks_link && configured.knows_link() {
            continue;
        }
        // A broker does its work for others, in this folder or not.
        if !configured.capabilities().serves {
            let message = format!("connection `{}` is not used", part.short);
            findings.push(Finding::warning(&UNUSED_CONNECTION, part.span(), message, ""));
        }
    }
}

fn unknown(part: &Part, uses: &Uses, connections: &Connections<'_>) -> Finding {
    let message = format!("no connection is named `{}`", uses.connection);
    let label = "not found in this folder";
    let finding =
        Finding::error(&UNKNOWN_CONNECTION, uses.span, message, label).context(part.name_span, "");
    let names: Vec<&str> = connections.names().collect();
    match (nearest(&uses.connection, names.iter().copied()), names.as_slice()) {
        (Some(near), _) => finding.edit("a connection with a similar name exists", uses.span, near),
        (None, []) => finding.help("declare it in a section `connections:`"),
        (None, names) => {
            finding.help(format!("connections here are {}", quoted(names.iter().copied())))
        }
    }
}

/// A connection of another type than the node can use.
fn unfit(part: &Part, uses: &Uses, connection: &Part) -> Option<Finding> {
    let allowed = part.node_type.as_ref()?.connections();
    if connection.configured.is_none() || allowed.iter().any(|name| *name == connection.type_name) {
        return None;
    }
    let message = format!("{} cannot use connection `{}`", part.title(), connection.short);
    let allowed: Vec<String> = allowed.iter().map(|name| format!("`{name}`")).collect();
    let (allowed, found) = (allowed.join(" or "), &connection.type_name);
    let label = format!("expected one of type {allowed}, found `{found}`");
    let finding = Finding::error(&UNKNOWN_CONNECTION, uses.span, message, label);
    Some(finding.context(connection.name_span, ""))
}

/// What a node says of the connection that it uses.
fn on_connection(draft: &Draft, part: &Part, connection: &Part, findings: &mut Vec<Finding>) {
    let (Some(configured), Some(on)) = (&part.configured, &connection.configured) else { return };
    let settings: &dyn Any = &**on;
    let refused = if configured.switches() { on.refuses_switching() } else { None };
    findings.extend(configured.check_on(settings).into_iter().chain(refused).map(|mut problem| {
        let edit = problem.of_connection.take();
        let finding = part.place(problem, &draft.texts);
        let finding = finding.context(connection.name_span, "on this connection");
        let edit = edit.and_then(|(key, value)| setting_of(draft, connection, key, &value));
        match edit {
            Some((place, text)) => finding.edit("this is what it wants", place, text),
            None => finding,
        }
    }));
}

/// What to put where, so that a connection has a setting.
fn setting_of(draft: &Draft, connection: &Part, key: &str, value: &str) -> Option<(Span, String)> {
    if let Some(entry) = connection.settings.entry(key) {
        return Some((entry.value.span, value.to_owned()));
    }
    // One that was taken out of a whole may have no place for it.
    let entries = connection.settings.entries().filter(|_| connection.origin.is_none())?;
    let simple = entries.iter().filter(|entry| entry.value.text().is_some());
    let last = simple.max_by_key(|entry| entry.value.span.end)?;
    let place = Span { start: last.key_span.start, ..last.value.span };
    Some(beside(&draft.texts, place, &format!("{key}: {value}")))
}
