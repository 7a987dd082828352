//! Values of messages to values of scripts and back.
//!
//! Going back changes only what a script changed, so that a number too large for a script and the
//! order of fields survive where nobody touched them.

use std::{fmt, io};

use forebay_sdk::{Format, Payload, Value};
use rhai::{Dynamic, Identifier, Map};
use serde::{
    Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
    ser,
};

/// How deep lists and maps may be nested in what a script sends on or keeps. Other programs that
/// read JSON stop at 128.
pub(crate) const MAX_LEVELS: usize = 64;

/// As a script sees it. A whole number too large for a script becomes a float.
pub(crate) fn to_dynamic(value: &Value) -> Dynamic {
    // A value is always read without an error.
    AsDynamic::default().deserialize(value).unwrap_or_default()
}

/// A map of values, as a script sees it.
pub(crate) fn to_map(values: &serde_json::Map<String, Value>) -> Map {
    values.iter().map(|(name, value)| (name.into(), to_dynamic(value))).collect()
}

/// As a message carries it. Says what cannot be in a message.
pub(crate) fn to_value(value: &Dynamic) -> Result<Value, String> {
    serde_json::to_value(AsJson::of(value)).map_err(|error| error.to_string())
}

/// As the payload of a message. Most payloads leave as JSON, so lists and maps become that at once.
pub(crate) fn to_payload(value: &Dynamic) -> Result<Payload, String> {
    if !value.is_map() && !value.is_array() {
        return to_value(value).map(Payload::from);
    }
    Ok(Payload::encoded(to_json(value)?, Format::Json))
}

pub(crate) fn to_json(value: &Dynamic) -> Result<Vec<u8>, String> {
    let mut json = Vec::new();
    write_json(value, &mut json).map(|()| json)
}

/// Writes it as JSON. Says what JSON cannot hold.
pub(crate) fn write_json(value: &Dynamic, out: impl io::Write) -> Result<(), String> {
    serde_json::to_writer(out, &AsJson::of(value)).map_err(|error| error.to_string())
}

/// Reads a value as a script sees it.
#[derive(Clone, Copy, Default)]
pub(crate) struct AsDynamic<'a> {
    /// Of a map, only these fields. The others are gone through and not kept.
    pub only: Option<&'a [Identifier]>,
}

impl<'de> DeserializeSeed<'de> for AsDynamic<'_> {
    type Value = Dynamic;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Dynamic, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AsDynamic<'_> {
    type Value = Dynamic;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Dynamic, E> {
        Ok(Dynamic::UNIT)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Dynamic, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Dynamic, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Dynamic, E> {
        Ok(i64::try_from(value).map_or((value as f64).into(), Dynamic::from))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Dynamic, E> {
        Ok(value.into())
    }
    fn visit_str<E>(self, value: &str) -> Result<Dynamic, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Dynamic, A::Error> {
        let mut list = rhai::Array::new();
        while let Some(item) = items.next_element_seed(AsDynamic::default())? {
            list.push(item);
        }
        // A list grows to four values at once, and there may be many of one.
        list.shrink_to_fit();
        Ok(Dynamic::from_array(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Dynamic, A::Error> {
        let mut map = Map::new();
        while let Some(name) = fields.next_key_seed(Name)? {
            match self.only {
                Some(names) if !names.contains(&name) => {
                    fields.next_value::<IgnoredAny>()?;
                }
                _ => {
                    map.insert(name, fields.next_value_seed(AsDynamic::default())?);
                }
            }
        }
        Ok(Dynamic::from_map(map))
    }
}

/// Reads the name of a field. Short ones need no memory of their own.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Identifier;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Identifier, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Identifier;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }
    fn visit_str<E>(self, name: &str) -> Result<Identifier, E> {
        Ok(name.into())
    }
}

/// Writes what a script made. Says what cannot be in a message.
struct AsJson<'a> {
    value: &'a Dynamic,
    levels: usize,
}

impl AsJson<'_> {
    fn of(value: &Dynamic) -> AsJson<'_> {
        AsJson { value, levels: MAX_LEVELS }
    }
}

