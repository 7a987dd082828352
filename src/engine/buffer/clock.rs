//! The clocks that a buffer looks at: which boot this is, how long it has lasted, and what the wall
//! clock says. Messages stamped before the wall clock was set get their real time by them.

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
