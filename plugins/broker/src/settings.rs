//! The settings of the embedded broker.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use forebay_sdk::{
    Claim, Configured, Period, Problem, Rate, Secret, Settings, ShortOr, Size, SyncPolicy,
    tls::{ClientCertificates, Oldest},
    units::form,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    access::{Access, Right, Rule, Whom, check_rule},
    connection::BrokerConnection,
    roll::{Credential, Roll},
    rules::{OPEN_BROKER, PASSWORDS_IN_THE_CLEAR},
    terms::{Listener, ServerTls, Terms},
};

/// An MQTT broker in this program.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BrokerSettings {
    /// Where devices reach the broker: each as `address:port`, or as a map with `at` and the settings of that
    /// listener. `0.0.0.0` means every IPv4 address of this device. With `[]` only pipelines reach it.
    #[serde(default = "default_listen")]
    pub listen: Vec<ShortOr<String, ListenerSettings>>,
    /// The password of each user, or a digest of it, as `forebay passwd` writes one.
    pub users: Option<BTreeMap<String, Password>>,
    /// A file with more users, a line `USER:DIGEST` for each: that of `forebay passwd` and of Mosquitto. It is read
    /// again when it changes.
    pub password_file: Option<String>,
    /// Whether devices that give no user name get in. When left out: those of this device, where there are
    /// no users.
    pub anonymous: Option<bool>,
    /// Who may publish and read what: what no rule allows is denied. Everybody may use every topic when
    /// left out.
    pub access: Option<Vec<AccessSettings>>,
    /// The most memory that the broker takes for all that clients can cause: connections, sessions,
    /// subscriptions, retained messages, and what waits.
    #[serde(default = "default_memory")]
    pub memory: Size,
    /// Where retained messages, sessions and what waits for devices that are away are kept: on `disk` they survive a restart,
    /// and a power cut.
    #[serde(default)]
    pub store: Store,
    /// When what is on disk is safe from a power cut, and what must be safe is acknowledged: `always` at once, for each
    /// message or those that came meanwhile; a duration such as `100ms` (which it is when left out) after as long at most, which wears
    /// flash less. With `never` it is acknowledged once the system has it: a crash of the program takes nothing, a power cut the last half minute.
    pub sync: Option<SyncPolicy>,
    /// The most devices that are connected at the same time.
    #[serde(default = "default_max_connections")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_connections: u16,
    /// The most of them that come from one address. As many as `max_connections` when left out.
    #[schemars(range(min = 1, max = 10000))]
    pub max_connections_per_address: Option<u16>,
    /// The most sessions that are remembered, those of connected devices included. Twice
    /// `max_connections` when left out.
    #[schemars(range(min = 1, max = 100000))]
    pub max_sessions: Option<u32>,
    /// How long the session of a device that is away is remembered at most.
    #[serde(default = "default_session_expiry")]
    pub session_expiry: Period,
    /// The longest time that a device may be silent; MQTT 5 devices are told it as their keep-alive. Each
    /// device says its own when left out.
    pub max_keep_alive: Option<Period>,
    /// The largest packet that a device may send.
    #[serde(default = "default_max_packet")]
    pub max_packet: Size,
    /// The most messages of QoS 1 and 2 that wait for one device that subscribed. The oldest is
    /// dropped when another comes.
    #[serde(default = "default_max_queued")]
    #[schemars(range(min = 1, max = 100000))]
    pub max_queued: u32,
    /// The most bytes of messages that wait for one device, or one packet when that is larger.
    #[serde(default = "default_max_queued_bytes")]
    pub max_queued_bytes: Size,
    /// How many messages a device may publish, such as `50/s`. Who is faster is read more slowly, and loses nothing.
    pub max_rate: Option<Rate>,
    /// How many bytes a device may publish in a second. Who is faster is read more slowly.
    pub max_bytes_per_second: Option<Size>,
    /// How often the broker says how it is, in retained messages below `$SYS/broker`. Never with `0s`.
    #[serde(default = "default_status_every")]
    pub status_every: Period,
    /// The most messages that a device has been sent and has not acknowledged.
    #[serde(default = "default_max_in_flight")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_in_flight: u16,
    /// The most subscriptions of one device.
    #[serde(default = "default_max_subscriptions")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_subscriptions: u32,
    /// The most topics whose last message is kept.
    #[serde(default = "default_max_retained")]
    #[schemars(range(min = 0, max = 100000))]
    pub max_retained: u32,
    /// The most bytes of these messages. Three twentieths of `memory` when left out, which is also the
    /// most.
    pub max_retained_bytes: Option<Size>,
}

