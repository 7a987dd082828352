//! What MQTT 5 says beside the payload, as the `mqtt` in a message's `meta`: written by a source, read
//! by a sink, and by scripts in between.

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use forebay_sdk::{
    Message, Timestamp, Value, clock,
    mqtt::{Properties, Publication},
};
use serde_json::{Map, json};

/// The payload format indicator.
const IS_TEXT: &str = "is_text";
const CONTENT_TYPE: &str = "content_type";
const RESPONSE_TOPIC: &str = "response_topic";
/// As text,
const CORRELATION_DATA: &str = "correlation_data";
/// or, when it is none, in base64.
const CORRELATION_BASE64: &str = "correlation_base64";
/// In seconds.
const EXPIRES_AFTER: &str = "expires_after";
const USER: &str = "user";

/// Adds properties to what is said of a publication.
pub fn write(said: &mut Map<String, Value>, properties: &Properties) {
    let Properties { is_text, content_type, response_topic, correlation_data, user, .. } =
        properties;
    let mut add = |name: &str, value: Value| said.insert(name.to_owned(), value);
    if *is_text {
        add(IS_TEXT, json!(true));
    }
    if let Some(content_type) = content_type {
        add(CONTENT_TYPE, json!(content_type));
    }
    if let Some(topic) = response_topic {
        add(RESPONSE_TOPIC, json!(topic));
    }
    match correlation_data.as_deref().map(|data| (data, std::str::from_utf8(data))) {
        Some((_, Ok(text))) => drop(add(CORRELATION_DATA, json!(text))),
        Some((data, Err(_))) => drop(add(CORRELATION_BASE64, json!(STANDARD.encode(data)))),
        None => (),
    }
    if let Some(seconds) = properties.expires_after_seconds {
        add(EXPIRES_AFTER, json!(seconds));
    }
    if !user.is_empty() {
        add(USER, user_map(user).into());
    }
}

/// A name that comes more than once has a list.
fn user_map(user: &[(String, String)]) -> Map<String, Value> {
    let mut map = Map::new();
    for (name, value) in user {
        match map.get_mut(name) {
            None => drop(map.insert(name.clone(), json!(value))),
            Some(Value::Array(values)) => values.push(json!(value)),
            Some(first) => *first = json!([first.take(), value]),
        }
    }
    map
}

/// What a message says of itself, over what the settings say of all of them. What is not of its kind
/// is left out.
pub fn read(said: Option<&Value>, settings: &Properties) -> Properties {
    let Some(said) = said.and_then(Value::as_object) else { return settings.clone() };
    let text = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
    let data = text(CORRELATION_DATA).map(Bytes::from).or_else(|| {
        let data = STANDARD.decode(text(CORRELATION_BASE64)?).ok()?;
        Some(Bytes::from(data))
    });
    let seconds = said.get(EXPIRES_AFTER).and_then(Value::as_f64);
    let mut user = settings.user.clone();
    for (name, value) in said.get(USER).and_then(Value::as_object).into_iter().flatten() {
        user.retain(|(known, _)| known != name);
        match value {
            Value::Array(values) => {
                user.extend(values.iter().map(|value| (name.clone(), shown(value))));
            }
            value => user.push((name.clone(), shown(value))),
        }
    }
    Properties {
        is_text: settings.is_text,
        // As casts go: what is too large is the largest.
        expires_after_seconds: seconds
            .filter(|seconds| *seconds >= 0.0)
            .map(|seconds| seconds.ceil() as u32)
            .or(settings.expires_after_seconds),
        content_type: text(CONTENT_TYPE).or_else(|| settings.content_type.clone()),
        response_topic: text(RESPONSE_TOPIC).or_else(|| settings.response_topic.clone()),
        correlation_data: data.or_else(|| settings.correlation_data.clone()),
        user,
    }
}

/// Says of a payload that it is text when the message came as that. What a node has made of it since may be none.
pub fn still_text(properties: Properties, message: &Message, payload: &[u8]) -> Properties {
    let said = message.meta.get("mqtt").and_then(|said| said.get(IS_TEXT)?.as_bool());
    let is_text = said == Some(true) && std::str::from_utf8(payload).is_ok();
    Properties { is_text: is_text || properties.is_text, ..properties }
}

/// What is left of the time that a message had when it came by MQTT (MQTT 5 section 3.3.2.3.3). An error when nothing is.
pub fn left(mut properties: Properties, message: &Message) -> anyhow::Result<Properties> {
    let said = message.meta.get("mqtt").and_then(|said| said.get(EXPIRES_AFTER));
    if let Some(seconds) = properties.expires_after_seconds.filter(|_| said.is_some()) {
        let waited = clock::age(message.time, Timestamp::now()).as_secs();
        let left = u64::from(seconds).checked_sub(waited).filter(|left| *left > 0 || waited == 0);
        let left = left.and_then(|left| u32::try_from(left).ok());
        properties.expires_after_seconds = Some(left.with_context(|| {
            format!("the message has waited for {waited} s, and was to expire after {seconds} s")
        })?);
    }
    Ok(properties)
}

/// With the QoS that the message was published with, as far as that of the publication, and retained when
/// it was. What did not come by MQTT stays as it is.
pub fn as_published(publication: Publication, message: &Message) -> Publication {
    let said = message.meta.get("mqtt");
    let qos = said.and_then(|said| said.get("qos")?.as_u64());
    let retain = said.and_then(|said| said.get("retain")?.as_bool());
    let (most, otherwise) = (publication.qos, publication.retain);
    let qos = qos.map_or(most, |qos| u8::try_from(qos).unwrap_or(most).min(most));
    publication.qos(qos).retain(retain.unwrap_or(otherwise))
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties() -> Properties {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Properties {
            is_text: false,
            expires_after_seconds: Some(60),
            content_type: Some("text/plain".to_owned()),
            response_topic: Some("answers/1".to_owned()),
            correlation_data: Some(Bytes::from_static(b"\xff\x00")),
            user: vec![pair("a", "1"), pair("b", "x"), pair("b", "y")],
        }
    }

    #[test]
    fn what_comes_in_goes_out_again() {
        for data in [&b"\xff\x00"[..], b"call 7"] {
            let properties =
                Properties { correlation_data: Some(Bytes::from_static(data)), ..properties() };
            let mut said = Map::new();
            write(&mut said, &properties);
            assert_eq!(read(Some(&said.into()), &Properties::default()), properties);
        }
        assert_eq!(read(None, &Properties::default()), Properties::default());
    }

    #[test]
    fn what_a_message_says_comes_before_the_settings() {
        let said = json!({
            "content_type": "image/png",
            "expires_after": 0.5,
            "correlation_data": "7",
            "user": { "b": 7, "c": true },
        });
        let read = read(Some(&said), &properties());
        assert_eq!(read.content_type.as_deref(), Some("image/png"));
        assert_eq!(read.expires_after_seconds, Some(1));
        assert_eq!(read.response_topic.as_deref(), Some("answers/1"));
        assert_eq!(read.correlation_data.as_deref(), Some(&b"7"[..]));
        let user: Vec<_> = read.user.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(user, [("a", "1"), ("b", "7"), ("c", "true")]);
    }

    #[test]
    fn what_is_of_another_kind_is_left_out() {
        let said = json!({
            "content_type": 1,
            "expires_after": -1,
            "correlation_base64": "no base64",
            "user": [1],
        });
        assert_eq!(read(Some(&said), &Properties::default()), Properties::default());
        assert_eq!(read(Some(&json!("text")), &properties()), properties());
    }
}
