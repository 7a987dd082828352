//! How a node is, and what it has done. Every number is only ever read for showing.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use forebay_sdk::{Figure, connection::Down, voice::Hears};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::{
    complaints::{Complaints, Kind, Lasting, Line, Seen},
    errors::{ERROR_KINDS, ErrorKind, Panicked},
    latency::{Histogram, Latency, Percentiles},
    past_errors::{PastError, PastErrors},
};
use crate::{
    config::{Name, Unshown},
    warnings::{BROKEN_NODE, LASTING_TROUBLE, Warning},
};

/// What is counted for each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Messages that the node read from its queue.
    Received,
    /// Messages that it sent on.
    Emitted,
    /// Messages that the other side took responsibility for.
    Delivered,
    /// Errors, each message or poll by itself.
    Errors,
    /// Messages that the node or its other side refused, and of which nobody reads at `errors`.
    Refused,
    /// Messages that were dropped because there was no room for them, or because they were too old.
    Dropped,
    /// Of these, those that were too old.
    Expired,
    /// Messages that are gone though no limit said so, and that nobody sends again.
    Lost,
    /// Messages that went to an output that nobody reads.
    Unread,
    /// Attempts that will be repeated.
    Retries,
    /// Writes of which nobody knows whether they happened.
    InDoubt,
    /// Beats or turns that were skipped because the one before took too long.
    Overruns,
    /// Bytes that came over the wire.
    BytesIn,
    /// Bytes that went over the wire.
    BytesOut,
    /// Bytes that were written to disk: a buffer, what must survive a restart, a file.
    BytesToDisk,
}

const NAMES: [&str; 15] = [
    "received",
    "emitted",
    "delivered",
    "errors",
    "refused",
    "dropped",
    "expired",
    "lost",
    "unread",
    "retries",
    "in doubt",
    "overruns",
    "bytes in",
    "bytes out",
    "bytes to disk",
];

/// All numbers of a node, in the order of [`Count`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; NAMES.len()]);

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing heard of it yet.
    Starting,
    /// The other side is there.
    Running,
    /// It is tried again, after a pause. With the reason.
    Waiting(String),
    /// It could not be made. The next reload tries again. With the reason.
    Broken(String),
}

/// Numbers from which rates are computed, so many samples of them.
const SAMPLED: [Count; 3] = [Count::Received, Count::Emitted, Count::Delivered];
const MOST_SAMPLES: usize = 7;

/// Errors in a row, without a message that got through in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Since the first of them.
    pub lasts: Duration,
    /// How many.
    pub errors: u64,
}

/// A state, since when, and what the log's line of it names.
struct Standing {
    state: State,
    since: Instant,
    rule: Option<&'static Warning>,
}

/// What happens per second, on the average of the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Messages that the node read from its queue.
    pub received: f64,
    /// Messages that it sent on, or that the other side took.
    pub sent: f64,
}

/// The status of a node or connection.
pub struct Status {
    name: Name,
    /// The share of its time that it is busy, as the bits of an `f64`.
    busy: AtomicU64,
    /// Since when it counts.
    began: Instant,
    counts: [AtomicU64; NAMES.len()],
    /// Messages that failed since one got through, and when the first of them was.
    in_a_row: AtomicU64,
    first_in_a_row: Mutex<Instant>,
    /// What [`Count::Errors`] counts, in the order of [`ErrorKind`].
    errors_by_kind: [AtomicU64; ERROR_KINDS.len()],
    /// What is not shown of its settings.
    unshown: Mutex<Unshown>,
    standing: Mutex<Standing>,
    /// What went wrong lately.
    errors: Mutex<PastErrors>,
    samples: Mutex<VecDeque<(Instant, [u64; SAMPLED.len()])>>,
    /// Nothing before the first message is delivered: most nodes deliver none.
    latency: Mutex<Option<Box<Latency>>>,
    complaints: Mutex<Complaints>,
    /// The disk failed, and has not worked since.
    has_disk_failed: AtomicBool,
    /// The last trouble with the other side is in the log, so its end is to be there too.
    is_trouble_written: AtomicBool,
    lasting: Mutex<Lasting>,
    /// The reader for whose room the node waits.
    held_up_by: Mutex<Weak<Status>>,
    /// The condition on the link that holds.
    held_by_link: Mutex<Option<String>>,
}

