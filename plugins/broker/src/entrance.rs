//! The way of a connection from its first byte to MQTT: TLS, and WebSocket.

use std::{path::Path, sync::Arc};

use anyhow::{Context, anyhow};
use forebay_sdk::{beside, tls::common_name, world::Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::{terms::Listener, websocket};

/// What a TLS session takes, in bytes: its keys, and a record that is on its way.
const TLS_BYTES: usize = 16 << 10;
/// How much TLS keeps of what a device does not read, in bytes.
const TLS_UNREAD_BYTES: usize = 8 << 10;

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for T {}

/// A way in, its certificates read.
pub struct Entrance {
    pub listener: Listener,
    tls: Option<TlsAcceptor>,
}

/// A connection that may begin with MQTT.
pub struct Welcomed {
    pub stream: Box<dyn Duplex>,
    /// The user whom its certificate names.
    pub certified: Option<String>,
}

impl Entrance {
    /// Reads the certificates of a listener.
    pub async fn new(listener: Listener, folder: Arc<Path>) -> anyhow::Result<Entrance> {
        let tls = match listener.tls.clone() {
            None => None,
            Some(tls) => {
                let read = move || tls.certificates(&folder).server_config(tls.clients);
                let config = beside(read).await??;
                Some(TlsAcceptor::from(Arc::new(config)))
            }
        };
        Ok(Entrance { listener, tls })
    }

    /// What a connection takes here beside MQTT itself, in bytes.
    pub fn connection_bytes(&self) -> usize {
        let tls = if self.tls.is_some() { TLS_BYTES + TLS_UNREAD_BYTES } else { 0 };
        tls + self.listener.websocket.as_ref().map_or(0, |_| websocket::CONNECTION_BYTES)
    }

    /// Takes a connection to where MQTT begins. The caller has the time limit.
    ///
    /// # Errors
    ///
    /// What the other side does not do.
    pub async fn welcome(&self, stream: Box<dyn Stream>) -> anyhow::Result<Welcomed> {
        let (stream, certified): (Box<dyn Duplex>, _) = match &self.tls {
            None => (Box::new(stream), None),
            Some(acceptor) => {
                let limited = |tls: &mut rustls::ServerConnection| {
                    tls.set_buffer_limit(Some(TLS_UNREAD_BYTES));
                };
                let shaken = acceptor.accept_with(stream, limited).await;
                // In words of its own: else it looked like a link that was lost.
                let stream = shaken.map_err(|error| anyhow!("no TLS came about: {error}"))?;
                let certified = self.user_of(stream.get_ref().1)?;
                (Box::new(stream), certified)
            }
        };
        let stream = match &self.listener.websocket {
            None => stream,
            Some(path) => Box::new(websocket::accept(stream, path).await?),
        };
        Ok(Welcomed { stream, certified })
    }

    fn user_of(&self, session: &rustls::ServerConnection) -> anyhow::Result<Option<String>> {
        let names_users = self.listener.tls.as_ref().is_some_and(|tls| tls.names_users);
        match session.peer_certificates().and_then(|chain| chain.first()) {
            Some(certificate) if names_users => {
                let name = common_name(certificate);
                name.map(Some)
                    .context("its certificate has no common name, which is to be its user")
            }
            _ => Ok(None),
        }
    }
}
