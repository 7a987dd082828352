//! Tries the way to Modbus devices step by step, for `forebay doctor`. It only ever reads.

use std::collections::BTreeMap;

use forebay_sdk::{Examination, Voice, world::Dial};
use tokio::time::{Instant, sleep};

use crate::{
    ask::Ask,
    block::{Block, Table},
    bus::Bus,
    frame::Framing,
    link::{Failure, Link, Place},
    source::ModbusSource,
};

/// What every device should have an answer to, if it is to refuse it.
const ANY: Block = Block { table: Table::Holding, start: 0, count: 1 };
/// What is asked of whom, when no source says.
const USUAL_UNIT: u8 = 1;

/// Looks at everything that can go wrong between here and the devices of a bus.
pub async fn examine(bus: &Bus, asked: &Examination<'_>) {
    if let Place::Network(to, _) = &bus.to
        && asked.reach(Dial::new(to.clone()), bus.connect_timeout).await.is_none()
    {
        return;
    }
    let voice = Voice::unheard();
    let opened = Link::open(&asked.site.world, &bus.to, bus.connect_timeout, &voice).await;
    let mut link = match opened {
        Ok(link) => link,
        Err(error) => {
            let help = match bus.to {
                Place::Serial(..) => {
                    "is it plugged in, named right in `url`, used by nobody else, and may this program use it?"
                }
                Place::Network(..) => {
                    "many devices serve one connection at a time: does anybody else have it?"
                }
            };
            return asked.wrong("line", format!("{error:#}"), help);
        }
    };
    if let Place::Serial(device, _) = &bus.to {
        asked.fine("line", format!("{} is open", device.display()));
    }
    sleep(*bus.after_connect).await;
    let units = units(asked);
    let mut is_there = false;
    for (unit, block) in &units {
        is_there |= ask(bus, &mut link, *unit, *block, asked).await;
        link.settle(*bus.pause).await;
    }
    // A device may serve one connection at a time.
    drop(link);
    if !is_there && let Some((unit, block)) = units.first_key_value() {
        try_other_frames(bus, *unit, *block, asked).await;
    }
}

/// Converters speak RTU or Modbus TCP, as they are set.
async fn try_other_frames(bus: &Bus, unit: u8, block: Block, asked: &Examination<'_>) {
    let Place::Network(to, framing) = &bus.to else { return };
    let (other, scheme, name) = match framing {
        Framing::Rtu => (Framing::Tcp, "tcp://", "Modbus TCP"),
        Framing::Tcp | Framing::Unnumbered => (Framing::Rtu, "rtu+tcp://", "RTU over TCP"),
    };
    let place = Place::Network(to.clone(), other);
    let (world, voice) = (&asked.site.world, Voice::unheard());
    let Ok(mut link) = Link::open(world, &place, bus.connect_timeout, &voice).await else { return };
    sleep(*bus.after_connect).await;
    if let Ok(_) | Err(Failure::Exception(_)) =
        link.call(unit, &Ask::Read(block), bus.timeout).await
    {
        asked.wrong(
            "frames",
            format!("unit {unit} answers in {name}"),
            format!("`url: \"{scheme}{to}\"`"),
        );
    }
}

/// The devices of the sources on the bus, each with the first thing that is read of it.
fn units(asked: &Examination<'_>) -> BTreeMap<u8, Block> {
    let mut units = BTreeMap::new();
    for source in asked.users.iter().filter_map(|(_, user)| user.downcast_ref::<ModbusSource>()) {
        let first = source.reading.fields.iter().find(|field| field.models.is_none());
        let block = first.map_or(ANY, |field| field.block);
        source.units.iter().for_each(|unit| {
            units.entry(*unit).or_insert(block);
        });
    }
    if units.is_empty() {
        units.insert(USUAL_UNIT, ANY);
    }
    units
}

/// Says whether it answers.
async fn ask(bus: &Bus, link: &mut Link, unit: u8, block: Block, asked: &Examination<'_>) -> bool {
    let what = format!("unit {unit}");
    // A device may sleep through the first request after a while.
    let mut failure = None;
    for _ in 0..2 {
        let began = Instant::now();
        match link.call(unit, &Ask::Read(block), bus.timeout).await {
            Ok(_) => {
                let ms = began.elapsed().as_millis();
                asked.fine(what, format!("{block} was read within {ms} ms"));
                return true;
            }
            Err(Failure::Silence { patience, stray }) => {
                failure = Some(Failure::Silence { patience, stray });
            }
            Err(Failure::Exception(code)) => {
                let seen =
                    format!("it answers, and to reading {block}: {}", Failure::Exception(code));
                let help = "`forebay probe` shows which registers it has";
                asked.doubt(what, seen, help);
                return true;
            }
            Err(other) => {
                let help = "it may speak another kind of frames (`tcp://`, `rtu+tcp://`), or serve somebody else";
                asked.wrong(what, other.to_string(), help);
                return false;
            }
        }
    }
    let Some(failure) = failure else { return false };
    let help = match bus.to {
        Place::Serial(..) => {
            "`baud`, `parity`, the address that is set at the device, A and B, and the resistors at the ends"
        }
        Place::Network(..) => {
            "the address of the unit, and behind a gateway its line; `forebay probe` looks for those that answer"
        }
    };
    asked.wrong(what, format!("reading {block}: {failure}"), help);
    false
}