/// A password, or a digest of one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent, extend("format" = form::PASSWORD))]
pub struct Password(Secret);

/// Where something is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    #[default]
    Disk,
    Memory,
}

fn default_status_every() -> Period {
    Period::seconds(10)
}

const SYNC: SyncPolicy = SyncPolicy::Every(Duration::from_millis(100));

/// One way in.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerSettings {
    /// The address and the port.
    pub at: String,
    /// The certificate of the broker: a PEM file, its name relative to the configuration's folder, or its text
    /// by `${file:...}`. Then it speaks TLS.
    #[schemars(length(min = 1), extend("format" = form::LINES))]
    pub cert: Option<String>,
    /// The private key of that certificate, likewise.
    #[schemars(extend("format" = form::PEM))]
    pub key: Option<Secret>,
    /// Who has issued the certificates of devices, likewise. Then devices are asked for one.
    #[schemars(length(min = 1), extend("format" = form::LINES))]
    pub ca: Option<String>,
    /// Whether a device must have a certificate.
    #[serde(default)]
    pub client_certificates: Certificates,
    /// Who a device with a certificate is: whom its common name names, without a password, or who logs in.
    #[serde(default)]
    pub user_from: UserFrom,
    /// The oldest version of TLS that is spoken.
    #[serde(default)]
    pub min_tls: OldestTls,
    /// The path of a WebSocket, such as `/mqtt`: then MQTT goes over that.
    pub websocket: Option<String>,
    /// Whether devices that give no user name get in here. As `anonymous` of the broker when left out.
    pub anonymous: Option<bool>,
}

/// Whether devices need certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Certificates {
    #[default]
    Required,
    Optional,
}

/// Who a device with a certificate is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserFrom {
    #[default]
    Certificate,
    Login,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum OldestTls {
    #[default]
    #[serde(rename = "1.2")]
    V12,
    #[serde(rename = "1.3")]
    V13,
}

/// What some may do with some topics.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessSettings {
    /// The topics, as a filter with `+` and `#`. `%u` in it stands for the name of the user, `%c` for the client id.
    pub topic: String,
    /// What is allowed: to `read`, to `write` (publish), or both. `deny` allows nothing, whatever other rules say.
    pub allow: Allow,
    /// Who is meant. Everybody when left out.
    pub users: Option<Vec<String>>,
    /// Whether those are meant, too, who give no user name; without `users`, they alone.
    #[serde(default)]
    pub anonymous: bool,
}

/// What a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Allow {
    Read,
    Write,
    Readwrite,
    Deny,
}

fn default_listen() -> Vec<ShortOr<String, ListenerSettings>> {
    vec![ShortOr::Short("127.0.0.1:1883".to_owned())]
}
fn default_max_connections() -> u16 {
    100
}
fn default_memory() -> Size {
    Size(32 << 20)
}
fn default_session_expiry() -> Period {
    Period(Duration::from_secs(24 * 3600))
}
fn default_max_queued_bytes() -> Size {
    Size(1 << 20)
}
fn default_max_in_flight() -> u16 {
    100
}
fn default_max_subscriptions() -> u32 {
    100
}
fn default_max_retained() -> u32 {
    1000
}
fn default_max_packet() -> Size {
    Size(1 << 20)
}
fn default_max_queued() -> u32 {
    1000
}

