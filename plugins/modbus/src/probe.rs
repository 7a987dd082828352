//! `forebay probe`: looks at a Modbus device, and only ever reads.

mod guess;
mod kinds;
mod look;
mod report;

use std::time::Duration;

use anyhow::{anyhow, bail};
use forebay_sdk::{
    Period, Tool,
    tool::{Argument, Call, Stopped, Takes},
};
use futures_util::FutureExt;

use self::{
    kinds::Shown,
    look::{Budget, End, Looker},
    report::{Report, ranges},
};
use crate::{
    block::{Block, Table},
    frame::Framing,
    link::Place,
    place,
    settings::{Numbers, units},
};

const REQUESTS: usize = 250;
const TIME: Duration = Duration::from_secs(60);
/// For each answer, unless told otherwise.
const TIMEOUT: Period = Period(Duration::from_secs(1));
/// What is looked at unless told otherwise: where most devices have something.
const USUAL: [(Table, u16, u16); 5] = [
    (Table::Input, 0, 60),
    (Table::Holding, 0, 60),
    (Table::Holding, 40_000, 4),
    (Table::Coil, 0, 16),
    (Table::Discrete, 0, 16),
];
/// A range that was asked for is taken apart to the single register, another not as far.
const FINEST: [u16; 2] = [1, 2];
/// So many units are looked at closely when nobody asked for one.
const MOST_UNITS: usize = 3;
/// Those of most devices.
const USUAL_UNITS: [u8; 5] = [1, 2, 3, 4, 5];

/// The verb.
pub fn tool() -> Tool {
    Tool {
        path: &["probe"],
        summary: "Look at a Modbus device: who answers, what, how fast, and what it may mean.",
        about: "It only ever reads (functions 1 to 4, and 43 for what a device says of itself). Without a\n\
                range it looks where most devices have something. What it prints last is a pipeline\n\
                to paste.\n\n  \
                forebay probe tcp://192.168.1.50\n  \
                forebay probe 'rtu:///dev/ttyUSB0?baud=9600' --unit 1-20\n  \
                forebay probe tcp://192.168.1.50 --unit 1 --input 0..99",
        arguments: &[
            Argument {
                name: "URL",
                takes: Takes::Place,
                about: "Where the bus is, as the `url` of a connection",
            },
            Argument {
                name: "unit",
                takes: Takes::One("UNITS"),
                about: "Addresses of devices: 1, or 1-20, or 1,3,7-9 [default: 1-5]",
            },
            Argument {
                name: "input",
                takes: Takes::Several("RANGE"),
                about: "Input registers: 0..99, or 0-99, or 52",
            },
            Argument {
                name: "holding",
                takes: Takes::Several("RANGE"),
                about: "Holding registers",
            },
            Argument { name: "coil", takes: Takes::Several("RANGE"), about: "Coils" },
            Argument { name: "discrete", takes: Takes::Several("RANGE"), about: "Discrete inputs" },
            Argument {
                name: "kind",
                takes: Takes::One("KINDS"),
                about: "Shows these kinds too, each in every order: u64,f64, or all",
            },
            Argument {
                name: "timeout",
                takes: Takes::One("TIME"),
                about: "How long to wait for each answer [default: 1s]",
            },
            Argument {
                name: "requests",
                takes: Takes::One("N"),
                about: "The most requests that are made [default: 250]",
            },
            Argument {
                name: "within",
                takes: Takes::One("TIME"),
                about: "How long it may take [default: 1m]",
            },
            Argument {
                name: "format",
                takes: Takes::One("FORMAT"),
                about: "`text`, or `json` for programs [default: text]",
            },
        ],
        schema: None,
        run: |call| run(call).map(|ended| ended.map_err(Stopped::Failed)).boxed(),
    }
}

/// What is to be looked at.
struct Wanted {
    units: Vec<u8>,
    ranges: Vec<Block>,
    /// Of how many registers a refused request is not asked in parts.
    finest: u16,
    /// What is shown beside the usual kinds.
    kinds: Vec<Shown>,
    is_json: bool,
}

async fn run(call: Call) -> anyhow::Result<()> {
    let url = call.given.one("URL").unwrap_or_default();
    let (to, line) = place::parse(url).map_err(|expected| match place::meant(url) {
        Some(meant) => anyhow!("`{url}` does not lead to a bus: {expected}; perhaps `{meant}`"),
        None => anyhow!("`{url}` does not lead to a bus: {expected}"),
    })?;
    let wanted = wanted(&call)?;
    let timeout = period(&call, "timeout")?.unwrap_or(TIMEOUT);
    let requests = match call.given.one("requests") {
        Some(text) => text.parse().map_err(|_| anyhow!("`--requests` wants a whole number"))?,
        None => REQUESTS,
    };
    let time = period(&call, "within")?.map_or(TIME, |period| *period);
    let budget = Budget { requests, time };
    let mut looker = Looker::new(to, line, timeout, budget, &call.world, &*call.screen);
    looker.open().await?;
    let report = look(&mut looker, &wanted, url).await?;
    call.screen.progress("");
    if wanted.is_json {
        call.screen.print(&format!("{:#}\n", report.json()));
        return Ok(());
    }
    call.screen.print(&report.text());
    let yaml = report.yaml();
    if !yaml.is_empty() {
        call.screen.print(&format!("\n# to paste into a file of pipelines\n{yaml}"));
    }
    Ok(())
}

