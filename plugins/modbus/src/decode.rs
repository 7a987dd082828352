//! From the registers of an answer to a value, as the device means it. Pure. What is made of the value
//! then (scale, limits, names) is in `refine.rs`.

use std::sync::Arc;

use forebay_sdk::{Timestamp, Value};
use half::f16;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number};

/// In which order a device sends the bytes of a value. The letters are the bytes from the most
/// significant (A) on; they stand in the order in which they arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Order {
    /// As the standard has it: the first register and its first byte weigh most.
    #[default]
    Abcd,
    /// The last register weighs most ("word swap").
    Cdab,
    /// In each register the second byte weighs most ("byte swap").
    Badc,
    /// The last byte weighs most ("little endian").
    Dcba,
}

/// How text is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// UTF-8, and so ASCII.
    #[default]
    Utf8,
    /// ISO 8859-1: each byte is a character.
    Latin1,
    /// UTF-16: each register is a character.
    Utf16,
}

/// The numbers that registers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberKind {
    /// How many registers it is read from, 1 to 4.
    pub registers: u16,
    /// How many bits of them it fills, 1 to 64.
    pub width: u32,
    /// How many bits stand to the right of it.
    pub shift: u32,
    pub sort: Sort,
}

/// How bits are a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Unsigned,
    /// Two's complement.
    Signed,
    /// IEEE 754.
    Float,
    /// The highest bit is the sign, the others the size.
    SignMagnitude,
    /// Four bits for each decimal digit.
    Bcd,
}

/// How registers are a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Seconds since 1970, in two registers.
    UnixSeconds,
    /// Year, month and day, hour and minute, milliseconds, in four registers (IEC 60870-5-4, as
    /// Schneider's meters have it).
    Packed,
}

/// How registers are read as a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// One bit of a register, counted from the least significant.
    Bit {
        bit: u8,
        order: Order,
    },
    Number {
        kind: NumberKind,
        order: Order,
    },
    /// Bits with names, counted from the least significant of all registers.
    Flags {
        flags: Arc<[(String, u8)]>,
        order: Order,
    },
    Time {
        clock: Clock,
        order: Order,
    },
    /// Two characters in each register, or one with UTF-16.
    Text {
        encoding: Encoding,
        order: Order,
    },
    /// Bytes, shown in hexadecimal.
    Bytes {
        order: Order,
    },
}

impl Clock {
    /// How many registers it fills.
    pub fn registers(self) -> u16 {
        match self {
            Clock::UnixSeconds => 2,
            Clock::Packed => 4,
        }
    }
}

impl NumberKind {
    /// A number that fills so many registers.
    pub const fn whole(registers: u16, sort: Sort) -> NumberKind {
        NumberKind { registers, width: registers as u32 * 16, shift: 0, sort }
    }
}

/// The value of `registers`, or why there is none, in words for `meta.quality`.
pub fn decode(registers: &[u16], form: &Form) -> Result<Value, String> {
    match form {
        Form::Bit { bit, order } => Ok((bits(registers, *order) >> bit & 1 == 1).into()),
        Form::Number { kind, order } => {
            number(raw(registers, *kind, *order), *kind).map(Value::Number)
        }
        Form::Flags { flags, order } => {
            let bits = bits(registers, *order);
            let flag = |(name, bit): &(String, u8)| (name.clone(), (bits >> bit & 1 == 1).into());
            Ok(Value::Object(Map::from_iter(flags.iter().map(flag))))
        }
        Form::Time { clock, order } => time(registers, *clock, *order),
        Form::Text { encoding, order } => text(&bytes(registers, *order), *encoding),
        Form::Bytes { order } => {
            let hex = |byte: u8| format!("{byte:02x}");
            Ok(bytes(registers, *order).into_iter().map(hex).collect::<String>().into())
        }
    }
}

