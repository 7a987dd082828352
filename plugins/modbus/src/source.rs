//! The running source: at each beat it reads its registers and sends one message.

use std::{any::Any, collections::BTreeSet, sync::Arc};

use anyhow::{Context, anyhow};
use forebay_sdk::{
    Beat, Configured, Fields, Figure, Message, Meta, Node, Outlet, Period, Problem, Sends, Site,
    Source, Value, Voice,
};
use serde_json::Map;
use tokio::time::Instant;
use tokio_modbus::ExceptionCode;

use crate::{
    ask::Ask,
    block::{Block, Merging, Plan, plan},
    bus::{Bus, SharedBus},
    decode::{Form, decode},
    link::{Answer, Failure},
};

/// A source that was understood.
pub struct ModbusSource {
    pub every: Period,
    /// None for the name of the node.
    pub topic: Option<Arc<str>>,
    /// All that its messages name; also of registers that cannot be read.
    pub names: BTreeSet<String>,
    pub merging: Merging,
    pub reading: Arc<Reading>,
}

/// What is read, and by which requests.
pub struct Reading {
    pub unit: u8,
    /// In the order in which the message has them.
    pub fields: Vec<Field>,
    /// The requests for the blocks of `fields`.
    pub plan: Plan,
    /// What every message starts with.
    pub meta: Meta,
}

/// A value of the message, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub block: Block,
    /// None for a coil or a discrete input, which is a value as it comes.
    pub form: Option<Form>,
}

impl Configured for ModbusSource {
    fn build(&self, site: Site) -> Node {
        Node::source(Poll {
            bus: site.connection(),
            every: self.every,
            topic: self.topic.clone().unwrap_or(site.name),
            reading: Arc::clone(&self.reading),
            voice: site.voice,
        })
    }

    fn fields(&self) -> Fields {
        Fields { reads: Vec::new(), sends: Sends::Only(self.names.clone()) }
    }

    fn check_on(&self, connection: &dyn Any) -> Vec<Problem> {
        unit_on_line(self.reading.unit, connection)
    }
}

/// What is wrong with a unit, should the connection be or lead to a serial line.
pub fn unit_on_line(unit: u8, connection: &dyn Any) -> Vec<Problem> {
    let bus = connection.downcast_ref::<Bus>();
    if bus.is_none_or(|bus| bus.line.is_none()) || (1..=247).contains(&unit) {
        return Vec::new();
    }
    let message = format!("no device on a serial line answers as unit {unit}");
    let label = format!("expected 1 to 247, found {unit}");
    vec![Problem::new("unit", message, label)]
}

/// Reads the registers of one device, over and over.
struct Poll {
    /// None when the connection is something else.
    bus: Option<Arc<SharedBus>>,
    every: Period,
    topic: Arc<str>,
    reading: Arc<Reading>,
    voice: Voice,
}

impl Source for Poll {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let bus = self.bus.clone().context("using the connection: it is not a Modbus bus")?;
        // A device that was slow once is not asked twice as fast to make up for it.
        let mut beat = Beat::every(*self.every);
        loop {
            let skipped = beat.next().await;
            self.voice.count(Figure::Overruns, skipped);
            match self.poll(&bus, Instant::now()).await {
                Ok(message) => {
                    out.ready();
                    out.send(message).await;
                }
                Err(error) => out.error(&error, None).await,
            }
        }
    }
}

impl Poll {
    /// Asks for one block after the other, so that other nodes get their turn in between. Fails at
    /// the first block that gets no answer: the rest would only wait as long again.
    async fn poll(&self, bus: &SharedBus, due: Instant) -> anyhow::Result<Message> {
        let Reading { unit, plan, .. } = &*self.reading;
        let mut outcomes = Vec::with_capacity(plan.requests.len());
        for request in &plan.requests {
            let outcome = match bus.ask(*unit, Ask::Read(*request), due).await {
                Ok(answer) => Ok(answer),
                Err(refusal @ Failure::Exception(code)) if !is_silence(code) => {
                    Err(refusal.to_string())
                }
                Err(failure) => {
                    let place = bus.place();
                    return Err(failure)
                        .with_context(|| format!("reading {request} of unit {unit} at {place}"));
                }
            };
            outcomes.push(outcome);
        }
        self.tell_refused(&outcomes);
        Ok(self.reading.compose(&self.topic, &outcomes))
    }
}

/// Whether a gateway says that the device behind it does not answer (MODBUS Application Protocol
/// V1.1b3, section 7).
fn is_silence(code: ExceptionCode) -> bool {
    matches!(code, ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice)
}

impl Poll {
    /// Tells which registers the device refuses, and which it does not any more. Those of one request
    /// are refused together.
    fn tell_refused(&self, outcomes: &[Outcome]) {
        let Reading { unit, fields, plan, .. } = &*self.reading;
        for (index, outcome) in outcomes.iter().enumerate() {
            let asked = fields.iter().zip(&plan.request_of);
            let mut names = asked.filter(|(_, of)| **of == index).map(|(field, _)| &field.name);
            let Some(first) = names.next() else { continue };
            let what = match names.count() {
                0 => format!("register `{first}`"),
                more => format!("register `{first}` and {more} more"),
            };
            match outcome {
                Ok(_) => self.voice.trouble_is_over(&what),
                Err(why) => {
                    let why = anyhow!("unit {unit} refuses it, so it is null: {why}");
                    self.voice.trouble_lasts(&what, &why);
                }
            }
        }
    }
}

/// What came of one request: an answer, or why the device refused.
pub type Outcome = Result<Answer, String>;

impl Reading {
    /// Plans the requests.
    pub fn new(unit: u8, fields: Vec<Field>, merging: Merging, meta: Meta) -> Reading {
        let plan = requests(&fields, merging);
        Reading { unit, fields, plan, meta }
    }

    /// The plan, if other merging were allowed.
    pub fn plan_by(&self, merging: Merging) -> Plan {
        requests(&self.fields, merging)
    }

    fn compose(&self, topic: &Arc<str>, outcomes: &[Outcome]) -> Message {
        let mut values = Map::with_capacity(self.fields.len());
        let mut quality = Map::new();
        for (field, request) in self.fields.iter().zip(&self.plan.request_of) {
            let request_block = self.plan.requests[*request];
            let value = value(field, request_block, &outcomes[*request]).unwrap_or_else(|reason| {
                quality.insert(field.name.clone(), reason.into());
                Value::Null
            });
            values.insert(field.name.clone(), value);
        }
        let mut message = Message::new(Arc::clone(topic), Value::Object(values));
        message.meta = self.meta.clone();
        if !quality.is_empty() {
            message.meta.insert("quality", quality);
        }
        message
    }
}

fn requests(fields: &[Field], merging: Merging) -> Plan {
    let wanted: Vec<Block> = fields.iter().map(|field| field.block).collect();
    plan(&wanted, merging)
}

/// The value of a field, or why there is none.
pub fn value(field: &Field, request: Block, outcome: &Outcome) -> Result<Value, String> {
    let position = request.position_of(field.block);
    match (outcome.as_ref().map_err(Clone::clone)?, field.form) {
        (Answer::Registers(registers), Some(form)) => {
            let registers = registers.get(position).ok_or("missing in the answer")?;
            decode(registers, form)
        }
        (Answer::Bits(bits), None) => {
            let bit = bits.get(position.start).ok_or("missing in the answer")?;
            Ok((*bit).into())
        }
        // A table answers with what it holds, so this is the answer to another question.
        _ => Err("missing in the answer".to_owned()),
    }
}
