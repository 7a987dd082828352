//! A source and a sink against simulated devices that do everything wrong, for hours of a stopped clock, and
//! how well the time of a bus is used.
//!
//! Each holding register and coil holds what can only be right: its own address, in a form that no other
//! register, unit or table shares. So a value that is another's is seen.

use std::collections::BTreeMap;

use forebay_sdk::{Emitter, WriteError, node::DynSink};

use super::*;
use crate::{
    serial::{SerialLine, TURN_AROUND},
    simulate::{
        fault::{Fault, Faults, What, When},
        image::Image,
        server::{Devices, Simulator, Wire},
    },
    sink,
};

/// Where the line ends.
const LINE: &str = "/dev/ttyUSB0";
/// Written to from here on, one register for each command.
const COMMANDS: u16 = 1000;
const MOST_COMMANDS: u16 = 20_000;

/// What a register holds that is only read.
fn own(unit: u8, table: Table, address: u16) -> u16 {
    let table = if table == Table::Holding { 1 } else { 2 };
    u16::from(unit) << 12 | table << 10 | address
}

/// What is read of each table: by two requests of one shape behind each other, so that the answer to one could be
/// taken for that to the other.
const READ: [u16; 10] = [0, 1, 2, 10, 11, 400, 401, 402, 410, 411];

/// A device whose registers 0 to 499 say whose they are.
fn device(unit: u8) -> Image {
    let mut image = Image::default();
    for table in [Table::Holding, Table::Input] {
        let values: Vec<u16> = (0..500).map(|address| own(unit, table, address)).collect();
        image.put(table, 0, &values);
    }
    image.put(Table::Holding, COMMANDS, &vec![0; MOST_COMMANDS.into()]);
    image
}

/// Each write that was carried out: unit and request.
type Writes = Arc<Mutex<Vec<(u8, Vec<u8>)>>>;

