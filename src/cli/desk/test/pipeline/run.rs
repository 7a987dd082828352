//! Runs a test: the engine, its nodes and what they speak are those of `forebay run`; the clock is stopped, and goes on as
//! soon as nobody has anything to do; the world is in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use forebay_sdk::{
    Message, Port, Timestamp, beside,
    mqtt::Broker,
    peer::Onlooker,
    world::memory::{Memory, Traffic, Way},
};
use serde_json::Value;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    case::{Expected, Said, Step, Test},
    judge::{Failure, judge},
    players::{BEGIN_NANOS, Players},
    scene::{Member, Scene},
    seen::{Event, MOST_SEEN, Record, Seen},
    sent::Sent,
    settings::{DiskWord, LinkWord, SendSettings, WaySettings},
    stand_in::OtherSide,
};
use crate::{
    config::Name,
    engine::{Count, Disks, Engine, Plan, StateName},
    plugins,
};

/// How often it is looked how full the buffers are, where a test asks for that.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a test is run.
#[derive(Clone, Copy)]
pub struct How {
    /// What all chance comes from.
    pub seed: u64,
    /// Whether files of `golden:` are written.
    pub updates: bool,
    /// Whether it is told what was reached.
    pub covers: bool,
}

/// What came of a test.
pub struct Ran {
    /// What is otherwise than expected. Empty when it passed.
    pub failures: Vec<Failure>,
    /// All that was seen by the end.
    pub record: Record,
}

/// Runs a test from its beginning to its end.
///
/// # Errors
///
/// When there is no place for what nodes remember on disk.
pub fn run(test: &Test, how: How) -> anyhow::Result<Ran> {
    let runtime = stopped_clock()?;
    let data = Scratch::new()?;
    fastrand::seed(how.seed);
    let _at_once = beside::at_once();
    runtime.block_on(async {
        let memory = Memory::new(BEGIN_NANOS);
        memory.go_without_tls();
        let _clock = memory.enter();
        let mut stage = Running::new(test, how, memory, &data.0);
        Ok(stage.play().await)
    })
}

/// What a test runs on. It has no way to sockets and devices of the system: whoever opened one would panic.
pub fn stopped_clock() -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().context("making a stopped clock")
}

/// A folder that is removed in the end.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Scratch> {
        // Memory, if there is some: a disk would be worn for nothing.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        // Not the seeded chance of the test: two runs may go on beside each other.
        let name =
            format!("forebay-test-{}-{:x}", std::process::id(), fastrand::Rng::new().u64(..));
        let folder = parent.join(name);
        std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left there harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A test that runs.
struct Running<'a> {
    test: &'a Test,
    how: How,
    memory: Memory,
    data: &'a Path,
    disks: Disks,
    chance: fastrand::Rng,
    seen: Arc<Seen>,
    engine: Option<Engine>,
    /// The graph of now.
    scene: Scene,
    players: Players,
    ways: BTreeMap<Name, Way>,
    onlookers: BTreeMap<Name, Onlooker>,
    /// Those who read along at the brokers of the folder, in this life of the program.
    reading: Vec<JoinHandle<()>>,
    serving: Vec<JoinHandle<()>>,
    arrived: BTreeMap<Name, Vec<Event>>,
    fullest: BTreeMap<Name, u64>,
    dropped: BTreeMap<Name, u64>,
    plan: Option<Plan>,
    failures: Vec<Failure>,
}

