//! Graph to findings. What concerns one node is found when its settings are read; what concerns
//! several is found here. Both `lint` and `run` come through [`lint`].

mod busy;
mod connections;
mod delivery;
mod edits;
mod fields;
mod index;
mod levels;
mod link;
mod loops;
mod names;
/// The pages of rules.
#[cfg(test)]
mod pages {
    mod tests;
}
pub mod report;
mod sharing;
#[cfg(test)]
mod tests;
mod wires;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use forebay_sdk::{
    Finding, Level, Role, Rule, Span,
    rules::{BAD_CERTIFICATE, DUPLICATE_KEY},
};
use forebay_yaml::Entry;

use self::index::{Connections, Nodes};
use crate::{
    config::{Draft, Graph, Name, Part, Place, Runtime, Texts, Watched},
    rules::{BAD_NAME, DUPLICATE_NODE, NO_INPUT, UNKNOWN_NODE, UNKNOWN_OUTPUT, UNSET_VARIABLE},
};

/// What came of checking a folder.
pub struct Checked {
    /// None when there is an error, or a value is set elsewhere.
    pub graph: Option<Graph>,
    /// The settings of the runtime.
    pub runtime: Runtime,
    /// In the order of files and lines.
    pub findings: Vec<Finding>,
    /// The files, for showing.
    pub texts: Texts,
    /// Where a change matters.
    pub watched: Watched,
    /// Where each node and connection is written.
    pub written: BTreeMap<Name, Span>,
    /// Where pipeline files were looked for.
    pub place: Place,
    /// Changes when anything that was read does.
    pub content_hash: u64,
    /// Changes when something does that was read and is not among the texts: secrets, certificates.
    pub unshown_hash: u64,
    /// The number of pipeline files.
    pub pipelines: usize,
}

/// Checks what was read.
pub fn lint(mut draft: Draft) -> Checked {
    let mut findings = std::mem::take(&mut draft.findings);
    check(&draft, &mut findings);
    drop_what_follows(&mut findings);
    drop_edits_of_what_was_made(&draft, &mut findings);
    if draft.is_set_elsewhere {
        let elsewhere: [&Rule; 2] = [&BAD_CERTIFICATE, &UNSET_VARIABLE];
        findings.retain(|finding| !elsewhere.contains(&finding.rule));
    }
    levels::apply(&draft, &mut findings);
    for finding in findings.iter().filter(|finding| finding.rule == &DUPLICATE_KEY) {
        if let (Some(second), [(first, _), ..]) = (finding.span, finding.context.as_slice()) {
            draft.texts.hide_second(*first, second);
        }
    }
    for finding in &mut findings {
        draft.filled.hide(finding);
        draft.texts.hide_in(finding);
    }
    findings.sort_by_key(|finding| (finding.span, finding.level, finding.rule));
    findings.dedup();
    let (content_hash, unshown_hash) = (draft.content_hash(), draft.unshown_hash());
    let refused = findings.iter().any(|finding| finding.level == Level::Error);
    let (texts, watched) = (draft.texts.clone(), draft.watched.clone());
    let place = draft.place.clone();
    let written = draft.parts.iter();
    let written = written.map(|part| (Arc::clone(&part.name), part.written())).collect();
    let (runtime, pipelines) = (draft.runtime.clone(), draft.pipelines.len());
    let is_known = !refused && !draft.is_set_elsewhere;
    let graph = is_known.then(|| draft.into_graph());
    Checked {
        graph,
        runtime,
        findings,
        texts,
        watched,
        written,
        place,
        content_hash,
        unshown_hash,
        pipelines,
    }
}

