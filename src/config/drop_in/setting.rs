//! One setting that a plugin has: what its author says of it, and what a node says.

use forebay_sdk::{Finding, Period, Span, number::as_written, schema_of, units::form};
use forebay_yaml::{self as yaml, Content, Entry, Meaning, Yaml};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// A setting of a node type.
pub(super) struct Setting {
    pub name: String,
    pub is_required: bool,
    about: String,
    kind: Kind,
    one_of: Vec<String>,
    min: Option<f64>,
    max: Option<f64>,
    is_secret: bool,
    default: Option<Fallback>,
}

/// What a setting is when a node does not have it.
struct Fallback {
    /// As the script gets it.
    value: Value,
    /// As its author wrote it.
    written: Yaml,
}

/// As the author of the plugin writes it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SettingWritten {
    /// What it takes.
    r#type: Kind,
    /// What it does. One sentence.
    #[serde(default)]
    about: String,
    /// Whether each node has to have it.
    #[serde(default)]
    required: bool,
    /// What it is when a node does not have it. Without a default, it is `()` to the script.
    #[serde(default)]
    #[expect(dead_code, reason = "it is read as it was written")]
    default: Option<Value>,
    /// The texts that it can be. Only for the type `string`.
    #[serde(default)]
    one_of: Vec<String>,
    /// The least number.
    #[serde(default)]
    min: Option<f64>,
    /// The largest number.
    #[serde(default)]
    max: Option<f64>,
    /// Whether nobody may see it, as with a password. Only for the type `string`.
    #[serde(default)]
    secret: bool,
}

/// What a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// A text.
    String,
    /// A number. A decimal one to the script, so that `/` divides it as one expects.
    Number,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A time such as `500ms` or `1h`. Whole milliseconds to the script.
    Duration,
    /// A list of anything.
    List,
    /// A map of anything.
    Map,
}

impl SettingWritten {
    /// Reports what does not go together. `place` is where it is written.
    pub(super) fn check(
        &self,
        name: &str,
        place: &Yaml,
        mut wrong: impl FnMut(Span, String, &str),
    ) {
        let at = |key: &str| place.at(key).span;
        let is_number = matches!(self.r#type, Kind::Number | Kind::Integer);
        if self.required && place.get("default").is_some() {
            let message = format!("`{name}` is required, so its default is never used");
            wrong(at("default"), message, "leave out one of the two");
        }
        if !self.one_of.is_empty() && self.r#type != Kind::String {
            let message = format!("`{name}` has `one_of` and is no text");
            wrong(at("one_of"), message, "only for `type: string`");
        }
        if self.secret && self.r#type != Kind::String {
            let message = format!("`{name}` is secret and no text");
            wrong(at("secret"), message, "only for `type: string`");
        }
        for key in ["min", "max"] {
            if place.get(key).is_some() && !is_number {
                let message = format!("`{name}` has `{key}` and is no number");
                wrong(at(key), message, "only for `type: number` and `type: integer`");
            }
        }
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            let message = format!("no number is right for `{name}`");
            wrong(at("min"), message, "`min` is larger than `max`");
        }
    }
}

