//! `schedule`: a source that sends at times of the day, and a transform that passes messages on at
//! such times. By the clock of a time zone, by days of the week, and by the sun.

mod moment;
mod settings;
mod source;
mod sun;
#[cfg(test)]
mod tests;
mod transform;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::{GateSettings, ScheduleSettings};

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("schedule", include_str!("../sample.yaml")).offers(events()).offers(gate())
}

fn events() -> Native<ScheduleSettings> {
    Native::new(Role::Source, "schedule", "Sends a message at certain times of the day.")
}

fn gate() -> Native<GateSettings> {
    Native::new(Role::Transform, "schedule", "Passes messages on at certain times of the day.")
}
