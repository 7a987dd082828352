//! The `script` transform: a Rhai script that gets each message and returns what to send on.
//!
//! A script is compiled once, can only compute, and has a limit on everything. See README.md.

mod convert;
mod failure;
mod fields;
mod host;
mod lint;
mod mistakes;
mod own_settings;
mod rules;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod transform;
mod uses;
mod words;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::ScriptSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("script", include_str!("../README.md"), include_str!("../sample.yaml"))
        .offers(script())
        .rules(&rules::RULES)
}

fn script() -> Native<ScriptSettings> {
    Native::new(Role::Transform, "script", "Runs a script on each message.")
}
