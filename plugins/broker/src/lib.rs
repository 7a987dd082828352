//! An MQTT broker inside this program, as a connection: devices reach it by TCP, the nodes of
//! pipelines in-process.
//!
//! The engine behind it is `mqtt5`. We open the listeners and own every task ourselves, so that
//! nothing outlives the connection; of `mqtt5` we use the protocol, the router and the sessions.

mod connection;
mod dues;
mod gate;
mod hall;
mod house;
mod listen;
mod local;
mod packets;
mod place;
mod private;
mod properties;
mod rules;
mod settings;
mod users;
mod wills;

#[cfg(test)]
mod tests;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::BrokerSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("broker", include_str!("../README.md"), include_str!("../sample.yaml"))
        .offers(broker())
        .rules(&[&rules::OPEN_BROKER])
}

fn broker() -> Native<BrokerSettings> {
    Native::new(
        Role::Connection,
        "broker",
        "An MQTT broker in this program, for devices on the local network and for `mqtt` nodes.",
    )
}
