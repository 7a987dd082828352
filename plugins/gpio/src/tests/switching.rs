//! Sinks.

use forebay_sdk::{Emitter, Port, Timestamp, WriteError, Written, connection::Down, node::DynSink};
use serde_json::json;

use super::*;
use crate::sink;

const PUMP: u32 = 4;

/// A sink on a board.
struct Bench {
    board: Board,
    sink: Box<dyn DynSink>,
}

impl Bench {
    async fn new(settings: &str) -> Bench {
        Bench::on(Board::new(), settings).await
    }

    async fn on(board: Board, settings: &str) -> Bench {
        let sink = sink_on(&board, settings);
        let mut bench = Bench { board, sink };
        bench.sink.connect().await.expect("a chip that is there");
        bench
    }

    /// A sink of other settings takes its place.
    async fn reload(&mut self, settings: &str) {
        self.sink = sink_on(&self.board, "lines: [{ name: other, line: 7 }]");
        sleep(Duration::from_millis(300)).await;
        self.sink = sink_on(&self.board, settings);
        self.sink.connect().await.expect("a chip that is there");
        sleep(Duration::from_secs(10)).await;
    }

    async fn write(&mut self, payload: Value) -> (Result<Written, WriteError>, Option<Value>) {
        self.write_message(Message::new("cmd", payload)).await
    }

    async fn write_message(
        &mut self,
        message: Message,
    ) -> (Result<Written, WriteError>, Option<Value>) {
        let mut out = Emitter::default();
        let written = timeout(DEADLINE, self.sink.write(&[message], &mut out)).await.unwrap();
        let answer = out.drain().next().map(|(port, envelope)| {
            assert_eq!(port, Port::named(0));
            said(&envelope.message)
        });
        (written, answer)
    }

    async fn refused(&mut self, payload: Value) -> String {
        match self.write(payload).await.0 {
            Err(WriteError::Reject(error)) => format!("{error:#}"),
            other => panic!("{other:?}"),
        }
    }

    /// The levels on the line of the pump since the start: `0101`.
    fn driven(&self) -> String {
        let levels = self.board.pins().driven(CHIP, PUMP);
        levels.iter().map(|level| if *level { '1' } else { '0' }).collect()
    }
}

fn sink_on(board: &Board, settings: &str) -> Box<dyn DynSink> {
    let (site, _) = board.site();
    let Node::Sink(sink) = build_at(&sink(), settings, site) else { panic!("a sink") };
    sink
}

fn pump(more: &str) -> String {
    format!("lines: [{{ name: pump, line: PUMP{more} }}]")
}

#[tokio::test(start_paused = true)]
async fn a_level_is_read_as_devices_programs_and_people_write_it() {
    let mut bench = Bench::new(&pump("")).await;
    for (payload, level) in [
        (json!({ "pump": true }), true),
        (json!(0), false),
        (json!("on"), true),
        (json!({ "pump": "OFF" }), false),
        (json!({ "pump": 1 }), true),
        (json!("toggle"), false),
    ] {
        let (written, answer) = bench.write(payload).await;
        written.unwrap();
        assert_eq!(answer, Some(json!({ "written": { "pump": level }, "read": {} })));
    }
    assert_eq!(bench.driven(), "0101010");
    let (_, answer) = bench.write(json!({ "pump": null })).await;
    assert_eq!(answer, Some(json!({ "written": {}, "read": { "pump": false } })));
}

