//! All that users write: of a connection, a source and a sink.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc, time::Duration};

use forebay_sdk::{
    Coding, Compression, Configured, Filter, Format, Period, Problem, Secret, Settings, Size,
    Template,
    mqtt::{Manner, Properties, Publication, Retained},
    tls::{Oldest, rustls::pki_types::ServerName},
    topic::{NoTopic, check_topic},
    units::form,
    world::{Proxy, Via},
};
use http::{HeaderName, HeaderValue};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Visitor},
};

use crate::{
    address::Address,
    client::Hello,
    cloud::Demands,
    doubts::{doubts, endless_client_id, long_client_id, unfit_keep_alive},
    link_state::LinkState,
    rules::{OVERLAPPING_FILTERS, REPEATED_FILTER, SESSION_WITHOUT_ID, UNRETAINED_WILL},
    segments::Segments,
    sink::MqttSink,
    source::MqttSource,
    understood::{Bridged, MqttConnection, needs_mqtt_5},
    version::Version,
};

/// One session with an MQTT broker, which all nodes that name it share.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionSettings {
    /// Where the broker is: `mqtt://host:1883`, or `mqtts://host:8883` with TLS; over WebSocket
    /// `ws://host/path` or `wss://host/path`, with `/mqtt` as path when none is written. `tcp` and `ssl` mean
    /// the same as `mqtt` and `mqtts`.
    #[schemars(extend("format" = form::URL))]
    pub url: String,
    /// More addresses of the broker, each as in `url`. They are tried in this order when those before do
    /// not let us in; each new connection begins with `url`.
    #[serde(default)]
    #[schemars(schema_with = "addresses_schema")]
    pub fallback: Vec<String>,
    /// By way of whom. What `ALL_PROXY` of the environment says when left out.
    pub proxy: Option<ProxySettings>,
    /// What a web server is told when it is asked for WebSocket, by name. The values are never shown.
    #[serde(default)]
    #[schemars(schema_with = "headers_schema")]
    pub headers: BTreeMap<String, Secret>,
    /// Names this client to the broker, which lets only one in by that name. A random name when
    /// left out; `""` has the broker choose one.
    pub client_id: Option<String>,
    /// Who we are to the broker.
    #[schemars(length(min = 1))]
    pub username: Option<String>,
    /// Proves it. Write `${file:secrets/broker}` rather than the password itself.
    pub password: Option<Secret>,
    /// How long the connection may be idle before a ping; a broker that does not answer within half of
    /// that is gone. Four minutes keep a mobile link open at the lowest cost. `0s` sends no pings.
    #[serde(default = "default_keep_alive")]
    pub keep_alive: Period,
    /// `false` has the broker keep subscriptions and messages while we are away.
    #[serde(default = "default_clean_session")]
    pub clean_session: bool,
    /// How long the broker keeps the session when the connection has ended, with
    /// `clean_session: false`. For ever when left out. With MQTT 5.
    pub session_expiry: Option<Period>,
    /// Which version of MQTT is spoken: `3.1.1`, which every broker knows, and which it is when left out;
    /// `5`, with properties beside the payload, reasons in words and fewer bytes for long topics; or
    /// `auto`, which is 5 where the broker speaks it, else 3.1.1. That is remembered.
    #[serde(default)]
    pub version: Spoken,
    /// Whom to trust: a PEM file, its name relative to the configuration's folder, or its text by
    /// `${file:...}`. The system's certificates when left out.
    #[schemars(length(min = 1), extend("format" = form::LINES))]
    pub ca: Option<String>,
    /// The client's certificate chain: a PEM file, its name relative to the configuration's folder, or
    /// its text by `${file:...}`.
    #[schemars(length(min = 1), extend("format" = form::LINES))]
    pub cert: Option<String>,
    /// The client's private key: a PEM file, its name relative to the configuration's folder, or its text
    /// by `${file:...}`.
    #[schemars(extend("format" = form::PEM))]
    pub key: Option<Secret>,
    /// The name that the server's certificate is to have, and that the server is told (SNI). The host in
    /// `url` when left out.
    #[schemars(length(min = 1))]
    pub server_name: Option<String>,
    /// The oldest version of TLS that is spoken: `1.2` or `1.3`.
    #[serde(default)]
    pub min_tls: MinTls,
    /// The protocol to ask for in the TLS handshake, such as `x-amzn-mqtt-ca` on port 443 of AWS.
    pub alpn: Option<String>,
    /// What the broker publishes for us when the connection breaks.
    pub will: Option<WillSettings>,
    /// What is published first each time that the broker has let us in.
    pub birth: Option<StatusSettings>,
    /// What is published last, before the connection is closed by a stop or a reload. With `birth`,
    /// and when left out, what the `will` says.
    pub goodbye: Option<StatusSettings>,
    /// Tells a broker of MQTT 3.1.1 that a bridge connects: it sends back nothing that comes from here, and
    /// marks messages as retained when they were published so. Mosquitto and others understand it; many
    /// services refuse it. MQTT 5 has other means.
    #[serde(default)]
    pub bridge: bool,
    /// When to connect.
    #[serde(default)]
    pub start: Start,
    /// With `start: lazy`: after how long without a message the connection is closed.
    pub idle_close: Option<Period>,
    /// The largest packet to send or to take.
    #[serde(default = "default_max_packet")]
    pub max_packet: Size,
    /// How long one attempt to connect may take.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Period,
}

/// When a session connects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At once, and it stays.
    #[default]
    Always,
    /// When a sink has something to say. It hangs up when nothing was said for a while: on a metered link
    /// nothing is paid for silence. Sources hear only what comes meanwhile.
    Lazy,
    /// At once, and only then: when it does not come about or is lost, it is made again by a restart of the program, or a reload
    /// that changes it.
    Once,
}

