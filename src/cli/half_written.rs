//! Tells what may be half of a file although its writer has closed it: a shell that appends line by line
//! closes it after each. What looks like that waits a little, in case more comes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::info;

use crate::{config::Texts, lint::Checked};

/// What is perhaps half of a secret, and a file that begins as it did before has perhaps been appended to, and one that is new, or ends early,
/// is perhaps not written to its end.
const REST: Duration = Duration::from_secs(2);
/// A script that sends nothing any more would have its messages acknowledged and gone.
const REST_OF_SILENT: Duration = Duration::from_secs(10);
/// The rule that says so.
const SENDS_NOTHING: &str = "sends-nothing";

type Files = BTreeMap<String, Arc<str>>;

/// What was there before, and until when what is there now has to wait.
#[derive(Default)]
pub(super) struct HalfWritten {
    /// What was looked at last.
    looked: Files,
    /// The same of what is not kept, such as secrets.
    unshown: u64,
    /// How many scripts of each file of the set that runs send nothing.
    silent: BTreeMap<String, usize>,
    until: Option<Instant>,
}

/// How what is new came into its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// At once: it was renamed.
    Whole,
    /// Perhaps piece by piece.
    InPieces,
}

impl HalfWritten {
    /// Takes note of what runs.
    pub(super) fn accept(&mut self, checked: &Checked) {
        (self.looked, self.unshown) = (texts(&checked.texts), checked.unshown_hash);
        self.silent = silent(checked);
        self.until = None;
    }

    /// Takes note of what was looked at. It has to wait until the time that comes back; None when it can
    /// be used.
    pub(super) fn look(&mut self, checked: &Checked, written: Written) -> Option<Instant> {
        let now = Instant::now();
        let before = std::mem::replace(&mut self.looked, texts(&checked.texts));
        let unshown = std::mem::replace(&mut self.unshown, checked.unshown_hash);
        let is_other_unshown = unshown != self.unshown;
        if is_other_unshown || before != self.looked {
            let rest = match written {
                Written::Whole => None,
                // Nobody can tell half a secret from a whole one.
                Written::InPieces => {
                    self.rest(&before, checked).max(is_other_unshown.then_some(REST))
                }
            };
            self.until = rest.map(|rest| now + rest);
        }
        self.until.filter(|until| *until > now)
    }

    /// How long what is new has to stay as it is.
    fn rest(&mut self, before: &Files, checked: &Checked) -> Option<Duration> {
        let is_more = |(path, count): &(String, usize)| self.silent.get(path).unwrap_or(&0) < count;
        if let Some((path, _)) = silent(checked).into_iter().find(is_more) {
            if self.until.is_none() {
                info!(
                    "a script in {path} sends nothing any more; it goes on as before until the file has rested for {REST_OF_SILENT:?}"
                );
            }
            return Some(REST_OF_SILENT);
        }
        let is_part = |(path, text): (&String, &Arc<str>)| match before.get(path) {
            Some(old) if old == text => false,
            Some(old) => text.starts_with(&**old) || old.starts_with(&**text),
            None => true,
        };
        self.looked.iter().any(is_part).then_some(REST)
    }
}

fn texts(texts: &Texts) -> Files {
    (0..texts.count()).map(|file| (texts.path(file).to_owned(), texts.text(file))).collect()
}

fn silent(checked: &Checked) -> BTreeMap<String, usize> {
    let mut silent = BTreeMap::new();
    for finding in checked.findings.iter().filter(|found| found.rule.name == SENDS_NOTHING) {
        let path = finding.span.map(|span| checked.texts.path(span.file)).unwrap_or_default();
        *silent.entry(path.to_owned()).or_default() += 1;
    }
    silent
}
