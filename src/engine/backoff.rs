//! The pause before another try: it doubles from half a second to half a minute, and jitters so
//! that a fleet does not knock all at once.

use std::time::Duration;

use forebay_sdk::{Timestamp, World};
use tokio::time::{Instant, sleep_until};

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::new()
    }
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
    pub async fn pause(&mut self, world: &World) {
        let pause = self.next.mul_f64(0.75 + 0.5 * fastrand::f64());
        self.next = (self.next * 2).min(LONGEST);
        let until = Instant::now() + pause;
        while !Timestamp::now().clock_was_set() {
            tokio::select! {
                () = sleep_until(until) => return,
                () = world.clock_was_moved() => (),
            }
            if Timestamp::now().clock_was_set() {
                return self.reset();
            }
        }
        sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forebay_sdk::world::memory::Memory;

    use super::*;

    const LONG_AGO: i64 = 1_000_000_000_000_000_000;
    const NOW: i64 = 1_795_251_600_000_000_000;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_ends_the_pause() {
        let memory = Arc::new(Memory::before_clock_is_set(LONG_AGO));
        let _entered = memory.enter();
        let world = memory.world();
        let mut backoff = Backoff { next: LONGEST };
        let began = Instant::now();
        let set = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            memory.set_wall(NOW);
        };
        tokio::join!(backoff.pause(&world), set);
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        assert_eq!(backoff.next, FIRST);

        let mut backoff = Backoff { next: LONGEST };
        let began = Instant::now();
        backoff.pause(&world).await;
        assert!(began.elapsed() > Duration::from_secs(20));
    }
}
