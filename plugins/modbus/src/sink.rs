//! The running sink: it does what a message says, and answers what it did.
//!
//! All of a message is checked before any of it is written. What cannot be written is refused; what
//! may have been written and was not confirmed is in doubt, and is not written again unless its user
//! said that it may be.

use std::{any::Any, sync::Arc};

use anyhow::{Context, Error, anyhow, bail};
use forebay_sdk::{
    Capabilities, Configured, Emitter, Inventory, Message, Node, Port, Problem, Sink, Site, Value,
    WriteError, Written,
};
use serde_json::{Map, json};
use tokio_modbus::ExceptionCode;
use tracing::info;

use crate::{
    ask::{Ask, MOST_EXCHANGED, MOST_WRITTEN, Write},
    block::{Block, Table},
    bus::SharedBus,
    encode::{Encoded, encode, truth},
    link::{Answer, Failure},
    orders::{self, ANSWERS, Bounds, Fate, Pace},
    reading::{Field, inventory},
    source::{Wants, unit_on_line},
};

/// A sink that was understood.
#[derive(Clone)]
pub struct ModbusSink {
    pub unit: u8,
    pub points: Arc<[Point]>,
    /// Whether a write whose answer is lost may be done again.
    pub repeat: bool,
    pub verify: bool,
    /// Registers are written and read back in one request (function 23).
    pub exchange: bool,
    pub bounds: Bounds,
    /// Functions 15 and 16 also for one coil or register.
    pub write_multiple: bool,
    pub dry_run: bool,
    pub wants: Option<Wants>,
}

/// What may be written or asked for, and which values.
#[derive(Clone, Debug)]
pub struct Point {
    pub field: Field,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub allow: Option<Vec<Value>>,
}

impl Configured for ModbusSink {
    fn build(&self, site: Site) -> Node {
        Node::sink(Writing {
            bus: site.connection(),
            name: site.name,
            sink: self.clone(),
            pace: Pace::default(),
        })
    }

    fn inventory(&self) -> Inventory {
        inventory(self.points.iter().map(|point| &point.field))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { repeats: self.repeat, ..orders::capabilities() }
    }

    fn outputs(&self) -> Vec<String> {
        vec![ANSWERS.to_owned()]
    }

    fn check_on(&self, connection: &dyn Any) -> Vec<Problem> {
        let unmet = Wants::unmet(self.wants.as_ref(), connection);
        unit_on_line(self.unit, "unit", connection).into_iter().chain(unmet).collect()
    }
}

struct Writing {
    /// None when the connection is something else.
    bus: Option<Arc<SharedBus>>,
    name: Arc<str>,
    sink: ModbusSink,
    pace: Pace,
}

/// What a message asks for: writes in the order of its names, with neighbours in one request, and then
/// reads.
struct Command<'a> {
    writes: Vec<Write>,
    written: Vec<(&'a Point, &'a Value)>,
    asked: Vec<&'a Point>,
}

impl Sink for Writing {
    async fn connect(&mut self) -> anyhow::Result<()> {
        Ok(self.bus()?.ready().await?)
    }

    async fn write(&mut self, batch: &[Message], out: &mut Emitter) -> Result<Written, WriteError> {
        for message in batch {
            self.carry_out(message, out).await?;
        }
        Ok(Written::default())
    }
}

impl Writing {
    fn bus(&self) -> anyhow::Result<&Arc<SharedBus>> {
        self.bus.as_ref().context("using the connection: it is not a Modbus bus")
    }

    async fn carry_out(&mut self, message: &Message, out: &mut Emitter) -> Result<(), WriteError> {
        self.sink.bounds.check_age(message).map_err(WriteError::reject)?;
        let payload = message.payload.value().map_err(|error| WriteError::reject(error.clone()))?;
        let command = self.sink.command(payload).map_err(WriteError::reject)?;
        self.sink.bounds.wait_for_turn(&mut self.pace)?;
        let bus = self.bus()?;
        let doing = Doing { sink: &self.sink, bus };
        let came = match self.sink.dry_run {
            true => Vec::new(),
            false => doing.writes(&command.writes).await?,
        };
        let mut read_points = command.asked;
        if self.sink.verifies() {
            read_points.extend(command.written.iter().map(|(point, _)| *point));
        }
        let (read, quality) = doing.reads(&read_points, &came, command.writes.is_empty()).await?;
        self.log(message, &command.written);
        if self.sink.verifies() {
            doing.verify(&command.written, &read)?;
        }
        let answer = self.answer(message, &command.written, read, quality);
        out.emit_to(Port::named(0), answer);
        Ok(())
    }

    /// Of each write it must be known afterwards who asked for it.
    fn log(&self, message: &Message, written: &[(&Point, &Value)]) {
        if written.is_empty() {
            return;
        }
        let values: Vec<String> =
            written.iter().map(|(point, value)| format!("{}={value}", point.field.name)).collect();
        let did = if self.sink.dry_run { "would write" } else { "wrote" };
        let source = message.meta.source.as_deref().unwrap_or_default();
        info!(node = %self.name, unit = self.sink.unit, topic = %message.topic, source,
            "{did} {}", values.join(" "));
    }

