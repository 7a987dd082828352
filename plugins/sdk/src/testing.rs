//! For the tests of plugins: settings from text, and a place where a source's messages end.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use forebay_yaml::{self as yaml, Finding, Limits, Yaml};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    clock::{self, Moment},
    connection::Shared,
    delivery::{Delivery, Receipt},
    emitter::Emitter,
    envelope::{Envelope, Port},
    held::Saved,
    link::Links,
    message::Message,
    node::{Input, Node, Transform},
    outlet::{Outlet, Wires},
    payload::Value,
    plugin::{NodeType, Taken},
    settings::{Configured, Problem},
    site::Site,
    voice::{Figure, Hears, Voice},
    world::World,
};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Reads settings from YAML as the engine does. The findings are those of the schema and of
/// [`crate::Settings::resolve`], each as `rule: message [label]`.
pub fn configure(node_type: &dyn NodeType, text: &str) -> Result<Arc<dyn Configured>, Vec<String>> {
    let mut findings = Vec::new();
    let tree = parse_with_profile(node_type, text, &mut findings);
    let right = tree.filter(|tree| {
        let subject = format!("{} {}", node_type.name(), node_type.role().noun());
        yaml::check(tree, &node_type.schema(), &subject, tree.span, &mut findings);
        findings.is_empty()
    });
    let resolved = right.map(|tree| node_type.configure(&tree, &mut findings)).unwrap_or_default();
    let say =
        |finding: &Finding| format!("{}: {} [{}]", finding.rule, finding.message, finding.label);
    let mut said: Vec<String> = findings.iter().map(say).collect();
    let tell =
        |problem: &Problem| format!("{}: {} [{}]", problem.rule, problem.message, problem.label);
    said.extend(resolved.problems.iter().map(tell));
    match resolved.configured {
        Some(configured) if said.is_empty() => Ok(configured),
        _ => Err(said),
    }
}

/// Reads settings from YAML of which something may be wrong: what was understood, and what was said.
pub fn resolve(
    node_type: &dyn NodeType,
    text: &str,
) -> (Option<Arc<dyn Configured>>, Vec<Problem>) {
    let mut findings = Vec::new();
    let tree = parse_with_profile(node_type, text, &mut findings).expect("YAML that parses");
    let resolved = node_type.configure(&tree, &mut findings);
    assert_eq!(findings, [], "YAML that fits the schema");
    (resolved.configured, resolved.problems)
}

/// Takes in a profile that is compiled in, when one is named.
fn parse_with_profile(
    node_type: &dyn NodeType,
    text: &str,
    findings: &mut Vec<Finding>,
) -> Option<Yaml> {
    let mut tree = yaml::parse(text, 0, Limits::default(), findings)?;
    let (Some(profiles), Some(named)) = (node_type.profiles(), tree.get("profile")) else {
        return Some(tree);
    };
    let (name, span) = (named.text()?.to_owned(), named.span);
    let native = profiles.native.iter().find(|profile| profile.name == name)?;
    let profile = yaml::parse(native.text, 1, Limits::default(), findings)?;
    (profiles.take_in)(Taken { name: &name, span, profile: &profile }, &mut tree, findings);
    Some(tree)
}

/// A site named `test/node`, on the system, with a connection or without.
pub fn site(connection: Option<Shared>) -> Site {
    Site {
        name: "test/node".into(),
        folder: std::path::Path::new(".").into(),
        data: std::path::Path::new("no-data").into(),
        connection,
        inputs: Arc::new([]),
        memory: None,
        world: World::system(),
        voice: Voice::unheard(),
        links: Links::default(),
    }
}

/// Builds a node from YAML that must be right.
#[track_caller]
pub fn build(node_type: &dyn NodeType, text: &str, connection: Option<Shared>) -> Node {
    build_at(node_type, text, site(connection))
}

/// Builds a node at a site from YAML that must be right.
#[track_caller]
pub fn build_at(node_type: &dyn NodeType, text: &str, site: Site) -> Node {
    match configure(node_type, text) {
        Ok(configured) => configured.build(site),
        Err(findings) => panic!("{findings:#?}"),
    }
}

/// A transform that is called as the engine calls it. For tests whose clock is stopped.
pub struct Rig {
    node: Box<dyn Transform>,
    out: Emitter,
}

/// What a transform sent: on which output, and the message with its promise.
pub type Sent = Vec<(Port, Envelope)>;

impl Rig {
    /// Of settings that must be right.
    #[track_caller]
    pub fn new(node_type: &dyn NodeType, text: &str) -> Rig {
        Rig::at(node_type, text, site(None))
    }

