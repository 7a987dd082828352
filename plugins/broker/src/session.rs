//! One client's session: what it subscribed to, what waits for it, and what it has not acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    access::{Access, Person},
    budget::{Budget, Charge, Use},
    journal::Stake,
    message::Kept,
    records::UnderWay,
    retained::Retained,
    wire::{Ack, Delivery, Text, Version, Will, Writer, code},
};

/// A connection, by its number.
pub type ConnectionId = u64;

/// What every session can hold of subscriptions, wills and aliases, however full the memory is, in
/// bytes.
const ALLOWANCE: usize = 4 << 10;
/// What a session takes that holds no more, in bytes.
const EMPTY_BYTES: usize = 1500 + ALLOWANCE;
/// What the packet id of a message takes that was not released, in bytes.
const UNRELEASED_BYTES: usize = 16;
/// Messages up to that size are copied together into one write.
const SMALL: usize = 4 << 10;
/// How much is written at once, before the next is looked at.
const WRITE: usize = 8 << 10;
/// The longest topic that gets an alias.
const LONGEST_ALIASED: usize = 256;

/// One client's session.
#[derive(Debug)]
pub struct Session {
    pub client_id: Arc<str>,
    pub user: Option<Arc<str>>,
    /// None while the client is away.
    pub connection: Option<Connected>,
    /// Seconds that it outlives its connection; `u32::MAX` for ever.
    pub expiry_seconds: u32,
    /// When it is forgotten, while the client is away.
    pub ends_at: Option<Instant>,
    pub will: Option<Will>,
    /// When the will of a client that is away is published.
    pub will_at: Option<Instant>,
    pub filters: BTreeSet<Arc<str>>,
    /// It is on disk.
    pub is_kept: bool,
    /// It is of the last run of the program, and its client has not come back.
    pub is_restored: bool,
    /// Messages of QoS 2 that the client has sent and not released, by their packet ids.
    unreleased: BTreeMap<u16, Received>,
    /// What it takes when it holds no more than [`ALLOWANCE`], but for its messages.
    _charge: Charge,
    /// What it holds beyond.
    extra: Charge,
    held_bytes: usize,
    /// Retained messages that it is to get, filter by filter.
    bringing: VecDeque<Bringing>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    waiting_at_qos_0: usize,
    /// What is being written and is not copied.
    writing_bytes: usize,
    /// Sent and not acknowledged, in the order in which they were sent.
    open: VecDeque<Open>,
    last_id: u16,
}

/// How a client that is there wants to be served.
#[derive(Debug)]
pub struct Connected {
    pub id: ConnectionId,
    pub version: Version,
    pub is_bridge: bool,
    pub receive_maximum: u16,
    pub max_packet: usize,
    pub alias_maximum: u16,
    /// The topics that have an alias.
    pub aliases: BTreeMap<Arc<str>, u16>,
    /// What the topics take that the client gave aliases.
    pub alias_bytes: usize,
}

/// How it is known that a client has sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received {
    InMemory,
    /// It survives a restart.
    OnDisk,
    /// In the last run of the program.
    Earlier,
}

/// The retained messages of one filter, as far as they were sent.
#[derive(Debug)]
struct Bringing {
    pattern: Arc<str>,
    after: Option<Arc<str>>,
    qos: u8,
    identifier: u32,
}

/// A message that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub kept: Arc<Kept>,
    pub qos: u8,
    pub retain: bool,
    /// The identifiers of the subscriptions by which it comes.
    pub identifiers: Box<[u32]>,
    /// Its place in the budget, and on disk.
    pub place: Arc<Place>,
}

/// Where a message waits.
#[derive(Debug)]
pub struct Place {
    _charge: Charge,
    /// None for what need not survive a restart.
    pub stake: Option<Stake>,
}

impl Place {
    /// In memory, and perhaps on disk.
    pub fn new(charge: Charge, stake: Option<Stake>) -> Arc<Place> {
        Arc::new(Place { _charge: charge, stake })
    }
}

#[derive(Debug)]
struct Open {
    id: u16,
    waiting: Waiting,
    /// It was sent over the connection of now. One that was not was sent over one before.
    is_sent: bool,
    /// The client has it, at QoS 2: PUBREL follows.
    is_received: bool,
}

impl Open {
    fn way(&self) -> UnderWay {
        UnderWay { packet_id: self.id, is_received: self.is_received }
    }

