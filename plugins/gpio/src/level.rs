//! A level in a message.

use forebay_sdk::Value;

/// What a message says of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// To switch it.
    Set(bool),
    /// To switch it to the other level.
    Toggle,
    /// To read it, and no more.
    Ask,
}

/// Reads a level as devices, programs and people write it.
pub fn order(value: &Value) -> Result<Order, String> {
    match value {
        Value::Null => return Ok(Order::Ask),
        Value::Bool(level) => return Ok(Order::Set(*level)),
        Value::Number(number) => match number.as_f64() {
            Some(0.0) => return Ok(Order::Set(false)),
            Some(1.0) => return Ok(Order::Set(true)),
            _ => (),
        },
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "on" | "true" | "1" => return Ok(Order::Set(true)),
            "off" | "false" | "0" => return Ok(Order::Set(false)),
            "toggle" => return Ok(Order::Toggle),
            _ => (),
        },
        Value::Array(_) | Value::Object(_) => (),
    }
    Err(format!("expected true, false, 1, 0, \"on\", \"off\" or \"toggle\", found {value}"))
}
