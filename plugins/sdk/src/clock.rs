//! The clocks of a router without a battery: which boot this is, how long it has lasted, and what the
//! wall clock says, which is wrong until the network sets it. Messages stamped before that get
//! their real time by them.
//!
//! There is one clock. It is the system's, unless a test put another in its place for its thread.
//!
//! **Was it set?** The clock counts as set, for the rest of the run, once one of these shows it:
//!
//! - the kernel says that somebody keeps its clock right (adjtimex(2));
//! - the wall clock is moved against the time since boot by more than a second, while this program
//!   runs or since it last ran in the same boot ([`Seen`]): somebody sets it now;
//! - the last run, in the same boot, knew that it was set;
//! - a battery clock, from which the kernel took the time, unless it is behind what was seen before.
//!
//! Where none of this ever comes, as on a machine that nobody keeps right, the clock stays one that
//! was not set, and little depends on it: stamps of one boot can be compared with each other, so
//! messages expire as they should, and when somebody does set the clock they follow. A clock that was
//! not set is behind and never ahead, so what is old by it is old. Only what such a clock stamped in
//! an earlier boot has no age, and stays.

use std::{
    cell::RefCell,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use crate::{evidence, timestamp::Timestamp};

/// A clock that is set moves by more than one that is corrected.
const JUMP_NANOS: i64 = 1_000_000_000;
/// How often the kernel is asked whether the clock was set.
const ASK_EVERY_NANOS: i64 = 1_000_000_000;
/// The clocks are read again when the program was held up for longer between one and the other.
const HELD_UP_NANOS: i64 = 100_000_000;
/// How often they are, on a machine that holds up everything.
const MOST_READS: usize = 5;
/// Battery clocks of the system.
const BATTERY_CLOCKS: &str = "/sys/class/rtc";

/// What the clocks said at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The id of this boot. Zero when the system does not tell.
    pub boot: u128,
    /// Nanoseconds since the machine booted, sleep included.
    pub uptime_nanos: i64,
    /// Nanoseconds since 1970 by the wall clock.
    pub wall_nanos: i64,
    /// Whether something shows that the wall clock is right.
    pub is_set: bool,
}

/// One moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// By the clock that only goes on. Deadlines are counted by it.
    pub at: Instant,
    /// By the wall clock, which may jump.
    pub wall: Timestamp,
}

impl Now {
    /// The moment at which the wall clock will show `wall`, if nobody sets it meanwhile. Now, when
    /// that is past.
    pub fn at_wall(&self, wall: Timestamp) -> Instant {
        let nanos = wall.unix_nanos().saturating_sub(self.wall.unix_nanos());
        self.at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    /// When something was that happened before, by the wall clock as it goes now: a clock that was set in
    /// between is right about it.
    pub fn wall_then(&self, then: Instant) -> Timestamp {
        self.wall.earlier(self.at.saturating_duration_since(then))
    }
}

/// Where time comes from. Tests have their own.
pub type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;

thread_local! {
    /// In place of the system's, on this thread, and when it was put there by itself.
    static CLOCK: RefCell<Option<(Clock, Origin)>> = const { RefCell::new(None) };
}

/// What is known of the system's clock.
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);
/// It was set. From then on nobody asks any more.
static IS_SET: AtomicBool = AtomicBool::new(false);

struct Known {
    /// When the machine booted, by the clock that was not set.
    origin: Origin,
    /// When the kernel was last asked, by the time since boot.
    asked_nanos: Option<i64>,
    /// The latest time that was seen.
    seen_nanos: i64,
}

/// What a run knows of the clock when it ends, for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// [`Moment::boot`].
    pub boot: u128,
    /// [`Moment::boot_nanos`] as it was before the clock was set, or as it is.
    pub boot_nanos: i64,
    /// The latest time that was seen, in nanoseconds since 1970.
    pub latest_nanos: i64,
    /// [`Moment::is_set`].
    pub is_set: bool,
}

/// Takes note of the clocks, and of what the last run knew of them. To be called before the first
/// message is stamped; what is known already stays.
pub fn begin(last: Option<Seen>) {
    let now = system_moment();
    let mut known = lock(&KNOWN);
    let known = known.get_or_insert_with(|| Known::new(&now));
    if let Some(last) = last {
        known.learn(&last, &now);
    }
    if evidence::battery_vouches(Path::new(BATTERY_CLOCKS), now.wall_nanos, known.seen_nanos) {
        IS_SET.store(true, Ordering::Release);
    }
}

