//! Who reads what, and what is not settled. Everything here is done at once, under one lock.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::Arc,
    task::Waker,
    time::Duration,
};

use forebay_sdk::{
    Filter, Voice,
    mqtt::{Event, Manner, Publication, Retained, Subscribe},
};
use tokio::time::Instant;
use tracing::debug;

use super::{kept::Kept, subscriptions::Subscriptions};
use crate::{client::Client, ledger::Ledger};

/// What the session should be subscribed to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub filters: BTreeMap<String, Wish>,
    /// Those of readers that came since this was last asked for.
    pub anew: BTreeSet<String>,
    /// Filters that nobody asks for at the moment, and that stay.
    pub kept: Vec<String>,
    /// When this changes by itself.
    pub until: Option<Instant>,
}

/// A filter that the session should be subscribed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// How messages come by which everybody gets what he asks for.
    pub manner: Manner,
    /// Who asks.
    pub readers: BTreeSet<Arc<str>>,
}

/// How the broker took the subscriptions of this connection.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Filters that bring messages.
    pub granted: BTreeSet<String>,
    /// Filters that the broker will not have.
    pub refused: BTreeSet<String>,
    /// Those of them that the readers do not know of yet, and why.
    pub refused_now: Vec<(String, String)>,
}

/// How long a message or a subscription outlives its reader. A reload replaces a source within
/// that time, and the new one goes on where the old one stopped.
pub(super) const HOLD: Duration = Duration::from_secs(30);

/// With so many bytes waiting for one reader, or for readers that are not there, nothing more is
/// read from the broker. The protocol bounds the number of messages of QoS 1 and 2: each holds one of
/// 65,535 packet ids until it is acknowledged.
pub(super) const MOST_QUEUED_BYTES: usize = 4 << 20;

/// The most that wait for one reader when the broker must be read all the same, because a sink waits
/// for its acknowledgement: those 4 MiB, and the 20 messages that brokers send without an
/// acknowledgement, each of 1 MiB, which is the largest by default.
pub(super) const MOST_FORCED_BYTES: usize = 24 << 20;

/// The most messages that wait for a reader that is not there; beyond that nothing is read.
pub(super) const MOST_WAITING: usize = 1000;

/// The most that wait for readers that are not there when the broker must be read all the same.
pub(super) const MOST_FORCED_WAITING: usize = 2 * MOST_WAITING;

/// There is no room for a message, and no way to leave it unread.
#[derive(Debug, PartialEq, Eq)]
pub struct Full(String);

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Full(what) = self;
        write!(f, "{what}; closing the session so that the broker sends the next one again")
    }
}

impl std::error::Error for Full {}

/// Before the first.
const NO_CONNECTION: u64 = 0;

pub(super) struct State {
    pub ledger: Ledger,
    /// Set while connected. Acknowledgements go here.
    pub client: Option<Client>,
    /// How many connections there were.
    connections: u64,
    kept: Kept,
    pub readers: Vec<Reader>,
    next_reader: u64,
    pub waiting: VecDeque<Waiting>,
    pub subscriptions: Subscriptions,
    /// Subscriptions of readers that are gone, and when they end.
    departed: Vec<(Filter, Instant)>,
    /// Until then, what nobody asked for waits instead of being dropped.
    hold_until: Instant,
    /// Filters that were asked for since [`State::wanted`] last said so.
    anew: BTreeSet<String>,
    /// The readers of the message at hand. Here so that its room is used again.
    chosen: Vec<usize>,
    voice: Voice,
}

pub(super) struct Reader {
    id: u64,
    /// Its capacity is the most messages that may be claimed and not settled; and, at QoS 0, in the
    /// queue.
    wish: Subscribe,
    /// Those of its wish that can be.
    filters: Vec<Filter>,
    /// In the queue, or claimed and not settled.
    pub unsettled: usize,
    queue: VecDeque<Item>,
    queued_bytes: usize,
    /// Those of QoS 1 and 2 among them.
    tracked_bytes: usize,
    /// What the broker said of its subscriptions.
    told: VecDeque<Event>,
    /// Whether it was told that the broker granted what it asks for, on this connection.
    is_granted: bool,
    waker: Option<Waker>,
}

/// What comes next for a reader.
pub(super) enum Next {
    /// How the broker took its subscriptions.
    Told(Event),
    /// A message, and the name of the reader.
    Item(Item, Arc<str>),
}

/// One reader's copy of a message.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub publication: Publication,
    pub again: bool,
    /// Its number in the ledger. None at QoS 0.
    pub arrival: Option<u64>,
    /// See [`Publication::is_known`].
    pub is_known: bool,
}

impl Item {
    fn size_bytes(&self) -> usize {
        size_of::<Item>() + self.publication.topic.len() + self.publication.payload.len()
    }
}

