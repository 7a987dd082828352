//! How payloads stand in what is sent and received: written in a format, and packed. For every plugin
//! that carries bytes, so that all of them read and write alike.

use std::io::{self, ErrorKind, Read, Write};

use anyhow::{Context, bail};
use bytes::Bytes;
use flate2::{
    bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder},
    write::{GzEncoder, ZlibEncoder},
};
use ruzstd::{decoding::StreamingDecoder, encoding};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::payload::{Format, Payload};

/// The most bytes that come out of what was packed, where the plugin has no limit of its own.
pub const MOST_UNPACKED: usize = 4 << 20;

/// The largest window of zstd, as its standard wants every decoder to have: so much memory is taken
/// whatever comes out.
const LARGEST_WINDOW: u64 = 8 << 20;

/// How bytes are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As the program of that name does.
    Gzip,
    /// Zstandard.
    Zstd,
    /// As `deflate` means in HTTP: the zlib format. Without its frame it is read too.
    Deflate,
}

/// How a node reads or writes payloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coding {
    /// What the bytes are once they are unpacked.
    pub format: Format,
    /// How they are packed. Not at all when None.
    pub compression: Option<Compression>,
}

impl Coding {
    /// A payload of bytes that came in. What was packed is unpacked now, up to `most` bytes; the rest is
    /// read when somebody first asks for the value.
    ///
    /// # Errors
    ///
    /// When the bytes are not packed in the way that they should be, or hold more than that.
    pub fn read(self, bytes: impl Into<Bytes>, most: usize) -> anyhow::Result<Payload> {
        let bytes = bytes.into();
        let bytes = match self.compression {
            None => bytes,
            Some(compression) => compression.unpack(&bytes, most)?.into(),
        };
        Ok(Payload::encoded(bytes, self.format))
    }

    /// A payload as bytes to send.
    ///
    /// # Errors
    ///
    /// When it came as bytes that cannot be read, so that they cannot be written in another format.
    pub fn write(self, payload: &Payload) -> anyhow::Result<Bytes> {
        let bytes = payload.written(self.format)?;
        Ok(self.pack(bytes))
    }

    /// Packs what was written already.
    pub fn pack(self, bytes: Bytes) -> Bytes {
        match self.compression {
            None => bytes,
            Some(compression) => compression.pack(&bytes).into(),
        }
    }
}

/// Packs a stream in gzip, each piece so that it can be read as soon as it is there. It holds some 300 KB.
pub struct GzipStream(GzEncoder<Vec<u8>>);

impl Default for GzipStream {
    fn default() -> GzipStream {
        GzipStream(GzEncoder::new(Vec::new(), flate2::Compression::default()))
    }
}

impl GzipStream {
    /// The next piece, packed.
    pub fn pack(&mut self, piece: &[u8]) -> Vec<u8> {
        let GzipStream(packer) = self;
        packer.write_all(piece).and_then(|()| packer.flush()).expect("memory takes all");
        std::mem::take(packer.get_mut())
    }
}

impl Compression {
    /// As users write it, and as HTTP calls it.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Deflate => "deflate",
        }
    }

    /// Packs bytes.
    pub fn pack(self, bytes: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::default();
        let packed = match self {
            Compression::Gzip => {
                let mut out = GzEncoder::new(Vec::new(), level);
                out.write_all(bytes).and_then(|()| out.finish())
            }
            Compression::Deflate => {
                let mut out = ZlibEncoder::new(Vec::new(), level);
                out.write_all(bytes).and_then(|()| out.finish())
            }
            Compression::Zstd => {
                Ok(encoding::compress_to_vec(bytes, encoding::CompressionLevel::Fastest))
            }
        };
        packed.expect("memory takes all that is written")
    }

    /// Unpacks bytes, up to `most` of them.
    ///
    /// # Errors
    ///
    /// When they are not packed so, were damaged, or hold more.
    pub fn unpack(self, bytes: &[u8], most: usize) -> anyhow::Result<Vec<u8>> {
        let unpacked = match self {
            Compression::Gzip => read(MultiGzDecoder::new(bytes), most),
            Compression::Deflate if has_zlib_frame(bytes) => read(ZlibDecoder::new(bytes), most),
            Compression::Deflate => read(DeflateDecoder::new(bytes), most),
            Compression::Zstd => unpack_zstd(bytes, most),
        };
        let unpacked =
            unpacked.with_context(|| format!("payload cannot be unpacked as {}", self.name()))?;
        if unpacked.len() > most {
            bail!("payload unpacks to more than {most} bytes");
        }
        Ok(unpacked)
    }
}

/// One byte more than `most` tells that there are more.
fn read(unpacked: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    unpacked.take(most as u64 + 1).read_to_end(&mut out)?;
    Ok(out)
}

/// One frame after the other.
fn unpack_zstd(bytes: &[u8], most: usize) -> io::Result<Vec<u8>> {
    let mut rest = bytes;
    let mut out = Vec::new();
    loop {
        let frame = StreamingDecoder::new_with_max_window_size(&mut rest, LARGEST_WINDOW);
        let frame =
            frame.map_err(|error| io::Error::new(ErrorKind::InvalidData, error.to_string()));
        out.extend(read(frame?, most - out.len())?);
        if rest.is_empty() || out.len() > most {
            return Ok(out);
        }
    }
}

/// Whether it begins as RFC 1950 says. Bytes without the frame begin so only by a rare chance.
fn has_zlib_frame(bytes: &[u8]) -> bool {
    match bytes {
        [method, flags, ..] => {
            method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use flate2::write::DeflateEncoder;

    use super::*;

    const ALL: [Compression; 3] = [Compression::Gzip, Compression::Zstd, Compression::Deflate];

    fn readings(count: usize) -> Vec<u8> {
        (0..count)
            .flat_map(|n| format!("{{\"flow\":{}.5,\"t\":{n}}}", n % 7).into_bytes())
            .collect()
    }

    #[test]
    fn what_was_packed_comes_back_and_was_smaller() {
        for compression in ALL {
            for count in [0, 1, 100, 20_000] {
                let bytes = readings(count);
                let packed = compression.pack(&bytes);
                assert!(count < 100 || packed.len() < bytes.len() / 2, "{compression:?} {count}");
                assert_eq!(compression.unpack(&packed, bytes.len()).unwrap(), bytes);
            }
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        for compression in ALL {
            let packed = compression.pack(&vec![0; 50 << 20]);
            let error = compression.unpack(&packed, 1 << 20).unwrap_err().to_string();
            assert_eq!(error, "payload unpacks to more than 1048576 bytes");
        }
    }

    #[test]
    fn what_is_damaged_or_not_packed_is_refused() {
        for compression in ALL {
            let packed = compression.pack(&readings(100));
            for bytes in [&packed[..packed.len() / 2], b"{\"a\":1}", b"", b"\x1f\x8b"] {
                let error = compression.unpack(bytes, 1 << 20).unwrap_err().to_string();
                assert_eq!(error, format!("payload cannot be unpacked as {}", compression.name()));
            }
        }
    }

    #[test]
    fn several_parts_in_a_row_are_one_payload() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let both = [compression.pack(b"one "), compression.pack(b"two")].concat();
            assert_eq!(compression.unpack(&both, 7).unwrap(), b"one two");
        }
    }

    #[test]
    fn deflate_without_its_frame_was_refused() {
        let mut out = DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(b"{\"a\":1}").unwrap();
        let bytes = out.finish().unwrap();
        assert_eq!(Compression::Deflate.unpack(&bytes, 99).unwrap(), b"{\"a\":1}");
    }
}
