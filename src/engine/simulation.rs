//! Random graphs, faults, reloads, stops and crashes, from one seed each, on a stopped clock.
//!
//! The world outside is a source that sends again what was not acknowledged, as a broker does, and
//! sinks whose link comes and goes. What must hold at the end: every message that the source was
//! told is delivered reached every sink that should have it, and every message was delivered.
//!
//! `FOREBAY_SEEDS=N` tries other seeds than the first thousand, as many as it says;
//! `FOREBAY_SEED=N` tries one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Mutex,
};

use forebay_sdk::{
    Emitter, Message, Node, Outcome, Outlet, Sink, Source, SyncPolicy, Transform, WriteError,
};
use serde_json::{Value, json};

use super::{tests::Sketch, *};
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
    /// Untracked messages, those that the engine has taken, and whether one may have been lost.
    ticks: u64,
    taken_ticks: Vec<u64>,
    may_lose_ticks: bool,
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
    fn apply(&mut self, message: Message, out: &mut Emitter) -> anyhow::Result<()> {
        out.emit(message);
        Ok(())
    }
}

/// Makes one message out of three, and one of what is left after a while.
#[derive(Default)]
struct Three(Vec<Value>);

impl Transform for Three {
    fn apply(&mut self, message: Message, out: &mut Emitter) -> anyhow::Result<()> {
        self.0.push(message.payload.value().cloned().map_err(Clone::clone)?);
        match self.0.len() {
            3 => out.emit(Message::new("three", Value::Array(std::mem::take(&mut self.0)))),
            _ => out.hold(),
        }
        Ok(())
    }

    fn tick_every(&self) -> Option<Duration> {
        Some(Duration::from_secs(2))
    }

    fn tick(&mut self, _: Instant, out: &mut Emitter) -> anyhow::Result<()> {
        if !self.0.is_empty() {
            out.emit(Message::new("rest", Value::Array(std::mem::take(&mut self.0))));
        }
        Ok(())
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

    async fn write(&mut self, batch: &[Message]) -> Result<(), WriteError> {
        let pause = if self.link() == Link::Slow { 1500 } else { 3 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
        match self.link() {
            Link::Good | Link::Slow => self.take(batch),
            Link::Refuses => Err(anyhow::anyhow!("the link went away"))?,
            Link::Breaks => {
                self.take(&batch[..batch.len() / 2]);
                Err(anyhow::anyhow!("the link broke"))?;
            }
            Link::Silent => std::future::pending().await,
        }
        Ok(())
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

/// One graph, whose nodes change their settings and whose extras come and go.
struct Plant {
    /// Each with what it reads.
    transforms: Vec<(String, String, bool)>,
    sinks: Vec<(String, String)>,
    buffers: Vec<Buffer>,
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
            transforms.push((name.clone(), from, dice.chance(3)));
            nodes.push(name);
        }
        let sinks: Vec<_> = (0..dice.0.usize(1..4))
            .map(|index| (format!("sink{index}"), nodes[dice.0.usize(..nodes.len())].clone()))
            .collect();
        let buffers = sinks.iter().map(|_| dice.buffer()).collect();
        Plant { transforms, sinks, buffers, versions: BTreeMap::new(), has_extra: false }
    }

    fn change(&mut self, dice: &mut Dice) {
        let names: Vec<&String> = self.transforms.iter().map(|(name, ..)| name).collect();
        let names = names.into_iter().chain(self.sinks.iter().map(|(name, _)| name));
        for name in names {
            if dice.chance(3) {
                *self.versions.entry(name.clone()).or_default() += 1;
            }
        }
        if dice.chance(6) {
            *self.versions.entry("feed".to_owned()).or_default() += 1;
        }
        let index = dice.0.usize(..self.buffers.len());
        if dice.chance(3) {
            self.buffers[index] = dice.buffer();
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
        for (name, from, makes_three) in &self.transforms {
            let makes_three = *makes_three;
            sketch =
                sketch.node(
                    Role::Transform,
                    name,
                    version(name),
                    &[from],
                    move || match makes_three {
                        true => Node::transform(Three::default()),
                        false => Node::transform(Pass),
                    },
                );
        }
        let extra = self.has_extra.then(|| ("extra".to_owned(), self.sinks[0].1.clone()));
        for (name, from) in self.sinks.iter().chain(&extra) {
            let (world, drain) = (Arc::clone(world), name.clone());
            sketch = sketch.node(Role::Sink, name, version(name), &[from, "ticks"], move || {
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
        let mut engine = Engine::new(Path::new("."), data);
        engine.apply(plant.graph(world)).await;
        for _ in 0..dice.0.usize(..25) {
            match dice.0.u32(..4) {
                0 => {
                    let link = [Link::Good, Link::Slow, Link::Refuses, Link::Breaks, Link::Silent];
                    world.lock().unwrap().link = dice.one_of(&link);
                }
                1 => {
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
            for station in engine.stations.values() {
                assert!(station.inbox.len() < 100_000);
            }
        }
        if is_last {
            world.lock().unwrap().link = Link::Good;
            wait_for_all(world).await;
            let stopped = engine.stop(Duration::from_secs(10)).await;
            assert_eq!(stopped, Stopped { undelivered: 0, kept: 0 });
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
    tokio::time::sleep(Duration::from_secs(600)).await;
}

fn simulate(seed: u64, data: &Path) {
    let mut dice = Dice(fastrand::Rng::with_seed(seed));
    let wanted = dice.0.u64(1..400);
    let world: Shared = Arc::new(Mutex::new(World { wanted, ..World::default() }));
    let mut plant = Plant::new(&mut dice);
    for _ in 0..dice.0.usize(..3) {
        life(&mut plant, &mut dice, &world, data, false);
    }
    life(&mut plant, &mut dice, &world, data, true);

    let world = world.lock().unwrap();
    let everything: BTreeSet<u64> = (0..wanted).collect();
    assert_eq!(world.acknowledged, everything, "delivered, as the source heard");
    for (name, _) in &plant.sinks {
        let got: BTreeSet<u64> = world.got.get(name).into_iter().flatten().copied().collect();
        let missing: Vec<_> = everything.difference(&got).collect();
        assert!(missing.is_empty(), "{name} never got {missing:?}");
        let missing: Vec<_> = world.taken_ticks.iter().filter(|tick| !got.contains(tick)).collect();
        assert!(missing.is_empty() || world.may_lose_ticks, "{name} never got ticks {missing:?}");
    }
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
