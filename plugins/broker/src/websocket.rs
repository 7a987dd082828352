//! The bytes of MQTT in the frames of a WebSocket (RFC 6455), as they come: no frame and no message is ever in memory as a
//! whole, so that a packet may be as large here as by TCP alone.
//!
//! The handshake is that of a library, which keeps whole messages.

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use anyhow::{anyhow, bail};
use http::{HeaderValue, header};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio_websockets::ServerBuilder;

/// How much is read at a time, and how much goes into a frame at most, in bytes.
const CHUNK: usize = 4 << 10;
/// No ping is answered while more than that waits to be written, in bytes.
const MOST_UNWRITTEN: usize = 2 * CHUNK;
/// What a connection takes for it, in bytes.
pub const CONNECTION_BYTES: usize = CHUNK + MOST_UNWRITTEN;
/// The longest head of a frame: its kind, its length, and its mask.
const LONGEST_HEAD: usize = 14;
/// The most that a frame carries which is none of a message.
const LONGEST_CONTROL: u64 = 125;

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// A stream of bytes over WebSocket, at the side that was called. Its halves are polled by one task.
pub struct OverWebSocket<S> {
    stream: BufReader<S>,
    /// As much of the head of the next frame as has come.
    head: Vec<u8>,
    /// The frame at hand, without what was read of it.
    frame: Frame,
    /// More frames of the message follow.
    is_within: bool,
    /// Whole frames, without what is written of them.
    unwritten: Vec<u8>,
    has_said_good_bye: bool,
}

/// A frame whose head was read.
#[derive(Default)]
struct Frame {
    opcode: u8,
    left: u64,
    mask: [u8; 4],
    /// What came of one that is none of a message.
    control: Vec<u8>,
}

impl Frame {
    /// Takes the mask away from what comes next.
    fn take(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().zip(self.mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        self.mask.rotate_left(bytes.len() % 4);
        self.left -= bytes.len() as u64;
    }

    fn is_control(&self) -> bool {
        self.opcode >= CLOSE
    }
}

/// Agrees on a WebSocket at a path.
///
/// # Errors
///
/// What the other side does not do.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    path: &str,
) -> anyhow::Result<OverWebSocket<S>> {
    let mqtt = HeaderValue::from_static("mqtt");
    let builder = ServerBuilder::new().add_header(header::SEC_WEBSOCKET_PROTOCOL, mqtt)?;
    let mut stream = BufReader::with_capacity(CHUNK, stream);
    let upgraded = builder.accept(Request { stream: &mut stream, ended: 0 }).await;
    let (request, _) = upgraded.map_err(|error| anyhow!("no WebSocket came about: {error}"))?;
    let asked = request.uri().path();
    if asked != path {
        bail!("it asked for the WebSocket at `{asked}`, and it is at `{path}`");
    }
    Ok(OverWebSocket::new(stream))
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a frame of its WebSocket {why}"))
}

/// Appends a frame.
fn write_frame(to: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    to.push(FIN | opcode);
    match payload.len() {
        short @ 0..=125 => to.push(short as u8),
        long => {
            to.push(126);
            to.extend((long as u16).to_be_bytes());
        }
    }
    to.extend(payload);
}

impl<S: AsyncRead + AsyncWrite + Unpin> OverWebSocket<S> {
    fn new(stream: BufReader<S>) -> OverWebSocket<S> {
        OverWebSocket {
            stream,
            head: Vec::with_capacity(LONGEST_HEAD),
            frame: Frame::default(),
            is_within: false,
            unwritten: Vec::new(),
            has_said_good_bye: false,
        }
    }

