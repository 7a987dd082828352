//! Values that users write as text with a unit, and texts that need care.
//!
//! A schema names such a text by its `format`; [`FORMS`] says all that is to know about each, so a new
//! one is a type, its row there, and the three impls by which serde and the schema know it.

use std::{borrow::Cow, fmt, ops::Deref, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};

use crate::tree::ModuleSource;

/// A length of time, written `500ms`, `5s`, `10m`, `1h` or `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub Duration);

/// An amount of bytes, written `64KiB`, `16MiB`, `1GiB`, or with the decimal `kB`, `MB`, `GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// How often something may happen, written `50/s`, `100/m` or `20/h`. Holds the time from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(pub Duration);

/// When what was written is made safe from a power cut, written `always`, `never` or `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncPolicy {
    /// At once.
    Always,
    /// What came within this time, together.
    Every(Duration),
    /// When the system sees fit, which may be half a minute later.
    Never,
}

/// A text that is never printed.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Secret(String);

/// A script: its text, or the path of a `.rhai` file, which is read before the node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Script {
    /// What it says.
    pub text: String,
    /// What it imports, each behind those that it imports itself.
    pub modules: Vec<ModuleSource>,
}

impl Period {
    /// A number of seconds.
    pub const fn seconds(seconds: u64) -> Period {
        Period(Duration::from_secs(seconds))
    }

    /// Reads `500ms`; says what would be right when it cannot.
    pub fn parse(text: &str) -> Result<Period, String> {
        const UNITS: [(&str, f64); 5] =
            [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
        let wrong = || "expected a duration such as `500ms`, `5s`, `10m` or `1h`".to_owned();
        let seconds = number_with_unit(text, &UNITS).ok_or_else(wrong)?;
        Duration::try_from_secs_f64(seconds).map(Period).map_err(|_| wrong())
    }

    /// What was probably meant by a text that is none: `5s` by `5 seconds`.
    pub fn meant(text: &str) -> Option<String> {
        const WORDS: [(&str, &[&str]); 5] = [
            ("ms", &["ms", "msec", "msecs", "millis", "millisecond", "milliseconds"]),
            ("s", &["s", "sec", "secs", "second", "seconds"]),
            ("m", &["m", "min", "mins", "minute", "minutes"]),
            ("h", &["h", "hr", "hrs", "hour", "hours"]),
            ("d", &["d", "day", "days"]),
        ];
        meant(text, &WORDS).filter(|meant| Period::parse(meant).is_ok())
    }
}

impl Size {
    /// Reads `16MiB`; says what would be right when it cannot.
    pub fn parse(text: &str) -> Result<Size, String> {
        const KIB: f64 = 1024.0;
        const UNITS: [(&str, f64); 7] = [
            ("B", 1.0),
            ("KiB", KIB),
            ("MiB", KIB * KIB),
            ("GiB", KIB * KIB * KIB),
            ("kB", 1e3),
            ("MB", 1e6),
            ("GB", 1e9),
        ];
        const MOST: f64 = 1e15;
        let bytes = number_with_unit(text, &UNITS).filter(|bytes| *bytes <= MOST);
        // Within the bound above a float counts bytes exactly.
        bytes
            .map(|bytes| Size(bytes as u64))
            .ok_or_else(|| "expected a size such as `64KiB` or `16MiB`".to_owned())
    }

    /// What was probably meant by a text that is none: `16MB` by `16 mb`.
    pub fn meant(text: &str) -> Option<String> {
        const WORDS: [(&str, &[&str]); 7] = [
            ("B", &["b", "byte", "bytes"]),
            ("kB", &["kb", "kilobyte", "kilobytes"]),
            ("MB", &["mb", "megabyte", "megabytes"]),
            ("GB", &["gb", "gigabyte", "gigabytes"]),
            ("KiB", &["k", "ki", "kib"]),
            ("MiB", &["m", "mi", "mib"]),
            ("GiB", &["g", "gi", "gib"]),
        ];
        meant(text, &WORDS).filter(|meant| Size::parse(meant).is_ok())
    }
}

impl Rate {
    /// Reads `50/s`; says what would be right when it cannot.
    pub fn parse(text: &str) -> Result<Rate, String> {
        const UNITS: [(&str, f64); 3] = [("/s", 1.0), ("/m", 1.0 / 60.0), ("/h", 1.0 / 3600.0)];
        const MOST_PER_SECOND: f64 = 1e6;
        let per_second = number_with_unit(text, &UNITS);
        let per_second = per_second.filter(|rate| *rate > 0.0 && *rate <= MOST_PER_SECOND);
        let between = per_second.and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok());
        between.map(Rate).ok_or_else(|| "expected a rate such as `50/s` or `100/m`".to_owned())
    }
}

