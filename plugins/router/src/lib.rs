//! The router: a connection that asks it, a source of its figures, and a sink that has it do something.
//!
//! Read `group.rs` and `normal.rs` for what a message says, `rutos.rs` for how a router is asked, and
//! `figures.rs` for what is believed of what it answers.

mod action;
mod connection;
mod counters;
mod dbus;
mod deadband;
mod examine;
mod figures;
mod group;
mod linux;
mod modem;
mod modem_manager;
mod network;
mod normal;
mod panel;
mod patience;
mod place;
mod provider;
mod router;
mod rules;
mod rutos;
mod settings;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod ubus;
mod web;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::{RouterSettings, RouterSinkSettings, RouterSourceSettings};

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("router", include_str!("../sample.yaml"))
        .offers(connection())
        .offers(source())
        .offers(sink())
        .rules(&[&rules::UNKNOWN_CERTIFICATE])
}

fn connection() -> Native<RouterSettings> {
    let summary = "The router that this program runs on or beside, or any Linux machine.";
    Native::new(Role::Connection, "router", summary)
}

fn source() -> Native<RouterSourceSettings> {
    let summary = "Reads signal, data used, health, position and more of a router, in the same words whatever it is.";
    Native::new(Role::Source, "router", summary).using(&["router"])
}

fn sink() -> Native<RouterSinkSettings> {
    let summary = "Has a router set an output, send a text message, restart or change its SIM.";
    Native::new(Role::Sink, "router", summary).using(&["router"])
}
