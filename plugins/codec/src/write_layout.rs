//! Writes a binary payload by its layout.

use anyhow::bail;
use bytes::Bytes;
use forebay_sdk::{Value, payload::kind};
use serde_json::Map;

use crate::{
    bits,
    layout::{Count, Kind, Layout, Name, Number, PARTS, Part, What},
};

impl Layout {
    /// What keeps it from being written, with the place of the part. None when nothing does.
    pub(crate) fn unwritable(&self) -> Option<(String, &'static str)> {
        unwritable(&self.0, PARTS)
    }

    pub(crate) fn write(&self, value: &Value) -> anyhow::Result<Bytes> {
        let Some(map) = value.as_object() else {
            bail!("it is {}; expected a map", kind(value));
        };
        let mut writer = Writer { bytes: Vec::new(), at: 0, known: Vec::new() };
        writer.parts(&self.0, map)?;
        Ok(writer.bytes.into())
    }
}

fn unwritable(parts: &[Part], setting: &str) -> Option<(String, &'static str)> {
    parts.iter().enumerate().find_map(|(index, part)| {
        let place = format!("{setting}[{index}]");
        let named = |name: &Name| {
            name.fixed()
                .is_none()
                .then(|| (place.clone(), "a name that is filled in cannot be written"))
        };
        match &part.what {
            What::Repeat { name: None, .. } => {
                Some((place, "what is repeated has no `name`, so there is no list to write"))
            }
            What::Skip(Count::By(_) | Count::Rest) => {
                Some((place, "`skip` says no number of bytes, so nobody knows how many to write"))
            }
            What::Number(number) => number.name.as_ref().and_then(named),
            What::Text { name, .. } | What::List { name, .. } => named(name),
            What::Group { name, parts, .. } => name
                .as_ref()
                .and_then(named)
                .or_else(|| unwritable(parts, &format!("{place}.parts"))),
            What::Repeat { parts, .. } => unwritable(parts, &format!("{place}.parts")),
            What::Choose { cases, .. } => {
                cases.values().find_map(|parts| unwritable(parts, &place))
            }
            What::Skip(Count::Of(_)) => None,
        }
    })
}

struct Writer {
    bytes: Vec<u8>,
    /// In bits.
    at: usize,
    /// The numbers so far, by name.
    known: Vec<(String, i64)>,
}

impl Writer {
    fn parts(&mut self, parts: &[Part], map: &Map<String, Value>) -> anyhow::Result<()> {
        let begin = self.at;
        parts.iter().try_for_each(|part| {
            if let Some(at) = part.at {
                self.at = begin + at;
            }
            self.part(&part.what, map)
        })
    }

