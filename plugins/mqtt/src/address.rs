//! Where a broker is, as users write it: `mqtts://broker.example:8883`.

use std::fmt;

use forebay_sdk::{Endpoint, NoEndpoint, Problem, Rule, rules::UNENCRYPTED};
use http::{HeaderName, HeaderValue};

use crate::rules::{PORT_MISMATCH, RETIRED_BROKER};

/// A broker's host and port, and what is spoken there below MQTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Whether TLS comes first.
    pub tls: bool,
    /// The path at which a web server there speaks WebSocket, with a query if there is one. None
    /// without WebSocket.
    pub path: Option<String>,
}

/// How WebSocket is asked for.
#[derive(Clone, Debug)]
pub struct WebSocket {
    /// With scheme, host and path.
    pub uri: String,
    /// What the web server is told beside that.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

const EXPECTED: &str = "expected `mqtt://host:1883`, or `mqtts://host:8883` with TLS, or over WebSocket \
                        `ws://host/mqtt` or `wss://host/mqtt`";
/// Where brokers have it.
const USUAL_PATH: &str = "/mqtt";
/// What Google's broker was called.
const RETIRED: [&str; 2] = ["mqtt.googleapis.com", "mqtt.2030.ltsapis.goog"];

impl Address {
    /// Reads a URL; says what would be right when it cannot. Never shows the URL, which might hold
    /// a password.
    pub fn parse(url: &str) -> Result<Address, String> {
        let (scheme, rest) = url.split_once("://").ok_or(EXPECTED)?;
        let (tls, is_web, default_port) = match &*scheme.to_ascii_lowercase() {
            "mqtt" | "tcp" => (false, false, 1883),
            "mqtts" | "ssl" => (true, false, 8883),
            "ws" => (false, true, 80),
            "wss" => (true, true, 443),
            _ => return Err(EXPECTED.to_owned()),
        };
        let (place, path) = match rest.find(['/', '?']).filter(|_| is_web) {
            Some(at) => rest.split_at(at),
            None => (rest, if is_web { USUAL_PATH } else { "" }),
        };
        if place.contains('@') {
            let why = "expected no user and password here: they have settings of their own";
            return Err(why.to_owned());
        }
        let endpoint = Endpoint::parse(place, default_port).map_err(|wrong| match wrong {
            NoEndpoint::Host => EXPECTED,
            NoEndpoint::Brackets => "expected brackets around an IPv6 address: `[fe80::1]:1883`",
            NoEndpoint::Port => "expected a port from 1 to 65535 behind the host",
        })?;
        let is_of_a_path = |c: char| c.is_ascii_graphic() && !matches!(c, '#' | '"' | '<' | '>');
        if !path.chars().all(is_of_a_path) {
            return Err("expected a path without blanks, `#` and the like: they are written `%20`"
                .to_owned());
        }
        let path = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
        Ok(Address { endpoint, tls, path: is_web.then_some(path) })
    }

    /// How WebSocket is asked for there. None without it.
    pub fn websocket(&self, headers: &[(HeaderName, HeaderValue)]) -> Option<WebSocket> {
        let path = self.path.as_ref()?;
        let scheme = self.scheme();
        let usual = if self.tls { 443 } else { 80 };
        let place = self.endpoint.to_string();
        // Servers compare it with their own name, which has no port.
        let place = place.strip_suffix(&format!(":{usual}")).unwrap_or(&place);
        Some(WebSocket { uri: format!("{scheme}://{place}{path}"), headers: headers.to_vec() })
    }

    /// As it is written in front of the host.
    pub fn scheme(&self) -> &'static str {
        scheme(self.tls, self.path.is_some())
    }

