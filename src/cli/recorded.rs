//! Messages that were recorded, as lines of JSON.

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use forebay_sdk::{Format, Message, Payload, Timestamp, Value, Zone};
use serde_json::Map;

/// The names that a message has for its parts in a line of JSON, as the sink `file` and `buffer export` write them.
const TOPIC: &str = "topic";
const TIME: &str = "time";
const PAYLOAD: &str = "payload";
/// What is no text.
const BYTES: &str = "payload_base64";
const META: &str = "meta";

/// A message of a line of JSON, as it was read: with its topic, time and meta, or a bare payload.
pub(super) fn of_line(value: &Value, topic: &str) -> anyhow::Result<Message> {
    let is_whole = |map: &Map<String, Value>| {
        [PAYLOAD, BYTES].iter().any(|name| map.contains_key(*name))
            && (map.contains_key(TOPIC) || map.contains_key(TIME))
    };
    let Some(map) = value.as_object().filter(|map| is_whole(map)) else {
        return Ok(Message::new(topic, value.clone()));
    };
    let topic = map.get(TOPIC).and_then(Value::as_str).unwrap_or(topic);
    let payload: Payload = match (map.get(PAYLOAD), map.get(BYTES).and_then(Value::as_str)) {
        (None, Some(bytes)) => {
            let bytes = STANDARD.decode(bytes).with_context(|| format!("`{BYTES}`"))?;
            Payload::encoded(bytes, Format::Bytes)
        }
        (payload, _) => payload.cloned().unwrap_or_default().into(),
    };
    let mut message = Message::new(topic, payload);
    message.time = match map.get(TIME) {
        Some(Value::String(text)) => match Zone::default().read(text) {
            Ok(time) => time,
            Err(why) => bail!("`{TIME}`: {why}"),
        },
        Some(Value::Number(millis)) => {
            Timestamp::from_unix_nanos(millis.as_i64().unwrap_or(0).saturating_mul(1_000_000))
        }
        _ => message.time,
    };
    for (name, value) in map.get(META).and_then(Value::as_object).into_iter().flatten() {
        match (name.as_str(), value.as_str()) {
            ("source", Some(source)) => message.meta.source = Some(source.into()),
            _ => message.meta.insert(name, value.clone()),
        }
    }
    Ok(message)
}
