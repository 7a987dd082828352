//! Texts with places to be filled in, as RutOS writes them: `{"TS":%timestamp%,"data":%data%}`.

use anyhow::{anyhow, bail};
use bytes::Bytes;
use forebay_sdk::{
    Message, Path, Problem, Timestamp, Value, Zone,
    payload::{Format, Payload},
};
use serde_json::Map;

use crate::words::{number, word};

/// A text that was understood.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    parts: Vec<Part>,
    zone: Zone,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Topic,
    /// Seconds since 1970.
    Timestamp,
    TimestampMs,
    /// `29/11/2026 14:00:00`
    Date,
    /// `2026-11-29T14:00:00+01:00`
    Iso,
    /// Seconds since 1970, as four bytes with the highest first.
    Binary,
    /// All of the payload, as JSON.
    Data,
    Field(Path),
    Meta(String),
}

impl Template {
    pub(crate) fn parse(text: &str, setting: &str, problems: &mut Vec<Problem>) -> Template {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('%') {
            push_text(&mut parts, before);
            let Some((inside, behind)) = behind.split_once('%') else {
                let message = format!("`{setting}` has a `%` without an end");
                let at = text.len() - behind.len();
                let label = "expected `%name%`, or `%%` for the sign itself";
                let (line, column) = place(text, at.saturating_sub(1));
                problems.push(Problem::new(setting, message, label).inside(line, column));
                return Template { parts, zone: Zone::default() };
            };
            match part(inside) {
                Ok(part) => match part {
                    Part::Text(text) => push_text(&mut parts, &text),
                    part => parts.push(part),
                },
                Err(label) => {
                    let message = format!("`{setting}` has a place that nothing can fill");
                    let at = text.len() - behind.len() - inside.len() - 1;
                    let (line, column) = place(text, at);
                    problems.push(Problem::new(setting, message, label).inside(line, column));
                }
            }
            rest = behind;
        }
        push_text(&mut parts, rest);
        Template { parts, zone: Zone::default() }
    }

    /// The zone in which dates are written.
    pub(crate) fn in_zone(self, zone: Zone) -> Template {
        Template { zone, ..self }
    }

    /// Whether what it makes is a text.
    pub(crate) fn makes_text(&self) -> bool {
        !self.parts.contains(&Part::Binary)
    }

    pub(crate) fn write(&self, value: &Value, message: &Message) -> anyhow::Result<Bytes> {
        let mut out = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Topic => out.extend_from_slice(message.topic.as_bytes()),
                Part::Binary => {
                    let seconds = seconds(message.time);
                    out.extend_from_slice(&u32::try_from(seconds).unwrap_or(0).to_be_bytes());
                }
                Part::Data => out.extend(Payload::from(value.clone()).to_bytes(Format::Json)),
                Part::Timestamp => out.extend(seconds(message.time).to_string().into_bytes()),
                Part::TimestampMs => {
                    out.extend(message.time.unix_millis().to_string().into_bytes())
                }
                Part::Date => out.extend(self.date(message.time, "%d/%m/%Y %H:%M:%S")),
                Part::Iso => out.extend(self.date(message.time, "%Y-%m-%dT%H:%M:%S%:z")),
                Part::Field(path) => {
                    let name = path.to_string();
                    out.extend(filling(path.get(value), &name)?.into_bytes());
                }
                Part::Meta(name) => {
                    let source = message.meta.source.as_deref().map(Value::from);
                    let value = match name.as_str() {
                        "source" => source.as_ref(),
                        name => message.meta.get(name),
                    };
                    out.extend(filling(value, &format!("meta.{name}"))?.into_bytes());
                }
            }
        }
        Ok(out.into())
    }

    fn date(&self, time: Timestamp, form: &str) -> Vec<u8> {
        self.zone.local(time).strftime(form).to_string().into_bytes()
    }

    /// What is wrong with it for who reads by it.
    pub(crate) fn unreadable(&self) -> Option<String> {
        let is_field = |part: &Part| matches!(part, Part::Field(_) | Part::Data);
        if let Some([first, second]) = self
            .parts
            .windows(2)
            .find(|pair| pair.iter().all(|part| !matches!(part, Part::Text(_))))
        {
            let (first, second) = (first.shown(), second.shown());
            return Some(format!(
                "`{first}` and `{second}` have nothing between that tells them apart"
            ));
        }
        let is_read = |part: &&Part| !matches!(part, Part::Text(_));
        match self.parts.iter().find(|part| is_read(part) && !is_field(part)) {
            Some(part) => Some(format!("`{}` is written and cannot be read", part.shown())),
            None if self.parts.iter().any(is_field) => None,
            None => Some("it has no place such as `%temp%`".to_owned()),
        }
    }

    /// Takes a text apart: what stands in each place goes up to the text behind it.
    pub(crate) fn read(&self, text: &str) -> anyhow::Result<Value> {
        let mut map = Value::Object(Map::new());
        let mut rest = text.trim_end_matches(['\r', '\n']);
        let place = |rest: &str| text.chars().count() - rest.chars().count() + 1;
        let mut parts = self.parts.iter().peekable();
        while let Some(part) = parts.next() {
            let Part::Field(path) = part else {
                match part {
                    Part::Text(fixed) => {
                        let expected = fixed.trim_end_matches(['\r', '\n']);
                        let expected =
                            if parts.peek().is_none() { expected } else { fixed.as_str() };
                        rest = rest.strip_prefix(expected).ok_or_else(|| {
                            let at = place(rest);
                            anyhow!(
                                "does not fit the template: expected `{expected}` at character {at}"
                            )
                        })?;
                    }
                    // `%data%` takes the map that it is.
                    _ => {
                        let mut json =
                            serde_json::Deserializer::from_str(rest).into_iter::<Map<_, _>>();
                        let data = json.next().and_then(Result::ok);
                        let data = data.ok_or_else(|| {
                            anyhow!(
                                "does not fit the template: expected a map in JSON at character {}",
                                place(rest)
                            )
                        })?;
                        rest = &rest[json.byte_offset()..];
                        map.as_object_mut().into_iter().for_each(|map| map.extend(data.clone()));
                    }
                }
                continue;
            };
            let end = match parts.peek() {
                Some(Part::Text(fixed)) => rest.find(fixed.as_str()).or_else(|| {
                    let last = fixed.trim_end_matches(['\r', '\n']);
                    rest.ends_with(last).then(|| rest.len() - last.len())
                }),
                _ => Some(rest.len()),
            };
            let Some(end) = end else {
                let at = place(rest);
                bail!(
                    "does not fit the template: nothing ends `%{path}%`, which begins at character {at}"
                );
            };
            let (found, behind) = rest.split_at(end);
            rest = behind;
            put(&mut map, path, number(found.trim()).unwrap_or_else(|| found.into()));
        }
        if !rest.is_empty() {
            bail!("does not fit the template: something follows at character {}", place(rest));
        }
        Ok(map)
    }
}

