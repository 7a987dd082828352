//! What a router is told to do, once at most.

use std::time::Duration;

use forebay_sdk::{
    Emitter, Message, Node, Problem, WriteError, node::DynSink, testing, world::memory::Memory,
};
use serde_json::{Value, json};

use super::{
    NOW, Running, connect, message, settings,
    shapes::modem,
    simulated::{Fault, Simulated},
};

const ALL: &str = "allow: [output, sms, reboot, sim]\nrate: 60/m\n";

struct Rig {
    router: Simulated,
    running: Running,
    _memory: Memory,
}

impl Rig {
    fn new(more: &str) -> Rig {
        let memory = Memory::new(NOW);
        let router = Simulated::start(&memory);
        router.put("/api/modems/status", modem());
        router.put(
            "/api/sim_cards/config",
            json!([
                { "id": "cfg01aa0e", "modem": "2-1", "position": "1", "primary": "1" },
                { "id": "cfg02aa0e", "modem": "2-1", "position": "2", "primary": "0" },
            ]),
        );
        let running = connect(&memory, &settings(&format!("provider: rutos\n{more}")));
        Rig { router, running, _memory: memory }
    }

    fn sink(&self, settings: &str) -> Box<dyn DynSink> {
        let node = testing::build(&crate::sink(), settings, Some(self.running.shared.clone()));
        let Node::Sink(sink) = node else { panic!("not a sink") };
        sink
    }

    /// What was answered, or what went wrong.
    async fn write(&self, settings: &str, payload: Value) -> Result<Value, WriteError> {
        write(&mut self.sink(settings), message(payload)).await
    }

    /// The last of what was asked, with its body.
    fn last(&self) -> (String, Value) {
        let state = self.router.state();
        (state.asked.last().unwrap().clone(), state.bodies.last().unwrap().clone())
    }
}

async fn write(sink: &mut Box<dyn DynSink>, message: Message) -> Result<Value, WriteError> {
    let mut out = Emitter::default();
    sink.connect().await.unwrap();
    out.begin(None);
    sink.write(&[message], &mut out).await?;
    out.end().unwrap();
    Ok(testing::delivered(out.drain().next().unwrap().1))
}

