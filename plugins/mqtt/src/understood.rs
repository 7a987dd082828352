//! A session with a broker, as its settings were understood.

use std::{any::Any, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use forebay_sdk::{
    Period, Problem, Secret, Timestamp, beside,
    tls::{Oldest, Tls, rustls::ClientConfig},
    world::Via,
};
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    address::Address,
    client::{Hello, Limits},
    cloud::{Demands, Device, Token, TokenMaker},
    rules::{BRIDGE_ECHO, FORGETFUL_BRIDGE, NEEDS_MQTT_5, REFUSED_BY_SERVICE},
    version::Version,
    words::Words,
};

/// A session with a broker, as its settings were understood.
#[derive(Clone, Debug)]
pub struct MqttConnection {
    /// Where the broker is.
    pub address: Address,
    /// Where else, in the order in which they are tried.
    pub fallback: Vec<Address>,
    /// By way of whom.
    pub via: Via,
    /// What a web server is told when it is asked for WebSocket.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The name that the server is to have, when it is not that of its host.
    pub server_name: Option<String>,
    /// The oldest version of TLS.
    pub min_tls: Oldest,
    /// None for a random one,
    pub client_id: Option<String>,
    /// or for one that the broker chooses.
    pub is_named_by_broker: bool,
    pub hello: Hello,
    pub keep_alive: Period,
    pub connect_timeout: Period,
    pub ca: Option<String>,
    pub cert: Option<String>,
    pub key: Option<Secret>,
    pub alpn: Option<String>,
    /// Says so to a broker of MQTT 3.1.1.
    pub is_bridge: bool,
    /// After how long without a message to hang up, until there is one. None when never.
    pub idle_close: Option<Duration>,
    /// What is lost is not connected again.
    pub starts_once: bool,
    /// None for what the broker speaks.
    pub version: Option<Version>,
    /// What the service demands whose broker it is.
    pub demands: Option<&'static Demands>,
    /// What makes the password, when it holds only for a while.
    pub tokens: Option<TokenMaker>,
    /// On an Azure IoT hub: whose topics these are.
    pub device: Option<Device>,
}

impl MqttConnection {
    /// What we say of ourselves now, and until when that holds, in seconds since 1970.
    pub fn hello(&self, now: Timestamp) -> (Hello, Option<i64>) {
        let Some(tokens) = &self.tokens else { return (self.hello.clone(), None) };
        let Token { password, renew_at } = tokens.make(now);
        (Hello { password: Some(password), ..self.hello.clone() }, Some(renew_at))
    }

    /// What a broker takes that says so, as far as its service does.
    pub fn limits(&self, said: Limits) -> Limits {
        let Some(demands) = self.demands else { return said };
        let keeps_retained = said.keeps_retained && demands.keeps_retained;
        Limits { max_qos: said.max_qos.min(demands.max_qos), keeps_retained, ..said }
    }

    /// Where the broker is, the best place first.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        std::iter::once(&self.address).chain(&self.fallback)
    }

    /// What errors are said with.
    pub fn words(&self, address: &Address) -> Words {
        Words {
            broker: address.to_string(),
            client_id: self.client_id.clone(),
            tls: address.tls,
            is_web: address.path.is_some(),
            has_username: self.hello.username.is_some(),
            is_bridge: self.is_bridge,
        }
    }

    /// Empty when the broker is to choose. At most 23 letters and digits when it is random: every broker must take those [MQTT-3.1.3-5].
    pub fn client_id_or_random(&self) -> String {
        if self.is_named_by_broker {
            return String::new();
        }
        let random = || format!("forebay{:012x}", fastrand::u64(..1 << 48));
        self.client_id.clone().unwrap_or_else(random)
    }

    /// Reads the certificates anew: a renewed one needs no reload. None without TLS.
    pub async fn tls(
        &self,
        address: &Address,
        folder: &Arc<Path>,
    ) -> anyhow::Result<Option<Arc<ClientConfig>>> {
        if !address.tls {
            return Ok(None);
        }
        let tls = self.certificates(Arc::clone(folder));
        let config =
            beside(move || tls.client_config()).await.context("reading certificates")??;
        Ok(Some(Arc::new(self.with_options(config))))
    }

    /// Sets what the settings say of the handshake.
    pub fn with_options(&self, mut config: ClientConfig) -> ClientConfig {
        config.alpn_protocols = self.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        config
    }

    /// Whom to trust, and who we are. Names of files are relative to the folder.
    pub fn certificates(&self, folder: Arc<Path>) -> Tls {
        let (ca, cert, key) = (self.ca.clone(), self.cert.clone(), self.key.clone());
        Tls { folder, ca, cert, key, oldest: self.min_tls }
    }
}

