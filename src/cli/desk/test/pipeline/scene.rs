//! What of a folder a test runs, and who is at the other sides: peers that plugins play, the broker of the folder itself,
//! and who stands in for the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use forebay_sdk::{Configured, Coverage, Message, Peer, Port, Role, peer::Side};

use super::{
    sent::Sent,
    stand_in::{OtherSide, StandIn},
};
use crate::{
    config::{Graph, Name, NodeSpec, Places, draft},
    plugins,
};

/// The nodes of a test, and the other sides.
#[derive(Clone)]
pub struct Scene {
    /// What runs. Sources and sinks whose other side nobody plays have others standing in for them.
    pub graph: Graph,
    /// The other sides, by the names of connections, or of the nodes that are stood in for.
    pub members: BTreeMap<Name, Member>,
    /// The pipelines, the one that is tested first.
    pipelines: Vec<String>,
}

/// Another side.
#[derive(Clone)]
pub enum Member {
    /// Played by a plugin, for a connection.
    Peer { peer: Peer, connection: Arc<dyn Configured>, users: Vec<(Name, Arc<dyn Configured>)> },
    /// The broker of the folder itself.
    Broker,
    /// Stood in for.
    StandIn(Arc<OtherSide>),
}

/// A node that takes note of what of its script runs.
pub struct Noted {
    pub node: Name,
    pub places: Places,
    pub coverage: Arc<Coverage>,
}

/// The peers of this build.
pub fn peers() -> &'static [Peer] {
    static PEERS: OnceLock<Vec<Peer>> = OnceLock::new();
    PEERS.get_or_init(|| plugins::all().into_iter().flat_map(|plugin| plugin.peers).collect())
}

/// Who plays the other side of connections of a type.
fn peer_of(connection: &str) -> Option<&'static Peer> {
    let is_it = |peer: &&Peer| matches!(peer.side, Side::Connection(known) if known == connection);
    peers().iter().find(is_it)
}

impl Scene {
    /// The part of a graph that some pipelines are. Who is stood in for is the same as `before`.
    pub fn new(graph: &Graph, pipelines: Vec<String>, before: Option<&Scene>) -> Scene {
        let mut scene = Scene { graph: Graph::default(), members: BTreeMap::new(), pipelines };
        for (name, spec) in &graph.nodes {
            let pipeline = name.split('/').next().unwrap_or_default();
            if scene.pipelines.iter().any(|known| known == pipeline) {
                scene.add(name, spec, graph, before);
            }
        }
        let used = scene.graph.nodes.values().filter_map(|spec| spec.connection.clone());
        for name in used.collect::<BTreeSet<_>>() {
            let spec = graph.connections[&name].clone();
            let connection = Arc::clone(&spec.configured);
            let peer = peer_of(&spec.type_name);
            let member = match peer {
                Some(peer) => {
                    let users = scene.users(&name);
                    Member::Peer { peer: *peer, connection, users }
                }
                None => Member::Broker,
            };
            scene.graph.connections.insert(Arc::clone(&name), spec);
            scene.members.insert(name, member);
        }
        scene
    }

    fn add(&mut self, name: &Name, spec: &NodeSpec, graph: &Graph, before: Option<&Scene>) {
        let is_played = match &spec.connection {
            None => spec.configured.capabilities().is_inward,
            Some(used) => {
                let used = &graph.connections[used];
                let serves = used.configured.capabilities().serves;
                serves || peer_of(&used.type_name).is_some()
            }
        };
        let web = peers().iter().find(|peer| peer.side == Side::Web);
        let asks_web = !is_played && spec.connection.is_none() && !self.reaches_of(spec).is_empty();
        if let Some(peer) = web.filter(|_| asks_web) {
            let connection = Arc::clone(&spec.configured);
            let member = Member::Peer { peer: *peer, connection, users: Vec::new() };
            self.members.insert(Arc::clone(name), member);
            self.graph.nodes.insert(Arc::clone(name), spec.clone());
            return;
        }
        self.graph.nodes.insert(Arc::clone(name), spec.clone());
        if spec.role != Role::Transform && !is_played {
            let known = before.and_then(|before| before.members.get(name));
            let other_side = match known {
                Some(Member::StandIn(known)) => Arc::clone(known),
                _ => Arc::default(),
            };
            self.stand_in(name, &other_side);
        }
    }

    /// Where a node asks web services, unless somebody answers there already.
    fn reaches_of(&self, spec: &NodeSpec) -> Vec<String> {
        let taken: Vec<String> = self.members.values().flat_map(Member::places).collect();
        let mut places = spec.configured.reaches();
        places.retain(|place| !taken.contains(place));
        places
    }

