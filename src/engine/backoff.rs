//! The pause before another try: it doubles from half a second, and jitters so that a fleet does not
//! knock all at once. How long it becomes depends on what a try costs.

use std::time::Duration;

use forebay_sdk::{Capabilities, Timestamp, World, connection::Refused};
use tokio::time::{Instant, sleep_until};

/// What lasts for so long was good for something.
pub const GOOD_AFTER: Duration = Duration::from_secs(20);

const FIRST: Duration = Duration::from_millis(500);
/// The longest pauses, before they jitter by up to a quarter: ten seconds on the local network,
const LONGEST_NEAR: Duration = Duration::from_secs(8);
/// half a minute elsewhere, where each try is on the bill,
const LONGEST: Duration = Duration::from_secs(24);
/// and five minutes when nothing gets better before a person has mended something.
const LONGEST_REFUSED: Duration = Duration::from_secs(240);
/// Then already the first is longer: servers count wrong passwords, and lock out who sends them often.
const FIRST_REFUSED: Duration = Duration::from_secs(4);

#[derive(Clone)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { next: FIRST, longest: LONGEST }
    }
}

impl Backoff {
    /// For tries of what has these capabilities.
    pub fn of(capabilities: Capabilities) -> Backoff {
        let mut backoff = Backoff::default();
        backoff.aim(capabilities);
        backoff
    }

    /// From now on the tries are those of what has these capabilities.
    pub fn aim(&mut self, capabilities: Capabilities) {
        self.longest = if capabilities.is_near { LONGEST_NEAR } else { LONGEST };
    }

    /// The next pause is a short one again.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }

    /// Waits after an error; longer each time. Not past the moment at which the wall clock is set:
    /// until then every certificate seems not to be valid yet, and that is nobody's outage.
    pub async fn pause(&mut self, error: &anyhow::Error, world: &World) {
        let (first, longest) = match error.is::<Refused>() {
            true => (FIRST_REFUSED, LONGEST_REFUSED),
            false => (FIRST, self.longest),
        };
        let pause = self.next.clamp(first, longest);
        self.next = (pause * 2).min(longest);
        let until = Instant::now() + pause.mul_f64(0.75 + 0.5 * fastrand::f64());
        while !Timestamp::now().clock_was_set() {
            tokio::select! {
                biased;
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
        let error = anyhow::anyhow!("its certificate is not valid yet");
        let mut backoff = Backoff { next: LONGEST, ..Backoff::default() };
        let began = Instant::now();
        let set = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            memory.set_wall(NOW);
        };
        tokio::join!(backoff.pause(&error, &world), set);
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        assert_eq!(backoff.next, FIRST);

        let mut backoff = Backoff { next: LONGEST, ..Backoff::default() };
        let began = Instant::now();
        backoff.pause(&error, &world).await;
        assert!(began.elapsed() > Duration::from_secs(17));
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_a_pause_becomes_depends_on_what_a_try_costs() {
        let memory = Arc::new(Memory::new(NOW));
        let _entered = memory.enter();
        let pauses = async |is_near: bool, error: &anyhow::Error| {
            let mut backoff = Backoff::of(Capabilities { is_near, ..Capabilities::default() });
            let mut pauses = Vec::new();
            for _ in 0..30 {
                let began = Instant::now();
                backoff.pause(error, &memory.world()).await;
                pauses.push(began.elapsed().as_secs_f64());
            }
            (pauses[0], pauses.into_iter().fold(0.0, f64::max))
        };
        let (away, refused) = (anyhow::anyhow!("gone"), Refused::new("bad password").into());
        let (first, longest) = pauses(true, &away).await;
        assert!((0.3..=0.7).contains(&first) && (6.0..=10.1).contains(&longest));
        let (first, longest) = pauses(false, &away).await;
        assert!((0.3..=0.7).contains(&first) && (18.0..=30.1).contains(&longest));
        let (first, longest) = pauses(true, &refused).await;
        assert!((3.0..=5.1).contains(&first) && (180.0..=300.1).contains(&longest));
    }
}
