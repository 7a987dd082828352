//! What of pipelines their tests reached: statements of scripts, outputs, wires.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use forebay_sdk::{Port, Reachable};

use super::{super::results::Report, case::Test, scene::Noted, seen::Record};
use crate::config::Name;

/// What the tests of a file reached.
#[derive(Default)]
pub struct Covered {
    /// How each wire is told, by the output that it leaves, and who reads it.
    wires: BTreeMap<(Name, Port), BTreeSet<String>>,
    /// The outputs that something left by.
    taken: BTreeSet<(Name, Port)>,
    /// Those that have a name of their own, and that.
    outputs: BTreeMap<(Name, Port), String>,
}

impl Covered {
    /// Adds what a test saw.
    pub fn add(&mut self, test: &Test, record: &Record) {
        let versions = test.steps.iter().filter_map(|step| step.uses.as_ref());
        let scenes = std::iter::once(&test.scene).chain(versions.map(|(_, scene)| &**scene));
        for graph in scenes.map(|scene| &scene.graph) {
            for (node, wires) in graph.wires() {
                for wire in wires {
                    let place = (Arc::clone(&node), wire.port);
                    let words = format!("{} to {}", wire.written, wire.reader);
                    self.wires.entry(place).or_default().insert(words);
                }
            }
            for (node, spec) in &graph.nodes {
                for (index, output) in (0..).zip(spec.configured.outputs()) {
                    let place = (Arc::clone(node), Port::named(index));
                    self.outputs.insert(place, format!("{node}.{output}"));
                }
            }
        }
        let taken = record.counts.iter().filter(|(_, count)| **count > 0);
        self.taken.extend(taken.map(|(place, _)| place.clone()));
    }

    /// What all of them reached.
    pub fn report(&self, noted: &[Noted]) -> Report {
        let mut report = Report::default();
        let spots =
            noted.iter().flat_map(|noted| noted.coverage.spots().map(move |it| (noted, it)));
        // Several nodes may run one script: what one of them reached was reached.
        let mut places: BTreeMap<String, bool> = BTreeMap::new();
        let mut order = Vec::new();
        for (Noted { node, places: known, coverage }, (spot, reached)) in spots {
            let place = known.tell(coverage.setting, &spot.at);
            let place = match &spot.at.file {
                None if place.starts_with("line ") => format!("{node}, {place}"),
                _ => place,
            };
            let words = match spot.what {
                Reachable::Statement => place,
                Reachable::WayAround => format!("{place}, when it does not hold"),
            };
            if !places.contains_key(&words) {
                order.push(words.clone());
            }
            *places.entry(words).or_default() |= reached;
        }
        report.places = places.len();
        report.reached = places.values().filter(|reached| **reached).count();
        report.not_reached = order.into_iter().filter(|words| !places[words]).collect();
        let is_taken = |place: &(Name, Port)| self.taken.contains(place);
        let outputs = self.outputs.iter().filter(|(place, _)| !is_taken(place));
        report.outputs_not_taken = outputs.map(|(_, words)| words.clone()).collect();
        let wires = self.wires.iter().filter(|(place, _)| !is_taken(place));
        report.wires_not_taken = wires.flat_map(|(_, words)| words.iter().cloned()).collect();
        report
    }
}
