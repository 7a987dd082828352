//! A session with a broker, as its settings were understood.

use std::{any::Any, path::Path, sync::Arc};

use anyhow::Context;
use forebay_sdk::{
    Period, Problem, Secret,
    tls::{Tls, rustls::ClientConfig},
};
use tokio::task::spawn_blocking;

use crate::{address::Address, client::Hello, rules::NEEDS_MQTT_5, version::Version, words::Words};

/// A session with a broker, as its settings were understood.
#[derive(Clone, Debug)]
pub struct MqttConnection {
    pub address: Address,
    /// None for a random one.
    pub client_id: Option<String>,
    pub hello: Hello,
    pub keep_alive: Period,
    pub connect_timeout: Period,
    pub ca: Option<String>,
    pub cert: Option<String>,
    pub key: Option<Secret>,
    pub alpn: Option<String>,
    /// None for what the broker speaks.
    pub version: Option<Version>,
}

impl MqttConnection {
    /// What its errors are said with.
    pub fn words(&self) -> Words {
        Words {
            broker: self.address.to_string(),
            client_id: self.client_id.clone(),
            tls: self.address.tls,
            has_username: self.hello.username.is_some(),
        }
    }

    /// At most 23 letters and digits when it is random: every broker must take those [MQTT-3.1.3-5].
    pub fn client_id_or_random(&self) -> String {
        let random = || format!("forebay{:012x}", fastrand::u64(..1 << 48));
        self.client_id.clone().unwrap_or_else(random)
    }

    /// Reads the certificates anew: a renewed one needs no reload. None without TLS.
    pub async fn tls(&self, folder: &Arc<Path>) -> anyhow::Result<Option<Arc<ClientConfig>>> {
        if !self.address.tls {
            return Ok(None);
        }
        let tls = self.certificates(Arc::clone(folder));
        let config =
            spawn_blocking(move || tls.client_config()).await.context("reading certificates")??;
        Ok(Some(Arc::new(self.with_options(config))))
    }

    /// Sets what the settings say of the handshake.
    pub fn with_options(&self, mut config: ClientConfig) -> ClientConfig {
        config.alpn_protocols = self.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        config
    }

    /// Whom to trust, and who we are. Names of files are relative to the folder.
    pub fn certificates(&self, folder: Arc<Path>) -> Tls {
        Tls { folder, ca: self.ca.clone(), cert: self.cert.clone(), key: self.key.clone() }
    }
}

/// What is wrong with settings that are for MQTT 5 on a connection, which may be of another type: the
/// embedded broker has no use for them.
pub fn needs_version_5<'a>(
    connection: &dyn Any,
    settings: impl Iterator<Item = &'a str>,
) -> Vec<Problem> {
    let session = connection.downcast_ref::<MqttConnection>();
    let label = match session.map(|session| session.version) {
        Some(Some(Version::V4)) => "expected `version: \"5\"` at the connection",
        Some(_) => return Vec::new(),
        None => "expected a connection of type `mqtt` that speaks MQTT 5",
    };
    settings.map(|setting| needs_mqtt_5(setting, label)).collect()
}

/// What MQTT 3.1.1 does not have.
pub fn needs_mqtt_5(setting: &str, label: &str) -> Problem {
    let message = format!("`{setting}` needs MQTT 5");
    Problem::new(setting, message, label).rule(&NEEDS_MQTT_5)
}
