//! Sources.

use forebay_sdk::{
    Figure,
    node::DynSource,
    testing::{configure, outlet},
};
use serde_json::json;

use super::*;
use crate::source;

/// A source that runs on a board.
struct Bench {
    board: Board,
    sent: Collected,
    heard: Arc<Heard>,
    data: tempfile::TempDir,
}

impl Bench {
    fn new(settings: &str) -> Bench {
        Bench::on(Board::new(), settings)
    }

    fn on(board: Board, settings: &str) -> Bench {
        Bench::at(board, settings, tempfile::tempdir().unwrap())
    }

    fn at(mut board: Board, settings: &str, data: tempfile::TempDir) -> Bench {
        let (site, heard) = board.site();
        let site = Site { data: data.path().into(), ..site };
        let Node::Source(node) = build_at(&source(), settings, site) else { panic!("a source") };
        let (out, sent) = outlet(1000);
        let world = board.memory.clone();
        let errors = Arc::clone(&heard);
        board.tasks.spawn(async move { keep_going(node, out, &world, &errors).await });
        Bench { board, sent, heard, data }
    }

    /// Puts a level onto a line.
    fn wire(&self, line: u32, is_high: bool) {
        self.board.pins().wire(CHIP, line, is_high);
    }

    async fn next(&mut self) -> Value {
        said(&next(&mut self.sent).await)
    }

    /// What was sent and is not taken yet.
    fn rest(&mut self) -> Vec<Value> {
        let sent = std::iter::from_fn(|| self.sent.envelopes.try_recv().ok());
        sent.map(|envelope| said(&envelope.message)).collect()
    }
}

async fn keep_going(
    mut node: Box<dyn DynSource>,
    out: forebay_sdk::Outlet,
    memory: &Memory,
    heard: &Arc<Heard>,
) {
    let _entered = memory.enter();
    loop {
        let error = node.run(&out).await.expect_err("it only ends when something fails");
        forebay_sdk::Voice::new(Arc::clone(heard) as _).trouble(&error);
        sleep(PAUSE).await;
    }
}

const DOOR: &str = "lines: [{ name: door, line: DOOR }]";

#[tokio::test(start_paused = true)]
async fn an_edge_has_the_time_at_which_the_kernel_saw_it() {
    let mut bench = Bench::new("lines: [{ name: door, line: 0, debounce: 50ms }]");
    let first = next(&mut bench.sent).await;
    assert_eq!(
        (said(&first), first.meta.get("initial")),
        (json!({ "door": false }), Some(&json!(true)))
    );
    sleep(Duration::from_secs(10)).await;
    bench.wire(0, true);
    let edge = next(&mut bench.sent).await;
    assert_eq!(said(&edge), json!({ "door": true }));
    assert_eq!(&*edge.topic, "test/node");
    assert_eq!(edge.meta.get("edge"), Some(&json!("rising")));
    let after = edge.time.unix_nanos() - first.time.unix_nanos();
    assert!((10_049_000_000..10_052_000_000).contains(&after), "{after}");
}

