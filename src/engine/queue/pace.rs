//! How fast what waited for the link may go: `drain_rate`.

use std::time::Duration;

use tokio::time::Instant;

/// What waited goes out in bursts no longer than this.
const BURST: Duration = Duration::from_millis(100);

/// When the next message that waited may go.
#[derive(Default)]
pub(super) struct Pace {
    next: Option<Instant>,
}

impl Pace {
    /// How many messages may go now, of `most`; or when the next may.
    pub fn may_go(&mut self, every: Duration, most: usize) -> Result<usize, Instant> {
        let now = Instant::now();
        if let Some(next) = self.next.filter(|next| *next > now) {
            return Err(next);
        }
        self.next = Some(now);
        let burst = BURST.as_nanos() / every.as_nanos().max(1);
        Ok(usize::try_from(burst).unwrap_or(most).clamp(1, most))
    }

    /// So many go.
    pub fn went(&mut self, every: Duration, count: usize) {
        let from = self.next.unwrap_or_else(Instant::now);
        self.next = Some(from + every * u32::try_from(count).unwrap_or(u32::MAX));
    }
}
