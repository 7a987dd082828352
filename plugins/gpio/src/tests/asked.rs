//! Inputs and outputs of a router, which are asked for.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::anyhow;
use forebay_sdk::{
    Emitter, NodeType, WriteError,
    node::DynSink,
    panel::{Panel, SharedPanel},
    testing::{configure, outlet},
};
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::json;

use super::*;
use crate::{sink, source};

/// A router with an input and an output.
#[derive(Default)]
struct Router {
    levels: Mutex<BTreeMap<String, bool>>,
    counts: Mutex<BTreeMap<String, u64>>,
    asked: AtomicUsize,
    /// It does not answer.
    is_away: Mutex<bool>,
    /// Outputs that stay as they are.
    stuck: Mutex<bool>,
}

impl Router {
    fn new() -> Arc<Router> {
        let router = Router::default();
        for name in ["din1", "dout1"] {
            router.put(name, false);
        }
        Arc::new(router)
    }

    fn put(&self, name: &str, level: bool) {
        self.levels.lock().unwrap().insert(name.to_owned(), level);
    }

    fn answer(&self) -> anyhow::Result<()> {
        match *self.is_away.lock().unwrap() {
            true => Err(anyhow!("the router does not answer")),
            false => Ok(()),
        }
    }

    fn site(self: &Arc<Router>) -> Site {
        let panel = SharedPanel(Arc::clone(self) as Arc<dyn Panel>);
        let shared = Shared::new(Arc::new(())).also(Arc::new(panel));
        testing::site(Some(shared))
    }
}

impl Panel for Router {
    fn ready(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async { self.answer() }.boxed()
    }

    fn levels(&self) -> BoxFuture<'_, anyhow::Result<BTreeMap<String, bool>>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        async { self.answer().map(|()| self.levels.lock().unwrap().clone()) }.boxed()
    }

    fn counts(&self) -> BoxFuture<'_, anyhow::Result<BTreeMap<String, u64>>> {
        async { self.answer().map(|()| self.counts.lock().unwrap().clone()) }.boxed()
    }

    fn set(&self, name: &str, level: bool) -> BoxFuture<'_, Result<(), WriteError>> {
        let name = name.to_owned();
        async move {
            self.answer()?;
            if !*self.stuck.lock().unwrap() {
                self.put(&name, level);
            }
            Ok(())
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn inputs_of_a_router_are_told_as_those_of_a_chip_are() {
    let router = Router::new();
    let (voice, heard) = testing::voice();
    let settings = "lines: [{ name: door, line: din1, active_low: true, debounce: 2s }, { name: gas, line: din9 }]";
    let site = Site { voice, ..router.site() };
    let Node::Source(mut node) = build_at(&source(), settings, site) else { panic!("a source") };
    let (out, mut sent) = outlet(100);
    let task = tokio::spawn(async move { node.run(&out).await });
    let first = next(&mut sent).await;
    assert_eq!(
        (said(&first), first.meta.get("initial")),
        (json!({ "door": true }), Some(&json!(true)))
    );
    let lasting = heard.said().lasting;
    assert_eq!(lasting["input `gas`"], "the router has no `din9`; it has `din1`, `dout1`");
    router.put("din1", true);
    sleep(Duration::from_millis(1500)).await;
    router.put("din1", false);
    sleep(Duration::from_secs(5)).await;
    assert!(sent.envelopes.try_recv().is_err(), "it did not last");
    router.put("din1", true);
    assert_eq!(said(&next(&mut sent).await), json!({ "door": false }));
    let before = router.asked.load(Ordering::Relaxed);
    sleep(Duration::from_secs(60)).await;
    let asked = router.asked.load(Ordering::Relaxed) - before;
    assert!((59..=61).contains(&asked), "about once each second: {asked}");
    *router.is_away.lock().unwrap() = true;
    let ended = timeout(DEADLINE, task).await.unwrap().unwrap();
    assert_eq!(ended.unwrap_err().to_string(), "the router does not answer");
}

#[tokio::test(start_paused = true)]
async fn pulses_that_the_router_has_counted_are_counted_also_while_nobody_looks() {
    let router = Router::new();
    let data = tempfile::tempdir().unwrap();
    let settings =
        "lines: [{ name: water, line: din1, count: { per_unit: 10, start: 100, rate: flow, per: 1s,
        impulse_counter: true } }]";
    let (voice, heard) = testing::voice();
    let run = || {
        let site = Site { voice: voice.clone(), data: data.path().into(), ..router.site() };
        let Node::Source(mut node) = build_at(&source(), settings, site) else {
            panic!("a source")
        };
        let (out, sent) = outlet(100);
        (tokio::spawn(async move { node.run(&out).await }), sent)
    };
    let count = |pulses: u64| router.counts.lock().unwrap().insert("din1".to_owned(), pulses);
    let (task, mut sent) = run();
    assert_eq!(said(&next(&mut sent).await)["water"], json!(100));
    let lasting = heard.said().lasting;
    assert_eq!(
        lasting["input `water`"],
        "`din1`: the router counts no pulses of it: its impulse counter is off, or has no such input"
    );
    count(5000);
    sleep(Duration::from_secs(2)).await;
    count(5030);
    assert_eq!(said(&next(&mut sent).await)["water"], json!(103));
    assert!(heard.said().lasting.is_empty());
    // Each of them fell between two looks at its level.
    assert_eq!(router.asked.load(Ordering::Relaxed), 0);
    count(5050);
    assert_eq!(said(&next(&mut sent).await)["water"], json!(105));
    // While the program is away, more come.
    task.abort();
    let _ = task.await;
    count(5100);
    let (_task, mut sent) = run();
    assert_eq!(said(&next(&mut sent).await)["water"], json!(110));
}

