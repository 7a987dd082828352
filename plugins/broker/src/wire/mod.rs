//! MQTT 3.1.1 and 5 on the wire, as a broker has to read and write it.
//!
//! Strict: what the standard calls malformed, or an error of protocol, is refused with the code and
//! the words for it. Nothing here opens, waits or panics, and what is read is copied out of the
//! bytes it came in, so that a small message keeps no large buffer.

mod decode;
mod encode;
mod packet;
mod read;

#[cfg(test)]
mod tests;

pub use self::{
    decode::{Header, decode, header, publish_properties, version_of},
    encode::{Ack, ConnAck, Delivery, Text, Writer, properties_of},
    packet::{
        Connect, Disconnect, Packet, Publish, Refusal, Subscribe, Version, Wanted, Will, code,
    },
};
