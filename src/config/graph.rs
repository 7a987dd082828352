//! A checked graph: what the engine runs and what a plan compares.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use forebay_sdk::{Configured, Period, Port, Role, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// The queue in front of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Buffer {
    /// Where messages wait. `memory` is lost when the program ends.
    pub store: Store,
    /// The most messages that wait.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_messages: u32,
    /// The most memory that waiting messages may take.
    pub max_bytes: Size,
    /// What happens to a message that finds the buffer full.
    pub when_full: WhenFull,
}

/// Where messages wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// In memory.
    #[default]
    Memory,
}

/// What happens to a message that finds a buffer full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Whoever sends it waits; in the end the source does.
    #[default]
    Block,
    /// The message that waited longest is dropped for it, and counted.
    DropOldest,
    /// It is dropped, and counted.
    DropNewest,
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer {
            store: Store::Memory,
            max_messages: 10_000,
            max_bytes: Size(4 << 20),
            when_full: WhenFull::Block,
        }
    }
}

/// How many messages a sink writes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The most messages in one write.
    pub max_messages: usize,
    /// How long a batch that is not full waits for more.
    pub max_wait: Duration,
}

/// How many messages the sink writes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSettings {
    /// The most messages in one write. When left out, what suits the node type.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_messages: Option<u32>,
    /// How long a batch that is not full waits for more messages.
    pub max_wait: Period,
}

impl Default for BatchSettings {
    fn default() -> BatchSettings {
        BatchSettings { max_messages: None, max_wait: Period::seconds(0) }
    }
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
