//! Says in the user's words what a broker of MQTT 5 says: it gives reasons.

use std::fmt;

use anyhow::anyhow;
use bytes::BytesMut;
use forebay_sdk::{Endpoint, connection::Refused};
use rumqttc5::{ConnectionError, Packet, StateError, mqttbytes};

use crate::{
    version::Version,
    words::{Dismissed, OtherVersion, Words, hung_up},
};

/// The longest text of a broker's own that is shown.
const MOST_CHARS: usize = 200;

/// Why a broker said no: a code of the standard, and often a text of its own.
pub struct Reason<'a> {
    code: u8,
    text: Option<&'a str>,
}

impl<'a> Reason<'a> {
    pub fn new(code: u8, text: Option<&'a str>) -> Reason<'a> {
        Reason { code, text }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match meaning(self.code) {
            Some(meaning) => f.write_str(meaning)?,
            None => write!(f, "reason 0x{:02x}", self.code)?,
        }
        own_words(self.text, f)
    }
}

/// The broker's own text, which is anything.
fn own_words(text: Option<&str>, f: &mut impl fmt::Write) -> fmt::Result {
    match text {
        Some(text) if !text.is_empty() => {
            let shown: String = text.chars().take(MOST_CHARS).collect();
            write!(f, " (in its words: {})", shown.escape_debug())
        }
        _ => Ok(()),
    }
}

/// What a code means (MQTT 5 section 2.4).
fn meaning(code: u8) -> Option<&'static str> {
    Some(match code {
        0x00 => "in good order",
        0x80 => "it gives no reason",
        0x81 => "it could not read what we sent",
        0x82 => "it says that we broke the protocol",
        0x83 => "it does not allow that",
        0x87 => "not authorized",
        0x88 => "it is not available at the moment",
        0x89 => "it is busy",
        0x8a => "this client is banned",
        0x8b => "it is shutting down",
        0x8c => "it wants another way to log in",
        0x8d => "it heard nothing from us for too long",
        0x8f => "it does not accept that topic filter",
        0x90 => "it does not accept that topic",
        0x91 | 0x92 => "it lost count of what is under way",
        0x93 => "more was under way than it takes at once",
        0x94 => "it does not know a topic alias",
        0x95 => "the packet is larger than it takes",
        0x96 => "messages came faster than it takes them",
        0x97 => "a quota is used up",
        0x98 => "somebody there ended it",
        0x99 => "the payload is not what it was said to be",
        0x9a => "it keeps no retained messages",
        0x9b => "it does not take that QoS",
        0x9e => "it has no shared subscriptions",
        0x9f => "too many connections in a short time",
        0xa0 => "the connection lasted for as long as it may",
        0xa1 => "it has no subscription identifiers",
        0xa2 => "it has no subscriptions with wildcards",
        _ => return None,
    })
}

/// What a broker said of the connection before it ended it.
#[derive(Debug)]
pub struct Said {
    /// Whether we were in: a DISCONNECT, and no CONNACK.
    is_end: bool,
    code: u8,
    text: Option<String>,
    /// Where else to go.
    server: Option<String>,
}

impl Said {
    /// Reads a CONNACK or a DISCONNECT. None when it does not end a connection.
    pub fn read(packet: &[u8]) -> Option<Said> {
        // A broker of MQTT 3.1.1 answers in 3.1.1, in two bytes.
        if let [0x20, 2, _, code] = *packet
            && code > 0
        {
            let code = if code < 0x80 { UNSUPPORTED_VERSION } else { code };
            return Some(Said { is_end: false, code, text: None, server: None });
        }
        match Packet::read(&mut BytesMut::from(packet), None).ok()? {
            Packet::ConnAck(answer) => {
                // Behind the first byte, a length of one to four bytes, and the flags.
                let length = packet[1..].iter().position(|byte| byte & 0x80 == 0)? + 1;
                let code = packet.get(1 + length + 1).copied().filter(|code| *code >= 0x80)?;
                let (text, server) = match answer.properties {
                    Some(said) => (said.reason_string, said.server_reference),
                    None => (None, None),
                };
                Some(Said { is_end: false, code, text, server })
            }
            Packet::Disconnect(end) => {
                let (text, server) = match end.properties {
                    Some(said) => (said.reason_string, said.server_reference),
                    None => (None, None),
                };
                Some(Said { is_end: true, code: end.reason_code as u8, text, server })
            }
            _ => None,
        }
    }
}

const UNSUPPORTED_VERSION: u8 = 0x84;
const USE_ANOTHER_SERVER: u8 = 0x9c;
const SERVER_MOVED: u8 = 0x9d;

