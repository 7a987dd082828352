//! The running source: at each beat it reads its registers of each of its devices, and sends a message
//! for each.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, anyhow, bail};
use forebay_sdk::{Beat, Figure, Message, Meta, Outlet, Period, Sent, Source, Value, Voice};
use futures_util::future::join;
use serde_json::Map;
use tokio::{task::yield_now, time::Instant};
use tokio_modbus::ExceptionCode;
use tracing::debug;

use crate::{
    address::looks_like_number,
    ask::Ask,
    block::Block,
    bus::SharedBus,
    known::Known,
    link::{Answer, Failure},
    plan::{Limits, Refused, Request, plan},
    reading::{Field, Outcome, Reading, meta},
    sunspec::{self, Model},
};

/// What came of a poll.
type Outcomes = Vec<(Request, Outcome)>;

/// What is still to be done in a poll.
enum Step {
    Ask(Request),
    /// Of one that the device refused, or does not answer.
    AskPart(Request),
    /// The parts of it were all answered: it is asked once more to learn whether it is not answered itself.
    Doubt(Request),
}

/// So many polls in a row that end with the same request, and its parts are asked in its place. A device that
/// is gone answers none of them, so nothing is learnt of it.
const MOST_SILENT: u32 = 3;
/// So many values are made of answers before it is somebody else's turn: about as long as a quick device takes to answer.
const VALUES_AT_ONCE: usize = 50;

/// Reads the registers of its devices, over and over.
pub struct Poll {
    /// None when the connection is something else.
    pub bus: Option<Arc<SharedBus>>,
    pub every: Period,
    pub devices: Vec<Device>,
    pub voice: Voice,
}

/// One of the devices.
pub struct Device {
    unit: u8,
    topic: Arc<str>,
    reading: Arc<Reading>,
    /// At their places in this device; in SunSpec models, once these were found.
    fields: Arc<[Field]>,
    /// What every message starts with.
    meta: Meta,
    /// The SunSpec models that the fields are in. None before they were found.
    models: Option<Vec<Model>>,
    is_one_of_several: bool,
    requests: Vec<Request>,
    limits: Arc<Limits>,
    /// What the device refuses.
    known: Known,
    /// How many polls in a row ended with a request.
    silent: BTreeMap<Block, u32>,
    /// Whether it refused something in the last poll.
    refuses: bool,
    /// Of each field with a deadband, what was sent last.
    sent: Vec<Option<Sent>>,
}

impl Source for Poll {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let bus = self.bus.clone().context("using the connection: it is not a Modbus bus")?;
        for device in &mut self.devices {
            device.known.load(bus.place()).await;
            device.plan(&bus);
        }
        // A device that was slow once is not asked twice as fast to make up for it.
        // All nodes of a bus beat together, so that what they read of a device can be read at once.
        let mut beat = Beat::since(bus.since(), *self.every);
        loop {
            let skipped = beat.next().await;
            self.voice.count(Figure::Overruns, skipped);
            let due = Instant::now();
            let mut polled = None;
            for device in &mut self.devices {
                let telling = async {
                    // The next device has its question first, and thinks meanwhile.
                    yield_now().await;
                    tell(polled.take(), due, out).await;
                };
                let (outcomes, ()) = join(device.poll(&bus, due, &self.voice), telling).await;
                polled = Some((device, outcomes));
            }
            tell(polled, due, out).await;
        }
    }
}

/// Tells what came of the poll of a device, if there was one.
async fn tell(polled: Option<(&mut Device, anyhow::Result<Outcomes>)>, due: Instant, out: &Outlet) {
    let Some((device, outcomes)) = polled else { return };
    match outcomes {
        Ok(outcomes) => {
            out.ready();
            if let Some(message) = device.compose(&outcomes, due).await {
                out.send(message).await;
            }
        }
        Err(error) => out.error(&error, None).await,
    }
}

