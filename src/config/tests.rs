//! From text to graph: what is refused on the way, and what comes out.

use std::{fs, os::unix::fs::symlink};

use serde_json::Value;

use super::{Draft, Types, load};
use crate::plugins;

const VARIABLES: [(&str, &str); 10] = [
    ("NULL", "null"),
    ("TILDE", "~"),
    ("VERSION", "3.10"),
    ("HEX", "0xdeadbeef"),
    ("UNIT", "7"),
    ("EVERY", "5s"),
    ("WORD", "yes"),
    ("DIGITS", "0123"),
    ("EMPTY", ""),
    ("TRICK", "a\nsinks: { b: { type: log } }"),
];

/// Reads a folder of files, written as [`folder_of`] takes them.
fn read(files: &str) -> Draft {
    read_folder(folder_of(files).path()).unwrap()
}

/// Makes a folder. `=== path` begins a file; without one it is `pipelines/x.yaml`.
pub(crate) fn folder_of(files: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let whole =
        if files.starts_with("=== ") { files } else { &format!("=== pipelines/x.yaml\n{files}") };
    for part in whole.split("=== ").skip(1) {
        let (path, text) = part.split_once('\n').unwrap();
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn read_folder(folder: &std::path::Path) -> anyhow::Result<Draft> {
    let environment = |name: &str| {
        let found = VARIABLES.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    load(folder, &Types::new(plugins::all()), &environment)
}

/// Findings as `file:line:column: rule: message (label)`.
fn said(draft: &Draft) -> Vec<String> {
    let one = |finding: &forebay_sdk::Finding| {
        let place = finding.span.map_or(String::new(), |span| {
            let (line, column) = draft.texts.line_column(span.file, span.range().start);
            format!("{}:{line}:{column}: ", draft.texts.path(span.file))
        });
        format!("{place}{}: {} ({})", finding.rule, finding.message, finding.label)
    };
    draft.findings.iter().map(one).collect()
}

#[track_caller]
fn check(files: &str, expected: &[&str]) {
    let found = said(&read(files));
    assert_eq!(found, expected, "{found:#?}");
}

/// What a setting of a timer becomes: its payload takes anything.
#[track_caller]
fn check_value(written: &str, expected: impl Into<Value>) {
    let draft =
        read(&format!("sources:\n  t:\n    type: timer\n    every: 5s\n    payload: {written}\n"));
    assert_eq!(said(&draft), <[String; 0]>::default(), "{written}");
    let settings = draft.parts[0].settings.to_value();
    assert_eq!(settings["payload"], expected.into(), "{written}");
}

#[test]
fn a_file_has_sections() {
    check(
        "- a\n",
        &[
            "pipelines/x.yaml:1:1: unknown-section: file is not a pipeline (expected sections such as `sources:`, found a list)",
        ],
    );
    check(
        "hello\n",
        &[
            "pipelines/x.yaml:1:1: unknown-section: file is not a pipeline (expected sections such as `sources:`, found \"hello\")",
        ],
    );
    check(
        "sink:\n  a: {}\n",
        &[
            "pipelines/x.yaml:1:1: unknown-section: there is no section `sink` ()",
            "pipelines/x.yaml:2:3: missing-setting: sink `a` needs `type` (`type` is missing)",
        ],
    );
    check(
        "version: 3\nservices: {}\n",
        &[
            "pipelines/x.yaml:1:1: unknown-section: file is not a pipeline (expected sections such as `sources:`)",
        ],
    );
    check(
        "sources: {}\nservices: {}\n",
        &["pipelines/x.yaml:2:1: unknown-section: there is no section `services` ()"],
    );
    check(
        "sources:\n  - a\n",
        &[
            "pipelines/x.yaml:2:3: setting-type: `sources` holds no sources (expected names with settings, found a list)",
        ],
    );
    check("sources:\nsinks: {}\ndescription: nothing yet\n", &[]);
    check(
        "description: [a]\n",
        &[
            "pipelines/x.yaml:1:14: setting-type: `description` has the wrong type (expected text, found a list)",
        ],
    );
}

#[test]
fn a_node_has_a_type() {
    check(
        "sources:\n  a:\n",
        &[
            "pipelines/x.yaml:2:3: setting-type: source `a` has no settings (expected a map with a `type`, found nothing)",
        ],
    );
    check(
        "sources:\n  a: { every: 5s }\n",
        &["pipelines/x.yaml:2:3: missing-setting: source `a` needs `type` (`type` is missing)"],
    );
    check(
        "sources:\n  a: { type: tmer }\n",
        &["pipelines/x.yaml:2:14: unknown-type: there is no source type `tmer` ()"],
    );
    check(
        "sources:\n  a: { type: log }\n",
        &[
            "pipelines/x.yaml:2:14: unknown-type: there is no source type `log` (`log` is a sink, not a source)",
        ],
    );
    for (written, found) in [("[timer]", "a list"), ("7", "7"), ("", "nothing")] {
        let found = format!(
            "pipelines/x.yaml:2:{}: setting-type: `type` of source `a` has the wrong type (expected text, found {found})",
            if written.is_empty() { 12 } else { 14 },
        );
        check(&format!("sources:\n  a: {{ type: {written} }}\n"), &[&found]);
    }
}

#[test]
fn settings_that_every_node_has_are_checked_too() {
    let sink = |settings: &str| format!("sinks:\n  a: {{ type: log, from: b, {settings} }}\n");
    check(&sink("buffer: { max_messages: 5 }, batch: { max_wait: 1s }"), &[]);
    check(
        &sink("buffer: { store: tape, max_byte: 1 }"),
        &[
            "pipelines/x.yaml:2:45: setting-type: `buffer.store` is not one of its choices (expected `memory`, `disk` or `spill`, found \"tape\")",
            "pipelines/x.yaml:2:51: unknown-setting: `buffer` has no setting `max_byte` ()",
        ],
    );
    check(&sink("buffer: { store: disk, sync: 250ms, drain_rate: 50/s, max_bytes: 1MiB }"), &[]);
    check(
        &sink("buffer: { store: disk, max_messages: 5, max_bytes: 1023KiB }"),
        &[
            "pipelines/x.yaml:2:65: setting-value: `max_messages` is for memory (bound it by `max_bytes`)",
            "pipelines/x.yaml:2:79: setting-value: the buffer on disk is too small (expected at least `1MiB`, found `1023KiB`)",
        ],
    );
    check(
        &sink("buffer: { sync: hourly, drain_rate: 50 }"),
        &[
            "pipelines/x.yaml:2:44: setting-type: `buffer.sync` cannot be read (expected `always`, `never` or a duration such as `250ms`, found \"hourly\")",
            "pipelines/x.yaml:2:64: setting-type: `buffer.drain_rate` cannot be read (expected a rate with a unit, such as `50/s` or `100/m`, found 50)",
        ],
    );
    check(
        &sink("buffer: { sync: always }"),
        &[
            "pipelines/x.yaml:2:44: setting-value: `sync` has no effect in memory (only for `store: disk` and `store: spill`)",
        ],
    );
    check(
        &sink("batch: { max_messages: 0 }"),
        &[
            "pipelines/x.yaml:2:51: setting-type: `batch.max_messages` is out of range (expected 1 to 10000, found 0)",
        ],
    );
    check(
        "sinks:\n  a: { type: http, from: b, url: 'http://a', batch: { max_messages: 5 } }\n",
        &[
            "pipelines/x.yaml:2:46: setting-value: http sink `a` writes one message at a time (`batch` has no effect here)",
        ],
    );
    check(
        "sources:\n  a: { type: timer, every: 5s, from: b }\n",
        &["pipelines/x.yaml:2:32: unknown-setting: timer source `a` has no setting `from` ()"],
    );
}

#[test]
fn forebay_yaml_is_checked_like_a_pipeline() {
    let empty = "=== pipelines/x.yaml\n# none\n=== forebay.yaml\n";
    check(&format!("{empty}log: {{ level: debug }}\nstop_within: 2s\n"), &[]);
    check(
        &format!("{empty}log: {{ level: loud }}\nstop: 2s\n"),
        &[
            "forebay.yaml:1:15: setting-type: `log.level` is not one of its choices (expected `error`, `warn`, `info` or `debug`, found \"loud\")",
            "forebay.yaml:2:1: unknown-setting: forebay.yaml has no setting `stop` ()",
        ],
    );
}

#[test]
fn variables_are_filled_in() {
    check_value("${env:WORD}", "yes");
    check_value("a ${env:WORD} b ${env:UNIT}", "a yes b 7");
    check_value("${env:NONE:-fallback}", "fallback");
    check_value("${env:WORD:-fallback}", "yes");
    check_value("${env:NONE:-a:-b}", "a:-b");
}

#[test]
fn an_empty_variable_vanished_and_its_default_was_not_used() {
    check_value("${env:EMPTY:-fallback}", "fallback");
    check_value("${env:NONE:-}", "");
    check_value("'${env:EMPTY:-}'", "");
    check_value("a${env:EMPTY:-}b", "ab");
}

#[test]
fn a_value_that_reads_null_was_taken_for_nothing() {
    check_value("${env:NULL}", "null");
    check_value("${env:TILDE}", "~");
    check(
        "connections:\n  c: { type: mqtt, url: 'mqtt://a', username: '${env:TILDE}', \
         password: '${env:NULL}', client_id: 'x${env:NULL}' }\n",
        &[],
    );
}

#[test]
fn what_stands_in_quotes_was_made_a_number() {
    for (name, value) in [("DIGITS", "0123"), ("VERSION", "3.10"), ("HEX", "0xdeadbeef")] {
        check_value(&format!("\"${{env:{name}}}\""), value);
        check_value(&format!("'${{env:{name}}}'"), value);
        check_value(&format!("'v${{env:{name}}}'"), format!("v{value}"));
    }
    check_value("{ id: '${env:UNIT}', n: 7 }", serde_json::json!({ "id": "7", "n": 7 }));
    check_value("${env:DIGITS}", 123);
    check_value("${env:VERSION}", 3.1);
}

#[test]
fn an_empty_secret_let_everybody_in() {
    let connection = |settings: &str| {
        format!("connections:\n  c: {{ type: mqtt, url: 'mqtts://a', {settings} }}\n")
    };
    let at = |column: usize, said: &str| format!("pipelines/x.yaml:2:{column}: {said}");
    // An empty `client_id` has the broker choose one.
    for setting in ["username", "password", "ca", "cert", "key"] {
        let column = 40 + setting.len();
        for written in ["''", "'${env:EMPTY:-}'", "\"${env:NONE:-}\""] {
            let found = said(&read(&connection(&format!("{setting}: {written}"))));
            let found = found.first().unwrap();
            let expected = format!("setting-type: `{setting}` is empty (expected a text that is");
            assert!(found.starts_with(&at(column, &expected)), "{found}");
        }
        let found = said(&read(&connection(&format!("{setting}: '${{env:EMPTY}}'"))));
        assert_eq!(found[0], at(column, "unset-variable: variable `EMPTY` is empty ()"));
    }
    let headers = |written: &str| {
        format!("sinks:\n  o: {{ type: http, url: 'https://a', headers: {{ {written} }} }}\n")
    };
    check(&headers("X-Site: ''"), &[]);
    check(
        &headers("Authorization: ''"),
        &[
            "pipelines/x.yaml:2:64: setting-type: `headers.Authorization` is empty (expected a text that is not empty)",
        ],
    );
    check(
        &headers("Authorization: 'Bearer ${env:EMPTY}'"),
        &["pipelines/x.yaml:2:64: unset-variable: variable `EMPTY` is empty ()"],
    );
}

#[test]
fn an_empty_file_was_an_empty_password() {
    for text in ["", "\n", "\r\n\n", "  \n", "\u{feff}\n"] {
        check(
            &format!(
                "=== secrets/a\n{text}=== pipelines/x.yaml\nsources:\n  t: {{ type: timer, every: 5s, payload: 'Bearer ${{file:secrets/a}}' }}\n"
            ),
            &["pipelines/x.yaml:2:41: unset-variable: file secrets/a is empty ()"],
        );
    }
}

#[test]
fn a_byte_order_mark_was_part_of_the_secret() {
    let draft = read(
        "=== secrets/a\n\u{feff}hunter2\n=== pipelines/x.yaml\nsources:\n  t: { type: timer, every: 5s, payload: '${file:secrets/a}' }\n",
    );
    assert_eq!(draft.parts[0].settings.to_value()["payload"], "hunter2");
}

#[test]
fn a_script_that_begins_with_a_byte_order_mark_was_refused() {
    check(
        "=== pipelines/a.rhai\n\u{feff}msg\n=== pipelines/x.yaml\ntransforms:\n  t: { type: script, from: a, script: a.rhai }\n",
        &[],
    );
}

#[test]
fn a_line_break_in_a_topic_was_accepted() {
    let sink = |settings: &str| format!("sinks:\n  o:\n    type: mqtt\n    {settings}\n");
    let connection = |settings: &str| {
        format!(
            "connections:\n  c:\n    type: mqtt\n    url: mqtts://a\n    username: me\n    {settings}\n"
        )
    };
    const ONE_LINE: &str = "(expected text of one line)";
    const PLAIN: &str = "(expected text without control characters)";
    for (node, expected) in [
        (sink("topic: |\n      a/b"), format!("`topic` holds a line break {ONE_LINE}")),
        (sink("topic: >\n      a/b"), format!("`topic` holds a line break {ONE_LINE}")),
        (sink("topic: \"a\\tb\""), format!("`topic` holds a tab {PLAIN}")),
        (sink("topic: \"a\\x07\""), format!("`topic` holds the control character U+0007 {PLAIN}")),
        (sink("topic: \"a\\u0085\""), format!("`topic` holds the control character U+0085 {PLAIN}")),
        (sink("topic: \"\\uFEFFa\""), format!("`topic` holds a byte order mark {PLAIN}")),
        (
            "sources:\n  s: { type: mqtt, topics: [a, \"q\\tr\"] }\n".to_owned(),
            format!("`topics[1]` holds a tab {PLAIN}"),
        ),
        (
            connection("will: { topic: \"a\\n\", payload: \"a\\nb\" }"),
            format!("`will.topic` holds a line break {ONE_LINE}"),
        ),
        (connection("client_id: |\n      a"), format!("`client_id` holds a line break {ONE_LINE}")),
        (connection("alpn: \"a\\r\""), format!("`alpn` holds a carriage return {ONE_LINE}")),
        (connection("password: |\n      hunter2"), format!("`password` holds a line break {ONE_LINE}")),
        (connection("password: \"a\\0\""), format!("`password` holds a zero byte {PLAIN}")),
        (
            connection("client_id: ${env:TRICK}"),
            "`client_id` holds a line break (expected text of one line, found the value of ${env:TRICK})".to_owned(),
        ),
        (
            "sinks:\n  o:\n    type: file\n    path: |\n      /var/log/a\n".to_owned(),
            format!("`path` holds a line break {ONE_LINE}"),
        ),
        (
            "sinks:\n  o: { type: http, url: 'https://a', headers: { A: \"b\\tc\" } }\n".to_owned(),
            format!("`headers.A` holds a tab {PLAIN}"),
        ),
        (
            "transforms:\n  m: { type: map, topic: \"a\\t{b}\" }\n".to_owned(),
            format!("`topic` holds a tab {PLAIN}"),
        ),
        (
            "transforms:\n  m: { type: map, fields: { \"a\\nb\": c } }\n".to_owned(),
            "a name in `fields` holds a line break (expected a name of one line without control characters)".to_owned(),
        ),
        (
            "connections:\n  b: { type: broker, users: { \"plc\\t\": x } }\n".to_owned(),
            "a name in `users` holds a tab (expected a name of one line without control characters)".to_owned(),
        ),
        (
            "sources:\n  t: { type: timer, every: 5s, topic: \"a\\nb\" }\n".to_owned(),
            format!("`topic` holds a line break {ONE_LINE}"),
        ),
    ] {
        // Others speak of what is missing around it.
        let said = said(&read(&node));
        let odd: Vec<&str> = said.iter().filter_map(|said| Some(said.split_once(" holds ")?.0)).collect();
        assert_eq!(odd.len(), 1, "{said:#?}");
        assert!(said.iter().any(|said| said.ends_with(&format!("setting-type: {expected}"))), "{said:#?}");
    }
}

#[test]
fn texts_of_many_lines_are_accepted_where_they_make_sense() {
    check(
        "connections:\n  c: { type: mqtt, url: 'mqtt://a', will: { topic: a, retain: true, payload: \"a\\n\\tb\" } }\nsources:\n  t: { type: timer, every: 5s, payload: \"a\\n\\tb\" }\n",
        &[],
    );
}

#[test]
fn two_dollars_write_one() {
    check_value("$${env:WORD}", "${env:WORD}");
    check_value("a $${x} ${env:WORD}", "a ${x} yes");
    check_value("$5 and $$", "$5 and $$");
    check_value("'{$x}'", "{$x}");
}

#[test]
fn the_setting_says_whether_a_variable_is_a_number() {
    check_value("${env:UNIT}", 7);
    check_value("${env:UNIT}0", 70);
    let source = |unit: &str, topic: &str| {
        format!(
            "connections:\n  bus: {{ type: modbus, url: 'tcp://a' }}\nsources:\n  a:\n    \
             type: modbus\n    connection: bus\n    every: ${{env:EVERY}}\n    unit: {unit}\n    \
             topic: {topic}\n    registers: [{{ name: a, input: 0 }}]\n"
        )
    };
    check(&source("${env:UNIT}", "${env:DIGITS}"), &[]);
    check(&source("'${env:UNIT}'", "'${env:DIGITS}'"), &[]);
    check(
        &source("${env:WORD}", "a"),
        &[
            "pipelines/x.yaml:8:11: setting-type: `unit` has the wrong type (expected a whole number, found the value of ${env:WORD})",
        ],
    );
    check(
        &source("'7'", "a"),
        &[
            "pipelines/x.yaml:8:11: setting-type: `unit` has the wrong type (expected a whole number, found \"7\")",
        ],
    );
}

#[test]
fn a_variable_never_changes_the_structure() {
    check_value("${env:TRICK}", "a\nsinks: { b: { type: log } }");
    check_value("[\"${env:TRICK}\"]", serde_json::json!(["a\nsinks: { b: { type: log } }"]));
    // Not in keys, nor in blocks of lines, which are scripts more often than not.
    check_value("{ '${env:WORD}': 1 }", serde_json::json!({ "${env:WORD}": 1 }));
    check_value("|\n      ${env:WORD}\n", "${env:WORD}\n");
}

#[test]
fn a_variable_that_is_not_there_is_named() {
    let check = |written: &str, expected: &str| {
        let draft = read(&format!("description: {written}\n"));
        let expected = format!("pipelines/x.yaml:1:14: unset-variable: {expected}");
        // Where it was looked for is another place each time.
        let said = &said(&draft)[0];
        let said = said.split_once("; looked for /").map_or(&**said, |(front, _)| front);
        assert_eq!(said, expected);
    };
    check("${env:NONE}", "variable `NONE` is not set ()");
    check("a ${env:NONE} b", "variable `NONE` is not set ()");
    check("${file:secrets/none}", "file secrets/none cannot be read (there is no such file");
    check("${file:pipelines}", "file pipelines cannot be read (it is not a regular file");
    check("${NONE}", "`${NONE}` names no variable (expected `${env:NAME}` or `${file:path}`)");
    check("${}", "`${}` names no variable (expected `${env:NAME}` or `${file:path}`)");
    check("${env:NONE", "a variable is not closed (expected a `}`)");
}

#[test]
fn a_file_gives_its_text_without_the_last_line_break() {
    let files = |text: &str| {
        format!(
            "=== secrets/a\n{text}=== pipelines/x.yaml\nsources:\n  t: {{ type: timer, every: 5s, payload: '${{file:secrets/a}}' }}\n"
        )
    };
    for (text, expected) in [("hunter2\n", "hunter2"), ("a\nb\r\n", "a\nb"), (" a \n\n", " a ")] {
        let draft = read(&files(text));
        assert_eq!(said(&draft), <[String; 0]>::default());
        assert_eq!(draft.parts[0].settings.to_value()["payload"], expected);
        let kept = draft.texts.iter().any(|(_, kept)| kept.contains("hunter2"));
        assert!(!kept, "a secret is not among the texts that are kept and shown");
    }
    let hash = |text| read(&files(text)).content_hash();
    assert_eq!(hash("one\n"), hash("one\n"));
    assert_ne!(hash("one\n"), hash("two\n"), "a new secret is a change");
}

#[test]
fn only_pipelines_are_read() {
    check(
        "=== pipelines/a.yaml\n=== pipelines/b.yml\n=== pipelines/.c.yaml\n- c\n\
         === pipelines/d.test.yaml\n- d\n=== pipelines/e.yaml~\n- e\n=== pipelines/f.json\n[]\n\
         === other/g.yaml\n- g\n=== h.yaml\n- h\n",
        &[],
    );
    // Without a folder `pipelines`, the folder itself holds them, beside its settings.
    check(
        "=== a.yaml\n- a\n=== forebay.yaml\nlog: {}\n",
        &[
            "a.yaml:1:1: unknown-section: file is not a pipeline (expected sections such as `sources:`, found a list)",
        ],
    );
}

#[test]
fn what_is_no_file_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    fs::create_dir(place("folder.yaml")).unwrap();
    symlink("nowhere", place("dangling.yaml")).unwrap();
    symlink("loop.yaml", place("loop.yaml")).unwrap();
    symlink("/dev/zero", place("zero.yaml")).unwrap();
    fs::write(place("latin.yaml"), b"description: gr\xfc\xdfe\n").unwrap();
    fs::write(place("utf16.yaml"), b"\xff\xfea\0:\0").unwrap();
    fs::write(place("long.yaml"), vec![b'#'; 2 << 20]).unwrap();
    let draft = read_folder(folder.path()).unwrap();
    let said = said(&draft);
    let looped = &said[3];
    assert!(looped.starts_with("loop.yaml:1:1: unreadable-file: loop.yaml cannot be read ("));
    let rest: Vec<&str> = said.iter().map(String::as_str).filter(|line| *line != looped).collect();
    assert_eq!(
        rest,
        [
            "dangling.yaml:1:1: unreadable-file: dangling.yaml cannot be read (there is no such file)",
            "latin.yaml:1:1: yaml-syntax: latin.yaml is not text (byte 16 is not UTF-8)",
            "long.yaml:1:1: yaml-too-big: long.yaml is too long (more than 1024 KiB)",
            "utf16.yaml:1:1: yaml-syntax: utf16.yaml is not text (it is UTF-16; save it as UTF-8)",
            "zero.yaml:1:1: unreadable-file: zero.yaml cannot be read (it is not a regular file)",
            "unreadable-file: folder.yaml is a folder, not a pipeline file ()",
        ],
        "{said:#?}"
    );
}

#[test]
fn the_spelling_of_settings_does_not_restart_a_node() {
    let fingerprint = |settings: &str| {
        let text = format!("sources:\n  t: {settings}\nsinks:\n  o: {{ from: t, type: log }}\n");
        let draft = read(&text);
        assert_eq!(said(&draft), <[String; 0]>::default());
        draft.into_graph().nodes["x/t"].fingerprint
    };
    let usual = fingerprint("{ type: timer, every: 5s, topic: a }");
    assert_eq!(usual, fingerprint("{ topic: 'a', every: \"5s\", type: timer } # same"));
    assert_eq!(usual, fingerprint("{ type: timer, every: '${env:EVERY}', topic: a }"));
    assert_ne!(usual, fingerprint("{ type: timer, every: 5s, topic: b }"));
}

#[test]
fn a_key_that_begins_with_x_holds_anchors() {
    check(
        "x-usual: &usual { type: timer, every: 5s }\nx-other: [a, b]\nsources:\n  t: *usual\n  u: { <<: *usual, every: 1s }\nsinks:\n  o: { type: log, from: [t, u] }\n",
        &[],
    );
}

#[test]
fn numbers_that_json_does_not_have_became_null() {
    let timer = |payload: &str| {
        format!("sources:\n  t: {{ type: timer, every: 5s, payload: {{ {payload} }} }}\n")
    };
    for (written, expected) in [
        ("1e400", "expected less than 1.8e308"),
        ("-1e400", "expected less than 1.8e308"),
        (".inf", "JSON has no such number"),
        ("-.INF", "JSON has no such number"),
        (".nan", "JSON has no such number"),
        ("18446744073709551616", "expected at most 18446744073709551615"),
        ("-9223372036854775809", "expected at least -9223372036854775808"),
        ("123456789012345678901234567890", "expected at most 18446744073709551615"),
    ] {
        let said = said(&read(&timer(&format!("a: [{written}]"))));
        let expected = format!(
            "pipelines/x.yaml:2:47: setting-type: `payload.a[0]` cannot be sent as a number ({expected})"
        );
        assert_eq!(said, [expected]);
    }
    check(
        &timer("a: 1e308, b: 18446744073709551615, c: -9223372036854775808, d: '1e400', e: 0.1"),
        &[],
    );
}

#[test]
fn a_secret_in_the_wrong_folder_is_found() {
    let draft =
        read("=== pipelines/secrets/a\nx\n=== pipelines/x.yaml\ndescription: ${file:secrets/a}\n");
    let label = &draft.findings[0].label;
    assert!(label.ends_with("; there is one in pipelines/secrets/a"), "{label}");
    assert!(label.starts_with("there is no such file; looked for /"), "{label}");
}

#[test]
fn a_missing_file_was_looked_for_by_a_way_with_steps_back() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().canonicalize().unwrap();
    std::fs::create_dir(there.join("pipelines")).unwrap();
    let whole = |path: &str| super::folder::whole(&there.join(path));
    assert_eq!(whole("pipelines/../secrets/token"), there.join("secrets/token"));
    assert_eq!(whole("pipelines/b"), there.join("pipelines/b"));
    assert!(whole("nowhere/../b").starts_with(&there));
}
