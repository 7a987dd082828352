//! Tries the way to Modbus devices step by step, for `forebay doctor`. It only ever reads.

use std::collections::BTreeMap;

use forebay_sdk::{Examination, Voice, world::Dial};
use tokio::time::{Instant, sleep};

use crate::{
    ask::Ask,
    block::{Block, Table},
    bus::Bus,
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
    for (unit, block) in units(asked) {
        ask(bus, &mut link, unit, block, asked).await;
        link.settle(*bus.pause).await;
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

async fn ask(bus: &Bus, link: &mut Link, unit: u8, block: Block, asked: &Examination<'_>) {
    let what = format!("unit {unit}");
    // A device may sleep through the first request after a while.
    let mut failure = None;
    for _ in 0..2 {
        let began = Instant::now();
        match link.call(unit, &Ask::Read(block), bus.timeout).await {
            Ok(_) => {
                let ms = began.elapsed().as_millis();
                return asked.fine(what, format!("{block} was read within {ms} ms"));
            }
            Err(Failure::Silence { patience, stray }) => {
                failure = Some(Failure::Silence { patience, stray });
            }
            Err(Failure::Exception(code)) => {
                let seen =
                    format!("it answers, and to reading {block}: {}", Failure::Exception(code));
                let help = "`forebay probe` shows which registers it has";
                return asked.doubt(what, seen, help);
            }
            Err(other) => {
                let help = "it may speak another kind of frames (`tcp://`, `rtu+tcp://`), or serve somebody else";
                return asked.wrong(what, other.to_string(), help);
            }
        }
    }
    let Some(failure) = failure else { return };
    let help = match bus.to {
        Place::Serial(..) => {
            "`baud`, `parity`, the address that is set at the device, A and B, and the resistors at the ends"
        }
        Place::Network(..) => {
            "the address of the unit, and behind a gateway its line; `forebay probe` looks for those that answer"
        }
    };
    asked.wrong(what, format!("reading {block}: {failure}"), help);
}
