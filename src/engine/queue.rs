//! What waits in front of a node: the rules, without tasks, files or waiting.
//!
//! Messages stand in lanes in memory. With a log behind it (`store: disk`, `store: spill`) each
//! also gets a number, goes to the log by way of `unwritten`, and may leave memory once the lanes
//! are full: then it is only in the log, and read back when its turn comes. A promise of delivery
//! is kept as soon as its message is safe in the log or was delivered, whichever comes first.

mod log_side;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    ops::Range,
    time::Duration,
};

use forebay_sdk::{Delivery, Message, Timestamp, outlet::Envelope};
use tokio::time::Instant;

use self::log_side::LogSide;
pub use self::log_side::{Done, Due, Job, Opened};
use super::clock;
use crate::config::{Buffer, Order, Store, WhenFull};

/// What the lanes may hold of messages that are in the log too.
const WINDOW_BYTES: usize = 512 << 10;
/// What `store: spill` keeps in memory.
const SPILL_BYTES: u64 = 4 << 20;
/// A message that waits longer in memory casts doubt on the link.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(5);
/// What waited goes out in bursts no longer than this.
const BURST: Duration = Duration::from_millis(100);

/// The messages in front of one node.
pub struct Queue {
    limits: Buffer,
    /// In the order in which they came. With `order: fifo`, everything that is in memory.
    live: VecDeque<Entry>,
    /// With `order: live_first`: what waited for the link. It goes when `live` is empty.
    waited: VecDeque<Entry>,
    held: Held,
    /// Of both lanes.
    size_bytes: usize,
    closed: bool,
    /// The link failed, and nothing was delivered since.
    is_suspect: bool,
    /// When the next message that waited may go.
    next_drain: Option<Instant>,
    log: Option<LogSide>,
}

