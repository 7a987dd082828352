//! What is read of a device, and what becomes of the registers of an answer. Pure.

use std::sync::Arc;

use forebay_sdk::{Inventory, Meta, Sending, Value};
use serde_json::Map;

use crate::{
    address::in_manuals,
    block::Block,
    decode::{Form, bits, decode, raw},
    link::Answer,
    plan::Merging,
    refine::{Refine, absent},
};

/// What is read of a device.
pub struct Reading {
    /// In the order in which the message has them.
    pub fields: Arc<[Field]>,
    pub merging: Merging,
}

/// A value of the message, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// `{unit}` in it stands for the address of the device.
    pub name: String,
    /// In a SunSpec model, its address counts from the beginning of that.
    pub block: Block,
    /// The SunSpec models of which the device has one.
    pub models: Option<Arc<[u16]>>,
    /// Why the device does not have it, once that is known.
    pub missing: Option<Arc<str>>,
    /// Whether it is only there for others.
    pub is_hidden: bool,
    /// What the number counts, such as `kWh`.
    pub unit: Option<Arc<str>>,
    /// None for a coil or a discrete input, which is a value as it comes.
    pub form: Option<Form>,
    /// What is done to a number.
    pub refine: Refine,
    /// How far it must move to be sent. None: it is always sent.
    pub deadband: Option<Sending>,
}

/// Where the values stand in the device, for `forebay nodes`.
pub fn inventory<'a>(fields: impl Iterator<Item = &'a Field>) -> Inventory {
    let row = |field: &Field| {
        let Block { table, start, .. } = field.block;
        let (wire, number) = match &field.models {
            Some(models) => {
                let models = models.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
                (format!("{start} in SunSpec model {models}"), String::new())
            }
            None => (format!("{start} (0x{start:04X})"), in_manuals(table, start)),
        };
        let place = match field.block.count {
            0 | 1 => table.noun().to_owned(),
            count => format!("{count} {}s", table.noun()),
        };
        vec![
            field.name.clone(),
            place,
            wire,
            number,
            field.unit.as_deref().unwrap_or_default().to_owned(),
        ]
    };
    let heads = vec!["value", "where", "wire address", "in manuals", "unit"];
    Inventory { heads, rows: fields.map(row).collect() }
}

/// What came of one request: an answer, or why the device refused.
pub type Outcome = Result<Answer, String>;

/// What stands for the unit in a topic and in names.
pub const UNIT: &str = "{unit}";

/// A name or a topic, as that of one unit.
pub fn name_of_unit(text: &str, unit: u8) -> String {
    text.replace(UNIT, &unit.to_string())
}

impl Reading {
    /// The fields of one of several devices.
    pub fn of_unit(&self, unit: u8) -> Arc<[Field]> {
        if !self.fields.iter().any(|field| field.name.contains(UNIT)) {
            return Arc::clone(&self.fields);
        }
        let of_unit = |text: &str| name_of_unit(text, unit);
        let named = |field: &Field| {
            let mut field = Field { name: of_unit(&field.name), ..field.clone() };
            field.refine.scale_by = field.refine.scale_by.as_deref().map(of_unit);
            field
        };
        self.fields.iter().map(named).collect()
    }

    /// Whether the place of some field is known only once the device was asked.
    pub fn is_in_models(&self) -> bool {
        self.fields.iter().any(|field| field.models.is_some())
    }
}

/// What every message of these fields starts with.
pub fn meta(fields: &[Field]) -> Meta {
    let units: Map<String, Value> = fields
        .iter()
        .filter(|field| !field.is_hidden)
        .filter_map(|field| Some((field.name.clone(), field.unit.as_deref()?.into())))
        .collect();
    let mut meta = Meta::default();
    if !units.is_empty() {
        meta.insert("units", units);
    }
    meta
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
                    (_, Form::Flags { order, .. })
                        if self.refine.is_absent(bits(registers, *order)) =>
                    {
                        Err(absent(bits(registers, *order)))
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
