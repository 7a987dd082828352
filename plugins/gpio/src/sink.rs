//! The running sink: it switches what a message says, and answers what it did.
//!
//! All of a message is checked before any of it is switched.

use std::{any::Any, sync::Arc};

use anyhow::{Context, anyhow, bail};
use forebay_sdk::{
    Capabilities, Claim, Configured, Emitter, Inventory, Message, Node, Port, Problem, Sink, Site,
    Value, WriteError, Written,
    connection::Down,
    orders::{ANSWERS, Bounds, Pace},
    panel::{Panel, SharedPanel},
    world::gpio::Drive,
};
use serde_json::{Map, json};
use tracing::info;

use crate::{
    chip::{Chip, ChipSettings},
    level::{Order, order},
    line::{claim, needs_name},
    output::Rules,
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
        let panel = site.connection();
        let (sink, pace) = (self.clone(), Pace::default());
        Node::sink(Switching { chip, panel, name: site.name, sink, pace })
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

    fn check_on(&self, connection: &dyn Any) -> Vec<Problem> {
        if connection.is::<ChipSettings>() {
            return Vec::new();
        }
        let lines = self.outputs.iter().enumerate();
        lines
            .flat_map(|(at, output)| {
                needs_name(&output.line, at).into_iter().chain(needs_chip(output, at))
            })
            .collect()
    }

    fn switches(&self) -> bool {
        true
    }

    fn claims_on(&self, connection: &dyn Any) -> Vec<Claim> {
        let Some(chip) = connection.downcast_ref::<ChipSettings>() else { return Vec::new() };
        let lines = self.outputs.iter().enumerate();
        lines.map(|(at, output)| claim(&chip.chip, &output.line, at)).collect()
    }
}

/// What only this program can do that holds the line itself, and not a router that is asked.
fn needs_chip(output: &Wanted, at: usize) -> Option<Problem> {
    let Rules { safe, safe_after, pulse, min_on, min_off } = &output.rules;
    let given = [
        ("safe", safe.is_some()),
        ("safe_after", safe_after.is_some()),
        ("pulse", pulse.is_some()),
        ("min_on", !min_on.is_zero()),
        ("min_off", !min_off.is_zero()),
        ("bias", output.hardware.bias.is_some()),
        ("drive", output.hardware.drive != Drive::PushPull),
        ("initial", output.initial != Some(false)),
    ];
    let (setting, _) = given.iter().find(|(_, is_given)| *is_given)?;
    let message = format!("output `{}` of a router has no `{setting}`", output.name);
    let label = "only lines of a chip have one";
    Some(Problem::new(format!("lines[{at}].{setting}"), message, label))
}

struct Switching {
    /// None when the connection is something else.
    chip: Option<Arc<Chip>>,
    panel: Option<Arc<SharedPanel>>,
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
        if self.sink.dry_run {
            return Ok(());
        }
        if let Some(panel) = &self.panel {
            return panel.0.ready().await;
        }
        let chip = self.chip()?;
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
            self.carry_out(message, out).await?;
        }
        Ok(Written::default())
    }
}

impl Switching {
    fn chip(&self) -> anyhow::Result<&Arc<Chip>> {
        self.chip.as_ref().context("using the connection: it is no GPIO chip")
    }

    async fn carry_out(&mut self, message: &Message, out: &mut Emitter) -> Result<(), WriteError> {
        self.sink.bounds.check_age(message).map_err(WriteError::reject)?;
        let payload = message.payload.value().map_err(|error| WriteError::reject(error.clone()))?;
        let asked = self.sink.asked(payload).map_err(WriteError::reject)?;
        self.sink.bounds.wait_for_turn(&mut self.pace)?;
        let mut answer = Answer::default();
        for (output, order) in &asked {
            match &self.panel {
                Some(panel) => {
                    let asked = self.ask(&*panel.0, output, *order, &mut answer).await;
                    asked.map_err(|error| answer.not_again(error))?;
                }
                None => {
                    let done = self.do_one(output, *order, &mut answer);
                    done.map_err(|failed| self.in_words(failed, output, &answer))?;
                }
            }
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
            agrees(level, found).map_err(Failed::Refused)?;
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

    /// Has a router do it.
    async fn ask(
        &self,
        panel: &dyn Panel,
        output: &Wanted,
        order: Order,
        answer: &mut Answer,
    ) -> Result<(), WriteError> {
        let (name, active_low) = (output.line.to_name(), output.hardware.active_low);
        let level = match order {
            Order::Set(level) => level,
            Order::Toggle | Order::Ask if self.sink.dry_run => return Ok(()),
            Order::Toggle => !found(panel, &name, active_low).await?,
            Order::Ask => {
                let level = found(panel, &name, active_low).await?;
                answer.read.insert(output.name.clone(), level.into());
                return Ok(());
            }
        };
        if !self.sink.dry_run {
            panel.set(&name, level != active_low).await?;
        }
        answer.written.insert(output.name.clone(), level.into());
        if self.sink.verify && !self.sink.dry_run {
            let found = found(panel, &name, active_low).await?;
            answer.read.insert(output.name.clone(), found.into());
            let what = format!("output `{}`", output.name);
            agrees(level, found).map_err(|error| WriteError::reject(error.context(what)))?;
        }
        Ok(())
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

/// The level of an output that a router has.
async fn found(panel: &dyn Panel, name: &str, active_low: bool) -> Result<bool, WriteError> {
    let levels = panel.levels().await?;
    match levels.get(name) {
        Some(level) => Ok(*level != active_low),
        None => Err(WriteError::reject(anyhow!("the router has no `{name}`"))),
    }
}

/// What was switched is what the line has.
fn agrees(level: bool, found: bool) -> anyhow::Result<()> {
    if found != level {
        bail!("switched it {}, and the line is {}", word(level), word(found));
    }
    Ok(())
}

/// What was done so far.
#[derive(Default)]
struct Answer {
    written: Map<String, Value>,
    read: Map<String, Value>,
    /// For how many seconds what was asked for waits.
    waits: Map<String, Value>,
}

impl Answer {
    /// Some of the message was done, so it must not come again.
    fn not_again(&self, error: WriteError) -> WriteError {
        match error {
            WriteError::Retry { error, .. } if !self.written.is_empty() => {
                WriteError::InDoubt(error)
            }
            error => error,
        }
    }
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
