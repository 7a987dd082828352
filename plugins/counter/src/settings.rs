//! What users write under a `counter` transform.

use forebay_sdk::{By, Configured, Path, Period, Problem, Settings, Zone};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::transform::{Counter, OnFall};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CounterSettings {
    /// The field that counts up, such as `energy` or `meter.pulses`.
    field: Path,
    /// Where the counter of the device begins again at 0: 65536 for 16 bits, 4294967296 for 32, 1000000 for
    /// six digits. A fall that this explains is none.
    rollover_at: Option<f64>,
    /// What a lower value than before means, where `rollover_at` does not explain it.
    #[serde(default)]
    on_fall: OnFall,
    /// The name of a field to add: what was counted in all. It begins with the first value, and goes on
    /// over resets and roll-overs.
    total: Option<String>,
    /// The name of a field to add: by how much it is more than the value before.
    increase: Option<String>,
    /// The name of a field to add: the increase in each `per`, by the times of the messages.
    rate: Option<String>,
    /// The time of which `rate` speaks: `1h` makes kW of kWh, `1s` pulses a second.
    #[serde(default = "per")]
    per: Period,
    /// The name of a field to add: what was counted today.
    today: Option<String>,
    /// The name of a field to add: what was counted this month.
    this_month: Option<String>,
    /// The time zone in which days and months begin, such as `Europe/Berlin`. UTC when left out.
    #[serde(default)]
    zone: Zone,
    /// Which messages are of one counter: those with the same in this field, or in all fields of this
    /// list; `[]` for all messages. Those of the same topic when left out.
    #[serde(default)]
    by: By,
}

fn per() -> Period {
    Period::seconds(3600)
}

impl Settings for CounterSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let CounterSettings { rollover_at, total, increase, rate, today, this_month, .. } = &self;
        let names = [
            ("total", total),
            ("increase", increase),
            ("rate", rate),
            ("today", today),
            ("this_month", this_month),
        ];
        let given: Vec<(&str, &str)> =
            names.iter().filter_map(|(setting, name)| Some((*setting, name.as_deref()?))).collect();
        if given.is_empty() {
            let message = "a counter that adds no field does nothing";
            let label = "expected `total`, `increase`, `rate`, `today` or `this_month`";
            problems.push(Problem::new("", message, label));
        }
        for (at, (setting, name)) in given.iter().enumerate() {
            if name.is_empty() || name.contains('.') {
                let message = format!("`{setting}` is no name of a field");
                problems.push(Problem::new(
                    *setting,
                    message,
                    "expected a name such as `energy_total`",
                ));
            }
            if let Some((before, _)) = given[..at].iter().find(|(_, other)| other == name) {
                let message = format!("`{setting}` and `{before}` have one name");
                let label = format!("expected another than `{name}`");
                problems.push(Problem::new(*setting, message, label).also(*before, "the same"));
            }
        }
        if self.field.0.is_empty() {
            let message = "a bare number has no room for other fields";
            let label = "expected a field; a `map` gives the number a name";
            problems.push(Problem::new("field", message, label));
        }
        if rollover_at.is_some_and(|at| !at.is_finite() || at <= 0.0) {
            let label = "expected a number above 0, such as 65536";
            problems.push(Problem::new(
                "rollover_at",
                "`rollover_at` is no end of a counter",
                label,
            ));
        }
        if self.per.0.is_zero() {
            problems.push(Problem::new(
                "per",
                "`per` is no time",
                "expected a duration such as `1h`",
            ));
        }
        Some(Counter {
            field: self.field,
            rollover_at: self.rollover_at,
            on_fall: self.on_fall,
            total: self.total,
            increase: self.increase,
            rate: self.rate,
            per: self.per.0,
            today: self.today,
            this_month: self.this_month,
            zone: self.zone,
            by: self.by,
        })
    }
}
