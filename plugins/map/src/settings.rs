//! What users write, and what it comes to.

use std::sync::Arc;

use forebay_sdk::{
    Configured, Gives, Level, Path, Problem, Settings, ShortOr, Template, TimeForm, Value,
    expression,
};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::transform::{Arithmetic, How, MapNode, Mapping};

/// The most fields that a node makes.
const MOST_FIELDS: usize = 256;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MapSettings {
    /// The fields to make, by name, in this order. `power: meter.watts` takes the value of another
    /// field; a map does more. A name with dots, such as `meter.power`, makes a field inside another.
    #[serde(default)]
    fields: IndexMap<String, Written>,
    /// What happens to the fields that nobody takes.
    #[serde(default)]
    rest: Rest,
    /// Fields to leave out, such as `raw` or `meter.raw`.
    #[serde(default)]
    remove: Vec<String>,
    /// The new topic. `{payload.device}`, or `{device}` for short, stands for that field of the payload
    /// that came in, `{meta.device}` for one of its `meta`, `{topic_level: 2}` for the second level of the
    /// topic and `{topic_level: 2..}` for that and all behind it.
    topic: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Rest {
    /// They stay. A field that was taken under another name is renamed, so it does not stay.
    #[default]
    Keep,
    /// Only what stands in `fields` goes out.
    Drop,
}

/// How a field is made.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FieldSettings {
    /// The field to take: `power`, `meter.watts`, `phases[0].volts`, or `.` for the whole payload.
    from: Option<String>,
    /// A value that is always the same.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    /// An expression, in the language of scripts: `msg.payload.volts * msg.payload.amps`. It sees the message as it
    /// came. What it reads stays in the payload.
    compute: Option<String>,
    /// The time of the message.
    time: Option<TimeForm>,
    /// A level of the topic that came in: 1 for the first.
    #[schemars(range(min = 1, max = 128))]
    topic_level: Option<u8>,
    /// Multiplies the number that was taken.
    scale: Option<f64>,
    /// Is added, after `scale`.
    offset: Option<f64>,
    /// Rounds to so many digits behind the point, at last. At 0 the result is a whole number. A whole
    /// number that nothing else is computed with stays as it came.
    #[schemars(range(min = 0, max = 15))]
    round: Option<u8>,
    /// The value when the field is not there. Without it, the new field is not there either.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    default: Option<Value>,
}

/// A field as users write it: as a map, or as the path of the field to take and nothing else.
type Written = ShortOr<String, FieldSettings>;

/// Null is a value like any other.
fn written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Settings for MapSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        problems.extend(self.check_sense());
        problems.extend(self.check_nesting());
        let mut mapping = Mapping::default();
        if self.rest == Rest::Drop {
            mapping.drop_rest();
        }
        for (index, name) in self.remove.iter().enumerate() {
            match Path::parse_names(name) {
                Ok(path) => mapping.remove(&path),
                Err(label) => {
                    let message = format!("`remove` has an entry that is no field: \"{name}\"");
                    problems.push(Problem::new(format!("remove[{index}]"), message, label));
                }
            }
        }
        for (name, written) in self.fields {
            let field = match written {
                ShortOr::Short(path) => FieldSettings { from: Some(path), ..Default::default() },
                ShortOr::Long(field) => field,
            };
            field.resolve(&name, &mut mapping, problems);
        }
        match self.topic.as_deref().map(Template::parse) {
            None => (),
            Some(Ok(template)) => mapping.set_topic(template),
            Some(Err(wrong)) => {
                problems.push(wrong.problem("topic", "`topic` cannot be published to"));
            }
        }
        // With a part missing it would be another map, so nothing is said about it.
        let is_whole = problems.iter().all(|problem| problem.level != Level::Error);
        is_whole.then(|| MapNode(Arc::new(mapping)))
    }
}

impl MapSettings {
    fn check_sense(&self) -> Option<Problem> {
        let (no_fields, no_remove) = (self.fields.is_empty(), self.remove.is_empty());
        if no_fields && self.rest == Rest::Drop {
            let message = "`rest: drop` without `fields` leaves nothing of a message";
            return Some(Problem::new("rest", message, "name the fields that stay in `fields`"));
        }
        if no_fields && no_remove && self.topic.is_none() {
            let message = "a map without `fields`, `remove` and `topic` does nothing";
            return Some(Problem::new("", message, "expected one of them"));
        }
        if !no_remove && self.rest == Rest::Drop {
            let message = "`remove` does nothing, as `rest` is `drop`";
            return Some(Problem::new("remove", message, "what is not in `fields` goes").warning());
        }
        if self.fields.len() > MOST_FIELDS {
            let label = format!("expected at most {MOST_FIELDS}, found {}", self.fields.len());
            return Some(Problem::new("fields", "`fields` has too many entries", label));
        }
        None
    }

