//! The sink that carries out single requests, as they would go on the wire. A message asks, and the
//! answer comes out.
//!
//! A request is tried once: who sent it waits for an answer, and knows better than we whether it is
//! still wanted later.

use std::{any::Any, ops::RangeInclusive, sync::Arc};

use anyhow::{Context, anyhow, bail, ensure};
use forebay_sdk::{
    Capabilities, Configured, Emitter, Message, Node, Port, Problem, Sink, Site, Value, WriteError,
    Written,
};
use serde_json::{Map, json};
use tokio_modbus::ExceptionCode;
use tracing::info;

use crate::{
    ask::{Ask, MOST_EXCHANGED, MOST_WRITTEN, Write},
    block::{Block, Table},
    bus::SharedBus,
    encode::truth,
    link::{Answer, Failure},
    orders::{self, ANSWERS, Bounds, Fate, Pace},
    source::unit_on_line,
};

/// The most registers that one request reads (MODBUS Application Protocol V1.1b3, section 6.3).
const MOST_READ: u16 = 125;
/// What a message may say.
const KEYS: [&str; 7] = ["id", "unit", "function", "address", "count", "values", "write_address"];

/// A sink that was understood.
#[derive(Clone)]
pub struct RequestSink {
    pub permitted: Permitted,
    pub bounds: Bounds,
    pub dry_run: bool,
}

/// What messages may ask for.
#[derive(Clone, Debug)]
pub struct Permitted {
    pub units: Vec<u8>,
    /// None: everything.
    pub read: Option<Vec<(Table, Vec<RangeInclusive<u16>>)>>,
    pub write: Vec<(Table, Vec<RangeInclusive<u16>>)>,
}

impl Configured for RequestSink {
    fn build(&self, site: Site) -> Node {
        Node::sink(Requests {
            bus: site.connection(),
            name: site.name,
            sink: self.clone(),
            pace: Pace::default(),
        })
    }

    fn capabilities(&self) -> Capabilities {
        orders::capabilities()
    }

    fn outputs(&self) -> Vec<String> {
        vec![ANSWERS.to_owned()]
    }

    fn check_on(&self, connection: &dyn Any) -> Vec<Problem> {
        let units = self.permitted.units.iter();
        let wrong = |unit: &u8| unit_on_line(*unit, "units", connection);
        units.flat_map(wrong).take(1).collect()
    }
}

struct Requests {
    /// None when the connection is something else.
    bus: Option<Arc<SharedBus>>,
    name: Arc<str>,
    sink: RequestSink,
    pace: Pace,
}

/// What a message asks for.
#[derive(Debug, PartialEq)]
struct Request {
    /// What the message is told by, for whoever sent it.
    id: Option<Value>,
    unit: u8,
    function: u8,
    address: u16,
    /// What is written, as the message has it.
    values: Vec<Value>,
    ask: Ask,
}

impl Sink for Requests {
    async fn connect(&mut self) -> anyhow::Result<()> {
        self.bus.as_ref().context("using the connection: it is not a Modbus bus").map(drop)
    }

    async fn write(&mut self, batch: &[Message], out: &mut Emitter) -> Result<Written, WriteError> {
        for message in batch {
            self.carry_out(message, out).await?;
        }
        Ok(Written::default())
    }
}

impl Requests {
    async fn carry_out(&mut self, message: &Message, out: &mut Emitter) -> Result<(), WriteError> {
        self.sink.bounds.check_age(message).map_err(WriteError::reject)?;
        let payload = message.payload.value().map_err(|error| WriteError::reject(error.clone()))?;
        let request = self.sink.permitted.request(payload).map_err(WriteError::reject)?;
        self.sink.bounds.wait_for_turn(&mut self.pace)?;
        let bus = self.bus.as_deref().context("using the connection: it is not a Modbus bus")?;
        let answer = if self.sink.dry_run && !request.ask.is_read() {
            Answer::Written
        } else {
            self.ask(bus, &request).await?
        };
        self.log(message, &request);
        out.emit_to(Port::named(0), self.answer(message, request, answer));
        Ok(())
    }

