//! The `counter` transform: totals, increases and rates of a value that counts up.

mod settings;
#[cfg(test)]
mod tests;
mod transform;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::CounterSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("counter", include_str!("../sample.yaml")).offers(counter())
}

fn counter() -> Native<CounterSettings> {
    Native::new(Role::Transform, "counter", "Makes totals and rates of a value that counts up.")
}
