//! How much of its time a bus was busy over the last minute. Pure.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// How often the share is reckoned.
pub const SLICE: Duration = Duration::from_secs(10);
/// A minute.
const SLICES: usize = 6;

/// The busy time of the last minute, in slices.
pub struct BusyTime {
    /// Time that passed, and how much of it the bus was busy.
    slices: VecDeque<(Duration, Duration)>,
    /// When the slice at hand began.
    since: Instant,
    /// How much of the slice at hand the bus was busy.
    busy: Duration,
}

impl BusyTime {
    pub fn since(now: Instant) -> BusyTime {
        BusyTime { slices: VecDeque::with_capacity(SLICES), since: now, busy: Duration::ZERO }
    }

    /// The bus was busy for so long.
    pub fn add(&mut self, busy: Duration) {
        self.busy += busy;
    }

    /// Ends a slice. Returns the share of the last minute, from 0 to 1; a little more when a pause
    /// has begun that ends in the next slice.
    pub fn turn(&mut self, now: Instant) -> f64 {
        if self.slices.len() == SLICES {
            self.slices.pop_front();
        }
        self.slices.push_back((now - self.since, std::mem::take(&mut self.busy)));
        self.since = now;
        let passed: Duration = self.slices.iter().map(|(passed, _)| *passed).sum();
        let busy: Duration = self.slices.iter().map(|(_, busy)| *busy).sum();
        if passed.is_zero() { 0.0 } else { busy.as_secs_f64() / passed.as_secs_f64() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_share_is_that_of_the_last_minute() {
        let mut now = Instant::now();
        let mut time = BusyTime::since(now);
        let mut shares = Vec::new();
        for busy_seconds in [10, 0, 0, 0, 0, 5, 0, 0] {
            time.add(Duration::from_secs(busy_seconds));
            now += SLICE;
            shares.push((time.turn(now) * 100.0).round());
        }
        assert_eq!(shares, [100.0, 50.0, 33.0, 25.0, 20.0, 25.0, 8.0, 8.0]);
        // A late turn counts for as long as it lasted.
        time.add(Duration::from_secs(30));
        assert_eq!((time.turn(now + SLICE * 5) * 100.0).round(), 35.0);
        assert_eq!(BusyTime::since(now).turn(now), 0.0);
    }
}
