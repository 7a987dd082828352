//! Runs a script on each message.

use std::sync::Arc;

use anyhow::anyhow;
use forebay_sdk::{
    Configured, Coverage, Emitter, Fields, Format, Input, Message, Meta, Node, Payload, Port,
    Saved, Site, Timestamp, Topics, Transform, Value, template::TOPIC_LEVELS,
};
use rhai::{AST, Array, Dynamic, Expr, Map, Scope, Stmt};

use crate::{
    convert::{self, AsDynamic},
    failure::Failure,
    fields,
    host::{self, Limits, MAX_MESSAGES, Needs},
    lint::Code,
    mistakes,
    noting::noting,
    own_settings::OwnSettings,
    state::{self, Before},
    text,
    uses::{self, FIELDS, PayloadUse, Uses},
    words::did_you_mean,
};

/// Marks the payload that came in, so that what the script returns shows which parts of it are
/// new. A plain value has the tag 0, and the checks see to it that a script which sets tags gets
/// whole payloads, where the mark decides nothing but the order of fields.
const CAME_IN: i32 = 1;

/// Marks the value of a script that ends with `msg`: the variable itself is sent then, not a copy.
const ENDS_WITH_MSG: i32 = 2;

/// A node before it runs.
pub(crate) struct ScriptType(pub Arc<Program>);

/// A script, compiled, and all else that its settings say.
#[derive(Clone)]
pub(crate) struct Program {
    ast: AST,
    uses: Uses,
    fields: Fields,
    meta: Fields,
    /// It may give messages other topics.
    sets_topic: bool,
    /// What the script reads as `settings`.
    settings: Map,
    outputs: Arc<[String]>,
    /// Where what it returns goes; `outputs` are the named ones from `first_named` on.
    main: Port,
    first_named: usize,
    /// Whether it may send requests, too.
    asks: bool,
    limits: Limits,
    needs: Needs,
    /// The file that holds the script, when that is no setting of the node.
    file: Option<Arc<str>>,
}

/// A script that runs, and what it remembers.
pub(crate) struct ScriptNode {
    name: Arc<str>,
    program: Arc<Program>,
    /// Holds `state` and `settings`, and `msg` during a run.
    scope: Scope<'static>,
}

/// What came in, and how much of its payload the script sees.
pub(crate) struct Incoming<'a> {
    message: &'a Message,
    payload: Seen<'a>,
    /// Whether requests may come of it.
    asks: bool,
}

/// What a script hands out.
pub(crate) enum Made {
    Message(Port, Message),
    Request(Asked),
}

/// A request as a script writes it.
pub(crate) struct Asked {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Payload>,
}

/// How much of a payload a script sees.
enum Seen<'a> {
    /// All of it, and the JSON that it came as, if any.
    Whole(Option<&'a str>),
    /// Some fields, of which it may change these.
    Fields {
        written: &'a [rhai::Identifier],
        /// The payload as it came, when it is a map in JSON.
        text: Option<text::Fields<'a>>,
    },
}

impl Program {
    /// Makes a script ready to run. `written` is as its author wrote it.
    pub(crate) fn new(
        written: Code,
        settings: &OwnSettings,
        outputs: Arc<[String]>,
        limits: Limits,
    ) -> Program {
        let Code { ast: written, modules } = written;
        let (fields, meta) = fields::of(&written);
        let sets_topic = fields::sets_topic(&written);
        let settings = convert::to_map(settings);
        // The optimizer would put the value of a constant where it is assigned to, and running that is
        // a panic.
        let ast = match mistakes::changed_constants(&written).is_empty() {
            true => host::optimize(written),
            false => written,
        };
        let uses = Uses::of(&ast);
        let needs = uses::needs(&ast, modules);
        let file = None;
        let ast = without_copy(ast);
        let (main, first_named, asks) = (Port::MAIN, 0, false);
        Program {
            ast,
            uses,
            fields,
            meta,
            sets_topic,
            settings,
            outputs,
            main,
            first_named,
            asks,
            limits,
            needs,
            file,
        }
    }

    /// The same of a script that may send requests, too.
    pub(crate) fn asking(self, asks: bool) -> Program {
        Program { asks, ..self }
    }

    /// The same of a script whose main output is the first of the named ones.
    pub(crate) fn of_sink(self) -> Program {
        Program { main: Port::named(0), first_named: 1, ..self }
    }

    /// The names of the outputs that it declares.
    pub(crate) fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// Where what it returns goes.
    pub(crate) fn main(&self) -> Port {
        self.main
    }

    /// Whether it looks at what was answered.
    pub(crate) fn reads_answers(&self) -> bool {
        uses::names(&self.ast, host::ANSWER)
    }

