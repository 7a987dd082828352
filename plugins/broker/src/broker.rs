//! The broker as a state machine: what clients ask goes in, what is to happen comes out.
//!
//! It opens nothing, waits for nothing and asks no clock, so that every case of it can be tried. What
//! goes to a client waits in its session, and is taken by [`Broker::next`] when the client reads.

use std::{collections::BTreeMap, mem, sync::Arc};

use tokio::time::{Duration, Instant};

use crate::{
    access::Access,
    budget::{Budget, Charge, Use},
    dues::Ticket,
    journal::{Changes, Journal},
    message::{Kept, Message},
    records::{LastWill, Recipient, Record, Subscription},
    restored::{Restored, Undelivered, message_of},
    retained::{PLACE_BYTES, Retained},
    session::{Connected, ConnectionId, Output, Place, Room, Session, Shelf, Waiting},
    topics::{check_filter, group_of, is_private, is_status, pattern_of},
    tree::{self, SessionId, Terms, Tree},
    wire::{Ack, Connect, Disconnect, Refusal, Subscribe, Version, Wanted, Will, code},
    words::printable,
};

/// The most topic aliases that a client is sent.
const MOST_ALIASES_OUT: u16 = 16;
/// The most messages of QoS 2 that a client has sent and not released.
pub const MOST_UNRELEASED: usize = 1000;
/// How long the will of a client that was connected when the program ended waits for it to come back.
const GRACE: Duration = Duration::from_secs(30);

/// How much there may be of everything.
#[derive(Clone, Debug)]
pub struct Limits {
    pub sessions: usize,
    /// Of one client.
    pub subscriptions: usize,
    pub retained: usize,
    pub retained_bytes: usize,
    /// Of one client.
    pub room: Room,
    pub longest_session: Duration,
    /// None allows all.
    pub access: Option<Arc<Access>>,
}

/// What is to happen outside.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Something waits for a client.
    Wake(ConnectionId),
    /// The connection is to end; its session knows already.
    Close(ConnectionId, Refusal),
    /// A will is due.
    Publish(Message),
    /// Messages were dropped.
    Dropped(u64, String),
    /// Something to be logged.
    Trouble(String),
}

/// Why a client does not get a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Loss {
    QueueIsFull,
    MemoryIsFull,
    HasMostOfTheMemory,
    Unfit,
}

impl Loss {
    fn of(self, client_id: &str, count: u64) -> Effect {
        let client = printable(client_id);
        let why = match self {
            Loss::QueueIsFull => format!("the queue of the client `{client}` is full"),
            Loss::MemoryIsFull => {
                format!("the memory is full (`memory`), for the client `{client}`")
            }
            Loss::HasMostOfTheMemory => {
                format!("the memory is full (`memory`), and the client `{client}` has most of it")
            }
            Loss::Unfit => {
                format!("they expired, or are larger than the client `{client}` takes")
            }
        };
        Effect::Dropped(count, why)
    }
}

/// How many there are of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub sessions: usize,
    pub connected: usize,
    /// The most that were connected at the same time.
    pub most_connected: usize,
    pub subscriptions: usize,
    pub retained: usize,
    /// Messages that wait for clients, retained ones included.
    pub waiting: usize,
}

/// A client that is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    pub session: SessionId,
    pub connection: ConnectionId,
}

/// How a client was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub seat: Seat,
    /// It finds the session that it had.
    pub session_present: bool,
    /// How long its session outlives the connection, when that is less than it asked for.
    pub expiry_seconds: Option<u32>,
}

/// The state of the broker.
pub struct Broker {
    limits: Limits,
    budget: Budget,
    sessions: BTreeMap<SessionId, Session>,
    ids: BTreeMap<Arc<str>, SessionId>,
    tree: Tree,
    retained: Retained,
    last_session: SessionId,
    most_connected: usize,
    /// What must survive a restart. None when nothing does.
    journal: Option<Journal>,
    effects: Vec<Effect>,
    /// What clients will not get, and was not told yet.
    losses: BTreeMap<(SessionId, Loss), (Arc<str>, u64)>,
    /// Kept to be filled again.
    hits: Vec<(SessionId, Terms)>,
}

impl Broker {
    /// An empty one.
    pub fn new(limits: Limits, budget: Budget) -> Broker {
        let retained = Retained::new(limits.retained, limits.retained_bytes, budget.clone());
        Broker {
            limits,
            budget,
            sessions: BTreeMap::new(),
            ids: BTreeMap::new(),
            tree: Tree::default(),
            retained,
            last_session: 0,
            most_connected: 0,
            journal: None,
            effects: Vec::new(),
            losses: BTreeMap::new(),
            hits: Vec::new(),
        }
    }

