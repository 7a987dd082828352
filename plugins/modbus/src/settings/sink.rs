//! What users write for a `modbus` sink, and what is wrong with it.

use forebay_sdk::{Configured, Period, Problem, Rate, Settings, Value, orders::too_old};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    kind::{Kind, Nature},
    register::{Half, RegisterSettings, no_registers, path, unique_names},
    units::default_unit,
};
use crate::{
    block::Table,
    decode::Order,
    orders::Bounds,
    sink::{ModbusSink, Point},
    source::Wants,
};

/// Writes registers of one device, and only when a message says so. A message is a map from names to
/// values; `null` in the place of a value asks for it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{ "required": ["registers"] }, { "required": ["profile"] }]))]
pub struct ModbusSinkSettings {
    /// Address of the device on the bus (unit id, slave id), 0 to 255.
    #[serde(default = "default_unit")]
    unit: u8,
    /// Takes what may be written of a profile: see there. What stands in `registers` comes on top.
    #[schemars(length(min = 1))]
    profile: Option<String>,
    /// Takes only these of the profile: names of registers, and of groups.
    #[schemars(length(min = 1))]
    only: Option<Vec<String>>,
    /// What may be written and asked for, 1 to 1000 entries. Nothing else ever is. Needed, but for a
    /// `profile`.
    #[serde(default)]
    #[schemars(length(min = 1, max = 1000))]
    registers: Vec<PointSettings>,
    /// Whether a write whose answer is lost may be done again. Not unless given: the message then
    /// goes to `errors` as one in doubt.
    #[serde(default)]
    repeat: bool,
    /// Reads back what was written, and makes it an error when that is another value.
    #[serde(default)]
    verify: bool,
    /// Writes registers and reads them back in one request (function 23), so that nothing comes between; for
    /// devices that know it. Includes `verify`.
    #[serde(default)]
    exchange: bool,
    /// Refuses a message that is older, up to `31d`: a command that waited through an outage.
    expires_after: Option<Period>,
    /// The most messages that are carried out, such as `1/s` or `20/m`. Further ones wait.
    rate: Option<Rate>,
    /// Writes one coil or one register by functions 15 and 16 too, for devices that do not know 5
    /// and 6.
    #[serde(default)]
    write_multiple: bool,
    /// Checks, logs and answers everything, and writes nothing.
    #[serde(default)]
    dry_run: bool,
    /// How long the device loses what comes after a connection was opened. `forebay lint` says so when the
    /// connection does not wait for as long, by its own `after_connect`; profiles know of their devices.
    after_connect: Option<Period>,
}

/// One value of a device that may be written or asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PointSettings {
    /// What the value is called in messages.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Address of a holding register (functions 3, 6 and 16), from 0. Of several registers, the first.
    /// Each register has exactly one of `holding`, `input`, `coil` and `discrete`.
    #[schemars(extend("errorMessage" = "addresses start at 0: number 40001 (or 400001) of a manual is `holding: 0`"))]
    holding: Option<u16>,
    /// Address of an input register (function 4), from 0. It can be asked for, and not written.
    #[schemars(extend("errorMessage" = "addresses start at 0: number 30001 (or 300001) of a manual is `input: 0`"))]
    input: Option<u16>,
    /// Address of a coil (functions 1, 5 and 15), from 0.
    #[schemars(extend("errorMessage" = "addresses start at 0: number 1 (or 00001) of a manual is `coil: 0`"))]
    coil: Option<u16>,
    /// Address of a discrete input (function 2), from 0. It can be asked for, and not written.
    #[schemars(extend("errorMessage" = "addresses start at 0: number 10001 (or 100001) of a manual is `discrete: 0`"))]
    discrete: Option<u16>,
    /// The number of a manual that counts from 1: `register: 40108` is `holding: 107`.
    #[schemars(range(min = 1, max = 465_536))]
    register: Option<u32>,
    /// What the registers hold. Default: `u16`; `bool` for coils, discrete inputs and with `bit`.
    kind: Option<Kind>,
    /// The order in which the device has the bytes of the value, A being the most significant.
    #[serde(default)]
    order: Order,
    /// How many registers a `string` fills, 1 to 125. Two characters fit in one.
    #[schemars(range(min = 1, max = 123))]
    length: Option<u16>,
    /// Which half of the register a `u8` or `i8` is in. `low` unless given. The other half stays
    /// (function 22).
    byte: Option<Half>,
    /// One bit of a register: 0 is the least significant, 15 the most. The others stay (function 22).
    #[schemars(range(max = 15))]
    bit: Option<u8>,
    /// The register times this, plus `offset`, is the value.
    scale: Option<f64>,
    /// Added to the number, after `scale`.
    offset: Option<f64>,
    /// The least that may be written.
    min: Option<f64>,
    /// The most that may be written.
    max: Option<f64>,
    /// The only values that may be written.
    #[schemars(length(min = 1))]
    allow: Option<Vec<Value>>,
}

