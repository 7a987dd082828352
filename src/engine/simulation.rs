//! Random graphs, faults, reloads, stops and crashes, from one seed each, on a stopped clock.
//!
//! The disk under the buffers takes nothing more from some moment on, or is gone, until it is put in again;
//! in the last life it need not be. Files that were removed are lost, so that is not among it. Between two
//! lives a bit of a file may be flipped, which costs one message at most, or its end be cut off.
//!
//! The world outside is a source that sends again what was not acknowledged, as a broker does, a timer
//! that does not, and sinks whose link comes and goes. In between stand nodes that hold messages: a
//! window by key, a delay, a join of two outputs of one node; one whose state is kept on disk; a sink
//! that answers, and one that must not repeat. What must hold at the end: every message that the
//! source was told is delivered reached every sink that should have it, and every message was
//! delivered; no command was given twice, and each was given or told to be in doubt; what was
//! acknowledged is in the state on disk.
//!
//! `FOREBAY_SEEDS=N` tries other seeds than the first thousand, as many as it says;
//! `FOREBAY_SEED=N` tries one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Mutex,
};

use forebay_sdk::{
    Capabilities, Emitter, Held, Input, Message, Node, Outcome, Outlet, Port, Saved, Sink, Source,
    SyncPolicy, Transform, WriteError, Written, clock::Now,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    buffer::{Breakage, Folder, folder_of, look, set_breakage},
    tests::{Fake, Sketch},
    *,
};
use crate::config::{Buffer, Order, Store, WhenFull};

const SEEDS: u64 = 1000;
/// What the source sends before it is acknowledged.
const IN_FLIGHT: usize = 40;

