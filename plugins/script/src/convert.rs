//! Values of messages to values of scripts and back.
//!
//! Going back changes only what a script changed, so that a number too large for a script and the
//! order of fields survive where nobody touched them.

use forebay_sdk::Value;
use rhai::{Dynamic, Map};
use serde_json::Number;

/// How deep lists and maps may be nested in what a script sends on. Other programs that read JSON
/// stop at 128.
const MAX_LEVELS: usize = 64;

/// As a script sees it. A whole number too large for a script becomes a float.
pub(crate) fn to_dynamic(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(float)) => float.into(),
            (None, None) => Dynamic::UNIT,
        },
        Value::String(text) => text.into(),
        Value::Array(items) => Dynamic::from_array(items.iter().map(to_dynamic).collect()),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| (name.into(), to_dynamic(value));
            Dynamic::from_map(fields.iter().map(field).collect())
        }
    }
}

/// As a message carries it. Says what cannot be in a message.
pub(crate) fn to_value(value: &Dynamic) -> Result<Value, String> {
    to_value_within(value, MAX_LEVELS)
}

fn to_value_within(value: &Dynamic, levels: usize) -> Result<Value, String> {
    if levels == 0 {
        return Err(format!("a value nested more than {MAX_LEVELS} levels deep"));
    }
    if value.is_shared() {
        return to_value_within(&value.flatten_clone(), levels - 1);
    }
    if let Ok(whole) = value.as_int() {
        return Ok(whole.into());
    }
    if let Ok(float) = value.as_float() {
        // JSON has no words for infinity and for what is not a number.
        return Ok(Number::from_f64(float).map_or(Value::Null, Value::Number));
    }
    if let Ok(flag) = value.as_bool() {
        return Ok(flag.into());
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok(text.as_str().into());
    }
    if let Ok(letter) = value.as_char() {
        return Ok(letter.to_string().into());
    }
    if let Ok(items) = value.as_array_ref() {
        return items.iter().map(|item| to_value_within(item, levels - 1)).collect();
    }
    if let Ok(fields) = value.as_map_ref() {
        let field = |(name, value): (&rhai::Identifier, &Dynamic)| {
            Ok((name.to_string(), to_value_within(value, levels - 1)?))
        };
        return fields.iter().map(field).collect::<Result<_, String>>().map(Value::Object);
    }
    if let Ok(bytes) = value.as_blob_ref() {
        return Ok(bytes.iter().copied().collect());
    }
    match value.is_unit() {
        true => Ok(Value::Null),
        false => Err(format!("{}, which a message cannot hold", kind(value))),
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

/// A map of the fields that a script uses.
pub(crate) fn project(fields: &serde_json::Map<String, Value>, names: &[String]) -> Map {
    let field = |name: &String| Some((name.into(), to_dynamic(fields.get(name)?)));
    names.iter().filter_map(field).collect()
}
