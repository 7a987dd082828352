//! The rules about more than one setting: wires, names, connections.

use std::collections::{BTreeSet, HashMap};

use forebay_sdk::{Finding, Level, Role, Span, finding::nearest, yaml::Content};

use super::{busy, delivery, fields, sharing};
use crate::config::{Draft, Input, Part, Pipeline, draft};

/// Adds what is wrong to what reading has found.
pub(super) fn check(draft: &Draft, findings: &mut Vec<Finding>) {
    for part in &draft.parts {
        let problems = part.configured.iter().flat_map(|configured| configured.check());
        findings.extend(problems.map(|problem| part.place(problem, &draft.texts)));
    }
    duplicates(draft, findings);
    connections(draft, findings);
    on_connections(draft, findings);
    busy::check(draft, findings);
    for pipeline in &draft.pipelines {
        let nodes: Vec<&Part> = draft.nodes(&pipeline.name).collect();
        wires(draft, pipeline, &nodes, findings);
        cycles(&nodes, findings);
        delivery::check(draft, &nodes, findings);
        // What seems unread may be what an error stands in for.
        let is_wrong = |finding: &Finding| {
            let file = finding.span.map(|span| span.file);
            finding.level == Level::Error && file == Some(pipeline.file)
        };
        if !findings.iter().any(is_wrong) {
            unread(&nodes, findings);
            never(&nodes, findings);
            findings.extend(empty(pipeline, draft));
            fields::check(&nodes, &draft.texts, findings);
        }
    }
    sharing::check(draft, findings);
}

/// One name, one node: also across the sections of a file, and for connections across files.
fn duplicates(draft: &Draft, findings: &mut Vec<Finding>) {
    let mut files: HashMap<&str, u32> = HashMap::new();
    for pipeline in &draft.pipelines {
        if let Some(other) = files.insert(&pipeline.name, pipeline.file) {
            let message = format!("two files are pipeline `{}`", pipeline.name);
            let span = Span::new(pipeline.file, 0..0);
            let label = format!("{} has this name too", draft.texts.path(other));
            let finding = Finding::error("duplicate-pipeline", span, message, label);
            findings.push(finding.help("rename one of them, or merge the two"));
        }
    }
    let mut first: HashMap<&str, &Part> = HashMap::new();
    for part in &draft.parts {
        let Some(other) = first.get(&*part.name) else {
            first.insert(&part.name, part);
            continue;
        };
        let is_node = part.role != Role::Connection;
        if is_node && other.name_span.file != part.name_span.file {
            // Two files of one name, which is said above.
            continue;
        }
        let (rule, message) = match part.role {
            Role::Connection => {
                ("duplicate-connection", format!("two connections are called `{}`", part.short))
            }
            _ => ("duplicate-node", format!("two nodes are called `{}`", part.short)),
        };
        findings.push(
            Finding::error(rule, part.name_span, message, "again here")
                .context(other.name_span, "first here"),
        );
    }
}

fn connections(draft: &Draft, findings: &mut Vec<Finding>) {
    let known = draft.connections();
    let mut used = BTreeSet::new();
    for part in &draft.parts {
        let Some(uses) = &part.uses else { continue };
        used.insert(&*uses.connection);
        let name = &uses.connection;
        match known.get(&**name) {
            None => {
                // A connection written in place that could not be read was reported there.
                if uses.in_place {
                    continue;
                }
                let message = format!("no connection is named `{name}`");
                let finding = Finding::error(
                    "unknown-connection",
                    uses.span,
                    message,
                    "not found in this folder",
                )
                .context(part.name_span, "");
                let near = nearest(name, known.keys().copied());
                findings.push(match near {
                    Some(near) => {
                        finding.edit("a connection with a similar name exists", uses.span, near)
                    }
                    None if known.is_empty() => {
                        finding.help("declare it in a section `connections:`")
                    }
                    None => finding
                        .help(format!("connections here are {}", quoted(known.keys().copied()))),
                });
            }
            Some(connection)
                if connection.configured.is_some()
                    && !uses.allowed.contains(&connection.type_name.as_str()) =>
            {
                let message =
                    format!("{} cannot use connection `{}`", part.title(), connection.short);
                let allowed: Vec<String> =
                    uses.allowed.iter().map(|allowed| format!("`{allowed}`")).collect();
                let label = format!(
                    "expected one of type {}, found `{}`",
                    allowed.join(" or "),
                    connection.type_name
                );
                findings.push(
                    Finding::error("unknown-connection", uses.span, message, label)
                        .context(connection.name_span, ""),
                );
            }
            Some(_) => (),
        }
    }
    if findings.iter().any(|finding| finding.level == Level::Error) {
        // What seems unused may be what an error stands in for.
        return;
    }
    for (name, part) in known {
        // A broker does its work for others, in this folder or not.
        let serves =
            part.configured.as_ref().is_some_and(|configured| !configured.claims().is_empty());
        if !used.contains(name) && !serves && part.configured.is_some() {
            let message = format!("connection `{name}` is not used");
            findings.push(Finding::warning("unused-connection", part.name_span, message, ""));
        }
    }
}

