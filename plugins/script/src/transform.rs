//! Runs a script on each message.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use forebay_sdk::{
    Emitter, Format, Memory, Message, Meta, Payload, Port, Timestamp, Transform, Value,
};
use rhai::{AST, Dynamic, Engine, Map, Scope};

use crate::{
    ScriptSettings,
    convert::{self, AsDynamic},
    did_you_mean,
    failure::Failure,
    host::{self, Deadline, MAX_MESSAGES, Outbox},
    uses::{PayloadUse, Uses},
};

/// Marks the payload that came in, so that what the script returns shows which parts of it are
/// new. A plain value has the tag 0, and the checks see to it that a script which sets tags gets
/// whole payloads, where the mark decides nothing but the order of fields.
const CAME_IN: i32 = 1;

/// The fields of a message, as scripts know it.
pub(crate) const FIELDS: [&str; 4] = ["topic", "time", "payload", "meta"];

/// A script, compiled, and what it remembers.
pub(crate) struct ScriptNode {
    engine: Engine,
    ast: AST,
    uses: Uses,
    /// Where `state` goes when the node is replaced.
    memory: Memory,
    /// Holds `state`, and `msg` during a run.
    scope: Scope<'static>,
    outbox: Outbox,
    deadline: Deadline,
    max_operations: u32,
    timeout: Duration,
}

/// What came in, and how much of its payload the script sees.
struct Incoming {
    message: Message,
    /// None when the script sees the whole payload.
    written: Option<Vec<String>>,
}

impl Drop for ScriptNode {
    fn drop(&mut self) {
        if let Some(state) = self.scope.get_value::<Map>("state") {
            self.memory.leave(state);
        }
    }
}

impl ScriptNode {
    pub(crate) fn new(settings: ScriptSettings, node: Arc<str>, memory: Memory) -> ScriptNode {
        let outbox = Outbox::default();
        let deadline = Deadline::new();
        let mut engine = host::engine(&node, &settings.outputs, &outbox);
        host::limit(&mut engine, settings.max_operations, deadline.clone());
        // What does not compile was refused by the lint; an empty script takes its place.
        let ast = host::compile(&engine, &settings.script.0, &[]).unwrap_or_default();
        ScriptNode {
            uses: Uses::of(&ast),
            engine,
            ast,
            scope: host::scope(memory.take().unwrap_or_default()),
            memory,
            outbox,
            deadline,
            max_operations: settings.max_operations,
            timeout: settings.timeout.0,
        }
    }

    /// The same node without the shortcut, to compare with.
    #[cfg(test)]
    pub(crate) fn without_projection(mut self) -> ScriptNode {
        self.uses = Uses::everything();
        self
    }

    /// What is converted for the script.
    #[cfg(test)]
    pub(crate) fn uses(&self) -> &Uses {
        &self.uses
    }

    /// Runs the script. What it emitted is in the outbox.
    fn run(&mut self, msg: Map) -> anyhow::Result<Dynamic> {
        // Leftovers of a run that failed.
        host::drain(&self.outbox);
        self.scope.push("msg", msg);
        self.deadline.set(self.timeout);
        let result = self.engine.eval_ast_with_scope(&mut self.scope, &self.ast);
        // `state` comes first and stays.
        self.scope.rewind(1);
        result.map_err(|error| {
            let failure = Failure {
                ast: &self.ast,
                max_operations: self.max_operations,
                timeout: self.timeout,
            };
            anyhow!(failure.describe(*error))
        })
    }

    /// `state` outlives the message, so its size is looked at after each.
    fn check_state(&self) -> anyhow::Result<()> {
        let Some(state) = self.scope.get("state") else { return Ok(()) };
        self.engine
            .ensure_data_size_within_limits(state)
            .map_err(|_| anyhow!("`state` holds more than a script may keep; remove old values"))
    }

