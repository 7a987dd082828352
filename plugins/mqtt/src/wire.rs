//! The byte stream to a broker, with TLS or without. It counts bytes, stops reading while nobody has
//! room, and throws away what is too large.

use std::{
    collections::HashSet,
    io::{self, IoSlice},
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use forebay_sdk::{
    Endpoint, Figure, Size, Voice, World,
    tls::rustls::{ClientConfig, pki_types::ServerName},
    world::{Dial, Via},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};
use tokio_rustls::TlsConnector;

use crate::{
    address::WebSocket,
    declared::Declared,
    frames::{Frames, ThrownAway},
    gate::Gate,
    websocket::upgrade,
    words::{Mismatch, Unanswered},
};

/// Packet ids of messages that were too large and that came without their payload.
pub type Beheaded = Arc<Mutex<HashSet<u16>>>;

/// The broker's word on the connection itself.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Word>>);

#[derive(Default)]
struct Word {
    /// Its last CONNACK or DISCONNECT, as it came.
    packet: Vec<u8>,
    /// The keep-alive that it wants in the place of ours.
    keep_alive: Option<Duration>,
}

impl Told {
    /// The packet, or nothing.
    pub fn packet(&self) -> Vec<u8> {
        self.lock().packet.clone()
    }

    /// The broker wants another keep-alive.
    pub fn keep_alive(&self, wanted: Option<Duration>) {
        self.lock().keep_alive = wanted;
    }

    fn lock(&self) -> MutexGuard<'_, Word> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the packets of [`Told`] begin.
const CONNACK: u8 = 0x20;
const DISCONNECT: u8 = 0xe0;

/// How long what was sent may stay unconfirmed: half a keep-alive within these bounds. Below the first a
/// slow mobile link looks dead.
const SHORTEST_SILENCE: Duration = Duration::from_secs(30);
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
/// How long a link without pings may be idle before TCP asks whether the other side is there. An
/// address translation on the way forgets it after some five minutes.
const PROBE_AFTER: Duration = Duration::from_secs(240);
/// The least time that a broker has to answer a ping.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(1);
/// How much is read from the system at once.
const CHUNK_BYTES: usize = 16 << 10;
/// After so much, who reads gets to see what came before there is more: only then is it known
/// whether there is still room.
const MOST_AT_ONCE: usize = 256 << 10;
/// How the answer of a server begins that expected TLS: with an alert. No packet of MQTT that a
/// broker sends does so.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];
/// Our ping, and the broker's answer (MQTT 3.1.1 sections 3.12 and 3.13).
const PINGREQ: [u8; 2] = [0xc0, 0];
const PINGRESP: [u8; 2] = [0xd0, 0];

/// The way to a broker.
#[derive(Clone)]
pub struct Way {
    pub world: World,
    pub broker: Endpoint,
    /// How long the line may be silent.
    pub keep_alive: Duration,
    /// By way of whom.
    pub via: Via,
    /// None without TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// The name that the server is to have. That of the host when None.
    pub server_name: Option<String>,
    /// None without WebSocket.
    pub websocket: Option<WebSocket>,
    /// The largest packet that is taken; what is larger is thrown away. None with MQTT 5, in which the
    /// broker is asked not to send it.
    pub max_packet: Option<Size>,
    /// Whether to read.
    pub gate: Arc<Gate>,
    /// Which messages were too large.
    pub beheaded: Beheaded,
    /// What the broker says of the connection.
    pub told: Told,
    /// Whether CONNECT says that a bridge connects.
    pub is_bridge: bool,
    /// Hears of the bytes.
    pub voice: Voice,
}

impl Way {
    /// Connects to the first of the host's addresses that answers.
    ///
    /// What was sent and is not confirmed within half a keep-alive ends the connection: MQTT's own pings
    /// do not notice a silent link while something is being written. Without them, TCP sends its own.
    pub async fn open(self) -> io::Result<Wire> {
        let silence = (self.keep_alive / 2).clamp(SHORTEST_SILENCE, LONGEST_SILENCE);
        let dial = Dial {
            to: self.broker.clone(),
            via: self.via.clone(),
            silence: Some(silence),
            probe_after: self.keep_alive.is_zero().then_some(PROBE_AFTER),
        };
        let plain = self.world.connect(dial).await?;
        let stream: Box<dyn Bytes> = match &self.tls {
            None => Box::new(plain),
            Some(config) => {
                let name = server_name(self.server_name.as_deref(), &self.broker)?;
                let handshake = TlsConnector::from(Arc::clone(config)).connect(name, plain);
                Box::new(handshake.await.map_err(cut)?)
            }
        };
        let stream: Box<dyn Bytes> = match &self.websocket {
            None => stream,
            Some(websocket) => Box::new(upgrade(stream, websocket).await?),
        };
        let stream: Box<dyn Bytes> = match self.is_bridge {
            true => Box::new(Declared::new(stream)),
            false => stream,
        };
        Ok(Wire {
            stream,
            frames: Frames::new(self.max_packet.map_or(u64::MAX, |most| most.0)),
            is_told: false,
            chunk: vec![0; CHUNK_BYTES].into(),
            came: 0..0,
            passed: Vec::new(),
            passed_at: 0,
            since_break: 0,
            closed: None,
            heard_at: Instant::now(),
            pinged: None,
            own_ping: &[],
            is_between_packets: true,
            write_error: None,
            way: self,
        })
    }
}

/// The name that a server is to have.
pub fn server_name(told: Option<&str>, broker: &Endpoint) -> io::Result<ServerName<'static>> {
    let name = told.unwrap_or(broker.host_without_zone()).to_owned();
    ServerName::try_from(name).map_err(io::Error::other)
}

/// An end within the handshake is most often that of a broker that understood nothing.
pub fn cut(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => io::Error::other(Mismatch::HandshakeCut),
        _ => error,
    }
}

