//! The `split` transform: makes one message of each item of a list.

mod settings;
#[cfg(test)]
mod tests;
mod transform;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::SplitSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("split", include_str!("../sample.yaml")).offers(split())
}

fn split() -> Native<SplitSettings> {
    Native::new(Role::Transform, "split", "Makes a message of each item of a list or a map.")
}
