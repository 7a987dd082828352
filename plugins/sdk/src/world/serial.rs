//! Serial lines of the system, by way of tokio-serial.

use std::{io, path::Path};

use tokio::net::TcpStream;
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
    let stream = builder.open_native_async().map_err(io::Error::from)?;
    // What came before anybody asked belongs to another conversation.
    stream.clear(ClearBuffer::All).map_err(io::Error::from)?;
    Ok(Box::new(stream))
}

impl Stream for SerialStream {
    fn into_tcp(self: Box<Self>) -> Result<TcpStream, Box<dyn Stream>> {
        Err(self)
    }
}
