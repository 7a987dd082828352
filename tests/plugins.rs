//! Node types that stand as scripts in a folder: their tests, what knows them, and what goes wrong in them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::{Folder, Forebay, forebay, program};

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
    assert!(String::from_utf8_lossy(&output.stderr).contains("has no folder plugins"));
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
