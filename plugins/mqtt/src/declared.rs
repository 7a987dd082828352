//! A connection that says in its CONNECT that a bridge comes: bit 7 of the protocol level is set, as
//! Mosquitto's bridges do. rumqttc does not know it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How far behind the end of the remaining length the protocol level stands: behind `MQTT` and its length.
const LEVEL_BEHIND: usize = 7;
const BRIDGE: u8 = 0x80;

/// A byte stream whose first packet is a CONNECT.
pub struct Declared<S> {
    stream: S,
    connect: Connect,
}

/// How far the CONNECT is written, up to its protocol level.
#[derive(Default)]
struct Connect {
    written: usize,
    /// Where its level stands, once that is known.
    level_at: Option<usize>,
}

impl Connect {
    fn is_declared(&self) -> bool {
        self.level_at.is_some_and(|level| self.written > level)
    }

    /// The next bytes as they are to be written.
    fn declare(&self, bytes: &[u8]) -> Vec<u8> {
        let mut declared = bytes.to_vec();
        if let Some(byte) = self.level_in(bytes) {
            declared[byte] |= BRIDGE;
        }
        declared
    }

    /// Where the level stands in the next bytes.
    fn level_in(&self, bytes: &[u8]) -> Option<usize> {
        let level = self.level_at.or_else(|| self.find_level(bytes))?;
        level.checked_sub(self.written).filter(|within| *within < bytes.len())
    }

    /// The remaining length ends with the first byte behind the packet's type that does not say that
    /// another one follows.
    fn find_level(&self, bytes: &[u8]) -> Option<usize> {
        let mut numbered = bytes.iter().zip(self.written..);
        let ends = |(byte, at): &(&u8, usize)| *at > 0 && **byte & 0x80 == 0;
        numbered.find(ends).map(|(_, at)| at + LEVEL_BEHIND)
    }

    fn wrote(&mut self, bytes: &[u8]) {
        self.level_at = self.level_at.or_else(|| self.find_level(bytes));
        self.written += bytes.len();
    }
}

impl<S> Declared<S> {
    /// Nothing was written to the stream yet.
    pub fn new(stream: S) -> Declared<S> {
        Declared { stream, connect: Connect::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Declared<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Declared<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.connect.is_declared() {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        let declared = self.connect.declare(bytes);
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, &declared))?;
        self.connect.wrote(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// A CONNECT with a client id so long that its length takes this many bytes.
    fn connect(length_bytes: &[u8]) -> Vec<u8> {
        let head = [&[0x10], length_bytes, b"\x00\x04MQTT\x04\x02\x00\x3c"].concat();
        [head, vec![0x04; 300]].concat()
    }

    #[tokio::test]
    async fn only_the_level_of_connect_says_that_a_bridge_comes() {
        for length in [&[0x7f][..], &[0x84, 0x02], &[0x84, 0x80, 0x04]] {
            for most in [1, 3, 9, 64, 1000] {
                let (near, mut far) = duplex(most);
                let mut declared = Declared::new(near);
                let sent = connect(length);
                let mut wanted = sent.clone();
                wanted[length.len() + LEVEL_BEHIND] = 0x84;
                let write = async {
                    declared.write_all(&sent).await.unwrap();
                    declared.shutdown().await.unwrap();
                };
                let mut got = Vec::new();
                let (_, read) = tokio::join!(write, far.read_to_end(&mut got));
                read.unwrap();
                assert_eq!(got, wanted);
            }
        }
    }
}