#[tokio::test(start_paused = true)]
async fn outputs_texts_restarts_and_sims() {
    let rig = Rig::new(ALL);
    let answer = rig.write("action: output\noutputs: [dout1]", json!(true)).await.unwrap();
    assert_eq!(
        answer,
        json!({ "done": [{ "action": "output", "output": "dout1", "value": true }] })
    );
    let expected = json!({ "data": { "value": "1" } });
    assert_eq!(rig.last(), ("POST /api/io/dout1/actions/change_state".to_owned(), expected));
    tokio::time::sleep(Duration::from_secs(2)).await;
    rig.write("action: output\noutputs: [dout1, relay0]", json!({ "relay0": "off" }))
        .await
        .unwrap();
    let expected = json!({ "data": { "state": "open" } });
    assert_eq!(rig.last(), ("POST /api/io/relay0/actions/change_state".to_owned(), expected));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let text = json!({ "text": "Tank is full" });
    let answer = rig.write("action: sms\nto: [\"+491701234567\"]", text).await.unwrap();
    assert_eq!(answer, json!({ "done": [{ "action": "sms", "to": "+491701234567" }] }));
    let expected =
        json!({ "data": { "modem": "2-1", "number": "+491701234567", "message": "Tank is full" } });
    assert_eq!(rig.last(), ("POST /api/messages/actions/send".to_owned(), expected));
    tokio::time::sleep(Duration::from_secs(2)).await;
    rig.write("action: sim", json!({ "sim": 2 })).await.unwrap();
    let expected = json!({ "data": { "id": "cfg02aa0e", "primary": "1" } });
    assert_eq!(rig.last(), ("PUT /api/sim_cards/config/cfg02aa0e".to_owned(), expected));
    tokio::time::sleep(Duration::from_secs(2)).await;
    rig.write("action: reboot", json!({ "reboot": true })).await.unwrap();
    assert_eq!(rig.last().0, "POST /api/system/actions/reboot");
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_does_not_name_is_not_done() {
    let rig = Rig::new(ALL);
    for (settings, payload, expected) in [
        (
            "action: output\noutputs: [dout1]",
            json!({ "dout2": true }),
            "`dout2` is not among the `outputs`",
        ),
        (
            "action: output\noutputs: [dout1]",
            json!("maybe"),
            "setting `dout1`: expected true or false",
        ),
        ("action: output\noutputs: [dout1]", json!({}), "the message names no output"),
        (
            "action: sms\nto: [\"+491\"]",
            json!({ "text": "a", "to": "+492" }),
            "`+492` is not among `to`",
        ),
        ("action: sms\nto: [\"+491\"]", json!({ "level": 3 }), "expected a text"),
        ("action: reboot", json!({ "level": 3 }), "expected true, or {\"reboot\": true}"),
        ("action: reboot", json!("true"), "expected true"),
        ("action: sim", json!(0), "expected the slot of a SIM"),
        ("action: sim", json!(3), "the router has no SIM 3"),
    ] {
        let Err(WriteError::Reject(error)) = rig.write(settings, payload).await else {
            panic!("{settings}: it was not refused");
        };
        assert!(format!("{error:#}").starts_with(expected), "{error:#}");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let state = rig.router.state();
    let done = state.asked.iter().filter(|it| it.contains("actions") || it.starts_with("PUT"));
    assert_eq!(done.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_text_whose_answer_never_came_is_in_doubt_and_not_sent_again() {
    for fault in [Fault::DoneInSilence, Fault::Half, Fault::Status(502)] {
        let rig = Rig::new(ALL);
        let settings = "action: sms\nto: [\"+491701234567\"]\ntext: Alarm";
        let mut sink = rig.sink(settings);
        sink.connect().await.unwrap();
        // After the question about the modem.
        rig.router.state().faults = [Fault::None, fault].into();
        let outcome = write(&mut sink, message(json!(1))).await;
        assert!(matches!(outcome, Err(WriteError::InDoubt(_))), "{fault:?} {outcome:?}");
        assert_eq!(rig.router.count("/api/messages/actions/send"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_forgotten_costs_an_action_one_login_and_no_doubt() {
    let rig = Rig::new(ALL);
    let mut sink = rig.sink("action: output\noutputs: [dout1]");
    sink.connect().await.unwrap();
    tokio::time::sleep(Duration::from_secs(200)).await;
    rig.router.state().faults = [Fault::Boot].into();
    write(&mut sink, message(json!(true))).await.unwrap();
    assert_eq!(rig.router.count("/api/login"), 2);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_done_than_the_rate_of_the_connection() {
    let rig = Rig::new("allow: [output]\nrate: 2/m\n");
    let mut sink = rig.sink("action: output\noutputs: [dout1]");
    write(&mut sink, message(json!(true))).await.unwrap();
    let outcome = write(&mut sink, message(json!(false))).await;
    let Err(WriteError::Retry { error, .. }) = outcome else { panic!("it was done: {outcome:?}") };
    assert!(error.to_string().starts_with("no more than `rate: 2/m`"), "{error}");
    tokio::time::sleep(Duration::from_secs(30)).await;
    write(&mut sink, message(json!(false))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_text_to_two_numbers_is_one_message_for_the_rate() {
    let rig = Rig::new("allow: [sms]\nrate: 1/h\n");
    let settings = "action: sms\nto: [\"+491701\", \"+491702\"]\ntext: Alarm";
    let answer = rig.write(settings, json!(1)).await.unwrap();
    assert_eq!(answer["done"][1]["to"], "+491702");
    assert_eq!(rig.router.count("/api/messages/actions/send"), 2);
    let outcome = rig.write(settings, json!(1)).await;
    let Err(WriteError::Retry { after, .. }) = outcome else { panic!("it was done: {outcome:?}") };
    let after = after.expect("it is known when the next may be");
    assert!((3590..=3600).contains(&after.as_secs()), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_in_the_midst_of_a_message_is_in_doubt() {
    let rig = Rig::new(ALL);
    let settings = "action: sms\nto: [\"+491701\", \"+491702\"]\ntext: Alarm";
    let mut sink = rig.sink(settings);
    sink.connect().await.unwrap();
    // Questions about the modem stand between the texts.
    rig.router.state().faults = [Fault::None, Fault::None, Fault::None, Fault::Status(422)].into();
    let outcome = write(&mut sink, message(json!(1))).await;
    let Err(WriteError::InDoubt(error)) = outcome else { panic!("it was done: {outcome:?}") };
    assert_eq!(error.to_string(), "1 of its actions were carried out before this one");
}

#[tokio::test(start_paused = true)]
async fn what_came_to_nothing_costs_no_turn_of_the_rate() {
    let rig = Rig::new("allow: [sms]\nrate: 1/h\n");
    let mut sink = rig.sink("action: sms\nto: [\"+491701\"]\ntext: Alarm");
    sink.connect().await.unwrap();
    rig.router.state().faults = [Fault::Status(503)].into();
    let outcome = write(&mut sink, message(json!(1))).await;
    assert!(matches!(outcome, Err(WriteError::Retry { .. })), "{outcome:?}");
    write(&mut sink, message(json!(1))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_does_nothing_and_answers_the_same() {
    let rig = Rig::new(ALL);
    let answer = rig.write("action: output\noutputs: [dout1]\ndry_run: true", json!(true)).await;
    assert_eq!(answer.unwrap()["done"][0]["value"], true);
    assert_eq!(rig.router.count("change_state"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_waited_through_an_outage_is_refused() {
    let rig = Rig::new(ALL);
    let clock = testing::WallClock::at(NOW / 1_000_000_000);
    let old = message(json!(true));
    clock.set(NOW / 1_000_000_000 + 601);
    let mut sink = rig.sink("action: output\noutputs: [dout1]\nexpires_after: 10m");
    let outcome = write(&mut sink, old).await;
    assert!(matches!(outcome, Err(WriteError::Reject(_))), "{outcome:?}");
}

#[tokio::test]
async fn an_action_that_the_connection_does_not_name_is_found_by_lint() {
    let connection =
        testing::configure(&crate::connection(), &settings("allow: [output]\n")).unwrap();
    let sink = testing::configure(&crate::sink(), "action: sms\nto: [\"+491\"]\ntext: a").unwrap();
    let found: Vec<Problem> = sink.check_on(&*connection as &dyn std::any::Any);
    assert_eq!(found[0].message, "the connection does not allow `sms`");
    assert_eq!(found[0].of_connection, Some(("allow", "[output, sms]".to_owned())));
}