/// How what comes in goes over a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bridged {
    /// Nothing that the bridge publishes here is among it.
    OneWay,
    /// Some of what the bridge publishes here is asked for, and must not come back.
    BothWays,
}

/// Which broker a connection leads to, the same for all that do. None for one of another type.
pub fn broker(connection: &dyn Any) -> Option<String> {
    let session = connection.downcast_ref::<MqttConnection>()?;
    // The names of hosts are the same in either case.
    Some(session.address.to_string().to_lowercase())
}

/// Whether it is a connection that says of itself that it is a bridge, so that nothing of it comes back.
pub fn is_bridge(connection: &dyn Any) -> bool {
    let session = connection.downcast_ref::<MqttConnection>();
    session.is_some_and(|session| session.is_bridge && session.version != Some(Version::V5))
}

/// What is wrong with a connection for a bridge that subscribes on it. There is nothing wrong with the embedded broker.
pub fn unfit_for_bridge(connection: &dyn Any, bridged: Bridged, qos: u8) -> Vec<Problem> {
    let Some(session) = connection.downcast_ref::<MqttConnection>() else { return Vec::new() };
    let mut problems = Vec::new();
    let may_echo = !session.is_bridge && session.version != Some(Version::V5);
    if bridged == Bridged::BothWays && may_echo {
        let message = "what the bridge publishes comes back to it, and goes round for ever";
        let label = "expected `bridge: true` or `version: \"5\"` at the connection";
        let note = "MQTT 3.1.1 sends a message to its publisher too, when he asks for its topic";
        let problem = Problem::new("bridged", message, label).rule(&BRIDGE_ECHO);
        problems.push(problem.note(note));
    }
    if session.hello.clean_session && qos > 0 {
        let message = "what is published while the bridge is away does not go over it";
        let label = "expected `clean_session: false` and a `client_id` at the connection";
        let problem = Problem::new("connection", message, label).rule(&FORGETFUL_BRIDGE);
        problems.push(problem.warning());
    }
    problems
}

/// What is wrong with settings that are for MQTT 5 on a connection, which may be of another type: the
/// embedded broker has no use for them.
pub fn needs_version_5<'a>(
    connection: &dyn Any,
    settings: impl Iterator<Item = &'a str>,
) -> Vec<Problem> {
    let session = connection.downcast_ref::<MqttConnection>();
    if session.is_some_and(|session| session.device.is_some()) {
        // They go into the topic.
        return Vec::new();
    }
    let label = match session.map(|session| session.version) {
        Some(Some(Version::V4)) => "expected `version: \"5\"` at the connection",
        Some(_) => return Vec::new(),
        None => "expected a connection of type `mqtt` that speaks MQTT 5",
    };
    settings.map(|setting| needs_mqtt_5(setting, label)).collect()
}

/// What the service behind a connection does not take of a publisher.
pub fn refused_publisher(
    connection: &dyn Any,
    topic: Option<&str>,
    qos: u8,
    retain: bool,
) -> Vec<Problem> {
    let session = connection.downcast_ref::<MqttConnection>();
    let Some(demands) = session.and_then(|session| session.demands) else { return Vec::new() };
    demands.problems(topic.map(|topic| ("topic", topic)), ("qos", qos), ("retain", retain))
}

/// What it does not take of a subscriber.
pub fn refused_filters<'a>(
    connection: &dyn Any,
    filters: impl Iterator<Item = &'a str>,
) -> Vec<Problem> {
    let session = connection.downcast_ref::<MqttConnection>();
    let Some(demands) = session.and_then(|session| session.demands) else { return Vec::new() };
    let refused = filters.enumerate().filter_map(|(at, filter)| {
        let label = demands.refuses_filter(filter)?;
        let message = format!("{} sends nothing on `{filter}`", demands.name);
        Some(Problem::new(format!("topics[{at}]"), message, label).rule(&REFUSED_BY_SERVICE))
    });
    refused.collect()
}

/// What MQTT 3.1.1 does not have.
pub fn needs_mqtt_5(setting: &str, label: &str) -> Problem {
    let message = format!("`{setting}` needs MQTT 5");
    Problem::new(setting, message, label).rule(&NEEDS_MQTT_5)
}
