//! What users write under a `join` transform.

use std::time::Duration;

use forebay_sdk::{By, Configured, Period, Problem, Settings};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::transform::{Join, Need, Shape};

/// Shorter than this nothing happens.
const SHORTEST: Period = Period(Duration::from_millis(1));
/// What is older was never together.
const LONGEST: Period = Period::seconds(31 * 86_400);

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
        let within = |max_age| Problem::unless_within("max_age", max_age, SHORTEST..=LONGEST);
        problems.extend(max_age.as_ref().and_then(within));
        let max_age = max_age.map(|period| period.0);
        Some(Join { send_on, max_age, need, shape, by: by.unwrap_or_else(By::nothing) })
    }
}
