//! An MQTT broker inside this program, as a connection: devices reach it by TCP, the nodes of
//! pipelines in-process.
//!
//! The engine behind it is `mqtt5`. We open the listeners and own every task ourselves, so that
//! nothing outlives the connection; of `mqtt5` we use the protocol, the router and the sessions.

mod listen;
mod local;
mod serve;
mod settings;
mod users;

#[cfg(test)]
mod tests;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::BrokerSettings;

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "broker",
    types: &[&CONNECTION],
    readme: include_str!("../README.md"),
    sample: include_str!("../sample.yaml"),
    devices: &[],
};

static CONNECTION: Native<BrokerSettings> = Native::new(
    Role::Connection,
    "broker",
    "An MQTT broker in this program, for devices on the local network and for `mqtt` nodes.",
);