    /// Makes `msg` out of the parts of a message that the script uses.
    fn msg(&self, message: Message) -> anyhow::Result<(Map, Incoming)> {
        let mut msg = Map::new();
        if self.uses.topic {
            msg.insert("topic".into(), (&*message.topic).into());
        }
        if self.uses.time {
            msg.insert("time".into(), message.time.unix_millis().into());
        }
        if self.uses.meta {
            msg.insert("meta".into(), Dynamic::from_map(meta_map(&message.meta)));
        }
        let (mut payload, written) = match &self.uses.payload {
            // Bytes that nobody looks at need not be JSON.
            PayloadUse::Fields { all, .. } if all.is_empty() => {
                (Dynamic::from_map(Map::new()), Some(Vec::new()))
            }
            PayloadUse::Fields { all, written } => {
                let seen = message.payload.read(AsDynamic { only: Some(all) })?;
                let written = seen.is_map().then(|| written.clone());
                (seen, written)
            }
            PayloadUse::Whole => (convert::to_dynamic(value_of_message(&message)?), None),
        };
        payload.set_tag(CAME_IN);
        msg.insert("payload".into(), payload);
        Ok((msg, Incoming { message, written }))
    }
}

impl Transform for ScriptNode {
    fn apply(&mut self, message: Message, out: &mut Emitter) -> anyhow::Result<()> {
        let (msg, incoming) = self.msg(message)?;
        let result = self.run(msg)?;
        self.check_state()?;
        let mut outgoing = Vec::new();
        for (index, value) in host::drain(&self.outbox) {
            incoming.read(Port::named(index), value, "`emit` got", &mut outgoing)?;
        }
        incoming.read(Port::MAIN, result, "the script returned", &mut outgoing)?;
        // All or nothing: a message that ends as an error has sent nothing on.
        outgoing.into_iter().for_each(|(port, message)| out.emit_to(port, message));
        Ok(())
    }
}

impl Incoming {
    /// Reads what a script hands out: a message, a list of messages, or nothing.
    fn read(
        &self,
        port: Port,
        value: Dynamic,
        whence: &str,
        outgoing: &mut Vec<(Port, Message)>,
    ) -> anyhow::Result<()> {
        let value = value.flatten();
        if value.is_unit() {
            return Ok(());
        }
        let values = match value.try_cast_result::<rhai::Array>() {
            Ok(values) => values,
            Err(value) => vec![value],
        };
        for value in values {
            let map = value.flatten().try_cast_result::<Map>().map_err(|value| {
                let kind = convert::kind(&value);
                anyhow!("{whence} {kind}; expected a message, a list of messages or ()")
            })?;
            if outgoing.len() >= MAX_MESSAGES {
                return Err(anyhow!("{whence} more than {MAX_MESSAGES} messages for one"));
            }
            let message = self.message(map).map_err(|error| anyhow!("{whence} {error}"))?;
            outgoing.push((port, message));
        }
        Ok(())
    }

    /// A message as the script left it. What it does not say is as it came.
    fn message(&self, map: Map) -> Result<Message, String> {
        let came = &self.message;
        let mut message = Message {
            topic: Arc::clone(&came.topic),
            time: came.time,
            payload: came.payload.clone(),
            meta: came.meta.clone(),
        };
        if !map.contains_key("payload") {
            return Err("a map without `payload`; expected msg, or #{payload: ...}".to_owned());
        }
        for (name, value) in map {
            let value = value.flatten();
            match name.as_str() {
                "topic" => set_topic(&mut message, &value)?,
                "time" => set_time(&mut message, &value)?,
                "meta" => set_meta(&mut message, &value)?,
                "payload" => self.set_payload(&mut message.payload, &value)?,
                other => {
                    let near = did_you_mean(other, FIELDS);
                    let whole = format!("a message with the field `{other}`{near}");
                    return Err(match near.is_empty() {
                        true => format!("{whole}; fields are topic, time, payload and meta"),
                        false => whole,
                    });
                }
            }
        }
        Ok(message)
    }