/// Adds what is wrong to what reading has found.
fn check(draft: &Draft, findings: &mut Vec<Finding>) {
    let connections = Connections::of(draft);
    let pipelines = Nodes::of(draft);
    names::check(draft, findings);
    link::check(draft, findings);
    connections::check(draft, &connections, findings);
    busy::check(draft, &connections, findings);
    for nodes in &pipelines {
        wires::lead_somewhere(draft, nodes, findings);
        wires::cycles(nodes, findings);
        delivery::check(draft, &connections, nodes, findings);
    }
    // What seems never to happen may be what an error stands in for.
    let errors = findings.iter().filter(|finding| finding.level == Level::Error);
    let wrong: BTreeSet<u32> = errors.filter_map(|finding| Some(finding.span?.file)).collect();
    let with_parts: BTreeSet<&str> = draft.parts.iter().map(|part| &*part.pipeline).collect();
    for nodes in &pipelines {
        if !wrong.contains(&nodes.pipeline.file) || are_wires_known(draft, nodes, findings) {
            wires::unread(nodes, findings);
            delivery::unread_errors(nodes, findings);
        }
    }
    for nodes in pipelines.iter().filter(|nodes| !wrong.contains(&nodes.pipeline.file)) {
        wires::never(nodes, findings);
        fields::check(nodes, &draft.texts, findings);
        if !with_parts.contains(&*nodes.pipeline.name) {
            findings.push(names::empty(nodes, draft));
        }
    }
    loops::check(&pipelines, &connections, findings);
    sharing::check(draft, &connections, findings);
}

/// Whether all nodes of a pipeline are known, and what they read: what seems unread may be what an
/// error stands in for.
fn are_wires_known(draft: &Draft, nodes: &Nodes<'_>, findings: &[Finding]) -> bool {
    let wires: [&Rule; 5] = [&BAD_NAME, &DUPLICATE_NODE, &NO_INPUT, &UNKNOWN_NODE, &UNKNOWN_OUTPUT];
    let is_of_a_part = |span: Span| {
        let mut parts = draft.parts.iter().filter(|part| part.name_span.file == span.file);
        parts.any(|part| {
            let is_inside = part.settings.span.holds(span) || part.name_span == span;
            let from = part.settings.entry("from").or(part.common_setting("from"));
            let is_of = |from: &Entry| {
                let end = from.value.span.end.max(from.key_span.end);
                Span { end, ..from.key_span }.holds(span)
            };
            is_inside && !from.is_some_and(is_of)
        })
    };
    let is_about_wires = |finding: &&Finding| {
        let span = finding.span.filter(|span| span.file == nodes.pipeline.file);
        let is_apart = |span: Span| !is_of_a_part(span);
        finding.level == Level::Error
            && span.is_some_and(|span| wires.contains(&finding.rule) || is_apart(span))
    };
    let reads = |node: &Part| node.has_from || node.role == Role::Source;
    nodes.pipeline.is_whole
        && nodes.iter().all(reads)
        && !findings.iter().any(|finding| is_about_wires(&finding))
}

/// A value that could not be filled in is wrong in no other way that is known.
fn drop_what_follows(findings: &mut Vec<Finding>) {
    let is_unset = |finding: &&Finding| finding.rule == &UNSET_VARIABLE;
    let unset: Vec<Span> =
        findings.iter().filter(is_unset).filter_map(|finding| finding.span).collect();
    let follows = |span: Span| unset.iter().any(|unset| unset.holds(span));
    findings.retain(|finding| is_unset(&finding) || !finding.span.is_some_and(follows));
}

/// An edit of what has no place of its own would replace all that made it.
fn drop_edits_of_what_was_made(draft: &Draft, findings: &mut [Finding]) {
    let origins: BTreeSet<Span> = draft.parts.iter().filter_map(|part| part.origin).collect();
    for finding in findings {
        finding.edit.take_if(|edit| origins.contains(&edit.span));
    }
}

impl Checked {
    /// Whether there is nothing that could run, nor anything that was meant to.
    pub fn is_empty(&self) -> bool {
        self.pipelines == 0 && self.count(Level::Error) == 0
    }

    /// What a report shows.
    pub fn part(&self) -> report::Part<'_> {
        report::Part { findings: &self.findings, texts: &self.texts }
    }

    /// How many findings there are of a level.
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}
