//! What waits in front of a node: the rules, without tasks, files or waiting.
//!
//! Messages stand in lanes in memory. With a log behind it (`store: disk`, `store: spill`) each
//! also gets a number, goes to the log by way of `unwritten`, and may leave memory once the lanes
//! are full: then it is only in the log, and read back when its turn comes. A promise of delivery
//! is kept as soon as its message is safe in the log or was delivered, whichever comes first.

mod lanes;
mod log_side;
mod pace;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, sync::Arc, time::Duration};

use forebay_sdk::{Delivery, Envelope, Message, Timestamp, clock};
use tokio::time::Instant;

pub use self::log_side::{Done, Due, Job, Look, Opened};
use self::{
    lanes::{Entry, Lane, Lanes},
    log_side::LogSide,
    pace::Pace,
};
use crate::config::{Buffer, Order, Store, WhenFull};

/// What the lanes may hold of messages that are in the log too.
const WINDOW_BYTES: usize = 512 << 10;
/// What `store: spill` keeps in memory.
const SPILL_BYTES: u64 = 4 << 20;
/// A message that waits longer in memory casts doubt on the link.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(5);

/// The messages in front of one node.
pub struct Queue {
    limits: Buffer,
    lanes: Lanes,
    closed: bool,
    /// The link failed, and nothing was delivered since.
    is_suspect: bool,
    pace: Pace,
    log: Option<LogSide>,
}

/// What became of a message that was pushed.
pub enum Pushed {
    /// It waits.
    Taken,
    /// It waits, and one that waited longer was dropped for it.
    DroppedOldest,
    /// The buffer is full and set to drop what comes.
    DroppedNewest,
    /// There is no room: come again.
    Full(Envelope),
}

/// A message, and how the reader wrote where it comes from, as far as that is known.
pub type Shown = (Message, Option<Arc<str>>);

/// What a reader is to do.
#[derive(Debug)]
pub enum Turn {
    /// Write these.
    Write(Vec<Message>),
    /// Wait until something changes.
    Wait,
    /// Wait until then, or until something changes.
    Until(Instant),
    /// The queue was closed, and what is left needs no reader.
    End,
}

/// How old a message may be at the moment.
struct Age {
    max_age: Option<Duration>,
    expires_after: Option<Duration>,
    now: Instant,
    wall: Timestamp,
}

impl Age {
    /// None when there is no limit: the clocks are not asked for nothing.
    fn of(limits: &Buffer) -> Option<Age> {
        let Buffer { max_age, expires_after, .. } = *limits;
        let is_limited = max_age.is_some() || expires_after.is_some();
        is_limited.then(|| Age {
            max_age,
            expires_after,
            now: Instant::now(),
            wall: Timestamp::now(),
        })
    }

    fn is_too_old(&self, entry: &Entry) -> bool {
        let waited = self.now.saturating_duration_since(entry.since);
        let by_time = |most| clock::age(entry.message.time, self.wall) > most;
        self.max_age.is_some_and(|most| waited > most) || self.expires_after.is_some_and(by_time)
    }
}

impl Queue {
    pub fn new() -> Queue {
        Queue {
            limits: Buffer::default(),
            lanes: Lanes::default(),
            closed: false,
            is_suspect: false,
            pace: Pace::default(),
            log: None,
        }
    }

    pub fn limits(&self) -> &Buffer {
        &self.limits
    }

    pub fn set_limits(&mut self, limits: Buffer) {
        self.limits = limits;
        self.log_if_due();
    }

    /// There is a log behind it, of which more is known once it was opened.
    pub fn expect_log(&mut self) {
        self.log.get_or_insert_default();
    }

    /// Puts a message in, or says why not.
    pub fn push(&mut self, envelope: Envelope, from: &Arc<str>) -> Pushed {
        let mut outcome = Pushed::Taken;
        if self.limits.store == Store::Spill {
            self.log_if_due();
        }
        while self.is_full() {
            match self.limits.when_full {
                WhenFull::Block => return Pushed::Full(envelope),
                WhenFull::DropNewest => {
                    // Dropped by the author's wish, so the promise is kept.
                    Delivery::settle_all(envelope.delivery);
                    return Pushed::DroppedNewest;
                }
                WhenFull::DropOldest => match self.drop_oldest() {
                    true => outcome = Pushed::DroppedOldest,
                    // Everything that waits is being written.
                    false => return Pushed::Full(envelope),
                },
            }
        }
        self.accept(envelope, Arc::clone(from));
        outcome
    }

