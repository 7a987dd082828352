//! Reads what clients send.

use bytes::Bytes;
use forebay_sdk::mqtt::Properties;

use super::{
    packet::{
        Acked, Connect, Disconnect, Packet, Publish, Refusal, Subscribe, Unsubscribe, Version,
        Wanted, Will, code,
    },
    read::{LONGEST_VARIABLE, Reader},
};
use crate::topics::{check_filter, check_topic};

/// The first bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The kind of packet, and its flags.
    pub first: u8,
    /// How many bytes the header has.
    pub header_bytes: usize,
    /// How many bytes follow it.
    pub body_bytes: usize,
}

impl Header {
    /// How many bytes the packet has.
    pub fn packet_bytes(self) -> usize {
        self.header_bytes + self.body_bytes
    }
}

/// The header of the packet at hand, once it is all there.
///
/// # Errors
///
/// No client sends such a packet, or not so.
pub fn header(bytes: &[u8]) -> Result<Option<Header>, Refusal> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    check_first(first)?;
    let end = rest.iter().take(LONGEST_VARIABLE).position(|byte| byte & 0x80 == 0);
    match end {
        None if rest.len() < LONGEST_VARIABLE => Ok(None),
        _ => {
            let body_bytes = Reader(rest).variable()? as usize;
            let header_bytes = 2 + end.unwrap_or_default();
            Ok(Some(Header { first, header_bytes, body_bytes }))
        }
    }
}

fn check_first(first: u8) -> Result<(), Refusal> {
    let (kind, flags) = (first >> 4, first & 0x0f);
    let expected = match kind {
        PUBLISH => {
            return match flags >> 1 & 3 {
                3 => Err(Refusal::malformed("it published at QoS 3")),
                0 if flags & DUP != 0 => {
                    Err(Refusal::malformed("it published again (DUP) at QoS 0"))
                }
                _ => Ok(()),
            };
        }
        PUBREL | SUBSCRIBE | UNSUBSCRIBE => 2,
        CONNECT | PUBACK | PUBREC | PUBCOMP | PINGREQ | DISCONNECT | AUTH => 0,
        _ => {
            return Err(Refusal::malformed(format!(
                "it sent a packet of kind {kind}, which no client sends"
            )));
        }
    };
    match flags == expected {
        true => Ok(()),
        false => Err(Refusal::malformed(format!(
            "it sent a packet of kind {kind} with the flags {flags:#x}, which are reserved"
        ))),
    }
}

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBREL: u8 = 6;
const PUBCOMP: u8 = 7;
const SUBSCRIBE: u8 = 8;
const UNSUBSCRIBE: u8 = 10;
const PINGREQ: u8 = 12;
const DISCONNECT: u8 = 14;
const AUTH: u8 = 15;
const DUP: u8 = 8;
/// The level of MQTT 3.1.1 for a bridge.
const BRIDGE_311: u8 = 0x84;
/// The most filters in one packet. A list of very short ones takes much more memory than their bytes.
const MOST_FILTERS: usize = 1000;

/// Reads the body of a packet. CONNECT says its version itself.
///
/// # Errors
///
/// What is wrong with it.
pub fn decode(header: Header, body: &[u8], version: Version) -> Result<Packet, Refusal> {
    let mut reader = Reader(body);
    let kind = header.first >> 4;
    let packet = match kind {
        CONNECT => Packet::Connect(Box::new(connect(&mut reader)?)),
        PUBLISH => Packet::Publish(publish(header.first, &mut reader, version)?),
        PUBACK => Packet::PubAck(acked(&mut reader, version, &[0, 0x10])?),
        PUBREC => Packet::PubRec(acked(&mut reader, version, &[0, 0x10])?),
        PUBREL => Packet::PubRel(acked(&mut reader, version, &[0])?),
        PUBCOMP => Packet::PubComp(acked(&mut reader, version, &[0])?),
        SUBSCRIBE => Packet::Subscribe(subscribe(&mut reader, version)?),
        UNSUBSCRIBE => Packet::Unsubscribe(unsubscribe(&mut reader, version)?),
        PINGREQ => Packet::PingReq,
        DISCONNECT => Packet::Disconnect(disconnect(&mut reader, version)?),
        _ => return Err(Refusal::protocol("it sent an AUTH packet, and never asked to")),
    };
    match reader.0.is_empty() {
        true => Ok(packet),
        false => Err(Refusal::malformed("it sent a packet with bytes behind its end")),
    }
}