    /// The nodes on a connection, by their names without the pipeline, and with it.
    fn users(&self, connection: &str) -> Vec<(Name, Arc<dyn Configured>)> {
        let nodes = self.graph.nodes.iter();
        let users = nodes.filter(|(_, spec)| spec.connection.as_deref() == Some(connection));
        let named = users.flat_map(|(name, spec)| {
            let short: Name = name.rsplit('/').next().unwrap_or(name).into();
            [short, Arc::clone(name)].map(|name| (name, Arc::clone(&spec.configured)))
        });
        named.collect()
    }

    /// Has somebody stand in for a node.
    pub fn stand_in(&mut self, name: &Name, other_side: &Arc<OtherSide>) {
        let Some(spec) = self.graph.nodes.get_mut(name) else { return };
        let (stands_for, role) = (Arc::clone(&spec.configured), spec.role);
        let stand_in = StandIn { stands_for, role, other_side: Arc::clone(other_side) };
        (spec.configured, spec.connection) = (Arc::new(stand_in), None);
        self.members.insert(Arc::clone(name), Member::StandIn(Arc::clone(other_side)));
    }

    /// What a node sends that plays back what it sent.
    pub fn played_back(
        &self,
        name: &Name,
        sent: &[(Duration, Option<&str>, &Message)],
    ) -> Vec<Sent> {
        let outputs = self.graph.nodes[name].configured.outputs();
        let sent = sent.iter().filter_map(|(at, output, message)| {
            let port = draft::port(&outputs, *output)?;
            Some(Sent { at: *at, port, message: Message::clone(message) })
        });
        sent.collect()
    }

    /// From now on its scripts take note of what of them runs.
    pub fn note(&mut self) -> Vec<Noted> {
        let mut noted = Vec::new();
        for (name, spec) in &mut self.graph.nodes {
            let Some((configured, coverage)) = spec.configured.noting() else { continue };
            spec.configured = configured;
            noted.push(Noted { node: Arc::clone(name), places: spec.places.clone(), coverage });
        }
        noted
    }

    /// Takes in who else is on the connections once the graph is another one.
    pub fn meet(&mut self, later: &Scene) {
        for (name, member) in &later.members {
            match (self.members.get_mut(name), member) {
                (Some(Member::Peer { users, .. }), Member::Peer { users: more, .. }) => {
                    let is_new = |user: &&(Name, Arc<dyn Configured>)| {
                        !users.iter().any(|known| Arc::ptr_eq(&known.1, &user.1))
                    };
                    let more: Vec<_> = more.iter().filter(is_new).cloned().collect();
                    users.extend(more);
                }
                (Some(_), _) => (),
                (None, member) => {
                    self.members.insert(Arc::clone(name), member.clone());
                }
            }
        }
    }

    /// The other side that a test names: by its connection, or by the node that it belongs to.
    pub fn member(&self, written: &str) -> Option<&Name> {
        let of_nodes = self.node_names(written).into_iter().flat_map(|node| {
            let own = format!("{node}.connection");
            [own, node]
        });
        let names = std::iter::once(written.to_owned()).chain(of_nodes);
        names.into_iter().find_map(|name| Some(self.members.get_key_value(&*name)?.0))
    }

    /// The output that a test names: `load`, `load.errors`, `power-meter/load`.
    pub fn output(&self, written: &str) -> Option<(Name, Port)> {
        let (node, output) = match written.split_once('.') {
            Some((node, output)) => (node, Some(output)),
            None => (written, None),
        };
        let (name, spec) = self.node(node)?;
        let port = draft::port(&spec.configured.outputs(), output)?;
        Some((Arc::clone(name), port))
    }

    /// The node that a test names.
    pub fn node(&self, written: &str) -> Option<(&Name, &NodeSpec)> {
        let names = self.node_names(written);
        names.iter().find_map(|name| self.graph.nodes.get_key_value(name.as_str()))
    }

    /// What a name can be short for.
    fn node_names(&self, written: &str) -> Vec<String> {
        let short = self.pipelines.iter().map(|pipeline| format!("{pipeline}/{written}"));
        std::iter::once(written.to_owned()).chain(short).collect()
    }

    /// The sinks whose messages arrive at another side.
    pub fn sinks_of(&self, member: &str) -> Vec<Name> {
        let nodes = self.graph.nodes.iter().filter(|(_, spec)| spec.role == Role::Sink);
        let leads = nodes.filter(|(name, spec)| {
            &***name == member || spec.connection.as_deref() == Some(member)
        });
        leads.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// All sinks.
    pub fn sinks(&self) -> BTreeSet<Name> {
        let sinks = self.graph.nodes.iter().filter(|(_, spec)| spec.role == Role::Sink);
        sinks.map(|(name, _)| Arc::clone(name)).collect()
    }
}

impl Member {
    /// Where in the world it is looked for.
    pub fn places(&self) -> Vec<String> {
        match self {
            Member::Peer { connection, .. } => connection.reaches(),
            Member::Broker | Member::StandIn(_) => Vec::new(),
        }
    }
}
