//! What users write under a `debounce` transform.

use std::time::Duration;

use forebay_sdk::{By, Configured, Path, Period, Problem, Settings};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::transform::Debounce;

/// Shorter than this nothing happens.
const SHORTEST: Period = Period(Duration::from_millis(1));
/// What comes to rest later than this was never restless.
const LONGEST: Period = Period::seconds(7 * 86_400);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DebounceSettings {
    /// How long it must be quiet before a message goes on: 1ms to 7d.
    quiet: Period,
    /// The field that must come to rest, such as `on`: a message goes on once this value has stood
    /// for `quiet`, and only when it is another than was sent last. `.` is the whole payload. When left
    /// out, the latest message goes on once no other has come for `quiet`.
    field: Option<Path>,
    /// A message is sent after this time though it is not quiet yet. Not together with `field`.
    longest: Option<Period>,
    /// Which messages belong together: those with the same in this field, or in all fields of this
    /// list; `[]` for all messages. Those of the same topic when left out.
    #[serde(default)]
    by: By,
}

impl Settings for DebounceSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let DebounceSettings { quiet, field, longest, by } = self;
        problems.extend(Problem::unless_within("quiet", &quiet, SHORTEST..=LONGEST));
        if let Some(longest) = longest {
            if field.is_some() {
                let message = "`longest` does nothing beside `field`";
                let label = "a value that never rests was never seen long enough to be true";
                problems.push(Problem::new("longest", message, label));
            } else if longest <= quiet {
                let message = "`longest` ends before it can be quiet";
                let label = format!("expected more than `quiet`, which is {quiet}");
                problems.push(Problem::new("longest", message, label).also("quiet", "as long"));
            }
        }
        Some(Debounce { quiet: quiet.0, field, longest: longest.map(|period| period.0), by })
    }
}
