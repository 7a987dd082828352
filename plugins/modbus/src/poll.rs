//! The running source: at each beat it reads its registers and sends one message.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use forebay_sdk::{Message, Meta, Outlet, Source, Value};
use serde_json::Map;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    block::{Block, Plan},
    bus::{Answer, Bus, Failure},
    decode::decode,
    register::Field,
};

/// Reads the registers of one device, over and over.
pub struct Poll {
    /// None when the connection is something else.
    pub bus: Option<Arc<Bus>>,
    pub unit: u8,
    pub every: Duration,
    pub fields: Vec<Field>,
    /// The requests for the blocks of `fields`.
    pub plan: Plan,
    pub topic: Arc<str>,
    /// What every message starts with.
    pub meta: Meta,
}

/// What came of one request: an answer, or why the device refused.
type Outcome = Result<Answer, String>;

impl Poll {
    /// Asks for one block after the other, so that other nodes get their turn in between. Fails at
    /// the first block that gets no answer: the rest would only wait as long again.
    async fn poll(&self, bus: &Bus) -> anyhow::Result<Message> {
        let mut outcomes = Vec::with_capacity(self.plan.requests.len());
        for request in &self.plan.requests {
            let outcome = match bus.read(self.unit, *request).await {
                Ok(answer) => Ok(answer),
                Err(refusal @ Failure::Exception(_)) => Err(refusal.to_string()),
                Err(failure) => {
                    let (unit, place) = (self.unit, bus.place());
                    return Err(failure)
                        .with_context(|| format!("reading {request} of unit {unit} at {place}"));
                }
            };
            outcomes.push(outcome);
        }
        Ok(self.compose(&outcomes))
    }

    fn compose(&self, outcomes: &[Outcome]) -> Message {
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
        let mut message = Message::new(Arc::clone(&self.topic), Value::Object(values));
        message.meta = self.meta.clone();
        if !quality.is_empty() {
            message.meta.insert("quality", quality);
        }
        message
    }
}

/// The value of a field, or why there is none.
fn value(field: &Field, request: Block, outcome: &Outcome) -> Result<Value, String> {
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

impl Source for Poll {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let bus = self.bus.clone().context("using the connection: it is not a Modbus bus")?;
        let mut beat = interval(self.every);
        // A device that was slow once is not asked twice as fast to make up for it.
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            beat.tick().await;
            match self.poll(&bus).await {
                Ok(message) => {
                    out.ready();
                    out.send(message).await;
                }
                Err(error) => out.error(&error, None).await,
            }
        }
    }
}
