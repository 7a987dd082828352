//! `forebay graph`: the pipelines of a folder as a picture.

mod boxes;
mod picture;
#[cfg(test)]
mod tests;

use std::{fmt::Write, path::PathBuf};

use forebay_sdk::Role;
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use self::picture::{Connection, Node, Picture, Pipeline, Wire};
use super::{
    super::{
        folder::{DEFAULT_FOLDER, nothing_here, process_environment, types},
        output::{Ending, print, summary, use_color},
    },
    folder::folder_of,
};
use crate::{
    config,
    lint::report::{self, render},
};

/// Draw the pipelines of a folder: nodes, wires and the connections they share.
///
/// A wire without a name carries the messages of a node; one with a name, such as
/// `errors`, a named output. In `mermaid` and `dot`, connections are drawn too, and show
/// where one pipeline hands over to another through a broker.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// A folder, or one of its pipeline files.
    #[arg(default_value = DEFAULT_FOLDER)]
    path: PathBuf,
    /// What to draw with.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Boxes and lines for the terminal.
    #[default]
    Text,
    /// One JSON object.
    Json,
    /// Mermaid, which Git hosts draw in Markdown files.
    Mermaid,
    /// DOT, for Graphviz: `forebay graph --format dot | dot -Tsvg`.
    Dot,
}

pub(super) fn graph(arguments: Arguments) -> anyhow::Result<Ending> {
    let (folder, only) = folder_of(&arguments.path);
    let draft = config::load(&folder, types(), &process_environment)?;
    if draft.pipelines.is_empty() && draft.findings.is_empty() {
        anyhow::bail!("{}", nothing_here(&folder));
    }
    let picture = Picture::of(&draft, only.as_deref());
    // What lint refuses has wires that lead nowhere.
    let mut checked = crate::lint::lint(draft);
    checked.texts.see_from(&folder);
    if checked.graph.is_none() {
        if arguments.format == Format::Json {
            print(&render(&checked.findings, &checked.texts, report::Format::Json, false))?;
            return Ok(Ending::Findings);
        }
        let color = use_color(&std::io::stdout());
        print(&render(&checked.findings, &checked.texts, report::Format::Full, color))?;
        print(&format!("{}: nothing was drawn\n", summary(&checked)))?;
        return Ok(Ending::Findings);
    }
    print(&match arguments.format {
        Format::Text => picture.text(),
        Format::Json => format!("{}\n", picture.json()),
        Format::Mermaid => picture.mermaid(),
        Format::Dot => picture.dot(),
    })?;
    Ok(Ending::Fine)
}

impl Picture {
    fn text(&self) -> String {
        let mut text = String::new();
        for pipeline in &self.pipelines {
            let drawn = match pipeline.nodes.as_slice() {
                [] => "  no nodes\n".to_owned(),
                nodes => drawn(nodes),
            };
            let _ = write!(text, "{}\n\n{drawn}\n", pipeline.name);
        }
        if self.connections.is_empty() {
            return text;
        }
        text += "connections\n\n";
        let widest = |of: fn(&Connection) -> &String| {
            self.connections.iter().map(|one| of(one).width()).max().unwrap_or(0)
        };
        let (name_width, type_width) = (widest(|one| &one.name), widest(|one| &one.type_name));
        for connection in &self.connections {
            let users = self.users(connection).map(|(pipeline, node)| match self.pipelines.len() {
                1 => node.name.clone(),
                _ => format!("{}/{}", pipeline.name, node.name),
            });
            let (name, type_name) = (&connection.name, &connection.type_name);
            let users: Vec<String> = users.collect();
            let lines = wrapped(&users, 80usize.saturating_sub(name_width + type_width + 6));
            let _ =
                write!(text, "  {}  {}  ", padded(name, name_width), padded(type_name, type_width));
            text += &lines.join(&format!("\n{}", " ".repeat(name_width + type_width + 6)));
            text.push('\n');
        }
        text
    }

    fn json(&self) -> Value {
        let connection = |one: &Connection| json!({ "name": one.name, "type": one.type_name });
        json!({
            "pipelines": self.pipelines.iter().map(Pipeline::json).collect::<Value>(),
            "connections": self.connections.iter().map(connection).collect::<Value>(),
        })
    }