/// A copy whose reader is gone or never came.
pub(super) struct Waiting {
    node: Option<Arc<str>>,
    item: Item,
    since: Instant,
}

impl State {
    pub fn new(voice: Voice) -> State {
        State {
            ledger: Ledger::default(),
            client: None,
            connections: 0,
            kept: Kept::default(),
            readers: Vec::new(),
            next_reader: 0,
            waiting: VecDeque::new(),
            subscriptions: Subscriptions::default(),
            departed: Vec::new(),
            hold_until: Instant::now() + HOLD,
            anew: BTreeSet::new(),
            chosen: Vec::new(),
            voice,
        }
    }

    pub fn register(&mut self, wish: Subscribe) -> u64 {
        let id = self.next_reader;
        self.next_reader += 1;
        let mut reader = Reader {
            id,
            filters: Vec::with_capacity(wish.filters.len()),
            wish,
            unsettled: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            tracked_bytes: 0,
            told: VecDeque::new(),
            is_granted: false,
            waker: None,
        };
        for filter in reader.wish.filters.clone() {
            match Filter::parse(&filter) {
                Ok(parsed) => reader.filters.push(parsed),
                Err(wrong) => {
                    reader.told.push_back(Event::Refused { filter, why: wrong.expected });
                    continue;
                }
            }
            self.anew.insert(filter);
        }
        self.readers.push(reader);
        self.take_up_waiting();
        id
    }

    /// A connection begins.
    pub fn begin(&mut self, resumed: bool) {
        self.connections += 1;
        if resumed {
            self.ledger.resume();
        } else {
            self.ledger.start_afresh();
        }
        self.hold_until = Instant::now() + HOLD;
        self.subscriptions.clear();
        for reader in &mut self.readers {
            reader.is_granted = false;
        }
    }

    /// Tells the readers how the broker took their subscriptions.
    pub fn answered(&mut self, answers: &Answers) {
        self.subscriptions.answered();
        for reader in &mut self.readers {
            for (filter, why) in &answers.refused_now {
                if reader.filters.iter().any(|asked| asked.as_str() == filter) {
                    let (filter, why) = (filter.clone(), why.clone());
                    reader.tell(Event::Refused { filter, why });
                }
            }
            let mut filters = reader.filters.iter().map(Filter::as_str);
            let is_answered =
                |filter| answers.granted.contains(filter) || answers.refused.contains(filter);
            let has_any = filters.clone().any(|filter| answers.granted.contains(filter));
            if !reader.is_granted && has_any && filters.all(is_answered) {
                reader.is_granted = true;
                reader.tell(Event::Granted);
            }
        }
    }

    /// What comes next for a reader. When there is nothing, its waker is kept.
    pub fn next(&mut self, reader: u64, waker: &Waker) -> Option<Next> {
        let reader = self.readers.iter_mut().find(|r| r.id == reader)?;
        if let Some(event) = reader.told.pop_front() {
            return Some(Next::Told(event));
        }
        if let Some(item) = reader.claim() {
            return Some(Next::Item(item, Arc::clone(&reader.wish.reader)));
        }
        match &mut reader.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        None
    }

    pub fn take_in(
        &mut self,
        publication: Publication,
        packet: u16,
        again: bool,
        by: &[u32],
    ) -> Result<(), Full> {
        let tracked = publication.qos > 0;
        if tracked && self.ledger.recognise(&publication, packet, again) {
            self.send_acks();
            return Ok(());
        }
        let mut readers = std::mem::take(&mut self.chosen);
        readers.clear();
        readers.extend(self.readers_by(&publication.topic, by));
        if readers.is_empty() {
            // Who asked for it is gone.
            readers.extend(self.readers_of(&publication.topic));
        }
        let is_wanted = readers.is_empty() || {
            readers.retain(|at| self.wants(*at, &publication));
            !readers.is_empty()
        };
        let taken = match is_wanted {
            true => self.give_to(&readers, publication, packet, again),
            false => {
                self.acknowledge(publication, packet, again);
                Ok(())
            }
        };
        self.chosen = readers;
        taken
    }

    /// The broker has taken a message of ours.
    pub fn published(&mut self, publication: &Publication) {
        self.kept.note(publication, self.connections);
    }

    /// The same, when it comes back only with a subscription: also with the first one, which may come
    /// behind it.
    pub fn published_apart(&mut self, publication: &Publication) {
        self.kept.note(publication, NO_CONNECTION);
    }

    /// Whether a reader wants a message, which may have been kept by the broker. As published or kept: when
    /// somebody asks for the former mark, there is none for the latter.
    fn wants(&self, at: usize, publication: &Publication) -> bool {
        let was_kept = publication.retain
            && !self.readers.iter().any(|reader| reader.wish.manner.retain_as_published);
        !was_kept || self.readers[at].wish.manner.retained != Retained::Never
    }

