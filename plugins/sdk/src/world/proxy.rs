//! Who passes connections on, as users and the environment name him.

use std::{fmt, io};

use forebay_yaml::units::Secret;
use percent_encoding::percent_decode_str;

use crate::endpoint::{Endpoint, NoEndpoint};

/// Somebody who passes connections on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Where it is.
    pub at: Endpoint,
    /// What it speaks.
    pub speaks: Speaks,
    /// Who we are to it, and what proves it.
    pub login: Option<(String, Secret)>,
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// SOCKS of version 5. The proxy looks up the host's name.
    Socks,
    /// HTTP, and CONNECT in it.
    Http,
}

impl Proxy {
    /// Reads `socks5://host:1080` or `http://host:3128`. Says what would be right when it cannot.
    ///
    /// # Errors
    ///
    /// What would be right.
    pub fn parse(url: &str) -> Result<Proxy, String> {
        const EXPECTED: &str = "expected `socks5://host:1080` or `http://host:3128`";
        let (scheme, rest) = url.split_once("://").ok_or(EXPECTED)?;
        let (speaks, default_port) = match &*scheme.to_ascii_lowercase() {
            "socks5" | "socks5h" | "socks" => (Speaks::Socks, 1080),
            "http" => (Speaks::Http, 3128),
            "https" => return Err(format!("{EXPECTED}: a proxy is not spoken to with TLS here")),
            "socks4" | "socks4a" => return Err(format!("{EXPECTED}: SOCKS 4 is not spoken")),
            _ => return Err(EXPECTED.to_owned()),
        };
        if rest.contains('@') {
            return Err(
                "expected no user and password here: they have settings of their own".to_owned()
            );
        }
        let at = Endpoint::parse(rest, default_port).map_err(|wrong| match wrong {
            NoEndpoint::Host => EXPECTED,
            NoEndpoint::Brackets => "expected brackets around an IPv6 address",
            NoEndpoint::Port => "expected a port from 1 to 65535 behind the host",
        })?;
        Ok(Proxy { at, speaks, login: None })
    }

    /// Reads what a variable says, in which user and password may stand as in a URL.
    fn of_variable(value: &str) -> Result<Proxy, String> {
        let Some((scheme, rest)) = value.split_once("://") else { return Proxy::parse(value) };
        let Some((login, rest)) = rest.rsplit_once('@') else { return Proxy::parse(value) };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let login = Some((decoded(user), Secret::new(decoded(password))));
        Ok(Proxy { login, ..Proxy::parse(&format!("{scheme}://{rest}"))? })
    }

    /// Whom the environment would have us ask for the way to a host: in the first of these variables that is
    /// there, in capitals or in small letters, unless `NO_PROXY` names the host. What is on the local network is
    /// called straight.
    ///
    /// # Errors
    ///
    /// When the variable holds no proxy that we can speak to.
    pub fn of_environment(
        names: &[&str],
        variable: impl Fn(&str) -> Option<String>,
        to: &Endpoint,
    ) -> io::Result<Option<Proxy>> {
        let variable = |name: &str| {
            let value = variable(name).or_else(|| variable(&name.to_lowercase()));
            value.filter(|value| !value.is_empty())
        };
        let named = names.iter().find_map(|name| Some((name, variable(name)?)));
        let Some((name, value)) = named.filter(|_| !to.is_local()) else { return Ok(None) };
        let exceptions = variable("NO_PROXY").unwrap_or_default();
        if exceptions.split(',').any(|exception| is_excepted(to, exception.trim())) {
            return Ok(None);
        }
        let why =
            |expected| io::Error::other(Barred(format!("`{name}` names no proxy: {expected}")));
        Proxy::of_variable(&value).map(Some).map_err(why)
    }
}

/// Whether an entry of `NO_PROXY` is a host, a domain that it is in, either with its port, or `*`.
fn is_excepted(to: &Endpoint, exception: &str) -> bool {
    if exception == "*" {
        return true;
    }
    let port = format!(":{}", to.port);
    let exception = exception.strip_suffix(&port).unwrap_or(exception).to_ascii_lowercase();
    let domain = exception.trim_start_matches('*').trim_start_matches('.');
    let host = to.host.to_ascii_lowercase();
    !domain.is_empty() && (host == domain || host.ends_with(&format!(".{domain}")))
}

/// A proxy does not pass us on.
#[derive(Clone, Debug)]
pub struct Barred(pub(super) String);

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Barred {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_a_proxy_for_what_is_beyond_the_site() {
        let look = |names: &[&str], all: &str, no: &str, host: &str| {
            let variable = |name: &str| match name {
                "ALL_PROXY" => Some(all.to_owned()),
                "https_proxy" => Some("http://web".to_owned()),
                "no_proxy" => Some(no.to_owned()),
                _ => None,
            };
            let to = Endpoint { host: host.to_owned(), port: 8883 };
            Proxy::of_environment(names, variable, &to).map_err(|error| error.to_string())
        };
        let via = |all: &str, no: &str, host: &str| {
            let found = look(&["ALL_PROXY"], all, no, host);
            found.map(|proxy| proxy.map(|proxy| proxy.at.to_string()))
        };
        let proxy = Ok(Some("p:1080".to_owned()));
        assert_eq!(via("socks5://me:pw@p", "", "a.example"), proxy);
        assert_eq!(via("socks5://p", "b.example, .c.example", "xb.example"), proxy);
        assert_eq!(via("socks5://p", "b.example", "x.B.example"), Ok(None));
        assert_eq!(via("socks5://p", "*", "a.example"), Ok(None));
        assert_eq!(via("socks5://p", "", "192.168.1.1"), Ok(None));
        assert_eq!(via("", "", "a.example"), Ok(None));
        assert_eq!(via("socks5://p", "a.example:1", "a.example"), Ok(Some("p:1080".to_owned())));
        assert_eq!(via("socks5://p", "*.example:8883", "a.example"), Ok(None));
        let found = look(&["HTTPS_PROXY", "ALL_PROXY"], "http://m%65:p%40w@p", "", "a.example");
        assert_eq!(found.unwrap().unwrap().at.to_string(), "web:3128");
        let found = look(&["http_proxy", "ALL_PROXY"], "http://m%65:p%40w@p", "", "a.example");
        let (user, password) = found.unwrap().unwrap().login.unwrap();
        assert_eq!((user.as_str(), password.expose()), ("me", "p@w"));
        let said = via("https://me:pw@p", "", "a.example").unwrap_err();
        assert!(said.starts_with("`ALL_PROXY` names no proxy: ") && !said.contains("pw"), "{said}");
    }

    #[test]
    fn proxies_read_as_users_write_them() {
        let read = |url: &str| Proxy::parse(url).map(|proxy| (proxy.at.to_string(), proxy.speaks));
        assert_eq!(read("socks5://10.0.0.1"), Ok(("10.0.0.1:1080".to_owned(), Speaks::Socks)));
        assert_eq!(read("socks5h://p:9050/"), Ok(("p:9050".to_owned(), Speaks::Socks)));
        assert_eq!(read("HTTP://p:8080"), Ok(("p:8080".to_owned(), Speaks::Http)));
        for url in ["p:1080", "ftp://p", "https://p", "socks4://p", "http://me:pw@p"] {
            let said = read(url).unwrap_err();
            assert!(said.starts_with("expected ") && !said.contains("pw"), "{said}");
        }
    }
}