impl Status {
    /// Whose it is.
    pub fn name(&self) -> &Name {
        &self.name
    }

    pub fn new(name: Name) -> Status {
        Status {
            name,
            busy: AtomicU64::new(0),
            began: Instant::now(),
            counts: Default::default(),
            in_a_row: AtomicU64::new(0),
            first_in_a_row: Mutex::new(Instant::now()),
            errors_by_kind: Default::default(),
            unshown: Mutex::default(),
            standing: Mutex::new(Standing {
                state: State::Starting,
                since: Instant::now(),
                rule: None,
            }),
            errors: Mutex::default(),
            samples: Mutex::default(),
            latency: Mutex::default(),
            complaints: Mutex::default(),
            has_disk_failed: AtomicBool::new(false),
            is_trouble_written: AtomicBool::new(false),
            lasting: Mutex::default(),
            held_up_by: Mutex::default(),
            held_by_link: Mutex::default(),
        }
    }

    /// Has values of settings not shown from now on.
    pub fn set_unshown(&self, unshown: Unshown) {
        *lock(&self.unshown) = unshown;
    }

    /// Without what is not to be shown.
    pub fn hide(&self, text: String) -> String {
        lock(&self.unshown).hide(text)
    }

    pub fn add(&self, count: Count) {
        self.add_many(count, 1);
    }

    pub fn add_many(&self, count: Count, by: u64) {
        self.counts[count as usize].fetch_add(by, Ordering::Relaxed);
    }

    fn add_error(&self, kind: ErrorKind) {
        self.add(Count::Errors);
        self.errors_by_kind[kind as usize].fetch_add(1, Ordering::Relaxed);
        // What is no message's says nothing of whether messages get through.
        if kind != ErrorKind::Other && self.in_a_row.fetch_add(1, Ordering::Relaxed) == 0 {
            *lock(&self.first_in_a_row) = Instant::now();
        }
    }

    /// A message was read, handled or delivered.
    pub fn worked(&self) {
        if self.in_a_row.load(Ordering::Relaxed) > 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Whether all that it does fails, and for so long that a person should look at it.
    pub fn failing(&self) -> Option<Failing> {
        const SINGLE: u64 = 1;
        const SOON: Duration = Duration::from_secs(30);
        let errors = self.in_a_row.load(Ordering::Relaxed);
        let lasts = (errors > SINGLE).then(|| lock(&self.first_in_a_row).elapsed());
        lasts.filter(|lasts| *lasts >= SOON).map(|lasts| Failing { lasts, errors })
    }

    /// What is wrong and stays so until it is over: the first of it, each in the words of the log.
    pub fn lasting(&self) -> Vec<String> {
        const MOST_TOLD: usize = 10;
        let lasting = lock(&self.lasting);
        lasting.present().take(MOST_TOLD).map(|(what, why)| format!("{what}: {why}")).collect()
    }

    /// The errors by kind, of which there were any.
    pub fn errors_by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.errors_by_kind.iter().map(|count| count.load(Ordering::Relaxed));
        ERROR_KINDS.into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }

    /// How many bytes it writes to disk in a day, when it goes on as since it began. None before that can be told.
    pub fn bytes_to_disk_a_day(&self) -> Option<u64> {
        const DAY: Duration = Duration::from_secs(86_400);
        const SOONEST: Duration = Duration::from_secs(60);
        let (bytes, counted) = (self.counts().get(Count::BytesToDisk), self.began.elapsed());
        let days = counted.as_secs_f64() / DAY.as_secs_f64();
        (bytes > 0 && counted >= SOONEST).then_some(roughly((bytes as f64 / days) as u64))
    }

    /// The share of its time that it is busy, as far as it says.
    pub fn busy(&self) -> f64 {
        f64::from_bits(self.busy.load(Ordering::Relaxed))
    }

