//! Reads a binary payload by its layout.

use anyhow::{anyhow, bail};
use forebay_sdk::{Value, number};
use serde_json::Map;

use crate::{
    bits,
    layout::{Count, Kind, Layout, Name, NamePart, Number, Otherwise, Part, What},
    words::MOST_VALUES,
};

impl Layout {
    /// Reads all of a payload. What is left over is an error.
    pub(crate) fn read(&self, bytes: &[u8]) -> anyhow::Result<Value> {
        let mut reader =
            Reader { bytes, at: 0, end: bytes.len() * 8, known: Vec::new(), values: 0 };
        let mut map = Map::new();
        reader.parts(&self.0, &mut map)?;
        reader.ends()?;
        Ok(map.into())
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    /// In bits, as is `end`.
    at: usize,
    end: usize,
    /// The numbers so far, by name; the last of a name counts.
    known: Vec<(String, i64)>,
    values: usize,
}

impl Reader<'_> {
    fn parts(&mut self, parts: &[Part], map: &mut Map<String, Value>) -> anyhow::Result<()> {
        let begin = self.at;
        parts.iter().try_for_each(|part| {
            if let Some(at) = part.at {
                self.at = begin + at;
            }
            self.part(&part.what, map)
        })
    }

    fn part(&mut self, what: &What, map: &mut Map<String, Value>) -> anyhow::Result<()> {
        self.values += 1;
        if self.values > MOST_VALUES {
            bail!("has more than {MOST_VALUES} values");
        }
        match what {
            What::Number(number) => self.number(number, map),
            What::Text { name, length, is_hex } => {
                let name = self.filled(name);
                let bytes = self.taken(length, &name)?;
                let text = match is_hex {
                    true => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                    false => text(bytes)
                        .map_err(|()| anyhow!("is not as laid out: `{name}` is not UTF-8 text"))?,
                };
                insert(map, name, text.into());
                Ok(())
            }
            What::Skip(count) => self.taken(count, "skip").map(drop),
            What::Group { name: None, length, parts } => {
                self.within(length.as_ref(), "parts", |reader| reader.parts(parts, map))
            }
            What::Group { name: Some(name), length, parts } => {
                let name = self.filled(name);
                let mut inner = Map::new();
                self.within(length.as_ref(), &name, |reader| reader.parts(parts, &mut inner))?;
                insert(map, name, inner.into());
                Ok(())
            }
            What::List { name, count, item } => {
                let name = self.filled(name);
                let mut items: Vec<Value> = Vec::new();
                self.times(count, |reader| {
                    let mut inner = Map::new();
                    reader.part(item, &mut inner)?;
                    items.extend(inner.into_iter().map(|(_, value)| value));
                    Ok(())
                })?;
                insert(map, name, items.into());
                Ok(())
            }
            What::Repeat { name: None, count, length, parts } => {
                self.within(length.as_ref(), "repeat", |reader| {
                    reader.times(count, |reader| reader.parts(parts, map))
                })
            }
            What::Repeat { name: Some(name), count, length, parts } => {
                let name = self.filled(name);
                let mut items = Vec::new();
                self.within(length.as_ref(), &name, |reader| {
                    reader.times(count, |reader| {
                        let mut inner = Map::new();
                        reader.parts(parts, &mut inner)?;
                        items.push(Value::Object(inner));
                        Ok(())
                    })
                })?;
                insert(map, name, items.into());
                Ok(())
            }
            What::Choose { by, length, cases, otherwise } => {
                let number = self.known(by)?;
                match cases.get(&number) {
                    Some(parts) => {
                        self.within(length.as_ref(), by, |reader| reader.parts(parts, map))
                    }
                    None if *otherwise == Otherwise::Skip => {
                        length.as_ref().map_or(Ok(()), |length| self.taken(length, by).map(drop))
                    }
                    None => {
                        let place = self.place();
                        bail!(
                            "is not as laid out: `{by}` is {number} (0x{number:x}), for which there is no case, {place}"
                        )
                    }
                }
            }
        }
    }

    fn number(&mut self, part: &Number, map: &mut Map<String, Value>) -> anyhow::Result<()> {
        let name = part.name.as_ref().map(|name| self.filled(name));
        let shown = name.as_deref().unwrap_or("is");
        let place = self.place();
        let raw = self.bits(part, shown)?;
        let whole = match part.kind {
            Kind::Signed => bits::signed(raw, part.width),
            Kind::Bcd => match digits(raw, part.width) {
                Some(number) => number,
                // Devices fill the digits with ones where there is no value.
                None if raw == bits::mask(part.width) => {
                    name.into_iter().for_each(|name| insert(map, name, Value::Null));
                    return Ok(());
                }
                None => bail!("is not as laid out: `{shown}` has a digit that is none, {place}"),
            },
            _ => raw.cast_signed(),
        };
        if let Some(is) = part.is
            && (is.cast_unsigned() ^ raw) & bits::mask(part.width) != 0
        {
            bail!(
                "is not as laid out: expected {is} (0x{is:x}), found {whole} (0x{raw:x}), {place}"
            );
        }
        if let Some(name) = &name {
            self.known.push((name.clone(), whole));
        }
        if !part.flags.is_empty() {
            let flags = part.flags.iter();
            let flags = flags.map(|(bit, flag)| (flag.clone(), (raw >> bit & 1 == 1).into()));
            match name {
                Some(name) => insert(map, name, flags.collect::<Map<_, _>>().into()),
                None => map.extend(flags),
            }
            return Ok(());
        }
        if let Some(name) = name {
            let value = value(part, raw, whole);
            insert(map, name, value);
        }
        Ok(())
    }

