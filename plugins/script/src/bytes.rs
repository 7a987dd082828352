//! Functions of scripts for bytes: as a text and back, and what proves that none got lost.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rhai::{Blob, Dynamic, Engine, EvalAltResult, ImmutableString, Position};

type Answer<T> = Result<T, Box<EvalAltResult>>;

/// How bytes make a whole number: the first is the highest or the lowest, and its sign counts or not.
#[derive(Clone, Copy)]
enum Form {
    HighFirst,
    HighFirstSigned,
    LowFirst,
    LowFirstSigned,
}

/// All that has a meaning in a url, or none that everybody agrees on (RFC 3986, section 2.3).
const NOT_IN_A_URL: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const FORMS: [(&str, Form); 4] = [
    ("uint_be", Form::HighFirst),
    ("int_be", Form::HighFirstSigned),
    ("uint_le", Form::LowFirst),
    ("int_le", Form::LowFirstSigned),
];

/// `most_text` and `most_bytes` are the longest that they make.
pub(crate) fn register(engine: &mut Engine, most_text: usize, most_bytes: usize) {
    let short = move |text: String| match text.len() <= most_text {
        true => Ok(text),
        false => Err(too_large("Length of string")),
    };
    let few = move |bytes: Vec<u8>| match bytes.len() <= most_bytes {
        true => Ok(bytes),
        false => Err(too_large("Size of BLOB")),
    };
    engine.register_fn("to_base64", move |bytes: Blob| short(STANDARD.encode(bytes)));
    engine.register_fn("to_base64", move |text: ImmutableString| short(STANDARD.encode(&*text)));
    engine.register_fn("from_base64", move |text: &str| -> Answer<Blob> {
        let bytes = STANDARD.decode(text.trim());
        few(bytes.map_err(|error| format!("text is not base64: {error}"))?)
    });
    engine.register_fn("url_encode", move |text: &str| {
        short(utf8_percent_encode(text, &NOT_IN_A_URL).to_string())
    });
    engine.register_fn("to_hex", move |bytes: Blob| short(hex(&bytes)));
    engine.register_fn("to_hex", move |text: ImmutableString| short(hex(text.as_bytes())));
    engine.register_fn("from_hex", move |text: &str| -> Answer<Blob> { few(from_hex(text)?) });
    engine.register_fn("crc32", |bytes: Blob| i64::from(crc32fast::hash(&bytes)));
    engine.register_fn("crc32", |text: &str| i64::from(crc32fast::hash(text.as_bytes())));
    engine.register_fn("crc16_modbus", |bytes: Blob| i64::from(crc16_modbus(&bytes)));
    for (name, form) in FORMS {
        let read = move |bytes: Blob, at: i64, count: i64| number(&bytes, at, count, form);
        engine.register_fn(name, read);
    }
    engine.register_fn("float_be", |bytes: Blob, at: i64, count: i64| {
        float(number(&bytes, at, count, Form::HighFirst)?, count)
    });
    engine.register_fn("float_le", |bytes: Blob, at: i64, count: i64| {
        float(number(&bytes, at, count, Form::LowFirst)?, count)
    });
    // A message has bytes as a list of numbers.
    engine.register_fn("to_blob", move |list: rhai::Array| few(blob(&list)?));
    engine.register_fn("to_blob", move |text: ImmutableString| few(text.as_bytes().to_vec()));
}

fn too_large(what: &str) -> Box<EvalAltResult> {
    EvalAltResult::ErrorDataTooLarge(what.to_owned(), Position::NONE).into()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(DIGITS[digit as usize]));
    bytes.iter().flat_map(digits).collect()
}

fn from_hex(text: &str) -> Answer<Vec<u8>> {
    let digit = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits = text.chars().filter(|c| !c.is_whitespace()).map(digit);
    let digits: Option<Vec<u8>> = digits.collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0);
    let digits = digits.ok_or("text is not hexadecimal; expected two digits for each byte")?;
    Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The decimal number (IEEE 754) of so many bytes.
fn float(bits: i64, count: i64) -> Answer<f64> {
    match (count, u32::try_from(bits)) {
        (4, Ok(bits)) => Ok(f32::from_bits(bits).into()),
        (8, _) => Ok(f64::from_bits(bits.cast_unsigned())),
        _ => Err("expected 4 or 8 bytes".into()),
    }
}

/// The number that `count` bytes from `at` on make.
fn number(bytes: &[u8], at: i64, count: i64, form: Form) -> Answer<i64> {
    const MOST: usize = 8;
    let range = usize::try_from(at).ok().zip(usize::try_from(count).ok());
    let range = range.filter(|(_, count)| (1..=MOST).contains(count));
    let (start, count) = range.ok_or("expected a place from 0 on, and 1 to 8 bytes")?;
    let there = start.checked_add(count).and_then(|end| bytes.get(start..end));
    let there = there.ok_or_else(|| {
        format!("there are {} bytes; expected {count} from {start} on", bytes.len())
    })?;
    let mut eight = [0; MOST];
    eight[MOST - count..].copy_from_slice(there);
    if let Form::LowFirst | Form::LowFirstSigned = form {
        eight[MOST - count..].reverse();
    }
    let unused = 8 * (MOST - count);
    match form {
        Form::HighFirst | Form::LowFirst => Ok(i64::from_be_bytes(eight)),
        // Shifting up and down again repeats the sign.
        Form::HighFirstSigned | Form::LowFirstSigned => {
            Ok(i64::from_be_bytes(eight) << unused >> unused)
        }
    }
}

fn blob(list: &rhai::Array) -> Answer<Vec<u8>> {
    let byte = |value: &Dynamic| value.as_int().ok().and_then(|whole| u8::try_from(whole).ok());
    let bytes: Option<Vec<u8>> = list.iter().map(byte).collect();
    bytes.ok_or_else(|| "expected a list of whole numbers from 0 to 255".into())
}

/// That of Modbus RTU, which many serial devices have borrowed.
fn crc16_modbus(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| match crc & 1 {
            1 => crc >> 1 ^ 0xa001,
            _ => crc >> 1,
        })
    })
}
