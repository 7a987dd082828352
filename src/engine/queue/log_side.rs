//! What a queue knows about the log behind it: what is on its way there, and what is only there.

use std::{
    collections::{HashSet, VecDeque},
    io,
    ops::Range,
    time::Duration,
};

use forebay_sdk::{Delivery, Message, SyncPolicy};
use tokio::{sync::oneshot, time::Instant};

use super::super::buffer::Ranges;
use crate::config::{Buffer, WhenFull};

/// What may be on its way to the log.
const UNWRITTEN_BYTES: usize = 1 << 20;
/// What is worth a commit before its time: about as many bytes as make a commit's own few blocks
/// matter little, and as many messages as a source usually has in flight.
const COMMIT_BYTES: usize = 64 << 10;
const COMMIT_MESSAGES: usize = 100;
/// The most in one commit.
const MOST_COMMIT_BYTES: usize = 256 << 10;
/// What is read back at once.
const FETCH_BYTES: usize = 128 << 10;
/// With `sync: never`, how long writes are collected.
const COLLECT: Duration = Duration::from_millis(100);
/// How often the log learns what was delivered, and how late at least: after a crash, what it has not
/// learned is delivered once more. There is flash on which each time is a write.
const TELL_EVERY: Duration = Duration::from_millis(250);
const TELL_SOON: Duration = Duration::from_millis(50);
/// So many messages are worth telling of at once.
const TELL_MESSAGES: u64 = 100;
/// How often the log is asked for what is too old.
const AGE_CHECKS: u32 = 16;
const SHORTEST_AGE_CHECK: Duration = Duration::from_secs(1);
/// How long a disk that failed is left alone.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What the queue knows about the log behind it.
#[derive(Default)]
pub(super) struct LogSide {
    state: State,
    /// When the disk is tried again, which does not take anything for now.
    write_again_at: Option<Instant>,
    /// The same, for what it does not give back.
    read_again_at: Option<Instant>,
    /// `store: spill`: the link is suspect, or has not caught up yet.
    pub is_spilling: bool,
    next_seq: u64,
    /// On their way to the log, by number.
    unwritten: VecDeque<Unwritten>,
    /// How many of them are being written.
    writing: usize,
    unwritten_bytes: usize,
    /// What the log takes on disk, and how many messages it holds.
    stored_bytes: u64,
    stored_messages: u64,
    /// How many messages are in the log (or on their way) and not in a lane.
    pub only_in_log: u64,
    /// Where the next of them is to be looked for.
    read_from: u64,
    /// The disk did not give these back. They come as soon as it does; what is in memory goes on.
    stranded: Option<Stranded>,
    /// What has a smaller number waited while the link was down.
    historical_below: u64,
    /// What has a smaller number, and is in no lane, is dropped when it comes back.
    dropped_below: u64,
    /// Delivered, and the log has not been told.
    acknowledged: Vec<Range<u64>>,
    /// How many these are, when it is to be told, and when it was told last.
    untold: u64,
    tell_at: Option<Instant>,
    told_at: Option<Instant>,
    next_age_check: Option<Instant>,
    /// A message that must not be written twice by its sink, on its way from the queue into doubt.
    letting_go: Option<LettingGo>,
    /// The disk has it as one in doubt, and it no longer is.
    doubt_is_over: bool,
    /// A write failed, and the log may have what has a smaller number although it was to be written.
    perhaps_written_below: u64,
    /// Who wants to see what is in the log.
    looks: VecDeque<Look>,
}

/// A part of the backlog that cannot be read for now.
struct Stranded {
    from: u64,
    count: u64,
    /// What the log took on disk then.
    bytes: u64,
}

/// Whether the log is there.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// It has not told yet what it holds.
    #[default]
    Opening,
    /// It could not be opened so far; memory does what it can.
    Broken,
    Open,
}

/// A message that is being let go.
struct LettingGo {
    seq: u64,
    message: Message,
    step: Step,
}