/// Everything outside, which a crash does not touch.
#[derive(Default)]
struct World {
    /// Messages that exist, numbered from 0.
    produced: u64,
    /// How many are to exist.
    wanted: u64,
    /// Sent, and no good end known.
    unacknowledged: BTreeSet<u64>,
    /// To be sent again.
    again: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    /// What each sink took, in order.
    got: BTreeMap<String, Vec<u64>>,
    link: Link,
    disk: Option<Breakage>,
    /// The disk was broken at some time.
    disk_broke: bool,
    /// Untracked messages, those that the engine has taken, and whether one may have been lost.
    ticks: u64,
    taken_ticks: Vec<u64>,
    may_lose_ticks: bool,
    /// How often each command was given.
    commands: BTreeMap<u64, u32>,
    /// Commands that the engine said were in doubt.
    doubts: BTreeSet<u64>,
    /// Half a batch was taken and not answered at some time.
    link_broke: bool,
    /// What was in a file of a sink's buffer that was damaged.
    damaged: BTreeMap<String, BTreeSet<u64>>,
    /// Sinks of whose files an end was cut off, with the second header of the batch that was there.
    cut: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Link {
    #[default]
    Good,
    Slow,
    Refuses,
    /// Takes half of a batch, and fails.
    Breaks,
    /// Packets vanish.
    Silent,
}

type Shared = Arc<Mutex<World>>;

/// Sends numbers, and again those that were lost. Each new session begins with what is not
/// acknowledged.
struct Feed(Shared);

impl Source for Feed {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        out.ready();
        {
            let mut world = self.0.lock().unwrap();
            world.again = world.unacknowledged.clone();
        }
        loop {
            let number = {
                let mut world = self.0.lock().unwrap();
                match world.again.pop_first() {
                    Some(number) => Some(number),
                    None if world.unacknowledged.len() < IN_FLIGHT => world.produce(),
                    None => None,
                }
            };
            let Some(number) = number else {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            let receipt = out.send_tracked(Message::new("n", json!(number))).await;
            let world = Arc::clone(&self.0);
            tokio::spawn(async move {
                let outcome = receipt.await;
                let mut world = world.lock().unwrap();
                match outcome {
                    Outcome::Delivered => {
                        world.unacknowledged.remove(&number);
                        world.acknowledged.insert(number);
                    }
                    Outcome::Lost if world.unacknowledged.contains(&number) => {
                        world.again.insert(number);
                    }
                    Outcome::Lost => (),
                }
            });
        }
    }
}

impl World {
    fn produce(&mut self) -> Option<u64> {
        (self.produced < self.wanted).then(|| {
            let number = self.produced;
            self.produced += 1;
            self.unacknowledged.insert(number);
            number
        })
    }
}

/// A timer: nobody sends again what is lost. Its numbers are far above the others.
struct Ticks(Shared);

const TICKS: u64 = 1 << 32;

impl Source for Ticks {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        out.ready();
        loop {
            let next = {
                let mut world = self.0.lock().unwrap();
                let more = world.produced < world.wanted;
                more.then(|| {
                    world.ticks += 1;
                    TICKS + world.ticks - 1
                })
            };
            if let Some(number) = next {
                out.send(Message::new("t", json!(number))).await;
                self.0.lock().unwrap().taken_ticks.push(number);
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }
}

/// Sends on what comes.
struct Pass;

impl Transform for Pass {
    fn apply(&mut self, Input { message, .. }: Input, out: &mut Emitter) -> anyhow::Result<()> {
        out.emit(message);
        Ok(())
    }
}

/// For each third of the numbers: makes one message out of three, and one of what is left after a
/// while. Panics now and then when it is woken.
#[derive(Default, Serialize, Deserialize)]
struct Keyed {
    lanes: BTreeMap<u64, Vec<(Value, Held)>>,
    /// Seconds of the simulation at which what is left goes out.
    #[serde(skip)]
    wake_at: Option<Instant>,
}

impl Keyed {
    fn send(lane: Vec<(Value, Held)>, topic: &str, out: &mut Emitter) {
        let (values, held): (Vec<Value>, Vec<Held>) = lane.into_iter().unzip();
        out.emit_held(Held::join(held), Port::MAIN, Message::new(topic, Value::Array(values)));
    }
}

impl Transform for Keyed {
    fn apply(&mut self, Input { message, .. }: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let value = message.payload.value().cloned().map_err(Clone::clone)?;
        let mut all = Vec::new();
        numbers(&value, &mut all);
        let lane = self.lanes.entry(all.first().copied().unwrap_or(0) % 3).or_default();
        lane.push((value, out.hold()));
        if lane.len() == 3 {
            Keyed::send(std::mem::take(lane), "three", out);
        }
        self.wake_at.get_or_insert_with(|| Instant::now() + Duration::from_secs(2));
        Ok(())
    }

    fn wake_at(&self) -> Option<Instant> {
        // One that was made anew has what its predecessor held.
        let holds = self.lanes.values().any(|lane| !lane.is_empty());
        self.wake_at.or_else(|| holds.then(Instant::now))
    }

    fn wake(&mut self, _: Now, out: &mut Emitter) -> anyhow::Result<()> {
        self.wake_at = None;
        let wakes = WAKES.get() + 1;
        WAKES.set(wakes);
        let mut lanes = self.lanes.values_mut();
        if wakes.is_multiple_of(7)
            && let Some(lane) = lanes.find(|lane| lane.len() > 1)
        {
            // Half done: what its successor remembers must not be this.
            lane.pop();
            // Without a word on standard error, a thousand times over.
            std::panic::resume_unwind(Box::new("a bug"));
        }
        for lane in self.lanes.values_mut().filter(|lane| !lane.is_empty()) {
            Keyed::send(std::mem::take(lane), "rest", out);
        }
        Ok(())
    }

    fn save(&self) -> Option<Saved> {
        Saved::of(1, self).ok()
    }
}

/// Sends each message on some seconds later.
#[derive(Default, Serialize, Deserialize)]
struct Delay(Vec<(u64, Value, Held)>);

impl Transform for Delay {
    fn apply(&mut self, Input { message, .. }: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let value = message.payload.value().cloned().map_err(Clone::clone)?;
        let seconds = 1 + message.topic.len() as u64 % 3;
        let due = uptime_millis() + seconds * 1000;
        self.0.push((due, value, out.hold()));
        Ok(())
    }

