//! What brokers of services demand beyond MQTT, and how they are logged in to.

use std::{fmt, ops::RangeInclusive, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use forebay_sdk::{
    Period, Problem, Secret, Size, Timestamp,
    mqtt::{Properties, Publication},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ring::hmac;

use crate::rules::REFUSED_BY_SERVICE;

/// What a service demands.
#[derive(Debug, PartialEq, Eq)]
pub struct Demands {
    /// What it is called.
    pub name: &'static str,
    /// How the names of its hosts end.
    pub hosts: &'static [&'static str],
    /// The most bytes of a client id.
    pub max_client_id: usize,
    /// What it takes as keep-alive, in seconds.
    pub keep_alive: RangeInclusive<u64>,
    /// The highest QoS.
    pub max_qos: u8,
    /// Whether it keeps messages for later subscribers.
    pub keeps_retained: bool,
    /// The most bytes of a payload.
    pub max_payload: Size,
    /// The most bytes of a topic.
    pub max_topic_bytes: usize,
    /// The most levels of a topic.
    pub max_levels: usize,
    /// Where messages may go. Empty for everywhere.
    pub publishes_to: &'static [&'static str],
    /// Where they may not.
    pub reserves: &'static [&'static str],
    /// What can be subscribed to. Empty for everything.
    pub subscribes_to: &'static [&'static str],
}

const ANY: Demands = Demands {
    name: "",
    hosts: &[],
    max_client_id: 65_535,
    keep_alive: 0..=65_535,
    max_qos: 2,
    keeps_retained: true,
    max_payload: Size(255 << 20),
    max_topic_bytes: 65_535,
    max_levels: 65_535,
    publishes_to: &[],
    reserves: &[],
    subscribes_to: &[],
};

/// AWS IoT Core.
pub static AWS: Demands = Demands {
    name: "AWS IoT Core",
    hosts: &[".amazonaws.com", ".amazonaws.com.cn"],
    max_client_id: 128,
    keep_alive: 30..=1200,
    max_qos: 1,
    max_payload: Size(128 << 10),
    max_topic_bytes: 256,
    max_levels: 8,
    ..ANY
};
/// Azure IoT Hub. What is published elsewhere becomes an event ([`Device::outgoing`]).
pub static AZURE: Demands = Demands {
    name: "Azure IoT Hub",
    hosts: &[".azure-devices.net", ".azure-devices.cn", ".azure-devices.us"],
    max_client_id: 128,
    keep_alive: 1..=1177,
    max_qos: 1,
    keeps_retained: false,
    max_payload: Size(256 << 10),
    subscribes_to: &["devices/", "$iothub/"],
    ..ANY
};
/// HiveMQ Cloud.
pub static HIVEMQ: Demands = Demands { name: "HiveMQ Cloud", hosts: &[".hivemq.cloud"], ..ANY };
/// Flespi.
pub static FLESPI: Demands =
    Demands { name: "flespi", hosts: &["mqtt.flespi.io"], reserves: &["flespi/"], ..ANY };
/// ThingsBoard.
pub static THINGSBOARD: Demands = Demands {
    name: "ThingsBoard",
    hosts: &["mqtt.thingsboard.cloud", "mqtt.eu.thingsboard.cloud"],
    max_qos: 1,
    keeps_retained: false,
    max_payload: Size(64 << 10),
    publishes_to: &["v1/", "v2/", "provision/"],
    subscribes_to: &["v1/", "v2/", "provision/"],
    ..ANY
};

const ALL: [&Demands; 5] = [&AWS, &AZURE, &HIVEMQ, &FLESPI, &THINGSBOARD];

/// Topics of AWS that lie deeper than the limit counts: `$aws/rules/NAME/`.
const BASIC_INGEST: &str = "$aws/rules/";

