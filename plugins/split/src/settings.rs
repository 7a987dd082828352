//! What users write under a `split` transform.

use forebay_sdk::{Configured, Path, Problem, Settings, units::form};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::transform::Split;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SplitSettings {
    /// The list or map that is split: `readings`, `meter.phases`, or `.` for the whole payload.
    #[serde(default)]
    field: Path,
    /// The name under which an item stands in its message, beside the rest of the payload. Without it, the
    /// item is the payload, and the rest goes.
    into: Option<String>,
    /// The name under which the message says which item it is: the name of a member of a map, the place
    /// in a list, from 0. Without `into` items must be maps to have room for it.
    key: Option<String>,
    /// Splits a text at each of these, such as `"\n"` or `";"`.
    #[schemars(length(min = 1), extend("format" = form::LINES))]
    separator: Option<String>,
}

impl Settings for SplitSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let SplitSettings { field, into, key, separator } = self;
        for (setting, name) in [("into", &into), ("key", &key)] {
            if name.as_deref().is_some_and(|name| name.is_empty() || name.contains('.')) {
                let message = format!("`{setting}` is no name of a field");
                problems.push(Problem::new(setting, message, "expected a name such as `reading`"));
            }
        }
        if into.is_some() && into == key {
            let message = "`into` and `key` have one name";
            let label = "expected another name than that of the item";
            problems.push(Problem::new("key", message, label).also("into", "the item"));
        }
        if into.is_some() && field.names().is_none() {
            let message = "`field` lies in a list, so there is no rest for `into` to stand beside";
            problems.push(Problem::new("field", message, "expected a name such as `meter.phases`"));
        }
        if into.is_some() && field.0.is_empty() {
            let message = "`into` has no rest to stand beside, as the whole payload is split";
            problems.push(Problem::new("into", message, "goes with a `field`"));
        }
        Some(Split { field, into, key, separator })
    }
}
