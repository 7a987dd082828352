//! What users write for a `modbus` source, and what is checked before it runs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use forebay_sdk::{Links, Meta, Node, Period, Problem, Settings, Value};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    block::{Block, Merging, Table, plan},
    bus::Bus,
    poll::Poll,
    register::{Field, Register, table_setting},
};

/// Faster than any meter answers.
const FASTEST: Duration = Duration::from_millis(10);
/// A slip of the finger more likely than a wish, and far from where clocks overflow.
const SLOWEST: Duration = Duration::from_secs(31 * 86_400);

/// Reads registers of one device and sends them as one message.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModbusSource {
    /// Address of the device on the bus (unit id, slave id), 0 to 255. Devices on Modbus TCP
    /// mostly do not care; behind a gateway it says which of them is meant.
    #[serde(default = "default_unit")]
    pub unit: u8,
    /// How often the registers are read, from `10ms` to `31d`. A poll that takes longer skips the
    /// beats it missed.
    pub every: Period,
    /// What is read, 1 to 1000 entries. The message holds the values in this order.
    #[schemars(length(min = 1, max = 1000))]
    pub registers: Vec<Register>,
    /// Topic of the messages. Empty: the name of the node, as `pipeline/node`.
    #[serde(default)]
    pub topic: String,
    /// The most registers (or coils) that are read in vain to fetch two groups in one request,
    /// 0 to 124. 0 merges only neighbours, which no device refuses for a hole in its map.
    #[serde(default)]
    #[schemars(range(max = 124))]
    pub max_gap: u16,
    /// The most registers in one request, 1 to 125; of coils and discrete inputs 16 times as many.
    /// For devices that take less than the standard allows.
    #[serde(default = "default_max_registers")]
    #[schemars(range(min = 1, max = 125))]
    pub max_registers: u16,
}

fn default_unit() -> u8 {
    1
}

fn default_max_registers() -> u16 {
    125
}

impl Settings for ModbusSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !(FASTEST..=SLOWEST).contains(&*self.every) {
            problems.push(Problem::new(
                "every",
                "`every` is out of range",
                format!("expected 10ms to 31d, found {}", self.every),
            ));
        }
        let mut first_of_name: HashMap<&str, usize> = HashMap::new();
        for (index, register) in self.registers.iter().enumerate() {
            match register.resolve(&path(index)) {
                Ok(field) => problems.extend(self.too_wide(index, &field)),
                Err(found) => problems.extend(found),
            }
            let first = *first_of_name.entry(&register.name).or_insert(index);
            if first != index {
                problems.push(Problem::new(
                    format!("{}.name", path(index)),
                    format!("two registers are named `{}`", register.name),
                    format!("expected another name: `registers[{first}]` has this one"),
                ));
            }
        }
        problems.extend(self.counted_from_one());
        problems
    }

    fn build(self, links: Links) -> Node {
        let topic: Arc<str> = if self.topic.is_empty() {
            Arc::clone(&links.name)
        } else {
            self.topic.as_str().into()
        };
        let fields = self.fields();
        let wanted: Vec<Block> = fields.iter().map(|field| field.block).collect();
        let merging = Merging { max_gap: self.max_gap, max_registers: self.max_registers };
        Node::source(Poll {
            bus: links.connection::<Bus>(),
            unit: self.unit,
            every: self.every.0.max(FASTEST),
            plan: plan(&wanted, merging),
            meta: self.meta(),
            fields,
            topic,
        })
    }
}

impl ModbusSource {
    /// All registers; none is missing once `check` is content.
    fn fields(&self) -> Vec<Field> {
        let resolve = |(index, register): (usize, &Register)| register.resolve(&path(index)).ok();
        self.registers.iter().enumerate().filter_map(resolve).collect()
    }

    /// What every message says beside its values.
    fn meta(&self) -> Meta {
        let units: serde_json::Map<String, Value> = self
            .registers
            .iter()
            .filter_map(|register| Some((register.name.clone(), register.unit.clone()?.into())))
            .collect();
        let mut meta = Meta::default();
        if !units.is_empty() {
            meta.insert("units", units);
        }
        meta
    }

    fn too_wide(&self, index: usize, field: &Field) -> Option<Problem> {
        let count = field.block.count;
        (count > self.max_registers).then(|| {
            Problem::new(
                path(index),
                format!("register `{}` does not fit in one request", field.name),
                format!("fills {count} registers, and `max_registers` is {}", self.max_registers),
            )
        })
    }

    /// Manuals often number registers from 40001. The first such address gets a warning; more
    /// would only repeat it.
    fn counted_from_one(&self) -> Option<Problem> {
        let places = self.registers.iter().enumerate().flat_map(|(index, register)| {
            register.places().map(move |(table, address)| (index, table, address))
        });
        let habit = |table| match table {
            Table::Holding => Some(40_001),
            Table::Input => Some(30_001),
            Table::Discrete => Some(10_001),
            Table::Coil => None,
        };
        let mut found = places.filter_map(|(index, table, address)| {
            let first = habit(table).filter(|first| (*first..*first + 9999).contains(&address))?;
            let setting = table_setting(table);
            let label = format!("{} {first} is `{setting}: 0`", table.noun());
            let message = format!(
                "`{setting}: {address}` looks like a number of the manual; addresses here start at 0"
            );
            let note = format!(
                "Register {address} of a manual is `{setting}: {}`. Some devices, such as those of \
                 SunSpec,\ndo have addresses this high.",
                address - first
            );
            let setting = format!("{}.{setting}", path(index));
            Some(Problem::new(setting, message, label).warning().note(note))
        });
        found.next()
    }
}

fn path(index: usize) -> String {
    format!("registers[{index}]")
}

#[cfg(test)]
mod tests;
