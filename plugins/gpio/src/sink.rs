//! The running sink: it switches what a message says, and answers what it did.
//!
//! All of a message is checked before any of it is switched.

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use forebay_sdk::{
    Capabilities, Claim, Configured, Emitter, Inventory, Message, Node, Port, Sink, Site, Value,
    WriteError, Written,
    connection::Down,
    orders::{ANSWERS, Bounds, Pace},
};
use serde_json::{Map, json};
use tracing::info;

use crate::{
    chip::{Chip, ChipSettings},
    level::{Order, order},
    line::claim,
    outputs::{Failed, Ordered, Wanted, word},
};

/// A sink that was understood.
#[derive(Clone)]
pub struct GpioSink {
    pub outputs: Arc<[Wanted]>,
    pub verify: bool,
    pub bounds: Bounds,
    pub dry_run: bool,
}

impl Configured for GpioSink {
    fn build(&self, site: Site) -> Node {
        let chip: Option<Arc<Chip>> = site.connection();
        if let Some(chip) = chip.as_ref().filter(|_| !self.dry_run) {
            chip.outputs.register(&site.name, &self.outputs);
            chip.changed();
        }
        Node::sink(Switching { chip, name: site.name, sink: self.clone(), pace: Pace::default() })
    }

    fn capabilities(&self) -> Capabilities {
        // A pulse is not given twice, nor a line toggled.
        Capabilities { batch_messages: 1, repeats: false, ..Capabilities::default() }
    }

    fn outputs(&self) -> Vec<String> {
        vec![ANSWERS.to_owned()]
    }

    fn inventory(&self) -> Inventory {
        let row = |output: &Wanted| vec![output.name.clone(), output.line.to_string()];
        Inventory { heads: vec!["name", "line"], rows: self.outputs.iter().map(row).collect() }
    }

    fn claims_on(&self, connection: &dyn std::any::Any) -> Vec<Claim> {
        let Some(chip) = connection.downcast_ref::<ChipSettings>() else { return Vec::new() };
        let lines = self.outputs.iter().enumerate();
        lines.map(|(at, output)| claim(&chip.chip, &output.line, at)).collect()
    }
}

struct Switching {
    /// None when the connection is something else.
    chip: Option<Arc<Chip>>,
    name: Arc<str>,
    sink: GpioSink,
    pace: Pace,
}

impl Drop for Switching {
    fn drop(&mut self) {
        if let Some(chip) = self.chip.as_ref().filter(|_| !self.sink.dry_run) {
            chip.outputs.unregister(&self.sink.outputs);
            chip.changed();
        }
    }
}

/// What a message asks of one output.
type Asked<'a> = (&'a Wanted, Order);

impl Sink for Switching {
    async fn connect(&mut self) -> anyhow::Result<()> {
        let chip = self.chip()?;
        if self.sink.dry_run {
            return Ok(());
        }
        let mut told = chip.now();
        chip.there().await?;
        while !chip.outputs.are_known(&self.sink.outputs)? {
            if !chip.is_told(&mut told).await {
                return Err(chip.why().into());
            }
        }
        Ok(())
    }

    async fn write(&mut self, batch: &[Message], out: &mut Emitter) -> Result<Written, WriteError> {
        for message in batch {
            self.carry_out(message, out)?;
        }
        Ok(Written::default())
    }
}

impl Switching {
    fn chip(&self) -> anyhow::Result<&Arc<Chip>> {
        self.chip.as_ref().context("using the connection: it is no GPIO chip")
    }

    fn carry_out(&mut self, message: &Message, out: &mut Emitter) -> Result<(), WriteError> {
        self.sink.bounds.check_age(message).map_err(WriteError::reject)?;
        let payload = message.payload.value().map_err(|error| WriteError::reject(error.clone()))?;
        let asked = self.sink.asked(payload).map_err(WriteError::reject)?;
        self.sink.bounds.wait_for_turn(&mut self.pace)?;
        let mut answer = Answer::default();
        for (output, order) in &asked {
            let done = self.do_one(output, *order, &mut answer);
            done.map_err(|failed| self.in_words(failed, output, &answer))?;
        }
        self.log(message, &answer.written);
        out.emit_to(Port::named(0), self.answer(message, answer));
        Ok(())
    }