fn connect(reader: &mut Reader<'_>) -> Result<Connect, Refusal> {
    let name = reader.binary()?;
    let level = reader.byte()?;
    let version = match (name, level) {
        // A bridge says so in the highest bit, as Mosquitto's do (`try_private`).
        (b"MQTT", 4 | BRIDGE_311) => Version::V311,
        (b"MQTT", 5) => Version::V5,
        (b"MQIsdp", 3) => return Err(other_version("MQTT 3.1, the version before 3.1.1")),
        (b"MQTT", level) => return Err(other_version(&format!("level {level} of MQTT"))),
        _ => return Err(Refusal::malformed("it does not speak MQTT")),
    };
    let flags = reader.byte()?;
    let has = |bit: u8| flags & bit != 0;
    let will_qos = flags >> 3 & 3;
    if has(1) {
        return Err(Refusal::malformed("it sent CONNECT with the flag that is reserved"));
    }
    if will_qos == 3 || !has(4) && (will_qos > 0 || has(0x20)) {
        return Err(Refusal::malformed("it sent CONNECT with a QoS of its will that is none"));
    }
    if version == Version::V311 && has(0x40) && !has(0x80) {
        return Err(Refusal::malformed("it sent a password and no user name"));
    }
    let keep_alive = reader.two_bytes()?;
    let said = match version {
        Version::V5 => Said::read(reader, OF_CONNECT)?,
        Version::V311 => Said::default(),
    };
    if said.receive_maximum == Some(0) || said.max_packet == Some(0) {
        return Err(Refusal::protocol("it takes no packet at all"));
    }
    if said.auth_method.is_some() {
        let why = "it asked for a way to say who it is that this broker does not know";
        return Err(Refusal::new(code::BAD_AUTH_METHOD, why));
    }
    if said.has_auth_data {
        return Err(Refusal::protocol("it sent authentication data and no method"));
    }
    let client_id = reader.text()?.to_owned();
    let will = if has(4) { Some(will(reader, version, will_qos, has(0x20))?) } else { None };
    let user = if has(0x80) { Some(reader.text()?.to_owned()) } else { None };
    let password = if has(0x40) { Some(reader.binary()?.to_vec()) } else { None };
    let clean_start = has(2);
    let expiry_seconds = match version {
        Version::V5 => said.session_expiry.unwrap_or(0),
        Version::V311 if clean_start => 0,
        Version::V311 => u32::MAX,
    };
    if client_id.is_empty() && version == Version::V311 && !clean_start {
        let why = "it has no client id, and wants a session that outlives its connection";
        return Err(Refusal::new(code::CLIENT_ID, why));
    }
    Ok(Connect {
        version,
        is_bridge: level == BRIDGE_311,
        clean_start,
        keep_alive,
        client_id,
        user,
        password,
        will,
        expiry_seconds,
        receive_maximum: said.receive_maximum.unwrap_or(u16::MAX),
        max_packet: said.max_packet.unwrap_or(u32::MAX),
        alias_maximum: said.alias_maximum.unwrap_or(0),
        wants_reasons: said.wants_problems.unwrap_or(true),
    })
}

/// The version in which a CONNECT that is refused can be answered. None when there is none.
pub fn version_of(header: Header, body: &[u8]) -> Option<Version> {
    let mut reader = Reader(body);
    let name = (header.first == CONNECT << 4).then(|| reader.binary().ok()).flatten()?;
    let level = reader.byte().ok()?;
    match (name, level) {
        (b"MQIsdp", _) | (b"MQTT", 0..=4 | BRIDGE_311) => Some(Version::V311),
        (b"MQTT", _) => Some(Version::V5),
        _ => None,
    }
}

fn other_version(which: &str) -> Refusal {
    let why = format!("it speaks {which}; this broker speaks MQTT 3.1.1 and 5");
    Refusal::new(code::UNSUPPORTED_VERSION, why)
}

