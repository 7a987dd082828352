//! A steady beat, for sources that do something over and over.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

/// A steady beat. One that comes late is not made up for: those that passed meanwhile are skipped,
/// and the next is in rhythm again.
pub struct Beat {
    interval: Interval,
    /// When the last one was due.
    last: Option<Instant>,
}

impl Beat {
    /// The first is at once. `every` is longer than nothing.
    pub fn every(every: Duration) -> Beat {
        let mut interval = interval(every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Beat { interval, last: None }
    }

    /// Waits for the next one. Returns how many were skipped since the last, for
    /// [`crate::Figure::Overruns`].
    pub async fn next(&mut self) -> u64 {
        let due = self.interval.tick().await;
        let since = self.last.replace(due).map_or(Duration::ZERO, |last| due - last);
        let beats = since.as_nanos() / self.interval.period().as_nanos();
        u64::try_from(beats).unwrap_or(u64::MAX).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_missed_is_counted_and_not_made_up_for() {
        let start = Instant::now();
        let mut beat = Beat::every(Duration::from_secs(1));
        let mut seen = Vec::new();
        for busy_millis in [0, 900, 3500, 0, 0] {
            let skipped = beat.next().await;
            seen.push((start.elapsed().as_millis(), skipped));
            sleep(Duration::from_millis(busy_millis)).await;
        }
        // The beat of 3 s came at 5.5 s; those of 4 and 5 s were skipped.
        assert_eq!(seen, [(0, 0), (1000, 0), (2000, 0), (5500, 0), (6000, 2)]);
    }
}
