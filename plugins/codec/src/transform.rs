//! A field, or all of a payload, read or written.

use std::borrow::Cow;

use anyhow::{anyhow, bail};
use bytes::Bytes;
use forebay_sdk::{
    Configured, Emitter, Fields, Format, Input, Message, Node, Path, Payload, Sends, Site, Topics,
    Transform, Value, path::Step, payload::kind,
};

use crate::{step::Steps, template::put};

/// A node that was understood. It remembers nothing.
#[derive(Clone)]
pub(crate) struct Codec {
    pub way: Way,
    pub field: Path,
    pub into: Option<Path>,
    pub steps: Steps,
}

/// Which way it goes.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// From bytes to a value.
    Decode,
    /// From a value to bytes.
    Encode,
}

impl Configured for Codec {
    fn build(&self, _: Site) -> Node {
        Node::transform(self.clone())
    }

    fn fields(&self) -> Fields {
        let Some(read) = self.field.reads("field") else { return Fields::default() };
        let made = self.into.as_ref().and_then(Path::names);
        let made = made.and_then(|names| names.first().map(ToString::to_string));
        Fields { reads: vec![read], sends: Sends::Also(made.into_iter().collect()) }
    }

    fn meta(&self) -> Fields {
        Fields::passing([])
    }

    fn topics(&self) -> Topics {
        Topics::Kept
    }
}

impl Transform for Codec {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let Input { mut message, .. } = input;
        match self.way {
            Way::Decode => self.decode(&mut message)?,
            Way::Encode => self.encode(&mut message)?,
        }
        out.emit(message);
        Ok(())
    }
}

impl Codec {
    fn decode(&self, message: &mut Message) -> anyhow::Result<()> {
        let bytes = bytes_at(&message.payload, &self.field)?;
        let said = |why| anyhow!("{} {why:#}", subject(&self.field));
        let bytes = self.steps.unwrap(bytes).map_err(said)?;
        match &self.steps.writing {
            None => message.payload = Payload::encoded(bytes, Format::Bytes),
            Some(writing) => self.place(message, writing.read(bytes).map_err(said)?)?,
        }
        Ok(())
    }

    fn encode(&self, message: &mut Message) -> anyhow::Result<()> {
        let bytes = match &self.steps.writing {
            None => bytes_at(&message.payload, &self.field)?,
            Some(writing) => {
                let value = value_at(&message.payload, &self.field)?;
                let written = writing.write(value, message);
                written
                    .map_err(|why| anyhow!("{} cannot be written: {why:#}", subject(&self.field)))?
            }
        };
        let bytes = self.steps.wrap(bytes);
        if self.field.0.is_empty() {
            message.payload = Payload::encoded(bytes, Format::Bytes);
            return Ok(());
        }
        let text = String::from_utf8(bytes.to_vec());
        let text = text.map_err(|_| anyhow!("what was written is no text"))?;
        self.place(message, text.into())
    }

    /// Puts a value where it belongs.
    fn place(&self, message: &mut Message, value: Value) -> anyhow::Result<()> {
        let payload = &mut message.payload;
        match self.into.as_ref().unwrap_or(&self.field).0.as_slice() {
            [] => *payload = value.into(),
            // All else stays as it came, to the last digit.
            [Step::Name(name)] => *payload = payload.with_members(&[(name, value)])?,
            _ => {
                let whole = payload.value_mut()?;
                match &self.into {
                    Some(into) => put(whole, into, value),
                    None => match at_mut(whole, &self.field) {
                        Some(place) => *place = value,
                        None => bail!("`{}` is missing", self.field),
                    },
                }
            }
        }
        Ok(())
    }
}

/// What errors call it.
fn subject(field: &Path) -> Cow<'static, str> {
    match field.0.is_empty() {
        true => "payload".into(),
        false => format!("`{field}`").into(),
    }
}

fn value_at<'a>(payload: &'a Payload, field: &Path) -> anyhow::Result<&'a Value> {
    field.find(payload)?.ok_or_else(|| anyhow!("`{field}` is missing"))
}

/// The bytes of a field, or of the payload as it came.
fn bytes_at(payload: &Payload, field: &Path) -> anyhow::Result<Bytes> {
    if field.0.is_empty()
        && let Some((bytes, format)) = payload.as_encoded()
    {
        match format {
            // What came as JSON and is a text is that text. All else is no JSON: nobody has said what it is.
            Format::Json => {
                return Ok(match serde_json::from_slice::<String>(bytes) {
                    Ok(text) => text.into(),
                    Err(_) => bytes.clone(),
                });
            }
            Format::Text | Format::Bytes => return Ok(bytes.clone()),
            Format::Cbor | Format::Msgpack => (),
        }
    }
    let value = value_at(payload, field)?;
    bytes_of(value).ok_or_else(|| {
        let (subject, kind) = (subject(field), kind(value));
        anyhow!("{subject} is {kind}; expected a text, or a list of bytes")
    })
}

/// The bytes of a text, of a list of whole numbers below 256, or of a buffer as Node-RED writes it.
fn bytes_of(value: &Value) -> Option<Bytes> {
    match value {
        Value::String(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
        Value::Array(items) => {
            let byte = |item: &Value| item.as_u64().and_then(|number| u8::try_from(number).ok());
            items.iter().map(byte).collect::<Option<Vec<u8>>>().map(Bytes::from)
        }
        Value::Object(map) if map.get("type")? == "Buffer" => {
            map.get("data").filter(|data| data.is_array()).and_then(bytes_of)
        }
        _ => None,
    }
}

fn at_mut<'a>(whole: &'a mut Value, path: &Path) -> Option<&'a mut Value> {
    path.0.iter().try_fold(whole, |value, step| match step {
        Step::Name(name) => value.get_mut(name.as_str()),
        Step::Index(index) => value.get_mut(*index),
    })
}