impl Demands {
    /// Those of the service that has this host, if it is one that is known.
    pub fn of_host(host: &str) -> Option<&'static Demands> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        ALL.into_iter().find(|demands| demands.hosts.iter().any(|end| host.ends_with(end)))
    }

    /// What of a client it does not take.
    pub fn refuses_client(&self, client_id: Option<&str>, keep_alive: Period) -> Vec<Problem> {
        let (name, most) = (self.name, self.max_client_id);
        let mut problems = Vec::new();
        if let Some(id) = client_id.filter(|id| id.len() > most) {
            let message = format!("{name} takes a `client_id` of at most {most} bytes");
            let label = format!("found {} bytes", id.len());
            problems.push(Problem::new("client_id", message, label).rule(&REFUSED_BY_SERVICE));
        }
        if !self.keep_alive.contains(&keep_alive.as_secs()) {
            let message = format!("{name} does not take a `keep_alive` of {keep_alive}");
            let (least, most) = (self.keep_alive.start(), self.keep_alive.end());
            let label = format!("expected `{least}s` to `{most}s`");
            problems.push(Problem::new("keep_alive", message, label).rule(&REFUSED_BY_SERVICE));
        }
        problems
    }

    /// Why it does not take a topic that is published to.
    pub fn refuses_topic(&self, topic: &str) -> Option<String> {
        let counted = match topic.strip_prefix(BASIC_INGEST).and_then(|rest| rest.split_once('/')) {
            Some((_, rest)) => rest,
            None => topic,
        };
        let (levels, bytes) = (counted.split('/').count(), counted.len());
        if levels > self.max_levels {
            return Some(format!("expected at most {} levels, found {levels}", self.max_levels));
        }
        if bytes > self.max_topic_bytes {
            return Some(format!("expected at most {} bytes, found {bytes}", self.max_topic_bytes));
        }
        if let Some(prefix) = self.reserves.iter().find(|prefix| topic.starts_with(**prefix)) {
            return Some(format!("expected a topic that does not begin with `{prefix}`"));
        }
        begins(topic, self.publishes_to)
    }

    /// Why it does not take a topic filter.
    pub fn refuses_filter(&self, filter: &str) -> Option<String> {
        begins(filter, self.subscribes_to)
    }

    /// What of the settings of a publisher it does not take.
    pub fn problems(
        &self,
        topic: Option<(&str, &str)>,
        qos: (&str, u8),
        retain: (&str, bool),
    ) -> Vec<Problem> {
        let name = self.name;
        let refused = |setting: &str, message: String, label: String| {
            Problem::new(setting, message, label).rule(&REFUSED_BY_SERVICE)
        };
        let mut problems = Vec::new();
        if let Some((setting, topic)) = topic
            && let Some(label) = self.refuses_topic(topic)
        {
            problems.push(refused(
                setting,
                format!("{name} does not take the topic in `{setting}`"),
                label,
            ));
        }
        let (setting, qos) = qos;
        if qos > self.max_qos {
            let label = format!("expected {} at most", self.max_qos);
            problems.push(refused(setting, format!("{name} does not take QoS {qos}"), label));
        }
        if retain.1 && !self.keeps_retained {
            let message = format!("{name} keeps no retained messages");
            problems.push(refused(retain.0, message, "expected `false`".to_owned()));
        }
        problems
    }

    /// Why a message is not taken, in words for the one who sends it.
    pub fn refuses(&self, publication: &Publication) -> Option<String> {
        let Demands { name, max_payload, .. } = self;
        let (topic, bytes) = (publication.topic.escape_debug(), publication.payload.len() as u64);
        if let Some(why) = self.refuses_topic(&publication.topic) {
            return Some(format!("{name} does not take the topic `{topic}`: {why}"));
        }
        let is_large = bytes > max_payload.0;
        is_large.then(|| {
            format!(
                "{name} takes payloads of {max_payload} at most, and this one has {bytes} bytes"
            )
        })
    }
}

