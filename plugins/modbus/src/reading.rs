//! What is read of a device, and what becomes of the registers of an answer. Pure.

use forebay_sdk::{Meta, Value};

use crate::{
    block::Block,
    deadband::Deadband,
    decode::{Form, decode, raw},
    link::Answer,
    plan::Merging,
    refine::Refine,
};

/// What is read of a device.
pub struct Reading {
    /// In the order in which the message has them.
    pub fields: Vec<Field>,
    pub merging: Merging,
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
    /// What is done to a number.
    pub refine: Refine,
    /// How far it must move to be sent. None: it is always sent.
    pub deadband: Option<Deadband>,
}

/// What came of one request: an answer, or why the device refused.
pub type Outcome = Result<Answer, String>;

impl Reading {
    /// What is wanted, in the order of the fields.
    pub fn blocks(&self) -> Vec<Block> {
        self.fields.iter().map(|field| field.block).collect()
    }
}

impl Field {
    /// The value of the field, or why there is none. `exponent` is its scale factor, if it has one.
    pub fn value(
        &self,
        request: Block,
        outcome: &Outcome,
        exponent: Option<i64>,
    ) -> Result<Value, String> {
        const MISSING: &str = "missing in the answer";
        let position = request.position_of(self.block);
        match (outcome.as_ref().map_err(Clone::clone)?, &self.form) {
            (Answer::Registers(registers), Some(form)) => {
                let registers = registers.get(position).ok_or(MISSING)?;
                match (decode(registers, form)?, form) {
                    (Value::Number(number), Form::Number { kind, order }) => {
                        self.refine.apply(&number, raw(registers, *kind, *order), exponent)
                    }
                    (value, _) => Ok(value),
                }
            }
            (Answer::Bits(bits), None) => {
                let bit = bits.get(position.start).ok_or(MISSING)?;
                Ok((*bit).into())
            }
            // A table answers with what it holds, so this is the answer to another question.
            _ => Err(MISSING.to_owned()),
        }
    }
}
