//! What users write in the file of `forebay simulate modbus`, and behind `--fault`.

use std::{collections::BTreeMap, time::Duration};

use forebay_sdk::{Period, Problem, Value};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    fault::{Fault, What, When},
    image::{Image, Motion},
};
use crate::{
    block::Table,
    reading::Field,
    settings::{Numbers, RegisterSettings, units},
};

/// Devices to play.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulationSettings {
    /// The devices, 1 to 247.
    #[schemars(length(min = 1, max = 247))]
    devices: Vec<DeviceSettings>,
    /// What goes wrong now and then.
    #[serde(default)]
    faults: Vec<FaultSettings>,
    /// How many clients are served at the same time, 1 to 64. Further ones are hung up on.
    #[schemars(range(min = 1, max = 64))]
    pub clients: Option<u8>,
    /// What comes so soon after a client has connected is lost.
    pub swallow: Option<Period>,
    /// What all chance comes from. The same seed makes the same faults.
    pub seed: Option<u64>,
}

/// A device, or several that are alike.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceSettings {
    /// Its address on the bus, such as `1`, or those of several: `1-10`.
    #[serde(default = "first_unit")]
    units: Numbers,
    /// What it has, as a source reads it.
    #[serde(default)]
    registers: Vec<RegisterSettings>,
    /// What the registers hold, by name: a value, or one that moves: `{ sine: { mean: 230, amplitude: 3,
    /// period: 1m } }`, `{ ramp: { from: 0, to: 100, period: 1m } }`, `{ random: { from: 0, to: 100, every: 5s } }`
    /// or `{ counter: { from: 0, per_second: 0.5 } }`. Zero, or no text, unless given.
    #[serde(default)]
    values: BTreeMap<String, Value>,
    /// Holding registers in hexadecimal, by the address of the first: `{ 0x10: "0001 00FF" }`.
    #[serde(default)]
    holding: BTreeMap<String, String>,
    /// Input registers, written likewise.
    #[serde(default)]
    input: BTreeMap<String, String>,
    /// Coils as zeros and ones, by the address of the first: `{ 0: "1101" }`.
    #[serde(default)]
    coil: BTreeMap<String, String>,
    /// Discrete inputs, written likewise.
    #[serde(default)]
    discrete: BTreeMap<String, String>,
    /// Nothing can be written. What moves never can.
    #[serde(default)]
    read_only: bool,
    /// What it says of itself (function 43): who made it, what it is, its version.
    identity: Option<[String; 3]>,
}

fn first_unit() -> Numbers {
    Numbers::only(1)
}

/// A value that moves.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum MotionSettings {
    Sine {
        mean: f64,
        amplitude: f64,
        period: Period,
        #[serde(default)]
        shift: f64,
    },
    Ramp {
        from: f64,
        to: f64,
        period: Period,
    },
    Random {
        from: f64,
        to: f64,
        every: Period,
    },
    Counter {
        #[serde(default)]
        from: f64,
        per_second: f64,
    },
}

/// Something that goes wrong: exactly one of the first twelve, and when.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FaultSettings {
    /// The answer comes so much later.
    late: Option<Period>,
    /// The answer has the transaction id of another.
    #[serde(default)]
    wrong_id: bool,
    /// The answer is that of another unit.
    #[serde(default)]
    wrong_unit: bool,
    /// The answer is to another function.
    #[serde(default)]
    wrong_function: bool,
    /// The answer has a register too few.
    #[serde(default)]
    wrong_length: bool,
    /// The device refuses with this exception: 6 is busy.
    #[schemars(range(min = 1))]
    exception: Option<u8>,
    /// What was asked is done, and not answered.
    #[serde(default)]
    silence: bool,
    /// What was asked is neither done nor answered.
    #[serde(default)]
    deaf: bool,
    /// A bit of the answer is another; over Modbus TCP one of its head.
    #[serde(default)]
    bit_error: bool,
    /// The connection is closed behind the answer.
    #[serde(default)]
    hang_up: bool,
    /// So many bytes that mean nothing come before the answer.
    #[schemars(range(min = 1))]
    noise: Option<u8>,
    /// The answer comes twice.
    #[serde(default)]
    twice: bool,
    /// At every so many requests: 10 for every tenth. At each one, unless this or `chance` is given.
    #[schemars(range(min = 1))]
    every: Option<u32>,
    /// At how many requests in a hundred, by chance.
    chance: Option<f64>,
    /// Only with these devices.
    units: Option<Numbers>,
}

/// What was understood.
pub struct Simulation {
    pub units: BTreeMap<u8, Image>,
    pub faults: Vec<Fault>,
    pub seed: u64,
    /// What to read of the first device.
    pub fields: Vec<Field>,
}

