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
    // Nagle's algorithm would hold a message back while the acknowledgement of another is on its
    // way, up to 40 ms. What is ready at the same time leaves in one write without it.
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_does_not_wait_for_the_acknowledgement_of_another() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = Endpoint { host: "127.0.0.1".to_owned(), port };
        assert!(connect(&broker, Duration::ZERO).await.unwrap().nodelay().unwrap());
    }
}
