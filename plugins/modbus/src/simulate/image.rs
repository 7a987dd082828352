//! What a simulated device holds: registers that stand still and remember what is written to them, and
//! values that move. Pure: it is told the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    f64::consts::TAU,
    sync::Arc,
    time::Duration,
};

use forebay_sdk::Value;

use crate::{
    block::{Block, Table},
    decode::{Form, Sort},
    encode::{Encoded, encode, truth},
    reading::Field,
};

/// One device.
#[derive(Clone, Default)]
pub struct Image {
    /// Registers, and coils as 0 and 1.
    values: BTreeMap<(Table, u16), u16>,
    /// What can be written.
    writable: BTreeSet<(Table, u16)>,
    moving: Vec<(Field, Motion)>,
    /// Who made it, what it is, and its version (function 43, conformity level "basic").
    pub identity: Option<[String; 3]>,
}

/// How a value moves.
#[derive(Clone)]
pub enum Motion {
    /// Around `mean`, once in each `period`; begins `shift` of it later.
    Sine { mean: f64, amplitude: f64, period: Duration, shift: f64 },
    /// From one end to the other, and then begins again.
    Ramp { from: f64, to: f64, period: Duration },
    /// Another one each time, always the same for a seed.
    Random { from: f64, to: f64, every: Duration, seed: u64 },
    /// Only grows.
    Counter { from: f64, per_second: f64 },
    /// As a function says.
    Computed(Arc<dyn Fn(Duration) -> f64 + Send + Sync>),
}

/// Why a device does not do what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Function = 1,
    Address = 2,
    Value = 3,
}

impl Motion {
    /// Its value when so much time has passed.
    pub fn at(&self, elapsed: Duration) -> f64 {
        // A part of the period, from 0 to 1.
        let turn = |period: Duration| (elapsed.as_secs_f64() / period.as_secs_f64()).fract();
        match self {
            Motion::Sine { mean, amplitude, period, shift } => {
                mean + amplitude * (TAU * (turn(*period) + shift)).sin()
            }
            Motion::Ramp { from, to, period } => from + (to - from) * turn(*period),
            Motion::Random { from, to, every, seed } => {
                let step = elapsed.as_nanos() / every.as_nanos().max(1);
                let mut random = fastrand::Rng::with_seed(seed ^ (step as u64).rotate_left(32));
                from + (to - from) * random.f64()
            }
            Motion::Counter { from, per_second } => from + per_second * elapsed.as_secs_f64(),
            Motion::Computed(value) => value(elapsed),
        }
    }
}

impl Image {
    /// Puts registers, or coils as 0 and 1, one behind the other. They can be written where the table
    /// allows it.
    pub fn put(&mut self, table: Table, start: u16, values: &[u16]) {
        for (address, value) in (start..=u16::MAX).zip(values) {
            self.values.insert((table, address), *value);
            if table.is_writable() {
                self.writable.insert((table, address));
            }
        }
    }

    /// Puts a value. Says what would be right when its registers cannot hold it.
    pub fn put_value(&mut self, field: &Field, value: &Value) -> Result<(), String> {
        let Block { table, start, count } = field.block;
        let registers = self.registers_of(field, value)?;
        debug_assert_eq!(registers.len(), usize::from(count));
        self.put(table, start, &registers);
        Ok(())
    }

    /// Puts a value that moves. It cannot be written. Fails as [`Image::put_value`] does, of its first
    /// value.
    pub fn put_moving(&mut self, field: &Field, motion: Motion) -> Result<(), String> {
        let first = reading(field, motion.at(Duration::ZERO));
        self.put_value(field, &first)?;
        let Block { table, start, count } = field.block;
        for address in (start..=u16::MAX).take(count.into()) {
            self.writable.remove(&(table, address));
        }
        self.moving.push((field.clone(), motion));
        Ok(())
    }

    /// What moved there stands still.
    pub fn still(&mut self, block: Block) {
        self.moving.retain(|(field, _)| field.block != block);
    }

    /// From now on nothing of it can be written.
    pub fn lock(&mut self) {
        self.writable.clear();
    }

    /// Whether there is a place in the table.
    pub fn has(&self, block: Block) -> bool {
        self.addresses(block).is_some_and(|mut all| all.all(|at| self.values.contains_key(&at)))
    }

    /// What stands there when so much time has passed.
    pub fn read(&mut self, block: Block, elapsed: Duration) -> Result<Vec<u16>, Refusal> {
        for index in 0..self.moving.len() {
            let (field, motion) = &self.moving[index];
            if field.block.overlaps(block) {
                let value = reading(field, motion.at(elapsed));
                // What its registers cannot hold any more stays as it was.
                if let Ok(registers) = self.registers_of(field, &value) {
                    let Block { table, start, .. } = field.block;
                    for (address, register) in (start..=u16::MAX).zip(registers) {
                        self.values.insert((table, address), register);
                    }
                }
            }
        }
        self.knows(block.table)?;
        let addresses = self.addresses(block).ok_or(Refusal::Address)?;
        let values = addresses.map(|at| self.values.get(&at).copied());
        values.collect::<Option<Vec<u16>>>().ok_or(Refusal::Address)
    }

    /// Changes what stands there: all of it, or nothing.
    pub fn write(&mut self, table: Table, start: u16, values: &[u16]) -> Result<(), Refusal> {
        self.knows(table)?;
        let count = u16::try_from(values.len()).map_err(|_| Refusal::Value)?;
        let block = Block { table, start, count };
        let mut addresses = self.addresses(block).ok_or(Refusal::Address)?;
        if !addresses.all(|at| self.writable.contains(&at)) {
            return Err(Refusal::Address);
        }
        self.put(table, start, values);
        Ok(())
    }

    /// A device without a table does not know the functions for it.
    fn knows(&self, table: Table) -> Result<(), Refusal> {
        let mut range = self.values.range((table, 0)..=(table, u16::MAX));
        range.next().map(drop).ok_or(Refusal::Function)
    }

    /// None beyond the last address.
    fn addresses(&self, block: Block) -> Option<impl Iterator<Item = (Table, u16)> + use<>> {
        let all = (block.start..=u16::MAX).take(block.count.into());
        (block.end() <= 0x1_0000).then(|| all.map(move |address| (block.table, address)))
    }

    fn registers_of(&self, field: &Field, value: &Value) -> Result<Vec<u16>, String> {
        let Block { table, start, count } = field.block;
        let Some(form) = &field.form else { return Ok(vec![truth(value)?.into()]) };
        match encode(value, form, field.refine.scaling, count)? {
            Encoded::Registers(registers) => Ok(registers),
            Encoded::Bits { mask, bits } => {
                let others = self.values.get(&(table, start)).copied().unwrap_or(0);
                Ok(vec![others & !mask | bits & mask])
            }
        }
    }
}

/// A number as the registers take it.
fn reading(field: &Field, number: f64) -> Value {
    match (&field.form, field.refine.scaling) {
        (None | Some(Form::Bit { .. }), _) => (number > 0.5).into(),
        (Some(Form::Number { kind, .. }), None) if kind.sort != Sort::Float => {
            number.round().into()
        }
        _ => number.into(),
    }
}