    pub fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|index| self.counts[index].load(Ordering::Relaxed)))
    }

    pub fn state(&self) -> State {
        lock(&self.standing).state.clone()
    }

    /// How long it has been in its state, whatever the reason was meanwhile.
    pub fn stands_for(&self) -> Duration {
        lock(&self.standing).since.elapsed()
    }

    /// What the log's line of its state names.
    pub fn rule(&self) -> Option<&'static Warning> {
        lock(&self.standing).rule
    }

    fn set_state(&self, state: State, rule: Option<&'static Warning>) -> State {
        let mut standing = lock(&self.standing);
        standing.rule = rule;
        if std::mem::discriminant(&standing.state) != std::mem::discriminant(&state) {
            standing.since = Instant::now();
        }
        std::mem::replace(&mut standing.state, state)
    }

    /// What went wrong last.
    pub fn last_error(&self) -> Option<PastError> {
        lock(&self.errors).last()
    }

    /// What went wrong lately, the newest first.
    pub fn errors(&self) -> Vec<PastError> {
        lock(&self.errors).all()
    }

    /// Whether the disk under its buffer failed, and has not worked since.
    pub fn has_disk_failed(&self) -> bool {
        self.has_disk_failed.load(Ordering::Relaxed)
    }

    /// Remembers the numbers as they are now. To be called at a steady pace.
    pub fn sample(&self) {
        let mut samples = lock(&self.samples);
        if samples.len() == MOST_SAMPLES {
            samples.pop_front();
        }
        samples.push_back((Instant::now(), self.sampled()));
        if let Some(latency) = &mut *lock(&self.latency) {
            latency.sample();
        }
    }

    /// The other side took messages that were on their way for so long.
    pub fn delivered(&self, took: impl ExactSizeIterator<Item = Duration>) {
        if took.len() == 0 {
            return;
        }
        self.worked();
        self.add_many(Count::Delivered, took.len() as u64);
        let mut latency = lock(&self.latency);
        let latency = latency.get_or_insert_default();
        took.for_each(|took| latency.add(took));
    }

    /// How long messages took lately to be delivered, and since the start.
    pub fn latency(&self) -> Option<(Option<Percentiles>, Histogram)> {
        let latency = lock(&self.latency);
        latency.as_ref().map(|latency| (latency.percentiles(), latency.histogram()))
    }

    /// None before there is something to compare with.
    pub fn rates(&self) -> Option<Rates> {
        let (at, before) = lock(&self.samples).front().copied()?;
        let seconds = at.elapsed().as_secs_f64();
        let now = self.sampled();
        let [received, emitted, delivered] =
            std::array::from_fn(|index| (now[index] - before[index]) as f64 / seconds);
        (seconds >= 1.0).then_some(Rates { received, sent: emitted + delivered })
    }

    fn sampled(&self) -> [u64; SAMPLED.len()] {
        SAMPLED.map(|count| self.counts[count as usize].load(Ordering::Relaxed))
    }

    /// The other side is there.
    pub fn running(&self) {
        let before = self.set_state(State::Running, None);
        if let State::Waiting(reason) | State::Broken(reason) = before {
            lock(&self.complaints).forget(Kind::Retry);
            // Who was not heard to fail need not be heard to work.
            if self.is_trouble_written.swap(false, Ordering::Relaxed) {
                info!(node = %self.name, "works again, after: {reason}");
            }
        }
    }

    /// The node waits for room in the queue of that reader.
    pub fn held_up(&self, by: &Arc<Status>) {
        *lock(&self.held_up_by) = Arc::downgrade(by);
    }

    /// It does not wait for room any more.
    pub fn has_room(&self) {
        *lock(&self.held_up_by) = Weak::new();
    }

    /// The node is made anew, and sees for itself what is wrong.
    pub fn begins_anew(&self) {
        *lock(&self.lasting) = Lasting::default();
    }

    /// An attempt that will be repeated. What is the trouble of the node's connection, that one says.
    pub fn waiting(&self, error: &anyhow::Error) {
        self.add(Count::Retries);
        if error.is::<Panicked>() {
            self.add_error(ErrorKind::Panic);
        }
        let text = self.hide(format!("{error:#}"));
        if error.is::<Down>() {
            debug!(node = %self.name, "waits for its connection: {text}");
            self.set_state(State::Waiting(text), None);
            return;
        }
        if self.say(Kind::Retry, &text, 1) {
            self.is_trouble_written.store(true, Ordering::Relaxed);
        }
        self.set_state(State::Waiting(text), Some(Kind::Retry.rule()));
    }

    /// This condition on the link holds from now on, or none does.
    pub fn set_held_by_link(&self, when: Option<String>) {
        *lock(&self.held_by_link) = when;
    }

    /// The condition on the link that holds, and for which it writes less, or nothing.
    pub fn held_by_link(&self) -> Option<String> {
        lock(&self.held_by_link).clone()
    }

    /// It could not be made, and waits for a reload.
    pub fn broken(&self, error: &anyhow::Error) {
        let text = self.hide(format!("{error:#}"));
        error!(rule = %BROKEN_NODE, node = %self.name, "cannot be made: {text}; the next reload tries again");
        self.is_trouble_written.store(true, Ordering::Relaxed);
        self.set_state(State::Broken(text), Some(&BROKEN_NODE));
    }

    /// Something went wrong and nothing is lost, such as a device that did not answer.
    pub fn trouble(&self, error: &anyhow::Error) {
        self.handed_on(ErrorKind::Other.unless_panic(error), &format!("{error:#}"), "");
    }

    /// Something went wrong, and somebody reads the `errors` output and has the message. `used` are the values
    /// that it had in hand.
    pub fn handed_on(&self, kind: ErrorKind, error: &str, used: &str) {
        self.add_error(kind);
        self.say_with(Kind::Trouble, error, used, 1);
    }

    /// Something went wrong, and nobody reads the `errors` output.
    pub fn unheard(&self, kind: ErrorKind, error: &dyn fmt::Display) {
        self.add_error(kind);
        self.say(Kind::Unheard, &format!("{error:#}"), 1);
    }

    /// The same of a message that could not be handled, when nobody reads the `errors` output.
    pub fn refused(&self, kind: ErrorKind, error: &str, used: &str) {
        self.add_error(kind);
        self.add(Count::Refused);
        self.say_with(Kind::Refused, error, used, 1);
    }

    /// Messages are gone though no limit said so, and nobody sends them again.
    pub fn lost(&self, count: u64, why: &str) {
        self.add_many(Count::Lost, count);
        self.say(Kind::Lost, why, count);
    }

    /// A message was dropped because a buffer is full and set to drop.
    pub fn dropped_for_room(&self) {
        self.drop_by_limit(1, "the buffer is full: messages dropped, as `when_full` says");
    }

    /// Messages were dropped from the log on disk, because it was full and set to drop.
    pub fn dropped_from_log(&self, count: u64) {
        let why = "the oldest messages in the buffer on disk were dropped, as its limits say";
        self.drop_by_limit(count, why);
    }

    /// Messages were too old when their turn came.
    pub fn expired(&self, count: u64) {
        self.add_many(Count::Expired, count);
        let why = "messages were too old and dropped, as `max_age` or `expires_after` says";
        self.drop_by_limit(count, why);
    }

    /// Somebody had what waits in its buffer dropped.
    pub fn dropped_by_hand(&self, count: u64) {
        self.drop_by_limit(count, "what waited in the buffer was dropped, as somebody asked");
    }

    fn drop_by_limit(&self, count: u64, why: &str) {
        self.add_many(Count::Dropped, count);
        self.say(Kind::Dropped, why, count);
    }

    /// The disk under the node's buffer did not do what it should.
    pub fn disk_failed(&self, error: &str) {
        self.has_disk_failed.store(true, Ordering::Relaxed);
        self.say(Kind::Disk, error, 1);
    }

    /// It does again.
    pub fn disk_works(&self) {
        if self.has_disk_failed.swap(false, Ordering::Relaxed) {
            lock(&self.complaints).forget(Kind::Disk);
            info!(node = %self.name, "the buffer on disk works again");
        }
    }

    /// Writes what was only counted for a minute.
    pub fn write_rest(&self) {
        let rest = lock(&self.complaints).rest();
        rest.into_iter().for_each(|line| self.write(&line));
    }

    /// Writes what was only counted, at the end of the program.
    pub fn write_all_the_rest(&self) {
        let rest = lock(&self.complaints).all_the_rest();
        rest.into_iter().for_each(|line| self.write(&line));
    }

    /// Complains, and says whether that was written at once.
    fn say(&self, kind: Kind, text: &str, count: u64) -> bool {
        self.say_with(kind, text, "", count)
    }

    fn say_with(&self, kind: Kind, text: &str, detail: &str, count: u64) -> bool {
        let (text, detail) = (self.hide(text.to_owned()), self.hide(detail.to_owned()));
        lock(&self.errors).add(&text, kind.rule());
        let line = lock(&self.complaints).say(kind, &text, &detail, count);
        line.inspect(|line| self.write(line)).is_some()
    }

    fn write(&self, line: &Line) {
        let (node, text, count) = (&self.name, &line.text, line.count);
        let times = (count > 1).then_some(count);
        let rule = line.kind.rule();
        match line.kind {
            Kind::Retry => warn!(%rule, %node, times, "will try again: {text}"),
            Kind::Trouble => warn!(%rule, %node, times, "{text}"),
            Kind::Unheard => error!(%rule, %node, times, "{text}"),
            Kind::Refused => error!(%rule, %node, refused = count, "{text}"),
            Kind::Dropped => error!(%rule, %node, dropped = count, "{text}"),
            Kind::Lost => error!(%rule, %node, lost = count, "{text}"),
            Kind::Disk => {
                error!(%rule, %node, times, "{text}; messages wait in memory, will try again");
            }
        }
    }
}

