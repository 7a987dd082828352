//! Reads and switches GPIO lines: a connection is one chip, a source tells the levels, edges and pulses
//! of its inputs, a sink drives its outputs.
//!
//! Read `settings.rs` for what users write, `line.rs` for what is said when a line cannot be had, and
//! `output.rs` for when an output is switched.

mod chip;
mod connection;
mod examine;
mod input;
mod level;
mod line;
mod output;
mod outputs;
mod pulses;
mod settings;
mod sink;
mod source;
#[cfg(test)]
mod tests;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::{GpioSettings, GpioSinkSettings, GpioSourceSettings};

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("gpio", include_str!("../sample.yaml"))
        .offers(connection())
        .offers(source())
        .offers(sink())
}

fn connection() -> Native<GpioSettings> {
    Native::new(Role::Connection, "gpio", "A GPIO chip of this machine, shared by nodes.")
}

fn source() -> Native<GpioSourceSettings> {
    let summary = "Tells the levels of digital inputs as they change, and counts pulses.";
    Native::new(Role::Source, "gpio", summary).using(&["gpio", "router"])
}

fn sink() -> Native<GpioSinkSettings> {
    let summary = "Switches digital outputs when a message says so, and answers what it did.";
    Native::new(Role::Sink, "gpio", summary).using(&["gpio", "router"])
}
