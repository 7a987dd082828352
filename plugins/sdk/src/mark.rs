//! A moment that a node remembers, also over a restart.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::Instant;

use crate::clock;

/// A moment on the clock that only goes on. Written down as part of what a node remembers, it keeps
/// its distance from now: by the time since boot while the machine runs, and by the wall clock over
/// a restart of the machine, when that was right before and after. Else no time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub Instant);

/// How it is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    /// How far ahead it was; behind when negative.
    ahead_nanos: i64,
    boot: String,
    uptime_nanos: i64,
    /// Null when the clock was not set.
    wall_nanos: Option<i64>,
}

impl Mark {
    /// This moment.
    pub fn now() -> Mark {
        Mark(Instant::now())
    }

    /// How long ago it was. Nothing when it is still to come.
    pub fn age(self, now: Instant) -> Duration {
        now.saturating_duration_since(self.0)
    }
}

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (now, moment) = (Instant::now(), clock::moment());
        let ahead_nanos = match self.0.checked_duration_since(now) {
            Some(ahead) => nanos(ahead),
            None => -nanos(now - self.0),
        };
        let wall_nanos = moment.is_set.then_some(moment.wall_nanos);
        let boot = format!("{:x}", moment.boot);
        Written { ahead_nanos, boot, uptime_nanos: moment.uptime_nanos, wall_nanos }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Mark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mark, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let (now, moment) = (Instant::now(), clock::moment());
        let passed = match written.wall_nanos.filter(|_| moment.is_set) {
            _ if written.boot == format!("{:x}", moment.boot) => {
                moment.uptime_nanos.saturating_sub(written.uptime_nanos)
            }
            Some(then) => moment.wall_nanos.saturating_sub(then),
            None => 0,
        };
        let ahead = written.ahead_nanos.saturating_sub(passed.max(0));
        let distance = Duration::from_nanos(ahead.unsigned_abs());
        let there = if ahead < 0 { now.checked_sub(distance) } else { now.checked_add(distance) };
        Ok(Mark(there.unwrap_or(now)))
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::clock::Moment;

    const SECOND: i64 = 1_000_000_000;

    #[tokio::test(start_paused = true)]
    async fn a_mark_keeps_its_distance_over_a_restart() {
        let then =
            Moment { boot: 1, uptime_nanos: 50 * SECOND, wall_nanos: 90 * SECOND, is_set: true };
        let seconds = |ahead: i64, later: Moment, then: Moment| {
            let moment = Arc::new(Mutex::new(then));
            let clock = Arc::clone(&moment);
            let _replaced = clock::replace(Arc::new(move || *clock.lock().unwrap()));
            let now = Instant::now();
            let distance = Duration::from_secs(ahead.unsigned_abs());
            let mark = Mark(if ahead < 0 { now - distance } else { now + distance });
            let text = serde_json::to_string(&mark).unwrap();
            *moment.lock().unwrap() = later;
            let back: Mark = serde_json::from_str(&text).unwrap();
            back.0.saturating_duration_since(now).as_secs() as i64
                - now.saturating_duration_since(back.0).as_secs() as i64
        };
        let same_boot = Moment { uptime_nanos: 60 * SECOND, wall_nanos: 5 * SECOND, ..then };
        assert_eq!(seconds(30, same_boot, then), 20, "a clock that was set back says nothing");
        assert_eq!(seconds(-5, same_boot, then), -15);
        let rebooted =
            Moment { boot: 2, uptime_nanos: 3 * SECOND, wall_nanos: 100 * SECOND, is_set: true };
        assert_eq!(seconds(30, rebooted, then), 20);
        let not_set = Moment { is_set: false, ..rebooted };
        assert_eq!(seconds(30, not_set, then), 30, "nobody knows how long it was off");
        assert_eq!(seconds(30, rebooted, Moment { is_set: false, ..then }), 30);
        let behind = Moment { wall_nanos: 0, ..rebooted };
        assert_eq!(seconds(30, behind, then), 30, "a clock that went back says nothing");
    }
}