    fn answer(
        &self,
        message: &Message,
        written: &[(&Point, &Value)],
        read: Map<String, Value>,
        quality: Map<String, Value>,
    ) -> Message {
        let written =
            written.iter().map(|(point, value)| (point.field.name.clone(), (*value).clone()));
        let payload = json!({ "written": Map::from_iter(written), "read": read });
        let mut answer = Message::new(Arc::clone(&message.topic), payload);
        answer.meta = message.meta.clone();
        let mut modbus = json!({ "unit": self.sink.unit });
        if self.sink.dry_run {
            modbus["dry_run"] = true.into();
        }
        answer.meta.insert("modbus", modbus);
        if !quality.is_empty() {
            answer.meta.insert("quality", quality);
        }
        answer
    }
}

impl ModbusSink {
    /// A dry run leaves nothing to read back.
    fn verifies(&self) -> bool {
        (self.verify || self.exchange) && !self.dry_run
    }

    /// What a payload asks for, all of it checked.
    fn command<'a>(&'a self, payload: &'a Value) -> anyhow::Result<Command<'a>> {
        let mut command = Command { writes: Vec::new(), written: Vec::new(), asked: Vec::new() };
        let most = if self.exchange { MOST_EXCHANGED } else { MOST_WRITTEN };
        for (point, value) in self.wanted(payload)? {
            if value.is_null() {
                command.asked.push(point);
                continue;
            }
            let write =
                point.write(value).with_context(|| format!("writing `{}`", point.field.name))?;
            command.written.push((point, value));
            let is_taken =
                command.writes.last_mut().is_some_and(|last| last.takes_in(&write, most));
            if !is_taken {
                command.writes.push(write);
            }
        }
        if !self.write_multiple {
            command.writes.iter_mut().for_each(Write::make_single);
        }
        Ok(command)
    }

    /// How a write is carried out.
    fn ask(&self, write: &Write) -> Ask {
        let (at, values) = match write {
            Write::Registers(at, values) if self.exchange => (*at, values.clone()),
            Write::Register(at, value) if self.exchange => (*at, vec![*value]),
            _ => return Ask::Write(write.clone()),
        };
        let read = Block { table: Table::Holding, start: at, count: values.len() as u16 };
        Ask::Exchange { read, at, values }
    }

    /// The registers that a payload names, with the values for them.
    fn wanted<'a>(&'a self, payload: &'a Value) -> anyhow::Result<Vec<(&'a Point, &'a Value)>> {
        match (payload, &self.points[..]) {
            (Value::Object(values), points) => {
                let find = |name: &str| points.iter().find(|point| point.field.name == name);
                let point = |(name, value): (&'a String, &'a Value)| match find(name) {
                    Some(point) => Ok((point, value)),
                    None => Err(anyhow!("`{name}` is not among the `registers` of this sink")),
                };
                let wanted = values.iter().map(point).collect::<anyhow::Result<Vec<_>>>()?;
                if wanted.is_empty() {
                    bail!("the message names no register");
                }
                Ok(wanted)
            }
            (Value::Array(_), _) => bail!("expected a map from names to values, found a list"),
            (value, [point]) => Ok(vec![(point, value)]),
            (_, [first, ..]) => {
                let name = &first.field.name;
                bail!("expected a map from names to values, such as {{\"{name}\": 1}}")
            }
            (_, []) => bail!("the sink has no registers"),
        }
    }
}

impl Point {
    /// The write of a value, if it may be written.
    fn write(&self, value: &Value) -> anyhow::Result<Write> {
        let Field { block: Block { table, start, count }, form, refine, .. } = &self.field;
        self.is_allowed(value)?;
        match (*table, form) {
            (Table::Coil, _) => Ok(Write::Coils(*start, vec![truth(value).map_err(Error::msg)?])),
            (Table::Holding, Some(form)) => {
                match encode(value, form, refine.scaling, *count).map_err(Error::msg)? {
                    Encoded::Registers(registers) => Ok(Write::Registers(*start, registers)),
                    Encoded::Bits { mask, bits } => {
                        Ok(Write::Bits { register: *start, mask, bits })
                    }
                }
            }
            _ => bail!("{}s can only be read", table.noun()),
        }
    }

    fn is_allowed(&self, value: &Value) -> anyhow::Result<()> {
        let number = value.as_f64();
        if let Some(min) = self.min.filter(|min| number.is_some_and(|number| number < *min)) {
            bail!("expected at least {min}, found {value}");
        }
        if let Some(max) = self.max.filter(|max| number.is_some_and(|number| number > *max)) {
            bail!("expected at most {max}, found {value}");
        }
        // 1 and 1.0 are one value.
        let same = |allowed: &Value| {
            allowed == value || allowed.as_f64().is_some_and(|allowed| Some(allowed) == number)
        };
        if let Some(allow) = self.allow.as_ref().filter(|allow| !allow.iter().any(same)) {
            bail!("expected one of {}, found {value}", Value::from(allow.clone()));
        }
        Ok(())
    }
}

