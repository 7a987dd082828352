//! Messages to bytes and back. `mod.rs` documents the format.
//!
//! A batch is encoded before it is known into which segment it goes, so its checksums get the salt
//! of the segment when it is appended.

use std::sync::Arc;

use bytes::Bytes;
use forebay_sdk::{Format, Message, Meta, Payload, Timestamp, payload::Value};

/// What each batch begins with.
pub const BATCH_MARK: [u8; 4] = [0xFB, b'b', b'a', b'y'];
/// What a copy of a batch's header begins with, behind the records.
pub const COPY_MARK: [u8; 4] = [0xFB, b'b', b'a', b'z'];
/// What both marks begin with.
pub const MARKS: [u8; 3] = [0xFB, b'b', b'a'];
/// Mark, length and checksum in front of a batch's header.
pub const BATCH_PREFIX_BYTES: usize = 4 + 2 + 4;
/// The longest prefix of a record: its first byte, its length and its checksum.
pub const RECORD_PREFIX_MOST_BYTES: usize = 1 + 5 + 4;

/// How many topics, and how many sources, a batch says once for all its records.
const MOST_SHARED: usize = 64;
/// A longer topic or source stands in each record itself.
const MOST_SHARED_TEXT_BYTES: usize = 256;

/// The first three bits of each record, to find one again behind a damaged stretch.
const MARK: u8 = 0b1010_0000;
const MARK_BITS: u8 = 0b1110_0000;
/// The topic, or the source, is the first one of the batch.
const FIRST_TOPIC: u8 = 0b0001_0000;
const FIRST_SOURCE: u8 = 0b0000_1000;
const HAS_META: u8 = 0b0000_0100;
const KIND_BITS: u8 = 0b0000_0011;

/// Messages encoded together, to be appended with one write.
pub struct Batch {
    first_seq: u64,
    count: u64,
    base: Timestamp,
    /// Some were stamped before the clock was set.
    has_unset: bool,
    topics: Vec<Arc<str>>,
    sources: Vec<Arc<str>>,
    records: Vec<u8>,
    /// Kept for its memory.
    envelope: Vec<u8>,
}

impl Batch {
    /// An empty batch. Its first message gets the sequence number `first_seq`, the next the one after.
    pub fn new(first_seq: u64) -> Batch {
        Batch {
            first_seq,
            count: 0,
            base: Timestamp::from_unix_nanos(0),
            has_unset: false,
            topics: Vec::new(),
            sources: Vec::new(),
            records: Vec::new(),
            envelope: Vec::new(),
        }
    }

    /// Adds a message.
    pub fn push(&mut self, message: &Message) {
        if self.is_empty() {
            self.base = message.time;
        }
        self.has_unset |= !message.time.clock_was_set();
        let mut flags = MARK;
        let mut envelope = std::mem::take(&mut self.envelope);
        envelope.clear();
        put(&mut envelope, self.count);
        // A delta wraps at both ends, so each time comes back as it was.
        let delta = message.time.unix_nanos().wrapping_sub(self.base.unix_nanos());
        put_signed(&mut envelope, delta);
        match share(&mut self.topics, &message.topic) {
            Some(0) => flags |= FIRST_TOPIC,
            place => put_text(&mut envelope, place, &message.topic),
        }
        match &message.meta.source {
            // Place 1 is nobody; the texts come behind it.
            None => put(&mut envelope, 1),
            Some(source) => match share(&mut self.sources, source) {
                Some(0) => flags |= FIRST_SOURCE,
                place => put_text(&mut envelope, place.map(|place| place + 1), source),
            },
        }
        if let Some(entries) = message.meta.to_stored() {
            flags |= HAS_META;
            let json = Value::Object(entries).to_string();
            put(&mut envelope, json.len() as u64);
            envelope.extend_from_slice(json.as_bytes());
        }
        let (kind, payload) = encode_payload(&message.payload);
        self.put_record(flags | kind, &envelope, &payload);
        self.envelope = envelope;
        self.count += 1;
    }

