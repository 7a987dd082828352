//! What a message says: a structured value, or bytes that become one when somebody first asks.

mod cbor;
mod msgpack;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeSeed, IgnoredAny},
};

use crate::json;

/// A structured value. Maps keep the order of their fields.
pub type Value = serde_json::Value;

/// What a value is, in words: `a text`, `a list`.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// How deep a value may be nested, as in JSON.
const MOST_LEVELS: usize = 128;

/// How bytes are read as a value, and how a value is written as bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON document. Read when somebody first touches it; passed on as it came when nobody does.
    #[default]
    Json,
    /// UTF-8 text. A value that is not text is written as JSON.
    Text,
    /// Bytes that nobody reads as a value.
    Bytes,
    /// CBOR (RFC 8949). Bytes in it are read as text in base64url.
    Cbor,
    /// MessagePack. Bytes in it are read as text in base64url.
    Msgpack,
}

impl Format {
    /// All of them. On disk each is known by its number, so a new one stands last.
    pub const ALL: [Format; 5] =
        [Format::Json, Format::Text, Format::Bytes, Format::Cbor, Format::Msgpack];

    /// Whether it can say more than one text or number, so that several payloads can be put into one.
    pub fn is_structured(self) -> bool {
        matches!(self, Format::Json | Format::Cbor | Format::Msgpack)
    }

    /// What HTTP and MQTT call it.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Text => "text/plain; charset=utf-8",
            Format::Bytes => "application/octet-stream",
            Format::Cbor => "application/cbor",
            Format::Msgpack => "application/msgpack",
        }
    }
}

/// The content of a message. Cloning never copies it.
#[derive(Clone, Debug)]
pub struct Payload(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Value(Arc<Value>),
    Encoded(Arc<Encoded>),
}

/// Bytes as they came, and their value once somebody asked for it.
#[derive(Debug)]
struct Encoded {
    bytes: Bytes,
    format: Format,
    value: OnceLock<Result<Value, DecodeError>>,
}

/// Why bytes are not a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(String);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

impl Payload {
    /// Bytes from outside, to be read as `format` when somebody first asks for the value.
    pub fn encoded(bytes: impl Into<Bytes>, format: Format) -> Payload {
        let encoded = Encoded { bytes: bytes.into(), format, value: OnceLock::new() };
        Payload(Inner::Encoded(Arc::new(encoded)))
    }

    /// The value, read from the bytes if need be. Branches of the graph share the reading.
    pub fn value(&self) -> Result<&Value, &DecodeError> {
        match &self.0 {
            Inner::Value(value) => Ok(value),
            Inner::Encoded(encoded) => {
                encoded.value.get_or_init(|| decode(&encoded.bytes, encoded.format)).as_ref()
            }
        }
    }

    /// Reads what `seed` asks for, straight from the bytes when nobody has read their value yet. For
    /// who needs a part of the value: the rest of it is gone through and not kept.
    pub fn read<'de, S: DeserializeSeed<'de>>(&'de self, seed: S) -> Result<S::Value, DecodeError> {
        match &self.0 {
            Inner::Encoded(encoded)
                if encoded.format == Format::Json && encoded.value.get().is_none() =>
            {
                let mut json = serde_json::Deserializer::from_str(utf8(&encoded.bytes)?);
                let read = seed.deserialize(&mut json).map_err(not_json)?;
                json.end().map_err(not_json)?;
                Ok(read)
            }
            _ => seed.deserialize(self.value().map_err(DecodeError::clone)?).map_err(not_json),
        }
    }

    /// The value, to change it. Copies it first if another branch of the graph still holds it.
    pub fn value_mut(&mut self) -> Result<&mut Value, DecodeError> {
        if let Inner::Encoded(encoded) = &mut self.0 {
            // The only holder takes the value out; a shared one is copied.
            let value = match Arc::get_mut(encoded).and_then(|encoded| encoded.value.take()) {
                Some(read) => read?,
                None => self.value().cloned().map_err(DecodeError::clone)?,
            };
            self.0 = Inner::Value(Arc::new(value));
        }
        match &mut self.0 {
            Inner::Value(value) => Ok(Arc::make_mut(value)),
            Inner::Encoded(_) => unreachable!("replaced by a value above"),
        }
    }

    /// The same payload for who keeps it while others work on this one: they would have to copy the
    /// value of a payload that is shared before they change it. The bytes are not copied.
    pub fn kept(&self) -> Payload {
        match &self.0 {
            Inner::Value(_) => self.clone(),
            Inner::Encoded(encoded) => Payload::encoded(encoded.bytes.clone(), encoded.format),
        }
    }