impl Device {
    /// `data` is the folder of the node.
    pub fn new(unit: u8, topic: Arc<str>, reading: Arc<Reading>, data: &Path) -> Device {
        let fields = reading.of_unit(unit);
        let sent = vec![None; fields.len()];
        let known = Known::of(unit, data);
        Device {
            unit,
            topic,
            meta: meta(&fields),
            fields,
            models: None,
            is_one_of_several: false,
            requests: Vec::new(),
            limits: Arc::new(Limits::of(reading.merging)),
            reading,
            known,
            silent: BTreeMap::new(),
            refuses: false,
            sent,
        }
    }

    /// Its messages say which device it is.
    pub fn among_others(self) -> Device {
        Device { is_one_of_several: true, ..self }
    }

    fn plan(&mut self, bus: &SharedBus) {
        let limits =
            Limits { merging: self.reading.merging, refused: self.known.refused().to_vec() };
        let there = self.fields.iter().filter(|field| field.missing.is_none());
        let fields = there.map(|field| field.block);
        let heads = self.models.iter().flatten().map(|model| model.head());
        let blocks: Vec<Block> = fields.chain(heads).collect();
        self.requests = plan(&blocks, &limits, |block| bus.cost(block));
        self.silent.clear();
        self.limits = Arc::new(limits);
    }

    /// Finds the SunSpec models that the fields are in, unless they are known.
    async fn find_models(&mut self, bus: &SharedBus) -> anyhow::Result<()> {
        if self.models.is_some() || !self.reading.is_in_models() {
            return Ok(());
        }
        let all = sunspec::walk(bus, self.unit).await?;
        let (fields, used) = sunspec::place(&self.reading.of_unit(self.unit), &all);
        if let Some(why) = fields.first().and_then(|field| field.missing.as_deref())
            && fields.iter().all(|field| field.missing.is_some())
        {
            const MOST_LISTED: usize = 20;
            let numbers: Vec<u16> = all.iter().map(|m| m.number).take(MOST_LISTED).collect();
            let (unit, place) = (self.unit, bus.place());
            bail!("unit {unit} at {place}: {why}; its models are {numbers:?}");
        }
        self.sent = vec![None; fields.len()];
        self.meta = meta(&fields);
        self.fields = fields.into();
        self.models = Some(used);
        self.plan(bus);
        Ok(())
    }

    /// Whether a model no longer stands where it was found: another device answers, or the device was
    /// given another map. Then each value would be that of some other register.
    fn has_moved(&self, outcomes: &Outcomes) -> bool {
        let is_there = |model: &Model| {
            let head = [model.number, model.length];
            matches!(registers(model.head(), outcomes), Some(found) if found == head)
        };
        !self.models.iter().flatten().all(is_there)
    }

