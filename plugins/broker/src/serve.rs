//! Serves one device, from its first byte to its last.
//!
//! What it publishes goes to its readers, and its acknowledgement leaves once they have settled it.
//! While too much is open, the device is not read. What waits for it is written when it reads.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use forebay_sdk::{Figure, Voice};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    time::{Instant, timeout},
};

use crate::{
    broker::Seat,
    dues::{Answer, Dues, MOST_UNACKNOWLEDGED, Paid},
    entrance::{Duplex, Welcomed},
    house::{House, Line},
    local::{Local, Origin, is_awaited},
    message::Message,
    pace::{self, Pace},
    packets::{Arrived, Packets},
    status::{Counts, add},
    terms::{Listener, Terms, bytes},
    topics::is_private,
    users::Users,
    wire::{
        Ack, ConnAck, Disconnect, Packet, Publish, Refusal, Subscribe, Version, Writer, code,
        decode, version_of,
    },
    words::printable,
};

/// How long a device may take to say who it is.
pub const LONGEST_CONNECT: Duration = Duration::from_secs(10);
/// How long a device may take to read some of what it was sent.
const LONGEST_WRITE: Duration = Duration::from_secs(30);
/// How long the last bytes for a device may take, and how long it is heard after them: a socket that is
/// closed while something is unread takes them back.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How much a device may send at once after a quiet time, of what it may send in that time.
const BURST: Duration = Duration::from_secs(1);
/// The highest topic alias of a device.
pub const MOST_ALIASES: u16 = 32;

/// What all devices are served by.
#[derive(Clone)]
pub struct Service {
    pub house: Arc<House>,
    pub local: Arc<Local>,
    pub users: Arc<Users>,
    pub voice: Voice,
    /// The largest packet that a device may send, in bytes.
    pub max_packet: usize,
    /// The longest keep-alive, in seconds. None leaves it to the device.
    pub max_keep_alive: Option<u16>,
    /// The time from one message of a client to the next, and from one byte of them. None for no limit.
    between: [Option<Duration>; 2],
}

impl Service {
    /// Serves nobody until it [takes](Service::take) its terms.
    pub fn new(house: Arc<House>, local: Arc<Local>, users: Arc<Users>, voice: Voice) -> Service {
        Service {
            house,
            local,
            users,
            voice,
            max_packet: 0,
            max_keep_alive: None,
            between: [None; 2],
        }
    }

    /// Serves who comes from now on by these terms. What is not of one connection is changed for all.
    pub fn take(&mut self, terms: &Terms) {
        self.max_packet = bytes(terms.max_packet);
        self.max_keep_alive = terms.most_keep_alive();
        let of_bytes = terms.max_byte_rate.map(|most| Duration::from_secs_f64(1.0 / most.0 as f64));
        self.between = [terms.max_rate, of_bytes];
        let (most, of_one) = (terms.max_connections, terms.max_connections_per_address);
        self.users.hall.resize(most.into(), of_one.into());
        self.house.with(|broker| broker.set_limits(terms.limits()));
    }

