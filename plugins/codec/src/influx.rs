//! The line protocol of InfluxDB: `weather,site=a temp=21.5,on=true 1764424800000000000`.

use anyhow::{Context, bail};
use bytes::Bytes;
use forebay_sdk::{Message, Path, Problem, Value, payload::kind};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

use crate::{
    template::Template,
    words::{MOST_VALUES, number, word},
};

/// How `encode` writes lines.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InfluxSettings {
    /// The measurement: a text in which `%topic%`, `%NAME%` and the like are filled in, as in a `template`. The
    /// topic when left out.
    measurement: Option<String>,
    /// Fields of the payload that become tags. The others become fields.
    #[serde(default)]
    tags: Vec<Path>,
    /// Fields of the payload that are whole numbers to the database. All other numbers are written as decimal
    /// ones, as a database refuses a field that is now one and now the other.
    #[serde(default)]
    integers: Vec<Path>,
    /// In what the time of the message is written.
    #[serde(default)]
    precision: Precision,
}

/// A part of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    /// Nanoseconds, as the database takes it unless it is told otherwise.
    #[default]
    Ns,
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
    /// Seconds.
    S,
    /// Not at all: the database takes the time at which the line comes.
    None,
}

/// How lines are written.
#[derive(Clone)]
pub(crate) struct Influx {
    measurement: Template,
    tags: Vec<String>,
    integers: Vec<String>,
    precision: Precision,
}

impl InfluxSettings {
    pub(crate) fn resolve(self, problems: &mut Vec<Problem>) -> Influx {
        let text = self.measurement.as_deref().unwrap_or("%topic%");
        let measurement = Template::parse(text, "influx.measurement", problems);
        // As they are called in a line.
        let names = |paths: Vec<Path>| {
            paths.into_iter().map(|path| path.to_string().replace(['.', '['], "_").replace(']', ""))
        };
        Influx {
            measurement,
            tags: names(self.tags).collect(),
            integers: names(self.integers).collect(),
            precision: self.precision,
        }
    }
}

impl Influx {
    /// A line for a map, or one for each map of a list.
    pub(crate) fn write(&self, value: &Value, message: &Message) -> anyhow::Result<Bytes> {
        let items = match value {
            Value::Array(items) => items,
            one => std::slice::from_ref(one),
        };
        let mut lines = String::new();
        for (index, item) in items.iter().enumerate() {
            let place = || format!("line {}", index + 1);
            self.line(item, message, &mut lines).with_context(place)?;
        }
        Ok(lines.into())
    }

    fn line(&self, item: &Value, message: &Message, out: &mut String) -> anyhow::Result<()> {
        let mut flat = Vec::new();
        match item {
            Value::Object(_) => flatten("", item, &mut flat),
            Value::Number(_) | Value::Bool(_) => flat.push(("value".to_owned(), item)),
            other => bail!("{}; expected a map or a number", kind(other)),
        }
        let measurement = self.measurement.write(item, message)?;
        let measurement = std::str::from_utf8(&measurement)?;
        if measurement.is_empty() {
            bail!("the measurement has no name; `measurement` gives it one");
        }
        escape(measurement, &[',', ' '], out)?;
        for tag in &self.tags {
            let value = flat.iter().find(|(name, _)| name == tag).map(|(_, value)| *value);
            // A tag without a value is no tag.
            let Some(text) = value.and_then(word).filter(|text| !text.is_empty()) else { continue };
            out.push(',');
            escape(tag, &[',', '=', ' '], out)?;
            out.push('=');
            escape(&text, &[',', '=', ' '], out)?;
        }
        let mut between = ' ';
        for (name, value) in flat.iter().filter(|(name, _)| !self.tags.contains(name)) {
            let written = match value {
                Value::Null => continue,
                Value::String(text) => {
                    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
                }
                Value::Number(number) if self.integers.contains(name) => match number.as_i64() {
                    Some(whole) => format!("{whole}i"),
                    None => bail!("`{name}` is {number}; `integers` expects a whole number"),
                },
                other => other.to_string(),
            };
            out.push(between);
            between = ',';
            escape(name, &[',', '=', ' '], out)?;
            out.push('=');
            out.push_str(&written);
        }
        if between == ' ' {
            bail!("there is no field to write: all are null or tags");
        }
        let nanos = message.time.unix_nanos();
        let time = match self.precision {
            Precision::Ns => Some(nanos),
            Precision::Us => Some(nanos.div_euclid(1000)),
            Precision::Ms => Some(nanos.div_euclid(1_000_000)),
            Precision::S => Some(nanos.div_euclid(1_000_000_000)),
            Precision::None => None,
        };
        if let Some(time) = time {
            out.push(' ');
            out.push_str(&time.to_string());
        }
        out.push('\n');
        Ok(())
    }
}

/// `{a: {b: 1}, c: [2]}` as `a_b` and `c_0`.
fn flatten<'a>(name: &str, value: &'a Value, out: &mut Vec<(String, &'a Value)>) {
    let below = |part: &str| match name {
        "" => part.to_owned(),
        name => format!("{name}_{part}"),
    };
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(part, value)| flatten(&below(part), value, out));
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, value)| flatten(&below(&index.to_string()), value, out));
        }
        value => out.push((name.to_owned(), value)),
    }
}

