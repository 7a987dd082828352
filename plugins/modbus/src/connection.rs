//! What users write for a `modbus` connection: where the bus is and how patient to be with it.

use std::{fmt, net::Ipv6Addr, sync::Arc, time::Duration};

use forebay_sdk::{Links, Node, Period, Problem, Settings, Shared};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::bus;

/// The port that the standard gives to Modbus TCP.
const MODBUS_PORT: u16 = 502;

/// A bus with the devices on it: one device on the network, or a gateway with many behind it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModbusConnection {
    /// Where the device or gateway is: `tcp://host` or `tcp://host:port`. The port is 502 unless
    /// given.
    pub url: String,
    /// How long to wait for each answer, from `10ms` to `1m`. Then the connection is closed and
    /// opened anew, so that a late answer is never taken for that of another request.
    #[serde(default = "default_timeout")]
    pub timeout: Period,
    /// How long opening the connection may take, from `10ms` to `1m`.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Period,
    /// How long to leave the bus alone after each answer, up to `1m`. For devices and gateways
    /// that lose requests which come too fast.
    #[serde(default = "default_pause")]
    pub pause: Period,
}

fn default_timeout() -> Period {
    Period::seconds(1)
}

fn default_connect_timeout() -> Period {
    Period::seconds(5)
}

fn default_pause() -> Period {
    Period::seconds(0)
}

impl Settings for ModbusConnection {
    fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(label) = Place::parse(&self.url) {
            problems.push(Problem::new("url", "`url` does not lead to a bus", label));
        }
        let shortest = Period(Duration::from_millis(10));
        let least = [
            ("timeout", self.timeout, shortest),
            ("connect_timeout", self.connect_timeout, shortest),
            ("pause", self.pause, Period::seconds(0)),
        ];
        for (setting, period, least) in least {
            if !(least..=Period::seconds(60)).contains(&period) {
                let label = format!("expected {least} to 1m, found {period}");
                problems.push(Problem::new(setting, format!("`{setting}` is out of range"), label));
            }
        }
        problems
    }

    fn build(self, _: Links) -> Node {
        let (bus, owner) = bus::bus(self);
        Node::connection(Shared::new(Arc::new(bus)), owner)
    }
}

/// A host and port on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub host: String,
    pub port: u16,
}

impl Place {
    /// Reads `tcp://host:port`; says what would be right when it cannot.
    pub fn parse(url: &str) -> Result<Place, String> {
        const EXPECTED: &str = "expected `tcp://host` or `tcp://host:port`";
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(EXPECTED.to_owned());
        };
        match scheme {
            "tcp" => (),
            "rtu" | "rtu+tcp" => {
                return Err(format!("only tcp:// is supported in this version, found {scheme}://"));
            }
            _ => return Err(format!("{EXPECTED}; only tcp:// is supported in this version")),
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or(EXPECTED)?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let is_of_a_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_host = match rest.starts_with('[') {
            true => host.parse::<Ipv6Addr>().is_ok(),
            false => !host.is_empty() && host.chars().all(is_of_a_name),
        };
        if !is_host {
            return Err(EXPECTED.to_owned());
        }
        let port = match port {
            "" => MODBUS_PORT,
            port => port
                .strip_prefix(':')
                .ok_or(EXPECTED)?
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or("expected a port from 1 to 65535 behind the host")?,
        };
        Ok(Place { host: host.to_owned(), port })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_sdk::testing::configure;

    use super::*;
    use crate::CONNECTION;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(configure(&CONNECTION, text).err().unwrap_or_default(), expected);
    }

    #[test]
    fn an_address_of_the_network_is_read_as_users_write_it() {
        let place = |url| Place::parse(url).unwrap().to_string();
        assert_eq!(place("tcp://192.168.1.50"), "192.168.1.50:502");
        assert_eq!(place("tcp://gateway.local:1502"), "gateway.local:1502");
        assert_eq!(place("tcp://plc_1/"), "plc_1:502");
        assert_eq!(place("tcp://[fe80::1]:503"), "[fe80::1]:503");
        assert_eq!(place("tcp://[::1]"), "[::1]:502");
    }

    #[test]
    fn what_is_no_address_says_what_would_be_right() {
        const EXPECTED: &str = "expected `tcp://host` or `tcp://host:port`";
        const PORT: &str = "expected a port from 1 to 65535 behind the host";
        for (url, expected) in [
            ("", EXPECTED),
            ("192.168.1.50", EXPECTED),
            ("tcp://", EXPECTED),
            ("tcp://:502", EXPECTED),
            ("tcp://a b", EXPECTED),
            ("tcp://user:secret@host", PORT),
            ("tcp://user@host", EXPECTED),
            ("tcp://host/path", EXPECTED),
            ("tcp://[::1", EXPECTED),
            ("tcp://[::1]502", EXPECTED),
            ("tcp://host:", PORT),
            ("tcp://host:0", PORT),
            ("tcp://host:65536", PORT),
            ("tcp://::1", EXPECTED),
        ] {
            assert_eq!(Place::parse(url), Err(expected.to_owned()), "{url}");
        }
    }

    #[test]
    fn a_serial_line_is_refused_in_plain_words() {
        for scheme in ["rtu", "rtu+tcp"] {
            check(
                &format!("url: {scheme}:///dev/rs485?baud=9600"),
                &[&format!(
                    "setting-value: `url` does not lead to a bus \
                     [only tcp:// is supported in this version, found {scheme}://]"
                )],
            );
        }
    }

    #[test]
    fn patience_has_bounds() {
        check("url: tcp://plc\ntimeout: 10ms\nconnect_timeout: 1m\npause: 0s", &[]);
        check(
            "url: tcp://plc\ntimeout: 9ms\nconnect_timeout: 61s\npause: 99999999999d",
            &[
                "setting-value: `timeout` is out of range [expected 10ms to 1m, found 9ms]",
                "setting-value: `connect_timeout` is out of range [expected 10ms to 1m, found 61s]",
                "setting-value: `pause` is out of range [expected 0s to 1m, found 99999999999d]",
            ],
        );
        check(
            "timeout: 1s",
            &["missing-setting: modbus connection needs `url` [`url` is missing]"],
        );
    }
}