/// Bytes in both directions.
pub trait Bytes: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Bytes for T {}

/// A byte stream that tells how much goes over it, without what TLS adds.
pub struct Wire {
    stream: Box<dyn Bytes>,
    way: Way,
    frames: Frames,
    chunk: Box<[u8]>,
    /// Which bytes of the chunk are yet to be looked at.
    came: Range<usize>,
    /// What may be read,
    passed: Vec<u8>,
    /// and where the rest of it begins.
    passed_at: usize,
    since_break: usize,
    /// Whether the packet at hand is one of [`Told`].
    is_told: bool,
    /// While the gate is closed: when a ping is answered next.
    closed: Option<Pin<Box<Sleep>>>,
    /// When something came last.
    heard_at: Instant,
    /// While a ping is on its way and nothing has come since: until when something must.
    pinged: Option<Pin<Box<Sleep>>>,
    /// What of a ping of our own is yet to be written.
    own_ping: &'static [u8],
    /// Whether all that the client gave so far was written: it gives whole packets.
    is_between_packets: bool,
    /// Why nothing can be written any more. What the other side said before it went is still read:
    /// what it acknowledged is not sent again.
    write_error: Option<io::Error>,
}

impl Wire {
    /// Has something in `passed`, or nothing when the stream ended.
    fn poll_passed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.passed.clear();
        self.passed_at = 0;
        while self.passed.is_empty() {
            if self.frames.is_between() {
                ready!(self.poll_gate(context));
                if !self.passed.is_empty() {
                    break;
                }
            }
            if self.came.is_empty() && ready!(self.poll_chunk(context))? == 0 {
                break;
            }
            let came = &self.chunk[self.came.clone()];
            if self.frames.is_between() {
                self.is_told = matches!(came[0], CONNACK | DISCONNECT);
                if self.is_told {
                    self.way.told.lock().packet.clear();
                }
            }
            let before = self.passed.len();
            let taken = self.frames.take(came, &mut self.passed)?;
            if self.is_told {
                self.way.told.lock().packet.extend_from_slice(&self.passed[before..]);
            }
            self.came.start += taken;
            self.since_break += taken;
            if let Some(message) = self.frames.thrown_away() {
                self.tell_thrown_away(message);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when there may be more, or when a ping of ours has to be answered: the broker's answer
    /// stands behind what is not read. That the link is alive is known all the same, because the
    /// ping is confirmed.
    fn poll_gate(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.write_error.is_none() && self.way.gate.is_closed(context.waker()) {
            let pause = self.keep_alive() / 2;
            if pause.is_zero() {
                return Poll::Pending;
            }
            let until = self.closed.get_or_insert_with(|| Box::pin(sleep(pause)));
            ready!(until.as_mut().poll(context));
            self.closed = None;
            self.passed.extend_from_slice(&PINGRESP);
            return Poll::Ready(());
        }
        self.closed = None;
        if self.since_break >= MOST_AT_ONCE {
            self.since_break = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(&mut self.chunk);
        let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, &mut buffer) else {
            let Some(pinged) = &mut self.pinged else { return Poll::Pending };
            ready!(pinged.as_mut().poll(context));
            return Poll::Ready(Err(io::Error::other(Unanswered)));
        };
        self.pinged = None;
        self.heard_at = Instant::now();
        let bytes = buffer.filled().len();
        self.came = 0..bytes;
        self.way.voice.count(Figure::BytesIn, bytes as u64);
        match (read, bytes, self.write_error.take()) {
            (Ok(()), 1.., error) => self.write_error = error,
            // What went wrong first is the reason.
            (_, _, Some(error)) | (Err(error), _, None) => return Poll::Ready(Err(error)),
            (Ok(()), 0, None) => (),
        }
        if self.way.tls.is_none() && self.chunk[..bytes].starts_with(&TLS_ALERT) {
            return Poll::Ready(Err(io::Error::other(Mismatch::SpeaksTls)));
        }
        Poll::Ready(Ok(bytes))
    }

    /// How long the line may be silent: what the broker wants comes first.
    fn keep_alive(&self) -> Duration {
        self.way.told.lock().keep_alive.unwrap_or(self.way.keep_alive)
    }

    /// Whoever does not answer a ping within half a keep-alive is gone: that is noticed one and a half
    /// keep-alives after the last word.
    fn look_for_ping(&mut self, bytes: &[u8]) {
        if *bytes == PINGREQ {
            let patience = (self.keep_alive() / 2).max(SHORTEST_PATIENCE);
            self.pinged = Some(Box::pin(sleep(patience)));
        }
    }

    /// The client pings when it has written nothing for a while. Who writes messages of QoS 0 all the time, which
    /// nobody answers, would never learn that the broker is stuck, so a ping goes in between when nothing came for
    /// a keep-alive.
    fn poll_own_ping(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let keep_alive = self.keep_alive();
        let is_due = !keep_alive.is_zero() && self.heard_at.elapsed() >= keep_alive;
        if is_due && self.pinged.is_none() && self.is_between_packets && self.own_ping.is_empty() {
            self.own_ping = &PINGREQ;
        }
        while !self.own_ping.is_empty() {
            let ping = self.own_ping;
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, ping))?;
            self.way.voice.count(Figure::BytesOut, written as u64);
            self.own_ping = &ping[written..];
            self.look_for_ping(ping);
        }
        Poll::Ready(Ok(()))
    }

