//! Cuts a stream of bytes into the packets of MQTT.

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use forebay_sdk::{Figure, Voice};
use mqtt5::{FixedHeader, MqttError, Packet};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How much is read at a time.
const CHUNK: usize = 4 << 10;
/// A length in a fixed header has up to four bytes (MQTT 5 section 1.5.5).
const LONGEST_LENGTH: usize = 4;

/// The packets of one direction.
pub struct Packets<R> {
    from: R,
    buffer: BytesMut,
    largest: usize,
    /// Hears of the bytes, when they are those of a wire.
    voice: Option<Voice>,
}

impl<R: AsyncRead + Unpin> Packets<R> {
    /// Those that a device sends, up to a size in bytes.
    pub fn of_device(from: R, largest: usize, voice: Voice) -> Packets<R> {
        Packets { from, buffer: BytesMut::new(), largest, voice: Some(voice) }
    }

    /// Those that mqtt5 sends.
    pub fn of_broker(from: R) -> Packets<R> {
        Packets { from, buffer: BytesMut::new(), largest: usize::MAX, voice: None }
    }

    /// The next packet, whole. None when the other side is gone. Dropping the future loses nothing.
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            let length = self.length()?.filter(|length| *length <= self.buffer.len());
            if let Some(length) = length {
                return Ok(Some(self.buffer.split_to(length).freeze()));
            }
            self.buffer.reserve(CHUNK);
            match self.from.read_buf(&mut self.buffer).await? {
                0 => return Ok(None),
                bytes => {
                    if let Some(voice) = &self.voice {
                        voice.count(Figure::BytesIn, bytes as u64);
                    }
                }
            }
        }
    }

    /// The length of the packet at hand, once that is known.
    fn length(&self) -> anyhow::Result<Option<usize>> {
        let mut length = 0;
        for (index, byte) in self.buffer.iter().skip(1).enumerate() {
            if index == LONGEST_LENGTH {
                bail!("it sent a packet whose length has more than four bytes");
            }
            length |= usize::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                if length > self.largest {
                    let largest = self.largest;
                    bail!("it sent a packet of {length} bytes, and `max_packet` is {largest}");
                }
                return Ok(Some(2 + index + length));
            }
        }
        Ok(None)
    }
}

/// What the bytes of a packet say. They are copied: what is kept of them keeps nothing else.
pub fn decode(packet: &[u8], version: u8) -> anyhow::Result<Packet> {
    let mut rest = packet;
    let decode = |rest: &mut &[u8]| -> Result<Packet, MqttError> {
        let header = FixedHeader::decode(rest)?;
        Packet::decode_from_body_with_version(header.packet_type, &header, rest, version)
    };
    decode(&mut rest).context("it sent a packet that is none of MQTT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_are_whole_however_the_bytes_come() {
        let stream: &[u8] = &[0xc0, 0, 0x30, 3, 0, 1, b't', 0xc0, 0];
        let pieces = tokio_stream(stream);
        let mut packets = Packets::of_device(pieces, 100, Voice::unheard());
        let mut got = Vec::new();
        while let Some(packet) = packets.next().await.unwrap() {
            got.push(packet.to_vec());
        }
        assert_eq!(got, [vec![0xc0, 0], vec![0x30, 3, 0, 1, b't'], vec![0xc0, 0]]);
    }

    /// One byte at a time.
    fn tokio_stream(bytes: &'static [u8]) -> impl AsyncRead + Unpin {
        let (mut to, from) = tokio::io::duplex(1);
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut to, bytes).await });
        from
    }

    #[tokio::test]
    async fn what_is_too_long_is_not_read() {
        let error = async |bytes: &'static [u8]| {
            let mut packets = Packets::of_device(bytes, 100, Voice::unheard());
            packets.next().await.unwrap_err().to_string()
        };
        let expected = "it sent a packet of 101 bytes, and `max_packet` is 100";
        assert_eq!(error(&[0x30, 101]).await, expected);
        let expected = "it sent a packet whose length has more than four bytes";
        assert_eq!(error(&[0x30, 0x80, 0x80, 0x80, 0x80, 1]).await, expected);
    }
}
