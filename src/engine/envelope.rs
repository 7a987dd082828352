//! Writes into the payloads that go out what is known beside them, where a sink's `envelope:` says so.

use anyhow::Context;
use forebay_sdk::{Format, Message, Payload, Value, json};

use crate::config::EnvelopeSettings;

/// What a payload is called that is no map and stands beside others.
const VALUE: &str = "value";

/// The messages as they go out.
///
/// # Errors
///
/// When a payload is not what its format says.
pub fn wrap(messages: &[Message], envelope: &EnvelopeSettings) -> anyhow::Result<Vec<Message>> {
    let wrap = |message: &Message| {
        let payload = wrapped(message, envelope)
            .with_context(|| format!("writing a message of topic {:?}", message.topic))?;
        Ok(Message { payload, ..message.clone() })
    };
    messages.iter().map(wrap).collect()
}

fn wrapped(message: &Message, envelope: &EnvelopeSettings) -> anyhow::Result<Payload> {
    let payload = &message.payload;
    let is_map = match payload.json_text() {
        Some(text) => text?.starts_with('{'),
        None => payload.value().map_err(Clone::clone)?.is_object(),
    };
    let inside = match &envelope.values {
        None if is_map => None,
        name => Some(name.as_deref().unwrap_or(VALUE)),
    };
    let values = match inside {
        None => payload.clone(),
        Some(name) => under(name, payload)?,
    };
    values.with_members(&beside(message, envelope))
}

/// A map that has the payload under this name, as it came.
fn under(name: &str, payload: &Payload) -> anyhow::Result<Payload> {
    let mut out = vec![b'{'];
    json::write_name(name, &mut out);
    out.extend_from_slice(payload.to_json_line()?.trim_ascii());
    out.push(b'}');
    Ok(Payload::encoded(out, Format::Json))
}

/// What there is to be written, by name.
fn beside<'a>(message: &Message, envelope: &'a EnvelopeSettings) -> Vec<(&'a str, Value)> {
    let known = |entry: &str| message.meta.get(entry).cloned();
    let all = [
        (&envelope.time, Some(envelope.time_as.value(message.time))),
        (&envelope.historical, known("historical")),
        (&envelope.quality, known("quality")),
        (&envelope.units, known("units")),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.as_deref()?, value?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use forebay_sdk::{TimeForm, Timestamp};

    fn envelope(settings: Value) -> EnvelopeSettings {
        serde_json::from_value(settings).unwrap()
    }

    #[track_caller]
    fn check(settings: Value, payload: &'static str, expected: &str) {
        let mut message = Message::new("t", Payload::encoded(payload, Format::Json));
        message.time = Timestamp::from_unix_nanos(1_794_042_000_123_000_000);
        message.meta.insert("historical", true);
        message.meta.insert("units", json!({"a": "kW"}));
        let [made] = wrap(&[message], &envelope(settings)).unwrap().try_into().unwrap();
        assert_eq!(made.payload.to_bytes(Format::Json), expected);
    }

    #[test]
    fn what_is_known_stands_beside_the_values_under_names_of_choice() {
        let all = json!({"time": "t", "time_as": "unix_ms", "historical": "old", "quality": "q", "units": "u"});
        let known = r#""t":1794042000123,"old":true,"u":{"a":"kW"}}"#;
        check(
            all.clone(),
            r#"{ "a": 1.10, "b":[ 1 ] }"#,
            &format!(r#"{{"a":1.10,"b":[ 1 ],{known}"#),
        );
        check(all.clone(), "{}", &format!("{{{known}"));
        check(all.clone(), "21.50", &format!(r#"{{"value":21.50,{known}"#));
        check(all, r#"{"t":"theirs","a":1}"#, &format!(r#"{{"a":1,{known}"#));
        let inside = json!({"time": "ts", "values": "values"});
        let time = r#""ts":"2026-11-07T09:00:00.123Z"}"#;
        check(inside, r#"{"ts":1}"#, &format!(r#"{{"values":{{"ts":1}},{time}"#));
    }

    #[test]
    fn what_is_not_known_is_not_written() {
        let message = Message::new("t", json!({"a": 1}));
        let envelope = EnvelopeSettings {
            historical: Some("old".to_owned()),
            quality: Some("q".to_owned()),
            time_as: TimeForm::Iso,
            ..EnvelopeSettings::default()
        };
        let made = wrap(&[message], &envelope).unwrap();
        assert_eq!(made[0].payload.to_bytes(Format::Json), r#"{"a":1}"#);
    }

    #[test]
    fn what_is_no_json_is_an_error_and_cannot_forge_fields() {
        for payload in [
            Payload::encoded(r#"{"a":1},"old":false"#, Format::Json),
            Payload::encoded("{oops", Format::Json),
            Payload::encoded(&b"\xff"[..], Format::Bytes),
            Payload::encoded(&b"\xc1"[..], Format::Msgpack),
        ] {
            let envelope = envelope(json!({"time": "t", "values": "v"}));
            let error = wrap(&[Message::new("t", payload)], &envelope).unwrap_err();
            assert!(format!("{error:#}").contains("payload is "), "{error:#}");
        }
    }
}
