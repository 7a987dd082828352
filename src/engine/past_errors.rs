//! What went wrong last: a few different things, each told once.

use std::collections::VecDeque;

use forebay_sdk::text::beginning;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::warnings::Warning;

const MOST: usize = 4;
/// Of each, so much is kept.
const MOST_BYTES: usize = 2 << 10;

/// The newest last.
#[derive(Default)]
pub(super) struct PastErrors(VecDeque<Known>);

struct Known {
    text: String,
    rule: &'static Warning,
    at: Instant,
    times: u64,
}

/// Something that went wrong, for showing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastError {
    /// As the log says it.
    pub text: String,
    /// What the log's line names, and `forebay explain` knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// How long ago it happened last, in seconds.
    pub ago_s: u64,
    /// How often it happened since it is known.
    pub times: u64,
}

impl PastErrors {
    pub(super) fn add(&mut self, text: &str, rule: &'static Warning) {
        let text = beginning(text, MOST_BYTES);
        let known = self.0.iter().position(|known| known.text == text);
        let times = known.and_then(|at| self.0.remove(at)).map_or(1, |known| known.times + 1);
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(Known { text: text.to_owned(), rule, at: Instant::now(), times });
    }

    /// What went wrong last.
    pub(super) fn last(&self) -> Option<PastError> {
        self.0.back().map(Known::shown)
    }

    /// The newest first.
    pub(super) fn all(&self) -> Vec<PastError> {
        self.0.iter().rev().map(Known::shown).collect()
    }
}

impl Known {
    fn shown(&self) -> PastError {
        let Known { text, rule, at, times } = self;
        PastError {
            text: text.clone(),
            rule: Some(rule.name.to_owned()),
            ago_s: at.elapsed().as_secs(),
            times: *times,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::warnings::TROUBLE;

    #[test]
    fn what_goes_wrong_again_is_told_once_and_what_is_old_goes() {
        let mut errors = PastErrors::default();
        ["a", "b", "a", "c", "a", "d", "e"].into_iter().for_each(|text| errors.add(text, &TROUBLE));
        let all: Vec<_> = errors.all().into_iter().map(|error| (error.text, error.times)).collect();
        assert_eq!(all, [("e".into(), 1), ("d".into(), 1), ("a".into(), 3), ("c".into(), 1)]);
        errors.add(&"ä".repeat(MOST_BYTES), &TROUBLE);
        assert_eq!(errors.last().map(|last| last.text.len()), Some(MOST_BYTES));
    }
}
