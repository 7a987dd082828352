//! What can be asked of a router, and which of its answers that takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Values that belong together, and that come in one map of the message.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// The mobile network: strength, technology, operator, roaming.
    Signal,
    /// Data used over the mobile network, by SIM.
    Data,
    /// Uptime, load, memory, flash.
    System,
    /// Over what the router reaches the internet, and its addresses there.
    Wan,
    /// Each network interface, with its counters.
    Interfaces,
    /// Where it is, as long as it knows.
    Gps,
    /// Its inputs and outputs.
    Io,
    /// What its impulse counter has counted.
    Pulses,
    /// What it is: model and firmware.
    Device,
    /// What its clock says.
    Clock,
}

impl Group {
    pub const ALL: [Group; 10] = [
        Group::Signal,
        Group::Data,
        Group::System,
        Group::Wan,
        Group::Interfaces,
        Group::Gps,
        Group::Io,
        Group::Pulses,
        Group::Device,
        Group::Clock,
    ];

    /// Its name in settings and messages.
    pub fn name(self) -> &'static str {
        match self {
            Group::Signal => "signal",
            Group::Data => "data",
            Group::System => "system",
            Group::Wan => "wan",
            Group::Interfaces => "interfaces",
            Group::Gps => "gps",
            Group::Io => "io",
            Group::Pulses => "pulses",
            Group::Device => "device",
            Group::Clock => "clock",
        }
    }

    /// The answers that it is made of. Without the first there is nothing to say.
    pub fn parts(self) -> &'static [Part] {
        match self {
            Group::Signal => &[Part::Modems],
            // The uptime shows that counters began anew.
            Group::Data => &[Part::Modems, Part::Usage],
            Group::System | Group::Clock => &[Part::Usage],
            Group::Wan => &[Part::Interfaces, Part::Internet],
            Group::Interfaces => &[Part::Interfaces],
            Group::Gps => &[Part::Gps],
            Group::Io => &[Part::Io],
            Group::Pulses => &[Part::Io, Part::Counter],
            Group::Device => &[Part::Device],
        }
    }
}

/// One answer of a router. All providers give them as the REST interface of RutOS does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    Modems,
    Usage,
    Device,
    Interfaces,
    Internet,
    Gps,
    Io,
    Counter,
}

impl Part {
    /// Its path in the REST interface of RutOS.
    pub fn path(self) -> &'static str {
        match self {
            Part::Modems => "/api/modems/status",
            Part::Usage => "/api/system/device/usage/status",
            Part::Device => "/api/system/device/status",
            Part::Interfaces => "/api/interfaces/status",
            Part::Internet => "/api/internet_connection/status",
            Part::Gps => "/api/gps/position/status",
            Part::Io => "/api/io/status",
            Part::Counter => "/api/impulse_counter/status",
        }
    }
}
