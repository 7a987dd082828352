//! The engine's promises, on a stopped clock.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use forebay_sdk::{
    Capabilities, Claim, Configured, Emitter, Message, Node, Outcome, Outlet, Port, Problem, Sink,
    Source, Transform, WriteError,
};
use serde_json::{Value, json};

use super::*;
use crate::config::{Batch, Buffer, NodeSpec, WhenFull};

/// Settings of a node that a test makes.
struct Fake(Box<dyn Fn(Links) -> Node + Send + Sync>);

impl Configured for Fake {
    fn check(&self) -> Vec<Problem> {
        Vec::new()
    }
    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }
    fn outputs(&self) -> Vec<String> {
        Vec::new()
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
    fn build(&self, links: Links) -> Node {
        (self.0)(links)
    }
}

/// Builds graphs: each node with a version, so that a test can change one.
#[derive(Default)]
pub struct Sketch(pub Graph);

impl Sketch {
    pub fn node(
        mut self,
        role: Role,
        name: &str,
        version: u64,
        from: &[&str],
        make: impl Fn() -> Node + Send + Sync + 'static,
    ) -> Sketch {
        let from = from.iter().map(|from| match from.split_once('.') {
            Some((node, "errors")) => {
                crate::config::Output { node: node.into(), port: Port::ERRORS }
            }
            Some((node, _)) => crate::config::Output { node: node.into(), port: Port::named(0) },
            None => crate::config::Output { node: (*from).into(), port: Port::MAIN },
        });
        let spec = NodeSpec {
            role,
            type_name: "fake".to_owned(),
            fingerprint: version,
            configured: Arc::new(Fake(Box::new(move |_| make()))),
            connection: None,
            from: from.collect::<BTreeSet<_>>(),
            buffer: Buffer { max_messages: 8, ..Buffer::default() },
            batch: Batch { max_messages: 4, max_wait: Duration::ZERO },
        };
        self.0.nodes.insert(name.into(), spec);
        self
    }

    pub fn buffer(mut self, name: &str, buffer: Buffer) -> Sketch {
        self.0.nodes.get_mut(name).unwrap().buffer = buffer;
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

    async fn write(&mut self, batch: &[Message]) -> Result<(), WriteError> {
        tokio::time::sleep(Duration::from_millis(10)).await;
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
        Ok(())
    }
}

fn pass() -> Node {
    struct Pass;
    impl Transform for Pass {
        fn apply(&mut self, message: Message, out: &mut Emitter) -> anyhow::Result<()> {
            out.emit(message);
            Ok(())
        }
    }
    Node::transform(Pass)
}

async fn rest(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
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
    assert!(matches!(engine.states()["s"], State::Waiting(ref why) if why == "nobody answers"));
    // The source sent what the queue holds, and one more that waits for room.
    assert_eq!(log.2.load(Ordering::SeqCst), 9);
    down.store(false, Ordering::SeqCst);
    rest(60).await;
    assert_eq!(log.got(), (0..100).collect::<Vec<u64>>());
    assert_eq!(log.outcomes(), vec![Outcome::Delivered; 100]);
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
}

#[tokio::test(start_paused = true)]
async fn a_panic_or_error_in_a_transform_sends_the_message_to_errors() {
    struct Picky;
    impl Transform for Picky {
        fn apply(&mut self, message: Message, out: &mut Emitter) -> anyhow::Result<()> {
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
        assert_eq!(engine.counts()["n"].get(Count::Dropped), 16);
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
    assert_eq!(stopped, Stopped { undelivered: 0, kept: 0 });
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
    assert_eq!(stopped, Stopped { undelivered: 5, kept: 0 });
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
        fn apply(&mut self, message: Message, out: &mut Emitter) -> anyhow::Result<()> {
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

/// Makes one message of each two.
#[derive(Default)]
struct Pairs(Option<u64>);

impl Transform for Pairs {
    fn apply(&mut self, message: Message, out: &mut Emitter) -> anyhow::Result<()> {
        let number = message.payload.value().unwrap().as_u64().unwrap();
        match self.0.take() {
            // A third kind: dropped on purpose while another is held.
            held if number == 100 => self.0 = held,
            Some(first) => out.emit(Message::new("sum", json!(first + number))),
            None => {
                self.0 = Some(number);
                out.hold();
            }
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
async fn a_replaced_node_finds_what_its_predecessor_left() {
    /// Counts over all of its lives.
    struct Counter(u64, forebay_sdk::Memory);
    impl Transform for Counter {
        fn apply(&mut self, _: Message, out: &mut Emitter) -> anyhow::Result<()> {
            self.0 += 1;
            out.emit(Message::new("count", json!(self.0)));
            Ok(())
        }
    }
    impl Drop for Counter {
        fn drop(&mut self) {
            self.1.leave(self.0);
        }
    }
    let log = Log::default();
    let mut engine = Engine::new(Path::new("."), Path::new("no-data"));
    for version in 1..=3 {
        let mut sketch = Sketch::default()
            .node(Role::Source, "n", version, &[], log.count(version * 10, false))
            .node(Role::Transform, "t", version, &["n"], pass)
            .node(Role::Sink, "s", 1, &["t"], log.collect());
        let make = |links: Links| {
            let before = links.memory.take().unwrap_or(0);
            Node::transform(Counter(before, links.memory))
        };
        sketch.0.nodes.get_mut("t").unwrap().configured = Arc::new(Fake(Box::new(make)));
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
        wanted.nodes.get_mut("cloud").unwrap().buffer.max_messages = 99;
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
            assert_eq!(stopped, Stopped { undelivered: 0, kept: 200 });
            assert!(began.elapsed() < Duration::from_secs(1));

            let mut engine = Engine::new(Path::new("."), data.path());
            engine.apply(graph(&log, "p/s", store, Trouble::None, 250)).await;
            rest(30).await;
            assert_eq!(log.got(), (0..250).collect::<Vec<_>>());
            let stopped = engine.stop(Duration::from_secs(5)).await;
            assert_eq!(stopped, Stopped { undelivered: 0, kept: 0 });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_removed_sink_leaves_its_buffer_and_gets_it_back() {
        let (log, data) = (Log::default(), tempfile::tempdir().unwrap());
        let mut engine = Engine::new(Path::new("."), data.path());
        engine.apply(graph(&log, "p/s", Store::Disk, down(), 20)).await;
        rest(30).await;
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
}