    /// Has what must survive a restart kept, and goes on with what was.
    pub fn keep(&mut self, journal: &Journal, restored: Restored, now: Instant) {
        let Restored { retained, sessions, messages, wills } = restored;
        self.journal = Some(journal.clone());
        let mut lost = 0;
        for stored in retained.into_values() {
            let message = message_of(stored, now);
            let is_kept = message.is_expired(now) || self.retained.keep(&message).is_ok();
            lost += u64::from(!is_kept);
        }
        for (id, it) in sessions {
            // Also those that are left out: what is on disk of them is of nobody else.
            self.last_session = self.last_session.max(id);
            let is_full = self.sessions.len() >= self.limits.sessions;
            let new = Session::new(Arc::clone(&it.client_id), it.user, &self.budget);
            let Some(mut session) = new.filter(|_| !is_full) else { continue };
            (session.is_kept, session.is_restored) = (true, true);
            it.received.into_iter().for_each(|packet_id| session.had_received(packet_id));
            let longest = self.limits.longest_session.min(seconds(it.expiry_seconds));
            session.expiry_seconds = it.expiry_seconds;
            session.ends_at = now.checked_add(longest);
            for (filter, subscription) in it.subscriptions {
                if session.hold(tree::size_bytes(&filter)) {
                    self.tree.insert(&filter, id, terms_of(&subscription));
                    session.filters.insert(filter);
                }
            }
            self.ids.insert(it.client_id, id);
            self.sessions.insert(id, session);
        }
        for (id, will) in wills {
            lost += u64::from(!self.restore_will(id, will, now));
        }
        for (number, undelivered) in messages {
            journal.skip_to(number);
            let Undelivered { stored, recipients, sent } = undelivered;
            let message = message_of(stored, now);
            let mut kept = None;
            for (id, recipient) in recipients {
                let is_wanted = self.sessions.contains_key(&id) && !message.is_expired(now);
                if !is_wanted {
                    continue;
                }
                let place = self.memory_for(&message, &mut kept, id, recipient.qos);
                let Some((kept, charge)) = place else { continue };
                let place = Place::new(charge, Some(journal.stake(id, number)));
                let Recipient { qos, retain, identifiers, .. } = recipient;
                let waiting = Waiting { kept, qos, retain, identifiers, place };
                match (sent.get(&id), self.sessions.get_mut(&id)) {
                    (Some(way), Some(session)) => session.reopen(waiting, *way),
                    _ => self.push(id, waiting),
                }
            }
        }
        if lost > 0 {
            let why = "there is no room for retained messages or wills of the last run".to_owned();
            self.effects.push(Effect::Dropped(lost, why));
        }
    }

