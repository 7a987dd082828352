//! Hands a node the messages of a test, and compares what comes of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use forebay_sdk::{Fault, Message, Moment, clock};

use super::super::tried::Tried;
use super::{
    differences::{differences, one_line},
    written::{Expected, Sent, Test},
};

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
    let Some(mut node) = Tried::new("test/node", &*test.configured) else {
        return vec!["only transforms can be tested".to_owned()];
    };
    let mut came = Came::default();
    for sent in &test.send {
        if let Some(at) = sent.at {
            nanos.store(nanos_of(*at), Ordering::Relaxed);
        }
        send(&mut node, sent, &mut came);
    }
    compare(test, &came)
}

fn moment(nanos: i64) -> Moment {
    let wall_nanos = BEGIN_NANOS.saturating_add(nanos);
    Moment { boot: 1, uptime_nanos: nanos, wall_nanos, is_set: true }
}

fn nanos_of(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn send(node: &mut Tried, sent: &Sent, came: &mut Came) {
    let mut message = Message::new(sent.topic.as_str(), sent.payload.clone());
    sent.meta.iter().for_each(|(name, value)| message.meta.insert(name, value.clone()));
    match node.send(message) {
        Ok(made) => {
            for (output, message) in made {
                came.messages.entry(output).or_default().push(message);
            }
        }
        Err(error) => came.errors.push(match error.downcast_ref::<Fault>() {
            Some(fault) => format!("{}: {}", fault.place(), fault.words),
            None => format!("{error:#}"),
        }),
    }
}

fn compare(test: &Test, came: &Came) -> Vec<String> {
    let mut failures = Vec::new();
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

fn message_differs<'a>(
    expected: &'a Expected,
    message: &'a Message,
) -> impl Iterator<Item = String> + use<> {
    let mut failures = Vec::new();
    if let Some(topic) = expected.topic.as_ref().filter(|topic| ***topic != *message.topic) {
        failures.push(format!("topic: expected \"{topic}\", found \"{}\"", message.topic));
    }
    if let Some(payload) = &expected.payload {
        failures.extend(differences("payload", payload, &message.payload.to_value_lossy()));
    }
    for (name, value) in expected.meta.iter().flatten() {
        let path = format!("meta.{name}");
        match message.meta.get(name) {
            Some(found) => failures.extend(differences(&path, value, found)),
            None => failures.push(format!("{path}: expected {}, found nothing", one_line(value))),
        }
    }
    failures.into_iter()
}

fn said(message: &Message) -> String {
    format!("\"{}\" {}", message.topic, one_line(&message.payload.to_value_lossy()))
}
