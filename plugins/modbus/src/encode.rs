//! From a value to the registers that a device takes: `decode.rs` the other way round. Pure.

use forebay_sdk::Value;
use half::f16;

use crate::{
    decode::{Encoding, Form, NumberKind, Order, Sort},
    refine::Scaling,
};

/// What is written for a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoded {
    Registers(Vec<u16>),
    /// Bits of one register; the others stay.
    Bits {
        mask: u16,
        bits: u16,
    },
}

/// The registers for `value`, `count` of them. Says what would be right when there are none.
pub fn encode(
    value: &Value,
    form: &Form,
    scaling: Option<Scaling>,
    count: u16,
) -> Result<Encoded, String> {
    match form {
        Form::Bit { bit, order } => {
            let mask = one(in_order(vec![1 << bit], *order));
            Ok(Encoded::Bits { mask, bits: if truth(value)? { mask } else { 0 } })
        }
        Form::Number { kind, order } => {
            let bits = number(value, *kind, scaling)? << kind.shift;
            let registers = |bits: u64| {
                let register = |index| (bits >> (16 * index)) as u16;
                in_order((0..kind.registers).rev().map(register).collect(), *order)
            };
            if kind.width == u32::from(kind.registers) * 16 {
                return Ok(Encoded::Registers(registers(bits)));
            }
            if kind.registers > 1 {
                return Err("some bits of several registers cannot be written alone".to_owned());
            }
            let mask = one(registers((u64::MAX >> (64 - kind.width)) << kind.shift));
            Ok(Encoded::Bits { mask, bits: one(registers(bits)) })
        }
        Form::Text { encoding: Encoding::Utf8, order } => {
            let text = value.as_str().ok_or("expected a text")?;
            let bytes = usize::from(count) * 2;
            if text.len() > bytes {
                return Err(format!("expected at most {bytes} bytes, found {}", text.len()));
            }
            let mut filled = text.as_bytes().to_vec();
            filled.resize(bytes, 0);
            let registers =
                filled.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            Ok(Encoded::Registers(in_order(registers.collect(), *order)))
        }
        Form::Flags { .. } | Form::Time { .. } | Form::Text { .. } | Form::Bytes { .. } => {
            Err("such a value can only be read".to_owned())
        }
    }
}

/// `true` or `false`, of which many devices and programs speak as 1 and 0.
pub fn truth(value: &Value) -> Result<bool, String> {
    match (value, value.as_f64()) {
        (Value::Bool(value), _) => Ok(*value),
        (_, Some(1.0)) => Ok(true),
        (_, Some(0.0)) => Ok(false),
        _ => Err(format!("expected true or false, found {value}")),
    }
}

/// The bits of a number, in the low end.
fn number(value: &Value, kind: NumberKind, scaling: Option<Scaling>) -> Result<u64, String> {
    let Value::Number(written) = value else {
        return Err(format!("expected a number, found {value}"));
    };
    let wide = kind.width;
    let (least, most) = match kind.sort {
        Sort::Unsigned => (0, (1_i128 << wide) - 1),
        Sort::Signed => (-(1_i128 << (wide - 1)), (1_i128 << (wide - 1)) - 1),
        Sort::SignMagnitude => (1 - (1_i128 << (wide - 1)), (1_i128 << (wide - 1)) - 1),
        Sort::Bcd => (0, 10_i128.pow(wide / 4) - 1),
        Sort::Float => return float(value, kind, scaling),
    };
    let whole = match (scaling, written.as_i128()) {
        (None, Some(whole)) => whole,
        (None, None) => whole(value.as_f64().unwrap_or(f64::NAN))
            .ok_or_else(|| format!("expected a whole number, found {value}"))?,
        // What a device with a resolution of 0.1 takes of 21.34 is 21.3.
        (Some(scaling), _) => {
            whole(scaling.undo(value.as_f64().unwrap_or(f64::NAN)).round()).unwrap_or(i128::MAX)
        }
    };
    if !(least..=most).contains(&whole) {
        let least = scaling.map_or(least as f64, |scaling| scaling.of(least as f64));
        let most = scaling.map_or(most as f64, |scaling| scaling.of(most as f64));
        let (least, most) = (least.min(most), least.max(most));
        return Err(format!("expected {least} to {most}, which is what fits, found {value}"));
    }
    Ok(match kind.sort {
        Sort::SignMagnitude if whole < 0 => whole.unsigned_abs() as u64 | 1 << (wide - 1),
        Sort::Bcd => {
            let digit = |place: u32| (whole / 10_i128.pow(place) % 10) as u64;
            (0..wide / 4).fold(0, |bits, place| bits | digit(place) << (place * 4))
        }
        _ => whole as u64 & (u64::MAX >> (64 - wide)),
    })
}

fn float(value: &Value, kind: NumberKind, scaling: Option<Scaling>) -> Result<u64, String> {
    let number = value.as_f64().unwrap_or(f64::NAN);
    let raw = scaling.map_or(number, |scaling| scaling.undo(number));
    let (narrow, half) = (raw as f32, f16::from_f64(raw));
    match kind.registers {
        1 if half.is_finite() => Ok(half.to_bits().into()),
        2 if narrow.is_finite() => Ok(narrow.to_bits().into()),
        4 if raw.is_finite() => Ok(raw.to_bits()),
        _ => Err(format!("expected a number that fits, found {value}")),
    }
}