    /// Has what must not come twice survive a restart.
    fn note(&self) {
        if let Some(stake) = self.waiting.place.stake.as_ref().filter(|_| self.waiting.qos == 2) {
            stake.sent(self.way());
        }
    }
}

/// How many may wait.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub messages: usize,
    pub bytes: usize,
    pub at_qos_0: usize,
    pub in_flight: u16,
}

/// What is to be written to a client.
#[derive(Debug, Default)]
pub struct Output {
    pub bytes: Vec<u8>,
    /// What follows, and is not copied.
    pub tail: Vec<Bytes>,
    /// What keeps the memory of the tail counted.
    pub held: Option<Arc<Kept>>,
    /// How many messages it has.
    pub messages: u64,
}

/// What is retained, and who may read it.
pub struct Shelf<'a> {
    pub retained: &'a Retained,
    /// None allows all.
    pub access: Option<&'a Access>,
}

impl Output {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.tail.is_empty()
    }
}

impl Session {
    /// An empty one. None when there is no memory for it.
    pub fn new(client_id: Arc<str>, user: Option<Arc<str>>, budget: &Budget) -> Option<Session> {
        let names = 2 * client_id.len() + user.as_ref().map_or(0, |user| user.len());
        let charge = budget.take(Use::Connections, EMPTY_BYTES + names)?;
        Some(Session {
            client_id,
            user,
            connection: None,
            expiry_seconds: 0,
            ends_at: None,
            will: None,
            will_at: None,
            filters: BTreeSet::new(),
            is_kept: false,
            is_restored: false,
            unreleased: BTreeMap::new(),
            _charge: charge,
            extra: budget.take(Use::Sessions, 0)?,
            held_bytes: 0,
            bringing: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_at_qos_0: 0,
            writing_bytes: 0,
            open: VecDeque::new(),
            last_id: 0,
        })
    }

