//! Writes what a broker sends.

use forebay_sdk::{mqtt::Properties, text::beginning};

use super::packet::{Version, code};

/// Writes packets in one version, one behind the other.
pub struct Writer {
    pub version: Version,
    pub bytes: Vec<u8>,
}

/// How a client is let in, or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnAck {
    pub session_present: bool,
    /// Of MQTT 5; it becomes the one of 3.1.1.
    pub code: u8,
    /// None leaves it as the client asked.
    pub expiry_seconds: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub max_packet: Option<u32>,
    pub assigned_id: Option<String>,
    pub alias_maximum: Option<u16>,
    pub keep_alive: Option<u16>,
    pub reason: Option<String>,
}

/// The packets that acknowledge, by their first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ack {
    /// PUBACK.
    Acknowledged = 0x40,
    /// PUBREC.
    Received = 0x50,
    /// PUBREL.
    Released = 0x62,
    /// PUBCOMP.
    Completed = 0x70,
}

/// A message on its way to a client.
pub struct Delivery<'a> {
    pub again: bool,
    pub qos: u8,
    pub retain: bool,
    /// Empty when the alias says it.
    pub topic: &'a str,
    /// 0 at QoS 0.
    pub id: u16,
    pub alias: Option<u16>,
    pub expiry_seconds: Option<u32>,
    pub subscriptions: &'a [u32],
    /// As they are on the wire.
    pub properties: &'a [u8],
    pub payload: &'a [u8],
}

/// Whether the text of a message is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    Copied,
    /// It is written behind, from where it is.
    Follows,
}

impl Writer {
    pub fn new(version: Version) -> Writer {
        Writer { version, bytes: Vec::new() }
    }

    pub fn connack(&mut self, answer: &ConnAck) {
        let is_in = answer.code == code::SUCCESS;
        let mut body = vec![u8::from(answer.session_present && is_in)];
        match self.version {
            Version::V311 => body.push(of_311(answer.code)),
            Version::V5 => {
                body.push(answer.code);
                let mut said = Vec::new();
                if let Some(seconds) = answer.expiry_seconds {
                    said.push(17);
                    said.extend(seconds.to_be_bytes());
                }
                let two = [
                    (33, answer.receive_maximum),
                    (34, answer.alias_maximum),
                    (19, answer.keep_alive),
                ];
                for (id, number) in two {
                    if let Some(number) = number {
                        said.push(id);
                        said.extend(number.to_be_bytes());
                    }
                }
                if let Some(bytes) = answer.max_packet {
                    said.push(39);
                    said.extend(bytes.to_be_bytes());
                }
                for (id, text) in [(18, &answer.assigned_id), (31, &answer.reason)] {
                    if let Some(text) = text {
                        said.push(id);
                        put_text(&mut said, text);
                    }
                }
                put_variable(&mut body, said.len());
                body.extend(said);
            }
        }
        self.packet(0x20, &body);
    }

    /// Acknowledges. With 3.1.1 there is no code, and none is sent when all is well.
    pub fn ack(&mut self, kind: Ack, id: u16, code: u8) {
        let [high, low] = id.to_be_bytes();
        match self.version == Version::V5 && code != code::SUCCESS {
            true => self.packet(kind as u8, &[high, low, code]),
            false => self.packet(kind as u8, &[high, low]),
        }
    }

    pub fn suback(&mut self, id: u16, codes: &[u8]) {
        let mut body = id.to_be_bytes().to_vec();
        match self.version {
            Version::V5 => {
                body.push(0);
                body.extend(codes);
            }
            // It knows one kind of failure.
            Version::V311 => body.extend(codes.iter().map(|code| (*code).min(0x80))),
        }
        self.packet(0x90, &body);
    }

    pub fn unsuback(&mut self, id: u16, codes: &[u8]) {
        let mut body = id.to_be_bytes().to_vec();
        if self.version == Version::V5 {
            body.push(0);
            body.extend(codes);
        }
        self.packet(0xb0, &body);
    }

    pub fn pong(&mut self) {
        self.bytes.extend([0xd0, 0]);
    }

