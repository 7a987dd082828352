//! Every `from:` leads to an output that is there, data flows one way, and what is made is read.

use std::collections::{BTreeSet, HashMap};

use forebay_sdk::{
    Finding, Role, Span,
    finding::{nearest, quoted},
};
use forebay_yaml::{Content, is_called};

use super::index::Nodes;
use crate::{
    config::{Draft, Part, Upstream, draft},
    rules::{
        CYCLE, NEVER_RECEIVES, NO_INPUT, UNKNOWN_NODE, UNKNOWN_OUTPUT, UNREAD_NODE, UNREAD_OUTPUT,
    },
};

/// Every `from` leads to an output that exists.
pub(super) fn lead_somewhere(draft: &Draft, nodes: &Nodes<'_>, findings: &mut Vec<Finding>) {
    for node in nodes.iter().filter(|node| matches!(node.role, Role::Transform | Role::Sink)) {
        if !node.has_from && !has_misspelt_from(node) {
            findings.push(no_input(node, nodes));
        }
        let inputs: Vec<&str> = node.from.iter().map(|input| &*input.written).collect();
        let on_inputs =
            node.configured.iter().flat_map(|configured| configured.check_inputs(&inputs));
        findings.extend(on_inputs.map(|problem| node.place(problem, &draft.texts)));
        for input in &node.from {
            match nodes.read_by(input) {
                Some(source) => findings.extend(no_output(source, input)),
                // Where nodes could not be read, one that is missing may be among them.
                None if !nodes.pipeline.is_whole => (),
                None => findings.push(unknown_node(draft, node, input, nodes)),
            }
        }
    }
}

fn no_input(node: &Part, nodes: &Nodes<'_>) -> Finding {
    let message = format!("{} reads nothing", node.title());
    let finding = Finding::error(&NO_INPUT, node.span(), message, "`from` is missing");
    match nodes.names_for(node).as_slice() {
        [] => finding.help("add a source, and read it with `from:`"),
        names => finding.help(format!("nodes to read here are {}", quoted(names.iter().copied()))),
    }
}

/// Then the misspelling is reported, and nothing is missing.
fn has_misspelt_from(node: &Part) -> bool {
    let mut keys = node.settings.entries().into_iter().flatten().map(|entry| entry.key.as_str());
    keys.any(|key| nearest(key, ["from"]).is_some() || is_called(key, "from"))
}

fn unknown_node(draft: &Draft, node: &Part, input: &Upstream, nodes: &Nodes<'_>) -> Finding {
    let message = format!("no node is named `{}`", input.node);
    let label = "not found in this pipeline";
    let finding = Finding::error(&UNKNOWN_NODE, input.span, message, label);
    if let Some(finding) = other_words(draft, node, input, nodes, &finding) {
        return finding;
    }
    let names = nodes.names_for(node);
    let near = nearest(&input.node, names.iter().copied()).and_then(|near| nodes.named(near));
    if let Some(near) = near {
        return finding.context(near.name_span, format!("did you mean `{}`?", near.short));
    }
    finding.context(node.name_span, "").help(match names.as_slice() {
        [] => "add a source first".to_owned(),
        names => format!("nodes to read here are {}", quoted(names.iter().copied())),
    })
}

/// An output that the node does not have.
fn no_output(source: &Part, input: &Upstream) -> Option<Finding> {
    let name = &source.short;
    let outputs = source.outputs();
    let names = || outputs.iter().map(String::as_str).chain(["errors"]);
    let Some(output) = input.output.as_deref() else {
        return (source.role == Role::Sink).then(|| no_main_output(source, input, &outputs));
    };
    // The outputs of a node that could not be read are not known.
    source.configured.as_ref()?;
    if draft::port(&outputs, Some(output)).is_some() {
        return None;
    }
    let message = format!("`{name}` has no output `{output}`");
    let finding =
        Finding::error(&UNKNOWN_OUTPUT, input.span, message, "").context(source.name_span, "");
    Some(match nearest(output, names()) {
        Some(near) => {
            let text = format!("{name}.{near}");
            finding.edit("an output with a similar name exists", input.span, text)
        }
        None if outputs.is_empty() && source.role != Role::Sink => finding.help(format!(
            "`from: {name}` reads its output, `from: {name}.errors` what it could not handle"
        )),
        None => finding.help(format!("its outputs are {}", quoted(names()))),
    })
}

