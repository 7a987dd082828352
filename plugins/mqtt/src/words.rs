//! Says in the user's words why a connection failed.

use std::{fmt, io};

use anyhow::anyhow;
use forebay_sdk::{
    Timestamp,
    connection::Refused,
    tls::{self, rustls},
    world::no_way,
};
use rumqttc::{
    ConnectReturnCode, ConnectionError, PacketType, ProtocolViolation, StateError, mqttbytes,
};

use crate::address::scheme;

/// The other side speaks TLS where we do not, or the reverse.
#[derive(Clone, Copy, Debug)]
pub enum Mismatch {
    /// We do not.
    SpeaksTls,
    /// The other side seems not to.
    HandshakeCut,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mismatch::SpeaksTls => "the other side speaks TLS",
            Mismatch::HandshakeCut => "the other side closed the connection in the TLS handshake",
        })
    }
}

impl std::error::Error for Mismatch {}

/// What answers is no WebSocket.
#[derive(Clone, Copy, Debug)]
pub enum NoWebSocket {
    /// It is a web server, and this is its answer.
    Status(u16),
    /// It is none.
    NoWebServer,
}

impl NoWebSocket {
    /// Behind the name of who answers.
    fn words(self, tls: bool) -> String {
        let NoWebSocket::Status(status) = self else {
            let other = if tls { "mqtts" } else { "wss" };
            return format!(
                "does not speak WebSocket on that port: is it one for `{other}://`, or for MQTT alone?"
            );
        };
        let why = match status {
            401 | 403 => "it does not let us in: look at `headers`",
            404 => "there is no WebSocket at the path in `url`; most brokers have it at `/mqtt`",
            300..=399 => "it sends us elsewhere: write that place in `url`",
            500.. => "it, or the broker behind it, has trouble of its own",
            _ => "it is a web server, and may not speak WebSocket",
        };
        format!("answers {status} when asked for WebSocket: {why}")
    }
}

impl fmt::Display for NoWebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the other side does not speak WebSocket")
    }
}

impl std::error::Error for NoWebSocket {}

/// Nothing came in answer to a ping.
#[derive(Clone, Copy, Debug)]
pub struct Unanswered;

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the other side did not answer a ping")
    }
}

impl std::error::Error for Unanswered {}

/// The other side closed the connection, for a reason that it does not say.
#[derive(Debug)]
pub struct HungUp(String);

impl fmt::Display for HungUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for HungUp {}

/// The broker closed the connection, and said why: most likely for something that we sent.
#[derive(Debug)]
pub struct Dismissed(pub String);

impl fmt::Display for Dismissed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Dismissed {}

/// The broker speaks another version of MQTT, or may do so.
#[derive(Debug)]
pub struct OtherVersion {
    pub text: String,
    /// It says so. Otherwise it has hung up on CONNECT.
    pub is_said: bool,
}

impl fmt::Display for OtherVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl std::error::Error for OtherVersion {}

/// What the words are made of.
#[derive(Clone, Debug)]
pub struct Words {
    /// `host:port`.
    pub broker: String,
    /// The client id, when it was not left to us.
    pub client_id: Option<String>,
    pub has_username: bool,
    /// Whether we say that we are a bridge.
    pub is_bridge: bool,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Whether WebSocket is.
    pub is_web: bool,
}