    /// Resolves with true when some of a message can be read, and with false at the end.
    fn poll_payload(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            if self.frame.left > 0 && !self.frame.is_control() {
                return Poll::Ready(Ok(true));
            }
            let some = ready!(Pin::new(&mut self.stream).poll_fill_buf(context))?;
            if some.is_empty() {
                return Poll::Ready(Ok(false));
            }
            if self.frame.left > 0 {
                let count = some.len().min(self.frame.left as usize);
                let mut bytes = some[..count].to_vec();
                self.frame.take(&mut bytes);
                self.frame.control.extend(bytes);
                Pin::new(&mut self.stream).consume(count);
            } else {
                self.head.push(some[0]);
                Pin::new(&mut self.stream).consume(1);
                let Some(frame) = self.read_head()? else { continue };
                self.head.clear();
                self.frame = frame;
            }
            if self.frame.left == 0 && self.frame.is_control() && !self.control(context)? {
                return Poll::Ready(Ok(false));
            }
        }
    }

    /// The frame that the head announces. None while it is not all there.
    fn read_head(&mut self) -> io::Result<Option<Frame>> {
        let [first, second, rest @ ..] = &*self.head else { return Ok(None) };
        let (opcode, is_last, length) = (first & 0x0f, first & FIN != 0, second & !MASKED);
        if second & MASKED == 0 {
            return Err(wrong("has no mask"));
        }
        let bytes = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((long, mask)) = rest.split_at_checked(bytes) else { return Ok(None) };
        let Ok(mask) = mask.try_into() else { return Ok(None) };
        let long = long.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let left = if bytes == 0 { length.into() } else { long };
        match opcode {
            _ if first & 0x70 != 0 => return Err(wrong("has a flag that was not agreed on")),
            CONTINUATION if !self.is_within => return Err(wrong("goes on with no message")),
            BINARY if self.is_within => return Err(wrong("begins a message within another")),
            CONTINUATION | BINARY => self.is_within = !is_last,
            CLOSE | PING | PONG if !is_last || left > LONGEST_CONTROL => {
                return Err(wrong("is none of a message, and too long"));
            }
            CLOSE | PING | PONG => (),
            _ => return Err(wrong("is not binary, as those with MQTT are")),
        }
        Ok(Some(Frame { opcode, left, mask, control: Vec::new() }))
    }

    /// Does what a frame asks for that is none of a message. False when it is the last.
    fn control(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let Frame { opcode, control, .. } = mem::take(&mut self.frame);
        match opcode {
            PING if self.unwritten.len() < MOST_UNWRITTEN => {
                write_frame(&mut self.unwritten, PONG, &control);
            }
            CLOSE => self.say_good_bye(&control),
            _ => (),
        }
        if let Poll::Ready(Err(error)) = self.poll_unwritten(context) {
            return Err(error);
        }
        Ok(opcode != CLOSE)
    }

    fn say_good_bye(&mut self, why: &[u8]) {
        if !mem::replace(&mut self.has_said_good_bye, true) {
            write_frame(&mut self.unwritten, CLOSE, why);
        }
    }

    /// Resolves when all is written.
    fn poll_unwritten(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unwritten.is_empty() {
            let write = Pin::new(&mut self.stream).poll_write(context, &self.unwritten);
            let written = ready!(write)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unwritten.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for OverWebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !ready!(self.poll_payload(context))? {
            return Poll::Ready(Ok(()));
        }
        let OverWebSocket { stream, frame, .. } = &mut *self;
        let some = ready!(Pin::new(&mut *stream).poll_fill_buf(context))?;
        let most = usize::try_from(frame.left).unwrap_or(usize::MAX);
        let count = some.len().min(buffer.remaining()).min(most);
        let start = buffer.filled().len();
        buffer.put_slice(&some[..count]);
        frame.take(&mut buffer.filled_mut()[start..]);
        Pin::new(stream).consume(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for OverWebSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unwritten(context))?;
        let some = &bytes[..bytes.len().min(CHUNK)];
        write_frame(&mut self.unwritten, BINARY, some);
        // What does not leave now leaves with what comes, or when it is flushed.
        if let Poll::Ready(Err(error)) = self.poll_unwritten(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(some.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unwritten(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.say_good_bye(&[]);
        ready!(self.poll_unwritten(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// What a request ends with.
const END: &[u8; 4] = b"\r\n\r\n";

/// Has nothing read beyond the end of a request.
struct Request<'a, S> {
    stream: &'a mut BufReader<S>,
    /// How much of its end has come.
    ended: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Request<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Request { stream, ended } = &mut *self;
        let some = ready!(Pin::new(&mut **stream).poll_fill_buf(context))?;
        let most = some.len().min(buffer.remaining());
        let is_last = |byte: &u8| {
            *ended = match END.get(*ended) == Some(byte) {
                true => *ended + 1,
                false => usize::from(*byte == END[0]),
            };
            *ended == END.len()
        };
        let count = some[..most].iter().position(is_last).map_or(most, |at| at + 1);
        buffer.put_slice(&some[..count]);
        Pin::new(&mut **stream).consume(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Request<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
    use tokio_websockets::{ClientBuilder, Limits, Message, WebSocketStream};

    use super::*;

    async fn pair(
        path: &'static str,
        room: usize,
    ) -> (WebSocketStream<DuplexStream>, anyhow::Result<OverWebSocket<DuplexStream>>) {
        let (here, there) = duplex(room);
        let limits = Limits::default().max_payload_len(None);
        let connect = async {
            let builder = ClientBuilder::new().uri(&format!("ws://a{path}")).unwrap();
            builder.limits(limits).connect_on(here).await.unwrap().0
        };
        tokio::join!(connect, accept(there, "/mqtt"))
    }

    #[tokio::test]
    async fn bytes_come_through_however_they_are_cut_into_messages() {
        let mut random = fastrand::Rng::with_seed(1);
        for (room, most) in [(3, 5000), (1000, 70_000), (1 << 20, 300_000)] {
            let (client, server) = pair("/mqtt", room).await;
            let (mut to_server, mut from_server) = client.split();
            let (mut read, mut write) = split(server.unwrap());
            let sizes = [0, 1, 125, 126, 127, 4095, 4096, 4097, 65_535, 65_536, 300_000];
            let sizes = sizes.into_iter().filter(|size| *size <= most);
            let messages: Vec<Vec<u8>> =
                sizes.map(|size| (0..size).map(|_| random.u8(..)).collect()).collect();
            let (up, down) = (messages.concat(), messages.concat());
            let send = async {
                for message in &messages {
                    to_server.send(Message::binary(message.clone())).await.unwrap();
                    to_server.send(Message::ping("are you there")).await.unwrap();
                }
                to_server.send(Message::close(None, "")).await.unwrap();
            };
            let echo = async {
                let mut got = vec![0; up.len()];
                read.read_exact(&mut got).await.unwrap();
                assert!(got == up);
                write.write_all(&down).await.unwrap();
                write.flush().await.unwrap();
                assert_eq!(read.read(&mut [0; 10]).await.unwrap(), 0);
                write.shutdown().await.unwrap();
            };
            // To the end: who is called says good-bye into a pipe that may be full.
            let receive = async {
                let (mut got, mut pongs) = (Vec::new(), 0);
                while let Some(message) = from_server.next().await {
                    let message = message.unwrap();
                    match message {
                        _ if message.is_pong() => pongs += 1,
                        _ if message.is_close() => break,
                        _ => got.extend_from_slice(message.as_payload()),
                    }
                }
                assert!(got == down && pongs > 0);
            };
            tokio::join!(send, echo, receive);
        }
    }

    #[tokio::test]
    async fn another_path_is_none_of_ours() {
        let (_, server) = pair("/other", 1000).await;
        let expected = "it asked for the WebSocket at `/other`, and it is at `/mqtt`";
        assert_eq!(server.err().unwrap().to_string(), expected);
    }

    /// What is read of these frames, and the error.
    async fn read(frames: &[u8]) -> (Vec<u8>, Option<String>) {
        let (mut here, there) = duplex(1 << 20);
        here.write_all(frames).await.unwrap();
        here.shutdown().await.unwrap();
        let mut got = Vec::new();
        let error = OverWebSocket::new(BufReader::new(there)).read_to_end(&mut got).await.err();
        (got, error.map(|error| error.to_string()))
    }

    #[tokio::test]
    async fn frames_of_one_message_are_one_stream_and_wrong_ones_are_told() {
        let mask = [0; 4];
        let frame = |first: u8, payload: &[u8]| {
            [&[first, MASKED | payload.len() as u8], &mask[..], payload].concat()
        };
        let parts =
            [frame(BINARY, b"ab"), frame(FIN | PING, b"?"), frame(0, b""), frame(FIN, b"c")];
        assert_eq!(read(&parts.concat()).await, (b"abc".to_vec(), None));
        let masked = [FIN | BINARY, MASKED | 5, 1, 2, 3, 4, b'h' ^ 1, b'e' ^ 2, b'y' ^ 3, b'!' ^ 4];
        assert_eq!(read(&[&masked[..], &[b'?' ^ 1]].concat()).await, (b"hey!?".to_vec(), None));
        for (why, wrong) in [
            ("has no mask", vec![FIN | BINARY, 1, b'x']),
            ("has a flag that was not agreed on", frame(FIN | 0x40 | BINARY, b"x")),
            ("goes on with no message", frame(FIN, b"x")),
            ("begins a message within another", [frame(BINARY, b""), frame(BINARY, b"")].concat()),
            ("is none of a message, and too long", frame(PING, b"x")),
            (
                "is none of a message, and too long",
                vec![FIN | PING, MASKED | 126, 0, 126, 0, 0, 0, 0],
            ),
            ("is not binary, as those with MQTT are", frame(FIN | 1, b"x")),
            ("is not binary, as those with MQTT are", frame(FIN | 11, b"x")),
        ] {
            let (got, error) = read(&wrong).await;
            assert_eq!((got, error), (Vec::new(), Some(format!("a frame of its WebSocket {why}"))));
        }
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..5000 {
            let bytes: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
            read(&bytes).await;
        }
    }
}