/// Somebody who passes connections on.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxySettings {
    /// Where it is: `socks5://host:1080`, or `http://host:3128` for one that is asked to CONNECT. It looks up the
    /// broker's name.
    #[schemars(extend("format" = form::URL))]
    pub url: String,
    /// Who we are to the proxy.
    #[schemars(length(min = 1))]
    pub username: Option<String>,
    /// Proves it. Write `${file:secrets/proxy}` rather than the password itself.
    pub password: Option<Secret>,
}

fn addresses_schema(_: &mut SchemaGenerator) -> Schema {
    const MOST: usize = 16;
    json_schema!({
        "type": "array",
        "items": { "type": "string", "format": form::URL },
        "maxItems": MOST,
    })
}

/// Some headers hold secrets.
fn headers_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string", "format": form::HIDDEN },
    })
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinTls(pub Option<Oldest>);

impl Default for MinTls {
    fn default() -> MinTls {
        MinTls(Some(Oldest::V12))
    }
}

/// A last will: published by the broker when the connection breaks, not when it is closed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WillSettings {
    /// Where it is published.
    pub topic: String,
    /// What it says.
    #[schemars(extend("format" = form::LINES))]
    pub payload: String,
    /// 0, 1 or 2.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2))]
    pub qos: u8,
    /// Whether the broker keeps it for later subscribers. `false` when left out, which lint asks about.
    pub retain: Option<bool>,
    /// How long the broker waits for us to come back before it publishes it, in whole seconds. With
    /// MQTT 5.
    pub delay: Option<Period>,
}

/// Which version of MQTT is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spoken {
    /// 3.1.1.
    #[default]
    V4,
    /// 5.
    V5,
    /// 5 where the broker speaks it, else 3.1.1.
    Auto,
    /// Another number, which is reported.
    Unknown,
}

impl<'de> Deserialize<'de> for Spoken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Spoken, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Spoken;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`3.1.1`, `5` or `auto`")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<Spoken, E> {
                match word {
                    "3.1.1" => Ok(Spoken::V4),
                    "5" => Ok(Spoken::V5),
                    "auto" => Ok(Spoken::Auto),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Spoken, E> {
                Ok(if number == 5 { Spoken::V5 } else { Spoken::Unknown })
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Spoken, E> {
                self.visit_u64(u64::try_from(number).unwrap_or(0))
            }
        }
        deserializer.deserialize_any(Word)
    }
}

impl JsonSchema for Spoken {
    fn schema_name() -> Cow<'static, str> {
        "Spoken".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// In YAML, 5 without quotes is a number.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words = json_schema!({ "type": "string", "enum": ["3.1.1", "5", "auto"] });
        let number = json_schema!({ "type": "integer" });
        json_schema!({ "anyOf": [words, number] })
    }
}

impl<'de> Deserialize<'de> for MinTls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MinTls, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = MinTls;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`1.2` or `1.3`")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<MinTls, E> {
                match word {
                    "1.2" => Ok(MinTls(Some(Oldest::V12))),
                    "1.3" => Ok(MinTls(Some(Oldest::V13))),
                    _ => Ok(MinTls(None)),
                }
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<MinTls, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<MinTls, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Word)
    }
}

impl JsonSchema for MinTls {
    fn schema_name() -> Cow<'static, str> {
        "MinTls".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// In YAML, 1.3 without quotes is a number.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words = json_schema!({ "type": "string", "enum": ["1.2", "1.3"] });
        let number = json_schema!({ "type": "number" });
        json_schema!({ "anyOf": [words, number], "default": "1.2" })
    }
}

/// A message about this client: that it is there, or goes. What is left out is as in the `will`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusSettings {
    /// Where it is published. The will's topic when left out.
    pub topic: Option<String>,
    /// What it says.
    #[schemars(extend("format" = form::LINES))]
    pub payload: String,
    /// 0, 1 or 2. As the will's when left out.
    #[schemars(range(min = 0, max = 2))]
    pub qos: Option<u8>,
    /// Whether the broker keeps it for later subscribers. As the will's when left out.
    pub retain: Option<bool>,
}

pub fn default_keep_alive() -> Period {
    Period::seconds(240)
}
pub fn default_clean_session() -> bool {
    true
}
fn default_max_packet() -> Size {
    Size(1 << 20)
}
pub fn default_connect_timeout() -> Period {
    Period::seconds(10)
}

/// As Mosquitto has it.
const DEFAULT_IDLE_CLOSE: Duration = Duration::from_secs(60);
const LONGEST_IDLE_CLOSE: Duration = Duration::from_secs(24 * 3600);
const LONGEST_CONNECT_TIMEOUT: Duration = Duration::from_secs(600);
const SMALLEST_PACKET: Size = Size(1 << 10);
/// The standard's limit, rounded down.
const LARGEST_PACKET: Size = Size(255 << 20);

impl Settings for SessionSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        self.understand(None, problems)
    }
}

