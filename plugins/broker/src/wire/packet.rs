//! What clients say, as it was understood.

use std::{fmt, sync::Arc};

use bytes::Bytes;

/// The version that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// Reason codes (MQTT 5 section 2.4).
pub mod code {
    pub const SUCCESS: u8 = 0x00;
    pub const NO_SUBSCRIPTION: u8 = 0x11;
    pub const UNSPECIFIED: u8 = 0x80;
    pub const MALFORMED: u8 = 0x81;
    pub const PROTOCOL_ERROR: u8 = 0x82;
    pub const UNSUPPORTED_VERSION: u8 = 0x84;
    pub const CLIENT_ID: u8 = 0x85;
    pub const BAD_LOGIN: u8 = 0x86;
    pub const NOT_AUTHORIZED: u8 = 0x87;
    pub const SERVER_BUSY: u8 = 0x89;
    pub const BAD_AUTH_METHOD: u8 = 0x8c;
    pub const KEEP_ALIVE: u8 = 0x8d;
    pub const TAKEN_OVER: u8 = 0x8e;
    pub const TOPIC_FILTER: u8 = 0x8f;
    pub const TOPIC_NAME: u8 = 0x90;
    pub const PACKET_ID_NOT_FOUND: u8 = 0x92;
    pub const RECEIVE_MAXIMUM: u8 = 0x93;
    pub const TOPIC_ALIAS: u8 = 0x94;
    pub const PACKET_TOO_LARGE: u8 = 0x95;
    pub const QUOTA: u8 = 0x97;
}

/// Why a client is refused, or is let go: the reason code of MQTT 5, and words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One of [`code`].
    pub code: u8,
    /// What it did, such as `it sent …`.
    pub why: String,
}

impl Refusal {
    pub fn new(code: u8, why: impl Into<String>) -> Refusal {
        Refusal { code, why: why.into() }
    }

    pub fn malformed(why: impl Into<String>) -> Refusal {
        Refusal::new(code::MALFORMED, why)
    }

    pub fn protocol(why: impl Into<String>) -> Refusal {
        Refusal::new(code::PROTOCOL_ERROR, why)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl std::error::Error for Refusal {}

/// A packet of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connect(Box<Connect>),
    Publish(Publish),
    PubAck(Acked),
    PubRec(Acked),
    PubRel(Acked),
    PubComp(Acked),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    PingReq,
    Disconnect(Disconnect),
}

/// Who a client is, and how it wants to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub version: Version,
    /// It is a bridge of MQTT 3.1.1, which gets nothing back of what it sends, and is told what was
    /// published as retained.
    pub is_bridge: bool,
    pub clean_start: bool,
    /// Seconds; 0 for none.
    pub keep_alive: u16,
    /// Empty when the broker is to give it one.
    pub client_id: String,
    pub user: Option<String>,
    pub password: Option<Vec<u8>>,
    pub will: Option<Will>,
    /// Seconds that the session outlives the connection; `u32::MAX` for ever.
    pub expiry_seconds: u32,
    /// The most messages of QoS 1 and 2 that it has open.
    pub receive_maximum: u16,
    /// The largest packet that it takes, in bytes.
    pub max_packet: u32,
    /// The highest topic alias that it takes.
    pub alias_maximum: u16,
    /// It may be told reasons in words.
    pub wants_reasons: bool,
}

/// What is published when a client is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub qos: u8,
    pub retain: bool,
    pub delay_seconds: u32,
    pub expiry_seconds: Option<u32>,
    /// Those that are passed on, as they are on the wire.
    pub properties: Bytes,
}

/// A message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub again: bool,
    pub qos: u8,
    pub retain: bool,
    /// Empty when its alias stands for it.
    pub topic: Arc<str>,
    /// 0 at QoS 0.
    pub id: u16,
    pub alias: Option<u16>,
    pub expiry_seconds: Option<u32>,
    /// Those that are passed on, as they are on the wire.
    pub properties: Bytes,
    pub payload: Bytes,
}

/// An acknowledgement of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    pub id: u16,
    pub code: u8,
}

/// Filters that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    pub id: u16,
    /// What tells the client by which subscription a message came.
    pub identifier: Option<u32>,
    pub wanted: Vec<Wanted>,
}

/// A filter, and how its messages are to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub filter: String,
    pub qos: u8,
    pub no_local: bool,
    pub retain_as_published: bool,
    /// Which of the retained messages come: 0 all, 1 all when the subscription is new, 2 none.
    pub retain_handling: u8,
}

/// Filters that a client has enough of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    pub id: u16,
    pub filters: Vec<String>,
}

/// How a client says good-bye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect {
    pub code: u8,
    pub expiry_seconds: Option<u32>,
}
