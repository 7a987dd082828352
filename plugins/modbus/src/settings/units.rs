//! Several devices, as users write them: `1-18`, or `1, 3, 7-9`. Pure.

use super::ranges::Numbers;

/// More than a bus has.
const MOST_UNITS: usize = 247;

/// The address that most devices leave the factory with.
pub fn default_unit() -> u8 {
    1
}

/// The addresses, in the order in which they stand there; says what would be right when it cannot.
pub fn parse(written: &Numbers) -> Result<Vec<u8>, String> {
    let mut units = Vec::new();
    for number in written.parse()?.into_iter().flatten() {
        let unit =
            number.try_into().map_err(|_| format!("expected at most 255, found {number}"))?;
        if units.contains(&unit) {
            return Err(format!("expected each address once, found {unit} twice"));
        }
        units.push(unit);
    }
    match units.len() <= MOST_UNITS {
        true => Ok(units),
        false => Err(format!("expected at most {MOST_UNITS} devices, found {}", units.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_people_write_them() {
        let parse = |text| parse(&Numbers::from(text));
        assert_eq!(parse("1-4"), Ok(vec![1, 2, 3, 4]));
        assert_eq!(parse("7, 1-3,9"), Ok(vec![7, 1, 2, 3, 9]));
        for (text, says) in [
            ("", "expected numbers"),
            ("256", "expected at most 255, found 256"),
            ("4-1", "expected the smaller first: `1-4`"),
            ("1-4, 3", "found 3 twice"),
            ("0-255", "expected at most 247 devices, found 256"),
        ] {
            assert!(parse(text).unwrap_err().contains(says), "{text}");
        }
    }
}