fn will(reader: &mut Reader<'_>, version: Version, qos: u8, retain: bool) -> Result<Will, Refusal> {
    let said = match version {
        Version::V5 => Said::read(reader, OF_WILL)?,
        Version::V311 => Said::default(),
    };
    let topic = reader.text()?;
    check_topic(topic).map_err(|why| {
        Refusal::new(
            code::TOPIC_NAME,
            format!("its will is for `{topic}`, which is no topic: {why}"),
        )
    })?;
    let payload = Bytes::copy_from_slice(reader.binary()?);
    Ok(Will {
        topic: topic.into(),
        payload,
        qos,
        retain,
        delay_seconds: said.will_delay.unwrap_or(0),
        expiry_seconds: said.message_expiry,
        properties: said.passed_on.into(),
    })
}

fn publish(first: u8, reader: &mut Reader<'_>, version: Version) -> Result<Publish, Refusal> {
    let qos = first >> 1 & 3;
    let topic = reader.text()?;
    let id = if qos > 0 { reader.packet_id()? } else { 0 };
    let said = match version {
        Version::V5 => Said::read(reader, OF_PUBLISH)?,
        Version::V311 => Said::default(),
    };
    if said.alias == Some(0) {
        return Err(Refusal::new(code::TOPIC_ALIAS, "it used the topic alias 0"));
    }
    if !topic.is_empty() || said.alias.is_none() {
        check_topic(topic).map_err(|why| {
            let why = format!("it published to `{topic}`, which is no topic: {why}");
            Refusal::new(code::TOPIC_NAME, why)
        })?;
    }
    let payload = Bytes::copy_from_slice(reader.take(reader.0.len())?);
    Ok(Publish {
        again: first & DUP != 0,
        qos,
        retain: first & 1 != 0,
        topic: topic.into(),
        id,
        alias: said.alias,
        expiry_seconds: said.message_expiry,
        properties: said.passed_on.into(),
        payload,
    })
}

/// `well` are the codes that mean no error; of errors, any is taken.
fn acked(reader: &mut Reader<'_>, version: Version, well: &[u8]) -> Result<Acked, Refusal> {
    let id = reader.packet_id()?;
    let mut code = code::SUCCESS;
    if version == Version::V5 && !reader.0.is_empty() {
        code = reader.byte()?;
        if code < code::UNSPECIFIED && !well.contains(&code) {
            return Err(Refusal::malformed(format!("it acknowledged with the code {code:#04x}")));
        }
        if !reader.0.is_empty() {
            Said::read(reader, OF_ACK)?;
        }
    }
    Ok(Acked { id, code })
}

fn subscribe(reader: &mut Reader<'_>, version: Version) -> Result<Subscribe, Refusal> {
    let id = reader.packet_id()?;
    let said = match version {
        Version::V5 => Said::read(reader, OF_SUBSCRIBE)?,
        Version::V311 => Said::default(),
    };
    if said.subscription == Some(0) {
        return Err(Refusal::protocol("it subscribed with the identifier 0"));
    }
    let mut wanted = Vec::new();
    while !reader.0.is_empty() {
        check_count(wanted.len())?;
        let filter = reader.text()?.to_owned();
        let options = reader.byte()?;
        let reserved = if version == Version::V5 { 0xc0 } else { 0xfc };
        let (qos, retain_handling) = (options & 3, options >> 4 & 3);
        if options & reserved != 0 || qos == 3 {
            return Err(Refusal::malformed(format!(
                "it subscribed with the options {options:#04x}"
            )));
        }
        let no_local = options & 4 != 0;
        if retain_handling == 3 {
            return Err(Refusal::protocol("it subscribed with the retain handling 3"));
        }
        if no_local && filter.starts_with("$share/") {
            return Err(Refusal::protocol("it shares a subscription that is not for its own"));
        }
        let retain_as_published = options & 8 != 0;
        wanted.push(Wanted { filter, qos, no_local, retain_as_published, retain_handling });
    }
    if wanted.is_empty() {
        return Err(Refusal::protocol("it subscribed to nothing"));
    }
    Ok(Subscribe { id, identifier: said.subscription, wanted })
}

