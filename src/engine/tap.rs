//! Looking at the messages of a wire as they pass, without slowing it: what the looker does not take in time,
//! and what is more than was asked for, is left out and counted.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{Message, Port};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

use super::status::Status;

/// Messages that passed and were not looked at yet.
const MOST_WAITING: usize = 64;

/// A message that passed.
pub struct Tapped {
    /// The output that it came out of: `boiler/meter`, `boiler/route.high`.
    pub output: Arc<str>,
    /// As it passed.
    pub message: Message,
    /// How many passed before it, since the last one that is told, and are left out.
    pub left_out: u64,
    status: Arc<Status>,
}

impl Tapped {
    /// A text about it, without what is not to be shown of the node's settings.
    pub fn hide(&self, text: String) -> String {
        self.status.hide(text)
    }
}

/// What looks at an output.
pub(super) struct Tap {
    port: Port,
    output: Arc<str>,
    status: Arc<Status>,
    looker: mpsc::Sender<Tapped>,
    every: Duration,
    next: Option<Instant>,
    left_out: u64,
}

/// Where those who look are told.
pub(super) fn channel() -> (mpsc::Sender<Tapped>, mpsc::Receiver<Tapped>) {
    mpsc::channel(MOST_WAITING)
}

impl Tap {
    pub(super) fn new(
        (port, output): (Port, Arc<str>),
        status: Arc<Status>,
        looker: mpsc::Sender<Tapped>,
        every: Duration,
    ) -> Tap {
        Tap { port, output, status, looker, every, next: None, left_out: 0 }
    }

    /// A message passes. False when nobody looks any more.
    pub(super) fn see(&mut self, port: Port, message: &Message) -> bool {
        if port != self.port {
            return !self.looker.is_closed();
        }
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            self.left_out += 1;
            return !self.looker.is_closed();
        }
        let (output, status) = (Arc::clone(&self.output), Arc::clone(&self.status));
        let message = message.clone();
        let tapped = Tapped { output, message, left_out: self.left_out, status };
        match self.looker.try_send(tapped) {
            Ok(()) => {
                self.left_out = 0;
                self.next = Some(now + self.every);
                true
            }
            Err(TrySendError::Full(_)) => {
                self.left_out += 1;
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}