/// The broker sends us elsewhere.
#[derive(Debug)]
pub struct Redirected {
    text: String,
    /// Where to, when it says so in a way that we can follow.
    pub to: Option<Endpoint>,
}

impl Redirected {
    /// As an error of the connection. Without a place to go to, a person has to find one.
    pub fn into_error(self) -> anyhow::Error {
        match self.to {
            Some(_) => anyhow!(self.text),
            None => Refused::new(self.text).into(),
        }
    }
}

impl fmt::Display for Redirected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl std::error::Error for Redirected {}

impl OtherVersion {
    /// As an error of the connection. `told` is the version that the settings ask for.
    pub fn into_error(self, told: Option<Version>) -> anyhow::Error {
        let OtherVersion { text, is_said } = self;
        match (is_said, told) {
            (true, Some(Version::V5)) => {
                Refused::new(format!("{text}; write `version: auto`, or leave it out")).into()
            }
            (true, Some(Version::V4)) => {
                Refused::new(format!("{text}; write `version: \"5\"`")).into()
            }
            (true, None) => Refused::new(text).into(),
            (false, _) => anyhow!(text),
        }
    }
}

impl Words {
    /// Puts in words why the broker ended the connection, or refused it.
    pub fn said(&self, said: &Said) -> anyhow::Error {
        let broker = &self.broker;
        let verb = if said.is_end { "closed" } else { "refused" };
        let mut text = format!("the broker at {broker} {verb} the connection: ");
        text += &match said.code {
            UNSUPPORTED_VERSION => "it does not speak MQTT 5".to_owned(),
            0x85 => self.bad_client_id(),
            0x86 => "bad user name or password".to_owned(),
            0x87 if !said.is_end && !self.has_username => {
                "not authorized; it may want `username` and `password`".to_owned()
            }
            0x8e => self.taken_over(),
            USE_ANOTHER_SERVER | SERVER_MOVED => match &said.server {
                Some(server) => format!("it says to use `{}`", server.escape_debug()),
                None => "it says to use another server, and not which".to_owned(),
            },
            0x90 if !said.is_end => "it does not accept the topic of the `will`".to_owned(),
            0x9a if !said.is_end => {
                "it keeps no retained messages: write `retain: false` in the `will`".to_owned()
            }
            0x9b if !said.is_end => "it does not take the QoS of the `will`".to_owned(),
            code => Reason::new(code, None).to_string(),
        };
        // A text has room for it.
        let _ = own_words(said.text.as_deref(), &mut text);
        match said.code {
            UNSUPPORTED_VERSION => OtherVersion { text, is_said: true }.into(),
            USE_ANOTHER_SERVER | SERVER_MOVED => {
                let first = said.server.as_deref().unwrap_or_default().split_whitespace().next();
                let port = if self.tls { 8883 } else { 1883 };
                let to = first.and_then(|place| Endpoint::parse(place, port).ok());
                Redirected { text, to }.into()
            }
            // These pass by themselves.
            0x88 | 0x89 | 0x8b | 0x8d | 0x96 | 0x97 | 0x98 | 0x9f | 0xa0 => anyhow!(text),
            0x8e => Refused::new(text).into(),
            _ if said.is_end => Dismissed(text).into(),
            _ => Refused::new(text).into(),
        }
    }

    fn taken_over(&self) -> String {
        match &self.client_id {
            Some(id) => format!("another client came with the client id `{id}`"),
            None => "another client came with the same client id".to_owned(),
        }
    }

    /// Puts an error of the client for MQTT 5 in words.
    pub fn explain5(&self, error: ConnectionError) -> anyhow::Error {
        let broker = &self.broker;
        match error {
            ConnectionError::NotConnAck(_) => {
                anyhow!("{broker} does not answer as an MQTT broker does")
            }
            ConnectionError::SessionStateMismatch { .. } => {
                anyhow!("the broker at {broker} kept a session that was to be clean")
            }
            ConnectionError::Timeout(_) => {
                anyhow!("the connection to {broker} is stuck: nothing could be sent")
            }
            ConnectionError::Io(error)
            | ConnectionError::MqttState(
                StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)),
            ) => self.explain_io(error),
            ConnectionError::MqttState(StateError::ConnectionAborted) => hung_up(broker),
            ConnectionError::MqttState(StateError::AwaitPingResp) => self.unanswered_ping(),
            other => {
                anyhow::Error::new(other).context(format!("talking to the broker at {broker}"))
            }
        }
    }
}
