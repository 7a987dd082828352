//! What is found in a folder, and how it reads.

use serde_json::json;

use super::{
    lint,
    report::{Format, render},
};
use crate::{
    config::{self, Types, example, runtime::Judgement, tests::folder_of},
    plugins,
};

/// All findings of a folder, written as `folder_of` takes it.
fn find(files: &str, format: Format) -> String {
    find_with(&Types::new(plugins::all()), files, format)
}

fn find_with(types: &Types, files: &str, format: Format) -> String {
    let folder = folder_of(files);
    let environment = |name: &str| match name {
        "SECRET" => Some("hunter2".to_owned()),
        "SHORT" => Some("on".to_owned()),
        _ => None,
    };
    let checked = lint(config::load(folder.path(), types, &environment).unwrap());
    let has_error = checked.findings.iter().any(|finding| finding.level == super::Level::Error);
    assert_eq!(checked.graph.is_none(), has_error, "an error is what keeps a folder from running");
    if checked.runtime.lint == Judgement::default() {
        for finding in &checked.findings {
            let level = finding.rule.level();
            assert_eq!(level, finding.level, "{}: not as its page says", finding.rule);
            let is_known = types.rules().find(finding.rule.name).is_some();
            assert!(is_known, "{} is not among the rules", finding.rule);
        }
    }
    render(&checked.findings, &checked.texts, format, false)
}

#[track_caller]
fn check(files: &str, expected: &[&str]) {
    let found = find(files, Format::Short);
    let found: Vec<&str> = found.lines().collect();
    assert_eq!(found, expected, "{found:#?}");
}

/// The findings about types that stand for no real ones.
#[track_caller]
fn check_example(file: &str, expected: &[&str]) {
    let found = find_with(&Types::new(vec![example::plugin()]), file, Format::Short);
    let found: Vec<&str> = found.lines().collect();
    assert_eq!(found, expected, "{found:#?}");
}

/// The findings as people see them.
#[track_caller]
fn check_full(files: &str, expected: &str) {
    let found = find(files, Format::Full);
    assert_eq!(found.trim_end(), expected.trim(), "\n{found}");
}

/// A source `meter` and a sink.
fn with_sink(sink: &str) -> String {
    format!("sources:\n  meter: {{ type: timer, every: 5s }}\nsinks:\n  out: {{ {sink} }}\n")
}

/// A source `meter`, transforms, and a sink that reads one of them.
fn with_transforms(transforms: &str, from: &str) -> String {
    format!(
        "sources:\n  meter: {{ type: timer, every: 5s }}\ntransforms:\n{transforms}\
         sinks:\n  out: {{ from: {from}, type: log }}\n"
    )
}

/// A script as a block of lines; the first of `lines` is line 8 of the file.
fn with_script(lines: &str) -> String {
    let node = format!("  t:\n    from: meter\n    type: script\n    script: |\n{lines}");
    with_transforms(&node, "t")
}

#[test]
fn a_password_that_stands_in_the_file_is_not_shown() {
    for settings in [
        "{ type: mqtt, url: 5, username: me, password: hunter2 }",
        "{ type: mqtt, url: mqtt://a, usernme: me, password: 'hunter2' }",
        "{ type: mqtt, url: mqtt://a, password: [hunter2] }",
        "{ type: mqtt, url: mqtt://a, password: 48151623 }",
        "{ type: mqtt, url: 'mqtt://me:hunter2@a' }",
        "{ type: mqtt, url: mqtt://me:hunter2@a }",
        "{ type: modbus, url: \"tcp://me:\\x68unter2@a\" }",
        "\n    type: mqtt\n    url: >-\n      mqtt://me:hunter2@a",
        "\n    type: mqtt\n    password: |\n      hunter2\n      48151623\n    url: 7",
        // Where nothing is known of the line but its words.
        "\n    type: mqtt\n    password: \"hunter2\n    url: mqtt://a\n",
        "\n    type: mqtt\n    pasword: hunter2\n    url: mqtt://a\n",
        "\n    type: mqtt\n    user: x\n     password: hunter2\n",
        "\n    typ: mqtt\n    password: hunter2\n    type: mqt\n",
        "{ type: mqtt, url: 'mqtt://me:hunter2@a' }",
        "{ type: mqtt, url: mqtt://a, password: hunter2",
    ] {
        for format in [Format::Full, Format::Short, Format::Json] {
            let found = find(&format!("connections:\n  a: {settings}\n"), format);
            assert!(found.contains("error"), "{found}");
            assert!(!found.contains("hunter2") && !found.contains("48151623"), "{found}");
        }
    }
}

#[test]
fn a_good_folder_has_no_findings() {
    check(&with_sink("from: meter, type: log"), &[]);
    check(&with_sink("from: [meter, meter.errors], type: log"), &[]);
    check(&with_script("      msg\n"), &[]);
    check("# forebay: allow empty-pipeline (the meter is being repaired)\n# sources:\n", &[]);
}

#[test]
fn every_from_leads_to_a_node() {
    check(
        &with_sink("from: metr, type: log"),
        &[
            "pipelines/x.yaml:4:16: error[unknown-node]: no node is named `metr` (not found in this pipeline)",
        ],
    );
    check(
        &with_sink("from: [meter, cloud, 7], type: log"),
        &[
            "pipelines/x.yaml:4:24: error[unknown-node]: no node is named `cloud` (not found in this pipeline)",
            "pipelines/x.yaml:4:31: error[setting-type]: `from[2]` has the wrong type (expected text, found 7)",
        ],
    );
    // Nodes of other files have other names.
    check(
        "=== pipelines/a.yaml\nsources:\n  meter: { type: timer, every: 5s }\n\
         sinks:\n  out: { from: meter, type: log }\n\
         === pipelines/b.yaml\nsinks:\n  out: { from: meter, type: log }\n",
        &[
            "pipelines/b.yaml:2:16: error[unknown-node]: no node is named `meter` (not found in this pipeline)",
        ],
    );
}

#[test]
fn every_from_leads_to_an_output() {
    check(
        &with_sink("from: meter.high, type: log"),
        &["pipelines/x.yaml:4:16: error[unknown-output]: `meter` has no output `high`"],
    );
    check(
        &with_transforms(
            "  t: { from: meter, type: script, script: msg, outputs: [high] }\n",
            "t.hihg",
        ),
        &["pipelines/x.yaml:6:16: error[unknown-output]: `t` has no output `hihg`"],
    );
    let sinks = with_sink("from: meter, type: log") + "  more: { from: out, type: log }\n";
    check(
        &sinks,
        &[
            "pipelines/x.yaml:5:17: error[unknown-output]: `out` is a sink: nothing comes out of it (cannot be read)",
        ],
    );
    check(&sinks.replace("from: out", "from: out.errors"), &[]);
}

#[test]
fn a_node_without_input_is_one_finding() {
    let missing =
        "pipelines/x.yaml:4:3: error[no-input]: log sink `out` reads nothing (`from` is missing)";
    check(&with_sink("type: log"), &[missing]);
    check(
        &with_sink("type: log, from: "),
        &[
            "pipelines/x.yaml:4:25: error[setting-type]: `from` has the wrong type (expected text or a list, found nothing)",
        ],
    );
    check(
        &with_sink("type: log, from: []"),
        &[
            "pipelines/x.yaml:4:27: error[setting-type]: `from` has too few entries (expected at least 1, found 0)",
        ],
    );
    check(
        &with_sink("type: log, form: meter"),
        &["pipelines/x.yaml:4:21: error[unknown-setting]: log sink `out` has no setting `form`"],
    );
}

#[test]
fn what_is_taken_for_a_node_is_said_to_be_something_else() {
    let unknown = |name: &str, label: &str| {
        format!("pipelines/x.yaml:4:16: error[unknown-node]: no node is named `{name}` ({label})")
    };
    let two =
        with_sink("from: 'meter, pump', type: log") + "  b: { from: [meter, pump], type: log }\n";
    let two = two.replace("sinks:", "  pump: { type: timer, every: 5s }\nsinks:");
    let several = unknown("meter, pump", "several nodes are a list").replace("4:16", "5:16");
    check(&two, &[&several]);
    check(
        &with_sink("from: sources.meter, type: log"),
        &[&unknown("sources", "the name alone is enough")],
    );
    check(
        &with_sink("from: x/meter, type: log"),
        &[&unknown("x/meter", "the name alone is enough")],
    );
    check(
        &(with_sink("from: bus, type: log") + "connections:\n  bus: { type: broker }\n"),
        &[&unknown("bus", "a connection, not a node")],
    );
    let other = "=== pipelines/y.yaml\nsources:\n  pump: { type: timer, every: 5s }\nsinks:\n  o: { from: pump, type: log }\n";
    check(
        &format!("=== pipelines/x.yaml\n{}{other}", with_sink("from: y/pump, type: log")),
        &[&unknown("y/pump", "is in another file")],
    );
}

#[test]
fn a_node_that_could_not_be_read_is_not_missing() {
    check(
        "sources:\n  - name: meter\n    type: timer\nsinks:\n  out: { from: meter, type: log }\n",
        &[
            "pipelines/x.yaml:2:3: error[setting-type]: `sources` holds no sources (expected names with settings, found a list)",
        ],
    );
    check(
        "source:\n  meter: { type: timer, every: 5s }\nsinks:\n  out: { from: metr, type: log }\n",
        &[
            "pipelines/x.yaml:1:1: error[unknown-section]: there is no section `source`",
            "pipelines/x.yaml:4:16: error[unknown-node]: no node is named `metr` (not found in this pipeline)",
        ],
    );
}

