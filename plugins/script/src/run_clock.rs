//! How long a run of a script may take.

use std::time::Duration;

use tokio::time::Instant;

/// The time of one run. Its first half is by the clock on the wall; the second is time that the processor has worked for
/// this thread, for while others have the processor a script can do nothing. To ask for that is a system call, which short runs
/// are spared.
pub(crate) struct RunClock {
    began: Instant,
    limit: Duration,
    /// How long the processor has worked by the time the run ends. None in the first half.
    ends: Option<Duration>,
}

impl RunClock {
    /// Of a run that begins now.
    pub fn of(limit: Duration) -> RunClock {
        RunClock { began: Instant::now(), limit, ends: None }
    }

    /// Since it began, by the clock on the wall.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether the time is up. `elapsed` is since it began, `worked` how long the processor has worked for this thread.
    pub fn is_up(&mut self, elapsed: Duration, worked: impl FnOnce() -> Duration) -> bool {
        match self.ends {
            None if elapsed <= self.limit / 2 => false,
            None => {
                self.ends = Some(worked() + self.limit / 2);
                false
            }
            Some(ends) => worked() > ends,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_script_was_stopped_because_others_had_the_processor() {
        let mut clock = RunClock::of(50 * MILLI);
        // An hour passes, in which the processor works for a hundredth of a second, and then goes on.
        assert!(!clock.is_up(3_600_000 * MILLI, || 10 * MILLI));
        assert!(!clock.is_up(7_200_000 * MILLI, || 35 * MILLI));
        assert!(clock.is_up(7_200_000 * MILLI, || 36 * MILLI));
    }

    #[test]
    fn a_script_that_has_the_processor_for_itself_gets_its_time_and_no_more() {
        let mut clock = RunClock::of(50 * MILLI);
        let worked_before = 500 * MILLI;
        let up = (1..100).map(|at| at * MILLI).find(|at| clock.is_up(*at, || worked_before + *at));
        assert_eq!(up, Some(52 * MILLI));
    }
}
