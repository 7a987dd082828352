//! Folders with pipelines and tests, and what comes of these.

#![cfg(all(
    feature = "forebay-modbus",
    feature = "forebay-mqtt",
    feature = "forebay-broker",
    feature = "forebay-script",
    feature = "forebay-alarm"
))]

use std::{fs, path::Path};

use super::{
    super::results::{Report, Results},
    How, fuzz_all,
    read::{Notes, read},
    run::run,
    run_all,
};
use crate::{
    engine::broken_promise::IS_BROKEN,
    lint::report::{Format, render},
};

const HOW: How = How { seed: 1, updates: false, covers: false };

/// Writes files into a folder of their own.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// All that is said of the tests of a folder.
fn said(root: &Path) -> String {
    let mut all = Results::default();
    run_all(root, None, HOW, &mut all).unwrap();
    let mut said = String::new();
    for (findings, texts) in &all.findings {
        said += &render(findings, texts, Format::Short, false);
    }
    for outcome in &all.outcomes {
        said += &format!("{}:\n", outcome.test);
        for failure in &outcome.failures {
            said += &format!("  {failure}\n");
        }
    }
    said
}

const BOILER: &str = "\
connections:
  bus: { type: modbus, url: 'tcp://10.0.0.5:502' }
  cloud: { type: mqtt, url: 'mqtts://broker.example', client_id: site-a }
sources:
  meter:
    type: modbus
    connection: bus
    every: 30s
    registers:
      - { name: power, input: 0x34, kind: f32, unit: kW }
transforms:
  hot:
    from: meter
    type: script
    script: |
      msg.payload.high = msg.payload.power > 2.0;
      msg
  overload: { from: hot, type: alarm, field: power, above: 600, hysteresis: 50 }
sinks:
  plant:
    from: hot
    type: mqtt
    connection: cloud
    topic: site/a
    qos: 1
    buffer: { store: disk, max_bytes: 1MiB }
  unread: { from: [meter.errors, hot.errors, plant.errors, overload], type: log }
";

/// The pipeline with its tests, and other files.
fn boiler(tests: &str, others: &[(&str, &str)]) -> tempfile::TempDir {
    let own = [("boiler.yaml", BOILER), ("boiler.test.yaml", tests)];
    folder(&own.iter().chain(others).copied().collect::<Vec<_>>())
}

#[track_caller]
fn check(tests: &str, others: &[(&str, &str)], expected: &str) {
    let folder = boiler(tests, others);
    let said = said(folder.path());
    // Findings are told with the folder, which is another one each time.
    let said = said.replace(&format!("{}/", folder.path().display()), "");
    assert_eq!(said, expected);
}

#[test]
fn a_pipeline_runs_against_devices_and_a_broker_in_memory() {
    let test = "\
tests:
  - name: what the meter says arrives
    for: 3m
    world: { bus: { values: { meter: { power: 1.5 } } } }
    steps:
      - { at: 90s, world: { bus: { values: { meter: { power: 3 } } } } }
    expect:
      hot: { count: 6, each: 'msg.payload.power > 1' }
      meter.errors: { count: 0 }
    arrives:
      cloud:
        among:
          - { topic: site/a, payload: { power: 1.5, high: false } }
          - { has: { high: true }, after: 90s }
        lost: 0
        duplicates: 0
        in_order: true
        state: running
";
    check(test, &[], "what the meter says arrives:\n");
}