impl SyncPolicy {
    /// Reads `always`, `never` or `250ms`; says what would be right when it cannot.
    pub fn parse(text: &str) -> Result<SyncPolicy, String> {
        const LONGEST: Duration = Duration::from_secs(60);
        match (text, Period::parse(text)) {
            ("always", _) => Ok(SyncPolicy::Always),
            ("never", _) => Ok(SyncPolicy::Never),
            (_, Ok(Period(every))) if every.is_zero() => Ok(SyncPolicy::Always),
            (_, Ok(Period(every))) if every <= LONGEST => Ok(SyncPolicy::Every(every)),
            (_, Ok(_)) => Err("expected at most `60s`".to_owned()),
            (_, Err(_)) => {
                Err("expected `always`, `never` or a duration such as `250ms`".to_owned())
            }
        }
    }
}

/// The number in front, times the factor of the unit behind it.
fn number_with_unit(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    Some(number.parse::<f64>().ok()? * factor)
}

/// The number in front with the unit that goes by the word behind it.
fn meant(text: &str, words: &[(&str, &[&str])]) -> Option<String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, word) = text.split_at(split);
    let word = word.trim_start().trim_end_matches('.').to_lowercase();
    let (unit, _) = words.iter().find(|(_, names)| names.contains(&word.as_str()))?;
    Some(format!("{number}{unit}"))
}

impl Deref for Period {
    type Target = Duration;
    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl fmt::Display for Period {
    /// The shortest way to write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 4] =
            [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        let millis = self.0.as_millis();
        if millis == 0 {
            return write!(f, "0s");
        }
        match UNITS.iter().find(|(unit, _)| millis.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", millis / unit),
            None => write!(f, "{millis}ms"),
        }
    }
}

impl fmt::Display for Size {
    /// The shortest way to write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl fmt::Display for Rate {
    /// The first unit in which it can be written exactly, or nearly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(f64, &str); 3] = [(1e3, "s"), (60e3, "m"), (3600e3, "h")];
        let seconds = self.0.as_secs_f64();
        let texts = UNITS.map(|(unit, name)| format!("{}/{name}", (unit / seconds).round() / 1e3));
        let exact = texts.iter().find(|text| Rate::parse(text).is_ok_and(|rate| rate == *self));
        f.write_str(exact.unwrap_or(&texts[2]))
    }
}

impl fmt::Display for SyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyncPolicy::Always => f.write_str("always"),
            SyncPolicy::Every(every) => Period(*every).fmt(f),
            SyncPolicy::Never => f.write_str("never"),
        }
    }
}

