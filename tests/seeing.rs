//! Whoever cannot drive to the site asks the program that runs how it is, and hears what is wrong, since when, and why.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use forebay::api::{Route, routes};
use serde_json::Value;

use crate::support::{
    Certificates, Folder, Forebay, Make, Mosquitto, forebay, free_port, program, promtool,
    read_report, until,
};

/// The end of a token that is long enough.
const TOKEN: &str = "0123456789abcdef";

/// A beat to the screen, and to a broker that may not be there.
fn pipeline(port: u16) -> String {
    format!(
        "connections:
  plant: {{ type: mqtt, url: 'mqtt://127.0.0.1:{port}', username: u, password: '${{file:secrets/word}}' }}
sources:
  beat: {{ type: timer, every: 50ms }}
sinks:
  cloud: {{ from: beat, type: mqtt, connection: plant, topic: a, qos: 1, buffer: {{ max_messages: 40, when_full: drop_oldest }} }}
  screen: {{ from: beat, type: log }}
"
    )
}

fn folder(port: u16) -> Folder {
    Folder::with(&[("a.yaml", &pipeline(port)), ("secrets/word", "hunter2-hunter2\n")])
}

fn said(arguments: &[&str], data: &Path) -> (String, Option<i32>) {
    let data = data.to_str().expect("the path is text");
    let output = forebay(arguments.iter().copied().chain(["--data", data]));
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.code())
}

