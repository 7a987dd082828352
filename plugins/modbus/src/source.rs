//! A source that was understood.

use std::{any::Any, collections::BTreeSet, sync::Arc};

use forebay_sdk::{Configured, Fields, Node, Period, Problem, Sends, Site};

use crate::{
    bus::Bus,
    poll::{Device, Poll},
    reading::{Reading, UNIT, name_of_unit},
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

    fn fields(&self) -> Fields {
        Fields { reads: Vec::new(), sends: Sends::Only(self.names.clone()) }
    }

    fn check_on(&self, connection: &dyn Any) -> Vec<Problem> {
        self.units.iter().flat_map(|unit| unit_on_line(*unit, "unit", connection)).take(1).collect()
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
