//! Flows that people publish for Node-RED, said in pipelines: from its cookbook, and from public repositories. They lint and do
//! what the flows do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::{Folder, Forebay, ModbusServer, program};

/// What each flow sends, in this order, with anything in between.
const SENT: [(&str, &[&str]); 16] = [
    ("range", &[r#"knob {"value":5.0}"#]),
    (
        "route-on-property",
        &[
            r#"thermostat/heating {"temp":16,"on":true}"#,
            r#"thermostat/heating {"temp":17,"on":true}"#,
            r#"thermostat/neither {"temp":18}"#,
            r#"thermostat/neither {"temp":20}"#,
            r#"thermostat/cooling {"temp":21,"on":true}"#,
        ],
    ),
    ("route-on-context", &["way/shut {", "way/open {", "way/shut {", "way/open {"]),
    (
        "report-by-exception",
        &[
            r#"exception {"value":10}"#,
            r#"exception {"value":13}"#,
            r#"exception {"value":40}"#,
            r#"exception {"value":10}"#,
        ],
    ),
    ("rate-limit-stream", &[r#"rate/a {"count":1}"#, "rate/a {", "rate/a {"]),
    (
        "trigger-timeout",
        &[
            r#"watched {"count":4}"#,
            r#"watched/placeholder {"count":0}"#,
            r#"watched/placeholder {"count":0}"#,
            r#"watched {"count":26}"#,
            r#"watched/back {"state":"cleared"}"#,
        ],
    ),
    ("join-streams", &[r#"joined {"temperature":10,"humidity":55,"pressure":999}"#]),
    ("operate-on-array", &["array [60,70,80,90]"]),
    ("split-text", &[r#"lines "one""#, r#"lines "two""#, r#"lines "three""#]),
    (
        "csv",
        &[
            r#"csv/row {"name":"hall","temp":21.5}"#,
            r#"csv/row {"name":"yard","temp":-3}"#,
            r#"csv/out "name,temp\nhall,21.5\nyard,-3\n""#,
        ],
    ),
    ("convert", &[r#"json/sum "{\"sum\":3}""#]),
    (
        "trigger-on-error",
        &[
            r#"risky {"count":1}"#,
            r#"caught {"error":"the device said no","count":2}"#,
            r#"risky {"count":3}"#,
        ],
    ),
    (
        "state-machine",
        &[
            r#"door/locked "shut""#,
            r#"door/refused "open""#,
            r#"door/refused "lock""#,
            r#"door/refused "close""#,
            r#"door/shut "locked""#,
        ],
    ),
    ("registers-to-floats", &[r#"meter {"current_a":50.0,"voltage_an":244.5}"#]),
    (
        "bathroom-lights",
        &[
            r#"bathroom/light_big "on""#,
            r#"bathroom/light_small "off""#,
            r#"bathroom/light_big "off""#,
            r#"bathroom/light_big "on""#,
        ],
    ),
    ("convert", &[r#"xml/to {"to":"Nick","priority":"high"}"#]),
];

fn flows() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node_red")
}

#[test]
fn public_flows_of_node_red_are_said_in_pipelines_and_do_the_same() {
    let folder = Folder::new();
    for entry in fs::read_dir(flows()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        folder.write(&format!("pipelines/{name}"), &fs::read_to_string(&path).unwrap());
    }
    let device = ModbusServer::behind_gateway();
    let with_port = |arguments: &[&str]| {
        let mut command = program();
        command.args(arguments).arg(folder.path()).env("PLC_PORT", device.port.to_string());
        command
    };
    let lint = with_port(&["lint", "--strict"]).output().unwrap();
    let said = String::from_utf8_lossy(&lint.stdout).into_owned();
    assert!(lint.status.success(), "{said}");

    let forebay = Forebay::of(with_port(&["run"]));
    for (flow, sent) in SENT {
        let mut from = 0;
        for text in sent {
            let what = format!("`{text}` of {flow}");
            let (at, _) = forebay.log.wait_for(&what, from, |line| line.contains(text));
            from = at + 1;
        }
    }
    device.wait_for("wrote 16 100 16528 0 16794 0");
}
