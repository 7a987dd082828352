//! Graph to running nodes. What every node would otherwise need (queues, retries, batches,
//! acknowledgement, restarts, shutdown) is here, once.

mod backlog;
mod backoff;
pub mod buffer;
mod complaints;
mod envelope;
mod errors;
mod gate;
pub mod history;
mod inbox;
mod keeper;
mod latency;
pub mod memory;
mod observer;
mod outbox;
mod past_errors;
pub mod plan;
mod post;
mod queue;
mod remnants;
mod report;
mod run_buffer;
mod run_connection;
mod run_sink;
mod run_source;
mod run_transform;
#[cfg(test)]
mod simulation;
mod station;
mod status;
mod stop;
mod tap;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use forebay_sdk::{Links, Port, Role, Shared, Site, Voice, World, beside, clock, outlet::Wires};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tracing::{debug, info, warn};

#[cfg(test)]
pub use self::run_buffer::broken_promise;
pub use self::{
    backlog::Backlog,
    buffer::{Disks, Faults},
    history::{Last, Values},
    latency::Histogram,
    observer::Observer,
    past_errors::PastError,
    plan::{Plan, plan},
    report::{FailingReport, LatencyReport, PartReport, QueueReport, Report, StateName},
    status::{Count, Counts, State},
    tap::{Became, Tapped},
};
use self::{
    history::{EVERY_S, Sample},
    outbox::Wire,
    run_connection::{Damaged, Farewell, Place, RunningConnection},
    station::Station,
    status::Status,
};
use crate::{
    config::{Graph, Name, NodeSpec, draft},
    warnings::{NOT_DONE_AT_STOP, ORPHAN_BUFFER},
};

/// The nodes that run.
pub struct Engine {
    /// Names of files in settings are relative to it.
    folder: Arc<Path>,
    /// For what must survive a restart.
    data: Arc<Path>,
    world: World,
    /// How many bytes the program may take, where there is a limit.
    memory: Option<u64>,
    /// Told by the connection that knows, and seen by the sinks with conditions on it.
    links: Links,
    graph: Graph,
    connections: BTreeMap<Name, RunningConnection>,
    stations: BTreeMap<Name, Station>,
    damaged: Arc<Damaged>,
    farewell: Farewell,
    disks: Disks,
    observer: Option<Arc<dyn Observer>>,
}

/// How a stop ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Messages that were still queued in memory when the time was up. Their sources send again those
    /// that are not among the lost.
    pub undelivered: usize,
    /// Messages in buffers on disk. The next start goes on with them.
    pub kept: usize,
    /// Messages that nodes refused since the start, and of which nobody read.
    pub refused: u64,
    /// Messages that limits dropped since the start.
    pub dropped: u64,
    /// Messages that are gone otherwise, and that nobody sends again; those of the stop, too.
    pub lost: u64,
}

impl Stopped {
    fn count(&mut self, counts: &Counts) {
        self.refused += counts.get(Count::Refused);
        self.dropped += counts.get(Count::Dropped);
        self.lost += counts.get(Count::Lost);
    }
}

impl Engine {
    /// An engine that runs nothing yet. Buffers and states on disk are below `data`.
    pub fn new(folder: impl Into<Arc<Path>>, data: impl Into<Arc<Path>>) -> Engine {
        Engine::in_world(folder, data, World::system())
    }

    /// The same, in another world than the system.
    pub fn in_world(
        folder: impl Into<Arc<Path>>,
        data: impl Into<Arc<Path>>,
        world: World,
    ) -> Engine {
        clock::begin(None);
        Engine {
            folder: folder.into(),
            data: data.into(),
            world,
            memory: None,
            links: Links::default(),
            graph: Graph::default(),
            connections: BTreeMap::new(),
            stations: BTreeMap::new(),
            damaged: Arc::default(),
            farewell: run_connection::nothing_to_say(),
            disks: Disks::default(),
            observer: None,
        }
    }

