//! A payload as the JSON that it came as: read for a script, and put together again with what the
//! script changed. What nobody touched leaves byte by byte as it came.

use std::{borrow::Cow, collections::BTreeMap};

use forebay_sdk::json::{self, Members, RawValue};
use rhai::{Array, Dynamic, Identifier, Map};

use crate::convert::to_json;

/// How deep lists and maps may be nested in a payload that a script handles.
const MAX_LEVELS_IN: usize = 128;

/// JSON as a script sees it.
pub(crate) struct Read {
    pub value: Dynamic,
    /// A name comes twice in a map. The last one counts.
    pub has_twins: bool,
}

/// Reads JSON as a script sees it. A number that is too large for a script is a float, or infinity;
/// half a letter stays an escape.
///
/// # Errors
///
/// When the text is not JSON, or nested too deep: what it is.
pub(crate) fn read(text: &str) -> Result<Read, String> {
    let text: &RawValue =
        serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    read_valid(text.get())
}

/// The same for what is known to be JSON.
fn read_valid(text: &str) -> Result<Read, String> {
    let mut walk = Walk { text, at: 0, has_twins: false };
    let value = walk.value(MAX_LEVELS_IN).ok_or_else(|| {
        format!("nested more than {MAX_LEVELS_IN} levels deep, which is too deep for a script")
    })?;
    Ok(Read { value, has_twins: walk.has_twins })
}

/// The JSON with what a script changed in it. None when it changed nothing.
pub(crate) fn changed(came: &str, left: &Dynamic) -> Result<Option<Vec<u8>>, String> {
    if is_same(came, left) {
        return Ok(None);
    }
    let mut out = Vec::with_capacity(came.len());
    write_changed(came, left, &mut out)?;
    Ok(Some(out))
}

fn is_same(came: &str, left: &Dynamic) -> bool {
    Walk { text: came, at: 0, has_twins: false }.is_same(left)
}

fn merge(came: &str, left: &Dynamic, out: &mut Vec<u8>) -> Result<(), String> {
    if is_same(came, left) {
        out.extend_from_slice(came.as_bytes());
        return Ok(());
    }
    write_changed(came, left, out)
}

fn write_changed(came: &str, left: &Dynamic, out: &mut Vec<u8>) -> Result<(), String> {
    match came.as_bytes().first() {
        Some(b'{') => {
            if let (Ok(left), Ok(members)) = (left.as_map_ref(), json::members(came)) {
                return merge_map(&members, &left, out);
            }
        }
        Some(b'[') => {
            if let (Ok(left), Ok(items)) = (left.as_array_ref(), serde_json::from_str(came)) {
                return merge_list(items, &left, out);
            }
        }
        _ => (),
    }
    out.extend_from_slice(&to_json(left)?);
    Ok(())
}

fn merge_map(members: &Members, left: &Map, out: &mut Vec<u8>) -> Result<(), String> {
    // Of two members of the same name the last one counts.
    let last: BTreeMap<&str, usize> =
        members.iter().enumerate().map(|(index, (name, _))| (&**name, index)).collect();
    out.push(b'{');
    for (index, (name, came)) in members.iter().enumerate() {
        if let (Some(left), true) = (left.get(&**name), last[&**name] == index) {
            json::write_member(name, "", out);
            merge(came.get(), left, out)?;
        }
    }
    for (name, left) in left.iter().filter(|(name, _)| !last.contains_key(name.as_str())) {
        json::write_name(name, out);
        out.extend_from_slice(&to_json(left)?);
    }
    out.push(b'}');
    Ok(())
}

