//! The `dedupe` transform: a message that was sent before is not sent again.

mod settings;
#[cfg(test)]
mod tests;
mod transform;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::DedupeSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("dedupe", include_str!("../sample.yaml")).offers(dedupe())
}

fn dedupe() -> Native<DedupeSettings> {
    Native::new(Role::Transform, "dedupe", "Drops messages that came before.")
}
