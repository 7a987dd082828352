//! What users write under a `batch` transform.

use std::time::Duration;

use forebay_sdk::{By, Configured, Period, Problem, Settings, Size};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::transform::{Batch, Items};

/// Shorter than this nothing happens.
const SHORTEST: Period = Period(Duration::from_millis(1));
/// Later than this nobody waits for.
const LONGEST: Period = Period::seconds(7 * 86_400);
/// The largest message that a batch becomes, about.
const MOST_BYTES: Size = Size(4 << 20);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchSettings {
    /// How many messages become one.
    #[serde(default = "most")]
    #[schemars(range(min = 1, max = 10_000))]
    max_messages: usize,
    /// How long the first of them waits at most, however few there are: 1ms to 7d.
    longest: Period,
    /// What they may take together, up to 4MiB. One that does not fit begins the next batch.
    #[serde(default = "max_bytes")]
    max_bytes: Size,
    /// What stands in the list of each of them.
    #[serde(default)]
    items: Items,
    /// The name under which the list stands in the payload. The list is the payload when left out.
    #[schemars(length(min = 1))]
    into: Option<String>,
    /// Which messages become one: those with the same in this field, or in all fields of this list;
    /// `[]` for all messages. Those of the same topic when left out.
    #[serde(default)]
    by: By,
}

fn most() -> usize {
    100
}

fn max_bytes() -> Size {
    Size(64 << 10)
}

impl Settings for BatchSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let BatchSettings { max_messages, longest, max_bytes, items, into, by } = self;
        problems.extend(Problem::unless_within("longest", &longest, SHORTEST..=LONGEST));
        problems.extend(Problem::unless_within("max_bytes", &max_bytes, Size(1)..=MOST_BYTES));
        let max_bytes = usize::try_from(max_bytes.0).unwrap_or(usize::MAX);
        Some(Batch { max_messages, longest: longest.0, max_bytes, items, into, by })
    }
}
