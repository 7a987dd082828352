//! A source that was understood.

use std::{any::Any, collections::BTreeSet, sync::Arc};

use forebay_sdk::{Configured, Fields, Inventory, Node, Period, Problem, Sends, Site};

use crate::{
    bus::Bus,
    poll::{Device, Poll},
    reading::{Reading, UNIT, inventory, name_of_unit},
    rules::ASKS_TOO_SOON,
};

/// A source that was understood.
pub struct ModbusSource {
    pub every: Period,
    /// None for the name of the node.
    pub topic: Option<Arc<str>>,
    /// All that its messages name; also of registers that cannot be read.
    pub names: BTreeSet<String>,
    /// The devices, each of which has the registers, and a message of its own.
    pub units: Vec<u8>,
    pub reading: Arc<Reading>,
    pub wants: Option<Wants>,
}

/// What a device wants of the connection to it.
#[derive(Clone, Debug)]
pub struct Wants {
    after_connect: Period,
    /// Which says so. None when the node itself does.
    profile: Option<String>,
}

impl Configured for ModbusSource {
    fn build(&self, site: Site) -> Node {
        let topic: Arc<str> = self.topic.clone().unwrap_or_else(|| match self.units[..] {
            [_] => Arc::clone(&site.name),
            _ => format!("{}/{UNIT}", site.name).into(),
        });
        let device = |unit: &u8| {
            let topic = name_of_unit(&topic, *unit).into();
            let device = Device::new(*unit, topic, Arc::clone(&self.reading), &site.data);
            if self.units.len() > 1 { device.among_others() } else { device }
        };
        let devices = self.units.iter().map(device).collect();
        Node::source(Poll { bus: site.connection(), every: self.every, devices, voice: site.voice })
    }

    fn inventory(&self) -> Inventory {
        inventory(self.reading.fields.iter())
    }

    fn fields(&self) -> Fields {
        Fields { reads: Vec::new(), sends: Sends::Only(self.names.clone()) }
    }

    fn check_on(&self, connection: &dyn Any) -> Vec<Problem> {
        let setting = if self.units.len() > 1 { "units" } else { "unit" };
        let unfit = self.units.iter().flat_map(|unit| unit_on_line(*unit, setting, connection));
        unfit.take(1).chain(Wants::unmet(self.wants.as_ref(), connection)).collect()
    }
}

impl Wants {
    pub fn new(after_connect: Option<Period>, profile: Option<&str>) -> Option<Wants> {
        Some(Wants { after_connect: after_connect?, profile: profile.map(str::to_owned) })
    }

    /// What is missing from the connection.
    pub fn unmet(wants: Option<&Wants>, connection: &dyn Any) -> Option<Problem> {
        let Wants { after_connect, profile } = wants?;
        let found = connection.downcast_ref::<Bus>()?.after_connect;
        if found >= *after_connect {
            return None;
        }
        let (setting, whose) = match profile {
            Some(name) => ("profile", format!("a device of profile `{name}`")),
            None => ("after_connect", "the device".to_owned()),
        };
        let soon = if found.is_zero() { "at once".to_owned() } else { format!("after {found}") };
        let message =
            format!("{whose} loses what comes in the first {after_connect}, and is asked {soon}");
        let label = format!("expected `after_connect: {after_connect}` on its connection");
        let problem = Problem::new(setting, message, label).rule(&ASKS_TOO_SOON).warning();
        Some(problem.of_connection("after_connect", after_connect.to_string()))
    }
}

/// What is wrong with a unit of a setting, should the connection be or lead to a serial line.
pub fn unit_on_line(unit: u8, setting: &str, connection: &dyn Any) -> Vec<Problem> {
    let bus = connection.downcast_ref::<Bus>();
    if bus.is_none_or(|bus| bus.line.is_none()) || (1..=247).contains(&unit) {
        return Vec::new();
    }
    let message = format!("no device on a serial line answers as unit {unit}");
    let label = format!("expected 1 to 247, found {unit}");
    vec![Problem::new(setting, message, label)]
}