    /// Has the will of a client wait that was connected when the program ended. A session that ended with the connection is
    /// there until then. False when there is no room.
    fn restore_will(&mut self, id: SessionId, last: LastWill, now: Instant) -> bool {
        let LastWill { client_id, user, will } = last;
        self.last_session = self.last_session.max(id);
        if !self.sessions.contains_key(&id) {
            if self.ids.contains_key(&client_id) {
                // It has been back, by a session that lasts.
                return true;
            }
            if self.sessions.len() >= self.limits.sessions {
                return false;
            }
            let Some(mut session) = Session::new(Arc::clone(&client_id), user, &self.budget) else {
                return false;
            };
            session.is_restored = true;
            session.ends_at = now.checked_add(GRACE);
            self.ids.insert(client_id, id);
            self.sessions.insert(id, session);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let is_held = session.hold(will_bytes(&will));
        if is_held {
            session.will_at = now.checked_add(GRACE.max(seconds(will.delay_seconds)));
            session.will = Some(will);
        }
        is_held
    }

    /// All that must survive a restart: what is to be written where nothing is on disk. Texts are shared, not copied, and
    /// those of messages are counted until they are written.
    pub fn snapshot(&self) -> Changes {
        let mut all = Changes::default();
        for kept in self.retained.iter().filter(|kept| !is_status(&kept.message.topic)) {
            all.retain(&kept.message.topic, Some(Arc::clone(kept)));
        }
        for (id, session) in &self.sessions {
            session.will.iter().for_each(|will| all.add(will_of(*id, session, will)));
        }
        for (id, session) in self.sessions.iter().filter(|(_, session)| session.is_kept) {
            all.add(record_of(*id, session));
            for filter in &session.filters {
                if let Some(terms) = self.tree.terms(filter, *id) {
                    let subscription = subscription_of(Arc::clone(filter), terms);
                    all.add(Record::Subscribed(*id, subscription));
                }
            }
            session.received().for_each(|packet_id| all.add(Record::Received(*id, packet_id)));
            for waiting in session.messages() {
                let Some(stake) = &waiting.place.stake else { continue };
                let Waiting { kept, qos, retain, identifiers, .. } = waiting;
                let (qos, retain, identifiers) = (*qos, *retain, identifiers.clone());
                let recipient = Recipient { id: *id, qos, retain, identifiers };
                all.message(stake.number, kept, recipient, None);
            }
            session.under_way().for_each(|(stake, way)| all.sent(*id, stake.number, way));
        }
        all
    }

    fn record(&self, record: impl FnOnce() -> Record) {
        if let Some(journal) = &self.journal {
            journal.record(&record());
        }
    }

    /// Goes on with other limits and rights. What is there already stays.
    pub fn set_limits(&mut self, limits: Limits) {
        self.retained.set_limits(limits.retained, limits.retained_bytes);
        self.limits = limits;
    }

    /// What is to happen by now.
    pub fn effects(&mut self) -> Vec<Effect> {
        mem::take(&mut self.effects)
    }

    /// What is retained.
    pub fn retained(&self) -> &Retained {
        &self.retained
    }

    /// How many there are of everything.
    pub fn census(&self) -> Census {
        let sessions = || self.sessions.values();
        let retained = self.retained.count();
        Census {
            sessions: self.sessions.len(),
            connected: self.connected(),
            most_connected: self.most_connected,
            subscriptions: sessions().map(|session| session.filters.len()).sum(),
            retained,
            waiting: retained + sessions().map(Session::message_count).sum::<usize>(),
        }
    }

    fn connected(&self) -> usize {
        self.sessions.values().filter(|session| session.connection.is_some()).count()
    }

    /// What a client does is kept there, if anywhere.
    pub fn journal_of(&self, seat: Seat) -> Option<Journal> {
        let is_kept = self.sessions.get(&seat.session).is_some_and(|session| session.is_kept);
        self.journal.clone().filter(|_| is_kept)
    }

    /// The user whose session has a client id. None when nobody has it.
    pub fn owner(&self, client_id: &str) -> Option<Option<Arc<str>>> {
        Some(self.sessions.get(self.ids.get(client_id)?)?.user.clone())
    }

    /// Lets a client in, who is known to be who it says it is. Whoever was connected by its client id is
    /// let go.
    ///
    /// # Errors
    ///
    /// There is no room for it.
    pub fn connect(
        &mut self,
        connect: Connect,
        client_id: Arc<str>,
        user: Option<Arc<str>>,
        connection: ConnectionId,
        now: Instant,
    ) -> Result<Welcome, Refusal> {
        let known = self.ids.get(&client_id).copied();
        if known.is_none() && self.sessions.len() >= self.limits.sessions && !self.make_room(now) {
            let most = self.limits.sessions;
            let why = format!("{most} sessions are remembered already (`max_sessions`)");
            return Err(Refusal::new(code::QUOTA, why));
        }
        if let Some(id) = known {
            self.take_over(id, connect.clean_start, now);
        }
        let known = self.ids.get(&client_id).copied();
        let id = match known {
            Some(id) => id,
            None => self.new_session(client_id, user.clone())?,
        };
        let longest = u32::try_from(self.limits.longest_session.as_secs()).unwrap_or(u32::MAX);
        let expiry_seconds = connect.expiry_seconds.min(longest);
        let is_cut = connect.version == Version::V5 && expiry_seconds < connect.expiry_seconds;
        let Some(session) = self.sessions.get_mut(&id) else { return Err(no_memory()) };
        let before = (session.is_kept, session.expiry_seconds, session.user.clone());
        session.user = user;
        if let Some(will) = connect.will {
            if !session.hold(will_bytes(&will)) {
                if known.is_none() {
                    self.end(id, now);
                }
                return Err(no_memory());
            }
            if let Some(journal) = &self.journal {
                journal.record(&will_of(id, session, &will));
            }
            session.will = Some(will);
        }
        session.expiry_seconds = expiry_seconds;
        session.is_kept |= self.journal.is_some() && expiry_seconds > 0;
        if session.is_kept && before != (true, expiry_seconds, session.user.clone()) {
            let record = record_of(id, session);
            self.journal.iter().for_each(|journal| journal.record(&record));
        }
        (session.ends_at, session.will_at) = (None, None);
        session.connect(Connected {
            id: connection,
            version: connect.version,
            is_bridge: connect.is_bridge,
            receive_maximum: connect.receive_maximum,
            max_packet: connect.max_packet as usize,
            alias_maximum: connect.alias_maximum.min(MOST_ALIASES_OUT),
            aliases: BTreeMap::new(),
            alias_bytes: 0,
        });
        self.most_connected = self.most_connected.max(self.connected());
        self.effects.push(Effect::Wake(connection));
        Ok(Welcome {
            seat: Seat { session: id, connection },
            session_present: known.is_some(),
            expiry_seconds: is_cut.then_some(expiry_seconds),
        })
    }

    /// Ends the connection of a session, and the session too when it is to be a new one.
    fn take_over(&mut self, id: SessionId, clean: bool, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some(connected) = &session.connection {
            let refusal = Refusal::new(code::TAKEN_OVER, "another client took its client id over");
            self.effects.push(Effect::Close(connected.id, refusal));
            self.away(id, now);
            if clean {
                self.end(id, now);
            }
            return;
        }
        let is_restored = session.is_restored;
        let is_over = clean || is_restored && session.expiry_seconds == 0;
        // A will that is not yet due is not published any more, when the session goes on or the end of the program had ended
        // the connection.
        if !clean || is_restored {
            self.forget_will(id);
        }
        if is_over {
            self.end(id, now);
        }
    }

    fn new_session(
        &mut self,
        client_id: Arc<str>,
        user: Option<Arc<str>>,
    ) -> Result<SessionId, Refusal> {
        let session =
            Session::new(Arc::clone(&client_id), user, &self.budget).ok_or_else(no_memory)?;
        self.last_session += 1;
        let id = self.last_session;
        self.sessions.insert(id, session);
        self.ids.insert(client_id, id);
        Ok(id)
    }

    /// Forgets the session of a client that has been away longest, of those that have subscribed to
    /// nothing. False when there is none.
    fn make_room(&mut self, now: Instant) -> bool {
        let idle = self.sessions.iter().filter(|(_, session)| {
            session.connection.is_none()
                && session.filters.is_empty()
                && session.message_count() == 0
        });
        let first = idle.min_by_key(|(id, _)| **id).map(|(id, _)| *id);
        first.is_some_and(|id| {
            self.end(id, now);
            true
        })
    }

    /// The client said good-bye.
    ///
    /// # Errors
    ///
    /// It wants a session to last that was to end with its connection.
    pub fn disconnect(
        &mut self,
        seat: Seat,
        said: Disconnect,
        now: Instant,
    ) -> Result<(), Refusal> {
        let longest = u32::try_from(self.limits.longest_session.as_secs()).unwrap_or(u32::MAX);
        let Some(session) = self.seated(seat) else { return Ok(()) };
        if let Some(seconds) = said.expiry_seconds {
            if session.expiry_seconds == 0 && seconds > 0 {
                let why = "it wants a session to last that was to end with its connection";
                return Err(Refusal::protocol(why));
            }
            session.expiry_seconds = seconds.min(longest);
            if session.is_kept && session.expiry_seconds > 0 {
                let record = record_of(seat.session, session);
                self.record(|| record);
            }
        }
        if said.code == code::SUCCESS {
            self.forget_will(seat.session);
        }
        self.away(seat.session, now);
        Ok(())
    }

    /// The connection is gone.
    pub fn lost(&mut self, seat: Seat, now: Instant) {
        if self.seated(seat).is_some() {
            self.away(seat.session, now);
        }
    }

    fn away(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.disconnect();
        if session.expiry_seconds == 0 {
            return self.end(id, now);
        }
        session.ends_at = match session.expiry_seconds {
            u32::MAX => None,
            seconds => now.checked_add(Duration::from_secs(seconds.into())),
        };
        if let Some(will) = &session.will {
            session.will_at = now.checked_add(Duration::from_secs(will.delay_seconds.into()));
            if will.delay_seconds == 0 {
                self.publish_will(id, now);
            }
        }
    }

    /// Nothing is left of a session but its will, which is due then.
    fn end(&mut self, id: SessionId, now: Instant) {
        self.publish_will(id, now);
        let Some(session) = self.sessions.remove(&id) else { return };
        if session.is_kept {
            self.record(|| Record::Ended(id));
        }
        for filter in &session.filters {
            self.tree.remove(filter, id);
        }
        self.ids.remove(&session.client_id);
    }

    fn forget_will(&mut self, id: SessionId) -> Option<Will> {
        let session = self.sessions.get_mut(&id)?;
        session.will_at = None;
        let will = session.will.take()?;
        session.release(will_bytes(&will));
        self.record(|| Record::NoWill(id));
        Some(will)
    }

    fn publish_will(&mut self, id: SessionId, now: Instant) {
        let Some(will) = self.forget_will(id) else { return };
        let Some(session) = self.sessions.get(&id) else { return };
        let access = self.limits.access.as_ref();
        if access.is_none_or(|access| access.may_write(session.person(), &will.topic)) {
            self.effects.push(Effect::Publish(Message::of_will(will, now)));
        } else {
            let (client, topic) = (printable(&session.client_id), printable(&will.topic));
            let what = format!(
                "the will of the client `{client}` is not published: `access` does not let it write to `{topic}`"
            );
            self.effects.push(Effect::Trouble(what));
        }
    }

    /// What the clock brings: wills that are due, and sessions and messages that are over.
    pub fn tick(&mut self, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let sessions = self.sessions.iter();
        let due = sessions.filter(|(_, it)| is_due(it.ends_at) || is_due(it.will_at));
        for id in due.map(|(id, _)| *id).collect::<Vec<_>>() {
            match self.sessions.get(&id).is_some_and(|session| is_due(session.ends_at)) {
                true => self.end(id, now),
                false => self.publish_will(id, now),
            }
        }
        self.retained.tidy(now);
        self.tell_losses();
        let stalled = self.sessions.values().filter(|session| session.is_being_brought());
        let stalled = stalled.filter_map(|session| session.connection.as_ref());
        self.effects.extend(stalled.map(|connected| Effect::Wake(connected.id)));
    }

    /// Subscribes, and says for each filter how.
    pub fn subscribe(&mut self, seat: Seat, asked: &Subscribe) -> Vec<u8> {
        let identifier = asked.identifier.unwrap_or(0);
        let granted = |wanted| self.subscribe_one(seat, wanted, identifier);
        let codes = asked.wanted.iter().map(granted).collect();
        self.effects.push(Effect::Wake(seat.connection));
        codes
    }

    fn subscribe_one(&mut self, seat: Seat, wanted: &Wanted, identifier: u32) -> u8 {
        let filter = &*wanted.filter;
        let most = self.limits.subscriptions;
        let Some(session) = self.sessions.get_mut(&seat.session) else { return code::UNSPECIFIED };
        let client = Arc::clone(&session.client_id);
        let refused = |why: &str| {
            let (client, filter) = (printable(&client), printable(filter));
            Effect::Trouble(format!("refused the client `{client}` the filter `{filter}`: {why}"))
        };
        if let Err(why) = check_filter(filter) {
            self.effects.push(refused(why));
            return code::TOPIC_FILTER;
        }
        if is_private(filter) {
            self.effects.push(refused("it may not read that"));
            return code::NOT_AUTHORIZED;
        }
        let access = self.limits.access.as_ref();
        if access.is_some_and(|access| !access.may_subscribe(session.person(), filter)) {
            self.effects.push(refused("`access` lets it read nothing of that"));
            return code::NOT_AUTHORIZED;
        }
        let is_new = !session.filters.contains(filter);
        if is_new {
            if session.filters.len() >= most {
                let why = format!("it has {most} already (`max_subscriptions`)");
                self.effects.push(refused(&why));
                return code::QUOTA;
            }
            if !session.hold(tree::size_bytes(filter)) {
                self.effects.push(refused("the memory for subscriptions is full (`memory`)"));
                return code::QUOTA;
            }
            session.filters.insert(filter.into());
        }
        let is_bridge = session.connection.as_ref().is_some_and(|connected| connected.is_bridge);
        let terms = Terms {
            qos: wanted.qos,
            no_local: wanted.no_local || is_bridge && group_of(filter).is_none(),
            retain_as_published: wanted.retain_as_published || is_bridge,
            identifier,
            is_shared: group_of(filter).is_some(),
        };
        let brings = match wanted.retain_handling {
            0 => true,
            1 => is_new,
            _ => false,
        };
        if brings && group_of(filter).is_none() {
            session.bring(pattern_of(filter).into(), wanted.qos, identifier);
        }
        let is_kept = session.is_kept;
        if is_kept && self.tree.terms(filter, seat.session) != Some(terms) {
            let subscription = subscription_of(filter.into(), terms);
            self.record(|| Record::Subscribed(seat.session, subscription));
        }
        self.tree.insert(filter, seat.session, terms);
        wanted.qos
    }

    /// Ends subscriptions, and says for each filter whether there was one.
    pub fn unsubscribe(&mut self, seat: Seat, filters: &[String]) -> Vec<u8> {
        let end = |filter: &String| {
            let Some(session) = self.sessions.get_mut(&seat.session) else {
                return code::UNSPECIFIED;
            };
            if !session.filters.remove(&**filter) {
                return code::NO_SUBSCRIPTION;
            }
            session.release(tree::size_bytes(filter));
            if let Some(journal) = self.journal.as_ref().filter(|_| session.is_kept) {
                journal.record(&Record::Unsubscribed(seat.session, filter.as_str().into()));
            }
            self.tree.remove(filter, seat.session);
            code::SUCCESS
        };
        filters.iter().map(end).collect()
    }

    /// Whether a client may publish to a topic. What it may not is in the log.
    pub fn may_publish(&mut self, seat: Seat, topic: &str) -> bool {
        if is_status(topic) {
            let Some(session) = self.seated(seat) else { return false };
            let (client, topic) = (printable(&session.client_id), printable(topic));
            let what = format!(
                "threw away what the client `{client}` published to `{topic}`: the broker alone speaks there"
            );
            self.effects.push(Effect::Trouble(what));
            return false;
        }
        let Some(access) = self.limits.access.clone() else { return true };
        let Some(session) = self.seated(seat) else { return false };
        let may = access.may_write(session.person(), topic);
        if !may {
            let (client, topic) = (printable(&session.client_id), printable(topic));
            let what = format!(
                "threw away what the client `{client}` published to `{topic}`: `access` does not let it write there"
            );
            self.effects.push(Effect::Trouble(what));
        }
        may
    }

    /// Hands a message to all clients that subscribed, and keeps it when it is to be retained. The ticket is
    /// held until what must survive a restart is safe.
    pub fn publish(
        &mut self,
        message: &Message,
        from: Option<SessionId>,
        ticket: Option<&Arc<Ticket>>,
        now: Instant,
    ) {
        if message.retain {
            self.retain(message, ticket);
        }
        if message.is_expired(now) {
            return;
        }
        let mut hits = mem::take(&mut self.hits);
        let access = self.limits.access.as_ref();
        let may_read = |session: &Session| {
            access.is_none_or(|access| access.may_read(session.person(), &message.topic))
        };
        let is_there =
            |id| self.sessions.get(&id).is_some_and(|it| it.connection.is_some() && may_read(it));
        self.tree.hits(&message.topic, is_there, &mut hits);
        hits.retain(|(id, terms)| {
            !(terms.no_local && from == Some(*id)) && self.sessions.get(id).is_some_and(may_read)
        });
        // A share of a subscription is one of its own (MQTT 5 section 4.8.2).
        hits.sort_by_key(|(id, terms)| (*id, terms.is_shared));
        let is_one = |one: &(SessionId, Terms), other: &(SessionId, Terms)| {
            one.0 == other.0 && !other.1.is_shared
        };
        let mut copies = Copies { kept: None, number: None, ticket };
        for of_one in hits.chunk_by(is_one) {
            self.hand_out(message, &mut copies, of_one);
        }
        hits.clear();
        self.hits = hits;
    }

    /// Whether a message can be retained. What cannot be is in the log.
    pub fn has_room_to_retain(&mut self, message: &Message) -> bool {
        match self.retained.check(message) {
            Ok(()) => true,
            Err(why) => {
                let topic = printable(&message.topic);
                let what = format!("refused a retained message for `{topic}`: {why}");
                self.effects.push(Effect::Trouble(what));
                false
            }
        }
    }

    fn retain(&mut self, message: &Message, ticket: Option<&Arc<Ticket>>) {
        let topic = &message.topic;
        let was_there = self.retained.get(topic).is_some();
        if let Err(why) = self.retained.keep(message) {
            let topic = printable(topic);
            self.effects.push(Effect::Trouble(format!(
                "passed on without keeping it for later subscribers, who get the one before: a retained \
                 message for `{topic}`: {why}"
            )));
        }
        let kept = self.retained.get(topic).cloned();
        if let Some(journal) = self.journal.as_ref().filter(|_| !is_status(topic))
            && (was_there || kept.is_some())
        {
            journal.retain(topic, kept, ticket);
        }
    }

    /// Hands a message to one client, who gets it once by whichever of its subscriptions match.
    fn hand_out(
        &mut self,
        message: &Message,
        copies: &mut Copies<'_>,
        hits: &[(SessionId, Terms)],
    ) {
        let Some((id, _)) = hits.first() else { return };
        let terms = || hits.iter().map(|(_, terms)| terms);
        let qos = terms().map(|terms| terms.qos).max().unwrap_or(0).min(message.qos);
        let is_there = self.sessions.get(id).is_some_and(|session| session.connection.is_some());
        if qos == 0 && !is_there {
            return;
        }
        let memory = self.memory_for(message, &mut copies.kept, *id, qos);
        let Some((kept, charge)) = memory else { return };
        let Some(session) = self.sessions.get(id) else { return };
        let retain = message.retain && terms().any(|terms| terms.retain_as_published);
        let identifiers: Box<[u32]> =
            terms().map(|terms| terms.identifier).filter(|id| *id > 0).collect();
        let journal = self.journal.as_ref().filter(|_| qos > 0 && session.is_kept);
        let stake = journal.map(|journal| {
            let number = *copies.number.get_or_insert_with(|| journal.number());
            let identifiers = identifiers.clone();
            let recipient = Recipient { id: *id, qos, retain, identifiers };
            if !is_there {
                journal.hurry();
            }
            journal.message(number, &kept, recipient, copies.ticket)
        });
        let place = Place::new(charge, stake);
        self.push(*id, Waiting { kept, qos, retain, identifiers, place });
    }

    /// Has a message wait for a client.
    fn push(&mut self, id: SessionId, waiting: Waiting) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let dropped = session.push(waiting, self.limits.room);
        if let Some(connected) = &session.connection {
            self.effects.push(Effect::Wake(connected.id));
        }
        self.lose(id, Loss::QueueIsFull, dropped);
    }

