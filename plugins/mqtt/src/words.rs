//! Says in the user's words why a connection failed.

use std::io;

use anyhow::anyhow;
use forebay_sdk::{
    Period, Size, Timestamp,
    tls::rustls::{self, AlertDescription, CertificateError},
};
use rumqttc::{
    ConnectReturnCode, ConnectionError, PacketType, ProtocolViolation, StateError, mqttbytes,
};

/// What the words are made of.
#[derive(Clone, Debug)]
pub struct Words {
    /// `host:port`.
    pub broker: String,
    /// The client id, when it was not left to us.
    pub client_id: Option<String>,
    pub has_username: bool,
    pub keep_alive: Period,
    pub max_packet: Size,
}

impl Words {
    /// Puts an error of the client in words.
    pub fn explain(&self, error: ConnectionError) -> anyhow::Error {
        let broker = &self.broker;
        match error {
            ConnectionError::ConnectionRefused(code) => {
                let why = self.refusal(code);
                anyhow!("the broker at {broker} refused the connection: {why}")
            }
            ConnectionError::NotConnAck(_) => {
                anyhow!("{broker} does not answer as an MQTT broker does")
            }
            ConnectionError::SessionStateMismatch { .. } => {
                anyhow!("the broker at {broker} kept a session that was to be clean")
            }
            ConnectionError::FlushTimeout | ConnectionError::NetworkTimeout => {
                anyhow!("the connection to {broker} is stuck: nothing could be sent")
            }
            ConnectionError::Io(error) => explain_io(error, broker),
            ConnectionError::MqttState(error) => self.explain_state(error),
            other => {
                anyhow::Error::new(other).context(format!("talking to the broker at {broker}"))
            }
        }
    }

    fn refusal(&self, code: ConnectReturnCode) -> String {
        match code {
            ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1".to_owned(),
            ConnectReturnCode::BadClientId => match &self.client_id {
                Some(client_id) => format!("it does not accept the client id `{client_id}`"),
                None => "it does not accept a generated client id; set `client_id`".to_owned(),
            },
            ConnectReturnCode::ServiceUnavailable => "it is not available at the moment".to_owned(),
            ConnectReturnCode::BadUserNamePassword => "bad user name or password".to_owned(),
            ConnectReturnCode::NotAuthorized => match self.has_username {
                true => "not authorized".to_owned(),
                false => "not authorized; it may want `username` and `password`".to_owned(),
            },
            ConnectReturnCode::Success => "for no reason".to_owned(),
        }
    }

    fn explain_state(&self, error: StateError) -> anyhow::Error {
        let broker = &self.broker;
        match error {
            // Some brokers send a DISCONNECT, which MQTT 3.1.1 does not know from them.
            StateError::ConnectionAborted
            | StateError::ProtocolViolation(ProtocolViolation::UnexpectedIncomingPacket(
                PacketType::Disconnect,
            )) => anyhow!("the broker at {broker} closed the connection"),
            StateError::AwaitPingResp => {
                let keep_alive = self.keep_alive;
                anyhow!("the broker at {broker} did not answer a ping within {keep_alive}")
            }
            StateError::Deserialization(mqttbytes::Error::PayloadSizeLimitExceeded(size)) => {
                let most = self.max_packet;
                anyhow!(
                    "a packet of {size} bytes from {broker} is larger than `max_packet` ({most})"
                )
            }
            StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)) => {
                explain_io(error, broker)
            }
            other => {
                anyhow::Error::new(other).context(format!("talking to the broker at {broker}"))
            }
        }
    }
}

fn explain_io(error: io::Error, broker: &str) -> anyhow::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(error_of_tls) = inner {
        return match trust(error_of_tls) {
            Some(why) => anyhow!("the TLS handshake with {broker} failed: {why}"),
            None => anyhow::Error::new(error).context(format!("speaking TLS with {broker}")),
        };
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => anyhow!("nothing listens at {broker}"),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => anyhow!("the broker at {broker} closed the connection"),
        io::ErrorKind::TimedOut => anyhow!("the broker at {broker} cannot be reached any more"),
        // Tokio's words for an end within a packet, which is how an answer of another protocol looks.
        _ if error.to_string() == "bytes remaining on stream" => {
            anyhow!("{broker} closed the connection within a packet; is it an MQTT broker?")
        }
        _ => anyhow::Error::new(error).context(format!("talking to the broker at {broker}")),
    }
}

/// What usually goes wrong with certificates, and what to do about it.
fn trust(error: &rustls::Error) -> Option<&'static str> {
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            // A bad signature: a CA of the same name was made anew.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Some("nobody trusted here has signed its certificate; set `ca`")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Some("its certificate is for another name than the one in `url`")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Some("its certificate has expired, or the clock here is wrong")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                match Timestamp::now().clock_was_set() {
                    true => Some("its certificate is not valid yet; is the clock here right?"),
                    false => Some(
                        "the clock here is not set yet, so its certificate seems not valid yet; waiting for the time",
                    ),
                }
            }
            _ => None,
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                Some("it wants a client certificate; set `cert` and `key`")
            }
            AlertDescription::UnknownCA | AlertDescription::BadCertificate => {
                Some("it does not trust the client certificate in `cert`")
            }
            AlertDescription::NoApplicationProtocol => {
                Some("it does not know the protocol in `alpn`")
            }
            _ => None,
        },
        rustls::Error::InvalidMessage(_) => Some("it does not speak TLS on that port"),
        _ => None,
    }
}