fn whole(number: f64) -> Option<i128> {
    (number.fract() == 0.0).then_some(number as i128)
}

/// Registers of a value, the most significant first, as the device has them.
fn in_order(mut registers: Vec<u16>, order: Order) -> Vec<u16> {
    if matches!(order, Order::Cdab | Order::Dcba) {
        registers.reverse();
    }
    if matches!(order, Order::Badc | Order::Dcba) {
        registers.iter_mut().for_each(|register| *register = register.swap_bytes());
    }
    registers
}

fn one(registers: Vec<u16>) -> u16 {
    registers.first().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use Order::*;
    use serde_json::json;

    use super::*;
    use crate::decode::decode;

    fn kinds() -> Vec<NumberKind> {
        let sorts = [Sort::Unsigned, Sort::Signed, Sort::SignMagnitude, Sort::Bcd];
        let whole = sorts
            .into_iter()
            .flat_map(|sort| [1, 2, 3, 4].map(|registers| NumberKind::whole(registers, sort)));
        whole.chain([1, 2, 4].map(|registers| NumberKind::whole(registers, Sort::Float))).collect()
    }

    #[test]
    fn what_is_written_is_read_back_in_every_kind_and_order() {
        for kind in kinds() {
            for order in [Abcd, Cdab, Badc, Dcba] {
                let form = Form::Number { kind, order };
                for value in [json!(0), json!(1), json!(258), json!(65535), json!(-2), json!(1.5)] {
                    match encode(&value, &form, None, kind.registers) {
                        Ok(Encoded::Registers(registers)) => {
                            let back = decode(&registers, &form).unwrap();
                            assert_eq!(back.as_f64(), value.as_f64(), "{kind:?} {order:?}");
                        }
                        // What does not fit, or is not whole.
                        other => assert!(
                            value != json!(1) && value != json!(258) || kind.sort == Sort::Bcd,
                            "{kind:?} {value}: {other:?}"
                        ),
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused_and_not_wrapped() {
        let u16 = NumberKind::whole(1, Sort::Unsigned);
        let i16 = NumberKind::whole(1, Sort::Signed);
        let u64 = NumberKind::whole(4, Sort::Unsigned);
        let f32 = NumberKind::whole(2, Sort::Float);
        let tenth = Some(Scaling { scale: 0.1, offset: 0.0 });
        for (value, kind, scaling, says) in [
            (json!(65536), u16, None, "expected 0 to 65535"),
            (json!(-1), u16, None, "expected 0 to 65535"),
            (json!(32768), i16, None, "expected -32768 to 32767"),
            (json!(6553.6), u16, tenth, "expected 0 to 6553.5"),
            (json!(1.5), u16, None, "expected a whole number, found 1.5"),
            (json!("1"), u16, None, "expected a number, found \"1\""),
            (json!(true), u16, None, "expected a number, found true"),
            (json!(1e300), f32, None, "expected a number that fits"),
            (json!(-1), u64, None, "expected 0 to 18446744073709552000"),
        ] {
            let form = Form::Number { kind, order: Abcd };
            let error = encode(&value, &form, scaling, kind.registers).unwrap_err();
            assert!(error.starts_with(says), "{value}: {error}");
        }
        let form = Form::Number { kind: u64, order: Abcd };
        let most = encode(&json!(u64::MAX), &form, None, 4);
        assert_eq!(most, Ok(Encoded::Registers(vec![0xFFFF; 4])));
    }

    #[test]
    fn a_scaled_number_is_written_at_the_resolution_of_the_device() {
        let kind = NumberKind::whole(1, Sort::Signed);
        let scaling = Some(Scaling { scale: 0.1, offset: -40.0 });
        let form = Form::Number { kind, order: Abcd };
        for (value, register) in [(21.34, 613), (-40.0, 0), (-50.0, 0xFF9C)] {
            let registers = Encoded::Registers(vec![register]);
            assert_eq!(encode(&json!(value), &form, scaling, 1), Ok(registers), "{value}");
        }
    }

    #[test]
    fn bits_leave_the_rest_of_their_register_alone() {
        let bit = |value: Value, bit, order| encode(&value, &Form::Bit { bit, order }, None, 1);
        assert_eq!(bit(json!(true), 3, Abcd), Ok(Encoded::Bits { mask: 8, bits: 8 }));
        assert_eq!(bit(json!(0), 3, Badc), Ok(Encoded::Bits { mask: 0x800, bits: 0 }));
        assert!(bit(json!("on"), 3, Abcd).unwrap_err().contains("expected true or false"));
    }

    #[test]
    fn a_text_is_filled_up_and_never_cut() {
        let text = |text: &str| {
            let form = Form::Text { encoding: Encoding::Utf8, order: Badc };
            encode(&json!(text), &form, None, 2)
        };
        assert_eq!(text("abc"), Ok(Encoded::Registers(vec![0x6261, 0x0063])));
        assert_eq!(text("abcde"), Err("expected at most 4 bytes, found 5".to_owned()));
    }
}
