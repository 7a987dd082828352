//! The wall clock of a router without a battery: wrong after power-up, until the network sets it.

use std::{sync::OnceLock, time::Duration};

use forebay_sdk::Timestamp;
use tokio::time::Instant;

/// What both clocks showed when the program began.
static BEGAN: OnceLock<(Timestamp, Instant)> = OnceLock::new();

/// Takes note of both clocks. To be called before the first message is stamped.
pub fn begin() {
    BEGAN.get_or_init(|| (Timestamp::now(), Instant::now()));
}

/// A moment that was stamped before the clock was set, as it would be stamped now that it is. Any
/// other stays as it is.
pub fn restamped(time: Timestamp) -> Timestamp {
    let Some((wall, steady)) = BEGAN.get().filter(|_| !time.clock_was_set()) else { return time };
    restamp(time, *wall, steady.elapsed(), Timestamp::now())
}

/// `began` is what the wall clock showed `ago`; `now` is what it shows now.
fn restamp(time: Timestamp, began: Timestamp, ago: Duration, now: Timestamp) -> Timestamp {
    let is_of_this_run = time.unix_nanos() >= began.unix_nanos();
    if began.clock_was_set() || !now.clock_was_set() || !is_of_this_run {
        return time;
    }
    let ago = i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX);
    let really_began = now.unix_nanos().saturating_sub(ago);
    let after_begin = time.unix_nanos() - began.unix_nanos();
    Timestamp::from_unix_nanos(really_began.saturating_add(after_begin))
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

    #[track_caller]
    fn check(time: i64, began: i64, ago_seconds: u64, now: i64, expected: i64) {
        let at = |seconds: i64| Timestamp::from_unix_nanos(seconds * SECOND);
        let restamped = restamp(at(time), at(began), Duration::from_secs(ago_seconds), at(now));
        assert_eq!(restamped.unix_nanos() / SECOND, expected);
    }

    #[test]
    fn what_was_stamped_before_the_clock_was_set_gets_its_real_time() {
        // Ten seconds after a start that the clock took for 1970; an hour later it is set.
        check(110, 100, 3600, NOW, NOW - 3600 + 10);
        // Not set yet.
        check(110, 100, 3600, 3700, 110);
        // The clock was right all along, or the stamp is of another run.
        check(110, NOW - 60, 60, NOW, 110);
        check(90, 100, 3600, NOW, 90);
    }

    #[test]
    fn nothing_is_old_while_the_clock_is_not_set() {
        let at = |seconds: i64| Timestamp::from_unix_nanos(seconds * SECOND);
        assert_eq!(age(at(NOW - 60), at(NOW)), Duration::from_secs(60));
        assert_eq!(age(at(100), at(NOW)), Duration::ZERO);
        assert_eq!(age(at(NOW), at(100)), Duration::ZERO);
        assert_eq!(age(at(NOW + 5), at(NOW)), Duration::ZERO);
    }
}