/// How many messages at the front of a lane are being written right now. They are not dropped for
/// newer ones.
#[derive(Clone, Copy, Default)]
struct Held {
    lane: Lane,
    count: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Lane {
    #[default]
    Live,
    Waited,
}

struct Entry {
    message: Message,
    /// None when nobody wants to know, or when the log has taken over the promise.
    delivery: Option<Delivery>,
    /// Its number in the log.
    seq: Option<u64>,
    since: Instant,
    /// It waited while the link was down.
    is_historical: bool,
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

impl Queue {
    pub fn new() -> Queue {
        Queue {
            limits: Buffer::default(),
            live: VecDeque::new(),
            waited: VecDeque::new(),
            held: Held::default(),
            size_bytes: 0,
            closed: false,
            is_suspect: false,
            next_drain: None,
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
    pub fn push(&mut self, envelope: Envelope) -> Pushed {
        let mut outcome = Pushed::Taken;
        if self.limits.store == Store::Spill {
            self.log_if_due();
        }
        while self.is_full() {
            match self.limits.when_full {
                WhenFull::Block => return Pushed::Full(envelope),
                WhenFull::DropNewest => {
                    // Dropped by the author's wish, so the promise is kept.
                    envelope.delivery.into_iter().for_each(Delivery::settle);
                    return Pushed::DroppedNewest;
                }
                WhenFull::DropOldest => match self.drop_oldest() {
                    true => outcome = Pushed::DroppedOldest,
                    // Everything that waits is being written.
                    false => return Pushed::Full(envelope),
                },
            }
        }
        self.accept(envelope);
        outcome
    }

    fn accept(&mut self, envelope: Envelope) {
        let Envelope { message, delivery } = envelope;
        let since = Instant::now();
        let waits = self.is_suspect && self.limits.order == Order::LiveFirst;
        if !self.is_logging() {
            let entry = Entry { message, delivery, seq: None, since, is_historical: false };
            self.enter(if waits { Lane::Waited } else { Lane::Live }, entry);
            return;
        }
        let has_room = self.size_bytes < WINDOW_BYTES;
        let is_next = self.limits.order == Order::LiveFirst || self.only_in_log() == 0;
        let log = self.log.as_mut().expect("is_logging says so");
        let seq = log.number(message.clone(), delivery, since);
        if has_room && is_next && !waits {
            let entry =
                Entry { message, delivery: None, seq: Some(seq), since, is_historical: false };
            self.enter(Lane::Live, entry);
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
                let count = self.live.len() + self.waited.len();
                count >= self.limits.max_messages as usize
                    || (self.size_bytes as u64 >= most_bytes && count > 0)
            }
        }
    }

    /// Takes the first message, for a reader that handles it at once.
    pub fn pop(&mut self) -> Option<Envelope> {
        let entry = self.live.pop_front()?;
        self.size_bytes = self.size_bytes.saturating_sub(entry.message.size_bytes());
        Some(Envelope { message: entry.message, delivery: entry.delivery })
    }

    /// Whether [`Queue::pop`] would give one.
    pub fn has_next(&self) -> bool {
        !self.live.is_empty()
    }

    /// Whether there is a log behind it.
    pub fn has_log(&self) -> bool {
        self.log.is_some()
    }

    /// How many messages wait, in memory and in the log.
    pub fn len(&self) -> usize {
        self.live.len() + self.waited.len() + usize::try_from(self.only_in_log()).unwrap_or(0)
    }

    /// How many would be gone with the program.
    pub fn unsafe_len(&self) -> usize {
        let unlogged = self.live.iter().chain(&self.waited).filter(|entry| entry.seq.is_none());
        unlogged.count() + self.log.as_ref().map_or(0, LogSide::unwritten)
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
        self.held = Held::default();
        if self.log.as_ref().is_some_and(LogSide::is_opening) {
            // What is in the log goes first, and is not known yet.
            return if self.closed { Turn::End } else { Turn::Wait };
        }
        let lane = self.next_lane();
        if self.is_done() {
            return Turn::End;
        }
        let Some(first) = self.lane(lane).front() else { return Turn::Wait };
        let is_historical = self.is_late(first);
        let count = match (self.limits.drain_every, is_historical) {
            (Some(every), true) => match self.paced(every, most) {
                Ok(count) => count,
                Err(until) => return Turn::Until(until),
            },
            _ => most,
        };
        let paces = self.limits.drain_every.is_some();
        let entries = self.lane(lane).iter().take(count);
        let same = entries.take_while(|entry| !paces || self.is_late(entry) == is_historical);
        let batch: Vec<Message> = same.map(|entry| entry.show(self.is_late(entry))).collect();
        if let (Some(every), true) = (self.limits.drain_every, is_historical) {
            let from = self.next_drain.unwrap_or_else(Instant::now);
            self.next_drain = Some(from + every * u32::try_from(batch.len()).unwrap_or(u32::MAX));
        }
        self.held = Held { lane, count: batch.len() };
        Turn::Write(batch)
    }

    fn next_lane(&self) -> Lane {
        match self.limits.order {
            Order::LiveFirst if self.live.is_empty() => Lane::Waited,
            // Something waits there only after the order was changed.
            Order::Fifo if !self.waited.is_empty() => Lane::Waited,
            _ => Lane::Live,
        }
    }

    /// Whether the queue was closed, and what is left needs no reader: the next start goes on with
    /// what is in the log and cannot be delivered at once.
    pub fn is_done(&self) -> bool {
        let can_wait = |first: &Entry| first.seq.is_some() && self.is_late(first);
        self.closed && self.lane(self.next_lane()).front().is_none_or(can_wait)
    }

    /// Whether a message waited for the link, or would if it were sent now.
    fn is_late(&self, entry: &Entry) -> bool {
        entry.is_historical || self.is_suspect
    }

    /// How many messages that waited may go now, or when the next may.
    fn paced(&mut self, every: Duration, most: usize) -> Result<usize, Instant> {
        let now = Instant::now();
        if let Some(next) = self.next_drain.filter(|next| *next > now) {
            return Err(next);
        }
        self.next_drain = Some(now);
        let burst = BURST.as_nanos() / every.as_nanos().max(1);
        Ok(usize::try_from(burst).unwrap_or(most).clamp(1, most))
    }

    /// Whether waiting can bring a reader more than it would be shown now.
    pub fn can_grow_to(&self, most: usize) -> bool {
        let has_room = !self.is_full() && (!self.is_logging() || self.size_bytes < WINDOW_BYTES);
        !self.closed && self.live.len() < most && has_room
    }

    /// Takes out the first `count` of the messages that are shown. The caller owes the deliveries
    /// that come with them.
    pub fn release(&mut self, count: usize) -> Vec<Envelope> {
        let lane = self.held.lane;
        let mut released = Vec::with_capacity(count);
        for _ in 0..count {
            let Some(entry) = self.lane_mut(lane).pop_front() else { break };
            released.push(self.settle_entry(entry));
        }
        self.held = Held::default();
        if let Some(log) = &mut self.log {
            log.forget_delivered();
        }
        self.stop_spilling();
        released
    }

    /// Drops what waited longer than it may; returns how many.
    pub fn drop_expired(&mut self) -> usize {
        let Buffer { max_age, expires_after, .. } = self.limits;
        if max_age.is_none() && expires_after.is_none() {
            return 0;
        }
        let (now, wall) = (Instant::now(), Timestamp::now());
        let is_old = |entry: &Entry| {
            let waited = now.saturating_duration_since(entry.since);
            max_age.is_some_and(|most| waited > most)
                || expires_after.is_some_and(|most| clock::age(entry.message.time, wall) > most)
        };
        let mut dropped = 0;
        for lane in [Lane::Live, Lane::Waited] {
            // Held ones are being written, and the rest comes after them.
            while self.held_in(lane) == 0 && self.lane(lane).front().is_some_and(is_old) {
                let Some(entry) = self.lane_mut(lane).pop_front() else { break };
                self.settle_entry(entry).delivery.into_iter().for_each(Delivery::settle);
                dropped += 1;
            }
        }
        dropped
    }

    /// A write or a connect failed.
    pub fn link_failed(&mut self) {
        self.held = Held::default();
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
        self.live.iter_mut().chain(&mut self.waited).for_each(|entry| entry.is_historical = true);
        if let Some(log) = &mut self.log {
            log.is_historical_now();
        }
        self.stop_spilling();
    }

    /// What is in the live lane is no longer live.
    fn set_aside(&mut self) {
        let mut left = VecDeque::new();
        for entry in std::mem::take(&mut self.waited).into_iter().chain(self.live.drain(..)) {
            match (entry.seq, &mut self.log) {
                (Some(seq), Some(log)) => {
                    self.size_bytes = self.size_bytes.saturating_sub(entry.message.size_bytes());
                    log.leave(seq);
                }
                _ => left.push_back(entry),
            }
        }
        self.waited = left;
    }

    /// Whether a message that comes now gets a number.
    fn is_logging(&self) -> bool {
        let Some(log) = self.log.as_ref().filter(|log| log.is_open) else { return false };
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
        let crowded = self.size_bytes as u64 >= SPILL_BYTES / 2;
        let first = self.live.front().into_iter().chain(self.waited.front());
        let is_slow = first.map(|entry| entry.since.elapsed()).max() >= Some(SUSPECT_AFTER);
        let (suspect, is_full) = (self.is_suspect, self.is_full());
        let Some(log) = self.log.as_mut().filter(|log| log.is_open) else { return };
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
        let Some(log) = self.log.as_mut().filter(|log| log.is_open) else { return };
        for entry in self.waited.iter_mut().chain(&mut self.live) {
            if entry.seq.is_none() {
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

    fn enter(&mut self, lane: Lane, entry: Entry) {
        self.size_bytes += entry.message.size_bytes();
        self.lane_mut(lane).push_back(entry);
    }

    /// An entry that leaves for good.
    fn settle_entry(&mut self, entry: Entry) -> Envelope {
        self.size_bytes = self.size_bytes.saturating_sub(entry.message.size_bytes());
        let owed = match (entry.seq, &mut self.log) {
            (Some(seq), Some(log)) => log.deliver(seq),
            _ => None,
        };
        Envelope { message: entry.message, delivery: entry.delivery.or(owed) }
    }

    /// Drops the oldest message that is not being written. False when there is none.
    fn drop_oldest(&mut self) -> bool {
        if self.is_logging() {
            // The log drops its oldest file by itself; here only what it does not take.
            let Some(seq) = self.log.as_mut().and_then(LogSide::drop_unwritten) else {
                return false;
            };
            self.drop_numbered(seq..seq + 1);
            return true;
        }
        for lane in [Lane::Waited, Lane::Live] {
            let held = self.held_in(lane);
            if let Some(entry) = self.lane_mut(lane).remove(held) {
                self.size_bytes = self.size_bytes.saturating_sub(entry.message.size_bytes());
                entry.delivery.into_iter().for_each(Delivery::settle);
                return true;
            }
        }
        false
    }

    /// Forgets messages that are no longer in the log; what is being written goes on.
    fn drop_numbered(&mut self, seqs: Range<u64>) {
        for lane in [Lane::Live, Lane::Waited] {
            let held = self.held_in(lane);
            let mut index = 0;
            let mut freed = 0;
            self.lane_mut(lane).retain(|entry| {
                index += 1;
                let stays = index <= held || !entry.seq.is_some_and(|seq| seqs.contains(&seq));
                freed += if stays { 0 } else { entry.message.size_bytes() };
                stays
            });
            self.size_bytes = self.size_bytes.saturating_sub(freed);
        }
    }

    fn held_in(&self, lane: Lane) -> usize {
        if self.held.lane == lane { self.held.count } else { 0 }
    }

    fn lane(&self, lane: Lane) -> &VecDeque<Entry> {
        match lane {
            Lane::Live => &self.live,
            Lane::Waited => &self.waited,
        }
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut VecDeque<Entry> {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Waited => &mut self.waited,
        }
    }
}

/// What the task behind the queue asks and tells.
impl Queue {
    /// What is to be done on disk, and when.
    pub fn due(&mut self, finishing: bool) -> Due {
        if finishing {
            self.log_all();
        }
        self.log_if_due();
        let is_low = match self.limits.order {
            Order::Fifo => self.size_bytes < WINDOW_BYTES / 2,
            Order::LiveFirst => self.waited.is_empty(),
        };
        let hungry = is_low && !self.closed;
        let looks_again = self.oldest().map(|since| since + SUSPECT_AFTER);
        let may_spill = self.limits.store == Store::Spill && !self.is_logging();
        let Some(log) = &mut self.log else { return Due::Never };
        let spills = may_spill && log.is_open;
        match log.due(&self.limits, hungry, finishing) {
            Due::Never if spills => looks_again.map_or(Due::Never, Due::At),
            Due::At(at) if spills => Due::At(looks_again.map_or(at, |looks| looks.min(at))),
            due => due,
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
            let held = self.held_in(Lane::Live).min(self.live.len());
            for entry in self.live.drain(held..) {
                self.size_bytes = self.size_bytes.saturating_sub(entry.message.size_bytes());
                if let (Some(log), Some(seq)) = (&mut self.log, entry.seq) {
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
        log.done(&done);
        let dropped = done.dropped_messages;
        for seqs in done.dropped {
            let before = self.live.len() + self.waited.len();
            self.drop_numbered(seqs.clone());
            let from_lanes = before - self.live.len() - self.waited.len();
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
        let in_lane = self.live.iter().chain(&self.waited).filter_map(|entry| entry.seq);
        let in_lane: HashSet<u64> = in_lane.collect();
        let came = log.fetched(from, stored, &in_lane);
        let lane = match self.limits.order {
            Order::Fifo => Lane::Live,
            Order::LiveFirst => Lane::Waited,
        };
        let since = Instant::now();
        for (seq, message, is_historical) in came {
            let entry = Entry { message, delivery: None, seq: Some(seq), since, is_historical };
            self.enter(lane, entry);
        }
    }

    fn oldest(&self) -> Option<Instant> {
        let first = self.live.front().into_iter().chain(self.waited.front());
        first.filter(|entry| entry.seq.is_none()).map(|entry| entry.since).min()
    }
}

impl Entry {
    /// As a sink sees it.
    fn show(&self, is_historical: bool) -> Message {
        let mut message = self.message.clone();
        message.time = clock::restamped(message.time);
        if is_historical {
            message.meta.insert("historical", true);
        }
        message
    }
}
