//! What users write for a `modbus_request` sink, and what is wrong with it.

use forebay_sdk::{Configured, Period, Problem, Rate, Settings, orders::too_old};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    ranges::{Numbers, Ranges},
    units,
};
use crate::{
    block::Table,
    orders::Bounds,
    request::{Permitted, RequestSink},
};

/// Carries out single Modbus requests that come as messages, and answers them. For programs elsewhere
/// that ask for registers themselves.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModbusRequestSettings {
    /// Devices that may be asked, such as `1-18` or `1, 3, 7-9`. A message need not name the device
    /// when there is only one.
    #[serde(default = "default_units")]
    units: Numbers,
    /// Which registers may be read: all, when left out.
    read: Option<ReadSettings>,
    /// Which registers may be written: none, when left out.
    #[serde(default)]
    write: WriteSettings,
    /// Refuses a message that is older, up to `31d`: a request that waited through an outage.
    expires_after: Option<Period>,
    /// The most messages that are carried out, such as `1/s` or `20/m`. Further ones wait.
    rate: Option<Rate>,
    /// Checks, logs and answers everything, and writes nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Registers that may be read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadSettings {
    /// Holding registers (functions 3 and 23): addresses from 0 and ranges of them, such as `0-99, 200`.
    holding: Option<Numbers>,
    /// Input registers (function 4).
    input: Option<Numbers>,
    /// Coils (function 1).
    coil: Option<Numbers>,
    /// Discrete inputs (function 2).
    discrete: Option<Numbers>,
}

/// Registers that may be written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteSettings {
    /// Holding registers (functions 6, 16 and 23): addresses from 0 and ranges of them.
    holding: Option<Numbers>,
    /// Coils (functions 5 and 15).
    coil: Option<Numbers>,
}

fn default_units() -> Numbers {
    Numbers::only(units::default_unit().into())
}

impl Settings for ModbusRequestSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        problems.extend(too_old(self.expires_after));
        let units = units::parse(&self.units).unwrap_or_else(|label| {
            problems.push(Problem::new("units", "`units` are no addresses of devices", label));
            Vec::new()
        });
        let mut tables = |section: &str, written: &[(Table, &str, &Option<Numbers>)]| {
            let mut permitted = Vec::new();
            for (table, setting, numbers) in written {
                let Some(numbers) = numbers else { continue };
                let path = format!("{section}.{setting}");
                match numbers.parse() {
                    Ok(ranges) => permitted.push((*table, ranges)),
                    Err(label) => {
                        let message = format!("`{path}` are no addresses of registers");
                        problems.push(Problem::new(path, message, label));
                    }
                }
            }
            permitted
        };
        let read: Option<Vec<(Table, Ranges)>> = self.read.as_ref().map(|read| {
            let written = [
                (Table::Holding, "holding", &read.holding),
                (Table::Input, "input", &read.input),
                (Table::Coil, "coil", &read.coil),
                (Table::Discrete, "discrete", &read.discrete),
            ];
            tables("read", &written)
        });
        let WriteSettings { holding, coil } = &self.write;
        let written = [(Table::Holding, "holding", holding), (Table::Coil, "coil", coil)];
        let write = tables("write", &written);
        Some(RequestSink {
            permitted: Permitted { units, read, write },
            bounds: Bounds { expires_after: self.expires_after, rate: self.rate },
            dry_run: self.dry_run,
        })
    }
}