/// What is to be kept for the next run.
pub fn seen() -> Seen {
    let now = system_moment();
    let known = lock(&KNOWN);
    let known = known.as_ref();
    let origin = known.filter(|_| !now.is_set).map_or(now.origin(), |known| known.origin);
    // Only a clock that is set may say that it is earlier than was thought.
    let before = known.filter(|_| !now.is_set).map_or(0, |known| known.seen_nanos);
    let latest_nanos = now.wall_nanos.max(before);
    Seen { boot: now.boot, boot_nanos: origin.boot_nanos, latest_nanos, is_set: now.is_set }
}

impl Known {
    fn new(now: &Moment) -> Known {
        Known { origin: now.origin(), asked_nanos: None, seen_nanos: 0 }
    }

    /// What the last run knew.
    fn learn(&mut self, last: &Seen, now: &Moment) {
        self.seen_nanos = self.seen_nanos.max(last.latest_nanos);
        if last.boot == now.boot && now.boot != 0 {
            // A step since then is noticed like one of now.
            self.origin.boot_nanos = last.boot_nanos;
            if last.is_set {
                IS_SET.store(true, Ordering::Release);
            }
        }
    }

    /// Whether the clock was set by now.
    fn is_set(&mut self, now: &Moment) -> bool {
        if now.boot_nanos().abs_diff(self.origin.boot_nanos) > JUMP_NANOS as u64 {
            return true;
        }
        let asked = self.asked_nanos.filter(|at| now.uptime_nanos - at < ASK_EVERY_NANOS);
        if asked.is_some() {
            return false;
        }
        self.asked_nanos = Some(now.uptime_nanos);
        evidence::kernel_vouches(now.wall_nanos)
    }
}

/// A moment that was stamped before the clock was set, as it would be stamped now that it is. Any
/// other stays as it is.
pub fn restamped(time: Timestamp) -> Timestamp {
    if time.clock_was_set() || !time.is_comparable() {
        return time;
    }
    let origin = CLOCK.with_borrow(|clock| clock.as_ref().map(|(_, origin)| *origin));
    match origin.or_else(|| lock(&KNOWN).as_ref().map(|known| known.origin)) {
        Some(origin) => origin.real(time, &moment()),
        None => time,
    }
}

/// What the clocks say now.
pub fn moment() -> Moment {
    CLOCK
        .with_borrow(|clock| clock.as_ref().map(|(clock, _)| clock()))
        .unwrap_or_else(system_moment)
}

/// Both clocks, now.
pub fn now() -> Now {
    Now { at: Instant::now(), wall: Timestamp::now() }
}

/// What a message of now is stamped with.
fn stamp() -> Timestamp {
    let is_replaced = CLOCK.with_borrow(Option::is_some);
    if !is_replaced && IS_SET.load(Ordering::Acquire) {
        return Timestamp::from_unix_nanos(system_wall_nanos());
    }
    moment().stamp()
}

/// The clock of this thread, for work that is done on another.
pub fn current() -> Clock {
    let here = CLOCK.with_borrow(|clock| clock.as_ref().map(|(clock, _)| Arc::clone(clock)));
    here.unwrap_or_else(|| Arc::new(system_moment))
}

/// Puts a clock in the place of the system's on this thread, until the guard is dropped.
pub fn replace(clock: Clock) -> Replaced {
    let origin = clock().origin();
    Replaced(CLOCK.replace(Some((clock, origin))))
}

/// Puts the clock back that was there before.
#[must_use = "dropping it puts the clock back"]
pub struct Replaced(Option<(Clock, Origin)>);

impl Drop for Replaced {
    fn drop(&mut self) {
        CLOCK.set(self.0.take());
    }
}

fn system_wall_nanos() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Nanoseconds in an i64 reach the year 2262.
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}

fn system_moment() -> Moment {
    static BOOT: OnceLock<u128> = OnceLock::new();
    let boot = *BOOT.get_or_init(boot_id);
    let (uptime_nanos, wall_nanos) = system_clocks();
    let mut now = Moment { boot, uptime_nanos, wall_nanos, is_set: true };
    if IS_SET.load(Ordering::Acquire) {
        return now;
    }
    now.is_set = lock(&KNOWN).get_or_insert_with(|| Known::new(&now)).is_set(&now);
    if now.is_set {
        IS_SET.store(true, Ordering::Release);
    }
    now
}

