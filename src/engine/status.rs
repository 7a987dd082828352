//! How a node is, and what it has done. Every number is only ever read for showing.

use std::{
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::config::Name;

/// What is counted for each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Messages that the node read from its queue.
    Received,
    /// Messages that it sent on.
    Emitted,
    /// Messages that the other side took responsibility for.
    Delivered,
    /// Errors, each message or poll by itself.
    Errors,
    /// Messages dropped because a buffer was full.
    Dropped,
    /// Attempts that will be repeated.
    Retries,
}

const NAMES: [&str; 6] = ["received", "emitted", "delivered", "errors", "dropped", "retries"];

/// All numbers of a node, in the order of [`Count`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; NAMES.len()]);

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing heard of it yet.
    Starting,
    /// The other side is there.
    Running,
    /// It is tried again, after a pause. With the reason.
    Waiting(String),
}

/// The status of a node or connection.
pub struct Status {
    counts: [AtomicU64; NAMES.len()],
    state: Mutex<State>,
    complaint: Mutex<Complaint>,
    drops: Mutex<Complaint>,
    disk: Mutex<Option<Complaint>>,
}

/// Keeps a log readable: the same complaint is written at once, then at most once a minute, and
/// different ones at most once a second.
#[derive(Default)]
struct Complaint {
    text: String,
    written: Option<Instant>,
    unwritten: u64,
}

const BETWEEN_EQUALS: Duration = Duration::from_secs(60);
const BETWEEN_OTHERS: Duration = Duration::from_secs(1);

impl Status {
    pub fn new() -> Status {
        Status {
            counts: Default::default(),
            state: Mutex::new(State::Starting),
            complaint: Mutex::default(),
            drops: Mutex::default(),
            disk: Mutex::default(),
        }
    }

    pub fn add(&self, count: Count) {
        self.add_many(count, 1);
    }

    pub fn add_many(&self, count: Count, by: u64) {
        self.counts[count as usize].fetch_add(by, Ordering::Relaxed);
    }

    pub fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|index| self.counts[index].load(Ordering::Relaxed)))
    }

    pub fn state(&self) -> State {
        self.state.lock().expect("no panic while the lock is held").clone()
    }

    /// The other side is there.
    pub fn running(&self, node: &Name) {
        let before = std::mem::replace(
            &mut *self.state.lock().expect("no panic while the lock is held"),
            State::Running,
        );
        if let State::Waiting(reason) = before {
            info!(node = %node, "works again, after: {reason}");
            *self.complaint.lock().expect("no panic while the lock is held") = Complaint::default();
        }
    }

    /// An attempt that will be repeated.
    pub fn waiting(&self, node: &Name, error: &anyhow::Error) {
        self.add(Count::Retries);
        let text = format!("{error:#}");
        if let Some(unwritten) =
            self.complaint.lock().expect("no panic while the lock is held").write(&text)
        {
            warn!(node = %node, unwritten, "will try again: {text}");
        }
        *self.state.lock().expect("no panic while the lock is held") = State::Waiting(text);
    }

    /// A message that could not be handled, or a device that did not answer. It is lost unless
    /// somebody reads the `errors` output.
    pub fn error(&self, node: &Name, error: &anyhow::Error, is_read: bool) {
        self.add(Count::Errors);
        let text = format!("{error:#}");
        let Some(unwritten) =
            self.complaint.lock().expect("no panic while the lock is held").write(&text)
        else {
            return;
        };
        match is_read {
            true => warn!(node = %node, unwritten, "{text}"),
            false => error!(node = %node, unwritten, "{text}"),
        }
    }

    /// A message was dropped because a buffer is full and set to drop.
    pub fn dropped(&self, node: &Name) {
        self.add(Count::Dropped);
        if let Some(unwritten) =
            self.drops.lock().expect("no panic while the lock is held").write("full")
        {
            error!(node = %node, unwritten, "a reader's buffer is full: message dropped, as `when_full` says");
        }
    }

    /// Messages were dropped from the log on disk, because it was full and set to drop, or because
    /// they were too old.
    pub fn dropped_from_log(&self, node: &Name, count: u64) {
        self.add_many(Count::Dropped, count);
        error!(node = %node, count, "the oldest messages in the buffer on disk were dropped, as its limits say");
    }

    /// Messages were too old when their turn came.
    pub fn expired(&self, node: &Name, count: u64) {
        self.add_many(Count::Dropped, count);
        if let Some(unwritten) =
            self.drops.lock().expect("no panic while the lock is held").write("old")
        {
            error!(node = %node, count, unwritten, "messages were too old and dropped, as `max_age` or `expires_after` says");
        }
    }

    /// The disk under the node's buffer did not do what it should.
    pub fn disk_failed(&self, node: &Name, error: &str) {
        let mut disk = self.disk.lock().expect("no panic while the lock is held");
        if let Some(unwritten) = disk.get_or_insert_default().write(error) {
            error!(node = %node, unwritten, "{error}; messages wait in memory, will try again");
        }
    }

    /// It does again.
    pub fn disk_works(&self, node: &Name) {
        if self.disk.lock().expect("no panic while the lock is held").take().is_some() {
            info!(node = %node, "the buffer on disk works again");
        }
    }
}

impl Complaint {
    /// When this one is to be written now: how many were not since the last, if any.
    fn write(&mut self, text: &str) -> Option<Option<u64>> {
        let now = Instant::now();
        let pause = if self.text == text { BETWEEN_EQUALS } else { BETWEEN_OTHERS };
        if self.written.is_some_and(|written| now - written < pause) {
            self.unwritten += 1;
            return None;
        }
        self.written = Some(now);
        text.clone_into(&mut self.text);
        Some(Some(std::mem::take(&mut self.unwritten)).filter(|count| *count > 0))
    }
}

impl Counts {
    /// One of the numbers.
    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize]
    }
}

impl fmt::Display for Counts {
    /// `received 3, delivered 3`: what is not zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (name, number) in NAMES.iter().zip(self.0).filter(|(_, number)| *number > 0) {
            write!(f, "{comma}{name} {number}")?;
            comma = ", ";
        }
        if comma.is_empty() { write!(f, "nothing to do") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_complaints_becomes_a_few_lines() {
        let mut complaint = Complaint::default();
        assert_eq!(complaint.write("no answer"), Some(None));
        assert_eq!(complaint.write("no answer"), None);
        assert_eq!(complaint.write("bad value 1"), None);
        tokio::time::advance(BETWEEN_OTHERS).await;
        assert_eq!(complaint.write("no answer"), None);
        assert_eq!(complaint.write("bad value 2"), Some(Some(3)));
        assert_eq!(complaint.write("bad value 2"), None);
        tokio::time::advance(BETWEEN_EQUALS).await;
        assert_eq!(complaint.write("bad value 2"), Some(Some(1)));
    }
}
