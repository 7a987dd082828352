//! How far a value must move to be worth sending.

use std::{borrow::Cow, time::Duration};

use forebay_yaml::units::Period;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::{payload::Value, short::ShortOr};

/// The distance from what was sent last within which a value is not sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Deadband {
    /// In the unit of the value.
    pub abs: f64,
    /// In percent of what was sent last. A value must leave both.
    pub percent: f64,
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
    pub fn resolve(&self) -> Result<(Deadband, Option<Duration>), &'static str> {
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
        Ok((deadband, max_interval.map(|period| *period)))
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
        let abs = |abs| Deadband { abs, percent: 0.0 };
        assert_eq!(read("0.2"), Ok((abs(0.2), None)));
        assert_eq!(read("2"), Ok((abs(2.0), None)));
        let hour = Some(Duration::from_secs(3600));
        let both = Deadband { abs: 1.0, percent: 5.0 };
        assert_eq!(read(r#"{"abs": 1, "percent": 5, "max_interval": "1h"}"#), Ok((both, hour)));
        assert_eq!(read("{}"), Ok((abs(0.0), None)));
        assert_eq!(read("-1"), Err("abs"));
        assert_eq!(read(r#"{"percent": -1}"#), Err("percent"));
    }
}
