//! Serial lines of the system, by way of tokio-serial.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use serial2::{
    KeepSettings, SerialPort as DriverPort,
    rs4xx::{Rs485Config, TransceiverMode},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_serial::{
    ClearBuffer, DataBits, SerialPort, SerialPortBuilderExt, SerialStream, StopBits,
};

use super::{
    outside::{Parity, Rs485, Rts, SerialLine, Stream},
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
    // Before the line is ours alone; open for as long, or some drivers forget it.
    let _switched = line.rs485.map(|rs485| switch_by(&device, rs485)).transpose()?;
    let builder = tokio_serial::new(device, line.baud)
        .data_bits(data_bits)
        .parity(parity)
        .stop_bits(stop_bits);
    let stream = builder.open_native_async().map_err(|error| busy(error.into()))?;
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

/// Tells the driver how to switch the direction of the line. tokio-serial cannot.
fn switch_by(device: &str, rs485: Rs485) -> io::Result<DriverPort> {
    let Rs485 { sends, before, after } = rs485;
    let mut config = Rs485Config::new();
    config.set_invert_rts(sends == Rts::Low);
    config.set_delay_before_send(before);
    config.set_delay_after_send(after);
    let port = DriverPort::open(device, KeepSettings).map_err(busy)?;
    port.set_rs4xx_mode(TransceiverMode::Rs485(config)).map_err(not_switched)?;
    // The kernel leaves out in silence what a driver cannot do (`uart_sanitize_serial_rs485`).
    match port.get_rs4xx_mode().ok().map(|mode| taken(&mode)) {
        Some(taken) if taken != Some(rs485) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, not_as_told(taken)))
        }
        _ => Ok(port),
    }
}

/// How a driver switches. None when it does not.
fn taken(mode: &TransceiverMode) -> Option<Rs485> {
    let TransceiverMode::Rs485(config) = mode else { return None };
    Some(Rs485 {
        sends: if config.get_invert_rts() { Rts::Low } else { Rts::High },
        before: config.get_delay_before_send(),
        after: config.get_delay_after_send(),
    })
}

/// What a driver does in the place of what it was told.
fn not_as_told(taken: Option<Rs485>) -> String {
    let Some(Rs485 { sends, before, after }) = taken else {
        return "its driver took `rts`, and does not switch the direction by it".to_owned();
    };
    let rts = if sends == Rts::Low { "low" } else { "high" };
    let [before, after] = [before, after].map(|delay| delay.as_millis());
    format!("its driver only does `rts={rts}&rts_before={before}ms&rts_after={after}ms`")
}

/// Most drivers of USB adapters leave this to the adapter, and know nothing of it.
fn not_switched(error: io::Error) -> io::Error {
    const UNKNOWN: [i32; 3] =
        [Errno::NOTTY.raw_os_error(), Errno::INVAL.raw_os_error(), Errno::OPNOTSUPP.raw_os_error()];
    if !error.raw_os_error().is_some_and(|code| UNKNOWN.contains(&code)) {
        return io::Error::new(error.kind(), format!("switching the direction by RTS: {error}"));
    }
    let says = "its driver does not switch the direction of an RS-485 line by RTS; most adapters do that \
                by themselves: leave out `rts`";
    io::Error::new(io::ErrorKind::Unsupported, says)
}

/// A line that somebody else has says so in words.
fn busy(error: io::Error) -> io::Error {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_driver_that_does_another_thing_than_it_was_told_said_nothing() {
        let mut config = Rs485Config::new();
        config.set_delay_after_send(Duration::from_millis(2));
        let says = |mode| not_as_told(taken(&mode));
        let expected = "its driver only does `rts=high&rts_before=0ms&rts_after=2ms`";
        assert_eq!(says(TransceiverMode::Rs485(config)), expected);
        assert!(says(TransceiverMode::Default).contains("does not switch"));
    }
}
