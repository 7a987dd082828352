//! What must survive a restart, as it stands on disk: one record behind the other, each with its length and
//! a checksum.

use std::{io, sync::Arc};

use bytes::Bytes;
use forebay_sdk::clock::{self, Origin};
use tokio::time::Duration;

use crate::{message::Message, tree::SessionId, wire::Will};

/// No record is longer: a message has a packet at most, and a list of sessions.
pub const LONGEST: usize = 64 << 20;
/// What stands in front of each: its length, and the checksum of it.
pub const HEAD_BYTES: usize = 8;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The last message of a topic. None takes it back.
    Retained(Arc<str>, Option<Stored>),
    /// A session is there, or is another user's now.
    Session {
        id: SessionId,
        client_id: Arc<str>,
        user: Option<Arc<str>>,
        expiry_seconds: u32,
    },
    /// A session is over, with all that is of it.
    Ended(SessionId),
    Subscribed(SessionId, Subscription),
    Unsubscribed(SessionId, Arc<str>),
    /// A message waits for sessions.
    Message {
        number: u64,
        stored: Stored,
        recipients: Vec<Recipient>,
    },
    /// A session has a message, or will not get it.
    Done(SessionId, u64),
    /// A message of QoS 2 is on its way to a session.
    Sent(SessionId, u64, UnderWay),
    /// A client has sent a message of QoS 2 with that packet id, and not released it.
    Received(SessionId, u16),
    /// It has released it.
    Released(SessionId, u16),
    /// What is published when the client of a session is lost.
    Will(SessionId, LastWill),
    /// Nothing is, any more.
    NoWill(SessionId),
}

/// How far a message of QoS 2 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnderWay {
    pub packet_id: u16,
    /// The client has it, and is to hear that it may forget its packet id.
    pub is_received: bool,
}

/// A will, and whose it is: also of a session that is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWill {
    pub client_id: Arc<str>,
    pub user: Option<Arc<str>>,
    pub will: Will,
}

/// A message, and when it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Without its expiry, which is of this boot.
    pub message: Message,
    /// Seconds that were left, and when that was.
    pub expires: Option<(u32, When)>,
}

/// A moment that survives a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    /// By the wall clock.
    unix_nanos: i64,
    /// By which it counts when the clock was not set.
    origin: Origin,
}

impl When {
    /// That moment.
    pub fn of(moment: &clock::Moment) -> When {
        let origin = if moment.is_set { Origin::OF_A_SET_CLOCK } else { moment.origin() };
        When { unix_nanos: moment.wall_nanos, origin }
    }

    /// How long ago it was. Nothing when nobody knows.
    pub fn age(&self) -> Duration {
        let now = clock::moment();
        clock::age(self.origin.read(self.unix_nanos, &now), now.stamp())
    }
}

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub filter: Arc<str>,
    pub qos: u8,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub identifier: u32,
}

/// How one session is to get a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    pub id: SessionId,
    pub qos: u8,
    pub retain: bool,
    pub identifiers: Box<[u32]>,
}

