//! What users write under a `throttle` transform.

use std::time::Duration;

use forebay_sdk::{By, Configured, Period, Problem, Settings};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::transform::{Send, Throttle};

/// Shorter than this nothing happens.
const SHORTEST: Period = Period(Duration::from_millis(1));
/// Longer is a schedule, not a rate.
const LONGEST: Period = Period::seconds(366 * 86_400);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ThrottleSettings {
    /// The time in which no more than `most` messages of one series go on: 1ms to 366d.
    every: Period,
    /// How many messages go on in each `every`. More than one only with `send: first`.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    most: usize,
    /// Which messages go on.
    #[serde(default)]
    send: Send,
    /// Which messages are counted together: those with the same in this field, or in all fields of
    /// this list; `[]` for all messages. Those of the same topic when left out.
    #[serde(default)]
    by: By,
}

fn one() -> usize {
    1
}

impl Settings for ThrottleSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let ThrottleSettings { every, most, send, by } = self;
        problems.extend(Problem::unless_within("every", &every, SHORTEST..=LONGEST));
        if send == Send::Latest && most != 1 {
            let message = "`most` does nothing beside `send: latest`";
            let label = "expected 1: there is one latest message";
            problems.push(Problem::new("most", message, label).also("send", "one at a time"));
        }
        Some(Throttle { every: every.0, most, send, by })
    }
}