impl Secret {
    /// Keeps a text from being printed.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// The values of `format` in a JSON Schema by which these texts are known.
pub mod form {
    /// See [`super::Period`].
    pub const DURATION: &str = "forebay-duration";
    /// See [`super::Size`].
    pub const SIZE: &str = "forebay-size";
    /// See [`super::Rate`].
    pub const RATE: &str = "forebay-rate";
    /// See [`super::SyncPolicy`].
    pub const SYNC: &str = "forebay-sync";
    /// See [`super::Secret`].
    pub const SECRET: &str = "forebay-secret";
    /// A [`super::Secret`] that only its name tells to be one or not, such as a header. Never shown
    /// either.
    pub const HIDDEN: &str = "forebay-hidden";
    /// A [`super::Secret`] that may also be the path of the file that holds it in PEM form.
    pub const PEM: &str = "forebay-pem";
    /// A [`super::Secret`] that may also be a digest of it, which may be seen.
    pub const PASSWORD: &str = "forebay-password";
    /// An address: its scheme, host and port are shown, and nothing else of it.
    pub const URL: &str = "forebay-url";
    /// A text that may have several lines, which any other may not.
    pub const LINES: &str = "forebay-lines";
    /// See [`super::Script`].
    pub const SCRIPT: &str = "forebay-script";
}

/// Whether a text is meant as the digest of a password, and is not the password itself.
pub fn is_digest(text: &str) -> bool {
    ["$7$", "$6$", "$argon2"].iter().any(|kind| text.starts_with(kind))
}

/// What there is to know about a kind of text.
pub struct Form {
    /// The value of `format` in a JSON Schema.
    pub format: &'static str,
    /// What to call it in a list of settings.
    pub noun: &'static str,
    /// A regular expression that such texts match, for editors.
    pub pattern: Option<&'static str>,
    /// What would be right in place of a number without a unit.
    pub in_place_of_a_number: Option<&'static str>,
    /// What would be right in place of a text that is none.
    pub in_place_of: fn(&str) -> Option<String>,
    /// What was probably meant by a text that is none.
    pub meant: fn(&str) -> Option<String>,
}

/// All of them.
pub static FORMS: [Form; 11] = [
    Form {
        format: form::DURATION,
        noun: "duration",
        pattern: Some(r"^\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*(ms|s|m|h|d)\s*$|\$\{"),
        in_place_of_a_number: Some(
            "expected a duration with a unit, such as `500ms`, `5s` or `1h`",
        ),
        in_place_of: |text| Period::parse(text).err(),
        meant: Period::meant,
    },
    Form {
        format: form::SIZE,
        noun: "size",
        pattern: Some(r"^\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*(B|KiB|MiB|GiB|kB|MB|GB)\s*$|\$\{"),
        in_place_of_a_number: Some("expected a size with a unit, such as `64KiB` or `16MiB`"),
        in_place_of: |text| Size::parse(text).err(),
        meant: Size::meant,
    },
    Form {
        format: form::RATE,
        noun: "rate",
        pattern: Some(r"^\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*/(s|m|h)\s*$|\$\{"),
        in_place_of_a_number: Some("expected a rate with a unit, such as `50/s` or `100/m`"),
        in_place_of: |text| Rate::parse(text).err(),
        meant: |_| None,
    },
    Form {
        format: form::SYNC,
        noun: "`always`, `never` or duration",
        pattern: Some(r"^(always|never|\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*(ms|s|m)\s*)$|\$\{"),
        in_place_of_a_number: None,
        in_place_of: |text| SyncPolicy::parse(text).err(),
        meant: |_| None,
    },
    any_text(form::SECRET, "secret text"),
    any_text(form::HIDDEN, "secret text"),
    any_text(form::PEM, "secret text"),
    any_text(form::PASSWORD, "secret text"),
    any_text(form::URL, "text"),
    any_text(form::LINES, "text"),
    any_text(form::SCRIPT, "script, or path of a `.rhai` file"),
];

const fn any_text(format: &'static str, noun: &'static str) -> Form {
    Form {
        format,
        noun,
        pattern: None,
        in_place_of_a_number: None,
        in_place_of: |_| None,
        meant: |_| None,
    }
}

/// The form that a schema names, if it names one.
pub fn form_of(schema: &serde_json::Value) -> Option<&'static Form> {
    let format = schema.get("format")?.as_str()?;
    FORMS.iter().find(|form| form.format == format)
}

/// The schema of a text of a form.
fn schema(format: &'static str) -> Schema {
    let form = FORMS.iter().find(|form| form.format == format);
    match form.and_then(|form| form.pattern) {
        Some(pattern) => json_schema!({ "type": "string", "format": format, "pattern": pattern }),
        None => json_schema!({ "type": "string", "format": format }),
    }
}

/// Reads a value from a text, and says what would be right when it cannot.
pub fn parsed<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
        parsed(deserializer, Period::parse)
    }
}

// So that a default is written into the schema as users write it.
impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema(form::DURATION)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        parsed(deserializer, Size::parse)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema(form::SIZE)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        parsed(deserializer, Rate::parse)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema(form::RATE)
    }
}

