//! What users write for a `modbus` connection and a `modbus` source, and what is wrong with it.

mod mistakes;
mod register;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use forebay_sdk::{Configured, Endpoint, Meta, NoEndpoint, Period, Problem, Settings, Value};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    block::{Merging, Table},
    bus::Bus,
    serial::SerialLine,
    settings::register::{RegisterSettings, path},
    source::{Field, ModbusSource, Reading},
};

/// The port that the standard gives to Modbus TCP.
const MODBUS_PORT: u16 = 502;

/// A bus with the devices on it: one device on the network, or a gateway with many behind it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModbusSettings {
    /// Where the device or gateway is: `tcp://host` or `tcp://host:port`. The port is 502 unless
    /// given. Behind a gateway, `?baud=9600&parity=even&stop=1` tells of its serial line, so that
    /// `forebay lint` knows how long a poll takes; the gateway itself is not set by it.
    url: String,
    /// How long to wait for each answer, from `10ms` to `1m`. Then the connection is closed and
    /// opened anew, so that a late answer is never taken for that of another request.
    #[serde(default = "default_timeout")]
    timeout: Period,
    /// How long opening the connection may take, from `10ms` to `1m`.
    #[serde(default = "default_connect_timeout")]
    connect_timeout: Period,
    /// How long to leave the bus alone after each answer, up to `1m`. For devices and gateways
    /// that lose requests which come too fast.
    #[serde(default = "default_pause")]
    pause: Period,
}

fn default_timeout() -> Period {
    Period::seconds(1)
}

fn default_connect_timeout() -> Period {
    Period::seconds(5)
}

fn default_pause() -> Period {
    Period::seconds(0)
}

impl Settings for ModbusSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let ModbusSettings { url, timeout, connect_timeout, pause } = self;
        let place = match place(&url) {
            Ok(place) => Some(place),
            Err(label) => {
                problems.push(no_bus(&url, label));
                None
            }
        };
        let shortest = Period(Duration::from_millis(10));
        let least = [
            ("timeout", timeout, shortest),
            ("connect_timeout", connect_timeout, shortest),
            ("pause", pause, Period::seconds(0)),
        ];
        for (setting, period, least) in least {
            if !(least..=Period::seconds(60)).contains(&period) {
                let label = format!("expected {least} to 1m, found {period}");
                problems.push(Problem::new(setting, format!("`{setting}` is out of range"), label));
            }
        }
        let (to, behind) = place?;
        Some(Bus { to, behind, timeout, connect_timeout, pause })
    }
}

/// Where the bus is, and the serial line behind the gateway when it is told of; says what would be
/// right when it cannot.
fn place(url: &str) -> Result<(Endpoint, Option<SerialLine>), String> {
    match url.split_once('?') {
        Some((address, query)) => Ok((endpoint(address)?, Some(SerialLine::parse(query)?))),
        None => Ok((endpoint(url)?, None)),
    }
}

fn no_bus(url: &str, label: String) -> Problem {
    let problem = Problem::new("url", "`url` does not lead to a bus", label);
    let meant = format!("tcp://{url}");
    let (address, _) = meant.split_once('?').unwrap_or((&meant, ""));
    if endpoint(address).is_ok() { problem.instead(meant) } else { problem }
}

/// Reads `tcp://host:port`; says what would be right when it cannot.
fn endpoint(url: &str) -> Result<Endpoint, String> {
    const EXPECTED: &str = "expected `tcp://host` or `tcp://host:port`";
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(EXPECTED.to_owned());
    };
    match scheme {
        "tcp" => (),
        "rtu" | "rtu+tcp" => {
            return Err(format!("only tcp:// is supported in this version, found {scheme}://"));
        }
        _ => return Err(format!("{EXPECTED}; only tcp:// is supported in this version")),
    }
    Endpoint::parse(rest, MODBUS_PORT).map_err(|wrong| match wrong {
        NoEndpoint::Host => EXPECTED.to_owned(),
        NoEndpoint::Port => "expected a port from 1 to 65535 behind the host".to_owned(),
    })
}

/// Faster than any meter answers.
const FASTEST: Duration = Duration::from_millis(10);
/// A slip of the finger more likely than a wish, and far from where clocks overflow.
const SLOWEST: Duration = Duration::from_secs(31 * 86_400);

/// Reads registers of one device and sends them as one message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModbusSourceSettings {
    /// Address of the device on the bus (unit id, slave id), 0 to 255. Devices on Modbus TCP
    /// mostly do not care; behind a gateway it says which of them is meant.
    #[serde(default = "default_unit")]
    unit: u8,
    /// How often the registers are read, from `10ms` to `31d`. A poll that takes longer skips the
    /// beats it missed.
    every: Period,
    /// What is read, 1 to 1000 entries. The message holds the values in this order.
    #[schemars(length(min = 1, max = 1000))]
    registers: Vec<RegisterSettings>,
    /// Topic of the messages. Empty: the name of the node, as `pipeline/node`.
    #[serde(default)]
    topic: String,
    /// The most registers (or coils) that are read in vain to fetch two groups in one request,
    /// 0 to 124. 0 merges only neighbours, which no device refuses for a hole in its map.
    #[serde(default)]
    #[schemars(range(max = 124))]
    max_gap: u16,
    /// The most registers in one request, 1 to 125; of coils and discrete inputs 16 times as many.
    /// For devices that take less than the standard allows.
    #[serde(default = "default_max_registers")]
    #[schemars(range(min = 1, max = 125))]
    max_registers: u16,
}

fn default_unit() -> u8 {
    1
}

fn default_max_registers() -> u16 {
    125
}

impl Settings for ModbusSourceSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        if !(FASTEST..=SLOWEST).contains(&*self.every) {
            problems.push(Problem::new(
                "every",
                "`every` is out of range",
                format!("expected 10ms to 31d, found {}", self.every),
            ));
        }
        let fields = self.fields(problems);
        let tables = [Table::Holding, Table::Input, Table::Discrete];
        let from_one = |table| mistakes::counted_from_one(&self.registers, table);
        problems.extend(tables.into_iter().filter_map(from_one));
        problems.extend(mistakes::overlaps(&fields));

        let fields = fields.into_iter().map(|(_, field)| field).collect();
        let merging = Merging { max_gap: self.max_gap, max_registers: self.max_registers };
        Some(ModbusSource {
            every: self.every,
            topic: Some(self.topic.as_str()).filter(|topic| !topic.is_empty()).map(Arc::from),
            names: self.registers.iter().map(|register| register.name.clone()).collect(),
            merging,
            reading: Arc::new(Reading::new(self.unit, fields, merging, self.meta())),
        })
    }
}

impl ModbusSourceSettings {
    /// The registers that can be read, each with its place in the list.
    fn fields(&self, problems: &mut Vec<Problem>) -> Vec<(usize, Field)> {
        let mut fields = Vec::with_capacity(self.registers.len());
        let mut first_of_name: HashMap<&str, usize> = HashMap::new();
        for (index, register) in self.registers.iter().enumerate() {
            match register.resolve(&path(index)) {
                Ok(field) => {
                    problems.extend(self.too_wide(index, &field));
                    fields.push((index, field));
                }
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
        fields
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
}