#[test]
fn a_pipeline_that_is_not_read_is_said_so() {
    let good = with_sink("from: meter, type: log");
    let said = |path: &str, why: &str| format!("warning[ignored-file]: {path} is not read: {why}");
    let beside = |path: &str| format!("=== pipelines/x.yaml\n{good}=== {path}\n{good}");
    check(
        &beside("y.yaml"),
        &[&said("y.yaml", "with a folder pipelines, only that is looked into")],
    );
    check(
        &beside("pipelines/site/y.yml"),
        &[&said("pipelines/site/y.yml", "folders below pipelines are not looked into")],
    );
    let ending = "the names of pipelines end in `.yaml`";
    check(&beside("pipelines/y.yaml.txt"), &[&said("pipelines/y.yaml.txt", ending)]);
    check(&beside("pipelines/y.YAML"), &[&said("pipelines/y.YAML", ending)]);
    // It runs, and was said not to.
    for path in ["pipelines/Boiler.yaml", "pipelines/BOILER.yml"] {
        check(&beside(path), &[]);
    }
    let renamed = find(&beside("pipelines/Boiler.YML.txt"), Format::Full);
    assert!(renamed.contains("rename it to pipelines/Boiler.yml"), "{renamed}");
    for path in ["pipelines/y.yaml.bak", "pipelines/.y.yaml", "pipelines/y.test.yaml", "a/y.yaml"] {
        check(&beside(path), &[]);
    }
    check(&format!("=== pipelines/x.yaml\n{good}=== compose.yaml\nservices: {{}}\n"), &[]);
}

#[test]
fn data_flows_one_way() {
    check(
        &with_transforms("  a: { from: [meter, a], type: script, script: msg }\n", "a"),
        &["pipelines/x.yaml:4:22: error[cycle]: `a` feeds itself (`a` reads from `a`)"],
    );
    check(
        &with_transforms(
            "  a: { from: [meter, b], type: script, script: msg }\n  \
             b: { from: a.errors, type: script, script: msg }\n",
            "b",
        ),
        &["pipelines/x.yaml:4:22: error[cycle]: `a` feeds itself (data goes `a` → `b` → `a`)"],
    );
    check(
        &with_sink("from: [meter, out.errors], type: log"),
        &["pipelines/x.yaml:4:24: error[cycle]: `out` feeds itself (`out` reads from `out`)"],
    );
    // Two ways that meet again are no cycle.
    check(
        &with_transforms(
            "  a: { from: meter, type: script, script: msg }\n  \
             b: { from: [meter, a], type: script, script: msg }\n",
            "[a, b]",
        ),
        &[],
    );
}

/// The name of the only input was marked, and a node without one is no better.
#[test]
fn of_a_cycle_the_wire_is_marked_that_can_go() {
    check(
        &with_transforms(
            "  a: { from: b, type: script, script: msg }\n  \
             b: { from: [a, meter], type: script, script: msg }\n",
            "b",
        ),
        &["pipelines/x.yaml:5:15: error[cycle]: `b` feeds itself (data goes `b` → `a` → `b`)"],
    );
    check(
        &with_transforms(
            "  a: { from: [c, meter], type: script, script: msg }\n  \
             b: { from: a, type: script, script: msg }\n  \
             c: { from: b, type: script, script: msg }\n",
            "b",
        ),
        &[
            "pipelines/x.yaml:4:15: error[cycle]: `a` feeds itself (data goes `a` → `b` → `c` → `a`)",
        ],
    );
}

/// An error anywhere in the file hid that nobody reads a node.
#[test]
fn what_nobody_reads_is_said_beside_errors_of_others() {
    let unread = "pipelines/x.yaml:3:3: warning[unread-node]: nobody reads timer source `spare`";
    let file = |sink: &str| {
        format!(
            "sources:\n  meter: {{ type: timer, every: 5s }}\n  \
             spare: {{ type: timer, every: 5s }}\nsinks:\n  out: {{ {sink} }}\n"
        )
    };
    check(
        &file("from: meter, type: log, colour: red"),
        &[
            unread,
            "pipelines/x.yaml:5:34: error[unknown-setting]: log sink `out` has no setting `colour`",
        ],
    );
    check(
        &file("from: meter, type: lag"),
        &[unread, "pipelines/x.yaml:5:29: error[unknown-type]: there is no sink type `lag`"],
    );
    // What is misspelt may be the one that seems unread.
    for (sink, rule) in [
        ("from: [meter, spar], type: log", "unknown-node"),
        ("frm: [meter, spare], type: log", "unknown-setting"),
        ("input: [meter, spare], type: log", "unknown-setting"),
        ("type: log", "no-input"),
    ] {
        let found = find(&file(sink), Format::Short);
        assert!(found.contains(rule) && !found.contains("unread-node"), "{found}");
    }
}

#[test]
fn a_setting_that_stands_too_far_left_belongs_to_its_node() {
    let sink = "sources:\n  meter: { type: timer, every: 5s }\nsinks:\n  out:\n    from: meter\n    \
                type: file\n  path: /tmp/a\n";
    let said = "pipelines/x.yaml:7:3: error[setting-type]: `path` belongs to sink `out` above it \
                (expected 4 spaces in front, found 2)";
    check(sink, &[said]);
    assert_eq!(taken(sink), "");
    // Also what the node reads, what it is, and all of it.
    for file in [
        sink.replace("    type", "  type"),
        sink.replace("    from", "  from").replace("    type", "  type"),
    ] {
        assert_eq!(taken(&file), "", "{file}");
    }
    // A node may have the name of a setting.
    check(
        &sink.replace("  path: /tmp/a", "    path: /tmp/a\n  from: { from: meter, type: log }"),
        &[],
    );
}

/// What is left when all edits that lint offers are taken, and again, as in an editor.
fn taken(file: &str) -> String {
    let types = Types::new(plugins::all());
    let mut text = file.to_owned();
    for _ in 0..5 {
        let folder = folder_of(&text);
        let checked = lint(config::load(folder.path(), &types, &|_| None).unwrap());
        let mut edits: Vec<_> =
            checked.findings.iter().filter_map(|one| one.edit.clone()).collect();
        if edits.is_empty() {
            return render(&checked.findings, &checked.texts, Format::Short, false);
        }
        edits.sort_by_key(|edit| std::cmp::Reverse(edit.span.start));
        for edit in edits {
            text.replace_range(edit.span.range(), &edit.text);
        }
    }
    format!("never comes to rest:\n{text}")
}