    fn mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_owned();
        for (number, pipeline) in self.pipelines.iter().enumerate() {
            let _ = writeln!(text, "  subgraph p{number} [\"{}\"]", pipeline.name);
            for (index, node) in pipeline.nodes.iter().enumerate() {
                let label = format!("\"{}<br>{}\"", node.name, node.type_name);
                let shape = match node.role {
                    Role::Source => format!("([{label}])"),
                    Role::Sink => format!("[[{label}]]"),
                    Role::Transform | Role::Connection => format!("[{label}]"),
                };
                let _ = writeln!(text, "    p{number}n{index}{shape}");
            }
            for (index, node) in pipeline.nodes.iter().enumerate() {
                for wire in &node.reads {
                    let label =
                        wire.output.as_ref().map(|name| format!("|{name}|")).unwrap_or_default();
                    let from = wire.from;
                    let _ = writeln!(text, "    p{number}n{from} -->{label} p{number}n{index}");
                }
            }
            text += "  end\n";
        }
        for (number, connection) in self.connections.iter().enumerate() {
            let (name, type_name) = (&connection.name, &connection.type_name);
            let _ = writeln!(text, "  c{number}[(\"{name}<br>{type_name}\")]");
        }
        for (node, connection, role) in self.uses() {
            let (node, connection) = (format!("p{}n{}", node.0, node.1), format!("c{connection}"));
            let _ = match role {
                Role::Source => writeln!(text, "  {connection} -.-> {node}"),
                _ => writeln!(text, "  {node} -.-> {connection}"),
            };
        }
        text
    }

    fn dot(&self) -> String {
        let mut text = "digraph forebay {\n  rankdir=LR\n  node [shape=box, fontname=sans]\n  edge [fontname=sans, fontsize=10]\n".to_owned();
        for (number, pipeline) in self.pipelines.iter().enumerate() {
            let _ =
                writeln!(text, "  subgraph cluster_{number} {{\n    label=\"{}\"", pipeline.name);
            for (index, node) in pipeline.nodes.iter().enumerate() {
                let style = match node.role {
                    Role::Source => ", style=rounded",
                    Role::Sink => ", peripheries=2",
                    Role::Transform | Role::Connection => "",
                };
                let (name, type_name) = (&node.name, &node.type_name);
                let _ =
                    writeln!(text, "    p{number}n{index} [label=\"{name}\\n{type_name}\"{style}]");
            }
            for (index, node) in pipeline.nodes.iter().enumerate() {
                for wire in &node.reads {
                    let label = wire.output.as_ref();
                    let label =
                        label.map(|name| format!(" [label=\"{name}\"]")).unwrap_or_default();
                    let from = wire.from;
                    let _ = writeln!(text, "    p{number}n{from} -> p{number}n{index}{label}");
                }
            }
            text += "  }\n";
        }
        for (number, connection) in self.connections.iter().enumerate() {
            let (name, type_name) = (&connection.name, &connection.type_name);
            let _ = writeln!(text, "  c{number} [label=\"{name}\\n{type_name}\", shape=cylinder]");
        }
        for (node, connection, role) in self.uses() {
            let (node, connection) = (format!("p{}n{}", node.0, node.1), format!("c{connection}"));
            let _ = match role {
                Role::Source => writeln!(text, "  {connection} -> {node} [style=dashed]"),
                _ => writeln!(text, "  {node} -> {connection} [style=dashed]"),
            };
        }
        text + "}\n"
    }
}

impl Pipeline {
    fn json(&self) -> Value {
        let wire =
            |wire: &Wire| json!({ "node": self.nodes[wire.from].name, "output": wire.output });
        let node = |node: &Node| {
            json!({
                "name": node.name,
                "role": node.role.noun(),
                "type": node.type_name,
                "connection": node.connection,
                "from": node.reads.iter().map(wire).collect::<Value>(),
            })
        };
        json!({ "name": self.name, "nodes": self.nodes.iter().map(node).collect::<Value>() })
    }
}

/// The nodes of a pipeline as boxes. Where that gets too wide, wires of `errors` are told in words:
/// often one sink reads those of all nodes.
fn drawn(nodes: &[Node]) -> String {
    const WIDEST: usize = 100;
    let picture = boxes::draw(nodes);
    if picture.lines().all(|line| line.width() <= WIDEST) {
        return picture;
    }
    let is_error = |wire: &Wire| wire.output.as_deref() == Some("errors");
    let reads_errors = |node: &&Node| node.reads.iter().any(is_error);
    let is_boxed = |node: &Node| node.role != Role::Sink || !node.reads.iter().all(is_error);
    let boxed: Vec<usize> = (0..nodes.len()).filter(|index| is_boxed(&nodes[*index])).collect();
    let place = |index: usize| boxed.iter().position(|boxed| *boxed == index);
    let without_errors = |index: &usize| {
        let node = &nodes[*index];
        let wires = node.reads.iter().filter(|wire| !is_error(wire));
        let wire =
            |wire: &Wire| Some(Wire { from: place(wire.from)?, output: wire.output.clone() });
        Node { reads: wires.filter_map(wire).collect(), ..node.clone() }
    };
    let mut text = boxes::draw(&boxed.iter().map(without_errors).collect::<Vec<_>>());
    for node in nodes.iter().filter(reads_errors) {
        let wires = node.reads.iter().filter(|wire| is_error(wire));
        let names: Vec<String> = wires.map(|wire| nodes[wire.from].name.clone()).collect();
        let begin = format!("  {} ({}) reads the errors of ", node.name, node.type_name);
        let indent = " ".repeat(begin.width());
        let lines = wrapped(&names, WIDEST.saturating_sub(indent.len()));
        text += &format!("\n{begin}{}\n", lines.join(&format!("\n{indent}")));
    }
    text
}

/// Filled up with spaces. A character may be two columns wide.
fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// Words separated by commas, in lines of at most `width` columns where words allow it.
fn wrapped(words: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let word = if index + 1 < words.len() { format!("{word},") } else { word.clone() };
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}