const SMALLEST_PACKET: Size = Size(1 << 10);
const SMALLEST_MEMORY: Size = Size(1 << 20);
const LARGEST_MEMORY: Size = Size(1 << 30);
const SLOWEST: Size = Size(100);
const SHORTEST_STATUS: Period = Period::seconds(1);
/// So that several can be on their way.
const PACKETS_IN_MEMORY: u64 = 20;

impl Settings for BrokerSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let users = self.users(problems);
        let (listeners, claims) = self.listeners(problems);
        let access = self.access(problems);
        if !(SMALLEST_MEMORY..=LARGEST_MEMORY).contains(&self.memory) {
            let label = format!("expected `{SMALLEST_MEMORY}` to `{LARGEST_MEMORY}`");
            problems.push(Problem::new("memory", "`memory` is out of range", label));
        }
        if self.sync.is_some() && self.store == Store::Memory {
            let label = "expected with `store: disk` only";
            problems.push(Problem::new("sync", "`sync` has no effect in memory", label));
        }
        let least = self.max_bytes_per_second.filter(|most| *most < SLOWEST);
        if least.is_some() {
            let label = format!("expected `{SLOWEST}` or more");
            let message = "`max_bytes_per_second` is out of range";
            problems.push(Problem::new("max_bytes_per_second", message, label));
        }
        if !self.status_every.0.is_zero() && self.status_every < SHORTEST_STATUS {
            let label = format!("expected `0s`, or `{SHORTEST_STATUS}` and more");
            problems.push(Problem::new("status_every", "`status_every` is out of range", label));
        }
        // In whole KiB, to read well.
        let largest = Size((self.memory.0 / PACKETS_IN_MEMORY) & !0x3ff);
        if !(SMALLEST_PACKET..=largest).contains(&self.max_packet) {
            let label =
                format!("expected `{SMALLEST_PACKET}` to `{largest}`, a twentieth of `memory`");
            problems.push(Problem::new("max_packet", "`max_packet` is out of range", label));
        }
        let terms = Terms {
            listeners,
            users,
            password_file: self.password_file,
            access,
            memory: self.memory,
            sync: (self.store == Store::Disk).then_some(self.sync.unwrap_or(SYNC)),
            max_connections: self.max_connections,
            max_connections_per_address: self
                .max_connections_per_address
                .unwrap_or(self.max_connections),
            max_sessions: self.max_sessions.unwrap_or(2 * u32::from(self.max_connections)),
            session_expiry: self.session_expiry.0,
            max_keep_alive: self.max_keep_alive.map(|longest| longest.0),
            max_packet: self.max_packet,
            max_queued: self.max_queued,
            max_queued_bytes: self.max_queued_bytes,
            max_rate: self.max_rate.map(|rate| rate.0),
            max_byte_rate: self.max_bytes_per_second,
            status_every: Some(self.status_every.0).filter(|every| !every.is_zero()),
            max_in_flight: self.max_in_flight,
            max_subscriptions: self.max_subscriptions,
            max_retained: self.max_retained,
            max_retained_bytes: self.max_retained_bytes,
        };
        Some(BrokerConnection { claims, terms: Arc::new(terms) })
    }
}

impl BrokerSettings {
    fn has_users(&self) -> bool {
        self.users.is_some() || self.password_file.is_some()
    }

    /// The users that stand here.
    fn users(&self, problems: &mut Vec<Problem>) -> Roll {
        let Some(users) = &self.users else { return Roll::default() };
        if users.is_empty() {
            let label = "expected at least one user";
            problems.push(Problem::new("users", "`users` is empty", label));
        }
        let mut known = BTreeMap::new();
        for (user, password) in users {
            match Credential::read(&password.0) {
                Ok(credential) => {
                    known.insert(user.clone(), credential);
                }
                Err(why) => {
                    let message = format!("the digest of the password of `{user}` {why}");
                    let label = "expected a password, or what `forebay passwd` writes";
                    problems.push(Problem::new(format!("users.{user}"), message, label));
                }
            }
        }
        Roll::new(known)
    }