/// In the words of Node-RED, Telegraf, Home Assistant and RutOS.
#[test]
fn what_is_suggested_for_words_of_other_programs_works() {
    let modbus = |connection: &str, node: &str, register: &str| {
        format!(
            "connections:\n  bus: {{ type: modbus, {connection} }}\nsources:\n  meter: {{ type: modbus, \
             connection: bus, {node}, registers: [{{ name: a, {register} }}] }}\nsinks:\n  \
             out: {{ from: meter, type: log }}\n"
        )
    };
    let url = "url: 'tcp://10.0.0.7'";
    let serial =
        "method: rtu, port: /dev/ttyUSB0, baudrate: 9600, bytesize: 8, parity: N, stopbits: 1";
    for (connection, node, register) in [
        ("host: 10.0.0.7, port: 502", "every: 5s", "input: 0"),
        ("address: 10.0.0.7", "every: 5s", "input: 0"),
        ("controller: 'tcp://10.0.0.7:502'", "every: 5s", "input: 0"),
        (url, "slave: 3, scan_interval: 5", "input: 0"),
        (url, "slave_id: 3, interval: 10s", "input: 0"),
        (url, "unit_id: 3, poll_interval_ms: 5000", "input: 0"),
        (url, "every: 5s", "address: 40001"),
        (url, "every: 5s", "register: 300001, data_type: FLOAT32"),
        (url, "every: 5s", "address: 3, input_type: holding, data_type: uint16"),
        (url, "every: 5s", "input_type: input, address: 3, kind: float"),
        (url, "every: 5s", "input: 0, kind: 32bit_float3412, byte_order: 3412"),
        (url, "every: 5s", "input: 0, type: float64, byteorder: little_endian"),
        (url, "every: 5s", "input: 0, kind: double, order: big, factor: 0.1"),
        (url, "every: 5s", "input: 0, unit_of_measurement: kWh"),
        (url, "pollRate: 5", "input: 0, nan_value: 0x8000, omit: false"),
        (url, "rate: 5s", "input: 0, kind: u32, reverse_order: true"),
        (
            "urls: ['tcp://10.0.0.7:502'], delay: 2, message_wait_milliseconds: 30",
            "every: 5s",
            "input: 0",
        ),
        (serial, "every: 5s", "input: 0"),
        ("url: 'rtu:///dev/ttyUSB0', baud_rate: 19200, parity: E", "every: 5s", "input: 0"),
        (
            "controller: 'file:///dev/ttyUSB0', baud_rate: 9600, data_bits: 8",
            "every: 5s",
            "input: 0",
        ),
        ("baud: 9600, parity: odd, url: 'rtu:///dev/ttyS0?stop=2'", "every: 5s", "input: 0"),
    ] {
        let file = modbus(connection, node, register);
        assert_eq!(taken(&file), "", "{file}");
    }
    let mqtt = |connection: &str| {
        format!(
            "connections:\n  c: {{ type: mqtt, {connection} }}\nsources:\n  \
             t: {{ type: timer, every: 5s }}\nsinks:\n  out: {{ from: t, type: mqtt, connection: c, topic: a }}\n"
        )
    };
    for connection in [
        "broker: 10.0.0.7, port: 1883",
        "port: 8883, host: 10.0.0.7, clientid: me",
        "servers: ['tcp://10.0.0.7:1883']",
        "server: 10.0.0.7",
        "urls: ['mqtt://10.0.0.7'], keepalive: 30",
        "uri: 'mqtt://10.0.0.7', persistent_session: true, clientId: me",
        "broker_url: 'tcp://10.0.0.7', protocol_version: 4, connection_timeout: 30s",
        "endpoint: 10.0.0.7, protocolVersion: 5, keep_alive_interval: 60, max_packet_size: 1MB",
        "url: 'mqtt://10.0.0.7', mqtt_version: mqttv311, lwt: { topic: a, message: gone }",
        "url: 'mqtt://10.0.0.7', will: { topic: a, body: gone, qualityOfService: 1, retained: true }",
        "url: 'mqtt://10.0.0.7', birth_message: { topic: a, payload: here }, clean_start: true",
        "url: 'mqtts://10.0.0.7', alpn_protocols: ['x']",
    ] {
        let file = mqtt(connection);
        let rest = taken(&file);
        assert!(!rest.contains("error["), "{file}{rest}");
    }
    let nodes = |source: &str, sink: &str| {
        format!(
            "connections:\n  c: {{ type: mqtt, url: 'mqtt://10.0.0.7' }}\nsources:\n  t: {{ type: mqtt, connection: c, \
             {source} }}\nsinks:\n  out: {{ from: t, type: mqtt, connection: c, {sink} }}\n"
        )
    };
    for (source, sink) in [
        ("topic: a", "topics: [b]"),
        ("subscribe: a", "command_topic: b, retained: false"),
        ("topic_filter: [a], quality_of_service: 1", "topic: b, qos_level: 1"),
        ("filters: [a], data_format: json", "topic: b, codec: text"),
        ("subscriptions: [a], max_in_flight: 5", "topic: b, batch: { count: 10, period: 1s }"),
        ("topics: [a]", "topic: b, buffer: { type: disk, max_size: 268435488 }"),
        ("topics: a", "topic: b, buffer: { max_events: 500 }, batch: { timeout_secs: 1 }"),
    ] {
        let file = nodes(source, sink);
        let rest = taken(&file);
        assert!(!rest.contains("error["), "{file}{rest}");
    }
    for file in [
        "inputs:\n  a: { type: inject, repeat: 5 }\noutputs:\n  b: { input: a, type: debug }\n",
        "sources:\n  a: { type: interval, interval: 5s }\nprocessors:\n  f: { source: a, type: function, \
         func: msg }\nsinks:\n  b: { from: f, type: outputs.file, filename: /tmp/a }\n",
    ] {
        assert_eq!(taken(file), "", "{file}");
    }
}

/// For what other programs ask for, and nothing here.
#[test]
fn words_of_other_programs_without_one_here_were_only_said_to_be_unknown() {
    let advice = |file: String, said: &str| {
        let found = find(&file, Format::Short);
        assert!(found.contains("[unknown-setting]"), "{file}{found}");
        let full = find(&file, Format::Full);
        assert!(full.contains(said), "{file}{full}");
    };
    for (setting, said) in [
        ("tls: true", "begins with `mqtts://`"),
        ("ssl: { enabled: true }", "begins with `mqtts://`"),
        ("insecure_skip_verify: true", "always checked"),
        ("verify_ssl: false", "always checked"),
        ("auto_reconnect: true", "is tried again"),
        ("retries: 3", "is tried again"),
        ("discovery: true", "leave it out"),
    ] {
        let connection = format!("  c: {{ type: mqtt, url: 'mqtts://10.0.0.7', {setting} }}\n");
        advice(
            format!(
                "connections:\n{connection}sources:\n  t: {{ type: timer, every: 5s }}\nsinks:\n  \
                 out: {{ from: t, type: mqtt, connection: c, topic: a }}\n"
            ),
            said,
        );
    }
    for (connection, node, register, said) in [
        ("slave: 3", "every: 5s", "input: 0", "write `unit: 3` at what uses it"),
        ("parity: E", "every: 5s", "input: 0", "behind the address"),
        ("pause: 0s", "scan_interval: 5, every: 5s", "input: 0", "`every` says it"),
        ("pause: 0s", "every: 5s, timeout: 3", "input: 0", "settings of the connection"),
        ("pause: 0s", "every: 5s", "input: 0, device_class: power", "leave it out"),
        ("pause: 0s", "every: 5s", "input: 0, min_value: 0", "`valid: [0, 100]`"),
    ] {
        advice(
            format!(
                "connections:\n  bus: {{ type: modbus, url: 'tcp://10.0.0.7', {connection} }}\nsources:\n  \
                 meter: {{ type: modbus, connection: bus, {node}, registers: [{{ name: a, {register} }}] }}\n\
                 sinks:\n  out: {{ from: meter, type: log }}\n"
            ),
            said,
        );
    }
    for (setting, said) in [
        ("basic_auth: { username: a }", "Authorization"),
        ("bearer_token: hunter2", "Authorization"),
        ("content_type: text/plain", "Content-Type"),
    ] {
        let sink = format!("  out: {{ from: t, type: http, url: 'http://10.0.0.7', {setting} }}\n");
        let file = format!("sources:\n  t: {{ type: timer, every: 5s }}\nsinks:\n{sink}");
        assert!(!find(&file, Format::Full).contains("hunter2"));
        advice(file, said);
    }
}

/// A password under the name of another program was shown.
#[test]
fn a_secret_by_another_name_is_not_shown() {
    let file = "connections:\n  c: { type: mqtt, url: 'mqtt://b', user: me, pass: hunter2 }\n\
                sources:\n  s: { type: mqtt, connection: c, topics: [a] }\n\
                sinks:\n  out: { from: s, type: log }\n";
    for format in [Format::Full, Format::Short, Format::Json, Format::Junit, Format::Sarif] {
        let found = find(file, format);
        assert!(found.contains("unknown-setting") && !found.contains("hunter2"), "{found}");
    }
    let rest = taken(file);
    assert!(rest.contains("plain-secret") && !rest.contains("error["), "{rest}");
}

/// What scripts of Node-RED do otherwise; each is taken at its word.
#[test]
fn a_script_in_the_words_of_javascript_hears_those_of_here() {
    let file = |script: &str| {
        let node = format!("  s: {{ from: meter, type: script, script: '{script}' }}\n");
        with_transforms(&node, "s")
    };
    for (theirs, said, ours) in [
        ("msg.time = Date.now(); msg", "`now()`", "msg.payload.t = now(); msg"),
        ("msg.payload.x = Math.round(1.5); msg", "`round(x)`", "msg.payload.x = round(1.5); msg"),
        (
            "msg.payload.x = Math.max(1, 2); msg",
            "`Math.round(x)`",
            "msg.payload.x = max(1, 2); msg",
        ),
        (
            "msg.payload = JSON.parse(\"1\"); msg",
            "`parse_json(x)`",
            "msg.payload = parse_json(\"1\"); msg",
        ),
        ("msg.payload = JSON.stringify(1); msg", "`to_json(x)`", "msg.payload = to_json(1); msg"),
        ("console.log(1); msg", "`print(x)`", "print(1); msg"),
        ("node.send(msg);", "`msg` as the last line", "msg"),
        ("flow.set(\"x\", 1); msg", "`state.x = 1`", "state.x = 1; msg"),
        (
            "msg.payload.x = parseFloat(\"1\"); msg",
            "`parse_float(x)`",
            "msg.payload.x = parse_float(\"1\"); msg",
        ),
        (
            "msg.payload.x = parseInt(\"1\"); msg",
            "`parse_int(x)`",
            "msg.payload.x = parse_int(\"1\"); msg",
        ),
        (
            "let x = 1.5; msg.topic = x.toFixed(2); msg",
            "`round(x, 2)`",
            "msg.payload.x = round(1.5, 2); msg",
        ),
        (
            "msg.topic = msg.topic.toUpperCase(); msg",
            "`x.to_upper()`",
            "msg.topic = msg.topic.to_upper(); msg",
        ),
        (
            "if msg.topic.includes(\"a\") { return (); } msg",
            "`y in x`",
            "if \"a\" in msg.topic { return (); } msg",
        ),
    ] {
        let found = find(&file(theirs), Format::Short);
        assert!(found.contains(said), "{theirs}: {found}");
        assert_eq!(found.matches("error[").count(), 1, "{theirs}: {found}");
        let right = find(&file(ours), Format::Short);
        assert!(!right.contains("error["), "{ours}: {right}");
    }
}