    fn accept(&mut self, envelope: Envelope, from: Arc<str>) {
        let Envelope { message, delivery, began } = envelope;
        let since = Instant::now();
        let waits = self.is_suspect && self.limits.order == Order::LiveFirst;
        let mut entry = Entry { from: Some(from), began, ..Entry::new(message, since) };
        if !self.is_logging() {
            entry.delivery = delivery;
            self.lanes.push_back(if waits { Lane::Waited } else { Lane::Live }, entry);
            return;
        }
        let has_room = self.lanes.size_bytes() < WINDOW_BYTES;
        let is_next = self.limits.order == Order::LiveFirst || self.only_in_log() == 0;
        let log = self.log.as_mut().expect("is_logging says so");
        let seq = log.number(entry.message.clone(), delivery, since);
        if has_room && is_next && !waits {
            entry.seq = Some(seq);
            self.lanes.push_back(Lane::Live, entry);
        } else {
            log.leave(seq);
        }
    }

    /// Whether a message that comes now would find no room.
    pub fn is_full(&self) -> bool {
        match (&self.log, self.is_logging()) {
            (Some(log), true) => log.is_full(&self.limits),
            _ => {
                let most_bytes = match self.limits.store {
                    Store::Memory => self.limits.max_bytes,
                    Store::Disk | Store::Spill => SPILL_BYTES,
                };
                // One message larger than the limit passes alone; it could never be sent otherwise.
                let count = self.lanes.len();
                count >= self.limits.max_messages as usize
                    || (self.lanes.size_bytes() as u64 >= most_bytes && count > 0)
            }
        }
    }

    /// Takes the first message, for a reader that handles it at once.
    pub fn pop(&mut self) -> Option<(Envelope, Arc<str>)> {
        let Entry { message, delivery, began, from, .. } = self.lanes.pop_front(Lane::Live)?;
        Some((Envelope { message, delivery, began }, from.unwrap_or_else(|| "".into())))
    }

    /// Whether [`Queue::pop`] would give one.
    pub fn has_next(&self) -> bool {
        !self.lanes.is_empty(Lane::Live)
    }

    /// Whether there is a log behind it.
    pub fn has_log(&self) -> bool {
        self.log.is_some()
    }

    /// How many messages wait, in memory and in the log.
    pub fn len(&self) -> usize {
        let in_log = self.log.as_ref().map_or(0, LogSide::waiting);
        self.lanes.len() + usize::try_from(in_log).unwrap_or(0)
    }

    /// How many bytes wait: on disk, where there is a log that is used, else in memory.
    pub fn size_bytes(&self) -> u64 {
        match &self.log {
            Some(log) if self.is_logging() => log.stored_bytes(),
            _ => self.lanes.size_bytes() as u64,
        }
    }

    /// What waits, for showing: the number below which the log has all of it, where there is one, and what else is in
    /// memory.
    pub fn waiting(&self, most: usize) -> (Option<u64>, Vec<Shown>) {
        let shown = |entry: &Entry| (entry.show(self.is_late(entry)), entry.from.clone());
        let Some(log) = self.log.as_ref().filter(|log| log.is_open()) else {
            return (None, self.lanes.all().take(most).map(shown).collect());
        };
        let on_the_way = log.not_in_log().map(|(_, message)| (message.clone(), None));
        let unlogged = self.lanes.all().filter(|entry| entry.seq.is_none()).take(most);
        (Some(log.first_in_memory()), on_the_way.chain(unlogged.map(shown)).collect())
    }

    /// Shows messages of the log.
    pub fn look(&mut self, look: Look) {
        if let Some(log) = &mut self.log {
            log.look(look);
        }
    }