/// Appends a record.
pub fn write(record: &Record, to: &mut Vec<u8>) {
    let start = to.len();
    to.extend([0; HEAD_BYTES]);
    let mut out = Out(to);
    match record {
        Record::Retained(topic, stored) => {
            out.u8(1);
            out.text(topic);
            out.u8(stored.is_some().into());
            stored.iter().for_each(|stored| out.stored(stored));
        }
        Record::Session { id, client_id, user, expiry_seconds } => {
            out.u8(2);
            out.u64(*id);
            out.text(client_id);
            out.text_or_none(user.as_deref());
            out.u32(*expiry_seconds);
        }
        Record::Ended(id) => {
            out.u8(3);
            out.u64(*id);
        }
        Record::Subscribed(id, subscription) => {
            out.u8(4);
            out.u64(*id);
            out.text(&subscription.filter);
            out.u8(subscription.qos);
            out.u8(subscription.no_local.into());
            out.u8(subscription.retain_as_published.into());
            out.u32(subscription.identifier);
        }
        Record::Unsubscribed(id, filter) => {
            out.u8(5);
            out.u64(*id);
            out.text(filter);
        }
        Record::Message { number, stored, recipients } => {
            out.u8(6);
            out.u64(*number);
            out.stored(stored);
            out.u32(recipients.len() as u32);
            for Recipient { id, qos, retain, identifiers } in recipients {
                out.u64(*id);
                out.u8(*qos);
                out.u8((*retain).into());
                out.u32(identifiers.len() as u32);
                identifiers.iter().for_each(|identifier| out.u32(*identifier));
            }
        }
        Record::Done(id, number) => {
            out.u8(7);
            out.u64(*id);
            out.u64(*number);
        }
        Record::Sent(id, number, UnderWay { packet_id, is_received }) => {
            out.u8(8);
            out.u64(*id);
            out.u64(*number);
            out.u16(*packet_id);
            out.u8((*is_received).into());
        }
        Record::Received(id, packet_id) => {
            out.u8(9);
            out.u64(*id);
            out.u16(*packet_id);
        }
        Record::Released(id, packet_id) => {
            out.u8(10);
            out.u64(*id);
            out.u16(*packet_id);
        }
        Record::Will(id, LastWill { client_id, user, will }) => {
            out.u8(11);
            out.u64(*id);
            out.text(client_id);
            out.text_or_none(user.as_deref());
            out.will(will);
        }
        Record::NoWill(id) => {
            out.u8(12);
            out.u64(*id);
        }
    }
    let body = start + HEAD_BYTES;
    let length = (to.len() - body) as u32;
    let sum = checksum(&to[body..]);
    to[start..start + 4].copy_from_slice(&length.to_le_bytes());
    to[start + 4..body].copy_from_slice(&sum.to_le_bytes());
}

/// How much is put together before it is passed on, in bytes.
const PIECE: usize = 64 << 10;

/// Passes records on behind some that were written before, in pieces: never are all of them in memory.
///
/// # Errors
///
/// What `take` says, which is asked no more then.
pub fn write_in_pieces(
    before: Vec<u8>,
    records: impl IntoIterator<Item = Record>,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut piece = before;
    for record in records {
        write(&record, &mut piece);
        if piece.len() > PIECE {
            take(&piece)?;
            piece.clear();
        }
    }
    take(&piece)
}

/// The length of what follows a head, and its checksum.
pub fn head(bytes: [u8; HEAD_BYTES]) -> (usize, u32) {
    let [a, b, c, d, e, f, g, h] = bytes;
    (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]))
}

pub fn checksum(body: &[u8]) -> u32 {
    crc32fast::hash(body)
}

/// Reads what follows a head. None when it is no record.
pub fn read(body: &[u8]) -> Option<Record> {
    let mut from = In(body);
    let record = match from.u8()? {
        1 => {
            let topic = from.text()?;
            let is_there = from.flag()?;
            Record::Retained(topic, if is_there { Some(from.stored()?) } else { None })
        }
        2 => {
            let (id, client_id) = (from.u64()?, from.text()?);
            let user = from.text_or_none()?;
            Record::Session { id, client_id, user, expiry_seconds: from.u32()? }
        }
        3 => Record::Ended(from.u64()?),
        4 => {
            let id = from.u64()?;
            let subscription = Subscription {
                filter: from.text()?,
                qos: from.u8().filter(|qos| *qos <= 2)?,
                no_local: from.flag()?,
                retain_as_published: from.flag()?,
                identifier: from.u32()?,
            };
            Record::Subscribed(id, subscription)
        }
        5 => Record::Unsubscribed(from.u64()?, from.text()?),
        6 => {
            let (number, stored, count) = (from.u64()?, from.stored()?, from.u32()?);
            let recipients = (0..count).map(|_| from.recipient()).collect::<Option<_>>()?;
            Record::Message { number, stored, recipients }
        }
        7 => Record::Done(from.u64()?, from.u64()?),
        8 => {
            let (id, number) = (from.u64()?, from.u64()?);
            let way = UnderWay { packet_id: from.u16()?, is_received: from.flag()? };
            Record::Sent(id, number, way)
        }
        9 => Record::Received(from.u64()?, from.u16()?),
        10 => Record::Released(from.u64()?, from.u16()?),
        11 => {
            let (id, client_id, user) = (from.u64()?, from.text()?, from.text_or_none()?);
            Record::Will(id, LastWill { client_id, user, will: from.will()? })
        }
        12 => Record::NoWill(from.u64()?),
        _ => return None,
    };
    from.0.is_empty().then_some(record)
}