    async fn ask(&self, bus: &SharedBus, request: &Request) -> Result<Answer, WriteError> {
        let Request { unit, ask, .. } = request;
        let failure = match bus.ask(*unit, ask.clone()).await {
            Ok(answer) => return Ok(answer),
            // The device has taken it, and needs longer than one waits.
            Err(Failure::Exception(ExceptionCode::Acknowledge)) if matches!(ask, Ask::Write(_)) => {
                return Ok(Answer::Written);
            }
            Err(failure) => failure,
        };
        let fate = Fate::of(&failure);
        let error = anyhow!(failure).context(format!("{ask} of unit {unit} at {}", bus.place()));
        Err(match fate {
            Fate::Unknown if !ask.is_read() => WriteError::in_doubt(error),
            _ => WriteError::reject(error),
        })
    }

    /// Of each write it must be known afterwards who asked for it.
    fn log(&self, message: &Message, Request { unit, ask, values, .. }: &Request) {
        if ask.is_read() {
            return;
        }
        let did = if self.sink.dry_run { "not done, in a dry run" } else { "done" };
        let source = message.meta.source.as_deref().unwrap_or_default();
        info!(node = %self.name, unit, topic = %message.topic, source,
            "{did}: {ask}: {}", serde_json::to_string(values).unwrap_or_default());
    }

    fn answer(&self, message: &Message, request: Request, answer: Answer) -> Message {
        let Request { id, unit, function, address, values, .. } = request;
        let values = match answer {
            Answer::Registers(registers) => Value::from(registers),
            Answer::Bits(bits) => Value::from(bits),
            Answer::Written | Answer::Identity(_) => Value::from(values),
        };
        let mut payload = Map::new();
        payload.extend(id.map(|id| ("id".to_owned(), id)));
        let rest =
            json!({ "unit": unit, "function": function, "address": address, "values": values });
        if let Value::Object(rest) = rest {
            payload.extend(rest);
        }
        let mut answer = Message::new(Arc::clone(&message.topic), Value::Object(payload));
        answer.meta = message.meta.clone();
        if self.sink.dry_run {
            answer.meta.insert("modbus", json!({ "dry_run": true }));
        }
        answer
    }
}

impl Permitted {
    /// What a payload asks for, all of it checked.
    fn request(&self, payload: &Value) -> anyhow::Result<Request> {
        const EXAMPLE: &str = r#"expected a map such as {"function": 3, "address": 0, "count": 2}"#;
        let asked = payload.as_object().with_context(|| format!("{EXAMPLE}, found {payload}"))?;
        if let Some(unknown) = asked.keys().find(|key| !KEYS.contains(&key.as_str())) {
            bail!("`{unknown}` is not known: expected {}", KEYS.join(", "));
        }
        let unit = match self.units[..] {
            [only] if !asked.contains_key("unit") => only,
            _ => u8::try_from(number(asked, "unit", 0..=255)?)?,
        };
        ensure!(self.units.contains(&unit), "unit {unit} is not among the `units` of this sink");
        let function = u8::try_from(number(asked, "function", 1..=23)?)?;
        let address = u16::try_from(number(asked, "address", 0..=0xFFFF)?)?;
        let values = match asked.get("values") {
            None => Vec::new(),
            Some(Value::Array(values)) => values.clone(),
            Some(value) => vec![value.clone()],
        };
        let ask = ask(asked, function, address, &values)?;
        self.allows(&ask)?;
        Ok(Request { id: asked.get("id").cloned(), unit, function, address, values, ask })
    }

    fn allows(&self, ask: &Ask) -> anyhow::Result<()> {
        let (read, written) = (ask.reads(), ask.writes());
        if let (Some(block), Some(permitted)) = (read, &self.read) {
            ensure!(holds(permitted, block), "{block}: not among what this sink may `read`");
        }
        if let Some(block) = written {
            ensure!(holds(&self.write, block), "{block}: not among what this sink may `write`");
        }
        Ok(())
    }
}

