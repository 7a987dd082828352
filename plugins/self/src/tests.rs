use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use forebay_sdk::{
    Node, Site, Value, testing,
    world::{Program, memory::Memory},
};
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::own;

/// A program that says what it is told to say.
struct Said(Mutex<Option<Value>>);

impl Program for Said {
    fn status(&self) -> BoxFuture<'static, Option<Value>> {
        let said = self.0.lock().expect("nobody panics").clone();
        async { said }.boxed()
    }
}

/// With a sink of this state.
fn status(state: &str, change: u64) -> Value {
    json!({
        "version": "1.2.3", "pid": 7, "running_for_s": 90, "memory_bytes": 9_000_000, "clock_is_set": true,
        "health": { "state": if state == "running" { "well" } else { "degraded" }, "why": [] },
        "files": {
            "folder": "/etc/forebay", "data": "/d", "pipelines": 1,
            "since": { "number": change, "result": "reloaded", "at": "2026-11-29T12:00:00.000Z", "content": "c0", "findings": "" },
        },
        "nodes": [
            { "name": "a/out", "role": "sink", "type": "mqtt", "state": state, "for_s": 90, "counts": { "errors": 2, "lost": 1, "refused": 3, "bytes_to_disk": 900 },
              "errors_by_kind": { "not_taken": 2 }, "rule": "tried-again", "bytes_to_disk_a_day": 864_000,
              "queue": { "messages": 3, "bytes": 99, "used": 0.1 } },
            { "name": "a/beat", "role": "source", "type": "timer", "state": "running", "for_s": 90, "counts": { "emitted": 5 } },
        ],
        "connections": [],
        "reloads": [],
    })
}

/// What is sent while the status changes so, and when, in seconds.
async fn sent(settings: &str, changes: Vec<(u64, Option<Value>)>, until: u64) -> Vec<(u64, Value)> {
    let program = Arc::new(Said(Mutex::new(None)));
    let world = Memory::new(1_795_251_600_000_000_000).world();
    let world = world.with_program(Arc::clone(&program) as Arc<dyn Program>);
    let Node::Source(mut source) =
        testing::build_at(&own(), settings, Site { world, ..testing::site(None) })
    else {
        panic!("it is a source");
    };
    let (out, mut collected) = testing::outlet(100);
    let start = Instant::now();
    let mut sent = Vec::new();
    let listen = async {
        while let Some(envelope) = collected.envelopes.recv().await {
            let payload = envelope.message.payload.value().unwrap().clone();
            sent.push((start.elapsed().as_secs(), payload));
        }
    };
    let change = async {
        for (at, status) in changes {
            tokio::time::sleep_until(start + Duration::from_secs(at)).await;
            *program.0.lock().unwrap() = status;
        }
        sleep(Duration::from_secs(until) - start.elapsed()).await;
    };
    tokio::select! {
        biased;
        () = change => (),
        ended = source.run(&out) => panic!("it never ends: {ended:?}"),
        () = listen => (),
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn it_says_how_it_is_now_and_then_and_soon_after_a_change() {
    let changes = vec![
        (0, Some(status("running", 1))),
        (65, Some(status("waiting", 1))),
        (95, Some(status("running", 1))),
        (125, Some(status("running", 2))),
    ];
    let said = sent("every: 5m", changes, 440).await;
    let times: Vec<u64> = said.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [0, 70, 100, 130, 430]);
    let states: Vec<&Value> = said.iter().map(|(_, said)| &said["state"]).collect();
    assert_eq!(states, ["well", "degraded", "well", "well", "well"]);
    assert_eq!(said[3].1["files"]["change"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_has_what_is_wrong_and_no_more_unless_asked() {
    let of = async |settings: &str| {
        let said = sent(settings, vec![(0, Some(status("waiting", 4)))], 1).await;
        said.into_iter().next().expect("one is sent at once").1
    };
    let said = of("{}").await;
    let expected = json!({
        "state": "degraded", "why": [], "version": "1.2.3", "uptime_s": 90, "memory_bytes": 9_000_000,
        "clock_is_set": true, "pipelines": 1,
        "files": { "change": 4, "result": "reloaded", "at": "2026-11-29T12:00:00.000Z", "content": "c0" },
        "errors": 2, "lost": 4, "dropped": 0, "bytes_to_disk": 900,
        "nodes": { "a/out": {
            "state": "waiting", "for_s": 90, "counts": { "errors": 2, "lost": 1, "refused": 3, "bytes_to_disk": 900 },
            "errors_by_kind": { "not_taken": 2 }, "rule": "tried-again", "bytes_to_disk_a_day": 864_000,
            "queue": { "messages": 3, "bytes": 99, "used": 0.1 },
        } },
    });
    assert_eq!(said, expected);
    let names: Vec<&String> = said.as_object().unwrap().keys().collect();
    assert_eq!(names, super::summary::NAMES);
    assert_eq!(of("nodes: all").await["nodes"].as_object().unwrap().len(), 2);
    assert_eq!(of("nodes: none").await.get("nodes"), None);
}

#[tokio::test(start_paused = true)]
async fn while_the_program_begins_there_is_nothing_to_say() {
    let said = sent("{}", vec![(25, Some(status("running", 1)))], 60).await;
    assert_eq!(said.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [30]);
}

#[test]
fn a_beat_of_a_second_is_a_finding() {
    let wrong = testing::configure(&own(), "every: 1s").err().unwrap_or_default();
    assert!(wrong[0].contains("every"), "{wrong:?}");
}