    /// A client will not get some messages. The first are told at once, and what follows with the next tick: who floods a
    /// client that does not read must not keep everybody busy with words.
    fn lose(&mut self, id: SessionId, loss: Loss, count: u64) {
        let Some(session) = self.sessions.get(&id).filter(|_| count > 0) else { return };
        match self.losses.get_mut(&(id, loss)) {
            Some((_, untold)) => *untold += count,
            None => {
                self.losses.insert((id, loss), (Arc::clone(&session.client_id), 0));
                self.effects.push(loss.of(&session.client_id, count));
            }
        }
    }

    fn tell_losses(&mut self) {
        self.losses.retain(|(_, loss), (client_id, untold)| {
            let count = mem::take(untold);
            if count > 0 {
                self.effects.push(loss.of(client_id, count));
            }
            count > 0
        });
    }

    /// The memory for a message in one more queue. When it is full, the client gives way that has most of
    /// it. None when the message itself does.
    fn memory_for(
        &mut self,
        message: &Message,
        kept: &mut Option<Arc<Kept>>,
        id: SessionId,
        qos: u8,
    ) -> Option<(Arc<Kept>, Charge)> {
        loop {
            if kept.is_none() {
                *kept = Kept::new(message, &self.budget, Use::Queues);
            }
            if let Some(kept) = &kept
                && let Some(place) = self.budget.take(Use::Queues, PLACE_BYTES)
            {
                return Some((Arc::clone(kept), place));
            }
            let most = self.sessions.iter_mut().max_by_key(|(_, session)| session.message_bytes());
            let (most_id, most) = most?;
            let most_id = *most_id;
            if most.message_bytes() == 0 || (most_id == id && qos == 0) {
                self.lose(most_id, Loss::MemoryIsFull, 1);
                return None;
            }
            let (dropped, must_end) = most.give_way();
            self.lose(most_id, Loss::HasMostOfTheMemory, dropped);
            if must_end {
                self.let_go(most_id);
            }
        }
    }

