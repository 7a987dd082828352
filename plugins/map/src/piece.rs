//! A part of a payload: JSON text that stays text until somebody needs its value, or a value that
//! was read already. What is only passed on is never read, and leaves as it came.

use std::{borrow::Cow, fmt};

use anyhow::anyhow;
use forebay_sdk::{
    Path, Payload, Value,
    json::{self, RawValue},
    path::Step,
    template::Filling,
};
use serde::{
    Deserialize, Deserializer as _,
    de::{IgnoredAny, SeqAccess, Visitor},
};

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
        let Some(text) = payload.json_text() else {
            let piece = Piece::Value(payload.value().map_err(|error| anyhow!(error.clone()))?);
            return Ok((piece, piece.members()?));
        };
        let text = text?;
        let piece = Piece::Text(text);
        if !piece.is_map() {
            let _: IgnoredAny = read(text)?;
        }
        Ok((piece, piece.members()?))
    }

    /// What is in a map. Empty for anything else. An error when a name in it is half a letter,
    /// which nobody has looked for before.
    pub(crate) fn members(self) -> anyhow::Result<Members<'a>> {
        match self {
            Piece::Text(text) if text.starts_with('{') => json::members(text).map_err(not_json),
            Piece::Value(Value::Object(fields)) => {
                let members = fields.iter().map(|(name, value)| (name.into(), Piece::Value(value)));
                Ok(members.collect())
            }
            _ => Ok(Members::new()),
        }
    }

    fn item(self, index: usize) -> anyhow::Result<Option<Piece<'a>>> {
        match self {
            Piece::Text(text) if text.starts_with('[') => {
                let mut reader = serde_json::Deserializer::from_str(text);
                let item = reader.deserialize_seq(Nth(index)).map_err(not_json)?;
                Ok(item.map(Piece::from))
            }
            Piece::Value(value) => Ok(value.get(index).map(Piece::Value)),
            Piece::Text(_) => Ok(None),
        }
    }

    pub(crate) fn is_map(self) -> bool {
        self.kind() == "a map"
    }

    pub(crate) fn is_null(self) -> bool {
        self.kind() == "null"
    }

    /// The value of a number. None for anything else.
    pub(crate) fn number(self) -> anyhow::Result<Option<f64>> {
        match self {
            _ if self.kind() != "a number" => Ok(None),
            Piece::Text(text) => read(text).map(Some),
            Piece::Value(value) => Ok(value.as_f64()),
        }
    }

    /// Whether it is a number without a point or exponent.
    pub(crate) fn is_whole_number(self) -> bool {
        match self {
            _ if self.kind() != "a number" => false,
            Piece::Text(text) => !text.contains(['.', 'e', 'E']),
            Piece::Value(value) => !value.is_f64(),
        }
    }

    /// As it stands in a topic: a number as it was written.
    pub(crate) fn filling(self) -> anyhow::Result<Filling<'a>> {
        Ok(match (self.kind(), self) {
            ("a text", Piece::Text(text)) => {
                let Word(text) = read(text)?;
                Filling::Word(text)
            }
            ("a number" | "true or false", Piece::Text(text)) => Filling::Word(text.into()),
            (kind, Piece::Text(_)) => Filling::Other(kind),
            (_, Piece::Value(value)) => value.into(),
        })
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

/// Takes one item out of a list. The others are not kept: a list of a megabyte can have a million.
struct Nth(usize);

impl<'de> Visitor<'de> for Nth {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        for _ in 0..self.0 {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let item = items.next_element()?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(item)
    }
}

/// Writes a member of a map as it came.
pub(crate) fn write_member((name, piece): &(Cow<'_, str>, Piece<'_>), out: &mut Vec<u8>) {
    match piece {
        Piece::Text(text) => json::write_member(name, text, out),
        Piece::Value(value) => {
            json::write_name(name, out);
            json::write(value, out);
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

    fn looks_inside(&self) -> bool {
        !self.inside.is_empty()
    }

    /// Fills the slots with what there is in `piece`. `members` is what is in it as a map.
    pub(crate) fn read<'a>(
        &self,
        piece: Piece<'a>,
        members: &Members<'a>,
        slots: &mut [Option<Piece<'a>>],
    ) -> anyhow::Result<()> {
        if let Some(slot) = self.slot {
            slots[slot] = Some(piece);
        }
        for (step, wanted) in &self.inside {
            let found = match step {
                // Of two members of the same name the last one counts.
                Step::Name(name) => members.iter().rfind(|(there, _)| there == name).map(|m| m.1),
                Step::Index(index) => piece.item(*index)?,
            };
            let Some(found) = found else { continue };
            let inside = if wanted.looks_inside() { found.members()? } else { Members::new() };
            wanted.read(found, &inside, slots)?;
        }
        Ok(())
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> anyhow::Result<T> {
    serde_json::from_str(text).map_err(not_json)
}

fn not_json(error: serde_json::Error) -> anyhow::Error {
    anyhow!("payload is not JSON: {error}")
}

/// A text, borrowed from the JSON when it has no escapes.
#[derive(Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);