/// The bits of a number, in the low end.
pub fn raw(registers: &[u16], kind: NumberKind, order: Order) -> u64 {
    bits(registers, order) >> kind.shift & (u64::MAX >> (64 - kind.width))
}

/// All bytes, the most significant first.
fn bytes(registers: &[u16], order: Order) -> Vec<u8> {
    let last_first = matches!(order, Order::Cdab | Order::Dcba);
    let low_first = matches!(order, Order::Badc | Order::Dcba);
    let count = registers.len();
    let register = |index| registers[if last_first { count - 1 - index } else { index }];
    let bytes =
        |register: u16| if low_first { register.to_le_bytes() } else { register.to_be_bytes() };
    (0..count).flat_map(|index| bytes(register(index))).collect()
}

/// Up to four registers as one number.
pub fn bits(registers: &[u16], order: Order) -> u64 {
    let low_first = matches!(order, Order::Badc | Order::Dcba);
    let add = |bits: u64, register: &u16| {
        bits << 16 | u64::from(if low_first { register.swap_bytes() } else { *register })
    };
    match order {
        Order::Abcd | Order::Badc => registers.iter().fold(0, add),
        Order::Cdab | Order::Dcba => registers.iter().rev().fold(0, add),
    }
}

fn number(bits: u64, kind: NumberKind) -> Result<Number, String> {
    let width = kind.width;
    match (kind.sort, width) {
        (Sort::Unsigned, _) => Ok(bits.into()),
        (Sort::Signed, _) => Ok(((bits << (64 - width)) as i64 >> (64 - width)).into()),
        (Sort::SignMagnitude, _) => {
            let sign = 1_u64 << (width - 1);
            let size = (bits & !sign) as i64;
            Ok(if bits & sign == 0 { size } else { -size }.into())
        }
        (Sort::Bcd, _) => {
            let digits = (0..width / 4).rev().map(|place| bits >> (place * 4) & 0xF);
            let add = |number: u64, digit| (digit < 10).then(|| number * 10 + digit);
            let number = digits.into_iter().try_fold(0, add);
            number.map(Number::from).ok_or_else(|| format!("{bits:#x} is no decimal number (BCD)"))
        }
        (Sort::Float, 16) => finite(widen(f16::from_bits(bits as u16))),
        (Sort::Float, 32) => finite(widen(f32::from_bits(bits as u32))),
        (Sort::Float, _) => finite(f64::from_bits(bits)),
    }
}

/// The double with the shortest text of the float: 230.1, not 230.10000610351562, which is a
/// precision that the device never had.
fn widen(value: impl ToString + Into<f64> + Copy) -> f64 {
    value.to_string().parse().unwrap_or(value.into())
}

/// Only finite numbers can be sent.
pub fn finite(value: f64) -> Result<Number, String> {
    let why = if value.is_nan() { "not a number (NaN)" } else { "infinite" };
    Number::from_f64(value).ok_or_else(|| why.to_owned())
}

fn time(registers: &[u16], clock: Clock, order: Order) -> Result<Value, String> {
    const NANOS: i64 = 1_000_000_000;
    let seconds = match clock {
        Clock::UnixSeconds => bits(registers, order) as i64,
        Clock::Packed => return packed_time(bits(registers, order)),
    };
    Ok(Timestamp::from_unix_nanos(seconds.saturating_mul(NANOS)).to_rfc3339().into())
}

/// From the most significant bits on: 9 unused and 7 of the year since 2000; 4 unused, 4 of the
/// month, 3 of the day of the week, 5 of the day; 3 unused and 5 of the hour, 2 unused (the clock may
/// be wrong is the first) and 6 of the minute; 16 of the millisecond.
fn packed_time(bits: u64) -> Result<Value, String> {
    let field = |shift: u32, width: u32| bits >> shift & ((1 << width) - 1);
    let (year, month, day) = (2000 + field(48, 7), field(40, 4), field(32, 5));
    let (hour, minute, millis) = (field(24, 5), field(16, 6), field(0, 16));
    let is_time = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && millis < 60_000;
    if !is_time {
        return Err(format!("{bits:#018x} is no moment"));
    }
    let (second, milli) = (millis / 1000, millis % 1000);
    // The meter's own time: it does not say of which zone.
    Ok(format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}").into())
}

