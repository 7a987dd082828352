//! A checked graph: what the engine runs and what a plan compares.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use forebay_sdk::{Configured, Port, Role};

use super::buffer::{Batch, Buffer};

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
    /// Changes when anything in the settings does, filled-in variables included.
    pub fingerprint: u64,
    /// Builds it.
    pub configured: Arc<dyn Configured>,
}

/// A node that can be built.
#[derive(Clone)]
pub struct NodeSpec {
    /// Source, transform or sink.
    pub role: Role,
    /// What users write after `type:`.
    pub type_name: String,
    /// Changes when anything in the settings does, filled-in variables and script text included.
    /// The wires and the buffer are not part of it: they belong to the engine.
    pub fingerprint: u64,
    /// Builds it.
    pub configured: Arc<dyn Configured>,
    /// The connection it uses.
    pub connection: Option<Name>,
    /// What it reads.
    pub from: BTreeSet<Output>,
    /// The limits of its queue.
    pub buffer: Buffer,
    /// A sink: how many messages go into one write.
    pub batch: Batch,
}

/// One output of one node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Output {
    /// The node.
    pub node: Name,
    /// Which of its outputs.
    pub port: Port,
}

impl Graph {
    /// Who reads the outputs of a node: each reader with the port it reads.
    pub fn readers(&self, of: &str) -> BTreeSet<(Port, Name)> {
        let reads = |(reader, spec): (&Name, &NodeSpec)| {
            let from = spec.from.iter().filter(|source| &*source.node == of);
            from.map(|source| (source.port, Arc::clone(reader))).collect::<Vec<_>>()
        };
        self.nodes.iter().flat_map(reads).collect()
    }

    /// The nodes in an order in which each comes after what it reads. The graph has no cycle.
    pub fn topological(&self) -> Vec<Name> {
        let mut order: Vec<Name> = Vec::new();
        let mut placed: BTreeSet<Name> = BTreeSet::new();
        while order.len() < self.nodes.len() {
            let before = order.len();
            for (name, spec) in &self.nodes {
                let ready = spec.from.iter().all(|source| placed.contains(&source.node));
                if ready && !placed.contains(name) {
                    placed.insert(Arc::clone(name));
                    order.push(Arc::clone(name));
                }
            }
            assert!(order.len() > before, "lint refuses a cycle");
        }
        order
    }
}