    fn do_one(&self, output: &Wanted, order: Order, answer: &mut Answer) -> Result<(), Failed> {
        let chip = self.chip().map_err(Failed::Refused)?;
        let level = match order {
            Order::Ask if self.sink.dry_run => return Ok(()),
            Order::Ask => {
                let level = chip.outputs.level(&output.line)?;
                answer.read.insert(output.name.clone(), level.into());
                return Ok(());
            }
            Order::Set(level) => Some(level),
            Order::Toggle => None,
        };
        if self.sink.dry_run {
            answer.written.insert(output.name.clone(), level.into());
            return Ok(());
        }
        let Ordered { level, waits } = chip.outputs.order(&output.line, level)?;
        chip.changed();
        answer.written.insert(output.name.clone(), level.into());
        if let Some(waits) = waits {
            answer
                .waits
                .insert(output.name.clone(), forebay_sdk::number::value(waits.as_secs_f64()));
            return Ok(());
        }
        if self.sink.verify {
            let found = chip.outputs.level(&output.line)?;
            answer.read.insert(output.name.clone(), found.into());
            if found != level {
                return Err(Failed::Refused(anyhow!(
                    "switched it {}, and the line is {}",
                    word(level),
                    word(found)
                )));
            }
        }
        Ok(())
    }

    fn in_words(&self, failed: Failed, output: &Wanted, so_far: &Answer) -> WriteError {
        let what = format!("output `{}`", output.name);
        match failed {
            Failed::Gone => {
                let down = self.chip.as_ref().map(|chip| chip.lost());
                let down = down.unwrap_or_else(|| Down::new("there is no chip"));
                match so_far.written.is_empty() {
                    true => WriteError::retry(down),
                    false => WriteError::in_doubt(anyhow::Error::new(down).context(what)),
                }
            }
            Failed::NotYet => WriteError::retry(Down::new(format!("{what} is not held yet"))),
            Failed::Refused(error) => WriteError::reject(error.context(what)),
            Failed::Broken(error) => WriteError::in_doubt(error.context(what)),
        }
    }

    /// Of each switching it must be known afterwards who asked for it.
    fn log(&self, message: &Message, written: &Map<String, Value>) {
        if written.is_empty() {
            return;
        }
        let values: Vec<String> =
            written.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let did = if self.sink.dry_run { "would switch" } else { "switches" };
        let source = message.meta.source.as_deref().unwrap_or_default();
        info!(node = %self.name, topic = %message.topic, source, "{did} {}", values.join(" "));
    }

    fn answer(&self, message: &Message, answer: Answer) -> Message {
        let Answer { written, read, waits } = answer;
        let mut payload = json!({ "written": written, "read": read });
        if !waits.is_empty() {
            payload["waits"] = waits.into();
        }
        let mut answer = Message::new(Arc::clone(&message.topic), payload);
        answer.meta = message.meta.clone();
        if self.sink.dry_run {
            answer.meta.insert("gpio", json!({ "dry_run": true }));
        }
        answer
    }
}

/// What was done so far.
#[derive(Default)]
struct Answer {
    written: Map<String, Value>,
    read: Map<String, Value>,
    /// For how many seconds what was asked for waits.
    waits: Map<String, Value>,
}

impl GpioSink {
    /// What a payload asks for, all of it checked.
    fn asked<'a>(&'a self, payload: &Value) -> anyhow::Result<Vec<Asked<'a>>> {
        let asked = |output: &'a Wanted, value: &Value| match order(value) {
            Ok(order) => Ok((output, order)),
            Err(wrong) => Err(anyhow!("`{}`: {wrong}", output.name)),
        };
        let Value::Object(values) = payload else {
            return match &self.outputs[..] {
                [only] => Ok(vec![asked(only, payload)?]),
                _ => bail!("expected a map from names of `lines` to levels, found {payload}"),
            };
        };
        if values.is_empty() {
            bail!("the message names no line");
        }
        let find = |name: &str| self.outputs.iter().find(|output| output.name == name);
        let each = values.iter().map(|(name, value)| {
            let output = find(name);
            let output = output
                .with_context(|| format!("`{name}` is not among the `lines` of this sink"))?;
            asked(output, value)
        });
        each.collect()
    }
}
