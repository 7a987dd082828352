//! MessagePack as values, and values as MessagePack. Bytes become text in base64url, as they do from CBOR;
//! a timestamp becomes text, and any other extension null.

use std::io;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rmp::{Marker, decode, encode};
use serde_json::{Map, Number, Value};

use crate::timestamp::Timestamp;

/// The type of the extension that holds a time.
const TIMESTAMP: i8 = -1;

/// Reads one value, and nothing behind it, nested no deeper than so many levels.
pub(super) fn read(bytes: &[u8], most_levels: usize) -> Result<Value, String> {
    let mut rest = bytes;
    let value = item(&mut rest, most_levels)?;
    match rest.len() {
        0 => Ok(value),
        rest => Err(format!("{rest} bytes behind its end")),
    }
}

/// Writes a value in the fewest bytes that hold all of it.
pub(super) fn write(value: &Value, out: &mut Vec<u8>) {
    // Nothing that is written to memory can fail.
    let _ = write_item(value, out);
}

fn write_item(value: &Value, out: &mut Vec<u8>) -> io::Result<()> {
    match value {
        Value::Null => encode::write_nil(out)?,
        Value::Bool(is) => encode::write_bool(out, *is)?,
        Value::Number(number) => write_number(number, out)?,
        Value::String(text) => encode::write_str(out, text)?,
        Value::Array(items) => {
            begin_list(items.len(), out);
            return items.iter().try_for_each(|item| write_item(item, out));
        }
        Value::Object(fields) => {
            begin_map(fields.len(), out);
            return fields.iter().try_for_each(|(name, value)| {
                encode::write_str(out, name)?;
                write_item(value, out)
            });
        }
    }
    Ok(())
}

/// Begins a list of so many items, which come next.
pub(super) fn begin_list(count: usize, out: &mut Vec<u8>) {
    // A payload has no room for more.
    let _ = encode::write_array_len(out, u32::try_from(count).unwrap_or(u32::MAX));
}

/// Begins a map of so many members, each of which is a text and a value.
pub(super) fn begin_map(count: usize, out: &mut Vec<u8>) {
    let _ = encode::write_map_len(out, u32::try_from(count).unwrap_or(u32::MAX));
}

fn write_number(number: &Number, out: &mut Vec<u8>) -> Result<(), encode::ValueWriteError> {
    if let Some(whole) = number.as_i64() {
        return encode::write_sint(out, whole).map(|_| ());
    }
    if let Some(whole) = number.as_u64() {
        return encode::write_uint(out, whole).map(|_| ());
    }
    let float = number.as_f64().unwrap_or_default();
    let small = float as f32;
    match f64::from(small) == float {
        true => encode::write_f32(out, small),
        false => encode::write_f64(out, float),
    }
}

fn item(rest: &mut &[u8], levels: usize) -> Result<Value, String> {
    let levels = levels.checked_sub(1).ok_or("it is nested too deep")?;
    let marker = decode::read_marker(rest).map_err(|_| ended())?;
    Ok(match marker {
        Marker::Null => Value::Null,
        Marker::True => true.into(),
        Marker::False => false.into(),
        Marker::FixPos(number) => number.into(),
        Marker::FixNeg(number) => number.into(),
        Marker::U8 => take::<1>(rest)?[0].into(),
        Marker::U16 => u16::from_be_bytes(take(rest)?).into(),
        Marker::U32 => u32::from_be_bytes(take(rest)?).into(),
        Marker::U64 => u64::from_be_bytes(take(rest)?).into(),
        Marker::I8 => i8::from_be_bytes(take(rest)?).into(),
        Marker::I16 => i16::from_be_bytes(take(rest)?).into(),
        Marker::I32 => i32::from_be_bytes(take(rest)?).into(),
        Marker::I64 => i64::from_be_bytes(take(rest)?).into(),
        Marker::F32 => f64::from(f32::from_be_bytes(take(rest)?)).into(),
        Marker::F64 => f64::from_be_bytes(take(rest)?).into(),
        Marker::FixStr(length) => text(rest, length.into())?,
        Marker::Str8 | Marker::Str16 | Marker::Str32 => {
            let length = length(marker, rest)?;
            text(rest, length)?
        }
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
            let length = length(marker, rest)?;
            URL_SAFE_NO_PAD.encode(part(rest, length)?).into()
        }
        Marker::FixArray(count) => list(rest, count.into(), levels)?,
        Marker::Array16 | Marker::Array32 => {
            let count = length(marker, rest)?;
            list(rest, count, levels)?
        }
        Marker::FixMap(count) => map(rest, count.into(), levels)?,
        Marker::Map16 | Marker::Map32 => {
            let count = length(marker, rest)?;
            map(rest, count, levels)?
        }
        Marker::FixExt1 => extension(rest, 1)?,
        Marker::FixExt2 => extension(rest, 2)?,
        Marker::FixExt4 => extension(rest, 4)?,
        Marker::FixExt8 => extension(rest, 8)?,
        Marker::FixExt16 => extension(rest, 16)?,
        Marker::Ext8 | Marker::Ext16 | Marker::Ext32 => {
            let length = length(marker, rest)?;
            extension(rest, length)?
        }
        Marker::Reserved => return Err("a byte that begins no value".to_owned()),
    })
}

