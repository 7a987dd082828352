//! The `validate` transform: passes on what fits a JSON Schema.

mod schema;
mod settings;
#[cfg(test)]
mod tests;
mod transform;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::ValidateSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("validate", include_str!("../sample.yaml")).offers(validate())
}

fn validate() -> Native<ValidateSettings> {
    Native::new(
        Role::Transform,
        "validate",
        "Passes on what fits a JSON Schema; the rest are errors that say where.",
    )
}