#[test]
fn a_backlog_that_never_gets_smaller_is_said() {
    let file = |sources: &str, from: &str, buffer: &str| {
        format!(
            "sources:\n  a: {{ type: timer, every: 5s }}\n{sources}sinks:\n  \
             out: {{ from: {from}, type: log, buffer: {{ store: disk, {buffer} }} }}\n"
        )
    };
    let b = "  b: { type: timer, every: 1s }\n";
    let said = |place: &str, label: &str| {
        format!(
            "pipelines/x.yaml:{place}: warning[never-catches-up]: `out` never catches up after an outage ({label})"
        )
    };
    check(&file("", "a", "drain_rate: 12/m"), &[&said("4:65", "`a` sends 12/m")]);
    check(&file("", "a", "drain_rate: 13/m"), &[]);
    check(&file(b, "[a, b]", "drain_rate: 1/s"), &[&said("5:70", "`a` and `b` send 1.2/s")]);
    check(&file("", "a", "drain_rate: 12/m, order: live_first"), &[]);
    check(&file("", "a", "order: fifo"), &[]);
}

#[test]
fn what_a_sink_that_must_deliver_is_refused_is_read() {
    let disk = "\n    buffer: { store: disk }";
    let file = with_promise("", "", "", disk).replace("out.errors", "s");
    check(
        &file,
        &[
            "pipelines/x.yaml:14:5: warning[unread-errors]: `out` must deliver, and nobody reads its errors \
           (what the other side will never take goes into the log, and is gone)",
        ],
    );
    // What is misspelt may be meant to.
    let found =
        find(&file.replace("from: s, type: log", "from: ut.errors, type: log"), Format::Short);
    assert!(found.contains("unknown-node") && !found.contains("unread-errors"), "{found}");
    check(&file.replace("must_deliver: true", "must_deliver: false"), &[]);
}

#[test]
fn what_nobody_reads_is_said() {
    let unread = "pipelines/x.yaml:2:3: warning[unread-node]: nobody reads timer source `meter`";
    check("sources:\n  meter: { type: timer, every: 5s }\n", &[unread]);
    let bus = "connections:\n  bus: { type: modbus, url: 'tcp://a' }\n";
    check(
        &format!("{bus}{}", with_sink("from: meter, type: log")),
        &["pipelines/x.yaml:2:3: warning[unused-connection]: connection `bus` is not used"],
    );
    check("connections:\n  hall: { type: broker }\n", &[]);
    check("", &["pipelines/x.yaml:1:1: error[empty-pipeline]: file is empty"]);
}

#[test]
fn names_stand_once_and_are_words() {
    check(
        "sources:\n  a: { type: timer, every: 5s }\nsinks:\n  a: { from: a, type: log }\n",
        &["pipelines/x.yaml:4:3: error[duplicate-node]: two nodes are called `a` (again here)"],
    );
    check(
        "=== pipelines/a.yaml\nconnections:\n  c: { type: broker }\n\
         === pipelines/b.yaml\nconnections:\n  c: { type: broker, listen: [] }\n",
        &[
            "pipelines/b.yaml:2:3: error[duplicate-connection]: two connections are called `c` (again here)",
        ],
    );
    check(
        "sources:\n  a.b: { type: timer, every: 5s }\n",
        &[
            "pipelines/x.yaml:2:3: error[bad-name]: `a.b` cannot be the name of a source (expected letters, digits, `-` and `_`)",
        ],
    );
    check(
        &format!("=== pipelines/x y.yaml\n{}", with_sink("from: meter, type: log")),
        &[
            "pipelines/x y.yaml:1:1: error[bad-name]: `x y` cannot be the name of a pipeline file (expected letters, digits, `-` and `_`)",
        ],
    );
}

#[test]
fn every_connection_is_there_and_fits() {
    check(
        &with_sink("from: meter, type: mqtt, connection: cloud, topic: a"),
        &[
            "pipelines/x.yaml:4:47: error[unknown-connection]: no connection is named `cloud` (not found in this folder)",
        ],
    );
    check(
        &(with_sink("from: meter, type: mqtt, connection: bus, topic: a")
            + "connections:\n  bus: { type: modbus, url: 'tcp://a' }\n"),
        &[
            "pipelines/x.yaml:4:47: error[unknown-connection]: mqtt sink `out` cannot use connection `bus` (expected one of type `mqtt` or `broker` or `aws-iot` or `azure-iot` or `hivemq-cloud` or `flespi` or `thingsboard`, found `modbus`)",
        ],
    );
    check(
        &with_sink("from: meter, type: mqtt, connection: http://a/b, topic: a"),
        &[
            "pipelines/x.yaml:4:47: error[unknown-connection]: no connection is named `http://a/b` (not found in this folder)",
        ],
    );
    check(
        &with_sink("from: meter, type: mqtt, topic: a"),
        &[
            "pipelines/x.yaml:4:3: error[missing-setting]: mqtt sink `out` needs `connection` (`connection` is missing)",
        ],
    );
    check(
        &with_sink("from: meter, type: mqtt, connection: { type: mqtt, url: 5 }"),
        &["pipelines/x.yaml:4:66: error[setting-type]: `url` has the wrong type (expected text)"],
    );
    check(&with_sink("from: meter, type: mqtt, connection: { type: mqtt, url: 'mqtt://a' }"), &[]);
}

#[test]
fn a_comment_allows_a_warning_in_one_line() {
    let meter = "meter: { type: timer, every: 5s }";
    let file = |lines: &str| format!("sources:\n{lines}\n");
    let unread = |line| {
        format!("pipelines/x.yaml:{line}: warning[unread-node]: nobody reads timer source `meter`")
    };
    let allow = "# forebay: allow unread-node (soon)";
    check(&file(&format!("  {allow}\n  {meter}")), &[]);
    check(&file(&format!("  {meter} {allow}")), &[]);
    check(&file(&format!("  {allow}\n  # what it is for\n\n  {meter}")), &[]);
    check(&file(&format!("  #forebay:   allow unread-node(soon)\n  {meter}")), &[]);
    // The last line, without an end.
    check(&format!("sources:\n  {meter} {allow}"), &[]);
    // Another line, or a text that is no comment.
    check(
        &file(&format!("  {meter}\n  {allow}")),
        &[
            &unread("2:3"),
            "pipelines/x.yaml:3:3: warning[useless-allow]: there is no `unread-node` to allow here (allows nothing)",
        ],
    );
    check(
        &file(&format!("  {}", meter.replace("5s", &format!("5s, topic: 'x#{allow}'")))),
        &[&unread("2:3")],
    );
    check(
        &file(&format!("  {allow} \n  meter: {{ type: timer }}")),
        &[
            "pipelines/x.yaml:3:3: error[missing-setting]: timer source `meter` needs `every` (`every` is missing)",
        ],
    );
}

#[test]
fn an_allow_is_read_with_care() {
    let check = |comment: &str, expected: &str| {
        let file = format!("sources:\n  m: {{ type: timer, every: 5s }} # forebay: {comment}\n");
        check(
            &file,
            &[
                "pipelines/x.yaml:2:3: warning[unread-node]: nobody reads timer source `m`",
                &format!("pipelines/x.yaml:2:{expected}"),
            ],
        );
    };
    const EXPECTED: &str = "33: warning[bad-allow]: a comment for forebay cannot be read (expected `forebay: allow rule-name (reason)`)";
    check("", EXPECTED);
    check("alow unread-node (x)", EXPECTED);
    let reason = "33: warning[bad-allow]: `unread-node` is allowed without a reason (expected `allow unread-node (why it is right here)`)";
    check("allow unread-node", reason);
    check("allow unread-node ()", reason);
    check(
        "allow unread-nod (x)",
        "50: warning[unknown-rule]: there is no rule `unread-nod` (did you mean `unread-node`?)",
    );
    check(
        "allow cycle (x)",
        "33: warning[bad-allow]: `cycle` cannot be allowed (nothing can run with it)",
    );
}

#[test]
fn an_error_that_leaves_something_to_run_can_be_allowed() {
    let file = "connections:\n  one: { type: broker }\n  # forebay: allow claimed-twice (one at a time)\n  two: { type: broker }\n";
    check(file, &[]);
    check(
        "=== forebay.yaml\nlint: { warn: [claimed-twice] }\n=== pipelines/x.yaml\nconnections:\n  one: { type: broker }\n  two: { type: broker }\n",
        &[
            "pipelines/x.yaml:3:3: warning[claimed-twice]: `one` and `two` both claim port 1883 of 127.0.0.1 (claimed again here)",
        ],
    );
}

#[test]
fn a_script_allows_in_its_own_comments() {
    let script = "      // forebay: allow unknown-field (x)\n      msg.foo\n";
    let allowed = "pipelines/x.yaml:8:7: warning[bad-allow]: `unknown-field` cannot be allowed (nothing can run with it)";
    let found = "pipelines/x.yaml:9:11: error[unknown-field]: a message has no field `foo` (expected topic, time, payload or meta)";
    check(&with_script(script), &[allowed, found]);
}

#[test]
fn the_folder_says_how_bad_a_finding_is() {
    let pipeline = "=== pipelines/x.yaml\nsources:\n  meter: { type: timer, every: 5s }\n";
    let lint = |lint: &str| format!("=== forebay.yaml\nlint: {lint}\n{pipeline}");
    check(
        &lint("{ deny: [unread-node] }"),
        &["pipelines/x.yaml:2:3: error[unread-node]: nobody reads timer source `meter`"],
    );
    let warning = "pipelines/x.yaml:2:3: warning[unread-node]: nobody reads timer source `meter`";
    check(&lint("{ deny: [unread-node], warn: [unread-node] }"), &[warning]);
    check(
        &lint("{ deny: [no-such-rule-at-all], warn: [cycle] }"),
        &[
            "forebay.yaml:1:16: warning[unknown-rule]: there is no rule `no-such-rule-at-all`",
            "forebay.yaml:1:45: warning[bad-allow]: `cycle` cannot be a warning (nothing can run with it)",
            warning,
        ],
    );
}

