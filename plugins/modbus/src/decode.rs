//! From the registers of an answer to a value. Pure.

use forebay_sdk::{Value, number::round_to_15_digits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;

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

/// The numbers that registers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberKind {
    /// How many registers it fills: 1, 2 or 4; a float 2 or 4.
    pub registers: u16,
    pub sort: Sort,
}

/// How bits are a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Unsigned,
    Signed,
    Float,
}

/// How registers are read as a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// One bit of a register, counted from the least significant.
    Bit {
        bit: u8,
        order: Order,
    },
    Number {
        kind: NumberKind,
        order: Order,
        scaling: Option<Scaling>,
    },
    /// Two characters in each register.
    Text {
        order: Order,
    },
}

/// `raw * scale + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaling {
    pub scale: f64,
    pub offset: f64,
}

/// The value of `registers`, or why there is none, in words for `meta.quality`.
pub fn decode(registers: &[u16], form: Form) -> Result<Value, String> {
    match form {
        Form::Bit { bit, order } => Ok((bits(registers, order) >> bit & 1 == 1).into()),
        Form::Number { kind, order, scaling } => {
            let number = number(bits(registers, order), kind)?;
            match scaling {
                None => Ok(Value::Number(number)),
                Some(scaling) => scaling.apply(&number),
            }
        }
        Form::Text { order } => text(bytes(registers, order).collect()),
    }
}

impl Scaling {
    fn apply(self, raw: &Number) -> Result<Value, String> {
        finite(self.of(raw.as_f64().unwrap_or(f64::NAN))).map(Value::Number)
    }

    /// What a raw number stands for, with 15 digits.
    pub fn of(self, raw: f64) -> f64 {
        round_to_15_digits(raw * self.scale + self.offset)
    }

    /// The raw number that stands for a value.
    pub fn undo(self, value: f64) -> f64 {
        round_to_15_digits((value - self.offset) / self.scale)
    }
}

/// All bytes, the most significant first.
fn bytes(registers: &[u16], order: Order) -> impl Iterator<Item = u8> {
    let last_first = matches!(order, Order::Cdab | Order::Dcba);
    let low_first = matches!(order, Order::Badc | Order::Dcba);
    let count = registers.len();
    (0..count).flat_map(move |index| {
        let register = registers[if last_first { count - 1 - index } else { index }];
        if low_first { register.to_le_bytes() } else { register.to_be_bytes() }
    })
}

/// Up to four registers as one number.
fn bits(registers: &[u16], order: Order) -> u64 {
    bytes(registers, order).fold(0, |bits, byte| bits << 8 | u64::from(byte))
}

fn number(bits: u64, kind: NumberKind) -> Result<Number, String> {
    match kind.sort {
        Sort::Unsigned => Ok(bits.into()),
        Sort::Signed => {
            // To the left end and back, which brings copies of the sign along.
            let unused = 64 - 16 * u32::from(kind.registers);
            Ok(((bits << unused) as i64 >> unused).into())
        }
        Sort::Float if kind.registers == 2 => finite(widen(f32::from_bits(bits as u32))),
        Sort::Float => finite(f64::from_bits(bits)),
    }
}

/// The double with the shortest text of the float: 230.1, not 230.10000610351562, which is a
/// precision that the device never had.
fn widen(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn finite(value: f64) -> Result<Number, String> {
    let why = if value.is_nan() { "not a number (NaN)" } else { "infinite" };
    Number::from_f64(value).ok_or_else(|| why.to_owned())
}

/// Text up to the first zero byte, without the spaces that fill it up.
fn text(bytes: Vec<u8>) -> Result<Value, String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    match std::str::from_utf8(&bytes[..end]) {
        Ok(text) => Ok(text.trim_end().into()),
        Err(_) => Err("not UTF-8 text".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use Order::*;
    use serde_json::json;

    use super::*;

    const U16: NumberKind = NumberKind { registers: 1, sort: Sort::Unsigned };
    const I16: NumberKind = NumberKind { registers: 1, sort: Sort::Signed };
    const U32: NumberKind = NumberKind { registers: 2, sort: Sort::Unsigned };
    const I32: NumberKind = NumberKind { registers: 2, sort: Sort::Signed };
    const F32: NumberKind = NumberKind { registers: 2, sort: Sort::Float };
    const U64: NumberKind = NumberKind { registers: 4, sort: Sort::Unsigned };
    const I64: NumberKind = NumberKind { registers: 4, sort: Sort::Signed };
    const F64: NumberKind = NumberKind { registers: 4, sort: Sort::Float };

    const ORDERS: [Order; 4] = [Abcd, Cdab, Badc, Dcba];

    fn plain(registers: &[u16], kind: NumberKind, order: Order) -> Result<Value, String> {
        decode(registers, Form::Number { kind, order, scaling: None })
    }

    fn scaled(raw: u16, kind: NumberKind, scale: f64, offset: f64) -> Value {
        let scaling = Some(Scaling { scale, offset });
        decode(&[raw], Form::Number { kind, order: Abcd, scaling }).unwrap()
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
    fn an_integer_stays_an_integer_unless_scaled() {
        assert_eq!(plain(&[1234], U16, Abcd).unwrap().to_string(), "1234");
        assert_eq!(scaled(1234, U16, 1.0, 0.0).to_string(), "1234.0");
    }

    #[test]
    fn scaling_leaves_no_dust_of_binary_fractions() {
        assert_eq!(scaled(1234, U16, 0.001, 0.0), json!(1.234));
        assert_eq!(scaled(3, U16, 0.1, 0.0), json!(0.3));
        assert_eq!(scaled(2301, U16, 0.1, -40.0), json!(190.1));
        assert_eq!(scaled(0xFFFF, I16, 0.01, 0.0), json!(-0.01));
        assert_eq!(scaled(0, U16, -0.1, 0.0).to_string(), "0.0");
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
        let scaling = Some(Scaling { scale: 1e308, offset: 0.0 });
        assert_eq!(decode(&[9999], Form::Number { kind: U16, order: Abcd, scaling }), infinite);
    }

    #[test]
    fn a_bit_is_counted_from_the_least_significant() {
        let bit = |register, bit, order| decode(&[register], Form::Bit { bit, order }).unwrap();
        assert_eq!(bit(0x0001, 0, Abcd), json!(true));
        assert_eq!(bit(0x0001, 1, Abcd), json!(false));
        assert_eq!(bit(0x8000, 15, Abcd), json!(true));
        assert_eq!(bit(0x8000, 7, Badc), json!(true));
        assert_eq!(bit(0x8000, 7, Dcba), json!(true));
    }

    #[test]
    fn text_ends_at_a_zero_and_loses_its_filling() {
        let text = |registers: &[u16], order| decode(registers, Form::Text { order });
        assert_eq!(text(&[0x4142, 0x4300, 0x5858], Abcd), Ok(json!("ABC")));
        assert_eq!(text(&[0x4241, 0x2043], Badc), Ok(json!("ABC")));
        assert_eq!(text(&[0xC3A4], Abcd), Ok(json!("ä")));
        assert_eq!(text(&[0x0000], Abcd), Ok(json!("")));
        assert_eq!(text(&[0xFFFF], Abcd), Err("not UTF-8 text".to_owned()));
    }
}
