//! The `http` sink: sends messages as HTTP requests. A batch is settled by the server's `2xx`.

mod answer;
mod body;
mod client;
mod settings;
mod sink;
#[cfg(test)]
mod tests;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::HttpSettings;

/// What this folder offers.
pub static PLUGIN: Plugin = Plugin {
    name: "http",
    types: &[&HTTP],
    readme: include_str!("../README.md"),
    sample: include_str!("../sample.yaml"),
    devices: &[],
};

static HTTP: Native<HttpSettings> =
    Native::new(Role::Sink, "http", "Sends messages to a web service by POST or PUT.");