/// What the others below break on purpose, each in its way.
const LONG: &str = "\
world: { bus: { values: { meter: { power: { ramp: { from: 0, to: 3000, period: 10h } } } } } }
tests:
  - name: nothing is lost
    for: 4h
    steps:
      - { at: 10m, world: { cloud: down } }
      - { at: 1h, world: { bus: { faults: [{ silence: true, every: 7 }, { exception: 4, every: 50 }] } } }
      - { at: 70m, power: cut }
      - { at: 90m, use: later/boiler.yaml, restarts: [hot], expect: { plant: { at_least: 150 } } }
      - { at: 100m, expect: { overload: { count: 0 } } }
      - { at: 2h, world: { bus: { faults: [] } } }
      - { at: 130m, world: { cloud: up } }
      - { at: 150m, world: { cloud: silent }, expect: { overload: { last: { has: { state: raised, limit: 600 } } } } }
      - { at: 3h, world: { cloud: up } }
      - { at: 205m, disk: full }
      - { at: 206m, disk: works }
    expect:
      hot: { each: msg.payload.power == () || msg.payload.high == (msg.payload.power > 2.0) }
      hot.errors: { count: 0 }
      plant: { buffer_at_most: 1MiB }
    arrives:
      cloud: { at_least: 400, lost: 0, in_order: true }
";

fn later() -> String {
    BOILER.replace("msg.payload.high =", "msg.payload.version = 2;\n      msg.payload.high =")
}

#[test]
fn an_outage_a_reload_faults_a_full_disk_and_a_power_cut_lose_nothing() {
    check(LONG, &[("later/boiler.yaml", &later())], "nothing is lost:\n");
}

#[test]
fn a_script_that_is_wrong_fails_for_what_it_makes() {
    let wrong = later().replace("> 2.0", "> 2000.0");
    let folder = boiler(LONG, &[("later/boiler.yaml", &wrong)]);
    let said = said(folder.path());
    let reason = "nothing is lost:\n  hot: `msg.payload.power == () || msg.payload.high == \
                  (msg.payload.power > 2.0)` does not hold for ";
    assert!(said.starts_with(reason), "{said}");
}

#[test]
fn a_buffer_that_is_too_small_fails_for_what_its_limit_dropped() {
    let small = "buffer: { max_messages: 100, when_full: drop_oldest }";
    let small = BOILER.replace("buffer: { store: disk, max_bytes: 1MiB }", small);
    let files = [
        ("boiler.yaml", small.as_str()),
        ("boiler.test.yaml", LONG),
        ("later/boiler.yaml", &small.replace("high =", "also = 1;\n      msg.payload.high =")),
    ];
    let said = said(folder(&files).path());
    let is_reason = said.contains(" messages did not arrive, expected at most 0; ")
        && said.contains("the limits of the buffer of boiler/plant dropped ");
    assert!(is_reason, "{said}");
}

#[test]
fn a_script_source_and_a_script_sink_remember_over_an_edit() {
    let beats = "name: beats\nsummary: Counts.\nrole: source\nevery: 1m\nsettings:\n  unit: { type: string, required: true }\n";
    let takes = "name: takes\nsummary: Counts.\nrole: sink\nsettings:\n  unit: { type: string, required: true }\n";
    let count = "state.n = (state.n ?? 0) + 1;\nmsg.payload.n = state.n;\nmsg.payload.unit = settings.unit;\nmsg\n";
    let takes_count =
        "state.n = (state.n ?? 0) + 1;\n#{ payload: #{ taken: state.n, unit: settings.unit } }\n";
    let pipeline = "\
sources: { tick: { type: beats, unit: a } }
sinks:
  out: { from: tick, type: takes, unit: a }
  heard: { from: out.answers, type: log }
";
    let test = "\
tests:
  - name: an edit in the middle
    for: 10m
    steps: [{ at: 330s, use: later/count.yaml, restarts: [tick, out] }]
    expect:
      tick: { among: [{ has: { n: 6, unit: a } }, { has: { n: 7, unit: b } }] }
      out.answers: { among: [{ has: { taken: 6, unit: a } }, { has: { taken: 7, unit: b } }] }
";
    let folder = folder(&[
        ("count.yaml", pipeline),
        ("later/count.yaml", &pipeline.replace("unit: a", "unit: b")),
        ("count.test.yaml", test),
        ("plugins/beats/plugin.yaml", beats),
        ("plugins/beats/beats.rhai", count),
        ("plugins/takes/plugin.yaml", takes),
        ("plugins/takes/takes.rhai", takes_count),
    ]);
    assert_eq!(said(folder.path()), "an edit in the middle:\n");
}