    /// Serves one device until it leaves.
    ///
    /// # Errors
    ///
    /// What the device did wrong, with its name as far as it is known.
    pub async fn serve(
        &self,
        welcomed: Welcomed,
        listener: &Listener,
        from: SocketAddr,
    ) -> anyhow::Result<()> {
        let Welcomed { stream, certified } = welcomed;
        let (from_device, to_device) = split(stream);
        let (house, voice) = (&self.house, &self.voice);
        let (budget, desk) = (house.budget.clone(), Arc::clone(&house.desk));
        let mut packets = Packets::new(from_device, self.max_packet, budget, desk, voice.clone());
        let (counts, version) = (&house.counts, Version::V311);
        let mut out = Outgoing { to: to_device, voice, counts, version, is_whole: true };
        let served = match timeout(LONGEST_CONNECT, packets.next()).await {
            Err(error) => Err(anyhow::Error::new(error).context("it did not say who it is")),
            Ok(Err(error)) => Err(error),
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(first))) => {
                let caller = Caller { listener, from, certified };
                self.greet(first, caller, &mut packets, &mut out).await
            }
        };
        if served.is_ok() || served.as_ref().is_err_and(|e| e.root_cause().is::<Refusal>()) {
            out.close(&mut packets).await;
        }
        served
    }

    async fn greet(
        &self,
        first: Arrived,
        caller: Caller<'_>,
        packets: &mut Packets<ReadHalf<Box<dyn Duplex>>>,
        out: &mut Outgoing<'_>,
    ) -> anyhow::Result<()> {
        let connect = match decode(first.header, &first.body, Version::V311) {
            Ok(Packet::Connect(connect)) => *connect,
            Ok(_) => {
                return Err(Refusal::protocol("it began with something else than CONNECT").into());
            }
            Err(refusal) => {
                if let Some(version) = version_of(first.header, &first.body) {
                    out.version = version;
                    out.refuse(&refusal).await?;
                }
                return Err(refusal.into());
            }
        };
        drop(first);
        out.version = connect.version;
        let Caller { listener, from, certified } = caller;
        let admitted = self.users.admit(&connect, from, listener, certified, &self.house).await;
        let pass = match admitted {
            Ok(pass) => pass,
            Err(refusal) => return out.refuse(&refusal).await,
        };
        let user = pass.user.clone();
        let is_assigned = connect.client_id.is_empty();
        let client_id: Arc<str> = match is_assigned {
            true => self.house.new_client_id(),
            false => connect.client_id.as_str().into(),
        };
        let held = self.house.line();
        let _inside = self.users.enter(held.line.id, pass);
        let now = Instant::now();
        let hello = connect.clone();
        let id = Arc::clone(&client_id);
        let let_in = self.house.with(|broker| broker.connect(connect, id, user, held.line.id, now));
        let welcome = match let_in {
            Ok(welcome) => welcome,
            Err(refusal) => {
                self.users.refuse(&hello, from, &refusal.why);
                return out.refuse(&refusal).await;
            }
        };
        let guest = Guest { service: self, seat: welcome.seat, client_id: Arc::clone(&client_id) };
        let asked = hello.keep_alive;
        let keep_alive = match self.max_keep_alive {
            Some(most) if asked == 0 || asked > most => most,
            _ => asked,
        };
        let answer = ConnAck {
            session_present: welcome.session_present,
            code: code::SUCCESS,
            expiry_seconds: welcome.expiry_seconds,
            receive_maximum: Some(MOST_UNACKNOWLEDGED),
            max_packet: u32::try_from(self.max_packet).ok(),
            assigned_id: is_assigned.then(|| client_id.to_string()),
            alias_maximum: Some(MOST_ALIASES),
            keep_alive: (keep_alive != asked).then_some(keep_alive),
            reason: None,
        };
        let mut writer = Writer::new(out.version);
        writer.connack(&answer);
        out.send(&writer.bytes).await?;

        let dues = self.local.dues(&client_id);
        let session = Session { number: dues.enter(), dues: Arc::clone(&dues) };
        let incoming = Incoming {
            service: self,
            guest: &guest,
            version: out.version,
            // MQTT 5 section 3.1.2.10: one and a half times.
            silence: (keep_alive > 0).then(|| Duration::from_millis(u64::from(keep_alive) * 1500)),
            aliases: vec![None; usize::from(MOST_ALIASES)],
            paces: self.between.map(|between| Pace::new(between, BURST, Instant::now())),
            dues: &dues,
        };
        let ended = tokio::select! {
            biased;
            read = incoming.run(packets) => read,
            written = out.run(&guest, &held.line, &session) => written,
            refusal = held.line.ended() => Err(refusal.into()),
        };
        if let Err(error) = &ended
            && let Some(refusal) = error.downcast_ref::<Refusal>()
        {
            out.good_bye(refusal).await;
        }
        let name = printable(&client_id);
        ended.with_context(|| format!("device with client id `{name}`"))
    }
}

/// Whence a device comes.
struct Caller<'a> {
    listener: &'a Listener,
    from: SocketAddr,
    /// The user whom its certificate names.
    certified: Option<String>,
}

/// A client in the broker, until it is dropped.
struct Guest<'a> {
    service: &'a Service,
    seat: Seat,
    client_id: Arc<str>,
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        let house = &self.service.house;
        let seat = self.seat;
        house.with(|broker| broker.lost(seat, Instant::now()));
        if house.with(|broker| broker.owner(&self.client_id)).is_none() {
            self.service.local.forget(&self.client_id);
        }
    }
}

