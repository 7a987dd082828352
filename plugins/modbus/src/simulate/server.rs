//! Serves simulated devices to whoever connects, over TCP and serial lines.
//!
//! Nothing that a client sends ends it, and no client can make it grow: there is a bound on clients,
//! on the bytes of a request and on how long an answer may take to leave.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forebay_sdk::world::{Listener, Stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    device,
    fault::{Faults, What},
    image::Image,
};
use crate::{
    frame::{Framing, envelope, is_whole},
    serial::{SerialLine, TURN_AROUND},
};

/// How frames travel to a device.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    pub framing: Framing,
    /// Answers take as long as on this line.
    pub line: Option<SerialLine>,
}

/// Hears of a unit and a request.
pub type Told = Box<dyn FnMut(u8, &[u8]) + Send>;

/// Some devices, and what they do wrong.
pub struct Devices {
    pub units: BTreeMap<u8, Image>,
    pub faults: Faults,
    /// Further clients are hung up on.
    pub most_clients: usize,
    /// What comes so soon after a client has connected is lost.
    pub swallow: Duration,
    /// Hears of each write that is carried out: the unit, and the request from its function code on.
    pub told: Told,
}

/// Devices that are served. Cloning shares them.
#[derive(Clone)]
pub struct Simulator {
    devices: Arc<Mutex<Devices>>,
    since: Instant,
}

/// What leaves for a request.
#[derive(Default)]
struct Reply {
    after: Duration,
    bytes: Vec<u8>,
    hangs_up: bool,
}

/// More than any request.
const MOST_BYTES: usize = 512;
/// Bytes of a request that is not finished are forgotten when nothing follows for so long.
const LONGEST_GAP: Duration = Duration::from_millis(100);
/// A client that takes no answer for so long is gone.
const LONGEST_WRITE: Duration = Duration::from_secs(10);
const HEAD_BYTES: usize = 7;
const CHECKSUM_BYTES: usize = 2;
/// For all devices of a serial line, which do not answer.
const BROADCAST: u8 = 0;
const GATEWAY_TARGET_DEVICE: u8 = 11;
const ILLEGAL_FUNCTION: u8 = 1;
/// So far away that it is hardly one of the bus. Without transaction ids nobody could tell a late answer under
/// the address of a unit that is asked just then.
const OTHER_UNIT: u8 = 100;
/// Nobody asks for it: report server id.
const OTHER_FUNCTION: u8 = 17;

impl Simulator {
    pub fn new(devices: Devices) -> Simulator {
        Simulator { devices: Arc::new(Mutex::new(devices)), since: Instant::now() }
    }

