//! Sources and their bus against peers in memory, on a stopped clock: the simulated meter, and
//! servers that do everything wrong.

mod doctor;
mod faults;
mod kinds;
mod profiles;
mod requests;
mod sunspec;
mod writing;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use forebay_sdk::{
    Endpoint, Figure, Message, Node, NodeType, Period, Shared, Site, Value, Voice, World,
    connection::DynConnection,
    testing::{self, Collected, Heard, build, build_at, outlet},
    world::{
        Listener, Stream,
        memory::{Door, Memory},
    },
    yaml::{self, Content, Limits},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    ask::Ask,
    block::{Block, Table},
    bus::SharedBus,
    connection,
    frame::Framing,
    link::{Answer, Failure, Link, Place},
    plugin, simulate, source,
};

/// Nothing here takes as long, unless something hangs.
const DEADLINE: Duration = Duration::from_secs(20);
/// The engine's pause before it runs a connection again.
const PAUSE: Duration = Duration::from_millis(100);

const FIRST_TWO: Ask = Ask::Read(Block { table: Table::Input, start: 0, count: 2 });

/// Where the peer is in each of the tests.
const PLACE: &str = "meter.lan:502";
const REFUSED: &str = "connecting to meter.lan:502: connection refused";
const URL: &str = "url: tcp://meter.lan";

/// 2026-11-21T09:00:00Z
fn memory() -> Memory {
    Memory::new(1_795_251_600_000_000_000)
}

/// A bus and its sources, run as the engine runs them.
struct Rig {
    shared: Shared,
    tasks: JoinSet<()>,
    /// What the connection says.
    heard: Arc<Heard>,
    /// What the sources say.
    sources_heard: Arc<Heard>,
    sources_voice: Voice,
    /// What the sources remember.
    data: tempfile::TempDir,
}

impl Rig {
    fn new(memory: &Memory, more: &str) -> Rig {
        Rig::at(memory.world(), &format!("{URL}\n{more}"))
    }

    fn at(world: World, settings: &str) -> Rig {
        let (shared, connection) = bus_at(world, settings);
        let (voice, heard) = testing::voice();
        let (sources_voice, sources_heard) = testing::voice();
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_running(connection, voice));
        let data = tempfile::tempdir().unwrap();
        Rig { shared, tasks, heard, sources_heard, sources_voice, data }
    }

    fn source(&mut self, text: &str) -> Collected {
        let data = self.data.path().into();
        let site = Site { data, ..testing::site(Some(self.shared.clone())) };
        self.source_at(site, text)
    }

    fn source_at(&mut self, site: Site, text: &str) -> Collected {
        let site = Site { voice: self.sources_voice.clone(), ..site };
        let node = build_at(&source(), text, site);
        let Node::Source(mut source) = node else { panic!("not a source") };
        let (out, collected) = outlet(64);
        self.tasks.spawn(async move {
            source.run(&out).await.unwrap();
        });
        collected
    }

    /// Two registers of unit 1, read over and over.
    fn quick_source(&mut self) -> Collected {
        self.source("every: 10ms\nregisters: [{ name: a, input: 0, kind: u32 }]")
    }
}

fn bus(memory: &Memory, more: &str) -> (Shared, Box<dyn DynConnection>) {
    bus_at(memory.world(), &format!("{URL}\n{more}"))
}

fn bus_at(world: World, settings: &str) -> (Shared, Box<dyn DynConnection>) {
    match build_at(&connection(), settings, Site { world, ..testing::site(None) }) {
        Node::Connection(shared, connection) => (shared, connection),
        _ => panic!("not a connection"),
    }
}

async fn keep_running(mut connection: Box<dyn DynConnection>, voice: Voice) {
    loop {
        let _ = connection.run(&voice).await;
        sleep(PAUSE).await;
    }
}

async fn next(collected: &mut Collected) -> Message {
    let next = timeout(DEADLINE, collected.envelopes.recv()).await;
    next.expect("a message in time").unwrap().message
}

async fn next_error(collected: &mut Collected) -> String {
    timeout(DEADLINE, collected.errors.recv()).await.expect("an error in time").unwrap()
}

#[track_caller]
fn assert_says(error: &str, expected: &str) {
    assert!(error.contains(expected), "`{error}` does not say `{expected}`");
}

async fn accept(door: &Door) -> Box<dyn Stream> {
    timeout(DEADLINE, door.accept()).await.expect("a client in time").unwrap().0
}

/// A peer that sends `answer` to each request, a frame of 12 bytes, and hangs up when there is
/// none. Counts its clients.
fn peer(
    tasks: &mut JoinSet<()>,
    answer: impl Fn(&[u8; 12]) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> (Memory, Arc<AtomicUsize>) {
    let memory = memory();
    let door = memory.open(PLACE);
    let clients = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&clients);
    tasks.spawn(async move {
        loop {
            let (mut client, _) = door.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            while let Some(answer) = request(&mut client).await.and_then(|frame| answer(&frame)) {
                client.write_all(&answer).await.unwrap();
            }
        }
    });
    (memory, clients)
}

async fn request(client: &mut Box<dyn Stream>) -> Option<[u8; 12]> {
    let mut frame = [0; 12];
    client.read_exact(&mut frame).await.ok().map(|_| frame)
}

/// A right head for the request, and then `body`: a function code and what follows.
fn answer_to(frame: &[u8; 12], body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 1).unwrap().to_be_bytes();
    [&frame[..4], &length, &frame[6..7], body].concat()
}

/// The registers asked for, each holding its own address.
fn addresses(frame: &[u8; 12]) -> Vec<u8> {
    let start = u16::from_be_bytes([frame[8], frame[9]]);
    let count = u16::from_be_bytes([frame[10], frame[11]]);
    let registers = (start..start + count).flat_map(u16::to_be_bytes);
    let body: Vec<u8> = [frame[7], (count * 2) as u8].into_iter().chain(registers).collect();
    answer_to(frame, &body)
}

/// The answer of a device that has these registers, by function and address, and refuses all others.
fn device(registers: &BTreeMap<(u8, u16), u16>, frame: &[u8; 12]) -> Vec<u8> {
    let start = u16::from_be_bytes([frame[8], frame[9]]);
    let count = u16::from_be_bytes([frame[10], frame[11]]);
    let addresses = u32::from(start)..u32::from(start) + u32::from(count);
    let register = |address: u32| registers.get(&(frame[7], u16::try_from(address).ok()?));
    match addresses.map(register).collect::<Option<Vec<&u16>>>() {
        Some(words) => {
            let bytes = words.into_iter().flat_map(|word| word.to_be_bytes());
            let body: Vec<u8> = [frame[7], (count * 2) as u8].into_iter().chain(bytes).collect();
            answer_to(frame, &body)
        }
        None => answer_to(frame, &[frame[7] | 0x80, 2]),
    }
}

