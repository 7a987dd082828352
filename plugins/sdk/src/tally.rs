//! Counts what happens too often to log each time.

use std::time::Duration;

use tokio::time::Instant;

const PAUSE: Duration = Duration::from_secs(60);

/// Says when to log, and how many times the thing happened since the last line.
#[derive(Debug, Default)]
pub struct Tally {
    count: u64,
    quiet_until: Option<Instant>,
}

impl Tally {
    /// Counts once. Gives the count at the first time, and then at most once a minute.
    pub fn add(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.quiet_until.is_some_and(|until| now < until) {
            return None;
        }
        self.quiet_until = Some(now + PAUSE);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_time_is_told_and_then_a_count_each_minute() {
        let mut tally = Tally::default();
        let start = Instant::now();
        assert_eq!(tally.add(start), Some(1));
        assert_eq!(tally.add(start), None);
        assert_eq!(tally.add(start + PAUSE / 2), None);
        assert_eq!(tally.add(start + PAUSE), Some(3));
        assert_eq!(tally.add(start + PAUSE), None);
    }
}