fn simulator(units: &[u8], faults: Vec<Fault>, seed: u64) -> (Simulator, Writes) {
    let writes = Writes::default();
    let told = Arc::clone(&writes);
    let simulator = Simulator::new(Devices {
        units: units.iter().map(|unit| (*unit, device(*unit))).collect(),
        faults: Faults::new(faults, seed),
        most_clients: 8,
        swallow: Duration::ZERO,
        told: Box::new(move |unit, request| told.lock().unwrap().push((unit, request.to_vec()))),
    });
    (simulator, writes)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Transport {
    Tcp,
    /// The same, and nobody looks at transactions.
    Unnumbered,
    RtuOverTcp,
    Line,
}

impl Transport {
    fn settings(self) -> String {
        let url = match self {
            Transport::Tcp => "tcp://meter.lan?baud=9600".to_owned(),
            Transport::Unnumbered => {
                "tcp://meter.lan?baud=9600\nignore_transaction: true".to_owned()
            }
            Transport::RtuOverTcp => "rtu+tcp://meter.lan?baud=9600".to_owned(),
            Transport::Line => format!("rtu://{LINE}?baud=9600"),
        };
        format!("url: {url}\ntimeout: 300ms")
    }

    /// Serves the devices there.
    fn serve(self, simulator: Simulator, memory: &Memory, tasks: &mut JoinSet<()>) {
        let line = Some(SerialLine::parse("baud=9600").unwrap());
        match self {
            Transport::Line => {
                let door = memory.open(LINE);
                let wire = Wire { framing: Framing::Rtu, line };
                tasks.spawn(async move {
                    loop {
                        let (line, _) = door.accept().await.unwrap();
                        let _ = simulator.talk(line, wire).await;
                    }
                });
            }
            Transport::RtuOverTcp => {
                let wire = Wire { framing: Framing::Rtu, line };
                tasks.spawn(simulator.serve(Box::new(memory.open(PLACE)), wire));
            }
            Transport::Tcp | Transport::Unnumbered => {
                let wire = Wire { framing: Framing::Tcp, line: None };
                tasks.spawn(simulator.serve(Box::new(memory.open(PLACE)), wire));
            }
        }
    }
}

/// Everything that can go wrong, each now and then.
fn all_faults() -> Vec<Fault> {
    let late = |millis| What::Late(Duration::from_millis(millis));
    let each = [
        late(150),
        late(290),
        late(450),
        late(1500),
        What::WrongId,
        What::WrongUnit,
        What::WrongFunction,
        What::WrongLength,
        What::Exception(2),
        What::Exception(4),
        What::Exception(5),
        What::Exception(6),
        What::Exception(10),
        What::Exception(11),
        What::Silence,
        What::Deaf,
        What::BitError,
        What::HangUp,
        What::Noise(5),
        What::Twice,
    ];
    let fault = |what| Fault { what, when: When::Chance(0.01), units: vec![] };
    each.map(fault).to_vec()
}

/// These of both tables.
fn registers(addresses: &[u16]) -> String {
    let register = |(name, place): (String, String)| format!("  - {{ name: {name}, {place} }}");
    let holding = addresses.iter().map(|at| (format!("h{at}"), format!("holding: {at}")));
    let input = addresses.iter().map(|at| (format!("i{at}"), format!("input: {at}")));
    holding.chain(input).map(register).collect::<Vec<_>>().join("\n")
}

/// Every value that is there is its own, and what is not says why.
#[track_caller]
fn assert_true(unit: u8, message: &Message, seed: u64, transport: Transport) -> usize {
    let values = message.payload.value().unwrap().as_object().unwrap();
    let quality = message.meta.get("quality").cloned().unwrap_or_default();
    let mut known = 0;
    for (name, value) in values {
        let table = if name.starts_with('h') { Table::Holding } else { Table::Input };
        let address: u16 = name[1..].parse().unwrap();
        if value.is_null() {
            assert!(quality[name].is_string(), "{transport:?}, seed {seed}: {message:?}");
        } else {
            let expected = own(unit, table, address);
            assert_eq!(
                *value,
                json!(expected),
                "{transport:?}, seed {seed}: {name} of unit {unit}"
            );
            known += 1;
        }
    }
    known
}

/// Reads and writes for some hours while everything goes wrong, and then while nothing does. One unit alone is asked
/// again right after it did not answer; of two, the other one is.
async fn hours_of_faults(transport: Transport, seed: u64, hours: u64) {
    some_hours_of_faults(transport, &[3], seed, hours).await;
    some_hours_of_faults(transport, &[3, 4], seed, hours).await;
}

async fn some_hours_of_faults(transport: Transport, units: &[u8], seed: u64, hours: u64) {
    let memory = memory();
    let (simulator, writes) = simulator(units, all_faults(), seed);
    let mut rig = Rig::at(memory.world(), &transport.settings());
    transport.serve(simulator.clone(), &memory, &mut rig.tasks);
    let text = |unit: u8| format!("unit: {unit}\nevery: 5s\nregisters:\n{}", registers(&READ));
    let mut sources: Vec<(u8, Collected)> =
        units.iter().map(|unit| (*unit, rig.source(&text(*unit)))).collect();
    let points: Vec<String> = (0..MOST_COMMANDS)
        .step_by(20)
        .map(|at| format!("  - {{ name: c{at}, holding: {} }}", COMMANDS + at))
        .collect();
    let settings = format!("unit: 3\nregisters:\n{}", points.join("\n"));
    let site = testing::site(Some(rig.shared.clone()));
    let Node::Sink(mut sink) = build_at(&sink(), &settings, site) else { panic!("not a sink") };

    let (began, mut values, mut commands) = (Instant::now(), 0, Commands::default());
    let end = Duration::from_secs(hours * 3600);
    // All in the first half: an answer that comes too late for a poll is otherwise thrown away by a command.
    let pace = end / 2 / (u32::from(MOST_COMMANDS) / 20);
    while began.elapsed() < end {
        sleep(pace.min(Duration::from_secs(60))).await;
        for (unit, source) in &mut sources {
            while let Ok(envelope) = source.envelopes.try_recv() {
                values += assert_true(*unit, &envelope.message, seed, transport);
            }
            while source.errors.try_recv().is_ok() {}
        }
        if began.elapsed() >= pace * u32::from(commands.given) {
            commands.give(&mut sink, None).await;
        }
    }
    assert!(values > 1000 * hours as usize, "{transport:?}: {values} values in {hours} h");
    commands.check(&writes.lock().unwrap(), seed, transport);

    // Once nothing goes wrong any more, all is well within a bound.
    simulator.devices().faults = Faults::new(vec![], seed);
    let stopped = Instant::now();
    for (unit, source) in &mut sources {
        loop {
            let message = next(source).await;
            if assert_true(*unit, &message, seed, transport) == 2 * READ.len()
                && stopped.elapsed() > Duration::ZERO
            {
                break;
            }
            assert!(stopped.elapsed() < RECOVERY, "{transport:?}, seed {seed}: {message:?}");
        }
    }
    assert!(commands.give(&mut sink, Some(stopped)).await, "{transport:?}, seed {seed}");
}

/// How long after the last fault all values are there again: the longest that a unit is left alone.
const RECOVERY: Duration = Duration::from_secs(180);

/// The commands that were given, and how each ended.
#[derive(Default)]
struct Commands {
    given: u16,
    /// By the address: whether it was said to be done (true), not done (false), or in doubt.
    ended: BTreeMap<u16, Option<bool>>,
}

impl Commands {
    /// Gives the next, as the engine does, and again for as long as the sink says that nothing has
    /// happened. Says whether it was done.
    async fn give(&mut self, sink: &mut Box<dyn DynSink>, since: Option<Instant>) -> bool {
        const MOST_TRIES: usize = 50;
        let at = self.given * 20;
        self.given += 1;
        if at >= MOST_COMMANDS {
            return true;
        }
        let name = format!("c{at}");
        for _ in 0..MOST_TRIES {
            let message = Message::new("cmd", json!({ name.clone(): self.given }));
            let mut out = Emitter::default();
            let fate = match sink.write(&[message], &mut out).await {
                Ok(_) => Some(true),
                Err(WriteError::Retry { after, .. }) => {
                    sleep(after.unwrap_or(PAUSE)).await;
                    assert!(since.is_none_or(|since| since.elapsed() < RECOVERY), "never done");
                    continue;
                }
                Err(WriteError::Reject(_) | WriteError::RejectSome { .. }) => Some(false),
                Err(WriteError::InDoubt(_)) => None,
            };
            self.ended.insert(COMMANDS + at, fate);
            return fate == Some(true);
        }
        false
    }

    /// Nothing was written that nobody asked for, and nothing twice.
    fn check(&self, writes: &[(u8, Vec<u8>)], seed: u64, transport: Transport) {
        let mut done: BTreeMap<u16, usize> = BTreeMap::new();
        for (unit, request) in writes {
            let about = format!("{transport:?}, seed {seed}: {request:?}");
            assert_eq!((*unit, request[0]), (3, 6), "{about}");
            let address = u16::from_be_bytes([request[1], request[2]]);
            let value = u16::from_be_bytes([request[3], request[4]]);
            assert_eq!(value, (address - COMMANDS) / 20 + 1, "{about}");
            *done.entry(address).or_default() += 1;
        }
        for (address, count) in &done {
            assert_eq!(*count, 1, "{transport:?}, seed {seed}: written twice: {address}");
        }
        for (address, fate) in &self.ended {
            let was_done = done.contains_key(address);
            let about = format!("{transport:?}, seed {seed}: {address} is {fate:?}");
            assert!(fate.is_none_or(|said| said == was_done), "{about}, and {was_done}");
        }
        let known = self.ended.values().filter(|fate| **fate == Some(true)).count();
        assert!(known * 2 > self.ended.len(), "{transport:?}: {known} were known to be done");
    }
}

/// `FOREBAY_LONG=1 cargo test --profile long -p forebay-modbus hours`: 24 hours, and more seeds.
fn extent() -> (u64, u64) {
    let is_long = std::env::var_os("FOREBAY_LONG").is_some_and(|value| value == "1");
    if is_long { (24, 8) } else { (1, 1) }
}

#[tokio::test(start_paused = true)]
async fn hours_of_faults_on_tcp_make_no_wrong_value_and_no_second_write() {
    let (hours, seeds) = extent();
    for seed in 1..=seeds {
        hours_of_faults(Transport::Tcp, seed, hours).await;
    }
}

#[tokio::test(start_paused = true)]
async fn hours_of_faults_without_transactions_make_no_wrong_value_and_no_second_write() {
    let (hours, seeds) = extent();
    for seed in 1..=seeds {
        hours_of_faults(Transport::Unnumbered, seed, hours).await;
    }
}

#[tokio::test(start_paused = true)]
async fn hours_of_faults_on_rtu_over_tcp_make_no_wrong_value_and_no_second_write() {
    let (hours, seeds) = extent();
    for seed in 1..=seeds {
        hours_of_faults(Transport::RtuOverTcp, seed, hours).await;
    }
}

#[tokio::test(start_paused = true)]
async fn hours_of_faults_on_a_serial_line_make_no_wrong_value_and_no_second_write() {
    let (hours, seeds) = extent();
    for seed in 1..=seeds {
        hours_of_faults(Transport::Line, seed, hours).await;
    }
}

/// The least time for these addresses of one table at 9600 baud, reckoned another way than the plan is: for
/// each number of the first addresses, the best last request.
fn least_time(addresses: &[u16], line: SerialLine) -> Duration {
    let mut best = vec![Duration::ZERO];
    for last in 0..addresses.len() {
        let request = |first: usize| {
            let count = u32::from(addresses[last] - addresses[first]) + 1;
            // 8 to ask, 5 around the values, a silence in front of each.
            let time = line.bytes(8 + 5 + 2 * count) + line.silence() * 2 + TURN_AROUND;
            (count <= 125).then(|| best[first] + time)
        };
        best.push((0..=last).filter_map(request).min().unwrap());
    }
    best[addresses.len()]
}

#[tokio::test(start_paused = true)]
async fn scattered_registers_took_longer_than_the_bus_needs() {
    let mut random = fastrand::Rng::with_seed(5);
    let line = SerialLine::parse("baud=9600").unwrap();
    for _ in 0..10 {
        // Forty, in runs of one to five with holes of up to sixty between them.
        let mut addresses: Vec<u16> = Vec::new();
        let mut at = random.u16(0..20);
        while addresses.len() < 40 {
            let run = random.u16(1..6).min(40 - addresses.len() as u16);
            addresses.extend(at..at + run);
            at += run + random.u16(1..60);
        }
        let (simulator, _) = simulator(&[1], vec![], 1);
        simulator.devices().units.get_mut(&1).unwrap().put(Table::Input, 0, &[7; 3000]);
        let memory = memory();
        let mut rig = Rig::at(memory.world(), &Transport::Line.settings());
        Transport::Line.serve(simulator, &memory, &mut rig.tasks);
        let registers: Vec<String> =
            addresses.iter().map(|at| format!("  - {{ name: r{at}, input: {at} }}")).collect();
        let mut source = rig.source(&format!("every: 10s\nregisters:\n{}", registers.join("\n")));
        next(&mut source).await;
        let (took, least) = (busy_time(&rig, 10).await, least_time(&addresses, line));
        let share = took.as_secs_f64() / least.as_secs_f64();
        println!("{} ms of {} ms at least: {share:.3}", took.as_millis(), least.as_millis());
        assert!(share < 1.05, "{took:?}, and {least:?} would do");
    }
}

/// How long a poll keeps the bus busy, from what the bus says of a minute.
async fn busy_time(rig: &Rig, every: u64) -> Duration {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(130) {
        sleep(Duration::from_secs(1)).await;
    }
    let share = rig.heard.said().busy.last().copied().unwrap();
    Duration::from_secs_f64(share * every as f64)
}

/// When the last of nine units is read in a cycle of two seconds, on average and in seconds; with a source for
/// a tenth that does not answer, or without. At 9600 baud, also behind a gateway.
async fn cycle_time(transport: Transport, units: impl Iterator<Item = u8>) -> f64 {
    const CYCLE: f64 = 2.0;
    let (simulator, _) = simulator(&[1, 2, 3, 4, 6, 7, 8, 9, 10], vec![], 1);
    let memory = memory();
    let mut rig = Rig::at(memory.world(), &transport.settings());
    match transport {
        Transport::Tcp => {
            let line = Some(SerialLine::parse("baud=9600").unwrap());
            let wire = Wire { framing: Framing::Tcp, line };
            // A gateway hears nothing of a dead unit, and says nothing.
            simulator.devices().units.insert(5, Image::default());
            let silence = Fault { what: What::Deaf, when: When::Every(1), units: vec![5] };
            simulator.devices().faults = Faults::new(vec![silence], 1);
            rig.tasks.spawn(simulator.serve(Box::new(memory.open(PLACE)), wire));
        }
        _ => transport.serve(simulator, &memory, &mut rig.tasks),
    }
    let registers = registers(&[0, 1, 2, 10, 11, 40]);
    let text = |unit| format!("unit: {unit}\nevery: 2s\nregisters:\n{registers}");
    let start = Instant::now();
    let mut sources: Vec<Collected> = units.map(|unit| rig.source(&text(unit))).collect();
    let mut last: BTreeMap<u64, f64> = BTreeMap::new();
    while start.elapsed() < Duration::from_secs(244) {
        sleep(Duration::from_millis(10)).await;
        for source in &mut sources {
            while source.envelopes.try_recv().is_ok() {
                let at = start.elapsed().as_secs_f64();
                last.insert((at / CYCLE) as u64, at % CYCLE);
            }
            while source.errors.try_recv().is_ok() {}
        }
    }
    // The first time-out, and a cycle that was cut off.
    let cycles: Vec<f64> = last.range(2..122).map(|(_, last)| *last).collect();
    assert_eq!(cycles.len(), 120, "no cycle was left out");
    cycles.iter().sum::<f64>() / cycles.len() as f64
}

#[tokio::test(start_paused = true)]
async fn a_dead_unit_among_ten_delayed_the_cycle_of_the_others() {
    for transport in [Transport::Line, Transport::Tcp] {
        let without = cycle_time(transport, [1, 2, 3, 4, 6, 7, 8, 9, 10].into_iter()).await;
        let with = cycle_time(transport, 1..=10).await;
        println!("{transport:?}: {without:.3} s, with a dead unit {with:.3} s");
        assert!(with < without * 1.1, "{transport:?}: {with:.3} s, and {without:.3} s without it");
    }
}
