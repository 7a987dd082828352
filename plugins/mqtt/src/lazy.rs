//! A session that connects when there is something to say, and hangs up when nothing was said for a while.

use std::{
    fmt,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Who wants the session to be there.
pub struct Demand {
    /// After how long without a message it hangs up. None when it is always there.
    idle_close: Option<Duration>,
    /// How many sinks have something to say.
    speakers: watch::Sender<usize>,
    last_word: Mutex<Instant>,
}

/// Nothing was said for a while.
#[derive(Clone, Copy, Debug)]
pub struct Quiet;

impl fmt::Display for Quiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing is said at the moment")
    }
}

impl std::error::Error for Quiet {}

impl Demand {
    /// By what the settings say.
    pub fn new(idle_close: Option<Duration>) -> Arc<Demand> {
        let last_word = Mutex::new(Instant::now());
        Arc::new(Demand { idle_close, speakers: watch::Sender::default(), last_word })
    }

    /// Whether it is there only when somebody has something to say.
    pub fn is_lazy(&self) -> bool {
        self.idle_close.is_some()
    }

    /// Somebody has something to say, as long as what is given back lives.
    pub fn speak(self: &Arc<Demand>) -> Speaker {
        self.speakers.send_modify(|speakers| *speakers += 1);
        Speaker(Arc::clone(self))
    }

    /// Something came, or was said.
    pub fn heard(&self) {
        *self.last_word() = Instant::now();
    }

    fn last_word(&self) -> MutexGuard<'_, Instant> {
        self.last_word.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once somebody has something to say.
    pub async fn asked(&self) {
        if self.is_lazy() {
            // It cannot end: the sender is here.
            let _ = self.speakers.subscribe().wait_for(|speakers| *speakers > 0).await;
        }
    }

    /// Resolves once nothing was said for long enough. Never for a session that is always there.
    pub async fn quiet(&self) -> Quiet {
        let Some(idle_close) = self.idle_close else { return pending().await };
        loop {
            let last_word = *self.last_word();
            let mut speakers = self.speakers.subscribe();
            // Whoever speaks ends with a word.
            let _ = speakers.wait_for(|speakers| *speakers == 0).await;
            sleep_until(last_word + idle_close).await;
            if last_word == *self.last_word() && *self.speakers.borrow() == 0 {
                return Quiet;
            }
        }
    }
}

/// A sink that has something to say.
pub struct Speaker(Arc<Demand>);

impl Drop for Speaker {
    fn drop(&mut self) {
        self.0.heard();
        self.0.speakers.send_modify(|speakers| *speakers -= 1);
    }
}
