//! What keeps a log readable: which complaints of a node are written, and which are only counted.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

const BETWEEN_EQUALS: Duration = Duration::from_secs(60);
const BETWEEN_OTHERS: Duration = Duration::from_secs(1);
/// Troubles of one node that last at the same time. Whatever is more is no news to anybody.
const MOST_LASTING: usize = 1000;

/// The same complaint is written at once, then at most once a minute, and different ones at most once
/// a second.
#[derive(Default)]
pub struct Complaint {
    text: String,
    written: Option<Instant>,
    unwritten: u64,
}

/// Troubles that last: each is written when it begins and when it is over, and one that comes and
/// goes at most once a minute.
#[derive(Default)]
pub struct Lasting(BTreeMap<String, Trouble>);

struct Trouble {
    /// None once it is over.
    why: Option<String>,
    /// When its beginning was written last.
    written: Instant,
    /// Whether its present beginning was.
    is_written: bool,
}

impl Complaint {
    /// Whether any was written.
    pub fn was_written(&self) -> bool {
        self.written.is_some()
    }

    /// When this one is to be written now: how many were not since the last, if any.
    pub fn write(&mut self, text: &str) -> Option<Option<u64>> {
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

/// What a trouble that was seen is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It begins, and is to be written.
    Begins,
    /// It begins again, so soon that it is not.
    Again,
    /// It is known.
    Known,
}

impl Lasting {
    /// A trouble is there.
    pub fn see(&mut self, what: &str, why: impl FnOnce() -> String) -> Seen {
        let now = Instant::now();
        if let Some(trouble) = self.0.get_mut(what) {
            if trouble.why.is_some() {
                return Seen::Known;
            }
            trouble.why = Some(why());
            trouble.is_written = now - trouble.written >= BETWEEN_EQUALS;
            if !trouble.is_written {
                return Seen::Again;
            }
            trouble.written = now;
            return Seen::Begins;
        }
        if self.0.len() >= MOST_LASTING {
            self.0.retain(|_, trouble| trouble.why.is_some());
        }
        if self.0.len() >= MOST_LASTING {
            return Seen::Known;
        }
        let trouble = Trouble { why: Some(why()), written: now, is_written: true };
        self.0.insert(what.to_owned(), trouble);
        Seen::Begins
    }

    /// A trouble is not there. The reason it had, when that is to be written.
    pub fn over(&mut self, what: &str) -> Option<String> {
        let trouble = self.0.get_mut(what)?;
        trouble.why.take().filter(|_| trouble.is_written)
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

    #[tokio::test(start_paused = true)]
    async fn what_a_device_refuses_is_written_when_it_begins_and_when_it_ends() {
        let mut lasting = Lasting::default();
        let refused = || "illegal data address".to_owned();
        assert_eq!(lasting.over("flow"), None);
        assert_eq!(lasting.see("flow", refused), Seen::Begins);
        assert_eq!(lasting.see("flow", refused), Seen::Known);
        assert_eq!(lasting.see("power", refused), Seen::Begins);
        assert_eq!(lasting.over("flow").as_deref(), Some("illegal data address"));
        assert_eq!(lasting.over("flow"), None);
        assert_eq!(lasting.see("power", refused), Seen::Known);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_and_goes_with_each_poll_is_written_once_a_minute() {
        let mut lasting = Lasting::default();
        let refused = || "busy".to_owned();
        assert_eq!(lasting.see("flow", refused), Seen::Begins);
        assert!(lasting.over("flow").is_some());
        for _ in 0..59 {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(lasting.see("flow", refused), Seen::Again);
            assert_eq!(lasting.over("flow"), None);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(lasting.see("flow", refused), Seen::Begins);
    }

    #[tokio::test(start_paused = true)]
    async fn names_without_end_take_no_memory_without_end() {
        let mut lasting = Lasting::default();
        for name in 0..3 * MOST_LASTING {
            lasting.see(&name.to_string(), || "why".to_owned());
        }
        assert_eq!(lasting.0.len(), MOST_LASTING);
        lasting.over("1");
        assert_eq!(lasting.see("a new one", || "why".to_owned()), Seen::Begins);
    }
}
