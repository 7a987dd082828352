//! The `alarm` transform: tells when a value goes beyond a limit, and when it is back.

mod condition;
mod settings;
#[cfg(test)]
mod tests;
mod transform;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::AlarmSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("alarm", include_str!("../sample.yaml")).offers(alarm())
}

fn alarm() -> Native<AlarmSettings> {
    Native::new(
        Role::Transform,
        "alarm",
        "Tells when a value is beyond a limit, and when it is back.",
    )
}
