//! Modbus on every wire, against devices and a client that others wrote.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{
    Folder, Forebay, ModbusServer, Mosquitto, SerialLine, Subscriber, publish, until,
};

/// Reads the device over and over, and writes two of its registers once.
fn pipeline(url: &str, output: &str) -> String {
    format!(
        "connections:
  bus: {{ type: modbus, url: '{url}' }}
sources:
  device:
    type: modbus
    connection: bus
    unit: 17
    every: 200ms
    registers:
      - {{ name: first, holding: 0 }}
      - {{ name: last, holding: 99 }}
      - {{ name: wide, input: 10, kind: u32 }}
      - {{ name: swapped, input: 10, kind: u32, order: CDAB }}
      - {{ name: bit, coil: 3 }}
      - {{ name: other_bit, discrete: 4 }}
      - {{ name: setpoint, holding: 100, kind: f32 }}
  command:
    type: timer
    every: 1h
    payload: {{ setpoint: 21.5, mode: 7, lamp: true }}
sinks:
  readings: {{ from: device, type: file, path: {output}/readings }}
  control:
    from: command
    type: modbus
    connection: bus
    unit: 17
    verify: true
    registers:
      - {{ name: setpoint, holding: 100, kind: f32, min: 5, max: 60 }}
      - {{ name: mode, holding: 110 }}
      - {{ name: lamp, coil: 4 }}
  answers: {{ from: control.answers, type: file, path: {output}/answers }}
"
    )
}