    fn bits(&mut self, part: &Number, name: &str) -> anyhow::Result<u64> {
        if self.at + part.width > self.end {
            bail!(
                "ends too early: `{name}` takes {} bits {}, and there are {} bytes",
                part.width,
                self.place(),
                self.end / 8
            );
        }
        let raw = bits::read(self.bytes, self.at, part.width, part.endian);
        self.at += part.width;
        Ok(raw)
    }

    fn place(&self) -> String {
        match self.at % 8 {
            0 => format!("at byte {}", self.at / 8),
            bit => format!("at byte {}, behind {bit} of its bits", self.at / 8),
        }
    }

    /// Does something with the next bytes alone, all of which it takes.
    fn within(
        &mut self,
        length: Option<&Count>,
        name: &str,
        inside: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let known = self.known.len();
        let result = match length {
            None => inside(self),
            Some(length) => {
                let (begin, outer) = (self.at, self.end);
                let bytes = self.taken(length, name)?.len();
                (self.at, self.end) = (begin, begin + bytes * 8);
                let result = inside(self).and_then(|()| self.ends());
                self.end = outer;
                result
            }
        };
        self.known.truncate(known);
        result
    }

    fn times(
        &mut self,
        count: &Count,
        mut once: impl FnMut(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let known = self.known.len();
        let mut again = |reader: &mut Self| {
            once(reader)?;
            reader.known.truncate(known);
            anyhow::Ok(())
        };
        let count = match count {
            Count::Of(count) => i64::from(*count),
            Count::By(name) => self.known(name)?,
            Count::Rest => {
                while self.at < self.end {
                    let before = self.at;
                    again(self)?;
                    if self.at == before {
                        bail!("is not as laid out: what is repeated takes no bytes");
                    }
                }
                return Ok(());
            }
        };
        (0..count).try_for_each(|_| again(self))
    }

    /// The next bytes.
    fn taken(&mut self, count: &Count, name: &str) -> anyhow::Result<&[u8]> {
        if !self.at.is_multiple_of(8) {
            bail!("is not as laid out: `{name}` does not begin with a byte, {}", self.place());
        }
        let left = (self.end.saturating_sub(self.at)) / 8;
        let length = match count {
            Count::Of(bytes) => usize::from(*bytes),
            Count::By(by) => usize::try_from(self.known(by)?).unwrap_or(usize::MAX),
            Count::Rest => left,
        };
        if length > left {
            let place = self.place();
            bail!("ends too early: `{name}` takes {length} bytes {place}, and {left} are there");
        }
        let begin = self.at / 8;
        self.at += length * 8;
        Ok(&self.bytes[begin..begin + length])
    }

    fn known(&self, name: &str) -> anyhow::Result<i64> {
        let known = self.known.iter().rev().find(|(known, _)| known == name);
        match known {
            Some((_, number)) => Ok(*number),
            None => bail!("is not as laid out: `{name}` was not there"),
        }
    }

    fn filled(&self, name: &Name) -> String {
        let part = |part: &NamePart| match part {
            NamePart::Text(text) => text.clone(),
            NamePart::Of(name) => {
                self.known(name).map_or_else(|_| String::new(), |n| n.to_string())
            }
        };
        name.0.iter().map(part).collect()
    }

    fn ends(&self) -> anyhow::Result<()> {
        // Bits that fill up the last byte are no data.
        match (self.end.saturating_sub(self.at)) / 8 {
            0 => Ok(()),
            left => bail!(
                "has {left} bytes more than the layout, {}; `skip: rest` passes over them",
                self.place()
            ),
        }
    }
}

fn insert(map: &mut Map<String, Value>, name: String, value: Value) {
    if !name.starts_with('_') {
        map.insert(name, value);
    }
}

fn value(part: &Number, raw: u64, whole: i64) -> Value {
    if part.missing.is_some_and(|none| (none.cast_unsigned() ^ raw) & bits::mask(part.width) == 0) {
        return Value::Null;
    }
    if let Some((_, value)) = part.values.iter().find(|(number, _)| *number == whole) {
        return value.clone();
    }
    let computes = part.scale.is_some() || part.offset.is_some();
    let number = match part.kind {
        Kind::Bool => return (raw == 1).into(),
        Kind::Float => match float(raw, part.width) {
            // A number of 32 bits as it is written, and not with the digits of 64.
            small if part.width < 64 => (small as f32).to_string().parse().unwrap_or(small),
            float => float,
        },
        _ if computes && part.kind == Kind::Unsigned => raw as f64,
        _ if computes => whole as f64,
        Kind::Unsigned => return raw.into(),
        _ => return whole.into(),
    };
    number::value(number * part.scale.unwrap_or(1.0) + part.offset.unwrap_or(0.0))
}

fn float(raw: u64, width: usize) -> f64 {
    match width {
        16 => half::f16::from_bits(raw as u16).to_f64(),
        32 => f32::from_bits(raw as u32).into(),
        _ => f64::from_bits(raw),
    }
}

/// The number that decimal digits make. None when one of them is none.
fn digits(raw: u64, width: usize) -> Option<i64> {
    (0..width / 4).rev().try_fold(0_i64, |number, at| {
        let digit = i64::try_from(raw >> (4 * at) & 15).ok()?;
        (digit < 10).then_some(number * 10 + digit)
    })
}

/// A text that is filled up with zeros.
fn text(bytes: &[u8]) -> Result<String, ()> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8(bytes[..end].to_vec()).map_err(|_| ())
}
