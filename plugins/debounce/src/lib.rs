//! The `debounce` transform: waits until messages, or a value, have come to rest.

mod settings;
#[cfg(test)]
mod tests;
mod transform;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::DebounceSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("debounce", include_str!("../sample.yaml")).offers(debounce())
}

fn debounce() -> Native<DebounceSettings> {
    Native::new(Role::Transform, "debounce", "Waits until messages or values have come to rest.")
}
