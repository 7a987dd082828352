//! What a router says, value by value: numbers that are texts, values that stand under several names,
//! and all the ways to say that there is none. Pure.

use serde_json::{Map, Number, Value};

/// Names that say something else in an object inside.
const COMMON: [&str; 8] = ["id", "name", "state", "status", "type", "value", "version", "mode"];

/// One object of an answer, whatever its shape is.
#[derive(Clone, Copy)]
pub struct Figures<'a>(Option<&'a Map<String, Value>>);

impl<'a> Figures<'a> {
    pub fn of(value: &'a Value) -> Figures<'a> {
        Figures(value.as_object())
    }

    pub fn of_map(map: &'a Map<String, Value>) -> Figures<'a> {
        Figures(Some(map))
    }

    /// The first of these names that says something, here or in an object inside. Lists are no place for
    /// it: they are about neighbours.
    pub fn get(self, names: &[&str]) -> Option<&'a Value> {
        let map = self.0?;
        let said = |map: &'a Map<String, Value>, name: &str| map.get(name).filter(|it| is_said(it));
        let here = names.iter().find_map(|name| said(map, name));
        here.or_else(|| {
            let inside = map.values().filter_map(Value::as_object);
            let own = names.iter().filter(|name| !COMMON.contains(name));
            inside.into_iter().find_map(|map| own.clone().find_map(|name| said(map, name)))
        })
    }

    pub fn number(self, names: &[&str]) -> Option<Number> {
        number(self.get(names)?)
    }

    /// A number that can be true. What a modem says without a network is often far outside.
    pub fn within(self, names: &[&str], least: f64, most: f64) -> Option<Value> {
        let found = self.number(names)?;
        found.as_f64().is_some_and(|it| (least..=most).contains(&it)).then(|| found.into())
    }

    pub fn float(self, names: &[&str]) -> Option<f64> {
        self.number(names)?.as_f64()
    }

    /// A count, such as one of bytes.
    pub fn count(self, names: &[&str]) -> Option<u64> {
        let found = self.number(names)?;
        let whole = |it: f64| (0.0..9e15).contains(&it).then_some(it as u64);
        found.as_u64().or_else(|| found.as_f64().and_then(whole))
    }

    pub fn text(self, names: &[&str]) -> Option<String> {
        match self.get(names)? {
            Value::String(text) => Some(text.trim().to_owned()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    pub fn truth(self, names: &[&str]) -> Option<bool> {
        truth(self.get(names)?)
    }

    /// The object under this name.
    pub fn inside(self, name: &str) -> Figures<'a> {
        Figures(self.0.and_then(|map| map.get(name)).and_then(Value::as_object))
    }

    /// The list under the first of these names that has one.
    pub fn list(self, names: &[&str]) -> &'a [Value] {
        let found = names.iter().find_map(|name| self.0?.get(*name)?.as_array());
        found.map_or(&[], Vec::as_slice)
    }
}

/// Whether there is a value, and no word for there being none.
fn is_said(value: &Value) -> bool {
    const NOTHING: [&str; 10] =
        ["", "-", "--", "n/a", "na", "null", "none", "nan", "unknown", "not available"];
    match value {
        Value::Null | Value::Object(_) | Value::Array(_) => false,
        Value::String(text) => {
            let text = text.trim();
            !NOTHING.iter().any(|nothing| text.eq_ignore_ascii_case(nothing))
        }
        Value::Bool(_) | Value::Number(_) => true,
    }
}

/// A number, also one in a text and with a unit behind it: `-83`, `"-83"`, `"-83 dBm"`.
pub fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => {
            let text = text.trim();
            let is_part = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.');
            let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
            let (digits, unit) = text.split_at(end);
            let is_unit = |c: char| c.is_alphabetic() || matches!(c, ' ' | '%' | '°' | '/');
            if !unit.chars().all(is_unit) {
                return None;
            }
            let digits = digits.strip_prefix('+').unwrap_or(digits);
            match digits.parse::<i64>() {
                Ok(whole) => Some(whole.into()),
                Err(_) => match digits.parse::<u64>() {
                    Ok(whole) => Some(whole.into()),
                    Err(_) => Number::from_f64(digits.parse().ok()?),
                },
            }
        }
        _ => None,
    }
}

pub fn truth(value: &Value) -> Option<bool> {
    const TRUE: [&str; 9] =
        ["1", "true", "yes", "on", "up", "online", "connected", "active", "enabled"];
    const FALSE: [&str; 9] =
        ["0", "false", "no", "off", "down", "offline", "disconnected", "inactive", "disabled"];
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) => match number.as_f64()? {
            0.0 => Some(false),
            1.0 => Some(true),
            _ => None,
        },
        Value::String(text) => {
            let is = |word: &&str| text.trim().eq_ignore_ascii_case(word);
            if TRUE.iter().any(&is) { Some(true) } else { FALSE.iter().any(is).then_some(false) }
        }
        _ => None,
    }
}

/// A map that leaves out what is not there.
#[derive(Default)]
pub struct Said(pub Map<String, Value>);

impl Said {
    pub fn put(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
    }

    /// None when nothing was said.
    pub fn done(self) -> Option<Value> {
        (!self.0.is_empty()).then(|| self.0.into())
    }
}
