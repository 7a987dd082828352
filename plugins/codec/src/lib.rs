//! The `decode` and `encode` transforms: between bytes or texts as devices and services write them, and values.

mod bits;
mod influx;
mod layout;
mod read_layout;
mod rows;
mod settings;
mod step;
mod template;
#[cfg(test)]
mod tests;
mod transform;
mod words;
mod write_layout;
mod xml;

use forebay_sdk::{Native, Plugin, Role};

use crate::settings::{DecodeSettings, EncodeSettings};

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("codec", include_str!("../sample.yaml"))
        .offers(decode())
        .offers(encode())
        .sample("encode", include_str!("../encode-sample.yaml"))
}

fn decode() -> Native<DecodeSettings> {
    Native::new(
        Role::Transform,
        "decode",
        "Makes a value of bytes or a text: CSV, XML, binary, base64, …",
    )
}

fn encode() -> Native<EncodeSettings> {
    Native::new(
        Role::Transform,
        "encode",
        "Writes a value as bytes or a text: CSV, XML, binary, base64, …",
    )
}
