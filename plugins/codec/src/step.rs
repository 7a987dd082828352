//! One step between bytes and a value, and several in a row.

use anyhow::{Context, anyhow, bail};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{
        DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig,
        general_purpose::{self, URL_SAFE_NO_PAD},
    },
};
use bytes::Bytes;
use forebay_sdk::{Compression, Format, Message, Payload, Value, coding::MOST_UNPACKED};

use crate::{influx::Influx, layout::Layout, rows::Rows, template::Template, xml::Xml};

/// How a value is written, and what the bytes are put into then, from the inside to the outside.
#[derive(Clone, Default)]
pub(crate) struct Steps {
    /// None: bytes stay bytes.
    pub writing: Option<Writing>,
    pub wrappings: Vec<Wrapping>,
}

/// How a value is written as bytes.
#[derive(Clone)]
pub(crate) enum Writing {
    Plain(Format),
    Csv(Rows),
    Xml(Xml),
    Influx(Influx),
    Template(Template),
    Binary(Layout),
}

/// What bytes are put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrapping {
    Base64,
    Base64url,
    Hex,
    Packed(Compression),
}

/// Reads both alphabets, once they are one, with or without the `=` at the end.
const BASE64: GeneralPurpose = {
    let config = GeneralPurposeConfig::new();
    let config = config.with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&STANDARD, config.with_decode_allow_trailing_bits(true))
};

impl Steps {
    /// Takes the bytes out of what they were put into. Errors say what is wrong, without the subject.
    pub(crate) fn unwrap(&self, bytes: Bytes) -> anyhow::Result<Bytes> {
        self.wrappings.iter().rev().try_fold(bytes, |bytes, step| {
            step.unwrap(&bytes).with_context(|| format!("is not {}", step.name()))
        })
    }

    /// Puts bytes into it.
    pub(crate) fn wrap(&self, bytes: Bytes) -> Bytes {
        self.wrappings.iter().fold(bytes, |bytes, step| step.wrap(&bytes))
    }
}

impl Wrapping {
    fn name(self) -> &'static str {
        match self {
            Wrapping::Base64 | Wrapping::Base64url => "base64",
            Wrapping::Hex => "hexadecimal",
            Wrapping::Packed(compression) => compression.name(),
        }
    }

    /// Whether what it makes is a text.
    pub(crate) fn makes_text(self) -> bool {
        !matches!(self, Wrapping::Packed(_))
    }

    fn unwrap(self, bytes: &[u8]) -> anyhow::Result<Bytes> {
        match self {
            Wrapping::Base64 | Wrapping::Base64url => from_base64(bytes),
            Wrapping::Hex => from_hex(bytes),
            Wrapping::Packed(compression) => match compression.unpack(bytes, MOST_UNPACKED) {
                Ok(unpacked) => Ok(unpacked.into()),
                // The subject stands in front already.
                Err(error) => match error.chain().nth(1) {
                    Some(why) => bail!("{why}"),
                    None => bail!("it unpacks to more than {MOST_UNPACKED} bytes"),
                },
            },
        }
    }

    fn wrap(self, bytes: &[u8]) -> Bytes {
        match self {
            Wrapping::Base64 => general_purpose::STANDARD.encode(bytes).into(),
            Wrapping::Base64url => URL_SAFE_NO_PAD.encode(bytes).into(),
            Wrapping::Hex => {
                let digit = |digit: u8| char::from_digit(digit.into(), 16).unwrap_or('0');
                let digits = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
                digits.collect::<String>().into()
            }
            Wrapping::Packed(compression) => compression.pack(bytes).into(),
        }
    }
}