fn json(arguments: &[&str], data: &Path) -> Value {
    let arguments = [arguments, &["--format", "json"]].concat();
    let (text, _) = said(&arguments, data);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_node_that_is_stuck_is_named_with_since_when_why_and_what_waits() {
    let mut broker = Mosquitto::stopped();
    let port = broker.port;
    let (folder, data) = (folder(port), Folder::new());
    let mut running = Forebay::run_on(folder.path(), data.path());
    until("the buffer is full", || json(&["status", "cloud"], data.path())["queue"]["used"] == 1.0);
    let cloud = json(&["status", "a/cloud"], data.path());
    assert_eq!((&cloud["state"], &cloud["role"]), (&"waiting".into(), &"sink".into()));
    assert_eq!(cloud["why"], "its connection plant is not there yet");
    assert_eq!(cloud["queue"]["messages"], 40);
    let plant = json(&["status", "plant"], data.path());
    assert_eq!(plant["state"], "waiting");
    let words = format!("nothing listens at 127.0.0.1:{port}");
    assert_eq!(plant["why"], words);
    let screen = json(&["status", "screen"], data.path());
    assert_eq!(screen["state"], "running");
    assert!(screen["latency"]["p99_s"].as_f64() < Some(1.0), "{screen}");
    assert!(cloud["latency"].is_null(), "nothing was delivered: {cloud}");
    // A full buffer is worth a look at once, and no reason to start the container anew.
    let (text, code) = said(&["health"], data.path());
    assert!(text.contains("sink a/cloud: its buffer is 100 % full, with 40 messages"), "{text}");
    assert_eq!(code, Some(0));
    assert_eq!(said(&["health", "--strict"], data.path()).1, Some(1));
    let (text, _) = said(&["status"], data.path());
    for expected in ["a/cloud", "a/screen", "40 (100 %)", "1 pipeline, 3 nodes"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let (text, _) = said(&["status", "plant"], data.path());
    assert!(text.contains(&words), "{text}");
    let waiting = tapped(&["a/cloud", "--since", "buffer", "--count", "40"], data.path());
    let first = waiting[0]["payload"]["count"].as_i64().unwrap();
    let counts = waiting.iter().map(|m| m["payload"]["count"].as_i64().unwrap());
    assert!(counts.eq(first..first + 40), "{waiting:?}");
    assert!(waiting.iter().all(|m| m["waits"] == true && m["output"] == "a/beat"), "{waiting:?}");
    let (text, code) = said(&["status", "no-such"], data.path());
    assert!(text.contains("no node or connection is named `no-such`"), "{text}");
    assert_eq!(code, Some(2));

    broker.resume();
    until("all is well", || said(&["health", "--strict"], data.path()).0 == "well\n");
    running.signal("TERM");
    running.wait_exit();
    let (text, code) = said(&["health"], data.path());
    assert!(text.contains("nothing runs on"), "{text}");
    assert_eq!(code, Some(1));
}

/// What a person at the site asks of many nodes, each answered by one command: `status`, and `status NODE`.
#[test]
fn of_many_nodes_those_that_are_stuck_are_named_with_what_there_is_to_do() {
    let (nobody, data) = (free_port(), Folder::new());
    let folder = Folder::new();
    for n in 0..6 {
        let text = "sources:\n  beat: { type: timer, every: 1s }\nsinks:\n  screen: { from: beat, type: log }\n";
        folder.write(&format!("well{n}.yaml"), text);
    }
    folder.write(
        "hall.yaml",
        &format!(
            "sources:
  beat: {{ type: timer, every: 50ms }}
  orders: {{ type: timer, every: 50ms }}
transforms:
  judge: {{ from: beat, type: script, script: 'msg.payload.hot = msg.payload.temp + 1; msg' }}
  rare: {{ from: beat, type: filter, when: 'msg.payload.count < 0' }}
  both: {{ from: [beat, rare], type: join, send_on: [beat] }}
  pass: {{ from: orders, type: script, script: msg, buffer: {{ max_messages: 5 }} }}
sinks:
  judged: {{ from: [judge, both], type: log }}
  web: {{ from: pass, type: http, url: 'http://127.0.0.1:{nobody}/', buffer: {{ max_messages: 5 }} }}
  kept: {{ from: beat, type: http, url: 'http://127.0.0.1:{nobody}/', buffer: {{ store: disk, max_bytes: 1MiB }} }}
"
        ),
    );
    let _running = Forebay::run_on(folder.path(), data.path());
    let told = || said(&["status"], data.path()).0;
    let missing = "`msg.payload.temp` is missing or null, so `+` cannot be used on it (forebay explain refused-messages)";
    let nobody_there = "Connection refused (os error 111) (forebay explain tried-again)";
    let waits = "its buffer is 100 % full, with 5 messages; hall/orders and 1 other wait for room";
    for (start, end) in [
        ("  transform hall/judge: fails for ", missing),
        ("  sink hall/web: waiting for ", nobody_there),
        ("  sink hall/web: ", waits),
        ("  sink hall/kept: waiting for ", nobody_there),
    ] {
        let is_it = |line: &str| line.starts_with(start) && line.ends_with(end);
        until(&format!("{start}…{end}"), || told().lines().any(is_it));
    }
    let all = told();
    let row = all.lines().find(|line| line.starts_with("hall/judge ")).expect("it has a row");
    assert_eq!(row.split_whitespace().nth(1), Some("failing"), "{all}");
    assert!(!all.contains("sink well"), "{all}");
    let one = |name: &str| said(&["status", name], data.path()).0;
    let judge = one("judge");
    for expected in ["\nfails         for ", " errors in a row\n", " not handled\n", "hall.yaml:5:"]
    {
        assert!(judge.contains(expected), "{expected}: {judge}");
    }
    let both = one("both");
    assert!(both.contains("reads         hall/beat, hall/rare (has sent nothing yet)\n"), "{both}");
    assert!(one("pass").contains("held up by    hall/web, which has no room\n"));
    let kept = json(&["status", "kept"], data.path());
    assert!(kept["counts"]["bytes_to_disk"].as_u64() > Some(1000), "{kept}");
    assert_eq!(kept["rule"], "tried-again");
    let page = String::from_utf8(forebay(["explain", "tried-again"]).stdout).expect("it is text");
    assert!(page.contains("What to do"), "{page}");
}

#[test]
fn a_plan_was_made_with_the_variables_of_the_terminal_and_not_of_what_runs() {
    let text = |topic: &str| {
        format!(
            "sources:\n  t: {{ type: timer, every: 1h, topic: '{topic}' }}\nsinks:\n  s: {{ from: t, type: log }}\n"
        )
    };
    let folder = Folder::with(&[("a.yaml", &text("${env:FOREBAY_TEST_SITE}/t"))]);
    let data = Folder::new();
    let mut run = program();
    run.arg("run").arg(folder.path()).arg("--data").arg(data.path());
    run.env("FOREBAY_TEST_SITE", "north");
    let running = Forebay::of(run);
    running.wait_for_log("running");
    let place = folder.path().to_str().expect("the path is text");
    let planned = || said(&["plan", place], data.path());
    let (text_of_it, code) = planned();
    assert!(text_of_it.ends_with("\nnothing would change\n2 untouched\n"), "{text_of_it}");
    assert_eq!(code, Some(0));
    let plan = json(&["plan", place], data.path());
    assert_eq!((&plan["replace"], &plan["untouched"]), (&serde_json::json!([]), &2.into()));
    // Another folder is not what the process would look at.
    let other = Folder::with(&[("a.yaml", &text("south/t"))]);
    let (other, code) = said(&["plan", other.path().to_str().unwrap()], data.path());
    assert!(other.starts_with("nothing is known to run here"), "{other}");
    assert_eq!(code, Some(0));

    folder.write("a.yaml", "sources: 3\n");
    let (refused, code) = planned();
    let goes_on = format!("process {}: still running the pipelines loaded at ", running.id());
    assert!(refused.contains(&goes_on) && refused.contains("a.yaml:1:"), "{refused}");
    assert_eq!(code, Some(1));
}

#[test]
fn what_came_of_each_change_is_told_also_after_a_restart() {
    let (folder, data) = (folder(free_port()), Folder::new());
    let mut running = Forebay::run_on(folder.path(), data.path());
    running.log_after("reload refused", || folder.write("b.yaml", "sources: 3\n"));
    let status = json(&["status"], data.path());
    let refused = &status["reloads"][0];
    assert_eq!((&refused["result"], &refused["changed"][0]), (&"refused".into(), &"b.yaml".into()));
    assert_eq!(status["reloads"][1]["result"], "started");
    assert_eq!(status["files"]["since"]["number"], 1);
    let (text, _) = said(&["health"], data.path());
    assert!(text.contains("the files on disk are refused (1 error in 2 pipelines)"), "{text}");
    running.kill();

    folder.remove("b.yaml");
    let running = Forebay::run_on(folder.path(), data.path());
    let more =
        "sources:\n  more: { type: timer, every: 1s }\nsinks:\n  s: { from: more, type: log }\n";
    running.log_after("reloaded: ", || folder.write("c.yaml", more));
    until("it is told", || json(&["status"], data.path())["reloads"][0]["number"] == 4);
    let status = json(&["status"], data.path());
    let results: Vec<&Value> =
        status["reloads"].as_array().unwrap().iter().map(|receipt| &receipt["result"]).collect();
    assert_eq!(results, ["reloaded", "started", "refused", "started"]);
    assert_eq!(status["reloads"][0]["changed"], serde_json::json!(["c.yaml"]));
    assert_eq!(status["files"]["since"]["number"], 4);
    assert_eq!(status["files"]["pipelines"], 2);
}

/// What is answered over the network, whole. None when nobody listens.
fn over_network(port: u16, path: &str, headers: &str) -> Option<String> {
    let answer = bytes_over_network(port, path, headers)?;
    Some(String::from_utf8(answer).expect("it is text"))
}

/// Of an answer that does not end, up to where it has this.
fn beginning_over_network(port: u16, path: &str, headers: &str, part: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let question = format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{headers}\r\n");
    stream.write_all(question.as_bytes()).expect("it reads");
    let (mut answer, mut piece) = (String::new(), [0; 4096]);
    while !answer.contains(part) {
        let count = stream.read(&mut piece).expect("it answers");
        assert_ne!(count, 0, "{answer}");
        answer += &String::from_utf8_lossy(&piece[..count]);
    }
    answer
}

fn bytes_over_network(port: u16, path: &str, headers: &str) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let question = format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{headers}\r\n");
    stream.write_all(question.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn collectors_read_the_metrics_over_the_network_and_nobody_without_the_token() {
    let (port, other) = (free_port(), free_port());
    let (folder, data) = (folder(free_port()), Folder::new());
    let api = |port: u16| {
        format!("api: {{ listen: '127.0.0.1:{port}', token: '${{file:secrets/api}}' }}\n")
    };
    folder.write("secrets/api", "0123456789abcdef\n");
    folder.write("forebay.yaml", &api(port));
    let running = Forebay::run_on(folder.path(), data.path());
    let ask =
        |path: &str, headers: &str| over_network(port, path, headers).expect("somebody listens");
    until("the door is open", || over_network(port, "/metrics", "").is_some());
    for path in ["/metrics", "/status", "/health", "/tap?node=a/beat", "/no-such"] {
        for headers in ["", "Authorization: Bearer 0123456789abcde\r\n"] {
            let refused = ask(path, headers);
            assert!(refused.starts_with("HTTP/1.1 401 "), "{path}: {refused}");
            assert!(refused.contains("www-authenticate: Bearer"), "{refused}");
        }
    }
    const AUTHORIZED: &str = "Authorization: Bearer 0123456789abcdef\r\n";
    until("the buffer overflows", || {
        let cloud = json(&["status", "cloud"], data.path());
        cloud["queue"]["used"] == 1.0 && cloud["counts"]["dropped"].as_u64() > Some(0)
    });
    let status = ask("/status", AUTHORIZED);
    assert!(status.contains("a/cloud") && !status.contains("hunter2"), "{status}");
    let open =
        "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";
    for (kind, accept, media) in [
        ("prometheus", "", "text/plain; version=0.0.4"),
        ("openmetrics", open, "application/openmetrics-text; version=1.0.0"),
    ] {
        let answer = ask("/metrics", &[AUTHORIZED, accept].concat());
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-type: {media}")), "{head}");
        assert!(!text.contains("hunter2") && !text.contains("0123456789"), "{text}");
        let read = read_report(kind, text);
        let version = env!("CARGO_PKG_VERSION");
        for expected in [
            format!("forebay_build_info|version={version}|1\n"),
            "gauge|forebay_ready||1\n".to_owned(),
            "gauge|forebay_well||0\n".to_owned(),
            "gauge|forebay_waiting|node=plant,role=connection,type=mqtt|1\n".to_owned(),
            "gauge|forebay_queue_messages|node=a/cloud,role=sink,type=mqtt|40\n".to_owned(),
            "gauge|forebay_queue_used_ratio|node=a/cloud,role=sink,type=mqtt|1\n".to_owned(),
            "counter|forebay_delivered_messages_total|node=a/cloud,role=sink,type=mqtt|0\n"
                .to_owned(),
            "counter|forebay_errors_total|node=a/beat,role=source,type=timer|0\n".to_owned(),
        ] {
            assert!(read.contains(&expected), "{expected}: {read}");
        }
        // Each bucket has those of the buckets before it, too.
        let buckets = "histogram|forebay_delivery_latency_seconds_bucket|le=";
        let counts = read.lines().filter_map(|line| line.strip_prefix(buckets));
        let counts: Vec<f64> = counts
            .filter(|line| line.contains("node=a/screen"))
            .filter_map(|line| line.rsplit('|').next()?.parse().ok())
            .collect();
        assert!(counts.len() == 14 && counts[0] <= counts[13] && counts[13] > 0.0, "{read}");
        let dropped = "counter|forebay_dropped_messages_total|node=a/cloud,role=sink,type=mqtt|";
        let dropped = read.lines().find_map(|line| line.strip_prefix(dropped));
        assert!(
            dropped.is_some_and(|count| count.parse::<f64>().is_ok_and(|count| count > 0.0)),
            "{read}"
        );
    }

    let answer = ask("/metrics", AUTHORIZED);
    let (_, text) = answer.split_once("\r\n\r\n").unwrap();
    promtool(&["check", "metrics"], text);
    let told = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let readme = root_file("README.md");
    told.for_each(|name| assert!(readme.contains(&format!("`{name}`")), "{name}"));

    // It follows the file, and what is not said any more is not open any more.
    running.log_after(&format!("answers at http://127.0.0.1:{other}"), || {
        folder.write("forebay.yaml", &api(other))
    });
    until("the old door is shut", || over_network(port, "/health", AUTHORIZED).is_none());
    assert!(over_network(other, "/health", AUTHORIZED).unwrap().starts_with("HTTP/1.1 200 "));
    running.log_after("reloaded: ", || folder.write("forebay.yaml", ""));
    until("no door is open", || over_network(other, "/health", AUTHORIZED).is_none());
}

/// Has something done over the network: what is answered.
fn posted(port: u16, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let question = format!("POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{headers}\r\n");
    stream.write_all(question.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn nothing_is_changed_that_is_not_allowed_nor_by_a_page_of_somebody_else() {
    let (port, data) = (free_port(), Folder::new());
    let folder = folder(free_port());
    let api = |allow: &str| {
        format!("api: {{ listen: '127.0.0.1:{port}', token: {TOKEN}, allow: [{allow}] }}\n")
    };
    folder.write("forebay.yaml", &api(""));
    let running = Forebay::run_on(folder.path(), data.path());
    until("the door is open", || over_network(port, "/health", "").is_some());
    let authorized = format!("Authorization: Bearer {TOKEN}\r\n");
    let ours = format!("{authorized}X-Forebay: test\r\n");
    for (path, name) in [("/reload", "reload"), ("/drop-buffer?node=a/cloud", "drop-buffer")] {
        let answer = posted(port, path, &ours);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(answer.contains(&format!("allow: [{name}]")), "{answer}");
    }
    running.log_after("reloaded: ", || folder.write("forebay.yaml", &api("reload, drop-buffer")));
    until("the buffer is full", || json(&["status", "cloud"], data.path())["queue"]["used"] == 1.0);
    assert_eq!(
        json(&["status"], data.path())["allow"],
        serde_json::json!(["reload", "drop-buffer"])
    );
    for headers in [
        authorized.clone(),
        "X-Forebay: test\r\n".to_owned(),
        format!("{ours}Origin: http://evil.example\r\n"),
        format!("{ours}Sec-Fetch-Site: cross-site\r\n"),
    ] {
        for path in ["/reload", "/drop-buffer?node=a/cloud"] {
            let answer = posted(port, path, &headers);
            let is_refused =
                ["HTTP/1.1 403 ", "HTTP/1.1 401 "].iter().any(|it| answer.starts_with(it));
            assert!(is_refused, "{headers}: {answer}");
        }
    }
    let asked = over_network(port, "/reload", &ours).unwrap();
    assert!(asked.starts_with("HTTP/1.1 405 "), "a link changes nothing: {asked}");
    let dropped = running.log_after("was dropped, as somebody asked", || {
        let answer = posted(port, "/drop-buffer?node=a/cloud", &ours);
        assert!(answer.contains("{\"dropped\":4"), "{answer}");
    });
    assert!(dropped.contains("node=a/cloud"), "{dropped}");
    let answer = posted(port, "/drop-buffer?node=a/beat", &ours);
    assert!(answer.contains("a/beat is a source: only sinks have a buffer"), "{answer}");
    running.log_after("reload asked for: nothing changed", || {
        let answer = posted(port, "/reload", &ours);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    });
}

/// What `openssl` is answered as a client.
fn over_tls(port: u16, certificates: &Certificates, client: Option<&str>, headers: &str) -> String {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-quiet", "-verify_return_error", "-connect"]);
    openssl.arg(format!("127.0.0.1:{port}")).args(["-CAfile", &certificates.shown("ca", "pem")]);
    if let Some(name) = client {
        let (certificate, key) = (certificates.shown(name, "pem"), certificates.shown(name, "key"));
        openssl.args(["-cert", &certificate, "-key", &key]);
    }
    let openssl = openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut openssl = openssl.spawn().expect("openssl runs");
    let question = format!("GET /status HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    // Who is not let in cannot ask.
    let _ = openssl.stdin.take().expect("stdin is piped").write_all(question.as_bytes());
    let output = openssl.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn over_tls_the_token_is_not_read_on_the_way_and_a_certificate_may_stand_for_it() {
    let certificates = Certificates::new();
    for name in ["router", "office"] {
        certificates.issue(name, "ca", Make::default());
    }
    let (port, data) = (free_port(), Folder::new());
    let folder = Folder::with(&[("a.yaml", SHAPED)]);
    let place = |name, ending| certificates.shown(name, ending);
    let api = |more: &str, tls: &str| {
        let (cert, key) = (place("router", "pem"), place("router", "key"));
        format!(
            "api: {{ listen: '127.0.0.1:{port}', {more} tls: {{ cert: {cert}, key: {key}{tls} }} }}\n"
        )
    };
    folder.write("forebay.yaml", &api(&format!("token: {TOKEN},"), ""));
    let running = Forebay::run_on(folder.path(), data.path());
    running.wait_for_log(&format!("answers at https://127.0.0.1:{port}"));
    let authorized = format!("Authorization: Bearer {TOKEN}\r\n");
    assert!(over_tls(port, &certificates, None, &authorized).starts_with("HTTP/1.1 200 "));
    assert!(over_tls(port, &certificates, None, "").starts_with("HTTP/1.1 401 "));
    let plain = over_network(port, "/status", &authorized).unwrap_or_default();
    assert!(!plain.contains("a/beat"), "{plain}");

    let ca = place("ca", "pem");
    running.log_after("answers at https://", || {
        folder.write("forebay.yaml", &api("", &format!(", ca: {ca}")));
    });
    let with = over_tls(port, &certificates, Some("office"), "");
    assert!(with.starts_with("HTTP/1.1 200 ") && with.contains("a/beat"), "{with}");
    assert_eq!(over_tls(port, &certificates, None, &authorized), "");

    let wrong = running.log_after("reload refused", || {
        folder.write("forebay.yaml", &api("", &format!(", ca: {}", place("nobody", "pem"))));
    });
    assert!(wrong.contains("error"), "{wrong}");
}

fn root_file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .expect("the file is there")
}

#[test]
fn prometheus_takes_the_rules_and_what_the_dashboard_asks_for_is_told() {
    let place = Folder::with(&[("alerts.yaml", &root_file("monitoring/alerts.yaml"))]);
    place.write("alerts.test.yaml", &root_file("monitoring/alerts.test.yaml"));
    place.write("prometheus.yaml", &root_file("monitoring/prometheus.yaml"));
    let path = |name| place.path().join(name).to_str().unwrap().to_owned();
    promtool(&["check", "rules", &path("alerts.yaml")], "");
    promtool(&["test", "rules", &path("alerts.test.yaml")], "");
    promtool(&["check", "config", "--syntax-only", &path("prometheus.yaml")], "");
    let dashboard: Value = serde_json::from_str(&root_file("monitoring/grafana.json")).unwrap();
    let targets = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    let asked: Vec<String> = targets
        .map(|target| {
            target["expr"]
                .as_str()
                .unwrap()
                .replace("$__rate_interval", "5m")
                .replace("$site", ".*")
        })
        .collect();
    assert!(asked.len() > 10, "{asked:?}");
    let rules: String = asked
        .iter()
        .enumerate()
        .map(|(number, expr)| format!("      - record: asked{number}\n        expr: '{expr}'\n"))
        .collect();
    place.write("asked.yaml", &format!("groups:\n  - name: asked\n    rules:\n{rules}"));
    promtool(&["check", "rules", &path("asked.yaml")], "");
    let readme = root_file("README.md");
    let all = [asked.concat(), root_file("monitoring/alerts.yaml")].concat();
    let names = all.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    for name in names.filter(|name| name.starts_with("forebay_")) {
        assert!(readme.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn a_pipeline_tells_how_the_program_is() {
    let data = Folder::new();
    let port = free_port();
    let text = format!(
        "connections:
  plant: {{ type: mqtt, url: 'mqtt://127.0.0.1:{port}' }}
sources:
  beat: {{ type: timer, every: 1s }}
  health: {{ type: self }}
sinks:
  cloud: {{ from: beat, type: mqtt, connection: plant, topic: a }}
  screen: {{ from: health, type: log }}
"
    );
    let folder = Folder::with(&[("a.yaml", &text)]);
    let running = Forebay::run_on(folder.path(), data.path());
    let first = running.wait_for_log("clock_is_set");
    assert!(first.contains("\"pipelines\":1") && first.contains("\"change\":1"), "{first}");
    let line = running.wait_for_log("\"plant\":");
    assert!(line.contains(&format!("nothing listens at 127.0.0.1:{port}")), "{line}");
    let refused = running.log_after("\"refused\":", || folder.write("b.yaml", "sources: 3\n"));
    assert!(refused.contains("degraded") && refused.contains("\"errors\""), "{refused}");
}

#[test]
fn metrics_of_many_nodes_went_unpacked_over_a_metered_link() {
    let port = free_port();
    let sources: String =
        (0..50).map(|n| format!("  beat{n}: {{ type: timer, every: 1h }}\n")).collect();
    let read: Vec<String> = (0..50).map(|n| format!("beat{n}")).collect();
    let read = read.join(", ");
    let text = format!("sources:\n{sources}sinks:\n  s: {{ from: [{read}], type: log }}\n");
    let folder = Folder::with(&[("a.yaml", &text)]);
    folder.write("forebay.yaml", &format!("api: {{ listen: '127.0.0.1:{port}' }}\n"));
    let _running = Forebay::run(folder.path());
    until("the door is open", || over_network(port, "/metrics", "").is_some());
    let plain = over_network(port, "/metrics", "").unwrap();
    let none = over_network(port, "/metrics", "Accept-Encoding: gzip;q=0, br\r\n").unwrap();
    assert!(!none.contains("content-encoding"), "{none}");
    let packed =
        bytes_over_network(port, "/metrics", "Accept-Encoding: deflate, gzip;q=0.9\r\n").unwrap();
    let end = packed.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&packed[..end]).into_owned();
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut unpacked = Command::new("gunzip");
    let mut unpacked = unpacked.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    unpacked.stdin.take().unwrap().write_all(&packed[end..]).unwrap();
    let unpacked = String::from_utf8(unpacked.wait_with_output().unwrap().stdout).unwrap();
    let names = |text: &str| -> Vec<String> {
        let numbers = text.lines().filter(|line| line.starts_with("forebay_"));
        numbers.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&unpacked), names(&plain));
    let (packed, plain) = (packed.len(), plain.len());
    assert!(packed < plain / 8, "{packed} of {plain} bytes");
}

#[test]
fn without_a_token_numbers_are_told_on_the_machine_itself_and_nothing_else() {
    let port = free_port();
    let (folder, data) = (folder(free_port()), Folder::new());
    folder.write("forebay.yaml", &format!("api: {{ listen: '127.0.0.1:{port}' }}\n"));
    let _running = Forebay::run_on(folder.path(), data.path());
    until("the door is open", || over_network(port, "/metrics", "").is_some());
    let ask = |path| over_network(port, path, "").unwrap();
    for (path, code) in
        [("/metrics", 200), ("/health", 200), ("/status", 403), ("/tap?node=a/beat", 403)]
    {
        let answer = ask(path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{path}: {answer}");
    }
}

/// Lines of `forebay tap`.
fn tapped(arguments: &[&str], data: &Path) -> Vec<Value> {
    let data = data.to_str().expect("the path is text");
    let arguments = [&["tap"], arguments, &["--format", "json", "--data", data]].concat();
    let output = forebay(arguments).stdout;
    let text = String::from_utf8_lossy(&output);
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{text}"));
    text.lines().map(parse).collect()
}

#[test]
fn messages_are_seen_as_they_pass_and_nobody_is_slowed() {
    let (folder, data) = (Folder::with(&[("a.yaml", SHAPED)]), Folder::new());
    let running = Forebay::run_on(folder.path(), data.path());
    let came = tapped(&["a/beat", "--count", "3", "--rate", "1000"], data.path());
    let counts: Vec<i64> = came.iter().map(|m| m["payload"]["count"].as_i64().unwrap()).collect();
    assert_eq!(counts, [counts[0], counts[0] + 1, counts[0] + 2]);
    assert_eq!(came[0]["output"], "a/beat");
    let came = tapped(&["a/even", "--in", "--count", "1"], data.path());
    assert_eq!(came[0]["output"], "a/beat");
    let came = tapped(&["a/screen", "--in", "--count", "2", "--rate", "1000"], data.path());
    assert!(came.iter().all(|m| m["payload"]["count"].as_i64().unwrap() % 2 == 0), "{came:?}");
    let came = tapped(&["a/even.errors", "--count", "1"], data.path());
    assert!(came[0]["payload"]["error"].as_str().unwrap().contains("odd"), "{came:?}");
    // What is more than was asked for is counted.
    let came = tapped(&["a/beat", "--count", "2", "--rate", "4"], data.path());
    assert!(came[1]["left_out"].as_u64().unwrap() > 1, "{came:?}");
    let came = tapped(&["a/beat", "--count", "1", "--mask", "count"], data.path());
    assert_eq!(came[0]["payload"]["count"], "***");

    // Of many, those for which a condition holds; what the node makes of them; and what waits.
    let rare =
        ["a/beat", "--where", "msg.payload.count % 50 == 0", "--count", "2", "--rate", "1000"];
    let came = tapped(&rare, data.path());
    let counts: Vec<i64> = came.iter().map(|m| m["payload"]["count"].as_i64().unwrap()).collect();
    assert!(counts[0] % 50 == 0 && counts[1] == counts[0] + 50, "{counts:?}");
    let came = tapped(&["a/even", "--both", "--count", "4", "--rate", "1000"], data.path());
    for pair in &came {
        let (count, made) = (pair["payload"]["count"].as_i64().unwrap(), &pair["became"]);
        assert_eq!(pair["output"], "a/beat");
        let (output, topic) = (&made[0]["output"], &made[0]["payload"]["count"]);
        match count % 2 {
            0 => assert_eq!((output, topic), (&"a/even".into(), &count.into())),
            _ => assert_eq!(output, "a/even.errors"),
        }
        assert_eq!(made.as_array().unwrap().len(), 1);
    }
    let (text, _) = said(&["tap", "a/even", "--both", "--count", "1"], data.path());
    assert!(text.contains("\n") && text.contains("->  a/even"), "{text}");
    // In a terminal, side by side.
    let mut terminal =
        Terminal::of(&["tap", "a/even", "--both", "--count", "6", "--rate", "1000"], data.path());
    terminal.shows(&["  a/beat ", " |   a/even\r\n", "- a/even.errors: odd"]);
    assert_eq!(terminal.ended(), Some(0));

    let refused: [(&[&str], &str); 8] = [
        (&["a/beat", "--where", "msg.payload.count >"], "--where: "),
        (&["a/beat", "--both"], "a/beat is a source: it makes nothing of what it reads"),
        (&["a/beat", "--since", "buffer"], "a/beat is a source: nothing waits in front of it"),
        (&["no/such"], "no node is named `no/such`"),
        (&["a/beat.high"], "a/beat has no output `high`"),
        (&["a/screen"], "a/screen is a sink: look at what comes in"),
        (&["a/beat", "--in"], "a/beat is a source: look at what comes out"),
        (&["a/beat", "--rate", "0"], "`per_second` is a number from 0.001 to 1000"),
    ];
    for (arguments, words) in refused {
        let (text, code) = said(&[&["tap"], arguments].concat(), data.path());
        assert!(text.contains(words), "{words}: {text}");
        assert_eq!(code, Some(2));
    }
    // One that does not read holds nobody up.
    let mut idle = std::os::unix::net::UnixStream::connect(data.path().join("api.sock")).unwrap();
    let question = "GET /tap?node=a/beat&per_second=1000 HTTP/1.1\r\nHost: x\r\n\r\n";
    std::io::Write::write_all(&mut idle, question.as_bytes()).unwrap();
    let from = running.log.count();
    until("it goes on", || running.log.count() > from + 300);
}

#[test]
fn what_waits_on_disk_is_seen_beyond_what_memory_has_also_when_nothing_runs() {
    let pipeline = format!(
        "sources:
  beat: {{ type: timer, every: 10ms }}
transforms:
  large: {{ from: beat, type: script, script: 'let text = \"x\"; text.pad(4000, \"y\"); msg.payload.text = text; msg' }}
sinks:
  cloud: {{ from: large, type: http, url: 'http://127.0.0.1:{}/', buffer: {{ store: disk }} }}
",
        free_port()
    );
    let (folder, data) = (Folder::with(&[("a.yaml", &pipeline)]), Folder::new());
    let mut running = Forebay::run_on(folder.path(), data.path());
    // More than a queue keeps of that in memory.
    const MESSAGES: usize = 400;
    until("much waits", || {
        let waiting = &json(&["status", "cloud"], data.path())["queue"]["messages"];
        waiting.as_u64() > Some(MESSAGES as u64)
    });
    let (first, count) = (["a/cloud", "--since", "buffer", "--mask", "text"], MESSAGES.to_string());
    let look = |output: &str| {
        let waiting = tapped(&[&first[..], &["--count", &count]].concat(), data.path());
        assert_eq!(waiting.len(), MESSAGES);
        for (at, message) in (1..).zip(&waiting) {
            let payload = &message["payload"];
            assert_eq!((&payload["count"], &payload["text"]), (&at.into(), &"***".into()));
            assert_eq!((&message["waits"], &message["output"]), (&true.into(), &output.into()));
        }
    };
    look("a/large");
    // It goes on with what passes, and shows nothing twice.
    let waiting = json(&["status", "cloud"], data.path())["queue"]["messages"].as_u64().unwrap();
    let more = (waiting + 100).to_string();
    let all = tapped(&[&first[..], &["--count", &more, "--rate", "1000"]].concat(), data.path());
    let waits = all.iter().take_while(|message| message["waits"] == true).count();
    assert!(waits as u64 >= waiting && waits < all.len(), "{waits} of {}", all.len());
    let counts: Vec<_> = all.iter().map(|message| message["payload"]["count"].as_i64()).collect();
    assert!(counts.is_sorted_by(|before, after| before < after), "{counts:?}");
    running.signal("TERM");
    running.wait_exit();
    // What made it is not known without the files of pipelines.
    look("a/cloud");
    let (text, code) = said(&["tap", "a/cloud", "--since", "buffer", "--count", "1"], data.path());
    assert!(text.contains("waits  ") && text.contains("that is what waits on disk"), "{text}");
    assert_eq!(code, Some(0));
    let (text, code) = said(&["tap", "a/beat", "--since", "buffer"], data.path());
    assert!(text.contains("nothing runs on"), "{text}");
    assert_eq!(code, Some(2));
}

#[test]
fn what_a_node_keeps_for_later_did_not_look_dropped() {
    let pipeline = "sources:
  beat: { type: timer, every: 50ms }
transforms:
  late: { from: beat, type: delay, for: 120ms }
sinks:
  out: { from: late, type: log }
";
    let (folder, data) = (Folder::with(&[("a.yaml", pipeline)]), Folder::new());
    let _running = Forebay::run_on(folder.path(), data.path());
    let seen = tapped(&["a/late", "--both", "--count", "12", "--rate", "1000"], data.path());
    let (came, left): (Vec<_>, Vec<_>) =
        seen.into_iter().partition(|message| message["became"].is_array());
    assert!(came.len() > 2 && left.len() > 2, "{came:?} {left:?}");
    for message in came {
        assert_eq!((&message["became"], &message["kept"]), (&serde_json::json!([]), &true.into()));
    }
    assert!(left.iter().all(|message| message["output"] == "a/late"), "{left:?}");
}

/// Vector's `tap` loses what it watches at a reload, or shows it twice from then on.
#[test]
fn a_tap_that_was_there_before_a_reload_shows_each_message_once_after_it() {
    let (folder, data) = (Folder::with(&[("a.yaml", SHAPED)]), Folder::new());
    let running = Forebay::run_on(folder.path(), data.path());
    let place = data.path().to_str().expect("the path is text");
    let arguments =
        ["tap", "a/even", "--both", "--rate", "1000", "--format", "json", "--data", place];
    let mut tap = program();
    let mut tap = tap.args(arguments).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(tap.stdout.take().expect("stdout is piped")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("it goes on").expect("it is text");
        serde_json::from_str(&line).expect("it is JSON")
    };
    next();
    running.log_after("reloaded: replace a/even", || {
        folder.write(
            "a.yaml",
            &SHAPED.replace("\n      msg\n", "\n      msg.meta.later = 1;\n      msg\n"),
        );
    });
    while !next()["became"][0]["meta"]["later"].is_number() {}
    let shown: Vec<(u64, u64)> = (0..6)
        .map(|_| next())
        .map(|line| {
            let count = line["payload"]["count"].as_u64().unwrap();
            (count, line["left_out"].as_u64().unwrap_or(0))
        })
        .collect();
    // What comes too fast is left out, and counted.
    let follows = |pair: &[(u64, u64)]| pair[1].0 == pair[0].0 + 1 + pair[1].1;
    assert!(shown.windows(2).all(follows), "{shown:?}");
    tap.kill().expect("it runs");
    tap.wait().expect("it ends");
}

#[test]
fn what_a_source_emits_is_recorded_and_played_back_elsewhere() {
    let (folder, data) = (Folder::with(&[("a.yaml", SHAPED)]), Folder::new());
    let running = Forebay::run_on(folder.path(), data.path());
    let file = data.path().join("beats.jsonl");
    let name = file.to_str().unwrap();
    let (text, code) = said(&["record", "a/beat", "--for", "1s", "--out", name], data.path());
    assert!(text.starts_with("recorded ") && code == Some(0), "{text}");
    // It ends at its bound, and not after an hour.
    let (text, _) = said(&["record", "a/beat", "--for", "1h", "--max-bytes", "1KiB"], data.path());
    assert!(text.ends_with(" messages; it ended at 1KiB\n"), "{text}");
    drop(running);
    let recorded = fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> =
        recorded.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 10, "{recorded}");
    assert!(lines.iter().is_sorted_by_key(|line| line["at"].as_f64()), "{recorded}");

    // All of them, and at once.
    let root = folder.path().to_str().unwrap();
    let output = forebay(["replay", name, root, "--format", "json"]);
    let played: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let beats = played.iter().filter(|line| line["sink"] == "a/screen");
    let counts: Vec<&Value> = beats.map(|line| &line["payload"]["count"]).collect();
    let sent = lines.iter().map(|line| &line["payload"]["count"]);
    let even: Vec<&Value> = sent.filter(|count| count.as_u64().unwrap() % 2 == 0).collect();
    assert_eq!(counts, even);

    // A test plays it back, too, and the real clock of the source is not asked.
    fs::copy(&file, folder.path().join("beats.jsonl")).unwrap();
    let count = lines.len();
    folder.write(
        "a.test.yaml",
        &format!(
            "world: {{ beat: {{ replay: beats.jsonl }} }}\ntests:\n  - name: all of it\n    for: 10s\n    expect: {{ beat: {{ count: \
             {count} }} }}\n  - name: too late\n    for: 10s\n    steps: [{{ at: 1s, world: {{ beat: {{ replay: x }} }} }}]\n"
        ),
    );
    let output = forebay(["test", root]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("a recording is played back from the beginning"), "{told}");
    assert!(told.ends_with("1 test passed\n"), "{told}");
}

const SHAPED: &str = "
sources:
  beat: { type: timer, every: 10ms }
transforms:
  even:
    from: beat
    type: script
    script: |
      if msg.payload.count % 2 == 1 { throw \"odd\" }
      msg
sinks:
  screen: { from: even, type: log }
  bad: { from: even.errors, type: log }
";

#[test]
fn no_answer_shows_a_secret() {
    let (broker, port) = (Mosquitto::start(), free_port());
    let (folder, data) = (folder(broker.port), Folder::new());
    folder.write(
        "forebay.yaml",
        &format!("api: {{ listen: '127.0.0.1:{port}', token: '${{file:secrets/word}}{TOKEN}', allow: [reload, drop-buffer] }}\n"),
    );
    let _running = Forebay::run_on(folder.path(), data.path());
    let token = format!("Authorization: Bearer hunter2-hunter2{TOKEN}\r\n");
    until("it listens", || over_network(port, "/health", &token).is_some());
    let settings = over_network(port, "/settings?node=plant", &token).expect("it listens");
    assert!(settings.contains("password: '${file:secrets/word}'"), "{settings}");
    // Every way in, with what is asked there.
    for (path, route) in routes() {
        let nodes: &[&str] = match route {
            Route::Settings => &["?node=plant", "?node=a/cloud", "?node=a/beat"],
            Route::History => &["", "?node=a/beat", "?node=a/cloud", "?node=plant"],
            Route::Tap => &["?node=a/beat", "?node=a/cloud&in", "?node=a/screen&in&waiting"],
            Route::DropBuffer => &["?node=a/cloud", "?node=plant"],
            Route::Page
            | Route::Status
            | Route::Health
            | Route::Events
            | Route::Log
            | Route::Plan
            | Route::Metrics
            | Route::Reload => &[""],
        };
        for node in nodes {
            let path = format!("{path}{node}");
            let ask = |headers: &str| match route {
                Route::Events => beginning_over_network(port, &path, headers, "\n\n"),
                Route::Tap => beginning_over_network(port, &path, headers, "\n{"),
                _ if route.changes() => {
                    posted(port, &path, &format!("{headers}X-Forebay: test\r\n"))
                }
                _ => over_network(port, &path, headers).expect("it listens"),
            };
            let text = ask(&token);
            let is_answered =
                text.starts_with("HTTP/1.1 200 ") || text.starts_with("HTTP/1.1 404 ");
            assert!(is_answered && !text.contains("hunter2"), "{path}: {text}");
            assert!(
                *node != "?node=a/cloud" || text.starts_with("HTTP/1.1 200 "),
                "{path}: {text}"
            );
            if route != Route::Page {
                let refused = match route.changes() {
                    true => posted(port, &path, "X-Forebay: test\r\n"),
                    false => over_network(port, &path, "").expect("it listens"),
                };
                assert!(refused.starts_with("HTTP/1.1 401 "), "{path}: {refused}");
                assert!(!refused.contains("hunter2"), "{path}: {refused}");
            }
        }
    }
    for verb in [&["status"][..], &["status", "plant"], &["status", "cloud"], &["health"]] {
        for format in ["text", "json"] {
            let (text, _) = said(&[verb, &["--format", format]].concat(), data.path());
            assert!(!text.contains("hunter2"), "{verb:?}: {text}");
        }
    }
    let kept = data.read("reloads.json");
    assert!(!kept.contains("hunter2"), "{kept}");
}

#[test]
fn a_secret_in_a_message_was_shown_two_nodes_further_on() {
    let pipeline = "sources:
  beat: { type: timer, every: 50ms, topic: '${file:secrets/word}' }
transforms:
  first: { from: beat, type: filter, when: 'true' }
  second: { from: first, type: filter, when: 'true' }
sinks:
  out: { from: second, type: file, path: '${env:FOREBAY_TEST_DATA}/out.jsonl' }
";
    let folder = Folder::with(&[("a.yaml", pipeline), ("secrets/word", "hunter2-hunter2\n")]);
    let data = Folder::new();
    let mut run = program();
    run.arg("run").arg(folder.path()).arg("--data").arg(data.path());
    run.env("FOREBAY_TEST_DATA", data.path());
    let running = Forebay::of(run);
    running.wait_for_log("running");
    for of in [&["a/second"][..], &["a/second", "--both"], &["a/out", "--in"]] {
        let seen = tapped(&[of, &["--count", "2"]].concat(), data.path());
        assert_eq!(seen.len(), 2);
        for message in seen {
            let text = message.to_string();
            assert!(text.contains("secrets/word") && !text.contains("hunter2"), "{of:?}: {text}");
        }
    }
    let mut terminal = Terminal::of(&["top"], data.path());
    terminal.press(b"n\x1b[B\x1b[B\x1b[B");
    terminal.shows(&["a/second: transform", "secrets/word"]);
    terminal.press(b"q");
    assert_eq!(terminal.ended(), Some(0));
    assert!(!terminal.drawn.contains("hunter2"), "{}", terminal.drawn);
}

/// A terminal of 80 columns, by `script`, in which somebody looks.
struct Terminal {
    process: Child,
    screen: ChildStdout,
    /// All that was drawn.
    drawn: String,
}

impl Terminal {
    fn of(arguments: &[&str], data: &Path) -> Terminal {
        Terminal::behind("", arguments, data)
    }

    /// Behind another program. Files have who asks and who draws.
    fn behind(other: &str, arguments: &[&str], data: &Path) -> Terminal {
        let (program, path) = (env!("CARGO_BIN_EXE_forebay"), data.display());
        let asked = format!(
            "stty cols 80 rows 24; echo $PPID > '{path}/draws'
             {other} sh -c 'echo $$ > \"$0/asks\"; exec \"$@\"' '{path}' '{program}' {} --data '{path}'",
            arguments.join(" ")
        );
        let mut terminal = Command::new("timeout");
        terminal.args(["60", "script", "--quiet", "--return", "--command", &asked, "/dev/null"]);
        terminal.env("TERM", "xterm").env("SHELL", "/bin/sh");
        let mut process = terminal
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux is there");
        let screen = process.stdout.take().expect("stdout is piped");
        Terminal { process, screen, drawn: String::new() }
    }

    fn shows(&mut self, parts: &[&str]) {
        let mut piece = [0; 4096];
        while !parts.iter().all(|part| self.drawn.contains(part)) {
            let count = self.screen.read(&mut piece).expect("it draws");
            assert_ne!(count, 0, "{parts:?}: {}", self.drawn);
            self.drawn += &String::from_utf8_lossy(&piece[..count]);
        }
    }

    fn press(&mut self, keys: &[u8]) {
        let stdin = self.process.stdin.as_mut().expect("stdin is piped");
        stdin.write_all(keys).expect("it reads");
    }

    /// The exit code.
    fn ended(&mut self) -> Option<i32> {
        let mut rest = Vec::new();
        self.screen.read_to_end(&mut rest).expect("it ends");
        self.drawn += &String::from_utf8_lossy(&rest);
        self.process.wait().expect("it ends").code()
    }

    /// The exit code, with the terminal as it was.
    fn given_back(mut self) -> Option<i32> {
        let code = self.ended();
        for sign in ["\u{1b}[?1049l", "\u{1b}[?25h", "\u{1b}[?7h"] {
            assert!(self.drawn.contains(sign), "{sign:?}: {}", self.drawn);
        }
        code
    }
}

#[test]
fn what_runs_is_watched_in_a_terminal_and_nowhere_else() {
    let (folder, data) = (folder(free_port()), Folder::new());
    let _running = Forebay::run_on(folder.path(), data.path());
    let (text, code) = said(&["top"], data.path());
    assert!(text.contains("`forebay status` says the same once"), "{text}");
    assert_eq!(code, Some(2));
    let mut terminal = Terminal::of(&["top"], data.path());
    terminal.shows(&["a/screen", "q quit"]);
    // What it sent last is told below the table.
    terminal.press(b"n");
    terminal.shows(&["a/beat: source of type timer", " ago, a/beat:  count "]);
    terminal.press(b"?");
    terminal.shows(&["Any key goes back."]);
    terminal.press(b" q");
    assert_eq!(terminal.given_back(), Some(0));
}

fn signal(name: &str, process: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), process.trim()]).status();
    assert!(sent.expect("it is there").success());
}

/// `htop` and others left a terminal in which nobody sees what they type.
#[test]
fn whoever_ends_top_gets_the_terminal_back_as_it_was() {
    let (folder, data) = (folder(free_port()), Folder::new());
    let mut running = Forebay::run_on(folder.path(), data.path());
    let mut terminal = Terminal::of(&["top"], data.path());
    terminal.shows(&["a/screen", "q quit"]);
    let top = data.read("asks");
    // `btop` went on for ever, with half of a processor, where the terminal went away without a signal.
    let mut other = Terminal::behind("setsid --wait", &["top"], data.path());
    other.shows(&["a/screen", "q quit"]);
    let asks = data.read("asks");
    signal("KILL", &data.read("draws"));
    until("it ended", || !Path::new("/proc").join(asks.trim()).exists());
    // It stays when nobody answers, such as while the container is started anew.
    running.signal("TERM");
    running.wait_exit();
    terminal.shows(&["as it was: nothing runs on "]);
    signal("TERM", &top);
    assert_eq!(terminal.given_back(), Some(128 + 15));
}
