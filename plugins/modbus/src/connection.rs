//! What users write for a `modbus` connection: where the bus is and how patient to be with it.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{Endpoint, Links, NoEndpoint, Node, Period, Problem, Settings, Shared};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{bus, serial::SerialLine};

/// The port that the standard gives to Modbus TCP.
const MODBUS_PORT: u16 = 502;

/// A bus with the devices on it: one device on the network, or a gateway with many behind it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModbusConnection {
    /// Where the device or gateway is: `tcp://host` or `tcp://host:port`. The port is 502 unless
    /// given. Behind a gateway, `?baud=9600&parity=even&stop=1` tells of its serial line, so that
    /// `forebay lint` knows how long a poll takes; the gateway itself is not set by it.
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
        if let Err(label) = endpoint(&self.url).and(serial_line(&self.url)) {
            let problem = Problem::new("url", "`url` does not lead to a bus", label);
            let meant = format!("tcp://{}", self.url);
            problems.push(match endpoint(&meant) {
                Ok(_) => problem.instead(meant),
                Err(_) => problem,
            });
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

impl ModbusConnection {
    /// The serial line behind the gateway, when we were told of one.
    pub fn serial_line(&self) -> Option<SerialLine> {
        serial_line(&self.url).ok().flatten()
    }
}

fn serial_line(url: &str) -> Result<Option<SerialLine>, String> {
    url.split_once('?').map(|(_, query)| SerialLine::parse(query)).transpose()
}

/// Reads `tcp://host:port`; says what would be right when it cannot.
pub fn endpoint(url: &str) -> Result<Endpoint, String> {
    const EXPECTED: &str = "expected `tcp://host` or `tcp://host:port`";
    let (url, _) = url.split_once('?').unwrap_or((url, ""));
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
    Endpoint::parse(rest, MODBUS_PORT).map_err(|wrong| match wrong {
        NoEndpoint::Host => EXPECTED.to_owned(),
        NoEndpoint::Port => "expected a port from 1 to 65535 behind the host".to_owned(),
    })
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
    fn a_url_leads_to_an_endpoint_or_says_what_would_be_right() {
        let read = |url| endpoint(url).map(|endpoint| endpoint.to_string());
        assert_eq!(read("tcp://192.168.1.50").as_deref(), Ok("192.168.1.50:502"));
        assert_eq!(read("tcp://[fe80::1]:503/").as_deref(), Ok("[fe80::1]:503"));
        const EXPECTED: &str = "expected `tcp://host` or `tcp://host:port`";
        for url in ["", "192.168.1.50", "tcp://", "tcp://user@host", "tcp://host/path"] {
            assert_eq!(read(url), Err(EXPECTED.to_owned()), "{url}");
        }
        let port = "expected a port from 1 to 65535 behind the host";
        assert_eq!(read("tcp://user:secret@host"), Err(port.to_owned()));
    }

    #[test]
    fn a_gateway_may_say_what_line_is_behind_it() {
        check("url: tcp://gateway:502/?baud=9600&parity=even&stop=1", &[]);
        let endpoint = endpoint("tcp://gateway?baud=9600").map(|endpoint| endpoint.to_string());
        assert_eq!(endpoint.as_deref(), Ok("gateway:502"));
        check(
            "url: tcp://gateway?baud=fast",
            &["setting-value: `url` does not lead to a bus [expected `baud` from 300 to 921600]"],
        );
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