/// How far the disk has come with a message that is let go.
#[derive(PartialEq, Eq)]
enum Step {
    Asked,
    UnderWay,
    /// It has it as one in doubt; or it fails, and memory does what it can.
    Done,
}

struct Unwritten {
    seq: u64,
    message: Message,
    delivery: Option<Delivery>,
    since: Instant,
    is_delivered: bool,
}

/// What an opened log holds.
pub struct Opened {
    pub first: Option<u64>,
    pub next_seq: u64,
    pub messages: u64,
    pub bytes: u64,
    /// What it had before and the lanes have still.
    pub only_in_lanes: Ranges,
}

/// Work for the disk, in this order.
#[derive(Default)]
pub struct Job {
    /// Messages from this number on are in memory, whatever happens to the disk.
    pub in_memory: u64,
    /// So are these, which are in the log too.
    pub in_lanes: Ranges,
    /// What was delivered.
    pub acknowledged: Vec<Range<u64>>,
    /// What waits longer is dropped.
    pub drop_older: Option<Duration>,
    /// What is to be appended.
    pub write: Vec<(u64, Message)>,
    /// What was in doubt no longer is.
    pub doubt_is_over: bool,
    /// Is in doubt from now on, and delivered as far as the log is concerned. Safe before this job
    /// ends.
    pub let_go: Option<(u64, Message)>,
    /// Where to read on, and how many bytes.
    pub fetch: Option<(u64, usize)>,
    /// What is to be shown.
    pub look: Option<Look>,
}

/// Somebody wants to see messages of the log: from this number on, about so many bytes. They stay there.
pub struct Look {
    pub from: u64,
    pub bytes: usize,
    pub tell: oneshot::Sender<io::Result<Vec<(u64, Message)>>>,
}

/// When there is work.
pub enum Due {
    Now(Box<Job>),
    At(Instant),
    /// When something changes.
    Never,
    /// Everything is written, and nothing more will come.
    Finished,
}

/// How a job ended.
#[derive(Default)]
pub struct Done {
    /// What was to be appended was not; nor was the rest told.
    pub write_failed: Option<io::Error>,
    pub read_failed: Option<io::Error>,
    /// The log had to be opened anew, and holds this now.
    pub reopened: Option<Opened>,
    pub dropped: Vec<Range<u64>>,
    pub dropped_messages: u64,
    /// Of these, those that were too old.
    pub expired_messages: u64,
    /// From where it was read, and what came.
    pub fetched: Option<(u64, Vec<(u64, Message)>)>,
    pub stored_bytes: u64,
    pub stored_messages: u64,
}

impl LogSide {
    /// Nothing is known yet.
    pub fn is_opening(&self) -> bool {
        self.state == State::Opening
    }

    /// Whether it was opened, and takes messages.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// All that is not in a lane is to be dropped.
    pub fn drop_waiting(&mut self) {
        self.dropped_below = self.next_seq;
    }

    pub fn open(&mut self, opened: Opened) {
        self.state = State::Open;
        self.next_seq = opened.next_seq;
        self.historical_below = opened.next_seq;
        self.only_in_log = opened.messages;
        self.read_from = opened.first.unwrap_or(opened.next_seq);
        self.stored_bytes = opened.bytes;
        self.stored_messages = opened.messages;
    }

    pub fn open_failed(&mut self) {
        self.state = State::Broken;
        self.forget_looks();
    }

    /// Nobody reads the log any more. Who waits for that hears so.
    pub fn forget_looks(&mut self) {
        self.looks.clear();
    }

    /// The log was opened anew. It may hold less than before.
    fn reopened(&mut self, opened: &Opened) {
        let in_memory = self.first_in_memory();
        self.stranded = None;
        self.read_from = opened.first.map_or(in_memory, |first| first.min(in_memory));
        // Some of it is in a lane. Too many is put right once there is nothing more to read.
        let unwritten = self.unwritten.iter().filter(|unwritten| !unwritten.is_delivered);
        self.only_in_log = opened.messages + unwritten.count() as u64;
    }

