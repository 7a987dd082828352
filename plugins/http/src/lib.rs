//! The `http` sink: sends messages as HTTP requests. A batch is settled by the server's `2xx`.

mod answer;
mod body;
mod caller;
mod client;
mod peer;
mod settings;
mod shape;
mod sink;
#[cfg(test)]
mod tests;

use forebay_sdk::{Native, Plugin, Role};

pub use crate::caller::Http;
use crate::settings::HttpSettings;

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("http", include_str!("../sample.yaml")).offers(http()).is_peer(peer::peer())
}

fn http() -> Native<HttpSettings> {
    Native::new(Role::Sink, "http", "Sends messages to a web service by POST or PUT.")
}