impl SessionSettings {
    /// What [`Settings::resolve`] gives, by its name. The demands are those of the service that the settings are
    /// for; without them, the host may tell.
    pub fn understand(
        self,
        demands: Option<&'static Demands>,
        problems: &mut Vec<Problem>,
    ) -> Option<MqttConnection> {
        let address = read_address("url", &self.url, problems);
        let fallback: Vec<_> = self
            .fallback
            .iter()
            .enumerate()
            .map(|(at, url)| read_address(&format!("fallback[{at}]"), url, problems))
            .collect();
        let is_whole = address.is_some() && fallback.iter().all(Option::is_some);
        let addresses: Vec<&Address> = address.iter().chain(fallback.iter().flatten()).collect();
        if is_whole {
            problems.extend(self.repeated(&addresses));
            if addresses.iter().all(|address| !address.tls) {
                problems.extend(self.useless_without_tls());
            }
            if addresses.iter().all(|address| address.path.is_none()) && !self.headers.is_empty() {
                let message = "`headers` has no use without WebSocket";
                let label = "expected `url` to begin with `wss://` or `ws://`";
                problems.push(Problem::new("headers", message, label));
            }
        }
        let headers = self.read_headers(problems);
        let via = self.read_proxy(problems);
        if let Some(name) = &self.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            let message = "`server_name` is no name of a host";
            problems.push(Problem::new(
                "server_name",
                message,
                "expected such as `broker.example`",
            ));
        }
        if self.min_tls.0.is_none() {
            let message = "`min_tls` is no version of TLS that is spoken here";
            problems.push(Problem::new("min_tls", message, "expected `1.2` or `1.3`"));
        }
        problems.extend(self.incomplete());
        let keep_alive = seconds(self.keep_alive.0);
        if keep_alive.is_none() {
            let label = "expected `0s`, or whole seconds up to `18h`";
            problems.push(Problem::new("keep_alive", "`keep_alive` is out of range", label));
        }
        problems.extend(self.out_of_range());
        problems.extend(self.unfit_statuses());
        problems.extend(self.unretained());
        let host = address.as_ref().map(|address| &*address.endpoint.host);
        let demands = demands.or_else(|| Demands::of_host(host?));
        problems.extend(self.refused(demands));
        problems.extend(self.doubted(demands, &addresses));
        let idle_close = self.idle_close(problems);
        let client_id = self.client_id.clone().filter(|id| !id.is_empty());
        if client_id.is_none() && !self.clean_session {
            let message = "`clean_session: false` needs a `client_id`";
            let problem = Problem::new("clean_session", message, "`client_id` is missing");
            problems.push(problem.rule(&SESSION_WITHOUT_ID));
        }
        let address = address?;
        let (session_expiry, will_delay) = self.waits(problems)?;
        let version = match self.version {
            Spoken::V4 => Some(Version::V4),
            Spoken::V5 => Some(Version::V5),
            Spoken::Auto => None,
            Spoken::Unknown => {
                let message = "`version` is none that is spoken here";
                let label = "expected `3.1.1`, `5` or `auto`";
                problems.push(Problem::new("version", message, label));
                return None;
            }
        };
        let will = self.will.as_ref().map(WillSettings::publication);
        let birth = self.birth.as_ref().and_then(|it| it.publication(will.as_ref()));
        let goodbye = match &self.goodbye {
            Some(goodbye) => goodbye.publication(will.as_ref()),
            None => will.clone().filter(|_| birth.is_some()),
        };
        let hello = Hello {
            username: self.username,
            password: self.password,
            keep_alive: keep_alive?,
            clean_session: self.clean_session,
            session_expiry,
            will,
            will_delay,
            birth,
            goodbye,
            max_packet: self.max_packet,
        };
        Some(MqttConnection {
            address,
            fallback: fallback.into_iter().flatten().collect(),
            via: via?,
            headers,
            server_name: self.server_name,
            min_tls: self.min_tls.0?,
            is_named_by_broker: client_id.is_none() && self.client_id.is_some(),
            client_id,
            hello,
            keep_alive: self.keep_alive,
            connect_timeout: self.connect_timeout,
            ca: self.ca,
            cert: self.cert,
            key: self.key,
            alpn: self.alpn,
            is_bridge: self.bridge,
            idle_close,
            starts_once: self.start == Start::Once,
            version,
            demands,
            tokens: None,
            device: None,
        })
    }

    /// What the service does not take of this client, and of the messages about it.
    fn refused(&self, demands: Option<&Demands>) -> Vec<Problem> {
        let Some(demands) = demands else { return Vec::new() };
        let mut problems = demands.refuses_client(self.client_id.as_deref(), self.keep_alive);
        if let Some(will) = &self.will {
            let (topic, retain) = (("will.topic", &*will.topic), will.retain.unwrap_or(false));
            let (qos, retain) = (("will.qos", will.qos), ("will.retain", retain));
            problems.extend(demands.problems(Some(topic), qos, retain));
        }
        for (name, status) in self.statuses() {
            let names = ["topic", "qos", "retain"].map(|setting| format!("{name}.{setting}"));
            let topic = status.topic.as_deref().map(|topic| (names[0].as_str(), topic));
            let qos = (names[1].as_str(), status.qos.unwrap_or(0));
            let retain = (names[2].as_str(), status.retain.unwrap_or(false));
            problems.extend(demands.problems(topic, qos, retain));
        }
        problems
    }

    /// What a broker that is not known may not take, and what the way there may not.
    fn doubted(&self, demands: Option<&Demands>, addresses: &[&Address]) -> Vec<Problem> {
        let id = self.client_id.as_deref().filter(|_| demands.is_none());
        let id = id.and_then(|id| match self.version {
            Spoken::V4 => long_client_id(id),
            _ => endless_client_id(id),
        });
        let is_far = addresses.iter().any(|address| !address.endpoint.is_local());
        let keep_alive = unfit_keep_alive(self.keep_alive).filter(|_| is_far);
        let keeps_retained = demands.is_none_or(|demands| demands.keeps_retained);
        let will = self.will.as_ref().filter(|will| keeps_retained && will.retain.is_none());
        let unretained = will.filter(|_| self.unretained().is_none()).map(|_| {
            let message = "`will` is not retained";
            let label = "expected `retain: true` here, or `retain: false`";
            let note = "who subscribes after the connection broke does not get it";
            Problem::new("will", message, label).note(note).rule(&UNRETAINED_WILL).warning()
        });
        [id, keep_alive, unretained].into_iter().flatten().collect()
    }

    fn useless_without_tls(&self) -> Vec<Problem> {
        let tls = [
            ("ca", self.ca.is_some()),
            ("cert", self.cert.is_some()),
            ("key", self.key.is_some()),
            ("alpn", self.alpn.is_some()),
            ("server_name", self.server_name.is_some()),
            ("min_tls", self.min_tls != MinTls::default()),
        ];
        let useless = |(setting, _): (&str, bool)| {
            let message = format!("`{setting}` has no use without TLS");
            Problem::new(setting, message, "expected `url` to begin with `mqtts://` or `wss://`")
        };
        tls.into_iter().filter(|(_, is_set)| *is_set).map(useless).collect()
    }

    /// Addresses that would be tried twice.
    fn repeated(&self, addresses: &[&Address]) -> Vec<Problem> {
        let again =
            addresses.iter().enumerate().filter(|(at, address)| addresses[..*at].contains(address));
        let problem = |(at, _): (usize, _)| {
            let message = "an address of `fallback` stands here twice";
            Problem::new(format!("fallback[{}]", at - 1), message, "expected another address")
                .warning()
        };
        again.map(problem).collect()
    }

    fn read_headers(&self, problems: &mut Vec<Problem>) -> Vec<(HeaderName, HeaderValue)> {
        // They follow from the request, or say that MQTT is meant.
        const OURS: [&str; 6] = [
            "connection",
            "host",
            "sec-websocket-key",
            "sec-websocket-protocol",
            "sec-websocket-version",
            "upgrade",
        ];
        let mut headers = vec![(
            HeaderName::from_static("sec-websocket-protocol"),
            HeaderValue::from_static("mqtt"),
        )];
        for (name, value) in &self.headers {
            let mut refuse = |message: String, label: &str| {
                problems.push(Problem::new(format!("headers.{name}"), message, label));
            };
            let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else {
                let label = "expected letters, digits and `-`, such as `Authorization`";
                refuse(format!("`{name}` is no name of a header"), label);
                continue;
            };
            if OURS.contains(&known.as_str()) {
                refuse(format!("`{name}` cannot be set"), "it follows from the request");
                continue;
            }
            match HeaderValue::from_str(value.expose()) {
                Ok(value) => headers.push((known, value)),
                Err(_) => {
                    let label = "expected no line break or other control character";
                    refuse(format!("the value of `{name}` cannot stand in a header"), label);
                }
            }
        }
        headers
    }

    /// None when it cannot be used, which is reported.
    fn read_proxy(&self, problems: &mut Vec<Problem>) -> Option<Via> {
        let Some(proxy) = &self.proxy else { return Some(Via::Environment(&["ALL_PROXY"])) };
        if proxy.password.is_some() && proxy.username.is_none() {
            let message = "`proxy.password` needs a `username`";
            problems.push(Problem::new("proxy.password", message, "`username` is missing"));
        }
        match Proxy::parse(&proxy.url) {
            Ok(known) => {
                let password = || proxy.password.clone().unwrap_or_else(|| Secret::new(""));
                let login = proxy.username.clone().map(|username| (username, password()));
                Some(Via::Proxy(Proxy { login, ..known }))
            }
            Err(label) => {
                problems.push(Problem::new("proxy.url", "`proxy.url` cannot be used", label));
                None
            }
        }
    }

    /// Settings that lack another one.
    fn incomplete(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut report = |setting: &str, message: &str, label: &str| {
            problems.push(Problem::new(setting, message, label));
        };
        match (&self.cert, &self.key) {
            (Some(_), None) => report("cert", "`cert` needs its `key`", "`key` is missing"),
            (None, Some(_)) => report("key", "`key` needs its `cert`", "`cert` is missing"),
            _ => (),
        }
        if self.password.is_some() && self.username.is_none() {
            report("password", "`password` needs a `username`", "`username` is missing");
        }
        problems
    }

    /// Messages about this client that cannot be published.
    fn unfit_statuses(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut check = |setting: String, topic: &str| {
            if let Err(wrong) = check_topic(topic) {
                let message = format!("`{setting}` cannot be published to");
                problems.push(wrong.problem(setting, message));
            }
        };
        if let Some(will) = &self.will {
            check("will.topic".to_owned(), &will.topic);
        }
        for (name, status) in self.statuses() {
            if let Some(topic) = &status.topic {
                check(format!("{name}.topic"), topic);
            }
        }
        for (name, _) in self.statuses().filter(|(_, it)| self.will.is_none() && it.topic.is_none())
        {
            let message = format!("`{name}` needs a `topic`");
            problems.push(Problem::new(
                name,
                message,
                "`topic` is missing, and there is no `will`",
            ));
        }
        problems
    }

    fn statuses(&self) -> impl Iterator<Item = (&'static str, &StatusSettings)> {
        let statuses = [("birth", &self.birth), ("goodbye", &self.goodbye)];
        statuses.into_iter().filter_map(|(name, status)| Some((name, status.as_ref()?)))
    }

    /// A retained birth that nothing takes back at the broker, or a will.
    fn unretained(&self) -> Option<Problem> {
        let (birth, will) = (self.birth.as_ref()?, self.will.as_ref()?);
        let is_same = birth.topic.as_ref().is_none_or(|topic| *topic == will.topic);
        if will.retain == Some(true) && birth.retain == Some(false) && is_same {
            let message = "`will` is retained and `birth` is not";
            let problem = Problem::new("birth.retain", message, "expected `true`, or nothing");
            let note = "who subscribes after the connection came back still gets the will";
            return Some(problem.note(note).rule(&UNRETAINED_WILL).warning());
        }
        if will.retain == Some(true) || birth.retain != Some(true) || !is_same {
            return None;
        }
        let message = "`birth` is retained and `will` is not";
        let problem = Problem::new("will", message, "expected `retain: true` here too");
        let note = "who subscribes after the connection broke still gets the birth message";
        let problem = problem.also("birth.retain", "kept by the broker until it is replaced");
        Some(problem.note(note).rule(&UNRETAINED_WILL).warning())
    }

    /// For how many seconds the broker keeps the session, and the will. None when one is out of
    /// range, which is reported.
    fn waits(&self, problems: &mut Vec<Problem>) -> Option<(u32, u32)> {
        let delay = self.will.as_ref().and_then(|will| will.delay);
        let mut read = |setting: &str, time: Option<Period>, otherwise: u32| {
            let Some(time) = time else { return Some(otherwise) };
            if self.version == Spoken::V4 {
                problems
                    .push(needs_mqtt_5(setting, "expected `version: \"5\"` at this connection"));
            }
            let seconds = seconds(time.0).filter(|seconds| (1..u32::MAX).contains(seconds));
            if seconds.is_none() {
                let message = format!("`{setting}` is out of range");
                let label = "expected whole seconds, and at least one";
                problems.push(Problem::new(setting, message, label));
            }
            seconds
        };
        let expiry = read("session_expiry", self.session_expiry, u32::MAX);
        let delay = read("will.delay", delay, 0);
        if self.session_expiry.is_some() && self.clean_session {
            let message = "`session_expiry` has no use with `clean_session: true`";
            let label = "expected `clean_session: false` beside it";
            problems.push(Problem::new("session_expiry", message, label));
        }
        expiry.zip(delay)
    }

    /// After how long without a message to hang up. None when never.
    fn idle_close(&self, problems: &mut Vec<Problem>) -> Option<Duration> {
        if self.start != Start::Lazy {
            if self.idle_close.is_some() {
                let message = match self.start {
                    Start::Once => "`idle_close` has no use with `start: once`",
                    _ => "`idle_close` has no use with `start: always`",
                };
                let label = "expected `start: lazy` beside it";
                problems.push(Problem::new("idle_close", message, label));
            }
            return None;
        }
        let idle_close = self.idle_close.map_or(DEFAULT_IDLE_CLOSE, |period| period.0);
        if !(Duration::from_secs(1)..=LONGEST_IDLE_CLOSE).contains(&idle_close) {
            let message = "`idle_close` is out of range";
            problems.push(Problem::new("idle_close", message, "expected `1s` to `1d`"));
        }
        Some(idle_close)
    }

    fn out_of_range(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !(Duration::from_secs(1)..=LONGEST_CONNECT_TIMEOUT).contains(&self.connect_timeout.0) {
            let message = "`connect_timeout` is out of range";
            problems.push(Problem::new("connect_timeout", message, "expected `1s` to `10m`"));
        }
        if !(SMALLEST_PACKET..=LARGEST_PACKET).contains(&self.max_packet) {
            let label = format!("expected `{SMALLEST_PACKET}` to `{LARGEST_PACKET}`");
            problems.push(Problem::new("max_packet", "`max_packet` is out of range", label));
        }
        problems
    }
}

