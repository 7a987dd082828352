//! How fast something may happen: who is faster waits for a while, and loses nothing.

use tokio::time::{Duration, Instant, sleep_until};

/// The pace of one kind of thing.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From one to the next. Zero when there is no limit.
    between: Duration,
    /// How much is let through at once after a quiet time, as time.
    burst: Duration,
    /// When the next may come.
    next: Instant,
}

impl Pace {
    /// With so much time from one to the next, on average.
    pub fn new(between: Option<Duration>, burst: Duration, now: Instant) -> Pace {
        Pace { between: between.unwrap_or_default(), burst, next: now }
    }

    /// As after a quiet time.
    pub fn rested(mut self) -> Pace {
        self.next = self.next.checked_sub(self.burst).unwrap_or(self.next);
        self
    }

    /// Counts so many, and says until when the client is not to be read.
    pub fn count(&mut self, many: u32, now: Instant) -> Option<Instant> {
        if self.between.is_zero() {
            return None;
        }
        let earliest = now.checked_sub(self.burst).unwrap_or(now);
        self.next = self.next.max(earliest) + self.between.saturating_mul(many);
        (self.next > now).then_some(self.next)
    }
}

/// Waits until both paces are kept.
pub async fn keep(paces: [Option<Instant>; 2]) {
    if let Some(until) = paces.into_iter().flatten().max() {
        sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_faster_waits_and_a_quiet_time_is_made_up_for_once() {
        let began = Instant::now();
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(Some(second / 10), second, began);
        for _ in 0..30 {
            keep([pace.count(1, Instant::now()), None]).await;
        }
        let passed = began.elapsed().as_millis();
        assert!((2900..=3000).contains(&passed), "{passed} ms");
        tokio::time::advance(Duration::from_secs(60)).await;
        let rested = Pace::new(Some(second / 10), second, Instant::now()).rested();
        for mut pace in [rested, pace] {
            let began = Instant::now();
            for _ in 0..20 {
                keep([pace.count(1, Instant::now()), None]).await;
            }
            let passed = began.elapsed().as_millis();
            assert!((900..=1000).contains(&passed), "{passed} ms");
            tokio::time::advance(second).await;
        }
        assert_eq!(Pace::new(None, second, began).count(1_000_000, began), None);
    }
}