    fn wake_at(&self) -> Option<Instant> {
        let due = self.0.iter().map(|(due, ..)| *due).min()?;
        Some(Instant::now() + Duration::from_millis(due.saturating_sub(uptime_millis())))
    }

    fn wake(&mut self, _: Now, out: &mut Emitter) -> anyhow::Result<()> {
        let now = uptime_millis();
        for (_, value, held) in self.0.extract_if(.., |(due, ..)| *due <= now) {
            out.emit_held(held, Port::MAIN, Message::new("later", value));
        }
        Ok(())
    }

    fn save(&self) -> Option<Saved> {
        Saved::of(1, self).ok()
    }
}

thread_local! {
    static WAKES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    /// When the life at hand began: a time that can be written down.
    static BEGAN: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

fn uptime_millis() -> u64 {
    let began = BEGAN.get().expect("set at the beginning of each life");
    u64::try_from(began.elapsed().as_millis()).unwrap()
}

/// Sends messages to one output or the other.
struct Fork;

impl Transform for Fork {
    fn apply(&mut self, Input { message, .. }: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let mut all = Vec::new();
        numbers(message.payload.value().map_err(Clone::clone)?, &mut all);
        let is_odd = all.first().copied().unwrap_or(0) % 2 == 1;
        out.emit_to(if is_odd { Port::named(0) } else { Port::MAIN }, message);
        Ok(())
    }
}

/// Makes one message of one from each of its inputs, and of each that is alone for long.
#[derive(Default, Serialize, Deserialize)]
struct Join {
    waiting: BTreeMap<String, Vec<(Value, Held)>>,
    #[serde(skip)]
    wake_at: Option<Instant>,
}

impl Transform for Join {
    fn apply(&mut self, Input { message, from }: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let value = message.payload.value().cloned().map_err(Clone::clone)?;
        self.waiting.entry(from.to_string()).or_default().push((value, out.hold()));
        let mut filled = self.waiting.values_mut().filter(|queue| !queue.is_empty());
        if let (Some(one), Some(other)) = (filled.next(), filled.next()) {
            let ((one, held), (other, also_held)) = (one.remove(0), other.remove(0));
            let both = Held::join([held, also_held]);
            out.emit_held(both, Port::MAIN, Message::new("both", json!([one, other])));
        }
        self.wake_at.get_or_insert_with(|| Instant::now() + Duration::from_secs(5));
        Ok(())
    }

    fn wake_at(&self) -> Option<Instant> {
        let holds = self.waiting.values().any(|queue| !queue.is_empty());
        self.wake_at.or_else(|| holds.then(Instant::now))
    }

    fn wake(&mut self, _: Now, out: &mut Emitter) -> anyhow::Result<()> {
        self.wake_at = None;
        for (value, held) in self.waiting.values_mut().flat_map(std::mem::take) {
            out.emit_held(held, Port::MAIN, Message::new("alone", value));
        }
        Ok(())
    }

    fn save(&self) -> Option<Saved> {
        Saved::of(1, self).ok()
    }
}

/// Remembers all that went through, on disk.
#[derive(Default)]
struct Counts(BTreeSet<u64>);

impl Transform for Counts {
    fn apply(&mut self, Input { message, .. }: Input, out: &mut Emitter) -> anyhow::Result<()> {
        self.0.extend(message.payload.value().ok().and_then(Value::as_u64));
        out.emit(message);
        Ok(())
    }

    fn save(&self) -> Option<Saved> {
        Saved::of(1, &self.0).ok()
    }
}

/// Gives commands, none of them twice.
struct Once(Shared);

impl Sink for Once {
    async fn connect(&mut self) -> anyhow::Result<()> {
        match self.0.lock().unwrap().link {
            Link::Refuses => anyhow::bail!("nobody answers"),
            _ => Ok(()),
        }
    }

    async fn write(&mut self, batch: &[Message], out: &mut Emitter) -> Result<Written, WriteError> {
        let [message] = batch else { panic!("{} commands at once", batch.len()) };
        let number = message.payload.value().unwrap().as_u64().unwrap();
        let link = {
            let mut world = self.0.lock().unwrap();
            if world.link == Link::Refuses {
                return Err(WriteError::retry(anyhow::anyhow!("it was not even sent")));
            }
            *world.commands.entry(number).or_default() += 1;
            world.link
        };
        let pause = if link == Link::Slow { 1500 } else { 3 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
        match link {
            Link::Breaks => Err(WriteError::in_doubt(anyhow::anyhow!("the link broke"))),
            Link::Silent => std::future::pending().await,
            _ => {
                out.emit_to(Port::named(0), Message::new("done", json!(number)));
                Ok(Written::bytes(8))
            }
        }
    }
}

/// Takes note of what the engine says is in doubt.
struct Doubts(Shared);

impl Sink for Doubts {
    async fn connect(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn write(&mut self, batch: &[Message], _: &mut Emitter) -> Result<Written, WriteError> {
        let mut world = self.0.lock().unwrap();
        for message in batch {
            let value = message.payload.value().unwrap();
            assert!(value["error"].as_str().unwrap().starts_with("in doubt"), "{value}");
            world.doubts.extend(value["message"]["payload"].as_u64());
        }
        Ok(Written::default())
    }
}

/// Takes what comes when the link lets it.
struct Drain(String, Shared);

impl Drain {
    fn link(&self) -> Link {
        self.1.lock().unwrap().link
    }

    fn take(&self, messages: &[Message]) {
        let mut world = self.1.lock().unwrap();
        let got = world.got.entry(self.0.clone()).or_default();
        for message in messages {
            numbers(message.payload.value().unwrap(), got);
        }
    }
}

fn numbers(value: &Value, into: &mut Vec<u64>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| numbers(item, into)),
        other => into.push(other.as_u64().unwrap()),
    }
}

impl Sink for Drain {
    async fn connect(&mut self) -> anyhow::Result<()> {
        match self.link() {
            Link::Refuses => anyhow::bail!("nobody answers"),
            Link::Silent => std::future::pending().await,
            _ => Ok(()),
        }
    }

    async fn write(&mut self, batch: &[Message], out: &mut Emitter) -> Result<Written, WriteError> {
        let pause = if self.link() == Link::Slow { 1500 } else { 3 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
        // Of a long batch a part is taken, and told of, before the rest.
        let mut early = 0;
        if batch.len() > 4 && matches!(self.link(), Link::Good | Link::Slow) {
            early = batch.len() / 3;
            self.take(&batch[..early]);
            out.progress().taken(early);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        if early > 0 && self.link() != Link::Good {
            self.1.lock().unwrap().link_broke = true;
        }
        match self.link() {
            Link::Good | Link::Slow => self.take(&batch[early..]),
            Link::Refuses => Err(anyhow::anyhow!("the link went away"))?,
            Link::Breaks => {
                self.take(&batch[..batch.len() / 2]);
                self.1.lock().unwrap().link_broke = true;
                let error = WriteError::retry(anyhow::anyhow!("the link broke"));
                return Err(error.taken(batch.len() / 2));
            }
            Link::Silent => std::future::pending().await,
        }
        for message in batch {
            out.emit_to(Port::named(0), message.clone());
        }
        Ok(Written::bytes(batch.len()))
    }
}

/// What one seed decides.
struct Dice(fastrand::Rng);

impl Dice {
    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.usize(..choices.len())]
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.0.u32(..one_in) == 0
    }

    fn buffer(&mut self) -> Buffer {
        let every = SyncPolicy::Every(Duration::from_millis(250));
        Buffer {
            store: self.one_of(&[Store::Memory, Store::Disk, Store::Disk, Store::Spill]),
            max_messages: self.one_of(&[3, 20, 1000]),
            max_bytes: self.one_of(&[64 << 10, 256 << 10, 1 << 20]),
            sync: self.one_of(&[SyncPolicy::Always, every, SyncPolicy::Never]),
            order: self.one_of(&[Order::Fifo, Order::Fifo, Order::LiveFirst]),
            drain_every: self.one_of(&[None, None, Some(Duration::from_millis(20))]),
            when_full: WhenFull::Block,
            max_age: None,
            expires_after: None,
        }
    }
}

/// What a transform does.
#[derive(Clone, Copy)]
enum Kind {
    Pass,
    Keyed,
    Delay,
    /// Two nodes: a fork, and a join of its outputs.
    Join,
}

/// One graph, whose nodes change their settings and whose extras come and go.
struct Plant {
    /// Each with what it reads.
    transforms: Vec<(String, String, Kind)>,
    sinks: Vec<(String, String)>,
    buffers: Vec<Buffer>,
    /// In front of the sink that must not repeat.
    commands: Buffer,
    versions: BTreeMap<String, u64>,
    /// A sink beside, whose fate matters to nobody.
    has_extra: bool,
}

impl Plant {
    fn new(dice: &mut Dice) -> Plant {
        let mut nodes = vec!["feed".to_owned()];
        let mut transforms = Vec::new();
        for index in 0..dice.0.usize(..3) {
            let from = nodes[dice.0.usize(..nodes.len())].clone();
            let name = format!("transform{index}");
            let kind = dice.one_of(&[Kind::Pass, Kind::Keyed, Kind::Delay, Kind::Join]);
            transforms.push((name.clone(), from, kind));
            nodes.push(name);
        }
        let mut sinks: Vec<_> = (0..dice.0.usize(1..4))
            .map(|index| (format!("sink{index}"), nodes[dice.0.usize(..nodes.len())].clone()))
            .collect();
        sinks.push(("counted".to_owned(), "counts".to_owned()));
        let buffers = sinks.iter().map(|_| dice.buffer()).collect();
        let (commands, versions) = (dice.buffer(), BTreeMap::new());
        Plant { transforms, sinks, buffers, commands, versions, has_extra: false }
    }

    fn change(&mut self, dice: &mut Dice) {
        let names: Vec<&String> = self.transforms.iter().map(|(name, ..)| name).collect();
        let names = names.into_iter().chain(self.sinks.iter().map(|(name, _)| name)).cloned();
        let names: Vec<String> = names.chain(["counts", "once"].map(str::to_owned)).collect();
        for name in names {
            if dice.chance(3) {
                *self.versions.entry(name).or_default() += 1;
            }
        }
        if dice.chance(6) {
            *self.versions.entry("feed".to_owned()).or_default() += 1;
        }
        let index = dice.0.usize(..self.buffers.len());
        if dice.chance(3) {
            self.buffers[index] = dice.buffer();
        }
        if dice.chance(6) {
            self.commands = dice.buffer();
        }
        self.has_extra ^= dice.chance(2);
    }

    fn graph(&self, world: &Shared) -> Graph {
        let version = |name: &str| 1 + self.versions.get(name).copied().unwrap_or_default();
        let (feed, ticks) = (Arc::clone(world), Arc::clone(world));
        let mut sketch = Sketch::default()
            .node(Role::Source, "feed", version("feed"), &[], move || {
                Node::source(Feed(Arc::clone(&feed)))
            })
            .node(Role::Source, "ticks", 1, &[], move || Node::source(Ticks(Arc::clone(&ticks))));
        for (name, from, kind) in &self.transforms {
            let (version, kind) = (version(name), *kind);
            let make = move |site: Site| match kind {
                Kind::Pass => Node::transform(Pass),
                Kind::Keyed => Node::transform(site.remembered::<Keyed>(1).unwrap_or_default()),
                Kind::Delay => Node::transform(site.remembered::<Delay>(1).unwrap_or_default()),
                Kind::Join => Node::transform(site.remembered::<Join>(1).unwrap_or_default()),
            };
            let inputs = [format!("{name}-fork"), format!("{name}-fork.named")];
            let inputs: Vec<&str> = match kind {
                Kind::Join => inputs.iter().map(String::as_str).collect(),
                _ => vec![from.as_str()],
            };
            if let Kind::Join = kind {
                let fork = format!("{name}-fork");
                sketch =
                    sketch.node(Role::Transform, &fork, version, &[from], || Node::transform(Fork));
            }
            sketch = sketch.add(Role::Transform, name, version, &inputs, Fake::new(make));
        }
        let counts =
            Fake::new(|site| Node::transform(Counts(site.remembered(1).unwrap_or_default())));
        let (once, doubts) = (Arc::clone(world), Arc::clone(world));
        let once = Fake::new(move |_| Node::sink(Once(Arc::clone(&once))))
            .can(Capabilities { repeats: false, ..Capabilities::default() });
        sketch = sketch
            .add(Role::Transform, "counts", version("counts"), &["feed"], counts)
            .persist("counts", Duration::from_secs(1))
            .add(Role::Sink, "once", version("once"), &["ticks"], once)
            .buffer("once", self.commands)
            .node(Role::Sink, "doubts", 1, &["once.errors"], move || {
                Node::sink(Doubts(Arc::clone(&doubts)))
            });
        for (reader, asked) in [("answers", "sink0.named"), ("done", "once.named")] {
            let (world, reader_name) = (Arc::clone(world), reader.to_owned());
            sketch = sketch.node(Role::Sink, reader, 1, &[asked], move || {
                Node::sink(Drain(reader_name.clone(), Arc::clone(&world)))
            });
        }
        let extra = self.has_extra.then(|| ("extra".to_owned(), self.sinks[0].1.clone()));
        for (name, from) in self.sinks.iter().chain(&extra) {
            let (world, drain) = (Arc::clone(world), name.clone());
            let from: &[&str] = if name == "counted" { &[from] } else { &[from, "ticks"] };
            sketch = sketch.node(Role::Sink, name, version(name), from, move || {
                Node::sink(Drain(drain.clone(), Arc::clone(&world)))
            });
        }
        for ((name, _), buffer) in self.sinks.iter().zip(&self.buffers) {
            sketch = sketch.buffer(name, *buffer);
        }
        sketch.0
    }
}

/// The program between two crashes, or stops.
fn life(plant: &mut Plant, dice: &mut Dice, world: &Shared, data: &Path, is_last: bool) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.unwrap();
    runtime.block_on(async {
        BEGAN.set(Some(Instant::now()));
        let mut engine = Engine::new(Path::new("."), data);
        engine.apply(plant.graph(world)).await;
        for _ in 0..dice.0.usize(..25) {
            match dice.0.u32(..9) {
                0 => set_disk(world, data, dice.one_of(&DISKS)),
                1..3 => {
                    let link = [Link::Good, Link::Slow, Link::Refuses, Link::Breaks, Link::Silent];
                    world.lock().unwrap().link = dice.one_of(&link);
                }
                3..5 => {
                    plant.change(dice);
                    let began = Instant::now();
                    engine.apply(plant.graph(world)).await;
                    // Whatever the link does, a reload does not wait for it.
                    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
                }
                _ => {
                    let millis = dice.one_of(&[1, 30, 300, 3000, 30_000]);
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                }
            }
            for (name, station) in &engine.stations {
                let buffer = engine.graph.nodes[name].common.buffer;
                // One that was larger before may hold more until it has drained.
                let most = if buffer.store == Store::Memory { 1000 } else { 100_000 };
                assert!(station.inbox.len() <= most, "{name}: {}", station.inbox.len());
            }
        }
        if is_last {
            world.lock().unwrap().link = Link::Good;
            wait_for_all(world).await;
            // What is acknowledged may only be there, and was to arrive without it otherwise.
            if world.lock().unwrap().disk == Some(Breakage::Gone) {
                let open = world.lock().unwrap().unacknowledged.clone();
                assert!(open.is_empty(), "without the disk, these did not arrive: {open:?}");
                set_disk(world, data, None);
                tokio::time::sleep(ALL_THE_REST).await;
            }
            let stopped = engine.stop(Duration::from_secs(10)).await;
            assert_eq!((stopped.undelivered, stopped.kept), (0, 0));
        } else if dice.chance(2) {
            let began = Instant::now();
            let stopped = engine.stop(Duration::from_secs(5)).await;
            assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
            world.lock().unwrap().may_lose_ticks |= stopped.undelivered > 0;
        } else {
            world.lock().unwrap().may_lose_ticks = true;
        }
    });
}

/// A file of a sink's buffer is not as it was when the program starts again.
fn damage(plant: &Plant, dice: &mut Dice, world: &Shared, data: &Path) {
    let all = plant.sinks.iter().map(|(name, _)| (name, folder_of(data, name)));
    let holding: Vec<_> = all.filter(|(_, folder)| !held(folder).is_empty()).collect();
    let Some((name, folder)) = holding.get(dice.0.usize(..holding.len().max(1))) else { return };
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let logs: BTreeSet<PathBuf> = entries.filter(|path| path.extension().is_some()).collect();
    let is_cut = dice.chance(2);
    let chosen = if is_cut { logs.last() } else { logs.iter().nth(dice.0.usize(..logs.len())) };
    let Some(path) = chosen else { return };
    let mut bytes = std::fs::read(path).unwrap();
    // Most of a small one is room for what comes.
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    if used == 0 {
        return;
    }
    let at = dice.0.usize(..used);
    let before = held(folder);
    match is_cut {
        true => bytes.truncate(at),
        false => bytes[at] ^= 1 << dice.0.u32(..8),
    }
    std::fs::write(path, bytes).unwrap();
    let after = held(folder);
    let lost: Vec<_> = before.iter().filter(|(seq, _)| !after.contains_key(seq)).collect();
    let mut world = world.lock().unwrap();
    let was_cut = world.cut.contains(*name);
    let may_cost_more = is_cut || was_cut;
    assert!(may_cost_more || lost.len() <= 1, "one bit of {} cost {lost:?}", path.display());
    if is_cut {
        world.cut.insert((*name).clone());
    }
    let damaged = world.damaged.entry((*name).clone()).or_default();
    damaged.extend(lost.into_iter().flat_map(|(_, numbers)| numbers));
}

/// What a buffer holds, by its numbers in there.
fn held(folder: &Path) -> BTreeMap<u64, Vec<u64>> {
    if !folder.is_dir() {
        return BTreeMap::new();
    }
    let mut look = look(Folder::new(folder)).unwrap();
    let (mut held, mut from) = (BTreeMap::new(), 0);
    loop {
        let stored = look.read(from, usize::MAX, usize::MAX).unwrap();
        let Some(last) = stored.last() else { return held };
        from = last.seq + 1;
        held.extend(stored.into_iter().map(|stored| {
            let mut all = Vec::new();
            numbers(stored.message.payload.value().unwrap(), &mut all);
            (stored.seq, all)
        }));
    }
}

const DISKS: [Option<Breakage>; 4] =
    [None, None, Some(Breakage::TakesNothing), Some(Breakage::Gone)];

/// What is acknowledged arrives within that time.
const ALL_THE_REST: Duration = Duration::from_secs(600);

fn set_disk(world: &Shared, data: &Path, breakage: Option<Breakage>) {
    set_breakage(&data.join("buffers"), breakage);
    let mut world = world.lock().unwrap();
    world.disk = breakage;
    world.disk_broke |= breakage.is_some();
}

async fn wait_for_all(world: &Shared) {
    for _ in 0..2000 {
        {
            let world = world.lock().unwrap();
            if world.produced == world.wanted && world.unacknowledged.is_empty() {
                break;
            }
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    // Acknowledged means safe; now it is to arrive, too.
    tokio::time::sleep(ALL_THE_REST).await;
}

fn simulate(seed: u64, data: &Path) {
    let mut dice = Dice(fastrand::Rng::with_seed(seed));
    let wanted = dice.0.u64(1..400);
    let world: Shared = Arc::new(Mutex::new(World { wanted, ..World::default() }));
    let mut plant = Plant::new(&mut dice);
    for _ in 0..dice.0.usize(..3) {
        life(&mut plant, &mut dice, &world, data, false);
        counted_before_acknowledged(&world, data);
        if dice.chance(2) {
            damage(&plant, &mut dice, &world, data);
        }
    }
    life(&mut plant, &mut dice, &world, data, true);
    counted_before_acknowledged(&world, data);
    set_breakage(&data.join("buffers"), None);

    let world = world.lock().unwrap();
    let everything: BTreeSet<u64> = (0..wanted).collect();
    assert_eq!(world.acknowledged, everything, "delivered, as the source heard");
    for (name, _) in &plant.sinks {
        let mut got: BTreeSet<u64> = world.got.get(name).into_iter().flatten().copied().collect();
        got.extend(world.damaged.get(name).into_iter().flatten());
        let missing: Vec<_> = everything.difference(&got).collect();
        assert!(missing.is_empty(), "{name} never got {missing:?}");
        let missing: Vec<_> = world.taken_ticks.iter().filter(|tick| !got.contains(tick)).collect();
        let is_right = missing.is_empty() || world.may_lose_ticks || name == "counted";
        assert!(is_right, "{name} never got ticks {missing:?}");
    }
    let twice: Vec<_> = world.commands.iter().filter(|(_, times)| **times > 1).collect();
    // What a disk does not take note of before a crash is given once more after it.
    assert!(twice.is_empty() || world.disk_broke, "given twice: {twice:?}");
    let given = |tick: &&u64| world.commands.contains_key(tick) || world.doubts.contains(tick);
    let missing: Vec<_> = world.taken_ticks.iter().filter(|tick| !given(tick)).collect();
    assert!(missing.is_empty() || world.may_lose_ticks, "neither given nor in doubt: {missing:?}");
    let done: BTreeSet<u64> = world.got.get("done").into_iter().flatten().copied().collect();
    let known = |tick: &&u64| done.contains(tick) || world.doubts.contains(tick);
    let silent: Vec<_> = world.commands.keys().filter(|tick| !known(tick)).collect();
    assert!(silent.is_empty() || world.may_lose_ticks, "given, and nobody was told: {silent:?}");
    let answers: BTreeSet<u64> = world.got.get("answers").into_iter().flatten().copied().collect();
    let silent: Vec<_> = everything.difference(&answers).collect();
    let is_damaged = world.damaged.contains_key("sink0");
    let is_right = silent.is_empty() || world.may_lose_ticks || world.link_broke || is_damaged;
    assert!(is_right, "taken, and not answered: {silent:?}");
}

/// What was acknowledged is in the state on disk.
fn counted_before_acknowledged(world: &Shared, data: &Path) {
    let text = std::fs::read_to_string(data.join("nodes/counts/state.json")).unwrap_or_default();
    let state: Value = serde_json::from_str(&text).unwrap_or_default();
    let mut counted = Vec::new();
    if !state.is_null() {
        numbers(&state["state"], &mut counted);
    }
    let counted: BTreeSet<u64> = counted.into_iter().collect();
    let world = world.lock().unwrap();
    let missing: Vec<_> = world.acknowledged.difference(&counted).collect();
    assert!(missing.is_empty(), "acknowledged, and not in the state on disk: {missing:?}");
}

#[test]
fn nothing_is_lost_whatever_happens() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match (number("FOREBAY_SEED"), number("FOREBAY_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => SEEDS..SEEDS + count,
        (None, None) => 0..SEEDS,
    };
    // Memory, if there is some: a thousand runs would wear out a disk for nothing.
    let memory = Some(PathBuf::from("/dev/shm")).filter(|path| path.is_dir());
    for seed in seeds {
        let data = match &memory {
            Some(memory) => tempfile::tempdir_in(memory).unwrap(),
            None => tempfile::tempdir().unwrap(),
        };
        let run = std::panic::AssertUnwindSafe(|| simulate(seed, data.path()));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed}: run it alone with FOREBAY_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