    /// Whose rights count.
    pub fn person(&self) -> Person<'_> {
        Person { user: self.user.as_deref(), client_id: &self.client_id }
    }

    /// Takes memory for a subscription, a will or an alias. False when there is none.
    #[must_use]
    pub fn hold(&mut self, bytes: usize) -> bool {
        let extra = (self.held_bytes + bytes).saturating_sub(ALLOWANCE);
        let is_held = self.extra.grow(extra.saturating_sub(self.extra.bytes()));
        if is_held {
            self.held_bytes += bytes;
        }
        is_held
    }

    /// Gives that memory back.
    pub fn release(&mut self, bytes: usize) {
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
        let extra = self.held_bytes.saturating_sub(ALLOWANCE);
        self.extra.shrink(self.extra.bytes() - extra);
    }

    /// Takes memory for a topic with an alias, in the place of one that had so many bytes. False when there is
    /// none. It is given back with the connection.
    #[must_use]
    pub fn hold_alias(&mut self, before: usize, bytes: usize) -> bool {
        self.release(before);
        let is_held = self.hold(bytes);
        if let Some(connected) = &mut self.connection {
            connected.alias_bytes -= before;
            connected.alias_bytes += if is_held { bytes } else { 0 };
        }
        is_held
    }

    /// The client has sent a message of QoS 2. False when there is no memory for its packet id.
    #[must_use]
    pub fn receive_new(&mut self, packet_id: u16) -> bool {
        let is_held = self.hold(UNRELEASED_BYTES);
        if is_held {
            self.unreleased.insert(packet_id, Received::InMemory);
        }
        is_held
    }

    /// That is to survive a restart from now on. False when it does already.
    pub fn note_received(&mut self, packet_id: u16) -> bool {
        match self.unreleased.get_mut(&packet_id) {
            Some(received @ Received::InMemory) => {
                *received = Received::OnDisk;
                true
            }
            _ => false,
        }
    }

    /// The client had sent it in the last run of the program.
    pub fn had_received(&mut self, packet_id: u16) {
        if self.hold(UNRELEASED_BYTES) {
            self.unreleased.insert(packet_id, Received::Earlier);
        }
    }

    /// Whether the client has sent a message of QoS 2 before. What it does not send `again` is another one, when that was in
    /// the last run: that its packet id was released since then may not have reached the disk.
    pub fn has_received(&mut self, packet_id: u16, again: bool) -> bool {
        match self.unreleased.get(&packet_id) {
            None => false,
            Some(Received::Earlier) if !again => {
                self.forget_received(packet_id);
                false
            }
            Some(_) => true,
        }
    }

    /// The client has released a message of QoS 2. Whether there was one, and whether that is on disk.
    pub fn forget_received(&mut self, packet_id: u16) -> (bool, bool) {
        let received = self.unreleased.remove(&packet_id);
        if received.is_some() {
            self.release(UNRELEASED_BYTES);
        }
        (received.is_some(), received.is_some_and(|received| received != Received::InMemory))
    }

    /// How many messages of QoS 2 the client has not released.
    pub fn unreleased_count(&self) -> usize {
        self.unreleased.len()
    }

    /// The packet ids of those that survive a restart.
    pub fn received(&self) -> impl Iterator<Item = u16> {
        let lasting = self.unreleased.iter().filter(|(_, it)| **it != Received::InMemory);
        lasting.map(|(packet_id, _)| *packet_id)
    }

    /// The client is there: what is open is sent again.
    pub fn connect(&mut self, connected: Connected) {
        self.connection = Some(connected);
        self.is_restored = false;
        for open in &mut self.open {
            open.is_sent = false;
        }
    }

    /// The client is away. What it would have got at QoS 0 is gone.
    pub fn disconnect(&mut self) {
        if let Some(connected) = self.connection.take() {
            self.release(connected.alias_bytes);
        }
        self.writing_bytes = 0;
        self.bringing.clear();
        let (bytes, all) = (&mut self.waiting_bytes, &mut self.waiting);
        all.retain(|waiting| {
            let stays = waiting.qos > 0;
            if !stays {
                *bytes -= waiting.kept.message.size_bytes();
            }
            stays
        });
        self.waiting_at_qos_0 = 0;
    }

    /// The client is there by this connection.
    pub fn is_at(&self, connection: ConnectionId) -> bool {
        self.connection.as_ref().is_some_and(|connected| connected.id == connection)
    }

    /// All messages that wait, those on their way first.
    pub fn messages(&self) -> impl Iterator<Item = &Waiting> {
        self.open.iter().map(|open| &open.waiting).chain(&self.waiting)
    }

    /// The messages of QoS 2 that are on their way, as far as they survive a restart.
    pub fn under_way(&self) -> impl Iterator<Item = (&Stake, UnderWay)> {
        let lasting = self.open.iter().filter(|open| open.waiting.qos == 2);
        lasting.filter_map(|open| Some((open.waiting.place.stake.as_ref()?, open.way())))
    }

    /// A message of QoS 2 was on its way in the last run of the program.
    pub fn reopen(&mut self, waiting: Waiting, way: UnderWay) {
        let UnderWay { packet_id: id, is_received } = way;
        self.last_id = self.last_id.max(id);
        self.open.push_back(Open { id, waiting, is_sent: false, is_received });
    }

    /// How many messages wait, those on their way included.
    pub fn message_count(&self) -> usize {
        self.waiting.len() + self.open.len()
    }

    /// How many bytes of messages it keeps others from.
    pub fn message_bytes(&self) -> usize {
        let open = self.open.iter().map(|open| open.waiting.kept.message.size_bytes());
        self.waiting_bytes + self.writing_bytes + open.sum::<usize>()
    }

    /// Gives way, since the memory is full: the message that has waited longest is dropped, and when
    /// none waits all that the client has not acknowledged. How many were dropped, and whether its
    /// connection must end.
    pub fn give_way(&mut self) -> (u64, bool) {
        match self.pop() {
            Some(_) => (1, false),
            None => {
                let dropped = self.open.len() as u64;
                self.open.clear();
                self.writing_bytes = 0;
                (dropped, true)
            }
        }
    }

    /// It waits for memory to get what is retained.
    pub fn is_being_brought(&self) -> bool {
        !self.bringing.is_empty()
    }

    /// Has the retained messages of a pattern sent.
    pub fn bring(&mut self, pattern: Arc<str>, qos: u8, identifier: u32) {
        self.bringing.retain(|other| other.pattern != pattern);
        self.bringing.push_back(Bringing { pattern, after: None, qos, identifier });
    }

    /// Has a message wait. How many were dropped for it, or it for them.
    #[must_use]
    pub fn push(&mut self, waiting: Waiting, room: Room) -> u64 {
        let bytes = waiting.kept.message.size_bytes();
        if waiting.qos == 0 {
            let is_full = self.waiting_at_qos_0 >= room.at_qos_0
                || self.waiting_bytes + bytes > room.bytes && !self.waiting.is_empty();
            if is_full {
                return 1;
            }
            self.waiting_at_qos_0 += 1;
        }
        self.waiting.push_back(waiting);
        self.waiting_bytes += bytes;
        let mut dropped = 0;
        let is_full = |session: &Session| {
            session.waiting.len() - session.waiting_at_qos_0 > room.messages
                || session.waiting_bytes > room.bytes && session.waiting.len() > 1
        };
        while is_full(self) && self.pop().is_some() {
            dropped += 1;
        }
        dropped
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.waiting_bytes -= waiting.kept.message.size_bytes();
        if waiting.qos == 0 {
            self.waiting_at_qos_0 -= 1;
        }
        Some(waiting)
    }

    /// The client has a message of QoS 1. Whether it had one of that id.
    pub fn acknowledge(&mut self, id: u16) -> bool {
        let is_it = |open: &Open| open.id == id && open.waiting.qos == 1;
        self.forget(is_it)
    }

    /// The client has a message of QoS 2, or has refused it. What it is told.
    pub fn receive(&mut self, id: u16, said: u8) -> (Ack, u8) {
        let is_it = |open: &&mut Open| open.id == id && open.waiting.qos == 2;
        match self.open.iter_mut().find(is_it) {
            None => (Ack::Released, code::PACKET_ID_NOT_FOUND),
            Some(_) if said >= code::UNSPECIFIED => {
                self.forget(|open| open.id == id);
                (Ack::Released, code::SUCCESS)
            }
            Some(open) => {
                open.is_received = true;
                open.note();
                (Ack::Released, code::SUCCESS)
            }
        }
    }

    /// The client is done with a message of QoS 2.
    pub fn complete(&mut self, id: u16) -> bool {
        self.forget(|open| open.id == id && open.is_received)
    }

    fn forget(&mut self, is_it: impl Fn(&Open) -> bool) -> bool {
        let at = self.open.iter().position(is_it);
        at.and_then(|at| self.open.remove(at)).is_some()
    }

    /// What is to be written next. How many messages were dropped, since they expired or are larger
    /// than the client takes.
    pub fn next(&mut self, shelf: &Shelf<'_>, room: Room, now: Instant) -> (Output, u64) {
        let mut output = Output::default();
        let mut dropped = 0;
        let Some(version) = self.connection.as_ref().map(|connected| connected.version) else {
            return (output, dropped);
        };
        let mut writer = Writer::new(version);
        while writer.bytes.len() < WRITE && output.tail.is_empty() {
            let Some(step) = self.step(&mut writer, &mut output, shelf, room, now) else {
                break;
            };
            dropped += step;
        }
        output.bytes = writer.bytes;
        self.writing_bytes = output.held.as_ref().map_or(0, |kept| kept.message.size_bytes());
        (output, dropped)
    }

    /// Writes one more packet. How many messages were dropped; None when nothing is to be written.
    fn step(
        &mut self,
        writer: &mut Writer,
        output: &mut Output,
        shelf: &Shelf<'_>,
        room: Room,
        now: Instant,
    ) -> Option<u64> {
        let connected = self.connection.as_mut()?;
        let most_open = usize::from(connected.receive_maximum.min(room.in_flight));
        let sent = self.open.iter().filter(|open| open.is_sent).count();
        let may_open = sent < most_open;
        if let Some(open) = self.open.iter_mut().find(|open| !open.is_sent) {
            if !may_open {
                return None;
            }
            open.is_sent = true;
            if open.is_received {
                writer.ack(Ack::Released, open.id, code::SUCCESS);
                return Some(0);
            }
            let (id, waiting) = (open.id, open.waiting.clone());
            let is_written = send(writer, output, connected, &waiting, id, true, now);
            if !is_written {
                self.forget(|open| open.id == id);
            }
            return Some(u64::from(!is_written));
        }
        let next = match self.bring_next(shelf, may_open, now) {
            Next::Message(waiting) => waiting,
            Next::Blocked => return None,
            Next::Nothing => {
                let first = self.waiting.front()?;
                if first.qos > 0 && !may_open {
                    return None;
                }
                self.pop()?
            }
        };
        if next.kept.message.is_expired(now) {
            return Some(1);
        }
        let id = if next.qos > 0 { self.new_id()? } else { 0 };
        let connected = self.connection.as_mut()?;
        if !send(writer, output, connected, &next, id, false, now) {
            return Some(1);
        }
        if next.qos > 0 {
            let open = Open { id, waiting: next, is_sent: true, is_received: false };
            open.note();
            self.open.push_back(open);
        }
        Some(0)
    }

    /// The next of the retained messages.
    fn bring_next(&mut self, shelf: &Shelf<'_>, may_open: bool, now: Instant) -> Next {
        let Shelf { retained, access } = *shelf;
        let person = Person { user: self.user.as_deref(), client_id: &self.client_id };
        while let Some(bringing) = self.bringing.front_mut() {
            let kept = retained.next(&bringing.pattern, bringing.after.as_ref(), now);
            let Some(kept) = kept else {
                self.bringing.pop_front();
                continue;
            };
            let topic = &kept.message.topic;
            if access.is_some_and(|access| !access.may_read(person, topic)) {
                bringing.after = Some(Arc::clone(topic));
                continue;
            }
            let qos = kept.message.qos.min(bringing.qos);
            if qos > 0 && !may_open {
                return Next::Blocked;
            }
            let Some((kept, place)) = retained.on_its_way(kept) else { return Next::Blocked };
            bringing.after = Some(Arc::clone(&kept.message.topic));
            let identifiers = Some(bringing.identifier).filter(|id| *id > 0);
            return Next::Message(Waiting {
                kept,
                qos,
                retain: true,
                identifiers: identifiers.into_iter().collect(),
                place: Place::new(place, None),
            });
        }
        Next::Nothing
    }

    /// A packet id that is not in use.
    fn new_id(&mut self) -> Option<u16> {
        (0..=u16::MAX).find_map(|_| {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = self.last_id;
            self.open.iter().all(|open| open.id != id).then_some(id)
        })
    }
}

