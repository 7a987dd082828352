//! What users write for a `modbus` connection and a `modbus` source, and what is wrong with it.

mod kind;
mod mistakes;
mod profile;
mod ranges;
mod register;
mod request;
mod sink;
#[cfg(test)]
mod tests;
pub mod units;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

pub use self::{
    kind::{Kind, Nature},
    profile::{profile_schema, registers_of, to_sink, to_source},
    ranges::Numbers,
    register::{RegisterSettings, table_setting},
    request::ModbusRequestSettings,
    sink::ModbusSinkSettings,
};

use forebay_sdk::{Configured, Period, Problem, Settings};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    block::{Block, Table},
    bus::Bus,
    frame::Framing,
    link::Place,
    place,
    plan::Merging,
    profiles,
    reading::{Field, Reading, UNIT, name_of_unit},
    settings::{
        register::{no_registers, path, scale_factors, unique_names},
        units::default_unit,
    },
    source::{ModbusSource, Wants},
};

/// A bus with the devices on it: one device on the network, or a gateway with many behind it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModbusSettings {
    /// Where the bus is. `tcp://host:port` is a device or a gateway on the network, at port 502 unless
    /// given; `rtu:///dev/ttyUSB0?baud=9600&parity=even&stop=1` a serial line of this machine, with no
    /// parity and one stop bit unless given (or `rtu://usb:0403:6001?baud=9600`, an adapter by its numbers on
    /// USB; `&rts=high` or `&rts=low` where the driver switches the direction of an RS-485 line by RTS, with
    /// `&rts_before=1ms&rts_after=1ms` around what is sent); `rtu+tcp://host:port` a serial line that something on
    /// the network passes on byte by byte. Of the line behind a gateway, `?baud=9600&parity=even&stop=1`
    /// tells `forebay lint` how long a poll takes; the gateway itself is not set by it.
    url: String,
    /// How long to wait for each answer, from `10ms` to `1m`.
    #[serde(default = "default_timeout")]
    timeout: Period,
    /// How long opening the connection may take, from `10ms` to `1m`.
    #[serde(default = "default_connect_timeout")]
    connect_timeout: Period,
    /// How long to leave the bus alone after each answer, up to `1m`. For devices and gateways
    /// that lose requests which come too fast.
    #[serde(default = "no_time")]
    pause: Period,
    /// How long to leave the bus alone after it was opened, up to `1m`. For devices that swallow
    /// what comes in their first second.
    #[serde(default = "no_time")]
    after_connect: Period,
    /// Closes the connection when nothing was asked for so long, up to `1h`. For gateways and devices
    /// that serve one client at a time. Never, unless given.
    idle_close: Option<Period>,
    /// Takes answers with any transaction id, for a device on Modbus TCP that does not repeat that of the request.
    /// Its answers are then told apart as those on a serial line are. Only of `tcp://`.
    #[serde(default)]
    ignore_transaction: bool,
    /// The most of the bus's time, in percent, that a device which does not answer may take from
    /// the others, 1 to 100. With 5 and `timeout: 1s` it is asked every 20 s until it answers.
    #[serde(default = "default_breaker")]
    #[schemars(range(min = 1, max = 100))]
    breaker: u8,
}

fn no_time() -> Period {
    Period::seconds(0)
}

fn default_breaker() -> u8 {
    5
}

fn default_timeout() -> Period {
    Period::seconds(1)
}

fn default_connect_timeout() -> Period {
    Period::seconds(5)
}

