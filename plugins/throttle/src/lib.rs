//! The `throttle` transform: lets no more than so many messages through in a time.

mod settings;
#[cfg(test)]
mod tests;
mod transform;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::ThrottleSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("throttle", include_str!("../sample.yaml")).offers(throttle())
}

fn throttle() -> Native<ThrottleSettings> {
    Native::new(
        Role::Transform,
        "throttle",
        "Passes on so many messages in a time, and drops the rest.",
    )
}
