//! The layout of a binary payload: as users write it, and as it was understood.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use forebay_sdk::{Problem, Value};
use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::bits::{self, Endian};

/// The setting that holds a layout.
pub(crate) const PARTS: &str = "binary.parts";
/// How deep parts may be nested.
const MOST_LEVELS: usize = 16;

/// A binary payload.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BinarySettings {
    /// Which end of numbers comes first.
    #[serde(default)]
    pub endian: Endian,
    /// What lies in the payload, in this order.
    #[serde(default)]
    pub parts: Vec<PartSettings>,
}

/// One part of a payload.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartSettings {
    /// The field that it becomes. One that begins with `_` is not sent, but other parts can name it; `{_channel}` in a
    /// name stands for what was read there.
    name: Option<String>,
    /// What lies there: `u1` to `u64` and `i2` to `i64` are whole numbers of so many bits, without a sign and with one;
    /// `f16`, `f32`, `f64`, `bool` (a bit), `bcd2` to `bcd16` (so many decimal digits), `text`, `hex`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Which end of the number comes first, when it is not that of all others.
    endian: Option<Endian>,
    /// The byte at which it lies, counted from 0. Behind the part before it when left out.
    at: Option<u16>,
    /// The bit of that byte, 0 for the lowest: the highest bit of the part where the big end comes first, else its
    /// lowest, as the start bit of a DBC file is counted.
    #[schemars(range(min = 0, max = 7))]
    bit: Option<u8>,
    /// How many bytes a `text`, a `hex` or a group of parts takes: a number, the name of a part before it that says so, or
    /// `rest`.
    length: Option<Count>,
    /// Multiplies the number.
    scale: Option<f64>,
    /// Is added, after `scale`.
    offset: Option<f64>,
    /// What numbers stand for: `{ 0: closed, 1: open }`. What is not among them stays a number.
    #[serde(default)]
    values: IndexMap<String, Value>,
    /// Bits of the number, 0 for the lowest, that are `true` or `false` by themselves: `{ 0: door_open, 7: low_battery }`.
    #[serde(default)]
    flags: IndexMap<String, String>,
    /// The number that says that there is no value, such as `0x7fff`: it becomes null.
    #[schemars(range(min = i64::MIN, max = i64::MAX))]
    missing: Option<i64>,
    /// The number that must stand there. `encode` writes it.
    #[schemars(range(min = i64::MIN, max = i64::MAX))]
    is: Option<i64>,
    /// So many bytes that are passed over, or `rest`.
    skip: Option<Count>,
    /// How often the part, or the group in `parts`, comes: a number, the name of a part before it that says so, or `rest` for
    /// as often as there are bytes. With a `name` it becomes a list; without one, all of it goes into the map
    /// around it.
    repeat: Option<Count>,
    /// A group of parts: a map, with a `name`.
    #[serde(default)]
    #[schemars(schema_with = "parts_inside")]
    parts: Vec<PartSettings>,
    /// The part before it that says which of `cases` follows.
    by: Option<String>,
    /// What follows, by the number that `by` read: `0x01: [...]`.
    #[serde(default)]
    #[schemars(schema_with = "cases_inside")]
    cases: IndexMap<String, Vec<PartSettings>>,
    /// What a number without a case means.
    #[serde(default)]
    otherwise: Otherwise,
}

/// How deep the schema of parts goes, as schemas have no circles here. What lies deeper is checked when it is read.
const LEVELS_OF_SCHEMA: usize = 2;

thread_local! {
    /// How deep the part is whose schema is made.
    static LEVEL: Cell<usize> = const { Cell::new(0) };
}

fn parts_inside(generator: &mut SchemaGenerator) -> Schema {
    let level = LEVEL.get();
    let part = if level < LEVELS_OF_SCHEMA {
        LEVEL.set(level + 1);
        let part = PartSettings::json_schema(generator);
        LEVEL.set(level);
        part
    } else {
        json_schema!({ "type": "object", "additionalProperties": true })
    };
    json_schema!({ "type": "array", "items": part })
}

fn cases_inside(generator: &mut SchemaGenerator) -> Schema {
    let parts = parts_inside(generator);
    json_schema!({ "type": "object", "additionalProperties": parts })
}

/// A number, or a word.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Count {
    Of(u16),
    /// What the part of this name says.
    By(String),
    Rest,
}

/// What a number without a case means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Otherwise {
    /// The payload is an error.
    #[default]
    Error,
    /// Nothing follows; with a `length`, so many bytes are passed over.
    Skip,
}

/// A layout that was understood.
#[derive(Clone, Debug)]
pub(crate) struct Layout(pub Arc<[Part]>);

