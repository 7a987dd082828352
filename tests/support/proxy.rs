//! A link between a client and a server that a test can make silent: the sockets stay open, and
//! nothing comes through.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::free_listener;

/// Passes connections on to a port of this machine. Its threads end with the test process.
pub struct Proxy {
    pub port: u16,
    link: Arc<Link>,
}

struct Link {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    way: Way,
    /// Both ends of every connection so far.
    sockets: Vec<Arc<TcpStream>>,
}

/// What becomes of bytes that come now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Pass,
    Swallow,
    Hold,
}

impl Proxy {
    #[track_caller]
    pub fn to(target: u16) -> Proxy {
        let listener = free_listener();
        let port = listener.local_addr().expect("it listens").port();
        let state = State { way: Way::Pass, sockets: Vec::new() };
        let link = Arc::new(Link { state: Mutex::new(state), changed: Condvar::new() });
        let proxy = Proxy { port, link: Arc::clone(&link) };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let link = Arc::clone(&link);
                thread::spawn(move || link.serve(client, target));
            }
        });
        proxy
    }

    /// Swallows everything, the end of a connection too. A connection that lost something that way
    /// stays silent for ever, as behind a router that forgot it.
    pub fn swallow(&self) {
        self.link.set(Way::Swallow);
    }

    /// Keeps back everything, as when packets get lost and are sent again later.
    pub fn hold(&self) {
        self.link.set(Way::Hold);
    }

    /// Passes on what was kept back, what comes, and new connections.
    pub fn heal(&self) {
        self.link.set(Way::Pass);
    }

    /// Ends all connections, and heals.
    pub fn cut(&self) {
        for socket in self.link.state().sockets.drain(..) {
            // It may have ended by itself.
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.heal();
    }
}

impl Link {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while the lock is held")
    }

    fn set(&self, way: Way) {
        self.state().way = way;
        self.changed.notify_all();
    }

    /// Whether what just came is passed on. Waits while everything is kept back.
    fn passes(&self, is_lost: &AtomicBool) -> bool {
        let state = self.state();
        let state = self.changed.wait_while(state, |state| state.way == Way::Hold);
        let way = state.expect("nobody panics while the lock is held").way;
        is_lost.fetch_or(way == Way::Swallow, Ordering::SeqCst);
        !is_lost.load(Ordering::SeqCst)
    }

    fn serve(&self, client: TcpStream, target: u16) -> Option<()> {
        let client = self.keep(client);
        let is_lost = AtomicBool::new(false);
        if !self.passes(&is_lost) {
            return None;
        }
        let server = self.keep(TcpStream::connect(("127.0.0.1", target)).ok()?);
        thread::scope(|scope| {
            scope.spawn(|| self.carry(&client, &server, &is_lost));
            self.carry(&server, &client, &is_lost);
        });
        Some(())
    }

    /// Keeps the socket open until it is cut.
    fn keep(&self, socket: TcpStream) -> Arc<TcpStream> {
        let socket = Arc::new(socket);
        self.state().sockets.push(Arc::clone(&socket));
        socket
    }

    fn carry(&self, mut from: &TcpStream, mut to: &TcpStream, is_lost: &AtomicBool) {
        let mut bytes = [0; 16 << 10];
        loop {
            let came = from.read(&mut bytes).unwrap_or(0);
            match self.passes(is_lost) {
                true if came > 0 => {
                    if to.write_all(&bytes[..came]).is_err() {
                        return;
                    }
                }
                true => {
                    let _ = to.shutdown(Shutdown::Both);
                    return;
                }
                false if came == 0 => return,
                false => (),
            }
        }
    }
}