    /// How long the oldest message that is in memory has waited. What came back from the log has since it
    /// was made.
    pub fn oldest_waits(&self) -> Option<Duration> {
        let now = Timestamp::now().unix_nanos();
        let waits = |entry: &Entry| match entry.from {
            Some(_) => entry.since.elapsed(),
            None => {
                let nanos = now.saturating_sub(entry.message.time.unix_nanos());
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
            }
        };
        self.lanes.fronts().map(waits).max()
    }

    /// How many would be gone with the program.
    pub fn unsafe_len(&self) -> usize {
        let unlogged = self.lanes.all().filter(|entry| entry.seq.is_none());
        unlogged.count() + self.log.as_ref().map_or(0, LogSide::unwritten)
    }

    /// How many of these nobody sends again.
    pub fn untracked_len(&self) -> usize {
        let is_untracked = |entry: &&Entry| entry.seq.is_none() && entry.delivery.is_none();
        let untracked = self.lanes.all().filter(is_untracked).count();
        untracked + self.log.as_ref().map_or(0, LogSide::untracked)
    }

    /// Nothing more comes.
    pub fn close(&mut self) {
        self.closed = true;
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Shows up to `most` messages, which stay until they are released.
    pub fn turn(&mut self, most: usize) -> Turn {
        self.lanes.show_none();
        if self.log.as_ref().is_some_and(LogSide::is_opening) {
            // What is in the log goes first, and is not known yet.
            return if self.closed { Turn::End } else { Turn::Wait };
        }
        if self.is_low()
            && let Some(from) = self.log.as_ref().and_then(LogSide::next_in_memory)
        {
            self.fetched(from, Vec::new());
        }
        let lane = self.next_lane();
        if self.is_done() {
            return Turn::End;
        }
        let Some(first) = self.lanes.front(lane) else { return Turn::Wait };
        let is_historical = self.is_late(first);
        let every = self.limits.drain_every;
        let count = match every.filter(|_| is_historical) {
            None => most,
            Some(every) => match self.pace.may_go(every, most) {
                Ok(count) => count,
                Err(until) => return Turn::Until(until),
            },
        };
        let entries = self.lanes.entries(lane).take(count);
        let same =
            entries.take_while(|entry| every.is_none() || self.is_late(entry) == is_historical);
        let batch: Vec<Message> = same.map(|entry| entry.show(self.is_late(entry))).collect();
        if let Some(every) = every.filter(|_| is_historical) {
            self.pace.went(every, batch.len());
        }
        self.lanes.show(lane, batch.len());
        Turn::Write(batch)
    }

    /// Shows up to `most` more, behind what is shown, as long as it is their turn. None when the reader is
    /// to end and ask anew: for what goes first, what is too old, and what goes at a pace.
    pub fn turn_more(&mut self, most: usize) -> Vec<Message> {
        let lane = self.lanes.shown_lane();
        if self.next_lane() != lane || self.limits.drain_every.is_some() {
            return Vec::new();
        }
        if self.is_low()
            && let Some(from) = self.log.as_ref().and_then(LogSide::next_in_memory)
        {
            self.fetched(from, Vec::new());
        }
        let (shown, age) = (self.lanes.shown_in(lane), Age::of(&self.limits));
        let is_old = |entry: &Entry| age.as_ref().is_some_and(|age| age.is_too_old(entry));
        let entries = self.lanes.entries(lane).skip(shown).take(most);
        let entries = entries.take_while(|entry| !is_old(entry));
        let more: Vec<Message> = entries.map(|entry| entry.show(self.is_late(entry))).collect();
        self.lanes.show(lane, shown + more.len());
        more
    }

    fn next_lane(&self) -> Lane {
        match self.limits.order {
            Order::LiveFirst if self.lanes.is_empty(Lane::Live) => Lane::Waited,
            // Something waits there only after the order was changed.
            Order::Fifo if !self.lanes.is_empty(Lane::Waited) => Lane::Waited,
            _ => Lane::Live,
        }
    }

    /// Whether the queue was closed, and what is left needs no reader: the next start goes on with
    /// what is in the log and cannot be delivered at once.
    pub fn is_done(&self) -> bool {
        let can_wait = |first: &Entry| first.seq.is_some() && self.is_late(first);
        self.closed && self.lanes.front(self.next_lane()).is_none_or(can_wait)
    }

    /// Whether a message waited for the link, or would if it were sent now.
    fn is_late(&self, entry: &Entry) -> bool {
        entry.is_historical || self.is_suspect
    }

    /// Whether waiting can bring a reader more than it would be shown now.
    pub fn can_grow_to(&self, most: usize) -> bool {
        let has_room =
            !self.is_full() && (!self.is_logging() || self.lanes.size_bytes() < WINDOW_BYTES);
        !self.closed && self.lanes.len_of(Lane::Live) < most && has_room
    }

    /// Takes out the first `count` of the messages that are shown; the rest stays shown. The caller owes
    /// the deliveries that come with them.
    pub fn release(&mut self, count: usize) -> Vec<Envelope> {
        let lane = self.lanes.shown_lane();
        let mut released = Vec::with_capacity(count);
        for _ in 0..count {
            let Some(entry) = self.lanes.pop_front(lane) else { break };
            released.push(self.settle_entry(entry));
        }
        self.lanes.show(lane, self.lanes.shown_in(lane).saturating_sub(count));
        if let Some(log) = &mut self.log {
            log.forget_delivered();
        }
        self.stop_spilling();
        released
    }

    /// Nothing is being written any more.
    pub fn show_none(&mut self) {
        self.lanes.show_none();
    }

    /// Whether the first message that is shown may be let go now. When it is on its way to the log or
    /// there, the disk has to know first; it is asked to.
    pub fn may_let_go(&mut self) -> bool {
        let first = self.lanes.front(self.lanes.shown_lane());
        let numbered = first.and_then(|first| Some((first.seq?, first.message.clone())));
        match (numbered, &mut self.log) {
            (Some((seq, message)), Some(log)) => log.may_let_go(seq, message),
            _ => true,
        }
    }

    /// The write that was about to begin did not.
    fn take_back(&mut self) {
        for entry in self.lanes.all_mut().filter(|entry| entry.is_let_go) {
            entry.is_let_go = false;
            if let Some(log) = &mut self.log {
                log.doubt_is_over();
            }
        }
    }

    /// What was let go is the first again: nothing happened.
    pub fn put_back(&mut self, message: Message) {
        self.doubt_is_over();
        let lane = self.next_lane();
        self.lanes.push_front(lane, Entry::new(message, Instant::now()));
    }

    /// The message that was let go is in doubt no longer.
    pub fn doubt_is_over(&mut self) {
        if let Some(log) = &mut self.log {
            log.doubt_is_over();
        }
    }

    /// Drops what waited longer than it may; returns how many.
    pub fn drop_expired(&mut self) -> usize {
        let Some(age) = Age::of(&self.limits) else { return 0 };
        let is_old = |entry: &Entry| age.is_too_old(entry);
        let mut dropped = 0;
        for lane in [Lane::Live, Lane::Waited] {
            // Held ones are being written, and the rest comes after them.
            while self.lanes.shown_in(lane) == 0 && self.lanes.front(lane).is_some_and(is_old) {
                let Some(entry) = self.lanes.pop_front(lane) else { break };
                Delivery::settle_all(self.settle_entry(entry).delivery);
                dropped += 1;
            }
        }
        dropped
    }

    /// Drops all that waits, but for what is being written. What is only in the log goes as it is read. Returns how many.
    pub fn drop_waiting(&mut self) -> usize {
        let before = self.len();
        for entry in self.lanes.take_unless(|_| false) {
            Delivery::settle_all(self.settle_entry(entry).delivery);
        }
        let left = self.lanes.len();
        if let Some(log) = &mut self.log {
            log.drop_waiting();
            log.forget_delivered();
        }
        self.stop_spilling();
        before - left
    }

    /// A write or a connect failed.
    pub fn link_failed(&mut self) {
        self.lanes.show_none();
        let was_suspect = std::mem::replace(&mut self.is_suspect, true);
        if !was_suspect && self.limits.order == Order::LiveFirst {
            self.set_aside();
        }
        self.log_if_due();
    }

    /// Something was delivered.
    pub fn link_works(&mut self) {
        if !std::mem::replace(&mut self.is_suspect, false) {
            return;
        }
        for entry in self.lanes.all_mut() {
            entry.is_historical = true;
        }
        if let Some(log) = &mut self.log {
            log.is_historical_now();
        }
        self.stop_spilling();
    }

    /// What is in the live lane is no longer live. What the log has, it gives back in its turn.
    fn set_aside(&mut self) {
        self.lanes.set_aside();
        let Some(log) = &mut self.log else { return };
        for entry in self.lanes.take_unless(|entry| entry.seq.is_none()) {
            if let Some(seq) = entry.seq {
                log.leave(seq);
            }
        }
    }

    /// Whether a message that comes now gets a number.
    fn is_logging(&self) -> bool {
        let Some(log) = self.log.as_ref().filter(|log| log.is_open()) else { return false };
        match self.limits.store {
            Store::Disk => true,
            Store::Spill => log.is_spilling,
            // The store was changed: what is in the log goes first.
            Store::Memory => log.only_in_log > 0,
        }
    }

    fn only_in_log(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.only_in_log)
    }

