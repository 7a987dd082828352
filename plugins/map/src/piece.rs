//! A part of a payload: JSON text that stays text until somebody needs its value, or a value that
//! was read already. What is only passed on is never read, and leaves as it came.

use std::borrow::Cow;

use anyhow::anyhow;
use forebay_sdk::{
    Payload, Value,
    json::{self, RawValue},
};
use serde::{Deserialize, de::IgnoredAny};

use crate::path::{Path, Step};

/// A part of a payload.
#[derive(Clone, Copy)]
pub(crate) enum Piece<'a> {
    /// Valid JSON, without white space around it.
    Text(&'a str),
    Value(&'a Value),
}

/// The members of a map, in order.
pub(crate) type Members<'a> = json::Members<'a, Piece<'a>>;

impl<'a> From<&'a RawValue> for Piece<'a> {
    fn from(text: &'a RawValue) -> Piece<'a> {
        Piece::Text(text.get())
    }
}

impl<'a> Piece<'a> {
    /// The whole payload, and what is in it when it is a map. An error when it is not JSON.
    pub(crate) fn of(payload: &'a Payload) -> anyhow::Result<(Piece<'a>, Members<'a>)> {
        let not_json = |error: serde_json::Error| anyhow!("payload is not JSON: {error}");
        let Some(text) = payload.json_text() else {
            let piece = Piece::Value(payload.value().map_err(|error| anyhow!(error.clone()))?);
            return Ok((piece, piece.members()));
        };
        let text = text?;
        let members = match text.starts_with('{') {
            true => json::members(text),
            false => serde_json::from_str(text).map(|IgnoredAny| Members::new()),
        };
        Ok((Piece::Text(text), members.map_err(not_json)?))
    }

    /// What is in a map. Empty for anything else.
    pub(crate) fn members(self) -> Members<'a> {
        match self {
            Piece::Text(text) if text.starts_with('{') => {
                // Valid JSON, so it can be read.
                json::members(text).unwrap_or_default()
            }
            Piece::Value(Value::Object(fields)) => {
                fields.iter().map(|(name, value)| (name.into(), Piece::Value(value))).collect()
            }
            _ => Members::new(),
        }
    }

    fn item(self, index: usize) -> Option<Piece<'a>> {
        match self {
            Piece::Text(text) if text.starts_with('[') => {
                let items: Vec<&'a RawValue> = serde_json::from_str(text).ok()?;
                items.get(index).map(|item| Piece::Text(item.get()))
            }
            Piece::Value(value) => value.get(index).map(Piece::Value),
            Piece::Text(_) => None,
        }
    }

    pub(crate) fn is_map(self) -> bool {
        self.kind() == "a map"
    }

    pub(crate) fn is_null(self) -> bool {
        self.kind() == "null"
    }

    pub(crate) fn number(self) -> Option<f64> {
        match self {
            Piece::Text(text) => serde_json::from_str(text).ok(),
            Piece::Value(value) => value.as_f64(),
        }
    }

    /// As text stands in a topic: a text without its quotes, a number, `true` or `false`.
    pub(crate) fn word(self) -> Option<Cow<'a, str>> {
        match (self.kind(), self) {
            ("a text", Piece::Text(text)) => serde_json::from_str(text).ok().map(|Word(text)| text),
            ("a text", Piece::Value(value)) => value.as_str().map(Cow::from),
            ("a number" | "true or false", Piece::Text(text)) => Some(text.into()),
            ("a number" | "true or false", Piece::Value(value)) => Some(value.to_string().into()),
            _ => None,
        }
    }

    /// What it is, in words.
    pub(crate) fn kind(self) -> &'static str {
        let first = match self {
            Piece::Text(text) => text.as_bytes().first().copied().unwrap_or_default(),
            Piece::Value(Value::Object(_)) => b'{',
            Piece::Value(Value::Array(_)) => b'[',
            Piece::Value(Value::String(_)) => b'"',
            Piece::Value(Value::Bool(_)) => b't',
            Piece::Value(Value::Null) => b'n',
            Piece::Value(Value::Number(_)) => b'0',
        };
        match first {
            b'{' => "a map",
            b'[' => "a list",
            b'"' => "a text",
            b't' | b'f' => "true or false",
            b'n' => "null",
            _ => "a number",
        }
    }

    /// Writes it as JSON.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        match self {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Value(value) => json::write(value, out),
        }
    }
}

/// The values that are wanted of a payload, as a tree: each part of the payload is gone through once.
#[derive(Default)]
pub(crate) struct Wanted {
    /// Where the value at this place goes.
    slot: Option<usize>,
    inside: Vec<(Step, Wanted)>,
}

impl Wanted {
    /// Wants what is at `path`, to be found in `slot`.
    pub(crate) fn add(&mut self, path: &Path, slot: usize) {
        let mut here = self;
        for step in &path.0 {
            let at = here.inside.iter().position(|(there, _)| there == step).unwrap_or_else(|| {
                here.inside.push((step.clone(), Wanted::default()));
                here.inside.len() - 1
            });
            here = &mut here.inside[at].1;
        }
        here.slot = Some(slot);
    }

    /// Fills the slots with what there is in `piece`. `members` is what is in it as a map.
    pub(crate) fn read<'a>(
        &self,
        piece: Piece<'a>,
        members: &Members<'a>,
        slots: &mut [Option<Piece<'a>>],
    ) {
        if let Some(slot) = self.slot {
            slots[slot] = Some(piece);
        }
        for (step, wanted) in &self.inside {
            let found = match step {
                // Of two members of the same name the last one counts.
                Step::Name(name) => members.iter().rfind(|(there, _)| there == name).map(|m| m.1),
                Step::Index(index) => piece.item(*index),
            };
            let Some(found) = found else { continue };
            match wanted.inside.is_empty() {
                true => wanted.read(found, &Members::new(), slots),
                false => wanted.read(found, &found.members(), slots),
            }
        }
    }
}

/// A text, borrowed from the JSON when it has no escapes.
#[derive(Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);
