//! Where a field stands in a payload: `power`, `meter.power`, `phases[0].volts`, or `.` for all.

use std::{borrow::Cow, fmt};

use forebay_yaml::units;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    facts::FieldRead,
    payload::{DecodeError, Payload, Value},
};

/// The deepest that a path goes.
const MOST_STEPS: usize = 64;

/// Steps from the payload to one of its values. Empty for the payload itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Step>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a map.
    Name(String),
    /// Into a list, counted from 0.
    Index(usize),
}

impl Path {
    /// Reads a path; says what would be right when it cannot.
    pub fn parse(text: &str) -> Result<Path, String> {
        if text == "." {
            return Ok(Path::default());
        }
        let wrong =
            || format!("expected a path such as `power` or `phases[0].volts`, found `{text}`");
        let mut steps = Vec::new();
        for part in text.split('.') {
            let (name, indexes) = part.split_at(part.find('[').unwrap_or(part.len()));
            // A payload that is a list begins with an index.
            let is_list = steps.is_empty() && part.starts_with('[');
            if (name.is_empty() && !is_list) || name.contains(['{', '}', ']']) {
                return Err(wrong());
            }
            if !is_list {
                steps.push(Step::Name(name.to_owned()));
            }
            for index in indexes.split_inclusive(']') {
                let digits = index.strip_prefix('[').and_then(|index| index.strip_suffix(']'));
                let index = digits.and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
                steps.push(Step::Index(index));
            }
        }
        match steps.len() <= MOST_STEPS {
            true => Ok(Path(steps)),
            false => Err(format!("expected at most {MOST_STEPS} steps, found {}", steps.len())),
        }
    }

    /// Reads a path that can be made or left out: names only.
    pub fn parse_names(text: &str) -> Result<Path, String> {
        let path = Path::parse(text)?;
        match path.names() {
            Some(names) if !names.is_empty() => Ok(path),
            _ => Err(format!("expected a name such as `power` or `meter.power`, found `{text}`")),
        }
    }

    /// The names on the way, unless a list is on the way.
    pub fn names<'a>(&'a self) -> Option<Vec<&'a str>> {
        let name = |step: &'a Step| match step {
            Step::Name(name) => Some(name.as_str()),
            Step::Index(_) => None,
        };
        self.0.iter().map(name).collect()
    }

    /// What stands there. None when there is no such place.
    pub fn get<'a>(&self, payload: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(payload, |value, step| match step {
            Step::Name(name) => value.get(name.as_str()),
            Step::Index(index) => value.get(*index),
        })
    }

    /// Takes out what stands there. None when there is no such place, or when it lies in a list, whose
    /// items keep their places.
    pub fn take_out(&self, payload: &mut Value) -> Option<Value> {
        let names = self.names()?;
        let (last, way) = names.split_last()?;
        let map = way.iter().try_fold(payload, |value, name| value.get_mut(*name))?;
        map.as_object_mut()?.shift_remove(*last)
    }

    /// What stands there in the payload of a message. None when there is no such place.
    ///
    /// # Errors
    ///
    /// When the payload came as bytes that are no value.
    pub fn find<'a>(&self, payload: &'a Payload) -> Result<Option<&'a Value>, DecodeError> {
        Ok(self.get(payload.value().map_err(DecodeError::clone)?))
    }

    /// The field of the payload that it leads into, for [`crate::Fields::reads`]: which one, and the
    /// setting that says so. None for the payload as a whole.
    pub fn reads(&self, setting: impl Into<Cow<'static, str>>) -> Option<FieldRead> {
        match self.0.first()? {
            Step::Name(field) => {
                Some(FieldRead { field: field.clone(), setting: setting.into(), inside: None })
            }
            Step::Index(_) => None,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        let mut dot = "";
        for step in &self.0 {
            match step {
                Step::Name(name) => write!(f, "{dot}{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
            dot = ".";
        }
        Ok(())
    }
}

impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Path, D::Error> {
        units::parsed(deserializer, Path::parse)
    }
}

impl JsonSchema for Path {
    fn schema_name() -> Cow<'static, str> {
        "Path".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::payload::Format;

    #[test]
    fn a_path_leads_to_a_value() {
        let payload = json!({"a": {"b": [1, {"c": 2}]}});
        let get = |text: &str| Path::parse(text).unwrap().get(&payload).cloned();
        assert_eq!(get("a.b[0]"), Some(json!(1)));
        assert_eq!(get("a.b[1].c"), Some(json!(2)));
        assert_eq!(get("."), Some(payload.clone()));
        assert_eq!(get("a.x"), None);
        assert_eq!(get("a.b[2]"), None);
        assert_eq!(get("a.b.c"), None);

        let path = Path::parse("a.b").unwrap();
        let encoded = |text: &'static str| Payload::encoded(text, Format::Json);
        assert_eq!(path.find(&encoded(r#"{"a":{"b":1}}"#)), Ok(Some(&json!(1))));
        assert_eq!(path.find(&encoded("{}")), Ok(None));
        assert!(path.find(&encoded("{oops")).is_err());
    }

    #[test]
    fn what_is_at_a_path_is_taken_out() {
        let mut payload = json!({"a": {"b": 1, "c": [2]}, "d": 3});
        let mut take = |text: &str| Path::parse(text).unwrap().take_out(&mut payload);
        assert_eq!(take("a.b"), Some(json!(1)));
        assert_eq!(take("a.b"), None);
        assert_eq!(take("a.c[0]"), None);
        assert_eq!(take("d.e"), None);
        assert_eq!(take("."), None);
        assert_eq!(payload, json!({"a": {"c": [2]}, "d": 3}));
    }

    #[test]
    fn a_path_is_shown_as_it_is_written() {
        for text in [".", "a", "a.b", "a[0][1].b", "[0]", "[0][1].b"] {
            assert_eq!(Path::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "a.", ".a", "a[", "a[x]", "a]", "{a}", "a..b", "a.[0]", "[x]", "[0]a"] {
            assert!(Path::parse(text).unwrap_err().starts_with("expected a path"), "{text}");
        }
        assert!(Path::parse_names("a[0]").is_err());
        assert!(Path::parse_names(".").is_err());
    }

    #[test]
    fn lint_hears_which_field_is_read() {
        let read = Path::parse("phases[0].volts").unwrap().reads("field").unwrap();
        assert_eq!((read.field.as_str(), &*read.setting), ("phases", "field"));
        assert_eq!(Path::default().reads("field"), None);
    }
}
