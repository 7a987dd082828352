//! The devices on a bus, for tests of pipelines: those of `simulate modbus`, in a world in memory.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::anyhow;
use forebay_sdk::{
    Finding, Message, Peer, Problem,
    finding::nearest,
    peer::{Played, Side, Stage},
    schema_of,
    yaml::{self, Yaml},
};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    CLIENTS,
    fault::Faults,
    server::{Devices, Simulator, Wire},
    settings::{DeviceSettings, FaultSettings, put},
};
use crate::{bus::Bus, frame::Framing, reading::Field, sink::ModbusSink, source::ModbusSource};

/// What a test says of the devices on a bus.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DevicesSettings {
    /// What the registers of a node hold, by the name of the node and that of the register, as the node would read them:
    /// `{ meter: { flow_temp: 21.5 } }`. They may move, as in a file of `forebay simulate modbus`. Zero unless given.
    #[serde(default)]
    values: BTreeMap<String, BTreeMap<String, Value>>,
    /// Devices as `forebay simulate modbus` has them. A device takes the place of what the nodes read at its units.
    #[serde(default)]
    devices: Vec<DeviceSettings>,
    /// What goes wrong from now on, in the place of what did before.
    faults: Option<Vec<FaultSettings>>,
}

/// The peer.
pub fn peer() -> Peer {
    Peer {
        side: Side::Connection("modbus"),
        summary: "The devices on a bus: registers that change, and faults.",
        schema: schema_of::<DevicesSettings>,
        play: |stage| Box::new(Playing::new(stage)),
    }
}

/// The registers of nodes, by their names, with the units that have them.
type Known = BTreeMap<Arc<str>, (Vec<u8>, Vec<Field>)>;

/// Devices that are played.
struct Playing {
    stage: Stage,
    simulator: Simulator,
    /// The registers that nodes know, by the names of the nodes, with the units that have them.
    known: Known,
    /// What was written to the devices.
    taken: Arc<Mutex<Vec<(Instant, Message)>>>,
}

impl Playing {
    fn new(stage: Stage) -> Playing {
        let mut known = Known::new();
        for (name, configured) in &stage.users {
            let user = &**configured as &dyn Any;
            if let Some(source) = user.downcast_ref::<ModbusSource>() {
                know(&mut known, name, &source.units, source.reading.fields.to_vec());
            }
            if let Some(sink) = user.downcast_ref::<ModbusSink>() {
                let fields = sink.points.iter().map(|point| point.field.clone()).collect();
                know(&mut known, name, &[sink.unit], fields);
            }
        }
        let taken: Arc<Mutex<Vec<(Instant, Message)>>> = Arc::default();
        let written = Arc::clone(&taken);
        let mut devices = Devices {
            units: BTreeMap::new(),
            faults: Faults::new(Vec::new(), stage.seed),
            most_clients: CLIENTS,
            swallow: std::time::Duration::ZERO,
            told: Box::new(move |unit, request| {
                let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
                written.push((Instant::now(), write(unit, request)));
            }),
        };
        for (units, fields) in known.values() {
            for (unit, field) in
                units.iter().flat_map(|unit| fields.iter().map(move |it| (*unit, it)))
            {
                // Those of a SunSpec model are at no place of their own: a test gives such a device whole.
                if field.models.is_none() {
                    let image = devices.units.entry(unit).or_default();
                    put(image, field, None, stage.seed).expect("zeros fit everywhere");
                }
            }
        }
        Playing { stage, simulator: Simulator::new(devices), known, taken }
    }

    /// Puts one value, at all units of its node.
    fn put(&self, node: &str, register: &str, value: &Value) -> Result<(), (String, String)> {
        let Some((units, fields)) = self.known.get(node) else {
            let names = self.known.keys().map(|name| &**name);
            let label = match nearest(node, names.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("expected one of {}", names.collect::<Vec<_>>().join(", ")),
            };
            return Err((format!("no node on this bus is named `{node}`"), label));
        };
        let Some(field) = fields.iter().find(|field| field.name == register) else {
            let names = fields.iter().map(|field| field.name.as_str());
            let label = match nearest(register, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "expected the `name` of one of its registers".to_owned(),
            };
            return Err((format!("`{node}` has no register `{register}`"), label));
        };
        let message = || format!("`{register}` cannot hold its value");
        if field.models.is_some() {
            return Err((
                message(),
                "expected it in `devices`: it is in a SunSpec model".to_owned(),
            ));
        }
        let mut devices = self.simulator.devices();
        for unit in units {
            let image = devices.units.entry(*unit).or_default();
            image.still(field.block);
            put(image, field, Some(value), self.stage.seed).map_err(|label| (message(), label))?;
        }
        Ok(())
    }