/// A sink has none.
fn no_main_output(sink: &Part, input: &Upstream, outputs: &[String]) -> Finding {
    let name = &sink.short;
    let finding = |how: &str| {
        let message = format!("`{name}` is a sink: nothing comes out of it{how}");
        Finding::error(&UNKNOWN_OUTPUT, input.span, message, "cannot be read")
            .context(sink.name_span, "")
    };
    if outputs.is_empty() {
        let help = format!("what it could not deliver comes out of `{name}.errors`");
        return finding("").help(help);
    }
    let names = outputs.iter().map(String::as_str).chain(["errors"]);
    finding(" but by name").help(format!("its outputs are {}", quoted(names)))
}

/// What somebody writes who takes `from` for something else.
fn other_words(
    draft: &Draft,
    node: &Part,
    input: &Upstream,
    nodes: &Nodes<'_>,
    finding: &Finding,
) -> Option<Finding> {
    let is_here = |name: &str| nodes.named(name).is_some();
    let finding = || finding.clone().context(node.name_span, "");
    let says = |label: &str| Finding { label: label.to_owned(), ..finding() };
    // `from: a, b`
    let several: Vec<&str> = input.node.split([',', ' ']).filter(|name| !name.is_empty()).collect();
    if several.len() > 1 && several.iter().all(|name| is_here(name)) {
        let text = draft.texts.text(input.span.file);
        let before = text[..input.span.range().start].trim_end();
        let list = match before.ends_with(['[', ',']) {
            true => several.join(", "),
            false => format!("[{}]", several.join(", ")),
        };
        return Some(says("several nodes are a list").edit(
            "brackets make it a list",
            input.span,
            list,
        ));
    }
    // `from: sources.a`
    let is_section = Role::ALL.into_iter().any(|role| role.section() == input.node);
    if let Some(name) = input.output.as_deref().filter(|name| is_section && is_here(name)) {
        return Some(says("the name alone is enough").edit(
            "this would be right",
            input.span,
            name,
        ));
    }
    // `from: pipeline/a`
    if let Some((pipeline, name)) = input.node.split_once('/') {
        if pipeline == node.pipeline && is_here(name) {
            return Some(says("the name alone is enough").edit(
                "this would be right",
                input.span,
                name,
            ));
        }
        if draft.parts.iter().any(|part| *part.name == *input.node) {
            let help = "a node reads nodes of its own file; between files, send through a topic of a broker";
            return Some(says("is in another file").help(help));
        }
    }
    let connection = draft
        .parts
        .iter()
        .find(|part| part.role == Role::Connection && *part.name == *input.node)?;
    let users: Vec<&str> = nodes
        .iter()
        .filter(|node| matches!(node.role, Role::Source | Role::Transform))
        .filter(|node| node.uses.as_ref().is_some_and(|uses| uses.connection == connection.name))
        .map(|node| node.short.as_str())
        .collect();
    let finding = says("a connection, not a node");
    Some(match users.as_slice() {
        [] => finding.help("a source that uses the connection can be read"),
        users => {
            finding.help(format!("nodes that read from it are {}", quoted(users.iter().copied())))
        }
    })
}

/// Data flows one way. A cycle is reported once, at the `from` that is to go.
pub(super) fn cycles(nodes: &Nodes<'_>, findings: &mut Vec<Finding>) {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for node in nodes.iter() {
        let mut path: Vec<&Part> = Vec::new();
        // The path from `node` upwards; each frame holds the node and how many inputs were followed.
        let mut stack: Vec<(&Part, usize)> = vec![(node, 0)];
        while let Some((here, next)) = stack.pop() {
            if next == 0 {
                if done.contains(here.short.as_str()) {
                    continue;
                }
                path.push(here);
            }
            let Some(input) = here.from.get(next) else {
                done.insert(&here.short);
                path.pop();
                continue;
            };
            stack.push((here, next + 1));
            if let Some(at) = path.iter().position(|node| node.short == input.node) {
                findings.extend(cycle(&path[at..]));
            } else if let Some(source) = nodes.read_by(input) {
                stack.push((source, 0));
            }
        }
    }
}

/// `path` leads upwards: each reads the next, and the last the first. The wire to cut is one whose
/// reader goes on to read something.
fn cycle(path: &[&Part]) -> Option<Finding> {
    let is_inside = |input: &Upstream| path.iter().any(|node| node.short == input.node);
    let reads_more = |node: &&Part| !node.from.iter().all(is_inside);
    let at = path.iter().position(reads_more).unwrap_or(path.len() - 1);
    let (node, read) = (path[at], path[(at + 1) % path.len()]);
    let input = node.from.iter().find(|input| input.node == read.short)?;
    let message = format!("`{}` feeds itself", node.short);
    let label = match path {
        [_] => format!("`{0}` reads from `{0}`", node.short),
        path => {
            let downwards = path[..=at].iter().rev().chain(path[at..].iter().rev());
            let way: Vec<String> = downwards.map(|node| format!("`{}`", node.short)).collect();
            format!("data goes {}", way.join(" → "))
        }
    };
    let why =
        "data goes from sources to sinks; for a loop, send the message back through a broker topic";
    Some(Finding::error(&CYCLE, input.span, message, label).context(node.name_span, "").note(why))
}

