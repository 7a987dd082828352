//! An MQTT broker inside this program, as a connection: devices reach it by TCP, the nodes of
//! pipelines in-process.
//!
//! The broker itself is `broker.rs`, a state machine, with `session.rs`, `tree.rs` and `retained.rs`;
//! `wire/` is MQTT as bytes, `serve.rs` the task of one device. Beside the broker stand the readers
//! among the nodes (`local.rs`, `place.rs`) and what publishers are owed for them (`dues.rs`). All
//! memory that a client can cause is counted in `budget.rs`.

mod access;
mod broker;
mod budget;
mod connection;
mod dues;
mod entrance;
mod hall;
mod house;
mod journal;
mod keeping;
mod listen;
mod local;
mod log_file;
mod message;
mod pace;
mod packets;
mod peer;
mod place;
mod records;
mod restored;
mod retained;
mod roll;
mod rules;
mod serve;
mod session;
mod settings;
mod status;
mod terms;
mod topics;
mod tree;
mod turns;
mod users;
mod websocket;
mod wills;
mod wire;
mod words;

#[cfg(test)]
mod tests;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::BrokerSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("broker", include_str!("../sample.yaml"))
        .offers(broker())
        .is_peer(peer::peer())
        .rules(&[&rules::OPEN_BROKER, &rules::PASSWORDS_IN_THE_CLEAR])
}

fn broker() -> Native<BrokerSettings> {
    Native::new(
        Role::Connection,
        "broker",
        "An MQTT broker in this program, for devices on the local network and for `mqtt` nodes.",
    )
}
