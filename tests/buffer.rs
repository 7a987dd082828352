//! `forebay buffer`: looks into buffers on disk, of a runtime that runs or of none.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{path::Path, process::Output};

use forebay::engine::buffer::{Batch, Folder as BufferFolder, Limits, Log, folder_of};
use forebay_sdk::{Format, Message, Payload, Timestamp};
use serde_json::{Value, json};

use crate::support::{Folder, forebay};

/// 2026-11-21T00:00:00Z.
const TODAY: i64 = 1_795_219_200_000_000_000;

/// Fills the buffer of a node, and keeps it open.
fn fill(data: &Path, node: &str, payloads: Vec<Payload>) -> Log {
    let limits = Limits { max_bytes: 1 << 20 };
    let (mut log, _) = Log::open(BufferFolder::new(folder_of(data, node)), limits).unwrap();
    let mut batch = Batch::new(log.next_seq());
    for (at, payload) in payloads.into_iter().enumerate() {
        let mut message = Message::new("site/a", payload);
        message.time = Timestamp::from_unix_nanos(TODAY + at as i64 * 1_000_000_001);
        message.meta.source = Some("p/meter".into());
        message.meta.insert("quality", json!({ "flow": "no answer" }));
        batch.push(&message);
    }
    log.append(&batch).unwrap();
    log.sync().unwrap();
    log
}

fn kinds() -> Vec<Payload> {
    vec![
        json!({ "n": 1.5 }).into(),
        Payload::encoded("{ \"a\" :\n 1.10 }", Format::Json),
        Payload::encoded("\u{1b}[2Jon", Format::Text),
        Payload::encoded(&b"\xff\x00"[..], Format::Bytes),
        Payload::encoded("{oops", Format::Json),
    ]
}

fn buffer(data: &Path, arguments: &[&str]) -> Output {
    let data = data.to_str().unwrap();
    forebay([&["buffer"], arguments, &["--data", data]].concat())
}

