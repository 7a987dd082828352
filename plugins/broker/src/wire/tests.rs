//! What clients send, good and bad, byte by byte.

use super::*;
use fastrand::Rng;

fn read(bytes: &[u8], version: Version) -> Result<Packet, Refusal> {
    let header = header(bytes)?.expect("the header is whole");
    assert_eq!(header.packet_bytes(), bytes.len(), "{bytes:x?}");
    decode(header, &bytes[header.header_bytes..], version)
}

/// A packet with a body of less than 128 bytes.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first, body.len() as u8], body].concat()
}

#[track_caller]
fn check(version: Version, first: u8, body: &[u8], expected: &str) {
    match read(&packet(first, body), version) {
        Ok(packet) => panic!("{packet:?}, expected: {expected}"),
        Err(refusal) => {
            assert_eq!(format!("{:02x}: {refusal}", refusal.code), expected, "{body:x?}");
        }
    }
}

#[test]
fn what_the_standard_calls_malformed_is_refused() {
    use Version::{V5, V311};
    let check_header = |first: u8, expected: &str| check(V311, first, &[], expected);
    check_header(0x00, "81: it sent a packet of kind 0, which no client sends");
    check_header(0x20, "81: it sent a packet of kind 2, which no client sends");
    check_header(0x36, "81: it published at QoS 3");
    check_header(0x38, "81: it published again (DUP) at QoS 0");
    check_header(0x80, "81: it sent a packet of kind 8 with the flags 0x0, which are reserved");
    check_header(0x60, "81: it sent a packet of kind 6 with the flags 0x0, which are reserved");
    check_header(0x11, "81: it sent a packet of kind 1 with the flags 0x1, which are reserved");
    check_header(0xf0, "82: it sent an AUTH packet, and never asked to");

    let cut = "81: it sent a packet that ends in the middle of a field";
    check(V311, 0x30, b"", cut);
    check(V311, 0x30, b"\0\x05a", cut);
    check(V311, 0x32, b"\0\x01a\0", cut);
    check(V311, 0x32, b"\0\x01a\0\0", "82: it sent the packet id 0");
    check(V311, 0x40, b"\0\0", "82: it sent the packet id 0");
    check(V311, 0x82, b"\0\0\0\x01a\0", "82: it sent the packet id 0");
    check(V311, 0x30, b"\0\0", "90: it published to ``, which is no topic: it is empty");
    check(
        V311,
        0x30,
        b"\0\x03a/#",
        "90: it published to `a/#`, which is no topic: it has a wildcard",
    );
    check(V311, 0x30, b"\0\x02\xc3\x28", "81: it sent a text that is not UTF-8");
    check(V311, 0x30, b"\0\x03\xed\xa0\x80", "81: it sent a text that is not UTF-8");
    check(V311, 0x30, b"\0\x02a\0", "81: it sent a text with a null character");
    check(V311, 0x40, b"\0\x01\0", "81: it sent a packet with bytes behind its end");
    check(V311, 0xe0, b"\0", "81: it sent a packet with bytes behind its end");
    check(V311, 0x82, b"\0\x01", "82: it subscribed to nothing");
    check(V311, 0xa2, b"\0\x01", "82: it unsubscribed from nothing");
    check(V311, 0x82, b"\0\x01\0\x01a\x03", "81: it subscribed with the options 0x03");
    check(V311, 0x82, b"\0\x01\0\x01a\x04", "81: it subscribed with the options 0x04");
    check(V5, 0x82, b"\0\x01\0\0\x01a\x43", "81: it subscribed with the options 0x43");
    check(V5, 0x82, b"\0\x01\0\0\x01a\x30", "82: it subscribed with the retain handling 3");
    check(V5, 0x82, b"\0\x01\x02\x0b\0\0\x01a\0", "82: it subscribed with the identifier 0");
    let no_local = b"\0\x01\0\0\x0a$share/g/a\x04";
    check(V5, 0x82, no_local, "82: it shares a subscription that is not for its own");
    check(V5, 0x30, b"\0\x01a\x03\x23\0\0", "94: it used the topic alias 0");
    check(V5, 0x30, b"\0\x01a\x02\x0b\x01", "81: it sent the property 11 where none may be");
    check(V5, 0x30, b"\0\x01a\x04\x01\x01\x01\x01", "82: it sent the property 1 twice");
    check(V5, 0x30, b"\0\x01a\x02\x01\x02", "82: it sent 2 where 0 or 1 belongs");
    let answer = "82: it wants an answer at `+`, which is no topic: it has a wildcard";
    check(V5, 0x30, b"\0\x01a\x04\x08\0\x01+", answer);
    check(V5, 0x30, b"\0\x01a\x80\0", "81: it sent a number in more bytes than it needs");
    check(V5, 0x40, b"\0\x01\x01", "81: it acknowledged with the code 0x01");
    check(V5, 0xe0, b"\x05", "81: it left with the code 0x05");
}