    /// The payload as bytes of `format`. What came as bytes of that format leaves as it came.
    pub fn to_bytes(&self, format: Format) -> Bytes {
        match (&self.0, format) {
            (Inner::Encoded(encoded), _) if passes_through(encoded.format, format) => {
                encoded.bytes.clone()
            }
            (_, Format::Json) => match self.value() {
                Ok(value) => as_json(value),
                Err(_) => as_json(&self.to_value_lossy()),
            },
            (_, Format::Cbor | Format::Msgpack) => match self.value() {
                Ok(value) => encode(value, format),
                Err(_) => encode(&self.to_value_lossy(), format),
            },
            (_, Format::Text | Format::Bytes) => match self.value() {
                Ok(Value::String(text)) => Bytes::copy_from_slice(text.as_bytes()),
                Ok(value) => as_json(value),
                Err(_) => self.raw(),
            },
        }
    }

    /// The same, for who must not write anything else than the payload: to be written in another format,
    /// bytes have to be read. What nobody reads as a value is no JSON either, and leaves as it came.
    ///
    /// # Errors
    ///
    /// When they cannot be.
    pub fn written(&self, format: Format) -> Result<Bytes, DecodeError> {
        if let (Some((bytes, Format::Bytes)), Format::Json) = (self.as_encoded(), format) {
            return Ok(bytes.clone());
        }
        let is_to_be_read = matches!(format, Format::Cbor | Format::Msgpack)
            && self.as_encoded().is_some_and(|(_, came)| came != format);
        if is_to_be_read {
            self.value().map_err(DecodeError::clone)?;
        }
        Ok(self.to_bytes(format))
    }

    /// The value, or what is closest to it for bytes that have none: for complaints, which must be able to
    /// show any payload.
    pub fn to_value_lossy(&self) -> Value {
        match self.value() {
            Ok(value) => value.clone(),
            Err(_) => String::from_utf8_lossy(&self.raw()).into_owned().into(),
        }
    }

    /// The payload as JSON on one line, for what is made of many. Bytes that came as JSON and that
    /// nobody has read yet are checked: `1},{"forged":1` could pass for two payloads.
    pub fn to_json_line(&self) -> Result<Bytes, DecodeError> {
        let bytes = self.to_bytes(Format::Json);
        let is_ours = !matches!(self.as_encoded(), Some((_, Format::Json)));
        if is_ours {
            return Ok(bytes);
        }
        let text = utf8(&bytes)?;
        serde_json::from_str::<IgnoredAny>(text).map_err(not_json)?;
        match text.contains(['\n', '\r']) {
            false if text.len() < bytes.len() => Ok(Bytes::copy_from_slice(text.as_bytes())),
            false => Ok(bytes),
            // In valid JSON a line break is only ever white space between two tokens.
            true => Ok(text.replace(['\n', '\r'], " ").into()),
        }
    }

    /// The same map with these members, added or in the place of others of their names. All else stays,
    /// to the last digit.
    ///
    /// # Errors
    ///
    /// When it is no map, or cannot be read.
    pub fn with_members(&self, members: &[(&str, Value)]) -> anyhow::Result<Payload> {
        let not_a_map = |kind| anyhow::anyhow!("payload is {kind}; expected a map");
        if let Some(text) = self.json_text() {
            let text = text?;
            // Also when nobody has looked yet whether it is JSON.
            let there: json::Members = match json::members(text) {
                Ok(there) => there,
                Err(_) => return Err(not_a_map(kind(self.value().map_err(DecodeError::clone)?))),
            };
            let mut out = Vec::with_capacity(text.len() + 32 * members.len());
            out.push(b'{');
            let is_replaced = |name: &str| members.iter().any(|(other, _)| *other == name);
            for (name, value) in there.iter().filter(|(name, _)| !is_replaced(name)) {
                json::write_member(name, value.get(), &mut out);
            }
            for (name, value) in members {
                json::write_name(name, &mut out);
                json::write(value, &mut out);
            }
            out.push(b'}');
            return Ok(Payload::encoded(out, Format::Json));
        }
        let value = self.value().map_err(DecodeError::clone)?;
        let mut map = value.as_object().cloned().ok_or_else(|| not_a_map(kind(value)))?;
        map.extend(members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        Ok(Value::Object(map).into())
    }

    /// The payload as one item among others in a list of `format`. Bytes that nobody has read yet are
    /// checked: what is broken would break the others.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn to_item(&self, format: Format) -> Result<Bytes, DecodeError> {
        if !format.is_structured() || format == Format::Json {
            return self.to_json_line();
        }
        self.value().map_err(DecodeError::clone)?;
        Ok(self.to_bytes(format))
    }