/// A part, and where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// In bits from the beginning of the group. Behind the part before it when None.
    pub at: Option<usize>,
    pub what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Number(Number),
    Text {
        name: Name,
        length: Count,
        is_hex: bool,
    },
    Skip(Count),
    /// A map with a name, or the members of one without.
    Group {
        name: Option<Name>,
        length: Option<Count>,
        parts: Arc<[Part]>,
    },
    /// A list of bare values.
    List {
        name: Name,
        count: Count,
        item: Arc<What>,
    },
    /// A list of maps with a name, or without one what comes again and again in the map around it.
    Repeat {
        name: Option<Name>,
        count: Count,
        length: Option<Count>,
        parts: Arc<[Part]>,
    },
    Choose {
        by: String,
        length: Option<Count>,
        cases: BTreeMap<i64, Arc<[Part]>>,
        otherwise: Otherwise,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Number {
    pub name: Option<Name>,
    pub kind: Kind,
    pub width: usize,
    pub endian: Endian,
    pub scale: Option<f64>,
    pub offset: Option<f64>,
    pub values: Vec<(i64, Value)>,
    pub flags: Vec<(u8, String)>,
    pub missing: Option<i64>,
    pub is: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unsigned,
    Signed,
    Float,
    Bool,
    /// Decimal digits, four bits each.
    Bcd,
}

/// The name of a field, with places for what was read before: `temperature_{_channel}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub Vec<NamePart>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamePart {
    Text(String),
    Of(String),
}

impl Name {
    /// The name, when nothing is to be filled in.
    pub(crate) fn fixed(&self) -> Option<&str> {
        match &self.0[..] {
            [NamePart::Text(text)] => Some(text),
            _ => None,
        }
    }
}

impl Layout {
    pub(crate) fn resolve(settings: &BinarySettings, problems: &mut Vec<Problem>) -> Layout {
        let BinarySettings { endian, parts } = settings;
        if parts.is_empty() {
            let label = "expected the parts of the payload, in their order";
            problems.push(Problem::new("binary.parts", "`parts` is empty", label));
        }
        let mut reading = Reading { endian: *endian, known: Vec::new(), problems };
        Layout(reading.parts(parts, PARTS, 1))
    }

    /// The payloads of Cayenne LPP.
    pub(crate) fn cayenne_lpp() -> Layout {
        let text = include_str!("cayenne_lpp.json");
        let settings = serde_json::from_str(text).expect("a test reads it");
        let mut problems = Vec::new();
        let layout = Layout::resolve(&settings, &mut problems);
        debug_assert_eq!(problems, []);
        layout
    }
}

/// Reads settings, and knows the names of the numbers so far.
struct Reading<'a> {
    endian: Endian,
    known: Vec<String>,
    problems: &'a mut Vec<Problem>,
}

