//! The `batch` transform: makes one message of many.

mod settings;
#[cfg(test)]
mod tests;
mod transform;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::BatchSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("batch", include_str!("../sample.yaml")).offers(batch())
}

fn batch() -> Native<BatchSettings> {
    Native::new(Role::Transform, "batch", "Makes one message of many.")
}
