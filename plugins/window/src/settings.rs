//! What users write under a `window` transform.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    By, Configured, Path, Period, Problem, Settings, ShortOr, Zone, zone::fits_the_day,
};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    function::Functions,
    transform::{Field, Kind, Window},
};

/// Shorter than this a window holds nothing.
const SHORTEST: Period = Period(Duration::from_millis(100));
/// Longer is a database's job.
const LONGEST: Period = Period::seconds(31 * 86_400);
/// The most fields that a node makes.
const MOST_FIELDS: usize = 64;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WindowSettings {
    /// A window ends each time the clock shows a multiple of this: `15m`, `1h`, `1d`. Beside it, or in its
    /// place, one of `count` and `gap`.
    every: Option<Period>,
    /// How far back each window looks. As far as `every` when left out; further, windows overlap.
    length: Option<Period>,
    /// How long after its end a window waits for messages that were read before. What comes later goes to
    /// `errors`.
    #[serde(default = "late")]
    late: Period,
    /// The time zone in which days and hours begin, such as `Europe/Berlin`. UTC when left out.
    #[serde(default)]
    zone: Zone,
    /// A window ends after so many messages.
    #[schemars(range(min = 1, max = 10_000))]
    count: Option<usize>,
    /// A window ends when no message came for so long.
    gap: Option<Period>,
    /// What is made of which field: `power: mean` under its name, `power: [mean, max]` as `power_mean` and
    /// `power_max`. Functions are `min`, `max`, `mean`, `sum`, `count`, `first`, `last`, `stddev`,
    /// `median`, `p1` to `p99`, `range`, `increase`, `rate`, `integral` and `time_mean`.
    fields: IndexMap<String, Functions>,
    /// The time of which `rate` and `integral` speak: `1h` makes kWh of kW.
    #[serde(default = "per")]
    per: Period,
    /// Which messages belong together: those with the same in this field, or in all fields of this
    /// list; `[]` for all messages. Those of the same topic when left out.
    #[serde(default)]
    by: By,
}

fn late() -> Period {
    Period::seconds(1)
}

fn per() -> Period {
    Period::seconds(3600)
}

impl Settings for WindowSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let kind = self.kind(problems);
        let fields = self.fields(problems);
        if self.per.0.is_zero() {
            problems.push(Problem::new(
                "per",
                "`per` is no time",
                "expected a duration such as `1h`",
            ));
        }
        let per_nanos = self.per.0.as_nanos() as f64;
        Some(Window {
            kind: kind?,
            fields: Arc::from(fields),
            per_nanos,
            zone: self.zone,
            by: self.by,
        })
    }
}

impl WindowSettings {
    fn kind(&self, problems: &mut Vec<Problem>) -> Option<Kind> {
        let in_range = |setting: &'static str, period: Period, problems: &mut Vec<Problem>| {
            let problem = Problem::unless_within(setting, &period, SHORTEST..=LONGEST);
            let is_right = problem.is_none();
            problems.extend(problem);
            is_right
        };
        match (self.every, self.count, self.gap) {
            (Some(every), None, None) => {
                let length = self.length.unwrap_or(every);
                if !in_range("every", every, problems) || !in_range("length", length, problems) {
                    return None;
                }
                if !fits_the_day(every.0) {
                    let message = "windows of `every` do not begin at the same time each day";
                    let label = "expected what divides a day, such as `15m`, or a number of days";
                    problems.push(Problem::new("every", message, label));
                }
                if length < every {
                    let message = "messages between two windows would be in none";
                    let label = format!("expected at least `every`, which is {every}");
                    problems
                        .push(Problem::new("length", message, label).also("every", "the distance"));
                }
                if self.late > LONGEST {
                    problems.push(Problem::new(
                        "late",
                        "`late` is out of range",
                        "expected at most 31d",
                    ));
                }
                Some(Kind::Time { every: every.0, length: length.0, late: self.late.0 })
            }
            (None, count, gap) if count.is_some() || gap.is_some() => {
                if let Some(gap) = gap {
                    in_range("gap", gap, problems);
                }
                if self.length.is_some() {
                    let message = "`length` does nothing without `every`";
                    problems.push(Problem::new("length", message, "goes with `every`"));
                }
                Some(Kind::Messages { count, gap: gap.map(|period| period.0) })
            }
            (None, _, _) => {
                let message = "a window without an end tells nothing";
                problems.push(Problem::new("", message, "expected `every`, `count` or `gap`"));
                None
            }
            (Some(_), count, _) => {
                let other = if count.is_some() { "count" } else { "gap" };
                let message = format!("`every` and `{other}` are two ways to end a window");
                let label = "expected one of them";
                problems.push(Problem::new(other, message, label).also("every", "the other"));
                None
            }
        }
    }

    fn fields(&self, problems: &mut Vec<Problem>) -> Vec<Field> {
        if self.fields.is_empty() || self.fields.len() > MOST_FIELDS {
            let label = format!("expected 1 to {MOST_FIELDS} fields, found {}", self.fields.len());
            problems.push(Problem::new("fields", "`fields` names nothing to make", label));
        }
        let mut fields = Vec::new();
        for (name, functions) in &self.fields {
            let path = match Path::parse(name) {
                Ok(path) => path,
                Err(label) => {
                    let message = format!("`fields` has a name that is no field: \"{name}\"");
                    problems.push(Problem::new(format!("fields.{name}"), message, label));
                    continue;
                }
            };
            // A bare number has no name of its own.
            let name = if path.0.is_empty() { "value" } else { name };
            let made = match &functions.0 {
                ShortOr::Short(function) => vec![(name.to_owned(), *function)],
                ShortOr::Long(functions) => functions
                    .iter()
                    .map(|function| (format!("{name}_{function}"), *function))
                    .collect(),
            };
            fields.push(Field { path, made });
        }
        fields
    }
}
