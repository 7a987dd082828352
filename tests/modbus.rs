//! Modbus on every wire, against devices and a client that others wrote.

use serde_json::{Value, json};

use crate::support::{Folder, Forebay, ModbusServer, SerialLine, until};

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
    let line = SerialLine::new();
    let device = ModbusServer::at_line(&line.theirs());
    check(&format!("rtu://{}?baud=19200", line.ours().display()), &device);
    let seen_by_another_client = line.read_holding_registers(17, 100, 2);
    assert_eq!(seen_by_another_client, [16812, 0], "21.5 as a float of 32 bits");
}

#[test]
fn a_serial_line_behind_a_gateway_is_read_and_written() {
    let device = ModbusServer::behind_gateway();
    check(&format!("rtu+tcp://127.0.0.1:{}", device.port), &device);
}