    /// Gives a number to what has none, when it is time for that.
    pub fn log_if_due(&mut self) {
        let crowded = self.lanes.size_bytes() as u64 >= SPILL_BYTES / 2;
        let is_slow = self.lanes.fronts().any(|entry| entry.since.elapsed() >= SUSPECT_AFTER);
        let (suspect, is_full) = (self.is_suspect, self.is_full());
        let Some(log) = self.log.as_mut().filter(|log| log.is_open()) else { return };
        match self.limits.store {
            Store::Disk => (),
            Store::Spill if suspect || crowded || is_slow || is_full || log.only_in_log > 0 => {
                log.is_spilling = true;
            }
            Store::Spill | Store::Memory => return,
        }
        self.log_all();
    }

    /// Gives a number to everything that has none.
    pub fn log_all(&mut self) {
        let Some(log) = self.log.as_mut().filter(|log| log.is_open()) else { return };
        for entry in self.lanes.all_mut() {
            if entry.seq.is_none() && !entry.is_let_go {
                let (message, delivery) = (entry.message.clone(), entry.delivery.take());
                entry.seq = Some(log.number(message, delivery, entry.since));
            }
        }
    }

    /// `store: spill` goes back to memory once nothing is left that is only in the log.
    fn stop_spilling(&mut self) {
        let suspect = self.is_suspect;
        if let Some(log) = &mut self.log
            && !suspect
            && log.only_in_log == 0
        {
            log.is_spilling = false;
        }
    }

