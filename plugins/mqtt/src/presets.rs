//! Connections to the brokers of services: what users write of them. Each becomes a session with all set that the
//! service demands.

use std::time::Duration;

use forebay_sdk::{
    Configured, Endpoint, Period, Problem, Secret, Settings, tls::Oldest, units::form,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    cloud::{AWS, AZURE, Demands, Device, FLESPI, HIVEMQ, THINGSBOARD, TokenMaker},
    rules::REFUSED_BY_SERVICE,
    settings::{
        MinTls, ProxySettings, SessionSettings, Spoken, Start, StatusSettings, WillSettings,
        default_clean_session, default_connect_timeout, default_keep_alive,
    },
    understood::MqttConnection,
};

/// A thing of AWS IoT Core.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsSettings {
    /// The endpoint of the account, such as `a1b2c3-ats.iot.eu-west-1.amazonaws.com`.
    #[schemars(length(min = 1))]
    pub host: String,
    /// 443, where `x-amzn-mqtt-ca` is asked for (ALPN) and most firewalls let one out; or 8883.
    #[serde(default = "port_443")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Names this client to the broker.
    #[schemars(length(min = 1))]
    pub client_id: String,
    /// The client's certificate chain: a PEM file, or its text by `${file:...}`.
    #[schemars(length(min = 1), extend("format" = form::LINES))]
    pub cert: String,
    /// The client's private key: a PEM file, or its text by `${file:...}`.
    #[schemars(extend("format" = form::PEM))]
    pub key: Secret,
    /// Whom to trust: a PEM file, or its text by `${file:...}`. The system's certificates when left out.
    #[schemars(length(min = 1), extend("format" = form::LINES))]
    pub ca: Option<String>,
    /// How long the connection may be idle before a ping.
    #[serde(default = "default_keep_alive")]
    pub keep_alive: Period,
    /// `false` has the broker keep subscriptions and messages while we are away.
    #[serde(default = "default_clean_session")]
    pub clean_session: bool,
    /// How long a session is kept when the connection has ended, with `clean_session: false`. With MQTT 5.
    pub session_expiry: Option<Period>,
    /// Which version of MQTT is spoken: `3.1.1`, `5` or `auto`.
    #[serde(default = "default_version")]
    pub version: Spoken,
    /// What the broker publishes for us when the connection breaks.
    pub will: Option<WillSettings>,
    /// What is published first each time that the broker has let us in.
    pub birth: Option<StatusSettings>,
    /// What is published last. With `birth`, and when left out, what the `will` says.
    pub goodbye: Option<StatusSettings>,
    /// How long one attempt to connect may take.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Period,
    /// By way of whom. What `ALL_PROXY` of the environment says when left out.
    pub proxy: Option<ProxySettings>,
}

/// A device of an Azure IoT hub.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AzureSettings {
    /// The host name of the hub, such as `plant.azure-devices.net`.
    #[schemars(length(min = 1))]
    pub hub: String,
    /// The id of the device, which is its client id too.
    #[schemars(length(min = 1))]
    pub device: String,
    /// The key of the device, as the portal shows it. Passwords are made of it, each of which holds for `token_life`.
    pub shared_access_key: Option<Secret>,
    /// How long a password holds: `5m` to `365d`. The connection is made anew before it ends.
    #[serde(default = "default_token_life")]
    pub token_life: Period,
    /// The client's certificate chain: a PEM file, or its text by `${file:...}`.
    #[schemars(length(min = 1), extend("format" = form::LINES))]
    pub cert: Option<String>,
    /// The client's private key: a PEM file, or its text by `${file:...}`.
    #[schemars(extend("format" = form::PEM))]
    pub key: Option<Secret>,
    /// Whom to trust: a PEM file, or its text by `${file:...}`. The system's certificates when left out.
    #[schemars(length(min = 1), extend("format" = form::LINES))]
    pub ca: Option<String>,
    /// How long the connection may be idle before a ping.
    #[serde(default = "default_keep_alive")]
    pub keep_alive: Period,
    /// `false` has the broker keep subscriptions and messages while we are away.
    #[serde(default = "default_clean_session")]
    pub clean_session: bool,
    /// Whether MQTT goes over WebSocket, at port 443, which most firewalls let out.
    #[serde(default)]
    pub websocket: bool,
    /// 8883, or 443 with `websocket`, when left out.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// How long one attempt to connect may take.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Period,
    /// By way of whom. What `ALL_PROXY` of the environment says when left out.
    pub proxy: Option<ProxySettings>,
}

