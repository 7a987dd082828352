//! The settings of an MQTT connection.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Capabilities, Claim, Links, Node, Period, Problem, Secret, Settings, Shared, Size, units::form,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{address::Address, driver::Driver, session::Session, topic::check_topic};

/// One session with an MQTT broker, which all nodes that name it share.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionSettings {
    /// Where the broker is: `mqtt://host:1883`, or `mqtts://host:8883` with TLS. `tcp` and `ssl`
    /// mean the same.
    pub url: String,
    /// Names this client to the broker, which lets only one in by that name. A random name when
    /// left out.
    pub client_id: Option<String>,
    /// Who we are to the broker.
    pub username: Option<String>,
    /// Proves it. Write `${file:secrets/broker}` rather than the password itself.
    pub password: Option<Secret>,
    /// How long the connection may be silent before a ping; a broker that does not answer within
    /// the same time again is gone. `0s` sends no pings.
    #[serde(default = "default_keep_alive")]
    pub keep_alive: Period,
    /// `false` has the broker keep subscriptions and messages while we are away.
    #[serde(default = "default_clean_session")]
    pub clean_session: bool,
    /// Whom to trust: a PEM file, or its text by `${file:...}`. The system's certificates when left
    /// out.
    pub ca: Option<String>,
    /// The client's certificate chain: a PEM file, or its text by `${file:...}`.
    pub cert: Option<String>,
    /// The client's private key: a PEM file, or its text by `${file:...}`.
    #[schemars(extend("format" = form::PEM))]
    pub key: Option<Secret>,
    /// The protocol to ask for in the TLS handshake, such as `x-amzn-mqtt-ca` on port 443 of AWS.
    pub alpn: Option<String>,
    /// What the broker publishes for us when the connection breaks.
    pub will: Option<Will>,
    /// The largest packet to send or to take.
    #[serde(default = "default_max_packet")]
    pub max_packet: Size,
    /// How long one attempt to connect may take.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Period,
}

/// A last will: published by the broker when the connection breaks, not when it is closed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Will {
    /// Where it is published.
    pub topic: String,
    /// What it says.
    pub payload: String,
    /// 0, 1 or 2.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2))]
    pub qos: u8,
    /// Whether the broker keeps it for later subscribers.
    #[serde(default)]
    pub retain: bool,
}

fn default_keep_alive() -> Period {
    Period::seconds(60)
}
fn default_clean_session() -> bool {
    true
}
fn default_max_packet() -> Size {
    Size(1 << 20)
}
fn default_connect_timeout() -> Period {
    Period::seconds(10)
}

/// The standard counts the keep-alive in seconds, in 16 bits.
const LONGEST_KEEP_ALIVE: Duration = Duration::from_secs(65_535);
const LONGEST_CONNECT_TIMEOUT: Duration = Duration::from_secs(600);
const SMALLEST_PACKET: Size = Size(1 << 10);
/// The standard's limit, rounded down.
const LARGEST_PACKET: Size = Size(255 << 20);

impl Settings for SessionSettings {
    fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let address = Address::parse(&self.url);
        if let Err(label) = &address {
            problems.push(no_address(&self.url, label));
        }
        let mut report = |setting: &str, message: &str, label: &str| {
            problems.push(Problem::new(setting, message, label));
        };
        if address.is_ok_and(|address| !address.tls) {
            let tls = [
                ("ca", self.ca.is_some()),
                ("cert", self.cert.is_some()),
                ("key", self.key.is_some()),
                ("alpn", self.alpn.is_some()),
            ];
            for (setting, _) in tls.iter().filter(|(_, set)| *set) {
                let message = format!("`{setting}` has no use without TLS");
                report(setting, &message, "expected `url` to begin with `mqtts://`");
            }
        }
        match (&self.cert, &self.key) {
            (Some(_), None) => report("cert", "`cert` needs its `key`", "`key` is missing"),
            (None, Some(_)) => report("key", "`key` needs its `cert`", "`cert` is missing"),
            _ => (),
        }
        if self.password.is_some() && self.username.is_none() {
            report("password", "`password` needs a `username`", "`username` is missing");
        }
        if self.client_id.as_ref().is_some_and(String::is_empty) {
            report("client_id", "`client_id` is empty", "expected a name, or no `client_id`");
        }
        let keep_alive = self.keep_alive.0;
        if keep_alive.subsec_nanos() != 0 || keep_alive > LONGEST_KEEP_ALIVE {
            let label = "expected `0s`, or whole seconds up to `18h`";
            report("keep_alive", "`keep_alive` is out of range", label);
        }
        if !(Duration::from_secs(1)..=LONGEST_CONNECT_TIMEOUT).contains(&self.connect_timeout.0) {
            let message = "`connect_timeout` is out of range";
            report("connect_timeout", message, "expected `1s` to `10m`");
        }
        if !(SMALLEST_PACKET..=LARGEST_PACKET).contains(&self.max_packet) {
            let label = format!("expected `{SMALLEST_PACKET}` to `{LARGEST_PACKET}`");
            report("max_packet", "`max_packet` is out of range", &label);
        }
        if let Some(Err(wrong)) = self.will.as_ref().map(|will| check_topic(&will.topic)) {
            problems.push(wrong.problem("will.topic", "`will.topic` cannot be published to"));
        }
        if self.client_id.is_none() && !self.clean_session {
            let message = "`clean_session: false` needs a `client_id`";
            let problem = Problem::new("clean_session", message, "`client_id` is missing");
            problems.push(problem.rule("session-without-id"));
        }
        problems.extend(Address::parse(&self.url).ok().and_then(|address| address.doubt()));
        problems
    }

    fn claims(&self) -> Vec<Claim> {
        match (&self.client_id, Address::parse(&self.url)) {
            (Some(client_id), Ok(address)) => {
                // The names of hosts are the same in either case.
                let broker = address.to_string().to_lowercase();
                vec![Claim::named(format!("client id `{client_id}` at {broker}"), "client_id")]
            }
            _ => Vec::new(),
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { resends: !self.clean_session, ..Capabilities::default() }
    }

    fn build(self, links: Links) -> Node {
        let address = Address::parse(&self.url);
        let broker = address.as_ref().map_or_else(|_| self.url.clone(), Address::to_string);
        let max_packet = usize::try_from(self.max_packet.0).unwrap_or(usize::MAX);
        let (session, failures) =
            Session::new(broker, max_packet, self.clean_session, self.connect_timeout.0);
        let shared = Shared::new(Arc::clone(&session));
        Node::connection(shared, Driver::new(self, links.folder, address, session, failures))
    }
}

