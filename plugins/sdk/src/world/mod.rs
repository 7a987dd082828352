//! The one seam to the outside: byte streams, lines of GPIO, files that are devices, and the clocks.
//!
//! A plugin opens nothing by itself. It asks the [`World`] that its [`crate::Site`] carries, behind
//! which stands the system, or in tests (those of users, too) a world in memory ([`memory`]) whose clock can be stopped.
//! The protocol code above is the same. Names of hosts, serial lines and paths are written as users
//! write them; what stands for them is the world's choice.

#[cfg(feature = "gpio")]
mod cdev;
pub mod gpio;
pub mod memory;
mod outside;
mod pass_on;
mod proxy;
mod race;
#[cfg(feature = "serial")]
mod serial;
mod system;
mod trouble;
mod usb;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::gpio::{GpioChip, GpioRequest, HeldLine};
pub use self::{
    outside::{Dial, Listener, Outside, Parity, Rs485, Rts, SerialLine, Space, Stream, Via},
    proxy::{Barred, Proxy, Speaks},
    trouble::{Unresolved, no_way},
    usb::UsbId,
};
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::{endpoint::Endpoint, web::Caller};

/// The outside, for whoever opens something. Cloning shares it.
#[derive(Clone)]
pub struct World {
    outside: Arc<dyn Outside>,
    program: Option<Arc<dyn Program>>,
    web: Option<Arc<dyn Web>>,
}

/// The program that runs the nodes, as it is seen from outside.
pub trait Program: Send + Sync {
    /// What `forebay status --format json` prints. None while it begins or ends.
    fn status(&self) -> BoxFuture<'static, Option<Value>>;
}

/// Who speaks HTTP, for nodes that do not.
pub trait Web: Send + Sync {
    /// What a node asks web services by. Opens nothing yet. `folder` is that of the configuration.
    fn caller(&self, folder: &Arc<Path>, world: &World) -> Box<dyn Caller>;
}

impl World {
    /// The system that this program runs on.
    pub fn system() -> World {
        World::new(Arc::new(system::System))
    }

    /// Another one.
    pub fn new(outside: Arc<dyn Outside>) -> World {
        World { outside, program: None, web: None }
    }

    /// The same, with a program that can be asked how it is.
    pub fn with_program(self, program: Arc<dyn Program>) -> World {
        World { program: Some(program), ..self }
    }

    /// The same, with somebody who speaks HTTP for nodes that do not.
    pub fn with_web(self, web: Arc<dyn Web>) -> World {
        World { web: Some(web), ..self }
    }

    /// Who speaks HTTP. None in a build without it.
    pub fn web(&self) -> Option<&Arc<dyn Web>> {
        self.web.as_ref()
    }

    /// See [`Program::status`]. None also where there is no program, as in a test of a single node.
    pub async fn program_status(&self) -> Option<Value> {
        self.program.as_ref()?.status().await
    }

    /// See [`Outside::connect`]. Goes by way of a proxy when it is to.
    ///
    /// # Errors
    ///
    /// What the system says: nobody listens, no such host, no way there. What a proxy says.
    pub async fn connect(&self, mut dial: Dial) -> io::Result<Box<dyn Stream>> {
        let Some(proxy) = self.proxy(&dial)? else { return self.outside.connect(dial).await };
        let to = std::mem::replace(&mut dial.to, proxy.at.clone());
        let stream = self.outside.connect(dial).await.map_err(|error| {
            let at = format!("the proxy, {}", proxy.at);
            no_way(&error, &at).map_or(error, |why| io::Error::other(Barred(why)))
        })?;
        proxy.pass_on(stream, &to).await
    }

    /// By way of whom a connection goes. None when it goes straight.
    ///
    /// # Errors
    ///
    /// When the environment names a proxy that we cannot speak to.
    pub fn proxy(&self, dial: &Dial) -> io::Result<Option<Proxy>> {
        match &dial.via {
            Via::Straight => Ok(None),
            Via::Environment(names) => {
                Proxy::of_environment(names, |name| self.outside.variable(name), &dial.to)
            }
            Via::Proxy(proxy) => Ok(Some(proxy.clone())),
        }
    }