    /// The ways in, and their ports.
    fn listeners(&self, problems: &mut Vec<Problem>) -> (Vec<Listener>, Vec<Claim>) {
        let mut listeners = Vec::with_capacity(self.listen.len());
        let mut claims: Vec<Claim> = Vec::new();
        for (index, written) in self.listen.iter().enumerate() {
            let (written, setting, at) = match written {
                ShortOr::Short(at) => {
                    let settings = ListenerSettings { at: at.clone(), ..Default::default() };
                    (settings, format!("listen[{index}]"), format!("listen[{index}]"))
                }
                ShortOr::Long(settings) => {
                    (settings.clone(), format!("listen[{index}]"), format!("listen[{index}].at"))
                }
            };
            let Ok(address) = written.at.parse::<SocketAddr>() else {
                let message = format!("`{at}` is not an address to listen at");
                let label = "expected an address and a port, such as `127.0.0.1:1883`";
                problems.push(Problem::new(at, message, label));
                continue;
            };
            let claim = Claim::listener(address, &*at);
            let clash = |other: &&Claim| claim.iter().any(|claim| claim.clashes(other));
            if let Some(other) = claims.iter().find(clash) {
                let message = format!("`{at}` is taken by another entry of `listen`");
                let label = format!("clashes with `{}`", other.setting);
                problems.push(Problem::new(&*at, message, label));
            }
            claims.extend(claim);
            let said = written.anonymous.or(self.anonymous);
            let is_local = address.ip().is_loopback();
            let tls = written.tls(&setting, problems);
            let listener = Listener {
                address,
                websocket: written.path(&setting, problems),
                anonymous: said.unwrap_or(is_local && !self.has_users()),
                tls,
            };
            if !is_local {
                problems.extend(self.exposed(&listener, &at));
            }
            problems.extend(self.shut(&listener, said, &at));
            listeners.push(listener);
        }
        (listeners, claims)
    }

    /// What others on the network can do at a listener.
    fn exposed(&self, listener: &Listener, at: &str) -> Option<Problem> {
        let Listener { address, tls, anonymous, .. } = listener;
        let needs_certificate = tls
            .as_ref()
            .is_some_and(|tls| tls.ca.is_some() && tls.clients == ClientCertificates::Required);
        if *anonymous && !needs_certificate {
            let what = if self.access.is_some() { "come in" } else { "read and publish all" };
            let message = format!("anybody on the network may {what} at {address}");
            let problem = Problem::new(at, message, "reachable from other devices");
            let note = "Set `users` and no `anonymous`, or listen at 127.0.0.1 only.";
            return Some(problem.rule(&OPEN_BROKER).warning().note(note));
        }
        if tls.is_none() && self.has_users() {
            let message =
                format!("passwords of devices go over the network as they are, to {address}");
            let problem = Problem::new(at, message, "has no TLS");
            let note =
                "Give this listener `cert` and `key`, or say in a comment why it needs none.";
            return Some(problem.rule(&PASSWORDS_IN_THE_CLEAR).warning().note(note));
        }
        None
    }

    /// That nobody can get in at a listener.
    fn shut(&self, listener: &Listener, said: Option<bool>, at: &str) -> Option<Problem> {
        let by_certificate = listener.tls.as_ref().is_some_and(|tls| tls.names_users);
        if listener.anonymous || by_certificate || self.has_users() {
            return None;
        }
        let message = format!("nobody can get in at {}: the broker has no users", listener.address);
        let label = match said {
            None => "expected `users`, `password_file`, or `anonymous: true` to let anybody in",
            Some(_) => "expected `users` or `password_file`, for `anonymous` is false",
        };
        Some(Problem::new(at, message, label))
    }

