//! Where packets begin and end in what comes from a broker, and what becomes of those that are too
//! large: they are thrown away as they come, and their head is passed on, so that they can be
//! acknowledged. MQTT 3.1.1 cannot ask a broker not to send them, and sends them again for ever.

use std::io;

/// The first byte, and the length in at most four more (MQTT 3.1.1 section 2.2).
const MOST_HEADER_BYTES: usize = 5;
const PUBLISH: u8 = 3;

/// Follows the packets of one connection.
pub struct Frames {
    /// The most bytes of a packet that is passed on.
    max_packet: u64,
    at: At,
    thrown_away: Option<ThrownAway>,
}

/// A message that was too large.
#[derive(Debug, PartialEq, Eq)]
pub struct ThrownAway {
    pub topic: String,
    /// At QoS 1 and 2. An empty message is passed on under this packet id.
    pub packet: Option<u16>,
    pub bytes: u64,
}

/// What comes next.
enum At {
    /// The rest of a packet's header.
    Header(Vec<u8>),
    /// The rest of a packet that is passed on.
    Passing { left: u64 },
    /// The rest of a message that is too large.
    Throwing(Large),
    /// This is not MQTT. Whoever reads it finds out.
    Astray,
}

/// A message that is too large, on its way to be thrown away.
struct Large {
    first: u8,
    bytes: u64,
    left: u64,
    /// Topic and packet id, as far as they came.
    head: Vec<u8>,
}

impl Frames {
    pub fn new(max_packet: u64) -> Frames {
        Frames { max_packet, at: At::Header(Vec::new()), thrown_away: None }
    }

    /// Whether what comes next is the beginning of a packet.
    pub fn is_between(&self) -> bool {
        matches!(&self.at, At::Header(header) if header.is_empty())
    }

    /// What the packet was that was taken last, when it was thrown away.
    pub fn thrown_away(&mut self) -> Option<ThrownAway> {
        self.thrown_away.take()
    }

    /// Takes in what came, up to the end of a packet at most, and adds to `passed` what is to be
    /// read. Gives how many bytes were taken.
    pub fn take(&mut self, came: &[u8], passed: &mut Vec<u8>) -> io::Result<usize> {
        let mut taken = 0;
        while taken < came.len() {
            let rest = &came[taken..];
            taken += match &mut self.at {
                At::Astray => {
                    passed.extend_from_slice(rest);
                    rest.len()
                }
                At::Header(header) => {
                    header.push(rest[0]);
                    if let Some(at) = after_header(header, self.max_packet, passed)? {
                        self.at = at;
                    }
                    1
                }
                At::Passing { left } => {
                    let some = prefix(rest, *left);
                    passed.extend_from_slice(some);
                    *left -= some.len() as u64;
                    some.len()
                }
                At::Throwing(large) => large.take(rest),
            };
            if self.ended(passed) {
                self.at = At::Header(Vec::new());
                break;
            }
        }
        Ok(taken)
    }

    /// Whether the packet at hand is complete.
    fn ended(&mut self, passed: &mut Vec<u8>) -> bool {
        match &self.at {
            At::Passing { left } => *left == 0,
            At::Throwing(large) if large.left == 0 => {
                self.thrown_away = Some(large.pass_head(passed));
                true
            }
            _ => false,
        }
    }
}

/// What comes behind a header, if that is complete.
fn after_header(header: &[u8], max_packet: u64, passed: &mut Vec<u8>) -> io::Result<Option<At>> {
    let [first, length @ ..] = header else { return Ok(None) };
    let Some(last) = length.last() else { return Ok(None) };
    if last & 0x80 != 0 && header.len() < MOST_HEADER_BYTES {
        return Ok(None);
    }
    if last & 0x80 != 0 {
        passed.extend_from_slice(header);
        return Ok(Some(At::Astray));
    }
    let left = length.iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7f));
    let bytes = left + header.len() as u64;
    if bytes <= max_packet {
        passed.extend_from_slice(header);
        return Ok(Some(At::Passing { left }));
    }
    if first >> 4 != PUBLISH {
        let error = format!("a packet of {bytes} bytes that is no message");
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    Ok(Some(At::Throwing(Large { first: *first, bytes, left, head: Vec::new() })))
}

impl Large {
    fn take(&mut self, rest: &[u8]) -> usize {
        let some = prefix(rest, self.left);
        self.left -= some.len() as u64;
        // The length of the topic first, and only then is known how much there is to keep.
        for byte in some {
            if self.head.len() == self.head_bytes() {
                break;
            }
            self.head.push(*byte);
        }
        some.len()
    }

    /// How many bytes topic and packet id have, as far as can be told.
    fn head_bytes(&self) -> usize {
        match self.head[..] {
            [high, low, ..] => 2 + usize::from(u16::from_be_bytes([high, low])) + self.id_bytes(),
            _ => 2,
        }
    }

