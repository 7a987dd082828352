//! What a program that runs says of itself, to whoever asks it.
//!
//! HTTP/1.1 over a socket in the data folder, which only the user can open that the program runs as: `curl
//! --unix-socket DATA/api.sock http://forebay/status` works too. Where `api` in `forebay.yaml` says so, also over
//! the network, with a token. What is asked is answered by whoever has the engine; nothing here knows it.

mod client;
mod events;
mod guard;
mod guests;
mod page;
mod question;
mod routes;
mod server;
#[cfg(test)]
mod tests;

pub use self::{
    client::{Answer, ask, listen},
    guard::Door,
    question::{Exposition, Question, Side, Tap, Wanted},
    routes::{Route, routes},
    server::{Questions, open},
};
