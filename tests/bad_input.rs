//! What comes from outside never panics: it gives a clear message, and the rest goes on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Output},
    thread,
    time::Duration,
};

use crate::support::{
    Folder, Forebay, Mosquitto, Publisher, free_listener, free_port, fresh_data_folder, now,
    program, until,
};

const GOOD: &str =
    "sources:\n  t: { type: timer, every: 100ms }\nsinks:\n  o: { from: t, type: log }\n";

#[test]
fn a_folder_without_pipelines_is_said_to_be_empty() {
    let empty = Folder::new();
    let missing = empty.path().join("nowhere");
    let shown = empty.path().display();
    let nothing = format!(
        "error: {shown} holds no pipeline file (*.yaml); `forebay new {shown}/hello.yaml` writes one\n"
    );
    let nowhere = format!("error: there is no folder {}\n", missing.display());
    for verb in ["lint", "run"] {
        check_ends(verb, empty.path(), 2, "", &nothing);
        check_ends(verb, &missing, 2, "", &nowhere);
    }
    check_ends("plan", &missing, 2, "", &nowhere);
    let folder = Folder::with(&[("x.yaml", GOOD)]);
    let file = folder.path().join("x.yaml");
    let a_file =
        format!("error: {} is a file; forebay runs a folder of pipeline files\n", file.display());
    check_ends("run", &file, 2, "", &a_file);
    check_ends("lint", &file, 0, "", "");
}

#[test]
fn a_file_that_is_no_pipeline_is_one_finding() {
    let line = |n: usize| format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1);
    let laughs = format!("a0: &a0 [lol, lol]\n{}", (1..40).map(line).collect::<String>());
    let long = b"a: b\n".repeat(2_000_000);
    let nested = b"[".repeat(100_000);
    let deep: String = (0..300).map(|depth| " ".repeat(depth) + "a:\n").collect();
    let utf16: Vec<u8> =
        format!("\u{feff}{GOOD}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [(&[u8], &str); 14] = [
        (
            b"<html>\n<body>: {\n",
            "2:7: error[yaml-syntax]: file is not valid YAML (the line above lacks a `:`)",
        ),
        (
            b"#!/bin/sh\nexec true\n",
            "2:1: error[unknown-section]: file is not a pipeline (expected sections such as `sources:`, found \"exec true\")",
        ),
        (
            b"{\"sources\": [}",
            "1:13: error[yaml-syntax]: file is not valid YAML (expected `]` before the `}`)",
        ),
        (
            b"sources:\n\tt: 1\n",
            "2:1: error[yaml-syntax]: file is not valid YAML (a tab; YAML is indented with spaces)",
        ),
        (b"sources: 'x", "1:10: error[yaml-syntax]: file is not valid YAML (unclosed quote)"),
        (b"sources: *x", "1:10: error[yaml-syntax]: file is not valid YAML (no `&x` stands above)"),
        (&long, "1:1: error[yaml-too-big]: x.yaml is too long (more than 1024 KiB)"),
        (
            laughs.as_bytes(),
            "15:18: error[yaml-too-big]: file has too many values (more than 100000 with this alias or value)",
        ),
        (
            &nested,
            "1:65: error[yaml-syntax]: file is not valid YAML (lists and maps are nested too deep here)",
        ),
        (
            deep.as_bytes(),
            "65:65: error[yaml-syntax]: file is not valid YAML (lists and maps are nested too deep here)",
        ),
        (b"\0\0\0\0", "1:1: error[yaml-syntax]: file is not text (a zero byte)"),
        (
            b"\x7fELF\x02\x01\x01\xff\xfe",
            "1:1: error[yaml-syntax]: x.yaml is not text (byte 8 is not UTF-8)",
        ),
        (&utf16, "1:1: error[yaml-syntax]: x.yaml is not text (it is UTF-16; save it as UTF-8)"),
        (
            b"a: 1\n--- b\n",
            "2:1: error[yaml-syntax]: file holds more than one document (one file holds one pipeline)",
        ),
    ];
    for (bytes, expected) in cases {
        let folder = Folder::new();
        fs::write(folder.path().join("x.yaml"), bytes).unwrap();
        check_refused(&folder, &[&format!("x.yaml:{expected}")]);
    }
    // A byte order mark in front of UTF-8 is harmless.
    let marked = Folder::with(&[("x.yaml", &format!("\u{feff}{GOOD}"))]);
    check_ends("lint", marked.path(), 0, "", "");
}

