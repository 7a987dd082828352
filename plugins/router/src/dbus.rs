//! As much of D-Bus as it takes to ask a service of this machine one question: what comes back is JSON.
//!
//! The library that is kept for it, zbus, would bring 21 crates for that one call. What is sent has no arguments; what is
//! read is bounded, and nothing in it is believed.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use forebay_sdk::world::Stream;
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

const LONGEST: Duration = Duration::from_secs(5);
const MOST_BYTES: usize = 1 << 20;
/// Messages that are no answer: signals, and what the bus says of names.
const MOST_OTHERS: usize = 100;
const DEEPEST: usize = 16;

const CALL: u8 = 1;
pub const RETURN: u8 = 2;
const ERROR: u8 = 3;
/// A service that does not run is not started for it.
const NO_START: u8 = 2;
/// Fields of the head of a message.
const REPLY_SERIAL: &str = "5";
const SIGNATURE: &str = "8";

/// A call without arguments.
pub struct Call<'a> {
    pub service: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub method: &'a str,
}

/// Asks a service by way of a bus, and says what it answers.
pub async fn ask(stream: Box<dyn Stream>, call: &Call<'_>) -> anyhow::Result<Value> {
    let asking = async {
        let mut bus = Bus { stream: BufReader::new(stream) };
        bus.enter().await?;
        let hello = Call {
            service: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            method: "Hello",
        };
        bus.call(1, &hello).await.context("entering the bus")?;
        bus.call(2, call).await
    };
    timeout(LONGEST, asking).await.context("waiting for an answer of D-Bus")?
}

struct Bus {
    stream: BufReader<Box<dyn Stream>>,
}

impl Bus {
    /// The bus looks by itself who is at the other end of the socket.
    async fn enter(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\n").await?;
        for expected in ["DATA", "OK"] {
            let mut line = Vec::new();
            (&mut self.stream).take(1000).read_until(b'\n', &mut line).await?;
            let line = String::from_utf8_lossy(&line);
            ensure!(line.starts_with(expected), "the bus does not let us in: {}", line.trim());
        }
        self.stream.write_all(b"BEGIN\r\n").await?;
        Ok(())
    }

    async fn call(&mut self, serial: u32, call: &Call<'_>) -> anyhow::Result<Value> {
        self.stream.write_all(&written(serial, call)).await?;
        for _ in 0..MOST_OTHERS {
            let message = self.message().await?;
            if message.replies_to != Some(serial) {
                continue;
            }
            let mut values = message.values;
            match message.kind {
                RETURN if values.is_empty() => return Ok(Value::Null),
                RETURN => return Ok(values.swap_remove(0)),
                ERROR => {
                    let why = values.first().and_then(Value::as_str).unwrap_or("it fails");
                    bail!("{} {}: {why}", call.service, call.method);
                }
                _ => (),
            }
        }
        bail!("{} does not answer", call.service)
    }

    async fn message(&mut self) -> anyhow::Result<Message> {
        // As long as it takes to know how long the rest is.
        let mut bytes = vec![0; 16];
        self.stream.read_exact(&mut bytes).await?;
        let mut head = Reader::new(&bytes)?;
        head.at = 4;
        let body = usize::try_from(head.number::<4>()?)?;
        head.at = 12;
        let fields = usize::try_from(head.number::<4>()?)?;
        ensure!(fields <= MOST_BYTES && body <= MOST_BYTES, "a message of D-Bus is too long");
        bytes.resize((16 + fields).next_multiple_of(8) + body, 0);
        self.stream.read_exact(&mut bytes[16..]).await?;
        Message::read(&bytes)
    }
}

/// What comes over a bus.
pub struct Message {
    pub kind: u8,
    replies_to: Option<u32>,
    pub values: Vec<Value>,
}

impl Message {
    pub fn read(bytes: &[u8]) -> anyhow::Result<Message> {
        let mut reader = Reader::new(bytes)?;
        reader.at = 12;
        let fields = reader.value(b"a{yv}", DEEPEST)?;
        reader.align(8)?;
        let replies_to = fields.get(REPLY_SERIAL).and_then(Value::as_u64);
        let mut left = fields.get(SIGNATURE).and_then(Value::as_str).unwrap_or_default().as_bytes();
        let mut values = Vec::new();
        while !left.is_empty() {
            let (first, rest) = split(left)?;
            values.push(reader.value(first, DEEPEST)?);
            left = rest;
        }
        let replies_to = replies_to.and_then(|serial| u32::try_from(serial).ok());
        Ok(Message { kind: bytes[1], replies_to, values })
    }
}

/// Reads values from the bytes of a message.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big_endian: bool,
}

