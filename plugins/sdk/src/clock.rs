//! The clocks of a router without a battery: which boot this is, how long it has lasted, and what the
//! wall clock says, which is wrong until the network sets it. Messages stamped before that get
//! their real time by them.
//!
//! There is one clock. It is the system's, unless a test put another in its place for its thread.

use std::{
    cell::RefCell,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use crate::timestamp::Timestamp;

/// What the clocks said at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The id of this boot. Zero when the system does not tell.
    pub boot: u128,
    /// Nanoseconds since the machine booted, sleep included.
    pub uptime_nanos: i64,
    /// Nanoseconds since 1970 by the wall clock.
    pub wall_nanos: i64,
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
}

/// Where time comes from. Tests have their own.
pub type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;

thread_local! {
    /// In place of the system's, on this thread, and when it was put there by itself.
    static CLOCK: RefCell<Option<(Clock, Origin)>> = const { RefCell::new(None) };
}

/// When this program began by the system's clocks.
static BEGAN: OnceLock<Origin> = OnceLock::new();

/// Takes note of the clocks. To be called before the first message is stamped.
pub fn begin() {
    BEGAN.get_or_init(|| system_moment().origin());
}

/// A moment that was stamped before the clock was set, as it would be stamped now that it is. Any
/// other stays as it is.
pub fn restamped(time: Timestamp) -> Timestamp {
    if time.clock_was_set() {
        return time;
    }
    let origin = CLOCK.with_borrow(|clock| clock.as_ref().map(|(_, origin)| *origin));
    match origin.or_else(|| BEGAN.get().copied()) {
        Some(origin) => origin.restamp(time, &moment()),
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

/// Nanoseconds since 1970 by the wall clock.
pub(crate) fn wall_nanos() -> i64 {
    CLOCK.with_borrow(|clock| match clock {
        Some((clock, _)) => clock().wall_nanos,
        None => system_wall_nanos(),
    })
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
    // Not `/proc/uptime`: inside a container, that may count from the start of the container.
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let uptime_nanos = uptime.tv_sec.saturating_mul(1_000_000_000) + uptime.tv_nsec;
    Moment { boot: *BOOT.get_or_init(boot_id), uptime_nanos, wall_nanos: system_wall_nanos() }
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

    /// Whether the network, or a battery, has brought the time.
    pub fn clock_was_set(&self) -> bool {
        Timestamp::from_unix_nanos(self.wall_nanos).clock_was_set()
    }
}

/// When something was stamped, seen from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The boot in which it was written.
    pub boot: u128,
    /// [`Moment::boot_nanos`] as it was while the clock was not set.
    pub boot_nanos: i64,
}

impl Origin {
    /// The real time of a stamp, as far as it can be known: in the same boot, once the clock is set.
    pub fn restamp(&self, stamp: Timestamp, now: &Moment) -> Timestamp {
        if stamp.clock_was_set() || !now.clock_was_set() || now.boot != self.boot || now.boot == 0 {
            return stamp;
        }
        let uptime = stamp.unix_nanos().saturating_sub(self.boot_nanos);
        match (0..=now.uptime_nanos).contains(&uptime) {
            true => Timestamp::from_unix_nanos(now.boot_nanos().saturating_add(uptime)),
            // The clock was moved between the stamp and the write.
            false => stamp,
        }
    }
}

impl Timestamp {
    /// What the wall clock says.
    pub fn now() -> Timestamp {
        Timestamp::from_unix_nanos(wall_nanos())
    }
}

/// How old a message is; nothing when one of the clocks was not set.
pub fn age(time: Timestamp, now: Timestamp) -> Duration {
    let nanos = match time.clock_was_set() && now.clock_was_set() {
        true => now.unix_nanos() - time.unix_nanos(),
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

    #[test]
    fn nothing_is_old_while_the_clock_is_not_set() {
        let at = |seconds: i64| Timestamp::from_unix_nanos(seconds * SECOND);
        assert_eq!(age(at(NOW - 60), at(NOW)), Duration::from_secs(60));
        assert_eq!(age(at(100), at(NOW)), Duration::ZERO);
        assert_eq!(age(at(NOW), at(100)), Duration::ZERO);
        assert_eq!(age(at(NOW + 5), at(NOW)), Duration::ZERO);
    }

    #[test]
    fn another_clock_is_there_for_its_thread_and_its_time() {
        let before = Timestamp::now();
        let fixed = Moment { boot: 7, uptime_nanos: 5, wall_nanos: NOW * SECOND };
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
