//! Values as they stand in texts.

use std::borrow::Cow;

use forebay_sdk::Value;

/// The most values that one message is taken apart into: more are a mistake, or mischief.
pub(crate) const MOST_VALUES: usize = 200_000;

/// A number as it is written in a text: `21.5`, `-3`, `1e5`. None for anything else, such as `007`, which is
/// no number but a name.
pub(crate) fn number(text: &str) -> Option<Value> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit())
        && !(digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if !is_number {
        return None;
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    let number: f64 = text.parse().ok()?;
    // More digits than a float has room for are a serial number.
    let is_long = digits.bytes().all(|byte| byte.is_ascii_digit());
    (number.is_finite() && !is_long).then(|| number.into())
}

/// A value as it stands in a text. None for a list or a map.
pub(crate) fn word(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Null => Some("".into()),
        Value::String(text) => Some(text.into()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string().into()),
        Value::Array(_) | Value::Object(_) => None,
    }
}
