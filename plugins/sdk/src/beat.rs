//! A steady beat, for sources that do something over and over.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A steady beat. One whose time passed while its source was busy is not made up for: the next one
/// is again one of the regular beats. After a stall of the whole machine the beat that was waited for
/// comes late, and no other within half of a period.
pub struct Beat {
    every: Duration,
    /// Of the next one; and of the last, when there was one.
    due: Instant,
    last: Option<Instant>,
    /// The next one is not before.
    soonest: Instant,
    /// One of the regular beats; the others are whole periods away.
    regular: Instant,
}

impl Beat {
    /// The first is at once. `every` is longer than nothing.
    pub fn every(every: Duration) -> Beat {
        Beat::since(Instant::now(), every)
    }

    /// The first is at once, and the others at whole periods since some moment, so that all who know of
    /// it beat together. The second comes half a period after the first, or up to one and a half.
    pub fn since(origin: Instant, every: Duration) -> Beat {
        let now = Instant::now();
        Beat { every, due: now, last: None, soonest: now, regular: origin }
    }

    /// Waits for the next one. Returns how many were skipped since the last, for
    /// [`crate::Figure::Overruns`].
    pub async fn next(&mut self) -> u64 {
        if self.last.is_some() {
            self.due = self.regular_after(self.soonest.max(Instant::now()));
            self.regular = self.due;
        }
        sleep_until(self.due).await;
        let since = self.last.replace(self.due).map_or(Duration::ZERO, |last| self.due - last);
        let is_late = self.due.elapsed() > self.every / 2;
        self.soonest = if is_late { Instant::now() } else { self.due } + self.every / 2;
        let beats = since.as_nanos() / self.every.as_nanos();
        u64::try_from(beats).unwrap_or(u64::MAX).saturating_sub(1)
    }

    /// The first regular one that is not before a moment.
    fn regular_after(&self, moment: Instant) -> Instant {
        let late = moment.saturating_duration_since(self.regular).as_nanos();
        let every = self.every.as_nanos();
        let nanos = u64::try_from(late.div_ceil(every) * every).unwrap_or(u64::MAX);
        self.regular + Duration::from_nanos(nanos)
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use tokio::time::{advance, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_missed_is_counted_and_not_made_up_for() {
        let start = Instant::now();
        let mut beat = Beat::every(Duration::from_secs(1));
        let mut seen = Vec::new();
        for busy_millis in [0, 900, 3500, 1000, 0, 0] {
            let skipped = beat.next().await;
            seen.push((start.elapsed().as_millis(), skipped));
            sleep(Duration::from_millis(busy_millis)).await;
        }
        // The beats of 3, 4 and 5 s passed while it was busy. What lasts to the next beat is no stall.
        assert_eq!(seen, [(0, 0), (1000, 0), (2000, 0), (6000, 3), (7000, 0), (8000, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_device_is_asked_at_regular_beats_and_not_without_a_pause() {
        let start = Instant::now();
        let mut beat = Beat::every(Duration::from_secs(1));
        for due in [0, 2000, 4000, 6000] {
            beat.next().await;
            assert_eq!(start.elapsed().as_millis(), due);
            sleep(Duration::from_millis(1200)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_begins_later_beats_together_with_the_others() {
        let start = Instant::now();
        for (begins, beats) in
            [(0, [0, 1000, 2000]), (2300, [2300, 3000, 4000]), (4700, [4700, 6000, 7000])]
        {
            tokio::time::sleep_until(start + Duration::from_millis(begins)).await;
            let mut beat = Beat::since(start, Duration::from_secs(1));
            for expected in beats {
                assert_eq!(beat.next().await, 0);
                assert_eq!(start.elapsed().as_millis(), expected);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_followed_by_one_beat_and_then_by_a_regular_one() {
        for (woke, then) in [(1400, 2000), (1600, 3000), (4400, 5000), (4990, 6000)] {
            let start = Instant::now();
            let mut beat = Beat::every(Duration::from_secs(1));
            beat.next().await;
            let mut next = Box::pin(beat.next());
            assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            advance(Duration::from_millis(woke)).await;
            next.as_mut().await;
            drop(next);
            assert_eq!(start.elapsed().as_millis(), u128::from(woke), "it was waited for");
            beat.next().await;
            assert_eq!(start.elapsed().as_millis(), then, "{woke}");
        }
    }
}
