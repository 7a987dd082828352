//! How often somebody may log in: a router locks out who tries too often, and keeps a session for each
//! who does.

use std::time::Duration;

use anyhow::anyhow;
use forebay_sdk::connection::Refused;
use tokio::time::Instant;

use crate::place::Place;

/// Nobody logs in again sooner, unless the session before was a good one. It grows while they are not.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// After a login that was refused, when none was ever not.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);
/// For the longest after a login that failed for no reason that lies with who we are.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
const LONGEST_REFUSED: Duration = Duration::from_secs(3600);

/// When the next login may be.
pub struct Patience {
    /// Not before.
    next: Option<Instant>,
    pause: Duration,
    /// Why the last one was refused.
    refused: Option<Refused>,
    /// Whether one ever was not. Then a refusal may be the router's trouble.
    has_worked: bool,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { next: None, pause: FIRST_PAUSE, refused: None, has_worked: false }
    }
}

impl Patience {
    /// Whether a login may be now.
    pub fn may_log_in(&self, place: &Place) -> anyhow::Result<()> {
        if self.next.is_none_or(|next| next <= Instant::now()) {
            return Ok(());
        }
        // In the same words as before, so that nobody writes them into the log again.
        Err(match &self.refused {
            Some(refused) => refused.clone().into(),
            None => {
                anyhow!("waiting before the next login at {place}, so that it does not lock us out")
            }
        })
    }

    /// It let us in. What the session is good for is not known yet.
    pub fn logged_in(&mut self) {
        self.has_worked = true;
        // Then it was no wrong password that it was refused for.
        if self.refused.take().is_some() {
            self.pause = FIRST_PAUSE;
        }
        self.next = Some(Instant::now() + self.pause);
    }

    /// A session ended when its time was over.
    pub fn session_lasted(&mut self) {
        (self.next, self.pause) = (None, FIRST_PAUSE);
    }

    /// A session serves.
    pub fn proved(&mut self) {
        self.pause = FIRST_PAUSE;
    }

    /// A session ended early. One may be an accident, or the router has booted.
    pub fn session_was_lost(&mut self) {
        self.pause = (self.pause * 2).min(LONGEST_REFUSED);
    }

    /// A login led to nothing, for no reason that lies with who we are.
    pub fn failed(&mut self) {
        self.wait(self.pause, LONGEST_PAUSE);
    }

    /// It does not let us in.
    pub fn refused(&mut self, place: &Place, username: &str, why: &str) -> Refused {
        let least = if self.has_worked { FIRST_PAUSE } else { REFUSED_PAUSE };
        self.wait(self.pause.max(least), LONGEST_REFUSED);
        let refused = Refused::new(format!(
            "{place} does not let `{username}` in: {why}. Look at `username` and `password`; tries are further and \
             further apart, so that it does not lock the account"
        ));
        self.refused = Some(refused.clone());
        refused
    }

    /// The next login is after this, and the one after that after twice as long.
    fn wait(&mut self, pause: Duration, longest: Duration) {
        self.next = Some(Instant::now() + pause);
        self.pause = (pause * 2).min(longest.max(self.pause));
    }
}
