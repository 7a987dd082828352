//! The fields of payloads and the entries of `meta`: what a node reads should come from somewhere upstream.
//!
//! Known only as far as every node upstream says what it sends. Where one does not, nothing is said.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use forebay_sdk::{
    Configured, FieldRead, Fields, Finding, Problem, Sends,
    finding::{nearest, quoted},
    template::TOPIC_LEVELS,
};

use super::index::Nodes;
use crate::{
    config::{Part, Texts, Upstream},
    rules::UNPRODUCED_FIELD,
};

/// The fields that may be in a message. None when nobody can say.
type Known = Option<BTreeSet<String>>;

/// Where a field is.
#[derive(Clone, Copy)]
enum Place {
    Payload,
    Meta,
}

impl Place {
    fn of(self, node: &dyn Configured) -> Fields {
        match self {
            Place::Payload => node.fields(),
            Place::Meta => node.meta(),
        }
    }

    /// What every message has there.
    fn always(self) -> &'static [&'static str] {
        match self {
            Place::Payload => &[],
            Place::Meta => &["source", "historical", TOPIC_LEVELS],
        }
    }
}

/// Reports the fields that the nodes of a pipeline read and that nothing upstream sends.
pub(super) fn check(nodes: &Nodes<'_>, texts: &Texts, findings: &mut Vec<Finding>) {
    for place in [Place::Payload, Place::Meta] {
        let named = nodes.iter().filter_map(|node| {
            let fields = place.of(&**node.configured.as_ref()?);
            Some((node.short.as_str(), (node, fields)))
        });
        let nodes: BTreeMap<&str, (&Part, Fields)> = named.collect();
        Flow { nodes: &nodes, place, sent: HashMap::new() }.check(texts, findings);
    }
}

struct Flow<'a> {
    nodes: &'a BTreeMap<&'a str, (&'a Part, Fields)>,
    place: Place,
    /// What each node sends. A node that is being looked at is there as unknown, so a cycle ends.
    sent: HashMap<&'a str, Known>,
}

impl<'a> Flow<'a> {
    fn check(&mut self, texts: &Texts, findings: &mut Vec<Finding>) {
        let nodes = self.nodes;
        for (node, fields) in nodes.values() {
            if fields.reads.is_empty() {
                continue;
            }
            let Some(incoming) = self.incoming(node) else { continue };
            let mut known = incoming.clone();
            if let Sends::Only(own) | Sends::Also(own) = &fields.sends {
                known.extend(own.iter().cloned());
            }
            let mut said = BTreeSet::new();
            for read in
                fields.reads.iter().filter(|read| !self.place.always().contains(&&*read.field))
            {
                if !known.contains(&read.field) && said.insert(read.field.clone()) {
                    findings.push(self.missing(node, read, &incoming, texts));
                }
            }
        }
    }

    fn incoming(&mut self, node: &'a Part) -> Known {
        let mut all = BTreeSet::new();
        for input in &node.from {
            all.extend(self.sent_to(input)?);
        }
        Some(all)
    }

    fn sent_to(&mut self, input: &Upstream) -> Known {
        // What a node could not handle may be anything.
        if input.output.as_deref() == Some("errors") {
            return None;
        }
        let (node, fields) = self.nodes.get(input.node.as_str())?;
        if let Some(sent) = self.sent.get(node.short.as_str()) {
            return sent.clone();
        }
        self.sent.insert(&node.short, None);
        let sent = match &fields.sends {
            Sends::Unknown => None,
            Sends::Only(own) => Some(own.clone()),
            Sends::Also(own) => self.incoming(node).map(|mut incoming| {
                incoming.extend(own.iter().cloned());
                incoming
            }),
        };
        self.sent.insert(&node.short, sent.clone());
        sent
    }

    fn missing(
        &self,
        node: &Part,
        read: &FieldRead,
        incoming: &BTreeSet<String>,
        texts: &Texts,
    ) -> Finding {
        let names = || incoming.iter().map(String::as_str);
        let near = nearest(&read.field, names());
        let label = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "always missing here".to_owned(),
        };
        let (node_name, field) = (&node.short, &read.field);
        let (what, none) = match self.place {
            Place::Payload => (format!("a field `{field}`"), "gives no fields"),
            Place::Meta => (format!("`meta.{field}`"), "gives no `meta`"),
        };
        let message = format!("nothing upstream of `{node_name}` gives {what}");
        let mut problem =
            Problem::new(read.setting.clone(), message, label).rule(&UNPRODUCED_FIELD);
        problem.inside = read.inside;
        let mut finding = node.place(problem.warning(), texts);
        let inputs = node.from.iter().filter_map(|input| self.nodes.get(input.node.as_str()));
        for (source, _) in inputs {
            let sent = self.sent.get(source.short.as_str()).cloned().flatten().unwrap_or_default();
            let label = match sent.is_empty() {
                true => none.to_owned(),
                false => format!("gives {}", quoted(sent.iter().map(String::as_str))),
            };
            finding = finding.context(source.name_span, label);
        }
        finding
    }
}
