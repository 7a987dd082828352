//! The parts of a draft, to be found by name.

use std::collections::{BTreeMap, HashMap};

use forebay_sdk::Role;

use crate::config::{Draft, How, Part, Pipeline, Upstream, Uses};

/// The connections of a folder.
pub(super) struct Connections<'a>(BTreeMap<&'a str, &'a Part>);

impl<'a> Connections<'a> {
    pub(super) fn of(draft: &'a Draft) -> Connections<'a> {
        let connections = draft.parts.iter().filter(|part| part.role == Role::Connection);
        Connections(connections.map(|part| (&*part.name, part)).collect())
    }

    /// The connection that a node uses.
    pub(super) fn get(&self, uses: &Uses) -> Option<&'a Part> {
        let found = self.0.get(&*uses.connection).copied();
        match uses.how {
            How::ByName => found.filter(|part| has_a_name(part)),
            How::InPlace | How::Sibling => found,
        }
    }

    /// All of them, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'a Part> {
        self.0.values().copied()
    }

    /// The names that nodes can use.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.iter().filter(|part| has_a_name(part)).map(|part| &*part.name)
    }
}

/// The nodes of one pipeline, in the order of its file.
pub(super) struct Nodes<'a> {
    pub(super) pipeline: &'a Pipeline,
    all: Vec<&'a Part>,
    by_name: HashMap<&'a str, &'a Part>,
}

impl<'a> Nodes<'a> {
    /// Those of all pipelines.
    pub(super) fn of(draft: &'a Draft) -> Vec<Nodes<'a>> {
        let mut of_pipeline: HashMap<&str, Vec<&Part>> = HashMap::new();
        for part in draft.parts.iter().filter(|part| part.role != Role::Connection) {
            of_pipeline.entry(&part.pipeline).or_default().push(part);
        }
        let nodes = |pipeline: &'a Pipeline| {
            let all = of_pipeline.get(&*pipeline.name).cloned().unwrap_or_default();
            let mut by_name = HashMap::new();
            for node in &all {
                // Of two with one name, which is reported, the first is meant.
                by_name.entry(node.short.as_str()).or_insert(*node);
            }
            Nodes { pipeline, all, by_name }
        };
        draft.pipelines.iter().map(nodes).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'a Part> {
        self.all.iter().copied()
    }

    /// The node of a name that users write.
    pub(super) fn named(&self, name: &str) -> Option<&'a Part> {
        self.by_name.get(name).copied().filter(|part| has_a_name(part))
    }

    /// The node that an entry of `from:` leads to.
    pub(super) fn read_by(&self, upstream: &Upstream) -> Option<&'a Part> {
        if !upstream.is_sibling {
            return self.named(&upstream.node);
        }
        self.by_name.get(&*upstream.node).copied()
    }

    /// The names that `from:` of this node can have.
    pub(super) fn names_for(&self, reader: &Part) -> Vec<&'a str> {
        let is_one = |node: &&Part| {
            node.role != Role::Sink && node.short != reader.short && has_a_name(node)
        };
        self.iter().filter(is_one).map(|node| node.short.as_str()).collect()
    }
}

/// Whether users can write its name: not that of a part of something, or of a connection in place.
pub(super) fn has_a_name(part: &Part) -> bool {
    let is_part = part.origin.is_some() && part.short.contains(':');
    let is_in_place = part.role == Role::Connection && part.name.contains('/');
    !is_part && !is_in_place
}