    /// The devices as they are.
    pub fn devices(&self) -> MutexGuard<'_, Devices> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves until dropped, and hangs up on everybody then.
    pub async fn serve(self, listener: Box<dyn Listener>, wire: Wire) {
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = clients.join_next() => (),
                accepted = listener.accept() => match accepted {
                    Ok((client, _)) if clients.len() < self.devices().most_clients => {
                        let simulator = self.clone();
                        clients.spawn(async move { simulator.talk(client, wire).await });
                    }
                    Ok(_) => (),
                    // Out of file descriptors, most likely: some may come free.
                    Err(_) => sleep(LONGEST_GAP).await,
                },
            }
        }
    }

    /// Serves one client, or a line, until it has gone or says something that is no request.
    pub async fn talk(&self, client: Box<dyn Stream>, wire: Wire) -> io::Result<()> {
        let swallows_until = Instant::now() + self.devices().swallow;
        match wire.framing {
            Framing::Tcp | Framing::Unnumbered => self.talk_tcp(client, wire, swallows_until).await,
            Framing::Rtu => self.talk_rtu(client, wire, swallows_until).await,
        }
    }

    async fn talk_tcp(
        &self,
        mut client: Box<dyn Stream>,
        wire: Wire,
        swallows_until: Instant,
    ) -> io::Result<()> {
        loop {
            let mut head = [0; HEAD_BYTES];
            client.read_exact(&mut head).await?;
            let [t1, t2, 0, 0, 0, length @ 2..=254, unit] = head else { return Ok(()) };
            let mut body = [0; 253];
            let body = &mut body[..usize::from(length) - 1];
            client.read_exact(body).await?;
            if Instant::now() < swallows_until {
                continue;
            }
            let reply = self.reply(wire, [t1, t2], unit, body);
            if send(&mut client, reply).await? {
                return Ok(());
            }
        }
    }

    /// A request has no length on this wire; its function says how long it is. What is none is thrown
    /// away byte by byte, or when nothing follows.
    async fn talk_rtu(
        &self,
        mut client: Box<dyn Stream>,
        wire: Wire,
        swallows_until: Instant,
    ) -> io::Result<()> {
        let (mut came, mut buffer) = (Vec::new(), [0; MOST_BYTES]);
        loop {
            let reading = client.read(&mut buffer);
            let count = if came.is_empty() {
                reading.await?
            } else {
                match timeout(LONGEST_GAP, reading).await {
                    Ok(count) => count?,
                    Err(_) => {
                        let reply = self.unknown(wire, &came);
                        came.clear();
                        if send(&mut client, reply).await? {
                            return Ok(());
                        }
                        continue;
                    }
                }
            };
            if count == 0 {
                return Ok(());
            }
            if Instant::now() < swallows_until {
                continue;
            }
            came.extend_from_slice(&buffer[..count]);
            while let Some((unit, request)) = next_request(&mut came) {
                let reply = self.reply(wire, [0; 2], unit, &request);
                if send(&mut client, reply).await? {
                    return Ok(());
                }
            }
        }
    }

    /// The answer to a whole frame of which only the silence behind it shows where it ends.
    fn unknown(&self, wire: Wire, frame: &[u8]) -> Reply {
        let is_ours = frame.len() > 3 && self.devices().units.contains_key(&frame[0]);
        if !is_ours || !is_whole(frame) {
            return Reply::default();
        }
        let answer = device::exception(frame[1], ILLEGAL_FUNCTION);
        let bytes = envelope(wire.framing, [0; 2], frame[0], &answer);
        Reply { bytes, ..Reply::default() }
    }

    /// What leaves for a request, from its function code on.
    fn reply(&self, wire: Wire, transaction: [u8; 2], unit: u8, request: &[u8]) -> Reply {
        let elapsed = self.since.elapsed();
        let mut devices = self.devices();
        let devices = &mut *devices;
        let is_rtu = wire.framing == Framing::Rtu;
        if is_rtu && unit == BROADCAST {
            let units: Vec<u8> = devices.units.keys().copied().collect();
            for unit in units {
                devices.carry_out(unit, request, elapsed);
            }
            return Reply::default();
        }
        // A device on the network that is alone does not care as what it is asked.
        let alone = devices.units.keys().next().filter(|_| !is_rtu && devices.units.len() == 1);
        let asked = alone.copied().unwrap_or(unit);
        if !devices.units.contains_key(&asked) {
            let function = request.first().copied().unwrap_or(0);
            let answer = device::exception(function, GATEWAY_TARGET_DEVICE);
            let bytes = envelope(wire.framing, transaction, unit, &answer);
            return if is_rtu { Reply::default() } else { Reply { bytes, ..Reply::default() } };
        }
        let strikes = devices.faults.next(asked);
        if strikes.contains(&What::Deaf) {
            return Reply { hangs_up: strikes.contains(&What::HangUp), ..Reply::default() };
        }
        let refused = strikes.iter().find_map(|strike| match strike {
            // "I have begun, and need longer."
            What::Exception(code @ 5) => {
                devices.carry_out(asked, request, elapsed);
                Some(device::exception(request.first().copied()?, *code))
            }
            What::Exception(code) => Some(device::exception(request.first().copied()?, *code)),
            _ => None,
        });
        let answer = refused.unwrap_or_else(|| devices.carry_out(asked, request, elapsed));
        let mut reply = Reply::of(wire, transaction, unit, answer, &strikes, devices);
        if let Some(line) = wire.line {
            let head = if is_rtu { 1 + CHECKSUM_BYTES } else { 0 };
            let bytes = request.len() + head + reply.bytes.len();
            reply.after += line.bytes(bytes as u32) + line.silence() + TURN_AROUND;
        }
        reply
    }
}