#[test]
fn what_is_wrong_in_a_test_is_found_at_its_place() {
    let test = "\
tests:
  - name: many mistakes
    for: 10s
    world: { buss: down, bus: { values: { meter: { pover: 1 }, metre: { power: 1 } } } }
    steps:
      - { at: 20s, use: no-such.yaml, restarts: [] }
      - { at: 5s, clock: soon, send: { bus: { topic: a } } }
    expect: { hott: { count: 1 }, hot: { each: 'msg.payload. > 1' } }
    arrives: { clod: { lost: 0 } }
";
    check(
        test,
        &[],
        "\
boiler.test.yaml:6:25: error[setting-value]: there is no file `no-such.yaml` (expected a path from this file)
boiler.test.yaml:4:14: error[setting-value]: `buss` is no other side of these pipelines (did you mean `bus`?)
boiler.test.yaml:6:15: error[setting-value]: the step comes after the end of the test (expected at most `for`, 10s)
boiler.test.yaml:6:49: error[setting-value]: nothing restarts here (expected beside `use`)
boiler.test.yaml:7:15: error[setting-value]: time goes back in a test (expected no time before that of the step above)
boiler.test.yaml:7:26: error[setting-value]: `clock` is no step of a clock (expected a duration such as `500ms`, `5s`, `10m` or `1h`)
boiler.test.yaml:8:48: error[script-syntax]: condition cannot be read (expecting name of a property)
boiler.test.yaml:8:21: error[setting-value]: no output is named `hott` (did you mean `hot`?)
boiler.test.yaml:9:22: error[setting-value]: `clod` is no other side of these pipelines (did you mean `cloud`?)
boiler.test.yaml:4:59: error[setting-value]: `meter` has no register `pover` (did you mean `power`?)
boiler.test.yaml:4:80: error[setting-value]: no node on this bus is named `metre` (did you mean `meter`?)
",
    );
}

#[test]
fn pipelines_that_do_not_lint_are_not_tested() {
    let wrong = BOILER.replace("from: hot\n", "from: hit\n");
    let test = "tests: [{ name: never, for: 1m }]";
    let folder = folder(&[("boiler.yaml", &wrong), ("boiler.test.yaml", test)]);
    let said = said(folder.path());
    assert!(said.contains("error[unknown-node]: no node is named `hit`"), "{said}");
    assert!(!said.contains("never:"), "{said}");
}

#[test]
fn a_test_has_no_way_to_a_socket() {
    let runtime = super::run::stopped_clock().unwrap();
    let opens = std::panic::AssertUnwindSafe(|| {
        runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).map(|_| ())
    });
    assert!(std::panic::catch_unwind(opens).is_err());
}

const SHORT: &str = "\
world: { bus: { values: { meter: { power: { random: { from: 0, to: 9, every: 7s } } } } } }
tests:
  - name: all at once
    for: 15m
    steps:
      - { at: 2m, world: { cloud: down, bus: { faults: [{ silence: true, chance: 20 }] } } }
      - { at: 5m, use: later/boiler.yaml }
      - { at: 6m, world: { cloud: up } }
      - { at: 8m, world: { cloud: { latency: 300ms } } }
      - { at: 9m, power: cut }
      - { at: 10m, world: { cloud: cut } }
    arrives: { cloud: { golden: all.jsonl } }
";

