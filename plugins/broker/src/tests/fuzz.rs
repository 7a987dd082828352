//! Many clients do what they like, and what must hold holds.

use super::*;
use crate::{
    broker::{Broker, Effect, Limits, Seat},
    budget::{Budget, Use},
    message::Message,
    session::Room,
    wire::{
        Connect, Disconnect, Packet as Read, Subscribe as Asked, Version, Wanted, Will, decode,
        header,
    },
};

/// One client, as it sees itself.
#[derive(Default)]
struct Device {
    seat: Option<Seat>,
    version: Option<Version>,
    /// What it was sent and has not acknowledged, with its QoS.
    open: Vec<(u16, u8)>,
}

/// What one of them, that misses nothing, must have got.
#[derive(Default)]
struct Careful {
    seat: Option<Seat>,
    expected: Vec<u32>,
    got: Vec<u32>,
}

struct Play {
    random: fastrand::Rng,
    now: Instant,
    budget: Budget,
    broker: Broker,
    connections: u64,
    devices: Vec<Device>,
    careful: Careful,
    published: u32,
    memory: usize,
}

const DEVICES: usize = 6;
const CAREFUL: &str = "careful";

impl Play {
    fn new(seed: u64) -> Play {
        let mut random = fastrand::Rng::with_seed(seed);
        let memory = random.usize(200_000..2_000_000);
        let budget = Budget::new(memory);
        let room =
            Room { messages: 50, bytes: 100_000, at_qos_0: 20, in_flight: random.u16(1..30) };
        let limits = Limits {
            sessions: 8,
            subscriptions: 10,
            retained: 10,
            retained_bytes: 50_000,
            room,
            longest_session: Duration::from_secs(1000),
            access: None,
        };
        let broker = Broker::new(limits, budget.clone());
        let devices = (0..DEVICES).map(|_| Device::default()).collect();
        let (now, careful) = (Instant::now(), Careful::default());
        let mut play = Play {
            random,
            now,
            budget,
            broker,
            connections: 0,
            devices,
            careful,
            published: 0,
            memory,
        };
        play.careful_comes();
        play
    }

    fn connect(
        &mut self,
        client_id: &str,
        clean: bool,
        expiry: u32,
        version: Version,
    ) -> Option<Seat> {
        self.connections += 1;
        let will = self.random.bool().then(|| Will {
            topic: "will/a".into(),
            payload: vec![0; self.random.usize(1..5000)].into(),
            qos: self.random.u8(0..3),
            retain: self.random.bool(),
            delay_seconds: self.random.u32(0..3),
            expiry_seconds: None,
            properties: bytes::Bytes::new(),
        });
        let connect = Connect {
            version,
            is_bridge: self.random.bool(),
            clean_start: clean,
            keep_alive: 0,
            client_id: client_id.to_owned(),
            user: None,
            password: None,
            will: will.filter(|_| client_id != CAREFUL),
            expiry_seconds: expiry,
            receive_maximum: self.random.u16(1..20),
            max_packet: u32::MAX,
            alias_maximum: self.random.u16(0..4),
            wants_reasons: true,
        };
        let id = client_id.into();
        let welcome = self.broker.connect(connect, id, None, self.connections, self.now);
        welcome.ok().map(|welcome| welcome.seat)
    }

    fn careful_comes(&mut self) {
        let seat = self.connect(CAREFUL, false, 1000, Version::V311).expect("it has room");
        let wanted = vec![Wanted {
            filter: "careful".to_owned(),
            qos: 1,
            no_local: false,
            retain_as_published: false,
            retain_handling: 2,
        }];
        self.broker.subscribe(seat, &Asked { id: 1, identifier: None, wanted });
        self.careful.seat = Some(seat);
    }

    fn filter(&mut self) -> String {
        const SOME: [&str; 8] =
            ["a", "a/b", "a/+", "#", "+/b", "$share/g/#", "$share/h/a/+", "will/#"];
        match self.random.u8(0..10) {
            0 => format!("{}x", "long/".repeat(self.random.usize(1..199))),
            1 => "a#".to_owned(),
            _ => SOME[self.random.usize(..SOME.len())].to_owned(),
        }
    }

