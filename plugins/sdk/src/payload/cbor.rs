//! CBOR (RFC 8949) as values, and values as CBOR. What JSON does not have becomes what its section 6.1
//! says: bytes are text in base64url, and what has no counterpart is null.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use minicbor::{
    Decoder, Encoder,
    data::{Int, Type},
    decode::Error,
};
use serde_json::{Map, Number, Value};

/// Reads one item, and nothing behind it, nested no deeper than so many levels.
pub(super) fn read(bytes: &[u8], most_levels: usize) -> Result<Value, String> {
    let mut decoder = Decoder::new(bytes);
    let value = item(&mut decoder, most_levels).map_err(|error| error.to_string())?;
    match bytes.len() - decoder.position() {
        0 => Ok(value),
        rest => Err(format!("{rest} bytes behind its end")),
    }
}

/// Writes a value in the fewest bytes that hold all of it.
pub(super) fn write(value: &Value, out: &mut Vec<u8>) {
    // Nothing that is written to memory can fail.
    let _ = write_item(value, &mut Encoder::new(out));
}

fn item(decoder: &mut Decoder<'_>, levels: usize) -> Result<Value, Error> {
    let levels = levels.checked_sub(1).ok_or_else(|| Error::message("it is nested too deep"))?;
    Ok(match decoder.datatype()? {
        Type::Null => decoder.null().map(|()| Value::Null)?,
        Type::Undefined => decoder.undefined().map(|()| Value::Null)?,
        Type::Simple => decoder.simple().map(|_| Value::Null)?,
        Type::Bool => decoder.bool()?.into(),
        Type::U8
        | Type::U16
        | Type::U32
        | Type::U64
        | Type::I8
        | Type::I16
        | Type::I32
        | Type::I64
        | Type::Int => whole(decoder.int()?),
        Type::F16 => f64::from(decoder.f16()?).into(),
        Type::F32 => f64::from(decoder.f32()?).into(),
        Type::F64 => decoder.f64()?.into(),
        Type::Bytes | Type::BytesIndef => {
            let mut bytes = Vec::new();
            for part in decoder.bytes_iter()? {
                bytes.extend_from_slice(part?);
            }
            URL_SAFE_NO_PAD.encode(bytes).into()
        }
        Type::String | Type::StringIndef => text(decoder)?.into(),
        Type::Array | Type::ArrayIndef => list(decoder, levels)?,
        Type::Map | Type::MapIndef => map(decoder, levels)?,
        Type::Tag => {
            decoder.tag()?;
            item(decoder, levels)?
        }
        Type::Break | Type::Unknown(_) => {
            return Err(Error::message("a byte that begins no item").at(decoder.position()));
        }
    })
}

fn whole(number: Int) -> Value {
    let number = i128::from(number);
    let small = i64::try_from(number).map(Value::from);
    let small = small.or_else(|_| u64::try_from(number).map(Value::from));
    small.unwrap_or_else(|_| (number as f64).into())
}

fn text(decoder: &mut Decoder<'_>) -> Result<String, Error> {
    decoder.str_iter()?.collect()
}

fn list(decoder: &mut Decoder<'_>, levels: usize) -> Result<Value, Error> {
    let mut left = decoder.array()?;
    let mut items = Vec::new();
    while more(decoder, &mut left)? {
        items.push(item(decoder, levels)?);
    }
    Ok(items.into())
}

fn map(decoder: &mut Decoder<'_>, levels: usize) -> Result<Value, Error> {
    let mut left = decoder.map()?;
    let mut fields = Map::new();
    while more(decoder, &mut left)? {
        let name = match item(decoder, levels)? {
            Value::String(name) => name,
            other => other.to_string(),
        };
        let value = item(decoder, levels)?;
        fields.insert(name, value);
    }
    Ok(fields.into())
}

/// Whether another one comes in a list or map of which so many are left, or that ends with a mark.
fn more(decoder: &mut Decoder<'_>, left: &mut Option<u64>) -> Result<bool, Error> {
    match left {
        Some(0) => Ok(false),
        Some(left) => {
            *left -= 1;
            Ok(true)
        }
        None if decoder.datatype()? == Type::Break => {
            decoder.set_position(decoder.position() + 1);
            Ok(false)
        }
        None => Ok(true),
    }
}