/// Runs the pipeline against the device, and sees what was read, written and answered.
#[track_caller]
fn check(url: &str, device: &ModbusServer) {
    let folder = Folder::new();
    folder.write("p.yaml", &pipeline(url, &folder.path().display().to_string()));
    let _forebay = Forebay::run(folder.path());

    for write in ["wrote 16 100 16812 0", "wrote 6 110 7", "wrote 5 4 1"] {
        device.wait_for(write);
    }
    let lines = |file: &str| -> Vec<Value> {
        folder.read(file).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let answer = json!({ "setpoint": 21.5, "mode": 7, "lamp": true });
    until("the answer", || lines("answers") == [json!({ "written": answer, "read": answer })]);
    let reading = json!({
        "first": 1000, "last": 1099, "wide": 1010 * 65536 + 1011, "swapped": 1011 * 65536 + 1010,
        "bit": true, "other_bit": true, "setpoint": 21.5,
    });
    until("a reading of all that was written", || lines("readings").last() == Some(&reading));
    let first = lines("readings")[0].clone();
    assert_eq!((&first["first"], &first["wide"]), (&json!(1000), &reading["wide"]));
    assert_eq!(device.count("wrote 6 110 7"), 1, "a command is carried out once");
}

#[test]
fn a_serial_line_is_read_and_written() {
    let Some(line) = SerialLine::new() else { return };
    let device = ModbusServer::at_line(&line.theirs());
    check(&format!("rtu://{}?baud=19200", line.ours().display()), &device);
    let seen_by_another_client = line.read_holding_registers(17, 100, 2);
    assert_eq!(seen_by_another_client, [16812, 0], "21.5 as a float of 32 bits");
}

#[test]
fn a_serial_adapter_that_is_pulled_out_and_comes_back_is_read_again() {
    let Some(mut line) = SerialLine::new() else { return };
    let device = ModbusServer::at_line(&line.theirs());
    let pipeline = format!(
        "connections: {{ bus: {{ type: modbus, url: 'rtu://{}?baud=19200' }} }}
sources:
  device:
    {{ type: modbus, connection: bus, unit: 17, every: 200ms, registers: [{{ name: a, holding: 7 }}] }}
sinks: {{ readings: {{ from: device, type: log }} }}
",
        line.ours().display()
    );
    let folder = Folder::with(&[("p.yaml", &pipeline)]);
    let forebay = Forebay::run(folder.path());
    forebay.wait_for_log(r#"{"a":1007}"#);
    line.pull_out();
    drop(device);
    let said = forebay.wait_for_log("No such file or directory");
    assert!(said.contains(&format!("opening {}", line.ours().display())), "{said}");
    line.plug_in();
    let _device = ModbusServer::at_line(&line.theirs());
    forebay.wait_for_log("works again");
    forebay.log_after(r#"{"a":1007}"#, || ());
}

#[test]
fn a_driver_that_does_not_switch_the_direction_of_its_line_says_so() {
    let Some(line) = SerialLine::new() else { return };
    let url = format!("rtu://{}?baud=19200&rts=low&rts_after=1ms", line.ours().display());
    let folder = Folder::with(&[(
        "p.yaml",
        &format!(
            "sources:
  device:
    type: modbus
    connection: {{ type: modbus, url: '{url}' }}
    every: 200ms
    registers: [{{ name: a, holding: 7 }}]
sinks: {{ readings: {{ from: device, type: log }} }}
"
        ),
    )]);
    let forebay = Forebay::run(folder.path());
    let said = forebay.wait_for_log("its driver does not switch the direction");
    assert!(said.contains("leave out `rts`"), "{said}");
    assert!(said.contains(&format!("opening {}", line.ours().display())), "{said}");
}

#[test]
fn a_device_of_libmodbus_is_read_and_written() {
    let device = ModbusServer::by_libmodbus();
    check(&format!("tcp://127.0.0.1:{}", device.port), &device);
}

#[test]
fn a_serial_line_behind_a_gateway_is_read_and_written() {
    let device = ModbusServer::behind_gateway();
    check(&format!("rtu+tcp://127.0.0.1:{}", device.port), &device);
}

/// The example as it is, with a broker and a device of others.
#[test]
fn requests_in_the_form_of_the_routers_own_gateway_are_answered_in_it() {
    let (broker, device) = (Mosquitto::start(), ModbusServer::behind_gateway());
    let answers = Subscriber::to(broker.port, "response");
    let plant = format!(
        "connections:
  plant: {{ type: mqtt, url: '{}' }}
  meter-bus: {{ type: modbus, url: 'rtu+tcp://127.0.0.1:{}' }}
",
        broker.url(),
        device.port
    );
    let folder = Folder::with(&[
        ("plant.yaml", &plant),
        ("gateway.yaml", include_str!("../pipelines/modbus-on-request.yaml")),
        ("scripts/rutos-request.rhai", include_str!("../pipelines/scripts/rutos-request.rhai")),
        ("scripts/rutos-answer.rhai", include_str!("../pipelines/scripts/rutos-answer.rhai")),
    ]);
    let _forebay = Forebay::run(folder.path());
    until("a subscription", || {
        publish(broker.port, "request", "0 1 0 10.0.0.9 502 5 17 3 1 1", &["-q", "1"]);
        answers.payloads().contains(&"1 OK 1000".to_owned())
    });

    for (request, answer) in [
        (
            "0 18446744073709551615 0 10.0.0.9 502 5 17 3 11 3",
            "18446744073709551615 OK 1010 1011 1012",
        ),
        ("0 2 0 10.0.0.9 502 5 17 1 1 4", "2 OK 1 0 0 1"),
        ("0 3 0 10.0.0.9 502 5 17 6 101 7", "3 OK"),
        ("0 4 2 meter 502 5 17 16 102 2 8,9", "4 OK"),
        ("0 5 0 10.0.0.9 502 5 17 3 101 3", "5 OK 7 8 9"),
        ("0 6 0 10.0.0.9 502 5 17 5 3 1", "6 OK"),
        ("0 7 0 10.0.0.9 502 5 17 15 4 2 1,0", "7 OK"),
        (
            "0 8 0 10.0.0.9 502 5 17 6 1 7",
            "8 ERROR: holding register 0: not among what this sink may `write`",
        ),
        (
            "0 9 0 10.0.0.9 502 5 17 16 101 3 1,2",
            "9 ERROR: expected as many `values` as `count`, found 2 and 3",
        ),
        ("0 10 hello", "10 ERROR: not a request"),
        ("hello", "0 ERROR: not a request"),
    ] {
        publish(broker.port, "request", request, &["-q", "1"]);
        answers.wait_for(request, |got| got.payload == answer);
    }
    publish(broker.port, "request", "0 11 0 10.0.0.9 502 5 17 4 501 1", &["-q", "1"]);
    let refused = |payload: &str| payload.ends_with("illegal data address (exception 2)");
    answers.wait_for("a refusal", |got| {
        got.payload.starts_with("11 ERROR: ") && refused(&got.payload)
    });
    assert_eq!(device.count("wrote 16 101 8 9"), 1);
}

/// A device of a kind, played by a server that others wrote.
fn device(image: &str) -> ModbusServer {
    let images = concat!(env!("CARGO_MANIFEST_DIR"), "/plugins/modbus/profiles/images");
    ModbusServer::of_image(&Path::new(images).join(format!("{image}.yaml")))
}

/// Some values of an image, as they stand in its file.
#[track_caller]
fn check_profile(image: &str, settings: &str, values: &Value) {
    let device = device(image);
    let folder = Folder::new();
    let (port, output) = (device.port, folder.path().display().to_string());
    folder.write(
        "p.yaml",
        &format!(
            "connections: {{ bus: {{ type: modbus, url: 'tcp://127.0.0.1:{port}' }} }}
sources:
  device: {{ type: modbus, connection: bus, every: 500ms, {settings} }}
sinks:
  readings: {{ from: device, type: file, path: {output}/readings }}
"
        ),
    );
    let _forebay = Forebay::run(folder.path());
    let first = || {
        let text = folder.read("readings");
        text.lines().next().and_then(|line| serde_json::from_str::<Value>(line).ok())
    };
    until("a reading", || first().is_some());
    assert_eq!(first().as_ref(), Some(values));
}

#[test]
fn a_profile_reads_a_meter_that_others_play() {
    let only = "profile: sdm630, only: [voltage_l1, power, energy_import, reactive_energy_l3]";
    let values = json!({
        "voltage_l1": 230.2, "power_l1": 1500.5, "power_l2": -899.8, "power_l3": 603.2, "power": 1203.9,
        "energy_import": 1234.5, "reactive_energy_l3": 8.25,
    });
    check_profile("sdm630", only, &values);
}

#[test]
fn a_sunspec_inverter_that_others_play_is_found_by_its_map() {
    let settings = "profile: sunspec-inverter, only: [model, power, energy, state, dc_voltage]";
    let mut values = json!({
        "model": "Symo 10.0-3-M", "power": 10060.0, "frequency": 50.01, "apparent_power": 10070.0,
        "reactive_power": -12.0, "power_factor": -0.999, "energy": 12345.678, "dc_voltage": 620.3,
        "state": "running",
    });
    check_profile("sunspec-inverter", settings, &values);
    // Another one has floats, and its map elsewhere.
    for (name, value) in [
        ("power", json!(10060.5)),
        ("frequency", json!(50.0)),
        ("apparent_power", json!(10070.25)),
        ("reactive_power", json!(-12.5)),
        ("power_factor", json!(-0.995)),
        ("dc_voltage", json!(620.25)),
        ("state", json!("fault")),
    ] {
        values[name] = value;
    }
    check_profile("sunspec-inverter.float", settings, &values);
}

#[test]
fn an_edited_profile_takes_the_place_of_what_runs() {
    let device = device("sdm630");
    let folder = Folder::new();
    let (port, output) = (device.port, folder.path().display().to_string());
    folder.write(
        "pipelines/p.yaml",
        &format!(
            "connections: {{ bus: {{ type: modbus, url: 'tcp://127.0.0.1:{port}' }} }}
sources:
  device: {{ type: modbus, connection: bus, every: 200ms, profile: mine }}
sinks:
  readings: {{ from: device, type: file, path: {output}/readings }}
"
        ),
    );
    let profile = |address: &str| {
        folder.write(
            "profiles/mine.yaml",
            &format!("registers: [{{ name: watts, input: {address}, kind: f32 }}]\n"),
        );
    };
    let last = || folder.read("readings").lines().last().unwrap_or_default().to_owned();
    let data = folder.path().join("data");
    profile("0x34");
    let mut forebay = Forebay::run_on(folder.path(), &data);
    until("the sum", || last() == r#"{"watts":1203.9}"#);
    profile("wrong");
    forebay.wait_for_log("profiles/mine.yaml:1:35");
    profile("0x0C");
    until("the first phase", || last() == r#"{"watts":1500.5}"#);
    let kept = |number| folder.read(&format!("data/accepted/{number}/files/profiles/mine.yaml"));
    until("a copy of it", || kept(2).contains("0x0C"));
    // What was accepted is there without the folder of profiles, too.
    folder.write("profiles/mine.yaml", "registers: [\n");
    forebay.kill();
    let _again = Forebay::run_on(folder.path(), &data);
    let lines = folder.read("readings").lines().count();
    until("the copy of the profile", || folder.read("readings").lines().count() > lines + 2);
    assert_eq!(last(), r#"{"watts":1500.5}"#);
}