    fn message(&mut self, topic: &str, payload: Vec<u8>) -> Message {
        let expires = self.random.u8(..) < 20;
        Message {
            topic: topic.into(),
            payload: payload.into(),
            qos: self.random.u8(0..3),
            retain: self.random.bool(),
            properties: bytes::Bytes::new(),
            expires_at: expires.then(|| self.now + Duration::from_secs(5)),
        }
    }

    fn step(&mut self) {
        let which = self.random.usize(..DEVICES);
        let id = format!("device{which}");
        match (self.random.u8(0..20), self.devices[which].seat) {
            (0..=2, _) => {
                let version = if self.random.bool() { Version::V5 } else { Version::V311 };
                let expiry = [0, 3, 500, u32::MAX][self.random.usize(..4)];
                let clean = self.random.bool();
                let seat = self.connect(&id, clean, expiry, version);
                self.devices[which] = Device { seat, version: Some(version), open: Vec::new() };
            }
            (3, Some(seat)) => {
                self.broker.lost(seat, self.now);
                self.devices[which] = Device::default();
            }
            (4, Some(seat)) => {
                let expiry_seconds = self.random.bool().then(|| self.random.u32(0..10));
                let said = Disconnect { code: 0, expiry_seconds };
                if self.broker.disconnect(seat, said, self.now).is_err() {
                    self.broker.lost(seat, self.now);
                }
                self.devices[which] = Device::default();
            }
            (5..=6, Some(seat)) => {
                let wanted = Wanted {
                    filter: self.filter(),
                    qos: self.random.u8(0..3),
                    no_local: self.random.bool(),
                    retain_as_published: self.random.bool(),
                    retain_handling: self.random.u8(0..3),
                };
                let identifier = self.random.bool().then_some(7);
                self.broker.subscribe(seat, &Asked { id: 1, identifier, wanted: vec![wanted] });
            }
            (7, Some(seat)) => {
                let filter = self.filter();
                self.broker.unsubscribe(seat, &[filter]);
            }
            (8..=11, Some(seat)) => {
                let size = if self.random.u8(..) < 10 { 20_000 } else { self.random.usize(0..300) };
                let topic = ["a", "a/b", "c/b", "will/a"][self.random.usize(..4)];
                let message = self.message(topic, vec![0; size]);
                self.broker.publish(&message, Some(seat.session), None, self.now);
            }
            (12, Some(seat)) => {
                let (before, bytes) = (self.random.usize(0..2), self.random.usize(0..300));
                if before == 0 {
                    let _ = self.broker.hold_alias(seat, 0, bytes);
                }
            }
            (13..=15, Some(seat)) => self.read(which, seat),
            (16, Some(seat)) => {
                // What it was never sent.
                let id = self.random.u16(..);
                self.broker.acknowledge(seat, id);
                self.broker.receive(seat, id, 0);
                self.broker.complete(seat, id);
            }
            (17, _) => {
                self.now += Duration::from_millis(self.random.u64(0..2000));
                self.broker.tick(self.now);
            }
            _ => self.careful(),
        }
        for effect in self.broker.effects() {
            match effect {
                Effect::Publish(will) => self.broker.publish(&will, None, None, self.now),
                Effect::Close(connection, _) => {
                    let is_it =
                        |device: &Device| device.seat.is_some_and(|it| it.connection == connection);
                    if let Some(device) = self.devices.iter_mut().find(|device| is_it(device)) {
                        let seat = device.seat.take();
                        seat.into_iter().for_each(|seat| self.broker.lost(seat, self.now));
                    }
                    assert!(self.careful.seat.is_none_or(|seat| seat.connection != connection));
                }
                Effect::Wake(_) | Effect::Dropped(..) | Effect::Trouble(_) => (),
            }
        }
        let used = self.budget.used_in_all();
        assert!(used <= self.memory, "{used} of {}", self.memory);
    }

