//! What a world can open, and what it is asked for.

use std::{any::Any, io, net::SocketAddr, path::PathBuf, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    gpio::{GpioChip, GpioRequest, HeldLine},
    proxy::Proxy,
};
use crate::endpoint::Endpoint;

/// Bytes in both directions: a TCP connection, a serial line, or a pipe in memory.
pub trait Stream: AsyncRead + AsyncWrite + Any + Send + Sync + Unpin {
    /// The TCP connection that it is, for libraries that take no other stream.
    ///
    /// # Errors
    ///
    /// Gives the stream back when it is another one.
    fn into_tcp(self: Box<Self>) -> Result<TcpStream, Box<dyn Stream>>;
}

/// Whom to connect to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// The host and its port.
    pub to: Endpoint,
    /// By way of whom.
    pub via: Via,
    /// How long what was sent may stay unconfirmed before the system takes the other side for gone. The
    /// system's own rules, some quarter of an hour, when None.
    pub silence: Option<Duration>,
    /// How long the line may be idle before the system asks whether the other side is still there.
    /// Never when None.
    pub probe_after: Option<Duration>,
}

/// By way of whom a connection goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// Nobody.
    #[default]
    Straight,
    /// Whom the environment names, in the first of these variables that is there.
    Environment(&'static [&'static str]),
    /// This one.
    Proxy(Proxy),
}

impl Dial {
    /// Connects without probes of a silent line.
    pub fn new(to: Endpoint) -> Dial {
        Dial { to, via: Via::Straight, silence: None, probe_after: None }
    }
}

/// A serial line, as the device at its end wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialLine {
    /// The device, such as `/dev/ttyUSB0` or a name below `/dev/serial/by-id`; or what it is, as
    /// [`super::UsbId`] reads it.
    pub device: PathBuf,
    /// Bits a second.
    pub baud: u32,
    /// The check bit behind the data.
    pub parity: Parity,
    /// Data bits, 5 to 8.
    pub data_bits: u8,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
    /// How the driver switches the direction of an RS-485 line; None leaves that to the adapter.
    pub rs485: Option<Rs485>,
}

/// How a driver switches a transceiver of RS-485 between sending and hearing: by the line RTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rs485 {
    /// How RTS is while this side sends. It is the other way while it hears.
    pub sends: Rts,
    /// From switching to the first byte, in whole milliseconds.
    pub before: Duration,
    /// From the last byte to switching back, in whole milliseconds.
    pub after: Duration,
}

/// A level of the line RTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Rts {
    High,
    Low,
}

/// The check bit of a serial line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parity {
    /// There is none.
    #[default]
    None,
    /// The number of ones is even.
    Even,
    /// The number of ones is odd.
    Odd,
}

/// Takes connections in.
pub trait Listener: Send + Sync {
    /// Where it listens: port 0 has become a real one.
    fn local_addr(&self) -> io::Result<SocketAddr>;
    /// The next connection, and where it comes from.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>>;
}

/// The room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What is left for everybody.
    pub free: u64,
}

/// What stands behind a [`super::World`].
pub trait Outside: Send + Sync {
    /// Connects to the first address of the host that answers: the name is looked up anew, and an
    /// address that is silent has the next one tried beside it. Takes as long as the system lets it:
    /// the caller has the time limit. What is sent leaves at once, without Nagle's algorithm. Whose
    /// way it goes by ([`Dial::via`]) is looked at before.
    fn connect(&self, dial: Dial) -> BoxFuture<'static, io::Result<Box<dyn Stream>>>;
    /// The addresses of a host, in the system's order of preference.
    fn look_up(&self, _: Endpoint) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    /// Whether nobody could listen on its way, so that streams go without TLS: a world in memory has nobody who
    /// could certify who is who.
    fn is_private(&self) -> bool {
        false
    }
    /// A variable of the environment.
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
    /// Listens at an address of this machine.
    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;
    /// Opens a serial line for this program alone.
    fn serial(&self, line: SerialLine) -> BoxFuture<'static, io::Result<Box<dyn Stream>>>;
    /// Makes a serial line at whose end this program is the device: its bytes, and the path by which
    /// others open it.
    fn serial_device(&self) -> BoxFuture<'static, io::Result<(Box<dyn Stream>, PathBuf)>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    /// Connects to a program of this machine, by the path of its socket.
    fn socket(&self, _: PathBuf) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    /// The GPIO chips of this machine that this program may open.
    fn gpio_chips(&self) -> BoxFuture<'static, io::Result<Vec<GpioChip>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    /// The GPIO chip behind a path, which may be a link.
    fn gpio_chip(&self, _: PathBuf) -> BoxFuture<'static, io::Result<GpioChip>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    /// Holds a line of a GPIO chip for this program alone.
    fn gpio_line(&self, _: GpioRequest) -> BoxFuture<'static, io::Result<Box<dyn HeldLine>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    /// Reads a file of the system that is a device or a figure, below `/proc`, `/sys` or `/dev`: at
    /// most `most` bytes.
    fn read(&self, path: PathBuf, most: usize) -> BoxFuture<'static, io::Result<Vec<u8>>>;
    /// Writes such a file, in one write.
    fn write(&self, path: PathBuf, bytes: Vec<u8>) -> BoxFuture<'static, io::Result<()>>;
    /// How much room there is on the file system that has a path.
    fn space(&self, _: PathBuf) -> BoxFuture<'static, io::Result<Space>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    /// Resolves when somebody has set the wall clock, or moved it, after this was first polled.
    fn clock_was_moved(&self) -> BoxFuture<'static, ()>;
}
