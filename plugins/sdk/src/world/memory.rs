//! A world in memory: streams are pipes, and the clock is the test's. With a stopped tokio clock,
//! hours pass in no time.

mod pins;
mod way;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::{
    io::{DuplexStream, duplex},
    net::TcpStream,
    sync::{Mutex as AsyncMutex, Notify, mpsc},
    time::Instant,
};

use self::way::PIPE_BYTES;
pub use self::{
    pins::Pins,
    way::{Traffic, Way},
};
use super::{
    World,
    gpio::{GpioChip, GpioRequest, HeldLine},
    outside::{Dial, Listener, Outside, SerialLine, Stream},
};
use crate::clock::{self, Moment};

/// The most connections that wait to be taken.
const BACKLOG: usize = 16;

/// A world in memory. Cloning shares it.
#[derive(Clone)]
pub struct Memory(Arc<Inside>);

struct Inside {
    state: Mutex<State>,
    pins: Pins,
    moved: Arc<Notify>,
}

/// A connection, and where it comes from.
type Coming = (Box<dyn Stream>, SocketAddr);

struct State {
    /// Who listens, by `host:port` or the path of a socket, and at the end of which serial line.
    listeners: BTreeMap<String, mpsc::Sender<Coming>>,
    /// Other names of places where somebody listens.
    names: BTreeMap<String, String>,
    /// The ways to places, by the names that callers have for them. Others are as good as it gets.
    ways: BTreeMap<String, Way>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    variables: BTreeMap<String, String>,
    next_port: u16,
    is_private: bool,
    /// What the clocks showed at `since`.
    base: Moment,
    since: Instant,
}

/// Takes the connections that come to one place of the world.
pub struct Door {
    at: SocketAddr,
    coming: AsyncMutex<mpsc::Receiver<Coming>>,
}

impl Memory {
    /// An empty world in which it is `wall_nanos` since 1970, an hour after its boot.
    pub fn new(wall_nanos: i64) -> Memory {
        let is_set = true;
        let base = Moment { boot: 1, uptime_nanos: 3_600_000_000_000, wall_nanos, is_set };
        let state = State {
            listeners: BTreeMap::new(),
            names: BTreeMap::new(),
            ways: BTreeMap::new(),
            files: BTreeMap::new(),
            variables: BTreeMap::new(),
            next_port: 49_152,
            is_private: false,
            base,
            since: Instant::now(),
        };
        let (state, moved) = (Mutex::new(state), Arc::new(Notify::new()));
        Memory(Arc::new(Inside { state, pins: Pins::default(), moved }))
    }

    /// The same, with a clock that nobody has set yet.
    pub fn before_clock_is_set(wall_nanos: i64) -> Memory {
        let memory = Memory::new(wall_nanos);
        memory.0.state().base.is_set = false;
        memory
    }

    /// For a [`crate::Site`].
    pub fn world(&self) -> World {
        World::new(Arc::clone(&self.0) as Arc<dyn Outside>)
    }

    /// This world's clock is that of the thread, until the guard is dropped.
    pub fn enter(&self) -> clock::Replaced {
        let inside = Arc::clone(&self.0);
        clock::replace(Arc::new(move || inside.state().moment()))
    }

    /// Sets the wall clock, and tells whoever wants to know.
    pub fn set_wall(&self, wall_nanos: i64) {
        let mut state = self.0.state();
        let moment = state.moment();
        (state.base, state.since) = (Moment { wall_nanos, is_set: true, ..moment }, Instant::now());
        drop(state);
        self.0.moved.notify_waiters();
    }

    /// Takes what comes to `host:port`, to a serial device, or to a socket. Replaces who was there.
    pub fn open(&self, place: &str) -> Door {
        let (sender, coming) = mpsc::channel(BACKLOG);
        let mut state = self.0.state();
        let at = state.address(place);
        state.listeners.insert(place.to_owned(), sender);
        Door { at, coming: AsyncMutex::new(coming) }
    }

    /// From now on streams go without TLS.
    pub fn go_without_tls(&self) {
        self.0.state().is_private = true;
    }

    /// Who calls a place by this name reaches who listens at another.
    pub fn name(&self, name: &str, place: &str) {
        self.0.state().names.insert(name.to_owned(), place.to_owned());
    }

    /// From now on connections to a place go by this way.
    pub fn lead(&self, place: &str, way: &Way) {
        self.0.state().ways.insert(place.to_owned(), way.clone());
    }

    /// The power was gone: the time since boot begins anew. The wall clock goes on.
    pub fn boot_again(&self) {
        let mut state = self.0.state();
        let moment = state.moment();
        let boot = moment.boot + 1;
        (state.base, state.since) = (Moment { boot, uptime_nanos: 0, ..moment }, Instant::now());
    }

    /// From now on nobody answers there.
    pub fn shut(&self, place: &str) {
        self.0.state().listeners.remove(place);
    }

    /// Its GPIO chips.
    pub fn pins(&self) -> &Pins {
        &self.0.pins
    }

    /// What a file says, and from now on said.
    pub fn put(&self, path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) {
        self.0.state().files.insert(path.into(), bytes.into());
    }

    /// What a variable of the environment says from now on.
    pub fn set_variable(&self, name: &str, value: impl Into<String>) {
        self.0.state().variables.insert(name.to_owned(), value.into());
    }

    /// What was last written to a file.
    pub fn file(&self, path: impl Into<PathBuf>) -> Option<Vec<u8>> {
        self.0.state().files.get(&path.into()).cloned()
    }
}