/// Items are told apart by their places, counted from both ends: when some were put in or taken
/// out, those before and behind are still what they were.
fn merge_list(came: Vec<&RawValue>, left: &Array, out: &mut Vec<u8>) -> Result<(), String> {
    let both = came.len().min(left.len());
    let is_kept = |from: usize, to: usize| is_same(came[from].get(), &left[to]);
    let front = match came.len() == left.len() {
        true => both,
        false => (0..both).take_while(|at| is_kept(*at, *at)).count(),
    };
    let back =
        (1..=both - front).take_while(|end| is_kept(came.len() - end, left.len() - end)).count();
    let of = |at: usize| match at {
        at if at >= left.len() - back => came.get(at + came.len() - left.len()),
        at if at < came.len() - back => came.get(at),
        _ => None,
    };
    out.push(b'[');
    for (at, left) in left.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match of(at) {
            Some(came) => merge(came.get(), left, out)?,
            None => out.extend_from_slice(&to_json(left)?),
        }
    }
    out.push(b']');
    Ok(())
}

/// A map in JSON, taken apart: its members are read when somebody asks for them, and what nobody
/// changes leaves as it came.
pub(crate) struct Fields<'a> {
    members: Members<'a>,
    /// The length of the whole.
    bytes: usize,
}

impl<'a> Fields<'a> {
    /// An error when the text is not a map in JSON.
    pub(crate) fn of(text: &'a str) -> serde_json::Result<Fields<'a>> {
        Ok(Fields { members: json::members(text)?, bytes: text.len() })
    }

    /// These fields as a script sees them.
    pub(crate) fn seen(&self, names: &[Identifier]) -> Result<Map, String> {
        let mut seen = Map::new();
        for name in names {
            let Some(came) = self.text(name) else { continue };
            let read = read_valid(came).map_err(|error| format!("`{name}` is {error}"))?;
            seen.insert(name.clone(), read.value);
        }
        Ok(seen)
    }

    /// The map with these fields as the script left them. None when nothing changed.
    pub(crate) fn changed<'l>(
        &self,
        left: impl Iterator<Item = (&'l str, &'l Dynamic)>,
    ) -> Result<Option<Vec<u8>>, String> {
        let mut changes = Vec::new();
        for (name, left) in left {
            let json = match self.text(name) {
                Some(came) => changed(came, left)?,
                None => Some(to_json(left)?),
            };
            changes.extend(json.map(|json| Change { name, json, is_written: false }));
        }
        Ok((!changes.is_empty()).then(|| self.with(changes)))
    }

    fn with(&self, mut changes: Vec<Change>) -> Vec<u8> {
        let more: usize = changes.iter().map(|change| change.name.len() + change.json.len()).sum();
        let mut out = Vec::with_capacity(self.bytes + more + MEMBER_BYTES * changes.len());
        out.push(b'{');
        for (name, came) in &self.members {
            match changes.iter_mut().find(|change| change.name == name) {
                None => json::write_member(name, came.get(), &mut out),
                Some(change) if !change.is_written => change.write(&mut out),
                Some(_) => (),
            }
        }
        changes.iter_mut().filter(|change| !change.is_written).for_each(|new| new.write(&mut out));
        out.push(b'}');
        out
    }

    /// Of two fields of the same name the last one counts.
    fn text(&self, name: &str) -> Option<&'a str> {
        self.members.iter().rfind(|(there, _)| there == name).map(|(_, came)| came.get())
    }
}

/// What a member has beside its name and value: two quotes, a colon and a comma.
const MEMBER_BYTES: usize = 4;

struct Change<'a> {
    name: &'a str,
    json: Vec<u8>,
    is_written: bool,
}

impl Change<'_> {
    fn write(&mut self, out: &mut Vec<u8>) {
        self.is_written = true;
        json::write_name(self.name, out);
        out.extend_from_slice(&self.json);
    }
}

/// Goes through what is known to be JSON.
struct Walk<'a> {
    text: &'a str,
    at: usize,
    has_twins: bool,
}