/// The dues of a device, while this connection is its last.
struct Session {
    dues: Arc<Dues>,
    number: u64,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.dues.leave(self.number);
    }
}

/// What goes to a device.
struct Outgoing<'a> {
    to: WriteHalf<Box<dyn Duplex>>,
    voice: &'a Voice,
    counts: &'a Counts,
    version: Version,
    /// No packet was written in part.
    is_whole: bool,
}

impl Outgoing<'_> {
    async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.is_whole = false;
        self.write(bytes).await?;
        self.flush().await?;
        self.is_whole = true;
        Ok(())
    }

    /// Has what was written leave: TLS and WebSocket keep some of it.
    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(timeout(LONGEST_WRITE, self.to.flush()).await.map_err(|_| unread())??)
    }

    async fn write(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            let write = timeout(LONGEST_WRITE, self.to.write(bytes)).await;
            let written = write.map_err(|_| unread())??;
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            self.voice.count(Figure::BytesOut, written as u64);
            add(&self.counts.bytes_out, written as u64);
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Refuses a CONNECT.
    async fn refuse(&mut self, refusal: &Refusal) -> anyhow::Result<()> {
        let reason = Some(refusal.why.clone());
        let mut writer = Writer::new(self.version);
        writer.connack(&ConnAck { code: refusal.code, reason, ..ConnAck::default() });
        self.send(&writer.bytes).await
    }

    /// Says why a connection ends, when that can be said.
    async fn good_bye(&mut self, refusal: &Refusal) {
        if self.is_whole {
            let mut writer = Writer::new(self.version);
            writer.disconnect(refusal.code, Some(&refusal.why));
            // It may be gone, or not read any more.
            let _ = timeout(LAST_WORDS, self.send(&writer.bytes)).await;
        }
    }

    /// Closes the stream, and hears what comes for a moment.
    async fn close(&mut self, packets: &mut Packets<ReadHalf<Box<dyn Duplex>>>) {
        let close = async {
            self.to.shutdown().await?;
            let mut rest = [0; 1024];
            while packets.stream().read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // It may be gone.
        let _ = timeout(LAST_WORDS, close).await;
    }

    /// Sends what the broker has for the device, and what it is owed.
    async fn run(
        &mut self,
        guest: &Guest<'_>,
        line: &Line,
        session: &Session,
    ) -> anyhow::Result<()> {
        let mut turn = guest.service.house.turns.turn();
        loop {
            let began = Instant::now();
            // It hears of what happens from here on.
            let told = session.dues.told();
            let Paid { bytes, received } = session.dues.pay(session.number, self.version);
            if !received.is_empty() {
                guest.service.house.with(|broker| {
                    received.iter().for_each(|id| broker.note_received(guest.seat, *id));
                });
            }
            if !bytes.is_empty() {
                self.send(&bytes).await?;
            }
            let next = guest.service.house.with(|broker| broker.next(guest.seat, Instant::now()));
            if next.is_empty() {
                tokio::select! {
                    biased;
                    () = told => (),
                    () = line.woken() => (),
                }
                continue;
            }
            add(&self.counts.messages_out, next.messages);
            self.is_whole = false;
            self.write(&next.bytes).await?;
            for piece in &next.tail {
                self.write(piece).await?;
            }
            self.flush().await?;
            self.is_whole = true;
            turn.worked_since(began).await;
        }
    }
}

fn unread() -> Refusal {
    let seconds = LONGEST_WRITE.as_secs();
    let why = format!("it has not read what it was sent for {seconds} s");
    Refusal::new(code::UNSPECIFIED, why)
}

/// What comes from a device.
struct Incoming<'a> {
    service: &'a Service,
    guest: &'a Guest<'a>,
    version: Version,
    /// How long it may be silent.
    silence: Option<Duration>,
    /// Topics that MQTT 5 has a number for.
    aliases: Vec<Option<Arc<str>>>,
    /// How fast it may publish, in messages and in bytes.
    paces: [Pace; 2],
    dues: &'a Dues,
}