    /// What is not in the log yet and was not delivered.
    pub fn not_in_log(&self) -> impl Iterator<Item = (u64, &Message)> {
        let waits = self.unwritten.iter().filter(|unwritten| !unwritten.is_delivered);
        waits.map(|unwritten| (unwritten.seq, &unwritten.message))
    }

    /// Shows messages of the log. Whoever asks hears nothing when it is not there.
    pub fn look(&mut self, look: Look) {
        if self.is_open() {
            self.looks.push_back(look);
        }
    }

    /// The least number of which memory does not depend on the log.
    pub fn first_in_memory(&self) -> u64 {
        self.unwritten.front().map_or(self.next_seq, |first| first.seq)
    }

    /// How many messages are in the log (or on their way), not in a lane, and can be had.
    pub fn waiting(&self) -> u64 {
        self.only_in_log + self.stranded.as_ref().map_or(0, |stranded| stranded.count)
    }

    /// What the log takes on disk.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Where to read on in memory, when the next message that is not in a lane is still there. A disk
    /// that is slow or fails is not asked for it.
    pub fn next_in_memory(&self) -> Option<u64> {
        let is_there = self.only_in_log > 0 && self.read_from >= self.first_in_memory();
        is_there.then_some(self.read_from)
    }

    /// The log does not give back what comes next: what is in memory goes before it.
    fn strand(&mut self) {
        let in_memory = self.first_in_memory();
        if self.only_in_log == 0 || self.read_from >= in_memory {
            return;
        }
        let behind = self.unwritten.iter().filter(|unwritten| !unwritten.is_delivered).count();
        let count = self.only_in_log.saturating_sub(behind as u64);
        let (from, bytes) = (self.read_from, self.stored_bytes);
        self.stranded = Some(match self.stranded.take() {
            None => Stranded { from, count, bytes },
            Some(before) => Stranded { count: before.count + count, bytes, ..before },
        });
        self.only_in_log -= count;
        self.read_from = in_memory;
    }

    /// What came until now has waited.
    pub fn is_historical_now(&mut self) {
        self.historical_below = self.next_seq;
    }

    /// How many messages a crash would take.
    pub fn unwritten(&self) -> usize {
        self.unwritten.iter().filter(|unwritten| !unwritten.is_delivered).count()
    }

    /// How many of these nobody sends again.
    pub fn untracked(&self) -> usize {
        let is_untracked = |one: &&Unwritten| !one.is_delivered && one.delivery.is_none();
        self.unwritten.iter().filter(is_untracked).count()
    }