struct Out<'a>(&'a mut Vec<u8>);

impl Out<'_> {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.0.extend(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn text_or_none(&mut self, text: Option<&str>) {
        self.u8(text.is_some().into());
        text.into_iter().for_each(|text| self.text(text));
    }

    fn will(&mut self, will: &Will) {
        let Will { topic, payload, qos, retain, delay_seconds, expiry_seconds, properties } = will;
        self.text(topic);
        self.bytes(payload);
        self.u8(*qos);
        self.u8((*retain).into());
        self.u32(*delay_seconds);
        self.u8(expiry_seconds.is_some().into());
        expiry_seconds.iter().for_each(|seconds| self.u32(*seconds));
        self.bytes(properties);
    }

    fn stored(&mut self, stored: &Stored) {
        let Message { topic, payload, qos, retain, properties, .. } = &stored.message;
        self.text(topic);
        self.bytes(payload);
        self.u8(*qos);
        self.u8((*retain).into());
        self.bytes(properties);
        self.u8(stored.expires.is_some().into());
        if let Some((seconds, at)) = stored.expires {
            let When { unix_nanos, origin } = at;
            self.u32(seconds);
            self.u64(unix_nanos as u64);
            self.0.extend(origin.boot.to_le_bytes());
            self.u64(origin.boot_nanos as u64);
        }
    }
}

struct In<'a>(&'a [u8]);

impl In<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        self.u8().filter(|byte| *byte <= 1).map(|byte| byte == 1)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&[u8]> {
        let length = self.u32()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<Arc<str>> {
        std::str::from_utf8(self.bytes()?).ok().map(Arc::from)
    }

    fn text_or_none(&mut self) -> Option<Option<Arc<str>>> {
        match self.flag()? {
            true => self.text().map(Some),
            false => Some(None),
        }
    }

    fn will(&mut self) -> Option<Will> {
        Some(Will {
            topic: self.text()?,
            payload: Bytes::copy_from_slice(self.bytes()?),
            qos: self.u8().filter(|qos| *qos <= 2)?,
            retain: self.flag()?,
            delay_seconds: self.u32()?,
            expiry_seconds: if self.flag()? { Some(self.u32()?) } else { None },
            properties: Bytes::copy_from_slice(self.bytes()?),
        })
    }

    fn stored(&mut self) -> Option<Stored> {
        let topic = self.text()?;
        let payload = Bytes::copy_from_slice(self.bytes()?);
        let qos = self.u8().filter(|qos| *qos <= 2)?;
        let retain = self.flag()?;
        let properties = Bytes::copy_from_slice(self.bytes()?);
        let is_limited = self.flag()?;
        let expires = if is_limited { Some((self.u32()?, self.when()?)) } else { None };
        let message = Message { topic, payload, qos, retain, properties, expires_at: None };
        Some(Stored { message, expires })
    }

    fn when(&mut self) -> Option<When> {
        let unix_nanos = self.u64()? as i64;
        let (boot, boot_nanos) = (u128::from_le_bytes(self.take()?), self.u64()? as i64);
        Some(When { unix_nanos, origin: Origin { boot, boot_nanos } })
    }

