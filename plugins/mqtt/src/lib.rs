//! MQTT 3.1.1 and 5: a session with a broker as a connection, and the nodes that subscribe and publish
//! on it, or on the broker in this process.
//!
//! The one thing to know: a session carries everybody's messages and acknowledgements over one
//! TCP connection, so the task that owns it (`connection.rs`) never waits for a node.

mod address;
mod client;
mod connection;
mod dialect;
mod doubts;
mod examine;
mod frames;
mod gate;
mod inbound;
mod ledger;
mod pace;
mod properties;
mod rules;
mod segments;
mod session;
mod settings;
mod sink;
mod source;
mod understood;
mod version;
mod wire;
mod words;
mod words5;

#[cfg(test)]
mod tests;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::{MqttSinkSettings, MqttSourceSettings, SessionSettings};

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("mqtt", include_str!("../README.md"), include_str!("../sample.yaml"))
        .offers(connection())
        .offers(source())
        .offers(sink())
        .rules(&rules::RULES)
}

fn connection() -> Native<SessionSettings> {
    Native::new(Role::Connection, "mqtt", "A session with an MQTT broker.")
}

fn source() -> Native<MqttSourceSettings> {
    Native::new(Role::Source, "mqtt", "Subscribes to topics of an MQTT broker.")
        .using(&["mqtt", "broker"])
}

fn sink() -> Native<MqttSinkSettings> {
    Native::new(Role::Sink, "mqtt", "Publishes to topics of an MQTT broker.")
        .using(&["mqtt", "broker"])
}
