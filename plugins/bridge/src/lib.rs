//! Bridges between two brokers: the section `bridges:`, whose entries stand for sources that subscribe,
//! transforms that change topics, and sinks that publish.
//!
//! The one thing to know: nothing here runs but the transform in between. Sessions, queues and promises
//! are those of the nodes that a bridge is taken apart into.

mod expand;
mod rule;
mod settings;
#[cfg(test)]
mod tests;
mod transform;

use forebay_sdk::{Native, Plugin, Role};

use crate::{expand::Bridges, settings::CrossingSettings};

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("bridge", include_str!("../sample.yaml"))
        .expands(Bridges)
        .offers(crossing())
        .sample("bridge", include_str!("../middle.yaml"))
}

fn crossing() -> Native<CrossingSettings> {
    let summary =
        "Takes messages from the topics of one broker to those of another, as a part of a bridge.";
    Native::new(Role::Transform, "bridge", summary)
}
