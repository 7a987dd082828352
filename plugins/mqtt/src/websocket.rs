//! MQTT over WebSocket: asks a web server for it.

use std::io;

use forebay_sdk::websocket::OverWebSocket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_websockets::{ClientBuilder, Error, Limits, upgrade};

use crate::{address::WebSocket, words::NoWebSocket};

/// The most bytes of one message of the other side. Brokers send a packet, or a part of one, in each; what
/// is larger than a packet may be is thrown away behind this.
const MOST_BYTES: usize = 16 << 20;

/// Asks a web server to speak WebSocket, and MQTT in it.
pub async fn upgrade<S>(stream: S, how: &WebSocket) -> io::Result<OverWebSocket<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = Limits::default().max_payload_len(Some(MOST_BYTES));
    let uri = how.uri.parse().map_err(io::Error::other)?;
    let mut builder = ClientBuilder::from_uri(uri).limits(limits);
    for (name, value) in &how.headers {
        builder = builder.add_header(name.clone(), value.clone()).map_err(io::Error::other)?;
    }
    match builder.connect_on(stream).await {
        Ok((inner, _)) => Ok(OverWebSocket::new(inner)),
        Err(Error::Io(error)) => Err(error),
        Err(Error::Upgrade(upgrade::Error::DidNotSwitchProtocols(status))) => {
            Err(io::Error::other(NoWebSocket::Status(status)))
        }
        Err(_) => Err(io::Error::other(NoWebSocket::NoWebServer)),
    }
}
