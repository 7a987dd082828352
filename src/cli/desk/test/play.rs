//! Hands a node the messages of a test, and compares what comes of them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use forebay_sdk::{Configured, Message, Moment, Payload, Role, Value, World, clock, web::Request};

use super::super::super::tried::Tried;
use super::{
    answers::Answers,
    differences::{Likeness, differences, one_line},
    written::{Asked, Expected, Sent, Subject, Test},
};
use crate::config::{Name, WHOLE, Wires};

/// 2026-01-01T00:00:00Z.
const BEGIN_NANOS: i64 = 1_767_225_600_000_000_000;

/// What came of a test: messages by output, and errors.
#[derive(Default)]
struct Came {
    messages: BTreeMap<String, Vec<Message>>,
    errors: Vec<String>,
}

/// What is otherwise than the test expects.
pub(super) fn play(test: &Test) -> Vec<String> {
    let nanos = Arc::new(AtomicI64::new(0));
    let stands = Arc::clone(&nanos);
    let _replaced = clock::replace(Arc::new(move || moment(stands.load(Ordering::Relaxed))));
    let given = test.answers.iter().map(|answer| (answer.status, answer.payload.clone()));
    let answers = Answers::new(given);
    let world = World::system().with_web(Arc::new(answers.clone()));
    let Some(mut player) = Player::new(&test.subject, &world) else {
        return vec!["only what computes can be tested by itself".to_owned()];
    };
    let mut came = Came::default();
    for sent in &test.send {
        if let Some(at) = sent.at {
            nanos.store(nanos_of(*at), Ordering::Relaxed);
        }
        send(&mut player, sent, &mut came);
    }
    compare(test, &came, &answers.asked())
}

/// What is tested, as it runs.
enum Player {
    Node(Tried),
    /// Each node of a graph, and who reads whom.
    Whole(BTreeMap<Name, Tried>, Wires),
}

impl Player {
    fn new(subject: &Subject, world: &World) -> Option<Player> {
        let tried =
            |configured: &dyn Configured| Tried::new("test/node", configured, world.clone());
        match subject {
            Subject::Node(configured) => tried(&**configured).map(Player::Node),
            Subject::Whole(graph) => {
                let transforms =
                    graph.nodes.iter().filter(|(_, spec)| spec.role == Role::Transform);
                let nodes = transforms
                    .map(|(name, spec)| Some((Arc::clone(name), tried(&*spec.configured)?)));
                Some(Player::Whole(nodes.collect::<Option<_>>()?, graph.wires()))
            }
        }
    }

    /// What comes of a message, and what goes wrong on the way.
    fn send(&mut self, message: Message) -> (Vec<(String, Message)>, Vec<anyhow::Error>) {
        match self {
            Player::Node(node) => match node.send(message) {
                Ok(made) => (made, Vec::new()),
                Err(error) => (Vec::new(), vec![error]),
            },
            Player::Whole(nodes, wires) => pass(nodes, wires, message),
        }
    }
}

/// Passes a message through a graph, from node to node.
fn pass(
    nodes: &mut BTreeMap<Name, Tried>,
    wires: &Wires,
    message: Message,
) -> (Vec<(String, Message)>, Vec<anyhow::Error>) {
    let (mut came, mut errors) = (Vec::new(), Vec::new());
    let begin: Name = "test/in".into();
    let mut under_way = VecDeque::from([(begin, "main".to_owned(), message)]);
    while let Some((from, output, message)) = under_way.pop_front() {
        if *from == *WHOLE {
            came.push((output.clone(), message.clone()));
        }
        let readers = wires.get(&from).into_iter().flatten();
        for wire in readers.filter(|wire| output_of(&wire.written) == output) {
            let Some(node) = nodes.get_mut(&wire.reader) else { continue };
            match node.send(message.clone()) {
                Ok(made) => {
                    let made = made.into_iter();
                    under_way.extend(made.map(|(o, m)| (Arc::clone(&wire.reader), o, m)));
                }
                Err(error) => errors.push(error),
            }
        }
    }
    (came, errors)
}

/// The output that a reader names: `high` of `:route.high`.
fn output_of(written: &str) -> &str {
    written.split_once('.').map_or("main", |(_, output)| output)
}

fn moment(nanos: i64) -> Moment {
    let wall_nanos = BEGIN_NANOS.saturating_add(nanos);
    Moment { boot: 1, uptime_nanos: nanos, wall_nanos, is_set: true }
}