    /// Says good-bye, and why. Nothing with 3.1.1, which has no such packet.
    pub fn disconnect(&mut self, code: u8, reason: Option<&str>) {
        if self.version == Version::V311 {
            return;
        }
        let mut body = vec![code];
        if let Some(reason) = reason {
            let mut said = vec![31];
            put_text(&mut said, reason);
            put_variable(&mut body, said.len());
            body.extend(said);
        }
        self.packet(0xe0, &body);
    }

    /// A message. False, and nothing is written, when the packet would be larger than that. Without its
    /// text, the properties that are passed on and the payload are to follow.
    pub fn publish(&mut self, message: &Delivery<'_>, text: Text, most_bytes: usize) -> bool {
        let mut said = Vec::new();
        let mut body_bytes = 2 + message.topic.len() + message.payload.len();
        if message.qos > 0 {
            body_bytes += 2;
        }
        if self.version == Version::V5 {
            if let Some(seconds) = message.expiry_seconds {
                said.push(2);
                said.extend(seconds.to_be_bytes());
            }
            if let Some(alias) = message.alias {
                said.push(35);
                said.extend(alias.to_be_bytes());
            }
            for identifier in message.subscriptions {
                said.push(11);
                put_variable(&mut said, *identifier as usize);
            }
            let length = said.len() + message.properties.len();
            body_bytes += length + variable_bytes(length);
        }
        if 1 + variable_bytes(body_bytes) + body_bytes > most_bytes.min(LARGEST_PACKET) {
            return false;
        }
        let flags = u8::from(message.again) << 3 | message.qos << 1 | u8::from(message.retain);
        self.bytes.push(0x30 | flags);
        put_variable(&mut self.bytes, body_bytes);
        put_text(&mut self.bytes, message.topic);
        if message.qos > 0 {
            self.bytes.extend(message.id.to_be_bytes());
        }
        if self.version == Version::V5 {
            put_variable(&mut self.bytes, said.len() + message.properties.len());
            self.bytes.extend(said);
        }
        if text == Text::Follows {
            return true;
        }
        if self.version == Version::V5 {
            self.bytes.extend(message.properties);
        }
        self.bytes.extend(message.payload);
        true
    }

    fn packet(&mut self, first: u8, body: &[u8]) {
        self.bytes.push(first);
        put_variable(&mut self.bytes, body.len());
        self.bytes.extend(body);
    }
}

/// What the length of a packet can say, and its header.
const LARGEST_PACKET: usize = 268_435_455 + 5;

/// The code that 3.1.1 has for it in CONNACK (MQTT 3.1.1 section 3.2.2.3).
fn of_311(code: u8) -> u8 {
    match code {
        code::SUCCESS => 0,
        code::UNSUPPORTED_VERSION => 1,
        code::CLIENT_ID => 2,
        code::BAD_LOGIN => 4,
        code::NOT_AUTHORIZED => 5,
        _ => 3,
    }
}

fn variable_bytes(number: usize) -> usize {
    match number {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

fn put_variable(bytes: &mut Vec<u8>, mut number: usize) {
    while number > 127 {
        bytes.push(number as u8 & 0x7f | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// A text, or as much of it as a text can hold.
fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let text = beginning(text, u16::MAX.into());
    bytes.extend((text.len() as u16).to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// The properties of a node's message, as they are on the wire. A text that is too long is cut.
pub fn properties_of(properties: &Properties) -> Vec<u8> {
    let mut bytes = Vec::new();
    if properties.is_text {
        bytes.extend([1, 1]);
    }
    for (id, text) in [(3, &properties.content_type), (8, &properties.response_topic)] {
        if let Some(text) = text {
            bytes.push(id);
            put_text(&mut bytes, text);
        }
    }
    if let Some(data) = &properties.correlation_data {
        let data = &data[..data.len().min(u16::MAX.into())];
        bytes.push(9);
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
    }
    for (name, value) in &properties.user {
        bytes.push(38);
        put_text(&mut bytes, name);
        put_text(&mut bytes, value);
    }
    bytes
}
