//! What users write under an `alarm` transform.

use std::time::Duration;

use forebay_sdk::{By, Configured, Gives, Path, Period, Problem, Settings, Value, expression};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::transform::{Alarm, Storm, When};

/// Shorter than this nothing happens.
const SHORTEST: Period = Period(Duration::from_millis(1));
/// Later than this nobody is told.
const LONGEST: Period = Period::seconds(30 * 86_400);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlarmSettings {
    /// The field that is watched, such as `temp` or `motor.state`; `.` for a bare value. Needed but with `when`.
    field: Option<Path>,
    /// Alarm when this holds, an expression in the language of scripts: `msg.payload.flow < 1 && msg.payload.pump`.
    when: Option<String>,
    /// Alarm above this.
    above: Option<f64>,
    /// Alarm below this.
    below: Option<f64>,
    /// How far the value must be back behind the limit before that counts.
    hysteresis: Option<f64>,
    /// Alarm at one of these values, such as `[fault, tripped]` or `[true]`.
    #[serde(default)]
    is: Vec<Value>,
    /// Alarm when the value changes by this or more within `within`.
    changes_by: Option<f64>,
    /// The time of which `changes_by` speaks, by the times of the messages.
    within: Option<Period>,
    /// Alarm when no value came for so long. One that could not be read is none.
    silent_for: Option<Period>,
    /// How long it must last before it is told. `silent_for` is told at once.
    #[serde(rename = "for")]
    lasts: Option<Period>,
    /// How long it must be over before that is told.
    clear_for: Option<Period>,
    /// Told again after this time while it lasts and nobody has acknowledged it.
    repeat: Option<Period>,
    /// The node of `from:` whose messages acknowledge. With it, an alarm stays until it is acknowledged, also
    /// when it is over before.
    acknowledge: Option<String>,
    /// The most alarms that are told in `storm_within`. When there are more, that is told instead; what is
    /// still there when it is over is told then.
    #[schemars(range(min = 1, max = 1000))]
    storm: Option<usize>,
    /// The time of which `storm` speaks.
    #[serde(default = "storm_within")]
    storm_within: Period,
    /// What the alarm is called. The node's name, as in `boiler-room/hot`, when left out.
    name: Option<String>,
    /// Which messages are of one device: those with the same in this field, or in all fields of this
    /// list; `[]` for all messages. Those of the same topic when left out.
    #[serde(default)]
    by: By,
}

fn storm_within() -> Period {
    Period::seconds(600)
}

impl Settings for AlarmSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        self.check_conditions(problems);
        self.check_times(problems);
        let when = self.when.as_deref().and_then(|text| {
            let expression = expression::compile(text, "when", Gives::Truth, problems)?;
            Some(When { text: text.trim().into(), expression })
        });
        if self.when.is_some() && when.is_none() {
            return None;
        }
        let changes_by = self.changes_by.zip(self.within.map(|period| period.0));
        Some(Alarm {
            field: self.field,
            when,
            above: self.above,
            below: self.below,
            hysteresis: self.hysteresis.unwrap_or(0.0),
            is: self.is,
            changes_by,
            silent_for: self.silent_for.map(|period| period.0),
            lasts: self.lasts.map_or(Duration::ZERO, |period| period.0),
            clear_for: self.clear_for.map_or(Duration::ZERO, |period| period.0),
            repeat: self.repeat.map(|period| period.0),
            acknowledge: self.acknowledge,
            storm: self.storm.map(|most| Storm { most, within: self.storm_within.0 }),
            name: self.name,
            by: self.by,
        })
    }
}

impl AlarmSettings {
    fn check_conditions(&self, problems: &mut Vec<Problem>) {
        let AlarmSettings { field, when, .. } = self;
        let AlarmSettings { above, below, hysteresis, is, changes_by, within, silent_for, .. } =
            self;
        let has_limit = above.is_some() || below.is_some();
        let of_field = has_limit || !is.is_empty() || changes_by.is_some() || silent_for.is_some();
        if !of_field && when.is_none() {
            let message = "an alarm without a condition is never told";
            let label = "expected `above`, `below`, `is`, `changes_by`, `silent_for` or `when`";
            problems.push(Problem::new("", message, label));
        }
        match field {
            None if when.is_none() || of_field => {
                let message = "an alarm has no `field` to watch";
                problems.push(Problem::new("", message, "expected `field`, such as `temp`"));
            }
            Some(_) if when.is_some() && !of_field => {
                let message = "`field` does nothing, as `when` says which fields it reads";
                problems.push(Problem::new("field", message, "to be taken out"));
            }
            _ => (),
        }
        for (setting, number, least) in [
            ("above", above, f64::MIN),
            ("below", below, f64::MIN),
            ("hysteresis", hysteresis, 0.0),
            ("changes_by", changes_by, f64::MIN_POSITIVE),
        ] {
            if number.is_some_and(|number| !number.is_finite() || number < least) {
                let expected = if least < 0.0 { "a number" } else { "more than nothing" };
                let message = format!("`{setting}` is no number to compare with");
                problems.push(Problem::new(setting, message, format!("expected {expected}")));
            }
        }
        if let (Some(above), Some(below)) = (above, below)
            && above <= below
        {
            let message = "every value is above `above` or below `below`";
            let label = format!("expected more than `below`, which is {below}");
            problems.push(Problem::new("above", message, label).also("below", "the other limit"));
        }
        if hysteresis.is_some() && !has_limit {
            let message = "`hysteresis` does nothing without a limit";
            problems.push(Problem::new("hysteresis", message, "goes with `above` or `below`"));
        }
        for (setting, is_alone, other) in [
            ("changes_by", changes_by.is_some() && within.is_none(), "within"),
            ("within", within.is_some() && changes_by.is_none(), "changes_by"),
        ] {
            if is_alone {
                let message = format!("`{setting}` says nothing without `{other}`");
                problems.push(Problem::new(
                    setting,
                    message,
                    format!("expected `{other}` beside it"),
                ));
            }
        }
        if let Some(list) = is.iter().position(|value| value.is_array() || value.is_object()) {
            let message = "`is` has an entry that is no single value";
            let label = "expected a text, a number, `true` or `false`";
            problems.push(Problem::new(format!("is[{list}]"), message, label));
        }
    }

    fn check_times(&self, problems: &mut Vec<Problem>) {
        for (setting, period) in [
            ("within", self.within),
            ("silent_for", self.silent_for),
            ("for", self.lasts),
            ("clear_for", self.clear_for),
            ("repeat", self.repeat),
            ("storm_within", Some(self.storm_within)),
        ] {
            let within = |period| Problem::unless_within(setting, &period, SHORTEST..=LONGEST);
            problems.extend(period.and_then(within));
        }
    }
}