#[tokio::test(start_paused = true)]
async fn an_edge_before_the_clock_was_set_says_so_and_gets_its_real_time() {
    let memory = Memory::before_clock_is_set(NOW - 14 * 86_400_000_000_000);
    let mut bench = Bench::on(Board::with(memory, &format!("chip: {LABEL}")), DOOR);
    bench.next().await;
    bench.wire(0, true);
    let mut edge = next(&mut bench.sent).await;
    assert!(!edge.time.clock_was_set());
    let _entered = bench.board.memory.enter();
    sleep(Duration::from_secs(5)).await;
    bench.board.memory.set_wall(NOW);
    edge.restamp();
    let was = NOW - 5_000_000_000;
    assert!(edge.time.clock_was_set());
    assert!((edge.time.unix_nanos() - was).abs() < 10_000_000, "{}", edge.time.to_rfc3339());
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_bounces_closes_once() {
    let mut bench = Bench::new(
        "lines: [{ name: door, line: 0, debounce: 20ms, active_low: true, bias: pull_up }]",
    );
    assert_eq!(bench.next().await, json!({ "door": false }), "pulled up, so open");
    for is_high in [false, true, false, true, false] {
        bench.wire(0, is_high);
        sleep(Duration::from_millis(3)).await;
    }
    assert_eq!(bench.next().await, json!({ "door": true }));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.rest(), [] as [Value; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_pulled_up_only_after_a_while_is_no_alarm_at_the_start() {
    let settings = "lines: [{ name: alarm, line: 0, active_low: true, debounce: 30ms }]";
    let mut bench = Bench::new(settings);
    settle().await;
    bench.wire(0, true);
    assert_eq!(bench.next().await, json!({ "alarm": false }));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.rest(), [] as [Value; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_line_whose_interrupt_another_line_has_is_read_over_and_over() {
    let board = Board::new();
    board.pins().with_interrupts_in_use(CHIP);
    let mut bench = Bench::on(board, DOOR);
    assert_eq!(bench.next().await, json!({ "door": false }));
    bench.wire(0, true);
    assert_eq!(bench.next().await, json!({ "door": true }));
}

#[tokio::test(start_paused = true)]
async fn a_line_without_interrupts_is_read_over_and_over_and_debounced_all_the_same() {
    let board = Board::new();
    board.pins().without_interrupts(CHIP);
    let mut bench = Bench::on(board, "lines: [{ name: door, line: DOOR, debounce: 300ms }]");
    assert_eq!(bench.next().await, json!({ "door": false }));
    let lasting = bench.heard.said().lasting;
    assert!(
        lasting["input `door`"]
            .starts_with("its chip raises no interrupts, so it is read every 100ms"),
        "{lasting:?}"
    );
    bench.wire(0, true);
    sleep(Duration::from_millis(250)).await;
    bench.wire(0, false);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.rest(), [] as [Value; 0], "it lasted for less than 300 ms");
    bench.wire(0, true);
    assert_eq!(bench.next().await, json!({ "door": true }));
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_polling_gets_it_without_a_complaint() {
    let mut bench = Bench::new("lines: [{ name: door, line: DOOR, poll: 20ms, edge: falling }]");
    sleep(Duration::from_millis(100)).await;
    bench.wire(0, true);
    sleep(Duration::from_millis(50)).await;
    bench.wire(0, false);
    assert_eq!(bench.next().await, json!({ "door": false }));
    assert_eq!(bench.heard.said().lasting.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_button_tells_that_it_was_pressed_and_nothing_at_the_start() {
    let mut bench = Bench::new("lines: [{ name: button, line: 0, edge: rising }]");
    sleep(Duration::from_millis(100)).await;
    for is_high in [true, false, true, false] {
        bench.wire(0, is_high);
        settle().await;
    }
    assert_eq!(bench.rest(), [json!({ "button": true }), json!({ "button": true })]);
}

#[tokio::test(start_paused = true)]
async fn each_line_has_a_topic_of_its_own_where_that_is_asked_for() {
    let settings =
        "lines: [{ name: door, line: DOOR }, { name: smoke, line: SMOKE }]\ntopic: site/{line}";
    let mut bench = Bench::new(settings);
    let (one, other) = (next(&mut bench.sent).await, next(&mut bench.sent).await);
    assert_eq!((&*one.topic, said(&one)), ("site/door", json!({ "door": false })));
    assert_eq!((&*other.topic, said(&other)), ("site/smoke", json!({ "smoke": false })));
    bench.wire(1, true);
    assert_eq!(&*next(&mut bench.sent).await.topic, "site/smoke");
}

#[tokio::test(start_paused = true)]
async fn a_chip_that_comes_back_under_another_number_is_found_by_its_label() {
    let board = Board::with(Memory::new(NOW), &format!("chip: {LABEL}"));
    let mut bench = Bench::on(board, DOOR);
    bench.next().await;
    bench.board.pins().unplug(CHIP);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.rest(), [] as [Value; 0]);
    let troubles = bench.board.connection.said().troubles;
    assert!(troubles[0].starts_with(&format!("{LABEL} is gone")), "{troubles:?}");
    plug_in(bench.board.pins(), "gpiochip3");
    assert_eq!(bench.next().await, json!({ "door": false }), "its level is told anew");
    bench.board.pins().wire("gpiochip3", 0, true);
    assert_eq!(bench.next().await, json!({ "door": true }));
}

#[tokio::test(start_paused = true)]
async fn one_line_that_cannot_be_had_does_not_cost_the_others() {
    let board = Board::new();
    board.pins().hold(CHIP, 1, Some("sysfs"));
    let settings = "lines: [{ name: door, line: DOOR }, { name: smoke, line: SMOKE }, { name: gas, line: GAS }]";
    let mut bench = Bench::on(board, settings);
    assert_eq!(bench.next().await, json!({ "door": false }));
    let lasting = bench.heard.said().lasting;
    assert_eq!(
        lasting["input `smoke`"],
        "line 1 (`SMOKE`) of gpiochip0 is in use by `sysfs`: somebody exported it below \
         /sys/class/gpio, where it must be unexported"
    );
    assert_eq!(
        lasting["input `gas`"],
        "no line of gpiochip0 is called `GAS`; it has `DOOR`, `SMOKE`, `METER`, `PUMP`, `FAN`, `TWIN`"
    );
    bench.board.pins().hold(CHIP, 1, None);
    assert_eq!(bench.next().await, json!({ "smoke": false }), "as soon as it is free");
    assert!(!bench.heard.said().lasting.contains_key("input `smoke`"));
}

#[tokio::test(start_paused = true)]
async fn a_chip_that_is_not_there_is_named_and_so_are_those_that_are() {
    for (settings, says) in [
        ("chip: gpiochip7", "there is no gpiochip7; here are gpiochip0 (`expander`, 8 lines)"),
        ("chip: '2'", "there is no gpiochip2; here are"),
        ("chip: pinctrl-bcm2711", "no GPIO chip is labelled `pinctrl-bcm2711`; here are gpiochip0"),
    ] {
        let board = Board::with(Memory::new(NOW), settings);
        settle().await;
        let troubles = board.connection.said().troubles;
        assert!(troubles[0].starts_with(says), "{troubles:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn edges_that_come_too_fast_are_counted_as_lost_and_the_last_level_is_right() {
    let mut bench = Bench::new(DOOR);
    bench.next().await;
    for at in 0..101 {
        bench.wire(0, at % 2 == 0);
    }
    settle().await;
    let told = bench.rest();
    assert_eq!(told.len(), 16, "what fits into the kernel's queue");
    assert_eq!(told.last(), Some(&json!({ "door": true })));
    assert_eq!(bench.heard.figure(Figure::Dropped), 85);
}

const METER: &str = "lines: [{ name: water, line: METER, \
    count: { per_unit: 1000, start: 12.5, unit: m3, rate: flow } }]";

#[tokio::test(start_paused = true)]
async fn no_pulse_of_a_burst_is_lost_that_the_kernel_counted() {
    let mut bench = Bench::new(METER);
    let first = next(&mut bench.sent).await;
    assert_eq!(said(&first), json!({ "water": 12.5, "flow": null }));
    assert_eq!(first.meta.get("units"), Some(&json!({ "water": "m3", "flow": "m3/h" })));
    for at in 0..200 {
        bench.wire(2, at % 2 == 0);
    }
    assert_eq!(bench.next().await["water"], json!(12.6));
    assert_eq!(bench.heard.figure(Figure::Dropped), 0);
}

#[tokio::test(start_paused = true)]
async fn a_meter_counts_on_after_a_restart() {
    let mut bench = Bench::new(METER);
    bench.next().await;
    for at in 0..20 {
        bench.wire(2, at % 2 == 0);
        settle().await;
    }
    assert_eq!(bench.next().await["water"], json!(12.51));
    for at in 0..10 {
        bench.wire(2, at % 2 == 0);
        settle().await;
    }
    // Stopped before these were told or written.
    let Bench { board, data, .. } = bench;
    drop(board);
    let mut bench = Bench::at(Board::new(), METER, data);
    assert_eq!(bench.next().await["water"], json!(12.515));
}

#[tokio::test(start_paused = true)]
async fn a_button_whose_second_edge_was_lost_stayed_pressed() {
    let mut bench = Bench::new("lines: [{ name: door, line: 0 }]");
    assert_eq!(bench.next().await, json!({ "door": false }));
    bench.wire(0, true);
    assert_eq!(bench.next().await, json!({ "door": true }));
    bench.board.pins().wire_in_silence(CHIP, 0, false);
    assert_eq!(bench.next().await, json!({ "door": false }));
    // And what goes on is told as ever, once.
    bench.wire(0, true);
    assert_eq!(bench.next().await, json!({ "door": true }));
    sleep(Duration::from_secs(60)).await;
    assert!(bench.sent.envelopes.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_was_told_of_a_meter_is_on_disk_before() {
    let mut bench = Bench::new(METER);
    bench.next().await;
    bench.wire(2, true);
    settle().await;
    assert_eq!(bench.next().await["water"], json!(12.501));
    let file = std::fs::read_to_string(bench.data.path().join("pulses.json")).unwrap();
    assert_eq!(file, r#"{"water":{"pulses":1}}"#);
}

#[tokio::test(start_paused = true)]
async fn counts_that_cannot_be_read_are_said_to_be_lost() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("pulses.json"), "torn").unwrap();
    let mut bench = Bench::at(Board::new(), METER, data);
    assert_eq!(bench.next().await["water"], json!(12.5));
    let troubles = bench.heard.said().troubles;
    assert!(
        troubles[0].starts_with("reading what was counted before the start; counting begins anew"),
        "{troubles:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_burst_after_a_long_pause_counts_from_its_first_pulse() {
    let mut bench = Bench::new(METER);
    for _ in 0..3 {
        sleep(Duration::from_secs(1800)).await;
        for at in 0..10 {
            bench.wire(2, at % 2 == 0);
            settle().await;
        }
    }
    sleep(Duration::from_secs(11)).await;
    assert_eq!(bench.rest().last().unwrap()["water"], json!(12.515));
}

#[tokio::test(start_paused = true)]
async fn a_rate_follows_from_the_time_between_pulses() {
    let mut bench = Bench::new(METER);
    bench.next().await;
    for at in 0..60 {
        bench.wire(2, at % 2 == 0);
        sleep(Duration::from_millis(500)).await;
    }
    let flows = bench.rest();
    let flow = flows.last().unwrap()["flow"].as_f64().unwrap();
    assert!((flow - 3.6).abs() < 0.01, "a litre each second: {flows:?}");
}

#[tokio::test(start_paused = true)]
async fn all_is_told_at_the_beat_and_a_line_that_is_not_had_is_null() {
    let board = Board::new();
    board.pins().hold(CHIP, 1, Some(""));
    let settings = "every: 1m\nlines: [{ name: door, line: DOOR }, { name: smoke, line: SMOKE }]";
    let mut bench = Bench::on(board, settings);
    assert_eq!(bench.next().await, json!({ "door": false, "smoke": null }));
    bench.wire(0, true);
    assert_eq!(bench.next().await, json!({ "door": true }), "a change is told at once");
    assert_eq!(bench.next().await, json!({ "door": true, "smoke": null }));
}

#[tokio::test(start_paused = true)]
async fn others_see_who_holds_a_line() {
    let mut bench = Bench::new(DOOR);
    bench.next().await;
    let held = bench.board.pins().held(CHIP, 0).unwrap();
    assert_eq!(held.holder, "forebay test/node");
}

#[test]
fn what_a_source_sends_is_known_to_who_reads_it() {
    let source = configure(&source(), METER).unwrap();
    let forebay_sdk::Sends::Only(names) = source.fields().sends else { panic!("known") };
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["flow", "water"]);
}
