//! The `log` sink: prints each message as a line. Nothing that comes from outside reaches the
//! terminal as a control character.

mod line;
mod settings;
mod sink;
#[cfg(test)]
mod tests;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::LogSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("log", include_str!("../sample.yaml")).offers(log())
}

fn log() -> Native<LogSettings> {
    Native::new(Role::Sink, "log", "Prints each message as a line on standard output.")
}