    /// The same with its buffers on other disks.
    pub fn on_disks(self, disks: Disks) -> Engine {
        Engine { disks, ..self }
    }

    /// The same, seen by somebody.
    pub fn observed_by(self, observer: Arc<dyn Observer>) -> Engine {
        Engine { observer: Some(observer), ..self }
    }

    /// Ends all that runs as it stands, as a power cut does: nobody says good-bye, and nothing is written any more.
    pub async fn kill(self) {
        for station in self.stations.into_values() {
            station.kill().await;
        }
        for connection in self.connections.into_values() {
            connection.kill().await;
        }
    }

    /// The same, where the system lets the program have so much memory.
    pub fn within(self, memory: Option<u64>) -> Engine {
        Engine { memory, ..self }
    }

    /// The graph that runs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Goes from the running graph to the wanted one; returns what that took. Never waits for the
    /// other side of a node.
    pub async fn apply(&mut self, mut wanted: Graph) -> Plan {
        if let Some(limit) = self.memory
            && let Some(part) = memory::fit(&mut wanted, limit)
        {
            let part = format!("{:.0} %", part * 100.0);
            info!(
                limit_bytes = limit,
                part, "queues in memory take less than they may, to stay within the memory limit"
            );
        }
        let plan = plan(&self.graph, &wanted);
        self.graph = wanted;
        self.go(&plan).await;
        plan
    }

    /// Waits until a connection has panicked, so that [`Engine::mend`] has something to do. Dropping
    /// the future loses nothing.
    pub async fn damaged(&self) {
        self.damaged.next().await;
    }

    /// Waits until a connection has panicked, and makes it anew, with all nodes that use it. Dropping
    /// the future before that loses nothing; once it has begun, it is to be waited for.
    pub async fn mend(&mut self) {
        let name = self.damaged.next().await;
        self.damaged.remove(&name);
        if !self.graph.connections.contains_key(&name) {
            return;
        }
        let uses = |spec: &NodeSpec| spec.connection.as_ref() == Some(&name);
        let users = self.graph.nodes.iter().filter(|(_, spec)| uses(spec));
        let plan = Plan {
            replace: users.map(|(name, _)| Arc::clone(name)).collect(),
            replace_connections: BTreeSet::from([Arc::clone(&name)]),
            ..Plan::default()
        };
        self.go(&plan).await;
    }