    /// An entry that leaves for good.
    fn settle_entry(&mut self, entry: Entry) -> Envelope {
        let owed = match (entry.seq, &mut self.log) {
            (Some(seq), Some(log)) => log.deliver(seq),
            _ => None,
        };
        let delivery = entry.delivery.or(owed);
        Envelope { message: entry.message, delivery, began: entry.began }
    }

    /// Drops the oldest message that is not being written. False when there is none.
    fn drop_oldest(&mut self) -> bool {
        if self.is_logging() {
            // The log drops its oldest file by itself; here only what it does not take.
            let Some(seq) = self.log.as_mut().and_then(LogSide::drop_unwritten) else {
                return false;
            };
            self.lanes.drop_numbered(&(seq..seq + 1));
            return true;
        }
        let oldest = self.lanes.take_oldest();
        let dropped_any = oldest.is_some();
        Delivery::settle_all(oldest.and_then(|entry| entry.delivery));
        dropped_any
    }
}

/// What the task behind the queue asks and tells.
impl Queue {
    /// What is to be done on disk, and when.
    pub fn due(&mut self, finishing: bool) -> Due {
        if finishing {
            self.take_back();
            self.log_all();
        }
        self.log_if_due();
        let hungry = self.is_low() && !self.closed;
        let looks_again = self.oldest().map(|since| since + SUSPECT_AFTER);
        let may_spill = self.limits.store == Store::Spill && !self.is_logging();
        let Some(log) = &mut self.log else { return Due::Never };
        let spills = may_spill && log.is_open();
        match log.due(&self.limits, hungry, finishing) {
            Due::Finished => {
                log.forget_looks();
                Due::Finished
            }
            Due::Now(mut job) => {
                job.in_lanes = self.lanes.numbers();
                Due::Now(job)
            }
            Due::Never if spills => looks_again.map_or(Due::Never, Due::At),
            Due::At(at) if spills => Due::At(looks_again.map_or(at, |looks| looks.min(at))),
            due => due,
        }
    }

