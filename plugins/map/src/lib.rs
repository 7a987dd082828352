//! The `map` transform: picks, renames, scales, sets and leaves out fields, and sets the topic.
//!
//! What it does not compute with is passed on as the text that came in. See README.md.

mod piece;
mod settings;
#[cfg(test)]
mod tests;
mod transform;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::MapSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("map", include_str!("../sample.yaml")).offers(map())
}

fn map() -> Native<MapSettings> {
    let summary = "Picks, renames, scales, sets and leaves out fields, and sets the topic.";
    Native::new(Role::Transform, "map", summary)
}
