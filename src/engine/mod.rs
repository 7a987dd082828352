//! Graph to running nodes. What every node would otherwise need (queues, retries, batches,
//! acknowledgement, restarts, shutdown) is here, once.

mod backoff;
pub mod buffer;
pub mod clock;
mod inbox;
mod outbox;
pub mod plan;
mod queue;
mod run_buffer;
mod run_connection;
mod run_sink;
mod run_source;
mod run_transform;
#[cfg(test)]
mod simulation;
mod station;
mod status;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use forebay_sdk::{Links, Memory, Role, Shared, outlet::Wires};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use self::{outbox::Wire, run_connection::RunningConnection, station::Station};
pub use self::{
    plan::{Plan, plan},
    status::{Count, Counts, State},
};
use crate::config::{Graph, Name};

/// The nodes that run.
pub struct Engine {
    /// Names of files in settings are relative to it.
    folder: Arc<Path>,
    /// For what must survive a restart.
    data: Arc<Path>,
    graph: Graph,
    connections: BTreeMap<Name, RunningConnection>,
    stations: BTreeMap<Name, Station>,
}

/// How a stop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Messages that were still queued in memory when the time was up. They are lost, unless
    /// their source sends them again.
    pub undelivered: usize,
    /// Messages in buffers on disk. The next start goes on with them.
    pub kept: usize,
}

impl Engine {
    /// An engine that runs nothing yet. Buffers on disk are below `data`.
    pub fn new(folder: impl Into<Arc<Path>>, data: impl Into<Arc<Path>>) -> Engine {
        clock::begin();
        let (connections, stations) = (BTreeMap::new(), BTreeMap::new());
        let (folder, data) = (folder.into(), data.into());
        Engine { folder, data, graph: Graph::default(), connections, stations }
    }

    /// The graph that runs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Goes from the running graph to the wanted one; returns what that took. Never waits for the
    /// other side of a node.
    pub async fn apply(&mut self, wanted: Graph) -> Plan {
        let plan = plan(&self.graph, &wanted);
        self.graph = wanted;
        for name in plan.stop.iter().chain(&plan.replace) {
            if let Some(station) = self.stations.get_mut(name) {
                station.halt().await;
            }
        }
        let gone: Vec<Station> =
            plan.stop.iter().filter_map(|name| self.stations.remove(name)).collect();
        self.change_connections(&plan).await;
        for name in &plan.start {
            self.stations.insert(Arc::clone(name), Station::new(Arc::clone(name)));
        }
        // Limits first, so that a full queue that grew takes more at once.
        for (name, spec) in &self.graph.nodes {
            let station = self.stations.get_mut(name).expect("made or kept above");
            station.set_buffer(spec, &self.data);
        }
        self.rewire();
        for station in gone {
            station.retire().await;
        }
        self.launch(&plan);
        plan
    }

    /// Stops taking anything new, delivers what is queued, and ends. Takes at most `within`.
    pub async fn stop(mut self, within: Duration) -> Stopped {
        let deadline = Instant::now() + within;
        for station in self.stations.values() {
            station.outbox.drain();
        }
        // Sources go on for now: they hear how their messages end, and acknowledge them.
        for name in self.graph.topological() {
            let Some(station) = self.stations.get_mut(&name) else { continue };
            if self.graph.nodes[&name].role == Role::Source {
                // What it posted and its readers had no room for.
                let _ = timeout_at(deadline, station.outbox.room()).await;
                continue;
            }
            station.inbox.close();
            if timeout_at(deadline, station.finished()).await.is_err() {
                warn!(node = %name, "not done when the time to stop was up");
            }
        }
        self.settle_sources(deadline).await;
        let mut stopped = Stopped { undelivered: 0, kept: 0 };
        for (name, station) in &mut self.stations {
            station.halt().await;
            // Local, and short: not a matter of the other side.
            station.keep().await;
            let (left, lost) = (station.inbox.len(), station.inbox.unsafe_len());
            stopped.undelivered += lost + station.outbox.len();
            stopped.kept += left.saturating_sub(lost);
            debug!(node = %name, "stopped: {}", station.status.counts());
        }
        run_connection::close(self.connections.into_values()).await;
        stopped
    }

