//! A message that a node keeps for later, with its promise.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    clock::{self, Origin},
    emitter::Emitter,
    envelope::Port,
    held::Held,
    message::{Message, Meta},
    payload::{Format, Payload, Value},
    timestamp::Timestamp,
};

/// A message that leaves later, and the promise that it carries. As part of what a node remembers it
/// survives a reload, and with `state: persist` a restart.
#[derive(Clone, Debug)]
#[must_use = "a promise that is dropped is broken, and the source sends the message again"]
pub struct Kept {
    /// The message.
    pub message: Message,
    /// Its promise.
    pub held: Held,
}

impl Kept {
    /// Keeps the message at hand.
    pub fn of(message: Message, out: &mut Emitter) -> Kept {
        Kept { message, held: out.hold() }
    }

    /// Sends it on. One that was stamped before the clock was set gets its real time.
    pub fn send(self, port: Port, out: &mut Emitter) {
        let Kept { mut message, held } = self;
        message.restamp();
        out.emit_held(held, port, message);
    }

    /// Roughly how much memory it takes, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.message.size_bytes()
    }
}

/// How it is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    topic: String,
    unix_nanos: i64,
    /// Of a clock that was not set: the boot, and when that was by this clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_set: Option<(String, i64)>,
    payload: WrittenPayload,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    meta: Option<serde_json::Map<String, Value>>,
    held: Held,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenPayload {
    Value(Value),
    /// As it came.
    Text(Format, String),
    /// What is no text, in hexadecimal digits.
    Hex(Format, String),
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut message = self.message.clone();
        message.restamp();
        let time = message.time;
        let not_set = match (time.clock_was_set(), time.is_comparable()) {
            (true, _) => None,
            (false, true) => {
                let origin = clock::moment().origin();
                Some((format!("{:x}", origin.boot), origin.boot_nanos))
            }
            // No boot has this name.
            (false, false) => Some((String::new(), 0)),
        };
        Written {
            topic: message.topic.as_ref().to_owned(),
            unix_nanos: time.unix_nanos(),
            not_set,
            payload: WrittenPayload::of(&message.payload),
            source: message.meta.source.as_deref().map(str::to_owned),
            meta: message.meta.to_stored(),
            held: self.held.clone(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Kept, D::Error> {
        let Written { topic, unix_nanos, not_set, payload, source, meta, held } =
            Written::deserialize(deserializer)?;
        let time = match not_set {
            None => Timestamp::from_unix_nanos(unix_nanos),
            Some((boot, boot_nanos)) => match u128::from_str_radix(&boot, 16) {
                Ok(boot) if boot != 0 => {
                    Origin { boot, boot_nanos }.read(unix_nanos, &clock::moment())
                }
                _ => Timestamp::of_another_boot(unix_nanos),
            },
        };
        let mut meta = meta.map(Meta::from_stored).unwrap_or_default();
        meta.source = source.map(Arc::from);
        let payload = payload.read().ok_or_else(|| de::Error::custom("digits that are none"))?;
        Ok(Kept { message: Message { topic: topic.into(), time, payload, meta }, held })
    }
}

impl WrittenPayload {
    fn of(payload: &Payload) -> WrittenPayload {
        match (payload.as_encoded(), payload.value()) {
            (Some((bytes, format)), _) => match std::str::from_utf8(bytes) {
                Ok(text) => WrittenPayload::Text(format, text.to_owned()),
                Err(_) => {
                    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                    WrittenPayload::Hex(format, hex)
                }
            },
            (None, Ok(value)) => WrittenPayload::Value(value.clone()),
            (None, Err(_)) => WrittenPayload::Value(payload.to_value_lossy()),
        }
    }

    fn read(self) -> Option<Payload> {
        match self {
            WrittenPayload::Value(value) => Some(value.into()),
            WrittenPayload::Text(format, text) => Some(Payload::encoded(text, format)),
            WrittenPayload::Hex(format, digits) => {
                let pairs = digits.as_bytes().chunks(2);
                let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
                let bytes = pairs.map(byte).collect::<Option<Vec<u8>>>()?;
                Some(Payload::encoded(bytes, format))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::Moment;

    const SECOND: i64 = 1_000_000_000;

    fn again(kept: &Kept) -> Message {
        serde_json::from_str::<Kept>(&serde_json::to_string(kept).unwrap()).unwrap().message
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        for payload in [
            Payload::from(json!({ "a": 1.5 })),
            Payload::encoded(r#"{"a": 1E5}"#, Format::Json),
            Payload::encoded(&b"\xff\x00"[..], Format::Bytes),
            Payload::encoded("21.5", Format::Text),
        ] {
            let mut message = Message::new("site/a", payload);
            message.meta.insert("quality", json!({ "a": "good" }));
            message.meta.source = Some("boiler/meter".into());
            let back = again(&Kept { message: message.clone(), held: Held::default() });
            let bytes = |message: &Message| message.payload.to_bytes(Format::Bytes);
            assert_eq!(bytes(&back), bytes(&message));
            assert_eq!(back, message);
        }
    }

    #[test]
    fn the_time_of_a_clock_that_was_not_set_is_put_right_later() {
        let moment = Arc::new(std::sync::Mutex::new(Moment {
            boot: 7,
            uptime_nanos: 50 * SECOND,
            wall_nanos: 90 * SECOND,
            is_set: false,
        }));
        let clock = Arc::clone(&moment);
        let _replaced = clock::replace(Arc::new(move || *clock.lock().unwrap()));
        let kept = Kept { message: Message::new("a", json!(1)), held: Held::default() };
        let text = serde_json::to_string(&kept).unwrap();
        let read = || serde_json::from_str::<Kept>(&text).unwrap().message.time;
        assert!(!read().clock_was_set());
        *moment.lock().unwrap() =
            Moment { boot: 7, uptime_nanos: 60 * SECOND, wall_nanos: 1060 * SECOND, is_set: true };
        assert!(read().clock_was_set());
        assert_eq!(read().unix_nanos(), 1050 * SECOND);
        moment.lock().unwrap().boot = 8;
        assert!(!read().is_comparable());
    }
}