    fn change(&self, settings: DevicesSettings, problems: &mut Vec<Problem>) {
        for (index, device) in settings.devices.iter().enumerate() {
            let path = format!("devices[{index}]");
            let (image, _) = device.resolve(&path, self.stage.seed, problems);
            for unit in device.units(&path, problems) {
                self.simulator.devices().units.insert(unit, image.clone());
            }
        }
        for (node, values) in &settings.values {
            for (register, value) in values {
                if let Err((message, label)) = self.put(node, register, value) {
                    let path = format!("values.{node}.{register}");
                    problems.push(Problem::new(path, message, label));
                }
            }
        }
        let Some(faults) = settings.faults else { return };
        let mut understood = Vec::new();
        for (index, fault) in faults.into_iter().enumerate() {
            match fault.resolve() {
                Ok(fault) => understood.push(fault),
                Err(label) => {
                    let path = format!("faults[{index}]");
                    problems.push(Problem::new(path, "the fault cannot happen", label));
                }
            }
        }
        self.simulator.devices().faults = Faults::new(understood, self.stage.seed);
    }
}

impl Played for Playing {
    fn tell(&mut self, said: &Yaml, findings: &mut Vec<Finding>) {
        let settings: Option<DevicesSettings> = yaml::decode(said, "the bus", findings);
        let Some(settings) = settings else { return };
        let mut problems = Vec::new();
        self.change(settings, &mut problems);
        findings.extend(problems.into_iter().map(|problem| problem.at(|path| said.at(path).span)));
    }

    fn serve(&mut self) -> BoxFuture<'static, ()> {
        let bus = self.stage.connection::<Bus>();
        let framing = bus.map_or(Framing::Tcp, |bus| bus.to.framing());
        let wire = Wire { framing, line: bus.and_then(|bus| bus.line) };
        let doors = self.stage.places.iter().map(|place| self.stage.memory.open(place));
        let serving: Vec<_> =
            doors.map(|door| self.simulator.clone().serve(Box::new(door), wire)).collect();
        join_all(serving).map(|_| ()).boxed()
    }

    fn send(&self, _: Message) -> BoxFuture<'static, anyhow::Result<()>> {
        async { Err(anyhow!("a device on a bus says nothing by itself: change its values")) }
            .boxed()
    }

    fn taken(&self) -> Vec<(Instant, Message)> {
        std::mem::take(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What runs over the test can be several nodes of one name, one after the other.
fn know(known: &mut Known, name: &Arc<str>, units: &[u8], fields: Vec<Field>) {
    let (of_units, of_fields) = known.entry(Arc::clone(name)).or_default();
    of_units
        .extend(units.iter().filter(|unit| !of_units.contains(unit)).copied().collect::<Vec<_>>());
    of_fields.extend(fields);
}

/// A write that was carried out, as a test sees it.
fn write(unit: u8, request: &[u8]) -> Message {
    let at = if request[0] == 23 { 5 } else { 1 };
    let word = |pair: &[u8]| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
    let address = word(&request[at..]);
    let values: Vec<u16> = match request[0] {
        5 => vec![u16::from(request[3] != 0)],
        6 | 22 => request[3..].chunks(2).map(word).collect(),
        15 => {
            let count = word(&request[3..]);
            (0..count)
                .map(|bit| u16::from(request[6 + usize::from(bit / 8)] >> (bit % 8) & 1))
                .collect()
        }
        16 => request[6..].chunks(2).map(word).collect(),
        _ => request[10..].chunks(2).map(word).collect(),
    };
    let table = if matches!(request[0], 5 | 15) { "coil" } else { "holding" };
    let payload = json!({ "unit": unit, table: address, "values": values });
    Message::new(format!("unit/{unit}"), payload)
}