    /// A field must not lie inside another field that is made.
    fn check_nesting(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for name in self.fields.keys() {
            let is_outer = |outer: &&String| {
                name.strip_prefix(outer.as_str()).is_some_and(|rest| rest.starts_with('.'))
            };
            if let Some(outer) = self.fields.keys().find(is_outer) {
                let message = format!("`{name}` lies inside `{outer}`, and `fields` makes both");
                let label = format!("`{outer}` is made above");
                problems.push(Problem::new(format!("fields.{name}"), message, label));
            }
        }
        problems
    }
}

impl FieldSettings {
    /// Has the field made, or says what is wrong with it.
    fn resolve(self, name: &str, mapping: &mut Mapping, problems: &mut Vec<Problem>) {
        let setting = format!("fields.{name}");
        let path = Path::parse_names(name).map_err(|label| {
            let message = format!("`fields` has a name that cannot be made: \"{name}\"");
            Problem::new(setting.clone(), message, label)
        });
        let path = path.map_err(|problem| problems.push(problem)).ok();
        let how = self.how(&setting, mapping, problems);
        if let (Some(path), Some(how)) = (path, how) {
            mapping.make(&path, how, self.default.as_ref());
        }
    }

    fn how(
        &self,
        setting: &str,
        mapping: &mut Mapping,
        problems: &mut Vec<Problem>,
    ) -> Option<How> {
        match (&self.from, &self.value, &self.compute, self.time, self.topic_level) {
            (Some(from), None, None, None, None) => {
                let arithmetic = self.arithmetic(setting, problems);
                let path = Path::parse(from).map_err(|label| {
                    let message = format!("`{setting}` takes a field that cannot be");
                    Problem::new(format!("{setting}.from"), message, label)
                });
                let path = path.map_err(|problem| problems.push(problem)).ok()?;
                Some(match self.default {
                    None => mapping.take(&path, format!("{setting}.from"), arithmetic),
                    Some(_) => mapping.take_if_there(&path, arithmetic),
                })
            }
            (None, Some(value), None, None, None) => {
                problems.extend(self.idle_beside("value", setting, &[]));
                Some(How::fixed(value))
            }
            (None, None, Some(text), None, None) => {
                problems.extend(self.idle_beside("compute", setting, &["round"]));
                let setting = format!("{setting}.compute");
                let expression = expression::compile(text, &setting, Gives::Value, problems)?;
                let arithmetic = self.round.map(Arithmetic::rounding);
                Some(mapping.compute(expression, arithmetic))
            }
            (None, None, None, Some(form), None) => {
                problems.extend(self.idle_beside("time", setting, &[]));
                Some(How::Time(form))
            }
            (None, None, None, None, Some(number)) => {
                problems.extend(self.idle_beside("topic_level", setting, &["default"]));
                // The schema has it begin with 1.
                Some(How::TopicLevel(usize::from(number).saturating_sub(1)))
            }
            _ => {
                problems.push(self.not_one(setting));
                None
            }
        }
    }

    fn not_one(&self, setting: &str) -> Problem {
        let ways = [
            ("from", self.from.is_some()),
            ("value", self.value.is_some()),
            ("compute", self.compute.is_some()),
            ("time", self.time.is_some()),
            ("topic_level", self.topic_level.is_some()),
        ];
        let chosen = ways.iter().filter(|(_, is_set)| *is_set).map(|(way, _)| format!("`{way}`"));
        let found = match Vec::from_iter(chosen) {
            none if none.is_empty() => "none".to_owned(),
            several => several.join(", "),
        };
        let message = format!("`{setting}` needs one thing that it is made of");
        let label =
            format!("expected `from`, `value`, `compute`, `time` or `topic_level`, found {found}");
        Problem::new(setting, message, label)
    }

    /// What does nothing beside `way`, of which only some settings say more.
    fn idle_beside(&self, way: &str, setting: &str, useful: &[&str]) -> Vec<Problem> {
        let extras = [
            ("scale", self.scale.is_some(), "`from`"),
            ("offset", self.offset.is_some(), "`from`"),
            ("round", self.round.is_some(), "`from` or `compute`"),
            ("default", self.default.is_some(), "`from` or `topic_level`"),
        ];
        let idle = extras.iter().filter(|(extra, is_set, _)| *is_set && !useful.contains(extra));
        let problem = |(extra, _, goes_with): &(&str, bool, &str)| {
            let message = format!("`{setting}.{extra}` does nothing beside `{way}`");
            Problem::new(format!("{setting}.{extra}"), message, format!("goes with {goes_with}"))
        };
        idle.map(problem).collect()
    }

    fn arithmetic(&self, setting: &str, problems: &mut Vec<Problem>) -> Option<Arithmetic> {
        for (extra, number) in [("scale", self.scale), ("offset", self.offset)] {
            if number.is_some_and(|number| !number.is_finite()) {
                let message = format!("`{setting}.{extra}` is not a number to compute with");
                let label = "expected a number such as `0.001`";
                problems.push(Problem::new(format!("{setting}.{extra}"), message, label));
            }
        }
        let is_wanted = self.scale.is_some() || self.offset.is_some() || self.round.is_some();
        is_wanted.then(|| Arithmetic {
            scale: self.scale.unwrap_or(1.0),
            offset: self.offset.unwrap_or(0.0),
            digits: self.round,
        })
    }
}
