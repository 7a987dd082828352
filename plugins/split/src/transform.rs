//! One message for each item.

use anyhow::{anyhow, bail};
use forebay_sdk::{
    Configured, Emitter, Fields, Input, Message, Node, Path, Sends, Site, Topics, Transform, Value,
    payload::kind,
};

/// A node that was understood. It remembers nothing.
#[derive(Clone)]
pub(crate) struct Split {
    pub field: Path,
    pub into: Option<String>,
    pub key: Option<String>,
    pub separator: Option<String>,
}

impl Configured for Split {
    fn build(&self, _: Site) -> Node {
        Node::transform(self.clone())
    }

    fn fields(&self) -> Fields {
        let reads = self.field.reads("field").into_iter().collect();
        let sends = match &self.into {
            Some(into) => Sends::Also(
                [Some(into), self.key.as_ref()].into_iter().flatten().cloned().collect(),
            ),
            None => Sends::Unknown,
        };
        Fields { reads, sends }
    }

    fn meta(&self) -> Fields {
        Fields::passing([])
    }

    fn topics(&self) -> Topics {
        Topics::Kept
    }
}

impl Transform for Split {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let Input { mut message, .. } = input;
        let field = &self.field;
        let whole = message.payload.value().map_err(Clone::clone)?;
        let there = field
            .get(whole)
            .ok_or_else(|| anyhow!("`{field}` is missing, which is to be split"))?;
        let items: Vec<(Value, Value)> = match there {
            Value::Array(items) => {
                items.iter().enumerate().map(|(place, item)| (place.into(), item.clone())).collect()
            }
            Value::Object(members) => {
                members.iter().map(|(name, item)| (name.as_str().into(), item.clone())).collect()
            }
            Value::String(text) => match &self.separator {
                Some(separator) => parts(text, separator),
                None => bail!("`{field}` is a text, and no `separator` says where to split it"),
            },
            other => bail!("`{field}` is {}; expected a list or a map", kind(other)),
        };
        let rest = match &self.into {
            Some(_) => {
                let mut rest = whole.clone();
                field.take_out(&mut rest);
                Some(rest)
            }
            None => None,
        };
        // Whatever was computed for it: each message has the time and all else of the one that came.
        message.payload = Value::Null.into();
        for (key, item) in items {
            let payload = self.payload(key, item, rest.as_ref())?;
            out.emit(Message { payload: payload.into(), ..message.clone() });
        }
        Ok(())
    }
}

impl Split {
    fn payload(&self, key: Value, item: Value, rest: Option<&Value>) -> anyhow::Result<Value> {
        let mut payload = match (&self.into, rest) {
            (Some(into), Some(rest)) => {
                let mut map = rest.as_object().cloned().unwrap_or_default();
                map.insert(into.clone(), item);
                Value::Object(map)
            }
            _ => item,
        };
        if let Some(name) = &self.key {
            match payload.as_object_mut() {
                Some(map) => drop(map.insert(name.clone(), key)),
                None => {
                    let (field, kind) = (&self.field, kind(&payload));
                    bail!(
                        "an item of `{field}` is {kind}, so there is no room for `key`; `into` makes some"
                    )
                }
            }
        }
        Ok(payload)
    }
}

/// The parts of a text. An end after the last of them makes none.
fn parts(text: &str, separator: &str) -> Vec<(Value, Value)> {
    let text = text.strip_suffix(separator).unwrap_or(text);
    let parts = text.split(separator).enumerate();
    parts.map(|(place, part)| (place.into(), part.into())).collect()
}
