//! What a picture of pipelines shows: nodes, wires and the connections they share.

use std::{collections::BTreeSet, path::Path};

use forebay_sdk::Role;

use crate::config::{self, Draft, Part};

/// What a picture shows.
pub(super) struct Picture {
    pub pipelines: Vec<Pipeline>,
    pub connections: Vec<Connection>,
}

pub(super) struct Pipeline {
    pub name: String,
    /// In the order of the file.
    pub nodes: Vec<Node>,
}

#[derive(Clone)]
pub(super) struct Node {
    pub role: Role,
    pub name: String,
    pub type_name: String,
    /// The name of the connection it uses; None for one of its own.
    pub connection: Option<String>,
    pub reads: Vec<Wire>,
}

/// One entry of `from:`.
#[derive(Clone)]
pub(super) struct Wire {
    /// Which of the nodes of the pipeline.
    pub from: usize,
    /// The name of the output; None for the main one.
    pub output: Option<String>,
}

pub(super) struct Connection {
    pub name: String,
    pub type_name: String,
}

impl Picture {
    /// Of all pipelines, or of the one in a file.
    pub fn of(draft: &Draft, only: Option<&Path>) -> Picture {
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

    pub fn users(&self, connection: &Connection) -> impl Iterator<Item = (&Pipeline, &Node)> {
        let nodes = self
            .pipelines
            .iter()
            .flat_map(|pipeline| pipeline.nodes.iter().map(move |node| (pipeline, node)));
        nodes.filter(|(_, node)| node.connection.as_ref() == Some(&connection.name))
    }

    /// Which node uses which connection, by their numbers. Data come from it to a source, and go
    /// to it from a sink.
    pub fn uses(&self) -> Vec<((usize, usize), usize, Role)> {
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
