//! Numbers as users write them: `1-18`, or `1, 3, 7-9`. Pure.

use std::{borrow::Cow, fmt, ops::RangeInclusive};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// What users write: a text, or a number when there is only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers(String);

/// Numbers and ranges of them, in the order in which they stand there.
pub type Ranges = Vec<RangeInclusive<u16>>;

impl Numbers {
    /// A single one.
    pub fn only(number: u16) -> Numbers {
        Numbers(number.to_string())
    }

    /// Reads them. Says what would be right when it cannot.
    pub fn parse(&self) -> Result<Ranges, String> {
        self.0.split(',').map(range).collect()
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Numbers, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Numbers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a text such as `1-18`")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Numbers, E> {
                Ok(Numbers(number.to_string()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Numbers, E> {
                Ok(Numbers(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Numbers {
    fn schema_name() -> Cow<'static, str> {
        "Numbers".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "minimum": 0, "maximum": 65_535 })
    }
}

impl From<&str> for Numbers {
    fn from(text: &str) -> Numbers {
        Numbers(text.to_owned())
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("expected the smaller first: `{last}-{first}`"));
    }
    Ok(first..=last)
}

fn number(text: &str) -> Result<u16, String> {
    let text = text.trim();
    let number = match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "expected numbers and ranges of them, such as `1-18` or `1, 3, 7-9`".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_people_write_them() {
        let parse = |text| Numbers::from(text).parse();
        assert_eq!(parse("7, 1-3,0x10 - 0x1F"), Ok(vec![7..=7, 1..=3, 16..=31]));
        for (text, says) in [
            ("", "expected numbers"),
            ("1-", "expected numbers"),
            ("1..4", "expected numbers"),
            ("65536", "expected numbers"),
            ("4-1", "expected the smaller first: `1-4`"),
        ] {
            assert!(parse(text).unwrap_err().contains(says), "{text}");
        }
    }
}
