//! MQTT 3.1.1 by hand, as fast as one thread can: many packets in one read and in one write.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use forebay_peers::reading;

/// One connection to the broker.
pub struct Wire {
    pub stream: TcpStream,
    input: Vec<u8>,
    /// How much of the input was handed out.
    taken: usize,
    pub output: Vec<u8>,
    next_packet: u16,
}

/// What came.
pub enum Packet<'a> {
    Publish { packet: u16, payload: &'a [u8] },
    /// The broker has taken a message of QoS 1.
    PubAck,
    Other,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 256 * 1024;

impl Wire {
    /// Connects, and waits for the answer.
    pub fn connect(port: u16, client_id: &str) -> anyhow::Result<Wire> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("connecting to the broker")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        let mut wire =
            Wire { stream, input: Vec::new(), taken: 0, output: Vec::new(), next_packet: 0 };
        // MQTT 3.1.1, clean session, no keep-alive.
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0];
        text(&mut body, client_id);
        packet(&mut wire.output, 0x10, &body);
        wire.exchange(&[0x20, 2, 0, 0])?;
        Ok(wire)
    }

    pub fn subscribe(&mut self, topic: &str, qos: u8) -> anyhow::Result<()> {
        let mut body = vec![0, 1];
        text(&mut body, topic);
        body.push(qos);
        packet(&mut self.output, 0x82, &body);
        self.exchange(&[0x90, 3, 0, 1, qos])
    }

    /// From now on reads and writes do what they can at once.
    pub fn go_on_without_waiting(&self) -> anyhow::Result<()> {
        Ok(self.stream.set_nonblocking(true)?)
    }

    fn exchange(&mut self, expected: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        let mut answer = vec![0; expected.len()];
        self.stream.read_exact(&mut answer).context("waiting for the broker's answer")?;
        ensure!(answer == expected, "the broker answered {answer:?}, not {expected:?}");
        Ok(())
    }

    /// Adds a publication of a reading to what is to be written.
    pub fn publish(&mut self, topic: &str, qos: u8, number: u64, sent_micros: u64) {
        let packet_bytes = if qos > 0 { 2 } else { 0 };
        let remaining = 2 + topic.len() + packet_bytes + reading::SIZE_BYTES;
        self.output.push(0x30 | qos << 1);
        length(&mut self.output, remaining);
        text(&mut self.output, topic);
        if qos > 0 {
            self.next_packet = self.next_packet.checked_add(1).unwrap_or(1);
            self.output.extend_from_slice(&self.next_packet.to_be_bytes());
        }
        reading::write(&mut self.output, number, sent_micros);
    }

    pub fn acknowledge(&mut self, packet: u16) {
        let [high, low] = packet.to_be_bytes();
        self.output.extend_from_slice(&[0x40, 2, high, low]);
    }

    /// Writes what the system takes.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(written) => {
                    self.output.drain(..written);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("writing to the broker"),
            }
        }
        Ok(())
    }

    /// Reads what there is. False when there is nothing.
    pub fn fill(&mut self) -> anyhow::Result<bool> {
        self.input.drain(..self.taken);
        self.taken = 0;
        let before = self.input.len();
        self.input.resize(before + READ_BYTES, 0);
        let outcome = self.stream.read(&mut self.input[before..]);
        let count = match outcome {
            Ok(0) => bail!("the broker closed the connection"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error).context("reading from the broker"),
        };
        self.input.truncate(before + count);
        Ok(count > 0)
    }

    /// The next whole packet that was read.
    pub fn next(&mut self) -> Option<Packet<'_>> {
        let input = &self.input[self.taken..];
        let (first, mut remaining, mut header) = (*input.first()?, 0, 1);
        loop {
            let byte = *input.get(header)?;
            remaining |= usize::from(byte & 0x7f) << (7 * (header - 1));
            header += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let body = input.get(header..header + remaining)?;
        self.taken += header + remaining;
        Some(match first >> 4 {
            3 => {
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let body = &body[2 + topic..];
                match first >> 1 & 3 {
                    0 => Packet::Publish { packet: 0, payload: body },
                    _ => {
                        let packet = u16::from_be_bytes([body[0], body[1]]);
                        Packet::Publish { packet, payload: &body[2..] }
                    }
                }
            }
            4 => Packet::PubAck,
            _ => Packet::Other,
        })
    }
}

fn packet(to: &mut Vec<u8>, first: u8, body: &[u8]) {
    to.push(first);
    length(to, body.len());
    to.extend_from_slice(body);
}

fn length(to: &mut Vec<u8>, mut length: usize) {
    loop {
        let more = length > 0x7f;
        to.push((length & 0x7f) as u8 | u8::from(more) << 7);
        length >>= 7;
        if !more {
            return;
        }
    }
}

fn text(to: &mut Vec<u8>, text: &str) {
    to.extend_from_slice(&(text.len() as u16).to_be_bytes());
    to.extend_from_slice(text.as_bytes());
}
