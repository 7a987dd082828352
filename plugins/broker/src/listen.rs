//! Opens the listeners and takes connections from them.

use std::{future::poll_fn, io, net::SocketAddr, task::Poll};

use anyhow::{Context, anyhow};
use tokio::net::{TcpListener, TcpStream};

/// Listens at all addresses, or at none.
pub async fn listen(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let (ip, port) = (address.ip(), address.port());
        let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => anyhow!("port {port} of {ip} is in use by another program"),
            io::ErrorKind::AddrNotAvailable => {
                anyhow!("this device does not have the address {ip}")
            }
            io::ErrorKind::PermissionDenied => anyhow!("port {port} of {ip} is reserved for root"),
            _ => anyhow::Error::new(error).context(format!("listening at {address}")),
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The next connection at any of the listeners. Never resolves when there is none.
pub async fn accept(listeners: &[TcpListener]) -> anyhow::Result<(TcpStream, SocketAddr)> {
    let accepted = poll_fn(|context| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    });
    accepted.await.context("accepting a connection")
}
