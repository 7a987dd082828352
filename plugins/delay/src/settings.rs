//! What users write under a `delay` transform.

use std::time::Duration;

use forebay_sdk::{Configured, Period, Problem, Settings, Size};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::transform::Delay;

/// Shorter than this nothing happens.
const SHORTEST: Period = Period(Duration::from_millis(1));
/// Later than this is another job's.
const LONGEST: Period = Period::seconds(7 * 86_400);
/// The most memory that a node may be given.
const MOST_BYTES: Size = Size(64 << 20);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DelaySettings {
    /// How much later each message is sent on: 1ms to 7d.
    #[serde(rename = "for")]
    time: Period,
    /// The most messages that wait. For one more, the oldest is sent early.
    #[serde(default = "most")]
    #[schemars(range(min = 1, max = 100_000))]
    max_messages: usize,
    /// The most memory that waiting messages take, up to 64MiB. For more, the oldest are sent early.
    #[serde(default = "max_bytes")]
    max_bytes: Size,
}

fn most() -> usize {
    10_000
}

fn max_bytes() -> Size {
    Size(4 << 20)
}

impl Settings for DelaySettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let DelaySettings { time, max_messages, max_bytes } = self;
        problems.extend(Problem::unless_within("for", &time, SHORTEST..=LONGEST));
        problems.extend(Problem::unless_within("max_bytes", &max_bytes, Size(1)..=MOST_BYTES));
        let max_bytes = usize::try_from(max_bytes.0).unwrap_or(usize::MAX);
        Some(Delay { time: time.0, max_messages, max_bytes })
    }
}