/// Whether one of the ranges has all of a block.
fn holds(permitted: &[(Table, Vec<RangeInclusive<u16>>)], block: Block) -> bool {
    let of_table = permitted.iter().filter(|(table, _)| *table == block.table);
    let mut ranges = of_table.flat_map(|(_, ranges)| ranges);
    ranges.any(|range| *range.start() <= block.start && block.end() <= u32::from(*range.end()) + 1)
}

/// What goes on the wire.
fn ask(
    asked: &Map<String, Value>,
    function: u8,
    address: u16,
    values: &[Value],
) -> anyhow::Result<Ask> {
    let is_exchange = function == 23;
    ensure!(
        is_exchange || !asked.contains_key("write_address"),
        "function {function} has no use for `write_address`"
    );
    let reads = |table: Table| {
        let most = table.most_in_one_request(MOST_READ);
        let most = most.min(0x1_0000 - u32::from(address));
        let count = match asked.contains_key("count") {
            true => number(asked, "count", 1..=most.into())?,
            false => 1,
        };
        anyhow::Ok(Block { table, start: address, count: u16::try_from(count)? })
    };
    if function <= 4 {
        ensure!(values.is_empty(), "function {function} has no use for `values`");
    } else if let (false, Some(count)) = (is_exchange, asked.get("count")) {
        let is_it = count.as_u64() == Some(values.len() as u64);
        ensure!(is_it, "expected as many `values` as `count`, found {} and {count}", values.len());
    }
    Ok(match function {
        1 => Ask::Read(reads(Table::Coil)?),
        2 => Ask::Read(reads(Table::Discrete)?),
        3 => Ask::Read(reads(Table::Holding)?),
        4 => Ask::Read(reads(Table::Input)?),
        5 => Ask::Write(Write::Coil(address, coil(only(values)?)?)),
        6 => Ask::Write(Write::Register(address, register(only(values)?)?)),
        15 => Ask::Write(Write::Coils(address, several(values, address, MOST_WRITTEN * 16, coil)?)),
        16 => {
            Ask::Write(Write::Registers(address, several(values, address, MOST_WRITTEN, register)?))
        }
        23 => {
            let at = u16::try_from(number(asked, "write_address", 0..=0xFFFF)?)?;
            let values = several(values, at, MOST_EXCHANGED, register)?;
            Ask::Exchange { read: reads(Table::Holding)?, at, values }
        }
        _ => bail!("expected `function` 1 to 6, 15, 16 or 23, found {function}"),
    })
}

fn only(values: &[Value]) -> anyhow::Result<&Value> {
    match values {
        [value] => Ok(value),
        _ => bail!("expected one value in `values`, found {}", values.len()),
    }
}

/// Values that are written from an address on.
fn several<T>(
    values: &[Value],
    at: u16,
    most: usize,
    read: impl Fn(&Value) -> anyhow::Result<T>,
) -> anyhow::Result<Vec<T>> {
    let most = most.min(0x1_0000 - usize::from(at));
    let count = values.len();
    ensure!((1..=most).contains(&count), "expected 1 to {most} `values`, found {count}");
    values.iter().map(read).collect()
}

fn coil(value: &Value) -> anyhow::Result<bool> {
    truth(value).map_err(anyhow::Error::msg)
}

fn register(value: &Value) -> anyhow::Result<u16> {
    let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
    number.with_context(|| format!("expected 0 to 65535 in `values`, found {value}"))
}

fn number(
    asked: &Map<String, Value>,
    key: &str,
    within: RangeInclusive<u64>,
) -> anyhow::Result<u64> {
    let (least, most) = (within.start(), within.end());
    let expected = || format!("expected `{key}`, {least} to {most}");
    let value = asked.get(key).with_context(expected)?;
    let number = value.as_u64().filter(|number| within.contains(number));
    number.with_context(|| format!("{}, found {value}", expected()))
}