impl Settings for ModbusSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let place = match place::parse(&self.url) {
            Ok(place) => Some(place),
            Err(label) => {
                let problem = Problem::new("url", "`url` does not lead to a bus", label);
                problems.push(match place::meant(&self.url) {
                    Some(meant) => problem.instead(meant),
                    None => problem,
                });
                None
            }
        };
        let (shortest, none) = (Period(Duration::from_millis(10)), no_time());
        let (minute, hour) = (Period::seconds(60), Period::seconds(3600));
        let bounds = [
            ("timeout", Some(self.timeout), shortest, minute),
            ("connect_timeout", Some(self.connect_timeout), shortest, minute),
            ("pause", Some(self.pause), none, minute),
            ("after_connect", Some(self.after_connect), none, minute),
            ("idle_close", self.idle_close, none, hour),
        ];
        for (setting, period, least, most) in bounds {
            let within = |period| Problem::unless_within(setting, &period, least..=most);
            problems.extend(period.and_then(within));
        }
        let (mut to, line) = place?;
        if self.ignore_transaction {
            match &mut to {
                Place::Network(_, framing @ Framing::Tcp) => *framing = Framing::Unnumbered,
                Place::Network(..) | Place::Serial(..) => {
                    const MESSAGE: &str = "there is no transaction id to ignore";
                    let label = "only answers of `tcp://` have one";
                    problems.push(Problem::new("ignore_transaction", MESSAGE, label));
                }
            }
        }
        Some(Bus {
            to,
            line,
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            pause: self.pause,
            after_connect: self.after_connect,
            idle_close: self.idle_close,
            breaker: self.breaker,
        })
    }
}

/// Faster than any meter answers.
const FASTEST: Period = Period(Duration::from_millis(10));
/// A slip of the finger more likely than a wish, and far from where clocks overflow.
const SLOWEST: Period = Period::seconds(31 * 86_400);

/// Reads registers of one device and sends them as one message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{ "required": ["registers"] }, { "required": ["profile"] }]))]
pub struct ModbusSourceSettings {
    /// Address of the device on the bus (unit id, slave id), 0 to 255. Devices on Modbus TCP
    /// mostly do not care; behind a gateway it says which of them is meant.
    #[serde(default = "default_unit")]
    unit: u8,
    /// Several devices with the same registers, such as `1-18` or `1, 3, 7-9`, in the place of `unit`.
    /// Each has a message of its own, with `unit` in its `meta`.
    units: Option<Numbers>,
    /// How often the registers are read, from `10ms` to `31d`. A poll that takes longer skips the
    /// beats it missed.
    every: Period,
    /// Takes the registers of a kind of device: `sdm630`, say. Those that are built in are listed in the
    /// README and by `forebay nodes modbus`; a file `profiles/NAME.yaml` beside `forebay.yaml` goes before
    /// them. What stands in `registers` comes on top: what it says of a register of the profile holds, the
    /// others are added.
    #[schemars(length(min = 1), extend("examples" = profiles::names()))]
    profile: Option<String>,
    /// Takes only these of the profile: names of registers, and of groups.
    #[schemars(length(min = 1))]
    only: Option<Vec<String>>,
    /// What is read, 1 to 1000 entries. The message holds the values in this order. Needed, but for a
    /// `profile`.
    #[serde(default)]
    #[schemars(length(min = 1, max = 1000))]
    registers: Vec<RegisterSettings>,
    /// Topic of the messages, in which `{unit}` stands for the address of the device. Empty: the name of
    /// the node, as `pipeline/node`, and with `units` as `pipeline/node/{unit}`.
    #[serde(default)]
    topic: String,
    /// The most registers (or coils) that are read in vain to fetch two groups in one request,
    /// 0 to 124. As many as save time on the bus, unless given; what the device refuses is left out
    /// from then on.
    #[schemars(range(max = 124))]
    max_gap: Option<u16>,
    /// The most registers in one request, 1 to 125; of coils and discrete inputs 16 times as many.
    /// For devices that take less than the standard allows.
    #[serde(default = "default_max_registers")]
    #[schemars(range(min = 1, max = 125))]
    max_registers: u16,
    /// Asks for each value in a request of its own, for devices that answer nothing else right.
    #[serde(default)]
    one_by_one: bool,
    /// Reads coils and discrete inputs from address 0 on, for devices that answer wrong when asked for others
    /// alone.
    #[serde(default)]
    bits_from_zero: bool,
    /// How long the device loses what comes after a connection was opened. `forebay lint` says so when the
    /// connection does not wait for as long, by its own `after_connect`; profiles know of their devices.
    after_connect: Option<Period>,
}

fn default_max_registers() -> u16 {
    125
}

