//! The pause before another try: it doubles from half a second to half a minute, and jitters so
//! that a fleet does not knock all at once.

use std::time::Duration;

use forebay_sdk::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
const CLOCK_CHECK: Duration = Duration::from_secs(1);

pub struct Backoff {
    next: Duration,
}

impl Backoff {
    pub fn new() -> Backoff {
        Backoff { next: FIRST }
    }

    /// The next pause is a short one again.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }

    /// Waits; longer each time. Not past the moment at which the wall clock is set: until then
    /// every certificate seems not to be valid yet, and that is nobody's outage.
    pub async fn pause(&mut self) {
        self.pause_by(|| Timestamp::now().clock_was_set()).await;
    }

    async fn pause_by(&mut self, clock_is_set: impl Fn() -> bool) {
        let pause = self.next.mul_f64(0.75 + 0.5 * fastrand::f64());
        self.next = (self.next * 2).min(LONGEST);
        let until = Instant::now() + pause;
        if clock_is_set() {
            return sleep_until(until).await;
        }
        while Instant::now() < until {
            sleep(CLOCK_CHECK.min(until - Instant::now())).await;
            if clock_is_set() {
                return self.reset();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_ends_the_pause() {
        let mut backoff = Backoff { next: LONGEST };
        let began = Instant::now();
        backoff.pause_by(|| began.elapsed() >= Duration::from_secs(5)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        assert_eq!(backoff.next, FIRST);

        let mut backoff = Backoff { next: LONGEST };
        let began = Instant::now();
        backoff.pause_by(|| true).await;
        assert!(began.elapsed() > Duration::from_secs(20));
    }
}