#[test]
fn a_hundred_runs_are_the_same_to_the_last_byte() {
    let folder = boiler(SHORT, &[("later/boiler.yaml", &later())]);
    let test = read(folder.path(), &folder.path().join("boiler.test.yaml"), Notes::None).unwrap();
    let [test] = &test.tests[..] else { panic!("{:?}", test.findings) };
    let play = |seed| {
        let failures = run(test, How { seed, updates: true, covers: false }).unwrap().failures;
        (failures, fs::read_to_string(folder.path().join("all.jsonl")).unwrap())
    };
    let first = play(1);
    assert_eq!(first.0, []);
    assert!(first.1.lines().count() > 20, "{}", first.1);
    for _ in 1..100 {
        assert_eq!(play(1), first);
    }
    // Another seed is another chance: pauses, what a power cut leaves.
    assert_ne!(play(2).1, first.1);
}

/// The engine calls messages safe before they are, until dropped.
struct Broken;

impl Broken {
    fn promise() -> Broken {
        IS_BROKEN.set(true);
        Broken
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        IS_BROKEN.set(false);
    }
}

#[test]
fn a_test_fails_when_the_engine_calls_safe_what_is_not() {
    let folder = boiler(LONG, &[("later/boiler.yaml", &later())]);
    let test = read(folder.path(), &folder.path().join("boiler.test.yaml"), Notes::None).unwrap();
    let [test] = &test.tests[..] else { panic!("{:?}", test.findings) };
    let _broken = Broken::promise();
    // What a disk has of what it was not told to keep is chance.
    let runs = (1..=5).map(|seed| run(test, How { seed, ..HOW }).unwrap().failures);
    let failures: Vec<_> = runs.filter(|failures| !failures.is_empty()).collect();
    assert!(!failures.is_empty());
    for failures in failures {
        let is_loss = |words: &str| words.contains(" messages did not arrive, expected at most 0");
        assert!(failures.iter().any(|failure| is_loss(&failure.said())), "{failures:?}");
    }
}

#[test]
fn random_faults_break_no_promise_unless_the_engine_calls_safe_what_is_not() {
    let test = "\
world: { bus: { values: { meter: { power: { ramp: { from: 0, to: 9, period: 1h } } } } } }
tests:
  - name: a day like others
    for: 20m
    steps: [{ at: 10m, use: later/boiler.yaml }]
";
    let folder = boiler(test, &[("later/boiler.yaml", &later())]);
    let fuzz = |count| {
        let mut all = Results::default();
        fuzz_all(folder.path(), None, (1, count), &mut all).unwrap();
        (all.tried, all.outcomes.pop().map(|outcome| outcome.failures).unwrap_or_default())
    };
    assert_eq!(fuzz(10), (Some(10), Vec::new()));
    let _broken = Broken::promise();
    let (_, failures) = fuzz(200);
    let [loss, found] = &failures[..] else { panic!("{failures:?}") };
    assert!(loss.contains(" messages did not arrive, expected at most 0"), "{loss}");
    let steps = found.lines().filter(|line| line.contains("{ at: ")).count();
    assert!((1..=3).contains(&steps) && found.contains("power: cut"), "{found}");

    // It can be pasted into the file, and fails there for the same reason.
    let seed = found.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap();
    let (world, _) = test.split_once("tests:\n").unwrap();
    let pasted = format!("{world}tests:\n{found}");
    fs::write(folder.path().join("boiler.test.yaml"), pasted).unwrap();
    let mut all = Results::default();
    let how = How { seed: seed.parse().unwrap(), ..HOW };
    run_all(folder.path(), None, how, &mut all).unwrap();
    let said: Vec<String> =
        all.findings.iter().map(|(it, texts)| render(it, texts, Format::Short, false)).collect();
    assert_eq!(said.concat(), "");
    assert_eq!(all.outcomes[0].failures, [loss.as_str()]);
}