impl Reading<'_> {
    fn parts(&mut self, parts: &[PartSettings], setting: &str, level: usize) -> Arc<[Part]> {
        if level > MOST_LEVELS {
            let message = "`parts` are nested too deep".to_owned();
            self.problem(setting, "", message, &format!("expected {MOST_LEVELS} levels at most"));
            return Arc::new([]);
        }
        let parts = parts.iter().enumerate();
        let parts = parts
            .filter_map(|(index, part)| self.part(part, &format!("{setting}[{index}]"), level));
        parts.collect()
    }

    fn problem(&mut self, part: &str, setting: &str, message: String, label: &str) {
        let dot = if setting.is_empty() { "" } else { "." };
        self.problems.push(Problem::new(format!("{part}{dot}{setting}"), message, label));
    }

    fn part(&mut self, part: &PartSettings, setting: &str, level: usize) -> Option<Part> {
        let given = [
            ("type", part.kind.is_some()),
            ("skip", part.skip.is_some()),
            ("parts", !part.parts.is_empty()),
            ("cases", !part.cases.is_empty()),
        ];
        let given: Vec<&str> = given.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        let [what] = given[..] else {
            let message = match given.is_empty() {
                true => "a part does not say what lies there".to_owned(),
                false => format!("a part has both `{}` and `{}`", given[0], given[1]),
            };
            self.problem(setting, "", message, "expected one of `type`, `skip`, `parts`, `cases`");
            return None;
        };
        self.check_names(part, setting, what);
        if part.bit.is_some() && part.at.is_none() {
            let message = "`bit` is a place in a byte that nothing names".to_owned();
            self.problem(setting, "bit", message, "goes with `at`");
        }
        let endian = part.endian.unwrap_or(self.endian);
        let at = part.at.map(|byte| bits::place(byte.into(), part.bit, endian));
        let name = part.name.as_deref().and_then(|name| self.name(name, setting));
        let length = self.count(&part.length, setting, "length");
        let repeat = self.count(&part.repeat, setting, "repeat");
        let what = match what {
            "skip" => What::Skip(self.count(&part.skip, setting, "skip")?),
            "parts" => {
                let before = self.known.len();
                let parts = self.parts(&part.parts, &format!("{setting}.parts"), level + 1);
                self.known.truncate(before);
                match repeat {
                    Some(count) => What::Repeat { name, count, length, parts },
                    None => What::Group { name, length, parts },
                }
            }
            "cases" => self.choose(part, length, setting, level)?,
            _ => {
                let item = self.typed(part, name.clone(), length, endian, setting)?;
                match repeat {
                    None => item,
                    Some(count) => What::List { name: name?, count, item: Arc::new(item) },
                }
            }
        };
        Some(Part { at, what })
    }

    /// What does nothing in a part of this sort.
    fn check_names(&mut self, part: &PartSettings, setting: &str, what: &str) {
        let is_number = what == "type" && !matches!(part.kind.as_deref(), Some("text" | "hex"));
        let numbers = [
            ("scale", part.scale.is_some()),
            ("offset", part.offset.is_some()),
            ("values", !part.values.is_empty()),
            ("flags", !part.flags.is_empty()),
            ("missing", part.missing.is_some()),
            ("is", part.is.is_some()),
        ];
        let others = [
            ("length", part.length.is_some() && (is_number || what == "skip")),
            ("repeat", part.repeat.is_some() && matches!(what, "skip" | "cases")),
            ("by", part.by.is_some() && what != "cases"),
            ("name", part.name.is_some() && matches!(what, "skip" | "cases")),
        ];
        let numbers = numbers.into_iter().map(|(name, is)| (name, is && !is_number));
        for (name, is_useless) in numbers.chain(others) {
            if is_useless {
                let message = format!("`{name}` does nothing for a part with `{what}`");
                let message = match what {
                    "type" => format!(
                        "`{name}` does nothing for `type: {}`",
                        part.kind.as_deref().unwrap_or("")
                    ),
                    _ => message,
                };
                self.problem(setting, name, message, "to be taken out");
            }
        }
        let needs_name = what == "type" && part.flags.is_empty() && part.is.is_none();
        if needs_name && part.name.is_none() {
            let message = "a part has no `name`".to_owned();
            self.problem(setting, "type", message, "expected a `name`; `skip` passes over bytes");
        }
    }

    fn choose(
        &mut self,
        part: &PartSettings,
        length: Option<Count>,
        setting: &str,
        level: usize,
    ) -> Option<What> {
        let Some(by) = part.by.clone() else {
            let message = "`cases` does not say by what".to_owned();
            self.problem(setting, "cases", message, "expected `by`, the name of a part before it");
            return None;
        };
        if !self.known.contains(&by) {
            self.unknown(&by, setting, "by");
        }
        let mut cases = BTreeMap::new();
        for (key, parts) in &part.cases {
            let place = format!("{setting}.cases.{key}");
            let before = self.known.len();
            let parts = self.parts(parts, &place, level + 1);
            self.known.truncate(before);
            match whole(key) {
                Some(number) => drop(cases.insert(number, parts)),
                None => {
                    let message = format!("`cases` has `{key}`, which is no whole number");
                    self.problem(
                        setting,
                        &format!("cases.{key}"),
                        message,
                        "expected one such as `0x67`",
                    );
                }
            }
        }
        Some(What::Choose { by, length, cases, otherwise: part.otherwise })
    }

    fn typed(
        &mut self,
        part: &PartSettings,
        name: Option<Name>,
        length: Option<Count>,
        endian: Endian,
        setting: &str,
    ) -> Option<What> {
        let kind = part.kind.as_deref().unwrap_or_default();
        if matches!(kind, "text" | "hex") {
            let Some(length) = length else {
                let message = format!("`type: {kind}` has no `length`");
                self.problem(setting, "type", message, "expected `length`: bytes, or `rest`");
                return None;
            };
            return Some(What::Text { name: name?, length, is_hex: kind == "hex" });
        }
        let Some((kind, width)) = kind_of(kind) else {
            let message = format!("`type` is none: `{kind}`");
            let label =
                "expected u1 to u64, i2 to i64, f16, f32, f64, bool, bcd2 to bcd16, text or hex";
            self.problem(setting, "type", message, label);
            return None;
        };
        if let Some(name) = name.as_ref().and_then(Name::fixed) {
            self.known.push(name.to_owned());
        }
        let values = self.keyed(&part.values, setting, "values");
        let flags = self.keyed(&part.flags, setting, "flags");
        let flags = flags.into_iter().filter_map(|(bit, flag)| match u8::try_from(bit) {
            Ok(bit) if usize::from(bit) < width => Some((bit, flag)),
            _ => {
                let message = format!("`flags` has bit {bit}, which the number does not have");
                self.problem(setting, "flags", message, &format!("expected 0 to {}", width - 1));
                None
            }
        });
        let flags = flags.collect();
        let (scale, offset, missing, is) = (part.scale, part.offset, part.missing, part.is);
        if kind == Kind::Float
            && (!part.values.is_empty() || !part.flags.is_empty() || is.is_some())
        {
            let message = "`values`, `flags` and `is` are for whole numbers".to_owned();
            self.problem(setting, "type", message, "expected a type such as `u8`");
        }
        if scale == Some(0.0) {
            let message = "`scale` makes the same of every number".to_owned();
            self.problem(setting, "scale", message, "expected another number than 0");
        }
        Some(What::Number(Number {
            name,
            kind,
            width,
            endian,
            scale,
            offset,
            values,
            flags,
            missing,
            is,
        }))
    }

    fn keyed<T: Clone>(
        &mut self,
        map: &IndexMap<String, T>,
        part: &str,
        setting: &str,
    ) -> Vec<(i64, T)> {
        let mut keyed = Vec::new();
        for (key, value) in map {
            match whole(key) {
                Some(number) => keyed.push((number, value.clone())),
                None => {
                    let message = format!("`{setting}` has `{key}`, which is no whole number");
                    self.problem(
                        part,
                        &format!("{setting}.{key}"),
                        message,
                        "expected one such as `0x01`",
                    );
                }
            }
        }
        keyed
    }

    fn count(&mut self, count: &Option<Count>, part: &str, setting: &str) -> Option<Count> {
        let count = count.as_ref()?;
        if let Count::By(name) = count
            && !self.known.contains(name)
        {
            self.unknown(name, part, setting);
        }
        Some(count.clone())
    }

    fn unknown(&mut self, name: &str, part: &str, setting: &str) {
        let near = forebay_sdk::finding::nearest(name, self.known.iter().map(String::as_str));
        let near = near.map(str::to_owned);
        let message = format!("no part before it has the name `{name}`");
        let problem = Problem::new(
            format!("{part}.{setting}"),
            message,
            match &near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "expected the name of a number that lies before it".to_owned(),
            },
        );
        self.problems.push(match near {
            Some(near) => problem.instead(near),
            None => problem,
        });
    }

    fn name(&mut self, name: &str, part: &str) -> Option<Name> {
        let mut parts = Vec::new();
        let mut rest = name;
        while let Some((before, behind)) = rest.split_once('{') {
            let Some((inside, behind)) = behind.split_once('}') else {
                let message = format!("`name` has a `{{` without an end: \"{name}\"");
                self.problem(part, "name", message, "expected `{name}` of a part before it");
                return None;
            };
            if !before.is_empty() {
                parts.push(NamePart::Text(before.to_owned()));
            }
            if !self.known.iter().any(|known| known == inside) {
                self.unknown(inside, part, "name");
            }
            parts.push(NamePart::Of(inside.to_owned()));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(NamePart::Text(rest.to_owned()));
        }
        if parts.is_empty() {
            self.problem(
                part,
                "name",
                "`name` is empty".to_owned(),
                "expected one such as `temperature`",
            );
            return None;
        }
        Some(Name(parts))
    }
}