/// What a source says about a peer that answers like this.
async fn error_about(
    answer: impl Fn(&[u8; 12]) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> String {
    let mut peers = JoinSet::new();
    let (memory, _) = peer(&mut peers, answer);
    let mut rig = Rig::new(&memory, "timeout: 100ms");
    let mut collected = rig.quick_source();
    let error = next_error(&mut collected).await;
    assert!(collected.envelopes.try_recv().is_err(), "nothing is sent when a poll fails");
    error
}

/// Over the network, as in a demonstration.
#[tokio::test]
async fn a_meter_is_read_as_one_message_per_poll() {
    let device = (plugin().devices[0].start)().await.unwrap();
    let mut rig = Rig::at(World::system(), &format!("url: {}", device.url));
    rig.tasks.spawn(device.serve);
    let mut collected = rig.source(
        "every: 10ms
topic: site/meter
registers:
  - { name: energy, input: 0x48, kind: f32, unit: kWh }
  - { name: volts_1, input: 0, kind: f32, unit: V }
  - { name: power, input: 0x34, kind: f32, scale: 0.001 }
  - { name: frequency, input: 0x46, kind: f32 }",
    );
    for _ in 0..3 {
        let message = next(&mut collected).await;
        assert_eq!(&*message.topic, "site/meter");
        assert_eq!(message.meta.get("units"), Some(&json!({"energy": "kWh", "volts_1": "V"})));
        assert_eq!(message.meta.get("quality"), None);
        let values = message.payload.value().unwrap().as_object().unwrap();
        let names: Vec<&String> = values.keys().collect();
        assert_eq!(names, ["energy", "volts_1", "power", "frequency"], "in the declared order");
        let between = |name: &str, least: f64, most: f64| {
            let value = values[name].as_f64().unwrap();
            assert!((least..=most).contains(&value), "{name} is {value}");
        };
        between("energy", 1234.5, 1235.0);
        between("volts_1", 227.0, 233.0);
        between("power", 2.0, 4.0);
        between("frequency", 49.9, 50.1);
    }
    assert!(collected.errors.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_refused_block_is_null_and_says_why_beside_the_others() {
    let memory = memory();
    let mut rig = Rig::new(&memory, "");
    rig.tasks.spawn(simulate::serve_sdm630(Box::new(memory.open(PLACE))));
    let mut collected = rig.source(
        "every: 10ms
registers:
  - { name: nowhere, input: 0x100, kind: f32 }
  - { name: volts, input: 0, kind: f32 }
  - { name: setpoint, holding: 7 }",
    );
    let message = next(&mut collected).await;
    assert_eq!(&*message.topic, "test/node", "the node's name, unless said otherwise");
    let values = message.payload.value().unwrap();
    assert_eq!((&values["nowhere"], &values["setpoint"]), (&Value::Null, &Value::Null));
    assert!(values["volts"].is_f64());
    let quality = json!({
        "nowhere": "illegal data address (exception 2)",
        "setpoint": "illegal function (exception 1)",
    });
    assert_eq!(message.meta.get("quality"), Some(&quality));
}

#[tokio::test(start_paused = true)]
async fn a_register_that_is_refused_is_told_when_it_begins_and_when_it_is_over() {
    let mut peers = JoinSet::new();
    let refuses = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&refuses);
    let (memory, _) = peer(&mut peers, move |frame| {
        let is_refused = frame[7] == 4 && still.load(Ordering::Relaxed);
        Some(if is_refused { answer_to(frame, &[0x84, 2]) } else { addresses(frame) })
    });
    let mut rig = Rig::new(&memory, "");
    let mut collected = rig.source(
        "every: 10ms
registers:
  - { name: volts, input: 1 }
  - { name: amps, input: 2 }
  - { name: setpoint, holding: 7 }",
    );
    for _ in 0..3 {
        next(&mut collected).await;
    }
    let lasting: Vec<_> = rig.sources_heard.said().lasting.into_iter().collect();
    let why = "unit 1 refuses it, so it is null: illegal data address (exception 2)".to_owned();
    let of = |name: &str| (format!("register `{name}`"), why.clone());
    assert_eq!(lasting, [of("amps"), of("volts")]);

    refuses.store(false, Ordering::Relaxed);
    for _ in 0..2 {
        next(&mut collected).await;
    }
    assert!(rig.sources_heard.said().lasting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_number_of_the_manual_that_is_refused_was_not_told_for_one() {
    let mut peers = JoinSet::new();
    let (memory, _) = peer(&mut peers, |frame| Some(answer_to(frame, &[0x83, 2])));
    let mut rig = Rig::new(&memory, "");
    let mut collected = rig.source(
        "every: 1s\nmax_gap: 0\nregisters: [{ name: power, holding: 40107 }, { name: pv, holding: 32080 }]",
    );
    next(&mut collected).await;
    let lasting = rig.sources_heard.said().lasting;
    let refused = "unit 1 refuses it, so it is null: illegal data address (exception 2)";
    let hint = "should 40107 be a number of the manual, write `register: 40107`";
    assert_eq!(lasting["register `power`"], format!("{refused}; {hint}"));
    assert_eq!(lasting["register `pv`"], refused);
}

#[tokio::test(start_paused = true)]
async fn coils_and_registers_find_their_way_to_their_names() {
    let mut peers = JoinSet::new();
    let (memory, _) = peer(&mut peers, |frame| match frame[7] {
        // Coils 8 to 17: the first and the last are set.
        1 => Some(answer_to(frame, &[1, 2, 0b0000_0001, 0b0000_0010])),
        2 => Some(answer_to(frame, &[0x82, 99])),
        _ => Some(addresses(frame)),
    });
    let mut rig = Rig::new(&memory, "");
    let mut collected = rig.source(
        "every: 10ms
max_gap: 8
registers:
  - { name: last, coil: 17 }
  - { name: door, discrete: 3 }
  - { name: first, coil: 8 }
  - { name: second, coil: 9 }
  - { name: high, holding: 9 }
  - { name: low, holding: 2 }
  - { name: low_bit, holding: 2, bit: 1 }",
    );
    let message = next(&mut collected).await;
    let values = json!({
        "last": true, "door": null, "first": true, "second": false,
        "high": 9, "low": 2, "low_bit": true,
    });
    assert_eq!(message.payload.value(), Ok(&values));
    assert_eq!(message.meta.get("quality"), Some(&json!({ "door": "exception 99" })));
}

/// A device whose input registers are their own addresses, but for one that it does not have.
fn device_without(tasks: &mut JoinSet<()>, hole: u16) -> (Memory, Arc<Mutex<Vec<u16>>>) {
    let refused = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&refused);
    let (memory, _) = peer(tasks, move |frame| {
        let start = u16::from_be_bytes([frame[8], frame[9]]);
        let count = u16::from_be_bytes([frame[10], frame[11]]);
        if (start..start + count).contains(&hole) {
            log.lock().unwrap().push(start);
            return Some(answer_to(frame, &[0x84, 2]));
        }
        Some(addresses(frame))
    });
    (memory, refused)
}

#[tokio::test(start_paused = true)]
async fn one_register_that_is_not_there_cost_its_neighbours() {
    let mut peers = JoinSet::new();
    let (memory, refused) = device_without(&mut peers, 5);
    let mut rig = Rig::new(&memory, "");
    let registers: Vec<String> =
        (0..8).map(|at| format!("  - {{ name: r{at}, input: {at} }}")).collect();
    let mut collected = rig.source(&format!("every: 1s\nregisters:\n{}", registers.join("\n")));
    let expected = json!({
        "r0": 0, "r1": 1, "r2": 2, "r3": 3, "r4": 4, "r5": null, "r6": 6, "r7": 7,
    });
    for _ in 0..3 {
        let message = next(&mut collected).await;
        assert_eq!(message.payload.value(), Ok(&expected));
        let quality = json!({ "r5": "illegal data address (exception 2)" });
        assert_eq!(message.meta.get("quality"), Some(&quality));
    }
    // All, a half, a quarter and itself at first; then only what is not there.
    assert_eq!(*refused.lock().unwrap(), [0, 4, 4, 5, 5, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_hole_that_was_read_over_in_vain_is_left_out_from_then_on() {
    let mut peers = JoinSet::new();
    let (memory, refused) = device_without(&mut peers, 1);
    let mut rig = Rig::new(&memory, "");
    let mut collected = rig
        .source("every: 1s\nmax_gap: 4\nregisters: [{ name: a, input: 0 }, { name: b, input: 2 }]");
    for _ in 0..3 {
        let message = next(&mut collected).await;
        assert_eq!(message.payload.value(), Ok(&json!({ "a": 0, "b": 2 })));
    }
    assert_eq!(*refused.lock().unwrap(), [0]);
}

#[tokio::test(start_paused = true)]
async fn what_a_device_refuses_was_asked_for_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut peers = JoinSet::new();
    let (memory, refused) = device_without(&mut peers, 1);
    let text = "every: 1s\nregisters: [{ name: a, input: 0 }, { name: b, input: 2 }]";
    for _ in 0..2 {
        let mut rig = Rig::new(&memory, "");
        let site = testing::site(Some(rig.shared.clone()));
        let site = Site { data: folder.path().join("deep").into(), ..site };
        let mut collected = rig.source_at(site, text);
        for _ in 0..2 {
            let message = next(&mut collected).await;
            assert_eq!(message.payload.value(), Ok(&json!({ "a": 0, "b": 2 })));
        }
    }
    assert_eq!(*refused.lock().unwrap(), [0]);
}

/// A device whose registers are their own addresses, and which does not answer some requests: by their number, from 0
/// on, and registers. Says what it was asked for, as `start+count`.
fn device_silent_about(
    tasks: &mut JoinSet<()>,
    what: impl Fn(usize, Range<u16>) -> bool + Send + Sync + 'static,
) -> (Memory, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let (memory, _) = counting_peer(tasks, move |index, frame| {
        let [start, count] = [8, 10].map(|at| u16::from_be_bytes([frame[at], frame[at + 1]]));
        seen.lock().unwrap().push(format!("{start}+{count}"));
        let is_silent = what(index, start..start + count);
        Some(if is_silent { Vec::new() } else { addresses(frame) })
    });
    (memory, asked)
}

#[tokio::test(start_paused = true)]
async fn a_hole_that_a_device_does_not_answer_for_cost_all_of_its_values() {
    let folder = tempfile::tempdir().unwrap();
    let mut peers = JoinSet::new();
    let (memory, asked) = device_silent_about(&mut peers, |_, asked| asked.contains(&3));
    let text = "every: 5s\nregisters: [{ name: a, input: 0 }, { name: b, input: 2 }, { name: c, input: 4 }]";
    for round in 0..2 {
        let mut rig = Rig::new(&memory, "");
        let site = testing::site(Some(rig.shared.clone()));
        let mut collected = rig.source_at(Site { data: folder.path().into(), ..site }, text);
        for _ in 0..2 {
            let message = next(&mut collected).await;
            let values = json!({ "a": 0, "b": 2, "c": 4 });
            assert_eq!(message.payload.value(), Ok(&values));
        }
        let mut errors = 0;
        while collected.errors.try_recv().is_ok() {
            errors += 1;
        }
        assert_eq!(errors, if round == 0 { 3 } else { 0 }, "it is remembered");
    }
    // Three polls in vain, then its parts and once more all of it; from then on its parts.
    let parts = ["0+1", "2+1", "4+1"];
    let expected = [&["0+5"; 3][..], &parts, &["0+5"], &parts, &parts, &parts].concat();
    assert_eq!(*asked.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_hole_that_a_device_on_a_serial_line_does_not_answer_for_cost_all_of_its_values() {
    let mut devices = JoinSet::new();
    let memory = serial_device_without(&mut devices, 3, |_| Duration::from_millis(20));
    let mut rig = Rig::at(memory.world(), SERIAL);
    // All parts look alike.
    let text = "registers: [{ name: a, input: 0 }, { name: b, input: 2 }, { name: c, input: 4 }]";
    let mut collected = rig.source(&format!("every: 4s\n{text}"));
    for _ in 0..3 {
        let message = next(&mut collected).await;
        assert_eq!(message.payload.value(), Ok(&json!({ "a": 0, "b": 2, "c": 4 })));
    }
    let errors = std::iter::from_fn(|| collected.errors.try_recv().ok()).count();
    assert_eq!(errors, 3);
}

#[tokio::test(start_paused = true)]
async fn a_boundary_that_a_device_does_not_answer_across_cost_all_of_its_values() {
    let mut peers = JoinSet::new();
    let (memory, asked) =
        device_silent_about(&mut peers, |_, asked| asked.start < 10 && asked.end > 10);
    let mut rig = Rig::new(&memory, "");
    let mut collected =
        rig.source("every: 5s\nregisters: [{ name: a, input: 9 }, { name: b, input: 10 }]");
    for _ in 0..2 {
        let message = next(&mut collected).await;
        assert_eq!(message.payload.value(), Ok(&json!({ "a": 9, "b": 10 })));
    }
    let expected = ["9+2", "9+2", "9+2", "9+1", "10+1", "9+2", "9+1", "10+1"];
    assert_eq!(*asked.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_was_away_was_taken_for_one_with_holes() {
    for back in [1, 3, 4, 7] {
        let mut peers = JoinSet::new();
        let (memory, asked) = device_silent_about(&mut peers, move |index, _| index < back);
        let mut rig = Rig::new(&memory, "");
        let text = "every: 2s\nregisters: [{ name: a, input: 0 }, { name: b, input: 4 }]";
        let mut collected = rig.source(text);
        for _ in 0..3 {
            next(&mut collected).await;
        }
        let asked = asked.lock().unwrap();
        assert_eq!(asked[asked.len() - 2..], ["0+5", "0+5"], "back at {back}: {asked:?}");
        // While it is away, each poll asks it once.
        let in_vain = std::iter::from_fn(|| collected.errors.try_recv().ok()).count();
        assert!(in_vain + 1 >= back, "{in_vain} errors, back at {back}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_scale_factor_of_the_device_is_applied() {
    let mut peers = JoinSet::new();
    let (memory, _) = peer(&mut peers, |frame| Some(addresses(frame)));
    let mut rig = Rig::new(&memory, "");
    let mut collected = rig.source(
        "every: 1s
registers:
  - { name: watts, input: 123, scale_by: factor }
  - { name: factor, input: 2 }
  - { name: lost, input: 4, scale_by: label }
  - { name: label, input: 9, labels: { 0: none } }",
    );
    let message = next(&mut collected).await;
    let expected = json!({ "watts": 12300.0, "factor": 2, "lost": null, "label": null });
    assert_eq!(message.payload.value(), Ok(&expected));
    let quality =
        json!({ "lost": "its scale factor `label` is not known", "label": "9 has no label" });
    assert_eq!(message.meta.get("quality"), Some(&quality));
}

#[tokio::test(start_paused = true)]
async fn one_source_reads_several_devices_and_the_dead_do_not_stop_the_others() {
    let memory = memory();
    let door = memory.open(PLACE);
    let mut rig = Rig::new(&memory, "");
    rig.tasks.spawn(async move {
        let (mut client, _) = door.accept().await.unwrap();
        while let Some(frame) = request(&mut client).await {
            if frame[6] != 2 {
                client.write_all(&addresses(&frame)).await.unwrap();
            }
        }
    });
    let mut collected = rig.source(
        "units: 1-3
every: 10s
topic: 'site/{unit}/meter'
registers: [{ name: a, input: 5, unit: V }]",
    );
    for unit in [1, 3, 1, 3] {
        let message = next(&mut collected).await;
        assert_eq!(&*message.topic, format!("site/{unit}/meter"));
        assert_eq!(message.meta.get("unit"), Some(&json!(unit)));
    }
    assert_says(&next_error(&mut collected).await, "of unit 2 at meter.lan:502: no answer within");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_stands_still_is_left_out() {
    let polls = AtomicUsize::new(0);
    let mut peers = JoinSet::new();
    let (memory, _) = peer(&mut peers, move |frame| {
        let poll = polls.fetch_add(1, Ordering::SeqCst) as u8;
        Some(answer_to(frame, &[4, 4, 0, poll, 0, poll / 3]))
    });
    let mut rig = Rig::new(&memory, "");
    let mut collected = rig.source(
        "every: 1s
registers:
  - { name: fast, input: 0, deadband: { abs: 2 } }
  - { name: slow, input: 1, deadband: {} }",
    );
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(next(&mut collected).await.payload.value().unwrap().clone());
    }
    let expected = [
        json!({"fast": 0, "slow": 0}),
        json!({"fast": 3, "slow": 1}),
        json!({"fast": 6, "slow": 2}),
    ];
    assert_eq!(seen[..3], expected);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_no_modbus_device_is_named_as_such() {
    const NOT_MODBUS: &str = "no answer within 100ms; what came was nothing that is Modbus";
    let greeting = error_about(|_| Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())).await;
    assert_says(&greeting, "reading input registers 0 to 1 of unit 1 at meter.lan:502: ");
    assert_says(&greeting, NOT_MODBUS);
    assert_says(&error_about(|_| Some(vec![0; 64])).await, NOT_MODBUS);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_another_question_is_not_taken() {
    let other_transaction = |frame: &[u8; 12]| {
        let mut answer = addresses(frame);
        answer[1] ^= 1;
        Some(answer)
    };
    assert_says(
        &error_about(other_transaction).await,
        "an answer with transaction 256, and 257 was asked",
    );
    let other_unit = |frame: &[u8; 12]| {
        let mut answer = addresses(frame);
        answer[6] += 1;
        Some(answer)
    };
    assert_says(&error_about(other_unit).await, "was an answer of unit 2, and unit 1 was asked");
    assert_says(
        &error_about(|frame| Some(answer_to(frame, &[3, 4, 0, 0, 0, 0]))).await,
        "was an answer to function 3, and function 4 was asked for",
    );
    for body in [&[4, 2, 0, 0][..], &[4, 4, 1], &[4, 3, 1, 2, 3]] {
        let error = error_about(move |frame| Some(answer_to(frame, body))).await;
        assert_says(&error, "what came was more or less than was asked for");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_hangs_up_is_an_error_and_not_a_storm() {
    let mut peers = JoinSet::new();
    let (memory, clients) = peer(&mut peers, |_| None);
    let mut rig = Rig::new(&memory, "");
    let mut collected = rig.source("every: 1h\nregisters: [{ name: a, input: 0 }]");
    assert_says(&next_error(&mut collected).await, "closed the connection");
    assert_eq!(clients.load(Ordering::SeqCst), 2, "one try and one repetition for one poll");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_costs_one_timeout_per_poll_and_at_the_third_its_connection() {
    let memory = memory();
    let door = memory.open(PLACE);
    let mut rig = Rig::new(&memory, "timeout: 20ms");
    let mut collected = rig.source(
        "every: 10ms
max_gap: 0
registers:
  - { name: a, input: 0 }
  - { name: b, input: 9 }",
    );
    for _ in 0..2 {
        let mut client = accept(&door).await;
        for _ in 0..3 {
            let error = next_error(&mut collected).await;
            let expected =
                "reading input register 0 of unit 1 at meter.lan:502: no answer within 20ms";
            assert_eq!(error, expected);
        }
        // The requests, and then the end.
        let mut all = Vec::new();
        timeout(DEADLINE, client.read_to_end(&mut all)).await.unwrap().unwrap();
        assert_eq!(all.len(), 3 * 12);
    }
}

/// A peer whose `n`th request, counted over all connections from 0, is answered by `answer`.
fn counting_peer(
    tasks: &mut JoinSet<()>,
    answer: impl Fn(usize, &[u8; 12]) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> (Memory, Arc<AtomicUsize>) {
    let asked = AtomicUsize::new(0);
    peer(tasks, move |frame| answer(asked.fetch_add(1, Ordering::SeqCst), frame))
}

#[tokio::test(start_paused = true)]
async fn a_device_that_swallows_the_first_second_never_gave_a_value() {
    let mut peers = JoinSet::new();
    let memory = memory();
    let door = memory.open(PLACE);
    peers.spawn(async move {
        loop {
            let (mut client, _) = door.accept().await.unwrap();
            let began = Instant::now();
            while let Some(frame) = request(&mut client).await {
                if began.elapsed() > Duration::from_secs(1) {
                    client.write_all(&addresses(&frame)).await.unwrap();
                }
            }
        }
    });
    let text = "every: 3s\nregisters: [{ name: a, input: 5 }]";
    let mut rig = Rig::new(&memory, "");
    let mut collected = rig.source(text);
    assert_says(&next_error(&mut collected).await, "no answer within 1s");
    assert_eq!(next(&mut collected).await.payload.value(), Ok(&json!({ "a": 5 })));
    drop(rig);
    let mut rig = Rig::new(&memory, "after_connect: 2s");
    let mut collected = rig.source(text);
    assert_eq!(next(&mut collected).await.payload.value(), Ok(&json!({ "a": 5 })));
    assert!(collected.errors.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_a_firewall_forgot_lost_every_second_poll() {
    let mut peers = JoinSet::new();
    // Every connection passes one request on, and none after it.
    let memory = memory();
    let door = memory.open(PLACE);
    peers.spawn(async move {
        let mut forgotten = Vec::new();
        loop {
            let (mut client, _) = door.accept().await.unwrap();
            let frame = request(&mut client).await.unwrap();
            client.write_all(&addresses(&frame)).await.unwrap();
            forgotten.push(client);
        }
    });
    let mut rig = Rig::new(&memory, "");
    let mut collected = rig.source("every: 3s\nregisters: [{ name: a, input: 5 }]");
    for _ in 0..5 {
        assert_eq!(next(&mut collected).await.payload.value(), Ok(&json!({ "a": 5 })));
    }
    assert!(collected.errors.try_recv().is_err());
}

/// An answer with a transaction id of its own in the place of the one that was asked with.
fn with_transaction(mut answer: Vec<u8>, id: u16) -> Vec<u8> {
    answer[..2].copy_from_slice(&id.to_be_bytes());
    answer
}

#[tokio::test(start_paused = true)]
async fn a_device_that_never_repeats_the_transaction_never_gave_a_value() {
    let says = error_about(|frame| Some(with_transaction(addresses(frame), 0))).await;
    assert_says(&says, "an answer with transaction 0, and 257 was asked");
    assert_says(&says, "`ignore_transaction: true` of the connection");
    let mut peers = JoinSet::new();
    let (memory, clients) = peer(&mut peers, |frame| Some(with_transaction(addresses(frame), 0)));
    let mut rig = Rig::new(&memory, "ignore_transaction: true");
    let mut collected = rig.source("every: 1s\nregisters: [{ name: a, input: 5 }]");
    for _ in 0..3 {
        assert_eq!(next(&mut collected).await.payload.value(), Ok(&json!({ "a": 5 })));
    }
    assert_eq!(clients.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_came_twice_ended_every_poll() {
    let mut peers = JoinSet::new();
    let (memory, clients) = counting_peer(&mut peers, |_, frame| {
        let answer = addresses(frame);
        Some([&answer[..], &[0xFF], &answer].concat())
    });
    let mut rig = Rig::new(&memory, "");
    let mut collected = rig.quick_source();
    for _ in 0..5 {
        assert_eq!(next(&mut collected).await.payload.value(), Ok(&json!({ "a": 1 })));
    }
    assert_eq!(clients.load(Ordering::SeqCst), 1);
    assert!(collected.errors.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_dead_unit_behind_a_gateway_took_the_connection_of_the_others() {
    let mut peers = JoinSet::new();
    let memory = memory();
    let door = memory.open(PLACE);
    let clients = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&clients);
    peers.spawn(async move {
        loop {
            let (mut client, _) = door.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            while let Some(frame) = request(&mut client).await {
                if frame[6] != 13 {
                    client.write_all(&addresses(&frame)).await.unwrap();
                }
            }
        }
    });
    let mut rig = Rig::new(&memory, "");
    let _dead = rig.source("unit: 13\nevery: 1s\nregisters: [{ name: a, input: 5 }]");
    let mut live = rig.source("unit: 1\nevery: 1s\nregisters: [{ name: a, input: 5 }]");
    let start = Instant::now();
    for _ in 0..100 {
        next(&mut live).await;
    }
    let took = start.elapsed().as_secs();
    assert!((99..=105).contains(&took), "100 polls, one a second, took {took} s");
    assert_eq!(clients.load(Ordering::SeqCst), 1);
    assert!(live.errors.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_dead_unit_filled_the_log_with_how_long_it_was_still_left_alone() {
    let mut peers = JoinSet::new();
    let dead = |frame: &[u8; 12]| if frame[6] == 2 { Vec::new() } else { addresses(frame) };
    let (memory, _) = peer(&mut peers, move |frame| Some(dead(frame)));
    let mut rig = Rig::new(&memory, "");
    let text = "registers: [{ name: a, input: 5 }]";
    let mut alive = rig.source(&format!("unit: 1\nevery: 1s\n{text}"));
    let mut dead = rig.source(&format!("unit: 2\nevery: 2s\n{text}"));
    next(&mut alive).await;
    assert_says(&next_error(&mut dead).await, "no answer within 1s");
    for _ in 0..5 {
        let error = next_error(&mut dead).await;
        assert_says(&error, "not asked: it does not answer, and is asked every 20s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_whose_device_is_gone_sent_a_message_of_nulls() {
    for code in [10, 11] {
        let error = error_about(move |frame| Some(answer_to(frame, &[0x84, code]))).await;
        assert_says(&error, &format!("(exception {code})"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_device_is_asked_again_within_the_poll() {
    for code in [5, 6] {
        let mut peers = JoinSet::new();
        let (memory, clients) = counting_peer(&mut peers, move |n, frame| match n % 3 {
            0 | 1 => Some(answer_to(frame, &[0x84, code])),
            _ => Some(addresses(frame)),
        });
        let mut rig = Rig::new(&memory, "");
        let mut collected = rig.quick_source();
        for _ in 0..3 {
            let message = next(&mut collected).await;
            assert_eq!(message.payload.value(), Ok(&json!({ "a": 1 })));
        }
        assert_eq!(clients.load(Ordering::SeqCst), 1);
    }
}

/// A device at the end of a serial line that answers each request, a frame of 8 bytes, after
/// `delay`, with its own address in each register.
fn serial_device(
    tasks: &mut JoinSet<()>,
    delay: impl Fn(usize) -> Duration + Send + 'static,
) -> Memory {
    serial_device_without(tasks, u16::MAX, delay)
}

/// One that does not answer when asked for a register among others.
fn serial_device_without(
    tasks: &mut JoinSet<()>,
    hole: u16,
    delay: impl Fn(usize) -> Duration + Send + 'static,
) -> Memory {
    const CHECKSUM: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS);
    let memory = memory();
    let door = memory.open("/dev/ttyUSB0");
    tasks.spawn(async move {
        let (mut line, _) = door.accept().await.unwrap();
        for n in 0.. {
            let mut request = [0; 8];
            if line.read_exact(&mut request).await.is_err() {
                return;
            }
            sleep(delay(n)).await;
            let start = u16::from_be_bytes([request[2], request[3]]);
            let count = u16::from_be_bytes([request[4], request[5]]);
            if (start..start + count).contains(&hole) {
                continue;
            }
            let values: Vec<u8> = (start..start + count).flat_map(u16::to_be_bytes).collect();
            let mut frame = [&[request[0], request[1], values.len() as u8], &values[..]].concat();
            frame.extend(CHECKSUM.checksum(&frame).to_le_bytes());
            line.write_all(&frame).await.unwrap();
        }
    });
    memory
}

const SERIAL: &str = "url: rtu:///dev/ttyUSB0?baud=9600";

#[tokio::test(start_paused = true)]
async fn a_device_on_a_serial_line_is_read() {
    let mut devices = JoinSet::new();
    let memory = serial_device(&mut devices, |_| Duration::from_millis(20));
    let mut rig = Rig::at(memory.world(), SERIAL);
    let mut collected = rig
        .source("unit: 9\nevery: 1s\nregisters: [{ name: a, holding: 7 }, { name: b, input: 9 }]");
    for _ in 0..3 {
        let message = next(&mut collected).await;
        assert_eq!(message.payload.value(), Ok(&json!({ "a": 7, "b": 9 })));
    }
    assert!(collected.errors.try_recv().is_err());
}

/// Two registers with as long an answer, polled in turn; every few answers come too late, some when
/// the next request is already on its way.
#[tokio::test(start_paused = true)]
async fn a_late_answer_on_a_serial_line_became_the_value_of_another_register() {
    for late_millis in [150, 290, 399, 450, 700] {
        let mut devices = JoinSet::new();
        let memory = serial_device(&mut devices, move |n| {
            Duration::from_millis(if n % 7 == 3 { late_millis } else { 20 })
        });
        let mut rig = Rig::at(memory.world(), &format!("{SERIAL}\ntimeout: 100ms"));
        let mut collected = rig.source(
            "unit: 9\nevery: 300ms\nregisters: [{ name: a, holding: 7 }, { name: b, holding: 90 }]",
        );
        let mut errors = 0;
        for _ in 0..200 {
            let message = next(&mut collected).await;
            let expected = json!({ "a": 7, "b": 90 });
            assert_eq!(message.payload.value(), Ok(&expected), "{late_millis} ms");
            errors += std::iter::from_fn(|| collected.errors.try_recv().ok()).count();
        }
        assert!(errors > 10, "{late_millis} ms: some came too late");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_serves_one_client_was_never_free() {
    let memory = memory();
    let door = memory.open(PLACE);
    let mut rig = Rig::new(&memory, "idle_close: 2s");
    let mut collected = rig.source("every: 1m\nregisters: [{ name: a, input: 5 }]");
    let mut client = accept(&door).await;
    let frame = request(&mut client).await.unwrap();
    client.write_all(&addresses(&frame)).await.unwrap();
    next(&mut collected).await;
    let answered = Instant::now();
    assert_eq!(request(&mut client).await, None);
    assert_eq!(answered.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_hangs_up_between_polls_is_no_error() {
    let memory = memory();
    let door = memory.open(PLACE);
    let mut rig = Rig::new(&memory, "");
    rig.tasks.spawn(async move {
        loop {
            let (mut client, _) = door.accept().await.unwrap();
            let frame = request(&mut client).await.unwrap();
            client.write_all(&addresses(&frame)).await.unwrap();
        }
    });
    let mut collected = rig.quick_source();
    for _ in 0..5 {
        assert_eq!(next(&mut collected).await.payload.value(), Ok(&json!({ "a": 1 })));
    }
    assert!(collected.errors.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_exception_keeps_the_connection() {
    let mut peers = JoinSet::new();
    let (memory, clients) = peer(&mut peers, |frame| Some(answer_to(frame, &[0x84, 6])));
    let mut rig = Rig::new(&memory, "");
    let mut collected = rig.quick_source();
    for _ in 0..3 {
        let message = next(&mut collected).await;
        let quality = json!({ "a": "server device busy (exception 6)" });
        assert_eq!(message.meta.get("quality"), Some(&quality));
    }
    assert_eq!(clients.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_comes_back_is_read_again() {
    let memory = memory();
    let mut rig = Rig::new(&memory, "");
    let mut device = JoinSet::new();
    device.spawn(simulate::serve_sdm630(Box::new(memory.open(PLACE))));
    let mut collected = rig.quick_source();
    next(&mut collected).await;

    device.shutdown().await;
    while !next_error(&mut collected).await.contains(REFUSED) {}
    while collected.envelopes.try_recv().is_ok() {}

    device.spawn(simulate::serve_sdm630(Box::new(memory.open(PLACE))));
    next(&mut collected).await;
}

#[tokio::test(start_paused = true)]
async fn sources_that_share_a_bus_take_turns() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let mut peers = JoinSet::new();
    let (memory, clients) = peer(&mut peers, move |frame| {
        log.lock().unwrap().push(frame[6]);
        Some(addresses(frame))
    });
    let mut rig = Rig::new(&memory, "");
    let mut long = rig.source(
        "unit: 7
every: 1s
one_by_one: true
registers:
  - { name: a, input: 0 }
  - { name: b, input: 10 }
  - { name: c, input: 20 }",
    );
    let mut short = rig.source("unit: 8\nevery: 1s\nregisters: [{ name: d, input: 30 }]");
    assert_eq!(next(&mut long).await.payload.value(), Ok(&json!({ "a": 0, "b": 10, "c": 20 })));
    assert_eq!(next(&mut short).await.payload.value(), Ok(&json!({ "d": 30 })));
    // From the second beat on both are there at once.
    next(&mut long).await;
    assert_eq!(asked.lock().unwrap()[4..], [7, 8, 7, 7]);
    assert_eq!(clients.load(Ordering::SeqCst), 1);
}

/// What two sources with the same beat get, and in which requests, as `start+count`.
async fn read_by_two(merging: &str, hole: u16) -> (Vec<Value>, Vec<String>) {
    let mut peers = JoinSet::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let (memory, _) = peer(&mut peers, move |frame| {
        let [start, count] = [8, 10].map(|at| u16::from_be_bytes([frame[at], frame[at + 1]]));
        seen.lock().unwrap().push(format!("{start}+{count}"));
        let refuses = (start..start + count).contains(&hole);
        Some(if refuses { answer_to(frame, &[0x83, 2]) } else { addresses(frame) })
    });
    let mut rig = Rig::new(&memory, "");
    let first = "registers: [{ name: a, holding: 4 }, { name: b, holding: 700 }]";
    let second = "registers: [{ name: c, holding: 6, kind: u32 }, { name: d, holding: 2 }]";
    let sources = [first, second].map(|text| {
        let data = rig.data.path().join(&text[20..21]).into();
        let site = Site { data, ..testing::site(Some(rig.shared.clone())) };
        rig.source_at(site, &format!("every: 1s\n{merging}\n{text}"))
    });
    let mut values = Vec::new();
    for mut collected in sources {
        for _ in 0..3 {
            values.push(next(&mut collected).await.payload.value().unwrap().clone());
        }
    }
    let asked = asked.lock().unwrap().clone();
    (values, asked)
}

#[tokio::test(start_paused = true)]
async fn sources_of_one_device_and_beat_asked_for_the_same_registers_twice() {
    let right = [json!({ "a": 4, "b": 700 }), json!({ "c": 0x0006_0007, "d": 2 })];
    let each_three_times: Vec<Value> =
        right.iter().flat_map(|value| vec![value.clone(); 3]).collect();
    let (values, asked) = read_by_two("", 0xFFFF).await;
    assert_eq!(values, each_three_times);
    // What is known of each device is read before its first poll, which so stands alone.
    assert_eq!(asked[asked.len() - 4..], ["2+6", "700+1"].repeat(2), "one request for both");
    let (values, asked) = read_by_two("max_gap: 0", 0xFFFF).await;
    assert_eq!((values.len(), asked.len()), (6, 4 * 3), "what is kept apart stays apart");
    // What lies between the two is refused: each is read all the same, and it is not tried again.
    let (values, asked) = read_by_two("", 5).await;
    assert_eq!(values, each_three_times);
    let last = &asked[asked.len() - 4..];
    assert_eq!(last, ["2+1", "4+1", "6+2", "700+1"], "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn the_bus_is_left_alone_between_requests() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let mut peers = JoinSet::new();
    let (memory, _) = peer(&mut peers, move |frame| {
        log.lock().unwrap().push(Instant::now());
        Some(addresses(frame))
    });
    let mut rig = Rig::new(&memory, "pause: 30ms");
    let text = "every: 1h\nregisters: [{ name: a, input: 0 }, { name: b, holding: 2 }]";
    next(&mut rig.source(text)).await;
    let asked = asked.lock().unwrap();
    assert_eq!(asked[1] - asked[0], Duration::from_millis(30));
}

#[tokio::test(start_paused = true)]
async fn who_waits_when_the_bus_is_stopped_learns_it_at_once() {
    let memory = memory();
    let door = memory.open(PLACE);
    let (shared, connection) = bus(&memory, "timeout: 1m");
    let owner = tokio::spawn(keep_running(connection, Voice::unheard()));
    let bus = shared.get::<SharedBus>().unwrap();
    // One read is under way, one waits for its turn.
    let stop = async {
        request(&mut accept(&door).await).await.unwrap();
        owner.abort();
    };
    let reads = async { tokio::join!(bus.ask(1, FIRST_TWO), bus.ask(2, FIRST_TWO), stop) };
    let (first, second, ()) = timeout(DEADLINE, reads).await.unwrap();
    for failure in [first.unwrap_err(), second.unwrap_err()] {
        assert_eq!(failure.to_string(), "not connected: the connection was stopped");
    }
    let late = timeout(DEADLINE, bus.ask(1, FIRST_TWO)).await.unwrap().unwrap_err();
    assert_eq!(late.to_string(), "not connected: the connection was stopped");
}

#[tokio::test(start_paused = true)]
async fn who_waits_when_the_device_is_gone_learns_it_at_once() {
    let memory = memory();
    let door = memory.open(PLACE);
    let (shared, mut connection) = bus(&memory, "");
    let bus = shared.get::<SharedBus>().unwrap();
    let voice = Voice::unheard();
    let device = async {
        request(&mut accept(&door).await).await.unwrap();
        drop(door);
    };
    let all = async {
        tokio::join!(connection.run(&voice), bus.ask(1, FIRST_TWO), bus.ask(2, FIRST_TWO), device)
    };
    let (ended, first, second, ()) = timeout(DEADLINE, all).await.unwrap();
    assert_says(&format!("{:#}", ended.unwrap_err()), REFUSED);
    assert_says(&first.unwrap_err().to_string(), REFUSED);
    assert_says(&second.unwrap_err().to_string(), REFUSED);
}

#[tokio::test(start_paused = true)]
async fn a_bus_says_how_busy_it_is_and_what_goes_over_the_wire() {
    let memory = memory();
    let door = memory.open(PLACE);
    let mut rig = Rig::new(&memory, "pause: 200ms");
    rig.tasks.spawn(async move {
        let (mut client, _) = door.accept().await.unwrap();
        while let Some(frame) = request(&mut client).await {
            sleep(Duration::from_millis(300)).await;
            client.write_all(&addresses(&frame)).await.unwrap();
        }
    });
    let mut collected = rig.source("every: 2s\nregisters: [{ name: a, input: 0, kind: u32 }]");
    for _ in 0..32 {
        next(&mut collected).await;
    }
    let said = rig.heard.said();
    assert_eq!(said.busy, [0.25; 6], "300 ms until the answer and 200 ms of pause, every 2 s");
    // 12 bytes to ask; 9 before the values of an answer, and 4 of them.
    assert_eq!(said.figures[&Figure::BytesOut], 32 * 12);
    assert_eq!(said.figures[&Figure::BytesIn], 32 * 13);
    assert_eq!(rig.sources_heard.figure(Figure::Overruns), 0);
    rig.tasks.shutdown().await;
    assert_eq!(rig.heard.said().busy.last(), Some(&0.0), "a bus that nobody serves is idle");
}

#[tokio::test(start_paused = true)]
async fn polls_that_do_not_fit_are_skipped_and_counted() {
    let memory = memory();
    let door = memory.open(PLACE);
    let mut rig = Rig::new(&memory, "");
    rig.tasks.spawn(async move {
        let (mut client, _) = door.accept().await.unwrap();
        while let Some(frame) = request(&mut client).await {
            sleep(Duration::from_millis(250)).await;
            client.write_all(&addresses(&frame)).await.unwrap();
        }
    });
    let mut collected = rig.source("every: 100ms\nregisters: [{ name: a, input: 0 }]");
    for _ in 0..4 {
        next(&mut collected).await;
    }
    // The polls of 0, 300, 600 and 900 ms are over: each at its beat, so the device has a pause.
    assert_eq!(rig.sources_heard.figure(Figure::Overruns), 6, "of two between each and the next");
}

#[test]
fn the_sample_is_right() {
    let mut findings = Vec::new();
    let mut sample = yaml::parse(&plugin().sample, 0, Limits::default(), &mut findings).unwrap();
    let types: [(&str, &str, &dyn NodeType); 2] =
        [("connections", "bus", &connection()), ("sources", "meter", &source())];
    for (section, name, node_type) in types {
        let Content::Map(entries) = &mut sample.content else { panic!() };
        let section = entries.iter_mut().find(|entry| entry.key == section).unwrap();
        let mut settings = section.value.get(name).unwrap().clone();
        let Content::Map(own) = &mut settings.content else { panic!() };
        own.retain(|entry| !["type", "connection"].contains(&entry.key.as_str()));
        let resolved = node_type.configure(&settings, &mut findings);
        assert!(resolved.configured.is_some(), "{name}");
        assert_eq!((resolved.problems, &findings), (vec![], &vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_nobody_serves_is_no_place_to_wait_forever() {
    let (shared, _connection) = bus(&memory(), "");
    let start = Instant::now();
    let failure = shared.get::<SharedBus>().unwrap().ask(1, FIRST_TWO).await.unwrap_err();
    assert_eq!(failure.to_string(), "not connected: the connection is still being opened");
    assert_eq!(start.elapsed(), Duration::from_secs(6), "connect_timeout and a little");
}

#[tokio::test(start_paused = true)]
async fn a_source_on_another_kind_of_connection_says_so() {
    let other = Shared::new(Arc::new("no bus"));
    let text = "every: 1s\nregisters: [{ name: a, input: 0 }]";
    let Node::Source(mut source) = build(&source(), text, Some(other)) else { panic!() };
    let (out, _collected) = outlet(1);
    let error = source.run(&out).await.unwrap_err();
    assert_eq!(error.to_string(), "using the connection: it is not a Modbus bus");
}

#[tokio::test(start_paused = true)]
async fn no_answer_whatsoever_causes_a_panic() {
    let seed = Mutex::new(0x2545_F491_4F6C_DD1D_u64);
    let random = move || {
        let mut seed = seed.lock().unwrap();
        for shift in [13, 7, 17] {
            *seed ^= if shift == 7 { *seed >> shift } else { *seed << shift };
        }
        *seed
    };
    let mut peers = JoinSet::new();
    let (memory, _) = peer(&mut peers, move |frame| {
        let length = 2 + random() % 12;
        let mut body: Vec<u8> = (0..length).map(|_| random() as u8).collect();
        // Most answers are of the right function, so that what follows is looked at.
        if !random().is_multiple_of(4) {
            body[0] = frame[7] | (random() as u8 & 0x80);
            body[1] %= 8;
        }
        Some(answer_to(frame, &body))
    });
    let patience = Period(DEADLINE);
    let (world, voice) = (memory.world(), Voice::unheard());
    let to = Endpoint { host: "meter.lan".to_owned(), port: 502 };
    let to = Place::Network(to, Framing::Tcp);
    let open = || Link::open(&world, &to, patience, &voice);
    let mut link = open().await.unwrap();
    for round in 0..400 {
        let table = [Table::Holding, Table::Input, Table::Coil, Table::Discrete][round % 4];
        let block = Block { table, start: 0, count: 2 };
        match link.call(1, &Ask::Read(block), patience).await {
            Ok(Answer::Registers(registers)) => assert_eq!(registers.len(), 2),
            Ok(Answer::Bits(bits)) => assert_eq!(bits.len(), 2),
            Ok(Answer::Written | Answer::Identity(_)) => panic!("nothing was to be written"),
            Err(Failure::Exception(_)) => (),
            Err(_) => link = open().await.unwrap(),
        }
    }
}