    /// Gives sources a moment to acknowledge what was delivered in the end.
    async fn settle_sources(&self, deadline: Instant) {
        const MOMENT: Duration = Duration::from_millis(100);
        let tracks = self.stations.values().any(|station| station.outbox.has_tracked());
        if tracks {
            let moment = (Instant::now() + MOMENT).min(deadline);
            tokio::time::sleep_until(moment).await;
        }
    }

    /// Says which buffers on disk hold messages that no node of the graph will send. Looks once, and
    /// touches nothing.
    pub async fn report_orphans(&self) {
        let data = Arc::clone(&self.data);
        let sinks = self.graph.nodes.iter().filter(|(_, spec)| spec.role == Role::Sink);
        let sinks: BTreeSet<Name> = sinks.map(|(name, _)| Arc::clone(name)).collect();
        let look = tokio::task::spawn_blocking(move || orphans(&data, &sinks));
        for (node, messages) in look.await.unwrap_or_default() {
            warn!(node = %node, messages, "left in the buffer on disk of a node that is gone; see `forebay buffer ls`");
        }
    }

    /// What each node has done since it started, for showing.
    pub fn counts(&self) -> BTreeMap<Name, Counts> {
        self.stations.iter().map(|(name, s)| (Arc::clone(name), s.status.counts())).collect()
    }

    /// How each node and connection is.
    pub fn states(&self) -> BTreeMap<Name, State> {
        let nodes = self.stations.iter().map(|(name, s)| (Arc::clone(name), s.status.state()));
        let connections = self.connections.iter();
        nodes.chain(connections.map(|(name, c)| (Arc::clone(name), c.status.state()))).collect()
    }

    async fn change_connections(&mut self, plan: &Plan) {
        let gone = plan.stop_connections.iter().chain(&plan.replace_connections);
        let gone: Vec<_> = gone.filter_map(|name| self.connections.remove(name)).collect();
        run_connection::close(gone).await;
        for name in plan.start_connections.iter().chain(&plan.replace_connections) {
            let spec = &self.graph.connections[name];
            let folder = Arc::clone(&self.folder);
            let memory = Memory::default();
            let links = Links { name: Arc::clone(name), folder, connection: None, memory };
            let running = RunningConnection::start(links, &*spec.configured);
            self.connections.insert(Arc::clone(name), running);
        }
    }

    fn rewire(&self) {
        for (name, station) in &self.stations {
            let readers: BTreeSet<_> = self.graph.readers(name);
            let wire = |(port, reader): (_, Name)| {
                let inbox = Arc::clone(&self.stations[&reader].inbox);
                Wire { port, inbox }
            };
            station.outbox.rewire(readers.into_iter().map(wire).collect());
        }
    }

    /// Starts what the plan starts or replaces. Readers first, so that nothing waits for them.
    fn launch(&mut self, plan: &Plan) {
        for role in [Role::Sink, Role::Transform, Role::Source] {
            for name in plan.start.iter().chain(&plan.replace) {
                let spec = &self.graph.nodes[name];
                if spec.role != role {
                    continue;
                }
                let connection = spec.connection.as_ref().map(|c| self.shared(c));
                let station = self.stations.get_mut(name).expect("made or kept above");
                let folder = Arc::clone(&self.folder);
                let memory = station.memory.clone();
                station.launch(spec, Links { name: Arc::clone(name), folder, connection, memory });
            }
        }
    }

    fn shared(&self, connection: &str) -> Shared {
        self.connections.get(connection).expect("lint refuses an unknown connection").shared.clone()
    }
}

/// The buffers of others than these sinks, and how many messages each holds. What cannot be
/// read is not worth a warning here.
fn orphans(data: &Path, sinks: &BTreeSet<Name>) -> Vec<(String, u64)> {
    let held = |(node, folder): (String, PathBuf)| {
        let messages = buffer::look(buffer::Folder::new(folder)).ok()?.messages();
        (messages > 0).then_some((node, messages))
    };
    let listed = buffer::list(data).unwrap_or_default().into_iter();
    listed.filter(|(node, _)| !sinks.contains(node.as_str())).filter_map(held).collect()
}