    /// Gives a message its number and sends it on its way to the log.
    pub fn number(&mut self, message: Message, delivery: Option<Delivery>, since: Instant) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.unwritten_bytes += message.size_bytes();
        let unwritten = Unwritten { seq, message, delivery, since, is_delivered: false };
        self.unwritten.push_back(unwritten);
        seq
    }

    /// A message with a number is not in a lane, or no longer.
    pub fn leave(&mut self, seq: u64) {
        self.read_from = match self.only_in_log {
            0 => seq,
            _ => self.read_from.min(seq),
        };
        self.only_in_log += 1;
    }

    pub fn is_full(&self, limits: &Buffer) -> bool {
        // What cannot be read must not keep others out. A disk that only takes is bounded all the same.
        let stranded = self.stranded.as_ref().map_or(0, |stranded| stranded.bytes);
        let takes = self.stored_bytes.saturating_sub(stranded) + self.unwritten_bytes as u64;
        // One message larger than the limit passes alone.
        let holds_any = self.stored_messages > 0 || !self.unwritten.is_empty();
        let has_no_room = takes >= limits.max_bytes && holds_any;
        let makes_room = limits.when_full == WhenFull::DropOldest;
        self.unwritten_bytes >= UNWRITTEN_BYTES || (has_no_room && !makes_room)
    }

    /// A message was delivered. Returns the promise if it is still owed.
    pub fn deliver(&mut self, seq: u64) -> Option<Delivery> {
        match self.unwritten.binary_search_by_key(&seq, |unwritten| unwritten.seq) {
            Ok(index) => {
                let unwritten = self.unwritten.get_mut(index)?;
                unwritten.is_delivered = true;
                unwritten.delivery.take()
            }
            Err(_) => {
                self.acknowledge(seq);
                None
            }
        }
    }

    fn acknowledge(&mut self, seq: u64) {
        let now = Instant::now();
        let soon = now + TELL_SOON;
        let next = self.told_at.map_or(soon, |told| (told + TELL_EVERY).max(soon));
        self.untold += 1;
        match self.untold < TELL_MESSAGES {
            true => _ = self.tell_at.get_or_insert(next),
            false => self.tell_at = Some(now),
        }
        match self.acknowledged.iter_mut().rev().find(|range| range.end == seq) {
            Some(range) => range.end += 1,
            None => self.acknowledged.push(seq..seq + 1),
        }
    }

    /// Whether a message that the log still gives back was delivered.
    fn is_delivered(&self, seq: u64) -> bool {
        let is_untold = self.acknowledged.iter().any(|range| range.contains(&seq));
        let unwritten = self.unwritten.binary_search_by_key(&seq, |unwritten| unwritten.seq);
        is_untold || unwritten.is_ok_and(|index| self.unwritten[index].is_delivered)
    }

    /// What was delivered before it was written need not be written.
    pub fn forget_delivered(&mut self) {
        while self.writing == 0 && self.unwritten.front().is_some_and(|first| first.is_delivered) {
            let seq = self.take_unwritten(0).map(|first| first.seq);
            // Or it would come once more after a restart.
            if let Some(seq) = seq.filter(|seq| *seq < self.perhaps_written_below) {
                self.acknowledge(seq);
            }
        }
    }

    /// Drops the oldest message that a failing disk does not take. None while the disk works.
    pub fn drop_unwritten(&mut self) -> Option<u64> {
        self.write_again_at?;
        let dropped = self.take_unwritten(self.writing)?;
        Delivery::settle_all(dropped.delivery);
        if dropped.seq >= self.read_from {
            self.only_in_log = self.only_in_log.saturating_sub(1);
        }
        Some(dropped.seq)
    }

    fn take_unwritten(&mut self, index: usize) -> Option<Unwritten> {
        let taken = self.unwritten.remove(index)?;
        self.unwritten_bytes = self.unwritten_bytes.saturating_sub(taken.message.size_bytes());
        Some(taken)
    }

    /// Whether the disk knows that this message is let go. Asks it to, if need be.
    pub fn may_let_go(&mut self, seq: u64, message: Message) -> bool {
        if !self.is_open() {
            return true;
        }
        match &self.letting_go {
            Some(one) if one.seq == seq => one.step == Step::Done,
            _ => {
                self.letting_go = Some(LettingGo { seq, message, step: Step::Asked });
                false
            }
        }
    }

    /// Nothing is in doubt any more.
    pub fn doubt_is_over(&mut self) {
        self.doubt_is_over = self.letting_go.take().is_some();
    }

    pub fn due(&mut self, limits: &Buffer, hungry: bool, finishing: bool) -> Due {
        let now = Instant::now();
        if !self.is_open() {
            return if finishing { Due::Finished } else { Due::Never };
        }
        self.forget_delivered();
        let write_at = self.write_at(limits, now, finishing).max(self.write_again_at);
        let write_at = write_at.filter(|_| !self.unwritten.is_empty());
        let tell_at = self.tell_at.map(|at| match finishing || self.is_crowded(limits) {
            true => now,
            false => at,
        });
        let age_at = limits.max_age.map(|_| *self.next_age_check.get_or_insert(now));
        let fetch_from = match (&self.stranded, self.next_in_memory()) {
            (Some(stranded), _) => Some(stranded.from),
            (None, None) if self.only_in_log > 0 => Some(self.read_from),
            (None, _) => None,
        };
        let fetch_from = fetch_from.filter(|_| hungry && !finishing);
        let fetch_at = fetch_from.map(|_| self.read_again_at.unwrap_or(now));
        let lets_go = self.letting_go.as_ref().is_some_and(|one| one.step == Step::Asked);
        let is_looked_at = !self.looks.is_empty();
        let at_once = (lets_go || self.doubt_is_over || is_looked_at).then_some(now);
        match [write_at, tell_at, age_at, fetch_at, at_once].into_iter().flatten().min() {
            Some(at) if at <= now => (),
            _ if finishing => return Due::Finished,
            Some(at) => return Due::At(at),
            None => return Due::Never,
        }
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let mut job = Box::new(Job {
            acknowledged: std::mem::take(&mut self.acknowledged),
            fetch: fetch_from.filter(|_| is_due(fetch_at)).map(|from| (from, FETCH_BYTES)),
            in_memory: self.first_in_memory(),
            look: self.looks.pop_front(),
            ..Job::default()
        });
        if self.tell_at.take().is_some() {
            (self.untold, self.told_at) = (0, Some(now));
        }
        if let (Some(age), true) = (limits.max_age, is_due(age_at)) {
            self.next_age_check = Some(now + (age / AGE_CHECKS).max(SHORTEST_AGE_CHECK));
            job.drop_older = Some(age);
        }
        job.doubt_is_over = std::mem::take(&mut self.doubt_is_over);
        // It is in the log before it is let go, so that the log knows which it was.
        let is_unwritten =
            |one: &LettingGo| self.unwritten.front().is_some_and(|first| first.seq <= one.seq);
        let writes_first = lets_go && self.letting_go.as_ref().is_some_and(is_unwritten);
        if is_due(write_at) || writes_first {
            job.write = self.next_write();
        }
        if let Some(one) = self.letting_go.as_mut().filter(|one| one.step == Step::Asked) {
            one.step = Step::UnderWay;
            job.let_go = Some((one.seq, one.message.clone()));
        }
        Due::Now(job)
    }

    /// When the first unwritten message is to be written.
    fn write_at(&self, limits: &Buffer, now: Instant, finishing: bool) -> Option<Instant> {
        let first = self.unwritten.front()?;
        let is_worth_it =
            self.unwritten_bytes >= COMMIT_BYTES || self.unwritten.len() >= COMMIT_MESSAGES;
        Some(match limits.sync {
            _ if finishing || is_worth_it => now,
            SyncPolicy::Always => now,
            SyncPolicy::Every(period) => first.since + period,
            SyncPolicy::Never => first.since + COLLECT,
        })
    }

    /// Whether somebody may be waiting for room that only the log can make.
    fn is_crowded(&self, limits: &Buffer) -> bool {
        self.stored_bytes + self.unwritten_bytes as u64 >= limits.max_bytes / 4 * 3
    }

    fn next_write(&mut self) -> Vec<(u64, Message)> {
        let mut bytes = 0;
        let fits = self.unwritten.iter().take_while(|unwritten| {
            let before = bytes;
            bytes += unwritten.message.size_bytes();
            before < MOST_COMMIT_BYTES
        });
        let write: Vec<_> = fits
            .map(|unwritten| {
                let mut message = unwritten.message.clone();
                message.restamp();
                (unwritten.seq, message)
            })
            .collect();
        self.writing = write.len();
        write
    }

    /// A job ended. Gives the number of the message that the disk has let go of with it.
    pub fn done(&mut self, done: &Done) -> Option<u64> {
        (self.stored_bytes, self.stored_messages) = (done.stored_bytes, done.stored_messages);
        let again_at =
            |failed: &Option<io::Error>| failed.as_ref().map(|_| Instant::now() + AGAIN_AFTER);
        // A job that did not try says nothing of the pause.
        if done.fetched.is_some() || done.read_failed.is_some() {
            self.read_again_at = again_at(&done.read_failed);
        }
        let let_go = self.letting_go.as_mut().filter(|one| one.step == Step::UnderWay).map(|one| {
            one.step = Step::Done;
            one.seq
        });
        let writing = std::mem::take(&mut self.writing);
        if let Some(opened) = &done.reopened {
            self.reopened(opened);
        }
        if done.read_failed.is_some() {
            self.strand();
        }
        if done.write_failed.is_some() {
            let last = writing.checked_sub(1).and_then(|last| self.unwritten.get(last));
            let end = last.map_or(0, |last| last.seq + 1);
            self.perhaps_written_below = self.perhaps_written_below.max(end);
            self.write_again_at = again_at(&done.write_failed);
            return let_go;
        }
        if writing > 0 {
            self.write_again_at = None;
        }
        for _ in 0..writing {
            let Some(written) = self.take_unwritten(0) else { break };
            Delivery::settle_all(written.delivery);
            if written.is_delivered {
                self.acknowledge(written.seq);
            }
        }
        let_go
    }

    /// Files of the log were dropped, with messages of which some were in a lane.
    pub fn dropped(&mut self, seqs: &Range<u64>, from_lanes: usize) {
        let gone = seqs.end.saturating_sub(seqs.start).saturating_sub(from_lanes as u64);
        self.only_in_log = self.only_in_log.saturating_sub(gone);
        self.read_from = self.read_from.max(seqs.end);
        if let Some(stranded) = &mut self.stranded {
            stranded.from = stranded.from.max(seqs.end);
        }
    }

    /// What came back from the log, if it is not in a lane already. Returns what goes into a lane
    /// now, each with whether it waited while the link was down.
    pub fn fetched(
        &mut self,
        from: u64,
        stored: Vec<(u64, Message)>,
        in_lane: &HashSet<u64>,
    ) -> Vec<(u64, Message, bool)> {
        if let Some(stranded) = self.stranded.take_if(|stranded| stranded.from == from) {
            self.read_from = from;
            self.only_in_log += stranded.count;
        }
        if from != self.read_from {
            // Overtaken by a drop, or by messages that left a lane.
            return Vec::new();
        }
        let stored = match stored.is_empty() {
            true => self.on_their_way(from),
            false => stored,
        };
        let Some((last, _)) = stored.last() else {
            // Skipped as corrupt, or counted twice.
            (self.only_in_log, self.read_from) = (0, self.next_seq);
            return Vec::new();
        };
        self.read_from = last + 1;
        // While it was read, some of it may have been delivered.
        let is_known = |seq: &u64| in_lane.contains(seq) || self.is_delivered(*seq);
        let fresh: Vec<_> = stored.into_iter().filter(|(seq, _)| !is_known(seq)).collect();
        let (dropped, fresh): (Vec<_>, Vec<_>) =
            fresh.into_iter().partition(|(seq, _)| *seq < self.dropped_below);
        self.only_in_log = self.only_in_log.saturating_sub(dropped.len() as u64);
        for (seq, _) in dropped {
            Delivery::settle_all(self.deliver(seq));
        }
        let below = self.historical_below;
        let fresh: Vec<_> =
            fresh.into_iter().map(|(seq, message)| (seq, message, seq < below)).collect();
        self.only_in_log = self.only_in_log.saturating_sub(fresh.len() as u64);
        fresh
    }

    /// What is not in the log yet.
    fn on_their_way(&self, from: u64) -> Vec<(u64, Message)> {
        let mut bytes = 0;
        let later = self.unwritten.iter().filter(|u| u.seq >= from && !u.is_delivered);
        let some = later.take_while(|unwritten| {
            let before = bytes;
            bytes += unwritten.message.size_bytes();
            before < FETCH_BYTES
        });
        some.map(|unwritten| (unwritten.seq, unwritten.message.clone())).collect()
    }
}
