//! Finds the models of a SunSpec device. Its map begins at one of three addresses with `SunS`; behind
//! that stand models, each with its number, its length and so many registers, until one is numbered
//! 0xFFFF (SunSpec Device Information Model Specification, section 6).

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};

use crate::{
    ask::Ask,
    block::{Block, Table},
    bus::SharedBus,
    link::{Answer, Failure},
    reading::Field,
};

/// Where a map may begin.
const BEGINS: [u16; 3] = [40_000, 50_000, 0];
/// `SunS`
const MARK: [u16; 2] = [0x5375, 0x6E53];
const END: u16 = 0xFFFF;
/// The number and the length of a model.
const HEAD: u16 = 2;
/// More than any device has.
const MOST_MODELS: usize = 100;

/// A model of a device: its number, where that stands, and how many registers follow the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    pub number: u16,
    pub start: u16,
    pub length: u16,
}

impl Model {
    /// The registers that hold its number and its length.
    pub fn head(self) -> Block {
        Block { table: Table::Holding, start: self.start, count: HEAD }
    }

    fn end(self) -> u32 {
        u32::from(self.start) + u32::from(HEAD) + u32::from(self.length)
    }
}

/// Reads the heads of all models.
pub async fn walk(bus: &SharedBus, unit: u8) -> anyhow::Result<Vec<Model>> {
    let reader = Reader { bus, unit };
    for begin in BEGINS {
        if reader.pair(begin).await? == Some(MARK) {
            return reader.models(begin + HEAD).await;
        }
    }
    let place = bus.place();
    bail!(
        "looking for the SunSpec map of unit {unit} at {place}: none of 40000, 50000 and 0 begins with `SunS`"
    )
}

struct Reader<'a> {
    bus: &'a SharedBus,
    unit: u8,
}

impl Reader<'_> {
    async fn models(&self, begin: u16) -> anyhow::Result<Vec<Model>> {
        let (mut models, mut at) = (Vec::new(), u32::from(begin));
        while let Ok(start) = u16::try_from(at) {
            // Some devices refuse what stands behind the last model, and have no end.
            let Some([number, length]) = self.pair(start).await? else { break };
            if number == END || models.len() == MOST_MODELS {
                break;
            }
            let model = Model { number, start, length };
            at = model.end();
            models.push(model);
        }
        Ok(models)
    }

    /// Two registers. None when the device refuses them.
    async fn pair(&self, start: u16) -> anyhow::Result<Option<[u16; 2]>> {
        if start == u16::MAX {
            return Ok(None);
        }
        let (unit, place) = (self.unit, self.bus.place());
        let block = Block { table: Table::Holding, start, count: 2 };
        match self.bus.ask(unit, Ask::Read(block)).await {
            Ok(Answer::Registers(registers)) => Ok(registers.try_into().ok()),
            Ok(_) | Err(Failure::Exception(_)) => Ok(None),
            Err(failure) => Err(anyhow!(failure))
                .with_context(|| format!("reading {block} of unit {unit} at {place}")),
        }
    }
}

/// The fields at their places in a device, and the models that they are in. Of several fields with one name, the
/// one that the device has. What it does not have says why.
pub fn place(fields: &[Field], models: &[Model]) -> (Vec<Field>, Vec<Model>) {
    let (mut placed, mut used): (Vec<Field>, Vec<Model>) = (Vec::new(), Vec::new());
    for field in fields {
        let (field, model) = place_one(field, models);
        match placed.iter_mut().find(|other| other.name == field.name) {
            None => placed.push(field),
            Some(other) if other.missing.is_some() && field.missing.is_none() => *other = field,
            Some(_) => continue,
        }
        used.extend(model.filter(|model| !used.contains(model)));
    }
    (placed, used)
}

fn place_one(field: &Field, models: &[Model]) -> (Field, Option<Model>) {
    let mut field = field.clone();
    let Some(wanted) = &field.models else { return (field, None) };
    let Some(model) = models.iter().find(|model| wanted.contains(&model.number)) else {
        let why = format!("the device has no SunSpec model {}", listed(wanted));
        field.missing = Some(why.into());
        return (field, None);
    };
    let start = u32::from(model.start) + u32::from(field.block.start);
    let end = start + u32::from(field.block.count);
    match u16::try_from(start) {
        // Behind its end another one begins.
        Ok(start) if end <= model.end() => field.block.start = start,
        _ => {
            let Model { number, length, .. } = model;
            let why = format!("its SunSpec model {number} has no more than {length} registers");
            field.missing = Some(why.into());
            return (field, None);
        }
    }
    (field, Some(*model))
}

/// `101, 102 or 103`
fn listed(models: &[u16]) -> String {
    let words: Vec<String> = models.iter().map(u16::to_string).collect();
    match words.split_last() {
        Some((last, front)) if !front.is_empty() => format!("{} or {last}", front.join(", ")),
        _ => words.concat(),
    }
}

/// The registers of a map of these models, in which nothing stands yet, and where it begins.
pub fn map(models: &[Model]) -> (u16, Vec<u16>) {
    let mut map = MARK.to_vec();
    for Model { number, length, .. } in models {
        map.extend([*number, *length]);
        map.resize(map.len() + usize::from(*length), 0);
    }
    map.extend([END, 0]);
    (BEGINS[0], map)
}

/// The fields as if each model began at an address of its own, and these models: for who has no device.
pub fn assume(fields: &[Field]) -> (Vec<Field>, Vec<Model>) {
    /// As many registers as an assumed model and its head have.
    const APART: u16 = 200;
    let mut known: Vec<&Arc<[u16]>> = Vec::new();
    let mut models: Vec<Model> = Vec::new();
    let mut assumed: Vec<Field> = Vec::new();
    for field in fields {
        if assumed.iter().any(|other| other.name == field.name) {
            continue;
        }
        let mut placed = field.clone();
        if let Some(wanted) = &field.models {
            let at = known.iter().position(|other| *other == wanted).unwrap_or_else(|| {
                let start = BEGINS[0] + HEAD + (known.len() as u16).saturating_mul(APART);
                models.push(Model { number: wanted[0], start, length: APART - HEAD });
                known.push(wanted);
                known.len() - 1
            });
            placed.block.start = field.block.start.saturating_add(models[at].start);
        }
        assumed.push(placed);
    }
    (assumed, models)
}