#[test]
fn wrong_ways_to_connect_are_refused() {
    let connect = |body: &[u8], expected: &str| check(Version::V311, 0x10, body, expected);
    let none = "81: it does not speak MQTT";
    connect(b"\0\x04HTTP\x04\x02\0\0\0\0", none);
    let old =
        "84: it speaks MQTT 3.1, the version before 3.1.1; this broker speaks MQTT 3.1.1 and 5";
    connect(b"\0\x06MQIsdp\x03\x02\0\0\0\x01a", old);
    let new = "84: it speaks level 6 of MQTT; this broker speaks MQTT 3.1.1 and 5";
    connect(b"\0\x04MQTT\x06\x02\0\0\0\x01a", new);
    let flag = "81: it sent CONNECT with the flag that is reserved";
    connect(b"\0\x04MQTT\x04\x03\0\0\0\x01a", flag);
    let will = "81: it sent CONNECT with a QoS of its will that is none";
    connect(b"\0\x04MQTT\x04\x1e\0\0\0\x01a\0\x01w\0\0", will);
    connect(b"\0\x04MQTT\x04\x0a\0\0\0\x01a", will);
    connect(b"\0\x04MQTT\x04\x22\0\0\0\x01a", will);
    connect(b"\0\x04MQTT\x04\x42\0\0\0\x01a\0\0", "81: it sent a password and no user name");
    let no_id = "85: it has no client id, and wants a session that outlives its connection";
    connect(b"\0\x04MQTT\x04\0\0\0\0\0", no_id);
    let topic = "90: its will is for `a/#`, which is no topic: it has a wildcard";
    connect(b"\0\x04MQTT\x04\x06\0\0\0\x01a\0\x03a/#\0\0", topic);
    let nothing = "82: it takes no packet at all";
    connect(b"\0\x04MQTT\x05\x02\0\0\x03\x21\0\0\0\x01a", nothing);
    let method = "8c: it asked for a way to say who it is that this broker does not know";
    connect(b"\0\x04MQTT\x05\x02\0\0\x04\x15\0\x01x\0\x01a", method);
}

#[test]
fn a_version_that_is_refused_can_be_told_so() {
    let version = |body: &[u8]| {
        let bytes = packet(0x10, body);
        let header = header(&bytes).unwrap().unwrap();
        version_of(header, body)
    };
    assert_eq!(version(b"\0\x06MQIsdp\x03"), Some(Version::V311));
    assert_eq!(version(b"\0\x04MQTT\x06"), Some(Version::V5));
    assert_eq!(version(b"\0\x04HTTP\x06"), None);
    assert_eq!(version(b"\0"), None);
}

#[test]
fn a_connect_says_what_it_said() {
    let body = b"\0\x04MQTT\x05\xf6\0\x3c\x12\x11\0\0\x0e\x10\x21\0\x0a\x27\0\0\x10\0\x22\0\x05\x17\0\0\x01d\
        \x05\x18\0\0\0\x09\0\x01w\0\x02on\0\x01u\0\x01p";
    let Packet::Connect(said) = read(&packet(0x10, body), Version::V311).unwrap() else { panic!() };
    let Connect { version, keep_alive, client_id, user, password, will, .. } = &*said;
    assert_eq!((*version, *keep_alive, &**client_id), (Version::V5, 60, "d"));
    assert_eq!((user.as_deref(), password.as_deref()), (Some("u"), Some(&b"p"[..])));
    assert_eq!((said.expiry_seconds, said.receive_maximum, said.max_packet), (3600, 10, 4096));
    assert_eq!((said.alias_maximum, said.wants_reasons, said.clean_start), (5, false, true));
    let will = will.as_ref().unwrap();
    assert_eq!((&*will.topic, &will.payload[..], will.qos), ("w", &b"on"[..], 2));
    assert_eq!((will.retain, will.delay_seconds), (true, 9));
}