    /// Asks for one block after the other, so that other nodes get their turn in between; the next is in line
    /// before the last is answered, so that the bus never waits for us. Fails at the first block that gets no
    /// answer: the rest would only wait as long again.
    async fn poll(
        &mut self,
        bus: &SharedBus,
        due: Instant,
        voice: &Voice,
    ) -> anyhow::Result<Outcomes> {
        let unit = self.unit;
        self.find_models(bus).await?;
        let mut steps: VecDeque<Step> = self.requests.iter().cloned().map(Step::Ask).collect();
        let mut outcomes = Outcomes::new();
        let (mut splits, mut silent) = (Vec::new(), Vec::new());
        // The request of the first step, when it is in line already.
        let mut ahead = None;
        while let Some(step) = steps.pop_front() {
            let is_part = matches!(step, Step::AskPart(_));
            let request = match step {
                Step::Ask(request) | Step::AskPart(request) => request,
                Step::Doubt(request) => {
                    silent.extend(self.resolve(request, bus).await);
                    continue;
                }
            };
            if self.is_in_doubt(request.block)
                && let Some((parts, _)) = request.parts()
            {
                steps.push_front(Step::Doubt(request));
                parts.into_iter().rev().for_each(|part| steps.push_front(Step::AskPart(part)));
                continue;
            }
            let in_line = match ahead.take() {
                Some(in_line) => in_line,
                None => bus.line_up(unit, request.block, due, &self.limits).await,
            };
            // Not of parts, which would meet there and be asked together again.
            if let Some(Step::Ask(next)) = steps.front()
                && !is_part
                && !self.is_in_doubt(next.block)
            {
                ahead = Some(bus.line_up(unit, next.block, due, &self.limits).await);
            }
            let answer = match in_line {
                Ok(in_line) => bus.answer(in_line).await,
                Err(failure) => Err(failure),
            };
            match answer {
                Ok(answer) => {
                    self.silent.remove(&request.block);
                    outcomes.push((request, Ok(answer)));
                }
                // One register that is not there must not cost its neighbours.
                Err(Failure::Exception(
                    ExceptionCode::IllegalDataAddress | ExceptionCode::IllegalDataValue,
                )) if let Some((front, back, between)) = request.halves() => {
                    splits.push((request.block, between));
                    ahead = None;
                    steps.push_front(Step::AskPart(back));
                    steps.push_front(Step::AskPart(front));
                }
                Err(refusal @ Failure::Exception(_)) if !refusal.is_silence() => {
                    outcomes.push((request, Err(refusal.to_string())));
                }
                Err(failure) => {
                    let (block, place) = (request.block, bus.place());
                    if failure.is_silence() {
                        *self.silent.entry(block).or_default() += 1;
                    }
                    return Err(failure)
                        .with_context(|| format!("reading {block} of unit {unit} at {place}"));
                }
            }
        }
        if self.has_moved(&outcomes) {
            self.models = None;
            let place = bus.place();
            bail!(
                "the SunSpec models of unit {unit} at {place} are no longer where they were; they are looked for at the next poll"
            );
        }
        if !splits.is_empty() || !silent.is_empty() {
            self.learn(&splits, silent, &outcomes, bus).await;
        }
        self.tell_refused(&outcomes, voice);
        Ok(outcomes)
    }

    fn is_in_doubt(&self, block: Block) -> bool {
        self.silent.get(&block).is_some_and(|times| *times >= MOST_SILENT)
    }

    /// What stands between the parts of a request that the device does not answer, while it answers them.
    async fn resolve(&mut self, request: Request, bus: &SharedBus) -> Vec<Refused> {
        let (unit, block) = (self.unit, request.block);
        match bus.ask(unit, Ask::Read(block)).await {
            Ok(_) => {
                self.silent.remove(&block);
            }
            Err(failure) if failure.is_silence() => {
                debug!(unit, %block, "no answer, but to its parts; they are asked apart from now on");
                return request.parts().map(|(_, between)| between).unwrap_or_default();
            }
            Err(_) => (),
        }
        Vec::new()
    }

    /// Tells which registers the device refuses, and which it does not any more. Those of one request
    /// are refused together.
    fn tell_refused(&mut self, outcomes: &Outcomes, voice: &Voice) {
        let refuses = outcomes.iter().any(|(_, outcome)| outcome.is_err());
        let refused = std::mem::replace(&mut self.refuses, refuses);
        if !refuses && !refused {
            return;
        }
        for (request, outcome) in outcomes {
            let fields = self.fields.iter();
            let mut names = fields
                .filter(|field| field.missing.is_none() && request.wanted.contains(&field.block))
                .map(|field| &field.name);
            let Some(first) = names.next() else { continue };
            let mut what = match names.count() {
                0 => format!("register `{first}`"),
                more => format!("register `{first}` and {more} more"),
            };
            if self.is_one_of_several {
                what += &format!(" of unit {}", self.unit);
            }
            match outcome {
                Ok(_) => voice.trouble_is_over(&what),
                Err(why) => {
                    let (unit, hint) = (self.unit, hint(request.block));
                    let why = anyhow!("unit {unit} refuses it, so it is null: {why}{hint}");
                    voice.trouble_lasts(&what, &why);
                }
            }
        }
    }