impl WillSettings {
    fn publication(&self) -> Publication {
        let WillSettings { topic, payload, qos, retain, .. } = self;
        Publication::new(&**topic, payload.clone()).qos(*qos).retain(retain.unwrap_or(false))
    }
}

impl StatusSettings {
    /// None without a topic, which was reported.
    fn publication(&self, will: Option<&Publication>) -> Option<Publication> {
        let topic: Arc<str> = match (&self.topic, will) {
            (Some(topic), _) => topic.as_str().into(),
            (None, will) => Arc::clone(&will?.topic),
        };
        let (qos, retain) = will.map_or((0, false), |will| (will.qos, will.retain));
        let (qos, retain) = (self.qos.unwrap_or(qos), self.retain.unwrap_or(retain));
        Some(Publication::new(topic, self.payload.clone()).qos(qos).retain(retain))
    }
}

/// A time as the standard counts it, in whole seconds. None when it is none, or too long.
fn seconds<T: TryFrom<u64>>(time: Duration) -> Option<T> {
    match time.subsec_nanos() {
        0 => T::try_from(time.as_secs()).ok(),
        _ => None,
    }
}

/// A host and a port lack only the scheme, which TLS has at port 8883.
/// Reads an address, and says what is wrong with it, or may be.
fn read_address(setting: &str, url: &str, problems: &mut Vec<Problem>) -> Option<Address> {
    match Address::parse(url) {
        Ok(address) => {
            problems.extend(address.retired(setting).or_else(|| address.doubt(setting)));
            Some(address)
        }
        Err(label) => {
            problems.push(no_address(setting, url, &label));
            None
        }
    }
}

