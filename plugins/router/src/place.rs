//! Where a router is, and how one knows that it is that one.

use std::fmt;

use forebay_sdk::{Endpoint, tls::Fingerprint};

/// The web server of a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub endpoint: Endpoint,
    pub is_encrypted: bool,
    pub check: Check,
}

/// What shows that it is the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Certificates that this system trusts.
    System,
    /// Those in `ca`.
    Authority,
    /// Its certificate, which is known.
    Fingerprint(Fingerprint),
}

impl Place {
    /// Reads `https://host:port`. The error says what would be right.
    pub fn parse(text: &str, check: Check) -> Result<Place, String> {
        const EXPECTED: &str = "expected such as `https://192.168.1.1`";
        let (is_encrypted, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(EXPECTED.to_owned()),
        };
        let rest = rest.trim_end_matches('/');
        let rest = rest.strip_suffix("/api").unwrap_or(rest);
        let port = if is_encrypted { 443 } else { 80 };
        match Endpoint::parse(rest, port) {
            Ok(endpoint) => Ok(Place { endpoint, is_encrypted, check }),
            Err(_) => Err(format!("{EXPECTED}, with nothing behind the host and its port")),
        }
    }

    /// What the header `Host` says.
    pub fn authority(&self) -> String {
        let shown = self.endpoint.to_string();
        let usual = if self.is_encrypted { ":443" } else { ":80" };
        shown.strip_suffix(usual).unwrap_or(&shown).to_owned()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}