/// What a node says of the connection that it uses.
fn on_connections(draft: &Draft, findings: &mut Vec<Finding>) {
    let connections = draft.connections();
    for part in &draft.parts {
        let (Some(uses), Some(configured)) = (&part.uses, &part.configured) else { continue };
        let Some(connection) = connections.get(&*uses.connection) else { continue };
        let Some(settings) = &connection.configured else { continue };
        for problem in configured.check_on(&**settings) {
            let finding = part.place(problem, &draft.texts);
            findings.push(finding.context(connection.name_span, "on this connection"));
        }
    }
}

/// Every `from` leads to an output that exists.
fn wires(draft: &Draft, pipeline: &Pipeline, nodes: &[&Part], findings: &mut Vec<Finding>) {
    let sources = |reader: &Part| {
        let others =
            nodes.iter().filter(|node| node.role != Role::Sink && node.short != reader.short);
        others.map(|node| node.short.clone()).collect::<Vec<_>>()
    };
    for node in nodes.iter().filter(|node| matches!(node.role, Role::Transform | Role::Sink)) {
        if !node.has_from && !node.has_misspelt_from() {
            let message = format!("{} reads nothing", node.title());
            let finding = Finding::error("no-input", node.name_span, message, "`from` is missing");
            let choices = sources(node);
            findings.push(match choices.as_slice() {
                [] => finding.help("add a source, and read it with `from:`"),
                choices => finding.help(format!(
                    "nodes to read here are {}",
                    quoted(choices.iter().map(String::as_str))
                )),
            });
        }
        for input in &node.from {
            let found = wire(draft, node, input, nodes, &sources(node));
            // Where nodes could not be read, one that is missing may be among them.
            findings
                .extend(found.filter(|found| pipeline.is_whole || found.rule != "unknown-node"));
        }
    }
}

fn wire(
    draft: &Draft,
    node: &Part,
    input: &Input,
    nodes: &[&Part],
    sources: &[String],
) -> Option<Finding> {
    let Some(source) = nodes.iter().find(|source| source.short == input.node) else {
        let message = format!("no node is named `{}`", input.node);
        let finding =
            Finding::error("unknown-node", input.span, message, "not found in this pipeline");
        if let Some(finding) = other_words(draft, node, input, nodes, &finding) {
            return Some(finding);
        }
        let near = nearest(&input.node, sources.iter().map(String::as_str));
        let found = near.and_then(|near| nodes.iter().find(|node| node.short == near));
        return Some(match found {
            Some(near) => {
                finding.context(near.name_span, format!("did you mean `{}`?", near.short))
            }
            None => finding.context(node.name_span, "").help(match sources {
                [] => "add a source first".to_owned(),
                sources => {
                    format!("nodes to read here are {}", quoted(sources.iter().map(String::as_str)))
                }
            }),
        });
    };
    if source.role == Role::Sink && input.output.is_none() {
        let message = format!("`{}` is a sink: nothing comes out of it", source.short);
        let finding = Finding::error("unknown-output", input.span, message, "cannot be read");
        let finding = finding.context(source.name_span, "");
        return Some(
            finding
                .help(format!("what it could not deliver comes out of `{}.errors`", source.short)),
        );
    }
    let output = input.output.as_deref()?;
    // The outputs of a node that could not be read are not known.
    source.configured.as_ref()?;
    let outputs = source.outputs();
    if draft::port(&outputs, Some(output)).is_some() {
        return None;
    }
    let message = format!("`{}` has no output `{output}`", source.short);
    let finding =
        Finding::error("unknown-output", input.span, message, "").context(source.name_span, "");
    let names = || outputs.iter().map(String::as_str).chain(["errors"]);
    Some(match nearest(output, names()) {
        Some(near) => {
            let text = format!("{}.{near}", source.short);
            finding.edit("an output with a similar name exists", input.span, text)
        }
        None if outputs.is_empty() => finding.help(format!(
            "`from: {0}` reads its output, `from: {0}.errors` what it could not handle",
            source.short
        )),
        None => finding.help(format!("its outputs are {}", quoted(names()))),
    })
}

