//! Decides how to get from the running graph to the wanted one. Pure; opens nothing.

use std::{collections::BTreeSet, fmt, sync::Arc};

use crate::config::{ConnectionSpec, Graph, Name, NodeSpec};

/// The steps of one reload, in the order in which they run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Nodes that are gone from the files.
    pub stop: BTreeSet<Name>,
    /// Nodes whose settings, script or connection changed. The new one takes over the queue.
    pub replace: BTreeSet<Name>,
    /// Connections that are gone.
    pub stop_connections: BTreeSet<Name>,
    /// Connections whose settings changed.
    pub replace_connections: BTreeSet<Name>,
    /// Connections whose settings changed, and that go on with the new ones.
    pub adapt_connections: BTreeSet<Name>,
    /// New connections.
    pub start_connections: BTreeSet<Name>,
    /// New nodes.
    pub start: BTreeSet<Name>,
    /// Nodes that go on, with other readers or another buffer.
    pub rewire: BTreeSet<Name>,
    /// How many nodes go on untouched.
    pub untouched: usize,
}

/// Compares two graphs.
pub fn plan(running: &Graph, wanted: &Graph) -> Plan {
    let mut plan = Plan::default();
    let (running_wires, wanted_wires) = (running.wires(), wanted.wires());
    for (name, connection) in &wanted.connections {
        match running.connections.get(name) {
            None => plan.start_connections.insert(Arc::clone(name)),
            Some(old) if is_same_connection(old, connection) => false,
            Some(old) if adapts(old, connection) => plan.adapt_connections.insert(Arc::clone(name)),
            Some(_) => plan.replace_connections.insert(Arc::clone(name)),
        };
    }
    for name in running.connections.keys().filter(|name| !wanted.connections.contains_key(*name)) {
        plan.stop_connections.insert(Arc::clone(name));
    }
    for (name, node) in &wanted.nodes {
        let set = match running.nodes.get(name) {
            None => &mut plan.start,
            // A source has no queue that a sink of the same name could take over.
            Some(old) if old.role != node.role => {
                plan.stop.insert(Arc::clone(name));
                &mut plan.start
            }
            Some(old) if !is_same_node(old, node) => &mut plan.replace,
            Some(_) if uses_any(node, &plan.replace_connections) => &mut plan.replace,
            Some(old) if old.common != node.common => &mut plan.rewire,
            Some(_) if running_wires.get(name) != wanted_wires.get(name) => &mut plan.rewire,
            Some(_) => {
                plan.untouched += 1;
                continue;
            }
        };
        set.insert(Arc::clone(name));
    }
    for name in running.nodes.keys().filter(|name| !wanted.nodes.contains_key(*name)) {
        plan.stop.insert(Arc::clone(name));
    }
    plan
}

fn is_same_connection(old: &ConnectionSpec, new: &ConnectionSpec) -> bool {
    old.type_name == new.type_name && old.fingerprint == new.fingerprint
}

fn adapts(old: &ConnectionSpec, new: &ConnectionSpec) -> bool {
    old.type_name == new.type_name && new.configured.adapts_from(&*old.configured)
}

fn is_same_node(old: &NodeSpec, new: &NodeSpec) -> bool {
    let settings = old.type_name == new.type_name && old.fingerprint == new.fingerprint;
    let inputs = old.from == new.from || !new.configured.capabilities().tells_inputs_apart;
    settings && inputs && old.connection == new.connection && new.common.keeps_node(&old.common)
}

fn uses_any(node: &NodeSpec, connections: &BTreeSet<Name>) -> bool {
    node.connection.as_ref().is_some_and(|connection| connections.contains(connection))
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps().all(|(_, names)| names.is_empty())
    }

    /// What is done, and to what.
    pub fn steps(&self) -> impl Iterator<Item = (&'static str, &BTreeSet<Name>)> {
        [
            ("stop", &self.stop),
            ("stop connection", &self.stop_connections),
            ("replace connection", &self.replace_connections),
            ("adapt connection", &self.adapt_connections),
            ("replace", &self.replace),
            ("start connection", &self.start_connections),
            ("start", &self.start),
            ("rewire", &self.rewire),
        ]
        .into_iter()
    }
}

impl fmt::Display for Plan {
    /// `start boiler/meter and boiler/plant, replace boiler/enrich; 3 nodes untouched`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 6;
        let mut comma = "";
        for (verb, names) in self.steps().filter(|(_, names)| !names.is_empty()) {
            let shown: Vec<&str> = names.iter().take(MOST).map(|name| &**name).collect();
            write!(f, "{comma}{verb} {}", shown.join(" "))?;
            if names.len() > MOST {
                write!(f, " and {} more", names.len() - MOST)?;
            }
            comma = ", ";
        }
        if self.is_empty() {
            write!(f, "nothing to do")?;
        }
        match self.untouched {
            1 => write!(f, "; 1 node untouched"),
            count => write!(f, "; {count} nodes untouched"),
        }
    }
}