    fn put_record(&mut self, flags: u8, envelope: &[u8], payload: &[u8]) {
        let start = self.records.len();
        self.records.push(flags);
        put(&mut self.records, (envelope.len() + payload.len()) as u64);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.records[start..]);
        crc.update(envelope);
        crc.update(payload);
        self.records.extend_from_slice(&crc.finalize().to_le_bytes());
        self.records.extend_from_slice(envelope);
        self.records.extend_from_slice(payload);
    }

    /// How many messages there are.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether some were stamped before the clock was set.
    pub fn has_unset(&self) -> bool {
        self.has_unset
    }

    /// About how many bytes an append writes.
    pub fn bytes(&self) -> usize {
        let shared: usize =
            self.topics.iter().chain(&self.sources).map(|text| text.len() + 1).sum();
        let header = BATCH_PREFIX_BYTES + 24 + shared;
        let copies = if self.has_copy() { 2 } else { 1 };
        copies * header + self.records.len()
    }

    /// Whether the header is worth a copy: with one message, it is that message which is lost with it.
    fn has_copy(&self) -> bool {
        self.count > 1
    }

    /// The sequence number of the first message.
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// The number behind the last message's.
    pub fn end_seq(&self) -> u64 {
        self.first_seq + self.count
    }

    /// Appends the batch as it stands in a segment.
    pub fn write(&self, gap: u64, arrived: Timestamp, salt: u32, out: &mut Vec<u8>) {
        let mut header = Vec::new();
        put(&mut header, self.first_seq);
        put(&mut header, gap);
        put(&mut header, self.count);
        put(&mut header, self.records.len() as u64);
        put_signed(&mut header, self.base.unix_nanos());
        put_signed(&mut header, arrived.unix_millis());
        for texts in [&self.topics, &self.sources] {
            put(&mut header, texts.len() as u64);
            for text in texts {
                put(&mut header, text.len() as u64);
                header.extend_from_slice(text.as_bytes());
            }
        }
        put_header(out, BATCH_MARK, &header, salt);
        let start = out.len();
        out.extend_from_slice(&self.records);
        salt_records(&mut out[start..], salt);
        if self.has_copy() {
            put_header(out, COPY_MARK, &header, salt);
        }
    }
}

fn put_header(out: &mut Vec<u8>, mark: [u8; 4], header: &[u8], salt: u32) {
    out.extend_from_slice(&mark);
    let len = u16::try_from(header.len()).expect("shared texts are few and short");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&(crc32fast::hash(header) ^ salt).to_le_bytes());
    out.extend_from_slice(header);
}

/// Makes the checksums valid in one segment only.
fn salt_records(records: &mut [u8], salt: u32) {
    let mut at = 0;
    while let Some(prefix) = Prefix::read(&records[at..]) {
        let crc = (prefix.crc ^ salt).to_le_bytes();
        records[at + prefix.len - 4..at + prefix.len].copy_from_slice(&crc);
        at += prefix.total() as usize;
    }
}

/// The place of a text among the shared ones, when there is room for it.
fn share(texts: &mut Vec<Arc<str>>, text: &Arc<str>) -> Option<u64> {
    let found = texts.iter().position(|known| Arc::ptr_eq(known, text) || known == text);
    if found.is_none() && (texts.len() == MOST_SHARED || text.len() > MOST_SHARED_TEXT_BYTES) {
        return None;
    }
    let place = found.unwrap_or_else(|| {
        texts.push(Arc::clone(text));
        texts.len() - 1
    });
    Some(place as u64)
}