    /// The text of a payload that came as JSON, without white space around it. Nobody may have looked
    /// yet whether it is JSON. None for what did not come as JSON.
    pub fn json_text(&self) -> Option<Result<&str, DecodeError>> {
        match self.as_encoded()? {
            (bytes, Format::Json) => Some(utf8(bytes).map(str::trim_ascii)),
            _ => None,
        }
    }

    /// The bytes as they came, and how they are to be read. None for a value that was made here.
    pub fn as_encoded(&self) -> Option<(&Bytes, Format)> {
        match &self.0 {
            Inner::Value(_) => None,
            Inner::Encoded(encoded) => Some((&encoded.bytes, encoded.format)),
        }
    }

    /// Roughly how much memory the payload holds, in bytes.
    pub fn size_bytes(&self) -> usize {
        match &self.0 {
            Inner::Value(value) => value_size_bytes(value),
            Inner::Encoded(encoded) => encoded.bytes.len(),
        }
    }

    fn raw(&self) -> Bytes {
        self.as_encoded().map(|(bytes, _)| bytes.clone()).unwrap_or_default()
    }
}

impl From<Value> for Payload {
    fn from(value: Value) -> Payload {
        Payload(Inner::Value(Arc::new(value)))
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        match (self.value(), other.value()) {
            (Ok(left), Ok(right)) => left == right,
            (Err(_), Err(_)) => self.raw() == other.raw(),
            _ => false,
        }
    }
}

/// Items of `format` as one list, or as a map that has the list under this name.
pub fn join(items: &[Bytes], name: Option<&str>, format: Format) -> Bytes {
    let mut out = Vec::with_capacity(items.iter().map(|item| item.len() + 1).sum::<usize>() + 16);
    match format {
        Format::Cbor | Format::Msgpack => {
            if let Some(name) = name {
                begin_map(1, format, &mut out);
                out.extend(encode(&name.into(), format));
            }
            begin_list(items.len(), format, &mut out);
            items.iter().for_each(|item| out.extend_from_slice(item));
        }
        Format::Json | Format::Text | Format::Bytes => {
            if let Some(name) = name {
                out.push(b'{');
                json::write_name(name, &mut out);
            }
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(item);
            }
            out.push(b']');
            if name.is_some() {
                out.push(b'}');
            }
        }
    }
    out.into()
}

fn begin_list(count: usize, format: Format, out: &mut Vec<u8>) {
    match format {
        Format::Msgpack => msgpack::begin_list(count, out),
        _ => cbor::begin_list(count, out),
    }
}

fn begin_map(count: usize, format: Format, out: &mut Vec<u8>) {
    match format {
        Format::Msgpack => msgpack::begin_map(count, out),
        _ => cbor::begin_map(count, out),
    }
}

fn passes_through(came: Format, leaves: Format) -> bool {
    came == leaves || leaves == Format::Bytes || (came == Format::Bytes && leaves == Format::Text)
}

fn decode(bytes: &[u8], format: Format) -> Result<Value, DecodeError> {
    match format {
        Format::Json => serde_json::from_str(utf8(bytes)?).map_err(not_json),
        Format::Text => std::str::from_utf8(bytes)
            .map(Value::from)
            .map_err(|error| DecodeError(format!("payload is not UTF-8 text: {error}"))),
        Format::Cbor => cbor::read(bytes, MOST_LEVELS).map_err(not("CBOR")),
        Format::Msgpack => msgpack::read(bytes, MOST_LEVELS).map_err(not("MessagePack")),
        Format::Bytes => {
            Err(DecodeError("payload is bytes; set `format` where it comes in".to_owned()))
        }
    }
}

/// The text of JSON, without the byte order mark that some programs write in front of it.
fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(not_json)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn not_json(why: impl fmt::Display) -> DecodeError {
    DecodeError(format!("payload is not JSON: {why}"))
}

fn not(format: &'static str) -> impl Fn(String) -> DecodeError {
    move |why| DecodeError(format!("payload is not {format}: {why}"))
}

fn encode(value: &Value, format: Format) -> Bytes {
    let mut out = Vec::new();
    match format {
        Format::Cbor => cbor::write(value, &mut out),
        Format::Msgpack => msgpack::write(value, &mut out),
        Format::Json | Format::Text | Format::Bytes => return as_json(value),
    }
    out.into()
}