/// Text up to the first zero, without what fills it up: spaces, or bytes of erased memory.
fn text(bytes: &[u8], encoding: Encoding) -> Result<Value, String> {
    let trimmed = |text: String| Value::from(text.trim_end_matches([' ', '\u{FFFF}']));
    if encoding == Encoding::Utf16 {
        let units = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        return String::from_utf16(&units).map(trimmed).map_err(|_| "not UTF-16 text".to_owned());
    }
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let filled = bytes[..end].iter().rposition(|byte| *byte != 0xFF).map_or(0, |last| last + 1);
    let bytes = &bytes[..filled];
    match encoding {
        Encoding::Latin1 => Ok(trimmed(bytes.iter().map(|byte| char::from(*byte)).collect())),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(trimmed(text.to_owned())),
            Err(_) => Err("not UTF-8 text".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use Order::*;
    use serde_json::json;

    use super::*;

    const U16: NumberKind = NumberKind::whole(1, Sort::Unsigned);
    const I16: NumberKind = NumberKind::whole(1, Sort::Signed);
    const U32: NumberKind = NumberKind::whole(2, Sort::Unsigned);
    const I32: NumberKind = NumberKind::whole(2, Sort::Signed);
    const F32: NumberKind = NumberKind::whole(2, Sort::Float);
    const U64: NumberKind = NumberKind::whole(4, Sort::Unsigned);
    const I64: NumberKind = NumberKind::whole(4, Sort::Signed);
    const F64: NumberKind = NumberKind::whole(4, Sort::Float);

    const ORDERS: [Order; 4] = [Abcd, Cdab, Badc, Dcba];

    fn plain(registers: &[u16], kind: NumberKind, order: Order) -> Result<Value, String> {
        decode(registers, &Form::Number { kind, order })
    }

    /// `registers` hold the same value in each of the four orders.
    #[track_caller]
    fn check(kind: NumberKind, value: Value, registers: [&[u16]; 4]) {
        for (order, registers) in ORDERS.into_iter().zip(registers) {
            assert_eq!(plain(registers, kind, order), Ok(value.clone()), "{kind:?} {order:?}");
            assert_eq!(registers.len(), usize::from(kind.registers));
        }
    }

    #[test]
    fn sixteen_bits_read_in_either_byte_order() {
        check(U16, json!(0x1234), [&[0x1234], &[0x1234], &[0x3412], &[0x3412]]);
        check(U16, json!(65535), [&[0xFFFF]; 4]);
        check(I16, json!(-2), [&[0xFFFE], &[0xFFFE], &[0xFEFF], &[0xFEFF]]);
        check(I16, json!(-32768), [&[0x8000], &[0x8000], &[0x0080], &[0x0080]]);
    }

    #[test]
    fn thirty_two_bits_read_in_each_order() {
        check(
            U32,
            json!(0x1234_5678),
            [&[0x1234, 0x5678], &[0x5678, 0x1234], &[0x3412, 0x7856], &[0x7856, 0x3412]],
        );
        check(
            I32,
            json!(-2),
            [&[0xFFFF, 0xFFFE], &[0xFFFE, 0xFFFF], &[0xFFFF, 0xFEFF], &[0xFEFF, 0xFFFF]],
        );
        // 230.1 is 0x4366199A.
        check(
            F32,
            json!(230.1),
            [&[0x4366, 0x199A], &[0x199A, 0x4366], &[0x6643, 0x9A19], &[0x9A19, 0x6643]],
        );
    }

    #[test]
    fn sixty_four_bits_read_in_each_order() {
        let (a, b, c, d) = (0x0123, 0x4567, 0x89AB, 0xCDEF);
        let (e, f, g, h) = (0x2301, 0x6745, 0xAB89, 0xEFCD);
        let orders: [&[u16]; 4] = [&[a, b, c, d], &[d, c, b, a], &[e, f, g, h], &[h, g, f, e]];
        check(U64, json!(0x0123_4567_89AB_CDEF_u64), orders);
        check(I64, json!(0x0123_4567_89AB_CDEF_i64), orders);
        check(I64, json!(-1), [&[0xFFFF; 4]; 4]);
        check(U64, json!(u64::MAX), [&[0xFFFF; 4]; 4]);
        // -2.5 is 0xC004000000000000.
        check(
            F64,
            json!(-2.5),
            [&[0xC004, 0, 0, 0], &[0, 0, 0, 0xC004], &[0x04C0, 0, 0, 0], &[0, 0, 0, 0x04C0]],
        );
    }

    #[test]
    fn a_float_prints_as_the_device_shows_it() {
        for text in ["230.1", "0.1", "-49.98", "16777216.0", "3.4028235e38", "1e-45", "0.0"] {
            let bits = text.parse::<f32>().unwrap().to_bits();
            let value = plain(&[(bits >> 16) as u16, bits as u16], F32, Abcd).unwrap();
            assert_eq!(value, json!(text.parse::<f64>().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_says_so() {
        let not_a_number = Err("not a number (NaN)".to_owned());
        let infinite = Err("infinite".to_owned());
        assert_eq!(plain(&[0x7FC0, 0], F32, Abcd), not_a_number);
        assert_eq!(plain(&[0xFFFF, 0xFFFF], F32, Abcd), not_a_number);
        assert_eq!(plain(&[0x7F80, 0], F32, Abcd), infinite);
        assert_eq!(plain(&[0xFFF0, 0, 0, 0], F64, Abcd), infinite);
        assert_eq!(plain(&[0x7FF8, 0, 0, 0], F64, Abcd), not_a_number);
    }

    #[test]
    fn a_bit_is_counted_from_the_least_significant() {
        let bit = |register, bit, order| decode(&[register], &Form::Bit { bit, order }).unwrap();
        assert_eq!(bit(0x0001, 0, Abcd), json!(true));
        assert_eq!(bit(0x0001, 1, Abcd), json!(false));
        assert_eq!(bit(0x8000, 15, Abcd), json!(true));
        assert_eq!(bit(0x8000, 7, Badc), json!(true));
        assert_eq!(bit(0x8000, 7, Dcba), json!(true));
    }

    fn text(registers: &[u16], encoding: Encoding, order: Order) -> Result<Value, String> {
        decode(registers, &Form::Text { encoding, order })
    }

    #[test]
    fn text_ends_at_a_zero_and_loses_its_filling() {
        let utf8 = |registers: &[u16], order| text(registers, Encoding::Utf8, order);
        assert_eq!(utf8(&[0x4142, 0x4300, 0x5858], Abcd), Ok(json!("ABC")));
        assert_eq!(utf8(&[0x4241, 0x2043], Badc), Ok(json!("ABC")));
        assert_eq!(utf8(&[0xC3A4], Abcd), Ok(json!("ä")));
        assert_eq!(utf8(&[0x0000], Abcd), Ok(json!("")));
        assert_eq!(utf8(&[0xE4E4], Abcd), Err("not UTF-8 text".to_owned()));
        // Erased memory is full of ones.
        assert_eq!(utf8(&[0x4142, 0xFFFF], Abcd), Ok(json!("AB")));
        assert_eq!(utf8(&[0xFFFF], Abcd), Ok(json!("")));
    }

    #[test]
    fn text_of_other_encodings_is_read() {
        assert_eq!(text(&[0xB043], Encoding::Latin1, Abcd), Ok(json!("°C")));
        assert_eq!(text(&[0x43B0], Encoding::Latin1, Badc), Ok(json!("°C")));
        let utf16 = |registers: &[u16]| text(registers, Encoding::Utf16, Abcd);
        assert_eq!(utf16(&[0x00B0, 0x0043, 0, 0x58]), Ok(json!("°C")));
        // One character in each register, in its upper byte.
        let upper = text(&[0x4F00, 0x4B00, 0], Encoding::Utf16, Badc);
        assert_eq!(upper, Ok(json!("OK")));
        assert_eq!(utf16(&[0xD800]), Err("not UTF-16 text".to_owned()));
    }

    #[test]
    fn the_rarer_numbers_are_read() {
        let kind = |width, shift, sort| NumberKind { registers: 1, width, shift, sort };
        for (kind, registers, value) in [
            (kind(8, 0, Sort::Unsigned), [0x12F4], json!(0xF4)),
            (kind(8, 8, Sort::Signed), [0xFE00], json!(-2)),
            (kind(4, 4, Sort::Unsigned), [0x1234], json!(3)),
            (kind(16, 0, Sort::SignMagnitude), [0x8005], json!(-5)),
            (kind(16, 0, Sort::SignMagnitude), [0x0005], json!(5)),
            (kind(16, 0, Sort::Bcd), [0x1234], json!(1234)),
            // The examples of IEEE 754 binary16.
            (kind(16, 0, Sort::Float), [0x3C00], json!(1.0)),
            (kind(16, 0, Sort::Float), [0x3555], json!(0.33325195)),
            (kind(16, 0, Sort::Float), [0xC000], json!(-2.0)),
        ] {
            assert_eq!(plain(&registers, kind, Abcd), Ok(value), "{kind:?} {registers:?}");
        }
        let u48 = NumberKind::whole(3, Sort::Unsigned);
        assert_eq!(plain(&[0x0001, 0, 2], u48, Abcd), Ok(json!(0x1_0000_0002_u64)));
        assert_eq!(plain(&[2, 0, 1], u48, Cdab), Ok(json!(0x1_0000_0002_u64)));
        let i48 = NumberKind::whole(3, Sort::Signed);
        assert_eq!(plain(&[0xFFFF, 0xFFFF, 0xFFFE], i48, Abcd), Ok(json!(-2)));
        let bcd = NumberKind::whole(2, Sort::Bcd);
        assert_eq!(plain(&[0x0012, 0x3456], bcd, Abcd), Ok(json!(123456)));
        let no_number = "0x1a is no decimal number (BCD)";
        assert_eq!(plain(&[0, 0x001A], bcd, Abcd), Err(no_number.to_owned()));
    }

    #[test]
    fn flags_times_and_bytes_are_read() {
        let flags = [("fault".to_owned(), 3), ("running".to_owned(), 0)];
        let flags = Form::Flags { flags: Arc::new(flags), order: Abcd };
        assert_eq!(decode(&[0b1001], &flags), Ok(json!({ "fault": true, "running": true })));
        let time = |clock, registers: &[u16]| decode(registers, &Form::Time { clock, order: Abcd });
        let unix = time(Clock::UnixSeconds, &[0x6502, 0x8FC0]);
        assert_eq!(unix, Ok(json!("2023-09-14T04:44:48.000Z")));
        // 2026-11-21, a Saturday, 09:14:02.120.
        let packed = time(Clock::Packed, &[26, 0x0BD5, 0x090E, 2120]);
        assert_eq!(packed, Ok(json!("2026-11-21T09:14:02.120")));
        assert!(time(Clock::Packed, &[0xFFFF; 4]).unwrap_err().ends_with("is no moment"));
        let bytes = decode(&[0x01AB, 0xFF00], &Form::Bytes { order: Badc });
        assert_eq!(bytes, Ok(json!("ab0100ff")));
    }
}