impl SimulationSettings {
    /// The devices, or all that is wrong.
    pub fn resolve(self) -> Result<Simulation, Vec<Problem>> {
        let seed = self.seed.unwrap_or(1);
        let (mut problems, mut units) = (Vec::new(), BTreeMap::new());
        let mut fields = Vec::new();
        for (index, device) in self.devices.iter().enumerate() {
            let path = format!("devices[{index}]");
            let found = device.resolve(&path, seed, &mut problems);
            for unit in device.units(&path, &mut problems) {
                if units.insert(unit, found.0.clone()).is_some() {
                    let message = format!("two devices are unit {unit}");
                    problems.push(Problem::new(path.clone(), message, "expected another address"));
                }
            }
            if index == 0 {
                fields = found.1;
            }
        }
        let mut faults = Vec::new();
        for (index, fault) in self.faults.into_iter().enumerate() {
            match fault.resolve() {
                Ok(fault) => faults.push(fault),
                Err(label) => {
                    let path = format!("faults[{index}]");
                    problems.push(Problem::new(path, "the fault cannot happen", label));
                }
            }
        }
        match problems.is_empty() {
            true => Ok(Simulation { units, faults, seed, fields }),
            false => Err(problems),
        }
    }
}

impl DeviceSettings {
    /// Its addresses, or what is wrong with them.
    pub fn units(&self, path: &str, problems: &mut Vec<Problem>) -> Vec<u8> {
        units::parse(&self.units).unwrap_or_else(|label| {
            let path = format!("{path}.units");
            problems.push(Problem::new(path, "`units` are no addresses of devices", label));
            Vec::new()
        })
    }

    /// What it holds, and what of it has a name.
    pub fn resolve(
        &self,
        path: &str,
        seed: u64,
        problems: &mut Vec<Problem>,
    ) -> (Image, Vec<Field>) {
        let mut image = Image::default();
        image.identity.clone_from(&self.identity);
        for (table, key, written) in [
            (Table::Holding, "holding", &self.holding),
            (Table::Input, "input", &self.input),
            (Table::Coil, "coil", &self.coil),
            (Table::Discrete, "discrete", &self.discrete),
        ] {
            for (start, text) in written {
                match raw(table, start, text) {
                    Ok((start, values)) => image.put(table, start, &values),
                    Err(label) => {
                        let message = format!("`{key}` has something that is no register");
                        problems.push(Problem::new(
                            format!("{path}.{key}.{start}"),
                            message,
                            label,
                        ));
                    }
                }
            }
        }
        let mut fields: Vec<Field> = Vec::new();
        for (index, register) in self.registers.iter().enumerate() {
            match register.resolve(&format!("{path}.registers[{index}]")) {
                Ok(field) => {
                    let value = self.values.get(&field.name);
                    if let Err(label) = put(&mut image, &field, value, seed + index as u64) {
                        let name = &field.name;
                        let place = match value {
                            Some(_) => format!("{path}.values.{name}"),
                            None => format!("{path}.registers[{index}]"),
                        };
                        let message = format!("`{name}` cannot hold its value");
                        problems.push(Problem::new(place, message, label));
                    }
                    fields.push(field);
                }
                Err(found) => problems.extend(found),
            }
        }
        for name in self.values.keys() {
            if !self.registers.iter().any(|register| register.name == *name) {
                let message = format!("there is no register `{name}`");
                let label = "expected the `name` of one of the `registers`";
                problems.push(Problem::new(format!("{path}.values.{name}"), message, label));
            }
        }
        if self.read_only {
            image.lock();
        }
        (image, fields)
    }
}

/// Puts a value as its author wrote it; zero when nothing is written.
pub fn put(
    image: &mut Image,
    field: &Field,
    value: Option<&Value>,
    seed: u64,
) -> Result<(), String> {
    use crate::decode::Form;
    let Some(value) = value else {
        // What stands there already, as hexadecimal, is what was meant.
        if image.has(field.block) {
            return Ok(());
        }
        let zeros = vec![0; field.block.count.into()];
        image.put(field.block.table, field.block.start, &zeros);
        return Ok(());
    };
    if !value.is_object() {
        return image.put_value(field, value);
    }
    let moves = matches!(field.form, None | Some(Form::Number { .. } | Form::Bit { .. }));
    if !moves {
        return Err("only numbers and bits move".to_owned());
    }
    let motion: MotionSettings = serde_json::from_value(value.clone())
        .map_err(|error| format!("expected `sine`, `ramp`, `random` or `counter`: {error}"))?;
    image.put_moving(field, motion.resolve(seed)?)
}

