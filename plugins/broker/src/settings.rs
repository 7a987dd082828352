//! The settings of the embedded broker.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use forebay_sdk::{Claim, Configured, Period, Problem, Secret, Settings, Size};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    connection::{BrokerConnection, Terms},
    rules::OPEN_BROKER,
};

/// An MQTT broker in this program.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BrokerSettings {
    /// Where devices reach the broker, as `address:port`; `0.0.0.0` means every IPv4 address of
    /// this device. With `[]` only pipelines reach it.
    #[serde(default = "default_listen")]
    pub listen: Vec<String>,
    /// The password of each user. Anybody may connect when left out.
    pub users: Option<BTreeMap<String, Secret>>,
    /// The most memory that the broker takes for all that clients can cause: connections, sessions,
    /// subscriptions, retained messages, and what waits.
    #[serde(default = "default_memory")]
    pub memory: Size,
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

fn default_listen() -> Vec<String> {
    vec!["127.0.0.1:1883".to_owned()]
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
/// So that several can be on their way.
const PACKETS_IN_MEMORY: u64 = 20;

impl Settings for BrokerSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let mut listen = Vec::with_capacity(self.listen.len());
        let mut claims: Vec<Claim> = Vec::new();
        for (index, text) in self.listen.iter().enumerate() {
            let setting = format!("listen[{index}]");
            let Ok(address) = text.parse::<SocketAddr>() else {
                let message = format!("`{setting}` is not an address to listen at");
                let label = "expected an address and a port, such as `127.0.0.1:1883`";
                problems.push(Problem::new(setting, message, label));
                continue;
            };
            listen.push(address);
            let claim = Claim::listener(address, &*setting);
            let clash = |other: &&Claim| claim.iter().any(|claim| claim.clashes(other));
            if let Some(other) = claims.iter().find(clash) {
                let message = format!("`{setting}` is taken by another entry of `listen`");
                let label = format!("clashes with `{}`", other.setting);
                problems.push(Problem::new(&*setting, message, label));
            }
            if self.users.is_none() && !address.ip().is_loopback() {
                let message = format!("anybody on the network may publish at {address}");
                let problem = Problem::new(setting, message, "reachable from other devices");
                let note = "Set `users`, or listen at 127.0.0.1 only.";
                problems.push(problem.rule(&OPEN_BROKER).warning().note(note));
            }
            claims.extend(claim);
        }
        if self.users.as_ref().is_some_and(BTreeMap::is_empty) {
            let label = "expected at least one user, or no `users` to let anybody in";
            problems.push(Problem::new("users", "nobody can connect: `users` is empty", label));
        }
        if !(SMALLEST_MEMORY..=LARGEST_MEMORY).contains(&self.memory) {
            let label = format!("expected `{SMALLEST_MEMORY}` to `{LARGEST_MEMORY}`");
            problems.push(Problem::new("memory", "`memory` is out of range", label));
        }
        // In whole KiB, to read well.
        let largest = Size((self.memory.0 / PACKETS_IN_MEMORY) & !0x3ff);
        if !(SMALLEST_PACKET..=largest).contains(&self.max_packet) {
            let label =
                format!("expected `{SMALLEST_PACKET}` to `{largest}`, a twentieth of `memory`");
            problems.push(Problem::new("max_packet", "`max_packet` is out of range", label));
        }
        let terms = Terms {
            users: self.users,
            memory: self.memory,
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
            max_in_flight: self.max_in_flight,
            max_subscriptions: self.max_subscriptions,
            max_retained: self.max_retained,
            max_retained_bytes: self.max_retained_bytes,
        };
        Some(BrokerConnection { listen, claims, terms })
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
        check("listen: ['0.0.0.0:1883', '[::1]:1883']\nusers: { plc: secret }", &[]);
    }

    #[test]
    fn all_problems_are_found_in_one_run() {
        check(
            "listen: ['localhost', '127.0.0.1:1883', '0.0.0.0:1883']\nusers: {}\nmax_packet: 1GiB",
            &[
                "setting-value: `listen[0]` is not an address to listen at [expected an address and a port, such as `127.0.0.1:1883`]",
                "setting-value: `listen[2]` is taken by another entry of `listen` [clashes with `listen[1]`]",
                "setting-value: nobody can connect: `users` is empty [expected at least one user, or no `users` to let anybody in]",
                "setting-value: `max_packet` is out of range [expected `1KiB` to `1638KiB`, a twentieth of `memory`]",
            ],
        );
        check(
            "max_connections: 0",
            &["setting-type: `max_connections` is out of range [expected 1 to 10000, found 0]"],
        );
    }

    #[test]
    fn an_open_door_is_a_warning() {
        check(
            "listen: ['192.168.1.1:1883']",
            &[
                "open-broker: anybody on the network may publish at 192.168.1.1:1883 [reachable from other devices]",
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
