//! Who of those on the network may ask what.

use std::net::{IpAddr, SocketAddr};

use hyper::{
    Request,
    header::{AUTHORIZATION, HOST, HeaderValue},
};
use subtle::ConstantTimeEq;

use super::page;

/// Where questions come from the network, and what whoever asks has to know.
#[derive(Clone, PartialEq, Eq)]
pub struct Door {
    /// Where it is.
    pub address: SocketAddr,
    /// None: whoever reaches it may ask for numbers and health, and for nothing else.
    pub token: Option<String>,
}

/// Stands at a door.
pub(super) struct Guard {
    /// The value of `Authorization`.
    wanted: Option<String>,
}

/// Why a request is not let in.
pub(super) enum TurnedAway {
    /// It has not the token.
    Unknown,
    /// What it asks is told only to those with a token, and there is none here.
    WantsToken,
}

/// What is told without a token.
const NUMBERS: [&str; 2] = ["/health", "/metrics"];

impl Guard {
    pub(super) fn of(door: &Door) -> Guard {
        Guard { wanted: door.token.as_ref().map(|token| format!("Bearer {token}")) }
    }

    pub(super) fn lets_in<B>(&self, request: &Request<B>) -> Result<(), TurnedAway> {
        // It tells nothing of this machine, and is where the token is typed in.
        if page::part(request.uri().path()).is_some() {
            return Ok(());
        }
        let headers = request.headers();
        let (may, otherwise) = match &self.wanted {
            Some(wanted) => {
                let given = headers.get(AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
                // In a time that tells nothing of how much of it is right.
                (given.ct_eq(wanted.as_bytes()).into(), TurnedAway::Unknown)
            }
            None => {
                // A page of somebody else that a browser on this machine shows calls it by another name.
                let is_meant = is_of_this_machine(headers.get(HOST));
                (is_meant && NUMBERS.contains(&request.uri().path()), TurnedAway::WantsToken)
            }
        };
        if may { Ok(()) } else { Err(otherwise) }
    }
}

/// Whether a `Host` is a name or an address that only this machine has for itself.
fn is_of_this_machine(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host.and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_let_in(token: Option<&str>, path: &str, headers: &[(&str, &str)]) -> bool {
        let address = "127.0.0.1:9464".parse().unwrap();
        let guard = Guard::of(&Door { address, token: token.map(str::to_owned) });
        let request =
            headers.iter().fold(Request::builder().uri(path), |request, (name, value)| {
                request.header(*name, *value)
            });
        guard.lets_in(&request.body(()).unwrap()).is_ok()
    }

    #[test]
    fn without_the_token_nothing_is_told() {
        let authorized =
            |value| is_let_in(Some("5a0c4f7b1e2d9388"), "/status", &[("Authorization", value)]);
        assert!(authorized("Bearer 5a0c4f7b1e2d9388"));
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer 5a0c4f7b1e2d938", "5a0c4f7b1e2d9388", "Basic 5a0c"]
        {
            assert!(!authorized(wrong), "{wrong}");
        }
        assert!(!is_let_in(Some("5a0c4f7b1e2d9388"), "/metrics", &[("Host", "localhost")]));
        for path in ["/events", "/log", "/tap", "/page", "/page.js/", "//", "/?"] {
            let is_page = path == "/?";
            assert_eq!(is_let_in(Some("5a0c4f7b1e2d9388"), path, &[]), is_page, "{path}");
        }
    }

    #[test]
    fn where_no_token_is_wanted_only_numbers_are_told() {
        let host = |host| is_let_in(None, "/metrics", &[("Host", host)]);
        for ours in
            ["localhost", "LOCALHOST:9464", "127.0.0.1:9464", "127.1.2.3", "[::1]:9464", "[::1]"]
        {
            assert!(host(ours), "{ours}");
        }
        // A name of somebody else that leads here, as a page in a browser may have it.
        for other in ["evil.example", "localhost.evil.example:9464", "192.168.1.1", "", "[fe80::1]"]
        {
            assert!(!host(other), "{other}");
        }
        assert!(!is_let_in(None, "/metrics", &[]));
        assert!(is_let_in(None, "/health", &[("Host", "localhost")]));
        for path in ["/status", "/tap?node=a", "/metrics/../status", "//status"] {
            assert!(!is_let_in(None, path, &[("Host", "localhost")]), "{path}");
        }
    }
}