fn no_address(setting: &str, url: &str, label: &str) -> Problem {
    let problem =
        Problem::new(setting, format!("`{setting}` is not the address of a broker"), label);
    let scheme = if url.ends_with(":8883") { "mqtts" } else { "mqtt" };
    let meant = format!("{scheme}://{url}");
    match Address::parse(&meant) {
        Ok(_) => problem.instead(meant),
        Err(_) => problem,
    }
}

/// Subscribes to topics.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttSourceSettings {
    /// Topic filters, such as `site/+/power` or `plc/#`. A name behind a wildcard, as in
    /// `site/+device/#rest`, has what stands there in `meta.device` and `meta.rest`.
    #[schemars(length(min = 1))]
    pub topics: Vec<String>,
    /// The highest QoS at which messages come: 0, 1 or 2. At 1 and 2 the broker is told that a
    /// message arrived once the pipeline has delivered it.
    #[serde(default = "default_qos")]
    #[schemars(range(min = 0, max = 2))]
    pub qos: u8,
    /// Not what the same connection publishes. With MQTT 5.
    #[serde(default)]
    pub no_local: bool,
    /// Messages are marked as retained when they were published so, and not only when the broker had
    /// kept them. With MQTT 5.
    #[serde(default)]
    pub retain_as_published: bool,
    /// Which of the messages that the broker keeps come. `new` with MQTT 5; in 3.1.1 they come all the
    /// same where it says `never`, and are thrown away here.
    #[serde(default)]
    pub retained: Retained,
    /// What comes here goes over a bridge. Then messages are marked as retained when they were published so,
    /// as far as the broker says it, and what it keeps comes again only when it has changed.
    pub bridged: Option<Bridged>,
    /// The most messages that are passed on and not delivered yet. What comes meanwhile waits; at
    /// QoS 0 no more than as many again, and what comes beyond that is dropped.
    #[serde(default = "default_in_flight")]
    #[schemars(range(min = 1, max = 65535))]
    pub in_flight: u16,
    /// How payloads are read.
    #[serde(default)]
    pub format: Format,
    /// How payloads are packed. What does not unpack, or to more than 4 MiB, goes to `errors`.
    pub compression: Option<Compression>,
}