/// A host and a port lack only the scheme, which TLS has at port 8883.
fn no_address(url: &str, label: &str) -> Problem {
    let problem = Problem::new("url", "`url` is not the address of a broker", label);
    let scheme = if url.ends_with(":8883") { "mqtts" } else { "mqtt" };
    let meant = format!("{scheme}://{url}");
    match Address::parse(&meant) {
        Ok(_) => problem.instead(meant),
        Err(_) => problem,
    }
}

#[cfg(test)]
mod tests {
    use forebay_sdk::testing::configure;

    use crate::CONNECTION;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        match configure(&CONNECTION, text) {
            Ok(_) => assert_eq!(expected, <[&str; 0]>::default()),
            Err(said) => assert_eq!(said, expected),
        }
    }

    #[test]
    fn good_settings_are_accepted() {
        check("url: mqtt://broker", &[]);
        check(
            "url: mqtts://broker\nca: /etc/ca.pem\ncert: c.pem\nkey: k.pem\nalpn: mqtt\n\
             client_id: a\nclean_session: false\nusername: me\npassword: secret\nkeep_alive: 0s\n\
             will: { topic: a/b, payload: gone, qos: 1, retain: true }\nmax_packet: 255MiB\n\
             connect_timeout: 10m",
            &[],
        );
    }

    #[test]
    fn all_problems_are_found_in_one_run() {
        check(
            "url: mqtt://broker\nca: x\ncert: y\npassword: secret\nclean_session: false\n\
             keep_alive: 500ms\nconnect_timeout: 0s\nmax_packet: 1B\n\
             will: { topic: a/#, payload: x }",
            &[
                "setting-value: `ca` has no use without TLS [expected `url` to begin with `mqtts://`]",
                "setting-value: `cert` has no use without TLS [expected `url` to begin with `mqtts://`]",
                "setting-value: `cert` needs its `key` [`key` is missing]",
                "setting-value: `password` needs a `username` [`username` is missing]",
                "setting-value: `keep_alive` is out of range [expected `0s`, or whole seconds up to `18h`]",
                "setting-value: `connect_timeout` is out of range [expected `1s` to `10m`]",
                "setting-value: `max_packet` is out of range [expected `1KiB` to `255MiB`]",
                "bad-topic: `will.topic` cannot be published to [expected a topic without `+` and `#`]",
                "session-without-id: `clean_session: false` needs a `client_id` [`client_id` is missing]",
            ],
        );
        check(
            "url: broker\nkey: k\nclient_id: ''\nkeep_alive: 19h",
            &[
                "setting-value: `url` is not the address of a broker [expected `mqtt://host:1883`, or `mqtts://host:8883` with TLS]",
                "setting-value: `key` needs its `cert` [`cert` is missing]",
                "setting-value: `client_id` is empty [expected a name, or no `client_id`]",
                "setting-value: `keep_alive` is out of range [expected `0s`, or whole seconds up to `18h`]",
            ],
        );
        check(
            "url: mqtt://broker\nwill: { topic: a, payload: x, qos: 3 }",
            &["setting-type: `will.qos` is out of range [expected 0 to 2, found 3]"],
        );
    }

    #[test]
    fn a_broker_without_a_scheme_is_offered_with_one() {
        let meant = |url: &str| super::no_address(url, "").instead;
        assert_eq!(meant("10.0.0.7").as_deref(), Some("mqtt://10.0.0.7"));
        assert_eq!(meant("broker:8883").as_deref(), Some("mqtts://broker:8883"));
        assert_eq!(meant("http://broker"), None);
        assert_eq!(meant("me:hunter2@broker"), None);
    }

    #[test]
    fn a_client_id_is_claimed_at_its_broker() {
        let claims = |text: &str| {
            let claims = configure(&CONNECTION, text).unwrap().claims();
            claims.into_iter().map(|claim| claim.what).collect::<Vec<_>>()
        };
        assert_eq!(claims("url: mqtt://broker"), <[&str; 0]>::default());
        assert_eq!(claims("{url: tcp://b:1883, client_id: a}"), ["client id `a` at b:1883"]);
        assert_eq!(claims("{url: mqtt://b, client_id: a}"), ["client id `a` at b:1883"]);
    }

    #[test]
    fn a_password_does_not_print() {
        let text = "url: mqtt://b\nusername: u\npassword: hunter2";
        assert!(configure(&CONNECTION, text).is_ok());
        let settings: super::SessionSettings =
            serde_json::from_str(r#"{"url": "mqtt://b", "password": "hunter2"}"#).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