type Written<'a> = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn write_item<'a>(value: &Value, out: &mut Encoder<&'a mut Vec<u8>>) -> Written<'a> {
    match value {
        Value::Null => out.null()?,
        Value::Bool(is) => out.bool(*is)?,
        Value::Number(number) => return write_number(number, out),
        Value::String(text) => out.str(text)?,
        Value::Array(items) => {
            out.array(items.len() as u64)?;
            return items.iter().try_for_each(|item| write_item(item, out));
        }
        Value::Object(fields) => {
            out.map(fields.len() as u64)?;
            return fields.iter().try_for_each(|(name, value)| {
                out.str(name)?;
                write_item(value, out)
            });
        }
    };
    Ok(())
}

fn write_number<'a>(number: &Number, out: &mut Encoder<&'a mut Vec<u8>>) -> Written<'a> {
    if let Some(whole) = number.as_i64() {
        out.i64(whole)?;
    } else if let Some(whole) = number.as_u64() {
        out.u64(whole)?;
    } else if let Some(float) = number.as_f64() {
        let small = float as f32;
        match half::f16::from_f32(small) {
            _ if f64::from(small) != float => out.f64(float)?,
            half if f32::from(half) == small => out.f16(small)?,
            _ => out.f32(small)?,
        };
    }
    Ok(())
}

/// Begins a list of so many items, which come next.
pub(super) fn begin_list(count: usize, out: &mut Vec<u8>) {
    let _ = Encoder::new(out).array(count as u64);
}

/// Begins a map of so many members, each of which is a text and an item.
pub(super) fn begin_map(count: usize, out: &mut Vec<u8>) {
    let _ = Encoder::new(out).map(count as u64);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Value, String> {
        super::read(bytes, 128)
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    /// Appendix A of RFC 8949.
    #[test]
    fn the_examples_of_the_standard_are_read() {
        for (hex, expected) in [
            ("00", json!(0)),
            ("1bffffffffffffffff", json!(u64::MAX)),
            ("c249010000000000000000", json!("AQAAAAAAAAAA")),
            ("3bffffffffffffffff", json!(-18446744073709551616.0)),
            ("3903e7", json!(-1000)),
            ("f90001", json!(5.960464477539063e-8)),
            ("fa47c35000", json!(100_000.0)),
            ("fbc010666666666666", json!(-4.1)),
            ("f97e00", json!(null)),
            ("f97c00", json!(null)),
            ("f5", json!(true)),
            ("f7", json!(null)),
            ("f0", json!(null)),
            ("c074323031332d30332d32315432303a30343a30305a", json!("2013-03-21T20:04:00Z")),
            ("c11a514b67b0", json!(1363896240)),
            ("4401020304", json!("AQIDBA")),
            ("64f0908591", json!("\u{10151}")),
            ("a201020304", json!({"1": 2, "3": 4})),
            ("a26161016162820203", json!({"a": 1, "b": [2, 3]})),
            ("5f42010243030405ff", json!("AQIDBAU")),
            ("7f657374726561646d696e67ff", json!("streaming")),
            ("9f018202039f0405ffff", json!([1, [2, 3], [4, 5]])),
            ("bf61610161629f0203ffff", json!({"a": 1, "b": [2, 3]})),
        ] {
            assert_eq!(read(&bytes(hex)), Ok(expected), "{hex}");
        }
    }

    #[test]
    fn a_value_comes_back_as_it_was_and_takes_few_bytes() {
        let value = json!({"a": [1, -1, 21.5, 230.1, 100_000.5, null, true], "t": "grün"});
        let mut out = Vec::new();
        write(&value, &mut out);
        assert_eq!(read(&out), Ok(value));
        for (number, length) in [
            (json!(21.5), 3),
            (json!(100_000.5), 5),
            (json!(230.1), 9),
            (json!(23), 1),
            (json!(1e300), 9),
        ] {
            let mut out = Vec::new();
            write(&number, &mut out);
            assert_eq!(out.len(), length, "{number}");
        }
    }

    #[test]
    fn what_is_broken_or_nested_without_end_is_refused() {
        for hex in
            ["", "18", "0000", "ff", "1c", "6261", "62ffff", "a1", "9f", "9bffffffffffffffff"]
        {
            assert!(read(&bytes(hex)).is_err(), "{hex}");
        }
        for opening in [0x81, 0x9f, 0xc1] {
            assert!(read(&vec![opening; 1 << 20]).unwrap_err().contains("too deep"));
        }
    }
}