    /// Ends the connection of a client that holds too much.
    fn let_go(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(connected) = &session.connection else { return };
        let why = "it does not read, or not acknowledge, what it is sent, and the memory is full (`memory`)";
        self.effects.push(Effect::Close(connected.id, Refusal::new(code::QUOTA, why)));
    }

    /// A client has sent a message of QoS 2, which is about to be published.
    ///
    /// # Errors
    ///
    /// It has not released too many.
    pub fn receive_new(&mut self, seat: Seat, packet_id: u16) -> Result<(), Refusal> {
        let Some(session) = self.seated(seat) else { return Ok(()) };
        if session.unreleased_count() >= MOST_UNRELEASED {
            let why = format!("it has not released {MOST_UNRELEASED} messages of QoS 2");
            return Err(Refusal::new(code::RECEIVE_MAXIMUM, why));
        }
        session.receive_new(packet_id).then_some(()).ok_or_else(no_memory)
    }

    /// Whether a client has sent a message of QoS 2 before.
    pub fn has_received(&mut self, seat: Seat, packet_id: u16, again: bool) -> bool {
        self.seated(seat).is_some_and(|session| session.has_received(packet_id, again))
    }

    /// A message of QoS 2 is safe with everybody who is to have it, as far as it must be: it is not to come twice, not even by
    /// way of a restart.
    pub fn note_received(&mut self, seat: Seat, packet_id: u16) {
        let Some(session) = self.seated(seat) else { return };
        let is_new = session.note_received(packet_id);
        if let Some(journal) = self.journal_of(seat).filter(|_| is_new) {
            journal.received(seat.session, packet_id);
        }
    }