impl MotionSettings {
    fn resolve(self, seed: u64) -> Result<Motion, String> {
        let motion = match self {
            MotionSettings::Sine { mean, amplitude, period, shift } => {
                Motion::Sine { mean, amplitude, period: *period, shift }
            }
            MotionSettings::Ramp { from, to, period } => Motion::Ramp { from, to, period: *period },
            MotionSettings::Random { from, to, every } => {
                Motion::Random { from, to, every: *every, seed }
            }
            MotionSettings::Counter { from, per_second } => Motion::Counter { from, per_second },
        };
        let period = match &motion {
            Motion::Sine { period, .. } | Motion::Ramp { period, .. } => *period,
            Motion::Random { every, .. } => *every,
            Motion::Counter { .. } | Motion::Computed(_) => Duration::from_secs(1),
        };
        if period.is_zero() { Err("expected a time longer than 0".to_owned()) } else { Ok(motion) }
    }
}

impl FaultSettings {
    /// Reads `late=2s,every=10`, as behind `--fault`.
    pub fn parse(text: &str) -> Result<Fault, String> {
        let mut settings = serde_json::Map::new();
        for part in text.split(',').map(str::trim) {
            let (name, value) = part.split_once('=').unwrap_or((part, "true"));
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            settings.insert(name.replace('-', "_"), value);
        }
        let settings: FaultSettings =
            serde_json::from_value(settings.into()).map_err(|error| error.to_string())?;
        settings.resolve()
    }

    /// The fault, or what would be one.
    pub fn resolve(self) -> Result<Fault, String> {
        let flags = [
            (self.wrong_id, What::WrongId),
            (self.wrong_unit, What::WrongUnit),
            (self.wrong_function, What::WrongFunction),
            (self.wrong_length, What::WrongLength),
            (self.silence, What::Silence),
            (self.deaf, What::Deaf),
            (self.bit_error, What::BitError),
            (self.hang_up, What::HangUp),
            (self.twice, What::Twice),
        ];
        let flags = flags.into_iter().filter(|(is_given, _)| *is_given).map(|(_, what)| what);
        let all: Vec<What> = flags
            .chain(self.late.map(|late| What::Late(*late)))
            .chain(self.exception.map(What::Exception))
            .chain(self.noise.map(What::Noise))
            .collect();
        let [what] = all[..] else {
            return Err("expected exactly one of `late`, `wrong_id`, `wrong_unit`, \
                        `wrong_function`, `wrong_length`, `exception`, `silence`, `deaf`, \
                        `bit_error`, `hang_up`, `noise` or `twice`"
                .to_owned());
        };
        let when = match (self.every, self.chance) {
            (None, None) => When::Every(1),
            (Some(1..), None) => When::Every(self.every.unwrap_or(1)),
            (None, Some(chance)) if (0.0..=100.0).contains(&chance) => When::Chance(chance / 100.0),
            _ => return Err("expected `every: 10`, or `chance: 5` in a hundred".to_owned()),
        };
        let units = self.units.as_ref().map(units::parse).transpose()?.unwrap_or_default();
        Ok(Fault { what, when, units })
    }
}

/// An address, and what stands from there on.
fn raw(table: Table, start: &str, text: &str) -> Result<(u16, Vec<u16>), String> {
    let start = match start.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => start.parse(),
    };
    let start = start.map_err(|_| "expected an address in front of it, 0 to 65535")?;
    let values: Option<Vec<u16>> = if table.holds_bits() {
        let bits = text.chars().filter(|c| !c.is_whitespace());
        bits.map(|c| c.to_digit(2).map(|bit| bit as u16)).collect()
    } else {
        let words = text.split_whitespace();
        words.map(|word| u16::from_str_radix(word, 16).ok()).collect()
    };
    let what = if table.holds_bits() { "zeros and ones" } else { "registers such as `0001 00FF`" };
    let values = values.filter(|values| !values.is_empty());
    let values = values.ok_or_else(|| format!("expected {what}"))?;
    if usize::from(start) + values.len() > 0x1_0000 {
        return Err("reaches beyond the last register".to_owned());
    }
    Ok((start, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_stand_behind_the_flag() {
        let fault = |what, when| Ok(Fault { what, when, units: vec![] });
        let late = What::Late(Duration::from_secs(2));
        assert_eq!(FaultSettings::parse("late=2s,every=10"), fault(late, When::Every(10)));
        assert_eq!(FaultSettings::parse("silence"), fault(What::Silence, When::Every(1)));
        let busy = FaultSettings::parse("exception=6, chance=2.5, units=1-2").unwrap();
        assert_eq!((busy.what, busy.when), (What::Exception(6), When::Chance(0.025)));
        assert_eq!(busy.units, [1, 2]);
        for (text, says) in [
            ("", "unknown field"),
            ("every=3", "exactly one of"),
            ("silence,deaf", "exactly one of"),
            ("silence,every=0", "expected `every: 10`"),
            ("silence,chance=101", "expected `every: 10`"),
            ("late=soon", "expected"),
        ] {
            let error = FaultSettings::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
