//! Settings that can be written for short: one text or number in place of a list or a map.

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{
        self, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

/// What was written: one text or number, or the list or map that it is short for. Everything in it keeps its
/// place, which an untagged enum would lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortOr<S, L> {
    /// A text or a number.
    Short(S),
    /// A list or a map.
    Long(L),
}

impl<'de, S: Deserialize<'de>, L: Deserialize<'de>> Deserialize<'de> for ShortOr<S, L> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ShortOr<S, L>, D::Error> {
        deserializer.deserialize_any(Either(PhantomData))
    }
}

struct Either<S, L>(PhantomData<(S, L)>);

impl<'de, S: Deserialize<'de>, L: Deserialize<'de>> Visitor<'de> for Either<S, L> {
    type Value = ShortOr<S, L>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number, or the list or map that it is short for")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        S::deserialize(text.into_deserializer()).map(ShortOr::Short)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        S::deserialize(number.into_deserializer()).map(ShortOr::Short)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        S::deserialize(number.into_deserializer()).map(ShortOr::Short)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        S::deserialize(number.into_deserializer()).map(ShortOr::Short)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        L::deserialize(SeqAccessDeserializer::new(list)).map(ShortOr::Long)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        L::deserialize(MapAccessDeserializer::new(map)).map(ShortOr::Long)
    }
}

impl<S: JsonSchema, L: JsonSchema> JsonSchema for ShortOr<S, L> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Or{}", S::schema_name(), L::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (short, long) = (generator.subschema_for::<S>(), generator.subschema_for::<L>());
        json_schema!({ "anyOf": [short, long] })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_written_for_short_is_told_from_the_whole() {
        type Texts = ShortOr<String, Vec<String>>;
        type Numbers = ShortOr<f64, BTreeMap<String, u8>>;
        let texts =
            |text: &str| serde_json::from_str::<Texts>(text).map_err(|error| error.to_string());
        assert_eq!(texts(r#""a""#), Ok(ShortOr::Short("a".to_owned())));
        assert_eq!(texts(r#"["a"]"#), Ok(ShortOr::Long(vec!["a".to_owned()])));
        assert!(texts("5").unwrap_err().contains("expected a string"));
        assert!(texts("true").unwrap_err().contains("a text or a number"));
        let numbers = |text: &str| serde_json::from_str::<Numbers>(text).unwrap();
        for short in ["2", "2.0"] {
            assert_eq!(numbers(short), ShortOr::Short(2.0));
        }
        assert_eq!(numbers("-2"), ShortOr::Short(-2.0));
        assert_eq!(numbers(r#"{"a": 1}"#), ShortOr::Long([("a".to_owned(), 1)].into()));
    }
}
