//! What is made of a number that a device has: absent values, scale, limits, names. Pure.

use std::{collections::BTreeMap, sync::Arc};

use forebay_sdk::{Value, number};
use serde_json::Number;

use crate::decode::finite;

/// `raw * scale + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaling {
    pub scale: f64,
    pub offset: f64,
}

/// What is done to a number, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refine {
    /// What the device has in the place of a value that it does not have: as bits, or as the number.
    pub absent: Vec<i128>,
    pub scaling: Option<Scaling>,
    /// The name of a register whose value is the exponent of a power of ten, by which this one is
    /// multiplied (SunSpec's scale factors).
    pub scale_by: Option<String>,
    /// The least and the most that can be true.
    pub valid: Option<[f64; 2]>,
    /// Digits behind the point.
    pub round: Option<u8>,
    /// What numbers are called.
    pub labels: Option<Arc<BTreeMap<i64, String>>>,
}

impl Scaling {
    /// What a raw number stands for, with 15 digits.
    pub fn of(self, raw: f64) -> f64 {
        number::round_to_15_digits(raw * self.scale + self.offset)
    }

    /// The raw number that stands for a value.
    pub fn undo(self, value: f64) -> f64 {
        number::round_to_15_digits((value - self.offset) / self.scale)
    }
}

impl Refine {
    /// Whether a device that has these bits, which are no number, means that it has no value.
    pub fn is_absent(&self, bits: u64) -> bool {
        self.absent.contains(&i128::from(bits))
    }

    /// The value that a number stands for, or why there is none. `bits` are those of the registers,
    /// `exponent` the value of the register [`Refine::scale_by`] names.
    pub fn apply(&self, raw: &Number, bits: u64, exponent: Option<i64>) -> Result<Value, String> {
        if self.absent.iter().any(|absent| is(raw, bits, *absent)) {
            return Err(absent(bits));
        }
        if let Some(labels) = &self.labels {
            let label = raw.as_i64().and_then(|raw| labels.get(&raw));
            return label
                .map(|label| label.as_str().into())
                .ok_or_else(|| format!("{raw} has no label"));
        }
        let mut value = raw.clone();
        if self.scaling.is_some() || exponent.is_some() {
            let power =
                exponent.map_or(1.0, |exponent| 10_f64.powi(exponent.clamp(-30, 30) as i32));
            let raw = raw.as_f64().unwrap_or(f64::NAN);
            let scaling = self.scaling.unwrap_or(Scaling { scale: 1.0, offset: 0.0 });
            let scaling = Scaling { scale: scaling.scale * power, ..scaling };
            value = finite(scaling.of(raw))?;
        }
        if let Some(digits) = self.round.filter(|_| value.is_f64()) {
            value = finite(number::round(value.as_f64().unwrap_or(f64::NAN), digits.into()))?;
        }
        if let Some([least, most]) = self.valid
            && !value.as_f64().is_some_and(|value| (least..=most).contains(&value))
        {
            return Err(format!("{value} is not within {least} to {most}"));
        }
        Ok(Value::Number(value))
    }
}

/// Why there is no value, where a device has these bits in its place.
pub fn absent(bits: u64) -> String {
    format!("the device has no value ({bits:#x})")
}

/// Whether a device that has this means that it has no value.
fn is(raw: &Number, bits: u64, absent: i128) -> bool {
    i128::from(bits) == absent || raw.as_i128() == Some(absent)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scaled(raw: i64, scale: f64, offset: f64) -> Value {
        let refine = Refine { scaling: Some(Scaling { scale, offset }), ..Refine::default() };
        refine.apply(&raw.into(), raw as u64, None).unwrap()
    }

    #[test]
    fn an_integer_stays_an_integer_unless_scaled() {
        let plain = Refine::default().apply(&1234.into(), 1234, None).unwrap();
        assert_eq!(plain.to_string(), "1234");
        assert_eq!(scaled(1234, 1.0, 0.0).to_string(), "1234.0");
    }

    #[test]
    fn scaling_leaves_no_dust_of_binary_fractions() {
        assert_eq!(scaled(1234, 0.001, 0.0), json!(1.234));
        assert_eq!(scaled(3, 0.1, 0.0), json!(0.3));
        assert_eq!(scaled(2301, 0.1, -40.0), json!(190.1));
        assert_eq!(scaled(-1, 0.01, 0.0), json!(-0.01));
        assert_eq!(scaled(0, -0.1, 0.0).to_string(), "0.0");
        let refine =
            Refine { scaling: Some(Scaling { scale: 1e308, offset: 0.0 }), ..Refine::default() };
        assert_eq!(refine.apply(&9999.into(), 9999, None), Err("infinite".to_owned()));
    }

    #[test]
    fn a_value_that_is_not_there_became_a_number() {
        let refine = Refine {
            absent: vec![0x8000, 0xFFFF],
            scaling: Some(Scaling { scale: 0.1, offset: 0.0 }),
            ..Refine::default()
        };
        // As bits of an i16, and as a number of a u16.
        let none = |bits: u64| Err(format!("the device has no value ({bits:#x})"));
        assert_eq!(refine.apply(&(-32768).into(), 0x8000, None), none(0x8000));
        assert_eq!(refine.apply(&65535.into(), 0xFFFF, None), none(0xFFFF));
        assert_eq!(refine.apply(&32767.into(), 32767, None), Ok(json!(3276.7)));
    }

    #[test]
    fn numbers_are_scaled_by_a_power_of_ten_rounded_and_bounded() {
        let refine = Refine { valid: Some([0.0, 500.0]), round: Some(1), ..Refine::default() };
        assert_eq!(refine.apply(&23456.into(), 23456, Some(-2)), Ok(json!(234.6)));
        assert_eq!(refine.apply(&3.into(), 3, Some(2)), Ok(json!(300.0)));
        assert_eq!(refine.apply(&500.into(), 500, None), Ok(json!(500)));
        let beyond = refine.apply(&501.into(), 501, None);
        assert_eq!(beyond, Err("501 is not within 0 to 500".to_owned()));
    }

    #[test]
    fn numbers_have_names() {
        let labels = BTreeMap::from([(0, "stopped".to_owned()), (1, "running".to_owned())]);
        let refine = Refine { labels: Some(Arc::new(labels)), ..Refine::default() };
        assert_eq!(refine.apply(&1.into(), 1, None), Ok(json!("running")));
        assert_eq!(refine.apply(&7.into(), 7, None), Err("7 has no label".to_owned()));
    }
}