    /// The same of a script that is no setting of the node. What it reads is told to nobody: there is no
    /// place in the pipeline where it stands.
    pub(crate) fn of_file(mut self, path: &Arc<str>) -> Program {
        self.file = Some(Arc::clone(path));
        self.fields.reads.clear();
        self.meta.reads.clear();
        self
    }

    /// The same, which takes note of what of it runs.
    pub(crate) fn noting(&self) -> (Arc<Program>, Arc<Coverage>) {
        let (ast, spots) = noting(&self.ast, self.file.as_ref());
        let coverage = Arc::new(Coverage::new("script", spots));
        let needs = Needs { coverage: Some(Arc::clone(&coverage)), ..self.needs.clone() };
        (Arc::new(Program { ast, needs, ..self.clone() }), coverage)
    }

    /// The same without the shortcut, to compare with.
    #[cfg(test)]
    pub(crate) fn without_projection(mut self) -> Program {
        self.uses = Uses::everything();
        self
    }

    /// What is converted for the script.
    #[cfg(test)]
    pub(crate) fn uses(&self) -> &Uses {
        &self.uses
    }
}

/// Puts a mark in the place of `msg` at the end of a script: evaluating it would copy the message.
fn without_copy(ast: AST) -> AST {
    let Some((Stmt::Expr(last), statements)) = ast.statements().split_last() else { return ast };
    let Expr::Variable(variable, _, at) = &**last else { return ast };
    if variable.1 != "msg" {
        return ast;
    }
    let mut mark = Dynamic::UNIT;
    mark.set_tag(ENDS_WITH_MSG);
    let mark = Stmt::Expr(Expr::DynamicConstant(mark.into(), *at).into());
    AST::new(statements.iter().cloned().chain([mark]), Arc::clone(ast.shared_lib()))
}

impl Configured for ScriptType {
    fn build(&self, site: Site) -> Node {
        Node::transform(ScriptNode::new(Arc::clone(&self.0), &site))
    }

    fn outputs(&self) -> Vec<String> {
        self.0.outputs.to_vec()
    }

    fn fields(&self) -> Fields {
        self.0.fields.clone()
    }

    fn meta(&self) -> Fields {
        self.0.meta.clone()
    }

    fn topics(&self) -> Topics {
        if self.0.sets_topic { Topics::Unknown } else { Topics::Kept }
    }

    fn noting(&self) -> Option<(Arc<dyn Configured>, Arc<Coverage>)> {
        let (program, coverage) = self.0.noting();
        Some((Arc::new(ScriptType(program)), coverage))
    }
}

impl ScriptNode {
    pub(crate) fn new(program: Arc<Program>, site: &Site) -> ScriptNode {
        let remembered = site.remembered::<state::Written>(state::VERSION);
        let state = remembered.as_ref().map(state::read).unwrap_or_default();
        let scope = host::scope(state, program.settings.clone());
        ScriptNode { name: Arc::clone(&site.name), program, scope }
    }

    pub(crate) fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// What a run may change, as it is now.
    pub(crate) fn before(&self) -> Before {
        Before::of(&self.scope, &self.program.uses.state)
    }

    /// A run that failed has changed nothing.
    pub(crate) fn restore(&mut self, before: Before) {
        before.restore(&mut self.scope);
    }

    /// What the script makes of a message, and of what was answered about it.
    pub(crate) fn outgoing(
        &mut self,
        message: &Message,
        answer: Option<&Message>,
    ) -> anyhow::Result<Vec<Made>> {
        let program = Arc::clone(&self.program);
        let (msg, mut incoming) = incoming(&program.uses, message)?;
        incoming.asks = program.asks;
        self.scope.push("msg", msg);
        if program.asks {
            self.scope.push(host::ANSWER, answer.map_or(Dynamic::UNIT, answered));
        }
        let host::Ended { result, emitted, captured: _until_read } = host::run(
            &program.ast,
            &mut self.scope,
            &self.name,
            &program.outputs,
            program.limits,
            &program.needs,
            message.payload.size_bytes(),
        );
        let result = result.map(|result| {
            let is_msg = result.is_unit() && result.tag() == ENDS_WITH_MSG;
            if is_msg { take_msg(&mut self.scope) } else { result }
        });
        let file = program.file.as_ref();
        let (ast, modules) = (&program.ast, &program.needs.modules);
        let failure = Failure { ast, modules, limits: program.limits, file };
        let result = result.map_err(|error| failure.describe(*error, &self.scope));
        // What was there before the message stays.
        self.scope.rewind(host::LASTING);
        let result = result?;
        let mut outgoing = Vec::new();
        for (index, value) in emitted {
            let port = Port::named(program.first_named + index);
            incoming.read(port, value, "`emit` got", &mut outgoing)?;
        }
        incoming.read(program.main, result, "the script returned", &mut outgoing)?;
        state::check(&mut self.scope, &program.uses.state).map_err(anyhow::Error::msg)?;
        if program.uses.time {
            for made in &mut outgoing {
                if let Made::Message(_, made) = made {
                    made.note_own_time(message.time);
                }
            }
        }
        Ok(outgoing)
    }
}