#[test]
fn what_nothing_comes_out_of_starves_its_readers() {
    check(
        &(with_transforms("  a: { from: meter.errors, type: script, script: msg }\n", "a")
            + "  more: { from: meter, type: log }\n"),
        &[
            "pipelines/x.yaml:4:14: warning[never-receives]: script transform `a` can never receive anything (`meter` never fails)",
        ],
    );
}

#[test]
fn an_output_is_read_or_said_to_be_unread() {
    let outputs = |from: &str| {
        with_transforms(
            "  t: { from: meter, type: script, script: msg, outputs: [high, low] }\n",
            from,
        )
    };
    check(&outputs("[t.high, t.low]"), &[]);
    check(
        &outputs("t.high"),
        &[
            "pipelines/x.yaml:4:64: warning[unread-output]: nobody reads output `low` of script transform `t`",
        ],
    );
    check(
        &outputs("t.errors"),
        &[
            "pipelines/x.yaml:4:3: warning[unread-node]: nobody reads script transform `t` but for its errors",
        ],
    );
}

#[test]
fn what_a_sink_is_answered_can_be_read() {
    let ask = |more: &str| {
        format!(
            "sources:\n  b: {{ type: beat }}\nsinks:\n  \
             ask: {{ type: command, from: b, connection: {{ type: line }} }}\n{more}"
        )
    };
    // And need not be.
    check_example(&ask(""), &[]);
    check_example(&ask("  e: { type: end, from: ask.answers }\n"), &[]);
    check_example(
        &ask("  e: { type: end, from: ask }\n"),
        &[
            "pipelines/x.yaml:5:25: error[unknown-output]: `ask` is a sink: nothing comes out of it but by name (cannot be read)",
        ],
    );
    check_example(
        &ask("  e: { type: end, from: ask.answer }\n"),
        &["pipelines/x.yaml:5:25: error[unknown-output]: `ask` has no output `answer`"],
    );
}

#[test]
fn a_connection_that_nobody_uses_works_for_others_or_for_nobody() {
    let unused = "pipelines/x.yaml:2:3: warning[unused-connection]: connection `l` is not used";
    check_example("connections:\n  l: { type: line }\n", &[unused]);
    // To claim something is not to serve anybody.
    check_example("connections:\n  l: { type: line, id: a }\n", &[unused]);
    check_example("connections:\n  l: { type: line, serves: true }\n", &[]);
}

#[test]
fn a_node_says_what_is_wrong_on_its_connection() {
    check_example(
        "connections:\n  l: { type: line, id: a }\nsources:\n  \
         t: { type: tap, connection: l, to: a }\nsinks:\n  e: { type: end, from: t }\n",
        &[
            "pipelines/x.yaml:4:38: error[setting-value]: a line does not hear itself (expected another)",
        ],
    );
}

#[test]
fn what_several_nodes_share_is_counted_once() {
    let taps = |first: &str, second: &str| {
        format!(
            "connections:\n  l: {{ type: line }}\nsources:\n  \
             a: {{ type: tap, connection: l, takes: 500ms, to: {first} }}\n  \
             b: {{ type: tap, connection: l, takes: 500ms, to: {second} }}\n\
             sinks:\n  e: {{ type: end, from: [a, b] }}\n"
        )
    };
    check_example(&taps("x", "x"), &[]);
    check_example(
        &taps("x", "y"),
        &[
            "pipelines/x.yaml:4:41: warning[polls-too-fast]: `l` is busy for 100 % of its time (one cycle takes 500ms of each 1s (50 %))",
        ],
    );
}

#[test]
fn what_a_type_finds_in_its_settings_is_placed_and_can_be_allowed() {
    let beat = |say: &str, comment: &str| {
        format!(
            "sources:\n  b: {{ type: beat, say: {say} }} {comment}\n\
             sinks:\n  e: {{ type: end, from: b }}\n"
        )
    };
    check_example(
        &beat("nothing", ""),
        &[
            "pipelines/x.yaml:2:25: error[setting-value]: the beat cannot say that (expected a word)",
        ],
    );
    let quiet =
        "pipelines/x.yaml:2:25: warning[too-quiet]: the beat says nothing (expected a word)";
    check_example(&beat("''", ""), &[quiet]);
    check_example(&beat("''", "# forebay: allow too-quiet (at night)"), &[]);
    // A rule of a plugin that is not there is no rule.
    check(
        "# forebay: allow too-quiet (at night)\nconnections:\n  b: { type: broker }\n",
        &["pipelines/x.yaml:1:18: warning[unknown-rule]: there is no rule `too-quiet`"],
    );
}

#[test]
fn a_pipeline_without_nodes_is_said_to_be_empty() {
    let empty = "pipelines/x.yaml:1:1: error[empty-pipeline]: pipeline has no node";
    check("description: soon\n", &[empty]);
    check("sources:\n", &[empty]);
    check(
        "# soon\n",
        &["pipelines/x.yaml:2:1: error[empty-pipeline]: file holds nothing but comments"],
    );
    check("connections:\n  b: { type: broker }\n", &[]);
}

/// A timer, an MQTT source, a transform that reads both, and a sink that must deliver.
fn with_promise(connection: &str, source: &str, transform: &str, sink: &str) -> String {
    format!(
        "connections:\n  c: {{ type: mqtt, url: 'mqtt://b', client_id: me{connection} }}\n\
         sources:\n  t: {{ type: timer, every: 5s }}\n  m: {{ type: mqtt, connection: c, topics: [a]{source} }}\n\
         transforms:\n  s: {{ from: [t, m], type: script, script: msg{transform} }}\n\
         sinks:\n  out:\n    from: s\n    type: mqtt\n    connection: c\n    topic: b\n    must_deliver: true{sink}\n  \
         kept: {{ from: out.errors, type: log }}\n"
    )
}

#[test]
fn what_must_be_delivered_is_safe_from_a_restart() {
    let kept = ", clean_session: false";
    let lost = |names: &str| {
        format!(
            "pipelines/x.yaml:14:5: error[lost-on-restart]: what {names} to `out` is lost by a restart (it waits in memory)"
        )
    };
    let disk = "\n    buffer: { store: disk }";
    check(&with_promise("", "", "", ""), &[&lost("`t` and `m` send")]);
    check(&with_promise(kept, "", "", ""), &[&lost("`t` sends")]);
    check(&with_promise(kept, ", qos: 0", "", ""), &[&lost("`t` and `m` send")]);
    check(&with_promise("", "", "", disk), &[]);
    check(&with_promise(kept, "", "", &disk.replace("disk", "spill")), &[&lost("`t` sends")]);
    check(
        &with_promise(kept, "", "", "").replace("[t, m]", "m").replace("from: s", "from: [s, t]"),
        &[&lost("`t` sends")],
    );
    // A promise that nobody makes is not broken.
    check(&with_promise("", "", "", "").replace("must_deliver: true", "must_deliver: false"), &[]);
    // Another mistake in the file hides none of it.
    check(
        &with_promise("", "", ", tiemout: 1s", ""),
        &[
            "pipelines/x.yaml:7:49: error[unknown-setting]: script transform `s` has no setting `tiemout`",
            &lost("`t` and `m` send"),
        ],
    );
}

#[test]
fn what_must_be_delivered_is_not_dropped_on_the_way() {
    check(
        &with_promise(
            "",
            "",
            ", buffer: { when_full: drop_oldest }",
            "\n    buffer: { store: disk, when_full: drop_newest }",
        ),
        &[
            "pipelines/x.yaml:7:70: error[drops-when-full]: `s` drops messages that `out` must deliver (expected `block`, so that sources wait)",
            "pipelines/x.yaml:15:39: error[drops-when-full]: `out` must deliver, and drops what finds its buffer full (expected `block`, so that sources wait)",
        ],
    );
}

#[test]
fn what_must_be_delivered_is_confirmed() {
    check(
        &with_promise("", "", "", "\n    buffer: { store: disk }\n    qos: 0"),
        &[
            "pipelines/x.yaml:14:5: error[unconfirmed-write]: mqtt sink `out` does not hear whether a message arrived (so this cannot be promised)",
        ],
    );
}