fn escape(text: &str, special: &[char], out: &mut String) -> anyhow::Result<()> {
    if text.contains(['\n', '\r']) {
        bail!("{text:?} has a line break, which a name or a tag cannot have");
    }
    if text.ends_with('\\') {
        bail!("{text:?} ends with `\\`, which a name or a tag cannot");
    }
    for c in text.chars() {
        if special.contains(&c) {
            out.push('\\');
        }
        out.push(c);
    }
    Ok(())
}

/// Reads lines, each as a map of `measurement`, `tags`, `fields` and, when it is there, `time`.
pub(crate) fn read(text: &str) -> anyhow::Result<Value> {
    let (mut lines, mut values) = (Vec::new(), 0);
    let mut rest = text;
    let mut number = 1;
    while !rest.is_empty() {
        let (line, behind) = next_line(rest);
        rest = behind;
        let trimmed = line.trim_ascii();
        if !trimmed.is_empty() && !trimmed.starts_with('#') {
            let line = read_line(trimmed, &mut values);
            lines.push(line.with_context(|| format!("line {number}"))?);
        }
        number += 1 + line.matches('\n').count();
    }
    Ok(lines.into())
}

/// Up to a line break that stands in no text.
fn next_line(text: &str) -> (&str, &str) {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '\n' if !is_quoted => return (&text[..at], &text[at + 1..]),
            _ => (),
        }
    }
    (text, "")
}

fn read_line(line: &str, values: &mut usize) -> anyhow::Result<Value> {
    let (measurement, mut rest) = name(line, &[',', ' ']);
    if measurement.is_empty() {
        bail!("expected a measurement in front");
    }
    let (mut tags, mut fields) = (Map::new(), Map::new());
    while let Some(behind) = rest.strip_prefix(',') {
        let (key, behind) = pair(behind)?;
        let (value, behind) = name(behind, &[',', ' ']);
        tags.insert(key, value.into());
        rest = behind;
    }
    rest = rest.trim_start_matches(' ');
    loop {
        let (key, behind) = pair(rest)?;
        let (value, behind) = field(behind).with_context(|| format!("`{key}`"))?;
        *values += 1;
        if *values > MOST_VALUES {
            bail!("there are more than {MOST_VALUES} fields");
        }
        fields.insert(key, value);
        match behind.strip_prefix(',') {
            Some(behind) => rest = behind,
            None => {
                rest = behind.trim_ascii();
                break;
            }
        }
    }
    let mut map = json!({ "measurement": measurement, "tags": tags, "fields": fields });
    if !rest.is_empty() {
        let Ok(time) = rest.parse::<i64>() else {
            bail!("expected a time behind the fields, found `{rest}`");
        };
        map["time"] = time.into();
    }
    Ok(map)
}

/// A name up to `=`.
fn pair(text: &str) -> anyhow::Result<(String, &str)> {
    let (key, behind) = name(text, &[',', '=', ' ']);
    match behind.strip_prefix('=') {
        Some(behind) if !key.is_empty() => Ok((key, behind)),
        _ => bail!("expected `name=value`, found `{}`", text.split(' ').next().unwrap_or(text)),
    }
}

/// Up to one of these characters that no `\` stands in front of.
fn name<'a>(text: &'a str, ends: &[char]) -> (String, &'a str) {
    let mut out = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\'
            && let Some((_, next)) = chars.next_if(|(_, next)| [',', '=', ' '].contains(next))
        {
            out.push(next);
        } else if ends.contains(&c) {
            return (out, &text[at..]);
        } else {
            out.push(c);
        }
    }
    (out, "")
}

fn field(text: &str) -> anyhow::Result<(Value, &str)> {
    if let Some(inside) = text.strip_prefix('"') {
        return quoted(inside);
    }
    let end = text.find([',', ' ']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let value = match word {
        "t" | "T" | "true" | "True" | "TRUE" => true.into(),
        "f" | "F" | "false" | "False" | "FALSE" => false.into(),
        word => {
            let whole = word.strip_suffix('i').and_then(|digits| digits.parse::<i64>().ok());
            let unsigned = word.strip_suffix('u').and_then(|digits| digits.parse::<u64>().ok());
            let value = whole.map(Value::from).or(unsigned.map(Value::from));
            match value.or_else(|| number(word)) {
                Some(value) => value,
                None => bail!("expected a number, true, false or a text in quotes, found `{word}`"),
            }
        }
    };
    Ok((value, rest))
}

fn quoted(inside: &str) -> anyhow::Result<(Value, &str)> {
    let mut out = String::new();
    let mut chars = inside.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out.into(), &inside[at + 1..])),
            '\\' => match chars.next_if(|(_, next)| ['"', '\\'].contains(next)) {
                Some((_, next)) => out.push(next),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    bail!("a text begins with `\"` and does not end")
}