/// What a verb printed that went well.
#[track_caller]
fn printed(data: &Path, arguments: &[&str]) -> String {
    let output = buffer(data, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(data: &Path, arguments: &[&str]) -> String {
    let output = buffer(data, arguments);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn every_buffer_is_listed_with_what_is_in_it() {
    let folder = Folder::with(&[(
        "x.yaml",
        "sources: { t: { type: timer, every: 1h } }\nsinks:\n  \
         plant: { from: t, type: log, buffer: { store: disk } }\n  old: { from: t, type: log }\n",
    )]);
    let data = folder.path().join("data");
    assert!(printed(&data, &["ls"]).starts_with("no buffer on disk below "));
    // Open, as by a runtime that runs.
    let _open = fill(&data, "x/plant", kinds());
    fill(&data, "x/old", vec![json!(1).into()]);
    fill(&data, "gone/a b", Vec::new());
    let text = printed(&data, &["ls"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("node      messages   size  oldest"), "{text}");
    assert!(lines[1].starts_with("gone/a b         0    0 B  -"), "{text}");
    let times = "2026-11-21T00:00:00.000Z  2026-11-21T00:00:04.000Z";
    assert!(lines[3].starts_with("x/plant ") && lines[3].ends_with(times), "{text}");
    let site = folder.path().to_str().unwrap();
    let json = printed(&data, &["ls", site, "--format", "json"]);
    let rows: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let used: Vec<_> = rows.iter().map(|row| (row["node"].as_str(), &row["used"])).collect();
    let (yes, no) = (json!(true), json!(false));
    // `old` is in memory by now, and sends what is left on disk first.
    assert_eq!(used, [(Some("gone/a b"), &no), (Some("x/old"), &yes), (Some("x/plant"), &yes)]);
    assert_eq!(rows[2]["messages"], 5);
    assert_eq!(rows[2]["oldest"], "2026-11-21T00:00:00.000Z");
    assert!(printed(&data, &["ls", site]).contains("no sink uses it\n"));
}

#[test]
fn messages_are_shown_for_people() {
    let folder = Folder::new();
    let _open = fill(folder.path(), "x/plant", kinds());
    let text = printed(folder.path(), &["show", "x/plant"]);
    let expected = [
        r#"2026-11-21T00:00:00.000Z  site/a  {"n":1.5}  source=p/meter  quality={"flow":"no answer"}"#,
        r#"2026-11-21T00:00:01.000Z  site/a  { "a" :  1.10 }  source"#,
        r#"2026-11-21T00:00:02.000Z  site/a  "\u001b[2Jon"  source"#,
        r"2026-11-21T00:00:03.000Z  site/a  2 bytes: \xff\x00  source",
        r"2026-11-21T00:00:04.000Z  site/a  5 bytes: {oops  source",
    ];
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("x/plant: 5 messages, "), "{text}");
    assert_eq!(lines.len(), 6, "{text}");
    for (line, expected) in lines[1..].iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\n{expected}");
    }
    let text = printed(folder.path(), &["show", "x/plant", "--limit", "2"]);
    assert!(text.ends_with("\n3 more; --limit shows more of them\n"), "{text}");
}

#[test]
fn an_export_loses_nothing() {
    let folder = Folder::new();
    let log = fill(folder.path(), "x/plant", kinds());
    drop(log);
    let text = printed(folder.path(), &["export", "x/plant"]);
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        rows[0],
        json!({
            "seq": 0, "time": "2026-11-21T00:00:00.000Z", "unix_nanos": TODAY, "topic": "site/a",
            "source": "p/meter", "meta": { "quality": { "flow": "no answer" } },
            "format": "json", "payload": { "n": 1.5 },
        })
    );
    assert!(text.lines().nth(1).unwrap().contains(r#""payload":{ "a" :  1.10 }}"#), "{text}");
    assert_eq!(rows[1]["unix_nanos"], TODAY + 1_000_000_001);
    assert_eq!((&rows[2]["format"], &rows[2]["payload"]), (&json!("text"), &json!("\u{1b}[2Jon")));
    assert_eq!((&rows[3]["format"], &rows[3]["payload_base64"]), (&json!("bytes"), &json!("/wA=")));
    assert_eq!(rows[4]["payload_base64"], "e29vcHM=");
    assert_eq!(rows.len(), 5);
}

#[test]
fn a_buffer_goes_only_when_nobody_uses_it_and_somebody_said_so() {
    let folder = Folder::new();
    let data = folder.path();
    let open = fill(data, "x/plant", kinds());
    let error = refused(data, &["drop", "x/plant", "--yes"]);
    assert!(error.contains("a running forebay has the buffer of `x/plant` open"), "{error}");
    drop(open);
    let error = refused(data, &["drop", "x/plant"]);
    assert_eq!(
        error,
        "error: delete 5 messages of `x/plant` for good? Say --yes where nobody can be asked\n"
    );
    assert!(folder_of(data, "x/plant").is_dir());
    let text = printed(data, &["drop", "x/plant", "--yes"]);
    assert_eq!(text, "deleted 5 messages of `x/plant`\n");
    assert!(printed(data, &["ls"]).starts_with("no buffer on disk below "));
}

#[test]
fn a_buffer_that_is_not_there_is_named_with_those_that_are() {
    let folder = Folder::new();
    fill(folder.path(), "x/plant", kinds());
    let error = refused(folder.path(), &["show", "x/plan"]);
    assert!(error.contains("`x/plan` has no buffer below "), "{error}");
    assert!(error.ends_with("; there are x/plant\n"), "{error}");
}

#[test]
fn a_renamed_sink_gets_what_waited_under_its_old_name() {
    let folder = Folder::with(&[(
        "x.yaml",
        "sources: { t: { type: timer, every: 1h } }\nsinks:\n  \
         cloud: { from: t, type: log, buffer: { store: disk } }\n",
    )]);
    let data = &folder.path().join("data");
    let site = folder.path().to_str().unwrap();
    fill(data, "x/plant", kinds());
    // One with nothing in it is in nobody's way.
    fill(data, "y/cloud", Vec::new());
    let planned = |format: &[&str]| {
        let data = data.to_str().unwrap();
        let output = forebay([&["plan", site, "--data", data], format].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    let text = planned(&[]);
    let line = "\n5 messages of x/plant on disk would stay behind; \
                `forebay buffer move x/plant NEW` gives them to another sink\n";
    assert!(text.ends_with(line), "{text}");
    let plan: Value = serde_json::from_str(&planned(&["--format", "json"])).unwrap();
    assert_eq!(plan["left_behind"], json!([{ "node": "x/plant", "messages": 5 }]));

    let before = printed(data, &["export", "x/plant"]);
    let moved = printed(data, &["move", "x/plant", "y/cloud"]);
    assert_eq!(moved, "moved 5 messages of `x/plant` to `y/cloud`\n");
    assert!(!folder_of(data, "x/plant").parent().unwrap().exists());
    assert_eq!(printed(data, &["export", "y/cloud"]), before);
    let moved = printed(data, &["move", "y/cloud", "x/cloud"]);
    assert_eq!(moved, "moved 5 messages of `y/cloud` to `x/cloud`\n");
    assert!(!planned(&[]).contains("stay behind"));
    // It goes on as if it had always been there.
    let mut log = fill(data, "x/cloud", vec![json!(6).into()]);
    assert_eq!(log.messages(), 6);
    assert_eq!(log.read(0, 10, 10_000).unwrap().len(), 6);
}

#[test]
fn a_buffer_is_not_moved_onto_other_messages_nor_away_under_a_run() {
    let folder = Folder::new();
    let data = folder.path();
    fill(data, "x/plant", kinds());
    fill(data, "x/cloud", vec![json!(1).into()]);
    let error = refused(data, &["move", "x/plant", "x/cloud"]);
    assert!(error.contains("`x/cloud` has a buffer of its own, with 1 message; "), "{error}");
    let error = refused(data, &["move", "x/plant", "x/plant"]);
    assert!(error.contains("has that name already"), "{error}");
    for wrong in ["cloud", "x/", "/cloud", "x/a/b"] {
        let error = refused(data, &["move", "x/plant", wrong]);
        assert!(error.contains(&format!("`{wrong}` is no name of a sink")), "{error}");
    }
    let error = refused(data, &["move", "x/plan", "x/else"]);
    assert!(error.ends_with("; there are x/cloud, x/plant\n"), "{error}");

    let held = std::fs::File::create(data.join("lock")).unwrap();
    held.lock().unwrap();
    let error = refused(data, &["move", "x/plant", "x/else"]);
    assert!(error.contains(" is in use: another forebay runs on it; stop that one"), "{error}");
    drop(held);
    let open = fill(data, "x/plant", Vec::new());
    let error = refused(data, &["move", "x/plant", "x/else"]);
    assert!(error.contains("a running forebay has the buffer of `x/plant` open"), "{error}");
    drop(open);
    assert!(printed(data, &["show", "x/plant"]).starts_with("x/plant: 5 messages, "));
}