    /// Acknowledges a message that nobody is given.
    pub fn acknowledge(&mut self, publication: Publication, packet: u16, again: bool) {
        if publication.qos > 0 && !self.ledger.recognise(&publication, packet, again) {
            self.ledger.enter(publication, packet, 0);
        }
        self.send_acks();
    }

    /// Whether nothing more is to be read from the broker.
    pub fn is_full(&self) -> bool {
        self.readers.iter().any(|reader| reader.tracked_bytes >= MOST_QUEUED_BYTES)
            || self.waiting.len() >= MOST_WAITING
            || self.waiting_bytes() >= MOST_QUEUED_BYTES
    }

    fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.item.size_bytes()).sum()
    }

    fn give_to(
        &mut self,
        readers: &[usize],
        publication: Publication,
        packet: u16,
        again: bool,
    ) -> Result<(), Full> {
        let tracked = publication.qos > 0;
        let mut asked = readers.iter().map(|at| &self.readers[*at]);
        if let Some(full) = asked.find(|it| tracked && it.tracked_bytes >= MOST_FORCED_BYTES) {
            let (why, count) = (full.wish.why_full(), full.unsettled);
            return Err(Full(format!("{why}: {count} messages are not delivered yet")));
        }
        let Some((last, others)) = readers.split_last() else {
            return self.take_in_unwanted(publication, packet, again);
        };
        let arrival =
            tracked.then(|| self.ledger.enter(publication.clone(), packet, readers.len()));
        let is_known = self.kept.repeats(&publication, again, self.connections);
        let item = Item { publication, again, arrival, is_known };
        for at in others {
            self.readers[*at].offer(item.clone(), &self.voice);
        }
        self.readers[*last].offer(item, &self.voice);
        Ok(())
    }

    /// Right after a start or a reload the reader may be about to come. Later on, this is what an
    /// old subscription brings that the broker remembers.
    fn take_in_unwanted(
        &mut self,
        publication: Publication,
        packet: u16,
        again: bool,
    ) -> Result<(), Full> {
        if publication.qos == 0 {
            return Ok(());
        }
        let since = Instant::now();
        if since >= self.hold_until {
            self.ledger.enter(publication.clone(), packet, 0);
            self.send_acks();
            self.tell_unwanted(&publication);
            return Ok(());
        }
        let count = self.waiting.len();
        if count >= MOST_FORCED_WAITING || self.waiting_bytes() >= MOST_FORCED_BYTES {
            return Err(Full(format!("{count} messages wait for sources that are not there")));
        }
        let arrival = Some(self.ledger.enter(publication.clone(), packet, 1));
        let is_known = self.kept.repeats(&publication, again, self.connections);
        let item = Item { publication, again, arrival, is_known };
        self.waiting.push_back(Waiting { node: None, item, since });
        Ok(())
    }

    /// Those readers of a topic on whose behalf the broker sends a message by these subscriptions.
    fn readers_by(&self, topic: &str, by: &[u32]) -> impl Iterator<Item = usize> {
        self.readers_of(topic).filter(move |at| {
            let reader = &self.readers[*at];
            let filters = reader.filters.iter().filter(|filter| filter.matches(topic));
            self.subscriptions.are_of(by, &reader.wish.reader, filters.map(Filter::as_str))
        })
    }

    /// The readers of a topic. While a source is being replaced there are two of the same node:
    /// the new one counts. What the broker refused is asked for all the same: it may come by a
    /// subscription that the broker remembers.
    fn readers_of(&self, topic: &str) -> impl Iterator<Item = usize> {
        let newest = |at: &usize| {
            let node = &self.readers[*at].wish.reader;
            let is_newer = |later: &Reader| later.wish.reader == *node && later.asks(topic);
            !self.readers[*at + 1..].iter().any(is_newer)
        };
        (0..self.readers.len()).filter(|at| self.readers[*at].asks(topic)).filter(newest)
    }

    fn take_up_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            let meant = |at: &usize| {
                waiting.node.as_ref().is_none_or(|node| self.readers[*at].wish.reader == *node)
            };
            let found = self.readers_of(&waiting.item.publication.topic).find(meant);
            match found {
                Some(at) => self.readers[at].accept(waiting.item),
                None => self.waiting.push_back(waiting),
            }
        }
    }

    /// A reader did not settle its copy: it, or whoever takes its place, gets it again.
    pub fn give_back(&mut self, reader: u64, node: &Arc<str>, item: Item) {
        if let Some(reader) = self.readers.iter_mut().find(|r| r.id == reader) {
            reader.unsettled -= 1;
            return reader.accept(item);
        }
        if item.arrival.is_none() {
            return;
        }
        let node = Some(Arc::clone(node));
        self.waiting.push_back(Waiting { node, item, since: Instant::now() });
        self.take_up_waiting();
    }

    pub fn settle(&mut self, reader: u64, arrival: Option<u64>) {
        if let Some(reader) = self.readers.iter_mut().find(|r| r.id == reader) {
            let may_not_take = reader.is_full_of_claims();
            reader.unsettled -= 1;
            if may_not_take {
                reader.wake();
            }
        }
        if let Some(arrival) = arrival {
            self.ledger.settle(arrival);
            self.send_acks();
        }
    }

    pub fn depart(&mut self, reader: u64) {
        let Some(at) = self.readers.iter().position(|r| r.id == reader) else { return };
        let reader = self.readers.remove(at);
        let until = Instant::now() + HOLD;
        self.hold_until = self.hold_until.max(until);
        self.departed.extend(reader.filters.iter().map(|filter| (filter.clone(), until)));
        for item in reader.queue {
            self.give_back(reader.id, &reader.wish.reader, item);
        }
    }

    pub fn send_acks(&mut self) {
        let Some(client) = &self.client else { return };
        while let Some(ack) = self.ledger.next_ack() {
            // A full channel empties as the connection goes on, which then calls this again.
            if !client.acknowledge(ack) {
                return;
            }
            self.ledger.acknowledged();
            self.voice.works();
        }
    }

    pub fn wanted(&mut self, now: Instant) -> Wanted {
        self.expire(now);
        let mut wanted = Wanted { anew: std::mem::take(&mut self.anew), ..Wanted::default() };
        for reader in &self.readers {
            for filter in &reader.filters {
                let manner = reader.wish.manner;
                let wish = wanted.filters.entry(filter.as_str().to_owned());
                let wish = wish.or_insert(Wish { manner, readers: BTreeSet::new() });
                wish.manner = wish.manner.with(manner);
                wish.readers.insert(Arc::clone(&reader.wish.reader));
            }
        }
        wanted.kept = self.departed.iter().map(|(filter, _)| filter.as_str().to_owned()).collect();
        let ends = self.departed.iter().map(|(_, until)| *until);
        wanted.until = ends.chain(self.waiting.iter().map(|w| w.since + HOLD)).min();
        wanted
    }

    fn expire(&mut self, now: Instant) {
        self.departed.retain(|(_, until)| *until > now);
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.since + HOLD > now {
                self.waiting.push_back(waiting);
                continue;
            }
            // Its node is gone for good; another that asks for the same may be its new name.
            let other = self.readers_of(&waiting.item.publication.topic).next();
            match other {
                Some(at) => self.readers[at].accept(waiting.item),
                None => {
                    self.tell_unwanted(&waiting.item.publication);
                    if let Some(arrival) = waiting.item.arrival {
                        self.ledger.settle(arrival);
                    }
                }
            }
        }
        self.send_acks();
    }

    fn tell_unwanted(&self, publication: &Publication) {
        debug!(topic = %publication.topic, "no source asks for what the broker sent");
        self.voice.dropped(1, "no source asks for what the broker sends");
    }
}

