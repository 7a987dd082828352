//! Who of those on the network may ask what.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use forebay_sdk::{password::same, tls::Tls};
use hyper::{
    HeaderMap, Method, Request,
    header::{AUTHORIZATION, HOST, HeaderValue, ORIGIN},
};

use super::routes::Route;

/// Where questions come from the network, and what whoever asks has to know.
#[derive(Clone)]
pub struct Door {
    /// Where it is.
    pub address: SocketAddr,
    /// None: whoever reaches it may ask for numbers and health, and for nothing else, unless certificates are asked for.
    pub token: Option<String>,
    /// The certificates there, when it speaks TLS.
    pub tls: Option<Tls>,
}

impl Door {
    /// Whether the other one would be the same.
    pub(super) fn is_like(&self, other: &Door) -> bool {
        let tls = |door: &Door| {
            door.tls.as_ref().map(|tls| {
                let key = tls.key.as_ref().map(|key| key.expose().to_owned());
                (Arc::clone(&tls.folder), tls.ca.clone(), tls.cert.clone(), key)
            })
        };
        (self.address, &self.token) == (other.address, &other.token) && tls(self) == tls(other)
    }
}

/// Stands where questions come in.
pub(super) enum Guard {
    /// At the socket: who may open it may ask everything.
    Socket,
    /// At a door: who has the token. The value of `Authorization`.
    Token(String),
    /// At a door that nobody enters without a certificate.
    Certificate,
    /// At a door for everybody on this machine.
    Numbers,
}

/// Why a request is not let in.
pub(super) enum TurnedAway {
    /// It has not the token.
    Unknown,
    /// What it asks is told only to those with a token, and there is none here.
    WantsToken,
    /// A page of somebody else, or one that cannot be told from it, has a browser ask.
    OfSomebodyElse,
}

/// Whoever changes something says so in this header, which no page of somebody else can send: a browser asks first.
const CHANGES: &str = "x-forebay";

impl Guard {
    pub(super) fn of(door: &Door) -> Guard {
        let asks_for_certificates = door.tls.as_ref().is_some_and(|tls| tls.ca.is_some());
        match &door.token {
            Some(token) => Guard::Token(format!("Bearer {token}")),
            None if asks_for_certificates => Guard::Certificate,
            None => Guard::Numbers,
        }
    }

    pub(super) fn lets_in<B>(&self, request: &Request<B>) -> Result<(), TurnedAway> {
        let (headers, route) = (request.headers(), Route::at(request.uri().path()));
        // Where no token is asked for, a page of somebody else could have a name of theirs lead here.
        let is_meant = match self {
            Guard::Socket => is_of_no_network(headers.get(HOST)),
            Guard::Numbers => is_of_this_machine(headers.get(HOST)),
            Guard::Token(_) | Guard::Certificate => true,
        };
        if !is_meant {
            return Err(TurnedAway::OfSomebodyElse);
        }
        if request.method() != Method::GET && !is_of_our_page(headers) {
            return Err(TurnedAway::OfSomebodyElse);
        }
        // It tells nothing of this machine, and is where the token is typed in.
        if route == Some(Route::Page) {
            return Ok(());
        }
        match self {
            Guard::Socket | Guard::Certificate => Ok(()),
            Guard::Token(wanted) => {
                let given = headers.get(AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
                if same(given, wanted.as_bytes()) { Ok(()) } else { Err(TurnedAway::Unknown) }
            }
            Guard::Numbers if route.is_some_and(Route::is_numbers) => Ok(()),
            Guard::Numbers => Err(TurnedAway::WantsToken),
        }
    }
}

/// Whether a request that changes something comes from the page in this program, or from no browser.
fn is_of_our_page(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let is_same_site = text("sec-fetch-site").is_none_or(|site| site == "same-origin");
    let host = text(HOST.as_str()).unwrap_or_default();
    let is_same_origin = text(ORIGIN.as_str()).is_none_or(|origin| {
        origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host))
    });
    headers.contains_key(CHANGES) && is_same_site && is_same_origin
}

/// Whether a `Host` is of this machine, or a word that is nobody's name on a network, as `http://forebay/` has it.
fn is_of_no_network(host: Option<&HeaderValue>) -> bool {
    let name = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    is_word || is_of_this_machine(host)
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
        let guard = Guard::of(&Door { address, token: token.map(str::to_owned), tls: None });
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

    #[test]
    fn a_page_of_somebody_else_could_have_a_browser_change_something() {
        let guards = [Guard::Socket, Guard::Certificate, Guard::Token("Bearer t".to_owned())];
        let is_let_in = |guard: &Guard, headers: &[(&str, &str)]| {
            let request = Request::post("/reload").header("Authorization", "Bearer t");
            let request =
                headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
            guard.lets_in(&request.body(()).unwrap()).is_ok()
        };
        let (host, ours) = (("Host", "localhost:9464"), ("X-Forebay", "reload"));
        for guard in &guards {
            assert!(is_let_in(guard, &[host, ours]));
            let own = [("Origin", "http://localhost:9464"), ("Sec-Fetch-Site", "same-origin")];
            assert!(is_let_in(guard, &[host, ours, own[0], own[1]]));
            // A form has no such header, and a script of another site is asked about it first.
            assert!(!is_let_in(guard, &[host]));
            assert!(!is_let_in(guard, &[host, ("Content-Type", "text/plain"), own[0]]));
            for other in ["http://evil.example", "null", "http://localhost:80", "localhost:9464"] {
                assert!(!is_let_in(guard, &[host, ours, ("Origin", other)]), "{other}");
            }
            for site in ["cross-site", "same-site", "none", ""] {
                assert!(!is_let_in(guard, &[host, ours, ("Sec-Fetch-Site", site)]), "{site}");
            }
        }
    }

    #[test]
    fn a_name_of_somebody_else_that_leads_to_a_forwarded_socket_was_answered() {
        let is_let_in = |host: &str| {
            let request = Request::get("/status").header("Host", host).body(()).unwrap();
            Guard::Socket.lets_in(&request).is_ok()
        };
        for ours in ["forebay", "x", "localhost:9464", "127.0.0.1:9464", "[::1]:9464"] {
            assert!(is_let_in(ours), "{ours}");
        }
        for other in ["evil.example", "evil.example:9464", "10.0.0.7:9464", "router.lan"] {
            assert!(!is_let_in(other), "{other}");
        }
    }
}
