//! Reads and writes Modbus devices: a connection is one bus with one owner, a source polls registers
//! on it, a sink writes them.
//!
//! Read `settings.rs` for what users write, `turns.rs` and `connection.rs` for who may talk when, and
//! `frame.rs` for what is believed of what comes.

mod address;
mod ask;
mod block;
mod bus;
mod busy;
mod connection;
mod decode;
mod encode;
mod examine;
mod frame;
mod known;
mod link;
mod load;
mod orders;
mod place;
mod plan;
mod poll;
mod probe;
mod profiles;
mod reading;
mod refine;
mod request;
mod rules;
mod sdm630;
mod serial;
mod settings;
mod simulate;
mod sink;
mod source;
mod sunspec;
#[cfg(test)]
mod tests;
mod turns;

use forebay_sdk::{Device, Native, Plugin, Profiles, Role, TakeIn};

use crate::settings::{
    ModbusRequestSettings, ModbusSettings, ModbusSinkSettings, ModbusSourceSettings,
};

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("modbus", include_str!("../sample.yaml"))
        .offers(connection())
        .offers(source())
        .offers(sink())
        .offers(request())
        .sample("modbus_request", include_str!("../request-sample.yaml"))
        .rules(&[&rules::ASKS_TOO_SOON, &rules::ONE_BASED_ADDRESS, &rules::REGISTER_OVERLAP])
        .does(probe::tool())
        .does(simulate::tool())
        .is_peer(simulate::peer::peer())
        .plays(Device {
            name: "sdm630",
            summary: "An Eastron SDM630 three-phase meter whose values move like those of a workshop.",
            start: || Box::pin(simulate::start_sdm630()),
        })
}

fn profiles_by(take_in: TakeIn) -> Profiles {
    Profiles { native: &profiles::NATIVE, schema: settings::profile_schema, take_in }
}

fn connection() -> Native<ModbusSettings> {
    let summary = "A Modbus bus, shared by the nodes that read from it.";
    Native::new(Role::Connection, "modbus", summary)
}

fn source() -> Native<ModbusSourceSettings> {
    let summary =
        "Reads registers of a Modbus device at a steady beat and sends one message per poll.";
    Native::new(Role::Source, "modbus", summary)
        .using(&["modbus"])
        .taking(profiles_by(settings::to_source))
}

fn sink() -> Native<ModbusSinkSettings> {
    let summary =
        "Writes registers of a Modbus device when a message says so, and answers what it did.";
    Native::new(Role::Sink, "modbus", summary)
        .using(&["modbus"])
        .taking(profiles_by(settings::to_sink))
}

fn request() -> Native<ModbusRequestSettings> {
    let summary = "Carries out single Modbus requests that come as messages, and answers them.";
    Native::new(Role::Sink, "modbus_request", summary).using(&["modbus"])
}