#[test]
fn what_only_one_can_hold_is_claimed_once() {
    let two = |one: &str, other: &str| {
        format!(
            "=== pipelines/a.yaml\nconnections:\n  one: {{ {one} }}\n\
             === pipelines/b.yaml\nconnections:\n  two: {{ {other} }}\n"
        )
    };
    check(
        &two("type: broker", "type: broker, listen: ['127.0.0.1:1883']"),
        &[
            "pipelines/b.yaml:2:33: error[claimed-twice]: `one` and `two` both claim port 1883 of 127.0.0.1 (claimed again here)",
        ],
    );
    check(&two("type: broker", "type: broker, listen: ['127.0.0.1:1884']"), &[]);
    check(
        &two("type: broker", "type: broker, listen: ['[::]:1883'], users: { a: '${env:SECRET}' }"),
        &[
            "pipelines/b.yaml:2:33: error[claimed-twice]: `one` and `two` both claim port 1883 of every address (claimed again here)",
            "pipelines/b.yaml:2:33: warning[passwords-in-the-clear]: passwords of devices go over the network as they are, to [::]:1883 (has no TLS)",
        ],
    );
    let client = "type: mqtt, url: 'mqtt://b', client_id: me";
    check(
        &two("type: mqtt, url: 'mqtt://B:1883', client_id: me", client),
        &[
            "pipelines/a.yaml:2:3: warning[unused-connection]: connection `one` is not used",
            "pipelines/b.yaml:2:3: warning[unused-connection]: connection `two` is not used",
            "pipelines/b.yaml:2:50: error[claimed-twice]: `one` and `two` both claim client id `me` at b:1883 (claimed again here)",
        ],
    );
}

#[test]
fn a_mark_in_a_script_stands_where_the_mistake_is() {
    let at = |place: &str| {
        format!(
            "pipelines/x.yaml:{place}: error[script-syntax]: script cannot be read (unexpected ';')"
        )
    };
    check(&with_script("      let x = ;\n"), &[&at("8:15")]);
    // A blank first line, with and without spaces.
    check(&with_script("\n      let x = ;\n"), &[&at("9:15")]);
    check(&with_script("  \n\n      let x = ;\n"), &[&at("10:15")]);
    // More than the usual indentation, also in the first line.
    check(
        &with_script("          if true {\n            let x = ;\n          }\n"),
        &[&at("9:21")],
    );
    // The first line stands further to the right than the others.
    let explicit = with_script("        if true {\n       let x = ;\n        }\n");
    check(&explicit.replace("script: |", "script: |2"), &[&at("9:16")]);
    // Columns count characters; a tab is one.
    check(&with_script("      if true {\n      \t\tlet x = ;\n      }\n"), &[&at("9:17")]);
    check(&with_script("      let x = \"äöü€😀\"; let y = ;\n"), &[&at("8:32")]);
    // One line, in quotes or not.
    let line = |script: &str| {
        with_transforms(&format!("  t: {{ from: meter, type: script, script: {script} }}\n"), "t")
    };
    check(&line("\"let x = ;\""), &[&at("4:52")]);
    check(
        &line("mgs"),
        &[
            "pipelines/x.yaml:4:43: error[unknown-variable]: script has no variable `mgs` (did you mean `msg`?)",
        ],
    );
    check(
        &format!(
            "=== pipelines/x.yaml\n{}=== pipelines/scripts/t.rhai\n\n\t// é\n  \tlet x = ;\n",
            line("scripts/t.rhai")
        ),
        &[
            "pipelines/scripts/t.rhai:3:12: error[script-syntax]: script cannot be read (unexpected ';')",
        ],
    );
    check(
        &line("scripts/t.rhai"),
        &[
            "pipelines/x.yaml:4:43: error[script-missing]: script pipelines/scripts/t.rhai cannot be read (there is no such file)",
        ],
    );
}