/// What somebody writes who takes `from` for something else.
fn other_words(
    draft: &Draft,
    node: &Part,
    input: &Input,
    nodes: &[&Part],
    finding: &Finding,
) -> Option<Finding> {
    let is_here = |name: &str| nodes.iter().any(|node| node.short == name);
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

/// Data flows one way. A cycle is reported once, at the `from` that closes it.
fn cycles(nodes: &[&Part], findings: &mut Vec<Finding>) {
    let by_name: HashMap<&str, &Part> =
        nodes.iter().map(|node| (node.short.as_str(), *node)).collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for node in nodes {
        let mut path: Vec<&str> = Vec::new();
        // The path from `node` upwards; each frame holds the node and how many inputs were followed.
        let mut stack: Vec<(&Part, usize)> = vec![(node, 0)];
        while let Some((here, next)) = stack.pop() {
            if next == 0 {
                if done.contains(here.short.as_str()) {
                    continue;
                }
                path.push(&here.short);
            }
            let Some(input) = here.from.get(next) else {
                done.insert(&here.short);
                path.pop();
                continue;
            };
            stack.push((here, next + 1));
            if let Some(at) = path.iter().position(|name| *name == input.node) {
                findings.push(cycle(here, input, &path[at..]));
            } else if let Some(source) = by_name.get(input.node.as_str()) {
                stack.push((source, 0));
            }
        }
    }
}

fn cycle(node: &Part, input: &Input, path: &[&str]) -> Finding {
    let message = format!("`{}` feeds itself", node.short);
    let label = match path {
        [_] => format!("`{0}` reads from `{0}`", node.short),
        // The path leads upwards, from reader to read.
        path => {
            let mut way: Vec<String> = path.iter().rev().map(|name| format!("`{name}`")).collect();
            way.push(format!("`{}`", node.short));
            format!("data goes {}", way.join(" → "))
        }
    };
    let why =
        "data goes from sources to sinks; for a loop, send the message back through a broker topic";
    Finding::error("cycle", input.span, message, label).context(node.name_span, "").note(why)
}

/// A node that nobody reads does its work for nothing, and so does an output.
fn unread(nodes: &[&Part], findings: &mut Vec<Finding>) {
    let read: BTreeSet<(&str, Option<&str>)> = nodes
        .iter()
        .flat_map(|node| &node.from)
        .map(|input| (input.node.as_str(), input.output.as_deref()))
        .collect();
    let of = |node: &Part, wanted: &dyn Fn(Option<&str>) -> bool| {
        read.iter().any(|(name, output)| *name == node.short && wanted(*output))
    };
    for node in nodes.iter().filter(|node| matches!(node.role, Role::Source | Role::Transform)) {
        if node.configured.is_none() {
            continue;
        }
        if !of(node, &|output| output != Some("errors")) {
            let message = match of(node, &|_| true) {
                true => format!("nobody reads {} but for its errors", node.title()),
                false => format!("nobody reads {}", node.title()),
            };
            let finding = Finding::warning("unread-node", node.name_span, message, "");
            findings
                .push(finding.help(format!("read it with `from: {}`, or remove it", node.short)));
            continue;
        }
        for output in node.outputs() {
            if !of(node, &|read| read == Some(output.as_str())) {
                let message = format!("nobody reads output `{output}` of {}", node.title());
                let place = declared(node, &output);
                let finding = Finding::warning("unread-output", place, message, "");
                let help = format!("read it with `from: {}.{output}`, or remove it", node.short);
                findings.push(finding.context(node.name_span, "").help(help));
            }
        }
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
    found.map_or(node.name_span, |name| name.span)
}

/// A node waits for ever when nothing can come out of all that it reads.
fn never(nodes: &[&Part], findings: &mut Vec<Finding>) {
    let mut silent: BTreeSet<&str> = BTreeSet::new();
    let is_silent = |silent: &BTreeSet<&str>, input: &Input| {
        let source = nodes.iter().find(|node| node.short == input.node);
        let Some(configured) = source.and_then(|source| source.configured.as_ref()) else {
            return false;
        };
        let never_fails = input.output.as_deref() == Some("errors");
        silent.contains(input.node.as_str()) || never_fails && !configured.capabilities().errors
    };
    // What reads only silent nodes is silent too; each round finds at least one more.
    loop {
        let reads_nothing = |node: &&&Part| {
            !node.from.is_empty()
                && !silent.contains(node.short.as_str())
                && node.from.iter().all(|input| is_silent(&silent, input))
        };
        let found: Vec<&Part> = nodes.iter().filter(reads_nothing).copied().collect();
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
    let span = node.from.first().map_or(node.name_span, |input| input.span);
    let names: Vec<String> = node.from.iter().map(|input| input.node.clone()).collect();
    Finding::warning("never-receives", span, message, label)
        .context(node.name_span, "")
        .help(format!("`from: {}` reads what it sends", names.join(", ")))
}

/// A file that says something and has no node.
fn empty(pipeline: &Pipeline, draft: &Draft) -> Option<Finding> {
    if draft.parts.iter().any(|part| part.pipeline == pipeline.name) {
        return None;
    }
    let text = draft.texts.text(pipeline.file);
    let is_comment = |line: &str| line.starts_with('#') || line.is_empty();
    // A file in which everything is commented out is so on purpose.
    let message = match text.trim().is_empty() {
        true => "file is empty",
        false if text.lines().map(str::trim).all(is_comment) => return None,
        false => "pipeline has no node",
    };
    let nowhere = Span::new(pipeline.file, 0..0);
    Some(Finding::warning("empty-pipeline", nowhere, message, ""))
}

impl Part {
    /// Then the misspelling is reported, and nothing is missing.
    fn has_misspelt_from(&self) -> bool {
        let mut keys =
            self.settings.entries().into_iter().flatten().map(|entry| entry.key.as_str());
        keys.any(|key| nearest(key, ["from"]).is_some())
    }
}

/// At most eight of them, each in backticks.
pub(super) fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 8;
    let mut words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    if words.len() > MOST {
        words.truncate(MOST);
        words.push("…".to_owned());
    }
    words.join(", ")
}