impl Transform for ScriptNode {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let before = self.before();
        // All or nothing: a message that ends as an error has sent nothing on and changed nothing.
        let outgoing = self.outgoing(&input.message, None).inspect_err(|_| self.restore(before))?;
        for made in outgoing {
            // A transform asks nobody.
            if let Made::Message(port, message) = made {
                out.emit_to(port, message);
            }
        }
        Ok(())
    }

    fn save(&self) -> Option<Saved> {
        if self.program.uses.state == crate::uses::StateUse::Nothing {
            return None;
        }
        Saved::of(state::VERSION, &state::write(&self.scope)?).ok()
    }
}

/// What was answered, as a script sees it: `status`, `payload`, and what else is known.
fn answered(answer: &Message) -> Dynamic {
    let mut map = match answer.meta.get("http").and_then(Value::as_object) {
        Some(http) => convert::to_map(http),
        None => Map::new(),
    };
    map.insert("payload".into(), convert::to_dynamic(&answer.payload.to_value_lossy()));
    map.into()
}

/// Reads a request.
fn asked(map: Map) -> Result<Asked, String> {
    const FIELDS: [&str; 4] = ["url", "method", "headers", "body"];
    let text = |name: &str, value: &Dynamic| match value.as_immutable_string_ref() {
        Ok(text) => Ok(text.to_string()),
        Err(_) => {
            Err(format!("a request whose {name} is {}; expected a text", convert::kind(value)))
        }
    };
    let (mut method, mut url) = (None, String::new());
    let (mut headers, mut body) = (Vec::new(), None);
    for (name, value) in map {
        let value = value.flatten();
        match name.as_str() {
            "url" => url = text("url", &value)?,
            "method" => method = Some(text("method", &value)?),
            "body" if value.is_unit() => (),
            "body" => body = Some(convert::to_payload(&value)?),
            "headers" => {
                let Ok(map) = value.as_map_ref() else {
                    let kind = convert::kind(&value);
                    return Err(format!("a request whose headers are {kind}; expected a map"));
                };
                for (name, value) in map.iter() {
                    headers.push((name.to_string(), text(name, &value.flatten_clone())?));
                }
            }
            other => {
                let near = did_you_mean(other, FIELDS);
                let fields = FIELDS.join(", ");
                return Err(format!(
                    "a request with the field `{other}`{near}; fields are {fields}"
                ));
            }
        }
    }
    let usual = if body.is_some() { "POST" } else { "GET" };
    Ok(Asked { method: method.unwrap_or_else(|| usual.to_owned()), url, headers, body })
}

fn take_msg(scope: &mut Scope) -> Dynamic {
    match scope.get_mut("msg") {
        Some(msg) => msg.take(),
        // A constant of the script's own.
        None => scope.get("msg").cloned().unwrap_or_default(),
    }
}

/// Makes `msg` out of the parts of a message that a script uses.
pub(crate) fn incoming<'a>(
    uses: &'a Uses,
    message: &'a Message,
) -> anyhow::Result<(Map, Incoming<'a>)> {
    let mut msg = Map::new();
    if uses.topic {
        msg.insert("topic".into(), (&*message.topic).into());
    }
    if uses.time {
        msg.insert("time".into(), message.time.unix_millis().into());
    }
    if uses.meta {
        msg.insert("meta".into(), Dynamic::from_map(meta_map(message)));
    }
    let (mut payload, seen) = match &uses.payload {
        // Bytes that nobody looks at need not be JSON.
        PayloadUse::Fields { all, .. } if all.is_empty() => {
            (Dynamic::from_map(Map::new()), Seen::Fields { written: &[], text: None })
        }
        PayloadUse::Fields { all, written } => fields_in_use(&message.payload, all, written)?,
        PayloadUse::Whole => whole(&message.payload)?,
    };
    payload.set_tag(CAME_IN);
    msg.insert("payload".into(), payload);
    Ok((msg, Incoming { message, payload: seen, asks: false }))
}

/// The fields of a payload that a script uses.
fn fields_in_use<'a>(
    payload: &'a Payload,
    all: &'a [rhai::Identifier],
    written: &'a [rhai::Identifier],
) -> anyhow::Result<(Dynamic, Seen<'a>)> {
    if let Some(text) = payload.json_text().transpose()?
        && text.starts_with('{')
    {
        let fields =
            text::Fields::of(text).map_err(|error| anyhow!("payload is not JSON: {error}"))?;
        let seen = fields.seen(all).map_err(anyhow::Error::msg)?;
        return Ok((Dynamic::from_map(seen), Seen::Fields { written, text: Some(fields) }));
    }
    if payload.json_text().is_some() {
        return whole(payload);
    }
    let seen = payload.read(AsDynamic { only: Some(all) })?;
    let is_map = seen.is_map();
    Ok((seen, if is_map { Seen::Fields { written, text: None } } else { Seen::Whole(None) }))
}