impl Setting {
    /// Reads its default, and reports one that it cannot have. `place` is where it is written.
    pub(super) fn of(
        name: &str,
        written: SettingWritten,
        place: &Yaml,
        findings: &mut Vec<Finding>,
    ) -> Setting {
        let SettingWritten { r#type: kind, about, required, one_of, min, max, secret, .. } =
            written;
        let setting = Setting {
            name: name.to_owned(),
            is_required: required,
            about,
            kind,
            one_of,
            min,
            max,
            is_secret: secret,
            default: None,
        };
        let Some(default) = place.entry("default").filter(|default| !default.value.is_null())
        else {
            return setting;
        };
        let schema =
            json!({ "type": "object", "properties": { setting.name.as_str(): setting.schema() } });
        let (key, key_span) = (setting.name.clone(), default.key_span);
        let entry = Entry { key, key_span, value: default.value.clone() };
        let span = default.value.span;
        let node = Yaml { span, content: Content::Map(vec![entry]) };
        let before = findings.len();
        yaml::check(&node, &schema, "the default", span, findings);
        let named = format!("`{}`", setting.name);
        for finding in &mut findings[before..] {
            finding.message =
                finding.message.replacen(&named, &format!("the default of {named}"), 1);
        }
        let fallback =
            Fallback { value: setting.value(&default.value), written: default.value.clone() };
        Setting { default: Some(fallback), ..setting }
    }

    /// The beat of a source. `manifest` is where its default may be written.
    pub(super) fn every(default: Option<Period>, manifest: &Yaml) -> Setting {
        let setting = Setting {
            name: "every".to_owned(),
            is_required: default.is_none(),
            about: "How often it runs, from 100ms to 366d.".to_owned(),
            kind: Kind::Duration,
            one_of: Vec::new(),
            min: None,
            max: None,
            is_secret: false,
            default: None,
        };
        let written = manifest.get("every").filter(|_| default.is_some()).cloned();
        let fallback = written.map(|written| Fallback { value: setting.value(&written), written });
        Setting { default: fallback, ..setting }
    }

    /// Whether it takes a text.
    pub(super) fn is_text(&self) -> bool {
        self.kind == Kind::String
    }

    /// What a node says, or else the default, as it is written.
    pub(super) fn written<'a>(&'a self, settings: &'a Yaml) -> Option<&'a Yaml> {
        let given = settings.get(&self.name).filter(|given| !given.is_null());
        given.or(self.default.as_ref().map(|default| &default.written))
    }

    /// JSON Schema of it.
    pub(super) fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Kind::String if self.is_secret => json!({ "type": "string", "format": form::SECRET }),
            Kind::String if self.one_of.is_empty() => json!({ "type": "string" }),
            Kind::String => json!({ "type": "string", "enum": self.one_of }),
            Kind::Number => json!({ "type": "number" }),
            Kind::Integer => json!({ "type": "integer" }),
            Kind::Boolean => json!({ "type": "boolean" }),
            Kind::Duration => schema_of::<Period>(),
            Kind::List => json!({ "type": "array", "items": true }),
            Kind::Map => json!({ "type": "object", "additionalProperties": true }),
        };
        let default = self.default.as_ref().map(|default| default.written.to_value());
        let bounds = [("minimum", self.min), ("maximum", self.max)];
        let bounds = bounds.into_iter().filter_map(|(key, bound)| Some((key, as_written(bound?))));
        let about = (!self.about.is_empty()).then(|| Value::from(self.about.as_str()));
        let more = [("description", about), ("default", default)];
        let more = more.into_iter().filter_map(|(key, value)| Some((key, value?)));
        for (key, value) in bounds.chain(more) {
            schema[key] = value;
        }
        schema
    }

    /// What the script of a node gets.
    pub(super) fn of_node(&self, settings: &Yaml) -> Value {
        let given = settings.get(&self.name).filter(|given| !given.is_null());
        let default = || self.default.as_ref().map_or(Value::Null, |default| default.value.clone());
        given.map_or_else(default, |given| self.value(given))
    }

    /// A value as the script gets it. It fits the schema.
    fn value(&self, yaml: &Yaml) -> Value {
        let text = yaml.text();
        let meaning = yaml.scalar().map(|scalar| scalar.unquoted_meaning());
        match (self.kind, meaning) {
            (Kind::Number, Some(Meaning::Int(number))) => (number as f64).into(),
            (Kind::Number | Kind::Integer, Some(Meaning::Float(number))) => number.into(),
            (Kind::Integer, Some(Meaning::Int(number))) => {
                i64::try_from(number).map_or((number as f64).into(), Value::from)
            }
            (Kind::Boolean, Some(Meaning::Bool(value))) => value.into(),
            (Kind::Duration, _) => {
                let period = text.and_then(|text| Period::parse(text).ok());
                let millis = period.map(|period| i64::try_from(period.as_millis()));
                millis.map_or(Value::Null, |millis| millis.unwrap_or(i64::MAX).into())
            }
            (Kind::String, _) => text.map_or_else(|| yaml.to_value(), Value::from),
            _ => yaml.to_value(),
        }
    }

    /// A value for a sample, as it stands in YAML.
    pub(super) fn example(&self) -> String {
        if let Some(default) = &self.default {
            return default.written.to_value().to_string();
        }
        match self.kind {
            Kind::String => self.one_of.first().map_or("text", String::as_str).to_owned(),
            Kind::Number | Kind::Integer => {
                as_written(self.min.or(self.max).unwrap_or(1.0)).to_string()
            }
            Kind::Boolean => "true".to_owned(),
            Kind::Duration => "10s".to_owned(),
            Kind::List => "[]".to_owned(),
            Kind::Map => "{}".to_owned(),
        }
    }
}
