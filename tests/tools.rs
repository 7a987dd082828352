//! The simulated devices against clients that others wrote, and `forebay probe` against servers that others
//! wrote.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::support::{
    Folder, Forebay, ModbusServer, SerialLine, forebay, is_emulated, program, python, until,
};

const DEVICES: &str = "\
devices:
  - units: 1-3
    registers:
      - { name: volts, input: 0, kind: f32, order: CDAB, unit: V }
      - { name: setpoint, holding: 9, kind: i16, scale: 0.1 }
      - { name: lamp, coil: 3 }
    values: { volts: 230.1, setpoint: -21.5, lamp: true }
    holding: { 0xA: \"00FF\", 20: \"0001 1170\", 40: \"FFFF FF38 0000 0001\" }
    discrete: { 0: \"1011\" }
    identity: [Forebay, demo, \"1.0\"]
";

/// `forebay simulate modbus`, and what it listens at.
fn simulate(folder: &Folder, arguments: &[&str]) -> (Forebay, Vec<String>) {
    folder.write("devices.yaml", DEVICES);
    let mut command = program();
    command.args(["simulate", "modbus"]).arg(folder.path().join("devices.yaml")).args(arguments);
    let simulator = Forebay::of(command);
    simulator.wait_for_log("Ctrl-C ends");
    let all = simulator.log.all();
    let urls = all.iter().filter(|line| line.contains("  Modbus "));
    let urls = urls.map(|line| line.split("  ").next().unwrap().to_owned()).collect();
    (simulator, urls)
}

fn port_of(url: &str) -> &str {
    url.rsplit(':').next().unwrap()
}

fn probe(arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = forebay(["probe"].into_iter().chain(arguments.iter().copied()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

#[test]
fn another_client_reads_and_writes_the_simulated_devices() {
    let folder = Folder::new();
    let listen = ["--listen", "tcp://127.0.0.1:0", "--listen", "rtu+tcp://127.0.0.1:0"];
    let (simulator, urls) = simulate(&folder, &listen);
    let script = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/modbus_client.py"));
    for (framing, url, unit) in [("tcp", &urls[0], "1"), ("rtu", &urls[1], "2")] {
        let mut client = Command::new(python());
        let output = client.arg(script).args([framing, port_of(url), unit]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // 230.1 is 0x4366199A.
        let expected = "[6554, 17254]\n[True, False, True, True]\nFalse\nFalse\n[5, 7]\nFalse\n[3, 7]\n[False]\n2\n\
            {0: b'Forebay', 1: b'demo', 2: b'1.0'}\n";
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, expected, "{framing}: {errors}");
        simulator.wait_for_log(&format!("unit {unit}: wrote holding register 9: 0005 0006"));
    }
}

#[test]
fn another_client_reads_the_simulated_devices_on_a_pseudo_terminal() {
    let folder = Folder::new();
    let link = folder.path().join("line");
    let (mut simulator, urls) = simulate(&folder, &[&format!("--pty={}", link.display())]);
    assert_eq!(urls, [format!("rtu://{}?baud=9600", link.display())]);
    let mut client = Command::new("mbpoll");
    client.args(["-m", "rtu", "-b", "9600", "-P", "none", "-a", "3", "-0", "-r", "9", "-1", "-q"]);
    let output = client.arg(&link).output().expect("tests/run installs mbpoll");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("(-215)"), "{said}");
    simulator.signal("TERM");
    assert!(simulator.wait_exit().success());
    assert!(!link.is_symlink(), "the link is gone with what it led to");
}

/// The devices of libmodbus's own unit test.
const UNIT_TEST: &str = "\
devices:
  - coil: { 0x130: \"0000000000000000000000000000000000000\" }
    discrete: { 0x1C4: \"00110101 11011011 101011\" }
    holding: { 0x160: \"0000 0000 0000 0000\" }
    input: { 0x108: \"000A\" }
";

#[test]
fn the_simulated_devices_pass_the_unit_test_of_libmodbus() {
    let folder = Folder::with(&[("unit_test.yaml", UNIT_TEST)]);
    let link = folder.path().join("line");
    let mut command = program();
    command.args(["simulate", "modbus"]).arg(folder.path().join("unit_test.yaml"));
    command.args(["--listen", "tcp://127.0.0.1:0", &format!("--pty={}", link.display())]);
    let simulator = Forebay::of(command);
    simulator.wait_for_log("Ctrl-C ends");
    let url = simulator.wait_for_log("Modbus TCP");
    let url = url.split("  ").next().unwrap();
    let script = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/libmodbus.py"));
    for place in [["tcp", port_of(url)], ["rtu", link.to_str().unwrap()]] {
        let output = Command::new(python()).arg(script).arg("client").args(place).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n", "{place:?}: {errors}");
    }
}

#[test]
fn a_file_of_devices_with_mistakes_is_shown_where_they_are() {
    let folder = Folder::new();
    let said = |text: &str| {
        folder.write("x.yaml", text);
        let path = folder.path().join("x.yaml");
        let output = forebay(["simulate", "modbus", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let wide = said("devices:\n  - registers: [{ name: a, input: 0 }]\n    values: { a: 70000 }\n");
    assert!(wide.contains("expected 0 to 65535") && wide.contains("x.yaml:3:18"), "{wide}");
    let unknown = said("devices: [{ regsters: [] }]\n");
    assert!(unknown.contains("regsters") && unknown.contains("registers"), "{unknown}");
    let moves =
        said("devices:\n  - registers: [{ name: a, input: 0 }]\n    values: { a: { sin: {} } }\n");
    assert!(moves.contains("expected `sine`, `ramp`, `random` or `counter`"), "{moves}");
}

/// Sees what a server that others wrote holds, and gives a pipeline that lints.
#[track_caller]
fn check_probe(url: &str) {
    let arguments =
        [url, "--unit", "17", "--holding", "95..105", "--input", "10-11", "--coil", "0-3"];
    let (text, errors, code) = probe(&arguments);
    assert_eq!((errors.as_str(), code), ("", Some(0)), "{text}");
    // 1010 and 1011.
    let says = "says     unit 17 is Acme, RX-7, 2.1, Boiler controller";
    for expected in ["03F2  1010", "66192371", "66257906", "answers  95-105", "0  1001", says] {
        assert!(text.contains(expected), "`{expected}` is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let pipeline = text.split("# to paste into a file of pipelines\n").nth(1).unwrap();
    let folder = Folder::with(&[("pipelines/p.yaml", pipeline)]);
    let lint = forebay([Path::new("lint"), folder.path()]);
    let said = String::from_utf8_lossy(&lint.stdout).into_owned();
    assert_eq!(said, "no findings in 1 pipeline\n", "{pipeline}");
}

#[test]
fn a_device_that_others_wrote_is_looked_at() {
    let gateway = ModbusServer::behind_gateway();
    check_probe(&format!("rtu+tcp://127.0.0.1:{}", gateway.port));
    let Some(line) = SerialLine::new() else { return };
    let _device = ModbusServer::at_line(&line.theirs());
    check_probe(&format!("rtu://{}?baud=19200", line.ours().display()));
}

#[test]
fn a_meter_is_understood_by_looking_at_it() {
    let meter = ModbusServer::start();
    let url = format!("tcp://127.0.0.1:{}", meter.port);
    let (text, _, code) = probe(&[&url, "--unit", "1", "--input", "0..0x49", "--format", "json"]);
    assert_eq!(code, Some(0), "{text}");
    let seen: Value = serde_json::from_str(&text).unwrap();
    let values = seen["tables"][0]["values"].as_array().unwrap();
    for (address, value) in [(0, "230.1"), (6, "12.6"), (0x34, "1402"), (0x46, "50.02")] {
        let guess = &values[address]["guess"];
        assert_eq!((&guess["kind"], &guess["order"]), (&"f32".into(), &"ABCD".into()), "{guess}");
        assert_eq!(guess["value"], value);
    }
    assert!(seen["yaml"].as_str().unwrap().contains("input: 70, kind: f32"), "{seen}");
    assert_eq!(seen["requests"], 5, "who is there, two looks, and twice what it says of itself");
}

#[test]
fn a_kind_that_is_asked_for_is_shown_in_every_order() {
    let folder = Folder::new();
    let (_simulator, urls) = simulate(&folder, &["--listen", "tcp://127.0.0.1:0"]);
    let look = |more: &[&str]| {
        let arguments = [&[urls[0].as_str(), "--unit", "1", "--holding", "40-43"], more].concat();
        let (text, errors, code) = probe(&arguments);
        assert_eq!((errors.as_str(), code), ("", Some(0)), "{text}");
        text
    };
    let text = look(&["--kind", "i64,unix_time"]);
    for expected in [
        "unit 1 is Forebay, demo, 1.0",
        "\n    i32      ABCD ",
        "\n     40      -200 ",
        "\n    i64              ABCD ",
        "1970-01-01T00:00:01.000Z",
    ] {
        assert!(text.contains(expected), "`{expected}` is not in\n{text}");
    }
    let text = look(&["--kind", "all"]);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let seen: Value = serde_json::from_str(&look(&["--kind", "u64", "--format", "json"])).unwrap();
    assert_eq!(seen["units"][0]["says"]["product_code"], "demo", "{seen}");
    let value = &seen["tables"][0]["values"][0];
    assert_eq!(value["u64"]["ABCD"], 0xFFFF_FF38_0000_0001_u64, "{value}");
    let (_, errors, code) = probe(&[&urls[0], "--kind", "u33"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("`--kind`: `u33` is none; expected `all`, or of u8"), "{errors}");
}

/// Two kinds, one of them found by its map and one of the user's, are read by their profiles.
#[test]
fn a_device_of_a_profile_is_played_by_its_name() {
    let mine = "defaults: { kind: i16 }
registers: [{ name: flow, input: 7, scale: 0.1, unit: degC }, { name: state, holding: 3 }]
writable: [{ name: setpoint, holding: 9, scale: 0.1, min: 20, max: 80 }]
";
    let folder = Folder::with(&[("profiles/mine.yaml", mine)]);
    let mut command = program();
    command.args(["simulate", "modbus", "--listen", "tcp://127.0.0.1:0"]);
    command.args(["--profile", "sunspec-inverter", "--profile"]);
    command.arg("mine").current_dir(folder.path());
    let simulator = Forebay::of(command);
    let url = simulator.wait_for_log("  Modbus TCP").split("  ").next().unwrap().to_owned();
    let output = folder.path().display().to_string();
    folder.write(
        "pipelines/p.yaml",
        &format!(
            "connections: {{ bus: {{ type: modbus, url: '{url}' }} }}
sources:
  inverter: {{ type: modbus, connection: bus, unit: 1, every: 200ms, profile: sunspec-inverter, only: [frequency, model] }}
  boiler: {{ type: modbus, connection: bus, unit: 2, every: 200ms, profile: mine }}
  command: {{ type: timer, every: 1h, payload: {{ setpoint: 41.5 }} }}
sinks:
  set: {{ type: modbus, connection: bus, unit: 2, from: command, profile: mine }}
  readings: {{ from: [inverter, boiler], type: file, path: {output}/readings }}
"
        ),
    );
    let _forebay = Forebay::run(folder.path());
    simulator.wait_for_log("unit 2: wrote holding register 9: 019F");
    let is_between = |value: &Value, least: f64, most: f64| {
        value.as_f64().is_some_and(|value| (least..=most).contains(&value))
    };
    until("a reading of each", || {
        let text = folder.read("readings");
        let lines: Vec<Value> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let inverter = |line: &Value| {
            line["model"] == "sunspec-inverter" && is_between(&line["frequency"], 49.9, 50.1)
        };
        let boiler = |line: &Value| is_between(&line["flow"], 18.0, 24.0) && line["state"] == 0;
        lines.iter().any(inverter) && lines.iter().any(boiler)
    });
    let output = forebay(["simulate", "modbus", "--profile", "sdm63"]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        errors.contains("`--profile sdm63`: there is none; expected a file, or of em24"),
        "{errors}"
    );
}

#[test]
fn nothing_there_says_what_it_was_and_what_to_try() {
    let folder = Folder::new();
    let link = folder.path().join("line");
    let arguments = ["--listen", "tcp://127.0.0.1:0", &format!("--pty={}", link.display())];
    let (_simulator, urls) = simulate(&folder, &arguments);
    let (tcp, line) = (&urls[0], &urls[1]);
    let says = |arguments: &[&str], expected: &str| {
        let (_, errors, code) = probe(arguments);
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains(expected), "`{expected}` is not in\n{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    };
    says(&["tcp://127.0.0.1:9"], "connecting to 127.0.0.1:9: ");
    says(&[&tcp.replace("tcp", "rtu+tcp"), "--timeout", "300ms"], "`tcp://` is Modbus TCP");
    says(&[tcp, "--unit", "7-9"], "no unit of 7-9");
    says(&[tcp, "--unit", "7-9"], "gateway target device");
    says(&[port_of(tcp)], "does not lead to a bus");
    says(&[tcp, "--input", "9..1"], "expected the smaller first");
    // There are no serial lines there.
    if is_emulated() {
        return;
    }
    says(&[line, "--unit", "9", "--timeout", "200ms"], "no answer within 200ms; is the line 9600");
    folder.write(
        "pipelines/p.yaml",
        &format!(
            "sources:\n  a:\n    type: modbus\n    connection: {{ type: modbus, url: '{line}' }}\n    \
             every: 1s\n    registers: [{{ name: a, holding: 9 }}]\nsinks: {{ out: {{ type: log, from: a }} }}\n"
        ),
    );
    let forebay = Forebay::run(folder.path());
    forebay.wait_for_log("65321");
    says(&[line], "another program has it open, such as a running forebay");
}
