//! Who is served next where one thread serves all: who keeps it busy gives way to the others.

use tokio::{
    sync::Mutex,
    task::yield_now,
    time::{Duration, Instant},
};

use crate::pace::Pace;

/// Who keeps the thread busy for more than one part in so many has much to do.
const SHARE: u32 = 8;
/// What anybody may do in a row.
const AT_ONCE: Duration = Duration::from_micros(100);

/// The turns of those who have much to do.
#[derive(Default)]
pub struct Turns(Mutex<()>);

impl Turns {
    /// For one who serves a device.
    pub fn turn(&self) -> Turn<'_> {
        Turn { turns: self, pace: rested(Instant::now()) }
    }

    /// Lets all others go first, but for those who give way too: of these, one goes on at a time.
    async fn give_way(&self) {
        let _first = self.0.lock().await;
        yield_now().await;
    }
}

/// What one who serves a device has done lately.
pub struct Turn<'a> {
    turns: &'a Turns,
    pace: Pace,
}

impl Turn<'_> {
    /// Work was done since then. Gives way when it was much.
    pub async fn worked_since(&mut self, began: Instant) {
        let now = Instant::now();
        let nanos = u32::try_from((now - began).as_nanos()).unwrap_or(u32::MAX);
        if self.pace.count(nanos, now).is_some() {
            self.turns.give_way().await;
            self.pace = rested(Instant::now());
        }
    }
}

fn rested(now: Instant) -> Pace {
    Pace::new(Some(Duration::from_nanos(SHARE.into())), AT_ONCE * SHARE, now).rested()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_has_little_to_do_is_served_between_any_two_who_have_much() {
        let (turns, done) = (Arc::new(Turns::default()), Arc::new(AtomicUsize::new(0)));
        for _ in 0..20 {
            let (turns, done) = (Arc::clone(&turns), Arc::clone(&done));
            tokio::spawn(async move {
                let mut turn = turns.turn();
                loop {
                    let began = Instant::now() - AT_ONCE * 2;
                    done.fetch_add(1, Ordering::Relaxed);
                    turn.worked_since(began).await;
                }
            });
        }
        // Each begins.
        yield_now().await;
        let mut turn = turns.turn();
        for round in 0..100 {
            let before = done.load(Ordering::Relaxed);
            // It would go on at once.
            turn.worked_since(Instant::now() - AT_ONCE / 10).await;
            assert_eq!(done.load(Ordering::Relaxed), before, "round {round}");
            yield_now().await;
            let between = done.load(Ordering::Relaxed) - before;
            assert_eq!(between, 1, "round {round}");
            tokio::time::advance(AT_ONCE).await;
        }
    }
}