    /// A device reads what is there, and acknowledges some of it.
    fn read(&mut self, which: usize, seat: Seat) {
        let output = self.broker.next(seat, self.now);
        let version = self.devices[which].version.unwrap_or(Version::V311);
        let bytes = [output.bytes, output.tail.concat()].concat();
        for (id, qos) in
            messages(&bytes, version).into_iter().filter_map(|(id, qos, _)| Some((id?, qos)))
        {
            self.devices[which].open.push((id, qos));
        }
        while self.random.bool() {
            let Some((id, qos)) = self.devices[which].open.pop() else { break };
            match qos {
                1 => self.broker.acknowledge(seat, id),
                _ => {
                    self.broker.receive(seat, id, 0);
                    self.broker.complete(seat, id);
                }
            }
        }
    }

    /// The careful one gets a message, is lost or comes again, and reads and acknowledges all.
    fn careful(&mut self) {
        match self.random.u8(0..4) {
            0 => {
                if let Some(seat) = self.careful.seat.take() {
                    self.broker.lost(seat, self.now);
                }
            }
            1 if self.careful.seat.is_none() => self.careful_comes(),
            _ => {
                self.published += 1;
                let mut message = self.message("careful", self.published.to_be_bytes().to_vec());
                (message.qos, message.retain, message.expires_at) = (1, false, None);
                self.broker.publish(&message, None, None, self.now);
                // Has all that was lost told.
                self.broker.tick(self.now);
                let dropped = self.broker.effects().into_iter().any(
                    |effect| matches!(&effect, Effect::Dropped(_, why) if why.contains(CAREFUL)),
                );
                if dropped {
                    // Said aloud, and then allowed.
                    self.careful.expected.clear();
                    self.careful.got.clear();
                }
                self.careful.expected.push(self.published);
            }
        }
        self.careful_reads();
    }

    fn careful_reads(&mut self) {
        let Some(seat) = self.careful.seat else { return };
        loop {
            let output = self.broker.next(seat, self.now);
            if output.is_empty() {
                break;
            }
            let bytes = [output.bytes, output.tail.concat()].concat();
            for (id, _, payload) in messages(&bytes, Version::V311) {
                let number = payload.try_into().map(u32::from_be_bytes);
                self.careful.got.extend(number.ok());
                self.broker.acknowledge(seat, id.expect("QoS 1 has one"));
            }
        }
    }

    fn finish(mut self) {
        if self.careful.seat.is_none() {
            self.careful_comes();
        }
        self.careful_reads();
        for number in &self.careful.expected {
            assert!(self.careful.got.contains(number), "{number} is missing");
        }
        // All that is held belongs to somebody who is there: with them it is given back.
        let Play { mut broker, budget, now, .. } = self;
        let _ = broker.effects();
        broker.tick(now);
        drop(broker);
        for what in
            [Use::Input, Use::Connections, Use::Sessions, Use::Retained, Use::Queues, Use::Sources]
        {
            assert_eq!(budget.used(what), 0, "{what:?}");
        }
    }
}

/// The messages in what a client was sent: the packet id, the QoS and the payload.
fn messages(mut bytes: &[u8], version: Version) -> Vec<(Option<u16>, u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some(head) = header(bytes).expect("what the broker writes is whole") {
        let (packet, rest) = bytes.split_at(head.packet_bytes());
        if let Ok(Read::Publish(publish)) = decode(head, &packet[head.header_bytes..], version) {
            let id = (publish.qos > 0).then_some(publish.id);
            found.push((id, publish.qos, publish.payload.to_vec()));
        }
        bytes = rest;
    }
    found
}

#[tokio::test(start_paused = true)]
async fn whatever_clients_do_memory_is_counted_and_what_is_acknowledged_arrives() {
    let seeds = if std::env::var_os("FOREBAY_LONG").is_some() { 2000 } else { 60 };
    for seed in 0..seeds {
        let mut play = Play::new(seed);
        for _ in 0..400 {
            play.step();
        }
        play.finish();
    }
}
