//! The clocks of a router without a battery: which boot this is, how long it has lasted, and what the
//! wall clock says, which is wrong until the network sets it. Messages stamped before that get
//! their real time by them.

use std::{sync::OnceLock, time::Duration};

use forebay_sdk::Timestamp;

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

/// Where a buffer gets its time from. Tests have their own.
pub type Clock = Box<dyn Fn() -> Moment + Send + Sync>;

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

/// The clocks of this machine.
pub fn system() -> Clock {
    let boot = boot_id();
    Box::new(move || {
        // Not `/proc/uptime`: inside a container, that may count from the start of the container.
        let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let uptime_nanos = uptime.tv_sec.saturating_mul(1_000_000_000) + uptime.tv_nsec;
        Moment { boot, uptime_nanos, wall_nanos: Timestamp::now().unix_nanos() }
    })
}

fn boot_id() -> u128 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or_default()
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

/// The clocks, and when this run began by them.
static BEGAN: OnceLock<(Clock, Origin)> = OnceLock::new();

/// Takes note of the clocks. To be called before the first message is stamped.
pub fn begin() {
    BEGAN.get_or_init(|| {
        let clock = system();
        let origin = clock().origin();
        (clock, origin)
    });
}

/// A moment that was stamped before the clock was set, as it would be stamped now that it is. Any
/// other stays as it is.
pub fn restamped(time: Timestamp) -> Timestamp {
    match BEGAN.get().filter(|_| !time.clock_was_set()) {
        Some((clock, origin)) => origin.restamp(time, &clock()),
        None => time,
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
}