async fn look(looker: &mut Looker<'_>, wanted: &Wanted, url: &str) -> anyhow::Result<Report> {
    let mut units = end(looker.units(&wanted.units).await)?.unwrap_or_default();
    let mut there: Vec<u8> =
        units.iter().filter(|(_, there)| there.is_ok()).map(|(unit, _)| *unit).collect();
    if there.is_empty() {
        bail!("{}", nobody(looker, &wanted.units, &units));
    }
    let is_network = matches!(looker.to, Place::Network(_, Framing::Tcp | Framing::Unnumbered));
    let answers_all = is_network && units.len() > 2 && there.len() == units.len();
    there.truncate(if answers_all { 1 } else { MOST_UNITS.max(wanted.ranges.len()) });
    let mut tables = Vec::new();
    'units: for unit in &there {
        for range in &wanted.ranges {
            let Some(found) = end(looker.scan(*unit, *range, wanted.finest).await)? else {
                break 'units;
            };
            let known = tables.iter_mut().find(|(of, table, _): &&mut (u8, Table, look::Found)| {
                of == unit && *table == range.table
            });
            match known {
                Some((_, _, known)) => {
                    known.values.extend(found.values);
                    known.refused.extend(found.refused);
                }
                None => tables.push((*unit, range.table, found)),
            }
        }
    }
    looker.wait_a_moment().await;
    for (unit, table, found) in &mut tables {
        end(looker.look_again(*unit, *table, found).await)?;
    }
    let mut identities = Vec::new();
    for unit in &there {
        // Last: a device that takes offence at the question has told all else.
        match end(looker.identify(*unit).await)? {
            Some(identity) if !identity.is_empty() => identities.push((*unit, identity)),
            _ => (),
        }
    }
    let cut = looker.is_spent.then(|| {
        let Budget { requests, time } = looker.budget;
        format!(
            "after {requests} requests or {} s; --requests and --within allow more",
            time.as_secs()
        )
    });
    units.sort_by_key(|(unit, _)| *unit);
    Ok(Report {
        url: url.to_owned(),
        ignores_transaction: looker.to.framing() == Framing::Unnumbered,
        units,
        answers_all,
        identities,
        tables,
        kinds: wanted.kinds.clone(),
        took: looker.took.clone(),
        requests: looker.requests,
        bytes: looker.bytes(),
        cut,
    })
}

/// None when nothing more may be spent.
fn end<T>(outcome: Result<T, End>) -> anyhow::Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(End::Spent) => Ok(None),
        Err(End::Failed(error)) => Err(error),
    }
}

/// Why nothing was found, and what to try.
fn nobody(looker: &Looker<'_>, asked: &[u8], units: &[(u8, Result<(), String>)]) -> String {
    let asked: Vec<u16> = asked.iter().map(|unit| (*unit).into()).collect();
    let why = units.iter().find_map(|(_, there)| there.as_ref().err());
    let why = why.map_or("nothing was asked", String::as_str);
    let try_this = match &looker.to {
        Place::Serial(_, line) => format!(
            "is the line {}, are A and B the right way round, and does a device have such an address?",
            line.words()
        ),
        Place::Network(_, Framing::Rtu) => {
            "is it RTU that is spoken there, and does a device have such an address? \
             `tcp://` is Modbus TCP"
                .to_owned()
        }
        Place::Network(_, Framing::Tcp | Framing::Unnumbered) => {
            "does a device have such an address (`--unit 1-20`), and is it Modbus TCP that is spoken \
             there? `rtu+tcp://` is RTU over TCP"
                .to_owned()
        }
    };
    format!("no unit of {} at {} answers: {why}; {try_this}", ranges(&asked), looker.to)
}

fn wanted(call: &Call) -> anyhow::Result<Wanted> {
    let is_json = match call.given.one("format") {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => bail!("`--format` wants text or json, found `{other}`"),
    };
    let units = match call.given.one("unit") {
        None => USUAL_UNITS.to_vec(),
        Some(text) => units::parse(&numbers(text))
            .map_err(|expected| anyhow!("`--unit {text}`: {expected}"))?,
    };
    let mut ranges = Vec::new();
    for (name, table) in [
        ("input", Table::Input),
        ("holding", Table::Holding),
        ("coil", Table::Coil),
        ("discrete", Table::Discrete),
    ] {
        for text in call.given.all(name) {
            let found = numbers(text).parse();
            let found = found.map_err(|expected| anyhow!("`--{name} {text}`: {expected}"))?;
            for range in found {
                let (start, end) = (*range.start(), *range.end());
                // All 65536 are more than a block holds, and more than anybody waits for.
                let count =
                    u16::try_from(u32::from(end) - u32::from(start) + 1).unwrap_or(u16::MAX);
                ranges.push(Block { table, start, count });
            }
        }
    }
    let finest = FINEST[usize::from(ranges.is_empty())];
    if ranges.is_empty() {
        ranges.extend(USUAL.map(|(table, start, count)| Block { table, start, count }));
    }
    let kinds = call.given.one("kind").map(kinds::parse).transpose();
    let kinds = kinds.map_err(|expected| anyhow!("`--kind`: {expected}"))?.unwrap_or_default();
    Ok(Wanted { units, ranges, finest, kinds, is_json })
}

/// Numbers as people write them, also `0..99`.
fn numbers(text: &str) -> Numbers {
    text.replace("..", "-").as_str().into()
}

fn period(call: &Call, name: &str) -> anyhow::Result<Option<Period>> {
    let Some(text) = call.given.one(name) else { return Ok(None) };
    let period = Period::parse(text).map_err(|error| anyhow!("`--{name} {text}`: {error}"))?;
    let (least, most) = (Duration::from_millis(10), Duration::from_secs(3600));
    if !(least..=most).contains(&*period) {
        bail!("`--{name} {text}`: expected 10ms to 1h");
    }
    Ok(Some(period))
}