impl Devices {
    fn carry_out(&mut self, unit: u8, request: &[u8], elapsed: Duration) -> Vec<u8> {
        let Some(image) = self.units.get_mut(&unit) else { return Vec::new() };
        let answer = device::answer(image, request, elapsed);
        if device::is_write(request) && answer.first() == request.first() {
            (self.told)(unit, request);
        }
        answer
    }
}

impl Reply {
    /// The answer, and what goes wrong with it.
    fn of(
        wire: Wire,
        mut transaction: [u8; 2],
        mut unit: u8,
        mut answer: Vec<u8>,
        strikes: &[What],
        devices: &mut Devices,
    ) -> Reply {
        let random = &mut devices.faults.random;
        let mut reply = Reply::default();
        for strike in strikes {
            match strike {
                What::Late(after) => reply.after += *after,
                What::HangUp => reply.hangs_up = true,
                What::WrongId => transaction[1] = transaction[1].wrapping_add(1),
                What::WrongUnit => unit = unit.wrapping_add(OTHER_UNIT),
                What::WrongFunction => answer[0] = OTHER_FUNCTION,
                What::WrongLength => shorten(&mut answer),
                _ => (),
            }
        }
        if strikes.contains(&What::Silence) {
            return reply;
        }
        let mut frame = envelope(wire.framing, transaction, unit, &answer);
        if strikes.contains(&What::BitError) {
            let bytes = if wire.framing == Framing::Rtu { frame.len() } else { HEAD_BYTES };
            let bit = random.usize(..bytes * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        for strike in strikes {
            if let What::Noise(count) = strike {
                reply.bytes.extend((0..*count).map(|_| random.u8(..)));
            }
        }
        reply.bytes.extend_from_slice(&frame);
        if strikes.contains(&What::Twice) {
            reply.bytes.extend_from_slice(&frame);
        }
        reply
    }
}

/// One register less, and a right frame all the same; of what has none the last byte.
fn shorten(answer: &mut Vec<u8>) {
    if matches!(answer[0], 3 | 4 | 23) && answer.len() > 3 {
        answer.truncate(answer.len() - 2);
        answer[1] -= 2;
    } else {
        answer.pop();
    }
}

/// Whether the link is to be closed then.
async fn send(client: &mut Box<dyn Stream>, reply: Reply) -> io::Result<bool> {
    if !reply.after.is_zero() {
        sleep(reply.after).await;
    }
    if !reply.bytes.is_empty() {
        let writing = async {
            client.write_all(&reply.bytes).await?;
            client.flush().await
        };
        timeout(LONGEST_WRITE, writing).await.map_err(|_| io::ErrorKind::TimedOut)??;
    }
    Ok(reply.hangs_up)
}

/// Takes the next whole request out of what came: the unit, and what follows without the checksum.
fn next_request(came: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    while came.len() > 1 {
        match request_bytes(came) {
            // More must come.
            Some(length) if length > came.len() => return None,
            Some(length) if is_whole(&came[..length]) => {
                let frame: Vec<u8> = came.drain(..length).collect();
                return Some((frame[0], frame[1..length - CHECKSUM_BYTES].to_vec()));
            }
            // A function that nobody knows may be a whole frame: the silence behind it says so.
            None if came.len() <= MOST_BYTES => return None,
            _ => {
                came.remove(0);
            }
        }
    }
    None
}

/// How long the request is that begins here, unit and checksum included. More than there is when that
/// is not known yet.
fn request_bytes(came: &[u8]) -> Option<usize> {
    let counted = |at: usize, before: usize| {
        came.get(at).map_or(at + 1 + CHECKSUM_BYTES, |count| before + usize::from(*count))
            + CHECKSUM_BYTES
    };
    Some(match came[1] {
        1..=6 => 8,
        15 | 16 => counted(6, 7),
        22 => 10,
        23 => counted(10, 11),
        43 => 7,
        _ => return None,
    })
}
