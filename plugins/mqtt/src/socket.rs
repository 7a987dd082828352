//! Opens the TCP connection, and makes the kernel notice when the other side is gone.

use std::{io, time::Duration};

use forebay_sdk::Endpoint;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Below this a slow mobile link looks dead.
const SHORTEST_SILENCE: Duration = Duration::from_secs(30);

/// Connects to the first of the host's addresses that answers.
///
/// What was sent and is not confirmed within `keep_alive` ends the connection: MQTT's own pings do
/// not notice a silent link while something is being written, and may be off.
pub async fn connect(broker: &Endpoint, keep_alive: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((broker.host.as_str(), broker.port)).await?;
    let silence = keep_alive.max(SHORTEST_SILENCE);
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(silence).with_interval(silence / 3))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(silence))?;
    // Nagle's algorithm stays on: on a metered link fewer packets count more than a round trip,
    // and a lone message is sent at once anyway.
    Ok(stream)
}