    /// The same, at a site.
    #[track_caller]
    pub fn at(node_type: &dyn NodeType, text: &str, site: Site) -> Rig {
        let Node::Transform(node) = build_at(node_type, text, site) else {
            panic!("not a transform");
        };
        Rig { node, out: Emitter::default() }
    }

    /// Hands it a message that nobody tracks. What it sent, or what it said went wrong.
    pub fn send(&mut self, message: Message) -> Result<Sent, String> {
        self.apply(message, None)
    }

    /// The same with a message that its source tracks.
    pub fn send_tracked(&mut self, message: Message) -> (Result<Sent, String>, Receipt) {
        let (delivery, receipt) = Delivery::track();
        (self.apply(message, Some(delivery)), receipt)
    }

    fn apply(&mut self, message: Message, delivery: Option<Delivery>) -> Result<Sent, String> {
        self.out.begin(delivery);
        let called = self.node.apply(Input { message, from: "test".into() }, &mut self.out);
        match called.and_then(|()| self.out.end()) {
            Ok(()) => Ok(self.out.drain().collect()),
            Err(error) => {
                Delivery::settle_all(self.out.discard());
                Err(format!("{error:#}"))
            }
        }
    }

    /// Lets time pass, and wakes the node when it asked for that. What it sent, each with the time
    /// since the call.
    pub async fn pass(&mut self, time: Duration) -> Vec<(Duration, Port, Envelope)> {
        const MOST_WAKES: usize = 100_000;
        let (start, mut sent) = (Instant::now(), Vec::new());
        for _ in 0..MOST_WAKES {
            let Some(at) = self.node.wake_at().filter(|at| *at <= start + time) else {
                tokio::time::sleep_until(start + time).await;
                return sent;
            };
            tokio::time::sleep_until(at).await;
            self.out.begin(None);
            self.node.wake(clock::now(), &mut self.out).expect("a wake that goes well");
            self.out.end().expect("not too much at once");
            let passed = start.elapsed();
            sent.extend(self.out.drain().map(|(port, envelope)| (passed, port, envelope)));
        }
        panic!("the node wants to be woken for ever");
    }

    /// Somebody set the wall clock.
    pub fn clock_was_moved(&mut self) {
        self.out.begin(None);
        self.node.clock_was_moved(clock::now(), &mut self.out).expect("a move that goes well");
        assert_eq!(self.out.drain().count(), 0, "what is due is told when it is woken");
    }

    /// A node of other settings takes its place, and what it remembers.
    pub fn reload(self, node_type: &dyn NodeType, text: &str) -> Rig {
        let memory = self.node.save();
        drop(self.node);
        Rig::at(node_type, text, Site { memory, ..site(None) })
    }

    /// The same after a restart: what it remembers was on a disk, and its promises are gone.
    pub fn restart(self, node_type: &dyn NodeType, text: &str) -> Rig {
        let saved = self.node.save();
        drop(self.node);
        let memory = saved.map(|saved| Saved { held: Vec::new(), ..saved });
        Rig::at(node_type, text, Site { memory, ..site(None) })
    }
}

/// What a message says that a node sent. It arrived.
pub fn delivered(envelope: Envelope) -> Value {
    Delivery::settle_all(envelope.delivery);
    envelope.message.payload.value().expect("what a node sends can be read").clone()
}

/// A wall clock on this thread that goes with the stopped clock of a test, and that somebody can set.
pub struct WallClock {
    wall: Arc<Mutex<(Instant, i64, bool)>>,
    _replaced: clock::Replaced,
}

impl WallClock {
    /// A clock that is right, and shows this second since 1970.
    pub fn at(second: i64) -> WallClock {
        WallClock::new(second, true)
    }

    /// A clock that nobody has set yet.
    pub fn not_set(second: i64) -> WallClock {
        WallClock::new(second, false)
    }

    /// Somebody sets it to this second since 1970.
    pub fn set(&self, second: i64) {
        *self.wall.lock().unwrap_or_else(PoisonError::into_inner) =
            (Instant::now(), second * NANOS_PER_SECOND, true);
    }

    fn new(second: i64, is_set: bool) -> WallClock {
        let began = Instant::now();
        let wall = Arc::new(Mutex::new((began, second * NANOS_PER_SECOND, is_set)));
        let shared = Arc::clone(&wall);
        let nanos = |passed: Duration| i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX);
        let replaced = clock::replace(Arc::new(move || {
            let (since, wall, is_set) = *shared.lock().unwrap_or_else(PoisonError::into_inner);
            Moment {
                boot: 7,
                uptime_nanos: nanos(began.elapsed()),
                wall_nanos: wall + nanos(since.elapsed()),
                is_set,
            }
        }));
        WallClock { wall, _replaced: replaced }
    }
}