fn check_count(filters: usize) -> Result<(), Refusal> {
    match filters < MOST_FILTERS {
        true => Ok(()),
        false => {
            let why = format!("it sent more than {MOST_FILTERS} filters in one packet");
            Err(Refusal::new(code::QUOTA, why))
        }
    }
}

fn unsubscribe(reader: &mut Reader<'_>, version: Version) -> Result<Unsubscribe, Refusal> {
    let id = reader.packet_id()?;
    if version == Version::V5 {
        Said::read(reader, OF_UNSUBSCRIBE)?;
    }
    let mut filters = Vec::new();
    while !reader.0.is_empty() {
        check_count(filters.len())?;
        let filter = reader.text()?;
        check_filter(filter).map_err(|why| {
            Refusal::malformed(format!(
                "it unsubscribed from `{filter}`, which is no filter: {why}"
            ))
        })?;
        filters.push(filter.to_owned());
    }
    match filters.is_empty() {
        true => Err(Refusal::protocol("it unsubscribed from nothing")),
        false => Ok(Unsubscribe { id, filters }),
    }
}

fn disconnect(reader: &mut Reader<'_>, version: Version) -> Result<Disconnect, Refusal> {
    let mut said = Disconnect { code: code::SUCCESS, expiry_seconds: None };
    if version == Version::V5 && !reader.0.is_empty() {
        said.code = reader.byte()?;
        let is_known = matches!(said.code, 0 | 4 | 0x80..=0x83 | 0x90 | 0x93..=0x99);
        if !is_known {
            return Err(Refusal::malformed(format!("it left with the code {:#04x}", said.code)));
        }
        if !reader.0.is_empty() {
            said.expiry_seconds = Said::read(reader, OF_DISCONNECT)?.session_expiry;
        }
    }
    Ok(said)
}

/// The properties of one packet (MQTT 5 section 2.2.2).
#[derive(Default)]
struct Said<'a> {
    seen: u64,
    is_text: bool,
    message_expiry: Option<u32>,
    content_type: Option<&'a str>,
    response_topic: Option<&'a str>,
    correlation: Option<&'a [u8]>,
    subscription: Option<u32>,
    session_expiry: Option<u32>,
    auth_method: Option<&'a str>,
    has_auth_data: bool,
    wants_problems: Option<bool>,
    will_delay: Option<u32>,
    receive_maximum: Option<u16>,
    alias_maximum: Option<u16>,
    alias: Option<u16>,
    max_packet: Option<u32>,
    /// Those of a message that are passed on, as they are on the wire.
    passed_on: Vec<u8>,
}

const PAYLOAD_FORMAT: u8 = 1;
const MESSAGE_EXPIRY: u8 = 2;
const CONTENT_TYPE: u8 = 3;
const RESPONSE_TOPIC: u8 = 8;
const CORRELATION: u8 = 9;
const SUBSCRIPTION: u8 = 11;
const SESSION_EXPIRY: u8 = 17;
const AUTH_METHOD: u8 = 21;
const AUTH_DATA: u8 = 22;
const WANTS_PROBLEMS: u8 = 23;
const WILL_DELAY: u8 = 24;
const WANTS_RESPONSE: u8 = 25;
const REASON: u8 = 31;
const RECEIVE_MAXIMUM: u8 = 33;
const ALIAS_MAXIMUM: u8 = 34;
const ALIAS: u8 = 35;
const USER: u8 = 38;
const MAX_PACKET: u8 = 39;

/// Which properties a packet may have.
const OF_CONNECT: &[u8] = &[
    SESSION_EXPIRY,
    RECEIVE_MAXIMUM,
    MAX_PACKET,
    ALIAS_MAXIMUM,
    WANTS_RESPONSE,
    WANTS_PROBLEMS,
    AUTH_METHOD,
    AUTH_DATA,
    USER,
];
const OF_WILL: &[u8] =
    &[WILL_DELAY, PAYLOAD_FORMAT, MESSAGE_EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION, USER];
const OF_PUBLISH: &[u8] =
    &[PAYLOAD_FORMAT, MESSAGE_EXPIRY, ALIAS, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION, USER];
