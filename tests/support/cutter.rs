//! A link between a client and a broker that is cut behind a given packet of MQTT.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::free_listener;

/// Who sends the last packet that gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Client,
    Broker,
}

/// Passes connections on to a broker on this machine, and ends each behind a packet: the first connection as the
/// first of the cuts says, and so on. What comes behind the last of them is left alone. Its threads end with the
/// test process.
pub struct Cutter {
    pub port: u16,
    done: Arc<AtomicUsize>,
}

impl Cutter {
    #[track_caller]
    pub fn to(target: u16, cuts: Vec<(By, usize)>) -> Cutter {
        let listener = free_listener();
        let port = listener.local_addr().expect("it listens").port();
        let done = Arc::new(AtomicUsize::new(0));
        let cutter = Cutter { port, done: Arc::clone(&done) };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let cut = cuts.get(done.load(Ordering::SeqCst)).copied();
                let Ok(broker) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                thread::scope(|scope| {
                    let most = |side| cut.filter(|(by, _)| *by == side).map(|(_, most)| most);
                    let (there, back) = (most(By::Client), most(By::Broker));
                    let (client, broker) = (&client, &broker);
                    let was_cut = [
                        scope.spawn(move || carry(client, broker, there)),
                        scope.spawn(move || carry(broker, client, back)),
                    ];
                    let was_cut = was_cut.map(|it| it.join().unwrap_or(false));
                    done.fetch_add(usize::from(was_cut.contains(&true)), Ordering::SeqCst);
                });
            }
        });
        cutter
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

/// Carries so many packets, or all. Whether it has cut the connection behind the last.
fn carry(from: &TcpStream, mut to: &TcpStream, most: Option<usize>) -> bool {
    let mut carried = 0;
    while most.is_none_or(|most| carried < most) {
        let Some(packet) = packet(from) else { break };
        if to.write_all(&packet).is_err() {
            break;
        }
        carried += 1;
    }
    for socket in [from, to] {
        // What was written still arrives. The other thread may have ended it.
        let _ = socket.shutdown(Shutdown::Both);
    }
    most == Some(carried)
}

/// The next packet as it came (MQTT 5 section 2.1).
fn packet(mut from: &TcpStream) -> Option<Vec<u8>> {
    let mut packet = vec![0; 1];
    from.read_exact(&mut packet).ok()?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let mut byte = [0];
        from.read_exact(&mut byte).ok()?;
        packet.push(byte[0]);
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] < 0x80 {
            break;
        }
    }
    let head = packet.len();
    packet.resize(head + length, 0);
    from.read_exact(&mut packet[head..]).ok()?;
    Some(packet)
}