fn sink_on(router: &Arc<Router>, more: &str) -> Box<dyn DynSink> {
    let settings =
        format!("lines: [{{ name: lamp, line: dout1 }}, {{ name: fan, line: relay0 }}]{more}");
    let Node::Sink(sink) = build_at(&sink(), &settings, router.site()) else { panic!("a sink") };
    sink
}

async fn write(sink: &mut dyn DynSink, payload: Value) -> (Result<(), WriteError>, Option<Value>) {
    let mut out = Emitter::default();
    let written = sink.write(&[Message::new("cmd", payload)], &mut out).await;
    let answer = out.drain().next().map(|(_, envelope)| said(&envelope.message));
    (written.map(drop), answer)
}

#[tokio::test(start_paused = true)]
async fn outputs_of_a_router_are_switched_and_read_back() {
    let router = Router::new();
    let mut sink = sink_on(&router, "\nverify: true");
    sink.connect().await.unwrap();
    let (written, answer) = write(&mut *sink, json!({ "lamp": "on" })).await;
    written.unwrap();
    assert_eq!(answer, Some(json!({ "written": { "lamp": true }, "read": { "lamp": true } })));
    let (_, answer) = write(&mut *sink, json!({ "lamp": "toggle" })).await;
    assert_eq!(answer.unwrap()["written"], json!({ "lamp": false }));
    *router.stuck.lock().unwrap() = true;
    let Err(WriteError::Reject(error)) = write(&mut *sink, json!({ "lamp": true })).await.0 else {
        panic!("it is stuck");
    };
    assert_eq!(format!("{error:#}"), "output `lamp`: switched it on, and the line is off");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_a_router_has_half_done_is_not_given_again() {
    let router = Router::new();
    let mut sink = sink_on(&router, "");
    let (written, _) = write(&mut *sink, json!({ "lamp": true, "fan": "toggle" })).await;
    let Err(WriteError::Reject(error)) = written else { panic!("there is no relay0") };
    assert_eq!(error.to_string(), "the router has no `relay0`");
    *router.is_away.lock().unwrap() = true;
    let (written, _) = write(&mut *sink, json!({ "lamp": true })).await;
    assert!(matches!(written, Err(WriteError::Retry { .. })), "nothing happened yet");
}

#[test]
fn what_only_a_chip_can_do_is_found_on_a_router() {
    let check = |node_type: &dyn NodeType, text: &str| {
        let connection: &dyn Any = &"a router";
        let problems = configure(node_type, text).unwrap().check_on(connection);
        problems
            .into_iter()
            .map(|problem| format!("{}: {}", problem.setting, problem.message))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        check(&source(), "lines: [{ name: a, line: 17 }, { name: b, line: din1 }]"),
        ["lines[0].line: a router has no line 17"]
    );
    assert_eq!(
        check(&source(), "lines: [{ name: a, line: din1, bias: pull_up }]"),
        ["lines[0].bias: input `a` of a router has no `bias`"]
    );
    assert_eq!(
        check(&sink(), "lines: [{ name: a, line: dout1, pulse: 1s }]"),
        ["lines[0].pulse: output `a` of a router has no `pulse`"]
    );
    assert_eq!(
        check(&sink(), "lines: [{ name: a, line: dout1, active_low: true }]"),
        [] as [String; 0]
    );
}