    fn recipient(&mut self) -> Option<Recipient> {
        let (id, qos, retain, count) = (self.u64()?, self.u8()?, self.flag()?, self.u32()?);
        let identifiers = (0..count).map(|_| self.u32()).collect::<Option<_>>()?;
        (qos <= 2).then_some(Recipient { id, qos, retain, identifiers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let message = Message {
            topic: "a/b".into(),
            payload: Bytes::from_static(b"1"),
            qos: 2,
            retain: true,
            properties: Bytes::from_static(&[1, 1]),
            expires_at: None,
        };
        let origin = Origin { boot: 7, boot_nanos: -5 };
        let when = When { unix_nanos: -5, origin };
        let stored = Stored { message, expires: Some((60, when)) };
        let recipient = Recipient { id: 7, qos: 1, retain: false, identifiers: [3, 4].into() };
        let will = Will {
            topic: "gone".into(),
            payload: Bytes::from_static(b"w"),
            qos: 1,
            retain: true,
            delay_seconds: 5,
            expiry_seconds: Some(9),
            properties: Bytes::from_static(&[1, 1]),
        };
        vec![
            Record::Retained("a/b".into(), Some(stored.clone())),
            Record::Retained("a/b".into(), None),
            Record::Session {
                id: 7,
                client_id: "x".into(),
                user: Some("u".into()),
                expiry_seconds: u32::MAX,
            },
            Record::Ended(7),
            Record::Subscribed(
                7,
                Subscription {
                    filter: "$share/g/#".into(),
                    qos: 1,
                    no_local: true,
                    retain_as_published: false,
                    identifier: 9,
                },
            ),
            Record::Unsubscribed(7, "ü/+".into()),
            Record::Message {
                number: 12,
                stored: Stored { expires: None, ..stored },
                recipients: vec![
                    recipient.clone(),
                    Recipient { identifiers: [].into(), ..recipient },
                ],
            },
            Record::Done(7, 12),
            Record::Sent(7, 12, UnderWay { packet_id: 65_535, is_received: true }),
            Record::Received(7, 300),
            Record::Released(7, 300),
            Record::Will(7, LastWill { client_id: "x".into(), user: None, will: will.clone() }),
            Record::Will(
                8,
                LastWill {
                    client_id: "x".into(),
                    user: Some("u".into()),
                    will: Will { expiry_seconds: None, ..will },
                },
            ),
            Record::NoWill(7),
        ]
    }

    #[test]
    fn records_are_read_as_they_were_written_and_a_part_of_one_is_none() {
        for record in records() {
            let mut bytes = Vec::new();
            write(&record, &mut bytes);
            let (length, sum) = head(bytes[..HEAD_BYTES].try_into().unwrap());
            let body = &bytes[HEAD_BYTES..];
            assert_eq!((length, sum), (body.len(), checksum(body)));
            assert_eq!(read(body).as_ref(), Some(&record));
            for end in 0..body.len() {
                assert_eq!(read(&body[..end]), None, "{record:?} up to {end}");
            }
        }
    }

    #[test]
    fn pieces_are_no_larger_than_they_must_be() {
        let mut whole = Vec::new();
        let records = || (0..500).flat_map(|_| records());
        records().for_each(|record| write(&record, &mut whole));
        let (mut pieces, mut got) = (0, Vec::new());
        let taken = write_in_pieces(Vec::new(), records(), |piece| {
            assert!(piece.len() < PIECE + 1000);
            pieces += 1;
            got.extend_from_slice(piece);
            Ok(())
        });
        assert!(taken.is_ok() && got == whole && pieces > 3);
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let failed = write_in_pieces(Vec::new(), records(), |_| Err(full()));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn no_bytes_are_a_panic() {
        let mut random = fastrand::Rng::with_seed(1);
        for record in records() {
            let mut bytes = Vec::new();
            write(&record, &mut bytes);
            for _ in 0..2000 {
                let mut body = bytes[HEAD_BYTES..].to_vec();
                let at = random.usize(..body.len());
                body[at] = random.u8(..);
                let _ = read(&body);
            }
        }
    }
}