/// A cluster of HiveMQ Cloud.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HiveMqSettings {
    /// The host name of the cluster, such as `a1b2c3.s1.eu.hivemq.cloud`.
    #[schemars(length(min = 1))]
    pub host: String,
    /// Who we are to the broker.
    #[schemars(length(min = 1))]
    pub username: String,
    /// Proves it. Write `${file:secrets/broker}` rather than the password itself.
    pub password: Secret,
    /// Where TLS is spoken.
    #[serde(default = "port_8883")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Names this client to the broker. A random name when left out.
    #[schemars(length(min = 1))]
    pub client_id: Option<String>,
    /// Whom to trust: a PEM file, or its text by `${file:...}`. The system's certificates when left out.
    #[schemars(length(min = 1), extend("format" = form::LINES))]
    pub ca: Option<String>,
    /// How long the connection may be idle before a ping.
    #[serde(default = "default_keep_alive")]
    pub keep_alive: Period,
    /// `false` has the broker keep subscriptions and messages while we are away.
    #[serde(default = "default_clean_session")]
    pub clean_session: bool,
    /// Which version of MQTT is spoken: `3.1.1`, `5` or `auto`.
    #[serde(default = "default_version")]
    pub version: Spoken,
    /// What the broker publishes for us when the connection breaks.
    pub will: Option<WillSettings>,
    /// What is published first each time that the broker has let us in.
    pub birth: Option<StatusSettings>,
    /// What is published last. With `birth`, and when left out, what the `will` says.
    pub goodbye: Option<StatusSettings>,
    /// How long one attempt to connect may take.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Period,
    /// By way of whom. What `ALL_PROXY` of the environment says when left out.
    pub proxy: Option<ProxySettings>,
}

/// The broker of flespi.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlespiSettings {
    /// The token, without the word in front of it. Write `${file:secrets/flespi}` rather than the token itself.
    pub token: Secret,
    /// The host name of the region.
    #[serde(default = "flespi")]
    #[schemars(length(min = 1))]
    pub host: String,
    /// Where TLS is spoken.
    #[serde(default = "port_8883")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Names this client to the broker. A random name when left out.
    #[schemars(length(min = 1))]
    pub client_id: Option<String>,
    /// Whom to trust: a PEM file, or its text by `${file:...}`. The system's certificates when left out.
    #[schemars(length(min = 1), extend("format" = form::LINES))]
    pub ca: Option<String>,
    /// How long the connection may be idle before a ping.
    #[serde(default = "default_keep_alive")]
    pub keep_alive: Period,
    /// `false` has the broker keep subscriptions and messages while we are away.
    #[serde(default = "default_clean_session")]
    pub clean_session: bool,
    /// Which version of MQTT is spoken: `3.1.1`, `5` or `auto`.
    #[serde(default = "default_version")]
    pub version: Spoken,
    /// What the broker publishes for us when the connection breaks.
    pub will: Option<WillSettings>,
    /// What is published first each time that the broker has let us in.
    pub birth: Option<StatusSettings>,
    /// What is published last. With `birth`, and when left out, what the `will` says.
    pub goodbye: Option<StatusSettings>,
    /// How long one attempt to connect may take.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Period,
    /// By way of whom. What `ALL_PROXY` of the environment says when left out.
    pub proxy: Option<ProxySettings>,
}

