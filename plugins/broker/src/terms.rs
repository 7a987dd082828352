//! What the broker is to be, as its settings were understood.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use forebay_sdk::{
    Secret, Size, SyncPolicy,
    tls::{ClientCertificates, Oldest, Tls},
};

use crate::{access::Access, broker::Limits, roll::Roll, session::Room};

/// How many messages of QoS 0 wait for one device.
const MOST_AT_QOS_0: usize = 256;

/// Who may come, by which way, and how much of everything there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub listeners: Vec<Listener>,
    /// Those in the settings.
    pub users: Roll,
    /// Those in a file, relative to the folder of the configuration.
    pub password_file: Option<String>,
    /// None allows all.
    pub access: Option<Arc<Access>>,
    pub memory: Size,
    /// When what must survive a restart is safe on disk. None when nothing must.
    pub sync: Option<SyncPolicy>,
    pub max_connections: u16,
    pub max_connections_per_address: u16,
    pub max_sessions: u32,
    pub session_expiry: Duration,
    pub max_keep_alive: Option<Duration>,
    pub max_packet: Size,
    pub max_queued: u32,
    pub max_queued_bytes: Size,
    /// The least time from one message of a client to the next.
    pub max_rate: Option<Duration>,
    /// The most bytes of packets with messages of a client in a second.
    pub max_byte_rate: Option<Size>,
    /// How often the broker says how it is. None when it does not.
    pub status_every: Option<Duration>,
    pub max_in_flight: u16,
    pub max_subscriptions: u32,
    pub max_retained: u32,
    /// None leaves it to the memory.
    pub max_retained_bytes: Option<Size>,
}

/// One way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    /// None when what goes over it can be read by others.
    pub tls: Option<ServerTls>,
    /// The path of a WebSocket. None for MQTT alone.
    pub websocket: Option<String>,
    /// Who gives no user name gets in.
    pub anonymous: bool,
}

impl Listener {
    /// Who came in by the other one could as well have come in by this one, but for who may.
    pub fn is_same_way(&self, other: &Listener) -> bool {
        let asks = |listener: &Listener| {
            let tls = listener.tls.as_ref();
            tls.map(|tls| (tls.ca.clone(), tls.clients, tls.names_users, tls.oldest))
        };
        self.address == other.address
            && self.websocket == other.websocket
            && asks(self) == asks(other)
    }
}

/// How a listener speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Each the name of a PEM file, or the PEM text.
    pub cert: String,
    pub key: Secret,
    /// Whose clients are trusted. None asks for no certificates.
    pub ca: Option<String>,
    pub clients: ClientCertificates,
    /// The common name of a client's certificate is its user.
    pub names_users: bool,
    pub oldest: Oldest,
}

impl ServerTls {
    /// Its certificates, as settings name them.
    pub fn certificates(&self, folder: &Arc<Path>) -> Tls {
        Tls {
            folder: Arc::clone(folder),
            ca: self.ca.clone(),
            cert: Some(self.cert.clone()),
            key: Some(self.key.clone()),
            oldest: self.oldest,
        }
    }
}

impl Terms {
    /// How much there may be of everything.
    pub fn limits(&self) -> Limits {
        let room = Room {
            messages: self.max_queued as usize,
            bytes: bytes(self.max_queued_bytes).max(bytes(self.max_packet)),
            at_qos_0: MOST_AT_QOS_0,
            in_flight: self.max_in_flight,
        };
        Limits {
            sessions: self.max_sessions as usize,
            subscriptions: self.max_subscriptions as usize,
            retained: self.max_retained as usize,
            retained_bytes: self.max_retained_bytes.map_or(usize::MAX, bytes),
            room,
            longest_session: self.session_expiry,
            access: self.access.clone(),
        }
    }

    /// Whether a broker with these can go on with others, and nobody who is connected need notice.
    pub fn can_become(&self, other: &Terms) -> bool {
        self.memory == other.memory && self.sync == other.sync
    }

    /// The longest keep-alive, in seconds.
    pub fn most_keep_alive(&self) -> Option<u16> {
        let seconds = self.max_keep_alive.map(|longest| longest.as_secs());
        seconds.map(|seconds| u16::try_from(seconds).unwrap_or(u16::MAX))
    }
}

/// A size, as memory counts it.
pub fn bytes(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}