    fn set_payload(&self, payload: &mut Payload, left: &Dynamic) -> Result<(), String> {
        if left.tag() != CAME_IN {
            *payload = convert::to_payload(left)?;
            return Ok(());
        }
        let Some(written) = &self.written else {
            if payload.value().is_ok_and(|came| convert::is_same(came, left)) {
                return Ok(());
            }
            return convert::update(value_of(payload)?, left);
        };
        if written.is_empty() {
            return Ok(());
        }
        let Ok(left) = left.as_map_ref() else { return Ok(()) };
        // A field that was not there, and still is not, is no change.
        let left =
            written.iter().filter_map(|name| Some((name.as_str(), left.get(name.as_str())?)));
        if let Some(text) = payload.json_text() {
            let text = text.map_err(|error| error.to_string())?;
            if let Some(changed) = convert::change_text(text, left)? {
                *payload = Payload::encoded(changed, Format::Json);
            }
            return Ok(());
        }
        for (name, left) in left {
            let came = payload.value().ok().and_then(|came| came.get(name));
            if came.is_none_or(|came| !convert::is_same(came, left))
                && let Some(fields) = value_of(payload)?.as_object_mut()
            {
                convert::update_field(fields, name, left)?;
            }
        }
        Ok(())
    }
}

fn value_of_message(message: &Message) -> anyhow::Result<&Value> {
    message.payload.value().map_err(|error| anyhow!(error.clone()))
}

fn value_of(payload: &mut Payload) -> Result<&mut Value, String> {
    payload.value_mut().map_err(|error| error.to_string())
}

fn set_topic(message: &mut Message, value: &Dynamic) -> Result<(), String> {
    let Ok(topic) = value.as_immutable_string_ref() else {
        return Err(format!("a message whose topic is {}; expected a text", convert::kind(value)));
    };
    if *message.topic != **topic {
        message.topic = topic.as_str().into();
    }
    Ok(())
}

fn set_time(message: &mut Message, value: &Dynamic) -> Result<(), String> {
    let Ok(millis) = value.as_int() else {
        let kind = convert::kind(value);
        return Err(format!("a message whose time is {kind}; expected milliseconds since 1970"));
    };
    // Nobody touched it, so it keeps its nanoseconds.
    if message.time.unix_millis() != millis {
        message.time = Timestamp::from_unix_nanos(millis.saturating_mul(1_000_000));
    }
    Ok(())
}

fn set_meta(message: &mut Message, value: &Dynamic) -> Result<(), String> {
    let Ok(entries) = value.as_map_ref() else {
        return Err(format!("a message whose meta is {}; expected a map", convert::kind(value)));
    };
    let before = meta_map(&message.meta);
    let is_same = before.len() == entries.len()
        && message
            .meta
            .entries()
            .all(|(name, came)| entries.get(name).is_some_and(|left| convert::is_same(came, left)))
        && before.get("source").map(ToString::to_string)
            == entries.get("source").map(ToString::to_string);
    if is_same {
        return Ok(());
    }
    let mut meta = Meta::default();
    meta.source.clone_from(&message.meta.source);
    for (name, value) in entries.iter() {
        match (name.as_str(), value.as_immutable_string_ref()) {
            ("source", Ok(source)) => meta.source = Some(source.as_str().into()),
            ("source", Err(_)) => return Err("a message whose meta.source is not a text".into()),
            _ => meta.insert(name.as_str(), convert::to_value(value)?),
        }
    }
    message.meta = meta;
    Ok(())
}

fn meta_map(meta: &Meta) -> Map {
    let entries = meta.entries().map(|(name, value)| (name.into(), convert::to_dynamic(value)));
    let source = meta.source.as_deref().map(|source| ("source".into(), source.into()));
    entries.chain(source).collect()
}
