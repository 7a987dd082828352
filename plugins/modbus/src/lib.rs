//! Reads Modbus devices: a connection is one bus with one owner, a source polls registers on it.
//!
//! Read `source.rs` and `connection.rs` for what users write, `bus.rs` for who may talk when.

mod block;
mod bus;
mod connection;
mod decode;
mod link;
mod poll;
mod register;
mod sdm630;
mod serial;
mod source;
#[cfg(test)]
mod tests;

use forebay_sdk::{Device, Native, Plugin, Role};

use crate::{connection::ModbusConnection, source::ModbusSource};

/// What this folder offers.
pub static PLUGIN: Plugin = Plugin {
    name: "modbus",
    types: &[&CONNECTION, &SOURCE],
    readme: include_str!("../README.md"),
    sample: include_str!("../sample.yaml"),
    devices: &[Device {
        name: "sdm630",
        summary: "An Eastron SDM630 three-phase meter whose values move like those of a workshop.",
        start: || Box::pin(sdm630::start()),
    }],
};

static CONNECTION: Native<ModbusConnection> =
    Native::new(Role::Connection, "modbus", "A Modbus bus, shared by the nodes that read from it.");

static SOURCE: Native<ModbusSource> = Native::new(
    Role::Source,
    "modbus",
    "Reads registers of a Modbus device at a steady beat and sends one message per poll.",
)
.using(&["modbus"]);