/// Where an outlet's messages end.
pub struct Collected {
    /// What was sent, with the promise to deliver it: settle or drop it.
    pub envelopes: mpsc::Receiver<Envelope>,
    /// What was reported as an error.
    pub errors: mpsc::Receiver<String>,
    wires: Arc<Collector>,
}

impl Collected {
    /// From now on the outlet takes nothing new.
    pub fn drain(&self) {
        self.wires.draining.store(true, Ordering::Release);
    }
}

struct Collector {
    envelopes: mpsc::Sender<Envelope>,
    errors: mpsc::Sender<String>,
    waiting: Mutex<Vec<Envelope>>,
    draining: AtomicBool,
}

/// An outlet with room for `capacity` messages.
pub fn outlet(capacity: usize) -> (Outlet, Collected) {
    const ERRORS: usize = 1024;
    let (envelopes, envelopes_out) = mpsc::channel(capacity);
    let (errors, errors_out) = mpsc::channel(ERRORS);
    let collector = Collector {
        envelopes,
        errors,
        waiting: Mutex::default(),
        draining: AtomicBool::new(false),
    };
    let wires = Arc::new(collector);
    let outlet = Outlet::new("test/node", Arc::clone(&wires) as Arc<dyn Wires>);
    (outlet, Collected { envelopes: envelopes_out, errors: errors_out, wires })
}

impl Wires for Collector {
    fn post(&self, _: Port, envelope: Envelope) -> bool {
        match self.envelopes.try_send(envelope) {
            Ok(()) => true,
            Err(error) => {
                self.waiting.lock().expect("no test panics here").push(error.into_inner());
                false
            }
        }
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        async {
            loop {
                let Some(envelope) = self.waiting.lock().expect("no test panics here").pop() else {
                    return;
                };
                // A test that dropped its end wants no more.
                let _ = self.envelopes.send(envelope).await;
            }
        }
        .boxed()
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn report(&self, error: &anyhow::Error, _: Option<Message>) -> bool {
        let _ = self.errors.try_send(format!("{error:#}"));
        true
    }

    fn ready(&self) {}
}

/// What was said by a [`voice`].
#[derive(Default)]
pub struct Heard(Mutex<Said>);

/// What was said so far.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Each time the other side was there.
    pub ready: usize,
    /// Each time something got through.
    pub works: usize,
    /// What went wrong.
    pub troubles: Vec<String>,
    /// What is wrong and lasts, by its name, each with the reason it was last seen for.
    pub lasting: BTreeMap<String, String>,
    /// What was counted.
    pub figures: BTreeMap<Figure, u64>,
    /// Why messages were dropped.
    pub dropped: Vec<String>,
    /// Each share of its time that a bus was busy.
    pub busy: Vec<f64>,
    /// Whose buffer is full, as [`Heard::hold_up`] has it.
    held_up_by: Option<Arc<str>>,
}

/// A voice, and what it says.
pub fn voice() -> (Voice, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    (Voice::new(Arc::clone(&heard) as Arc<dyn Hears>), heard)
}

impl Heard {
    /// What was said so far.
    pub fn said(&self) -> Said {
        self.lock().clone()
    }

    /// From now on the node waits for room in the buffer of this one.
    pub fn hold_up(&self, by: &str) {
        self.lock().held_up_by = Some(by.into());
    }

    /// What was counted so far.
    pub fn figure(&self, figure: Figure) -> u64 {
        self.lock().figures.get(&figure).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hears for Heard {
    fn ready(&self) {
        self.lock().ready += 1;
    }

    fn works(&self) {
        self.lock().works += 1;
    }

    fn trouble(&self, error: &anyhow::Error) {
        self.lock().troubles.push(format!("{error:#}"));
    }

    fn trouble_lasts(&self, what: &str, why: &anyhow::Error) {
        self.lock().lasting.insert(what.to_owned(), format!("{why:#}"));
    }

    fn trouble_is_over(&self, what: &str) {
        self.lock().lasting.remove(what);
    }

    fn count(&self, figure: Figure, by: u64) {
        *self.lock().figures.entry(figure).or_default() += by;
    }

    fn dropped(&self, by: u64, why: &str) {
        self.count(Figure::Dropped, by);
        self.lock().dropped.push(why.to_owned());
    }

    fn busy(&self, share: f64) {
        self.lock().busy.push(share);
    }

    fn held_up_by(&self) -> Option<Arc<str>> {
        self.lock().held_up_by.clone()
    }
}
