//! The system that this program runs on.

use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
    net::SocketAddr,
    os::fd::OwnedFd,
    path::PathBuf,
};

use futures_util::future::{BoxFuture, FutureExt};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::unix::AsyncFd,
    net::{TcpListener, TcpStream, UnixStream, lookup_host},
    task::spawn_blocking,
    time::{Duration, sleep},
};

#[cfg(feature = "gpio")]
use super::{
    cdev,
    gpio::{GpioChip, GpioRequest, HeldLine},
};
use super::{
    outside::{Dial, Listener, Outside, SerialLine, Space, Stream},
    race,
    trouble::Unresolved,
};
use crate::endpoint::Endpoint;

pub(super) struct System;

/// When those who came to a listener are asked whether they are still there: they are gone after two minutes.
const GUEST_PROBES: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

impl Outside for System {
    fn connect(&self, dial: Dial) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        async move {
            let addresses = look_up(&dial.to).await?;
            let stream = race::first(addresses, TcpStream::connect).await?;
            let socket = SockRef::from(&stream);
            if let Some(idle) = dial.probe_after {
                let probes = TcpKeepalive::new().with_time(idle).with_interval(idle / 3);
                socket.set_tcp_keepalive(&probes)?;
            }
            // Probes are sent only while nothing is on its way; this is for when something is.
            #[cfg(target_os = "linux")]
            socket.set_tcp_user_timeout(dial.silence)?;
            // Nagle's algorithm would hold a message back while the acknowledgement of another is on
            // its way, up to 40 ms. What is ready at the same time leaves in one write without it.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        }
        .boxed()
    }

    fn socket(&self, path: PathBuf) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        async move { Ok(Box::new(UnixStream::connect(path).await?) as Box<dyn Stream>) }.boxed()
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn look_up(&self, host: Endpoint) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        async move { look_up(&host).await }.boxed()
    }

    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        async move { Ok(Box::new(TcpListener::bind(at).await?) as Box<dyn Listener>) }.boxed()
    }

    #[cfg(feature = "serial")]
    fn serial(&self, line: SerialLine) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        super::serial::open(line).boxed()
    }

    #[cfg(feature = "serial")]
    fn serial_device(&self) -> BoxFuture<'static, io::Result<(Box<dyn Stream>, PathBuf)>> {
        async { super::serial::device() }.boxed()
    }

    #[cfg(not(feature = "serial"))]
    fn serial(&self, _: SerialLine) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        async { Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no serial lines")) }
            .boxed()
    }

    #[cfg(feature = "gpio")]
    fn gpio_chips(&self) -> BoxFuture<'static, io::Result<Vec<GpioChip>>> {
        beside(cdev::chips)
    }

    #[cfg(feature = "gpio")]
    fn gpio_chip(&self, path: PathBuf) -> BoxFuture<'static, io::Result<GpioChip>> {
        beside(move || cdev::chip(&path))
    }

    #[cfg(feature = "gpio")]
    fn gpio_line(&self, wanted: GpioRequest) -> BoxFuture<'static, io::Result<Box<dyn HeldLine>>> {
        // Where the event loop is, which the line's edges come by.
        async move { cdev::hold(&wanted) }.boxed()
    }

    fn read(&self, path: PathBuf, most: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        beside(move || {
            let mut bytes = Vec::new();
            let file = OpenOptions::new().read(true).open(path)?;
            file.take(most as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        })
    }

    fn write(&self, path: PathBuf, bytes: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        beside(move || {
            let mut file = OpenOptions::new().write(true).open(path)?;
            match file.write(&bytes)? {
                written if written == bytes.len() => Ok(()),
                _ => Err(io::ErrorKind::WriteZero.into()),
            }
        })
    }

    fn space(&self, path: PathBuf) -> BoxFuture<'static, io::Result<Space>> {
        beside(move || {
            let found = rustix::fs::statvfs(&path)?;
            let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
            Ok(Space { total: bytes(found.f_blocks), free: bytes(found.f_bavail) })
        })
    }

    fn clock_was_moved(&self) -> BoxFuture<'static, ()> {
        async {
            match moved().await {
                Ok(()) => (),
                // No such timer here: the caller looks at the clock now and then.
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
        .boxed()
    }
}