#[test]
fn a_mark_in_a_script_is_right_in_every_style_of_yaml() {
    /// Marks with `«»` what is to be marked, in the value of `script:` from line 7 on.
    #[track_caller]
    fn check(script: &str) {
        for newline in ["\n", "\r\n"] {
            let marked = with_transforms(
                &format!("  t:\n    from: meter\n    type: script\n    script: {script}\n"),
                "t",
            )
            .replace('\n', newline);
            let at = marked.find('«').unwrap();
            let before = &marked[..at];
            let line = before.matches('\n').count() + 1;
            let column = before[before.rfind('\n').unwrap() + 1..].chars().count() + 1;
            let length = marked[at..].split('»').next().unwrap().chars().count() - 1;
            let found = find(&marked.replace(['«', '»'], ""), Format::Json);
            let found: serde_json::Value = serde_json::from_str(&found).unwrap();
            let mark = (&found["line"], &found["column"], &found["end"]["column"]);
            let expected = (&json!(line), &json!(column), &json!(column + length));
            assert_eq!(mark, expected, "{marked:?}\n{found:#}");
        }
    }
    for head in ["|", "|-", "|+", "|  # why", ">", ">-", ">+", ">-  # why"] {
        check(&format!("{head}\n      let a = 1;\n      «mgs»"));
        check(&format!("{head}\n      «mgs»\n\n      // äöü 😀\n"));
        check(&format!("{head}\n\n\n      let a = 1;\n\n      «mgs».payload.a = a;\n      msg\n"));
        check(&format!("{head}\n      let a = \"äöü€😀\"; «mgs»"));
        check(&format!("{head}\n      if true {{\n          «mgs»\n      }}"));
        check(&format!("{head}\n      if true {{\n      \tlet a = \"😀\";\t«mgs»\n      }}"));
    }
    for head in ["|2", ">2", "|2-", ">+2", "|2 # why"] {
        check(&format!("{head}\n        let a = 1;\n      «mgs»\n"));
        check(&format!("{head}\n\n        let a = 1;\n\n          «mgs»\n"));
    }
    for one in ["let a = 1; «mgs»", "let a = 1;\n      let b = 2;\n\n      «mgs»"] {
        check(one);
        check(&format!("'{one}'"));
        check(&format!("\"{one}\""));
    }
    // Quotes within quotes, and escapes.
    check("'let a = \"it''s\"; «mgs»'");
    check(r#""let a = \"é\x41\u00e9\U0001F600\\n\"; «mgs»""#);
    check(r#""let a = 1;\n\tlet b = \"\u2003\"; \x20«mgs»""#);
    check("\"let a = 1; \\\n       let b = a; «mgs»\"");
    check(r#""emit(«\"high\"», msg)""#);
    check("|\n      emit(«\"high\"», msg)");
    // What is wrong stands at the end.
    check("|\n      let a = (1\n      «;»\n");
    check("|\n      msg.payload.a = \"x\"«;»\n".replace("\"x\"«;»", "«;»").as_str());
}

#[test]
fn a_script_that_two_nodes_share_is_marked_where_it_stands() {
    check(
        "sources:\n  meter: { type: timer, every: 5s }\ntransforms:\n  \
         a: { from: meter, type: script, script: &double \"mgs\" }\n  \
         b: { from: a, type: script, script: *double }\nsinks:\n  out: { from: b, type: log }\n",
        &[
            "pipelines/x.yaml:4:52: error[unknown-variable]: script has no variable `mgs` (did you mean `msg`?)",
            "pipelines/x.yaml:4:52: error[unknown-variable]: script has no variable `mgs` (did you mean `msg`?)",
        ],
    );
}

/// A Modbus source with the registers `flow_temp` and `power`, transforms, and a sink.
fn with_meter(transforms: &str, from: &str) -> String {
    format!(
        "connections:\n  bus: {{ type: modbus, url: 'tcp://plc' }}\nsources:\n  \
         meter: {{ type: modbus, connection: bus, every: 5s, registers: [{{ name: flow_temp, coil: 0 }}, \
         {{ name: power, coil: 1 }}] }}\n  beat: {{ type: timer, every: 5s }}\n  \
         said: {{ type: mqtt, topics: [a], connection: {{ type: mqtt, url: 'mqtt://plc' }} }}\n\
         transforms:\n{transforms}sinks:\n  out: {{ from: [{from}, meter, beat, said], type: log }}\n"
    )
}

#[test]
fn a_field_that_nobody_gives_is_said_where_that_is_known() {
    let node = |name: &str, from: &str, script: &str| {
        format!("  {name}: {{ from: {from}, type: script, script: '{script}' }}\n")
    };
    let found = |transforms: &str, from: &str| {
        let found = find(&with_meter(transforms, from), Format::Short);
        found.lines().map(|line| line.split("]: ").nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    let reads = |field: &str| format!("msg.payload.hot = msg.payload.{field}; msg");
    assert_eq!(
        found(&node("t", "meter", &reads("flow_tmp")), "t"),
        ["nothing upstream of `t` gives a field `flow_tmp` (did you mean `flow_temp`?)"]
    );
    assert_eq!(
        found(&node("t", "beat", &reads("temperature")), "t"),
        ["nothing upstream of `t` gives a field `temperature` (always missing here)"]
    );
    // Each field once, however often it is read, and each reader.
    let twice = "let a = msg.payload.x + msg.payload.x; msg.payload.a = a; msg";
    let chain = [node("t", "meter", twice), node("u", "t", &reads("y"))].concat();
    assert_eq!(
        found(&chain, "u"),
        [
            "nothing upstream of `t` gives a field `x` (always missing here)",
            "nothing upstream of `u` gives a field `y` (always missing here)",
        ]
    );
    let none: [String; 0] = [];
    for fine in [
        node("t", "meter", &reads("flow_temp")),
        node("t", "beat", &reads("count")),
        // One of the two gives it.
        node("t", "[meter, beat]", &reads("count")),
        // A script upstream gives it, or this one.
        [node("s", "meter", "msg.payload.x = 1; msg"), node("t", "s", &reads("x"))].concat(),
        node("t", "meter", "if true { msg.payload.x = 1; } msg.payload.y = msg.payload.x; msg"),
        // Nobody knows what comes.
        node("t", "said", &reads("x")),
        node("t", "[meter, said]", &reads("x")),
        node("t", "meter.errors", &reads("x")),
        [node("s", "meter", "#{ payload: state }"), node("t", "s", &reads("x"))].concat(),
    ] {
        assert_eq!(found(&fine, "t"), none, "{fine}");
    }
}

#[test]
fn the_time_of_a_bus_is_added_up_over_all_files() {
    let meter = |name: &str, every: &str, more: &str| {
        format!(
            "=== pipelines/{name}.yaml\nsources:\n  {name}: {{ type: modbus, connection: bus, every: {every}, \
             registers: [{{ name: a, input: 0 }}, {{ name: b, input: 4 }}], max_gap: 0{more} }}\n\
             sinks:\n  out: {{ from: {name}, type: log }}\n"
        )
    };
    let bus = |url: &str| {
        format!("=== pipelines/a.yaml\nconnections:\n  bus: {{ type: modbus, url: '{url}' }}\n")
    };
    let line = bus("tcp://gateway?baud=9600");
    let one = [line.clone(), meter("m", "50ms", "")].concat();
    check(
        &one,
        &[
            "pipelines/m.yaml:2:46: warning[polls-too-fast]: `m` asks for more time than `bus` has (one cycle takes 56ms of each 50ms (112 %))",
        ],
    );
    // Alone each of the two would fit.
    let two = [line.clone(), meter("m", "100ms", ""), meter("n", "110ms", ", unit: 2")].concat();
    check(
        &two,
        &[
            "pipelines/m.yaml:2:46: warning[polls-too-fast]: the nodes on `bus` ask for 107 % of its time (one cycle takes 56ms of each 100ms (56 %))",
        ],
    );
    let nearly = [line.clone(), meter("m", "65ms", "")].concat();
    check(
        &nearly,
        &[
            "pipelines/m.yaml:2:46: warning[polls-too-fast]: `bus` is busy for 86 % of its time (one cycle takes 56ms of each 65ms (86 %))",
        ],
    );
    check(&[line, meter("m", "71ms", "")].concat(), &[]);
    check(&[bus("tcp://plc"), meter("m", "10ms", "")].concat(), &[]);
}

#[test]
fn a_secret_in_clear_is_said_wherever_it_stands() {
    let found = |connection: &str, sink: &str| {
        let files = format!("{}connections:\n  a: {{ {connection} }}\n", with_sink(sink));
        let found = find(&files, Format::Short);
        let named = |line: &str| {
            let is_secret = line.contains("warning[plain-secret]");
            is_secret.then(|| line.split('`').nth(1).unwrap().to_owned())
        };
        found.lines().filter_map(named).collect::<Vec<_>>()
    };
    let mqtt = |password: &str| {
        let settings = format!("type: mqtt, url: 'mqtt://b', username: u, password: {password}");
        found(&settings, "from: meter, type: mqtt, connection: a")
    };
    assert_eq!(mqtt("hunter2"), ["password"]);
    assert_eq!(mqtt("'${env:SECRET}'"), <[&str; 0]>::default());
    assert_eq!(mqtt("''"), <[&str; 0]>::default());
    let key = |key: &str| {
        let settings = format!("type: mqtt, url: 'mqtts://b', cert: c.pem, key: {key}");
        found(&settings, "from: meter, type: mqtt, connection: a")
    };
    assert_eq!(key("\"-----BEGIN PRIVATE KEY-----\\nMIIE\""), ["key"]);
    assert_eq!(key("/certs/key.pem"), <[&str; 0]>::default());
    let users = "type: broker, users: { plc: hunter2, scada: '${env:SECRET}' }";
    assert_eq!(found(users, "from: meter, type: mqtt, connection: a"), ["users.plc"]);
    let salted = forebay_sdk::password::Hashed::of(b"hunter2").unwrap();
    let users = format!("type: broker, users: {{ plc: '{salted}' }}");
    let nothing = <[&str; 0]>::default();
    assert_eq!(found(&users, "from: meter, type: mqtt, connection: a"), nothing);
    let headers = "Content-Type: text/plain, X-Api-Key: k, authorization: 'Bearer ${env:SECRET}'";
    let http = format!("from: meter, type: http, url: 'http://a', headers: {{ {headers} }}");
    assert_eq!(found("type: broker", &http), ["headers.X-Api-Key"]);
    let query = "from: meter, type: http, url: 'http://a/write?db=x&api_key=k4711&b=c'";
    assert_eq!(found("type: broker", query), ["url.api_key"]);
    check(
        &with_sink(query),
        &[
            "pipelines/x.yaml:4:69: warning[plain-secret]: `url.api_key` can be read by everybody who sees this file (expected `${file:secrets/api_key}`)",
        ],
    );
}

#[test]
fn an_address_of_six_digits_is_explained() {
    let files = with_meter("", "meter").replace("coil: 0", "holding: 400001");
    let found = find(&files, Format::Full);
    assert!(found.contains("expected 0 to 65535, found 400001"), "{found}");
    assert!(found.contains("number 40001 (or 400001) of a manual is `holding: 0`"), "{found}");
}

#[test]
fn a_bad_node_does_not_hide_another() {
    check(
        "connections:\n  c: { type: mqtt }\nsources:\n  a: { type: tmer }\n  b: { type: timer }\n\
         sinks:\n  d: { from: [a, b, x], type: log, frmat: json }\n",
        &[
            "pipelines/x.yaml:2:3: error[missing-setting]: mqtt connection `c` needs `url` (`url` is missing)",
            "pipelines/x.yaml:4:14: error[unknown-type]: there is no source type `tmer`",
            "pipelines/x.yaml:5:3: error[missing-setting]: timer source `b` needs `every` (`every` is missing)",
            "pipelines/x.yaml:7:21: error[unknown-node]: no node is named `x` (not found in this pipeline)",
            "pipelines/x.yaml:7:36: error[unknown-setting]: log sink `d` has no setting `frmat`",
        ],
    );
}

#[test]
fn what_a_variable_gave_is_not_shown() {
    for sink in [
        "from: '${env:SECRET}', type: log",
        "from: meter, type: '${env:SECRET}'",
        "from: meter, type: log, format: '${env:SECRET}'",
        "from: meter, type: http, url: 'http://a', timeout: '${env:SECRET}'",
        "from: meter, type: mqtt, connection: '${env:SECRET}'",
        "from: meter, type: mqtt, connection: {type: mqtt, url: '${env:SECRET}'}",
        "from: meter, type: mqtt, connection: {type: mqtt, url: 'mqtt://u:${env:SECRET}@b'}",
        "from: meter, type: mqtt, connection: {type: mqtt, url: 'mqtt://b'}, topic: 'a/${env:SECRET}/#'",
        "from: meter, type: mqtt, connection: {type: mqtt, url: 'mqtt://b', password: '${env:SECRET}'}",
        "from: meter, type: http, url: 'http://u:${env:SECRET}@b'",
        "from: meter, type: http, url: 'http://b', headers: { 'X Y': '${env:SECRET}' }",
    ] {
        for format in [Format::Short, Format::Full, Format::Json] {
            let found = find(&with_sink(sink), format);
            assert!(!found.is_empty(), "{sink}");
            assert!(!found.contains("hunter2"), "{sink}\n{found}");
        }
    }
    let claim = "type: mqtt, url: 'mqtt://b', client_id: 'x-${env:SECRET}'";
    check(
        &format!("connections:\n  one: {{ {claim} }}\n  two: {{ {claim} }}\n"),
        &[
            "pipelines/x.yaml:2:3: warning[unused-connection]: connection `one` is not used",
            "pipelines/x.yaml:3:3: warning[unused-connection]: connection `two` is not used",
            "pipelines/x.yaml:3:50: error[claimed-twice]: `one` and `two` both claim client id `x-${env:SECRET}` at b:1883 (claimed again here)",
        ],
    );
    // A short one may be a secret too, and stands in other words.
    let claim = claim.replace("SECRET", "SHORT").replace("x-", "");
    check(
        &format!("connections:\n  one: {{ {claim} }}\n  two: {{ {claim} }}\n"),
        &[
            "pipelines/x.yaml:2:3: warning[unused-connection]: connection `one` is not used",
            "pipelines/x.yaml:3:3: warning[unused-connection]: connection `two` is not used",
            "pipelines/x.yaml:3:50: error[claimed-twice]: `one` and `two` both claim client id `${env:SHORT}` at b:1883 (claimed again here)",
        ],
    );
    let script = "  t: { from: meter, type: script, script: 'let a = ${env:SECRET};' }\n";
    let found = find(&with_transforms(script, "t"), Format::Full);
    assert!(found.contains("script has no variable `${env:SECRET}`"), "{found}");
    assert!(!found.contains("hunter2"), "{found}");
}

#[test]
fn json_says_all_that_people_see() {
    let found = find(&with_sink("from: metr, type: logg"), Format::Json);
    let lines: Vec<serde_json::Value> =
        found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines,
        [
            serde_json::json!({
                "rule": "unknown-node", "level": "error", "message": "no node is named `metr`",
                "label": "not found in this pipeline", "file": "pipelines/x.yaml", "line": 4,
                "column": 16, "end": { "line": 4, "column": 20 },
            }),
            serde_json::json!({
                "rule": "unknown-type", "level": "error",
                "message": "there is no sink type `logg`", "label": "",
                "file": "pipelines/x.yaml", "line": 4, "column": 28,
                "end": { "line": 4, "column": 32 },
                "edit": {
                    "title": "a type with a similar name exists", "text": "log", "line": 4,
                    "column": 28, "end": { "line": 4, "column": 32 },
                },
            }),
        ]
    );
}

#[test]
fn an_unknown_node_is_shown_with_the_one_that_was_meant() {
    check_full(
        "sources:\n  meter:\n    type: timer\n    every: 5s\n\nsinks:\n  out:\n    type: log\n    from: metr\n",
        "
error[unknown-node]: no node is named `metr`
 --> pipelines/x.yaml:9:11
  |
2 |   meter:
  |   ----- did you mean `meter`?
...
9 |     from: metr
  |           ^^^^ not found in this pipeline
",
    );
}

#[test]
fn a_wrong_setting_is_shown_with_its_node_and_what_would_be_right() {
    check_full(
        "sources:\n  meter:\n    type: modbus\n    connection: { type: modbus, url: 'tcp://a' }\n    \
         unit: 300\n    every: 5\n    registrs:\n      - { name: a, input: 0 }\n\
         sinks:\n  out: { from: meter, type: log }\n",
        "
error[setting-type]: `unit` is out of range
 --> pipelines/x.yaml:5:11
  |
2 |   meter:
...
5 |     unit: 300
  |           ^^^ expected 0 to 255, found 300

error[setting-type]: `every` cannot be read
 --> pipelines/x.yaml:6:12
  |
2 |   meter:
...
6 |     every: 5
  |            ^ expected a duration with a unit, such as `500ms`, `5s` or `1h`, found 5

error[unknown-setting]: modbus source `meter` has no setting `registrs`
 --> pipelines/x.yaml:7:5
  |
2 |   meter:
...
7 |     registrs:
  |     ^^^^^^^^
  |
help: a setting with a similar name exists
  |
7 |     registers:
  |           +
",
    );
}

#[test]
fn a_mistake_in_a_block_of_lines_is_shown_in_its_line() {
    check_full(
        &with_script(
            "\n      let heiß = 1;\n      msg.payload.a = \"gruß\"; let b = ;\n      msg\n",
        )
        .replace("heiß", "hot"),
        "
error[script-syntax]: script cannot be read
  --> pipelines/x.yaml:10:39
   |
 4 |   t:
...
10 |       msg.payload.a = \"gruß\"; let b = ;
   |                                       ^ unexpected ';'
",
    );
}

#[test]
fn a_mistake_in_a_script_file_is_shown_with_its_user() {
    check_full(
        &format!(
            "=== pipelines/x.yaml\n{}=== pipelines/scripts/t.rhai\n\nlet x = 1\nmsg\n",
            with_transforms("  t: { from: meter, type: script, script: scripts/t.rhai }\n", "t")
        ),
        "
error[script-syntax]: script cannot be read
 --> pipelines/scripts/t.rhai:2:9
  |
2 | let x = 1
  |         ^ expected `;` after this
  |
 ::: pipelines/x.yaml:4:43
  |
4 |   t: { from: meter, type: script, script: scripts/t.rhai }
  |                                           -------------- used here
",
    );
}

#[test]
fn a_key_that_stands_twice_is_shown_at_both_places() {
    check_full(
        &(with_sink("from: meter, type: log") + "sources:\n  more: { type: timer, every: 1s }\n"),
        "
error[duplicate-key]: `sources` stands twice
 --> pipelines/x.yaml:5:1
  |
1 | sources:
  | ------- first here
...
5 | sources:
  | ^^^^^^^ again here
  |
  = help: put what stands below both below one of them
",
    );
}

#[test]
fn both_claimants_are_shown_also_of_two_files() {
    let file = |name: &str| {
        format!("=== pipelines/{name}.yaml\n{}", with_sink("from: meter, type: file, path: /tmp/a"))
    };
    check_full(
        &[file("a"), file("b")].concat(),
        "
error[claimed-twice]: `a/out` and `b/out` both claim file /tmp/a
 --> pipelines/b.yaml:4:41
  |
4 |   out: { from: meter, type: file, path: /tmp/a }
  |                                         ^^^^^^ claimed again here
  |
 ::: pipelines/a.yaml:4:41
  |
4 |   out: { from: meter, type: file, path: /tmp/a }
  |                                         ------ first claimed here
",
    );
}

#[test]
fn certificates_that_are_not_here_keep_nothing_from_running_that_was_accepted_or_runs_elsewhere() {
    const URL: &str = "url: 'mqtts://broker.example', client_id: a";
    let folder = folder_of(&format!(
        "=== pipelines/x.yaml\nconnections:\n  a: {{ type: mqtt, {URL}, ca: secrets/ca.pem }}\n\
         sources:\n  t: {{ type: timer, every: 5s }}\n\
         sinks:\n  out: {{ from: t, type: mqtt, connection: a, topic: x }}\n"
    ));
    let types = Types::new(plugins::all());
    let found = |draft: config::Draft| {
        lint(draft).findings.into_iter().map(|finding| finding.message).collect::<Vec<_>>()
    };
    let here = || config::load(folder.path(), &types, &|_| None).unwrap();
    let path = folder.path().join("secrets/ca.pem");
    assert_eq!(
        found(here()),
        [format!("reading `ca` ({}): there is no such file", path.display())]
    );
    let mut elsewhere = here();
    elsewhere.is_set_elsewhere = true;
    assert_eq!(found(elsewhere), <[&str; 0]>::default());
    let original = tempfile::tempdir().unwrap();
    let copy = config::Copy {
        root: folder.path(),
        outside: Default::default(),
        original: original.path(),
    };
    let copy = config::load_copy(copy, &types, &|_| None).unwrap();
    assert_eq!(found(copy), <[&str; 0]>::default());
}

#[test]
fn what_comes_back_from_the_broker_is_said_where_that_is_sure() {
    let found = |more: &str, nodes: &str| {
        let file = format!(
            "connections:\n  a: {{ type: mqtt, url: 'mqtt://a', version: 5, client_id: x }}\n  \
             b: {{ type: mqtt, url: 'mqtt://b' }}\n{more}{nodes}"
        );
        let found = find(&file, Format::Short);
        let loops = found.lines().filter(|line| line.contains("message-loop"));
        loops.map(|line| line.split("]: ").nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    let one_way = |topics: &str, transforms: &str, from: &str, topic: &str| {
        format!(
            "sources:\n  in: {{ type: mqtt, connection: a, topics: {topics} }}\n{transforms}\
             sinks:\n  out: {{ from: {from}, type: mqtt, connection: a{topic} }}\n  \
             other: {{ from: in, type: mqtt, connection: b }}\n"
        )
    };
    let looped = "`out` publishes what `in` subscribes to, on the same broker (each message comes back here)";
    let script =
        |text: &str| format!("transforms:\n  t: {{ from: in, type: script, script: '{text}' }}\n");
    let map = "transforms:\n  t: { from: in, type: map, topic: 'site/{id}/tidy' }\n";
    for (topics, transforms, from, topic) in [
        ("['site/#']", "", "in", ""),
        ("['site/#']", "", "in", ", topic: site/x"),
        ("['site/+/tidy']", "", "in", ", topic: 'site/{id}/tidy'"),
        ("['$share/g/site/#']", "", "in", ", topic: site/x"),
        ("['site/#']", map, "t", ""),
        ("['site/#']", &*script("msg.payload.a = 1; msg"), "t", ""),
        (
            "['site/#']",
            "transforms:\n  t: { from: in, type: filter, when: msg.payload > 1 }\n",
            "t",
            "",
        ),
    ] {
        assert_eq!(
            found("", &one_way(topics, transforms, from, topic)),
            [looped],
            "{topics} {topic}"
        );
    }
    let none: [String; 0] = [];
    for (topics, transforms, from, topic) in [
        ("['site/#']", "", "in", ", topic: other/x"),
        ("[site/a]", "", "in", ", topic: 'site/{id}'"),
        ("['site/#']", "", "in.errors", ""),
        ("['+/a']", "", "in", ", topic: $x/a"),
        ("['site/#']", &*script("msg.topic = `x`; msg"), "t", ""),
        ("['site/#']", &*script("#{ payload: 1, topic: msg.meta.mqtt.response_topic }"), "t", ""),
        ("['site/#'], no_local: true", "", "in", ""),
    ] {
        let nodes = one_way(topics, transforms, from, topic);
        assert_eq!(found("", &nodes), none, "{topics} {topic}");
    }
    // Over two brokers, and over two connections to one.
    let both = "sources:\n  ina: { type: mqtt, connection: a, topics: ['#'] }\n  \
                inb: { type: mqtt, connection: b, topics: ['site/#'] }\nsinks:\n  \
                outb: { from: ina, type: mqtt, connection: b, topic: site/x }\n  \
                outa: { from: inb, type: mqtt, connection: a }\n";
    assert_eq!(
        found("", both),
        [
            "`outb` publishes what `inb` subscribes to, on the same broker (each message comes back here by way of `ina`)",
            "`outa` publishes what `ina` subscribes to, on the same broker (each message comes back here by way of `inb`)",
        ]
    );
    let again = "  c: { type: mqtt, url: 'mqtt://A:1883' }\n";
    let nodes = one_way("['site/#'], no_local: true", "", "in", "");
    let nodes = nodes.replacen("connection: a }\n  other", "connection: c }\n  other", 1);
    assert_eq!(found(again, &nodes), [looped]);
}