impl Settings for ModbusSinkSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        problems.extend(too_old(self.expires_after));
        problems.extend(no_registers(
            "sink",
            &self.registers,
            self.only.as_deref(),
            self.profile.as_deref(),
        ));
        problems
            .extend(unique_names(self.registers.iter().map(|point| (point.name.as_str(), None))));
        let mut points = Vec::with_capacity(self.registers.len());
        for (index, point) in self.registers.iter().enumerate() {
            match point.resolve(&path(index)) {
                Ok(point) => points.push(point),
                Err(found) => problems.extend(found),
            }
        }
        Some(ModbusSink {
            unit: self.unit,
            points: points.into(),
            repeat: self.repeat,
            verify: self.verify,
            exchange: self.exchange,
            bounds: Bounds { expires_after: self.expires_after, rate: self.rate },
            write_multiple: self.write_multiple,
            dry_run: self.dry_run,
            wants: Wants::new(self.after_connect, self.profile.as_deref()),
        })
    }
}

impl PointSettings {
    /// What the settings mean, or all that is wrong with them. `path` leads to the register.
    fn resolve(&self, path: &str) -> Result<Point, Vec<Problem>> {
        let field = self.register().resolve(path)?;
        let problems = self.limits(path, field.block.table);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Point { field, min: self.min, max: self.max, allow: self.allow.clone() })
    }

    /// What a source would write to read it.
    pub fn register(&self) -> RegisterSettings {
        RegisterSettings {
            name: self.name.clone(),
            holding: self.holding,
            input: self.input,
            coil: self.coil,
            discrete: self.discrete,
            kind: self.kind,
            order: self.order,
            length: self.length,
            register: self.register,
            byte: self.byte,
            bit: self.bit,
            scale: self.scale,
            offset: self.offset,
            ..RegisterSettings::default()
        }
    }

    /// What is wrong with the values that may be written.
    fn limits(&self, path: &str, table: Table) -> Vec<Problem> {
        let name = &self.name;
        let mut problems = Vec::new();
        let given = [
            ("min", self.min.is_some()),
            ("max", self.max.is_some()),
            ("allow", self.allow.is_some()),
        ];
        for (setting, _) in given.iter().filter(|(_, is_given)| *is_given && !table.is_writable()) {
            problems.push(Problem::new(
                format!("{path}.{setting}"),
                format!("register `{name}` has no use for `{setting}`"),
                "only a `holding` register or a `coil` is written",
            ));
        }
        let nature = self.kind.unwrap_or(Kind::U16).nature();
        let is_number = matches!(nature, Nature::Number(_)) && self.bit.is_none();
        for (setting, bound) in [("min", self.min), ("max", self.max)] {
            if bound.is_some() && (table.holds_bits() || !is_number) {
                problems.push(Problem::new(
                    format!("{path}.{setting}"),
                    format!("register `{name}` has no use for `{setting}`"),
                    "only numbers have one",
                ));
            }
        }
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            problems.push(Problem::new(
                format!("{path}.max"),
                format!("no value of register `{name}` may be written"),
                format!("expected at least {min}, which is `min`, found {max}"),
            ));
        }
        problems
    }
}
