//! Has a router do what a message says, once at most, and answers what it did.

use std::{any::Any, sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail};
use forebay_sdk::{
    Capabilities, Configured, Emitter, Message, Node, Port, Problem, Sink, Site, Value, WriteError,
    Written,
    orders::{ANSWERS, Bounds},
};
use serde_json::json;
use tracing::info;

use crate::{
    action::{Action, Kind, LONGEST_TEXT, on_or_off},
    figures::Figures,
    router::{Router, SharedRouter, Stopped},
    rutos::ActFailure,
};

/// A sink that was understood.
#[derive(Clone)]
pub struct RouterSink {
    pub action: Kind,
    /// What may be set.
    pub outputs: Vec<String>,
    /// Who may be written to.
    pub to: Vec<String>,
    /// What text messages say, when it is always the same.
    pub text: Option<String>,
    /// The rate is that of the connection.
    pub bounds: Bounds,
    pub dry_run: bool,
}

impl Configured for RouterSink {
    fn build(&self, site: Site) -> Node {
        Node::sink(Doing { router: site.connection(), sink: self.clone(), name: site.name })
    }

    fn capabilities(&self) -> Capabilities {
        // A router has more to do than to answer at once, and a text message may go to several.
        const LONGEST: Duration = Duration::from_secs(900);
        Capabilities {
            repeats: false,
            longest_try: LONGEST,
            is_near: true,
            ..Capabilities::default()
        }
    }

    fn outputs(&self) -> Vec<String> {
        vec![ANSWERS.to_owned()]
    }

    fn check_on(&self, connection: &dyn Any) -> Vec<Problem> {
        let Some(router) = connection.downcast_ref::<Router>() else { return Vec::new() };
        router.refuses("action", self.action).into_iter().collect()
    }
}

struct Doing {
    /// None when the connection is something else.
    router: Option<Arc<SharedRouter>>,
    sink: RouterSink,
    name: Arc<str>,
}

impl Sink for Doing {
    async fn connect(&mut self) -> anyhow::Result<()> {
        // A dry run needs nobody.
        if self.sink.dry_run {
            return Ok(());
        }
        Ok(self.router()?.ready().await?)
    }

    async fn write(&mut self, batch: &[Message], out: &mut Emitter) -> Result<Written, WriteError> {
        for message in batch {
            self.carry_out(message, out).await?;
        }
        Ok(Written::default())
    }
}

impl Doing {
    fn router(&self) -> anyhow::Result<&Arc<SharedRouter>> {
        self.router.as_ref().context("using the connection: it is no router")
    }

    async fn carry_out(&self, message: &Message, out: &mut Emitter) -> Result<(), WriteError> {
        self.sink.bounds.check_age(message).map_err(WriteError::reject)?;
        let payload = message.payload.value().map_err(|error| WriteError::reject(error.clone()))?;
        let actions = self.sink.actions(payload).map_err(WriteError::reject)?;
        let values: Vec<Value> = actions.iter().map(Action::value).collect();
        if !self.sink.dry_run {
            self.router()?.act(actions).await.map_err(explain)?;
        }
        self.log(message, &values);
        out.emit_to(Port::named(0), self.answer(message, values));
        Ok(())
    }

    /// Of each action it must be known afterwards who asked for it.
    fn log(&self, message: &Message, done: &[Value]) {
        let source = message.meta.source.as_deref().unwrap_or_default();
        let did = if self.sink.dry_run { "would have the router do" } else { "had the router do" };
        let done: Vec<String> = done.iter().map(Value::to_string).collect();
        info!(node = %self.name, topic = %message.topic, source, "{did} {}", done.join(" "));
    }

    fn answer(&self, message: &Message, done: Vec<Value>) -> Message {
        let mut answer = Message::new(Arc::clone(&message.topic), json!({ "done": done }));
        answer.meta = message.meta.clone();
        if self.sink.dry_run {
            answer.meta.insert("router", json!({ "dry_run": true }));
        }
        answer
    }
}

/// What it means that not all actions were carried out.
pub fn explain(stopped: Stopped) -> WriteError {
    let Stopped { failure, done } = stopped;
    match failure {
        ActFailure::NotDone { error, after } if done == 0 => {
            WriteError::Retry { error, after, taken: 0 }
        }
        ActFailure::Refused(error) if done == 0 => WriteError::reject(error),
        ActFailure::NotDone { error, .. } | ActFailure::Refused(error) => {
            let before = format!("{done} of its actions were carried out before this one");
            WriteError::in_doubt(error.context(before))
        }
        ActFailure::InDoubt(error) => WriteError::in_doubt(error),
    }
}

impl RouterSink {
    /// What a payload asks for, all of it checked.
    fn actions(&self, payload: &Value) -> anyhow::Result<Vec<Action>> {
        match self.action {
            Kind::Output => self.outputs(payload),
            Kind::Sms => self.texts(payload),
            Kind::Reboot => {
                let asked = payload.get("reboot").unwrap_or(payload);
                match asked {
                    Value::Bool(true) => Ok(vec![Action::Reboot]),
                    _ => bail!("expected true, or {{\"reboot\": true}}, found {payload}"),
                }
            }
            Kind::Sim => {
                let slot = payload.get("sim").unwrap_or(payload).as_u64();
                match slot.filter(|slot| (1..=16).contains(slot)) {
                    Some(slot) => Ok(vec![Action::Sim { slot }]),
                    None => bail!(
                        "expected the slot of a SIM, such as 2 or {{\"sim\": 2}}, found {payload}"
                    ),
                }
            }
        }
    }

    fn outputs(&self, payload: &Value) -> anyhow::Result<Vec<Action>> {
        let set = |name: &str, value: &Value| {
            let on = on_or_off(value).with_context(|| format!("setting `{name}`"))?;
            Ok(Action::Output { name: name.to_owned(), on })
        };
        match (payload, &self.outputs[..]) {
            (Value::Object(values), outputs) => {
                if values.is_empty() {
                    bail!("the message names no output");
                }
                let known = |name: &String| {
                    let is_known = outputs.contains(name);
                    is_known
                        .then_some(())
                        .ok_or_else(|| anyhow!("`{name}` is not among the `outputs` of this sink"))
                };
                values.keys().try_for_each(known)?;
                values.iter().map(|(name, value)| set(name, value)).collect()
            }
            (value, [only]) => Ok(vec![set(only, value)?]),
            (_, outputs) => {
                let first = outputs.first().map_or("dout1", String::as_str);
                bail!("expected a map from outputs to values, such as {{\"{first}\": true}}")
            }
        }
    }

    fn texts(&self, payload: &Value) -> anyhow::Result<Vec<Action>> {
        let said = Figures::of(payload);
        let asked = payload.as_str().map(str::to_owned).or_else(|| said.text(&["text"]));
        let Some(text) = self.text.clone().or(asked) else {
            bail!("expected a text, or {{\"text\": \"…\"}}, found {payload}");
        };
        let count = text.chars().count();
        if count > LONGEST_TEXT {
            bail!("expected at most {LONGEST_TEXT} characters, found {count}");
        }
        let one = payload.get("to").map(|to| to.as_str().unwrap_or_default());
        let to: Vec<&String> = match one {
            None => self.to.iter().collect(),
            Some(one) => self.to.iter().filter(|to| *to == one).collect(),
        };
        if to.is_empty() {
            bail!("`{}` is not among `to` of this sink", one.unwrap_or_default());
        }
        let send = |to: &String| Action::Sms { to: to.clone(), text: text.clone() };
        Ok(to.into_iter().map(send).collect())
    }
}
