//! Numbers as people want to read them.

/// Rounds to `digits` behind the point.
pub fn round(number: f64, digits: i64) -> f64 {
    // Beyond 15 digits a float has nothing to round.
    let factor = 10_f64.powi(i32::try_from(digits.clamp(-300, 15)).unwrap_or(0));
    let rounded = (number * factor).round() / factor;
    if rounded.is_finite() { rounded } else { number }
}

/// Rounds to the 15 digits that can be trusted of a float: 1234 * 0.001 is 1.234 then, and not
/// 1.2340000000000002.
pub fn round_to_15_digits(number: f64) -> f64 {
    format!("{number:.14e}").parse().unwrap_or(number)
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
    fn rounding_never_makes_a_number_worse() {
        assert_eq!(round(2.345_6, 2), 2.35);
        assert_eq!(round(1234.0, -2), 1200.0);
        assert_eq!(round(1e300, 15), 1e300);
    }
}