    fn id_bytes(&self) -> usize {
        if self.first & 0b110 == 0 { 0 } else { 2 }
    }

    /// In place of the message an empty one is passed on, under the same packet id.
    fn pass_head(&self, passed: &mut Vec<u8>) -> ThrownAway {
        let (topic, id) = self.head.split_at(self.head.len().saturating_sub(self.id_bytes()));
        let topic = String::from_utf8_lossy(topic.get(2..).unwrap_or_default()).into_owned();
        let packet = id.first_chunk().map(|id| u16::from_be_bytes(*id));
        if packet.is_some() {
            passed.push(self.first);
            let mut length = self.head.len();
            while length > 0x7f {
                passed.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            passed.push(length as u8);
            passed.extend_from_slice(&self.head);
        }
        ThrownAway { topic, packet, bytes: self.bytes }
    }
}

fn prefix(bytes: &[u8], most: u64) -> &[u8] {
    &bytes[..bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX))]
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use rumqttc::{Packet, PubAck, Publish, QoS};

    use super::*;

    fn publish(topic: &str, payload_bytes: usize, qos: QoS, packet: u16) -> Vec<u8> {
        let mut publish = Publish::new(topic, qos, vec![b'x'; payload_bytes]);
        publish.pkid = packet;
        written(&Packet::Publish(publish))
    }

    fn written(packet: &Packet) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        bytes.to_vec()
    }

    /// What is passed of some bytes that come in pieces of a size, and what is thrown away.
    fn pass(came: &[u8], piece: usize) -> (Vec<u8>, Vec<ThrownAway>) {
        let (mut frames, mut passed) = (Frames::new(1000), Vec::new());
        let mut thrown_away = Vec::new();
        for mut piece in came.chunks(piece) {
            while !piece.is_empty() {
                piece = &piece[frames.take(piece, &mut passed).unwrap()..];
                thrown_away.extend(frames.thrown_away());
            }
        }
        assert!(frames.is_between());
        (passed, thrown_away)
    }

    #[test]
    fn a_large_message_is_thrown_away_and_its_head_is_left_however_it_comes_in_pieces() {
        let ack = written(&Packet::PubAck(PubAck::new(3)));
        let fits = publish("a/b", 900, QoS::AtLeastOnce, 1);
        let topic = "t".repeat(200);
        let large = publish(&topic, 70_000, QoS::ExactlyOnce, 0x1234);
        let lost = publish("größe", 2_000, QoS::AtMostOnce, 0);
        let came = [&ack[..], &large, &fits, &lost, &ack].concat();
        let head = publish(&topic, 0, QoS::ExactlyOnce, 0x1234);
        let expected = [&ack[..], &head, &fits, &ack].concat();
        for piece in [1, 2, 3, 7, 1000, came.len()] {
            let (passed, thrown_away) = pass(&came, piece);
            assert!(passed == expected, "in pieces of {piece}");
            let told = |topic: &str, packet, message: &[u8]| ThrownAway {
                topic: topic.to_owned(),
                packet,
                bytes: message.len() as u64,
            };
            let expected = [told(&topic, Some(0x1234), &large), told("größe", None, &lost)];
            assert_eq!(thrown_away, expected);
        }
    }

    #[test]
    fn what_is_just_as_large_as_it_may_be_is_passed() {
        let fits = publish("t", 1000 - 8, QoS::AtLeastOnce, 1);
        assert_eq!(fits.len(), 1000);
        assert_eq!(pass(&fits, 100).0, fits);
    }

    #[test]
    fn a_large_message_that_is_broken_is_no_panic() {
        // Its topic is longer than it is.
        let broken = [&[0x32, 0xff, 0x7f, 0xff, 0xff][..], &[b'x'; 16_381]].concat();
        let (passed, thrown_away) = pass(&broken, 100);
        assert!(thrown_away.len() == 1 && passed.len() <= broken.len());
    }

    #[test]
    fn what_is_no_message_has_a_bound_and_what_is_no_mqtt_is_passed() {
        let mut passed = Vec::new();
        let error = Frames::new(1000).take(&[0x90, 0xff, 0x7f], &mut passed).unwrap_err();
        assert_eq!(error.to_string(), "a packet of 16386 bytes that is no message");
        let html = b"\xff\xff\xff\xff\xff\xff and more";
        let mut frames = Frames::new(1000);
        assert_eq!(frames.take(html, &mut passed).unwrap(), html.len());
        assert_eq!(passed, html);
    }

    #[test]
    fn packets_are_taken_one_by_one() {
        let ack = written(&Packet::PubAck(PubAck::new(3)));
        let came = [&ack[..], &ack].concat();
        let (mut frames, mut passed) = (Frames::new(1000), Vec::new());
        assert_eq!(frames.take(&came, &mut passed).unwrap(), ack.len());
        assert!(frames.is_between() && passed == ack);
        frames.take(&came[..1], &mut passed).unwrap();
        assert!(!frames.is_between());
    }
}