    /// A client releases a message of QoS 2. Whether there was one.
    pub fn release(&mut self, seat: Seat, packet_id: u16) -> bool {
        let Some(session) = self.seated(seat) else { return false };
        let (was_there, was_on_disk) = session.forget_received(packet_id);
        if let Some(journal) = self.journal_of(seat).filter(|_| was_on_disk) {
            journal.released(seat.session, packet_id);
        }
        was_there
    }

    /// How many messages of QoS 2 a client has not released.
    pub fn unreleased_count(&mut self, seat: Seat) -> usize {
        self.seated(seat).map_or(0, |session| session.unreleased_count())
    }

    /// A client acknowledged a message of QoS 1, or is done with one of QoS 2.
    pub fn acknowledge(&mut self, seat: Seat, id: u16) {
        if let Some(session) = self.seated(seat)
            && session.acknowledge(id)
        {
            self.effects.push(Effect::Wake(seat.connection));
        }
    }

    /// A client has a message of QoS 2. What it is told.
    pub fn receive(&mut self, seat: Seat, id: u16, said: u8) -> Option<(Ack, u8)> {
        let told = self.seated(seat)?.receive(id, said);
        self.effects.push(Effect::Wake(seat.connection));
        // Who refuses a message is told nothing more of it.
        (said < code::UNSPECIFIED).then_some(told)
    }