    /// How much was written. After an error everything is, as far as the client has to know: what
    /// is read next tells how the connection ends.
    fn written(&mut self, outcome: io::Result<usize>, bytes: usize) -> usize {
        match outcome {
            Ok(written) => {
                self.way.voice.count(Figure::BytesOut, written as u64);
                self.is_between_packets = written == bytes;
                written
            }
            Err(error) => {
                self.write_error.get_or_insert(error);
                bytes
            }
        }
    }

    fn tell_thrown_away(&self, message: ThrownAway) {
        let ThrownAway { topic, packet, bytes } = message;
        // Nothing is thrown away without a limit.
        let Some(most) = self.way.max_packet else { return };
        let why =
            format!("a message of {bytes} bytes on `{topic}` is larger than `max_packet` ({most})");
        self.way.voice.dropped(1, &why);
        self.way.beheaded.lock().unwrap_or_else(PoisonError::into_inner).extend(packet);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.passed_at == self.passed.len() {
            ready!(self.poll_passed(context))?;
        }
        let rest = &self.passed[self.passed_at..];
        let some = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..some]);
        self.passed_at += some;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = match self.write_error {
            Some(_) => Ok(bytes.len()),
            None => match ready!(self.poll_own_ping(context)) {
                Ok(()) => ready!(Pin::new(&mut self.stream).poll_write(context, bytes)),
                Err(error) => Err(error),
            },
        };
        self.look_for_ping(bytes);
        Poll::Ready(Ok(self.written(outcome, bytes.len())))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = parts.iter().map(|part| part.len()).sum();
        let outcome = match self.write_error {
            Some(_) => Ok(bytes),
            None => match ready!(self.poll_own_ping(context)) {
                Ok(()) => ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts)),
                Err(error) => Err(error),
            },
        };
        if let Some(first) = parts.iter().find(|part| part.len() == bytes) {
            self.look_for_ping(first);
        }
        Poll::Ready(Ok(self.written(outcome, bytes)))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_error.is_none() {
            let outcome = ready!(Pin::new(&mut self.stream).poll_flush(context));
            self.written(outcome.map(|()| 0), 0);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
