//! What a program that runs says of itself, to whoever asks it on the same machine.
//!
//! HTTP/1.1 over a socket in the data folder, which only the user can open that the program runs as: `curl
//! --unix-socket DATA/api.sock http://forebay/status` works too. What is asked is answered by whoever
//! has the engine; nothing here knows it.

mod client;
mod server;
#[cfg(test)]
mod tests;

pub use self::{
    client::{Answer, ask, listen},
    server::{Question, Questions, Side, Tap, Wanted, open},
};