    /// A client is done with a message of QoS 2.
    pub fn complete(&mut self, seat: Seat, id: u16) {
        if let Some(session) = self.seated(seat)
            && session.complete(id)
        {
            self.effects.push(Effect::Wake(seat.connection));
        }
    }

    /// Takes memory for a topic that a client gave an alias, in the place of one that had so many bytes.
    /// False when there is none.
    pub fn hold_alias(&mut self, seat: Seat, before: usize, bytes: usize) -> bool {
        self.seated(seat).is_some_and(|session| session.hold_alias(before, bytes))
    }

    /// What is to be written to a client next.
    pub fn next(&mut self, seat: Seat, now: Instant) -> Output {
        let Some(session) =
            self.sessions.get_mut(&seat.session).filter(|it| it.is_at(seat.connection))
        else {
            return Output::default();
        };
        let shelf = Shelf { retained: &self.retained, access: self.limits.access.as_deref() };
        let (output, dropped) = session.next(&shelf, self.limits.room, now);
        self.lose(seat.session, Loss::Unfit, dropped);
        output
    }

    /// The session of a client that is still there by this connection.
    fn seated(&mut self, seat: Seat) -> Option<&mut Session> {
        self.sessions.get_mut(&seat.session).filter(|session| session.is_at(seat.connection))
    }
}