impl Words {
    /// Puts an error of the client in words.
    pub fn explain(&self, error: ConnectionError) -> anyhow::Error {
        let broker = &self.broker;
        match error {
            ConnectionError::ConnectionRefused(code) => {
                let why = self.refusal(code);
                let text = format!("the broker at {broker} refused the connection: {why}");
                match code {
                    ConnectReturnCode::ServiceUnavailable => anyhow!(text),
                    ConnectReturnCode::RefusedProtocolVersion => {
                        OtherVersion { text, is_said: true }.into()
                    }
                    _ => Refused::new(text).into(),
                }
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
            ConnectionError::Io(error) => self.explain_io(error),
            ConnectionError::MqttState(error) => self.explain_state(error),
            other => {
                anyhow::Error::new(other).context(format!("talking to the broker at {broker}"))
            }
        }
    }

    /// The broker hung up instead of answering CONNECT.
    pub fn unanswered(&self, error: anyhow::Error) -> anyhow::Error {
        let broker = &self.broker;
        if !error.is::<HungUp>() {
            return error;
        }
        let mut text = format!("the broker at {broker} closed the connection before it answered");
        if !self.tls {
            text += "; if it speaks TLS on that port, write `mqtts://` in `url`";
        }
        if self.is_bridge {
            text += "; if it takes no bridges, leave out `bridge: true`";
        }
        OtherVersion { text, is_said: false }.into()
    }

    /// The broker let us in and hung up within seconds, so many times in a row.
    pub fn thrown_out(&self, times: u32) -> anyhow::Error {
        let broker = &self.broker;
        let causes = match &self.client_id {
            Some(id) => {
                format!(
                    "another client may use the client id `{id}`, or it does not allow what we ask"
                )
            }
            None => "it may not allow what is subscribed to or published".to_owned(),
        };
        let text = format!(
            "the broker at {broker} closed {times} connections in a row within seconds: {causes}"
        );
        Refused::new(text).into()
    }

    pub fn bad_client_id(&self) -> String {
        match &self.client_id {
            Some(client_id) if client_id.len() > 23 => format!(
                "it does not accept the client id `{client_id}`, which has {} bytes: MQTT has brokers take 23",
                client_id.len()
            ),
            Some(client_id) => format!("it does not accept the client id `{client_id}`"),
            None => "it does not accept a generated client id; set `client_id`".to_owned(),
        }
    }

    pub fn unanswered_ping(&self) -> anyhow::Error {
        unanswered_ping(&self.broker)
    }

    /// Puts an error of the byte stream in words.
    pub fn explain_io(&self, error: io::Error) -> anyhow::Error {
        let broker = &self.broker;
        let (plain, secure) = (scheme(false, self.is_web), scheme(true, self.is_web));
        let inner = error.get_ref();
        if let Some(error_of_tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            let Some(why) = self.trust(error_of_tls) else {
                return anyhow::Error::new(error).context(format!("speaking TLS with {broker}"));
            };
            let text = format!("the TLS handshake with {broker} failed: {why}");
            // Until the clock is set, waiting is all that helps, and not for long.
            return match Timestamp::now().clock_was_set() {
                true => Refused::new(text).into(),
                false => anyhow!(text),
            };
        }
        if inner.is_some_and(|inner| inner.is::<Unanswered>()) {
            return unanswered_ping(broker);
        }
        if let Some(why) = inner.and_then(|inner| inner.downcast_ref::<NoWebSocket>()) {
            let text = format!("{broker} {}", why.words(self.tls));
            return match why {
                NoWebSocket::Status(500..) | NoWebSocket::NoWebServer => anyhow!(text),
                NoWebSocket::Status(_) => Refused::new(text).into(),
            };
        }
        match inner.and_then(|inner| inner.downcast_ref()) {
            Some(Mismatch::SpeaksTls) => {
                return Refused::new(format!(
                    "{broker} speaks TLS on that port: write `{secure}://` in `url`"
                ))
                .into();
            }
            Some(Mismatch::HandshakeCut) => {
                return anyhow!(
                    "{broker} closed the connection in the TLS handshake; if it speaks no TLS on that port, \
                 write `{plain}://` in `url`"
                );
            }
            None => (),
        }
        if let Some(why) = no_way(&error, broker) {
            return anyhow!(why);
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => hung_up(broker),
            io::ErrorKind::TimedOut => anyhow!("the broker at {broker} cannot be reached any more"),
            // Tokio's words for an end within a packet, which is how an answer of another protocol looks.
            _ if error.to_string() == "bytes remaining on stream" => {
                anyhow!("{broker} closed the connection within a packet; is it an MQTT broker?")
            }
            _ => anyhow::Error::new(error).context(format!("talking to the broker at {broker}")),
        }
    }

    /// What usually goes wrong in the handshake, and what to do about it.
    fn trust(&self, error: &rustls::Error) -> Option<String> {
        match error {
            rustls::Error::InvalidMessage(_) => {
                let plain = scheme(false, self.is_web);
                Some(format!(
                    "it does not speak TLS on that port; write `{plain}://` in `url`, or the port for TLS"
                ))
            }
            _ => tls::why(error),
        }
    }

    fn refusal(&self, code: ConnectReturnCode) -> String {
        match code {
            ConnectReturnCode::RefusedProtocolVersion if self.is_bridge => {
                "it does not take `bridge: true` with MQTT 3.1.1".to_owned()
            }
            ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1".to_owned(),
            ConnectReturnCode::BadClientId => self.bad_client_id(),
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
            )) => hung_up(broker),
            StateError::AwaitPingResp => self.unanswered_ping(),
            StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)) => {
                self.explain_io(error)
            }
            StateError::Deserialization(_) => {
                anyhow!("what answers at {broker} sent what is not MQTT; is it an MQTT broker?")
            }
            other => {
                anyhow::Error::new(other).context(format!("talking to the broker at {broker}"))
            }
        }
    }
}

fn unanswered_ping(broker: &str) -> anyhow::Error {
    anyhow!(
        "the broker at {broker} did not answer a ping: the link is silent, or the broker is stuck"
    )
}

pub fn hung_up(broker: &str) -> anyhow::Error {
    HungUp(format!("the broker at {broker} closed the connection")).into()
}