/// The time since boot and that of the wall clock, at one moment: whoever is held up in between
/// would take that for a step.
fn system_clocks() -> (i64, i64) {
    let read = || (system_uptime(), system_wall_nanos(), system_uptime());
    let is_one_moment = |(before, _, after): &(i64, i64, i64)| after - before < HELD_UP_NANOS;
    let tries = (0..MOST_READS).map(|_| read()).find(is_one_moment);
    let (uptime, wall, _) = tries.unwrap_or_else(read);
    (uptime, wall)
}

/// How long the processor has worked for this thread. Unlike a clock on the wall, it stands still while others have the
/// processor.
pub fn worked() -> Duration {
    let worked = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(worked.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds)
        + Duration::from_nanos(u64::try_from(worked.tv_nsec).unwrap_or_default())
}

fn system_uptime() -> i64 {
    // Not `/proc/uptime`: inside a container, that may count from the start of the container.
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    uptime.tv_sec.saturating_mul(1_000_000_000) + uptime.tv_nsec
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn boot_id() -> u128 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or_default()
}

impl Moment {
    /// When the machine booted, by the wall clock. Jumps when the wall clock is set.
    pub fn boot_nanos(&self) -> i64 {
        self.wall_nanos.saturating_sub(self.uptime_nanos)
    }

    /// What a stamp of now will be seen from.
    pub fn origin(&self) -> Origin {
        Origin { boot: self.boot, boot_nanos: self.boot_nanos() }
    }

    /// What a message of this moment is stamped with.
    pub fn stamp(&self) -> Timestamp {
        match self.is_set {
            true => Timestamp::from_unix_nanos(self.wall_nanos),
            false => Timestamp::before_clock_was_set(self.wall_nanos),
        }
    }
}

/// Since when a clock counts that was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The boot in which it was read.
    pub boot: u128,
    /// [`Moment::boot_nanos`] as it was while the clock was not set.
    pub boot_nanos: i64,
}

impl Origin {
    /// That of a clock that is set: what it stamped is right.
    pub const OF_A_SET_CLOCK: Origin = Origin { boot: 0, boot_nanos: 0 };

    /// A stamp that was written down beside this origin, with what is known of it now. What lies
    /// before the boot, or in the future, was not given by the clock of this machine, and is right.
    pub fn read(&self, unix_nanos: i64, now: &Moment) -> Timestamp {
        if self.boot == 0 {
            return Timestamp::from_unix_nanos(unix_nanos);
        }
        if now.boot != self.boot {
            return Timestamp::of_another_boot(unix_nanos);
        }
        let uptime = unix_nanos.saturating_sub(self.boot_nanos);
        let possible = -JUMP_NANOS..=now.uptime_nanos.saturating_add(JUMP_NANOS);
        match possible.contains(&uptime) {
            true => self.real(Timestamp::before_clock_was_set(unix_nanos), now),
            false => Timestamp::from_unix_nanos(unix_nanos),
        }
    }

    /// The real time of a stamp of this clock, once it is known.
    fn real(&self, stamp: Timestamp, now: &Moment) -> Timestamp {
        if !now.is_set {
            return stamp;
        }
        let uptime = stamp.unix_nanos().saturating_sub(self.boot_nanos);
        Timestamp::from_unix_nanos(now.boot_nanos().saturating_add(uptime.min(now.uptime_nanos)))
    }
}

impl Timestamp {
    /// What the wall clock says, and what is known of it.
    pub fn now() -> Timestamp {
        stamp()
    }
}