#[cfg(feature = "forebay-http")]
#[test]
fn web_services_answer_what_a_test_says() {
    let pipeline = "\
sources:
  beat: { type: timer, every: 10s }
  outside: { type: sky }
sinks:
  cloud:
    from: beat
    type: http
    url: https://api.example/in?site=a
    body: array
    batch: { max_messages: 3, max_wait: 1h }
  heard: { from: [cloud.answers, outside], type: log }
";
    let sky = "name: sky\nsummary: Asks.\nrole: source\nevery: 1m\nallow: { http: [\"http://sky.example:8080\"] }\n";
    let script = "\
if answer == () { return #{ url: \"http://sky.example:8080/now\" }; }
msg.payload = #{ temp: answer.payload.temp };
msg
";
    let test = "\
tests:
  - name: a service that is busy at first
    for: 10m
    world:
      cloud: { answers: [{ status: 503, headers: { Retry-After: '90' } }, { payload: { ok: true }, after: 2s }] }
      outside: { answers: [{ payload: { temp: 21 } }, { payload: { temp: 22 } }] }
    steps:
      - { at: 4m, world: { cloud: down } }
      - { at: 6m, world: { cloud: up }, expect: { cloud: { state: waiting } } }
    expect:
      cloud.answers: { at_least: 10, each: msg.payload.ok }
      outside: { among: [{ payload: { temp: 21 } }, { payload: { temp: 22 } }, { payload: { temp: 22 } }] }
    arrives:
      cloud:
        among: [{ topic: /in, payload: { count: 1 }, after: 110s }]
        each: msg.meta.http.method == \"POST\" && msg.meta.http.query == \"site=a\"
        lost: 3
        duplicates: 0
        in_order: true
      outside: { each: msg.topic == \"/now\" && msg.meta.http.method == \"GET\" }
  - name: one that takes nothing
    for: 10m
    world: { cloud: { answers: [{ status: 422 }] } }
    expect: { cloud.errors: { at_least: 10 } }
    arrives: { cloud: { count: 0 } }
  - name: what is wrong in an answer
    for: 1m
    world: { cloud: { answers: [{ headers: { 'a b': c } }] } }
";
    let folder = folder(&[
        ("web.yaml", pipeline),
        ("web.test.yaml", test),
        ("plugins/sky/plugin.yaml", sky),
        ("plugins/sky/sky.rhai", script),
    ]);
    let said = said(folder.path()).replace(&format!("{}/", folder.path().display()), "");
    let expected = "\
web.test.yaml:28:44: error[setting-value]: `a b` cannot be a header (expected a name such as `Retry-After`, and a value in one line)
a service that is busy at first:
one that takes nothing:
";
    assert_eq!(said, expected);
}

#[test]
fn what_tests_do_not_reach_is_told() {
    let pipeline = BOILER.replace(
        "      msg.payload.high = msg.payload.power > 2.0;\n",
        "      if msg.payload.power > 9.0 {\n        emit(\"top\", msg);\n      }\n      let n = if msg.payload.power == 1.0 { 1 } else {\n        2\n      };\n",
    );
    let pipeline = pipeline.replace("    type: script\n", "    type: script\n    outputs: [top]\n");
    let pipeline = pipeline.replace("hot.errors,", "hot.errors, hot.top,");
    let test = "\
world: { bus: { values: { meter: { power: 1 } } } }
tests: [{ name: short, for: 1m }, { name: also, for: 1m }]
";
    let folder = folder(&[("boiler.yaml", &pipeline), ("boiler.test.yaml", test)]);
    let mut all = Results::default();
    run_all(folder.path(), None, How { covers: true, ..HOW }, &mut all).unwrap();
    let [(file, report)] = &all.coverage[..] else { panic!("{:?}", all.coverage) };
    assert_eq!(file, "boiler.test.yaml");
    let expected = Report {
        places: 8,
        reached: 6,
        not_reached: vec!["boiler.yaml:18:9".to_owned(), "boiler.yaml:21:9".to_owned()],
        outputs_not_taken: vec!["boiler/hot.top".to_owned()],
        wires_not_taken: ["hot.errors", "hot.top", "meter.errors", "overload", "plant.errors"]
            .map(|wire| format!("{wire} to boiler/unread"))
            .to_vec(),
    };
    assert_eq!(*report, expected);
}
