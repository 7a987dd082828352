//! The settings of the embedded broker.

use std::{collections::BTreeMap, net::SocketAddr};

use forebay_sdk::{Claim, Configured, Problem, Secret, Settings, Size};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{connection::BrokerConnection, house::Terms, rules::OPEN_BROKER};

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
    /// The most devices that are connected at the same time.
    #[serde(default = "default_max_connections")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_connections: u16,
    /// The largest packet that a device may send.
    #[serde(default = "default_max_packet")]
    pub max_packet: Size,
    /// The most messages of QoS 1 and 2 that wait for one device that subscribed. The oldest is
    /// dropped when another comes.
    #[serde(default = "default_max_queued")]
    #[schemars(range(min = 1, max = 100000))]
    pub max_queued: u32,
}

fn default_listen() -> Vec<String> {
    vec!["127.0.0.1:1883".to_owned()]
}
fn default_max_connections() -> u16 {
    100
}
fn default_max_packet() -> Size {
    Size(1 << 20)
}
fn default_max_queued() -> u32 {
    1000
}

const SMALLEST_PACKET: Size = Size(1 << 10);
/// The standard's limit, rounded down.
const LARGEST_PACKET: Size = Size(255 << 20);

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
        if !(SMALLEST_PACKET..=LARGEST_PACKET).contains(&self.max_packet) {
            let label = format!("expected `{SMALLEST_PACKET}` to `{LARGEST_PACKET}`");
            problems.push(Problem::new("max_packet", "`max_packet` is out of range", label));
        }
        let BrokerSettings { users, max_connections, max_packet, max_queued, .. } = self;
        let terms = Terms { users, max_connections, max_packet, max_queued };
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
                "setting-value: `max_packet` is out of range [expected `1KiB` to `255MiB`]",
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
