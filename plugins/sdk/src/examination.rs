//! What `forebay doctor` sees on the way to the other side of a connection: steps, as data.

use std::{any::Any, borrow::Cow, net::IpAddr, time::Duration};

use forebay_yaml::units::Period;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use crate::{
    endpoint::Endpoint,
    site::Site,
    world::{Dial, Stream, no_way},
};

/// One step on the way, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was tried, in one or two words: `TLS`.
    pub what: Cow<'static, str>,
    /// What came of it.
    pub outcome: Outcome,
    /// What was seen, in one line.
    pub seen: String,
    /// What to change. Empty when nothing is to be.
    pub help: String,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Fine,
    /// The connection may work, and somebody should look at this.
    Doubtful,
    /// This is why the connection fails.
    Wrong,
}

/// Somebody wants to know how a connection fares.
pub struct Examination<'a> {
    /// Where it stands. Nobody hears its voice.
    pub site: Site,
    /// The nodes that use it: their names, and what was understood of their settings.
    pub users: &'a [(&'a str, &'a dyn Any)],
    /// Where a test message may go, for a connection that has such places.
    pub topic: Option<&'a str>,
    /// Hears of each step as it is done.
    pub tell: &'a dyn Fn(Step),
}

impl Examination<'_> {
    /// All is well here.
    pub fn fine(&self, what: impl Into<Cow<'static, str>>, seen: impl Into<String>) {
        self.step(what, Outcome::Fine, seen, "");
    }

    /// Something may be wrong here.
    pub fn doubt(
        &self,
        what: impl Into<Cow<'static, str>>,
        seen: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.step(what, Outcome::Doubtful, seen, help);
    }

    /// This is why it fails.
    pub fn wrong(
        &self,
        what: impl Into<Cow<'static, str>>,
        seen: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.step(what, Outcome::Wrong, seen, help);
    }

    fn step(
        &self,
        what: impl Into<Cow<'static, str>>,
        outcome: Outcome,
        seen: impl Into<String>,
        help: impl Into<String>,
    ) {
        let (what, seen, help) = (what.into(), seen.into(), help.into());
        (self.tell)(Step { what, outcome, seen, help });
    }

    /// Goes the way to a host: straight, or by way of a proxy.
    pub async fn reach(&self, dial: Dial, longest: Period) -> Option<Box<dyn Stream>> {
        const WHAT: &str = "proxy";
        let proxy = match self.site.world.proxy(&dial) {
            Ok(None) => return self.reach_straight(&dial.to, longest).await,
            Ok(Some(proxy)) => proxy,
            Err(error) => {
                self.wrong(WHAT, error.to_string(), "set it right, or leave it out");
                return None;
            }
        };
        let stream = self.reach_straight(&proxy.at, longest).await?;
        match timeout(*longest, proxy.pass_on(stream, &dial.to)).await {
            Ok(Ok(stream)) => {
                self.fine(WHAT, format!("the proxy at {} connects us to {}", proxy.at, dial.to));
                Some(stream)
            }
            Ok(Err(error)) => {
                self.wrong(WHAT, error.to_string(), "ask who keeps the proxy, or leave it out");
                None
            }
            Err(_) => {
                let seen = format!(
                    "the proxy at {} does not connect us to {} within {longest}",
                    proxy.at, dial.to
                );
                self.wrong(WHAT, seen, "is the host in `url` right, and up?");
                None
            }
        }
    }

    /// Looks up a host and connects to each of its addresses. Gives the first connection there is.
    async fn reach_straight(&self, to: &Endpoint, longest: Period) -> Option<Box<dyn Stream>> {
        let addresses = self.look_up(to, *longest).await?;
        let tries = addresses.iter().map(|address| self.try_address(address, *longest));
        let tried = join_all(tries).await;
        let is_reached = tried.iter().any(Result::is_ok);
        let mut reached = None;
        for (address, outcome) in addresses.iter().zip(tried) {
            match outcome {
                Ok((stream, took)) => {
                    self.fine("TCP", format!("{address} answers after {} ms", took.as_millis()));
                    reached.get_or_insert(stream);
                }
                Err(Refusal { seen, help }) if is_reached => {
                    self.doubt("TCP", format!("{seen}; the host has others"), help);
                }
                Err(Refusal { seen, help }) => self.wrong("TCP", seen, help),
            }
        }
        reached
    }

    /// The addresses of a host, each as an endpoint. What is an address already needs no step.
    async fn look_up(&self, to: &Endpoint, longest: Duration) -> Option<Vec<Endpoint>> {
        const WHAT: &str = "name";
        if to.host_without_zone().parse::<IpAddr>().is_ok() {
            return Some(vec![to.clone()]);
        }
        let host = &to.host;
        let found = match timeout(longest, self.site.world.look_up(to)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                let seen = no_way(&error, host).unwrap_or_else(|| error.to_string());
                let help = "look for a typing error in `url`, and ask `nslookup` on this machine: the name \
                            servers stand in /etc/resolv.conf";
                self.wrong(WHAT, seen, help);
                return None;
            }
            Err(_) => {
                let seen = format!("no name server answers that could know `{host}`");
                let help = "is the link up? the name servers stand in /etc/resolv.conf";
                self.wrong(WHAT, seen, help);
                return None;
            }
        };
        let mut hosts: Vec<String> = Vec::new();
        for address in found {
            let shown = address.ip().to_string();
            if !hosts.contains(&shown) {
                hosts.push(shown);
            }
        }
        if hosts.is_empty() {
            self.wrong(WHAT, format!("`{host}` has no address"), "ask who keeps that name");
            return None;
        }
        self.fine(WHAT, format!("`{host}` is {}", hosts.join(", ")));
        let port = to.port;
        Some(hosts.into_iter().map(|host| Endpoint { host, port }).collect())
    }

    async fn try_address(
        &self,
        address: &Endpoint,
        longest: Duration,
    ) -> Result<(Box<dyn Stream>, Duration), Refusal> {
        let began = Instant::now();
        let dial = self.site.world.connect(Dial::new(address.clone()));
        let (seen, help) = match timeout(longest, dial).await {
            Ok(Ok(stream)) => return Ok((stream, began.elapsed())),
            Ok(Err(error)) => {
                let seen = no_way(&error, &address.to_string());
                let seen = seen.unwrap_or_else(|| format!("connecting to {address}: {error}"));
                (seen, "is the other side up, and the port in `url` right?")
            }
            Err(_) => {
                let longest = Period(longest);
                let seen = format!("{address} does not answer within {longest}");
                (seen, "a firewall on the way may drop what we send, or nobody has that address")
            }
        };
        Err(Refusal { seen, help: help.to_owned() })
    }
}

/// Why an address was not reached.
struct Refusal {
    seen: String,
    help: String,
}
