//! Where a broker is, as users write it: `mqtts://broker.example:8883`.

use std::fmt;

use forebay_sdk::{Endpoint, NoEndpoint, Problem, Rule, rules::UNENCRYPTED};

use crate::rules::PORT_MISMATCH;

/// A broker's host and port, and whether TLS is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Whether TLS comes first.
    pub tls: bool,
}

const EXPECTED: &str = "expected `mqtt://host:1883`, or `mqtts://host:8883` with TLS";

impl Address {
    /// Reads a URL; says what would be right when it cannot. Never shows the URL, which might hold
    /// a password.
    pub fn parse(url: &str) -> Result<Address, String> {
        let (scheme, rest) = url.split_once("://").ok_or(EXPECTED)?;
        let (tls, default_port) = match &*scheme.to_ascii_lowercase() {
            "mqtt" | "tcp" => (false, 1883),
            "mqtts" | "ssl" => (true, 8883),
            "ws" | "wss" => return Err(format!("{EXPECTED}; WebSocket is not supported")),
            _ => return Err(EXPECTED.to_owned()),
        };
        if rest.contains('@') {
            let why = "expected no user and password here: they have settings of their own";
            return Err(why.to_owned());
        }
        let endpoint = Endpoint::parse(rest, default_port).map_err(|wrong| match wrong {
            NoEndpoint::Host => EXPECTED,
            NoEndpoint::Brackets => "expected brackets around an IPv6 address: `[fe80::1]:1883`",
            NoEndpoint::Port => "expected a port from 1 to 65535 behind the host",
        })?;
        Ok(Address { endpoint, tls })
    }

    /// What works, and is mostly not meant.
    pub fn doubt(&self) -> Option<Problem> {
        let Endpoint { host, port } = &self.endpoint;
        let doubt = |rule: &'static Rule, message: &str, label: String| {
            Some(Problem::new("url", message, label).rule(rule).warning())
        };
        match (self.tls, port) {
            (false, 8883) => doubt(
                &PORT_MISMATCH,
                "port 8883 is for TLS, and `mqtt://` has none",
                format!("expected `mqtts://{host}`, or another port"),
            ),
            (true, 1883) => doubt(
                &PORT_MISMATCH,
                "port 1883 is for connections without TLS, and `mqtts://` has it",
                format!("expected `mqtts://{host}:8883`, or `mqtt://`"),
            ),
            (false, _) if !self.endpoint.is_local() => {
                let label = format!("expected `mqtts://{host}`");
                let note =
                    "who listens on the way reads messages and password, and can change them";
                let message = format!("`url` has no TLS, and {host} is no local host");
                doubt(&UNENCRYPTED, &message, label).map(|problem| problem.note(note))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_users_write_them() {
        let read = |url: &str| {
            let address = Address::parse(url).unwrap();
            (address.to_string(), address.tls)
        };
        assert_eq!(read("mqtt://broker"), ("broker:1883".into(), false));
        assert_eq!(read("tcp://10.0.0.1:1884/"), ("10.0.0.1:1884".into(), false));
        assert_eq!(read("mqtts://a-b.example"), ("a-b.example:8883".into(), true));
        assert_eq!(read("ssl://broker:443"), ("broker:443".into(), true));
        assert_eq!(read("mqtt://[::1]:1884"), ("[::1]:1884".into(), false));
        assert_eq!(read("mqtts://[fe80::1]"), ("[fe80::1]:8883".into(), true));
        assert_eq!(read("MQTT://[fe80::1%eth0]"), ("[fe80::1%eth0]:1883".into(), false));
        assert_eq!(read("Mqtts://Broker"), ("Broker:8883".into(), true));
    }

    #[test]
    fn a_wrong_address_says_what_would_be_right() {
        let said = |url: &str| Address::parse(url).unwrap_err();
        for url in ["", "broker:1883", "http://broker", "mqtt://", "mqtt://broker/path"] {
            assert_eq!(said(url), EXPECTED, "{url}");
        }
        assert_eq!(said("mqtt://a:0"), "expected a port from 1 to 65535 behind the host");
        let brackets = "expected brackets around an IPv6 address: `[fe80::1]:1883`";
        assert_eq!(said("mqtt://fe80::1:1883"), brackets);
        assert!(said("ws://a").ends_with("WebSocket is not supported"));
    }

    #[test]
    fn an_address_that_is_mostly_not_meant_is_doubted() {
        let doubt = |url: &str| {
            let doubt = Address::parse(url).unwrap().doubt();
            doubt.map(|doubt| format!("{}: {} [{}]", doubt.rule, doubt.message, doubt.label))
        };
        for url in [
            "mqtt://broker",
            "mqtt://192.168.1.5",
            "mqtt://localhost:1884",
            "mqtts://broker.example",
            "mqtts://broker.example:443",
            "mqtt://plant.local:1884",
        ] {
            assert_eq!(doubt(url), None, "{url}");
        }
        assert_eq!(
            doubt("mqtt://broker.example").unwrap(),
            "unencrypted: `url` has no TLS, and broker.example is no local host [expected `mqtts://broker.example`]"
        );
        assert_eq!(
            doubt("mqtt://10.0.0.1:8883").unwrap(),
            "port-mismatch: port 8883 is for TLS, and `mqtt://` has none [expected `mqtts://10.0.0.1`, or another port]"
        );
        assert_eq!(
            doubt("mqtts://broker.example:1883").unwrap(),
            "port-mismatch: port 1883 is for connections without TLS, and `mqtts://` has it [expected `mqtts://broker.example:8883`, or `mqtt://`]"
        );
    }

    #[test]
    fn a_password_in_the_address_is_not_shown() {
        let said = Address::parse("mqtt://me:hunter2@broker").unwrap_err();
        assert!(
            said.ends_with("have settings of their own") && !said.contains("hunter2"),
            "{said}"
        );
    }
}