#[tokio::test(start_paused = true)]
async fn a_message_with_a_mistake_switches_nothing() {
    let settings = "lines: [{ name: pump, line: PUMP }, { name: fan, line: FAN }]";
    let mut bench = Bench::new(settings).await;
    for (payload, says) in [
        (json!({ "pump": true, "fen": true }), "`fen` is not among the `lines` of this sink"),
        (
            json!({ "pump": true, "fan": 2 }),
            "`fan`: expected true, false, 1, 0, \"on\", \"off\" or \"toggle\", found 2",
        ),
        (json!({ "pump": [] }), "found []"),
        (json!({}), "the message names no line"),
        (json!("on"), "expected a map from names of `lines` to levels"),
    ] {
        let error = bench.refused(payload).await;
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(bench.driven(), "0");
}

#[tokio::test(start_paused = true)]
async fn a_line_begins_as_it_is_to_begin() {
    for (more, driven) in [("", "0"), (", initial: on", "1"), (", active_low: true", "1")] {
        let bench = Bench::new(&pump(more)).await;
        assert_eq!(bench.driven(), driven, "{more}");
    }
    let board = Board::new();
    let first = Bench::on(board, &pump(", initial: on")).await;
    let Bench { board, sink } = first;
    drop(sink);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(board.pins().held(CHIP, PUMP), None, "nobody wants it any more");
    let kept = Bench::on(board, &pump(", initial: keep")).await;
    assert_eq!(kept.driven(), "11");
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_leaves_a_line_as_it_is_makes_no_glitch() {
    let mut bench = Bench::new(&pump(", safe: off")).await;
    bench.write(json!(true)).await.0.unwrap();
    bench.reload(&pump(", safe: off, min_on: 5s")).await;
    assert_eq!(bench.driven(), "01");
    let (_, answer) = bench.write(json!(null)).await;
    assert_eq!(answer.unwrap()["read"], json!({ "pump": true }));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_driven_in_another_way_keeps_its_level() {
    let mut bench = Bench::new(&pump("")).await;
    bench.write(json!(true)).await.0.unwrap();
    bench.reload(&pump(", drive: open_source")).await;
    assert_eq!(bench.driven(), "011");
}

#[tokio::test(start_paused = true)]
async fn an_output_that_is_taken_out_of_the_pipeline_is_made_safe_and_let_go() {
    let mut bench = Bench::new(&pump(", safe: off")).await;
    bench.write(json!(true)).await.0.unwrap();
    drop(bench.sink);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.board.pins().driven(CHIP, PUMP), [false, true, false]);
    assert_eq!(bench.board.pins().held(CHIP, PUMP), None);
}

#[tokio::test(start_paused = true)]
async fn a_pulse_ends_by_itself() {
    let mut bench = Bench::new(&pump(", pulse: 500ms")).await;
    bench.write(json!("on")).await.0.unwrap();
    sleep(Duration::from_millis(400)).await;
    assert_eq!(bench.driven(), "01");
    sleep(Duration::from_millis(200)).await;
    assert_eq!(bench.driven(), "010");
}

#[tokio::test(start_paused = true)]
async fn a_compressor_is_not_switched_on_again_too_soon() {
    let mut bench = Bench::new(&pump(", min_off: 3m")).await;
    let (_, answer) = bench.write(json!(true)).await;
    let waits = answer.unwrap()["waits"]["pump"].as_f64().unwrap();
    assert!((179.0..=180.0).contains(&waits), "{waits}");
    bench.write(json!(false)).await.0.unwrap();
    bench.write(json!(true)).await.0.unwrap();
    sleep(Duration::from_secs(170)).await;
    assert_eq!(bench.driven(), "0");
    sleep(Duration::from_secs(20)).await;
    assert_eq!(bench.driven(), "01");
}

#[tokio::test(start_paused = true)]
async fn commands_that_stay_away_leave_an_output_safe_and_somebody_hears_of_it() {
    let mut bench = Bench::new(&pump(", safe: off, safe_after: 1m")).await;
    bench.write(json!(true)).await.0.unwrap();
    sleep(Duration::from_secs(50)).await;
    bench.write(json!(true)).await.0.unwrap();
    sleep(Duration::from_secs(50)).await;
    assert_eq!(bench.driven(), "01");
    sleep(Duration::from_secs(15)).await;
    assert_eq!(bench.driven(), "010");
    let lasting = bench.board.connection.said().lasting;
    assert_eq!(
        lasting["output `pump`"],
        "no command came for 1m, so it is to be off, which is safe"
    );
    bench.write(json!(true)).await.0.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.driven(), "0101");
    assert!(bench.board.connection.said().lasting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_command_that_waited_through_an_outage_is_refused() {
    let mut bench = Bench::new(&(pump("") + "\nexpires_after: 30s")).await;
    let _entered = bench.board.memory.enter();
    let time = Timestamp::from_unix_nanos(NOW - 60_000_000_000);
    let old = Message { time, ..Message::new("cmd", json!(true)) };
    let Err(WriteError::Reject(error)) = bench.write_message(old).await.0 else { panic!("old") };
    assert_eq!(
        error.to_string(),
        "not carried out: the message is 60 s old, and `expires_after` is 30s"
    );
    assert_eq!(bench.driven(), "0");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_takes_no_line() {
    let mut bench = Bench::new(&(pump("") + "\ndry_run: true")).await;
    let (written, answer) = bench.write(json!(true)).await;
    written.unwrap();
    assert_eq!(answer, Some(json!({ "written": { "pump": true }, "read": {} })));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.driven(), "");
}

#[tokio::test(start_paused = true)]
async fn what_was_switched_is_read_back() {
    let mut bench = Bench::new(&(pump("") + "\nverify: true")).await;
    let (written, answer) = bench.write(json!(true)).await;
    written.unwrap();
    assert_eq!(answer, Some(json!({ "written": { "pump": true }, "read": { "pump": true } })));
}

#[tokio::test(start_paused = true)]
async fn an_output_that_somebody_else_has_is_refused_and_its_neighbour_works() {
    let board = Board::new();
    board.pins().hold(CHIP, PUMP, Some("heating"));
    let settings = "lines: [{ name: pump, line: PUMP }, { name: fan, line: FAN }]";
    let mut bench = Bench::on(board, settings).await;
    bench.write(json!({ "fan": true })).await.0.unwrap();
    let error = bench.refused(json!({ "pump": true })).await;
    assert_eq!(error, "output `pump`: line 4 (`PUMP`) of gpiochip0 is in use by `heating`");
    bench.board.pins().hold(CHIP, PUMP, None);
    sleep(Duration::from_secs(15)).await;
    bench.write(json!({ "pump": true })).await.0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_chip_that_is_gone_loses_no_command_and_begins_anew_when_it_comes_back() {
    let mut bench = Bench::new(&pump("")).await;
    bench.write(json!(true)).await.0.unwrap();
    bench.board.pins().unplug(CHIP);
    match bench.write(json!(true)).await.0 {
        Err(WriteError::Retry { error, .. }) => assert!(error.is::<Down>(), "{error:#}"),
        other => panic!("{other:?}"),
    }
    plug_in(bench.board.pins(), CHIP);
    sleep(PAUSE * 2).await;
    bench.sink.connect().await.unwrap();
    assert_eq!(bench.driven(), "0");
    bench.write(json!(true)).await.0.unwrap();
    assert_eq!(bench.driven(), "01");
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_stopped_leaves_what_is_safe() {
    for (more, driven) in [("", "01"), (", safe: off", "010"), (", safe: on", "01")] {
        let memory = Memory::new(NOW);
        plug_in(memory.pins(), CHIP);
        let site = Site { world: memory.world(), ..testing::site(None) };
        let Node::Connection(shared, mut owner) = build_at(&connection(), "chip: '0'", site) else {
            panic!("not a connection");
        };
        let board = Board { memory, shared, connection: testing::voice().1, tasks: JoinSet::new() };
        let mut sink = sink_on(&board, &pump(more));
        let serve = async {
            sink.connect().await.unwrap();
            let message = Message::new("cmd", json!(true));
            sink.write(&[message], &mut Emitter::default()).await.unwrap();
        };
        let voice = Voice::unheard();
        tokio::select! {
            ended = owner.run(&voice) => panic!("{ended:?}"),
            () = serve => (),
        }
        drop(sink);
        owner.close().await;
        let levels = board.pins().driven(CHIP, PUMP);
        let levels: String = levels.iter().map(|level| if *level { '1' } else { '0' }).collect();
        assert_eq!(levels, driven, "{more}");
        assert_eq!(board.pins().held(CHIP, PUMP), None);
    }
}