impl<'a> Walk<'a> {
    /// The value that comes next. None when it is nested too deep.
    fn value(&mut self, levels: usize) -> Option<Dynamic> {
        let levels = levels.checked_sub(1)?;
        Some(match self.first() {
            b'{' => {
                let mut map = Map::new();
                self.enter();
                while self.goes_on(b'}') {
                    let name = self.name();
                    let value = self.value(levels)?;
                    self.has_twins |= map.insert((&*name).into(), value).is_some();
                }
                Dynamic::from_map(map)
            }
            b'[' => {
                let mut list = Array::new();
                self.enter();
                while self.goes_on(b']') {
                    list.push(self.value(levels)?);
                }
                Dynamic::from_array(list)
            }
            b'"' => (&*unquoted(self.quoted())).into(),
            _ => word(self.word()),
        })
    }

    /// Whether a script that saw the value which comes next would still see the same. When not, the
    /// walk is over.
    fn is_same(&mut self, left: &Dynamic) -> bool {
        match self.first() {
            b'{' => {
                let Ok(left) = left.as_map_ref() else { return false };
                let mut members = 0;
                self.enter();
                while self.goes_on(b'}') {
                    members += 1;
                    let name = self.name();
                    if !left.get(&*name).is_some_and(|left| self.is_same(left)) {
                        return false;
                    }
                }
                members == left.len()
            }
            b'[' => {
                let Ok(left) = left.as_array_ref() else { return false };
                let mut items = 0;
                self.enter();
                while self.goes_on(b']') {
                    if !left.get(items).is_some_and(|left| self.is_same(left)) {
                        return false;
                    }
                    items += 1;
                }
                items == left.len()
            }
            b'"' => {
                let came = unquoted(self.quoted());
                left.as_immutable_string_ref().is_ok_and(|left| **left == *came)
            }
            _ => is_same_word(&word(self.word()), left),
        }
    }

    /// The next byte that is no white space.
    fn first(&mut self) -> u8 {
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                byte => return byte.copied().unwrap_or_default(),
            }
        }
    }

    /// Goes into a map or a list.
    fn enter(&mut self) {
        self.at += 1;
    }

    /// Whether another member or item comes, in what `end` closes. When not, goes out of it.
    fn goes_on(&mut self, end: u8) -> bool {
        let next = self.first();
        if next == b',' || next == end {
            self.at += 1;
        }
        next != end && next != 0
    }

    fn name(&mut self) -> Cow<'a, str> {
        self.first();
        let name = unquoted(self.quoted());
        self.first();
        self.at += 1;
        name
    }

    /// A text with its quotes.
    fn quoted(&mut self) -> &'a str {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        loop {
            match bytes.get(self.at) {
                Some(b'\\') => self.at += 2,
                Some(b'"') | None => break,
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
        let length = rest.bytes().position(|byte| ends(&byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }
}

fn unquoted(quoted: &str) -> Cow<'_, str> {
    let inside = quoted.get(1..quoted.len() - 1).unwrap_or_default();
    if !inside.contains('\\') {
        return inside.into();
    }
    // JSON may hold half a letter, and a text of a script may not.
    serde_json::from_str(quoted).map_or(inside.into(), Cow::Owned)
}

fn word(word: &str) -> Dynamic {
    match word {
        "null" => Dynamic::UNIT,
        "true" => Dynamic::TRUE,
        "false" => Dynamic::FALSE,
        // It has a sign, so it is a float.
        "-0" => Dynamic::from(-0.0),
        number => match number.parse::<i64>() {
            Ok(whole) => whole.into(),
            Err(_) => number.parse::<f64>().unwrap_or_default().into(),
        },
    }
}

fn is_same_word(came: &Dynamic, left: &Dynamic) -> bool {
    match (came.as_int(), came.as_float(), came.as_bool()) {
        (Ok(came), ..) => left.as_int() == Ok(came),
        (_, Ok(came), _) => left.as_float().is_ok_and(|left| left.to_bits() == came.to_bits()),
        (.., Ok(came)) => left.as_bool() == Ok(came),
        _ => left.is_unit(),
    }
}