impl Serialize for AsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let AsJson { value, levels } = *self;
        let Some(levels) = levels.checked_sub(1) else {
            let error = format!("a value nested more than {MAX_LEVELS} levels deep");
            return Err(ser::Error::custom(error));
        };
        if value.is_shared() {
            return AsJson { value: &value.flatten_clone(), levels }.serialize(serializer);
        }
        // Asking first is cheaper than getting the name of another type.
        if value.is_float()
            && let Ok(float) = value.as_float()
        {
            // JSON has no words for infinity and for what is not a number: they become null.
            return serializer.serialize_f64(float);
        }
        if value.is_int()
            && let Ok(whole) = value.as_int()
        {
            return serializer.serialize_i64(whole);
        }
        if value.is_string()
            && let Ok(text) = value.as_immutable_string_ref()
        {
            return serializer.serialize_str(&text);
        }
        if value.is_map()
            && let Ok(fields) = value.as_map_ref()
        {
            let fields = fields.iter();
            return serializer.collect_map(
                fields.map(|(name, value)| (name.as_str(), AsJson { value, levels })),
            );
        }
        if let Ok(flag) = value.as_bool() {
            return serializer.serialize_bool(flag);
        }
        if value.is_unit() {
            return serializer.serialize_unit();
        }
        if let Ok(items) = value.as_array_ref() {
            return serializer.collect_seq(items.iter().map(|value| AsJson { value, levels }));
        }
        if let Ok(letter) = value.as_char() {
            return serializer.serialize_char(letter);
        }
        if let Ok(bytes) = value.as_blob_ref() {
            return serializer.collect_seq(bytes.iter());
        }
        let error = format!("{}, which a message cannot hold", kind(value));
        Err(ser::Error::custom(error))
    }
}

/// Whether a script would still see `value` as `seen`.
pub(crate) fn is_same(value: &Value, seen: &Dynamic) -> bool {
    match value {
        Value::Null => seen.is_unit(),
        Value::Bool(flag) => seen.as_bool() == Ok(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => seen.as_int() == Ok(whole),
            None => {
                let float = number.as_f64().map(f64::to_bits);
                float.is_some() && seen.as_float().ok().map(f64::to_bits) == float
            }
        },
        Value::String(text) => seen.as_immutable_string_ref().is_ok_and(|seen| *seen == text),
        Value::Array(items) => seen.as_array_ref().is_ok_and(|seen| {
            seen.len() == items.len() && items.iter().zip(seen.iter()).all(|(a, b)| is_same(a, b))
        }),
        Value::Object(fields) => seen.as_map_ref().is_ok_and(|seen| {
            seen.len() == fields.len()
                && fields
                    .iter()
                    .all(|(name, value)| seen.get(name.as_str()).is_some_and(|s| is_same(value, s)))
        }),
    }
}

/// Makes `value` what the script left, and leaves alone what it left alone.
pub(crate) fn update(value: &mut Value, left: &Dynamic) -> Result<(), String> {
    if is_same(value, left) {
        return Ok(());
    }
    if let (Value::Object(fields), Ok(left)) = (&mut *value, left.as_map_ref()) {
        fields.retain(|name, _| left.contains_key(name.as_str()));
        return left.iter().try_for_each(|(name, left)| update_field(fields, name, left));
    }
    if let (Value::Array(items), Ok(left)) = (&mut *value, left.as_array_ref()) {
        items.truncate(left.len());
        for (index, left) in left.iter().enumerate() {
            match items.get_mut(index) {
                Some(item) => update(item, left)?,
                None => items.push(to_value(left)?),
            }
        }
        return Ok(());
    }
    *value = to_value(left)?;
    Ok(())
}

/// Like [`update`], for one field, which is added when it is not there.
pub(crate) fn update_field(
    fields: &mut serde_json::Map<String, Value>,
    name: &str,
    left: &Dynamic,
) -> Result<(), String> {
    match fields.get_mut(name) {
        Some(field) => update(field, left),
        None => {
            fields.insert(name.to_owned(), to_value(left)?);
            Ok(())
        }
    }
}

/// What a value is, in words.
pub(crate) fn kind(value: &Dynamic) -> &'static str {
    kind_of_type(value.type_name())
}

/// What a type of the script language is, in words.
pub(crate) fn kind_of_type(name: &str) -> &'static str {
    match name {
        "()" => "nothing",
        "i64" | "INT" | "integer" => "a whole number",
        "f64" | "FLOAT" => "a decimal number",
        "bool" => "true or false",
        "char" => "a character",
        "array" => "a list",
        "map" => "a map",
        "blob" => "a list of bytes",
        "Fn" => "a function",
        _ if name.to_lowercase().contains("string") => "a text",
        _ if name.to_lowercase().contains("range") => "a range",
        _ => "a value",
    }
}
