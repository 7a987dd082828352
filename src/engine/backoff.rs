//! The pause before another try: it doubles from half a second to half a minute, and jitters so
//! that a fleet does not knock all at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

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

    /// Waits; longer each time.
    pub async fn pause(&mut self) {
        let pause = self.next.mul_f64(0.75 + 0.5 * fastrand::f64());
        self.next = (self.next * 2).min(LONGEST);
        tokio::time::sleep(pause).await;
    }
}