    /// See [`Outside::is_private`].
    pub fn is_private(&self) -> bool {
        self.outside.is_private()
    }

    /// See [`Outside::look_up`].
    ///
    /// # Errors
    ///
    /// What the system says: nobody has that name, or no name server answers.
    pub async fn look_up(&self, host: &Endpoint) -> io::Result<Vec<SocketAddr>> {
        self.outside.look_up(host.clone()).await
    }

    /// See [`Outside::listen`].
    ///
    /// # Errors
    ///
    /// What the system says: the port is taken or reserved, or the address is another machine's.
    pub async fn listen(&self, at: SocketAddr) -> io::Result<Box<dyn Listener>> {
        self.outside.listen(at).await
    }

    /// See [`Outside::serial`].
    ///
    /// # Errors
    ///
    /// What the system says: there is no such device, it is busy, or we may not use it.
    pub async fn serial(&self, line: SerialLine) -> io::Result<Box<dyn Stream>> {
        self.outside.serial(line).await
    }

    /// See [`Outside::serial_device`].
    ///
    /// # Errors
    ///
    /// What the system says: it has no more pseudo-terminals, or none at all.
    pub async fn serial_device(&self) -> io::Result<(Box<dyn Stream>, PathBuf)> {
        self.outside.serial_device().await
    }

    /// See [`Outside::socket`].
    ///
    /// # Errors
    ///
    /// What the system says: there is no such socket, nobody listens, or we may not use it.
    pub async fn socket(&self, path: impl AsRef<Path>) -> io::Result<Box<dyn Stream>> {
        self.outside.socket(path.as_ref().to_owned()).await
    }

    /// See [`Outside::gpio_chips`].
    ///
    /// # Errors
    ///
    /// When there are chips, and none that this program may open.
    pub async fn gpio_chips(&self) -> io::Result<Vec<GpioChip>> {
        self.outside.gpio_chips().await
    }

    /// See [`Outside::gpio_chip`].
    ///
    /// # Errors
    ///
    /// What the system says: there is no such device, it is no chip, or we may not use it.
    pub async fn gpio_chip(&self, path: impl AsRef<Path>) -> io::Result<GpioChip> {
        self.outside.gpio_chip(path.as_ref().to_owned()).await
    }

    /// See [`Outside::gpio_line`].
    ///
    /// # Errors
    ///
    /// What the system says: the line is held by somebody (`EBUSY`), its chip cannot tell edges
    /// (`ENXIO` and others), or not do what else was asked for.
    pub async fn gpio_line(&self, wanted: GpioRequest) -> io::Result<Box<dyn HeldLine>> {
        self.outside.gpio_line(wanted).await
    }

    /// See [`Outside::read`].
    ///
    /// # Errors
    ///
    /// What the system says.
    pub async fn read(&self, path: impl AsRef<Path>, most: usize) -> io::Result<Vec<u8>> {
        self.outside.read(path.as_ref().to_owned(), most).await
    }

    /// See [`Outside::write`].
    ///
    /// # Errors
    ///
    /// What the system says.
    pub async fn write(&self, path: impl AsRef<Path>, bytes: Vec<u8>) -> io::Result<()> {
        self.outside.write(path.as_ref().to_owned(), bytes).await
    }

    /// See [`Outside::space`].
    ///
    /// # Errors
    ///
    /// What the system says.
    pub async fn space(&self, path: impl AsRef<Path>) -> io::Result<Space> {
        self.outside.space(path.as_ref().to_owned()).await
    }

    /// See [`Outside::clock_was_moved`].
    pub async fn clock_was_moved(&self) {
        self.outside.clock_was_moved().await;
    }
}
