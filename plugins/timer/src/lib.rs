//! The `timer` source: a message at each beat of the clock. It tries out a pipeline before the
//! devices are there, and starts what is to happen now and again.

mod settings;
mod source;
#[cfg(test)]
mod tests;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::TimerSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("timer", include_str!("../sample.yaml")).offers(timer())
}

fn timer() -> Native<TimerSettings> {
    Native::new(Role::Source, "timer", "Sends a message at regular intervals.")
}