fn as_json(value: &Value) -> Bytes {
    // A `Value` has text keys and finite numbers, the two things that serde_json can refuse.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn value_size_bytes(value: &Value) -> usize {
    const SLOT_BYTES: usize = size_of::<Value>();
    SLOT_BYTES
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(value_size_bytes).sum(),
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| name.len() + value_size_bytes(value)).sum()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_added_and_replaced_and_all_else_stays() {
        let add = [("b", Value::from(2)), ("c", Value::Null)];
        let with = |payload: Payload| {
            payload.with_members(&add).map(|payload| payload.to_bytes(Format::Json))
        };
        let encoded = |text: &'static str| Payload::encoded(text, Format::Json);
        let long = r#" {"b": 1, "a": 1E5, "d": 123456789012345678901234567890} "#;
        let expected = r#"{"a":1E5,"d":123456789012345678901234567890,"b":2,"c":null}"#;
        assert_eq!(with(encoded(long)).unwrap(), expected);
        assert_eq!(with(encoded("{}")).unwrap(), r#"{"b":2,"c":null}"#);
        assert_eq!(
            with(Payload::from(serde_json::json!({ "b": 1, "a": 1 }))).unwrap(),
            r#"{"b":2,"a":1,"c":null}"#
        );
        for (text, says) in [("[1]", "payload is a list; expected a map"), ("{oops", "not JSON")] {
            let error = with(encoded(text)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn untouched_bytes_leave_as_they_came() {
        let payload = Payload::encoded(r#"{ "a":1.0 }"#, Format::Json);
        assert_eq!(payload.value(), Ok(&json!({"a": 1.0})));
        assert_eq!(payload.to_bytes(Format::Json), r#"{ "a":1.0 }"#);
    }

    #[test]
    fn a_part_is_read_from_the_bytes_or_from_the_value_alike() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Part {
            a: f64,
        }
        let read = |payload: &Payload| payload.read(std::marker::PhantomData::<Part>);
        let payload = Payload::encoded(r#"{"b":[1e999],"a":1.5} "#, Format::Json);
        assert_eq!(read(&payload), Ok(Part { a: 1.5 }));
        assert!(payload.value().is_err(), "what is not asked for need not have a value");
        assert_eq!(read(&Payload::from(json!({"a": 2, "b": 3}))), Ok(Part { a: 2.0 }));
        for text in [&b"{\"a\":1} 2"[..], b"{\"a\":1,\"b\":oops}", b"{\"a\":1,\"b\":\"\xff\"}"] {
            let error = read(&Payload::encoded(text, Format::Json)).unwrap_err().to_string();
            assert!(error.starts_with("payload is not JSON: "), "{error}");
        }
    }

    #[test]
    fn json_that_begins_with_a_byte_order_mark_was_refused() {
        let payload = Payload::encoded("\u{feff} {\"a\":1}", Format::Json);
        assert_eq!(payload.read(std::marker::PhantomData::<Value>), Ok(json!({"a": 1})));
        assert_eq!(payload.json_text(), Some(Ok(r#"{"a":1}"#)));
        assert_eq!(payload.to_json_line().unwrap(), " {\"a\":1}");
        assert_eq!(payload.value(), Ok(&json!({"a": 1})));
        assert_eq!(payload.to_bytes(Format::Json), "\u{feff} {\"a\":1}");
    }

    #[test]
    fn a_change_shows_in_the_bytes_and_not_in_the_other_branch() {
        let first = Payload::encoded(r#"{"a":1}"#, Format::Json);
        let mut second = first.clone();
        second.value_mut().unwrap()["a"] = json!(2);
        assert_eq!(first.to_bytes(Format::Json), r#"{"a":1}"#);
        assert_eq!(second.to_bytes(Format::Json), r#"{"a":2}"#);
    }

    #[test]
    fn who_works_on_a_payload_need_not_copy_it_for_who_keeps_it() {
        let mut payload = Payload::encoded(r#"{"a":"text"}"#, Format::Json);
        let kept = payload.kept();
        let place = |value: &Value| value["a"].as_str().map(str::as_ptr);
        let before = place(payload.value().unwrap());
        assert_eq!(place(payload.value_mut().unwrap()), before);
        assert_eq!(kept, payload);
    }

    #[test]
    fn what_is_not_json_says_where() {
        let mut payload = Payload::encoded("{oops", Format::Json);
        let error = payload.value_mut().unwrap_err().to_string();
        assert!(error.starts_with("payload is not JSON: ") && error.contains("line 1"), "{error}");
        assert_eq!(payload.to_bytes(Format::Bytes), "{oops");
    }

    #[test]
    fn a_line_of_json_is_one_line_and_one_value() {
        let line = |text: &'static str, format| Payload::encoded(text, format).to_json_line();
        assert_eq!(line("{ \"a\":\n1.0 }", Format::Json).unwrap(), "{ \"a\": 1.0 }");
        assert_eq!(line("a\nb", Format::Text).unwrap(), "\"a\\nb\"");
        for text in ["1},{\"forged\":1", "1\n2", "", "\u{1}"] {
            let error = line(text, Format::Json).unwrap_err().to_string();
            assert!(error.starts_with("payload is not JSON: "), "{error}");
        }
        assert_eq!(Payload::from(json!({"a": "x\ny"})).to_json_line().unwrap(), r#"{"a":"x\ny"}"#);
    }

    #[test]
    fn a_number_is_the_same_after_each_reading_and_writing() {
        for number in ["0.30000000000000004", "31.245270191439438", "121.48791951161945"] {
            let expected: f64 = number.parse().unwrap();
            let payload = Payload::encoded(number, Format::Json);
            assert_eq!(payload.value(), Ok(&json!(expected)));
            assert_eq!(Payload::encoded(as_json(&json!(expected)), Format::Json), payload);
        }
    }

    #[test]
    fn a_payload_goes_from_one_format_into_another() {
        let value = json!({"a": [1, 2.5, "x"], "b": null});
        let json = Payload::encoded(r#"{"a":[1,2.5,"x"],"b":null}"#, Format::Json);
        for format in [Format::Cbor, Format::Msgpack] {
            let bytes = json.written(format).unwrap();
            let payload = Payload::encoded(bytes.clone(), format);
            assert_eq!(payload.written(format).unwrap(), bytes, "as it came");
            assert_eq!(payload.value(), Ok(&value));
            assert_eq!(payload.to_bytes(Format::Json), json.to_bytes(Format::Json));
            let broken = Payload::encoded("{oops", Format::Json).written(format).unwrap_err();
            assert!(broken.to_string().starts_with("payload is not JSON: "), "{broken}");
            let error = Payload::encoded(&b"\xc1"[..], format).value().unwrap_err().to_string();
            assert!(error.starts_with("payload is not "), "{error}");
        }
    }

    #[test]
    fn several_payloads_are_one_list() {
        let payloads = [
            Payload::encoded("{ \"a\":\n1.0 }", Format::Json),
            Payload::from(json!("x")),
            Payload::encoded(&b"\x81\x07"[..], Format::Cbor),
        ];
        for format in [Format::Json, Format::Cbor, Format::Msgpack] {
            let items = payloads.each_ref().map(|payload| payload.to_item(format).unwrap());
            let list = json!([{"a": 1.0}, "x", [7]]);
            let joined = |name| Payload::encoded(join(&items, name, format), format);
            assert_eq!(joined(None).value(), Ok(&list));
            assert_eq!(joined(Some("q\"")).value(), Ok(&json!({"q\"": list})));
            let forged = Payload::encoded("1},{\"forged\":1", Format::Json).to_item(format);
            assert!(forged.is_err(), "{format:?}");
            let broken = Payload::encoded(&b"\xc1"[..], format).to_item(format);
            assert!(broken.is_err(), "{format:?}");
        }
    }

    #[test]
    fn text_and_bytes_keep_their_form() {
        let text = Payload::encoded("on", Format::Text);
        assert_eq!(text.value(), Ok(&json!("on")));
        assert_eq!(text.to_bytes(Format::Json), r#""on""#);
        assert_eq!(Payload::from(json!("on")).to_bytes(Format::Text), "on");
        assert_eq!(Payload::from(json!(21.5)).to_bytes(Format::Text), "21.5");
        let bytes = Payload::encoded(&b"\xff\x00"[..], Format::Bytes);
        assert!(bytes.value().is_err());
        assert_eq!(bytes.to_bytes(Format::Bytes), &b"\xff\x00"[..]);
    }

    #[test]
    fn bytes_that_went_out_where_json_was_expected_were_a_broken_text() {
        let bytes = Payload::encoded(&b"\xff\x00"[..], Format::Bytes);
        assert_eq!(bytes.written(Format::Json).unwrap(), &b"\xff\x00"[..]);
        assert!(bytes.written(Format::Cbor).is_err());
    }
}
