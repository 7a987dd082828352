//! What users write under a `join` transform.

use std::time::Duration;

use forebay_sdk::{By, Configured, Period, Problem, Settings};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::transform::{Join, Need, Shape};

/// What is older was never together.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinSettings {
    /// The entries of `from` whose messages send, with the latest of the others. All of them when left out.
    #[serde(default)]
    send_on: Vec<String>,
    /// How old the latest message of an input may be. An older one counts as not there.
    max_age: Option<Period>,
    /// When nothing came from some input yet, or too long ago.
    #[serde(default)]
    need: Need,
    /// What the payload looks like.
    #[serde(default)]
    shape: Shape,
    /// Which messages belong together: those with the same in this field, or in all fields of this
    /// list. All of them when left out.
    #[serde(default)]
    by: Option<By>,
}

impl Settings for JoinSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let JoinSettings { send_on, max_age, need, shape, by } = self;
        if let Some(max_age) = max_age
            && !(Duration::from_millis(1)..=LONGEST).contains(&max_age.0)
        {
            let label = format!("expected 1ms to 31d, found {max_age}");
            problems.push(Problem::new("max_age", "`max_age` is out of range", label));
        }
        let max_age = max_age.map(|period| period.0);
        Some(Join { send_on, max_age, need, shape, by: by.unwrap_or_else(By::nothing) })
    }
}