/// A message on its way to several clients.
struct Copies<'a> {
    kept: Option<Arc<Kept>>,
    /// Its number on disk, when it has one.
    number: Option<u64>,
    ticket: Option<&'a Arc<Ticket>>,
}

fn record_of(id: SessionId, session: &Session) -> Record {
    Record::Session {
        id,
        client_id: Arc::clone(&session.client_id),
        user: session.user.clone(),
        expiry_seconds: session.expiry_seconds,
    }
}

fn subscription_of(filter: Arc<str>, terms: Terms) -> Subscription {
    let Terms { qos, no_local, retain_as_published, identifier, .. } = terms;
    Subscription { filter, qos, no_local, retain_as_published, identifier }
}

fn terms_of(subscription: &Subscription) -> Terms {
    let Subscription { filter, qos, no_local, retain_as_published, identifier } = subscription;
    Terms {
        qos: *qos,
        no_local: *no_local,
        retain_as_published: *retain_as_published,
        identifier: *identifier,
        is_shared: group_of(filter).is_some(),
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

fn will_bytes(will: &Will) -> usize {
    will.topic.len() + will.payload.len() + will.properties.len() + 256
}

fn will_of(id: SessionId, session: &Session, will: &Will) -> Record {
    let (client_id, user) = (Arc::clone(&session.client_id), session.user.clone());
    Record::Will(id, LastWill { client_id, user, will: will.clone() })
}

fn no_memory() -> Refusal {
    Refusal::new(code::QUOTA, "the memory for sessions is full (`memory`)")
}
