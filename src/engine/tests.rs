//! The engine's promises, on a stopped clock.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use forebay_sdk::{
    Capabilities, Configured, Connection, Emitter, Held, Input, Message, Node, Outcome, Outlet,
    Port, Saved, Shared, Sink, Source, Transform, WriteError, Written, clock::Now,
};
use serde_json::{Value, json};

use super::*;
use crate::config::{
    Batch, Buffer, Common, ConnectionSpec, NodeSpec, StateKept, Store, Unshown, WhenFull,
    link::LinkSettings,
};

/// Settings of a node that a test makes.
pub struct Fake {
    make: Box<dyn Fn(Site) -> Node + Send + Sync>,
    capabilities: Capabilities,
    outputs: Vec<String>,
    /// Hears when it goes on with these settings.
    adapted: Option<Arc<AtomicU64>>,
}

impl Fake {
    pub fn new(make: impl Fn(Site) -> Node + Send + Sync + 'static) -> Fake {
        let (capabilities, outputs) = (Capabilities::default(), vec!["named".to_owned()]);
        Fake { make: Box::new(make), capabilities, outputs, adapted: None }
    }

    pub fn can(self, capabilities: Capabilities) -> Fake {
        Fake { capabilities, ..self }
    }

    fn adapts(self, adapted: &Arc<AtomicU64>) -> Fake {
        Fake { adapted: Some(Arc::clone(adapted)), ..self }
    }
}

impl Configured for Fake {
    fn outputs(&self) -> Vec<String> {
        self.outputs.clone()
    }
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
    fn build(&self, site: Site) -> Node {
        (self.make)(site)
    }
    fn adapts_from(&self, running: &dyn Any) -> bool {
        self.adapted.is_some() && running.is::<Fake>()
    }
    fn adapt(&self, shared: &Shared) {
        assert!(shared.get::<()>().is_some(), "the part of the one that runs");
        self.adapted.iter().for_each(|adapted| adapted.store(1, Ordering::Relaxed));
    }
}

/// Builds graphs: each node with a version, so that a test can change one.
#[derive(Default)]
pub struct Sketch(pub Graph);

impl Sketch {
    pub fn node(
        self,
        role: Role,
        name: &str,
        version: u64,
        from: &[&str],
        make: impl Fn() -> Node + Send + Sync + 'static,
    ) -> Sketch {
        self.add(role, name, version, from, Fake::new(move |_| make()))
    }

    /// A node of which more is to be said.
    pub fn add(
        mut self,
        role: Role,
        name: &str,
        version: u64,
        from: &[&str],
        configured: Fake,
    ) -> Sketch {
        let from = from.iter().map(|from| {
            let (node, port) = match from.split_once('.') {
                Some((node, "errors")) => (node, Port::ERRORS),
                Some((node, _)) => (node, Port::named(0)),
                None => (*from, Port::MAIN),
            };
            crate::config::Output { node: node.into(), port, written: (*from).into() }
        });
        let spec = NodeSpec {
            role,
            type_name: "fake".to_owned(),
            fingerprint: version,
            configured: Arc::new(configured),
            connection: None,
            from: from.collect(),
            common: Common {
                buffer: Buffer { max_messages: 8, ..Buffer::default() },
                batch: Batch { max_messages: 4, max_wait: Duration::ZERO },
                ..Common::default()
            },
            places: Default::default(),
            unshown: Unshown::default(),
        };
        self.0.nodes.insert(name.into(), spec);
        self
    }

    /// What the node remembers is kept on disk.
    pub fn persist(mut self, name: &str, every: Duration) -> Sketch {
        self.0.nodes.get_mut(name).unwrap().common.state = StateKept::Persist { every };
        self
    }

    /// A connection, and who uses it.
    pub fn connection(mut self, name: &str, version: u64, users: &[&str], fake: Fake) -> Sketch {
        let (type_name, configured) = ("fake".to_owned(), Arc::new(fake));
        let spec = ConnectionSpec {
            type_name,
            fingerprint: version,
            configured,
            unshown: Unshown::default(),
        };
        self.0.connections.insert(name.into(), spec);
        for user in users {
            self.0.nodes.get_mut(*user).unwrap().connection = Some(name.into());
        }
        self
    }

    /// A sink does this while these conditions on the link hold.
    fn link(mut self, name: &str, rules: &Value) -> Sketch {
        let rules: Vec<LinkSettings> = serde_json::from_value(rules.clone()).unwrap();
        let rules = rules.iter().map(|rule| rule.resolve("link").unwrap());
        self.0.nodes.get_mut(name).unwrap().common.link = rules.collect();
        self
    }

    pub fn buffer(mut self, name: &str, buffer: Buffer) -> Sketch {
        self.0.nodes.get_mut(name).unwrap().common.buffer = buffer;
        self
    }
}

/// What the fakes of one test report.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Value>>>, Arc<Mutex<Vec<Outcome>>>, Arc<AtomicU64>);

impl Log {
    fn got(&self) -> Vec<u64> {
        self.0.lock().unwrap().iter().filter_map(Value::as_u64).collect()
    }
    fn values(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }
    fn outcomes(&self) -> Vec<Outcome> {
        self.1.lock().unwrap().clone()
    }

    /// Sends the numbers below `to`, then rests. A source made again goes on where the last was.
    fn count(&self, to: u64, tracked: bool) -> impl Fn() -> Node + Send + Sync + 'static {
        let log = self.clone();
        move || Node::source(Numbers { to, tracked, log: log.clone() })
    }

    fn collect(&self) -> impl Fn() -> Node + Send + Sync + 'static {
        let log = self.clone();
        move || Node::sink(Collect { log: log.clone(), trouble: Trouble::None })
    }

    fn collect_with(&self, trouble: Trouble) -> impl Fn() -> Node + Send + Sync + 'static {
        let log = self.clone();
        move || Node::sink(Collect { log: log.clone(), trouble: trouble.clone() })
    }
}

struct Numbers {
    to: u64,
    tracked: bool,
    log: Log,
}

impl Source for Numbers {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        out.ready();
        while self.log.2.load(Ordering::SeqCst) < self.to {
            // Counted in the same step in which it is posted: stopping here neither skips nor repeats.
            let number = self.log.2.fetch_add(1, Ordering::SeqCst);
            let message = Message::new("n", json!(number));
            if !self.tracked {
                out.send(message).await;
                continue;
            }
            let receipt = out.send_tracked(message).await;
            let outcomes = Arc::clone(&self.log.1);
            tokio::spawn(async move {
                let outcome = receipt.await;
                outcomes.lock().unwrap().push(outcome);
            });
        }
        std::future::pending().await
    }
}

#[derive(Clone)]
enum Trouble {
    None,
    /// As long as it is true, nothing can be written.
    Down(Arc<AtomicBool>),
    /// Never takes these.
    Refuses(Vec<u64>),
    /// Never takes these, and says so of each in one write.
    RefusesSome(Vec<u64>),
    /// Panics on these.
    Panics(Vec<u64>),
    /// Fails once after every write was half done.
    Flaky(Arc<AtomicBool>),
}

struct Collect {
    log: Log,
    trouble: Trouble,
}

impl Sink for Collect {
    async fn connect(&mut self) -> anyhow::Result<()> {
        match &self.trouble {
            Trouble::Down(down) if down.load(Ordering::SeqCst) => anyhow::bail!("nobody answers"),
            _ => Ok(()),
        }
    }

    async fn write(&mut self, batch: &[Message], _: &mut Emitter) -> Result<Written, WriteError> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if let Trouble::RefusesSome(these) = &self.trouble {
            return self.take_most(batch, these);
        }
        for message in batch {
            let number = message.payload.value().unwrap().as_u64();
            match (&self.trouble, number) {
                (Trouble::Down(down), _) if down.load(Ordering::SeqCst) => {
                    Err(anyhow::anyhow!("the link went away"))?;
                }
                (Trouble::Refuses(these), Some(number)) if these.contains(&number) => {
                    return Err(WriteError::reject(anyhow::anyhow!("will not take {number}")));
                }
                (Trouble::Panics(these), Some(number)) if these.contains(&number) => {
                    panic!("cannot stand {number}");
                }
                (Trouble::Flaky(fail), _) if fail.swap(false, Ordering::SeqCst) => {
                    Err(anyhow::anyhow!("half done"))?;
                }
                _ => (),
            }
        }
        let values = batch.iter().map(|message| message.payload.value().unwrap().clone());
        self.log.0.lock().unwrap().extend(values);
        Ok(Written::bytes(batch.len()))
    }
}

impl Collect {
    /// Takes all but these, and leaves the last one of a large batch for the next write.
    fn take_most(&self, batch: &[Message], these: &[u64]) -> Result<Written, WriteError> {
        let dealt_with = (batch.len() - 1).max(1);
        let mut refused = Vec::new();
        for (at, message) in batch[..dealt_with].iter().enumerate() {
            let value = message.payload.value().unwrap().clone();
            match value.as_u64().filter(|number| these.contains(number)) {
                Some(number) => refused.push((at, anyhow::anyhow!("will not take {number}"))),
                None => self.log.0.lock().unwrap().push(value),
            }
        }
        Err(WriteError::RejectSome { dealt_with, refused })
    }
}

fn pass() -> Node {
    struct Pass;
    impl Transform for Pass {
        fn apply(&mut self, Input { message, .. }: Input, out: &mut Emitter) -> anyhow::Result<()> {
            out.emit(message);
            Ok(())
        }
    }
    Node::transform(Pass)
}