fn list(rest: &mut &[u8], count: usize, levels: usize) -> Result<Value, String> {
    // Not collected: the count may be a lie, and room would be made for so many.
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(item(rest, levels)?);
    }
    Ok(items.into())
}

fn map(rest: &mut &[u8], count: usize, levels: usize) -> Result<Value, String> {
    let mut fields = Map::new();
    for _ in 0..count {
        let name = match item(rest, levels)? {
            Value::String(name) => name,
            other => other.to_string(),
        };
        let value = item(rest, levels)?;
        fields.insert(name, value);
    }
    Ok(fields.into())
}

fn text(rest: &mut &[u8], length: usize) -> Result<Value, String> {
    let text = std::str::from_utf8(part(rest, length)?).map_err(|error| error.to_string())?;
    Ok(text.into())
}

fn extension(rest: &mut &[u8], length: usize) -> Result<Value, String> {
    let kind = i8::from_be_bytes(take(rest)?);
    let data = part(rest, length)?;
    Ok(match kind {
        TIMESTAMP => time(data).map_or(Value::Null, |time| time.to_rfc3339().into()),
        _ => Value::Null,
    })
}

/// The time in an extension of one of the three lengths that it can have.
fn time(data: &[u8]) -> Option<Timestamp> {
    let (seconds, nanos) = match *data {
        [a, b, c, d] => (u32::from_be_bytes([a, b, c, d]).into(), 0),
        [a, b, c, d, e, f, g, h] => {
            let both = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            // 30 bits of nanoseconds stand in front of 34 bits of seconds.
            (i64::try_from(both & ((1 << 34) - 1)).ok()?, i64::try_from(both >> 34).ok()?)
        }
        [a, b, c, d, e, f, g, h, i, j, k, l] => {
            let nanos = u32::from_be_bytes([a, b, c, d]).into();
            (i64::from_be_bytes([e, f, g, h, i, j, k, l]), nanos)
        }
        _ => return None,
    };
    let unix_nanos = seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?;
    Some(Timestamp::from_unix_nanos(unix_nanos))
}

/// A length or count that stands behind its marker.
fn length(marker: Marker, rest: &mut &[u8]) -> Result<usize, String> {
    Ok(match marker {
        Marker::Str8 | Marker::Bin8 | Marker::Ext8 => take::<1>(rest)?[0].into(),
        Marker::Str16 | Marker::Bin16 | Marker::Ext16 | Marker::Array16 | Marker::Map16 => {
            u16::from_be_bytes(take(rest)?).into()
        }
        _ => u32::from_be_bytes(take(rest)?) as usize,
    })
}

fn take<const LENGTH: usize>(rest: &mut &[u8]) -> Result<[u8; LENGTH], String> {
    let (head, tail) = rest.split_first_chunk::<LENGTH>().ok_or_else(ended)?;
    *rest = tail;
    Ok(*head)
}

fn part<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (head, tail) = rest.split_at_checked(length).ok_or_else(ended)?;
    *rest = tail;
    Ok(head)
}

fn ended() -> String {
    "it ends too early".to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Value, String> {
        super::read(bytes, 128)
    }

    #[test]
    fn a_value_comes_back_as_it_was() {
        let long = "x".repeat(70_000);
        let value = json!({
            "whole": [0, 127, 128, 255, 65_535, 65_536, u64::MAX, -1, -32, -33, -129, i64::MIN],
            "floats": [21.5, 230.1, -0.0],
            "rest": [null, true, false, "", "grün", long],
            "nested": [[[{"a": {}}]]],
            "many": vec![1; 70_000],
        });
        let mut out = Vec::new();
        write(&value, &mut out);
        assert_eq!(read(&out), Ok(value));
    }

    #[test]
    fn what_json_does_not_have_is_read_all_the_same() {
        for (bytes, expected) in [
            (&b"\xc4\x04\x01\x02\x03\x04"[..], json!("AQIDBA")),
            (b"\xd6\xff\x51\x4b\x67\xb0", json!("2013-03-21T20:04:00.000Z")),
            (b"\xd7\xff\x1d\xcd\x65\x00\x51\x4b\x67\xb0", json!("2013-03-21T20:04:00.125Z")),
            (b"\xd4\x05\x00", json!(null)),
            (b"\x82\x01\x02\xa1a\xcb\x7f\xf8\0\0\0\0\0\0", json!({"1": 2, "a": null})),
        ] {
            assert_eq!(read(bytes), Ok(expected), "{bytes:x?}");
        }
    }

    #[test]
    fn what_is_broken_or_nested_without_end_is_refused() {
        for bytes in
            [&b""[..], b"\xc1", b"\x00\x00", b"\xa2a", b"\xa2\xff\xff", b"\xdd\xff\xff\xff\xff"]
        {
            assert!(read(bytes).is_err(), "{bytes:x?}");
        }
        assert!(read(&vec![0x91; 1 << 20]).unwrap_err().contains("too deep"));
    }
}