#[test]
fn of_a_message_what_is_not_for_us_alone_is_passed_on_as_it_was() {
    // Text, expiry, content type, a user property and an alias.
    let said = b"\x01\x01\x02\0\0\0\x3c\x03\0\x01j\x26\0\x01k\0\x01v\x23\0\x02";
    let body = [b"\0\x01t\0\x07", &[said.len() as u8][..], said, b"on"].concat();
    let Packet::Publish(got) = read(&packet(0x3b, &body), Version::V5).unwrap() else { panic!() };
    assert_eq!((got.qos, got.retain, got.again, got.id), (1, true, true, 7));
    assert_eq!((got.alias, got.expiry_seconds), (Some(2), Some(60)));
    assert_eq!(&got.properties[..], b"\x01\x01\x03\0\x01j\x26\0\x01k\0\x01v");
    let mut writer = Writer::new(Version::V5);
    let delivery = Delivery {
        again: true,
        qos: 1,
        retain: true,
        topic: &got.topic,
        id: 7,
        alias: Some(2),
        expiry_seconds: Some(60),
        subscriptions: &[],
        properties: &got.properties,
        payload: &got.payload,
    };
    let bytes = 2 + body.len();
    assert!(!writer.publish(&delivery, Text::Copied, bytes - 1) && writer.bytes.is_empty());
    assert!(writer.publish(&delivery, Text::Copied, bytes));
    assert_eq!(read(&writer.bytes, Version::V5), Ok(Packet::Publish(got)));
}

#[test]
fn with_3_1_1_nothing_is_sent_that_only_5_knows() {
    let mut writer = Writer::new(Version::V311);
    writer.ack(Ack::Completed, 1, code::PACKET_ID_NOT_FOUND);
    writer.disconnect(code::TAKEN_OVER, Some("x"));
    writer.suback(1, &[2, code::QUOTA]);
    writer.unsuback(1, &[code::NO_SUBSCRIPTION]);
    let code = code::QUOTA;
    writer.connack(&ConnAck { code, session_present: true, ..ConnAck::default() });
    let expected =
        [&[0x70, 2, 0, 1][..], &[0x90, 4, 0, 1, 2, 0x80], &[0xb0, 2, 0, 1], &[0x20, 2, 0, 3]];
    assert_eq!(writer.bytes, expected.concat());
}

#[test]
fn a_header_is_known_once_it_is_there_and_no_sooner() {
    let whole = [0x30, 0x80, 0x80, 0x01];
    for end in 0..whole.len() {
        assert_eq!(header(&whole[..end]), Ok(None));
    }
    let expected = Header { first: 0x30, header_bytes: 4, body_bytes: 16_384 };
    assert_eq!(header(&whole), Ok(Some(expected)));
    assert!(header(&[0x30, 0x80, 0]).is_err());
    assert!(header(&[0x30, 0xff, 0xff, 0xff, 0xff]).is_err());
}

/// Packets that are right, for what is to be made wrong.
const GOOD: &[&[u8]] = &[
    b"\x10\x12\0\x04MQTT\x04\xc2\0\x3c\0\x01d\0\x01u\0\0",
    b"\x10\x16\0\x04MQTT\x05\x02\0\x3c\x05\x11\0\0\x0e\x10\0\x04name",
    b"\x3d\x08\0\x01t\0\x07abc",
    b"\x32\x0e\0\x01t\0\x07\x07\x26\0\x01k\0\x01vx",
    b"\x40\x04\0\x01\x10\0",
    b"\x62\x02\0\x01",
    b"\x82\x0b\0\x01\0\0\x03a/#\x02\0\0",
    b"\xa2\x07\0\x01\0\0\x02ab",
    b"\xc0\0",
    b"\xe0\x07\x04\x05\x11\0\0\0\x09",
];

#[test]
fn no_bytes_are_a_panic_and_none_are_read_beyond_their_packet() {
    let mut random = Rng::with_seed(7);
    let mut read = 0;
    for _ in 0..200_000 {
        let mut bytes = GOOD[random.usize(..GOOD.len())].to_vec();
        for _ in 0..random.usize(..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes[at] ^= 1 << random.u8(..8),
                2 => bytes.insert(at, random.u8(..)),
                _ if bytes.len() > 2 => drop(bytes.remove(at)),
                _ => (),
            }
        }
        let version = if random.bool() { Version::V5 } else { Version::V311 };
        let Ok(Some(header)) = header(&bytes) else { continue };
        let Some(body) = bytes.get(header.header_bytes..header.packet_bytes()) else { continue };
        if let Ok(packet) = decode(header, body, version) {
            read += 1;
            if let Packet::Publish(publish) = packet {
                publish_properties(&publish.properties);
            }
        }
    }
    assert!(read > 20_000, "{read}");
}
