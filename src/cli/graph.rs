//! `forebay graph`: the pipelines of a folder as a picture.

mod boxes;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt::Write,
    path::{Path, PathBuf},
};

use forebay_sdk::Role;

use super::{
    DEFAULT_FOLDER, Ending,
    lint::{folder_of, nothing_here},
    print, process_environment, summary, types, use_color,
};
use crate::{
    config::{self, Draft, Part},
    lint::report::{self, render},
};

/// Draw the pipelines of a folder: nodes, wires and the connections they share.
///
/// A wire without a name carries the messages of a node; one with a name, such as
/// `errors`, a named output. In `mermaid` and `dot`, connections are drawn too, and show
/// where one pipeline hands over to another through a broker.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Arguments {
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
    /// Mermaid, which Git hosts draw in Markdown files.
    Mermaid,
    /// DOT, for Graphviz: `forebay graph --format dot | dot -Tsvg`.
    Dot,
}

/// What a picture shows.
struct Picture {
    pipelines: Vec<Pipeline>,
    connections: Vec<Connection>,
}

struct Pipeline {
    name: String,
    /// In the order of the file.
    nodes: Vec<Node>,
}

#[derive(Clone)]
struct Node {
    role: Role,
    name: String,
    type_name: String,
    /// The name of the connection it uses; None for one of its own.
    connection: Option<String>,
    reads: Vec<Wire>,
}

/// One entry of `from:`.
#[derive(Clone)]
struct Wire {
    /// Which of the nodes of the pipeline.
    from: usize,
    /// The name of the output; None for the main one.
    output: Option<String>,
}

struct Connection {
    name: String,
    type_name: String,
}

pub(super) fn graph(arguments: Arguments) -> anyhow::Result<Ending> {
    let (folder, only) = folder_of(&arguments.path);
    let draft = config::load(&folder, &folder, types(), &process_environment)?;
    if draft.pipelines.is_empty() && draft.findings.is_empty() {
        anyhow::bail!("{}", nothing_here(&folder));
    }
    let picture = Picture::of(&draft, only.as_deref());
    // What lint refuses has wires that lead nowhere.
    let checked = crate::lint::lint(draft);
    if checked.graph.is_none() {
        let color = use_color(&std::io::stdout());
        print(&render(&checked.findings, &checked.texts, report::Format::Full, color))?;
        print(&format!("{}: nothing was drawn\n", summary(&checked)))?;
        return Ok(Ending::Findings);
    }
    print(&match arguments.format {
        Format::Text => picture.text(),
        Format::Mermaid => picture.mermaid(),
        Format::Dot => picture.dot(),
    })?;
    Ok(Ending::Fine)
}

impl Picture {
    /// Of all pipelines, or of the one in a file.
    fn of(draft: &Draft, only: Option<&Path>) -> Picture {
        let is_wanted = |pipeline: &&config::Pipeline| {
            only.is_none_or(|only| Path::new(draft.texts.path(pipeline.file)) == only)
        };
        let wanted = draft.pipelines.iter().filter(is_wanted);
        let pipelines: Vec<Pipeline> = wanted
            .map(|pipeline| {
                let parts: Vec<&Part> = draft.nodes(&pipeline.name).collect();
                let nodes = parts.iter().map(|part| Node::of(part, &parts)).collect();
                Pipeline { name: pipeline.name.clone(), nodes }
            })
            .collect();
        let nodes = pipelines.iter().flat_map(|pipeline| &pipeline.nodes);
        let used: BTreeSet<&str> = nodes.filter_map(|node| node.connection.as_deref()).collect();
        let shared = draft.parts.iter().filter(|part| part.role == Role::Connection);
        let connections = shared
            .filter(|part| used.contains(&*part.name))
            .map(|part| Connection { name: part.short.clone(), type_name: part.type_name.clone() })
            .collect();
        Picture { pipelines, connections }
    }

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
            self.connections.iter().map(|one| of(one).chars().count()).max().unwrap_or(0)
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
            let _ = write!(text, "  {name:name_width$}  {type_name:type_width$}  ");
            text += &lines.join(&format!("\n{}", " ".repeat(name_width + type_width + 6)));
            text.push('\n');
        }
        text
    }

    fn users(&self, connection: &Connection) -> impl Iterator<Item = (&Pipeline, &Node)> {
        let nodes = self
            .pipelines
            .iter()
            .flat_map(|pipeline| pipeline.nodes.iter().map(move |node| (pipeline, node)));
        nodes.filter(|(_, node)| node.connection.as_ref() == Some(&connection.name))
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

    /// Which node uses which connection, by their numbers. Data come from it to a source, and go
    /// to it from a sink.
    fn uses(&self) -> Vec<((usize, usize), usize, Role)> {
        let mut uses = Vec::new();
        for (number, pipeline) in self.pipelines.iter().enumerate() {
            for (index, node) in pipeline.nodes.iter().enumerate() {
                let Some(name) = &node.connection else { continue };
                let connection = self.connections.iter().position(|one| one.name == *name);
                uses.extend(connection.map(|connection| ((number, index), connection, node.role)));
            }
        }
        uses
    }
}

impl Node {
    fn of(part: &Part, parts: &[&Part]) -> Node {
        let position = |name: &str| parts.iter().position(|part| part.short == name);
        let mut reads: Vec<Wire> = Vec::new();
        for input in &part.from {
            let Some(from) = position(&input.node) else { continue };
            let is_same = |wire: &Wire| wire.from == from && wire.output == input.output;
            if !reads.iter().any(is_same) {
                reads.push(Wire { from, output: input.output.clone() });
            }
        }
        // A connection written in place is called after its node.
        let shared = part.uses.as_ref().filter(|uses| !uses.connection.contains('/'));
        Node {
            role: part.role,
            name: part.short.clone(),
            type_name: part.type_name.clone(),
            connection: shared.map(|uses| uses.connection.to_string()),
            reads,
        }
    }
}

/// The nodes of a pipeline as boxes. Where that gets too wide, wires of `errors` are told in words:
/// often one sink reads those of all nodes.
fn drawn(nodes: &[Node]) -> String {
    const WIDEST: usize = 100;
    let picture = boxes::draw(nodes);
    if picture.lines().all(|line| line.chars().count() <= WIDEST) {
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
        let indent = " ".repeat(begin.chars().count());
        let lines = wrapped(&names, WIDEST.saturating_sub(indent.len()));
        text += &format!("\n{begin}{}\n", lines.join(&format!("\n{indent}")));
    }
    text
}

/// Words separated by commas, in lines of at most `width` characters where words allow it.
fn wrapped(words: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let word = if index + 1 < words.len() { format!("{word},") } else { word.clone() };
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}
