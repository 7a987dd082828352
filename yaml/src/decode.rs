//! Reads a serde type from the tree and says where when it cannot.

use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor,
    value::{BorrowedStrDeserializer, SeqDeserializer},
};

use crate::{
    finding::Span,
    tree::{Content, Entry, Meaning, Scalar, Yaml},
    units::SCRIPT,
};

#[derive(Debug)]
pub(crate) struct Error {
    pub span: Option<Span>,
    pub message: String,
}

impl Error {
    fn at(mut self, span: Span) -> Error {
        self.span.get_or_insert(span);
        self
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error { span: None, message: message.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

pub(crate) struct Decoder<'de>(pub &'de Yaml);

impl<'de> Decoder<'de> {
    fn scalar(&self) -> Option<&'de Scalar> {
        self.0.scalar()
    }

    /// For who wants a number, `true` or `false`.
    fn unquoted<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.scalar() {
            Some(scalar) => {
                visit(scalar.unquoted_meaning(), visitor).map_err(|error| error.at(self.0.span))
            }
            None => self.deserialize_any(visitor),
        }
    }
}

fn visit<'de, V: Visitor<'de>>(meaning: Meaning<'de>, visitor: V) -> Result<V::Value, Error> {
    match meaning {
        Meaning::Null => visitor.visit_unit(),
        Meaning::Bool(value) => visitor.visit_bool(value),
        Meaning::Int(value) => match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => visitor.visit_i64(value),
            (_, Ok(value)) => visitor.visit_u64(value),
            _ => visitor.visit_i128(value),
        },
        Meaning::Float(value) => visitor.visit_f64(value),
        Meaning::Text(text) => visitor.visit_borrowed_str(text),
    }
}

impl<'de> Deserializer<'de> for Decoder<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = match &self.0.content {
            Content::List(items) => visitor.visit_seq(Items(items.iter())),
            Content::Map(entries) => visitor.visit_map(Fields(entries.iter(), None)),
            Content::Scalar(scalar) => visit(scalar.meaning(), visitor),
        };
        result.map_err(|error| error.at(self.0.span))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.scalar().and_then(Scalar::as_text) {
            Some(text) => {
                visitor.visit_borrowed_str(text).map_err(|error: Error| error.at(self.0.span))
            }
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.is_null() {
            true => visitor.visit_none(),
            false => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.scalar() {
            Some(scalar) if name == SCRIPT && !scalar.modules.is_empty() => {
                let modules = scalar.modules.iter().map(|module| &module.source);
                let parts = modules.flat_map(|of| [&*of.name, &*of.path, &*of.text]);
                let texts = [scalar.text.as_str()].into_iter().chain(parts);
                visitor.visit_seq(SeqDeserializer::new(texts.map(BorrowedStrDeserializer::new)))
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.scalar().and_then(Scalar::as_text) {
            Some(text) => visitor
                .visit_enum(text.into_deserializer())
                .map_err(|error: Error| error.at(self.0.span)),
            None => Err(Error { span: Some(self.0.span), message: "expected a word".to_owned() }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.unquoted(visitor)
    }
    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.unquoted(visitor)
    }
    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.unquoted(visitor)
    }
    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.unquoted(visitor)
    }
    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.unquoted(visitor)
    }
    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.unquoted(visitor)
    }
    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.unquoted(visitor)
    }
    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.unquoted(visitor)
    }
    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.unquoted(visitor)
    }
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.unquoted(visitor)
    }
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.unquoted(visitor)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

struct Items<I>(I);

impl<'de, I: Iterator<Item = &'de Yaml>> de::SeqAccess<'de> for Items<I> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|item| seed.deserialize(Decoder(item))).transpose()
    }
}

struct Fields<'de, I>(I, Option<&'de Yaml>);

impl<'de, I: Iterator<Item = &'de Entry>> de::MapAccess<'de> for Fields<'de, I> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(entry) = self.0.next() else { return Ok(None) };
        self.1 = Some(&entry.value);
        seed.deserialize(entry.key.as_str().into_deserializer())
            .map(Some)
            .map_err(|error: Error| error.at(entry.key_span))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Decoder(self.1.take().expect("serde asks for a value after its key")))
    }
}