impl State {
    fn moment(&self) -> Moment {
        let nanos = i64::try_from(self.since.elapsed().as_nanos()).unwrap_or(i64::MAX);
        Moment {
            boot: self.base.boot,
            uptime_nanos: self.base.uptime_nanos.saturating_add(nanos),
            wall_nanos: self.base.wall_nanos.saturating_add(nanos),
            is_set: self.base.is_set,
        }
    }

    /// A place is its own address when it is written as one; else it gets one.
    fn address(&mut self, place: &str) -> SocketAddr {
        place.parse().unwrap_or_else(|_| {
            self.next_port += 1;
            SocketAddr::from(([127, 0, 0, 1], self.next_port))
        })
    }
}

impl Inside {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self, place: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let mut state = self.state();
        let listens = state.names.get(place).map_or(place, String::as_str);
        let found = state.listeners.get(listens).cloned();
        let way = state.ways.get(place).cloned();
        let from = state.address("");
        async move {
            let nobody = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let (ours, theirs) = match way {
                None => duplex(PIPE_BYTES),
                Some(way) => {
                    way.call().await?;
                    way.connect()
                }
            };
            let listener = found.ok_or_else(nobody)?;
            listener.send((Box::new(theirs), from)).await.map_err(|_| nobody())?;
            Ok(Box::new(ours) as Box<dyn Stream>)
        }
        .boxed()
    }
}

impl Outside for Inside {
    fn is_private(&self) -> bool {
        self.state().is_private
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.state().variables.get(name).cloned()
    }

    fn connect(&self, dial: Dial) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        self.reach(&dial.to.to_string())
    }

    fn socket(&self, path: PathBuf) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        self.reach(&path.display().to_string())
    }

    fn listen(&self, at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (sender, coming) = mpsc::channel(BACKLOG);
        let mut state = self.state();
        let mut at = at;
        if at.port() == 0 {
            state.next_port += 1;
            at.set_port(state.next_port);
        }
        let taken = state.listeners.get(&at.to_string()).is_some_and(|other| !other.is_closed());
        if !taken {
            state.listeners.insert(at.to_string(), sender);
        }
        let door = Door { at, coming: AsyncMutex::new(coming) };
        async move {
            match taken {
                true => Err(io::ErrorKind::AddrInUse.into()),
                false => Ok(Box::new(door) as Box<dyn Listener>),
            }
        }
        .boxed()
    }

    fn serial(&self, line: SerialLine) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        self.reach(&line.device.to_string_lossy())
    }

    fn read(&self, path: PathBuf, most: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let found = self.state().files.get(&path).cloned();
        async move {
            let mut bytes = found.ok_or(io::ErrorKind::NotFound)?;
            bytes.truncate(most);
            Ok(bytes)
        }
        .boxed()
    }

    fn write(&self, path: PathBuf, bytes: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        let known = self.state().files.get_mut(&path).map(|file| *file = bytes);
        async move { known.ok_or_else(|| io::ErrorKind::NotFound.into()) }.boxed()
    }

    fn gpio_chips(&self) -> BoxFuture<'static, io::Result<Vec<GpioChip>>> {
        let chips = self.pins.all();
        async { Ok(chips) }.boxed()
    }

    fn gpio_chip(&self, path: PathBuf) -> BoxFuture<'static, io::Result<GpioChip>> {
        let chip = self.pins.at(&path);
        async { chip }.boxed()
    }

    fn gpio_line(&self, wanted: GpioRequest) -> BoxFuture<'static, io::Result<Box<dyn HeldLine>>> {
        let held = self.pins.take(wanted);
        async { held }.boxed()
    }

    fn clock_was_moved(&self) -> BoxFuture<'static, ()> {
        let moved = Arc::clone(&self.moved);
        async move { moved.notified().await }.boxed()
    }
}

impl Listener for Door {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        async {
            let coming = self.coming.lock().await.recv().await;
            coming.ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
        }
        .boxed()
    }
}

impl Stream for DuplexStream {
    fn into_tcp(self: Box<Self>) -> Result<TcpStream, Box<dyn Stream>> {
        Err(self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{endpoint::Endpoint, timestamp::Timestamp};

    const NOW: i64 = 1_795_251_600_000_000_000;

    #[tokio::test(start_paused = true)]
    async fn who_is_called_hears_what_is_said() {
        let memory = Memory::new(NOW);
        let dial = || Dial::new(Endpoint { host: "meter.lan".to_owned(), port: 502 });
        let refused = memory.world().connect(dial()).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let door = memory.open("meter.lan:502");
        let mut ours = memory.world().connect(dial()).await.unwrap();
        let (mut theirs, _) = door.accept().await.unwrap();
        ours.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        theirs.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_passes_at_once_and_a_step_of_the_clock_is_told() {
        let memory = Memory::new(NOW);
        let _entered = memory.enter();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(Timestamp::now().unix_nanos(), NOW + 3_600_000_000_000);
        let world = memory.world();
        let told = tokio::spawn(async move { world.clock_was_moved().await });
        tokio::task::yield_now().await;
        memory.set_wall(NOW);
        told.await.unwrap();
        assert_eq!(Timestamp::now().unix_nanos(), NOW);
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_is_taken_once() {
        let memory = Memory::new(NOW);
        let at = "127.0.0.1:1883".parse().unwrap();
        let first = memory.world().listen(at).await.unwrap();
        let again = memory.world().listen(at).await.map(|_| ()).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(memory.world().listen(at).await.is_ok());
    }
}