#[test]
fn what_is_no_file_does_not_block() {
    let folder = Folder::new();
    let place = |name: &str| folder.path().join(name);
    fs::create_dir(place("a.yaml")).unwrap();
    symlink("nowhere.yaml", place("b.yaml")).unwrap();
    assert!(Command::new("mkfifo").arg(place("c.yaml")).status().unwrap().success());
    symlink("d.yaml", place("d.yaml")).unwrap();
    symlink("/dev/zero", place("e.yaml")).unwrap();
    check_refused(
        &folder,
        &[
            "error[unreadable-file]: a.yaml is a folder, not a pipeline file",
            "b.yaml:1:1: error[unreadable-file]: b.yaml cannot be read (there is no such file)",
            "c.yaml:1:1: error[unreadable-file]: c.yaml cannot be read (it is not a regular file)",
            "d.yaml:1:1: error[unreadable-file]: d.yaml cannot be read (its symbolic links lead back to themselves)",
            "e.yaml:1:1: error[unreadable-file]: e.yaml cannot be read (it is not a regular file)",
        ],
    );
}

#[test]
fn a_file_that_this_user_may_not_read_is_named() {
    let folder = Folder::with(&[("x.yaml", GOOD)]);
    let file = folder.path().join("x.yaml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    // Nothing is forbidden to root.
    if fs::read(&file).is_err() {
        let said =
            "x.yaml:1:1: error[unreadable-file]: x.yaml cannot be read (this user may not read it)";
        check_refused(&folder, &[said]);
    }
}

#[test]
fn what_only_one_can_hold_is_not_started_twice() {
    let broker = "connections:\n  NAME: { type: broker, listen: ['127.0.0.1:18830'] }\n";
    let two = Folder::with(&[
        ("a.yaml", &broker.replace("NAME", "hall")),
        ("b.yaml", &broker.replace("NAME", "yard")),
    ]);
    check_refused(
        &two,
        &[
            "b.yaml:2:34: error[claimed-twice]: `hall` and `yard` both claim port 18830 of 127.0.0.1 (claimed again here)",
        ],
    );

    let file = GOOD.replace("type: log", "type: file, path: /tmp/never-written");
    let two = Folder::with(&[("a.yaml", &file), ("b.yaml", &file)]);
    check_refused(
        &two,
        &[
            "b.yaml:4:35: error[claimed-twice]: `a/o` and `b/o` both claim file /tmp/never-written (claimed again here)",
        ],
    );

    let client = "connections:\n  NAME: { type: mqtt, url: 'mqtt://127.0.0.1:1', client_id: me }\n\
                  sources:\n  s: { type: mqtt, connection: NAME, topics: [a] }\n\
                  sinks:\n  o: { from: s, type: log }\n";
    let two = Folder::with(&[
        ("a.yaml", &client.replace("NAME", "one")),
        ("b.yaml", &client.replace("NAME", "two")),
    ]);
    check_refused(
        &two,
        &[
            "b.yaml:2:60: error[claimed-twice]: `one` and `two` both claim client id `me` at 127.0.0.1:1 (claimed again here)",
        ],
    );
}

#[test]
fn a_variable_that_is_not_there_is_one_finding() {
    let every = |text: &str| Folder::with(&[("x.yaml", &GOOD.replace("100ms", text))]);
    check_refused(
        &every("'${env:FOREBAY_TEST_UNSET}'"),
        &["x.yaml:2:28: error[unset-variable]: variable `FOREBAY_TEST_UNSET` is not set"],
    );
    let folder = every("'${file:secrets/none}'");
    let place = folder.path().join("secrets/none");
    let why = format!("there is no such file; looked for {}", place.display());
    let finding = "x.yaml:2:28: error[unset-variable]: file secrets/none cannot be read";
    check_refused(&folder, &[&format!("{finding} ({why})")]);
}

/// One at a time, and 100 bytes for each byte.
#[test]
fn lists_within_lists_took_memory_without_a_bound() {
    const PAYLOAD_BYTES: usize = 512 << 10;
    let broker = Mosquitto::start();
    let folder = Folder::with(&[(
        "a.yaml",
        &format!(
            "connections:
  plant: {{ type: mqtt, url: '{}', client_id: forebay, clean_session: false }}
sources:
  lists: {{ type: mqtt, connection: plant, topics: [lists], qos: 1 }}
transforms:
  whole: {{ from: lists, type: script, script: 'let p = msg.payload; msg' }}
sinks:
  out: {{ from: whole, type: mqtt, connection: plant, topic: out, qos: 1 }}
",
            broker.url()
        ),
    )]);
    let run = Forebay::run(folder.path());
    until("subscribed", || broker.log.count_of("Sending SUBACK to forebay") == 1);
    let idle = run.peak_rss_bytes();
    let nested = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let payload = format!("[{}]", vec![nested; PAYLOAD_BYTES / 202].join(","));
    let mut publisher = Publisher::to(broker.port, "lists");
    (0..8).for_each(|_| publisher.send(&payload));
    publisher.finish();
    until("all are passed on", || broker.acknowledged_by("forebay") == 8);
    let took = run.peak_rss_bytes() - idle;
    println!("{} KiB for messages of {} KiB", took / 1024, payload.len() / 1024);
    // And what waits.
    assert!(took < 110 * payload.len() as u64 + 8 * payload.len() as u64, "{took}");
}

#[test]
fn a_script_that_never_ends_holds_nothing_up() {
    let endless = "sources:\n  t: { type: timer, every: 100ms }\n\
                   transforms:\n  s: { from: t, type: script, script: 'loop {}' }\n\
                   sinks:\n  good: { from: s, type: log }\n  bad: { from: s.errors, type: log }\n";
    let folder = Folder::with(&[("endless.yaml", endless), ("good.yaml", GOOD)]);
    let mut run = Forebay::run(folder.path());
    let failed = run.wait_for_log(r#""node":"endless/s","error":""#);
    // On a busy machine its time is up before.
    let (operations, time) = ("more than 100000 operations (`max_operations`)", "longer than 50ms");
    assert!(failed.contains(operations) || failed.contains(time), "{failed}");
    assert!(failed.contains(r#""at":"endless.yaml:4:45""#), "{failed}");
    run.wait_for_log(r#" good/t {"count":10}"#);
    assert_eq!(run.log.count_of(" WARN "), 1, "the same complaint is logged once");
    check_stops(&mut run);
    run.wait_for_log("everything was delivered");
}

#[test]
fn the_place_of_a_running_script_was_counted_from_its_first_line() {
    let styles = "sources:
  t: { type: timer, every: 100ms }
transforms:
  block: # how a script is written most often
    from: t
    type: script
    script: |
      let high = msg.payload.count >= 0;

      if high { throw \"too hot\" }
      msg
  line: { from: t, type: script, script: 'throw \"it''s\" + \" cold\"' }
  folded:
    from: t
    type: script
    script: >-
      msg.payload.count = 5 /
        (msg.payload.count -
        msg.payload.count); msg
  own: { from: t, type: script, script: hot.rhai }
sinks:
  bad: { from: [block.errors, line.errors, folded.errors, own.errors], type: log }
";
    let own = "fn check(x) {\n  throw `${x} is too hot`\n}\ncheck(5)\n";
    let folder = Folder::with(&[("pipelines/x.yaml", styles), ("pipelines/hot.rhai", own)]);
    let run = Forebay::run(folder.path());
    let errors = [
        r#""node":"x/block","error":"too hot","at":"pipelines/x.yaml:10:17","time""#,
        r#""node":"x/line","error":"it's cold","at":"pipelines/x.yaml:12:43","time""#,
        r#""node":"x/folded","error":"division by zero: 5 / 0","at":"pipelines/x.yaml:17:29","time""#,
        r#""node":"x/own","error":"5 is too hot","at":"pipelines/hot.rhai:2:3","time""#,
    ];
    for error in errors {
        run.wait_for_log(error);
    }
    run.wait_for_log("pipelines/x.yaml:10:17: too hot");
    // The node goes on, and what it says next is where its script stands by then.
    let moved = styles.replace("transforms:", "\n# hot\n\ntransforms:");
    run.log_after(r#""at":"pipelines/x.yaml:13:17""#, || {
        folder.replace("pipelines/x.yaml", &moved);
    });
}

#[test]
fn a_device_that_is_not_modbus_gives_errors_and_no_more() {
    let cases: [(&str, Behaviour); 4] = [
        ("closed the connection; what came was nothing that is Modbus", |stream| {
            answer(stream, b"HTTP/1.1 400 Bad Request\r\n\r\n")
        }),
        ("closed the connection", |stream| answer(stream, b"")),
        ("closed the connection", drop),
        ("no answer within 200ms", say_nothing),
    ];
    for (expected, behave) in cases {
        let port = serve(behave);
        let meter = format!(
            "connections:\n  bus: {{ type: modbus, url: 'tcp://127.0.0.1:{port}', timeout: 200ms }}\n\
             sources:\n  m: {{ type: modbus, connection: bus, every: 100ms, registers: [ {{ name: a, input: 0 }} ] }}\n\
             sinks:\n  good: {{ from: m, type: log }}\n  bad: {{ from: m.errors, type: log }}\n"
        );
        let folder = Folder::with(&[("x.yaml", &meter), ("good.yaml", GOOD)]);
        let mut run = Forebay::run(folder.path());
        let failed =
            run.wait_for_log(r#""node":"x/m","error":"reading input register 0 of unit 1"#);
        assert!(failed.contains(expected), "{expected}: {failed}");
        run.wait_for_log(r#" good/t {"count":5}"#);
        check_stops(&mut run);
    }
}

#[test]
fn a_broker_that_is_none_is_tried_again() {
    let cases: [(&str, Behaviour); 5] = [
        ("refused the connection: not authorized", |stream| answer(stream, b"\x20\x02\x00\x05")),
        ("does not answer as an MQTT broker does", |stream| answer(stream, b"\x30\x03\x00\x01a")),
        ("closed the connection within a packet; is it an MQTT broker?", |stream| {
            answer(stream, b"HTTP/1.1 400 Bad Request\r\n\r\n")
        }),
        ("did not answer within 1s", say_nothing),
        ("closed the connection", drop),
    ];
    for (expected, behave) in cases {
        let port = serve(behave);
        let cloud = format!(
            "connections:\n  cloud: {{ type: mqtt, url: 'mqtt://127.0.0.1:{port}', username: u, password: '${{file:secret}}', connect_timeout: 1s }}\n\
             sources:\n  t: {{ type: timer, every: 100ms }}\n\
             sinks:\n  up: {{ from: t, type: mqtt, connection: cloud, topic: a }}\n"
        );
        let folder = Folder::with(&[
            ("pipelines/x.yaml", &cloud),
            ("pipelines/good.yaml", GOOD),
            ("forebay.yaml", "stop_within: 500ms\n"),
            ("secret", MARKER),
        ]);
        let mut run = Forebay::run(folder.path());
        let failed = run.wait_for_log("will try again: ");
        assert!(failed.contains(expected), "{expected}: {failed}");
        run.wait_for_log(r#" good/t {"count":5}"#);
        check_stops(&mut run);
        run.wait_for_log("ERROR stopped with messages that were not delivered; they are lost");
        assert_eq!(run.log.count_of(MARKER), 0);
    }
}

#[test]
fn a_port_that_is_in_use_is_taken_once_it_is_free() {
    let squatter = free_listener();
    let port = squatter.local_addr().unwrap().port();
    let broker = format!(
        "connections:\n  hall: {{ type: broker, listen: ['127.0.0.1:{port}'] }}\n\
         sources:\n  t: {{ type: timer, every: 100ms }}\n  \
         all: {{ type: mqtt, connection: hall, topics: ['#'] }}\n\
         sinks:\n  up: {{ from: t, type: mqtt, connection: hall, topic: a/b }}\n  o: {{ from: all, type: log }}\n"
    );
    let folder = Folder::with(&[("x.yaml", &broker), ("good.yaml", GOOD)]);
    let mut run = Forebay::run(folder.path());
    run.wait_for_log(&format!(
        "port {port} of 127.0.0.1 is in use by another program; said once, until it is over"
    ));
    run.wait_for_log(r#" good/t {"count":5}"#);
    // The nodes of this program need no port.
    run.wait_for_log(r#" a/b {"count":"#);
    drop(squatter);
    run.wait_for_log("the broker listens");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    check_stops(&mut run);
    run.wait_for_log("everything was delivered");
}

/// What a secret is in these tests; found anywhere in an output, it is a leak.
const MARKER: &str = "hunter2-is-secret";

#[test]
fn a_secret_is_in_no_finding() {
    let wrong = [
        "username: u, password: '${S}', keep_alive: 5",
        "username: u, password: '${S}', keep_alive: '${S}'",
        "username: u, password: '${S}', pasword: '${S}'",
        "username: u, password: ['${S}']",
        "username: u, password: { a: '${S}' }",
        "username: u, password: 'x${S}y', clean_session: '${S}'",
        "password: '${S}'",
        "username: u, password: '${S}', client_id: '${S}', max_packet: '${S}'",
        "username: u, password: '${S}', will: '${S}'",
        "username: u, password: '${S}', will: { topic: '${S}/#', payload: '${S}' }",
        "username: u, key: '${S}'",
        "username: u, '${S}': '${S}'",
    ];
    for variable in ["${env:FOREBAY_TEST_SECRET}", "${file:secret}"] {
        for settings in wrong {
            let settings = settings.replace("${S}", variable);
            let text = format!(
                "connections:\n  c: {{ type: mqtt, url: 'mqtt://127.0.0.1:1', {settings} }}\n"
            );
            let folder = Folder::with(&[("pipelines/x.yaml", &text), ("secret", MARKER)]);
            for arguments in [
                &["lint"][..],
                &["lint", "--format", "short"],
                &["lint", "--format", "json"],
                &["run"],
                &["plan"],
            ] {
                let mut command = limited();
                command.args(arguments).arg(folder.path());
                let output = command.env("FOREBAY_TEST_SECRET", MARKER).output().unwrap();
                assert_eq!(output.status.code(), Some(1), "{text}\n{output:?}");
                assert!(!everything(&output).contains(MARKER), "{}", everything(&output));
            }
        }
    }
}

#[test]
fn a_secret_is_in_no_log_and_in_no_copy() {
    let refusing = serve(|stream| answer(stream, b"\x20\x02\x00\x05"));
    let closed = free_port();
    let text = format!(
        "connections:\n  \
         refused: {{ type: mqtt, url: 'mqtt://127.0.0.1:{refusing}', username: u, password: '${{env:FOREBAY_TEST_SECRET}}' }}\n  \
         closed: {{ type: mqtt, url: 'mqtt://127.0.0.1:{closed}', username: u, password: 'x${{file:secret}}' }}\n  \
         hall: {{ type: broker, listen: [], users: {{ u: '${{file:secret}}' }} }}\n\
         sources:\n  t: {{ type: timer, every: 100ms }}\n\
         sinks:\n  a: {{ from: t, type: mqtt, connection: refused, topic: a }}\n  \
         b: {{ from: t, type: mqtt, connection: closed, topic: a }}\n  \
         c: {{ from: t, type: http, url: 'http://127.0.0.1:{closed}/?token=${{file:secret}}', headers: {{ Authorization: 'Bearer ${{file:secret}}' }} }}\n  \
         d: {{ from: t, type: file, path: '/proc/${{env:FOREBAY_TEST_SECRET}}/x' }}\n  \
         e: {{ from: t, type: http, url: 'http://${{file:secret}}.invalid/' }}\n"
    );
    for format in ["text", "json"] {
        let runtime = format!("log: {{ level: debug, format: {format} }}\nstop_within: 300ms\n");
        let folder = Folder::with(&[
            ("pipelines/x.yaml", &text),
            ("forebay.yaml", &runtime),
            ("secret", MARKER),
        ]);
        let data = Folder::new();
        let mut command = program();
        command.arg("run").arg(folder.path()).arg("--data").arg(data.path());
        command.env("FOREBAY_TEST_SECRET", MARKER);
        let mut run = Forebay::of(command);
        for node in ["refused", "closed", "x/c", "x/d", "x/e"] {
            let of_node = |line: &str| line.contains(node) && line.contains("will try again");
            run.log.wait_for(&format!("complaint of {node}"), 0, of_node);
        }
        // A reload that is refused prints the findings.
        run.log_after("reload refused", || {
            folder.replace("pipelines/x.yaml", &text.replace("username: u,", "username: [u],"));
        });
        check_stops(&mut run);
        let leaks: Vec<String> =
            run.log.all().into_iter().filter(|line| line.contains(MARKER)).collect();
        assert_eq!(leaks, <[String; 0]>::default());
        let copy = data.read("accepted/1/files/pipelines/x.yaml");
        assert!(copy.contains("${file:secret}") && !copy.contains(MARKER), "{copy}");
        assert!(!data.path().join("accepted/1/files/secret").exists());
    }
}

/// Both `lint` and `run` refuse the folder, with these findings and no others.
#[track_caller]
fn check_refused(folder: &Folder, findings: &[&str]) {
    let mut lint = limited();
    let lint = lint.args(["lint", "--format", "short"]).arg(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&lint.stdout).into_owned();
    let below = format!("{}/", folder.path().display());
    let said: Vec<&str> =
        said.lines().map(|line| line.strip_prefix(&below).unwrap_or(line)).collect();
    assert_eq!(said, findings);
    assert_eq!(String::from_utf8_lossy(&lint.stderr), "");
    assert_eq!(lint.status.code(), Some(1));

    let run = limited().arg("run").arg(folder.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&run.stdout), "");
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    let titles: Vec<&str> = said.lines().filter(|line| line.starts_with("error[")).collect();
    let expected = findings.iter().map(|finding| &finding[finding.find("error[").unwrap()..]);
    for (title, expected) in titles.iter().zip(expected.clone()) {
        assert!(expected.starts_with(title), "{title} is not {expected}");
    }
    assert_eq!(titles.len(), expected.count(), "{said}");
    assert!(said.ends_with(": nothing was started\n"), "{said}");
    assert_eq!(run.status.code(), Some(1));
}

#[track_caller]
fn check_ends(verb: &str, path: &Path, code: i32, stdout: &str, stderr: &str) {
    let mut command = limited();
    command.arg(verb);
    if verb == "lint" {
        command.args(["--format", "short"]);
    }
    let output = command.arg(path).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
    assert_eq!(output.status.code(), Some(code));
}

/// Whatever it was given, it ends soon when it is asked to.
#[track_caller]
fn check_stops(run: &mut Forebay) {
    let asked = now();
    run.signal("INT");
    assert_eq!(run.wait_exit().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "took {:?}", asked.elapsed());
    assert_eq!(run.log.count_of("panicked"), 0);
}

/// The program, ended after a while: one that hangs is a failure, not a test that hangs.
fn limited() -> Command {
    let mut command = Command::new("timeout");
    command.arg("20").arg(program().get_program()).env("NO_COLOR", "1");
    command.env_remove("FOREBAY_LOG").env("FOREBAY_DATA", fresh_data_folder());
    command
}

fn everything(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// What a peer does with one connection.
type Behaviour = fn(TcpStream);

/// Listens at a port and does the same to everybody who comes. Ends with the test process.
fn serve(behave: Behaviour) -> u16 {
    let listener = free_listener();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || behave(stream));
        }
    });
    port
}

/// Reads what is asked, answers, and hangs up.
fn answer(mut stream: TcpStream, bytes: &[u8]) {
    let mut asked = [0; 1024];
    let _ = stream.read(&mut asked);
    let _ = stream.write_all(bytes);
}

/// Keeps the connection open until the other side closes it.
fn say_nothing(mut stream: TcpStream) {
    let mut asked = [0; 1024];
    while stream.read(&mut asked).is_ok_and(|count| count > 0) {}
}
