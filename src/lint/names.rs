//! One name, one thing: of pipelines, connections and nodes.

use std::collections::HashMap;

use forebay_sdk::{Finding, Role, Span};

use super::index::Nodes;
use crate::{
    config::{Draft, Part},
    rules::{DUPLICATE_CONNECTION, DUPLICATE_NODE, DUPLICATE_PIPELINE, EMPTY_PIPELINE},
};

/// Also across the sections of a file, and for connections across files.
pub(super) fn check(draft: &Draft, findings: &mut Vec<Finding>) {
    let mut files: HashMap<&str, u32> = HashMap::new();
    for pipeline in &draft.pipelines {
        if let Some(other) = files.insert(&pipeline.name, pipeline.file) {
            let message = format!("two files are pipeline `{}`", pipeline.name);
            let span = Span::new(pipeline.file, 0..0);
            let label = format!("{} has this name too", draft.texts.path(other));
            let finding = Finding::error(&DUPLICATE_PIPELINE, span, message, label);
            findings.push(finding.help("rename one of them, or merge the two"));
        }
    }
    let mut first: HashMap<&str, &Part> = HashMap::new();
    let mut first_whole: HashMap<&str, &Part> = HashMap::new();
    for part in &draft.parts {
        let same = *first.entry(&part.name).or_insert(part);
        let whole = *first_whole.entry(whole(&part.name, part)).or_insert(part);
        // What was made of one thing shares the name of that.
        let other = if whole.name_span == part.name_span { same } else { whole };
        let is_in_two_files =
            part.role != Role::Connection && other.name_span.file != part.name_span.file;
        // Two files of one name are reported as that.
        if !std::ptr::eq(other, part) && !is_in_two_files {
            findings.push(twice(other, part));
        }
    }
}

/// The name of what a part was taken out of, or its own.
fn whole<'a>(name: &'a str, part: &Part) -> &'a str {
    match name.split_once(':') {
        Some((whole, _)) if part.origin.is_some() => whole,
        _ => name,
    }
}

fn twice(first: &Part, again: &Part) -> Finding {
    let (rule, noun) = match again.role {
        Role::Connection => (&DUPLICATE_CONNECTION, "connections"),
        _ => (&DUPLICATE_NODE, "nodes"),
    };
    // Two parts of one thing, or the names of two things.
    let is_within = first.name_span == again.name_span;
    let (name, places) = if is_within {
        (again.short.as_str(), [first.span(), again.span()])
    } else {
        (whole(&again.short, again), [first.name_span, again.name_span])
    };
    let message = format!("two {noun} are called `{name}`");
    Finding::error(rule, places[1], message, "again here").context(places[0], "first here")
}

/// A file that has no node. It would stop what ran under its name, and is rarely meant to: it was not
/// copied completely, or saved before it was written.
pub(super) fn empty(nodes: &Nodes<'_>, draft: &Draft) -> Finding {
    let pipeline = nodes.pipeline;
    let text = draft.texts.text(pipeline.file);
    let is_comment = |line: &str| line.starts_with('#') || line.is_empty();
    let (message, at) = match text.trim().is_empty() {
        true => ("file is empty", 0),
        // Behind the comments, one of which may allow it.
        false if text.lines().map(str::trim).all(is_comment) => {
            ("file holds nothing but comments", text.len())
        }
        false => ("pipeline has no node", 0),
    };
    let nowhere = Span::new(pipeline.file, at..at);
    let help = "to stop a pipeline, delete its file or let its name end in `.off`";
    Finding::error(&EMPTY_PIPELINE, nowhere, message, "").help(help)
}