/// A whole number as it is written as a key.
fn whole(text: &str) -> Option<i64> {
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A type by its name, with its bits.
fn kind_of(name: &str) -> Option<(Kind, usize)> {
    let bits = |prefix: &str| name.strip_prefix(prefix).and_then(|bits| bits.parse::<usize>().ok());
    match name {
        "bool" => return Some((Kind::Bool, 1)),
        "f16" | "f32" | "f64" => return Some((Kind::Float, bits("f")?)),
        _ => (),
    }
    match (bits("u"), bits("i"), bits("bcd")) {
        (Some(bits @ 1..=64), ..) => Some((Kind::Unsigned, bits)),
        (_, Some(bits @ 2..=64), _) => Some((Kind::Signed, bits)),
        (_, _, Some(digits @ 1..=16)) => Some((Kind::Bcd, 4 * digits)),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Count, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(word) if word == "rest" => Ok(Count::Rest),
            Value::String(name) => Ok(Count::By(name)),
            other => match other.as_u64().and_then(|number| u16::try_from(number).ok()) {
                Some(number) => Ok(Count::Of(number)),
                None => Err(serde::de::Error::custom("expected 0 to 65535, a name, or `rest`")),
            },
        }
    }
}

impl JsonSchema for Count {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Count".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [{ "type": "integer", "minimum": 0, "maximum": 65535 }, { "type": "string" }]
        })
    }
}