fn default_in_flight() -> u16 {
    1000
}

impl Settings for MqttSourceSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let parsed: Vec<_> = self.topics.iter().map(|topic| Filter::parse(topic)).collect();
        for (index, (topic, filter)) in self.topics.iter().zip(&parsed).enumerate() {
            let setting = format!("topics[{index}]");
            let filter = match filter {
                Ok(filter) => filter,
                Err(wrong) => {
                    let message = format!("`{setting}` cannot be subscribed to");
                    problems.push(wrong.clone().problem(setting, message));
                    continue;
                }
            };
            let is_same = |other: &Result<Filter, NoTopic>| {
                other.as_ref().is_ok_and(|other| other.as_str() == filter.as_str())
            };
            if parsed[..index].iter().any(is_same) {
                let message = format!("`{setting}` is there already");
                let label = "the same filter stands above";
                let problem = Problem::new(setting, message, label);
                problems.push(problem.rule(&REPEATED_FILTER).warning());
                continue;
            }
            let covers = |(_, other): &(usize, &Result<Filter, NoTopic>)| {
                other
                    .as_ref()
                    .is_ok_and(|other| other.as_str() != filter.as_str() && other.covers(filter))
            };
            if let Some((wider, _)) = parsed.iter().enumerate().find(covers) {
                let message =
                    format!("`{topic}` is part of what `{}` asks for", self.topics[wider]);
                let problem = Problem::new(setting, message, "asked for twice")
                    .rule(&OVERLAPPING_FILTERS)
                    .warning()
                    .also(format!("topics[{wider}]"), "asks for all of it");
                let note = "some brokers then send each message twice";
                problems.push(problem.note(note));
            }
        }
        let is_shared = |topic: &String| topic.starts_with("$share/");
        if let Some(at) = self.topics.iter().position(is_shared).filter(|_| self.no_local) {
            let message = "`no_local` does not go with a shared subscription";
            let label = "expected `false`: who shares hears everybody";
            let problem = Problem::new("no_local", message, label);
            let note = "brokers end the connection on it (MQTT 5 section 3.8.3.1)";
            problems.push(problem.also(format!("topics[{at}]"), "shared").note(note));
        }
        let MqttSourceSettings { no_local, retain_as_published, retained, qos, .. } = self;
        let retain_as_published = retain_as_published || self.bridged.is_some();
        let manner = Manner { qos, no_local, retain_as_published, retained };
        let MqttSourceSettings { in_flight, format, compression, bridged, .. } = self;
        let filters = parsed.into_iter().flatten().collect();
        let coding = Coding { format, compression };
        Some(MqttSource { filters, manner, in_flight, coding, bridged })
    }
}

/// Says whether a connection is there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttStateSettings {
    /// The topic of the messages.
    #[schemars(length(min = 1))]
    pub topic: String,
    /// What they say when it is there.
    #[serde(default = "default_up")]
    pub up: String,
    /// What they say when it is not.
    #[serde(default = "default_down")]
    pub down: String,
}

fn default_up() -> String {
    "1".to_owned()
}
fn default_down() -> String {
    "0".to_owned()
}

impl Settings for MqttStateSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let MqttStateSettings { topic, up, down } = self;
        if let Err(wrong) = check_topic(&topic) {
            problems.push(wrong.problem("topic", "`topic` cannot be published to"));
        }
        Some(LinkState { topic: topic.into(), up, down })
    }
}

/// Publishes messages.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttSinkSettings {
    /// Where to publish. `{payload.kind}`, or `{kind}` for short, stands for that field of the payload,
    /// `{meta.device}` for one of `meta`, `{topic_level: 2}` for the second level of the message's topic,
    /// and `{{` for a brace. The message's own topic when left out.
    pub topic: Option<String>,
    /// 0, 1 or 2. A message is delivered once the broker has acknowledged it; at 0, once it has
    /// left.
    #[serde(default = "default_qos")]
    #[schemars(range(min = 0, max = 2))]
    pub qos: u8,
    /// Whether the broker keeps the message for later subscribers.
    #[serde(default)]
    pub retain: bool,
    /// A message that came by MQTT has the QoS that it was published with, as far as `qos`, is retained when it was, and said to be
    /// text when it came as that.
    #[serde(default)]
    pub as_published: bool,
    /// How payloads are written.
    #[serde(default)]
    pub format: Format,
    /// How payloads are packed once they are written.
    pub compression: Option<Compression>,
    /// Puts many readings into one message, which saves what each packet costs.
    pub segments: Option<SegmentsSettings>,
    /// What is said beside the payload, with MQTT 5. What a message has in its `meta.mqtt` comes
    /// first.
    pub properties: Option<PropertiesSettings>,
}

/// How many readings go into one message, and how they stand there. A message is sent once one of the
/// limits is reached; its readings are delivered once the broker has acknowledged it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentsSettings {
    /// What the payload of the message is.
    #[serde(default, rename = "as")]
    shape: SegmentsShape,
    /// What a map calls the list. `segments` when left out.
    #[schemars(length(min = 1))]
    name: Option<String>,
    /// The most readings in a message.
    #[serde(default = "default_max_segments")]
    #[schemars(range(min = 2, max = 10000))]
    max_messages: u16,
    /// The most bytes of the readings in a message, before they are packed. A larger one goes alone.
    #[serde(default = "default_max_segment_bytes")]
    max_bytes: Size,
    /// How long the first reading waits for others.
    #[serde(default = "default_longest_wait")]
    max_wait: Period,
}

/// What the payload of a message with many readings is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum SegmentsShape {
    /// A list of their payloads: `[{…}, {…}]`. Of one payload too.
    #[default]
    Array,
    /// A map that has this list: `{"segments": [{…}, {…}]}`.
    Object,
}

