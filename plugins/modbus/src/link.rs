//! A link to a Modbus device over TCP, one request at a time.
//!
//! The protocol is tokio-modbus's. What stands here is what it leaves open: time limits, answers
//! that are too short, and telling a peer that hangs up from one that talks something else.

use std::{
    fmt,
    io::{self, ErrorKind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use anyhow::Context as _;
use forebay_sdk::{
    Endpoint, Figure, Period, Voice, World,
    world::{Dial, Stream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tokio_modbus::{
    Error, ExceptionCode, Request, Response, Slave,
    client::{self, Client},
    slave::SlaveContext,
};

use crate::block::{Block, Table};

/// What a device says about a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Registers(Vec<u16>),
    Bits(Vec<bool>),
}

/// Why a read came to nothing.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The device answered that it will not. The only failure after which the link is in step.
    Exception(ExceptionCode),
    /// There is no link. Says why.
    NotConnected(Arc<str>),
    /// The other side closed the link before it answered. Says who.
    HungUp(Arc<str>),
    /// Anything else, in words.
    Broken(String),
}

/// A link to a Modbus device.
pub struct Link {
    context: client::Context,
    place: Arc<str>,
}

impl Link {
    /// Connects. The voice hears how many bytes go to and fro.
    pub async fn open(
        world: &World,
        to: &Endpoint,
        patience: Period,
        voice: &Voice,
    ) -> anyhow::Result<Link> {
        let stream = match timeout(*patience, world.connect(Dial::new(to.clone()))).await {
            Ok(stream) => stream.with_context(|| format!("connecting to {to}"))?,
            Err(_) => anyhow::bail!("connecting to {to}: no answer within {patience}"),
        };
        let (head, voice) = (Vec::with_capacity(HEAD_BYTES), voice.clone());
        let context = client::tcp::attach(Wire { stream, head, voice });
        Ok(Link { context, place: to.to_string().into() })
    }

    /// Asks a device for a block. After any failure but an exception the link is out of step with
    /// the other side and must be dropped.
    pub async fn read(
        &mut self,
        unit: u8,
        block: Block,
        patience: Period,
    ) -> Result<Answer, Failure> {
        let Block { table, start, count } = block;
        let request = match table {
            Table::Holding => Request::ReadHoldingRegisters(start, count),
            Table::Input => Request::ReadInputRegisters(start, count),
            Table::Coil => Request::ReadCoils(start, count),
            Table::Discrete => Request::ReadDiscreteInputs(start, count),
        };
        self.context.set_slave(Slave(unit));
        match timeout(*patience, self.context.call(request)).await {
            Ok(Ok(Ok(response))) => self.accept(response, count),
            Ok(Ok(Err(exception))) => Err(Failure::Exception(exception)),
            Ok(Err(error)) => Err(self.explain(&error)),
            Err(_) => Err(Failure::Broken(format!("no answer within {patience}"))),
        }
    }

    /// The library hands out answers of any length, and panics in debug builds if asked to check.
    fn accept(&self, response: Response, count: u16) -> Result<Answer, Failure> {
        let count = usize::from(count);
        match response {
            Response::ReadHoldingRegisters(registers) | Response::ReadInputRegisters(registers)
                if registers.len() == count =>
            {
                Ok(Answer::Registers(registers))
            }
            // Bits come in whole bytes.
            Response::ReadCoils(mut bits) | Response::ReadDiscreteInputs(mut bits)
                if bits.len() == count.next_multiple_of(8) =>
            {
                bits.truncate(count);
                Ok(Answer::Bits(bits))
            }
            _ => Err(Failure::Broken(format!(
                "{} answered with more or less than it was asked for",
                self.place
            ))),
        }
    }

    fn explain(&self, error: &Error) -> Failure {
        let place = &self.place;
        match error {
            Error::Protocol(_) => {
                Failure::Broken(format!("{place} answered another request than it was asked"))
            }
            Error::Transport(error) => match error.kind() {
                ErrorKind::ConnectionAborted
                | ErrorKind::ConnectionReset
                | ErrorKind::BrokenPipe => Failure::HungUp(Arc::clone(place)),
                // The second is how the library says that an answer ends too early.
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                    Failure::Broken(format!("{place} answered with something that is not Modbus"))
                }
                _ => Failure::Broken(error.to_string()),
            },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Exception(ExceptionCode::Custom(code)) => write!(f, "exception {code}"),
            Failure::Exception(code) => {
                let words = code.to_string().to_lowercase();
                write!(f, "{words} (exception {})", u8::from(*code))
            }
            Failure::NotConnected(reason) => write!(f, "not connected: {reason}"),
            Failure::HungUp(place) => write!(f, "{place} closed the connection"),
            Failure::Broken(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Failure {}

/// Transaction, protocol and length, each of two bytes.
const HEAD_BYTES: usize = 6;

/// A stream that looks at the head of each answer. The library would wait for as many bytes as a
/// peer that is no Modbus device seems to announce, and it has no error for a peer that hangs up.
struct Wire {
    stream: Box<dyn Stream>,
    /// The first bytes since the last request.
    head: Vec<u8>,
    voice: Voice,
}

/// The library asks for it.
impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Wire {
    fn look_at(&mut self, bytes: &[u8]) -> io::Result<()> {
        let missing = HEAD_BYTES - self.head.len();
        if missing == 0 {
            return Ok(());
        }
        self.head.extend_from_slice(&bytes[..bytes.len().min(missing)]);
        match self.head[..] {
            // Unit, function and one byte are the least; the standard's most is 254.
            [_, _, 0, 0, 0, 3..=254] => Ok(()),
            [_, _, _, _, _, _] => Err(ErrorKind::InvalidData.into()),
            _ => Ok(()),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        match &buffer.filled()[before..] {
            [] if buffer.remaining() > 0 => Poll::Ready(Err(ErrorKind::ConnectionAborted.into())),
            bytes => {
                self.voice.count(Figure::BytesIn, bytes.len() as u64);
                Poll::Ready(self.look_at(bytes))
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.head.clear();
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.voice.count(Figure::BytesOut, written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