    fn access(&self, problems: &mut Vec<Problem>) -> Option<Arc<Access>> {
        let written = self.access.as_ref()?;
        let mut rules = Vec::with_capacity(written.len());
        for (index, rule) in written.iter().enumerate() {
            if let Err(why) = check_rule(&rule.topic) {
                let setting = format!("access[{index}].topic");
                let message = format!("`{setting}` is no topic filter: {why}");
                problems.push(Problem::new(setting, message, "expected such as `machine/%u/#`"));
            }
            let whom = match (&rule.users, rule.anonymous) {
                (None, false) => Whom::Everybody,
                (users, anonymous) => {
                    Whom::Some { users: users.clone().unwrap_or_default(), anonymous }
                }
            };
            let right = match rule.allow {
                Allow::Read => Right::Read,
                Allow::Write => Right::Write,
                Allow::Readwrite => Right::Both,
                Allow::Deny => Right::Neither,
            };
            rules.push(Rule { filter: rule.topic.clone(), right, whom });
        }
        Some(Arc::new(Access(rules)))
    }
}

impl ListenerSettings {
    /// How it speaks TLS, when it does.
    fn tls(&self, setting: &str, problems: &mut Vec<Problem>) -> Option<ServerTls> {
        let mut missing = |what: &str, other: &str, why: &str| {
            let message = format!("`{setting}.{what}` is missing: {why}");
            problems.push(Problem::new(format!("{setting}.{other}"), message, "set without it"));
        };
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some(ServerTls {
                cert: cert.clone(),
                key: key.clone(),
                ca: self.ca.clone(),
                clients: match self.client_certificates {
                    Certificates::Required => ClientCertificates::Required,
                    Certificates::Optional => ClientCertificates::Optional,
                },
                names_users: self.ca.is_some() && self.user_from == UserFrom::Certificate,
                oldest: match self.min_tls {
                    OldestTls::V12 => Oldest::V12,
                    OldestTls::V13 => Oldest::V13,
                },
            }),
            (Some(_), None) => {
                missing("key", "cert", "a certificate needs its private key");
                None
            }
            (None, Some(_)) => {
                missing("cert", "key", "a private key needs its certificate");
                None
            }
            (None, None) => {
                if self.ca.is_some() {
                    missing(
                        "cert",
                        "ca",
                        "devices show certificates only to a broker that has one",
                    );
                }
                None
            }
        }
    }

    fn path(&self, setting: &str, problems: &mut Vec<Problem>) -> Option<String> {
        let path = self.websocket.clone()?;
        let is_path = path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic());
        if !is_path || path.contains(['?', '#']) {
            let setting = format!("{setting}.websocket");
            let message = format!("`{setting}` is no path");
            problems.push(Problem::new(setting, message, "expected such as `/mqtt`"));
        }
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use forebay_sdk::testing::configure;

    use crate::broker;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        match configure(&broker(), text) {
            Ok(_) => assert_eq!(expected, <[&str; 0]>::default()),
            Err(said) => assert_eq!(said, expected),
        }
    }

    #[test]
    fn good_settings_are_accepted() {
        check("{}", &[]);
        check("listen: []", &[]);
        check("listen: ['127.0.0.1:0', '127.0.0.1:0', '[::1]:1883']\nmax_queued: 5", &[]);
        check("listen: ['127.0.0.1:1883', '[::1]:1883']\nusers: { plc: secret }", &[]);
        check(
            "listen: [{ at: '0.0.0.0:8883', cert: a, key: b, websocket: /mqtt }]\nusers: { plc: secret }",
            &[],
        );
        check("listen: [{ at: '0.0.0.0:8883', cert: a, key: b, ca: c }]", &[]);
        check(
            "access: [{ topic: 'a/%u/#', allow: readwrite, users: [plc], anonymous: true }]",
            &[],
        );
    }

    #[test]
    fn all_problems_are_found_in_one_run() {
        check(
            "listen: ['localhost', '127.0.0.1:1883', '0.0.0.0:1883']\nusers: {}\nmax_packet: 1GiB",
            &[
                "setting-value: `users` is empty [expected at least one user]",
                "setting-value: `listen[0]` is not an address to listen at [expected an address and a port, such as `127.0.0.1:1883`]",
                "setting-value: `listen[2]` is taken by another entry of `listen` [clashes with `listen[1]`]",
                "passwords-in-the-clear: passwords of devices go over the network as they are, to 0.0.0.0:1883 [has no TLS]",
                "setting-value: `max_packet` is out of range [expected `1KiB` to `1638KiB`, a twentieth of `memory`]",
            ],
        );
        check(
            "max_connections: 0",
            &["setting-type: `max_connections` is out of range [expected 1 to 10000, found 0]"],
        );
    }

    #[test]
    fn who_said_nothing_of_users_opened_a_door_to_the_network() {
        check(
            "listen: ['192.168.1.1:1883']",
            &[
                "setting-value: nobody can get in at 192.168.1.1:1883: the broker has no users [expected `users`, `password_file`, or `anonymous: true` to let anybody in]",
            ],
        );
        check(
            "anonymous: false",
            &[
                "setting-value: nobody can get in at 127.0.0.1:1883: the broker has no users [expected `users` or `password_file`, for `anonymous` is false]",
            ],
        );
    }

    #[test]
    fn what_a_listener_on_the_network_exposes_is_a_warning() {
        check(
            "listen: ['192.168.1.1:1883']\npassword_file: users\naccess: []\nanonymous: true",
            &[
                "open-broker: anybody on the network may come in at 192.168.1.1:1883 [reachable from other devices]",
            ],
        );
        check(
            "listen: ['192.168.1.1:1883']\nusers: { plc: a }",
            &[
                "passwords-in-the-clear: passwords of devices go over the network as they are, to 192.168.1.1:1883 [has no TLS]",
            ],
        );
        check(
            "listen: ['192.168.1.1:1883']\nanonymous: true",
            &[
                "open-broker: anybody on the network may read and publish all at 192.168.1.1:1883 [reachable from other devices]",
            ],
        );
    }

    #[test]
    fn what_is_missing_or_wrong_beside_a_listener_or_a_rule_is_said_at_its_place() {
        check(
            "listen: [{ at: '127.0.0.1:1', cert: a }, { at: '127.0.0.1:2', key: a, websocket: mqtt }]",
            &[
                "setting-value: `listen[0].key` is missing: a certificate needs its private key [set without it]",
                "setting-value: `listen[1].cert` is missing: a private key needs its certificate [set without it]",
                "setting-value: `listen[1].websocket` is no path [expected such as `/mqtt`]",
            ],
        );
        check(
            "users: { plc: $7$101$cut }\naccess: [{ topic: a#, allow: read }]",
            &[
                "setting-value: the digest of the password of `plc` is not whole: was its end cut off? [expected a password, or what `forebay passwd` writes]",
                "setting-value: `access[0].topic` is no topic filter: `#` is no whole last level [expected such as `machine/%u/#`]",
            ],
        );
    }

    #[test]
    fn it_serves_others_than_the_nodes_of_this_program() {
        assert!(configure(&broker(), "{}").unwrap().capabilities().serves);
    }

    #[test]
    fn each_listener_is_claimed() {
        let broker =
            configure(&broker(), "listen: ['127.0.0.1:1883', '[::1]:1884', '127.0.0.1:0']");
        let claims: Vec<_> =
            broker.unwrap().claims().into_iter().map(|c| (c.what, c.setting)).collect();
        assert_eq!(
            claims,
            [
                ("port 1883 of 127.0.0.1".to_owned(), "listen[0]".to_owned()),
                ("port 1884 of ::1".to_owned(), "listen[1]".to_owned()),
            ]
        );
    }
}
