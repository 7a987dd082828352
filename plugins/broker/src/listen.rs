//! Opens the listeners and takes connections from them.

use std::{io, net::SocketAddr, sync::Arc};

use anyhow::{Context, anyhow};
use forebay_sdk::{
    World,
    world::{Listener, Stream},
};
use futures_util::future::select_all;

use crate::entrance::Entrance;

/// An address that is listened at.
pub struct Door {
    pub entrance: Arc<Entrance>,
    pub listener: Box<dyn Listener>,
}

/// Who came to a door.
pub struct Caller {
    pub entrance: Arc<Entrance>,
    pub stream: Box<dyn Stream>,
    pub from: SocketAddr,
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
pub async fn accept(doors: &[Door]) -> anyhow::Result<Caller> {
    if doors.is_empty() {
        return std::future::pending().await;
    }
    let (accepted, index, _) = select_all(doors.iter().map(|door| door.listener.accept())).await;
    let (stream, from) = accepted.context("accepting a connection")?;
    Ok(Caller { entrance: Arc::clone(&doors[index].entrance), stream, from })
}
