//! What users write for a `modbus` source, and what is checked before it runs.

use std::{any::Any, collections::HashMap, sync::Arc, time::Duration};

use forebay_sdk::{Busy, Fields, Links, Meta, Node, Period, Problem, Sends, Settings, Value};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    block::{Block, Merging, Plan, Table, plan},
    bus::Bus,
    connection::ModbusConnection,
    decode::Form,
    poll::Poll,
    register::{Field, Register, table_setting},
    serial::TURN_AROUND,
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

/// A change that leaves more of the time than this is not worth a word.
const WORTH_IT: f64 = 0.8;

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
                problems.push(
                    Problem::new(
                        format!("{}.name", path(index)),
                        format!("two registers are named `{}`", register.name),
                        "expected another name",
                    )
                    .also(format!("{}.name", path(first)), "has this one"),
                );
            }
        }
        let tables = [Table::Holding, Table::Input, Table::Discrete];
        problems.extend(tables.into_iter().filter_map(|table| self.counted_from_one(table)));
        problems.extend(self.overlaps());
        problems
    }

    fn check_on(&self, connection: &dyn Any) -> Vec<Problem> {
        let connection = connection.downcast_ref::<ModbusConnection>();
        let on_a_line = connection.is_some_and(|connection| connection.serial_line().is_some());
        if !on_a_line || (1..=247).contains(&self.unit) {
            return Vec::new();
        }
        let message = format!("no device on a serial line answers as unit {}", self.unit);
        let label = format!("expected 1 to 247, found {}", self.unit);
        vec![Problem::new("unit", message, label)]
    }

    fn fields(&self) -> Fields {
        let names = self.registers.iter().map(|register| register.name.clone());
        Fields { reads: Vec::new(), sends: Sends::Only(names.collect()) }
    }

    fn busy(&self, connection: &dyn Any) -> Option<Busy> {
        let connection = connection.downcast_ref::<ModbusConnection>()?;
        let (line, pause) = (connection.serial_line(), *connection.pause);
        let time_of_one =
            |request: &Block| line.map_or(Duration::ZERO, |line| line.time_of(*request)) + pause;
        let time_of = |requests: &[Block]| requests.iter().map(time_of_one).sum::<Duration>();
        let fields = self.resolved();
        let requests = self.plan(&fields, self.max_gap).requests;
        let takes = time_of(&requests);
        // How long a device on the network takes is not known.
        if takes.is_zero() {
            return None;
        }
        let mut why = match requests.len() {
            1 => "1 request".to_owned(),
            count => format!("{count} requests"),
        };
        if let Some(line) = line {
            why += &format!(" at {}, each answered after {}", line.words(), Period(TURN_AROUND));
        }
        if !pause.is_zero() {
            why += &format!(", and `pause: {}` after each", connection.pause);
        }
        let less =
            self.less_time(&fields, &time_of).filter(|(_, less)| *less < takes.mul_f64(WORTH_IT));
        Some(Busy { setting: "every", every: *self.every, takes, why, less })
    }

    fn build(self, links: Links) -> Node {
        let topic: Arc<str> = if self.topic.is_empty() {
            Arc::clone(&links.name)
        } else {
            self.topic.as_str().into()
        };
        let fields = self.resolved();
        Node::source(Poll {
            bus: links.connection::<Bus>(),
            unit: self.unit,
            every: self.every.0.max(FASTEST),
            plan: self.plan(&fields, self.max_gap),
            meta: self.meta(),
            fields,
            topic,
        })
    }
}