impl<'a> Running<'a> {
    fn new(test: &'a Test, how: How, memory: Memory, data: &'a Path) -> Running<'a> {
        let wanted = [&test.expected].into_iter().chain(test.steps.iter().map(|it| &it.expected));
        let wanted = wanted.flat_map(|expected| &expected.outputs);
        let wanted = wanted.filter_map(|(written, _)| test.scene.output(written)).collect();
        let seen = Arc::new(Seen::new(wanted, test.scene.sinks()));
        let players = Players::new(&test.scene, &memory, data, how.seed);
        let mut ways = BTreeMap::new();
        for (name, member) in &test.scene.members {
            let way = match member {
                Member::StandIn(other_side) => other_side.renew(),
                Member::Peer { .. } | Member::Broker => Way::default(),
            };
            member.places().iter().for_each(|place| memory.lead(place, &way));
            ways.insert(Arc::clone(name), way);
        }
        Running {
            test,
            how,
            memory,
            data,
            disks: Disks::in_memory(),
            chance: fastrand::Rng::with_seed(how.seed),
            seen,
            engine: None,
            scene: test.scene.clone(),
            players,
            ways,
            onlookers: BTreeMap::new(),
            reading: Vec::new(),
            serving: Vec::new(),
            arrived: BTreeMap::new(),
            fullest: BTreeMap::new(),
            dropped: BTreeMap::new(),
            plan: None,
            failures: Vec::new(),
        }
    }

    async fn play(&mut self) -> Ran {
        let began = Instant::now();
        self.change(&self.test.world.clone());
        for player in self.players.played.values_mut() {
            self.serving.push(tokio::spawn(player.serve()));
        }
        self.start().await;
        for (member, sent) in &self.test.replays {
            self.play_back(member, sent, began);
        }
        for step in &self.test.steps {
            self.pass_until(began + step.at).await;
            self.step(step).await;
        }
        self.pass_until(began + self.test.lasts).await;
        let record = self.record();
        self.judge(&self.test.expected, &record);
        if let Some(engine) = self.engine.take() {
            engine.kill().await;
        }
        self.reading.iter().chain(&self.serving).for_each(JoinHandle::abort);
        Ran { failures: std::mem::take(&mut self.failures), record }
    }

    /// Lets time pass, and does what the program does meanwhile.
    async fn pass_until(&mut self, at: Instant) {
        let looks = asks_for_fullest(self.test);
        loop {
            let next = if looks { at.min(Instant::now() + LOOK_EVERY) } else { at };
            let Some(engine) = &mut self.engine else { return sleep_until(at).await };
            tokio::select! {
                biased;
                () = engine.damaged() => {
                    engine.mend().await;
                    self.read_along();
                }
                () = sleep_until(next) => {
                    if looks {
                        self.look();
                    }
                    if next == at {
                        return;
                    }
                }
            }
        }
    }

    /// The program starts.
    async fn start(&mut self) {
        let world = self.memory.world();
        let world = match plugins::web() {
            Some(web) => world.with_web(web),
            None => world,
        };
        let engine = Engine::in_world(&*self.test.root, self.data.join("data"), world)
            .on_disks(self.disks.clone())
            .observed_by(Arc::clone(&self.seen) as _);
        let engine = self.engine.insert(engine);
        engine.apply(self.scene.graph.clone()).await;
        self.read_along();
    }

    /// Somebody reads along at the brokers of the folder itself.
    fn read_along(&mut self) {
        self.reading.drain(..).for_each(|reading| reading.abort());
        let Some(engine) = &self.engine else { return };
        for (name, member) in &self.scene.members {
            let Member::Broker = member else { continue };
            let broker = engine.shared(name).and_then(|shared| shared.get::<Broker>());
            let Some(broker) = broker else { continue };
            let onlooker = self.onlookers.entry(Arc::clone(name)).or_default().clone();
            self.reading.push(tokio::spawn(onlooker.read(broker)));
        }
    }

    fn change(&mut self, world: &[Said]) {
        for Said { member, way: said, told } in world {
            if let Some(way) = self.ways.get(member) {
                set(way, said);
            }
            if let (Some(told), Some(player)) = (told, self.players.played.get_mut(member)) {
                // What is wrong was said before the test ran.
                player.tell(told, &mut Vec::new());
            }
        }
    }

    async fn step(&mut self, step: &Step) {
        self.change(&step.world);
        for (member, send) in &step.send {
            self.send(member, send.clone());
        }
        if step.clock_nanos != 0 {
            let now = Timestamp::now().unix_nanos();
            self.memory.set_wall(now.saturating_add(step.clock_nanos));
        }
        if let Some(disk) = step.disk {
            self.disks.set(|faults| {
                faults.space = (disk == DiskWord::Full).then_some(0);
                faults.read_only = disk == DiskWord::ReadOnly;
                faults.gone = disk == DiskWord::Gone;
            });
        }
        if step.power.is_some() {
            self.cut_power().await;
        }
        if let Some((_, version)) = &step.uses {
            self.reload(version).await;
            if let Some(wanted) = &step.restarts {
                self.judge_restarts(wanted, step.at);
            }
        }
        let asks = !step.expected.outputs.is_empty() || !step.expected.members.is_empty();
        if asks {
            // What comes at this very moment counts.
            sleep(Duration::from_nanos(1)).await;
            let record = self.record();
            self.judge(&step.expected, &record);
        }
    }

    async fn reload(&mut self, version: &Scene) {
        for (name, member) in &version.members {
            let before = self.scene.members.get(name).map(Member::places).unwrap_or_default();
            for place in member.places() {
                if let Some(way) = self.ways.get(name) {
                    self.memory.lead(&place, way);
                }
                if let Some(known) = before.first().filter(|known| **known != place) {
                    self.memory.name(&place, known);
                }
            }
        }
        self.scene.graph = version.graph.clone();
        let Some(engine) = &mut self.engine else { return };
        self.plan = Some(engine.apply(version.graph.clone()).await);
        self.read_along();
    }

    /// All at once is gone that is not safe, and the program starts anew.
    async fn cut_power(&mut self) {
        self.take_in();
        self.count_dropped();
        self.disks.cut_power(&mut self.chance);
        self.ways.values().for_each(Way::cut);
        if let Some(engine) = self.engine.take() {
            engine.kill().await;
        }
        // Also what went in while it ended.
        self.seen.excuse_what_is_under_way();
        self.memory.boot_again();
        self.start().await;
    }

    /// Messages come from another side, in a task of its own.
    fn send(&mut self, member: &Name, send: SendSettings) {
        let SendSettings { topic, payload, meta, times, every, number } = send;
        let topic = topic.unwrap_or_else(|| member.to_string());
        let mut messages = Vec::new();
        for count in 0..times {
            let mut payload = payload.clone();
            if let (Some(number), Value::Object(fields)) = (&number, &mut payload) {
                fields.insert(number.clone(), count.into());
            }
            let mut message = Message::new(topic.as_str(), payload);
            meta.iter().for_each(|(name, value)| message.meta.insert(name, value.clone()));
            messages.push(message);
        }
        let every = every.map_or(Duration::ZERO, |every| *every);
        match self.scene.members.get(member) {
            Some(Member::StandIn(other_side)) => {
                let other_side = Arc::clone(other_side);
                self.serving.push(tokio::spawn(async move {
                    for mut message in messages {
                        message.time = Timestamp::now();
                        other_side.send(Port::MAIN, message);
                        sleep(every).await;
                    }
                }));
            }
            Some(Member::Peer { .. }) => {
                let Some(player) = self.players.played.get(member) else { return };
                let sends: Vec<_> =
                    messages.into_iter().map(|message| player.send(message)).collect();
                self.serving.push(tokio::spawn(async move {
                    for sent in sends {
                        let next = Instant::now() + every;
                        // Whoever does not take it shows by what does not arrive.
                        let _ = sent.await;
                        sleep_until(next).await;
                    }
                }));
            }
            Some(Member::Broker) => {
                let broker = self.engine.as_ref().and_then(|engine| engine.shared(member));
                let Some(broker) = broker.and_then(|shared| shared.get::<Broker>()) else { return };
                self.serving.push(tokio::spawn(async move {
                    for message in messages {
                        let next = Instant::now() + every;
                        let _ = Onlooker::publish(&broker, &message).await;
                        sleep_until(next).await;
                    }
                }));
            }
            None => (),
        }
    }

    /// A source sends what it sent when it was recorded, in a task of its own.
    fn play_back(&mut self, member: &Name, sent: &[Sent], began: Instant) {
        let Some(Member::StandIn(other_side)) = self.scene.members.get(member) else { return };
        let (other_side, sent) = (Arc::clone(other_side), sent.to_vec());
        self.serving.push(tokio::spawn(async move {
            for Sent { at, port, mut message } in sent {
                sleep_until(began + at).await;
                message.time = Timestamp::now();
                other_side.send(port, message);
            }
        }));
    }

    /// Takes note of what has arrived.
    fn take_in(&mut self) {
        for (name, member) in &self.scene.members {
            let taken = match member {
                Member::Peer { .. } => self.players.played.get(name).map(|it| it.taken()),
                Member::Broker => self.onlookers.get(name).map(Onlooker::taken),
                Member::StandIn(other_side) => Some(OtherSide::taken(other_side)),
            };
            let events = self.arrived.entry(Arc::clone(name)).or_default();
            for (at, message) in taken.unwrap_or_default() {
                if events.len() < MOST_SEEN {
                    events.push(Event { at: self.seen.since_begin(at), message });
                }
            }
        }
    }

    fn count_dropped(&mut self) {
        let Some(engine) = &self.engine else { return };
        for (name, counts) in engine.counts() {
            *self.dropped.entry(name).or_default() += counts.get(Count::Dropped);
        }
    }

    /// Looks how full the buffers are.
    fn look(&mut self) {
        let Some(engine) = &self.engine else { return };
        for part in engine.report().nodes {
            if let Some(queue) = part.queue {
                let fullest = self.fullest.entry(part.name.into()).or_default();
                *fullest = (*fullest).max(queue.bytes);
            }
        }
    }

    /// All that was seen up to now.
    fn record(&mut self) -> Record {
        self.take_in();
        self.look();
        let mut record = Record {
            arrived: self.arrived.clone(),
            fullest: self.fullest.clone(),
            dropped: self.dropped.clone(),
            ..Record::default()
        };
        self.seen.fill(&mut record);
        record.bytes = self.ways.iter().map(|(name, it)| (Arc::clone(name), it.bytes())).collect();
        let Some(engine) = &self.engine else { return record };
        for (name, counts) in engine.counts() {
            *record.dropped.entry(name).or_default() += counts.get(Count::Dropped);
        }
        let report = engine.report();
        for part in report.nodes.into_iter().chain(report.connections) {
            let name: Name = part.name.into();
            if let Some(queue) = part.queue {
                record.waiting.insert(Arc::clone(&name), queue.messages);
            }
            record.states.insert(name, (StateName::word(part.state), part.why));
        }
        record
    }

    fn judge(&mut self, expected: &Expected, record: &Record) {
        let at = self.seen.elapsed();
        let judged = judge(self.test, expected, record, self.how.updates);
        let is_end = at >= self.test.lasts;
        self.failures.extend(judged.into_iter().map(|words| match is_end {
            true => Failure { at: None, words },
            false => Failure { at: Some(at), words },
        }));
    }

    fn judge_restarts(&mut self, wanted: &[String], at: Duration) {
        let Some(plan) = &self.plan else { return };
        let found: BTreeSet<Name> = plan.replace.union(&plan.start).cloned().collect();
        let named = |name: &String| match self.test.scene.node(name) {
            Some((name, _)) => Arc::clone(name),
            None => name.as_str().into(),
        };
        let wanted: BTreeSet<Name> = wanted.iter().map(named).collect();
        let failures = wanted
            .difference(&found)
            .map(|name| format!("the reload was to restart {name}, and did not"))
            .chain(found.difference(&wanted).map(|name| format!("the reload restarted {name}")));
        self.failures.extend(failures.map(|words| Failure { at: Some(at), words }));
    }
}

fn set(way: &Way, said: &WaySettings) {
    if let Some(latency) = said.latency {
        way.set_delay(*latency);
    }
    if let Some(rate) = said.bytes_per_second {
        way.set_rate(Some(rate.0));
    }
    if let Some(loss) = said.loss {
        way.set_loss(loss);
    }
    match said.link {
        None => (),
        Some(LinkWord::Up) => way.set(Traffic::Flows),
        Some(LinkWord::Down) => way.set(Traffic::Refused),
        Some(LinkWord::Silent) => way.set(Traffic::Vanishes),
        Some(LinkWord::Cut) => way.cut(),
    }
}

fn asks_for_fullest(test: &Test) -> bool {
    let all = [&test.expected].into_iter().chain(test.steps.iter().map(|step| &step.expected));
    all.flat_map(|expected| &expected.outputs).any(|(_, it)| it.buffer_at_most.is_some())
}