    /// Goes the way of a plan, to the graph at hand.
    async fn go(&mut self, plan: &Plan) {
        for name in plan.stop.iter().chain(&plan.replace) {
            if let Some(station) = self.stations.get_mut(name) {
                station.halt().await;
            }
        }
        let gone: Vec<Station> =
            plan.stop.iter().filter_map(|name| self.stations.remove(name)).collect();
        self.change_connections(plan);
        for name in &plan.start {
            self.stations
                .insert(Arc::clone(name), Station::new(Arc::clone(name), self.observer.clone()));
        }
        // Limits first, so that a full queue that grew takes more at once.
        for (name, spec) in &self.graph.nodes {
            let station = self.stations.get_mut(name).expect("made or kept above");
            station.set_buffer(spec, &self.data, &self.disks);
            station.outbox.set_places(spec.places.clone());
            station.status.set_unshown(spec.unshown.clone());
            if !station.runs() {
                station.set_state(spec, &folder_of(&self.data, name)).await;
            }
        }
        self.rewire();
        for station in gone {
            station.retire().await;
        }
        self.launch();
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
                warn!(rule = %NOT_DONE_AT_STOP, node = %name, "not done when the time to stop was up");
                continue;
            }
            // Its sources hear that it is delivered once what it remembers is safe.
            let _ = timeout_at(deadline, station.keeper.finish()).await;
        }
        self.settle_sources(deadline).await;
        let mut stopped = Stopped::default();
        for station in self.stations.values_mut() {
            station.halt().await;
        }
        // All are halted: what one had in doubt is in the queue of another.
        for (name, station) in &mut self.stations {
            // Local, and short: not a matter of the other side.
            station.keep().await;
            let (left, lost) = (station.inbox.len(), station.inbox.unsafe_len());
            stopped.undelivered += lost + station.outbox.len();
            stopped.kept += left.saturating_sub(lost);
            let untracked = station.inbox.untracked_len() + station.outbox.untracked_len();
            station.status.add_many(Count::Lost, untracked as u64);
            let counts = station.status.counts();
            station.status.write_all_the_rest();
            stopped.count(&counts);
            debug!(node = %name, "stopped: {counts}");
        }
        for connection in self.connections.values() {
            connection.status.write_all_the_rest();
            stopped.count(&connection.status.counts());
        }
        run_connection::said(run_connection::close(self.connections.into_values(), &self.farewell))
            .await;
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

    /// Writes into the log what was only counted for a minute, and remembers the numbers of now, for rates, and values, for showing.
    /// To be called every ten seconds.
    pub fn write_rest(&mut self) {
        let connections = self.connections.values().map(|connection| &connection.status);
        let statuses = self.stations.values().map(|station| &station.status).chain(connections);
        for status in statuses {
            status.write_rest();
            status.sample();
        }
        let mut fields: usize = self.stations.values().map(|station| station.history.len()).sum();
        for station in self.stations.values_mut() {
            let others = fields - station.history.len();
            let sample = station.outbox.sample();
            station.history.add(sample.as_ref().map(Sample::message), others);
            fields = others + station.history.len();
        }
    }

    /// The last values of each field that a node sent, of a message in ten seconds; its last message; and what went wrong.
    ///
    /// # Errors
    ///
    /// The name of what there is not.
    pub fn history(&self, name: &str) -> Result<Values, String> {
        if let Some(connection) = self.connections.get(name) {
            let errors = connection.status.errors();
            return Ok(Values { every_s: EVERY_S, fields: BTreeMap::new(), last: None, errors });
        }
        let (name, spec) = self.node(name)?;
        let Some(station) = self.stations.get(name) else { return Err(format!("{name} is gone")) };
        let (fields, errors) = (station.history.fields(), station.status.errors());
        Ok(Values { every_s: EVERY_S, fields, last: self.last(name, spec), errors })
    }

    /// What each node sent last, of those that sent something.
    pub fn last_values(&self) -> BTreeMap<String, Last> {
        let nodes = self.graph.nodes.iter();
        nodes.filter_map(|(name, spec)| Some((name.to_string(), self.last(name, spec)?))).collect()
    }

    /// What a node sent last; a sink, what came last.
    fn last(&self, name: &Name, spec: &NodeSpec) -> Option<Last> {
        let last = |name: &Name| self.stations.get(name)?.outbox.last();
        let sample = match spec.role {
            Role::Sink => {
                let read = spec.from.iter().filter(|input| input.port == Port::MAIN);
                read.filter_map(|input| last(&input.node)).reduce(Sample::later)
            }
            _ => last(name),
        };
        let of = self.it_and_before(name);
        Some(sample?.shown(|text| tap::hide(&of, text)))
    }

    /// Drops what waits in the buffer of a sink, for good, but for what is being written. Returns how many messages.
    ///
    /// # Errors
    ///
    /// The name of what there is not.
    pub fn drop_waiting(&self, node: &str) -> Result<usize, String> {
        let (name, spec) = self.node(node)?;
        if spec.role != Role::Sink {
            return Err(format!("{name} is a {}: only sinks have a buffer", spec.role.noun()));
        }
        let Some(station) = self.stations.get(name) else { return Ok(0) };
        let dropped = station.inbox.drop_waiting();
        if dropped > 0 {
            station.status.dropped_by_hand(dropped as u64);
        }
        Ok(dropped)
    }

    /// How everything is that runs.
    pub fn report(&self) -> Report {
        report::of(&self.graph, &self.stations, &self.connections)
    }

    /// Says which buffers on disk hold messages that no node of the graph will send, and removes those
    /// that hold nothing.
    pub async fn report_orphans(&self) {
        let (data, sinks) = (Arc::clone(&self.data), sinks(&self.graph));
        let look = beside(move || {
            for (_, folder) in buffers_of_others(&data, &sinks) {
                // What cannot be removed is in nobody's way.
                let _ = buffer::remove_if_empty(&folder);
            }
            orphans(&data, &sinks)
        });
        for (node, messages) in look.await.unwrap_or_default() {
            warn!(rule = %ORPHAN_BUFFER, node = %node, messages, "left in the buffer on disk of a node that is gone; `forebay buffer move {node} NEW` gives them to another sink");
        }
    }

    /// Removes what nodes and connections remember on disk that are gone for a month. To be called once a
    /// day: by a clock that was not set, and when nothing runs, it does nothing.
    pub async fn remove_remnants(&self) {
        if self.graph.nodes.is_empty() || !clock::moment().is_set {
            return;
        }
        let nodes = nodes_folder(&self.data);
        let used = self.graph.nodes.keys().chain(self.graph.connections.keys());
        let used: BTreeSet<Name> = used.map(Arc::clone).collect();
        let now = SystemTime::now();
        let removed = beside(move || remnants::remove_old(&nodes, &used, now));
        if let Ok(Err(error)) = removed.await {
            debug!(%error, "what nodes that are gone remembered cannot be removed");
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

    /// What the nodes on a connection share, when that could be made.
    pub fn shared(&self, connection: &str) -> Option<Shared> {
        self.connections.get(connection)?.shared.clone()
    }

    /// The share of its time that each connection is busy, of those that say so.
    pub fn loads(&self) -> BTreeMap<Name, f64> {
        let loads = self.connections.iter().map(|(name, c)| (Arc::clone(name), c.status.busy()));
        loads.filter(|(_, share)| *share > 0.0).collect()
    }

    /// Shows the messages that come out of a node, by one of its outputs, as long as somebody takes
    /// them; no more than one in each pause.
    ///
    /// # Errors
    ///
    /// The name of what there is not.
    pub fn tap(
        &self,
        node: &str,
        output: Option<&str>,
        every: Duration,
    ) -> Result<mpsc::Receiver<Tapped>, String> {
        let (name, spec) = self.node(node)?;
        let Some(port) = draft::port(&spec.configured.outputs(), output) else {
            return Err(format!("{name} has no output `{}`", output.unwrap_or_default()));
        };
        if spec.role == Role::Sink && output.is_none() {
            return Err(format!("{name} is a sink: look at what comes in"));
        }
        let (looker, tapped) = tap::channel();
        let output = output.map_or_else(|| name.to_string(), |output| format!("{name}.{output}"));
        self.add_tap(name, port, output, looker, every);
        Ok(tapped)
    }

    /// The same for the messages that a node reads.
    ///
    /// # Errors
    ///
    /// The name of what there is not.
    pub fn tap_inputs(
        &self,
        node: &str,
        every: Duration,
    ) -> Result<mpsc::Receiver<Tapped>, String> {
        let (name, spec) = self.node(node)?;
        if spec.from.is_empty() {
            return Err(format!("{name} is a source: look at what comes out"));
        }
        let (looker, tapped) = tap::channel();
        for input in &spec.from {
            self.add_tap(&input.node, input.port, input.full_name(), looker.clone(), every);
        }
        Ok(tapped)
    }

    /// Shows what a transform makes of the messages that it reads.
    ///
    /// # Errors
    ///
    /// The name of what there is not.
    pub fn compare(&self, node: &str, every: Duration) -> Result<mpsc::Receiver<Tapped>, String> {
        let (name, spec) = self.node(node)?;
        if spec.role != Role::Transform {
            return Err(format!(
                "{name} is a {}: it makes nothing of what it reads",
                spec.role.noun()
            ));
        }
        let (looker, tapped) = tap::channel();
        let named = (0..).zip(spec.configured.outputs());
        let named = named.map(|(at, output)| (Port::named(at), format!("{name}.{output}").into()));
        let own = [(Port::MAIN, Arc::clone(name)), (Port::ERRORS, format!("{name}.errors").into())];
        let inputs = spec.from.iter();
        let names = tap::Names {
            inputs: inputs.map(|it| (Arc::clone(&it.written), it.full_name().into())).collect(),
            outputs: own.into_iter().chain(named).collect(),
        };
        if let Some(station) = self.stations.get(name) {
            let of = self.it_and_before(name);
            station.outbox.add_compare(tap::Compare::new(names, of, looker, every));
        }
        Ok(tapped)
    }

    /// What waits in front of a node, on disk and in memory.
    ///
    /// # Errors
    ///
    /// The name of what there is not.
    pub fn waiting(&self, node: &str) -> Result<Backlog, String> {
        let (name, spec) = self.node(node)?;
        if spec.role == Role::Source {
            return Err(format!("{name} is a source: nothing waits in front of it"));
        }
        let Some(station) = self.stations.get(name) else { return Err(format!("{name} is gone")) };
        let of = self.it_and_before(name);
        Ok(Backlog::of(name, spec, &station.inbox, of))
    }

    /// A node and all that its messages come from: what they have of the settings of these is not shown.
    fn it_and_before(&self, name: &Name) -> tap::Nodes {
        let (mut found, mut rest) = (BTreeSet::new(), vec![name]);
        while let Some(name) = rest.pop() {
            if found.insert(name)
                && let Some(spec) = self.graph.nodes.get(name)
            {
                rest.extend(spec.from.iter().map(|input| &input.node));
            }
        }
        let stations = found.into_iter().filter_map(|name| self.stations.get(name));
        stations.map(|station| Arc::clone(&station.status)).collect()
    }

    fn node(&self, name: &str) -> Result<(&Name, &NodeSpec), String> {
        let found = self.graph.nodes.get_key_value(name);
        found.ok_or_else(|| format!("no node is named `{name}`"))
    }

    fn add_tap(
        &self,
        node: &Name,
        port: Port,
        output: String,
        looker: mpsc::Sender<Tapped>,
        every: Duration,
    ) {
        let Some(station) = self.stations.get(node) else { return };
        let of = self.it_and_before(node);
        station.outbox.add_tap(tap::Tap::new((port, output.into()), of, looker, every));
    }

    fn change_connections(&mut self, plan: &Plan) {
        for name in &plan.adapt_connections {
            let spec = &self.graph.connections[name];
            let running = &self.connections[name];
            running.status.set_unshown(spec.unshown.clone());
            if let Some(shared) = &running.shared {
                spec.configured.adapt(shared);
            }
        }
        let going = plan.stop_connections.iter().chain(&plan.replace_connections);
        let going: BTreeMap<Name, RunningConnection> =
            going.filter_map(|name| self.connections.remove_entry(name)).collect();
        let backoff = |(name, running): (&Name, &RunningConnection)| {
            (Arc::clone(name), Arc::clone(&running.backoff))
        };
        let backoffs: BTreeMap<Name, _> = going.iter().map(backoff).collect();
        self.farewell = run_connection::close(going.into_values(), &self.farewell);
        let mut coming: Vec<&Name> =
            plan.start_connections.iter().chain(&plan.replace_connections).collect();
        // Who serves listens before anybody here calls: a bridge may lead to a broker beside it.
        let serves = |name: &Name| self.graph.connections[name].configured.capabilities().serves;
        coming.sort_by_key(|name| !serves(name));
        for name in coming {
            let spec = &self.graph.connections[name];
            let configured = Arc::clone(&spec.configured);
            let status = Arc::new(Status::new(Arc::clone(name)));
            status.set_unshown(spec.unshown.clone());
            let place = Place {
                site: self.site(name, &status, None, Arc::new([])),
                status,
                farewell: self.farewell.clone(),
                damaged: Arc::clone(&self.damaged),
                backoff: backoffs.get(name).map(Arc::clone).unwrap_or_default(),
            };
            let running = RunningConnection::start(&*configured, place);
            self.connections.insert(Arc::clone(name), running);
        }
    }

    /// Where a node or a connection stands.
    fn site(
        &self,
        name: &Name,
        status: &Arc<Status>,
        connection: Option<forebay_sdk::Shared>,
        inputs: Arc<[Arc<str>]>,
    ) -> Site {
        Site {
            name: Arc::clone(name),
            folder: Arc::clone(&self.folder),
            data: folder_of(&self.data, name).into(),
            connection,
            inputs,
            memory: None,
            world: self.world.clone(),
            voice: Voice::new(Arc::clone(status) as _),
            links: self.links.clone(),
        }
    }

    fn rewire(&self) {
        let mut wires = self.graph.wires();
        for (name, station) in &self.stations {
            let wire = |wire: crate::config::Wire| {
                let inbox = Arc::clone(&self.stations[&wire.reader].inbox);
                Wire { port: wire.port, inbox, written: wire.written }
            };
            let readers = wires.remove(name).unwrap_or_default();
            station.outbox.rewire(readers.into_iter().map(wire).collect());
        }
    }

    /// Starts what does not run: what is new or was halted, and what could not be made before. Readers
    /// first, so that nothing waits for them.
    fn launch(&mut self) {
        for role in [Role::Sink, Role::Transform, Role::Source] {
            for (name, spec) in self.graph.nodes.iter().filter(|(_, spec)| spec.role == role) {
                let station = &self.stations[name];
                if station.runs() {
                    continue;
                }
                let inputs = spec.from.iter().map(|output| Arc::clone(&output.written)).collect();
                let connection = match &spec.connection {
                    None => None,
                    Some(used) => {
                        let used = self.connections.get(used);
                        let used = used.expect("lint refuses an unknown connection");
                        let Some(shared) = used.shared.clone() else {
                            station.cannot_launch(&anyhow::anyhow!("its connection is broken"));
                            continue;
                        };
                        Some(shared)
                    }
                };
                let site = self.site(name, &station.status, connection, inputs);
                let station = self.stations.get_mut(name).expect("looked up above");
                station.launch(spec, site);
            }
        }
    }
}

/// The folder of a node's own, below the data folder.
fn folder_of(data: &Path, node: &str) -> PathBuf {
    buffer::folder_in(nodes_folder(data), node)
}

/// Where all that nodes and connections remember is.
fn nodes_folder(data: &Path) -> PathBuf {
    data.join("nodes")
}

/// The buffers on disk that no sink of a graph would send, and how many messages each holds.
pub fn left_behind(data: &Path, graph: &Graph) -> Vec<(String, u64)> {
    orphans(data, &sinks(graph))
}

fn sinks(graph: &Graph) -> BTreeSet<Name> {
    let sinks = graph.nodes.iter().filter(|(_, spec)| spec.role == Role::Sink);
    sinks.map(|(name, _)| Arc::clone(name)).collect()
}

fn buffers_of_others(data: &Path, sinks: &BTreeSet<Name>) -> Vec<(String, PathBuf)> {
    let mut listed = buffer::list(data).unwrap_or_default();
    listed.retain(|(node, _)| !sinks.contains(node.as_str()));
    listed
}

/// The buffers of others than these sinks, and how many messages each holds. What cannot be
/// read is not worth a warning here.
fn orphans(data: &Path, sinks: &BTreeSet<Name>) -> Vec<(String, u64)> {
    let held = |(node, folder): (String, PathBuf)| {
        let messages = buffer::look(buffer::Folder::new(folder)).ok()?.messages();
        (messages > 0).then_some((node, messages))
    };
    buffers_of_others(data, sinks).into_iter().filter_map(held).collect()
}