fn default_max_segments() -> u16 {
    100
}
fn default_max_segment_bytes() -> Size {
    Size(64 << 10)
}
fn default_longest_wait() -> Period {
    Period::seconds(60)
}

const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

impl SegmentsSettings {
    fn resolve(self, format: Format, problems: &mut Vec<Problem>) -> (Segments, Duration) {
        let SegmentsSettings { shape, name, max_messages, max_bytes, max_wait } = self;
        let mut report = |setting: &str, message: &str, label: &str| {
            problems.push(Problem::new(setting, message, label));
        };
        if !format.is_structured() {
            let label = "expected `json`, `cbor` or `msgpack`";
            report("format", "`segments` need a format that has lists", label);
        }
        if name.is_some() && shape == SegmentsShape::Array {
            let label = "expected `as: object` beside it";
            report("segments.name", "a list has no `segments.name`", label);
        }
        if !(Size(64)..=LARGEST_PACKET).contains(&max_bytes) {
            let label = format!("expected `64B` to `{LARGEST_PACKET}`");
            report("segments.max_bytes", "`segments.max_bytes` is out of range", &label);
        }
        if !(Duration::from_millis(10)..=LONGEST_WAIT).contains(&max_wait.0) {
            let message = "`segments.max_wait` is out of range";
            report("segments.max_wait", message, "expected `10ms` to `1d`");
        }
        let name = match shape {
            SegmentsShape::Array => None,
            SegmentsShape::Object => Some(name.unwrap_or_else(|| "segments".to_owned())),
        };
        let max_bytes = usize::try_from(max_bytes.0).unwrap_or(usize::MAX);
        (Segments { name, max_messages: max_messages.into(), max_bytes }, max_wait.0)
    }
}

/// What MQTT 5 says beside the payload.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PropertiesSettings {
    /// What the payload is, such as `application/json`.
    #[schemars(length(min = 1))]
    pub content_type: Option<String>,
    /// How long the broker may keep a message for somebody who is away, in whole seconds. For ever
    /// when left out.
    pub expires_after: Option<Period>,
    /// Where an answer is to be published.
    pub response_topic: Option<String>,
    /// Names and values of your own.
    #[serde(default)]
    pub user: BTreeMap<String, String>,
}

impl PropertiesSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Properties {
        let PropertiesSettings { content_type, expires_after, response_topic, user } = self;
        if let Some(Err(wrong)) = response_topic.as_deref().map(check_topic) {
            let message = "`properties.response_topic` cannot be published to";
            problems.push(wrong.problem("properties.response_topic", message));
        }
        let expires_after_seconds =
            expires_after.and_then(|time| seconds(time.0).filter(|it| *it > 0));
        if expires_after.is_some() && expires_after_seconds.is_none() {
            let message = "`properties.expires_after` is out of range";
            let label = "expected whole seconds, and at least one";
            problems.push(Problem::new("properties.expires_after", message, label));
        }
        Properties {
            expires_after_seconds,
            content_type,
            response_topic,
            user: user.into_iter().collect(),
            ..Properties::default()
        }
    }
}

fn default_qos() -> u8 {
    1
}

