//! A host and a port, as users write them in a URL.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A host and a port on the network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A name, or an IP address without brackets. A link-local one may have its zone, as in
    /// `fe80::1%eth0`.
    pub host: String,
    /// From 1 to 65535.
    pub port: u16,
}

/// Why a text is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEndpoint {
    /// There is no host, or none that could be one.
    Host,
    /// An IPv6 address stands without brackets.
    Brackets,
    /// Something stands in the place of the port that is none.
    Port,
}

impl Endpoint {
    /// Reads `host`, `host:port`, `[ipv6]` or `[ipv6]:port`; a `/` may follow. An address may have a
    /// zone, as in `[fe80::1%eth0]`; the `%` may be written `%25`, as URLs have it (RFC 6874).
    pub fn parse(text: &str, default_port: u16) -> Result<Endpoint, NoEndpoint> {
        let text = text.strip_suffix('/').unwrap_or(text);
        if is_v6(text) {
            return Err(NoEndpoint::Brackets);
        }
        // An IPv6 address is full of colons, so it stands in brackets.
        let (host, after) = match text.strip_prefix('[') {
            Some(text) => text.split_once(']').ok_or(NoEndpoint::Host)?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let is_of_a_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_host = match text.starts_with('[') {
            true => is_v6(host),
            false => !host.is_empty() && host.chars().all(is_of_a_name),
        };
        if !is_host || !(after.is_empty() || after.starts_with(':')) || after.starts_with("::") {
            return Err(NoEndpoint::Host);
        }
        let port = match after.strip_prefix(':') {
            None => default_port,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(NoEndpoint::Port)?,
        };
        Ok(Endpoint { host: host.replacen("%25", "%", 1), port })
    }

    /// The host as a certificate names it: an address without its zone, which is known on this
    /// machine alone.
    pub fn host_without_zone(&self) -> &str {
        match self.host.contains(':') {
            true => zoned(&self.host).0,
            false => &self.host,
        }
    }

    /// Whether the way there stays within the site: this device, a private network, or a name that
    /// only a private network knows.
    pub fn is_local(&self) -> bool {
        match self.host_without_zone().parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => is_local_v4(address),
            Ok(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
                Some(address) => is_local_v4(address),
                None => {
                    address.is_loopback()
                        || address.is_unspecified()
                        || address.is_unique_local()
                        || address.is_unicast_link_local()
                }
            },
            Err(_) => is_local_name(&self.host),
        }
    }
}

/// An address, and the zone behind it.
fn zoned(host: &str) -> (&str, Option<&str>) {
    match host.split_once('%') {
        Some((address, zone)) => (address, Some(zone.strip_prefix("25").unwrap_or(zone))),
        None => (host, None),
    }
}

fn is_v6(host: &str) -> bool {
    let is_of_a_zone = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let (address, zone) = zoned(host);
    address.parse::<Ipv6Addr>().is_ok()
        && zone.is_none_or(|zone| !zone.is_empty() && zone.chars().all(is_of_a_zone))
}

fn is_local_v4(address: Ipv4Addr) -> bool {
    // 100.64.0.0/10 is shared within the network of a provider or a VPN (RFC 6598).
    let [first, second, ..] = address.octets();
    address.is_loopback()
        || address.is_unspecified()
        || address.is_private()
        || address.is_link_local()
        || first == 100 && (64..128).contains(&second)
}

/// A name without a dot is looked up in the network at hand; the endings are those that no public
/// name has.
fn is_local_name(name: &str) -> bool {
    const ENDINGS: [&str; 8] =
        ["local", "localhost", "localdomain", "lan", "home", "internal", "intranet", "home.arpa"];
    let name = name.to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    let ends = |ending: &&str| {
        name.strip_suffix(*ending).is_some_and(|front| front.is_empty() || front.ends_with('.'))
    };
    !name.contains('.') || ENDINGS.iter().any(ends)
}

impl fmt::Display for Endpoint {
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
    fn endpoints_read_as_users_write_them() {
        let read = |text| Endpoint::parse(text, 502).map(|endpoint| endpoint.to_string());
        for (text, expected) in [
            ("192.168.1.50", "192.168.1.50:502"),
            ("gateway.local:1502", "gateway.local:1502"),
            ("plc_1/", "plc_1:502"),
            ("[fe80::1]:503", "[fe80::1]:503"),
            ("[::1]", "[::1]:502"),
            ("[fe80::1%eth0]:503", "[fe80::1%eth0]:503"),
            ("[fe80::1%25br-lan.2]/", "[fe80::1%br-lan.2]:502"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected));
        }
        for text in [
            "",
            ":502",
            "a b",
            "user@host",
            "host/path",
            "[::1",
            "[zz]",
            "[::1]502",
            "host%eth0",
            "[fe80::1%]",
            "[fe80::1%a b]",
            "[%eth0]",
        ] {
            assert_eq!(read(text), Err(NoEndpoint::Host), "{text}");
        }
        for text in ["::1", "fe80::1:1883/", "fe80::1%eth0"] {
            assert_eq!(read(text), Err(NoEndpoint::Brackets), "{text}");
        }
        for text in ["host:", "host:0", "host:65536", "user:secret@host", "host:80/x"] {
            assert_eq!(read(text), Err(NoEndpoint::Port), "{text}");
        }
    }

    #[test]
    fn a_zone_is_no_part_of_what_a_certificate_names() {
        let named = |text| {
            let endpoint = Endpoint::parse(text, 8883).unwrap();
            endpoint.host_without_zone().to_owned()
        };
        assert_eq!(named("[fe80::1%eth0]"), "fe80::1");
        assert_eq!(named("[fe80::1]"), "fe80::1");
        assert_eq!(named("broker.example"), "broker.example");
    }

    #[test]
    fn a_site_knows_its_own_hosts() {
        let is_local = |host: &str| Endpoint { host: host.to_owned(), port: 1 }.is_local();
        for host in [
            "localhost",
            "broker",
            "plc_1",
            "gateway.local",
            "Broker.LAN.",
            "a.b.internal",
            "nas.home.arpa",
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.50",
            "169.254.1.1",
            "100.64.0.1",
            "100.127.0.1",
            "0.0.0.0",
            "::1",
            "::",
            "fe80::1",
            "fe80::1%eth0.2",
            "fd00::1",
            "::ffff:192.168.1.1",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "broker.example",
            "local.example",
            "notlocal.example.com",
            "mylan.de",
            "8.8.8.8",
            "172.32.0.1",
            "192.169.0.1",
            "100.128.0.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