impl<'de> Deserialize<'de> for SyncPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SyncPolicy, D::Error> {
        parsed(deserializer, SyncPolicy::parse)
    }
}

impl Serialize for SyncPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for SyncPolicy {
    fn schema_name() -> Cow<'static, str> {
        "Sync".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema(form::SYNC)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema(form::SECRET)
    }
}

impl<'de> Deserialize<'de> for Script {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Script, D::Error> {
        deserializer.deserialize_newtype_struct(SCRIPT, ScriptVisitor)
    }
}

/// By this name a decoder of YAML knows that what it reads has modules.
pub(crate) const SCRIPT: &str = "forebay-script";

struct ScriptVisitor;

impl<'de> Visitor<'de> for ScriptVisitor {
    type Value = Script;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a script")
    }

    /// From anywhere but a tree of YAML: a text alone.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Script, D::Error> {
        String::deserialize(from).map(|text| Script { text, modules: Vec::new() })
    }

    /// The text, and three texts of each module.
    fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Script, A::Error> {
        let text = texts.next_element()?.unwrap_or_default();
        let mut modules = Vec::new();
        let mut next = || texts.next_element::<&'de str>();
        while let (Some(name), Some(path), Some(text)) = (next()?, next()?, next()?) {
            modules.push(ModuleSource { name: name.into(), path: path.into(), text: text.into() });
        }
        Ok(Script { text, modules })
    }
}

impl JsonSchema for Script {
    fn schema_name() -> Cow<'static, str> {
        "Script".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema(form::SCRIPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_as_users_write_them() {
        for text in ["500ms", "5s", "10m", "1h", "7d", "1500ms"] {
            assert_eq!(Period::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Period::parse("1.5s").unwrap().to_string(), "1500ms");
        assert_eq!(Period::parse("60s").unwrap().to_string(), "1m");
        for text in ["", "5", "5 parsecs", "s", "-5s", "1e3s", "1.2.3s", "99999999999999999999999d"]
        {
            assert!(Period::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_meant_is_offered() {
        let period = |text: &str| Period::meant(text);
        assert_eq!(period("5 seconds").as_deref(), Some("5s"));
        assert_eq!(period("1.5 Hours").as_deref(), Some("1.5h"));
        assert_eq!(period("10 min.").as_deref(), Some("10m"));
        assert_eq!(period("500MS").as_deref(), Some("500ms"));
        assert_eq!((period("5 parsecs"), period("seconds"), period("")), (None, None, None));
        assert_eq!(Size::meant("16 megabytes").as_deref(), Some("16MB"));
        assert_eq!(Size::meant("64k").as_deref(), Some("64KiB"));
        assert_eq!(Size::meant("9999999 gib"), None);
    }

    #[test]
    fn sizes_read_and_print_as_users_write_them() {
        for text in ["0B", "100B", "64KiB", "16MiB", "1GiB"] {
            assert_eq!(Size::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Size::parse("5 MB").unwrap(), Size(5_000_000));
        for text in ["", "16", "16mb", "MiB", "-1B", "9999999GiB"] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_read_and_print_as_users_write_them() {
        for text in ["50/s", "1/s", "0.5/h", "20/m", "100/m", "0.25/h", "333/s"] {
            let rate = Rate::parse(text).unwrap();
            assert_eq!(Rate::parse(&rate.to_string()).unwrap(), rate, "{text} became {rate}");
        }
        assert_eq!(Rate::parse("50/s").unwrap(), Rate(Duration::from_millis(20)));
        assert_eq!(Rate::parse("20/m").unwrap().to_string(), "20/m");
        for text in ["", "50", "0/s", "50/d", "-1/s", "1e9/s", "9999999/s"] {
            assert!(Rate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sync_reads_and_prints_as_users_write_it() {
        for text in ["always", "never", "250ms", "1s"] {
            assert_eq!(SyncPolicy::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(SyncPolicy::parse("0s").unwrap(), SyncPolicy::Always);
        for text in ["", "sometimes", "5", "2h"] {
            assert!(SyncPolicy::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "<secret>");
    }
}