    /// Whether the lanes have room for what is elsewhere.
    fn is_low(&self) -> bool {
        match self.limits.order {
            Order::Fifo => self.lanes.size_bytes() < WINDOW_BYTES / 2,
            Order::LiveFirst => self.lanes.is_empty(Lane::Waited),
        }
    }

    /// The log was opened, and holds this.
    pub fn opened(&mut self, opened: Opened) {
        let Some(log) = &mut self.log else { return };
        log.open(opened);
        let is_behind = log.only_in_log > 0 && self.limits.order == Order::Fifo;
        if log.only_in_log > 0 {
            log.is_spilling = true;
        }
        if is_behind || self.limits.store == Store::Disk {
            self.log_all();
        }
        if is_behind {
            // What came meanwhile comes after what is in the log.
            let Some(log) = &mut self.log else { return };
            for entry in self.lanes.take_live() {
                if let Some(seq) = entry.seq {
                    log.leave(seq);
                }
            }
        }
    }

    /// The log could not be opened; memory has to do until it is tried again.
    pub fn open_failed(&mut self) {
        if let Some(log) = &mut self.log {
            log.open_failed();
        }
    }

    /// A job ended. Returns how many messages were dropped for it.
    pub fn done(&mut self, done: Done) -> u64 {
        let Some(log) = &mut self.log else { return 0 };
        if let Some(seq) = log.done(&done) {
            // From now on it is in memory alone.
            if let Some(entry) = self.lanes.all_mut().find(|entry| entry.seq == Some(seq)) {
                entry.delivery = entry.delivery.take().or_else(|| log.deliver(seq));
                (entry.seq, entry.is_let_go) = (None, true);
            }
        }
        if let Some(opened) = &done.reopened {
            // The log gets them anew.
            let is_only_here = |seq: u64| opened.only_in_lanes.contains(seq);
            let only_here = |entry: &&mut Entry| entry.seq.is_some_and(is_only_here);
            self.lanes.all_mut().filter(only_here).for_each(|entry| entry.seq = None);
            self.log_if_due();
        }
        let dropped = done.dropped_messages;
        for seqs in done.dropped {
            let from_lanes = self.lanes.drop_numbered(&seqs);
            if let Some(log) = &mut self.log {
                log.dropped(&seqs, from_lanes);
            }
        }
        if let Some((from, stored)) = done.fetched {
            self.fetched(from, stored);
        }
        self.stop_spilling();
        dropped
    }

    /// Messages come back from the log.
    fn fetched(&mut self, from: u64, stored: Vec<(u64, Message)>) {
        let Some(log) = &mut self.log else { return };
        let in_lane: HashSet<u64> = self.lanes.all().filter_map(|entry| entry.seq).collect();
        let came = log.fetched(from, stored, &in_lane);
        let lane = match self.limits.order {
            Order::Fifo => Lane::Live,
            Order::LiveFirst => Lane::Waited,
        };
        let since = Instant::now();
        for (seq, message, is_historical) in came {
            let entry = Entry { seq: Some(seq), is_historical, ..Entry::new(message, since) };
            self.lanes.push_back(lane, entry);
        }
    }

    fn oldest(&self) -> Option<Instant> {
        let unlogged = self.lanes.fronts().filter(|entry| entry.seq.is_none());
        unlogged.map(|entry| entry.since).min()
    }
}
