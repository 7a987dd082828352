//! Inputs and outputs, as nodes see them that know nothing of routers.

use forebay_sdk::{WriteError, panel::SharedPanel, world::memory::Memory};
use serde_json::json;

use super::{NOW, Running, connect, settings, simulated::Simulated};

fn start(more: &str) -> (Simulated, Running, Memory) {
    let memory = Memory::new(NOW);
    let router = Simulated::start(&memory);
    let pins = json!([
        { "id": "din1", "value": "1", "count": 12 },
        { "id": "relay0", "state": "open" },
        { "id": "adc0", "value": "12.3" },
    ]);
    router.put("/api/io/status", pins);
    router.put("/api/impulse_counter/status", json!({ "state": "1" }));
    let running = connect(&memory, &settings(&format!("provider: rutos\n{more}")));
    (router, running, memory)
}

#[tokio::test(start_paused = true)]
async fn digital_inputs_and_outputs_are_read_and_set() {
    let (router, running, _memory) = start("allow: [output]");
    let SharedPanel(panel) = &*running.shared.get().expect("a router has one");
    panel.ready().await.unwrap();
    let levels = panel.levels().await.unwrap();
    let levels: Vec<(&str, bool)> = levels.iter().map(|(name, level)| (&**name, *level)).collect();
    assert_eq!(levels, [("din1", true), ("relay0", false)]);
    assert!(panel.counts().await.unwrap().into_iter().eq([("din1".to_owned(), 12)]));
    router.put("/api/impulse_counter/status", json!({ "state": "0" }));
    assert!(panel.counts().await.unwrap().is_empty(), "its counter is off");
    panel.set("relay0", true).await.unwrap();
    let state = router.state();
    assert_eq!(state.asked.last().unwrap(), "POST /api/io/relay0/actions/change_state");
    assert_eq!(state.bodies.last(), Some(&json!({ "data": { "state": "closed" } })));
}

#[tokio::test(start_paused = true)]
async fn an_output_that_the_connection_does_not_allow_is_refused() {
    let (_router, running, _memory) = start("");
    let SharedPanel(panel) = &*running.shared.get().expect("a router has one");
    let Err(WriteError::Reject(error)) = panel.set("relay0", true).await else {
        panic!("it is not allowed");
    };
    assert_eq!(format!("{error:#}"), "`allow` of the connection does not name `output`");
}
