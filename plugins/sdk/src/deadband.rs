//! How far a value must move to be worth sending.

use std::{borrow::Cow, time::Duration};

use forebay_yaml::units::Period;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use tokio::time::Instant;

use crate::{payload::Value, short::ShortOr};

/// The distance from what was sent last within which a value is not sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Deadband {
    /// In the unit of the value.
    pub abs: f64,
    /// In percent of what was sent last. A value must leave both.
    pub percent: f64,
}

/// When a value is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sending {
    /// How far it must move.
    pub deadband: Deadband,
    /// It is sent after this time though it has not moved.
    pub longest: Option<Duration>,
}

/// What was sent last, and when.
#[derive(Clone, Debug)]
pub struct Sent {
    value: Value,
    at: Instant,
}

/// A deadband as users write it: as the distance and nothing else, or as a map.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct DeadbandSettings(ShortOr<f64, Written>);

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Deadband")]
struct Written {
    /// By more than this, in the unit of the value. 0: by anything.
    abs: Option<f64>,
    /// By more than this share of what was sent last, in percent. With `abs`, by more than both.
    percent: Option<f64>,
    /// Sent after this time though it has not moved.
    max_interval: Option<Period>,
}

impl DeadbandSettings {
    /// How far a value must move, and after what time it is sent all the same.
    ///
    /// # Errors
    ///
    /// Names the setting that is no distance: `abs` or `percent`.
    pub fn resolve(&self) -> Result<Sending, &'static str> {
        let Written { abs, percent, max_interval } = match self.0 {
            ShortOr::Short(abs) => Written { abs: Some(abs), ..Written::default() },
            ShortOr::Long(written) => written,
        };
        for (setting, bound) in [("abs", abs), ("percent", percent)] {
            if bound.is_some_and(|bound| !bound.is_finite() || bound < 0.0) {
                return Err(setting);
            }
        }
        let deadband = Deadband { abs: abs.unwrap_or(0.0), percent: percent.unwrap_or(0.0) };
        Ok(Sending { deadband, longest: max_interval.map(|period| *period) })
    }
}

impl JsonSchema for DeadbandSettings {
    fn schema_name() -> Cow<'static, str> {
        "DeadbandOrDistance".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let written = generator.subschema_for::<Written>();
        json_schema!({ "anyOf": [{ "type": "number", "minimum": 0 }, written] })
    }
}

impl Deadband {
    /// Whether a value is to be sent, when that other one was sent last. What is no number has moved
    /// when it is another.
    pub fn has_moved(&self, was: &Value, is: &Value) -> bool {
        match (was.as_f64(), is.as_f64()) {
            (Some(was), Some(is)) => {
                let distance = (is - was).abs();
                distance > self.abs && distance > was.abs() * self.percent / 100.0
            }
            _ => was != is,
        }
    }
}

impl Sending {
    /// Whether a value is to be sent, when that other one was sent so long ago.
    pub fn is_due(&self, was: &Value, age: Duration, is: &Value) -> bool {
        self.longest.is_some_and(|longest| age >= longest) || self.deadband.has_moved(was, is)
    }

    /// Whether a value is to be sent; takes note of it then.
    pub fn lets_through(&self, last: &mut Option<Sent>, value: &Value, now: Instant) -> bool {
        let is_due =
            last.as_ref().is_none_or(|last| self.is_due(&last.value, now - last.at, value));
        if is_due {
            *last = Some(Sent { value: value.clone(), at: now });
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_must_leave_both_bounds() {
        let moved =
            |abs, percent, was: Value, is: Value| Deadband { abs, percent }.has_moved(&was, &is);
        assert!(!moved(0.0, 0.0, json!(10), json!(10.0)));
        assert!(moved(0.0, 0.0, json!(10), json!(10.1)));
        assert!(!moved(0.5, 0.0, json!(10), json!(10.5)));
        assert!(moved(0.5, 0.0, json!(10), json!(9.4)));
        assert!(!moved(0.5, 10.0, json!(10), json!(11)));
        assert!(moved(0.5, 10.0, json!(-10), json!(-11.1)));
        assert!(moved(1000.0, 0.0, json!(1), json!(null)));
        assert!(moved(1000.0, 0.0, json!(true), json!(false)));
        assert!(!moved(1000.0, 0.0, json!("on"), json!("on")));
    }

    #[test]
    fn a_deadband_is_a_distance_or_a_map() {
        let read = |text: &str| serde_json::from_str::<DeadbandSettings>(text).unwrap().resolve();
        assert_eq!(read("0.2"), Ok(beyond(0.2, 0.0)));
        assert_eq!(read("2"), Ok(beyond(2.0, 0.0)));
        let both = Sending { longest: Some(Duration::from_secs(3600)), ..beyond(1.0, 5.0) };
        assert_eq!(read(r#"{"abs": 1, "percent": 5, "max_interval": "1h"}"#), Ok(both));
        assert_eq!(read("{}"), Ok(beyond(0.0, 0.0)));
        assert_eq!(read("-1"), Err("abs"));
        assert_eq!(read(r#"{"percent": -1}"#), Err("percent"));
    }

    /// Which of the values, one a second, are sent.
    fn sent(sending: Sending, values: &[Value]) -> Vec<Value> {
        let (start, mut last) = (Instant::now(), None);
        let timed = values.iter().zip(0..).filter(|(value, second)| {
            sending.lets_through(&mut last, value, start + Duration::from_secs(*second))
        });
        timed.map(|(value, _)| value.clone()).collect()
    }

    const fn beyond(abs: f64, percent: f64) -> Sending {
        Sending { deadband: Deadband { abs, percent }, longest: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_is_sent_when_it_has_moved_from_what_was_sent_last() {
        let values = [json!(10), json!(10), json!(10.4), json!(10.8), json!(11.2), json!(10.5)];
        assert_eq!(
            sent(Sending::default(), &values),
            [json!(10), json!(10.4), json!(10.8), json!(11.2), json!(10.5)]
        );
        // A slow drift is not lost: 10.8 is 0.8 from 10.
        let half = beyond(0.5, 0.0);
        assert_eq!(sent(half, &values), [json!(10), json!(10.8)]);
        let both = beyond(0.5, 10.0);
        assert_eq!(sent(both, &values), [json!(10), json!(11.2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_stands_still_is_sent_now_and_then() {
        let wide = Sending { longest: Some(Duration::from_secs(3)), ..beyond(1000.0, 0.0) };
        assert_eq!(sent(wide, &vec![json!(1); 8]).len(), 3);
    }
}
