//! The `join` transform: puts the latest of several inputs together.

mod settings;
#[cfg(test)]
mod tests;
mod transform;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::JoinSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("join", include_str!("../sample.yaml")).offers(join())
}

fn join() -> Native<JoinSettings> {
    Native::new(Role::Transform, "join", "Puts the latest messages of several inputs together.")
}