impl Reader {
    fn asks(&self, topic: &str) -> bool {
        self.filters.iter().any(|filter| filter.matches(topic))
    }

    fn is_full(&self) -> bool {
        self.unsettled >= self.wish.capacity || self.queued_bytes >= MOST_QUEUED_BYTES
    }

    fn is_full_of_claims(&self) -> bool {
        self.unsettled - self.queue.len() >= self.wish.capacity
    }

    /// The next copy, unless as many are claimed as may be.
    fn claim(&mut self) -> Option<Item> {
        if self.is_full_of_claims() {
            return None;
        }
        let item = self.queue.pop_front()?;
        self.queued_bytes -= item.size_bytes();
        match item.arrival {
            Some(_) => self.tracked_bytes -= item.size_bytes(),
            // Nobody will settle it.
            None => self.unsettled -= 1,
        }
        Some(item)
    }

    /// Takes a new copy, or drops it at QoS 0 when there is no room.
    fn offer(&mut self, item: Item, voice: &Voice) {
        if item.arrival.is_some() || !self.is_full() {
            return self.accept(item);
        }
        let why = self.wish.why_full();
        voice.dropped(1, &format!("{why}, and what comes at QoS 0 does not wait"));
    }

    /// Queues a copy in the order of arrival.
    fn accept(&mut self, item: Item) {
        let later = |queued: &Item| item.arrival.is_some() && queued.arrival > item.arrival;
        let at = self.queue.iter().rposition(|queued| !later(queued)).map_or(0, |at| at + 1);
        self.queued_bytes += item.size_bytes();
        if item.arrival.is_some() {
            self.tracked_bytes += item.size_bytes();
        }
        self.queue.insert(at, item);
        self.unsettled += 1;
        self.wake();
    }

    fn tell(&mut self, event: Event) {
        self.told.push_back(event);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
