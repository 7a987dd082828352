//! MQTT 3.1.1: a session with a broker as a connection, and the nodes that subscribe and publish
//! on it, or on the broker in this process.
//!
//! The one thing to know: a session carries everybody's messages and acknowledgements over one
//! TCP connection, so the task that owns it ([`driver`]) never waits for a node.

mod address;
mod driver;
mod inbound;
mod ledger;
mod session;
mod settings;
mod sink;
mod socket;
mod source;
mod topic;
mod words;

#[cfg(test)]
mod tests;

use forebay_sdk::{Native, Plugin, Role};

use crate::{settings::SessionSettings, sink::SinkSettings, source::SourceSettings};

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "mqtt",
    types: &[&CONNECTION, &SOURCE, &SINK],
    readme: include_str!("../README.md"),
    sample: include_str!("../sample.yaml"),
    devices: &[],
};

static CONNECTION: Native<SessionSettings> =
    Native::new(Role::Connection, "mqtt", "A session with an MQTT broker.");

static SOURCE: Native<SourceSettings> =
    Native::new(Role::Source, "mqtt", "Subscribes to topics of an MQTT broker.")
        .using(&["mqtt", "broker"]);

static SINK: Native<SinkSettings> =
    Native::new(Role::Sink, "mqtt", "Publishes to topics of an MQTT broker.")
        .using(&["mqtt", "broker"]);
