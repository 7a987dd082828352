//! The `script` transform: a Rhai script that gets each message and returns what to send on.
//!
//! A script is compiled once, can only compute, and has a limit on everything. See README.md.

mod asking;
mod bytes;
mod condition;
mod convert;
mod definitions;
mod drop_in;
mod failure;
mod fields;
mod filter;
mod hashes;
mod host;
mod lint;
mod mistakes;
mod modules;
mod noting;
mod own_settings;
mod patterns;
mod rules;
mod run_clock;
mod settings;
mod sink;
mod source;
mod state;
mod statistics;
#[cfg(test)]
mod tests;
mod text;
mod times;
mod transform;
mod uses;
mod words;

pub use crate::drop_in::Rhai;

use forebay_sdk::{Native, Plugin, Role};

use crate::{
    filter::{FilterSettings, RouteSettings},
    settings::ScriptSettings,
};

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("script", include_str!("../sample.yaml"))
        .offers(script())
        .offers(filter())
        .sample("filter", include_str!("../filter-sample.yaml"))
        .offers(route())
        .sample("route", include_str!("../route-sample.yaml"))
        .rules(&rules::RULES)
}

fn script() -> Native<ScriptSettings> {
    Native::new(Role::Transform, "script", "Runs a script on each message.")
}

fn filter() -> Native<FilterSettings> {
    Native::new(Role::Transform, "filter", "Passes on the messages for which a condition holds.")
}

fn route() -> Native<RouteSettings> {
    Native::new(Role::Transform, "route", "Sends each message to an output by conditions.")
}
