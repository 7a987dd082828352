//! A reload changes what changed, leaves the rest, and leaks nothing.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    path::Path,
    thread,
    time::Duration,
};

use crate::support::{
    Folder, Forebay, ModbusServer, Mosquitto, Subscriber, WebServer, free_port, is_emulated, now,
    program, publish, throughout, until,
};

/// What a hundred reloads may cost. An allocator that settles takes some; a leak of one task, queue
/// or script for each reload would take more.
const MOST_GROWTH_BYTES: u64 = 2 << 20;
/// One for all nodes, one that is told of changes, and four that read files.
const MOST_THREADS: u64 = 6;

#[test]
fn a_hundred_reloads_leak_nothing() {
    let (broker, service, meter) = (Mosquitto::start(), WebServer::start(), ModbusServer::start());
    let subscriber = Subscriber::to(broker.port, "beat/#");
    let listen = free_port();
    // The two differ in a script, in settings of every kind, in nodes and in connections.
    let common = |keep_alive: u8, clients: u8| {
        format!(
            "connections:
  cloud: {{ type: mqtt, url: '{}', client_id: forebay, keep_alive: {keep_alive}s }}
  hall: {{ type: broker, listen: ['127.0.0.1:{listen}'], max_connections: {clients} }}
  bus: {{ type: modbus, url: 'tcp://127.0.0.1:{}', timeout: {keep_alive}s }}
",
            broker.url(),
            meter.port
        )
    };
    let versions = [
        format!(
            "{}sources:
  beat: {{ type: timer, every: 50ms, topic: beat/a }}
  back: {{ type: mqtt, connection: cloud, topics: [beat/b], qos: 1 }}
  local: {{ type: mqtt, connection: hall, topics: [a] }}
  meter: {{ type: modbus, connection: bus, every: 50ms, registers: [{{ name: a, input: 0 }}] }}
transforms:
  judge:
    from: beat
    type: script
    script: |
      state.seen = state.seen ?? [];
      state.seen.push(msg.payload.count);
      msg
sinks:
  cloud: {{ from: [judge, meter], type: mqtt, connection: cloud, topic: beat/a }}
  hall: {{ from: judge, type: mqtt, connection: hall, topic: a }}
  service: {{ from: [judge, back, local], type: http, url: '{}', timeout: 5s }}
",
            common(30, 10),
            service.url()
        ),
        format!(
            "{}sources:
  beat: {{ type: timer, every: 40ms, topic: beat/b }}
  local: {{ type: mqtt, connection: hall, topics: [b], qos: 2 }}
  meter: {{ type: modbus, connection: bus, every: 40ms, registers: [{{ name: b, input: 6 }}] }}
transforms:
  judge:
    from: beat
    type: script
    outputs: [even]
    script: |
      if msg.payload.count % 2 == 0 {{ emit(\"even\", msg); }}
      msg
  more: {{ from: judge.even, type: script, script: 'msg' }}
sinks:
  cloud: {{ from: [more, meter], type: mqtt, connection: cloud, topic: beat/b, qos: 0 }}
  hall: {{ from: judge, type: mqtt, connection: hall, topic: b, qos: 2 }}
  service: {{ from: [judge, local], type: http, url: '{}', body: array }}
",
            common(40, 20),
            service.url()
        ),
    ];
    let folder = Folder::with(&[("a.yaml", &versions[0])]);
    let forebay = Forebay::run(folder.path());
    let reload_times = |times: usize| {
        for n in 1..=times {
            forebay.log_after("reloaded: ", || folder.replace("a.yaml", &versions[n % 2]));
        }
    };
    let topics = || subscriber.got().last().map(|got| got.topic.clone());
    let settle = || {
        subscriber.wait_for_new("beat/a", |got| got.topic == "beat/a");
        until("only version 0 publishes", || topics().as_deref() == Some("beat/a"));
    };

    reload_times(20);
    settle();
    let (threads, rss) = (forebay.threads(), forebay.rss_bytes());
    // All that the connections of this version take, once all are up.
    let mut files = 0;
    throughout(Duration::from_secs(1), "it runs", || {
        files = files.max(forebay.open_files());
        true
    });
    reload_times(100);
    settle();
    until("as many open files as before", || forebay.open_files() <= files);
    assert!(forebay.threads() <= MOST_THREADS, "{} threads", forebay.threads());
    let growth = forebay.rss_bytes().saturating_sub(rss);

    println!(
        "100 reloads: {files} open files, then {}; {threads} threads, then {}; {} KiB, then {} KiB",
        forebay.open_files(),
        forebay.threads(),
        rss / 1024,
        forebay.rss_bytes() / 1024
    );
    assert!(growth <= MOST_GROWTH_BYTES, "100 reloads took {growth} bytes");
    assert_eq!(forebay.log.count_of("refused"), 0);
}

/// Beats to the screen, marked with a version.
fn beats(version: u8) -> String {
    format!(
        "sources:\n  beat: {{ type: timer, every: 100ms, payload: {{ version: {version} }} }}\n\
         sinks:\n  screen: {{ from: beat, type: log }}\n"
    )
}

#[test]
fn a_swapped_link_to_the_whole_folder_is_a_reload() {
    let folder = Folder::with(&[("one/a.yaml", &beats(1)), ("two/a.yaml", &beats(2))]);
    folder.link("current", "one");
    let forebay = Forebay::run(&folder.path().join("current"));
    forebay.wait_for_log(r#"{"version":1}"#);

    forebay
        .log_after("reloaded: replace a/beat; 1 node untouched", || folder.link("current", "two"));
    forebay.log_after(r#"{"version":2}"#, || ());

    // The folder behind the link is watched now, not the one before.
    folder.write("one/a.yaml", "nonsense");
    forebay.log_after("reloaded: replace a/beat; 1 node untouched", || {
        folder.write("two/a.yaml", &beats(3));
    });
    forebay.log_after(r#"{"version":3}"#, || ());
    assert_eq!(forebay.log.count_of("refused"), 0);
}

#[test]
fn a_change_that_takes_a_restart_is_said_to_take_one() {
    let data = Folder::new();
    let (one, two) = (data.path().join("one"), data.path().join("two"));
    let runtime = |data: &Path| format!("data: {}\nstop_within: 2s\n", data.display());
    let folder = Folder::with(&[("pipelines/a.yaml", &beats(1)), ("forebay.yaml", &runtime(&one))]);
    let mut command = program();
    command.arg("run").arg(folder.path()).env_remove("FOREBAY_DATA");
    let forebay = Forebay::of(command);
    forebay.wait_for_log("running");
    let said = format!("the data folder stays {}; `data: {}` takes", one.display(), two.display());
    forebay.log_after(&said, || folder.replace("forebay.yaml", &runtime(&two)));
    assert_eq!(forebay.log.count_of("the data folder stays"), 1);
    until("the accepted files are kept where they were", || one.join("accepted").is_dir());
    assert!(!two.exists());
}

#[test]
fn a_changed_secret_is_a_reload_and_is_never_shown() {
    let service = WebServer::start();
    let folder = Folder::with(&[
        ("secrets/token", "first-secret\n"),
        (
            "pipelines/a.yaml",
            &format!(
                "sources:
  beat: {{ type: timer, every: 100ms }}
sinks:
  service:
    from: beat
    type: http
    url: '{}'
    headers: {{ Authorization: 'Bearer ${{file:secrets/token}}' }}
",
                service.url()
            ),
        ),
    ]);
    let forebay = Forebay::run(folder.path());
    let is_used = |secret: &str| {
        let header = format!("authorization: Bearer {secret}");
        service.headers.wait_for(&header, 0, |line| line == header);
    };
    is_used("first-secret");

    forebay.log_after("reloaded: replace a/service; 1 node untouched", || {
        folder.replace("secrets/token", "second-secret\n");
    });

    is_used("second-secret");
    assert_eq!(forebay.log.count_of("-secret"), 0);
}

#[test]
fn a_comment_restarts_nothing() {
    let broker = Mosquitto::start();
    let text = format!(
        "connections:
  cloud: {{ type: mqtt, url: '{}', client_id: forebay }}
sources:
  beat: {{ type: timer, every: 50ms, topic: beat }}
sinks:
  cloud: {{ from: beat, type: mqtt, connection: cloud }}
",
        broker.url()
    );
    let folder = Folder::with(&[("a.yaml", &text)]);
    let subscriber = Subscriber::to(broker.port, "beat");
    let forebay = Forebay::run(folder.path());
    subscriber.wait_for("a beat", |_| true);

    forebay.log_after("reloaded: nothing to do; 2 nodes untouched", || {
        folder.write("a.yaml", &format!("# Beats.\n{text}"));
    });

    subscriber.wait_for_new("a beat", |_| true);
    let counts = subscriber.payloads();
    let each_once: Vec<_> = (1..=counts.len()).map(|n| format!(r#"{{"count":{n}}}"#)).collect();
    assert_eq!(counts, each_once);
    until("one connection", || broker.connections_of("forebay") == 1);
}

#[test]
fn a_hang_up_signal_looks_at_the_folder() {
    let folder = Folder::with(&[("a.yaml", &beats(1))]);
    let forebay = Forebay::run(folder.path());

    forebay.log_after("reload asked for: nothing changed", || forebay.signal("HUP"));
}

#[test]
fn a_reload_works_while_every_sink_is_down() {
    let (port, service) = (free_port(), WebServer::start());
    let to = |url: &str| {
        format!(
            "sources:\n  beat: {{ type: timer, every: 20ms }}\n\
             sinks:\n  service: {{ from: beat, type: http, url: '{url}', buffer: {{ max_messages: 5 }} }}\n"
        )
    };
    let folder = Folder::with(&[("a.yaml", &to(&format!("http://127.0.0.1:{port}/")))]);
    let forebay = Forebay::run(folder.path());
    forebay.wait_for_log("will try again");

    forebay.log_after("reloaded: replace a/service; 1 node untouched", || {
        folder.replace("a.yaml", &to(&service.url()));
    });

    // What waited for the old address goes to the new one.
    until("beats arrive", || service.bodies.count() > 10);
    let wanted: Vec<_> = (1..=10).map(|n| format!(r#"{{"count":{n}}}"#)).collect();
    assert_eq!(service.bodies.all()[..10], wanted);
}

#[test]
fn reloads_lose_nothing_of_what_flows() {
    const LAST: usize = 200;
    let (broker, service) = (Mosquitto::start(), WebServer::start());
    // Each differs from the one before in one place.
    let pipeline = |keep_alive: u8, in_flight: u8, script: &str, timeout: u8| {
        format!(
            "connections:
  cloud:
    {{ type: mqtt, url: '{}', client_id: forebay, clean_session: false, keep_alive: {keep_alive}s }}
sources:
  numbers: {{ type: mqtt, connection: cloud, topics: [number], qos: 1, in_flight: {in_flight} }}
transforms:
  pass: {{ from: numbers, type: script, script: '{script}' }}
sinks:
  service: {{ from: pass, type: http, url: '{}', timeout: {timeout}s }}
",
            broker.url(),
            service.url()
        )
    };
    let versions = [
        pipeline(30, 100, "msg", 5),
        pipeline(40, 100, "msg", 5),
        pipeline(40, 90, "msg", 5),
        pipeline(40, 90, "let m = msg; m", 5),
        pipeline(40, 90, "let m = msg; m", 6),
    ];
    let folder = Folder::with(&[("a.yaml", &versions[0])]);
    let forebay = Forebay::run(folder.path());
    until("subscribed", || broker.log.count_of("Sending SUBACK to forebay") == 1);
    let port = broker.port;
    let publisher = thread::spawn(move || {
        for n in 1..=LAST {
            publish(port, "number", &n.to_string(), &["-q", "1"]);
        }
    });

    let mut reloads = 0;
    while !publisher.is_finished() || reloads < versions.len() {
        reloads += 1;
        forebay.log_after("reloaded: replace ", || {
            folder.replace("a.yaml", &versions[reloads % versions.len()]);
        });
    }
    publisher.join().expect("everything was published");

    let arrived = || service.bodies.all().into_iter().collect::<BTreeSet<_>>();
    let missing = || {
        let arrived = arrived();
        (1..=LAST).filter(|n| !arrived.contains(&n.to_string())).collect::<Vec<_>>()
    };
    until(&format!("all of {LAST} arrive"), || missing().is_empty());
    println!(
        "{reloads} reloads among {LAST} messages: {} came again",
        service.bodies.count() - LAST
    );
}

/// Writes the first part of a file, waits as long as it takes to see that nothing comes of it, and
/// writes the rest.
#[track_caller]
fn check_half_written(path: &str, half: &str, rest: &str, after: &str, arguments: &[&str]) {
    let folder = Folder::with(&[
        ("forebay.yaml", "stop_within: 1s\n"),
        ("pipelines/a.yaml", &beats(1)),
        ("pipelines/b.yaml", HALVES),
        ("pipelines/scripts/b.rhai", "msg.payload.script = 1;\nmsg\n"),
        ("secrets/half", "one"),
    ]);
    let forebay = Forebay::run_with(folder.path(), arguments);
    let said = || forebay.log.count_of("reloaded: ") + forebay.log.count_of("refused");
    let mut file = File::create(folder.path().join(path)).expect("writing a test file");
    file.write_all(half.as_bytes()).expect("writing a test file");
    throughout(Duration::from_millis(1700), "half a file is nothing", || said() == 0);

    file.write_all(rest.as_bytes()).expect("writing a test file");
    drop(file);
    let saved = now();
    forebay.wait_for_log("reloaded: ");
    println!("{path} {arguments:?}: applied {:?} after it was saved", saved.elapsed());
    forebay.wait_for_log(after);
    assert_eq!(said(), 1, "half of {path} was looked at");
}

const HALVES: &str = "sources:
  tick: { type: timer, every: 100ms, topic: '${file:secrets/half}' }
transforms:
  script: { from: tick, type: script, script: scripts/b.rhai }
sinks:
  screen: { from: script, type: log }
";

#[test]
fn a_pipeline_that_is_still_being_written_is_not_run() {
    let (half, rest) =
        (format!("# All of it.\n{}", beats(2)), "  more: { from: beat, type: log }\n");
    check_half_written("pipelines/a.yaml", &half, rest, r#"{"version":2}"#, &[]);
    check_half_written("pipelines/a.yaml", "", &beats(2), r#"{"version":2}"#, &[]);
}

#[test]
fn a_script_that_is_still_being_written_is_not_run() {
    let half = "msg.payload.script = 2;\n";
    check_half_written("pipelines/scripts/b.rhai", half, "msg\n", r#""script":2"#, &[]);
}

#[test]
fn a_secret_that_is_still_being_written_is_not_used() {
    check_half_written("secrets/half", "tw", "o", " two ", &[]);
}

#[test]
fn settings_that_are_still_being_written_are_not_followed() {
    let (half, rest) = ("stop_within: 2s\n", "log: { level: debug }\n");
    check_half_written("forebay.yaml", half, rest, "the log changed to level Debug", &[]);
}

#[test]
fn a_poll_sees_no_half_written_file() {
    let half = "msg.payload.script = 2;\n";
    check_half_written("pipelines/scripts/b.rhai", half, "msg\n", r#""script":2"#, &["--poll"]);
}

#[test]
fn an_empty_file_stops_nothing() {
    for text in ["", "\n", "# Back soon.\n", "sources:\n"] {
        let folder = Folder::with(&[("a.yaml", &beats(1)), ("b.yaml", &beats(2))]);
        let forebay = Forebay::run(folder.path());
        forebay.log_after("reload refused: 1 error in 2 pipelines; still running", || {
            folder.write("b.yaml", text);
        });
        forebay.wait_for_log("error[empty-pipeline]");
        forebay.log_after(r#"{"version":2}"#, || ());
        // This is how one stops a pipeline.
        forebay.log_after("reloaded: stop b/beat b/screen", || {
            let place = |name: &str| folder.path().join(name);
            fs::rename(place("b.yaml"), place("b.yaml.off")).expect("renaming a test file");
        });
    }
}

#[test]
fn a_folder_pipelines_beside_what_runs_stops_nothing() {
    let folder = Folder::with(&[("a.yaml", &beats(1))]);
    let forebay = Forebay::run(folder.path());
    forebay.log_after("holds no pipeline file (*.yaml): a.yaml is not read", || {
        fs::create_dir(folder.path().join("pipelines")).expect("making a folder");
    });
    forebay.log_after(r#"{"version":1}"#, || ());
    forebay.log_after("the files are back to what runs", || {
        fs::remove_dir(folder.path().join("pipelines")).expect("removing a folder");
    });
    assert_eq!(forebay.log.count_of("reloaded"), 0);
}

#[test]
fn a_folder_that_goes_away_is_said_once_and_stops_nothing() {
    let site = Folder::with(&[("it/a.yaml", &beats(1))]);
    let (here, away) = (site.path().join("it"), site.path().join("away"));
    let forebay = Forebay::run_with(&here, &["--poll"]);
    forebay.log_after("reload refused: there is no folder", || {
        fs::rename(&here, &away).expect("moving a folder");
    });
    forebay.log_after(r#"{"version":1}"#, || ());
    forebay.log_after("reload asked for: nothing changed", || forebay.signal("HUP"));
    assert_eq!(forebay.log.count_of("refused"), 1);
    forebay.log_after("the files are back to what runs", || {
        fs::rename(&away, &here).expect("moving a folder");
    });
}

#[test]
fn the_log_follows_its_settings() {
    let folder = Folder::with(&[("pipelines/a.yaml", &beats(1))]);
    let forebay = Forebay::run(folder.path());
    let set = |text: &str| folder.replace("forebay.yaml", text);
    forebay.log_after("the log changed to level Debug", || set("log: { level: debug }\n"));
    forebay.log_after("reloaded: replace a/beat", || folder.write("pipelines/a.yaml", &beats(2)));
    assert!(forebay.log.count_of("DEBUG") > 0);
    forebay.log_after(r#""message":"the log changed"#, || {
        set("log: { level: info, format: json }\n");
    });
    forebay.wait_for_log(r#""message":"reloaded: nothing to do;"#);
    forebay.log_after(r#""message":"a stop may take another time now""#, || {
        set("log: { format: json }\nstop_within: 3s\n");
    });
    // A rule that the folder refuses from now on.
    folder.write("pipelines/a.yaml", "sources:\n  beat: { type: timer, every: 1s }\n");
    forebay.log_after("reload refused: 1 error", || set("lint: { deny: [unread-node] }\n"));
}

#[test]
fn a_checkout_of_many_files_is_one_reload() {
    let folder = Folder::new();
    let write = |version: u8| {
        for n in 0..200 {
            let path = folder.path().join(format!("p{n}.yaml"));
            let _ = fs::remove_file(&path);
            fs::write(path, beats(version)).expect("writing a test file");
        }
    };
    write(1);
    let forebay = Forebay::run(folder.path());
    let line = forebay.log_after("reloaded: ", || write(2));
    assert!(line.ends_with("200 nodes untouched; no findings in 200 pipelines"), "{line}");
}

#[test]
fn two_on_one_data_folder_do_not_run_beside_each_other() {
    let folder = Folder::with(&[("a.yaml", &beats(1))]);
    let data = Folder::new();
    let mut first = Forebay::run_on(folder.path(), data.path());
    let mut second = Forebay::start_on(folder.path(), data.path(), &[]);
    assert_eq!(second.wait_exit().code(), Some(2));
    let said = second.wait_for_log("is in use: ");
    assert!(said.contains(&format!("process {} ", first.id())), "{said}");
    assert_eq!(second.log.count_of(r#"{"version":1}"#), 0);
    // A power cut leaves no lock behind.
    first.kill();
    Forebay::run_on(folder.path(), data.path());
}

/// Appends to a file and closes it.
fn append(folder: &Folder, path: &str, text: &str) {
    let file = File::options().append(true).create(true).open(folder.path().join(path));
    file.expect("opening a test file").write_all(text.as_bytes()).expect("writing a test file");
}

#[test]
fn a_script_that_was_closed_before_its_last_line_lost_what_it_took() {
    let folder = Folder::with(&[
        ("pipelines/a.yaml", HALVES),
        ("pipelines/scripts/b.rhai", "msg.payload.script = 1;\nmsg\n"),
        ("secrets/half", "one"),
    ]);
    let forebay = Forebay::run(folder.path());
    forebay.wait_for_log(r#""script":1"#);
    forebay.log_after("sends nothing any more; it goes on as before", || {
        folder.write("pipelines/scripts/b.rhai", "msg.payload.script = 2;\n");
    });
    throughout(Duration::from_secs(4), "the script has no last line yet", || {
        forebay.log.count_of("reloaded: ") == 0
    });
    append(&folder, "pipelines/scripts/b.rhai", "msg\n");
    let saved = now();
    forebay.wait_for_log("reloaded: ");
    assert!(saved.elapsed() < Duration::from_secs(8), "{:?}", saved.elapsed());
    forebay.wait_for_log(r#""script":2"#);
    assert_eq!(forebay.log.count_of("sends nothing any more"), 1);
    // One that is meant is used in the end, and at once when it is whole for sure.
    folder.write("pipelines/scripts/b.rhai", "msg.payload.script = 3;\n");
    forebay.log_after("reloaded: ", || ());
    folder.write("pipelines/scripts/b.rhai", "msg.payload.script = 4;\nmsg\n");
    forebay.wait_for_log(r#""script":4"#);
    let saved = now();
    forebay.log_after("reloaded: ", || {
        folder.replace("pipelines/scripts/b.rhai", "msg.payload.script = 5;\n");
    });
    assert!(saved.elapsed() < Duration::from_secs(8), "{:?}", saved.elapsed());
}

#[test]
fn a_secret_that_was_written_in_two_closes_was_used_in_half() {
    let folder = Folder::with(&[
        ("pipelines/b.yaml", HALVES),
        ("pipelines/scripts/b.rhai", "msg\n"),
        ("secrets/half", "one"),
    ]);
    let forebay = Forebay::run(folder.path());
    forebay.wait_for_log(" one ");
    folder.write("secrets/half", "tw");
    throughout(Duration::from_millis(1200), "it is not at rest", || {
        forebay.log.count_of("reloaded: ") == 0
    });
    append(&folder, "secrets/half", "o");
    forebay.wait_for_log("reloaded: ");
    forebay.wait_for_log(" two ");
    assert_eq!(forebay.log.count_of(" tw "), 0);
    // One that is put into its place is whole.
    let saved = now();
    forebay.log_after(" six ", || folder.replace("secrets/half", "six"));
    assert!(saved.elapsed() < Duration::from_secs(15), "{:?}", saved.elapsed());
}

#[test]
fn a_certificate_that_was_renewed_was_seen_with_the_next_change_only() {
    let (_broker, tls) = Mosquitto::start_with_tls();
    let (_other, wrong) = Mosquitto::start_with_tls();
    let pipeline = format!(
        "connections:
  cloud: {{ type: mqtt, url: 'mqtts://127.0.0.1:{}', ca: certs/ca.pem }}
sources:
  tick: {{ type: timer, every: 100ms }}
sinks:
  cloud: {{ from: tick, type: mqtt, connection: cloud, topic: a }}
",
        tls.port
    );
    let folder = Folder::with(&[("pipelines/a.yaml", &pipeline), ("certs/ca.pem", &wrong.ca)]);
    let forebay = Forebay::run(folder.path());
    forebay.wait_for_log("that is nobody in `ca`");
    // The connection may try again before that, and get in by itself.
    let is_reload = |line: &str| line.contains("reloaded: replace connection cloud");
    folder.replace("certs/ca.pem", &tls.ca);
    let (reloaded, _) = forebay.log.wait_for("reload", 0, is_reload);
    forebay.log.wait_for("connection by the new certificate", reloaded, |line| {
        line.contains("connected broker=")
    });
    forebay.log_after("reload refused: ", || folder.remove("certs/ca.pem"));
    forebay.wait_for_log("certs/ca.pem");
    forebay.log_after("the files are back to what runs", || {
        folder.replace("certs/ca.pem", &tls.ca);
    });
}

#[test]
fn a_file_that_a_shell_writes_line_by_line_was_run_in_parts() {
    let folder = Folder::with(&[("a.yaml", &beats(1)), ("s.rhai", "msg\n")]);
    let forebay = Forebay::run(folder.path());
    forebay.wait_for_log(r#"{"version":1}"#);
    let lines = [
        "sources: { more: { type: timer, every: 100ms } }",
        "transforms: { made: { from: more, type: script, script: s.rhai } }",
        "sinks: { shown: { from: made, type: log } }",
    ];
    for line in lines {
        append(&folder, "b.yaml", &format!("{line}\n"));
        throughout(Duration::from_millis(700), "the file grows", || {
            forebay.log.count_of("reloaded: ") + forebay.log.count_of("refused") == 0
        });
    }
    forebay.wait_for_log("reloaded: ");
    assert_eq!(forebay.log.count_of("refused"), 0, "a part of it was looked at");
}

/// A plugin that counts, and says by which of its versions.
fn counting(version: u32) -> (String, String) {
    let manifest = format!(
        "name: counts\nsummary: Counts.\nsettings:\n  from_one: {{ type: integer, default: {} }}\n",
        version % 2
    );
    let script = format!(
        "state.seen = (state.seen ?? settings.from_one) + 1;\nmsg.payload.seen = state.seen;\n\
         msg.payload.version = {version};\nmsg\n"
    );
    (manifest, script)
}

/// A folder with that plugin, and a pipeline that uses it.
fn folder_that_counts(version: u32) -> Folder {
    let (manifest, script) = counting(version);
    Folder::with(&[
        (
            "pipelines/a.yaml",
            "sources:\n  beat: { type: timer, every: 20ms }\ntransforms:\n  c: { from: beat, type: \
             counts }\nsinks:\n  screen: { from: c, type: log }\n",
        ),
        ("plugins/counts/plugin.yaml", &manifest),
        ("plugins/counts/counts.rhai", &script),
    ])
}

#[test]
fn a_hundred_reloads_of_a_script_plugin_leak_nothing_and_keep_its_state() {
    if is_emulated() {
        return;
    }
    let folder = folder_that_counts(0);
    let forebay = Forebay::run(folder.path());
    forebay.wait_for_log(r#""version":0"#);
    let reload = |version: u32| {
        let (_, script) = counting(version);
        forebay.log_after("reloaded: replace a/c; 2 nodes untouched", || {
            folder.replace("plugins/counts/counts.rhai", &script);
        });
    };
    (1..=20).for_each(reload);
    forebay.wait_for_log(r#""version":20"#);
    let rss = forebay.rss_bytes();
    (21..=120).for_each(reload);
    forebay.wait_for_log(r#""version":120"#);
    let growth = forebay.rss_bytes().saturating_sub(rss);
    println!("100 reloads of a plugin: {} KiB, then {} KiB", rss / 1024, (rss + growth) / 1024);
    assert!(growth <= MOST_GROWTH_BYTES, "100 reloads took {growth} bytes");
    assert!(forebay.threads() <= MOST_THREADS);
    // Counted on, whichever version did.
    assert_eq!(forebay.log.count_of(r#""seen":1,"#), 1);
    assert_eq!(forebay.log.count_of("refused"), 0);
}

#[test]
fn a_plugin_that_is_wrong_replaces_nothing_and_the_last_good_one_starts() {
    let folder = folder_that_counts(1);
    let data = Folder::new();
    let forebay = Forebay::run_on(folder.path(), data.path());
    forebay.wait_for_log(r#""version":1"#);
    forebay.log_after("plugins/counts/counts.rhai:1:5", || {
        folder.replace("plugins/counts/counts.rhai", "msg +\n");
    });
    forebay.wait_for_log("used by `a/c`");
    forebay.log_after(r#""version":1"#, || ());
    drop(forebay);

    let forebay = Forebay::start_on(folder.path(), data.path(), &[]);
    forebay.wait_for_log(r#""version":1"#);
}
