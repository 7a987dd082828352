//! Where a bus is, as users write it in `url`.

use std::path::PathBuf;

use forebay_sdk::{Endpoint, NoEndpoint, world::UsbId};

use crate::{frame::Framing, link::Place, serial::SerialLine};

/// The port that the standard gives to Modbus TCP.
const MODBUS_PORT: u16 = 502;

const EXPECTED: &str = "expected such as `tcp://192.168.1.50:502`, `rtu+tcp://192.168.1.50:4196` or \
                        `rtu:///dev/ttyUSB0?baud=9600&parity=even&stop=1`";
const EXPECTED_NETWORK: &str = "expected a host, or a host and a port, such as `192.168.1.50:502`";

/// A place, and the serial line there (ours, or behind a gateway when it is told of).
type Parsed = (Place, Option<SerialLine>);

/// Reads a URL; says what would be right when it cannot.
pub fn parse(url: &str) -> Result<Parsed, String> {
    if url.starts_with('/') {
        let device = url.split('?').next().unwrap_or_default();
        return Err(format!(
            "expected `rtu://` in front of a device and its speed behind it: \
             `rtu://{device}?baud=9600`"
        ));
    }
    let (scheme, rest) = url.split_once("://").ok_or(EXPECTED)?;
    let (place, query) = match rest.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (rest, None),
    };
    let line = query.map(SerialLine::parse).transpose()?;
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "rtu" && line.is_some_and(|line| line.rs485.is_some()) {
        return Err("expected no `rts`: the gateway switches the direction of its line".to_owned());
    }
    match scheme.as_str() {
        "tcp" => Ok((Place::Network(endpoint(place)?, Framing::Tcp), line)),
        "rtu+tcp" => Ok((Place::Network(endpoint(place)?, Framing::Rtu), line)),
        "rtu" => serial(place, line),
        _ => Err(EXPECTED.to_owned()),
    }
}

/// What was meant, when the scheme is all that is missing or wrong.
pub fn meant(url: &str) -> Option<String> {
    // The names that other programs have for the same.
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "rtu" if !rest.starts_with('/') && !rest.starts_with("usb:") => "rtu+tcp",
        "" | "rtu" | "serial" | "file" | "modbus+rtu" | "modbusrtu" if rest.starts_with('/') => {
            "rtu"
        }
        "" | "modbus" | "modbus+tcp" | "modbus-tcp" | "modbustcp" | "tcp4" | "tcp6" => "tcp",
        "rtuovertcp" | "tcp+rtu" | "rtu-tcp" => "rtu+tcp",
        _ => return None,
    };
    let meant = format!("{scheme}://{rest}");
    parse(&meant).is_ok().then_some(meant)
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    Endpoint::parse(text, MODBUS_PORT).map_err(|wrong| match wrong {
        NoEndpoint::Host => EXPECTED_NETWORK.to_owned(),
        NoEndpoint::Brackets => format!("expected brackets around an IPv6 address: `[{text}]`"),
        NoEndpoint::Port => "expected a port from 1 to 65535 behind the host".to_owned(),
    })
}

fn serial(device: &str, line: Option<SerialLine>) -> Result<Parsed, String> {
    let is_path = device.starts_with('/') && !device.ends_with('/');
    if !is_path && UsbId::parse(device).is_none() {
        return Err("expected the path of a device behind `rtu://`, such as \
                    `rtu:///dev/ttyUSB0?baud=9600`, or an adapter, such as `rtu://usb:0403:6001?baud=9600`"
            .to_owned());
    }
    let Some(line) = line else {
        return Err(format!("expected its speed behind it, such as `rtu://{device}?baud=9600`"));
    };
    Ok((Place::Serial(PathBuf::from(device), line), Some(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_is_where_its_url_says() {
        for (url, place, framing) in [
            ("tcp://meter.lan", "meter.lan:502", Framing::Tcp),
            ("TCP://[::1]:1502/", "[::1]:1502", Framing::Tcp),
            ("tcp://[fe80::1%eth0]", "[fe80::1%eth0]:502", Framing::Tcp),
            ("rtu+tcp://10.0.0.2:4196?baud=9600", "10.0.0.2:4196", Framing::Rtu),
            ("rtu:///dev/ttyUSB0?baud=9600", "/dev/ttyUSB0", Framing::Rtu),
            ("rtu://usb:0403:6001:A5?baud=9600", "usb:0403:6001:A5", Framing::Rtu),
            ("rtu:///dev/serial/by-id/usb-FTDI_A1-if00-port0?baud=19200", "", Framing::Rtu),
        ] {
            let (found, _) = parse(url).unwrap();
            assert_eq!(found.framing(), framing, "{url}");
            assert!(found.to_string().ends_with(place), "{url}");
        }
    }

    #[test]
    fn a_url_that_leads_nowhere_says_what_would_be_right() {
        for (url, says) in [
            ("192.168.1.50", EXPECTED),
            ("/dev/ttyUSB0", "its speed behind it: `rtu:///dev/ttyUSB0?baud=9600`"),
            ("http://192.168.1.50", EXPECTED),
            ("tcp://", EXPECTED_NETWORK),
            ("tcp://fe80::1%eth0", "brackets around an IPv6 address: `[fe80::1%eth0]`"),
            ("tcp://fe80::1", "brackets around an IPv6 address: `[fe80::1]`"),
            ("tcp://host:0", "a port from 1 to 65535"),
            ("rtu:///dev/ttyUSB0", "`rtu:///dev/ttyUSB0?baud=9600`"),
            ("rtu://ttyUSB0?baud=9600", "the path of a device"),
            ("rtu://usb:403:6001?baud=9600", "or an adapter, such as `rtu://usb:0403:6001?baud"),
            ("rtu:///dev/?baud=9600", "the path of a device"),
            ("tcp://gateway?baud=9600&rts=high", "expected no `rts`"),
            ("rtu:///dev/ttyUSB0?speed=9600", "`?baud=9600"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(says), "{url}: {error}");
        }
    }

    #[test]
    fn words_of_other_programs_are_understood() {
        for (url, meant_url) in [
            ("192.168.1.50", Some("tcp://192.168.1.50")),
            ("/dev/ttyUSB0?baud=9600", Some("rtu:///dev/ttyUSB0?baud=9600")),
            ("rtu://192.168.1.50:4196", Some("rtu+tcp://192.168.1.50:4196")),
            ("modbus+tcp://plc", Some("tcp://plc")),
            ("file:///dev/ttyS0?baud=9600", Some("rtu:///dev/ttyS0?baud=9600")),
            ("http://plc", None),
            ("a b", None),
        ] {
            assert_eq!(meant(url).as_deref(), meant_url, "{url}");
        }
    }
}
