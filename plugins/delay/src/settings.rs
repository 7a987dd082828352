//! What users write under a `delay` transform.

use std::time::Duration;

use forebay_sdk::{Configured, Period, Problem, Settings, Size};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::transform::Delay;

/// Later than this is another job's.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// The most memory that a node may be given.
const MOST_BYTES: u64 = 64 << 20;

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
        if !(Duration::from_millis(1)..=LONGEST).contains(&time.0) {
            let label = format!("expected 1ms to 7d, found {time}");
            problems.push(Problem::new("for", "`for` is out of range", label));
        }
        if !(1..=MOST_BYTES).contains(&max_bytes.0) {
            let label = format!("expected 1B to 64MiB, found {max_bytes}");
            problems.push(Problem::new("max_bytes", "`max_bytes` is out of range", label));
        }
        let max_bytes = usize::try_from(max_bytes.0).unwrap_or(usize::MAX);
        Some(Delay { time: time.0, max_messages, max_bytes })
    }
}