impl Reader<'_> {
    fn new(bytes: &[u8]) -> anyhow::Result<Reader<'_>> {
        let is_big_endian = match bytes {
            [b'l', _, _, 1, ..] => false,
            [b'B', _, _, 1, ..] => true,
            _ => bail!("what comes is no message of D-Bus"),
        };
        Ok(Reader { bytes, at: 0, is_big_endian })
    }

    fn align(&mut self, to: usize) -> anyhow::Result<()> {
        let at = self.at.next_multiple_of(to);
        self.take(at - self.at).map(drop)
    }

    fn take(&mut self, count: usize) -> anyhow::Result<&[u8]> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.context("a message of D-Bus ends too early")?;
        self.at += count;
        Ok(taken)
    }

    /// A whole number without a sign, which stands where a number of its size does.
    fn number<const SIZE: usize>(&mut self) -> anyhow::Result<u64> {
        self.align(SIZE)?;
        let is_big_endian = self.is_big_endian;
        let mut bytes = [0; 8];
        bytes[..SIZE].copy_from_slice(self.take(SIZE)?);
        if is_big_endian {
            bytes[..SIZE].reverse();
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn text(&mut self, length: u64) -> anyhow::Result<String> {
        let bytes = self.take(usize::try_from(length)?)?.to_vec();
        self.take(1)?;
        Ok(String::from_utf8(bytes)?)
    }

    /// A value of one type.
    fn value(&mut self, kind: &[u8], depth: usize) -> anyhow::Result<Value> {
        let depth = depth.checked_sub(1).context("values of D-Bus inside of too many others")?;
        Ok(match kind.first() {
            Some(b'y') => self.number::<1>()?.into(),
            Some(b'b') => (self.number::<4>()? != 0).into(),
            Some(b'q') => self.number::<2>()?.into(),
            Some(b'n') => (self.number::<2>()? as u16).cast_signed().into(),
            Some(b'u' | b'h') => self.number::<4>()?.into(),
            Some(b'i') => (self.number::<4>()? as u32).cast_signed().into(),
            Some(b't') => self.number::<8>()?.into(),
            Some(b'x') => self.number::<8>()?.cast_signed().into(),
            Some(b'd') => f64::from_bits(self.number::<8>()?).into(),
            Some(b's' | b'o') => {
                let length = self.number::<4>()?;
                self.text(length)?.into()
            }
            Some(b'g') => {
                let length = self.number::<1>()?;
                self.text(length)?.into()
            }
            Some(b'v') => {
                let length = self.number::<1>()?;
                let kind = self.text(length)?;
                let (kind, rest) = split(kind.as_bytes())?;
                ensure!(rest.is_empty(), "a variant of D-Bus has two types");
                self.value(kind, depth)?
            }
            Some(b'(') => {
                self.align(8)?;
                let mut left = &kind[1..kind.len() - 1];
                let mut values = Vec::new();
                while !left.is_empty() {
                    let (first, rest) = split(left)?;
                    values.push(self.value(first, depth)?);
                    left = rest;
                }
                values.into()
            }
            Some(b'a') => self.array(&kind[1..], depth)?,
            _ => bail!("a type that D-Bus does not have"),
        })
    }

    /// A list, or a map when it is one of entries.
    fn array(&mut self, kind: &[u8], depth: usize) -> anyhow::Result<Value> {
        let length = usize::try_from(self.number::<4>()?)?;
        self.align(alignment(kind))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.context("a list of D-Bus ends too late")?;
        let entry = match kind {
            [b'{', inner @ .., b'}'] => Some(split(inner)?),
            _ => None,
        };
        let (mut list, mut map) = (Vec::new(), Map::new());
        while self.at < end {
            let begins = self.at;
            match entry {
                Some((key, value)) => {
                    self.align(8)?;
                    let key = match self.value(key, depth)? {
                        Value::String(key) => key,
                        other => other.to_string(),
                    };
                    map.insert(key, self.value(value, depth)?);
                }
                None => list.push(self.value(kind, depth)?),
            }
            ensure!(self.at > begins, "a list of nothing");
        }
        ensure!(self.at == end, "a list of D-Bus ends in the midst of a value");
        Ok(if entry.is_some() { map.into() } else { list.into() })
    }
}

/// The first type of a signature, and those behind it.
fn split(signature: &[u8]) -> anyhow::Result<(&[u8], &[u8])> {
    let mut open = 0_usize;
    for (at, letter) in signature.iter().enumerate() {
        match letter {
            b'(' | b'{' => open += 1,
            b')' | b'}' => open = open.checked_sub(1).context("a signature of D-Bus is none")?,
            _ => (),
        }
        if open == 0 && *letter != b'a' {
            return Ok(signature.split_at(at + 1));
        }
    }
    bail!("a signature of D-Bus ends too early")
}

fn alignment(kind: &[u8]) -> usize {
    match kind.first() {
        Some(b'y' | b'g' | b'v') | None => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        Some(_) => 4,
    }
}

/// A call, in the order of bytes of most machines.
fn written(serial: u32, call: &Call<'_>) -> Vec<u8> {
    let mut fields = Vec::new();
    for (code, kind, text) in [
        (1, b'o', call.path),
        (2, b's', call.interface),
        (3, b's', call.method),
        (6, b's', call.service),
    ] {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend([code, 1, kind, 0]);
        fields.extend((text.len() as u32).to_le_bytes());
        fields.extend(text.as_bytes());
        fields.push(0);
    }
    let mut message = vec![b'l', CALL, NO_START, 1, 0, 0, 0, 0];
    message.extend(serial.to_le_bytes());
    message.extend((fields.len() as u32).to_le_bytes());
    message.extend(fields);
    message.resize(message.len().next_multiple_of(8), 0);
    message
}
