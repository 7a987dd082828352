//! Serial lines of the system, by way of tokio-serial.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use rustix::fs::{Mode, OFlags};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_serial::{
    ClearBuffer, DataBits, SerialPort, SerialPortBuilderExt, SerialStream, StopBits,
};

use super::{
    outside::{Parity, SerialLine, Stream},
    usb::UsbId,
};

pub(super) async fn open(line: SerialLine) -> io::Result<Box<dyn Stream>> {
    let data_bits = match line.data_bits {
        5 => DataBits::Five,
        6 => DataBits::Six,
        7 => DataBits::Seven,
        _ => DataBits::Eight,
    };
    let parity = match line.parity {
        Parity::None => tokio_serial::Parity::None,
        Parity::Even => tokio_serial::Parity::Even,
        Parity::Odd => tokio_serial::Parity::Odd,
    };
    let stop_bits = if line.stop_bits == 2 { StopBits::Two } else { StopBits::One };
    let written = line.device.to_string_lossy();
    let device = match UsbId::parse(&written) {
        Some(adapter) => adapter.device(Path::new("/sys"))?.to_string_lossy().into_owned(),
        None => written.into_owned(),
    };
    let builder = tokio_serial::new(device, line.baud)
        .data_bits(data_bits)
        .parity(parity)
        .stop_bits(stop_bits);
    let stream = builder.open_native_async().map_err(busy)?;
    // What came before anybody asked belongs to another conversation.
    stream.clear(ClearBuffer::All).map_err(io::Error::from)?;
    Ok(Box::new(stream))
}

/// The device at the end of a pseudo-terminal, and how others reach it.
struct Pseudo {
    ours: SerialStream,
    /// Open, or reading would fail whenever nobody else has it open.
    _theirs: OwnedFd,
}

pub(super) fn device() -> io::Result<(Box<dyn Stream>, PathBuf)> {
    let (ours, mut theirs) = SerialStream::pair().map_err(io::Error::from)?;
    // It is there for others. What the library holds open, it also locks.
    theirs.set_exclusive(false).map_err(io::Error::from)?;
    let path = PathBuf::from(theirs.name().ok_or(io::ErrorKind::Unsupported)?);
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let held = rustix::fs::open(&path, flags, Mode::empty())?;
    drop(theirs);
    Ok((Box::new(Pseudo { ours, _theirs: held }), path))
}

/// A line that somebody else has says so in words.
fn busy(error: tokio_serial::Error) -> io::Error {
    let error = io::Error::from(error);
    let says = error.to_string();
    if error.kind() == io::ErrorKind::ResourceBusy || says.contains("exclusive lock") {
        const IN_USE: &str = "another program has it open, such as a running forebay or a terminal";
        return io::Error::new(io::ErrorKind::ResourceBusy, IN_USE);
    }
    error
}

impl AsyncRead for Pseudo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.ours).poll_read(context, buffer)
    }
}

impl AsyncWrite for Pseudo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.ours).poll_write(context, bytes)
    }

    /// A pseudo-terminal that is flushed waits until it was read, which nobody may do.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Stream for Pseudo {
    fn into_tcp(self: Box<Self>) -> Result<TcpStream, Box<dyn Stream>> {
        Err(self)
    }
}

impl Stream for SerialStream {
    fn into_tcp(self: Box<Self>) -> Result<TcpStream, Box<dyn Stream>> {
        Err(self)
    }
}