/// A message that is carried out.
struct Doing<'a> {
    sink: &'a ModbusSink,
    bus: &'a SharedBus,
}

impl Doing<'_> {
    /// What was read back in the same requests.
    async fn writes(&self, writes: &[Write]) -> Result<Vec<(Block, Answer)>, WriteError> {
        let mut came = Vec::new();
        for (done, write) in writes.iter().enumerate() {
            let ask = self.sink.ask(write);
            let outcome = self.bus.ask(self.sink.unit, ask.clone()).await;
            match outcome {
                Ok(answer) => came.extend(ask.reads().map(|block| (block, answer))),
                // "Acknowledge": the device has taken it, and needs longer than one waits.
                Err(Failure::Exception(ExceptionCode::Acknowledge)) => (),
                Err(failure) => return Err(self.explain(failure, &ask, done)),
            }
        }
        Ok(came)
    }

    /// What a failed write means, of which `done` requests before it were carried out.
    fn explain(&self, failure: Failure, ask: &Ask, done: usize) -> WriteError {
        let (unit, place) = (self.sink.unit, self.bus.place());
        let fate = Fate::of(&failure);
        let mut error = failure.into_error().context(format!("{ask} of unit {unit} at {place}"));
        if done > 0 {
            error =
                error.context(format!("{done} of its requests were carried out before this one"));
        }
        match (fate, done) {
            _ if self.sink.repeat && fate != Fate::Refused => WriteError::retry(error),
            (Fate::Refused, 0) => WriteError::reject(error),
            (Fate::NotSent(after), 0) => {
                WriteError::Retry { error, after: after.map(|after| *after), taken: 0 }
            }
            _ if self.sink.repeat => WriteError::reject(error),
            _ => WriteError::in_doubt(error),
        }
    }

    /// What stands in the registers now, of which some came with the writes, and why it is not known of some.
    async fn reads(
        &self,
        points: &[&Point],
        came: &[(Block, Answer)],
        is_all: bool,
    ) -> Result<(Map<String, Value>, Map<String, Value>), WriteError> {
        let (mut values, mut quality) = (Map::new(), Map::new());
        for point in points {
            let Field { name, block, .. } = &point.field;
            let ask = Ask::Read(*block);
            let known = came.iter().find(|(whole, _)| whole.holds(*block));
            let outcome = match known {
                Some((whole, answer)) => Ok(answer.part(*whole, *block)),
                None => self.bus.ask(self.sink.unit, ask.clone()).await,
            };
            let outcome = match outcome {
                Ok(answer) => Ok(answer),
                // Nothing was written, so all of it can be done again.
                Err(failure) if is_all && Fate::of(&failure) != Fate::Refused => {
                    let (unit, place) = (self.sink.unit, self.bus.place());
                    let error =
                        failure.into_error().context(format!("{ask} of unit {unit} at {place}"));
                    return Err(WriteError::retry(error));
                }
                Err(failure) => Err(failure.to_string()),
            };
            let found = point.field.value(*block, &outcome, None).unwrap_or_else(|reason| {
                quality.insert(name.clone(), reason.into());
                Value::Null
            });
            values.insert(name.clone(), found);
        }
        Ok((values, quality))
    }

    /// Whether the device has what was written, as near as it can have it.
    fn verify(
        &self,
        written: &[(&Point, &Value)],
        read: &Map<String, Value>,
    ) -> Result<(), WriteError> {
        for (point, value) in written {
            let name = &point.field.name;
            let found = &read[name];
            if found.is_null() {
                let error = anyhow!("wrote {value} to `{name}`, and could not read it back");
                return Err(if self.sink.repeat {
                    WriteError::retry(error)
                } else {
                    WriteError::in_doubt(error)
                });
            }
            let is_it = point.write(found).ok() == point.write(value).ok();
            if !is_it {
                return Err(WriteError::reject(anyhow!(
                    "wrote {value} to `{name}`, and the device has {found}"
                )));
            }
        }
        Ok(())
    }
}

impl Write {
    /// Takes in a write that goes on where this one ends, up to so many registers.
    fn takes_in(&mut self, next: &Write, most: usize) -> bool {
        match (self, next) {
            (Write::Registers(at, values), Write::Registers(next_at, more))
                if usize::from(*at) + values.len() == usize::from(*next_at)
                    && values.len() + more.len() <= most =>
            {
                values.extend(more);
                true
            }
            (Write::Coils(at, coils), Write::Coils(next_at, more))
                if usize::from(*at) + coils.len() == usize::from(*next_at)
                    && coils.len() + more.len() <= MOST_WRITTEN * 16 =>
            {
                coils.extend(more);
                true
            }
            _ => false,
        }
    }

    /// Functions 5 and 6 are what most devices know for one coil and one register.
    fn make_single(&mut self) {
        *self = match self {
            Write::Coils(at, coils) if coils.len() == 1 => Write::Coil(*at, coils[0]),
            Write::Registers(at, values) if values.len() == 1 => Write::Register(*at, values[0]),
            _ => return,
        };
    }
}