fn begins(topic: &str, prefixes: &[&str]) -> Option<String> {
    if prefixes.is_empty() || prefixes.iter().any(|prefix| topic.starts_with(prefix)) {
        return None;
    }
    let prefixes: Vec<String> = prefixes.iter().map(|prefix| format!("`{prefix}`")).collect();
    Some(format!("expected a topic that begins with {}", prefixes.join(" or ")))
}

/// A device of an Azure IoT hub, whose topics say what others have in properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device(pub Arc<str>);

impl Device {
    /// What is published to a topic of one's own is an event: the topic and the properties stand in that of
    /// events.
    pub fn outgoing(&self, publication: Publication) -> Publication {
        let topic = Arc::clone(&publication.topic);
        if topic.starts_with("$iothub/") || topic.starts_with("devices/") {
            return publication;
        }
        let said = publication.properties.as_deref();
        let kind = said.and_then(|said| said.content_type.as_deref()).unwrap_or("application/json");
        let mut bag = format!("$.ct={}&$.ce=utf-8&topic={}", escaped(kind), escaped(&topic));
        for (name, value) in said.map(|said| &said.user[..]).unwrap_or_default() {
            bag += &format!("&{}={}", escaped(name), escaped(value));
        }
        let mut event = publication;
        event.topic = format!("devices/{}/messages/events/{bag}", self.0).into();
        event.retain = false;
        event
    }

    /// What a topic of the hub says becomes properties: those of a message to the device, and where the
    /// answer to a call of a method goes.
    pub fn incoming(&self, publication: Publication) -> Publication {
        let topic = Arc::clone(&publication.topic);
        if let Some(rest) = topic.strip_prefix("$iothub/methods/POST/")
            && let Some((_, id)) = rest.split_once("?$rid=")
        {
            let response_topic = Some(format!("$iothub/methods/res/200/?$rid={id}"));
            return publication.properties(Properties { response_topic, ..Properties::default() });
        }
        let head = format!("devices/{}/messages/devicebound/", self.0);
        let Some(bag) = topic.strip_prefix(&head).filter(|bag| !bag.is_empty()) else {
            return publication;
        };
        let mut properties = Properties::default();
        for pair in bag.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (unescaped(name), unescaped(value));
            match name.as_str() {
                "$.ct" => properties.content_type = Some(value),
                _ => properties.user.push((name, value)),
            }
        }
        let mut message = publication;
        message.topic = head.into();
        message.properties(properties)
    }
}