/// A node that nobody reads does its work for nothing, and so does an output. What a sink is answered
/// and what a node could not handle may go unread.
pub(super) fn unread(nodes: &Nodes<'_>, findings: &mut Vec<Finding>) {
    let mut read: HashMap<&str, BTreeSet<Option<&str>>> = HashMap::new();
    for input in nodes.iter().flat_map(|node| &node.from) {
        read.entry(&input.node).or_default().insert(input.output.as_deref());
    }
    let makes = |node: &&Part| matches!(node.role, Role::Source | Role::Transform);
    for node in nodes.iter().filter(makes).filter(|node| node.configured.is_some()) {
        let read = read.get(node.short.as_str());
        if read.is_none_or(|outputs| outputs.iter().all(|output| *output == Some("errors"))) {
            findings.push(unread_node(node, read.is_some(), nodes));
            continue;
        }
        for output in node.outputs() {
            if read.is_none_or(|outputs| !outputs.contains(&Some(&*output))) {
                findings.push(unread_output(node, &output, nodes));
            }
        }
    }
}

fn unread_node(node: &Part, are_errors_read: bool, nodes: &Nodes<'_>) -> Finding {
    let message = match are_errors_read {
        true => format!("nobody reads {} but for its errors", node.title()),
        false => format!("nobody reads {}", node.title()),
    };
    let finding = Finding::warning(&UNREAD_NODE, node.span(), message, "");
    match nodes.named(&node.short) {
        Some(_) => finding.help(format!("read it with `from: {}`, or remove it", node.short)),
        None => finding.context(node.name_span, ""),
    }
}

fn unread_output(node: &Part, output: &str, nodes: &Nodes<'_>) -> Finding {
    let message = format!("nobody reads output `{output}` of {}", node.title());
    let finding = Finding::warning(&UNREAD_OUTPUT, declared(node, output), message, "");
    let finding = finding.context(node.name_span, "");
    match nodes.named(&node.short) {
        Some(_) => {
            finding.help(format!("read it with `from: {}.{output}`, or remove it", node.short))
        }
        None => finding,
    }
}

/// Where the settings name an output; the node's name when they do not.
fn declared(node: &Part, output: &str) -> Span {
    let outputs = node.settings.get("outputs").map(|outputs| &outputs.content);
    let names = match outputs {
        Some(Content::List(names)) => names.as_slice(),
        _ => &[],
    };
    let found = names.iter().find(|name| name.text() == Some(output));
    found.map_or(node.span(), |name| name.span)
}

/// A node waits for ever when nothing can come out of all that it reads.
pub(super) fn never(nodes: &Nodes<'_>, findings: &mut Vec<Finding>) {
    let mut silent: BTreeSet<&str> = BTreeSet::new();
    let is_silent = |silent: &BTreeSet<&str>, input: &Upstream| {
        let source = nodes.read_by(input);
        let Some(configured) = source.and_then(|source| source.configured.as_ref()) else {
            return false;
        };
        let never_fails = input.output.as_deref() == Some("errors");
        silent.contains(input.node.as_str()) || never_fails && !configured.capabilities().errors
    };
    // What reads only silent nodes is silent too; each round finds at least one more.
    loop {
        let reads_nothing = |node: &&Part| {
            !node.from.is_empty()
                && !silent.contains(node.short.as_str())
                && node.from.iter().all(|input| is_silent(&silent, input))
        };
        let found: Vec<&Part> = nodes.iter().filter(reads_nothing).collect();
        if found.is_empty() {
            return;
        }
        for node in found {
            // The first in a row is the one to mend.
            if node.from.iter().all(|input| !silent.contains(input.node.as_str())) {
                findings.push(never_receives(node));
            }
            silent.insert(&node.short);
        }
    }
}

fn never_receives(node: &Part) -> Finding {
    let read: Vec<String> = node.from.iter().map(|input| format!("`{}`", input.node)).collect();
    let message = format!("{} can never receive anything", node.title());
    let label = format!("{} never fails", read.join(" and "));
    let span = node.from.first().map_or(node.span(), |input| input.span);
    let names: Vec<String> = node.from.iter().map(|input| input.node.clone()).collect();
    Finding::warning(&NEVER_RECEIVES, span, message, label)
        .context(node.name_span, "")
        .help(format!("`from: {}` reads what it sends", names.join(", ")))
}
