//! Opens the listeners and takes connections from them.

use std::{io, net::SocketAddr};

use anyhow::{Context, anyhow};
use forebay_sdk::{
    World,
    world::{Listener, Stream},
};
use futures_util::future::select_all;

/// Listens at all addresses, or at none.
pub async fn listen(
    world: &World,
    addresses: &[SocketAddr],
) -> anyhow::Result<Vec<Box<dyn Listener>>> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let (ip, port) = (address.ip(), address.port());
        let listener = world.listen(*address).await.map_err(|error| match error.kind() {
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
pub async fn accept(
    listeners: &[Box<dyn Listener>],
) -> anyhow::Result<(Box<dyn Stream>, SocketAddr)> {
    if listeners.is_empty() {
        return std::future::pending().await;
    }
    let (accepted, _, _) = select_all(listeners.iter().map(|listener| listener.accept())).await;
    accepted.context("accepting a connection")
}