fn nanos_of(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn send(player: &mut Player, sent: &Sent, came: &mut Came) {
    let mut message = Message::new(sent.topic.as_str(), sent.payload.clone());
    sent.meta.iter().for_each(|(name, value)| message.meta.insert(name, value.clone()));
    let (made, errors) = player.send(message);
    for (output, message) in made {
        came.messages.entry(output).or_default().push(message);
    }
    came.errors.extend(errors.into_iter().map(|error| format!("{error:#}")));
}

fn compare(test: &Test, came: &Came, asked: &[Request]) -> Vec<String> {
    let mut failures = requests_differ(&test.requests, asked);
    let names: std::collections::BTreeSet<&String> =
        test.expect.keys().chain(came.messages.keys()).collect();
    for name in names {
        let expected = test.expect.get(name).map_or(&[][..], Vec::as_slice);
        let messages = came.messages.get(name).map_or(&[][..], Vec::as_slice);
        let of = if name == "main" { String::new() } else { format!("output `{name}`, ") };
        for (index, message) in messages.iter().enumerate() {
            let what = format!("{of}message {}", index + 1);
            match expected.get(index) {
                Some(expected) => failures.extend(
                    message_differs(expected, message).map(|words| format!("{what}: {words}")),
                ),
                None => failures.push(format!("{what} was not expected: {}", said(message))),
            }
        }
        for missing in messages.len()..expected.len() {
            failures.push(format!("{of}message {} did not come", missing + 1));
        }
    }
    for (index, error) in came.errors.iter().enumerate() {
        match test.errors.get(index) {
            Some(part) if error.contains(part.as_str()) => (),
            Some(part) => {
                failures.push(format!("error {}: expected \"{part}\", found: {error}", index + 1))
            }
            None => failures.push(format!("error {} was not expected: {error}", index + 1)),
        }
    }
    for missing in test.errors.iter().skip(came.errors.len()) {
        failures.push(format!("an error did not come: \"{missing}\""));
    }
    failures
}

fn requests_differ(expected: &[Asked], asked: &[Request]) -> Vec<String> {
    let mut failures = Vec::new();
    for (index, request) in asked.iter().enumerate() {
        let what = format!("request {}", index + 1);
        match expected.get(index) {
            Some(expected) => failures.extend(
                request_differs(expected, request)
                    .into_iter()
                    .map(|words| format!("{what}: {words}")),
            ),
            None => {
                failures
                    .push(format!("{what} was not expected: {} {}", request.method, request.url));
            }
        }
    }
    for missing in asked.len()..expected.len() {
        failures.push(format!("request {} did not come", missing + 1));
    }
    failures
}

fn request_differs(expected: &Asked, asked: &Request) -> Vec<String> {
    let mut failures = Vec::new();
    let texts = [("method", &expected.method, &asked.method), ("url", &expected.url, &asked.url)];
    for (name, expected, found) in texts {
        if let Some(expected) = expected.as_ref().filter(|expected| *expected != found) {
            failures.push(format!("{name}: expected \"{expected}\", found \"{found}\""));
        }
    }
    for (name, value) in expected.headers.iter().flatten() {
        let found = asked.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        match found {
            Some((_, found)) if found == value => (),
            Some((_, found)) => {
                failures.push(format!("headers.{name}: expected \"{value}\", found \"{found}\""));
            }
            None => failures.push(format!("headers.{name}: expected \"{value}\", found nothing")),
        }
    }
    if let Some(body) = &expected.body {
        let found = match &asked.body {
            Some((format, bytes)) => Payload::encoded(bytes.clone(), *format).to_value_lossy(),
            None => Value::Null,
        };
        failures.extend(differences("body", body, &found, Likeness::default()));
    }
    failures
}

fn message_differs<'a>(
    expected: &'a Expected,
    message: &'a Message,
) -> impl Iterator<Item = String> + use<> {
    let mut failures = Vec::new();
    if let Some(topic) = expected.topic.as_ref().filter(|topic| ***topic != *message.topic) {
        failures.push(format!("topic: expected \"{topic}\", found \"{}\"", message.topic));
    }
    if let Some(payload) = &expected.payload {
        failures.extend(differences(
            "payload",
            payload,
            &message.payload.to_value_lossy(),
            Likeness::default(),
        ));
    }
    for (name, value) in expected.meta.iter().flatten() {
        let path = format!("meta.{name}");
        match message.meta.get(name) {
            Some(found) => failures.extend(differences(&path, value, found, Likeness::default())),
            None => failures.push(format!("{path}: expected {}, found nothing", one_line(value))),
        }
    }
    failures.into_iter()
}

fn said(message: &Message) -> String {
    format!("\"{}\" {}", message.topic, one_line(&message.payload.to_value_lossy()))
}