    fn part(&mut self, what: &What, map: &Map<String, Value>) -> anyhow::Result<()> {
        match what {
            What::Number(number) => self.number(number, map),
            What::Text { name, length, is_hex } => {
                let name = name.fixed().unwrap_or_default();
                let Some(text) = map.get(name).and_then(Value::as_str) else {
                    bail!("`{name}` is {}; expected a text", shown(map.get(name)));
                };
                let bytes = match is_hex {
                    false => text.as_bytes().to_vec(),
                    true => match from_hex(text) {
                        Some(bytes) => bytes,
                        None => bail!("`{name}` is no text of hexadecimal digits"),
                    },
                };
                self.bytes_of(name, &bytes, length)
            }
            What::Skip(count) => {
                self.at += 8 * if let Count::Of(bytes) = count { usize::from(*bytes) } else { 0 };
                bits::grow(&mut self.bytes, self.at);
                Ok(())
            }
            What::Group { name, length, parts } => {
                let begin = self.at;
                let inner = match name.as_ref().and_then(Name::fixed) {
                    None => map,
                    Some(name) => match map.get(name).and_then(Value::as_object) {
                        Some(inner) => inner,
                        None => bail!("`{name}` is {}; expected a map", shown(map.get(name))),
                    },
                };
                self.parts(parts, inner)?;
                self.has_length(begin, length.as_ref())
            }
            What::List { name, count, item } => {
                let name = name.fixed().unwrap_or_default();
                // Each item has the name of the list.
                self.items(map, name, count)?.iter().try_for_each(|value| {
                    let one: Map<_, _> = [(name.to_owned(), value.clone())].into_iter().collect();
                    self.part(item, &one)
                })
            }
            What::Repeat { name, count, length, parts } => {
                let begin = self.at;
                let name = name.as_ref().and_then(Name::fixed).unwrap_or_default();
                for (index, item) in self.items(map, name, count)?.iter().enumerate() {
                    match item.as_object() {
                        Some(inner) => self.parts(parts, inner)?,
                        None => bail!("`{name}[{index}]` is {}; expected a map", kind(item)),
                    }
                }
                self.has_length(begin, length.as_ref())
            }
            What::Choose { by, length, cases, .. } => {
                let begin = self.at;
                let number = self.known(by)?;
                let Some(parts) = cases.get(&number) else {
                    bail!("`{by}` is {number}, for which there is no case");
                };
                self.parts(parts, map)?;
                self.has_length(begin, length.as_ref())
            }
        }
    }