/// A place among the shared texts, or the text itself behind a zero.
fn put_text(out: &mut Vec<u8>, place: Option<u64>, text: &str) {
    match place {
        Some(place) => put(out, place + 1),
        None => {
            put(out, 0);
            put(out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// Bytes are kept as they are. A value becomes the bytes that a sink would send: it is read back as
/// these, so that what leaves is the same to the last digit, and nothing is parsed on the way.
fn encode_payload(payload: &Payload) -> (u8, Bytes) {
    match (payload.as_encoded(), payload.value()) {
        (Some((bytes, format)), _) => (kind(format), bytes.clone()),
        (None, Ok(Value::String(_))) => (kind(Format::Text), payload.to_bytes(Format::Text)),
        (None, _) => (kind(Format::Json), payload.to_bytes(Format::Json)),
    }
}

fn kind(format: Format) -> u8 {
    format as u8
}

fn format(kind: u8) -> Option<Format> {
    Format::ALL.into_iter().find(|format| self::kind(*format) == kind)
}

/// What a batch says once for all its records.
pub struct BatchHeader {
    pub first_seq: u64,
    /// How many sequence numbers were skipped on purpose in front of it.
    pub gap: u64,
    pub count: u64,
    /// How many bytes its records take.
    pub records_bytes: u64,
    pub arrived: Timestamp,
    base: Timestamp,
    topics: Vec<Arc<str>>,
    sources: Vec<Arc<str>>,
}

impl BatchHeader {
    pub fn end_seq(&self) -> u64 {
        self.first_seq + self.count
    }

    /// Reads what stands behind the prefix. None when it is not a header.
    pub fn read(mut bytes: &[u8]) -> Option<BatchHeader> {
        let bytes = &mut bytes;
        let header = BatchHeader {
            first_seq: take(bytes)?,
            gap: take(bytes)?,
            count: take(bytes)?,
            records_bytes: take(bytes)?,
            base: Timestamp::from_unix_nanos(take_signed(bytes)?),
            arrived: Timestamp::from_unix_nanos(take_signed(bytes)?.checked_mul(1_000_000)?),
            topics: take_texts(bytes)?,
            sources: take_texts(bytes)?,
        };
        header.first_seq.checked_add(header.count)?;
        (header.gap <= header.first_seq && bytes.is_empty()).then_some(header)
    }

    /// Reads one record. None when it is not a record of this batch, or not in the segment of this
    /// salt.
    pub fn read_record(&self, bytes: &[u8], salt: u32) -> Option<(u64, Message)> {
        let prefix = Prefix::read(bytes)?;
        let bytes = bytes.get(..usize::try_from(prefix.total()).ok()?)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..prefix.len - 4]);
        crc.update(&bytes[prefix.len..]);
        if crc.finalize() ^ salt != prefix.crc {
            return None;
        }
        let rest = &mut &bytes[prefix.len..];
        let index = take(rest).filter(|index| *index < self.count)?;
        let delta = take_signed(rest)?;
        let topic = match prefix.flags & FIRST_TOPIC {
            0 => match take(rest)? {
                0 => take_text(rest)?,
                place => Arc::clone(self.topics.get(place as usize - 1)?),
            },
            _ => Arc::clone(self.topics.first()?),
        };
        let source = match prefix.flags & FIRST_SOURCE {
            0 => match take(rest)? {
                0 => Some(take_text(rest)?),
                1 => None,
                place => Some(Arc::clone(self.sources.get(place as usize - 2)?)),
            },
            _ => Some(Arc::clone(self.sources.first()?)),
        };
        let mut meta = Meta::default();
        if prefix.flags & HAS_META != 0 {
            let json = take_bytes(rest)?;
            let entries: serde_json::Map<String, Value> = serde_json::from_slice(json).ok()?;
            meta = Meta::from_stored(entries);
        }
        meta.source = source;
        let payload =
            Payload::encoded(Bytes::copy_from_slice(rest), format(prefix.flags & KIND_BITS)?);
        let nanos = self.base.unix_nanos().wrapping_add(delta);
        let time = Timestamp::from_unix_nanos(nanos);
        Some((self.first_seq + index, Message { topic, time, payload, meta }))
    }
}

/// What stands in front of a record.
pub struct Prefix {
    flags: u8,
    /// Of the prefix itself.
    len: usize,
    /// Of what follows.
    body: u64,
    crc: u32,
}

impl Prefix {
    /// Reads a prefix. None when there is no record here.
    pub fn read(mut bytes: &[u8]) -> Option<Prefix> {
        let before = bytes.len();
        let (&flags, rest) = bytes.split_first()?;
        if flags & MARK_BITS != MARK {
            return None;
        }
        bytes = rest;
        let body = take(&mut bytes).filter(|body| *body <= u32::MAX.into())?;
        let crc = u32::from_le_bytes(*bytes.first_chunk()?);
        Some(Prefix { flags, len: before - bytes.len() + 4, body, crc })
    }

    /// The length of the whole record.
    pub fn total(&self) -> u64 {
        self.len as u64 + self.body
    }
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
pub fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The sign goes to the lowest bit, so that small negative numbers are short too.
pub fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, ((number << 1) ^ (number >> 63)) as u64);
}

pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7F);
        if (bits << shift) >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

pub fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    let number = take(bytes)?;
    Some((number >> 1) as i64 ^ -((number & 1) as i64))
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn take_text(bytes: &mut &[u8]) -> Option<Arc<str>> {
    Some(std::str::from_utf8(take_bytes(bytes)?).ok()?.into())
}

fn take_texts(bytes: &mut &[u8]) -> Option<Vec<Arc<str>>> {
    let count = take(bytes).filter(|count| *count <= MOST_SHARED as u64)?;
    (0..count).map(|_| take_text(bytes)).collect()
}
