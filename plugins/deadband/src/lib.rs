//! The `deadband` transform: passes on what has moved far enough from what was sent last.

mod settings;
#[cfg(test)]
mod tests;
mod transform;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::DeadbandNodeSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("deadband", include_str!("../sample.yaml")).offers(deadband())
}

fn deadband() -> Native<DeadbandNodeSettings> {
    Native::new(Role::Transform, "deadband", "Passes on values that have moved.")
}