fn whole(payload: &Payload) -> anyhow::Result<(Dynamic, Seen<'_>)> {
    if let Some(text) = payload.json_text().transpose()? {
        let read = text::read(text).map_err(|error| anyhow!("payload is {error}"))?;
        // Which of two members of one name the script saw shows only in the value.
        return Ok((read.value, Seen::Whole((!read.has_twins).then_some(text))));
    }
    let value = payload.value().map_err(|error| anyhow!(error.clone()))?;
    Ok((convert::to_dynamic(value), Seen::Whole(None)))
}

impl Incoming<'_> {
    /// Reads what a script hands out: a message, a list of messages, or nothing.
    fn read(
        &self,
        port: Port,
        value: Dynamic,
        whence: &str,
        outgoing: &mut Vec<Made>,
    ) -> anyhow::Result<()> {
        let value = value.flatten();
        if value.is_unit() {
            return Ok(());
        }
        let values = match value.try_cast_result::<Array>() {
            Ok(values) => values,
            Err(value) => return self.read_one(port, value, whence, outgoing),
        };
        values.into_iter().try_for_each(|value| self.read_one(port, value, whence, outgoing))
    }

    fn read_one(
        &self,
        port: Port,
        value: Dynamic,
        whence: &str,
        outgoing: &mut Vec<Made>,
    ) -> anyhow::Result<()> {
        let map = value.flatten().try_cast_result::<Map>().map_err(|value| {
            let kind = convert::kind(&value);
            anyhow!("{whence} {kind}; expected a message, a list of messages or ()")
        })?;
        if outgoing.len() >= MAX_MESSAGES {
            return Err(anyhow!("{whence} more than {MAX_MESSAGES} messages for one"));
        }
        let made = match self.asks && map.contains_key("url") {
            true => asked(map).map(Made::Request),
            false => self.message(map).map(|message| Made::Message(port, message)),
        };
        outgoing.push(made.map_err(|error| anyhow!("{whence} {error}"))?);
        Ok(())
    }

    /// A message as the script left it. What it does not say is as it came.
    fn message(&self, map: Map) -> Result<Message, String> {
        if !map.contains_key("payload") {
            let request = if self.asks { ", or #{url: ...}" } else { "" };
            return Err(format!(
                "a map without `payload`; expected msg, or #{{payload: ...}}{request}"
            ));
        }
        let mut message = self.message.clone();
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
                    return Err(if near.is_empty() {
                        format!("{whole}; fields are topic, time, payload and meta")
                    } else {
                        whole
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
        let (written, text) = match &self.payload {
            Seen::Fields { written, text } => (written, text),
            Seen::Whole(text) => return set_whole(payload, *text, left),
        };
        if written.is_empty() {
            return Ok(());
        }
        let Ok(left) = left.as_map_ref() else { return Ok(()) };
        // A field that was not there, and still is not, is no change.
        let left = written.iter().filter_map(|name| Some((name.as_str(), left.get(name)?)));
        if let Some(text) = text {
            if let Some(changed) = text.changed(left)? {
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

fn set_whole(payload: &mut Payload, came: Option<&str>, left: &Dynamic) -> Result<(), String> {
    let Some(came) = came else {
        if payload.value().is_ok_and(|came| convert::is_same(came, left)) {
            return Ok(());
        }
        return convert::update(value_of(payload)?, left);
    };
    match text::changed(came, left)? {
        None => (),
        Some(json) if left.is_map() || left.is_array() => {
            *payload = Payload::encoded(json, Format::Json);
        }
        Some(_) => *payload = convert::to_payload(left)?,
    }
    Ok(())
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
    let before = meta_map(message);
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
            // They follow from the topic.
            (TOPIC_LEVELS, _) => (),
            _ => meta.insert(name.as_str(), convert::to_value(value)?),
        }
    }
    message.meta = meta;
    Ok(())
}

fn meta_map(message: &Message) -> Map {
    let Message { topic, meta, .. } = message;
    let entries = meta.entries().map(|(name, value)| (name.into(), convert::to_dynamic(value)));
    let source = meta.source.as_deref().map(|source| ("source".into(), source.into()));
    let levels: Array = topic.split('/').map(Into::into).collect();
    entries.chain(source).chain([(TOPIC_LEVELS.into(), levels.into())]).collect()
}
