//! Node types that stand as scripts in a folder: their tests, what knows them, and what goes wrong in them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::{Folder, Forebay, Lines, WebServer, forebay, program};

const MANIFEST: &str = "\
name: celsius
summary: Makes degrees Celsius of degrees Fahrenheit.
settings:
  field: { type: string, required: true, about: The field to convert. }
  limit: { type: number, default: 80, min: -50, about: What is hotter goes to hot. }
outputs: [hot]
";
const SCRIPT: &str = "\
let celsius = (msg.payload[settings.field] - 32.0) / 1.8;
msg.payload[settings.field] = round(celsius, 1);
if celsius > settings.limit { emit(\"hot\", msg); }
msg
";
const PIPELINE: &str = "\
sources:
  kettle: { type: timer, every: 50ms, payload: { temp: 203 } }
transforms:
  warm: { from: kettle, type: celsius, field: temp, limit: 90 }
sinks:
  out: { from: [warm, warm.hot], type: log }
";

fn folder(tests: &str) -> Folder {
    Folder::with(&[
        ("pipelines/kitchen.yaml", PIPELINE),
        ("plugins/celsius/plugin.yaml", MANIFEST),
        ("plugins/celsius/celsius.rhai", SCRIPT),
        ("plugins/celsius/tests.yaml", tests),
    ])
}

fn run(verb: &str, folder: &Folder, more: &[&str]) -> Output {
    let mut command = program();
    command.current_dir(folder.path()).args([verb, "."]).args(more).stdin(Stdio::null());
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What `forebay test` prints of these tests, and its exit code.
#[track_caller]
fn check(tests: &str, code: i32, expected: &str) {
    let output = run("test", &folder(tests), &[]);
    let said = format!("{}{}", stdout(&output), String::from_utf8_lossy(&output.stderr));
    assert_eq!(said, expected);
    assert_eq!(output.status.code(), Some(code));
}

#[test]
fn a_test_that_passes_is_counted() {
    check(
        "tests:\n  - name: boiling\n    settings: { field: t }\n    send: [{ payload: { t: 212 } }]\n    \
         expect: [{ payload: { t: 100 } }]\n    outputs: { hot: [{ topic: test }] }\n",
        0,
        "1 test passed\n",
    );
}

#[test]
fn a_test_that_fails_says_what_differs() {
    check(
        "\
tests:
  - name: boiling
    settings: { field: t }
    send:
      - payload: { t: 212, room: { a: [1, 2] } }
      - payload: { t: 32 }
    expect:
      - { topic: kettle, payload: { t: 99, room: { a: [1, 3] }, by: me } }
  - name: no number
    settings: { field: t }
    send: [{ payload: { t: warm } }, { payload: {} }]
    errors: [missing]
",
        1,
        "\
celsius: boiling
  at plugins/celsius/tests.yaml:2:5
  output `hot`, message 1 was not expected: \"test\" {\"t\":100.0,\"room\":{\"a\":[1,2]}}
  message 1: topic: expected \"kettle\", found \"test\"
  message 1: payload.t: expected 99, found 100.0
  message 1: payload.room.a[1]: expected 3, found 2
  message 1: payload.by: expected \"me\", found nothing
  message 2 was not expected: \"test\" {\"t\":0.0}

celsius: no number
  at plugins/celsius/tests.yaml:9:5
  error 1: expected \"missing\", found: plugins/celsius/celsius.rhai:1:44: `-` cannot be used on a text and a decimal number
  error 2 was not expected: plugins/celsius/celsius.rhai:1:44: `msg.payload[settings.field]` is missing or null, so `-` cannot be used on it

2 of 2 tests failed
",
    );
}

#[test]
fn a_mistake_in_a_test_is_a_finding_in_its_file() {
    check(
        "tests:\n  - name: boiling\n    settings: { feild: t }\n    send: [{ payload: 1 }]\n",
        1,
        "\
error[unknown-setting]: celsius has no setting `feild`
 --> plugins/celsius/tests.yaml:3:17
  |
3 |     settings: { feild: t }
  |                 ^^^^^
  |
help: a setting with a similar name exists
  |
3 -     settings: { feild: t }
3 +     settings: { field: t }
  |

",
    );
}

#[test]
fn a_program_reads_the_results_of_tests_as_json() {
    let tests =
        "tests:\n  - name: a\n    settings: { field: t }\n    send: [{ payload: { t: 32 } }]\n";
    let output = run("test", &folder(tests), &["--format", "json"]);
    let line: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(line["plugin"], "celsius");
    assert_eq!(line["place"], "plugins/celsius/tests.yaml:2:5");
    assert_eq!(line["passed"], false);
    assert_eq!(line["failures"][0], "message 1 was not expected: \"test\" {\"t\":0.0}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn where_there_is_nothing_to_test_is_no_success() {
    let without = Folder::with(&[("pipelines/kitchen.yaml", PIPELINE)]);
    let output = run("test", &without, &[]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("has no NAME.test.yaml beside a pipeline")
    );
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_schema_and_the_list_of_a_folder_know_its_types() {
    let folder = folder("tests: []\n");
    let schema: Value = serde_json::from_str(&stdout(&run("schema", &folder, &[]))).unwrap();
    let celsius = &schema["$defs"]["transform-celsius"]["properties"];
    assert_eq!(celsius["field"]["description"], "The field to convert.");
    assert_eq!(celsius["limit"]["default"], 80);
    let path = folder.path().display().to_string();
    let said = stdout(&forebay(["nodes", "celsius", "--folder", &path]));
    assert!(said.contains("  field  (text, required)\n      The field to convert.\n"), "{said}");
    let graph = stdout(&run("graph", &folder, &[]));
    assert!(graph.contains("celsius"), "{graph}");
}

#[test]
fn a_plugin_that_fails_names_its_own_file_and_harms_nobody_else() {
    let bad = [
        ("zero", "msg.payload.temp / (1 - 1)\n", "division by zero"),
        ("loops", "loop { }\n", "script ran for longer"),
        ("recurses", "fn f(n) { f(n + 1) }\nf(0)\n", "functions call each other"),
        ("grows", "let a = []; loop { a.push(\"xxxxxxxxxxxxxxxx\"); }\n", "a list grew beyond"),
    ];
    let mut pipeline = PIPELINE.replace("sinks:\n", "");
    let mut files: Vec<(String, String)> = Vec::new();
    for (name, script, _) in bad {
        pipeline += &format!("  {name}: {{ from: kettle, type: {name} }}\n");
        let manifest = format!("name: {name}\nsummary: Fails.\n");
        files.push((format!("plugins/{name}/plugin.yaml"), manifest));
        files.push((format!("plugins/{name}/{name}.rhai"), script.to_owned()));
    }
    let (transforms, sinks) = pipeline.split_once("  out:").unwrap();
    let (out, rest) = sinks.split_once('\n').unwrap();
    let pipeline = format!(
        "{transforms}{rest}sinks:\n  out:{out}\n  none: {{ from: [zero, loops, recurses, grows], type: log }}\n"
    );
    files.push(("pipelines/kitchen.yaml".to_owned(), pipeline));
    files.push(("plugins/celsius/plugin.yaml".to_owned(), MANIFEST.to_owned()));
    files.push(("plugins/celsius/celsius.rhai".to_owned(), SCRIPT.to_owned()));
    let files: Vec<(&str, &str)> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let folder = Folder::with(&files);
    let forebay = Forebay::run(folder.path());
    for (name, _, words) in bad {
        let line = forebay.wait_for_log(&format!("ERROR plugins/{name}/{name}.rhai:"));
        // How far a loop comes before it is stopped is up to the machine.
        let limits = ["`max_operations`", "`timeout`"];
        let is_stopped = limits.iter().any(|limit| line.contains(limit));
        assert!(line.contains(words) || is_stopped, "{line}");
    }
    forebay.log_after(r#"{"temp":95.0}"#, || ());
}

/// Fifty messages a second through scripts that do all that they should not, each stopped by its limits.
#[test]
fn scripts_that_run_wild_lose_no_message_of_others_under_load() {
    const MESSAGES: usize = 250;
    let wild = [
        ("loops", "loop { }\n"),
        ("recurses", "fn f(n) { f(n + 1) + f(n + 2) }\nf(0)\n"),
        ("grows", "let a = []; loop { a.push(a); }\n"),
        ("divides", "msg.payload.count / 0\n"),
    ];
    let mut transforms = "  fine: { from: load, type: fine }\n".to_owned();
    let mut files = vec![
        ("plugins/fine/plugin.yaml".to_owned(), "name: fine\nsummary: Counts.\n".to_owned()),
        (
            "plugins/fine/fine.rhai".to_owned(),
            "state.n = (state.n ?? 0) + 1;\nmsg.payload.n = state.n;\nmsg\n".to_owned(),
        ),
    ];
    for (name, script) in wild {
        transforms += &format!("  {name}: {{ from: load, type: {name} }}\n");
        let manifest = format!("name: {name}\nsummary: Wild.\nlimits: {{ timeout: 2ms }}\n");
        files.push((format!("plugins/{name}/plugin.yaml"), manifest));
        files.push((format!("plugins/{name}/{name}.rhai"), script.to_owned()));
    }
    let pipeline = format!(
        "sources:\n  load: {{ type: timer, every: 20ms, topic: load }}\ntransforms:\n{transforms}sinks:\n  out: {{ from: \
         fine, type: log }}\n  none: {{ from: [loops, recurses, grows, divides], type: log }}\n"
    );
    files.push(("pipelines/x.yaml".to_owned(), pipeline));
    let files: Vec<(&str, &str)> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let folder = Folder::with(&files);
    let forebay = Forebay::run(folder.path());
    forebay.wait_for_log(&format!(r#"load {{"count":{MESSAGES},"n":{MESSAGES}}}"#));
    let lines = forebay.log.all();
    let arrived =
        lines.iter().filter_map(|line| line.split_once(" load ").map(|(_, payload)| payload));
    let expected = (1..=MESSAGES).map(|n| format!(r#"{{"count":{n},"n":{n}}}"#));
    assert!(arrived.take(MESSAGES).eq(expected), "each message arrives once, in order");
}

#[test]
fn a_script_asks_web_services_and_no_others_than_it_may() {
    let service = WebServer::answering(r#"{"temp":21.5,"token":7}"#);
    let place = format!("http://127.0.0.1:{}", service.port);
    let other = WebServer::start();
    let sky = "name: sky\nsummary: Asks.\nrole: source\nevery: 200ms\nallow: { http: [\"{server}\"] }\nsettings:\n  \
               server: { type: string, required: true }\n  key: { type: string, secret: true, required: true }\n";
    let sky_script = "\
if answer == () {
    return #{ url: settings.server + \"/now?at=\" + url_encode(\"a b\"), headers: #{ Authorization: settings.key } };
}
state.count = (state.count ?? 0) + 1;
msg.payload = #{ temp: answer.payload.temp, count: state.count, status: answer.status };
msg
";
    let push =
        format!("name: push\nsummary: Pushes.\nrole: sink\nallow: {{ http: [\"{place}\"] }}\n");
    let push_script = format!("[#{{ url: \"{place}/push\", body: msg.payload }}]\n");
    let stray_script = format!("#{{ url: \"{}\", body: msg.payload }}\n", other.url());
    let pipeline = format!(
        "sources:\n  outside: {{ type: sky, server: \"{place}\", key: \"${{file:secrets/key}}\" }}\nsinks:\n  \
         phone: {{ from: outside, type: push }}\n  told: {{ from: phone.answers, type: log }}\n  astray: {{ from: \
         outside, type: stray }}\n"
    );
    let folder = Folder::with(&[
        ("pipelines/x.yaml", &pipeline),
        ("secrets/key", "s3cret-key"),
        ("plugins/sky/plugin.yaml", sky),
        ("plugins/sky/sky.rhai", sky_script),
        ("plugins/push/plugin.yaml", &push),
        ("plugins/push/push.rhai", &push_script),
        ("plugins/stray/plugin.yaml", &push.replace("push", "stray").replace("Pushes", "Strays")),
        ("plugins/stray/stray.rhai", &stray_script),
    ]);
    let forebay = Forebay::run(folder.path());
    let saw = |lines: &Lines, text: &str| {
        lines.wait_for(text, 0, |line| line == text);
    };
    saw(&service.asked, "GET /now?at=a%20b");
    saw(&service.headers, "authorization: s3cret-key");
    saw(&service.asked, "POST /push");
    saw(&service.bodies, r#"{"count":2,"status":200,"temp":21.5}"#);
    forebay.wait_for_log(r#"x/outside {"temp":21.5,"token":7}"#);
    let refused = forebay.wait_for_log("ERROR");
    assert!(
        refused.contains("may not be asked: `allow` of the plugin does not have it"),
        "{refused}"
    );
    assert!(other.asked.all().is_empty(), "{:?}", other.asked.all());
    assert!(!forebay.log.all().iter().any(|line| line.contains("s3cret")));
}

#[test]
fn what_asks_web_services_is_tested_without_them() {
    let manifest = "name: sky\nsummary: Asks.\nrole: source\nevery: 1h\nallow: { http: [\"https://api.example.com\"] }\n";
    let script = "\
if answer == () { return #{ url: \"https://api.example.com/now\" }; }
state.count = (state.count ?? 0) + 1;
msg.payload = #{ temp: answer.payload.temp, count: state.count, at: format_time(now(), \"%H:%M\") };
msg
";
    let tests = "\
tests:
  - name: two hours of weather
    send: [{}, { at: 1h }, { at: 2h }]
    answers: [{ payload: { temp: 21 } }, { status: 500 }, { payload: { temp: 22 } }]
    requests:
      - { method: GET, url: \"https://api.example.com/now\" }
      - {}
      - { body: 1 }
    expect:
      - { topic: test/node, payload: { temp: 21, count: 1, at: \"00:00\" } }
      - { payload: { temp: 22, count: 3, at: \"02:00\" } }
    errors: [status 500]
";
    let pipeline = "sources:\n  s: { type: sky }\nsinks:\n  out: { from: s, type: log }\n";
    let folder = Folder::with(&[
        ("pipelines/x.yaml", pipeline),
        ("plugins/sky/plugin.yaml", manifest),
        ("plugins/sky/sky.rhai", script),
        ("plugins/sky/tests.yaml", tests),
    ]);
    let output = run("test", &folder, &[]);
    assert_eq!(
        stdout(&output),
        "\
sky: two hours of weather
  at plugins/sky/tests.yaml:2:5
  request 3: body: expected 1, found null
  message 2: payload.count: expected 3, found 2

1 of 1 test failed
"
    );
    folder.write(
        "plugins/sky/tests.yaml",
        &tests.replace("count: 3", "count: 2").replace("{ body: 1 }", "{}"),
    );
    assert_eq!(stdout(&run("test", &folder, &[])), "1 test passed\n");
    // Lint reads the tests, too.
    folder.write("plugins/sky/tests.yaml", &tests.replace("status: 500", "satus: 500"));
    let lint = stdout(&run("lint", &folder, &["--format", "short"]));
    assert!(lint.starts_with("plugins/sky/tests.yaml:4:44: error[unknown-setting]"), "{lint}");
}

#[test]
fn what_stands_for_several_nodes_is_tested_as_a_whole() {
    let manifest = "\
name: calm
summary: Doubles and judges.
settings:
  limit: { type: number, default: 10 }
transforms:
  double: { from: input, type: map, fields: { temp: { from: temp, scale: 2 } } }
  output:
    from: double
    type: route
    routes:
      high: msg.payload.temp > 10
";
    let tests = "\
tests:
  - name: what is high goes there
    send: [{ payload: { temp: 3 } }, { payload: { temp: 6 } }, { payload: { temp: cold } }]
    expect: [{ payload: { temp: 6 } }]
    outputs: { high: [{ payload: { temp: 13 } }] }
    errors: [temp]
";
    let pipeline = PIPELINE
        .replace("field: temp, limit: 90", "limit: 9")
        .replace("celsius", "calm")
        .replace("warm.hot", "warm.high");
    let folder = Folder::with(&[
        ("pipelines/kitchen.yaml", &pipeline),
        (
            "plugins/calm/plugin.yaml",
            &manifest.replace("msg.payload.temp > 10", "\"msg.payload.temp > ${settings.limit}\""),
        ),
        ("plugins/calm/tests.yaml", tests),
    ]);
    let said = stdout(&run("test", &folder, &[]));
    assert_eq!(
        said,
        "\
calm: what is high goes there
  at plugins/calm/tests.yaml:2:5
  output `high`, message 1: payload.temp: expected 13, found 12.0

1 of 1 test failed
"
    );
    let lint = stdout(&run("lint", &folder, &["--strict"]));
    assert_eq!(lint, "no findings in 1 pipeline\n");
    assert!(stdout(&run("graph", &folder, &[])).contains("warm:double"));
    let schema: Value = serde_json::from_str(&stdout(&run("schema", &folder, &[]))).unwrap();
    assert_eq!(schema["$defs"]["transform-calm"]["properties"]["limit"]["default"], 10);
    let mut command = program();
    let nodes = command.args(["nodes", "calm"]).current_dir(folder.path()).output().unwrap();
    assert!(stdout(&nodes).contains("  limit  (number, default `10`)"), "{}", stdout(&nodes));
    let plan = stdout(&run("plan", &folder, &["--expand"]));
    assert!(plan.contains("double"), "{plan}");
}

#[test]
fn a_type_with_sources_or_sinks_is_tested_in_a_pipeline() {
    let tests = "tests:\n  - { name: one, send: [{ payload: { temp: 3 } }] }\n";
    let kept = "name: kept\nsummary: Logs what passes.\ntransforms:\n  output: { from: input, type: map, fields: { temp: temp } }\n\
                sinks:\n  keep: { from: output, type: log }\n";
    let told =
        "name: told\nsummary: Logs.\nrole: sink\nsinks:\n  output: { from: input, type: log }\n";
    let folder = Folder::with(&[
        ("plugins/kept/plugin.yaml", kept),
        ("plugins/kept/tests.yaml", tests),
        ("plugins/told/plugin.yaml", told),
        ("plugins/told/tests.yaml", tests),
    ]);
    let said = stdout(&run("test", &folder, &[]));
    for name in ["kept", "told"] {
        let expected = format!("`{name}` has nodes that are no transforms");
        assert!(said.contains(&expected), "{said}");
    }
    assert!(said.contains("expected a NAME.test.yaml beside a pipeline"), "{said}");
}

#[test]
fn a_new_plugin_passes_its_tests_and_lints() {
    let place = Folder::new();
    let make = |arguments: &[&str]| {
        let mut command = program();
        command.current_dir(place.path()).arg("new").args(arguments).output().unwrap()
    };
    assert_eq!(make(&["."]).status.code(), Some(0));
    let made = make(&["plugin", "double"]);
    assert_eq!(stdout(&made).lines().last(), Some("next: forebay test plugins/double"));
    assert_eq!(stdout(&run("test", &place, &[])), "1 test passed\n");
    assert_eq!(stdout(&run("lint", &place, &["--strict"])), "no findings in 1 pipeline\n");
    assert_eq!(stdout(&run("fmt", &place, &["--check"])), "nothing to format, of 4 files\n");
    for (file, schema) in [("plugin.yaml", "plugin"), ("tests.yaml", "plugin-tests")] {
        let text = place.read(&format!("plugins/double/{file}"));
        let line = format!("# yaml-language-server: $schema=../../schemas/{schema}.schema.json");
        assert_eq!(text.lines().next(), Some(line.as_str()));
        let printed = stdout(&forebay(["schema", schema]));
        assert_eq!(place.read(&format!("schemas/{schema}.schema.json")), printed);
    }
    assert_eq!(make(&["plugin", "double"]).status.code(), Some(2));
    assert_eq!(make(&["plugin", "../up"]).status.code(), Some(2));
    assert_eq!(make(&["plugin"]).status.code(), Some(2));
}

#[test]
fn the_files_of_a_plugin_are_laid_out() {
    let folder = folder("tests:\n- {name: a, settings: {field: t}, send: [{payload: {t: 32}}]}\n");
    folder.write("plugins/celsius/plugin.yaml", "outputs: [hot]\nsettings:\n    field: {type: string, required: true}\nsummary: Makes it.\nname: celsius\n");
    assert!(stdout(&run("fmt", &folder, &[])).contains("plugins/celsius/plugin.yaml (from line"));
    assert_eq!(
        folder.read("plugins/celsius/plugin.yaml"),
        "name: celsius\nsummary: Makes it.\nsettings:\n  field: { type: string, required: true }\noutputs: [hot]\n"
    );
    assert_eq!(
        folder.read("plugins/celsius/tests.yaml"),
        "tests:\n  - { name: a, settings: { field: t }, send: [{ payload: { t: 32 } }] }\n"
    );
}