impl ModbusSource {
    /// All registers; none is missing once `check` is content.
    fn resolved(&self) -> Vec<Field> {
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

    /// Manuals often number registers from 40001. When all registers of a table have such an
    /// address, the first gets a warning; more would only repeat it. A device that has registers
    /// below, too, really counts this far.
    fn counted_from_one(&self, table: Table) -> Option<Problem> {
        let first = match table {
            Table::Holding => 40_001,
            Table::Input => 30_001,
            Table::Discrete => 10_001,
            Table::Coil => return None,
        };
        let addresses = self.registers.iter().enumerate().flat_map(|(index, register)| {
            register.places().map(move |(table, address)| (index, table, address))
        });
        let addresses: Vec<(usize, u16)> = addresses
            .filter(|(_, of, _)| *of == table)
            .map(|(index, _, address)| (index, address))
            .collect();
        let (index, address) = *addresses.first()?;
        if !addresses.iter().all(|(_, address)| (first..=first + 9998).contains(address)) {
            return None;
        }
        let setting = table_setting(table);
        let looks = match addresses.len() - 1 {
            0 => "looks like a number".to_owned(),
            more => format!("and {more} more look like numbers"),
        };
        let message =
            format!("`{setting}: {address}` {looks} of the manual; addresses here start at 0");
        let label = format!("did you mean `{setting}: {}`?", address - first);
        let note = format!("{} {first} of a manual is `{setting}: 0`", table.noun());
        let help = "some devices do count this far: `# forebay: allow one-based-address (SunSpec)` \
                    in the line above";
        let setting = format!("{}.{setting}", path(index));
        let problem = Problem::new(setting, message, label).rule("one-based-address");
        Some(problem.warning().note(note).help(help))
    }

    /// Values that share registers: mostly an address that was copied, or a kind that is too wide.
    fn overlaps(&self) -> Vec<Problem> {
        let resolved = self.registers.iter().enumerate().filter_map(|(index, register)| {
            let field = register.resolve(&path(index)).ok()?;
            // A word of flags is read as a number, and bit by bit.
            let is_bit = matches!(field.form, Some(Form::Bit { .. }));
            (!is_bit).then_some((index, field))
        });
        let mut by_address: Vec<(usize, Field)> = resolved.collect();
        by_address.sort_by_key(|(index, field)| (field.block, *index));
        let mut problems: Vec<(usize, Problem)> = Vec::new();
        // The one that reaches furthest so far.
        let mut last: Option<(usize, &Field)> = None;
        for (index, field) in &by_address {
            if let Some((other_index, other)) = last
                && other.block.overlaps(field.block)
            {
                problems.extend(overlap((other_index, other), (*index, field)));
            }
            let reaches = |field: &Field| (field.block.table, field.block.end());
            if last.is_none_or(|(_, last)| reaches(field) >= reaches(last)) {
                last = Some((*index, field));
            }
        }
        problems.sort_by_key(|(index, _)| *index);
        problems.into_iter().map(|(_, problem)| problem).collect()
    }

    /// The requests of one poll.
    fn plan(&self, fields: &[Field], max_gap: u16) -> Plan {
        let wanted: Vec<Block> = fields.iter().map(|field| field.block).collect();
        plan(&wanted, Merging { max_gap, max_registers: self.max_registers })
    }

    /// The smallest `max_gap` by which a poll takes the least time, and that time.
    fn less_time(
        &self,
        fields: &[Field],
        time_of: &dyn Fn(&[Block]) -> Duration,
    ) -> Option<(String, Duration)> {
        const GAPS: [u16; 9] = [1, 2, 4, 8, 16, 32, 64, 96, 124];
        let gaps = GAPS.into_iter().filter(|gap| *gap > self.max_gap);
        let timed = gaps.map(|gap| {
            let requests = self.plan(fields, gap).requests;
            (time_of(&requests), gap, requests.len())
        });
        let (time, gap, count) = timed.min()?;
        let requests = if count == 1 { "request" } else { "requests" };
        Some((format!("`max_gap: {gap}` ({count} {requests})"), time))
    }
}

/// Two registers that share some, with the index of each. None when that may be meant: one number
/// scaled in two ways.
fn overlap(
    (first_index, first): (usize, &Field),
    (second_index, second): (usize, &Field),
) -> Option<(usize, Problem)> {
    let is_same = first.block == second.block;
    if is_same && first.form != second.form {
        return None;
    }
    // The one further down is at fault: it was copied, or added.
    let ((index, field), (other_index, other)) = match first_index < second_index {
        true => ((second_index, second), (first_index, first)),
        false => ((first_index, first), (second_index, second)),
    };
    let message = match is_same {
        true => format!("`{}` and `{}` are the same {}", other.name, field.name, field.block),
        false => format!("`{}` and `{}` share registers", other.name, field.name),
    };
    let label = match is_same {
        true => "another address, or one of the two is too many".to_owned(),
        // The other ends inside, or reaches into, this one.
        false if field.block.start > other.block.start => {
            format!("expected {} or more", other.block.end())
        }
        false => format!("fills {}", field.block),
    };
    let table = table_setting(field.block.table);
    let problem = Problem::new(format!("{}.{table}", path(index)), message, label)
        .rule("register-overlap")
        .warning()
        .also(format!("{}.{table}", path(other_index)), format!("fills {}", other.block));
    Some((index, problem))
}

fn path(index: usize) -> String {
    format!("registers[{index}]")
}

#[cfg(test)]
mod tests;