enum Next {
    Message(Waiting),
    /// One has to wait for an acknowledgement.
    Blocked,
    Nothing,
}

/// Writes a message. False when it is larger than the client takes.
fn send(
    writer: &mut Writer,
    output: &mut Output,
    connected: &mut Connected,
    waiting: &Waiting,
    id: u16,
    again: bool,
    now: Instant,
) -> bool {
    let message = &waiting.kept.message;
    let known = connected.aliases.get(&message.topic).copied();
    let count = connected.aliases.len();
    let may_have = count < usize::from(connected.alias_maximum)
        && message.topic.len() <= LONGEST_ALIASED
        && connected.version == Version::V5;
    let new = (known.is_none() && may_have).then_some(count as u16 + 1);
    let topic = if known.is_some() { "" } else { &*message.topic };
    let delivery = Delivery {
        again,
        qos: waiting.qos,
        retain: waiting.retain,
        topic,
        id,
        alias: known.or(new),
        expiry_seconds: message.seconds_left(now),
        subscriptions: &waiting.identifiers,
        properties: &message.properties,
        payload: &message.payload,
    };
    let text = if message.size_bytes() > SMALL { Text::Follows } else { Text::Copied };
    if !writer.publish(&delivery, text, connected.max_packet) {
        return false;
    }
    output.messages += 1;
    if text == Text::Follows {
        output.tail.extend([message.properties.clone(), message.payload.clone()]);
        if connected.version == Version::V311 {
            output.tail.remove(0);
        }
        output.held = Some(Arc::clone(&waiting.kept));
    }
    if let Some(alias) = new {
        connected.aliases.insert(Arc::clone(&message.topic), alias);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(id: ConnectionId) -> Connected {
        Connected {
            id,
            version: Version::V5,
            is_bridge: false,
            receive_maximum: 10,
            max_packet: 1000,
            alias_maximum: 0,
            aliases: BTreeMap::new(),
            alias_bytes: 0,
        }
    }

    #[test]
    fn aliases_of_connections_that_were_gone_counted_for_ever() {
        let budget = Budget::new(1 << 20);
        let mut session = Session::new("device".into(), None, &budget).unwrap();
        for id in 0..1000 {
            session.connect(connected(id));
            assert!(session.hold_alias(0, 10_000), "connection {id}");
            assert!(session.hold_alias(10_000, 20_000), "another topic in its place");
            assert_eq!(budget.used(Use::Sessions), 20_000 - ALLOWANCE);
            session.disconnect();
            assert_eq!(budget.used(Use::Sessions), 0);
        }
    }

    #[test]
    fn packet_ids_that_are_released_take_no_memory() {
        let budget = Budget::new(1 << 20);
        let mut session = Session::new("device".into(), None, &budget).unwrap();
        for id in 1..10_000 {
            assert!(session.receive_new(id));
            assert_eq!(session.forget_received(id), (true, false));
        }
        assert_eq!((budget.used(Use::Sessions), session.unreleased_count()), (0, 0));
    }
}