/// A device, or a gateway, of ThingsBoard.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThingsBoardSettings {
    /// Where it is, as in an `mqtt` connection.
    #[serde(default = "thingsboard")]
    #[schemars(extend("format" = form::URL))]
    pub url: String,
    /// The access token of the device. Write `${file:secrets/thingsboard}` rather than the token itself.
    pub token: Option<Secret>,
    /// Names this client to the broker. A random name when left out.
    #[schemars(length(min = 1))]
    pub client_id: Option<String>,
    /// The client's certificate chain: a PEM file, or its text by `${file:...}`.
    #[schemars(length(min = 1), extend("format" = form::LINES))]
    pub cert: Option<String>,
    /// The client's private key: a PEM file, or its text by `${file:...}`.
    #[schemars(extend("format" = form::PEM))]
    pub key: Option<Secret>,
    /// Whom to trust: a PEM file, or its text by `${file:...}`. The system's certificates when left out.
    #[schemars(length(min = 1), extend("format" = form::LINES))]
    pub ca: Option<String>,
    /// How long the connection may be idle before a ping.
    #[serde(default = "default_keep_alive")]
    pub keep_alive: Period,
    /// How long one attempt to connect may take.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Period,
    /// By way of whom. What `ALL_PROXY` of the environment says when left out.
    pub proxy: Option<ProxySettings>,
}

fn default_version() -> Spoken {
    Spoken::V5
}
fn default_token_life() -> Period {
    Period::seconds(24 * 3600)
}
fn port_443() -> u16 {
    443
}
fn port_8883() -> u16 {
    8883
}
fn flespi() -> String {
    "mqtt.flespi.io".to_owned()
}
fn thingsboard() -> String {
    "mqtts://mqtt.thingsboard.cloud".to_owned()
}

const SHORTEST_TOKEN: Duration = Duration::from_secs(300);
const LONGEST_TOKEN: Duration = Duration::from_secs(365 * 24 * 3600);

/// All of a session that nobody set.
fn session(url: String) -> SessionSettings {
    SessionSettings {
        url,
        fallback: Vec::new(),
        proxy: None,
        headers: Default::default(),
        client_id: None,
        username: None,
        password: None,
        keep_alive: default_keep_alive(),
        clean_session: true,
        session_expiry: None,
        version: Spoken::V4,
        ca: None,
        cert: None,
        key: None,
        server_name: None,
        min_tls: MinTls(Some(Oldest::V12)),
        alpn: None,
        will: None,
        birth: None,
        goodbye: None,
        bridge: false,
        start: Start::Always,
        idle_close: None,
        max_packet: forebay_sdk::Size(1 << 20),
        connect_timeout: default_connect_timeout(),
    }
}

/// The URL of a host. A scheme in front of it is none of it, which is reported.
fn url(setting: &str, host: &str, port: u16, problems: &mut Vec<Problem>) -> Option<String> {
    match Endpoint::parse(host, port) {
        Ok(endpoint) => Some(format!("mqtts://{endpoint}")),
        Err(_) => {
            let message = format!("`{setting}` is not the name of a host");
            let label = "expected the host alone, without `mqtts://` in front and a path behind it";
            problems.push(Problem::new(setting, message, label));
            None
        }
    }
}

/// The session, with what the service demands.
fn understood(
    session: SessionSettings,
    demands: &'static Demands,
    problems: &mut Vec<Problem>,
) -> Option<MqttConnection> {
    session.understand(Some(demands), problems)
}

impl Settings for AwsSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let url = url("host", &self.host, self.port, problems);
        if self.host.ends_with(".amazonaws.com") && !self.host.contains("-ats.") {
            let message = "`host` is the old endpoint, whose certificate nobody trusts any more";
            let problem =
                Problem::new("host", message, "expected the one with `-ats` behind the first part");
            problems.push(problem.rule(&REFUSED_BY_SERVICE).warning());
        }
        let settings = SessionSettings {
            client_id: Some(self.client_id),
            cert: Some(self.cert),
            key: Some(self.key),
            ca: self.ca,
            alpn: (self.port == port_443()).then(|| "x-amzn-mqtt-ca".to_owned()),
            keep_alive: self.keep_alive,
            clean_session: self.clean_session,
            session_expiry: self.session_expiry,
            version: self.version,
            will: self.will,
            birth: self.birth,
            goodbye: self.goodbye,
            connect_timeout: self.connect_timeout,
            proxy: self.proxy,
            ..session(url?)
        };
        understood(settings, &AWS, problems)
    }
}

