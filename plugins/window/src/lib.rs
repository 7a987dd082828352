//! The `window` transform: makes one message of the values of a stretch of time.

mod function;
mod settings;
#[cfg(test)]
mod tests;
mod transform;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::WindowSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("window", include_str!("../sample.yaml")).offers(window())
}

fn window() -> Native<WindowSettings> {
    Native::new(Role::Transform, "window", "Aggregates values over stretches of time.")
}