impl Settings for MqttSinkSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let topic = self.topic.as_deref().and_then(|topic| match Template::parse(topic) {
            Ok(template) => {
                problems.extend(doubts("topic", topic));
                Some(template)
            }
            Err(wrong) => {
                problems.push(wrong.problem("topic", "`topic` cannot be published to"));
                None
            }
        });
        let MqttSinkSettings { as_published, format, compression, segments, properties, .. } = self;
        let properties = properties.map(|properties| properties.resolve(problems));
        let segments = segments.map(|segments| segments.resolve(format, problems));
        let (segments, longest_wait) = segments.unzip();
        if as_published && segments.is_some() {
            let message = "`as_published` has no use with `segments`";
            problems.push(Problem::new("as_published", message, "a message is one of many then"));
        }
        Some(MqttSink {
            topic,
            qos: self.qos,
            retain: self.retain,
            as_published,
            coding: Coding { format, compression },
            properties,
            segments,
            longest_wait: longest_wait.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use forebay_sdk::testing::configure;

    use crate::connection;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        match configure(&connection(), text) {
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
             will: { topic: a/#, payload: x, retain: false }",
            &[
                "setting-value: `ca` has no use without TLS [expected `url` to begin with `mqtts://` or `wss://`]",
                "setting-value: `cert` has no use without TLS [expected `url` to begin with `mqtts://` or `wss://`]",
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
            "url: broker\nkey: k\nkeep_alive: 19h",
            &[
                "setting-value: `url` is not the address of a broker [expected `mqtt://host:1883`, or `mqtts://host:8883` with TLS, or over WebSocket `ws://host/mqtt` or `wss://host/mqtt`]",
                "setting-value: `key` needs its `cert` [`cert` is missing]",
                "setting-value: `keep_alive` is out of range [expected `0s`, or whole seconds up to `18h`]",
            ],
        );
        check(
            "url: mqtt://broker\nclient_id: ''\nclean_session: false",
            &[
                "session-without-id: `clean_session: false` needs a `client_id` [`client_id` is missing]",
            ],
        );
        check(
            "url: mqtt://broker\nwill: { topic: a, payload: x, qos: 3 }",
            &["setting-type: `will.qos` is out of range [expected 0 to 2, found 3]"],
        );
    }

    #[test]
    fn the_version_may_be_written_as_a_number() {
        for version in ["5", "'5'", "\"5\"", "3.1.1", "auto"] {
            check(&format!("url: mqtt://b\nversion: {version}"), &[]);
        }
        check(
            "url: mqtt://b\nversion: 4",
            &[
                "setting-value: `version` is none that is spoken here [expected `3.1.1`, `5` or `auto`]",
            ],
        );
    }

    #[test]
    fn what_3_1_1_does_not_have_is_found() {
        let will = "will: { topic: t, payload: off, retain: true, delay: 5s }";
        let kept = "client_id: a\nclean_session: false\nsession_expiry: 1d";
        let with = |version: &str, text: &str| format!("url: mqtt://b\nversion: {version}\n{text}");
        let label = "[expected `version: \"5\"` at this connection]";
        check(&with("3.1.1", will), &[&format!("needs-mqtt-5: `will.delay` needs MQTT 5 {label}")]);
        check(
            &with("3.1.1", kept),
            &[&format!("needs-mqtt-5: `session_expiry` needs MQTT 5 {label}")],
        );
        for version in ["5", "auto"] {
            check(&with(version, will), &[]);
            check(&with(version, kept), &[]);
        }
        check(
            &with("5", "session_expiry: 500ms"),
            &[
                "setting-value: `session_expiry` is out of range \
                 [expected whole seconds, and at least one]",
                "setting-value: `session_expiry` has no use with `clean_session: true` \
                 [expected `clean_session: false` beside it]",
            ],
        );
    }

    #[test]
    fn a_birth_and_a_goodbye_take_from_the_will_what_they_leave_out() {
        let with = |text: &str| format!("url: mqtt://b\n{text}");
        check(&with("will: { topic: t, payload: off, retain: true }\nbirth: { payload: on }"), &[]);
        check(&with("birth: { topic: t, payload: on }\ngoodbye: { topic: t, payload: x }"), &[]);
        check(
            &with("birth: { payload: on }\ngoodbye: { topic: 'a/#', payload: off }"),
            &[
                "bad-topic: `goodbye.topic` cannot be published to \
                 [expected a topic without `+` and `#`]",
                "setting-value: `birth` needs a `topic` [`topic` is missing, and there is no `will`]",
            ],
        );
    }

    #[test]
    fn a_birth_that_is_kept_beside_a_will_that_is_not_is_found() {
        let with = |will: &str, birth: &str| {
            format!(
                "url: mqtt://b\nwill: {{ topic: t, payload: off{will} }}\nbirth: {{ payload: on{birth} }}"
            )
        };
        check(
            &with("", ", retain: true"),
            &["unretained-will: `birth` is retained and `will` is not \
               [expected `retain: true` here too]"],
        );
        let unretained = "unretained-will: `will` is not retained \
                          [expected `retain: true` here, or `retain: false`]";
        check(&with("", ""), &[unretained]);
        check(&with("", ", topic: other, retain: true"), &[unretained]);
        check("url: mqtt://b\nwill: { topic: t, payload: off }", &[unretained]);
        check(&with(", retain: false", ""), &[]);
        check(&with(", retain: true", ", retain: true"), &[]);
        check(
            &with(", retain: true", ", retain: false"),
            &[
                "unretained-will: `will` is retained and `birth` is not [expected `true`, or nothing]",
            ],
        );
    }

    #[test]
    fn a_client_id_or_keep_alive_that_the_other_side_may_refuse_was_not_found() {
        let id = |bytes: usize| "x".repeat(bytes);
        check(&format!("url: mqtt://b\nclient_id: {}", id(23)), &[]);
        let long = "long-client-id: not every broker of MQTT 3.1.1 takes such a long `client_id` \
                    [expected at most 23 bytes, found 24]";
        check(&format!("url: mqtt://b\nclient_id: {}", id(24)), &[long]);
        check(&format!("url: mqtt://b\nversion: auto\nclient_id: {}", id(24)), &[]);
        let aws = "url: mqtts://a-ats.iot.eu-west-1.amazonaws.com";
        check(&format!("{aws}\nclient_id: {}", id(128)), &[]);
        for version in ["3.1.1", "5"] {
            check(
                &format!("url: mqtt://b\nversion: '{version}'\nclient_id: {}", id(65_536)),
                &["setting-value: `client_id` is too long for MQTT \
                   [expected at most 65535 bytes, found 65536]"],
            );
        }
        let unfit = |why: &str| {
            format!(
                "unfit-keep-alive: `keep_alive` is {why} [expected `10s` to `30m`, such as `4m`]"
            )
        };
        let far = "url: mqtts://broker.example\nkeep_alive: ";
        let long = unfit("longer than networks on the way remember a silent connection");
        check(&format!("{far}31m"), &[&long]);
        let short = unfit("shorter than a mobile link is silent at times");
        check(&format!("{far}5s"), &[&short]);
        for fit in
            [&format!("{far}30m"), &format!("{far}0s"), "url: mqtt://10.0.0.7\nkeep_alive: 5s"]
        {
            check(fit, &[]);
        }
    }

    #[test]
    fn a_broker_without_a_scheme_is_offered_with_one() {
        let meant = |url: &str| super::no_address("url", url, "").instead;
        assert_eq!(meant("10.0.0.7").as_deref(), Some("mqtt://10.0.0.7"));
        assert_eq!(meant("broker:8883").as_deref(), Some("mqtts://broker:8883"));
        assert_eq!(meant("http://broker"), None);
        assert_eq!(meant("me:hunter2@broker"), None);
    }

    #[test]
    fn a_client_id_is_claimed_at_its_broker() {
        let claims = |text: &str| {
            let claims = configure(&connection(), text).unwrap().claims();
            claims.into_iter().map(|claim| claim.what).collect::<Vec<_>>()
        };
        assert_eq!(claims("url: mqtt://broker"), <[&str; 0]>::default());
        assert_eq!(claims("{url: tcp://b:1883, client_id: a}"), ["client id `a` at b:1883"]);
        assert_eq!(claims("{url: mqtt://b, client_id: a}"), ["client id `a` at b:1883"]);
    }

    #[test]
    fn a_password_does_not_print() {
        let text = "url: mqtt://b\nusername: u\npassword: hunter2";
        assert!(configure(&connection(), text).is_ok());
        let settings: super::SessionSettings =
            serde_json::from_str(r#"{"url": "mqtt://b", "password": "hunter2"}"#).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