/// How old a message is; nothing when that cannot be known, because a clock that was not set stamped
/// it in an earlier boot.
pub fn age(time: Timestamp, now: Timestamp) -> Duration {
    let nanos = match time.is_comparable() {
        true => now.unix_nanos().saturating_sub(restamped(time).unix_nanos()),
        false => 0,
    };
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    /// 2026-11-21T09:00:00Z
    const NOW: i64 = 1_795_251_600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_nanos(seconds * SECOND)
    }

    fn not_set(seconds: i64) -> Timestamp {
        Timestamp::before_clock_was_set(seconds * SECOND)
    }

    fn shows(uptime: i64, wall: i64, is_set: bool) -> Moment {
        Moment { boot: 7, uptime_nanos: uptime * SECOND, wall_nanos: wall * SECOND, is_set }
    }

    /// A clock that shows what it is told, on this thread.
    fn hand(moment: Moment) -> (Arc<Mutex<Moment>>, Replaced) {
        let shown = Arc::new(Mutex::new(moment));
        let hand = Arc::clone(&shown);
        (shown, replace(Arc::new(move || *lock(&hand))))
    }

    #[test]
    fn what_is_old_is_known_without_a_clock_that_was_set() {
        const WEEKS: i64 = 14 * 86_400;
        let (shown, _replaced) = hand(shows(100, NOW - WEEKS, false));
        let age = |time, now| super::age(time, now).as_secs();
        assert_eq!(age(at(NOW - 60), at(NOW)), 60);
        assert_eq!(age(at(NOW + 5), at(NOW)), 0);
        // Both by the clock that was not set.
        assert_eq!(age(not_set(NOW - WEEKS - 60), Timestamp::now()), 60);
        // A clock that was not set is behind: what is old by it is old.
        assert_eq!(age(at(NOW - WEEKS - 60), Timestamp::now()), 60);
        assert_eq!(age(at(NOW), Timestamp::now()), 0);
        // Two weeks of which nobody knew are nobody's age.
        *lock(&shown) = shows(110, NOW, true);
        assert_eq!(age(not_set(NOW - WEEKS - 60), Timestamp::now()), 70);
        assert_eq!(age(Timestamp::of_another_boot(100), Timestamp::now()), 0);
    }

    #[test]
    fn a_clock_two_weeks_behind_is_put_right_and_what_others_stamped_is_not() {
        let origin = shows(100, 1000, false).origin();
        let read = |wall: i64, now: Moment| {
            let read = origin.read(wall * SECOND, &now);
            (read.unix_nanos() / SECOND, read.clock_was_set())
        };
        assert_eq!(read(990, shows(110, 1010, false)), (990, false));
        let set = shows(120, NOW, true);
        assert_eq!(read(990, set), (NOW - 30, true));
        assert_eq!(read(1020, set), (NOW, true));
        assert_eq!(read(NOW - 3600, set), (NOW - 3600, true), "by a clock that is right");
        assert_eq!(read(500, set), (500, true), "long before the boot");
        assert_eq!(read(990, Moment { boot: 8, ..set }), (990, false));
        let right = Origin::OF_A_SET_CLOCK.read(990 * SECOND, &set);
        assert_eq!((right.unix_nanos(), right.clock_was_set()), (990 * SECOND, true));
    }

    #[test]
    fn a_step_of_the_wall_clock_sets_it_and_a_correction_does_not() {
        let began = shows(100, 1000, false);
        let mut known = Known { asked_nanos: Some(i64::MAX / 2), ..Known::new(&began) };
        assert!(!known.is_set(&shows(200, 1100, false)));
        assert!(!known.is_set(&shows(200, 1101, false)), "corrected by a second");
        assert!(known.is_set(&shows(200, 1102, false)), "set forward");
        assert!(known.is_set(&shows(200, 1098, false)), "set back");
    }

    #[test]
    fn a_step_that_happened_between_two_runs_is_noticed() {
        let began = shows(500, NOW, false);
        let mut known = Known { asked_nanos: Some(i64::MAX / 2), ..Known::new(&began) };
        assert!(!known.is_set(&began));
        let boot_nanos = shows(100, 1000, false).boot_nanos();
        let last = Seen { boot: 7, boot_nanos, latest_nanos: 1000 * SECOND, is_set: false };
        known.learn(&Seen { boot: 6, ..last }, &began);
        assert!(!known.is_set(&began), "another boot tells nothing");
        known.learn(&last, &began);
        assert!(known.is_set(&began));
    }

    #[test]
    fn another_clock_is_there_for_its_thread_and_its_time() {
        let before = Timestamp::now();
        let fixed = Moment { boot: 7, uptime_nanos: 5, wall_nanos: NOW * SECOND, is_set: true };
        let replaced = replace(Arc::new(move || fixed));
        assert_eq!(moment(), fixed);
        assert_eq!(Timestamp::now().unix_nanos(), NOW * SECOND);
        let elsewhere = std::thread::spawn(moment).join().unwrap();
        assert_ne!(elsewhere, fixed);
        drop(replaced);
        assert!(Timestamp::now() >= before);
        assert_ne!(moment(), fixed);
    }
}