async fn rest(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// What is told of a node.
fn part(engine: &Engine, name: &str) -> PartReport {
    let mut nodes = engine.report().nodes.into_iter();
    nodes.find(|part| part.name == name).expect("it runs")
}

/// Its errors by kind.
fn kinds(engine: &Engine, name: &str) -> Vec<(String, u64)> {
    part(engine, name).errors_by_kind.into_iter().collect()
}

fn sorted(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[tokio::test(start_paused = true)]
async fn a_restarted_sink_loses_nothing() {
    let log = Log::default();
    let flaky = Arc::new(AtomicBool::new(false));
    let graph = |version| {
        Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(500, true))
            .node(
                Role::Sink,
                "s",
                version,
                &["n"],
                log.collect_with(Trouble::Flaky(Arc::clone(&flaky))),
            )
            .0
    };
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    for round in 0..20 {
        flaky.store(round % 3 == 0, Ordering::SeqCst);
        engine.apply(graph(round)).await;
        // Ends in the middle of a write.
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    rest(60).await;
    assert_eq!(sorted(log.got()), (0..500).collect::<Vec<u64>>());
    assert_eq!(log.outcomes(), vec![Outcome::Delivered; 500]);
}

fn of_link(engine: &Engine, state: &Value) {
    engine.links.of("").tell(state.as_object().unwrap().clone(), Duration::from_secs(86_400));
}

#[tokio::test(start_paused = true)]
async fn queues_together_take_no_more_than_half_of_the_memory() {
    let log = Log::default();
    let sink = |sketch: Sketch, name| sketch.node(Role::Sink, name, 1, &["n"], log.collect());
    let start = Sketch::default().node(Role::Source, "n", 1, &[], log.count(0, false));
    let mut graph = ["a", "b", "small", "disk"].into_iter().fold(start, sink).0;
    let of = |graph: &mut Graph, name, change: &dyn Fn(&mut Buffer)| {
        change(&mut graph.nodes.get_mut(name).unwrap().common.buffer);
    };
    of(&mut graph, "b", &|buffer| buffer.max_bytes = 12 << 20);
    of(&mut graph, "small", &|buffer| buffer.max_bytes = 1 << 10);
    of(&mut graph, "disk", &|buffer| buffer.store = crate::config::Store::Disk);
    let data = tempfile::tempdir().unwrap();
    let bounds = async |memory| {
        let mut engine = Engine::new(Path::new("."), data.path()).within(memory);
        engine.apply(graph.clone()).await;
        ["a", "b", "small", "disk"].map(|name| engine.graph().nodes[name].common.buffer.max_bytes)
    };
    let written = [4 << 20, 12 << 20, 1 << 10, 4 << 20];
    assert_eq!(bounds(None).await, written);
    assert_eq!(bounds(Some(64 << 20)).await, written);
    let [a, b, small, disk] = bounds(Some(16 << 20)).await;
    assert!(a + b + small <= (8 << 20) + 1024 && a + b > 7 << 20, "{a} {b}");
    assert_eq!((b / a, small, disk), (3, 1 << 10, 4 << 20));
}

#[tokio::test(start_paused = true)]
async fn a_sink_wrote_on_while_roaming_that_was_to_hold_back() {
    let log = Log::default();
    let graph = |rules: Value| {
        Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(20, false))
            .node(Role::Sink, "s", 1, &["n"], log.collect())
            .link("s", &rules)
            .0
    };
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    of_link(&engine, &json!({ "roaming": true }));
    let hold = json!([{ "when": "link.roaming", "hold": true }]);
    engine.apply(graph(hold.clone())).await;
    rest(60).await;
    assert!(engine.links.of("").is_watched(), "somebody has to look how it is");
    assert_eq!(log.got(), [0; 0]);
    let states: BTreeMap<Name, State> = engine.states().into_iter().collect();
    let why = "held back as long as link.roaming".to_owned();
    assert_eq!(states.get("s"), Some(&State::Waiting(why)));
    // What else changes about the link is no other try.
    for signal in 0..5 {
        of_link(&engine, &json!({ "roaming": true, "rsrp": signal }));
        rest(1).await;
    }
    assert_eq!(engine.counts()["s"].get(Count::Retries), 1);
    // A reload changes nothing about it.
    engine.apply(graph(hold)).await;
    rest(60).await;
    assert_eq!(log.got(), [0; 0]);
    of_link(&engine, &json!({ "roaming": false }));
    rest(60).await;
    assert_eq!(log.got(), (0..20).collect::<Vec<_>>());
    // And nobody looks any more once no sink asks.
    engine.apply(graph(json!([]))).await;
    rest(1).await;
    assert!(!engine.links.of("").is_watched());
}

#[tokio::test(start_paused = true)]
async fn a_sink_writes_less_while_the_link_is_weak() {
    let log = Log::default();
    let rules = json!([{ "when": "link.rsrp < -110", "rate": "6/m" }]);
    let graph = Sketch::default()
        .node(Role::Source, "n", 1, &[], log.count(20, false))
        .node(Role::Sink, "s", 1, &["n"], log.collect())
        .link("s", &rules)
        .0;
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    of_link(&engine, &json!({ "rsrp": -115 }));
    engine.apply(graph).await;
    rest(60).await;
    let slow = log.got().len();
    assert!((4..=10).contains(&slow), "{slow} in a minute");
    of_link(&engine, &json!({ "rsrp": -90 }));
    rest(1).await;
    assert_eq!(log.got().len(), 20);
}

/// Makes sinks that go on behind their batch, and refuse nothing.
fn sliding(
    log: &Log,
    writes: &Arc<AtomicU64>,
) -> impl Fn() -> Node + Clone + Send + Sync + 'static {
    let (log, writes) = (log.clone(), Arc::clone(writes));
    move || {
        let (log, writes) = (log.clone(), Arc::clone(&writes));
        Node::sink(Sliding { log, refuses: u64::MAX, breaks_at: Arc::default(), writes })
    }
}

