//! What becomes of the values of a window. Pure: it is given values and their times.

use std::{borrow::Cow, fmt};

use forebay_sdk::{ShortOr, units};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// One number out of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Min,
    Max,
    Mean,
    Sum,
    Count,
    First,
    Last,
    Stddev,
    Median,
    /// The value below which so many percent of the values lie.
    Percentile(u8),
    Range,
    Increase,
    Rate,
    Integral,
    TimeMean,
}

const NAMES: [(&str, Function); 14] = [
    ("min", Function::Min),
    ("max", Function::Max),
    ("mean", Function::Mean),
    ("sum", Function::Sum),
    ("count", Function::Count),
    ("first", Function::First),
    ("last", Function::Last),
    ("stddev", Function::Stddev),
    ("median", Function::Median),
    ("range", Function::Range),
    ("increase", Function::Increase),
    ("rate", Function::Rate),
    ("integral", Function::Integral),
    ("time_mean", Function::TimeMean),
];

impl Function {
    fn parse(text: &str) -> Result<Function, String> {
        let percent = text.strip_prefix('p').and_then(|digits| digits.parse().ok());
        let percentile =
            percent.filter(|percent| (1..=99).contains(percent)).map(Function::Percentile);
        let named = NAMES.iter().find(|(name, _)| *name == text).map(|(_, function)| *function);
        named.or(percentile).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            format!(
                "expected one of {}, or a percentile such as p95; found `{text}`",
                names.join(", ")
            )
        })
    }

    /// Of values in the order of their times. None when there is no such number.
    pub(crate) fn of(self, values: &Values) -> Option<f64> {
        let numbers = || values.samples.iter().map(|(_, value)| *value);
        let count = values.samples.len() as f64;
        let mean = || Some(numbers().sum::<f64>() / count).filter(|mean| mean.is_finite());
        match self {
            Function::Count => Some(count),
            Function::Sum => Some(numbers().sum()),
            Function::Min => numbers().reduce(f64::min),
            Function::Max => numbers().reduce(f64::max),
            Function::Mean => mean(),
            Function::First => numbers().next(),
            Function::Last => numbers().next_back(),
            Function::Median => percentile(numbers().collect(), 50.0),
            Function::Percentile(percent) => percentile(numbers().collect(), percent.into()),
            Function::Range => Some(numbers().reduce(f64::max)? - numbers().reduce(f64::min)?),
            Function::Increase => Some(numbers().next_back()? - numbers().next()?),
            Function::Stddev => {
                let mean = mean()?;
                let squares: f64 = numbers().map(|value| (value - mean).powi(2)).sum();
                Some((squares / (count - 1.0)).sqrt()).filter(|deviation| deviation.is_finite())
            }
            Function::Rate => {
                let (from, to) = (values.samples.first()?, values.samples.last()?);
                let passed = (to.0 - from.0) as f64;
                (passed > 0.0).then(|| (to.1 - from.1) * values.per_nanos / passed)
            }
            Function::Integral => Some(values.area()?.0 / values.per_nanos),
            Function::TimeMean => {
                let (area, length) = values.area()?;
                (length > 0.0).then(|| area / length)
            }
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Function::Percentile(percent) => write!(f, "p{percent}"),
            other => {
                let name = NAMES.iter().find(|(_, function)| function == other);
                f.write_str(name.map_or("", |(name, _)| name))
            }
        }
    }
}

/// The values of one field in a window, by their times in nanoseconds.
pub(crate) struct Values {
    pub samples: Vec<(i64, f64)>,
    /// What the value was when the window began, if anybody knows.
    pub before: Option<f64>,
    pub start: i64,
    pub end: i64,
    /// The time of which rates and integrals speak.
    pub per_nanos: f64,
}

impl Values {
    /// Value times nanoseconds, and over how many: each value stands until the next.
    fn area(&self) -> Option<(f64, f64)> {
        let first = self.samples.first()?;
        let (mut since, mut value) = match self.before {
            Some(before) => (self.start, before),
            None => *first,
        };
        let begin = since;
        let mut area = 0.0;
        for (at, next) in &self.samples {
            area += value * (at - since) as f64;
            (since, value) = (*at, *next);
        }
        area += value * (self.end - since) as f64;
        Some((area, (self.end - begin) as f64))
    }
}

/// Between the two nearest values, where it lies between.
fn percentile(mut numbers: Vec<f64>, percent: f64) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let place = percent / 100.0 * numbers.len().checked_sub(1)? as f64;
    let (below, above) = (numbers[place.floor() as usize], numbers[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

impl<'de> Deserialize<'de> for Function {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Function, D::Error> {
        units::parsed(deserializer, Function::parse)
    }
}

/// The functions of one field, as users write them: one, under the name of the field, or a list, each
/// under that and its own.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Functions(pub ShortOr<Function, Vec<Function>>);

impl JsonSchema for Functions {
    fn schema_name() -> Cow<'static, str> {
        "Functions".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = json_schema!({ "type": "string" });
        json_schema!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": one, "minItems": 1, "maxItems": 20 },
        ] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(function: &str, samples: &[(i64, f64)], before: Option<f64>) -> Option<f64> {
        let values =
            Values { samples: samples.to_vec(), before, start: 0, end: 10, per_nanos: 5.0 };
        Function::parse(function).unwrap().of(&values)
    }

    #[test]
    fn each_function_gives_what_it_says() {
        let samples = [(2, 1.0), (4, 4.0), (6, 2.0), (8, 5.0)];
        for (function, result) in [
            ("min", 1.0),
            ("max", 5.0),
            ("mean", 3.0),
            ("sum", 12.0),
            ("count", 4.0),
            ("first", 1.0),
            ("last", 5.0),
            ("median", 3.0),
            ("p25", 1.75),
            ("range", 4.0),
            ("increase", 4.0),
            ("rate", 4.0 * 5.0 / 6.0),
            ("integral", (1.0 * 2.0 + 4.0 * 2.0 + 2.0 * 2.0 + 5.0 * 2.0) / 5.0),
            ("time_mean", 24.0 / 8.0),
        ] {
            assert_eq!(of(function, &samples, None), Some(result), "{function}");
            assert_eq!(Function::parse(function).unwrap().to_string(), function);
        }
        assert!((of("stddev", &samples, None).unwrap() - 1.825_741_858).abs() < 1e-9);
        assert_eq!(of("integral", &samples, Some(3.0)), Some(30.0 / 5.0));
        assert_eq!(of("time_mean", &samples, Some(3.0)), Some(3.0));
    }

    #[test]
    fn what_does_not_exist_is_none() {
        for function in ["stddev", "rate"] {
            assert_eq!(of(function, &[(2, 1.0)], None), None, "{function}");
        }
        for function in ["min", "mean", "first", "median", "range", "increase", "integral"] {
            assert_eq!(of(function, &[], None), None, "{function}");
        }
        assert_eq!(of("count", &[], None), Some(0.0));
        assert!(Function::parse("avg").unwrap_err().contains("min, max, mean"));
        assert!(Function::parse("p100").is_err());
    }
}