impl Incoming<'_> {
    async fn run(mut self, packets: &mut Packets<ReadHalf<Box<dyn Duplex>>>) -> anyhow::Result<()> {
        let mut turn = self.service.house.turns.turn();
        loop {
            let next = packets.next();
            let arrived = match self.silence {
                None => next.await?,
                Some(silence) => timeout(silence, next).await.map_err(|_| {
                    let seconds = silence.as_secs_f32();
                    let why = format!("it was silent for {seconds} s, longer than its keep-alive");
                    Refusal::new(code::KEEP_ALIVE, why)
                })??,
            };
            let Some(arrived) = arrived else { return Ok(()) };
            let began = Instant::now();
            let counts = &self.service.house.counts;
            let bytes = arrived.header.packet_bytes();
            add(&counts.packets_in, 1);
            add(&counts.bytes_in, bytes as u64);
            let packet = decode(arrived.header, &arrived.body, self.version)?;
            if let Packet::Publish(_) = &packet {
                add(&counts.messages_in, 1);
                let now = Instant::now();
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                pace::keep([self.paces[0].count(1, now), self.paces[1].count(bytes, now)]).await;
            }
            let Arrived { charge: _charge, body, .. } = arrived;
            drop(body);
            if let Packet::Disconnect(said) = packet {
                return Ok(self.disconnect(said)?);
            }
            self.packet(packet).await?;
            turn.worked_since(began).await;
        }
    }

    fn disconnect(&self, said: Disconnect) -> Result<(), Refusal> {
        self.service.house.with(|broker| broker.disconnect(self.guest.seat, said, Instant::now()))
    }

    async fn packet(&mut self, packet: Packet) -> anyhow::Result<()> {
        let (house, seat) = (&self.service.house, self.guest.seat);
        match packet {
            Packet::Publish(publish) => self.publish(publish).await?,
            Packet::PubRel(released) => {
                let code = match house.with(|broker| broker.release(seat, released.id)) {
                    true => code::SUCCESS,
                    false => code::PACKET_ID_NOT_FOUND,
                };
                self.answer(|writer| writer.ack(Ack::Completed, released.id, code)).await;
            }
            Packet::PubAck(acked) => house.with(|broker| broker.acknowledge(seat, acked.id)),
            Packet::PubRec(acked) => {
                let told = house.with(|broker| broker.receive(seat, acked.id, acked.code));
                if let Some((kind, code)) = told {
                    self.answer(|writer| writer.ack(kind, acked.id, code)).await;
                }
            }
            Packet::PubComp(acked) => house.with(|broker| broker.complete(seat, acked.id)),
            Packet::Subscribe(asked) => self.subscribe(asked).await,
            Packet::Unsubscribe(asked) => {
                let codes = house.with(|broker| broker.unsubscribe(seat, &asked.filters));
                self.answer(|writer| writer.unsuback(asked.id, &codes)).await;
            }
            Packet::PingReq => self.answer(Writer::pong).await,
            Packet::Connect(_) => return Err(Refusal::protocol("it sent CONNECT twice").into()),
            Packet::Disconnect(_) => (),
        }
        Ok(())
    }

    async fn subscribe(&mut self, asked: Subscribe) {
        // There is room for the answer before anything of the subscription is sent.
        self.dues.room_to_answer().await;
        let (house, seat) = (&self.service.house, self.guest.seat);
        let codes = house.with(|broker| broker.subscribe(seat, &asked));
        // A client that was told so may leave, and counts on it.
        if let Some(journal) = house.with(|broker| broker.journal_of(seat)) {
            journal.safe().await;
        }
        self.answer(|writer| writer.suback(asked.id, &codes)).await;
    }

    /// Answers at once. One that does not read its answers is not read.
    async fn answer(&self, write: impl FnOnce(&mut Writer)) {
        self.dues.room_to_answer().await;
        let mut writer = Writer::new(self.version);
        write(&mut writer);
        self.dues.answer(&writer.bytes);
    }

    async fn publish(&mut self, mut publish: Publish) -> anyhow::Result<()> {
        self.resolve_alias(&mut publish)?;
        if is_private(&publish.topic) {
            let topic = printable(&publish.topic);
            let why = format!(
                "it published to `{topic}`, and what begins with `$forebay/` is the broker's own"
            );
            return Err(Refusal::new(code::NOT_AUTHORIZED, why).into());
        }
        let (dues, local) = (self.dues, &self.service.local);
        let (id, again, qos) = (publish.id, publish.again, publish.qos);
        let from = Origin::Device(self.guest.seat.session);
        let (house, seat) = (&self.service.house, self.guest.seat);
        if qos == 2 && house.with(|broker| broker.has_received(seat, id, again)) {
            dues.room().await;
            dues.owe_again(id);
            return Ok(());
        }
        if qos > 0 && self.version == Version::V5 {
            let unreleased = house.with(|broker| broker.unreleased_count(seat));
            if dues.open_count() + unreleased >= MOST_UNACKNOWLEDGED.into() {
                let why = format!("it has more than {MOST_UNACKNOWLEDGED} messages open");
                return Err(Refusal::new(code::RECEIVE_MAXIMUM, why).into());
            }
        }
        if !house.with(|broker| broker.may_publish(self.guest.seat, &publish.topic)) {
            self.deny(qos, id, code::NOT_AUTHORIZED).await;
            return Ok(());
        }
        let now = Instant::now();
        let message = Message::of(publish, now);
        // MQTT 3.1.1 has no word for it: there it is passed on.
        let may_refuse = qos > 0 && self.version == Version::V5 && message.retain;
        if may_refuse && !house.with(|broker| broker.has_room_to_retain(&message)) {
            self.deny(qos, id, code::QUOTA).await;
            return Ok(());
        }
        if qos == 0 {
            let ways = local.ways(&message.topic, 0, from).await;
            local.send(message, ways, from, dues, None).await?;
            return Ok(());
        }
        let owed = message.publication(qos, now);
        let known = again.then(|| dues.again(&owed)).flatten();
        let receipt = match known {
            Some(receipt) => receipt,
            None => {
                dues.room().await;
                let ways = local.ways(&message.topic, qos, from).await;
                let charge = local.memory(&ways, &owed).await;
                let is_safe_at_once = !is_awaited(&ways);
                if qos == 2 {
                    house.with(|broker| broker.receive_new(seat, id))?;
                }
                let receipt = local.send(message, ways, from, dues, charge).await?;
                if qos == 2 && is_safe_at_once {
                    // In one write with the message, or later.
                    house.with(|broker| broker.note_received(seat, id));
                }
                receipt
            }
        };
        let kind = if qos == 1 { Ack::Acknowledged } else { Ack::Received };
        dues.owe(Answer::new(kind, id), owed, receipt);
        Ok(())
    }

    /// Tells a device that something is not published, and why. MQTT 3.1.1 has no words for it.
    async fn deny(&self, qos: u8, id: u16, why: u8) {
        if qos == 0 {
            return;
        }
        self.dues.room().await;
        let kind = if qos == 1 { Ack::Acknowledged } else { Ack::Received };
        let code = match self.version {
            Version::V311 => code::SUCCESS,
            Version::V5 => why,
        };
        self.dues.owe_settled(Answer { kind, id, code });
    }

    /// Gives a publication the topic for which its number stands (MQTT 5 section 3.3.2.3.4).
    fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), Refusal> {
        let Some(alias) = publish.alias else { return Ok(()) };
        let (house, seat) = (&self.service.house, self.guest.seat);
        let refusal = |why: &str| {
            Refusal::new(code::TOPIC_ALIAS, format!("it used the topic alias {alias}{why}"))
        };
        let index = usize::from(alias).wrapping_sub(1);
        let most = format!(", more than {MOST_ALIASES}");
        let known = self.aliases.get_mut(index).ok_or_else(|| refusal(&most))?;
        if publish.topic.is_empty() {
            publish.topic = known.clone().ok_or_else(|| refusal(", which it did not set"))?;
            return Ok(());
        }
        let before = known.as_ref().map_or(0, |topic| topic.len());
        let is_held = house.with(|broker| broker.hold_alias(seat, before, publish.topic.len()));
        if !is_held {
            let why = "the memory for topic aliases is full (`memory`)";
            return Err(Refusal::new(code::QUOTA, why));
        }
        *known = Some(Arc::clone(&publish.topic));
        Ok(())
    }
}