    /// As many items as the layout says.
    fn items<'a>(
        &self,
        map: &'a Map<String, Value>,
        name: &str,
        count: &Count,
    ) -> anyhow::Result<&'a [Value]> {
        let Some(items) = map.get(name).and_then(Value::as_array) else {
            bail!("`{name}` is {}; expected a list", shown(map.get(name)));
        };
        let expected = match count {
            Count::Of(count) => i64::from(*count),
            Count::By(by) => self.known(by)?,
            Count::Rest => return Ok(items),
        };
        match i64::try_from(items.len()) {
            Ok(found) if found == expected => Ok(items),
            _ => bail!("`{name}` has {} items; `repeat` says {expected}", items.len()),
        }
    }

    fn number(&mut self, part: &Number, map: &Map<String, Value>) -> anyhow::Result<()> {
        let name = part.name.as_ref().and_then(Name::fixed);
        let raw = match (part.is, name) {
            (Some(is), _) => is.cast_unsigned() & bits::mask(part.width),
            (None, name) if !part.flags.is_empty() => {
                let flags = match name {
                    None => Some(map),
                    Some(name) => map.get(name).and_then(Value::as_object),
                };
                let is_set = |flag: &str| flags.and_then(|map| map.get(flag)) == Some(&true.into());
                let bits = part.flags.iter().filter(|(_, flag)| is_set(flag));
                bits.fold(0, |raw, (bit, _)| raw | 1 << bit)
            }
            (None, name) => {
                let name = name.unwrap_or_default();
                raw(part, map.get(name), name)?
            }
        };
        let whole = match part.kind {
            Kind::Signed => bits::signed(raw, part.width),
            _ => raw.cast_signed(),
        };
        if let Some(name) = name {
            self.known.push((name.to_owned(), whole));
        }
        bits::write(&mut self.bytes, self.at, part.width, part.endian, raw);
        self.at += part.width;
        Ok(())
    }

    fn bytes_of(&mut self, name: &str, bytes: &[u8], length: &Count) -> anyhow::Result<()> {
        if !self.at.is_multiple_of(8) {
            bail!("`{name}` does not begin with a byte");
        }
        let length = match length {
            Count::Of(length) => usize::from(*length),
            Count::By(by) => usize::try_from(self.known(by)?).unwrap_or(0),
            Count::Rest => bytes.len(),
        };
        if bytes.len() > length {
            bail!("`{name}` takes {} bytes; there is room for {length}", bytes.len());
        }
        let begin = self.at / 8;
        self.at += 8 * length;
        bits::grow(&mut self.bytes, self.at);
        self.bytes[begin..begin + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// Fills up what is shorter than it should be.
    fn has_length(&mut self, begin: usize, length: Option<&Count>) -> anyhow::Result<()> {
        let expected = match length {
            None | Some(Count::Rest) => return Ok(()),
            Some(Count::Of(length)) => usize::from(*length),
            Some(Count::By(by)) => usize::try_from(self.known(by)?).unwrap_or(0),
        };
        let found = (self.at - begin).div_ceil(8);
        if found > expected {
            bail!("a group takes {found} bytes; `length` says {expected}");
        }
        self.at = begin + 8 * expected;
        bits::grow(&mut self.bytes, self.at);
        Ok(())
    }

    fn known(&self, name: &str) -> anyhow::Result<i64> {
        match self.known.iter().rev().find(|(known, _)| known == name) {
            Some((_, number)) => Ok(*number),
            None => bail!("`{name}` was not written"),
        }
    }
}

/// The bits of a value.
fn raw(part: &Number, value: Option<&Value>, name: &str) -> anyhow::Result<u64> {
    let mask = bits::mask(part.width);
    let value = match (value, part.missing) {
        (None | Some(Value::Null), Some(none)) => return Ok(none.cast_unsigned() & mask),
        (None, None) => bail!("`{name}` is missing, which the layout has"),
        (Some(value), _) => value,
    };
    if let Some((number, _)) = part.values.iter().find(|(_, known)| known == value) {
        return Ok(number.cast_unsigned() & mask);
    }
    let number = match value {
        Value::Bool(is) => f64::from(u8::from(*is)),
        Value::Number(number) => number.as_f64().unwrap_or_default(),
        other if part.values.is_empty() => bail!("`{name}` is {}; expected a number", kind(other)),
        other => bail!("`{name}` is {other}, which is none of `values`"),
    };
    let computes = part.scale.is_some() || part.offset.is_some();
    let number = match computes {
        true => (number - part.offset.unwrap_or(0.0)) / part.scale.unwrap_or(1.0),
        false => number,
    };
    let outside = |least: f64, most: f64| {
        let scale = |raw: f64| {
            forebay_sdk::number::value(raw * part.scale.unwrap_or(1.0) + part.offset.unwrap_or(0.0))
        };
        anyhow::anyhow!(
            "`{name}` is {value}; there is room for {} to {}",
            scale(least),
            scale(most)
        )
    };
    if part.kind == Kind::Float {
        return Ok(match part.width {
            16 => half::f16::from_f64(number).to_bits().into(),
            32 => (number as f32).to_bits().into(),
            _ => number.to_bits(),
        });
    }
    let (least, most) = match part.kind {
        Kind::Signed => {
            (-(2_f64.powi(part.width as i32 - 1)), 2_f64.powi(part.width as i32 - 1) - 1.0)
        }
        Kind::Bcd => (0.0, 10_f64.powi(part.width as i32 / 4) - 1.0),
        _ => (0.0, 2_f64.powi(part.width as i32) - 1.0),
    };
    let rounded = number.round();
    if !(least..=most).contains(&rounded) {
        return Err(outside(least, most));
    }
    // A whole number keeps all of its digits.
    let whole = match (computes, value.as_i64(), value.as_u64()) {
        (false, Some(whole), _) => whole.cast_unsigned(),
        (false, _, Some(whole)) => whole,
        _ if rounded < 0.0 => (rounded as i64).cast_unsigned(),
        _ => rounded as u64,
    };
    Ok(match part.kind {
        Kind::Bcd => {
            (0..part.width / 4)
                .fold((0, whole), |(bits, rest), at| (bits | (rest % 10) << (4 * at), rest / 10))
                .0
        }
        _ => whole & mask,
    })
}

fn shown(value: Option<&Value>) -> &'static str {
    value.map_or("missing", kind)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    digits
        .len()
        .is_multiple_of(2)
        .then(|| digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect())
}
