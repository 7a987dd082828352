//! What only one node or connection can hold, such as a listening port.

use std::{
    net::SocketAddr,
    path::{Component, Path, PathBuf},
};

use crate::endpoint::Endpoint;

/// Something that only one node or connection can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What is held, in the user's words: `port 1883 of 127.0.0.1`.
    pub what: String,
    /// The setting that claims it, such as `listen[0]`.
    pub setting: String,
    /// What decides whether two claims clash.
    pub held: Holding,
}

/// What is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holding {
    /// A thing of this name. Equal names clash.
    Named(String),
    /// A place in the file system. The same place clashes, however it is written.
    Path(PathBuf),
    /// An address that is listened at.
    Listener(SocketAddr),
    /// The other side of a connection, which may serve several and often does not.
    Peer(String),
}

impl Claim {
    /// Claims what a name stands for.
    pub fn named(what: impl Into<String>, setting: impl Into<String>) -> Claim {
        let what = what.into();
        Claim { held: Holding::Named(what.clone()), what, setting: setting.into() }
    }

    /// Claims a file or a device. `noun` says which it is: `file`, `serial line`.
    pub fn path(noun: &str, path: impl AsRef<Path>, setting: impl Into<String>) -> Claim {
        let path = plain(path.as_ref());
        let what = format!("{noun} {}", path.display());
        Claim { what, setting: setting.into(), held: Holding::Path(path) }
    }

    /// Says that whoever is at an address often serves one connection only.
    pub fn peer(to: &Endpoint, setting: impl Into<String>) -> Claim {
        let host = to.host.trim_end_matches('.').to_ascii_lowercase();
        let host = if ["127.0.0.1", "::1"].contains(&&*host) { "localhost" } else { &host };
        let held = Holding::Peer(format!("{host}:{}", to.port));
        Claim { what: to.to_string(), setting: setting.into(), held }
    }

    /// Claims a port of an address. Port 0 is a different one each time, so it claims nothing.
    pub fn listener(address: SocketAddr, setting: impl Into<String>) -> Option<Claim> {
        let what = match address.ip().is_unspecified() {
            true => format!("port {} of every address", address.port()),
            false => format!("port {} of {}", address.port(), address.ip()),
        };
        let held = Holding::Listener(address);
        (address.port() != 0).then(|| Claim { what, setting: setting.into(), held })
    }

    /// Whether only one of the two can be held at a time.
    pub fn clashes(&self, other: &Claim) -> bool {
        match (&self.held, &other.held) {
            (Holding::Listener(one), Holding::Listener(other)) => {
                one.port() == other.port() && (covers(one, other) || covers(other, one))
            }
            (one, other) => one == other,
        }
    }
}

/// Whether listening at one address takes the other too. `[::]` takes those of IPv4 as well.
fn covers(one: &SocketAddr, other: &SocketAddr) -> bool {
    one.ip() == other.ip() || one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4())
}

/// `/log//a`, `/log/./a` and `/log/x/../a` are the same place.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for step in path.components() {
        let last = plain.components().next_back();
        match (step, last) {
            (Component::CurDir, _) | (Component::ParentDir, Some(Component::RootDir)) => (),
            (Component::ParentDir, Some(Component::Normal(_))) => {
                plain.pop();
            }
            (step, _) => plain.push(step),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_the_same_however_it_is_written() {
        let clash = |one: &str, other: &str| {
            let claim = |text| Claim::peer(&Endpoint::parse(text, 502).unwrap(), "url");
            claim(one).clashes(&claim(other))
        };
        assert!(clash("Meter.lan.", "meter.lan:502"));
        assert!(clash("localhost", "127.0.0.1"));
        assert!(clash("[::1]:502", "localhost"));
        assert!(!clash("10.0.0.1", "10.0.0.2"));
        assert!(!clash("10.0.0.1", "10.0.0.1:503"));
    }

    #[test]
    fn listeners_clash_when_the_system_would_refuse_the_second() {
        let clash = |one: &str, other: &str| {
            let claim = |text: &str| Claim::listener(text.parse().unwrap(), "listen");
            let (Some(one), Some(other)) = (claim(one), claim(other)) else { return false };
            assert_eq!(one.clashes(&other), other.clashes(&one));
            one.clashes(&other)
        };
        assert!(clash("127.0.0.1:1883", "127.0.0.1:1883"));
        assert!(clash("127.0.0.1:1883", "0.0.0.0:1883"));
        assert!(clash("[::]:1883", "0.0.0.0:1883"));
        assert!(clash("[::]:1883", "127.0.0.1:1883"));
        assert!(clash("[::]:1883", "[::1]:1883"));
        assert!(!clash("127.0.0.1:1883", "127.0.0.2:1883"));
        assert!(!clash("127.0.0.1:1883", "127.0.0.1:1884"));
        assert!(!clash("0.0.0.0:1883", "[::1]:1883"));
        assert!(!clash("0.0.0.0:0", "0.0.0.0:0"));
    }

    #[test]
    fn a_path_is_the_same_however_it_is_written() {
        let clash = |one: &str, other: &str| {
            Claim::path("file", one, "path").clashes(&Claim::path("serial line", other, "url"))
        };
        assert!(clash("/dev/ttyUSB0", "/dev//./ttyUSB0"));
        assert!(clash("/dev/ttyUSB0", "/dev/x/../ttyUSB0"));
        assert!(clash("/dev/ttyUSB0", "/../dev/ttyUSB0"));
        assert!(clash("log/a", "./log/a"));
        assert!(!clash("../a", "a"));
        assert!(!clash("/dev/ttyUSB0", "/dev/ttyUSB1"));
    }
}