    /// What works, and is mostly not meant.
    pub fn doubt(&self, setting: &str) -> Option<Problem> {
        let Endpoint { host, port } = &self.endpoint;
        let doubt = |rule: &'static Rule, message: &str, label: String| {
            Some(Problem::new(setting, message, label).rule(rule).warning())
        };
        let is_web = self.path.is_some();
        let (plain, secure) = (scheme(false, is_web), scheme(true, is_web));
        let (plain_port, secure_port) = if is_web { (80, 443) } else { (1883, 8883) };
        match (self.tls, port) {
            (false, port) if *port == secure_port => doubt(
                &PORT_MISMATCH,
                &format!("port {port} is for TLS, and `{plain}://` has none"),
                format!("expected `{secure}://{host}`, or another port"),
            ),
            (true, port) if *port == plain_port => doubt(
                &PORT_MISMATCH,
                &format!("port {port} is for connections without TLS, and `{secure}://` has it"),
                format!("expected `{secure}://{host}:{secure_port}`, or `{plain}://`"),
            ),
            (_, 1883 | 8883) if is_web => doubt(
                &PORT_MISMATCH,
                &format!("port {port} is for MQTT without WebSocket"),
                format!("expected `mqtt://{host}` or `mqtts://{host}`, or the port for WebSocket"),
            ),
            (false, _) if !self.endpoint.is_local() => {
                let label = format!("expected `{secure}://{host}`");
                let note =
                    "who listens on the way reads messages and password, and can change them";
                let message = format!("`{setting}` has no TLS, and {host} is no local host");
                doubt(&UNENCRYPTED, &message, label).map(|problem| problem.note(note))
            }
            _ => None,
        }
    }

    /// A broker that is there no more.
    pub fn retired(&self, setting: &str) -> Option<Problem> {
        let host = self.endpoint.host.to_ascii_lowercase();
        if !RETIRED.contains(&host.trim_end_matches('.')) {
            return None;
        }
        let message = format!("Google Cloud IoT Core, at {host}, was retired in August 2023");
        let problem = Problem::new(setting, message, "expected the address of another broker");
        let note =
            "devices of it were moved to other brokers; ClearBlade offers one with the same topics";
        Some(problem.note(note).rule(&RETIRED_BROKER))
    }
}

/// As it is written in front of a host.
pub fn scheme(tls: bool, is_web: bool) -> &'static str {
    match (tls, is_web) {
        (false, false) => "mqtt",
        (true, false) => "mqtts",
        (false, true) => "ws",
        (true, true) => "wss",
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
        let path = "expected a path without blanks, `#` and the like: they are written `%20`";
        assert_eq!(said("ws://a/b c"), path);
    }

    #[test]
    fn over_websocket_an_address_has_a_path() {
        let read = |url: &str| {
            let address = Address::parse(url).unwrap();
            (address.to_string(), address.websocket(&[]).unwrap().uri)
        };
        for (url, at, uri) in [
            ("ws://a", "a:80", "ws://a/mqtt"),
            ("wss://a.example", "a.example:443", "wss://a.example/mqtt"),
            ("wss://a:8084/", "a:8084", "wss://a:8084/"),
            ("WSS://a:443/b/c?d=e", "a:443", "wss://a/b/c?d=e"),
            ("ws://[::1]:9001?x", "[::1]:9001", "ws://[::1]:9001/?x"),
        ] {
            assert_eq!(read(url), (at.to_owned(), uri.to_owned()), "{url}");
        }
        assert!(Address::parse("mqtt://a").unwrap().websocket(&[]).is_none());
    }

    #[test]
    fn an_address_that_is_mostly_not_meant_is_doubted() {
        let doubt = |url: &str| {
            let doubt = Address::parse(url).unwrap().doubt("url");
            doubt.map(|doubt| format!("{}: {} [{}]", doubt.rule, doubt.message, doubt.label))
        };
        for url in [
            "mqtt://broker",
            "mqtt://192.168.1.5",
            "mqtt://localhost:1884",
            "mqtts://broker.example",
            "mqtts://broker.example:443",
            "mqtt://plant.local:1884",
            "wss://broker.example",
            "ws://192.168.1.5:9001",
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
        assert_eq!(
            doubt("wss://broker.example:8883").unwrap(),
            "port-mismatch: port 8883 is for MQTT without WebSocket [expected `mqtt://broker.example` or `mqtts://broker.example`, or the port for WebSocket]"
        );
        assert_eq!(
            doubt("ws://10.0.0.1:443").unwrap(),
            "port-mismatch: port 443 is for TLS, and `ws://` has none [expected `wss://10.0.0.1`, or another port]"
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