    /// What refused requests teach: the registers that are refused alone, or else what stands between
    /// two parts that were both answered. `silent` is what no request without an answer may hold again.
    async fn learn(
        &mut self,
        splits: &[(Block, Refused)],
        silent: Vec<Refused>,
        outcomes: &Outcomes,
        bus: &SharedBus,
    ) {
        let alone: Vec<Refused> = outcomes
            .iter()
            .filter(|(_, outcome)| outcome.is_err())
            .map(|(request, _)| Refused::of(request.block))
            .collect();
        let is_explained = |whole: Block| alone.iter().any(|refused| refused.is_in(whole));
        let between = splits.iter().filter(|(whole, _)| !is_explained(*whole));
        let between: Vec<Refused> = between.map(|(_, between)| *between).collect();
        self.known.add(alone.into_iter().chain(between).chain(silent));
        self.known.save(bus.place()).await;
        self.plan(bus);
    }

    /// The message of a poll. None when no value has moved.
    async fn compose(&mut self, outcomes: &Outcomes, now: Instant) -> Option<Message> {
        let fields = Arc::clone(&self.fields);
        let mut values = Map::with_capacity(fields.len());
        let mut quality = Map::new();
        for (index, field) in fields.iter().enumerate().filter(|(_, field)| !field.is_hidden) {
            if index % VALUES_AT_ONCE == VALUES_AT_ONCE - 1 {
                yield_now().await;
            }
            let value = self.value(index, outcomes).unwrap_or_else(|reason| {
                quality.insert(field.name.clone(), reason.into());
                Value::Null
            });
            let sent = &mut self.sent[index];
            if field.deadband.is_none_or(|sending| sending.lets_through(sent, &value, now)) {
                values.insert(field.name.clone(), value);
            } else {
                quality.remove(&field.name);
            }
        }
        if values.is_empty() {
            return None;
        }
        let mut message = Message::new(Arc::clone(&self.topic), Value::Object(values));
        message.meta = self.meta.clone();
        if self.is_one_of_several {
            message.meta.insert("unit", self.unit);
        }
        if !quality.is_empty() {
            message.meta.insert("quality", quality);
        }
        Some(message)
    }

    /// The value of a field, or why there is none.
    fn value(&self, index: usize, outcomes: &Outcomes) -> Result<Value, String> {
        let field = &self.fields[index];
        let exponent = match &field.refine.scale_by {
            None => None,
            Some(name) => Some(self.exponent(name, outcomes)?),
        };
        value_in(field, outcomes, exponent)
    }

    fn exponent(&self, name: &str, outcomes: &Outcomes) -> Result<i64, String> {
        let field = self.fields.iter().find(|field| field.name == name);
        let value = field.and_then(|field| value_in(field, outcomes, None).ok());
        let exponent = value.and_then(|value| value.as_i64());
        exponent.ok_or_else(|| format!("its scale factor `{name}` is not known"))
    }
}

/// What may be wrong with an address that is refused.
fn hint(block: Block) -> String {
    match block.start {
        start if looks_like_number(block.table, start) => {
            format!("; should {start} be a number of the manual, write `register: {start}`")
        }
        _ => String::new(),
    }
}

fn value_in(field: &Field, outcomes: &Outcomes, exponent: Option<i64>) -> Result<Value, String> {
    if let Some(why) = &field.missing {
        return Err(why.to_string());
    }
    let (request, outcome) = outcome_of(field.block, outcomes).ok_or("was not asked for")?;
    field.value(request.block, outcome, exponent)
}

/// What came of the request for a block. They are in the order of their blocks, halves and all.
fn outcome_of(block: Block, outcomes: &Outcomes) -> Option<&(Request, Outcome)> {
    outcomes.get(outcomes.partition_point(|(request, _)| request.wanted.last() < Some(&block)))
}

fn registers(block: Block, outcomes: &Outcomes) -> Option<&[u16]> {
    match outcome_of(block, outcomes)? {
        (request, Ok(Answer::Registers(all))) => all.get(request.block.position_of(block)),
        _ => None,
    }
}