/// What stands in a URL as it is (RFC 3986, section 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// As it stands in a URL.
fn escaped(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

fn unescaped(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Makes the passwords of an Azure IoT hub, each of which holds for a while.
#[derive(Clone)]
pub struct TokenMaker {
    /// `hub.azure-devices.net/devices/ID`.
    resource: String,
    key: hmac::Key,
    life: Duration,
}

/// A password that holds for a while.
pub struct Token {
    /// The password.
    pub password: Secret,
    /// When it is to be replaced, in seconds since 1970 by the clock here.
    pub renew_at: i64,
}

impl TokenMaker {
    /// `key` is in base64, as the portal shows it. None when it is not.
    pub fn new(hub: &str, device: &str, key: &Secret, life: Duration) -> Option<TokenMaker> {
        let key = BASE64_STANDARD.decode(key.expose().trim()).ok().filter(|key| !key.is_empty())?;
        let resource = format!("{hub}/devices/{device}");
        Some(TokenMaker { resource, key: hmac::Key::new(hmac::HMAC_SHA256, &key), life })
    }

    /// One that begins to hold now.
    pub fn make(&self, now: Timestamp) -> Token {
        let (now, life) = (now.unix_millis() / 1000, self.life.as_secs() as i64);
        let (resource, until) = (escaped(&self.resource), now + life);
        let signature = hmac::sign(&self.key, format!("{resource}\n{until}").as_bytes());
        let signature = escaped(&BASE64_STANDARD.encode(signature.as_ref()));
        let text = format!("SharedAccessSignature sr={resource}&sig={signature}&se={until}");
        // Before the hub ends the connection, with time for a link that is slow.
        Token { password: Secret::new(text), renew_at: now + life - life / 8 }
    }
}

impl fmt::Debug for TokenMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tokens for {}", self.resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_signed_as_azure_has_it() {
        let key = Secret::new("c2VjcmV0LWtleQ==");
        let maker =
            TokenMaker::new("hub.azure-devices.net", "site a", &key, Duration::from_secs(800));
        let token = maker.unwrap().make(Timestamp::from_unix_nanos(1_700_000_000_000_000_000));
        // By OpenSSL: printf '%s\n%s' "$sr" "$se" | openssl dgst -sha256 -hmac secret-key -binary | base64
        assert_eq!(
            token.password.expose(),
            "SharedAccessSignature sr=hub.azure-devices.net%2Fdevices%2Fsite%20a&sig=qWVutAN5TLIF0zXh59OjStzVItQHOH5yFOzFSEGjQAo%3D&se=1700000800"
        );
        assert_eq!(token.renew_at, 1_700_000_700);
        assert!(
            TokenMaker::new("h", "d", &Secret::new("no base64!"), Duration::from_secs(1)).is_none()
        );
    }

    #[test]
    fn on_azure_topics_and_properties_go_into_the_one_topic_and_come_out_of_it() {
        let device = Device("d1".into());
        let user = vec![("a b".to_owned(), "1&2".to_owned())];
        let properties = Properties { user, ..Properties::default() };
        let event =
            device.outgoing(Publication::new("site/a", "{}").retain(true).properties(properties));
        assert_eq!(
            &*event.topic,
            "devices/d1/messages/events/$.ct=application%2Fjson&$.ce=utf-8&topic=site%2Fa&a%20b=1%262"
        );
        assert!(!event.retain);
        let reported = "$iothub/twin/PATCH/properties/reported/?$rid=1";
        assert_eq!(&*device.outgoing(Publication::new(reported, "{}")).topic, reported);
        let came =
            "devices/d1/messages/devicebound/%24.to=%2Fd1&a%20b=1%262&%24.ct=text%2Fplain&odd=%zz";
        let came = device.incoming(Publication::new(came, "x"));
        assert_eq!(&*came.topic, "devices/d1/messages/devicebound/");
        let said = came.properties.unwrap();
        assert_eq!(
            said.user,
            [("$.to", "/d1"), ("a b", "1&2"), ("odd", "%zz")]
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
        let call = device.incoming(Publication::new("$iothub/methods/POST/reboot/?$rid=7", "{}"));
        let answer = call.properties.unwrap().response_topic.clone();
        assert_eq!(answer.as_deref(), Some("$iothub/methods/res/200/?$rid=7"));
    }

    #[test]
    fn what_a_service_refuses_is_known_before_it_is_sent() {
        let refused =
            |demands: &Demands, topic: &str| demands.refuses_topic(topic).unwrap_or_default();
        assert_eq!(refused(&AWS, "1/2/3/4/5/6/7/8"), "");
        assert_eq!(refused(&AWS, "1/2/3/4/5/6/7/8/9"), "expected at most 8 levels, found 9");
        assert_eq!(refused(&AWS, "$aws/rules/mine/1/2/3/4/5/6/7/8"), "");
        assert_eq!(refused(&AWS, &"x".repeat(257)), "expected at most 256 bytes, found 257");
        assert_eq!(
            refused(&FLESPI, "flespi/x"),
            "expected a topic that does not begin with `flespi/`"
        );
        assert!(
            refused(&THINGSBOARD, "site/a").starts_with("expected a topic that begins with `v1/`")
        );
        let large = Publication::new("t", vec![0; (128 << 10) + 1]);
        let said = AWS.refuses(&large).unwrap();
        assert_eq!(
            said,
            "AWS IoT Core takes payloads of 128KiB at most, and this one has 131073 bytes"
        );
    }
}
