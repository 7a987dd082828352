//! Where a broker is, as users write it: `mqtts://broker.example:8883`.

use std::fmt;

/// A broker's host and port, and whether TLS is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// Whether TLS comes first.
    pub tls: bool,
}

const EXPECTED: &str = "expected `mqtt://host:1883`, or `mqtts://host:8883` with TLS";

impl Address {
    /// Reads a URL; says what would be right when it cannot. Never shows the URL, which might hold
    /// a password.
    pub fn parse(url: &str) -> Result<Address, String> {
        let (scheme, rest) = url.split_once("://").ok_or(EXPECTED)?;
        let (tls, default_port) = match scheme {
            "mqtt" | "tcp" => (false, 1883),
            "mqtts" | "ssl" => (true, 8883),
            "ws" | "wss" => return Err(format!("{EXPECTED}; WebSocket is not supported")),
            _ => return Err(EXPECTED.to_owned()),
        };
        if rest.contains('@') {
            let why = "the user name and the password have settings of their own";
            return Err(format!("{EXPECTED}; {why}"));
        }
        let (host, port) = split_port(rest.strip_suffix('/').unwrap_or(rest))?;
        let port = match port {
            None => default_port,
            Some(text) => match text.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(format!("expected a port from 1 to 65535, found `{text}`")),
            },
        };
        Ok(Address { host: host.to_owned(), port, tls })
    }
}

/// The host, and the text of the port when there is one.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    let wrong = || EXPECTED.to_owned();
    // An IPv6 address is full of colons, so it stands in brackets.
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(wrong()),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match !host.is_empty() && host.chars().all(is_name) {
        true => Ok((host, port)),
        false => Err(wrong()),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
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
    }

    #[test]
    fn a_wrong_address_says_what_would_be_right() {
        for url in [
            "",
            "broker:1883",
            "http://broker",
            "mqtt://",
            "mqtt://a b",
            "mqtt://broker/path",
            "mqtt://[::1",
            "mqtt://[zz]",
            "mqtt://[::1]x",
            "mqtt://::1",
        ] {
            assert_eq!(Address::parse(url), Err(EXPECTED.to_owned()), "{url}");
        }
        let said = |url: &str| Address::parse(url).unwrap_err();
        assert_eq!(said("mqtt://a:0"), "expected a port from 1 to 65535, found `0`");
        assert_eq!(said("mqtt://a:99999"), "expected a port from 1 to 65535, found `99999`");
        assert!(said("ws://a").ends_with("WebSocket is not supported"));
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
