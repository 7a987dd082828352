//! Opens the listeners and takes connections from them.

use std::{io, net::SocketAddr};

use anyhow::{Context, anyhow};
use forebay_sdk::{
    World,
    world::{Listener, Stream},
};
use futures_util::future::select_all;

/// An address that is listened at.
pub struct Door {
    /// Which one it is of those that were asked for.
    pub index: usize,
    pub listener: Box<dyn Listener>,
}

/// Listens at an address.
pub async fn listen(world: &World, address: SocketAddr) -> anyhow::Result<Box<dyn Listener>> {
    let (ip, port) = (address.ip(), address.port());
    world.listen(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!("port {port} of {ip} is in use by another program"),
        io::ErrorKind::AddrNotAvailable => anyhow!("this device does not have the address {ip}"),
        io::ErrorKind::PermissionDenied => anyhow!("port {port} of {ip} is reserved for root"),
        _ => anyhow::Error::new(error).context(format!("listening at {address}")),
    })
}

/// The next connection at any of the listeners. Never resolves when there is none.
pub async fn accept(doors: &[Door]) -> anyhow::Result<(Box<dyn Stream>, SocketAddr)> {
    if doors.is_empty() {
        return std::future::pending().await;
    }
    let (accepted, _, _) = select_all(doors.iter().map(|door| door.listener.accept())).await;
    accepted.context("accepting a connection")
}
