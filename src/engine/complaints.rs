//! What keeps a log readable: which complaints of a node are written, and which are only counted. What
//! was counted is written after a minute, and when the program ends.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::warnings::{
    BUFFER_DISK_FAILS, DROPPED_MESSAGES, LOST_MESSAGES, REFUSED_MESSAGES, TRIED_AGAIN, TROUBLE,
    UNHEARD_ERROR, Warning,
};

const BETWEEN_EQUALS: Duration = Duration::from_secs(60);
/// Complaints of which a node's log knows when they were written last.
const MOST_KNOWN: usize = 8;
/// So many lines of one node are written in a row, and then one for each pause.
const LINES_OF_A_NODE: Allowance = Allowance { most: 20, pause: Duration::from_secs(6) };
/// The same for all nodes together.
const LINES_OF_ALL: Allowance = Allowance { most: 500, pause: Duration::from_millis(200) };
/// Troubles of one node that last at the same time. Whatever is more is no news to anybody.
const MOST_LASTING: usize = 1000;

/// What a complaint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An attempt that will be repeated.
    Retry,
    /// Something that ends nothing.
    Trouble,
    /// An error of which nobody reads.
    Unheard,
    /// A message that was refused, and of which nobody reads.
    Refused,
    /// Messages that a limit dropped.
    Dropped,
    /// Messages that are gone and should not be.
    Lost,
    /// The disk does not do what it should.
    Disk,
}

impl Kind {
    /// What its line in the log names, and `forebay explain` knows.
    pub fn rule(self) -> &'static Warning {
        match self {
            Kind::Retry => &TRIED_AGAIN,
            Kind::Trouble => &TROUBLE,
            Kind::Unheard => &UNHEARD_ERROR,
            Kind::Refused => &REFUSED_MESSAGES,
            Kind::Dropped => &DROPPED_MESSAGES,
            Kind::Lost => &LOST_MESSAGES,
            Kind::Disk => &BUFFER_DISK_FAILS,
        }
    }
}

/// A complaint that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub kind: Kind,
    pub text: String,
    /// How many messages, or how often, since the last such line.
    pub count: u64,
}

/// What a node complains of. The same is written at once, then at most once a minute; and all
/// together no more than an allowance of lines.
#[derive(Default)]
pub struct Complaints {
    known: Vec<Known>,
    lines: Budget,
    /// Complaints that are not known any more and were not written.
    left_out: u64,
}

struct Known {
    kind: Kind,
    text: String,
    /// Of the last one.
    detail: String,
    is_written: bool,
    /// When it was written last, or else came up.
    since: Instant,
    unwritten: u64,
}

/// How many lines may be written.
#[derive(Clone, Copy)]
struct Allowance {
    most: u32,
    /// For each one more.
    pause: Duration,
}

/// What was used of an allowance.
#[derive(Default)]
struct Budget {
    used: u32,
    /// When less was used last.
    since: Option<Instant>,
}

thread_local! {
    /// Of all nodes: they run on one thread.
    static OF_ALL: RefCell<Budget> = const { RefCell::new(Budget { used: 0, since: None }) };
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

impl Complaints {
    /// Complains about `count` messages, or so often. The line, when it is to be written now. `detail` stands behind the text
    /// and makes no other complaint of it.
    pub fn say(&mut self, kind: Kind, text: &str, detail: &str, count: u64) -> Option<Line> {
        let known = self.known.iter().position(|known| known.kind == kind && known.text == text);
        let at = known.unwrap_or_else(|| {
            if self.known.len() == MOST_KNOWN {
                self.left_out += self.known.remove(0).unwritten;
            }
            let (text, since) = (text.to_owned(), Instant::now());
            let detail = String::new();
            self.known.push(Known { kind, text, detail, is_written: false, since, unwritten: 0 });
            self.known.len() - 1
        });
        let known = &mut self.known[at];
        detail.clone_into(&mut known.detail);
        known.unwritten += count;
        let is_due = !known.is_written || known.since.elapsed() >= BETWEEN_EQUALS;
        (is_due && self.lines.take(LINES_OF_A_NODE) && take_of_all()).then(|| known.line())
    }

    /// It is over: what is said of it next is news.
    pub fn forget(&mut self, kind: Kind) {
        let (left, over) =
            std::mem::take(&mut self.known).into_iter().partition(|k| k.kind != kind);
        self.known = left;
        self.left_out += Vec::into_iter(over).map(|over: Known| over.unwritten).sum::<u64>();
    }

    /// What was only counted and is to be written by now.
    pub fn rest(&mut self) -> Vec<Line> {
        let has_any = self.left_out > 0 || self.known.iter().any(|known| known.unwritten > 0);
        match has_any && take_of_all() {
            true => self.rest_after(BETWEEN_EQUALS),
            false => Vec::new(),
        }
    }

    /// The same, at the end of the program.
    pub fn all_the_rest(&mut self) -> Vec<Line> {
        self.rest_after(Duration::ZERO)
    }

    fn rest_after(&mut self, pause: Duration) -> Vec<Line> {
        let is_due = |known: &&mut Known| known.unwritten > 0 && known.since.elapsed() >= pause;
        let mut lines: Vec<Line> = self.known.iter_mut().filter(is_due).map(Known::line).collect();
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            let text = "other complaints were left out here, as there were too many".to_owned();
            lines.push(Line { kind: Kind::Trouble, text, count: left_out });
        }
        lines
    }
}