/// How many messages came in how many writes, of a sink that takes larger batches, and nothing behind them, while the
/// link is weak. It is so from a moment on, in milliseconds.
async fn writes_to_a_link_that_is_weak_from(moment: u64) -> (usize, u64) {
    const WEAK: &str = "link.rsrp < -110";
    let (log, written) = (Log::default(), Arc::<AtomicU64>::default());
    let sliding = sliding(&log, &written);
    let graph = Sketch::default()
        .node(Role::Source, "n", 1, &[], log.count(100, true))
        .node(Role::Sink, "s", 1, &["n"], sliding)
        .link("s", &json!([{ "when": WEAK, "batch": { "max_messages": 10, "max_wait": "1s" } }]));
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    let weak = json!({ "rsrp": -115 });
    of_link(&engine, &if moment == 0 { weak.clone() } else { json!({ "rsrp": -90 }) });
    engine.apply(graph.0.clone()).await;
    tokio::time::sleep(Duration::from_millis(moment)).await;
    of_link(&engine, &weak);
    rest(60).await;
    let held_by = |engine: &Engine| {
        let nodes = engine.report().nodes;
        nodes.into_iter().find(|node| node.name == "s").unwrap().held_by_link
    };
    assert_eq!(held_by(&engine).as_deref(), Some(WEAK));
    of_link(&engine, &json!({ "rsrp": -90 }));
    rest(1).await;
    assert_eq!(log.outcomes(), vec![Outcome::Delivered; 100]);
    (log.got().len(), written.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_sink_with_a_condition_was_slow_on_a_good_link_too() {
    assert_eq!(writes_to_a_link_that_is_weak_from(10_000).await, (100, 1));
    // Ten at a time at most.
    let (messages, writes) = writes_to_a_link_that_is_weak_from(0).await;
    assert!(messages == 100 && (10..=20).contains(&writes), "{writes}");
    // Some 30 are through by then, in one write.
    let (messages, writes) = writes_to_a_link_that_is_weak_from(300).await;
    assert!(messages == 100 && (7..=14).contains(&writes), "{writes}");
}

#[tokio::test(start_paused = true)]
async fn larger_batches_for_a_weak_link_began_with_the_size_of_before() {
    let (log, writes) = (Log::default(), Arc::<AtomicU64>::default());
    let sliding = sliding(&log, &writes);
    let rules = json!([
        { "when": "link.roaming", "batch": { "max_messages": 5 } },
        { "when": "link.backup.rsrp < -110", "batch": { "max_messages": 50, "max_wait": "1s" } },
    ]);
    let graph = Sketch::default()
        .node(Role::Source, "n", 1, &[], log.count(100, true))
        .node(Role::Sink, "s", 1, &["n"], sliding)
        .buffer("s", Buffer::default())
        .link("s", &rules);
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    of_link(&engine, &json!({ "roaming": true }));
    engine.apply(graph.0.clone()).await;
    // Ten milliseconds a message.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let weak = json!({ "rsrp": -115 }).as_object().unwrap().clone();
    engine.links.of("backup").tell(weak, Duration::from_secs(86_400));
    of_link(&engine, &json!({ "roaming": false }));
    rest(60).await;
    assert_eq!(log.got().len(), 100);
    let writes = writes.load(Ordering::SeqCst);
    assert!(writes <= 5, "{writes}: some of five, then two");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_transform_neither_loses_nor_repeats_untracked_messages() {
    let log = Log::default();
    let graph = |version| {
        Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(300, false))
            .node(Role::Transform, "t", version, &["n"], pass)
            .node(Role::Sink, "s", 1, &["t"], log.collect())
            .0
    };
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    for version in 0..100 {
        engine.apply(graph(version)).await;
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    rest(60).await;
    assert_eq!(log.got(), (0..300).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn a_replaced_source_does_not_lose_what_it_had_posted() {
    let log = Log::default();
    let graph = |version| {
        Sketch::default()
            .node(Role::Source, "n", version, &[], log.count(200, false))
            .node(Role::Sink, "s", 1, &["n"], log.collect())
            .0
    };
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    for version in 0..50 {
        engine.apply(graph(version)).await;
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    rest(60).await;
    assert_eq!(log.got(), (0..200).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_called_delivered_while_the_sink_is_down_and_everything_is_afterwards() {
    let log = Log::default();
    let down = Arc::new(AtomicBool::new(true));
    let graph = Sketch::default().node(Role::Source, "n", 1, &[], log.count(100, true)).node(
        Role::Sink,
        "s",
        1,
        &["n"],
        log.collect_with(Trouble::Down(Arc::clone(&down))),
    );
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    rest(60).await;
    assert_eq!((log.got(), log.outcomes()), (vec![], vec![]));
    let told = part(&engine, "s");
    assert_eq!((told.state, told.why.as_deref()), (StateName::Waiting, Some("nobody answers")));
    // What the line in the log names.
    assert_eq!(told.rule.as_deref(), Some("tried-again"));
    assert_eq!(told.last_error.unwrap().rule.as_deref(), Some("tried-again"));
    // The source sent what the queue holds, and one more that waits for room.
    assert_eq!(log.2.load(Ordering::SeqCst), 9);
    down.store(false, Ordering::SeqCst);
    rest(60).await;
    assert_eq!(log.got(), (0..100).collect::<Vec<u64>>());
    assert_eq!(log.outcomes(), vec![Outcome::Delivered; 100]);
}

/// Has all of a batch but the last message, says so, and goes silent.
struct AlmostAll(Arc<AtomicU64>);

impl Sink for AlmostAll {
    async fn connect(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn write(&mut self, batch: &[Message], out: &mut Emitter) -> Result<Written, WriteError> {
        let taken = batch.len().saturating_sub(1);
        self.0.fetch_add(taken as u64, Ordering::SeqCst);
        out.progress().taken(taken);
        tokio::time::sleep(Duration::from_secs(60)).await;
        Err(WriteError::retry(anyhow::anyhow!("the link broke")).taken(taken))
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_of_a_long_batch_was_called_delivered_only_with_the_rest() {
    let (log, taken) = (Log::default(), Arc::new(AtomicU64::new(0)));
    let sink = Arc::clone(&taken);
    let graph = Sketch::default().node(Role::Source, "n", 1, &[], log.count(8, true)).node(
        Role::Sink,
        "s",
        1,
        &["n"],
        move || Node::sink(AlmostAll(Arc::clone(&sink))),
    );
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    rest(30).await;
    let early = taken.load(Ordering::SeqCst) as usize;
    assert!(early > 0);
    assert_eq!(log.outcomes(), vec![Outcome::Delivered; early]);
    // Nothing is settled twice when the write ends.
    rest(600).await;
    let taken = taken.load(Ordering::SeqCst) as usize;
    assert_eq!(log.outcomes(), vec![Outcome::Delivered; taken]);
    let counts = engine.counts()["s"];
    assert_eq!(counts.get(Count::Delivered), taken as u64);
}

/// Goes on behind its batch, until nothing comes for a second. Refuses one, and once the link breaks at
/// another.
struct Sliding {
    log: Log,
    refuses: u64,
    breaks_at: Arc<Mutex<Option<u64>>>,
    writes: Arc<AtomicU64>,
}

impl Sink for Sliding {
    async fn connect(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn write(&mut self, batch: &[Message], out: &mut Emitter) -> Result<Written, WriteError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        let (progress, mut taken, mut refused) = (out.progress(), 0, Vec::new());
        let mut batch = batch.iter().cloned();
        loop {
            let behind = std::future::poll_fn(|context| progress.poll_behind(context));
            let next = match batch.next() {
                Some(next) => next,
                None if !refused.is_empty() => break,
                None => match tokio::time::timeout(Duration::from_secs(1), behind).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            tokio::time::sleep(Duration::from_millis(10)).await;
            let number = number(&next);
            if self.breaks_at.lock().unwrap().take_if(|at| *at == number).is_some() {
                return Err(WriteError::retry(anyhow::anyhow!("the link broke")).taken(taken));
            }
            match number == self.refuses {
                true => refused.push((taken, anyhow::anyhow!("will not take {number}"))),
                false => self.log.0.lock().unwrap().push(json!(number)),
            }
            taken += 1;
            if refused.is_empty() {
                progress.taken(taken);
            }
        }
        match refused.is_empty() {
            true => Ok(Written::default()),
            false => Err(WriteError::RejectSome { dealt_with: taken, refused }),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_goes_on_behind_its_batch_has_no_pause_and_loses_and_repeats_nothing() {
    for (refuses, breaks_at, writes) in [(u64::MAX, None, 1), (57, None, 2), (57, Some(33), 3)] {
        let (log, errors, written) = (Log::default(), Log::default(), Arc::<AtomicU64>::default());
        let (sink_log, count) = (log.clone(), Arc::clone(&written));
        let breaks_at = Arc::new(Mutex::new(breaks_at));
        let sliding = move || {
            Node::sink(Sliding {
                log: sink_log.clone(),
                refuses,
                breaks_at: Arc::clone(&breaks_at),
                writes: Arc::clone(&count),
            })
        };
        let graph = Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(100, true))
            .node(Role::Sink, "s", 1, &["n"], sliding)
            .node(Role::Sink, "e", 1, &["s.errors"], errors.collect());
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph.0).await;
        rest(60).await;
        let others: Vec<u64> = (0..100).filter(|number| *number != refuses).collect();
        assert_eq!(log.got(), others);
        assert_eq!(log.outcomes(), vec![Outcome::Delivered; 100]);
        assert_eq!(written.load(Ordering::SeqCst), writes);
        let refused: Vec<_> =
            errors.values().iter().map(|error| error["message"]["payload"].clone()).collect();
        assert_eq!(refused, if refuses == 57 { vec![json!(57)] } else { Vec::new() });
        let counts = engine.counts()["s"];
        let (delivered, received) = (counts.get(Count::Delivered), counts.get(Count::Received));
        assert_eq!((delivered, received), (others.len() as u64, 100));
    }
}

#[tokio::test(start_paused = true)]
async fn tries_become_rarer_and_stay_half_a_minute_apart_at_most() {
    let log = Log::default();
    let down = Arc::new(AtomicBool::new(true));
    let graph = Sketch::default().node(Role::Source, "n", 1, &[], log.count(1, true)).node(
        Role::Sink,
        "s",
        1,
        &["n"],
        log.collect_with(Trouble::Down(down)),
    );
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    rest(3600).await;
    let tries = engine.counts()["s"].get(Count::Retries);
    assert!((90..170).contains(&tries), "{tries} tries in an hour");
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_and_read_by_nobody_is_not_said_to_be_delivered() {
    let log = Log::default();
    let graph = Sketch::default().node(Role::Source, "n", 1, &[], log.count(20, true)).node(
        Role::Sink,
        "s",
        1,
        &["n"],
        log.collect_with(Trouble::Refuses(vec![6, 13])),
    );
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    rest(60).await;
    let counts = engine.counts()["s"];
    assert_eq!((counts.get(Count::Delivered), counts.get(Count::Refused)), (18, 2));
    let stopped = engine.stop(Duration::from_secs(8)).await;
    assert_eq!(stopped, Stopped { refused: 2, ..Stopped::default() });
}

#[tokio::test(start_paused = true)]
async fn a_timer_s_messages_that_are_left_at_a_stop_are_lost_and_all_that_a_limit_dropped_is_counted()
 {
    let log = Log::default();
    let down = Trouble::Down(Arc::new(AtomicBool::new(true)));
    let buffer = Buffer { max_messages: 5, when_full: WhenFull::DropOldest, ..Buffer::default() };
    let graph = Sketch::default()
        .node(Role::Source, "n", 1, &[], log.count(2005, false))
        .node(Role::Sink, "s", 1, &["n"], log.collect_with(down))
        .buffer("s", buffer)
        .0;
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph).await;
    rest(3600).await;
    let stopped = engine.stop(Duration::from_secs(1)).await;
    let expected = Stopped { undelivered: 5, lost: 5, dropped: 2000, ..Stopped::default() };
    assert_eq!(stopped, expected);
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_goes_to_errors_and_the_rest_of_its_batch_arrives() {
    let (log, errors) = (Log::default(), Log::default());
    let graph = Sketch::default()
        .node(Role::Source, "n", 1, &[], log.count(20, true))
        .node(Role::Sink, "s", 1, &["n"], log.collect_with(Trouble::Refuses(vec![6, 13])))
        .node(Role::Sink, "e", 1, &["s.errors"], errors.collect());
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    rest(60).await;
    let others: Vec<u64> = (0..20).filter(|n| ![6, 13].contains(n)).collect();
    assert_eq!(log.got(), others);
    assert_eq!(log.outcomes(), vec![Outcome::Delivered; 20]);
    let errors = errors.values();
    assert_eq!(errors.len(), 2);
    assert_eq!(errors[0]["error"], "will not take 6");
    assert_eq!(errors[0]["message"]["payload"], 6);
    assert_eq!(engine.counts()["s"].get(Count::Errors), 2);
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_refused_one_by_one_have_no_other_written_twice() {
    let (log, errors) = (Log::default(), Log::default());
    let graph = Sketch::default()
        .node(Role::Source, "n", 1, &[], log.count(20, true))
        .node(Role::Sink, "s", 1, &["n"], log.collect_with(Trouble::RefusesSome(vec![0, 6, 7, 19])))
        .node(Role::Sink, "e", 1, &["s.errors"], errors.collect());
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    rest(60).await;
    let others: Vec<u64> = (0..20).filter(|n| ![0, 6, 7, 19].contains(n)).collect();
    assert_eq!(log.got(), others);
    assert_eq!(log.outcomes(), vec![Outcome::Delivered; 20]);
    let refused: Vec<_> =
        errors.values().iter().map(|error| error["message"]["payload"].clone()).collect();
    assert_eq!(refused, [0, 6, 7, 19]);
    let counts = &engine.counts()["s"];
    assert_eq!((counts.get(Count::Errors), counts.get(Count::Delivered)), (4, 16));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_sink_is_an_error_of_that_node_alone() {
    let (log, errors, other) = (Log::default(), Log::default(), Log::default());
    let graph = Sketch::default()
        .node(Role::Source, "n", 1, &[], log.count(12, true))
        .node(Role::Sink, "s", 1, &["n"], log.collect_with(Trouble::Panics(vec![5])))
        .node(Role::Sink, "e", 1, &["s.errors"], errors.collect())
        .node(Role::Sink, "o", 1, &["n"], other.collect());
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    rest(600).await;
    assert_eq!(sorted(log.got()), (0..12).filter(|n| *n != 5).collect::<Vec<u64>>());
    assert_eq!(other.got(), (0..12).collect::<Vec<u64>>());
    let error = errors.values()[0]["error"].as_str().unwrap().to_owned();
    assert!(error.ends_with("which is a bug in it: cannot stand 5"), "{error}");
    assert_eq!(log.outcomes(), vec![Outcome::Delivered; 12]);
    let panics = engine.counts()["s"].get(Count::Errors);
    assert!(panics >= 3, "each of them is one: {panics}");
    assert_eq!(kinds(&engine, "s"), [("panic".to_owned(), panics)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_too_old_is_told_apart_from_what_had_no_room() {
    for (store, max_age, expired) in [
        (Store::Memory, None, 0),
        (Store::Memory, Some(Duration::from_secs(60)), 4),
        (Store::Disk, Some(Duration::from_secs(60)), 4),
    ] {
        let (log, data) = (Log::default(), tempfile::tempdir().unwrap());
        let is_down = Arc::new(AtomicBool::new(true));
        let down = Trouble::Down(Arc::clone(&is_down));
        let mut graph = Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(8, false))
            .node(Role::Sink, "s", 1, &["n"], log.collect_with(down))
            .0;
        let when_full = WhenFull::DropOldest;
        let buffer = Buffer { store, max_age, max_messages: 4, when_full, ..Buffer::default() };
        graph.nodes.get_mut("s").expect("it was put there").common.buffer = buffer;
        let mut engine = Engine::new(Path::new("."), data.path());
        engine.apply(graph).await;
        rest(120).await;
        is_down.store(false, Ordering::SeqCst);
        rest(120).await;
        let counts = &engine.counts()["s"];
        let told = (counts.get(Count::Dropped), counts.get(Count::Expired));
        assert_eq!(told, (4 + expired, expired), "{store:?} {max_age:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_fails_at_each_message_is_said_to_fail_until_one_gets_through() {
    struct Beat;
    impl Source for Beat {
        async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
            loop {
                rest(10).await;
                out.send(Message::new("n", json!(0))).await;
            }
        }
    }
    struct Works(Arc<AtomicBool>);
    impl Transform for Works {
        fn apply(&mut self, _: Input, _: &mut Emitter) -> anyhow::Result<()> {
            anyhow::ensure!(self.0.load(Ordering::SeqCst), "it has no `temp`");
            Ok(())
        }
    }
    let works = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&works);
    let graph = Sketch::default().node(Role::Source, "n", 1, &[], || Node::source(Beat)).node(
        Role::Transform,
        "t",
        1,
        &["n"],
        move || Node::transform(Works(Arc::clone(&switch))),
    );
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    rest(35).await;
    assert!(part(&engine, "t").failing.is_none(), "half a minute is no reason to worry");
    rest(10).await;
    let failing = part(&engine, "t").failing.unwrap();
    assert_eq!((failing.for_s, failing.errors), (35, 4));
    works.store(true, Ordering::SeqCst);
    rest(10).await;
    assert!(part(&engine, "t").failing.is_none());
    // One now and then is no reason either.
    for ok in [false, true, false, false, true] {
        works.store(ok, Ordering::SeqCst);
        rest(10).await;
        assert!(part(&engine, "t").failing.is_none());
    }
    assert_eq!(kinds(&engine, "t"), [("not_handled".to_owned(), 7)]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_or_error_in_a_transform_sends_the_message_to_errors() {
    struct Picky;
    impl Transform for Picky {
        fn apply(&mut self, Input { message, .. }: Input, out: &mut Emitter) -> anyhow::Result<()> {
            match message.payload.value().unwrap().as_u64() {
                Some(3) => panic!("three"),
                Some(4) => anyhow::bail!("four"),
                _ => out.emit(message),
            }
            Ok(())
        }
    }
    let (log, errors) = (Log::default(), Log::default());
    let graph = Sketch::default()
        .node(Role::Source, "n", 1, &[], log.count(6, true))
        .node(Role::Transform, "t", 1, &["n"], || Node::transform(Picky))
        .node(Role::Sink, "s", 1, &["t"], log.collect())
        .node(Role::Sink, "e", 1, &["t.errors"], errors.collect());
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    rest(60).await;
    assert_eq!(log.got(), [0, 1, 2, 5]);
    let payloads: Vec<Value> =
        errors.values().iter().map(|e| e["message"]["payload"].clone()).collect();
    assert_eq!(payloads, [json!(3), json!(4)]);
    assert_eq!(kinds(&engine, "t"), [("not_handled".to_owned(), 1), ("panic".to_owned(), 1)]);
    assert_eq!(log.outcomes(), vec![Outcome::Delivered; 6]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_source_restarts_it() {
    struct Bomb(Log);
    impl Source for Bomb {
        async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
            out.send(Message::new("n", json!(self.0.2.fetch_add(1, Ordering::SeqCst)))).await;
            panic!("boom");
        }
    }
    let log = Log::default();
    let source = log.clone();
    let graph = Sketch::default()
        .node(Role::Source, "n", 1, &[], move || Node::source(Bomb(source.clone())))
        .node(Role::Sink, "s", 1, &["n"], log.collect());
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    rest(5).await;
    assert!(log.got().len() >= 2, "{:?}", log.got());
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_drops_what_it_is_told_to_and_counts_it() {
    for (when_full, expected) in
        [(WhenFull::DropOldest, [16, 17, 18, 19]), (WhenFull::DropNewest, [0, 1, 2, 3])]
    {
        let log = Log::default();
        let down = Arc::new(AtomicBool::new(true));
        let buffer = Buffer { max_messages: 4, when_full, ..Buffer::default() };
        let graph = Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(20, true))
            .node(Role::Sink, "s", 1, &["n"], log.collect_with(Trouble::Down(Arc::clone(&down))))
            .buffer("s", buffer);
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph.0).await;
        rest(60).await;
        assert_eq!(engine.counts()["s"].get(Count::Dropped), 16);
        assert_eq!(engine.counts()["n"].get(Count::Dropped), 0);
        // Dropped by the author's wish: the source need not send them again.
        assert_eq!(log.outcomes(), vec![Outcome::Delivered; 16]);
        down.store(false, Ordering::SeqCst);
        rest(60).await;
        assert_eq!(log.got(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_buffer_is_bounded_in_bytes_too() {
    struct Big(Arc<AtomicU64>);
    impl Source for Big {
        async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
            loop {
                out.send(Message::new("n", json!("x".repeat(1000)))).await;
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    let sent = Arc::new(AtomicU64::new(0));
    let (log, sent_by) = (Log::default(), Arc::clone(&sent));
    let down = Arc::new(AtomicBool::new(true));
    let buffer = Buffer { max_messages: 1000, max_bytes: 10_000, ..Buffer::default() };
    let graph = Sketch::default()
        .node(Role::Source, "n", 1, &[], move || Node::source(Big(Arc::clone(&sent_by))))
        .node(Role::Sink, "s", 1, &["n"], log.collect_with(Trouble::Down(down)))
        .buffer("s", buffer);
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    rest(10).await;
    assert!((7..=10).contains(&sent.load(Ordering::SeqCst)), "{}", sent.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_waited_for_a_removed_sink_goes_on() {
    let log = Log::default();
    let down = Arc::new(AtomicBool::new(true));
    let graph = |names: &[&str]| {
        let sketch = Sketch::default().node(Role::Source, "n", 1, &[], log.count(100, false));
        let add = |sketch: Sketch, name: &&str| match *name {
            "stuck" => {
                let node = log.collect_with(Trouble::Down(Arc::clone(&down)));
                sketch.node(Role::Sink, name, 1, &["n"], node)
            }
            _ => sketch.node(Role::Sink, name, 1, &["n"], log.collect()),
        };
        names.iter().fold(sketch, add).0
    };
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph(&["stuck", "works"])).await;
    rest(60).await;
    assert!(log.got().len() < 20);
    engine.apply(graph(&["works"])).await;
    rest(60).await;
    assert_eq!(log.got().len(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_has_to_wait_knows_whose_buffer_is_full() {
    let (log, down) = (Log::default(), Arc::new(AtomicBool::new(true)));
    let voice: Arc<Mutex<Option<forebay_sdk::Voice>>> = Arc::default();
    let (told, numbers) = (Arc::clone(&voice), log.count(100, false));
    let source = Fake::new(move |site| {
        *told.lock().unwrap() = Some(site.voice);
        numbers()
    });
    let graph = Sketch::default()
        .add(Role::Source, "n", 1, &[], source)
        .node(Role::Transform, "t", 1, &["n"], pass)
        .node(Role::Sink, "roomy", 1, &["t"], log.collect())
        .node(Role::Sink, "stuck", 1, &["t"], log.collect_with(Trouble::Down(Arc::clone(&down))));
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    rest(5).await;
    let voice = voice.lock().unwrap().clone().unwrap();
    assert_eq!(voice.held_up_by().as_deref(), Some("stuck"));
    down.store(false, Ordering::SeqCst);
    rest(60).await;
    assert_eq!(log.got().len(), 200);
    assert_eq!(voice.held_up_by(), None);
}

#[tokio::test(start_paused = true)]
async fn a_stop_delivers_what_is_queued() {
    let log = Log::default();
    let graph = Sketch::default()
        .node(Role::Source, "n", 1, &[], log.count(u64::MAX, true))
        .node(Role::Transform, "t", 1, &["n"], pass)
        .node(Role::Sink, "s", 1, &["t"], log.collect());
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    tokio::time::sleep(Duration::from_millis(105)).await;
    let stopped = engine.stop(Duration::from_secs(8)).await;
    assert_eq!((stopped.undelivered, stopped.kept), (0, 0));
    let got = log.got();
    let lost = log.outcomes().iter().filter(|outcome| **outcome == Outcome::Lost).count();
    assert_eq!(got, (0..got.len() as u64).collect::<Vec<u64>>());
    // What the source tried to send while stopping was not taken, and it was told so.
    assert_eq!(got.len() + lost, log.outcomes().len());
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_in_time_when_a_sink_is_down_and_says_what_is_left() {
    let log = Log::default();
    let down = Arc::new(AtomicBool::new(true));
    let graph = Sketch::default().node(Role::Source, "n", 1, &[], log.count(5, true)).node(
        Role::Sink,
        "s",
        1,
        &["n"],
        log.collect_with(Trouble::Down(down)),
    );
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    rest(1).await;
    let before = Instant::now();
    let stopped = engine.stop(Duration::from_secs(8)).await;
    assert_eq!((stopped.undelivered, stopped.kept), (5, 0));
    assert_eq!(stopped.lost, 0, "their source sends them again");
    assert!(before.elapsed() < Duration::from_secs(9), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_reload_while_every_sink_is_down_takes_no_time() {
    let log = Log::default();
    let down = Arc::new(AtomicBool::new(true));
    let graph = |version| {
        Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(100, true))
            .node(Role::Transform, "t", version, &["n"], pass)
            .node(
                Role::Sink,
                "s",
                version,
                &["t"],
                log.collect_with(Trouble::Down(Arc::clone(&down))),
            )
            .0
    };
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph(1)).await;
    rest(60).await;
    let before = Instant::now();
    engine.apply(graph(2)).await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    down.store(false, Ordering::SeqCst);
    rest(60).await;
    assert_eq!(log.got(), (0..100).collect::<Vec<u64>>());
    assert_eq!(log.outcomes(), vec![Outcome::Delivered; 100]);
}

#[tokio::test(start_paused = true)]
async fn a_source_hears_that_messages_were_lost_with_a_removed_sink() {
    let log = Log::default();
    let down = Arc::new(AtomicBool::new(true));
    let with_sink = Sketch::default().node(Role::Source, "n", 1, &[], log.count(3, true)).node(
        Role::Sink,
        "s",
        1,
        &["n"],
        log.collect_with(Trouble::Down(down)),
    );
    let without = Sketch::default().node(Role::Source, "n", 1, &[], log.count(3, true));
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(with_sink.0).await;
    rest(1).await;
    let plan = engine.apply(without.0).await;
    assert_eq!(plan.to_string(), "stop s, rewire n; 0 nodes untouched");
    rest(1).await;
    assert_eq!(log.outcomes(), vec![Outcome::Lost; 3]);
}

#[tokio::test(start_paused = true)]
async fn named_outputs_lead_to_their_readers() {
    struct Fork;
    impl Transform for Fork {
        fn apply(&mut self, Input { message, .. }: Input, out: &mut Emitter) -> anyhow::Result<()> {
            let is_odd = message.payload.value().unwrap().as_u64().unwrap() % 2 == 1;
            out.emit_to(if is_odd { Port::named(0) } else { Port::MAIN }, message);
            Ok(())
        }
    }
    let (even, odd) = (Log::default(), Log::default());
    let graph = Sketch::default()
        .node(Role::Source, "n", 1, &[], even.count(6, true))
        .node(Role::Transform, "t", 1, &["n"], || Node::transform(Fork))
        .node(Role::Sink, "even", 1, &["t"], even.collect())
        .node(Role::Sink, "odd", 1, &["t.odd"], odd.collect());
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    rest(10).await;
    assert_eq!((even.got(), odd.got()), (vec![0, 2, 4], vec![1, 3, 5]));
    assert_eq!(even.outcomes(), vec![Outcome::Delivered; 6]);
}

fn number(message: &Message) -> u64 {
    message.payload.value().unwrap().as_u64().unwrap()
}

/// Makes one message of each two.
#[derive(Default)]
struct Pairs(Option<(u64, Held)>);

impl Transform for Pairs {
    fn apply(&mut self, Input { message, .. }: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let number = number(&message);
        match self.0.take() {
            // A third kind: dropped on purpose while another is held.
            held if number == 100 => self.0 = held,
            Some((first, held)) => {
                let both = Held::join([held, out.hold()]);
                out.emit_held(both, Port::MAIN, Message::new("sum", json!(first + number)));
            }
            None => self.0 = Some((number, out.hold())),
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_message_is_acknowledged_with_the_one_that_carries_it() {
    let log = Log::default();
    let graph = |to| {
        Sketch::default()
            .node(Role::Source, "n", to, &[], log.count(to, true))
            .node(Role::Transform, "t", 1, &["n"], || Node::transform(Pairs::default()))
            .node(Role::Sink, "s", 1, &["t"], log.collect())
            .0
    };
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph(3)).await;
    rest(10).await;
    assert_eq!((log.got(), log.outcomes()), (vec![1], vec![Outcome::Delivered; 2]));
    engine.apply(graph(4)).await;
    rest(10).await;
    assert_eq!((log.got(), log.outcomes()), (vec![1, 5], vec![Outcome::Delivered; 4]));
}

#[tokio::test(start_paused = true)]
async fn a_message_dropped_on_purpose_does_not_acknowledge_the_one_that_is_held() {
    let log = Log::default();
    log.2.store(99, Ordering::SeqCst);
    // 99 is held, 100 is dropped.
    let graph = Sketch::default()
        .node(Role::Source, "n", 1, &[], log.count(101, true))
        .node(Role::Transform, "t", 1, &["n"], || Node::transform(Pairs::default()))
        .node(Role::Sink, "s", 1, &["t"], log.collect());
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph.0).await;
    rest(10).await;
    assert_eq!((log.got(), log.outcomes()), (vec![], vec![Outcome::Delivered]));
}

#[tokio::test(start_paused = true)]
async fn latency_is_from_the_source_to_the_other_side_also_while_that_is_down() {
    let log = Log::default();
    let down = Arc::new(AtomicBool::new(true));
    let broken = Trouble::Down(Arc::clone(&down));
    let graph = |to| {
        Sketch::default()
            .node(Role::Source, "n", to, &[], log.count(to, false))
            .node(Role::Transform, "t", 1, &["n"], pass)
            .node(Role::Sink, "s", 1, &["t"], log.collect_with(broken.clone()))
            .0
    };
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    let latency = |engine: &Engine| {
        let report = engine.report().nodes.into_iter().find(|node| node.name == "s");
        report.unwrap().latency.map(|latency| (latency.p50_s, latency.p99_s))
    };
    // More than queues hold, so that the last ones wait in the source.
    engine.apply(graph(40)).await;
    rest(60).await;
    assert_eq!(latency(&engine), None, "nothing is delivered");
    down.store(false, Ordering::SeqCst);
    rest(60).await;
    assert_eq!(log.got().len(), 40);
    let (p50, p99) = latency(&engine).unwrap();
    assert!(p50 > 50.0 || p99 > 50.0, "{p50} {p99}");
    // What is older than two minutes is not in it.
    (0..12).for_each(|_| engine.write_rest());
    assert_eq!(latency(&engine), None);
    engine.apply(graph(41)).await;
    rest(1).await;
    let (p50, _) = latency(&engine).unwrap();
    assert!((0.008..0.013).contains(&p50), "a write takes 10 ms: {p50}");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_node_finds_what_its_predecessor_left() {
    /// Counts over all of its lives.
    struct Counter(u64);
    impl Transform for Counter {
        fn apply(&mut self, _: Input, out: &mut Emitter) -> anyhow::Result<()> {
            self.0 += 1;
            out.emit(Message::new("count", json!(self.0)));
            Ok(())
        }
        fn save(&self) -> Option<Saved> {
            Saved::of(1, &self.0).ok()
        }
    }
    let make = |site: Site| Node::transform(Counter(site.remembered(1).unwrap_or(0)));
    let log = Log::default();
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    for version in 1..=3 {
        let sketch = Sketch::default()
            .node(Role::Source, "n", version, &[], log.count(version * 10, false))
            .add(Role::Transform, "t", version, &["n"], Fake::new(make))
            .node(Role::Sink, "s", 1, &["t"], log.collect());
        engine.apply(sketch.0).await;
        rest(10).await;
    }
    assert_eq!(log.got(), (1..=30).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_reloads_leave_no_task_behind() {
    let log = Log::default();
    let graph = |version: u64| {
        let sketch = Sketch::default()
            .node(Role::Source, "n", version, &[], log.count(0, true))
            .node(Role::Transform, "t", version, &["n"], pass)
            .node(Role::Sink, "s", version, &["t"], log.collect());
        match version % 2 {
            0 => sketch.0,
            _ => sketch.node(Role::Sink, "odd", version, &["t"], log.collect()).0,
        }
    };
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    engine.apply(graph(0)).await;
    rest(1).await;
    let before = tasks();
    for version in 1..=100 {
        engine.apply(graph(version)).await;
        rest(1).await;
    }
    assert_eq!(tasks(), before);
    engine.stop(Duration::from_secs(1)).await;
    assert_eq!(tasks(), 0);
}

mod plans {
    use super::*;

    /// One node per line: `name version < inputs`.
    fn graph(text: &str) -> Graph {
        let mut sketch = Sketch::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (head, from) = line.split_once('<').unwrap_or((line, ""));
            let (name, version) = head.trim().split_once(' ').unwrap();
            let from: Vec<&str> = from.split_whitespace().collect();
            let role = if from.is_empty() { Role::Source } else { Role::Sink };
            sketch = sketch.node(role, name, version.parse().unwrap(), &from, pass);
        }
        sketch.0
    }

    #[track_caller]
    fn check(running: &str, wanted: &str, expected: &str) {
        assert_eq!(plan(&graph(running), &graph(wanted)).to_string(), expected);
    }

    #[test]
    fn unchanged_nodes_are_left_alone() {
        check(
            "meter 1\ncloud 1 < meter",
            "meter 1\ncloud 1 < meter",
            "nothing to do; 2 nodes untouched",
        );
    }

    #[test]
    fn a_new_sink_rewires_its_source_without_restarting_it() {
        check(
            "meter 1\ncloud 1 < meter",
            "meter 1\ncloud 1 < meter\nlog 1 < meter",
            "start log, rewire meter; 1 node untouched",
        );
    }

    #[test]
    fn only_the_changed_node_is_replaced() {
        check(
            "meter 1\ncloud 1 < meter",
            "meter 1\ncloud 2 < meter",
            "replace cloud; 1 node untouched",
        );
    }

    #[test]
    fn a_removed_node_rewires_what_it_read() {
        check(
            "meter 1\nscale 1 < meter\ncloud 1 < scale",
            "meter 1\ncloud 1 < meter",
            "stop scale, rewire meter; 1 node untouched",
        );
    }

    #[test]
    fn a_node_that_becomes_another_kind_is_stopped_and_started() {
        check(
            "meter 1\nx 1",
            "meter 1\nx 1 < meter",
            "stop x, start x, rewire meter; 0 nodes untouched",
        );
    }

    #[test]
    fn another_buffer_does_not_restart_a_node() {
        let running = graph("meter 1\ncloud 1 < meter");
        let mut wanted = graph("meter 1\ncloud 1 < meter");
        wanted.nodes.get_mut("cloud").unwrap().common.buffer.max_messages = 99;
        assert_eq!(plan(&running, &wanted).to_string(), "rewire cloud; 1 node untouched");
    }
}

/// Buffers on disk, with real files.
mod on_disk {
    use super::*;
    use crate::config::Store;

    fn graph(log: &Log, sink: &str, store: Store, trouble: Trouble, to: u64) -> Graph {
        let buffer = Buffer { store, max_bytes: 1 << 20, ..Buffer::default() };
        Sketch::default()
            .node(Role::Source, "n", to, &[], log.count(to, true))
            .node(Role::Sink, sink, 1, &["n"], log.collect_with(trouble))
            .buffer(sink, buffer)
            .0
    }

    fn down() -> Trouble {
        Trouble::Down(Arc::new(AtomicBool::new(true)))
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_start_goes_on_with_what_is_on_disk() {
        for store in [Store::Disk, Store::Spill] {
            let (log, data) = (Log::default(), tempfile::tempdir().unwrap());
            let mut engine = Engine::new(Path::new("."), data.path());
            engine.apply(graph(&log, "p/s", store, down(), 200)).await;
            rest(30).await;
            assert_eq!(log.outcomes(), [Outcome::Delivered; 200]);
            // A stop does not wait for a link that is down when everything is safe.
            let began = Instant::now();
            let stopped = engine.stop(Duration::from_secs(5)).await;
            assert_eq!((stopped.undelivered, stopped.kept), (0, 200));
            assert!(began.elapsed() < Duration::from_secs(1));

            let mut engine = Engine::new(Path::new("."), data.path());
            engine.apply(graph(&log, "p/s", store, Trouble::None, 250)).await;
            rest(30).await;
            assert_eq!(log.got(), (0..250).collect::<Vec<_>>());
            let stopped = engine.stop(Duration::from_secs(5)).await;
            assert_eq!((stopped.undelivered, stopped.kept), (0, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_dropped_when_somebody_asks_and_what_comes_later_arrives() {
        for store in [Store::Memory, Store::Disk, Store::Spill] {
            let (log, data) = (Log::default(), tempfile::tempdir().unwrap());
            let is_down = Arc::new(AtomicBool::new(true));
            let trouble = || Trouble::Down(Arc::clone(&is_down));
            let mut engine = Engine::new(Path::new("."), data.path());
            engine.apply(graph(&log, "p/s", store, trouble(), 3000)).await;
            rest(30).await;
            let dropped = engine.drop_waiting("p/s").unwrap();
            rest(60).await;
            // With a queue in memory, what had no room comes after what was dropped.
            let left = engine.report().nodes.pop().unwrap().queue.unwrap().messages;
            assert!(dropped + left <= 3000 && dropped > 0, "{store:?}: {dropped}, {left}");
            engine.drop_waiting("p/s").unwrap();
            rest(60).await;
            is_down.store(false, Ordering::SeqCst);
            engine.apply(graph(&log, "p/s", store, trouble(), 3010)).await;
            rest(120).await;
            let got = log.got();
            assert!(got.ends_with(&(3000..3010).collect::<Vec<_>>()), "{store:?}: {got:?}");
            let before = got.len() - 10;
            match store {
                Store::Memory => assert!(before < 3000 - dropped + 1, "{before}"),
                Store::Disk | Store::Spill => assert_eq!(before, 0, "{store:?}: {got:?}"),
            }
            // All are dealt with: nobody sends them again.
            assert_eq!(log.outcomes(), [Outcome::Delivered; 3010]);
            let stopped = engine.stop(Duration::from_secs(5)).await;
            assert_eq!((stopped.undelivered, stopped.kept), (0, 0), "{store:?}");
        }
        let (log, data) = (Log::default(), tempfile::tempdir().unwrap());
        let mut engine = Engine::new(Path::new("."), data.path());
        engine.apply(graph(&log, "p/s", Store::Disk, down(), 5)).await;
        assert!(engine.drop_waiting("n").is_err() && engine.drop_waiting("no/such").is_err());
    }

    async fn shown(engine: &Engine, sink: &str) -> Vec<u64> {
        let (mut backlog, mut shown) = (engine.waiting(sink).unwrap(), Vec::new());
        while let Some(tapped) = backlog.next().await {
            assert_eq!(&*tapped.output, "n");
            shown.extend(tapped.message.payload.value().unwrap().as_u64());
        }
        shown
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_shown_once_and_in_order_wherever_it_is() {
        for store in [Store::Memory, Store::Disk, Store::Spill] {
            let (log, data) = (Log::default(), tempfile::tempdir().unwrap());
            let is_down = Arc::new(AtomicBool::new(true));
            let trouble = || Trouble::Down(Arc::clone(&is_down));
            let mut engine = Engine::new(Path::new("."), data.path());
            engine.apply(graph(&log, "p/s", store, trouble(), 3000)).await;
            rest(30).await;
            let waiting = engine.report().nodes.pop().unwrap().queue.unwrap().messages as u64;
            let expected = if store == Store::Memory { 100 } else { waiting };
            assert_eq!(shown(&engine, "p/s").await, (0..expected).collect::<Vec<_>>(), "{store:?}");
            is_down.store(false, Ordering::SeqCst);
            rest(120).await;
            assert_eq!(shown(&engine, "p/s").await, [0; 0], "{store:?}: it is delivered");
            assert_eq!(log.got(), (0..3000).collect::<Vec<_>>(), "looking changes nothing");
        }
        // Who looks while the sink goes does not wait for ever.
        let (log, data) = (Log::default(), tempfile::tempdir().unwrap());
        let mut engine = Engine::new(Path::new("."), data.path());
        engine.apply(graph(&log, "p/s", Store::Disk, down(), 3000)).await;
        rest(30).await;
        let mut backlog = engine.waiting("p/s").unwrap();
        assert!(backlog.next().await.is_some());
        engine.apply(graph(&log, "p/other", Store::Disk, down(), 3000)).await;
        while backlog.next().await.is_some() {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_removed_sink_leaves_its_buffer_and_gets_it_back() {
        let (log, data) = (Log::default(), tempfile::tempdir().unwrap());
        let mut engine = Engine::new(Path::new("."), data.path());
        engine.apply(graph(&log, "p/s", Store::Disk, down(), 20)).await;
        rest(30).await;
        let told = part(&engine, "p/s");
        let written = told.counts["bytes_to_disk"];
        assert!(written >= told.queue.unwrap().bytes, "all that is there was written: {written}");
        assert_eq!(told.bytes_to_disk_a_day, None, "half a minute does not tell");
        rest(30).await;
        let a_day = part(&engine, "p/s").bytes_to_disk_a_day.unwrap();
        assert!((1440 * written..1600 * written).contains(&a_day), "{a_day} of {written}");
        engine.apply(graph(&log, "p/renamed", Store::Disk, Trouble::None, 30)).await;
        rest(30).await;
        assert_eq!(log.got(), (20..30).collect::<Vec<_>>());
        let folder = buffer::folder_of(data.path(), "p/s");
        assert_eq!(buffer::look(buffer::Folder::new(&folder)).unwrap().messages(), 20);
        let sinks = BTreeSet::from(["p/renamed".into()]);
        assert_eq!(orphans(data.path(), &sinks), [("p/s".to_owned(), 20)]);

        engine.apply(graph(&log, "p/s", Store::Memory, Trouble::None, 30)).await;
        rest(30).await;
        assert_eq!(sorted(log.got()), (0..30).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_buffer_of_a_sink_that_is_gone_goes_at_the_next_start() {
        let (log, data) = (Log::default(), tempfile::tempdir().unwrap());
        let folder = buffer::folder_of(data.path(), "p/s");
        let mut engine = Engine::new(Path::new("."), data.path());
        engine.apply(graph(&log, "p/s", Store::Disk, Trouble::None, 5)).await;
        rest(30).await;
        engine.stop(Duration::from_secs(5)).await;
        assert!(folder.is_dir());
        let mut engine = Engine::new(Path::new("."), data.path());
        engine.apply(graph(&log, "p/renamed", Store::Disk, Trouble::None, 5)).await;
        engine.report_orphans().await;
        assert!(!folder.exists());
    }
}

/// What a transform holds, and remembers.
mod held {
    use super::*;

    /// A window for each parity: emits the sum of two even, or of two odd numbers.
    #[derive(Default)]
    struct Keyed(BTreeMap<u64, Vec<(u64, Held)>>);

    impl Transform for Keyed {
        fn apply(&mut self, Input { message, .. }: Input, out: &mut Emitter) -> anyhow::Result<()> {
            let number = number(&message);
            let lane = self.0.entry(number % 2).or_default();
            lane.push((number, out.hold()));
            if lane.len() == 2 {
                let (numbers, held): (Vec<u64>, Vec<Held>) =
                    std::mem::take(lane).into_iter().unzip();
                let sum = Message::new("sum", json!(numbers.iter().sum::<u64>()));
                out.emit_held(Held::join(held), Port::MAIN, sum);
            }
            Ok(())
        }
    }

    /// 0 1 2: the even window (0, 2) is emitted; 1 still waits in the node, and its source must not
    /// have heard that it is delivered.
    #[tokio::test(start_paused = true)]
    async fn a_keyed_window_acknowledges_only_what_it_emitted() {
        let log = Log::default();
        let graph = Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(3, true))
            .node(Role::Transform, "t", 1, &["n"], || Node::transform(Keyed::default()))
            .node(Role::Sink, "s", 1, &["t"], log.collect());
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph.0).await;
        rest(10).await;
        assert_eq!(log.got(), [2]);
        assert_eq!(log.outcomes(), [Outcome::Delivered; 2], "0 and 2 are delivered, 1 is not");
    }

    /// Delays each message by ten seconds, and by its number.
    #[derive(Default)]
    struct Delay(Vec<(Instant, u64, Held)>);

    impl Transform for Delay {
        fn apply(&mut self, Input { message, .. }: Input, out: &mut Emitter) -> anyhow::Result<()> {
            let number = number(&message);
            self.0.push((Instant::now() + Duration::from_secs(10 + number), number, out.hold()));
            Ok(())
        }
        fn wake_at(&self) -> Option<Instant> {
            self.0.iter().map(|(due, ..)| *due).min()
        }
        fn wake(&mut self, now: Now, out: &mut Emitter) -> anyhow::Result<()> {
            for (_, number, held) in self.0.extract_if(.., |(due, ..)| *due <= now.at) {
                out.emit_held(held, Port::MAIN, Message::new("later", json!(number)));
            }
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_acknowledges_each_message_with_itself() {
        let log = Log::default();
        let graph = Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(3, true))
            .node(Role::Transform, "t", 1, &["n"], || Node::transform(Delay::default()))
            .node(Role::Sink, "s", 1, &["t"], log.collect());
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph.0).await;
        tokio::time::sleep(Duration::from_millis(10_500)).await;
        assert_eq!(log.got(), [0]);
        assert_eq!(log.outcomes(), [Outcome::Delivered], "only 0 left the node");
        rest(2).await;
        assert_eq!(log.got(), [0, 1, 2]);
        assert_eq!(log.outcomes(), [Outcome::Delivered; 3]);
    }

    /// Holds 0, panics on 1, passes the rest on. Remembers nothing.
    struct Panics(Option<Held>);

    impl Transform for Panics {
        fn apply(&mut self, Input { message, .. }: Input, out: &mut Emitter) -> anyhow::Result<()> {
            match number(&message) {
                0 => self.0 = Some(out.hold()),
                1 => panic!("a bug"),
                _ => out.emit(message),
            }
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_panicked_node_held_is_lost_and_its_source_hears_so() {
        let log = Log::default();
        let graph = Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(3, true))
            .node(Role::Transform, "t", 1, &["n"], || Node::transform(Panics(None)))
            .node(Role::Sink, "s", 1, &["t"], log.collect());
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph.0).await;
        rest(10).await;
        assert_eq!(log.got(), [2]);
        assert!(log.outcomes().contains(&Outcome::Lost), "0 is nowhere: {:?}", log.outcomes());
    }

    /// Counts, remembers, and panics at 2 and 6, half done.
    struct Counts(u64);

    impl Transform for Counts {
        fn apply(&mut self, Input { message, .. }: Input, out: &mut Emitter) -> anyhow::Result<()> {
            self.0 += 1;
            let number = number(&message);
            assert!(number != 2 && number != 6, "a bug");
            out.emit(Message::new("count", json!(self.0)));
            Ok(())
        }
        fn save(&self) -> Option<Saved> {
            Saved::of(1, &self.0).ok()
        }
    }

    fn counts() -> Fake {
        Fake::new(|site| Node::transform(Counts(site.remembered(1).unwrap_or(0))))
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_node_remembers_after_a_panic_is_that_of_the_last_good_message() {
        let log = Log::default();
        let graph = Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(8, false))
            .add(Role::Transform, "t", 1, &["n"], counts())
            .node(Role::Sink, "s", 1, &["t"], log.collect());
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph.0).await;
        rest(10).await;
        assert_eq!(log.got(), [1, 2, 3, 4, 5, 6]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_on_disk_is_there_after_a_crash_with_all_that_was_acknowledged() {
        let (log, data) = (Log::default(), tempfile::tempdir().unwrap());
        let graph = |to| {
            Sketch::default()
                .node(Role::Source, "n", to, &[], log.count(to, true))
                .add(Role::Transform, "p/t", 1, &["n"], counts())
                .persist("p/t", Duration::from_secs(10))
                .node(Role::Sink, "s", 1, &["p/t"], log.collect())
                .0
        };
        log.2.store(10, Ordering::SeqCst);
        let mut engine = Engine::new(Path::new("."), data.path());
        engine.apply(graph(15)).await;
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!((log.got(), log.outcomes()), (vec![1, 2, 3, 4, 5], vec![]));
        rest(1).await;
        assert_eq!(log.outcomes(), [Outcome::Delivered; 5]);
        // The next is not on disk yet when the program is killed.
        engine.apply(graph(16)).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(engine);

        let log = Log::default();
        log.2.store(20, Ordering::SeqCst);
        let mut engine = Engine::new(Path::new("."), data.path());
        let graph = Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(21, true))
            .add(Role::Transform, "p/t", 1, &["n"], counts())
            .persist("p/t", Duration::from_secs(10))
            .node(Role::Sink, "s", 1, &["p/t"], log.collect());
        engine.apply(graph.0).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!((log.got(), log.outcomes()), (vec![6], vec![]));
        engine.stop(Duration::from_secs(5)).await;
        assert_eq!(log.outcomes(), [Outcome::Delivered], "written at the stop");
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_takes_no_state_holds_acknowledgements_back_until_it_does() {
        let (log, data) = (Log::default(), tempfile::tempdir().unwrap());
        let in_the_way = data.path().join("nodes");
        std::fs::write(&in_the_way, "").unwrap();
        let graph = Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(2, true))
            .add(Role::Transform, "p/t", 1, &["n"], counts())
            .persist("p/t", Duration::from_secs(1))
            .node(Role::Sink, "s", 1, &["p/t"], log.collect());
        let mut engine = Engine::new(Path::new("."), data.path());
        engine.apply(graph.0).await;
        rest(60).await;
        assert_eq!((log.got(), log.outcomes()), (vec![1, 2], vec![]));
        std::fs::remove_file(&in_the_way).unwrap();
        rest(5).await;
        assert_eq!(log.outcomes(), [Outcome::Delivered; 2]);
    }

    /// Says by which entry of `from:` each message came.
    struct Whence;

    impl Transform for Whence {
        fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
            out.emit(Message::new("whence", json!(*input.from)));
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_transform_knows_by_which_input_a_message_came() {
        struct Both;
        impl Transform for Both {
            fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
                out.emit_to(Port::named(0), input.message.clone());
                out.emit(input.message);
                Ok(())
            }
        }
        let log = Log::default();
        let graph = Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(1, true))
            .node(Role::Transform, "both", 1, &["n"], || Node::transform(Both))
            .node(Role::Transform, "t", 1, &["both.named", "both", "n"], || Node::transform(Whence))
            .node(Role::Sink, "s", 1, &["t"], log.collect());
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph.0).await;
        rest(10).await;
        let mut values = log.values();
        values.sort_by_key(Value::to_string);
        assert_eq!(values, ["both", "both.named", "n"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_of_the_wall_clock_is_told_to_who_waits() {
        /// Wakes once a day, by the wall clock.
        struct Daily;
        impl Transform for Daily {
            fn apply(&mut self, _: Input, _: &mut Emitter) -> anyhow::Result<()> {
                Ok(())
            }
            fn wake_at(&self) -> Option<Instant> {
                Some(Instant::now() + Duration::from_secs(86_400))
            }
            fn clock_was_moved(&mut self, now: Now, out: &mut Emitter) -> anyhow::Result<()> {
                out.emit(Message::new("moved", json!(now.wall.unix_nanos())));
                Ok(())
            }
        }
        const NOW: i64 = 1_795_251_600_000_000_000;
        let memory = forebay_sdk::world::memory::Memory::new(NOW);
        let _entered = memory.enter();
        let log = Log::default();
        let graph = Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(1, true))
            .node(Role::Transform, "t", 1, &["n"], || Node::transform(Daily))
            .node(Role::Sink, "s", 1, &["t"], log.collect());
        let mut engine = Engine::in_world(Path::new("."), Path::new("no-data"), memory.world());
        engine.apply(graph.0).await;
        rest(10).await;
        memory.set_wall(NOW + 3_600_000_000_000);
        rest(1).await;
        assert_eq!(log.got(), [(NOW + 3_600_000_000_000) as u64]);
    }
}

/// What can go wrong where a node is made, or a connection runs.
mod broken {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_build_that_panics_does_not_end_the_program_and_the_next_reload_tries_again() {
        let log = Log::default();
        let is_bad = Arc::new(AtomicBool::new(true));
        let graph = || {
            let (bad, collect) = (Arc::clone(&is_bad), log.collect());
            Sketch::default()
                .node(Role::Source, "n", 1, &[], log.count(3, false))
                .node(Role::Sink, "s", 1, &["n"], move || {
                    assert!(!bad.load(Ordering::SeqCst), "a bug in build");
                    collect()
                })
                .0
        };
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph()).await;
        rest(10).await;
        let state = engine.states()["s"].clone();
        assert!(
            matches!(&state, State::Broken(why) if why.ends_with("a bug in build")),
            "{state:?}"
        );
        is_bad.store(false, Ordering::SeqCst);
        engine.apply(graph()).await;
        rest(10).await;
        assert_eq!(log.got(), [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_panics_is_made_anew_with_all_that_use_it() {
        /// Counts its lives; panics in its first after ten seconds.
        struct Bus(u64);
        impl Connection for Bus {
            async fn run(&mut self, voice: &Voice) -> anyhow::Result<()> {
                voice.ready();
                tokio::time::sleep(Duration::from_secs(10)).await;
                assert!(self.0 > 1, "a bug");
                std::future::pending().await
            }
        }
        /// Says in which life of the connection it was made.
        struct Says(u64);
        impl Source for Says {
            async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
                out.send(Message::new("life", json!(self.0))).await;
                std::future::pending().await
            }
        }
        let (log, lives) = (Log::default(), Arc::new(AtomicU64::new(0)));
        let bus = Fake::new(move |_| {
            let life = lives.fetch_add(1, Ordering::SeqCst) + 1;
            Node::connection(Shared::new(Arc::new(life)), Bus(life))
        });
        let says = Fake::new(|site: Site| Node::source(Says(*site.connection::<u64>().unwrap())));
        let graph = Sketch::default()
            .add(Role::Source, "n", 1, &[], says)
            .node(Role::Sink, "s", 1, &["n"], log.collect())
            .connection("bus", 1, &["n"], bus);
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph.0).await;
        engine.mend().await;
        rest(60).await;
        assert_eq!(log.got(), [1, 2]);
        assert_eq!(engine.states()["bus"], State::Running);
        assert!(tokio::time::timeout(Duration::from_secs(60), engine.mend()).await.is_err());
    }

    /// Runs a connection that ends a moment after the other side let it in, for ten minutes. Gives
    /// how often it was tried, and how it is.
    async fn tried(lasts: Duration, gets_through: bool) -> (u64, State) {
        struct Short(Arc<AtomicU64>, Duration, bool);
        impl Connection for Short {
            async fn run(&mut self, voice: &Voice) -> anyhow::Result<()> {
                self.0.fetch_add(1, Ordering::SeqCst);
                voice.ready();
                if self.2 {
                    voice.works();
                }
                tokio::time::sleep(self.1).await;
                anyhow::bail!("it hung up")
            }
        }
        let (log, tries) = (Log::default(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&tries);
        let short = Fake::new(move |_| {
            let short = Short(Arc::clone(&counted), lasts, gets_through);
            Node::connection(Shared::new(Arc::new(())), short)
        });
        let graph = Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(0, false))
            .connection("bus", 1, &["n"], short);
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph.0).await;
        rest(600).await;
        (tries.load(Ordering::SeqCst), engine.states()["bus"].clone())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_can_go_on_with_other_settings_was_made_anew_with_its_nodes() {
        struct Stays;
        impl Connection for Stays {
            async fn run(&mut self, voice: &Voice) -> anyhow::Result<()> {
                voice.ready();
                std::future::pending().await
            }
        }
        struct Silent;
        impl Source for Silent {
            async fn run(&mut self, _: &Outlet) -> anyhow::Result<()> {
                std::future::pending().await
            }
        }
        let (made, adapted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let graph = |version| {
            let made = Arc::clone(&made);
            let fake = Fake::new(move |_| {
                made.fetch_add(1, Ordering::Relaxed);
                Node::connection(Shared::new(Arc::new(())), Stays)
            });
            let node = || Node::source(Silent);
            Sketch::default().node(Role::Source, "s", 1, &[], node).connection(
                "bus",
                version,
                &["s"],
                fake.adapts(&adapted),
            )
        };
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph(1).0).await;
        let plan = engine.apply(graph(2).0).await;
        assert_eq!(plan.to_string(), "adapt connection bus; 1 node untouched");
        assert_eq!(made.load(Ordering::Relaxed), 1);
        assert_eq!(adapted.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_ends_right_after_it_began_is_tried_less_and_less_often() {
        let (tries, state) = tried(Duration::from_millis(100), false).await;
        assert!((20..=40).contains(&tries), "{tries} tries");
        assert_eq!(state, State::Waiting("it hung up".to_owned()), "it never worked");
        // What gets through, and what lasts, is tried again at once.
        let (tries, _) = tried(Duration::from_millis(100), true).await;
        assert!(tries > 600, "{tries} tries");
        let (tries, _) = tried(Duration::from_secs(25), false).await;
        assert!((22..=24).contains(&tries), "{tries} tries");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_does_not_wait_for_a_connection_to_say_good_bye() {
        /// Says good-bye for ever; counts who runs at the same time.
        struct Slow(Arc<AtomicU64>);
        impl Connection for Slow {
            async fn run(&mut self, _: &Voice) -> anyhow::Result<()> {
                assert_eq!(self.0.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
                std::future::pending().await
            }
            async fn close(&mut self) {
                tokio::time::sleep(Duration::from_millis(900)).await;
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let (log, running) = (Log::default(), Arc::new(AtomicU64::new(0)));
        let graph = |version| {
            let running = Arc::clone(&running);
            let make =
                move |_| Node::connection(Shared::new(Arc::new(())), Slow(Arc::clone(&running)));
            Sketch::default()
                .node(Role::Source, "n", 1, &[], log.count(0, false))
                .connection("bus", version, &["n"], Fake::new(make))
                .0
        };
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph(1)).await;
        rest(1).await;
        let began = Instant::now();
        engine.apply(graph(2)).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        rest(2).await;
        assert_eq!(running.load(Ordering::SeqCst), 1, "the new one began after the old one's end");
    }
}

/// Sinks that answer, and sinks that must not repeat.
mod commands {
    use super::*;

    /// How a command goes.
    #[derive(Clone, Copy)]
    enum Fate {
        Works,
        /// Not even sent.
        NotSent,
        Unknown,
        Refused,
        Hangs,
        Panics,
    }

    /// Takes note of each command that it gives.
    struct Commands(Log, Arc<dyn Fn(u64) -> Fate + Send + Sync>);

    impl Sink for Commands {
        async fn connect(&mut self) -> anyhow::Result<()> {
            Ok(())
        }
        async fn write(
            &mut self,
            batch: &[Message],
            out: &mut Emitter,
        ) -> Result<Written, WriteError> {
            assert_eq!(batch.len(), 1);
            let number = number(&batch[0]);
            let fate = self.1(number);
            if let Fate::NotSent = fate {
                return Err(WriteError::retry(anyhow::anyhow!("not sent")));
            }
            self.0.0.lock().unwrap().push(json!(number));
            match fate {
                Fate::Unknown => return Err(WriteError::in_doubt(anyhow::anyhow!("no answer"))),
                Fate::Refused => return Err(WriteError::reject(anyhow::anyhow!("illegal"))),
                Fate::Hangs => std::future::pending().await,
                Fate::Panics => panic!("a bug"),
                _ => out.emit_to(Port::named(0), Message::new("answer", json!(number * 10))),
            }
            Ok(Written::bytes(8))
        }
    }

    fn graph(
        version: u64,
        log: &Log,
        to: u64,
        told: [&Log; 2],
        fate: impl Fn(u64) -> Fate + Send + Sync + 'static,
    ) -> Sketch {
        let (gives, fate) = (log.clone(), Arc::new(fate));
        let make = move |_| Node::sink(Commands(gives.clone(), Arc::clone(&fate) as _));
        let once = Capabilities { repeats: false, ..Capabilities::default() };
        Sketch::default()
            .node(Role::Source, "n", 1, &[], log.count(to, true))
            .add(Role::Sink, "p/s", version, &["n"], Fake::new(make).can(once))
            .node(Role::Sink, "answers", 1, &["p/s.named"], told[0].collect())
            .node(Role::Sink, "errors", 1, &["p/s.errors"], told[1].collect())
    }

    fn errors(log: &Log) -> Vec<(u64, String)> {
        let read = |value: Value| {
            let payload = value["message"]["payload"].as_u64().unwrap();
            (payload, value["error"].as_str().unwrap().to_owned())
        };
        log.values().into_iter().map(read).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_command_is_given_once_and_somebody_hears_how_it_went() {
        let (log, answers, told) = (Log::default(), Log::default(), Log::default());
        let tries = AtomicU64::new(0);
        let fate = move |number| match number {
            1 if tries.fetch_add(1, Ordering::SeqCst) < 3 => Fate::NotSent,
            2 => Fate::Unknown,
            3 => Fate::Refused,
            4 => Fate::Hangs,
            5 => Fate::Panics,
            _ => Fate::Works,
        };
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph(1, &log, 8, [&answers, &told], fate).0).await;
        rest(600).await;
        assert_eq!(log.got(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(answers.got(), [0, 10, 60, 70]);
        let why =
            |text: &str| format!("in doubt: it may have happened, and is not done again: {text}");
        assert_eq!(
            errors(&told),
            [
                (2, why("no answer")),
                (3, "illegal".to_owned()),
                (4, why("the other side did not answer within 120 s")),
                (5, why("the node panicked, which is a bug in it: a bug")),
            ]
        );
        assert_eq!(log.outcomes(), [Outcome::Delivered; 8]);
        assert_eq!(engine.counts()["p/s"].get(Count::InDoubt), 3);
        assert_eq!(
            kinds(&engine, "p/s"),
            [("in_doubt".to_owned(), 3), ("not_taken".to_owned(), 1)]
        );
        assert_eq!(engine.counts()["p/s"].get(Count::BytesOut), 32);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_in_mid_write_repeats_no_command_and_tells_that_it_is_in_doubt() {
        let (log, answers, told) = (Log::default(), Log::default(), Log::default());
        let hangs = |number| if number == 1 { Fate::Hangs } else { Fate::Works };
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph(1, &log, 3, [&answers, &told], hangs).0).await;
        rest(10).await;
        engine.apply(graph(2, &log, 3, [&answers, &told], hangs).0).await;
        rest(10).await;
        assert_eq!((log.got(), answers.got()), (vec![0, 1, 2], vec![0, 20]));
        let [(1, why)] = &errors(&told)[..] else { panic!("{:?}", told.values()) };
        assert!(why.ends_with("the node was stopped meanwhile"), "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_crash_in_mid_write_repeats_no_command_and_the_next_start_tells() {
        let data = tempfile::tempdir().unwrap();
        let (log, answers, told) = (Log::default(), Log::default(), Log::default());
        let on_disk =
            Buffer { store: crate::config::Store::Disk, max_bytes: 1 << 20, ..Buffer::default() };
        let hangs = |number| if number == 1 { Fate::Hangs } else { Fate::Works };
        let runtime = || {
            let builder = &mut tokio::runtime::Builder::new_current_thread();
            builder.enable_all().start_paused(true).build().unwrap()
        };
        let first = {
            let (log, data, on_disk) = (log.clone(), data.path().to_owned(), on_disk);
            let (answers, told) = (answers.clone(), told.clone());
            std::thread::spawn(move || {
                runtime().block_on(async move {
                    let mut engine = Engine::new(Path::new("."), data);
                    let graph = graph(1, &log, 4, [&answers, &told], hangs);
                    engine.apply(graph.buffer("p/s", on_disk).0).await;
                    rest(10).await;
                });
            })
        };
        first.join().unwrap();
        assert_eq!(log.got(), [0, 1]);
        let mut engine = Engine::new(Path::new("."), data.path());
        let graph = graph(1, &log, 4, [&answers, &told], hangs).buffer("p/s", on_disk);
        engine.apply(graph.0).await;
        rest(10).await;
        assert_eq!(log.got(), [0, 1, 2, 3]);
        let [(1, why)] = &errors(&told)[..] else { panic!("{:?}", told.values()) };
        assert!(why.ends_with("the program ended meanwhile"), "{why}");
        engine.stop(Duration::from_secs(5)).await;
        let folder = buffer::folder_of(data.path(), "p/s");
        let (mut buffer, _) =
            buffer::Log::open(buffer::Folder::new(folder), buffer::Limits { max_bytes: 1 << 20 })
                .unwrap();
        assert!(buffer.take_doubt().is_none(), "told once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_of_a_batch_is_not_written_again() {
        /// Takes two of each batch, then fails.
        struct Half(Log);
        impl Sink for Half {
            async fn connect(&mut self) -> anyhow::Result<()> {
                Ok(())
            }
            async fn write(
                &mut self,
                batch: &[Message],
                _: &mut Emitter,
            ) -> Result<Written, WriteError> {
                let taken = batch.len().min(2);
                let numbers = batch[..taken].iter().map(|message| json!(number(message)));
                self.0.0.lock().unwrap().extend(numbers);
                if taken == batch.len() {
                    return Ok(Written::default());
                }
                Err(WriteError::retry(anyhow::anyhow!("cut off")).taken(taken))
            }
        }
        let (log, sink) = (Log::default(), Log::default());
        let half = sink.clone();
        let graph = Sketch::default().node(Role::Source, "n", 1, &[], log.count(20, true)).node(
            Role::Sink,
            "s",
            1,
            &["n"],
            move || Node::sink(Half(half.clone())),
        );
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph.0).await;
        rest(600).await;
        assert_eq!(sink.got(), (0..20).collect::<Vec<_>>());
        assert_eq!(log.outcomes(), [Outcome::Delivered; 20]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_the_engine_gave_up_breaks_the_session() {
        struct Silent(Arc<AtomicU64>);
        impl Sink for Silent {
            async fn connect(&mut self) -> anyhow::Result<()> {
                Ok(())
            }
            async fn write(
                &mut self,
                _: &[Message],
                _: &mut Emitter,
            ) -> Result<Written, WriteError> {
                std::future::pending().await
            }
            fn break_off(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let (log, broken_off) = (Log::default(), Arc::new(AtomicU64::new(0)));
        let times = Arc::clone(&broken_off);
        let quick = Capabilities { longest_try: Duration::from_secs(7), ..Capabilities::default() };
        let silent = Fake::new(move |_| Node::sink(Silent(Arc::clone(&times)))).can(quick);
        let graph = Sketch::default().node(Role::Source, "n", 1, &[], log.count(1, true)).add(
            Role::Sink,
            "s",
            1,
            &["n"],
            silent,
        );
        let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
        engine.apply(graph.0).await;
        rest(6).await;
        assert_eq!(broken_off.load(Ordering::SeqCst), 0);
        rest(2).await;
        assert_eq!(broken_off.load(Ordering::SeqCst), 1);
    }
}
