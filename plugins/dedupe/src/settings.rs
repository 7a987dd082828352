//! What users write under a `dedupe` transform.

use std::time::Duration;

use forebay_sdk::{By, Configured, Path, Period, Problem, Settings};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::transform::Dedupe;

/// Shorter than this nothing happens.
const SHORTEST: Period = Period(Duration::from_millis(1));
/// What a node remembers longer than this, it remembers for ever.
const LONGEST: Period = Period::seconds(366 * 86_400);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DedupeSettings {
    /// The fields by which a message is known, such as `[serial, sequence]`: one that has the same in
    /// all of them is a repeat. The whole payload, as it came, when left out.
    #[serde(default)]
    fields: Vec<Path>,
    /// Which messages can repeat each other: those with the same in this field, or in all fields of
    /// this list; `[]` for all messages. Those of the same topic when left out.
    #[serde(default)]
    by: By,
    /// For how long a message is remembered, counted from the one that was sent: 1ms to 366d.
    #[serde(default = "within")]
    within: Period,
    /// The most messages that are remembered. For one more, the oldest is forgotten.
    #[serde(default = "most")]
    #[schemars(range(min = 1, max = 1_000_000))]
    most: usize,
}

fn within() -> Period {
    Period::seconds(3600)
}

fn most() -> usize {
    10_000
}

impl Settings for DedupeSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let DedupeSettings { fields, by, within, most } = self;
        problems.extend(Problem::unless_within("within", &within, SHORTEST..=LONGEST));
        Some(Dedupe { fields, by, within: within.0, most })
    }
}