impl Settings for AzureSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let AzureSettings { hub, device, websocket, .. } = self;
        let port = self.port.unwrap_or(if websocket { 443 } else { 8883 });
        let url = url("hub", &hub, port, problems);
        let url = match websocket {
            true => url.map(|url| {
                let path = "/$iothub/websocket?iothub-no-client-cert=true";
                format!("{}{path}", url.replacen("mqtts", "wss", 1))
            }),
            false => url,
        };
        if device.len() > AZURE.max_client_id {
            let message =
                format!("{} takes a `device` of at most {} bytes", AZURE.name, AZURE.max_client_id);
            let label = format!("found {} bytes", device.len());
            problems.push(Problem::new("device", message, label).rule(&REFUSED_BY_SERVICE));
            return None;
        }
        if !(SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&self.token_life.0) {
            let message = "`token_life` is out of range";
            problems.push(Problem::new("token_life", message, "expected `5m` to `365d`"));
        }
        let tokens = match (&self.shared_access_key, &self.cert) {
            (Some(_), Some(_)) => {
                let message = "a device has a `shared_access_key` or a certificate, not both";
                problems.push(
                    Problem::new("shared_access_key", message, "expected one of the two")
                        .also("cert", "the other"),
                );
                None
            }
            (None, None) => {
                let label = "expected `shared_access_key`, or `cert` and `key`";
                problems.push(Problem::new("", "nothing proves who the device is", label));
                None
            }
            (None, Some(_)) => None,
            (Some(key), None) => {
                let tokens = TokenMaker::new(&hub, &device, key, *self.token_life);
                if tokens.is_none() {
                    let message = "`shared_access_key` is no key";
                    let label =
                        "expected base64, as the portal shows the primary key of the device";
                    problems.push(Problem::new("shared_access_key", message, label));
                }
                tokens
            }
        };
        let settings = SessionSettings {
            client_id: Some(device.clone()),
            username: Some(format!("{hub}/{device}/?api-version=2021-04-12")),
            cert: self.cert,
            key: self.key,
            ca: self.ca,
            keep_alive: self.keep_alive,
            clean_session: self.clean_session,
            connect_timeout: self.connect_timeout,
            proxy: self.proxy,
            ..session(url?)
        };
        let connection = understood(settings, &AZURE, problems)?;
        Some(MqttConnection { tokens, device: Some(Device(device.into())), ..connection })
    }
}

impl Settings for HiveMqSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let url = url("host", &self.host, self.port, problems);
        let settings = SessionSettings {
            client_id: self.client_id,
            username: Some(self.username),
            password: Some(self.password),
            ca: self.ca,
            keep_alive: self.keep_alive,
            clean_session: self.clean_session,
            version: self.version,
            will: self.will,
            birth: self.birth,
            goodbye: self.goodbye,
            connect_timeout: self.connect_timeout,
            proxy: self.proxy,
            ..session(url?)
        };
        understood(settings, &HIVEMQ, problems)
    }
}

impl Settings for FlespiSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let url = url("host", &self.host, self.port, problems);
        let token = self.token.expose().trim();
        if token.split_whitespace().count() != 1 {
            let label = "expected the token alone, without `FlespiToken` in front of it";
            problems.push(Problem::new("token", "`token` is no token of flespi", label));
        }
        let settings = SessionSettings {
            client_id: self.client_id,
            username: Some(token.to_owned()),
            ca: self.ca,
            keep_alive: self.keep_alive,
            clean_session: self.clean_session,
            version: self.version,
            will: self.will,
            birth: self.birth,
            goodbye: self.goodbye,
            connect_timeout: self.connect_timeout,
            proxy: self.proxy,
            ..session(url?)
        };
        understood(settings, &FLESPI, problems)
    }
}

impl Settings for ThingsBoardSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        if self.token.is_none() && self.cert.is_none() {
            let label = "expected `token`, or `cert` and `key`";
            problems.push(Problem::new("", "nothing proves who the device is", label));
        }
        let settings = SessionSettings {
            client_id: self.client_id,
            username: self.token.map(|token| token.expose().trim().to_owned()),
            cert: self.cert,
            key: self.key,
            ca: self.ca,
            keep_alive: self.keep_alive,
            connect_timeout: self.connect_timeout,
            proxy: self.proxy,
            ..session(self.url)
        };
        understood(settings, &THINGSBOARD, problems)
    }
}
