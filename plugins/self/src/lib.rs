//! The `self` source: how the program that runs it is, as messages.

mod settings;
mod source;
mod summary;
#[cfg(test)]
mod tests;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::SelfSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("self", include_str!("../sample.yaml")).offers(own())
}

fn own() -> Native<SelfSettings> {
    Native::new(Role::Source, "self", "Says how this program is: what runs, waits, and went wrong.")
}