impl Part {
    fn shown(&self) -> String {
        let name = match self {
            Part::Text(text) => return text.clone(),
            Part::Topic => "topic",
            Part::Timestamp => "timestamp",
            Part::TimestampMs => "timestamp_ms",
            Part::Date => "date",
            Part::Iso => "date_iso_8601",
            Part::Binary => "bdate",
            Part::Data => "data",
            Part::Field(path) => return format!("%{path}%"),
            Part::Meta(name) => return format!("%meta.{name}%"),
        };
        format!("%{name}%")
    }
}

/// What stands between two `%`.
fn part(inside: &str) -> Result<Part, String> {
    let names = |path: &str| Path::parse(path).map(Part::Field);
    Ok(match inside {
        "" => Part::Text("%".to_owned()),
        "topic" => Part::Topic,
        "timestamp" => Part::Timestamp,
        "timestamp_ms" => Part::TimestampMs,
        "date" => Part::Date,
        "date_iso_8601" => Part::Iso,
        "bdate" => Part::Binary,
        "data" | "payload" => Part::Data,
        other if other.contains(char::is_whitespace) => {
            return Err(format!(
                "expected `%name%`, or `%%` for the sign itself, found `%{other}%`"
            ));
        }
        other => match (other.strip_prefix("meta."), other.strip_prefix("payload.")) {
            (Some(name), _) if !name.is_empty() => Part::Meta(name.to_owned()),
            (_, Some(path)) => names(path)?,
            _ => names(other)?,
        },
    })
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => (),
        Some(Part::Text(before)) => before.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

/// A line and a column, both from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

fn seconds(time: Timestamp) -> i64 {
    time.unix_nanos().div_euclid(1_000_000_000)
}

fn filling(value: Option<&Value>, name: &str) -> anyhow::Result<String> {
    match value {
        None => bail!("`{name}` is missing, which the text names"),
        Some(value) => Ok(match (value, word(value)) {
            (Value::Null, _) => "null".to_owned(),
            (_, Some(word)) => word.into_owned(),
            _ => value.to_string(),
        }),
    }
}

/// Puts a value at a place, and makes the maps on the way.
pub(crate) fn put(whole: &mut Value, path: &Path, value: Value) {
    let mut at = whole;
    for name in path.names().unwrap_or_default() {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Some(map) = at.as_object_mut() else { return };
        at = map.entry(name).or_insert(Value::Null);
    }
    *at = value;
}