/// Two digits of it, so that it does not change all the time.
fn roughly(number: u64) -> u64 {
    let unit = 10_u64.pow(number.checked_ilog10().unwrap_or(0).saturating_sub(1));
    number.div_ceil(unit) * unit
}

impl Hears for Status {
    fn ready(&self) {
        self.running();
    }

    fn trouble(&self, error: &anyhow::Error) {
        Status::trouble(self, error);
    }

    fn trouble_lasts(&self, what: &str, why: &anyhow::Error) {
        let words = || self.hide(format!("{why:#}"));
        let seen = lock(&self.lasting).see(what, words);
        if seen != Seen::Known {
            self.add_error(ErrorKind::Other);
        }
        if seen == Seen::Begins {
            warn!(rule = %LASTING_TROUBLE, node = %self.name, "{what}: {}; said once, until it is over", words());
        }
    }

    fn trouble_is_over(&self, what: &str) {
        if let Some(why) = lock(&self.lasting).over(what) {
            info!(node = %self.name, "{what} works again, after: {why}");
        }
    }

    fn count(&self, figure: Figure, by: u64) {
        let count = match figure {
            Figure::BytesIn => Count::BytesIn,
            Figure::BytesOut => Count::BytesOut,
            Figure::BytesToDisk => Count::BytesToDisk,
            Figure::Dropped => Count::Dropped,
            Figure::Overruns => Count::Overruns,
        };
        self.add_many(count, by);
    }

    fn dropped(&self, by: u64, why: &str) {
        self.drop_by_limit(by, &format!("messages were dropped: {why}"));
    }

    fn busy(&self, share: f64) {
        self.busy.store(share.to_bits(), Ordering::Relaxed);
    }

    /// The last of those that hold up each other: a transform waits for room too.
    fn held_up_by(&self) -> Option<Arc<str>> {
        let by = lock(&self.held_up_by).upgrade()?;
        Some(by.held_up_by().unwrap_or_else(|| Arc::clone(&by.name)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counts {
    /// One of the numbers.
    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    /// Those that are not zero, with their names.
    pub fn some(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.into_iter().zip(self.0).filter(|(_, number)| *number > 0)
    }
}

impl fmt::Display for Counts {
    /// `received 3, delivered 3`: what is not zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (name, number) in self.some() {
            write!(f, "{comma}{name} {number}")?;
            comma = ", ";
        }
        if comma.is_empty() { write!(f, "nothing to do") } else { Ok(()) }
    }
}