impl Known {
    fn line(&mut self) -> Line {
        (self.is_written, self.since) = (true, Instant::now());
        let count = std::mem::take(&mut self.unwritten);
        let text = match self.detail.is_empty() {
            true => self.text.clone(),
            false => format!("{} ({})", self.text, self.detail),
        };
        Line { kind: self.kind, text, count }
    }
}

impl Budget {
    /// Takes one line, when there is one left.
    fn take(&mut self, allowance: Allowance) -> bool {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let more = (now - since).as_nanos() / allowance.pause.as_nanos();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        if more > 0 {
            self.used = self.used.saturating_sub(more);
            self.since = Some(now);
        }
        let is_left = self.used < allowance.most;
        self.used += u32::from(is_left);
        is_left
    }
}

/// Takes one line of what all nodes may write.
fn take_of_all() -> bool {
    OF_ALL.with_borrow_mut(|budget| budget.take(LINES_OF_ALL))
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

    /// Those that are there, with their reasons.
    pub fn present(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(what, trouble)| Some((&**what, trouble.why.as_deref()?)))
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

    fn counts(lines: &[Line]) -> Vec<(&str, u64)> {
        lines.iter().map(|line| (line.text.as_str(), line.count)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn two_thousand_that_are_dropped_are_two_thousand_in_the_log() {
        let mut complaints = Complaints::default();
        let first = complaints.say(Kind::Dropped, "full", "", 1);
        assert_eq!(first.map(|line| line.count), Some(1));
        for _ in 1..2000 {
            assert_eq!(complaints.say(Kind::Dropped, "full", "", 1), None);
        }
        assert_eq!(complaints.rest(), []);
        tokio::time::advance(BETWEEN_EQUALS).await;
        assert_eq!(counts(&complaints.rest()), [("full", 1999)]);
        assert_eq!(complaints.say(Kind::Dropped, "full", "", 7), None);
        assert_eq!(counts(&complaints.all_the_rest()), [("full", 7)], "at the stop");
        assert_eq!(complaints.all_the_rest(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn two_complaints_in_turn_are_two_lines_a_minute() {
        let mut complaints = Complaints::default();
        let mut written = 0;
        for second in 0..120 {
            for text in ["no answer", "bad value"] {
                written += usize::from(complaints.say(Kind::Trouble, text, "", 1).is_some());
            }
            if second % 10 == 0 {
                written += complaints.rest().len();
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(written, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_different_complaints_becomes_a_few_lines_and_is_counted() {
        let mut complaints = Complaints::default();
        let (mut lines, mut told) = (0, 0);
        let mut tell = |line: Line| {
            lines += 1;
            told += line.count;
        };
        for number in 0..12_000 {
            complaints.say(Kind::Trouble, &format!("bad value {number}"), "", 1).map(&mut tell);
            if number % 1000 == 0 {
                complaints.rest().into_iter().for_each(&mut tell);
            }
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        complaints.all_the_rest().into_iter().for_each(&mut tell);
        assert!(lines < 100, "{lines}");
        assert_eq!(told, 12_000);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_and_comes_again_is_news_until_it_is_a_flood() {
        let mut complaints = Complaints::default();
        let mut written = 0;
        for _ in 0..1000 {
            written += usize::from(complaints.say(Kind::Retry, "no answer", "", 1).is_some());
            complaints.forget(Kind::Retry);
        }
        assert_eq!(written, 20);
        assert_eq!(counts(&complaints.rest())[0].1, 980);
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

    #[test]
    fn what_differs_from_message_to_message_makes_no_other_complaint() {
        let mut complaints = Complaints::default();
        let first = complaints.say(Kind::Trouble, "division by zero", "a = 1", 1);
        assert_eq!(first.unwrap().text, "division by zero (a = 1)");
        assert_eq!(complaints.say(Kind::Trouble, "division by zero", "a = 2", 1), None);
        let rest = complaints.all_the_rest();
        assert_eq!((rest[0].text.as_str(), rest[0].count), ("division by zero (a = 2)", 1));
    }
}