fn from_base64(bytes: &[u8]) -> anyhow::Result<Bytes> {
    let mut plain = Vec::with_capacity(bytes.len());
    for (place, byte) in bytes.iter().enumerate() {
        match byte {
            b'-' => plain.push(b'+'),
            b'_' => plain.push(b'/'),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' | b'=' => plain.push(*byte),
            byte if byte.is_ascii_whitespace() => (),
            _ => bail!("{} at character {}", shown(bytes, place), place + 1),
        }
    }
    match BASE64.decode(&plain) {
        Ok(bytes) => Ok(bytes.into()),
        Err(_) if plain.contains(&b'=') => bail!("a `=` stands where it should not"),
        Err(_) => bail!("it ends too early"),
    }
}

fn from_hex(bytes: &[u8]) -> anyhow::Result<Bytes> {
    let digits = bytes.strip_prefix(b"0x").or(bytes.strip_prefix(b"0X")).unwrap_or(bytes);
    let skipped = bytes.len() - digits.len();
    let (mut out, mut high) = (Vec::with_capacity(digits.len() / 2), None);
    for (place, byte) in digits.iter().enumerate() {
        match char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()) {
            Some(digit) => match high.take() {
                None => high = Some(digit),
                Some(high) => out.push(high << 4 | digit),
            },
            None if byte.is_ascii_whitespace() => (),
            None if matches!(byte, b':' | b'-') && high.is_none() => (),
            None => {
                let place = skipped + place;
                bail!("{} at character {}", shown(bytes, place), place + 1);
            }
        }
    }
    match high {
        None => Ok(out.into()),
        Some(_) => bail!("it has an odd number of digits"),
    }
}

/// A character, for an error.
fn shown(bytes: &[u8], place: usize) -> String {
    let rest = String::from_utf8_lossy(&bytes[place..bytes.len().min(place + 4)]).into_owned();
    let first = rest.chars().next().unwrap_or(' ');
    format!("`{}`", first.escape_debug())
}

impl Writing {
    /// Reads bytes as a value. Errors say what is wrong, without the subject.
    pub(crate) fn read(&self, bytes: Bytes) -> anyhow::Result<Value> {
        match self {
            Writing::Plain(format) => plain(bytes, *format),
            Writing::Csv(rows) => rows.read(&bytes).context("is not CSV"),
            Writing::Xml(xml) => xml.read(text(&bytes)?).context("is not XML"),
            Writing::Influx(_) => {
                crate::influx::read(text(&bytes)?).context("is not line protocol")
            }
            Writing::Template(template) => template.read(text(&bytes)?),
            Writing::Binary(layout) => layout.read(&bytes),
        }
    }

    /// Writes a value of a message as bytes.
    pub(crate) fn write(&self, value: &Value, message: &Message) -> anyhow::Result<Bytes> {
        match self {
            Writing::Plain(format) => Ok(Payload::from(value.clone()).to_bytes(*format)),
            Writing::Csv(rows) => rows.write(value),
            Writing::Xml(xml) => xml.write(value),
            Writing::Influx(influx) => influx.write(value, message),
            Writing::Template(template) => template.write(value, message),
            Writing::Binary(layout) => layout.write(value),
        }
    }

    /// Whether what it makes is a text.
    pub(crate) fn makes_text(&self) -> bool {
        match self {
            Writing::Plain(format) => matches!(format, Format::Json | Format::Text),
            Writing::Csv(_) | Writing::Xml(_) | Writing::Influx(_) => true,
            Writing::Template(template) => template.makes_text(),
            Writing::Binary(_) => false,
        }
    }
}

fn plain(bytes: Bytes, format: Format) -> anyhow::Result<Value> {
    let payload = Payload::encoded(bytes, format);
    let value = payload.value().map_err(|error| {
        let words = error.to_string();
        anyhow!("{}", words.strip_prefix("payload ").unwrap_or(&words))
    })?;
    Ok(value.clone())
}

/// The text, without the mark that some programs write in front of it.
fn text(bytes: &[u8]) -> anyhow::Result<&str> {
    let text = std::str::from_utf8(bytes).map_err(|error| anyhow!("is not UTF-8 text: {error}"))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}
