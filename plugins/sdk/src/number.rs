//! Numbers as people want to read them.

use crate::payload::Value;

/// From here on, a float is a whole number.
const NO_FRACTION_FROM: f64 = (1_u64 << 53) as f64;

/// Rounds to `digits` behind the point.
pub fn round(number: f64, digits: i64) -> f64 {
    // Beyond 15 digits a float has nothing to round.
    let factor = 10_f64.powi(i32::try_from(digits.clamp(-300, 15)).unwrap_or(0));
    let scaled = number * factor;
    // A number that has no fraction there has nothing to round, and computing would only cost digits.
    if scaled.abs() >= NO_FRACTION_FROM && factor >= 1.0 {
        return number;
    }
    let rounded = scaled.round() / factor;
    if rounded.is_finite() { rounded } else { number }
}

/// Rounds to the 15 digits that can be trusted of a float: 1234 * 0.001 is 1.234 then, and not
/// 1.2340000000000002.
pub fn round_to_15_digits(number: f64) -> f64 {
    quickly_rounded(number).unwrap_or_else(|| by_text(number))
}

/// A number that was computed, with 15 digits. Null for what is none.
pub fn value(number: f64) -> Value {
    as_written(round_to_15_digits(number))
}

/// A number as people write it: `0`, not `0.0`. Null for what is none.
pub fn as_written(number: f64) -> Value {
    match number.fract() == 0.0 && number.abs() < NO_FRACTION_FROM {
        true => Value::from(number as i64),
        false => Value::from(number),
    }
}

/// The digits as they are written, which is right for every number and costs as much as a map.
fn by_text(number: f64) -> f64 {
    format!("{number:.14e}").parse().unwrap_or(number)
}

/// The same by arithmetic. None where that might come out differently.
fn quickly_rounded(number: f64) -> Option<f64> {
    /// Those that a float holds exactly.
    const POWERS_OF_TEN: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
        1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
    ];
    /// From where on a number has one digit fewer before the point, so one more behind it.
    const FRACTIONS: [f64; 8] = [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7];
    /// Multiplying is wrong by a sixteenth at most. Farther from the middle, both round alike.
    const FROM_THE_MIDDLE: f64 = 0.1;

    let size = number.abs();
    if size < 1e15 && number.trunc() == number {
        return Some(number);
    }
    if !(1e-7..1e15).contains(&size) {
        return None;
    }
    let digits = if size < 1.0 {
        14 + FRACTIONS.iter().take_while(|power| size < **power).count()
    } else {
        14 - POWERS_OF_TEN[1..15].iter().take_while(|power| size >= **power).count()
    };
    let power = POWERS_OF_TEN[digits];
    let scaled = number * power;
    let whole = scaled.round();
    let is_sure = (scaled - whole).abs() < 0.5 - FROM_THE_MIDDLE;
    is_sure.then(|| whole / power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_computed_has_no_stray_digits() {
        assert_eq!(round_to_15_digits(1234.0 * 0.001), 1.234);
        assert_eq!(round_to_15_digits(1e300), 1e300);
        assert!(round_to_15_digits(f64::NAN).is_nan());
    }

    #[test]
    fn arithmetic_rounds_as_text_does() {
        let mut random = fastrand::Rng::with_seed(15);
        let mut quick = 0;
        for round in 0..200_000 {
            let number = match round % 4 {
                0 => random.f64() * 10_f64.powi(random.i32(-9..17)),
                1 => -random.f64() * 1000.0,
                2 => f64::from(random.i32(-99999..99999)) * 0.001,
                _ => f64::from_bits(random.u64(..)),
            };
            let Some(rounded) = quickly_rounded(number) else { continue };
            assert_eq!(rounded.to_bits(), by_text(number).to_bits(), "{number:e}");
            quick += 1;
        }
        assert!(quick > 80_000, "only {quick}");
        for power in -7..15 {
            let exact = 10_f64.powi(power);
            for number in [
                0.0,
                -0.0,
                exact,
                exact.next_down(),
                exact.next_up(),
                exact * 9.999_999_999_999_999,
            ] {
                let rounded = round_to_15_digits(number);
                assert_eq!(rounded.to_bits(), by_text(number).to_bits(), "{number:e}");
            }
        }
    }

    #[test]
    fn rounding_never_makes_a_number_worse() {
        assert_eq!(round(2.345_6, 2), 2.35);
        assert_eq!(round(1234.0, -2), 1200.0);
        assert_eq!(round(1e300, 15), 1e300);
        assert_eq!(round(123_456.789, 15), 123_456.789);
        assert_eq!(round(1_764_086_400_123_456.8, 15), 1_764_086_400_123_456.8);
    }
}