impl Settings for ModbusSourceSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        problems.extend(Problem::unless_within("every", &self.every, FASTEST..=SLOWEST));
        let (only, profile) = (self.only.as_deref(), self.profile.as_deref());
        problems.extend(no_registers("source", &self.registers, only, profile));
        let units = match self.units.as_ref().map(units::parse) {
            None => vec![self.unit],
            Some(Ok(units)) => units,
            Some(Err(label)) => {
                problems.push(Problem::new("units", "`units` are no addresses of devices", label));
                vec![self.unit]
            }
        };
        problems.extend(self.same_names(&units));
        let fields = self.fields(problems);
        problems.extend(scale_factors(&self.registers));
        let tables = [Table::Holding, Table::Input, Table::Coil, Table::Discrete];
        let from_one = |table| mistakes::counted_from_one(&self.registers, table);
        // What is built in means what it says.
        if !self.profile.as_deref().is_some_and(|name| profiles::names().contains(&name)) {
            problems.extend(tables.into_iter().filter_map(from_one));
        }
        problems.extend(mistakes::overlaps(&fields));

        let fields = fields.into_iter().map(|(_, field)| field).collect();
        let (max_gap, max_registers) = (self.max_gap, self.max_registers);
        let (one_by_one, bits_from_zero) = (self.one_by_one, self.bits_from_zero);
        let merging = Merging { max_gap, max_registers, one_by_one, bits_from_zero };
        Some(ModbusSource {
            every: self.every,
            topic: Some(self.topic.as_str()).filter(|topic| !topic.is_empty()).map(Arc::from),
            names: self.names(&units),
            wants: Wants::new(self.after_connect, self.profile.as_deref()),
            units,
            reading: Arc::new(Reading { fields, merging }),
        })
    }
}

impl ModbusSourceSettings {
    /// The registers that can be read, each with its place in the list.
    fn fields(&self, problems: &mut Vec<Problem>) -> Vec<(usize, Field)> {
        let mut fields = Vec::with_capacity(self.registers.len());
        for (index, register) in self.registers.iter().enumerate() {
            match register.resolve(&path(index)) {
                Ok(field) => {
                    problems.extend(self.too_wide(index, &field));
                    fields.push((index, field));
                }
                Err(found) => problems.extend(found),
            }
        }
        fields
    }

    fn too_wide(&self, index: usize, field: &Field) -> Option<Problem> {
        let Block { table, count, .. } = field.block;
        let most = table.most_in_one_request(self.max_registers);
        if self.bits_from_zero && table.holds_bits() && field.block.end() > most {
            let message = format!("`{}` is out of reach of a request from 0", field.name);
            let label = format!("expected 0 to {}, with `bits_from_zero`", most - 1);
            let table = table_setting(table);
            return Some(Problem::new(format!("{}.{table}", path(index)), message, label));
        }
        (count > self.max_registers).then(|| {
            Problem::new(
                path(index),
                format!("register `{}` does not fit in one request", field.name),
                format!("fills {count} registers, and `max_registers` is {}", self.max_registers),
            )
        })
    }

    /// Names that one message would have twice.
    fn same_names(&self, units: &[u8]) -> Vec<Problem> {
        let of_unit = |unit: &u8| {
            let named = |register: &RegisterSettings| name_of_unit(&register.name, *unit);
            let names: Vec<String> = self.registers.iter().map(named).collect();
            let models = self.registers.iter().map(|register| register.sunspec.as_deref());
            unique_names(names.iter().map(String::as_str).zip(models))
        };
        let is_named = self.registers.iter().any(|register| register.name.contains(UNIT));
        let units = if is_named { units } else { &units[..1] };
        units.iter().map(of_unit).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// All that the messages of its devices name.
    fn names(&self, units: &[u8]) -> BTreeSet<String> {
        let sent = self.registers.iter().filter(|register| !register.hidden);
        let of_units = sent.flat_map(|register| {
            let name = &register.name;
            units.iter().map(move |unit| name_of_unit(name, *unit))
        });
        of_units.collect()
    }
}
