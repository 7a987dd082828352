//! What an editor makes of the schemas, by the language server that editors use.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, path::Path};

use crate::support::{Folder, LanguageServer};

/// A folder with the schema beside it, as the first line of a pipeline says.
fn folder() -> Folder {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/pipeline.schema.json");
    Folder::with(&[("schemas/pipeline.schema.json", &fs::read_to_string(schema).unwrap())])
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(name);
    fs::read_to_string(path).unwrap()
}

/// The text without its `@`, and the line and column where it stood.
fn cursor(text: &str) -> (String, usize, usize) {
    let at = text.find('@').unwrap();
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    (text.replacen('@', "", 1), text[..at].matches('\n').count() + 1, at - line_start + 1)
}

#[test]
fn an_editor_knows_what_may_stand_in_a_pipeline() {
    let folder = folder();
    let file = folder.path().join("pipelines/x.yaml");
    let text = example("power-meter.yaml");
    let mut server = LanguageServer::open(&file, &text);
    assert_eq!(server.diagnostics(|_| true), [], "an example is right");

    // The mouse rests on a setting: what it does, and of which node.
    let (_, line, column) = cursor(&text.replacen("    unit: 1", "    u@nit: 1", 1));
    let shown = server.hover(line, column);
    assert!(shown.contains("Address of the device on the bus"), "{shown}");
    assert!(shown.contains("modbus source"), "{shown}");

    // What is wrong is underlined where it stands.
    server.change(&text.replacen("unit: 1", "unit: 300", 1).replacen("qos: 1", "qso: 1", 1));
    let line_of = |part: &str| text[..text.find(part).unwrap()].matches('\n').count() as u64 + 1;
    let wrong = server.diagnostics(|found| !found.is_empty());
    let lines: Vec<u64> = wrong.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [line_of("unit: 1"), line_of("qos: 1")], "{wrong:?}");
    assert!(wrong[0].1.contains("255"), "{wrong:?}");
    assert!(wrong[1].1.contains("qso"), "{wrong:?}");
}

#[test]
fn an_editor_offers_what_fits() {
    let folder = folder();
    let file = folder.path().join("pipelines/x.yaml");
    let head = "# yaml-language-server: $schema=../schemas/pipeline.schema.json\n";
    let mut server = LanguageServer::open(&file, head);
    let mut check = |text: &str, expected: &[&str], not: &[&str]| {
        let (text, line, column) = cursor(&(head.to_owned() + text));
        server.change(&text);
        let offered = server.completion(line, column);
        for word in expected {
            assert!(offered.iter().any(|one| one == word), "{word} in {offered:?} of {text}");
        }
        for word in not {
            assert!(offered.iter().all(|one| one != word), "{word} in {offered:?} of {text}");
        }
    };
    check("@\n", &["description", "connections", "sources", "transforms", "sinks"], &["type"]);
    check("sources:\n  m:\n    type: @\n", &["modbus", "mqtt", "timer"], &["log", "script"]);
    check(
        "sinks:\n  s:\n    type: @\n",
        &["mqtt", "http", "log", "file", "modbus"],
        &["timer", "script"],
    );
    let meter = "sources:\n  m:\n    type: modbus\n    connection: bus\n    registers:\n";
    check(&format!("{meter}      - name: a\n        kind: @\n"), &["u16", "f32", "bool"], &[]);
    check(
        &format!("{meter}      - name: a\n        @\n"),
        &["holding", "input", "scale"],
        &["name"],
    );
    let meter = "sources:\n  m:\n    type: modbus\n    connection: bus\n";
    check(&format!("{meter}    profile: @\n"), &["sdm630", "sunspec-inverter"], &["u16"]);
    let sink = "sinks:\n  s:\n    type: mqtt\n    from: x\n    connection: b\n";
    check(&format!("{sink}    @\n"), &["topic", "qos", "retain", "buffer"], &["registers", "from"]);
    check(&format!("{sink}    buffer:\n      when_full: @\n"), &["block", "drop_oldest"], &[]);
}