const OF_ACK: &[u8] = &[REASON, USER];
const OF_SUBSCRIBE: &[u8] = &[SUBSCRIPTION, USER];
const OF_UNSUBSCRIBE: &[u8] = &[USER];
const OF_DISCONNECT: &[u8] = &[SESSION_EXPIRY, REASON, USER];

impl<'a> Said<'a> {
    fn read(reader: &mut Reader<'a>, allowed: &[u8]) -> Result<Said<'a>, Refusal> {
        let length = reader.variable()?;
        let mut reader = Reader(reader.take(length as usize)?);
        let mut said = Said::default();
        while !reader.0.is_empty() {
            let from = reader.0;
            let id = reader.byte()?;
            if !allowed.contains(&id) {
                return Err(Refusal::malformed(format!(
                    "it sent the property {id} where none may be"
                )));
            }
            if id != USER && said.seen & 1 << id != 0 {
                return Err(Refusal::protocol(format!("it sent the property {id} twice")));
            }
            said.seen |= 1 << id;
            said.value(id, &mut reader)?;
            let is_passed_on =
                matches!(id, PAYLOAD_FORMAT | CONTENT_TYPE | RESPONSE_TOPIC | CORRELATION | USER);
            if is_passed_on && (allowed == OF_PUBLISH || allowed == OF_WILL) {
                said.passed_on.extend(&from[..from.len() - reader.0.len()]);
            }
        }
        Ok(said)
    }

    fn value(&mut self, id: u8, reader: &mut Reader<'a>) -> Result<(), Refusal> {
        match id {
            PAYLOAD_FORMAT => self.is_text = reader.flag()?,
            MESSAGE_EXPIRY => self.message_expiry = Some(reader.four_bytes()?),
            CONTENT_TYPE => self.content_type = Some(reader.text()?),
            RESPONSE_TOPIC => {
                let topic = reader.text()?;
                check_topic(topic).map_err(|why| {
                    let why = format!("it wants an answer at `{topic}`, which is no topic: {why}");
                    Refusal::protocol(why)
                })?;
                self.response_topic = Some(topic);
            }
            CORRELATION => self.correlation = Some(reader.binary()?),
            SUBSCRIPTION => self.subscription = Some(reader.variable()?),
            SESSION_EXPIRY => self.session_expiry = Some(reader.four_bytes()?),
            AUTH_METHOD => self.auth_method = Some(reader.text()?),
            AUTH_DATA => {
                reader.binary()?;
                self.has_auth_data = true;
            }
            WANTS_PROBLEMS => self.wants_problems = Some(reader.flag()?),
            WANTS_RESPONSE => drop(reader.flag()?),
            WILL_DELAY => self.will_delay = Some(reader.four_bytes()?),
            REASON => drop(reader.text()?),
            RECEIVE_MAXIMUM => self.receive_maximum = Some(reader.two_bytes()?),
            ALIAS_MAXIMUM => self.alias_maximum = Some(reader.two_bytes()?),
            ALIAS => self.alias = Some(reader.two_bytes()?),
            MAX_PACKET => self.max_packet = Some(reader.four_bytes()?),
            _ => {
                reader.text()?;
                reader.text()?;
            }
        }
        Ok(())
    }
}

/// What the properties that are passed on say to a node.
pub fn publish_properties(passed_on: &[u8]) -> Properties {
    let mut reader = Reader(passed_on);
    let (mut said, mut user) = (Said::default(), Vec::new());
    // They were read before they were kept, so nothing is left out.
    while let Ok(id) = reader.byte() {
        if id != USER {
            if said.value(id, &mut reader).is_err() {
                break;
            }
            continue;
        }
        let (Ok(name), Ok(value)) = (reader.text(), reader.text()) else { break };
        user.push((name.to_owned(), value.to_owned()));
    }
    Properties {
        is_text: said.is_text,
        expires_after_seconds: None,
        content_type: said.content_type.map(str::to_owned),
        response_topic: said.response_topic.map(str::to_owned),
        correlation_data: said.correlation.map(Bytes::copy_from_slice),
        user,
    }
}
