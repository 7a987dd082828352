//! A checked graph: what the engine runs and what a plan compares.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use forebay_sdk::{Configured, Port, Role};

use super::{common::Common, filled::Unshown, places::Places};

/// `boiler-room/meter` for a node, `cloud` for a connection.
pub type Name = Arc<str>;

/// All pipelines of a folder, without an error.
#[derive(Clone, Default)]
pub struct Graph {
    /// What nodes share, by name. One that a node keeps to itself is called `pipeline/node.connection`.
    pub connections: BTreeMap<Name, ConnectionSpec>,
    /// The nodes, by name.
    pub nodes: BTreeMap<Name, NodeSpec>,
}

/// A connection that can be built.
#[derive(Clone)]
pub struct ConnectionSpec {
    /// What users write after `type:`.
    pub type_name: String,
    /// Changes when anything in the settings does, filled-in variables and the type's own code
    /// included.
    pub fingerprint: u64,
    /// Builds it.
    pub configured: Arc<dyn Configured>,
    /// What of its settings is not to be shown.
    pub unshown: Unshown,
}

/// A node that can be built.
#[derive(Clone)]
pub struct NodeSpec {
    /// Source, transform or sink.
    pub role: Role,
    /// What users write after `type:`.
    pub type_name: String,
    /// Changes when anything in the type's own settings does, filled-in variables, script text and
    /// the type's own code included. The wires and what every node has are not part of it.
    pub fingerprint: u64,
    /// Builds it.
    pub configured: Arc<dyn Configured>,
    /// The connection it uses.
    pub connection: Option<Name>,
    /// What it reads, in the order in which it is written, none of it twice.
    pub from: Vec<Output>,
    /// The settings that every node of its role has.
    pub common: Common,
    /// Where its scripts stand. What is another place alone is no other node.
    pub places: Places,
    /// What of its settings, and of those of its connection, is not to be shown.
    pub unshown: Unshown,
}

/// One output of one node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Output {
    /// The node.
    pub node: Name,
    /// Which of its outputs.
    pub port: Port,
    /// How the reader wrote it: `meter`, or `route.high`.
    pub written: Arc<str>,
}

impl Output {
    /// `boiler-room/meter`, or `boiler-room/route.high`.
    pub fn full_name(&self) -> String {
        match self.written.split_once('.') {
            Some((_, output)) => format!("{}.{output}", self.node),
            None => self.node.to_string(),
        }
    }
}

/// The wires of a graph: for each node that is read, its readers and the output that each reads.
pub type Wires = BTreeMap<Name, BTreeSet<Wire>>;

/// From an output of a node to a reader.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wire {
    /// The output.
    pub port: Port,
    /// Who reads it.
    pub reader: Name,
    /// How the reader wrote it.
    pub written: Arc<str>,
}

impl Graph {
    /// Who reads what, of all nodes in one go.
    pub fn wires(&self) -> Wires {
        let mut wires = Wires::new();
        for (reader, spec) in &self.nodes {
            for Output { node, port, written } in &spec.from {
                let (reader, written) = (Arc::clone(reader), Arc::clone(written));
                let wire = Wire { port: *port, reader, written };
                wires.entry(Arc::clone(node)).or_default().insert(wire);
            }
        }
        wires
    }

    /// The nodes in an order in which each comes after what it reads. The graph has no cycle.
    pub fn topological(&self) -> Vec<Name> {
        let wires = self.wires();
        let mut unplaced: BTreeMap<&Name, usize> =
            self.nodes.iter().map(|(name, spec)| (name, spec.from.len())).collect();
        let mut order: Vec<Name> = self
            .nodes
            .iter()
            .filter(|(_, spec)| spec.from.is_empty())
            .map(|(n, _)| Arc::clone(n))
            .collect();
        let mut next = 0;
        while let Some(name) = order.get(next).cloned() {
            next += 1;
            for wire in wires.get(&name).into_iter().flatten() {
                let left = unplaced.get_mut(&wire.reader).expect("readers are nodes of the graph");
                *left -= 1;
                if *left == 0 {
                    order.push(Arc::clone(&wire.reader));
                }
            }
        }
        assert_eq!(order.len(), self.nodes.len(), "lint refuses a cycle");
        order
    }
}