/// The addresses of a host, in the system's order.
async fn look_up(host: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let found = lookup_host((host.host.as_str(), host.port)).await;
    let found = found.map_err(|error| Unresolved::wrap(&host.host, &error))?;
    Ok(found.collect())
}

/// Waits for a timer that will not ring, and that the kernel cancels when the clock is set
/// (timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`). Costs nothing while nothing happens.
async fn moved() -> io::Result<()> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer: OwnedFd = timerfd_create(TimerfdClockId::Realtime, flags)?;
    let never = Timespec { tv_sec: i64::MAX >> 8, tv_nsec: 0 };
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(&timer, flags, &Itimerspec { it_interval: none, it_value: never })?;
    // It is readable once it was cancelled; the descriptor is made anew for the next time.
    #[allow(
        deprecated,
        reason = "sound with a descriptor that is owned, and this crate has no unsafe"
    )]
    let timer = AsyncFd::new(timer)?;
    let _ = timer.readable().await?;
    Ok(())
}

/// Such a file may answer late, and the nodes must not wait for it.
fn beside<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> BoxFuture<'static, io::Result<T>> {
    async move { spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error))) }
        .boxed()
}

impl Stream for TcpStream {
    fn into_tcp(self: Box<Self>) -> Result<TcpStream, Box<dyn Stream>> {
        Ok(*self)
    }
}

impl Stream for UnixStream {
    fn into_tcp(self: Box<Self>) -> Result<TcpStream, Box<dyn Stream>> {
        Err(self)
    }
}

impl Listener for TcpListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        async move {
            let (stream, from) = TcpListener::accept(self).await?;
            // Small answers go out at once: this is a local network.
            stream.set_nodelay(true)?;
            // Who is gone without a word, and need say nothing, would be there for ever.
            SockRef::from(&stream).set_tcp_keepalive(&GUEST_PROBES)?;
            Ok((Box::new(stream) as Box<dyn Stream>, from))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[tokio::test]
    async fn a_message_does_not_wait_for_the_acknowledgement_of_another() {
        let world = World::system();
        let listener = world.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let to = Endpoint { host: "127.0.0.1".to_owned(), port };
        let silence = Some(Duration::from_secs(30));
        let dial = Dial { silence, probe_after: silence, ..Dial::new(to) };
        let (ours, theirs) = tokio::join!(world.connect(dial), listener.accept());
        for stream in [ours.unwrap(), theirs.unwrap().0] {
            assert!(stream.into_tcp().ok().unwrap().nodelay().unwrap());
        }
    }

    #[tokio::test]
    async fn a_name_that_nobody_has_is_said_to_be_one() {
        let world = World::system();
        let to = Endpoint { host: "no-such-host.invalid".to_owned(), port: 1 };
        let error = world.connect(Dial::new(to)).await.err().expect("nobody has that name");
        let said = error.to_string();
        // On a machine without a name server it says that.
        let is_said = said.starts_with("no host is called `no-such-host.invalid`")
            || said.starts_with("no name server answers");
        assert!(is_said, "{said}");
    }

    #[tokio::test]
    async fn an_address_is_looked_up_with_its_zone() {
        let found = lookup_host(("fe80::1%lo", 1883)).await.unwrap().next().unwrap();
        let std::net::SocketAddr::V6(found) = found else { panic!("{found} is of IPv6") };
        assert!(found.scope_id() > 0, "{found:?}");
    }

    #[tokio::test]
    async fn a_figure_of_the_system_is_read_no_further_than_asked() {
        let world = World::system();
        let uptime = world.read("/proc/uptime", 3).await.unwrap();
        assert_eq!(uptime.len(), 3);
        assert!(world.read("/proc/no-such-figure", 3).await.is_err());
    }

    #[tokio::test]
    async fn a_clock_that_nobody_moves_was_not_moved() {
        let world = World::system();
        let moved = world.clock_was_moved();
        assert!(tokio::time::timeout(Duration::from_millis(20), moved).await.is_err());
    }
}
