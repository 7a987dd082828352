//! Several devices, as users write them: `1-18`, or `1, 3, 7-9`. Pure.

/// More than a bus has.
const MOST_UNITS: usize = 247;

/// The address that most devices leave the factory with.
pub fn default_unit() -> u8 {
    1
}

/// The addresses, in the order in which they stand there; says what would be right when it cannot.
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    const EXPECTED: &str = "expected addresses and ranges of them, such as `1-18` or `1, 3, 7-9`";
    let address = |text: &str| text.trim().parse::<u8>().map_err(|_| EXPECTED.to_owned());
    let mut units = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => units.push(address(part)?),
            Some((first, last)) => {
                let (first, last) = (address(first)?, address(last)?);
                if first > last {
                    return Err(format!("expected the smaller first: `{last}-{first}`"));
                }
                units.extend(first..=last);
            }
        }
    }
    for (index, unit) in units.iter().enumerate() {
        if units[..index].contains(unit) {
            return Err(format!("expected each address once, found {unit} twice"));
        }
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
        assert_eq!(parse("1-4"), Ok(vec![1, 2, 3, 4]));
        assert_eq!(parse("7, 1-3,9"), Ok(vec![7, 1, 2, 3, 9]));
        for (text, says) in [
            ("", "expected addresses"),
            ("1-", "expected addresses"),
            ("256", "expected addresses"),
            ("1..4", "expected addresses"),
            ("4-1", "expected the smaller first: `1-4`"),
            ("1-4, 3", "found 3 twice"),
            ("0-255", "expected at most 247 devices, found 256"),
        ] {
            assert!(parse(text).unwrap_err().contains(says), "{text}");
        }
    }
}
