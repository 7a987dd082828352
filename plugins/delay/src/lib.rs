//! The `delay` transform: sends each message on some time later.

mod settings;
#[cfg(test)]
mod tests;
mod transform;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::DelaySettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("delay", include_str!("../sample.yaml")).offers(delay())
}

fn delay() -> Native<DelaySettings> {
    Native::new(Role::Transform, "delay", "Sends each message on some time later.")
}
