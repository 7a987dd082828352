//! MQTT 3.1.1 by hand, as little of it as the crowd needs.

use std::io;

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// How much is read at a time.
const CHUNK: usize = 64 << 10;

/// What a broker sends.
pub enum Packet<'a> {
    /// The packet id is 0 at QoS 0.
    Publish {
        id: u16,
        payload: &'a [u8],
    },
    PubAck,
    Other,
}

/// What is read from one connection.
pub struct Reading {
    from: OwnedReadHalf,
    buffer: Vec<u8>,
    start: usize,
}

/// Connects, and waits for the broker's word.
pub async fn connect(
    port: u16,
    id: &str,
    clean: bool,
) -> anyhow::Result<(Reading, OwnedWriteHalf)> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.context("connecting")?;
    stream.set_nodelay(true)?;
    let (from, mut to) = stream.into_split();
    let mut body = b"\0\x04MQTT\x04".to_vec();
    body.extend([u8::from(clean) << 1, 0, 0]);
    text(&mut body, id);
    let mut bytes = Vec::new();
    packet(&mut bytes, 0x10, &body);
    to.write_all(&bytes).await?;
    let mut reading = Reading { from, buffer: Vec::new(), start: 0 };
    reading.skip().await.context("the broker does not let it in")?;
    Ok((reading, to))
}

/// Subscribes, and waits for the broker's word.
pub async fn subscribe(
    reading: &mut Reading,
    to: &mut OwnedWriteHalf,
    filter: &str,
    qos: u8,
) -> anyhow::Result<()> {
    let mut body = vec![0, 1];
    text(&mut body, filter);
    body.push(qos);
    let mut bytes = Vec::new();
    packet(&mut bytes, 0x82, &body);
    to.write_all(&bytes).await?;
    reading.skip().await
}

/// Appends a message.
pub fn publish(bytes: &mut Vec<u8>, topic: &str, qos: u8, id: u16, payload: &[u8]) {
    let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
    text(&mut body, topic);
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(payload);
    packet(bytes, 0x30 | qos << 1, &body);
}

/// Appends an acknowledgement.
pub fn acknowledge(bytes: &mut Vec<u8>, id: u16) {
    bytes.extend([0x40, 2]);
    bytes.extend(id.to_be_bytes());
}

impl Reading {
    /// Waits for some bytes, and gives each whole packet of them to `take`.
    pub async fn read(&mut self, mut take: impl FnMut(Packet<'_>)) -> anyhow::Result<()> {
        self.fill().await?;
        while let Some((first, body, end)) = whole(&self.buffer[self.start..]) {
            let body = self.start + body..self.start + end;
            take(packet_of(first, &self.buffer[body])?);
            self.start += end;
        }
        Ok(())
    }

    /// Waits for one packet, which must be a good one.
    async fn skip(&mut self) -> anyhow::Result<()> {
        loop {
            if let Some((first, body, end)) = whole(&self.buffer[self.start..]) {
                let last = self.buffer[self.start + body..self.start + end].last().copied();
                self.start += end;
                if first == 0x20 && last != Some(0) || first == 0x90 && last >= Some(0x80) {
                    bail!("refused: {last:?}");
                }
                return Ok(());
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let had = self.buffer.len();
        self.buffer.resize(had + CHUNK, 0);
        let got = self.from.read(&mut self.buffer[had..]).await?;
        self.buffer.truncate(had + got);
        if got == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

fn packet_of(first: u8, body: &[u8]) -> anyhow::Result<Packet<'_>> {
    let qos = first >> 1 & 3;
    match first >> 4 {
        3 => {
            let [high, low, rest @ ..] = body else { bail!("a short message") };
            let (_, rest) = rest
                .split_at_checked(u16::from_be_bytes([*high, *low]).into())
                .context("a short message")?;
            match (qos, rest) {
                (0, payload) => Ok(Packet::Publish { id: 0, payload }),
                (_, [high, low, payload @ ..]) => {
                    Ok(Packet::Publish { id: u16::from_be_bytes([*high, *low]), payload })
                }
                _ => bail!("a short message"),
            }
        }
        4 => Ok(Packet::PubAck),
        _ => Ok(Packet::Other),
    }
}

/// The first byte of a packet, and where its body begins and ends. None when it is not all there.
fn whole(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let mut length = 0;
    for (at, byte) in bytes.iter().enumerate().skip(1).take(4) {
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if *byte < 0x80 {
            let end = at + 1 + length;
            return (end <= bytes.len()).then_some((bytes[0], at + 1, end));
        }
    }
    None
}

fn packet(bytes: &mut Vec<u8>, first: u8, body: &[u8]) {
    bytes.push(first);
    let mut length = body.len();
    while length > 127 {
        bytes.push(length as u8 & 0x7f | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(body);
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u16).to_be_bytes());
    bytes.extend(text.as_bytes());
}
