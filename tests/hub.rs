//! The embedded broker as the hub of a site: clients that others wrote, restarts and kills.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::support::{
    Folder, Forebay, Mosquitto, command, forebay, free_port, fresh_data_folder, is_long, pause,
    program, python, test_tools, until,
};

/// A certificate for `localhost`, its key, and who has issued it, as files of a folder.
fn certificates(folder: &Folder) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Else it has the name of what it issues, which OpenSSL takes for self-signed.
    params.distinguished_name.push(DnType::CommonName, "ca");
    let key = KeyPair::generate().expect("random numbers");
    folder.write("ca.pem", &params.self_signed(&key).expect("a CA").pem());
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().expect("random numbers");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    folder.write("own.pem", &params.signed_by(&own, &issuer).expect("a certificate").pem());
    folder.write("own.key", &own.serialize_pem());
}

/// Adds a user to a file, as somebody at the command line does.
fn passwd(file: &Path, user: &str, password: &str) {
    let mut verb = program();
    verb.args(["passwd", "--file"]).arg(file).arg(user);
    let mut process = verb.stdin(Stdio::piped()).spawn().expect("it was built");
    let mut input = process.stdin.take().expect("it is piped");
    std::io::Write::write_all(&mut input, format!("{password}\n").as_bytes()).expect("it reads");
    drop(input);
    assert!(process.wait().expect("it ends").success());
}

#[track_caller]
fn runs(command: &mut Command) -> String {
    let output = command.output().expect("it is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn clients_that_others_wrote_find_all_that_the_standards_promise() {
    let folder = Folder::new();
    certificates(&folder);
    passwd(&folder.path().join("users"), "plc", "secret");
    let [plain, tls, websocket] = [free_port(), free_port(), free_port()];
    folder.write(
        "a.yaml",
        &format!(
            "connections:
  hall:
    type: broker
    listen:
      - 127.0.0.1:{plain}
      - {{ at: '127.0.0.1:{tls}', cert: own.pem, key: own.key }}
      - {{ at: '127.0.0.1:{websocket}', websocket: /mqtt }}
    password_file: users
    access:
      - {{ topic: '#', allow: readwrite }}
      - {{ topic: 'denied/#', allow: deny }}
"
        ),
    );
    let forebay = Forebay::run(folder.path());
    for port in [plain, tls, websocket] {
        forebay.wait_for_log(&format!("address=127.0.0.1:{port}"));
    }
    let ports = [plain, tls, websocket].map(|port| port.to_string());
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support");
    let arguments = |command: &mut Command| {
        command.args(&ports).arg(folder.path().join("ca.pem")).args(["plc", "secret"]);
    };
    let mut of_python = command(python());
    arguments(of_python.arg(scripts.join("hub_clients.py")));
    assert_eq!(runs(&mut of_python).matches("ok ").count(), 9);
    let mut of_node = command("node");
    // Modules are looked for beside the script.
    fs::copy(scripts.join("hub_clients.js"), folder.path().join("hub_clients.js")).expect("a file");
    let modules = test_tools().join("node_modules");
    of_node.env("NODE_PATH", modules).arg(folder.path().join("hub_clients.js"));
    arguments(&mut of_node);
    assert_eq!(runs(&mut of_node).matches("ok ").count(), 7);
}

/// What a broker does of what the standards promise, a line for each scenario.
fn interoperability(port: u16) -> Vec<String> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support");
    let said = runs(command(python()).arg(scripts.join("interop.py")).arg(port.to_string()));
    said.lines().map(str::to_owned).collect()
}

#[test]
fn scenarios_of_an_interoperability_suite_pass() {
    let port = free_port();
    let broker = format!(
        "connections:
  hall:
    type: broker
    listen: ['127.0.0.1:{port}']
    max_keep_alive: 60s
    max_packet: 256KiB
    access:
      - {{ topic: '#', allow: readwrite }}
      - {{ topic: '$dollar/#', allow: readwrite }}
      - {{ topic: 'denied/#', allow: deny }}
"
    );
    let folder = Folder::with(&[("a.yaml", &broker)]);
    let forebay = Forebay::run(folder.path());
    forebay.wait_for_log("the broker listens");
    let results = interoperability(port);
    let failed: Vec<_> = results.iter().filter(|line| !line.starts_with("pass ")).collect();
    assert!(failed.is_empty() && results.len() == 63, "{} ran: {failed:#?}", results.len());
    if is_long() {
        let mosquitto = Mosquitto::start_with(
            "max_keepalive 60\nmax_packet_size 262144\nmax_inflight_messages 100\nmax_topic_alias 10\n",
        );
        println!("Mosquitto:\n{}", interoperability(mosquitto.port).join("\n"));
    }
}

/// A Mosquitto client at a port.
fn mosquitto(program: &str, port: u16, arguments: &[&str]) -> Command {
    let mut command = command(program);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

#[test]
fn kills_lost_what_was_acknowledged_for_who_was_away_and_brought_back_what_was_cleared() {
    let (port, data) = (free_port(), fresh_data_folder());
    let broker = format!(
        "connections:\n  hall: {{ type: broker, listen: ['127.0.0.1:{port}'], max_queued: 100000, max_queued_bytes: 16MiB }}\n"
    );
    let folder = Folder::with(&[("a.yaml", &broker)]);
    let start = || {
        let forebay = Forebay::run_on(folder.path(), &data);
        forebay.wait_for_log("the broker listens");
        forebay
    };
    let away = ["-i", "away", "-c", "-q", "2", "-t", "q/#"];
    let mut forebay = start();
    runs(mosquitto("mosquitto_sub", port, &away).arg("-E"));
    let acknowledged: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let mut random = fastrand::Rng::with_seed(3);
    let number = Arc::new(AtomicUsize::new(0));
    for round in 0..4 {
        let is_over = Arc::new(AtomicBool::new(false));
        let publish = |of: usize| {
            let (is_over, acknowledged) = (Arc::clone(&is_over), Arc::clone(&acknowledged));
            let number = Arc::clone(&number);
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let payload = number.fetch_add(1, Ordering::Relaxed).to_string();
                    let qos = if of == 0 { "2" } else { "1" };
                    let arguments = ["-q", qos, "-t", "q/a", "-m", &payload];
                    let status = mosquitto("mosquitto_pub", port, &arguments).status();
                    if status.is_ok_and(|status| status.success()) {
                        acknowledged.lock().expect("no panic").insert(payload);
                    }
                }
            })
        };
        // One topic is set and one cleared, each acknowledged before the kill.
        runs(&mut mosquitto("mosquitto_pub", port, &["-q", "1", "-r", "-t", "r/old", "-m", "x"]));
        let publishers: Vec<_> = (0..3).map(publish).collect();
        pause(Duration::from_millis(random.u64(500..2500)));
        let last = round.to_string();
        runs(&mut mosquitto(
            "mosquitto_pub",
            port,
            &["-q", "1", "-r", "-t", "r/last", "-m", &last],
        ));
        runs(&mut mosquitto("mosquitto_pub", port, &["-q", "1", "-r", "-n", "-t", "r/old"]));
        forebay.kill();
        is_over.store(true, Ordering::Relaxed);
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
        forebay = start();
        let kept = mosquitto("mosquitto_sub", port, &["-t", "r/#", "-v", "-W", "1"]).output();
        let kept = String::from_utf8_lossy(&kept.expect("it is installed").stdout).into_owned();
        assert_eq!(kept, format!("r/last {round}\n"));
    }
    let acknowledged = acknowledged.lock().expect("no panic").clone();
    assert!(acknowledged.len() > 10, "{acknowledged:?}");
    let mut got = BTreeSet::new();
    until("all that was acknowledged", || {
        let output = mosquitto("mosquitto_sub", port, &away).args(["-W", "2"]).output();
        let output = output.expect("it is installed");
        got.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
        acknowledged.is_subset(&got)
    });
}

#[test]
fn a_user_that_is_added_gets_in_and_nobody_is_thrown_out_for_it() {
    let port = free_port();
    let folder = Folder::new();
    let users = folder.path().join("users");
    passwd(&users, "first", "one");
    folder.write(
        "a.yaml",
        &format!(
            "connections:
  hall: {{ type: broker, listen: ['127.0.0.1:{port}'], password_file: users }}
sources:
  all: {{ type: mqtt, connection: hall, topics: ['t'] }}
sinks:
  none: {{ from: all, type: log }}
"
        ),
    );
    let forebay = Forebay::run(folder.path());
    forebay.wait_for_log("the broker listens");
    let login = |user: &str, password: &str| {
        let arguments = ["-u", user, "-P", password, "-q", "1", "-t", "t", "-m", "x"];
        let status = mosquitto("mosquitto_pub", port, &arguments).status();
        status.is_ok_and(|status| status.success())
    };
    assert!(login("first", "one") && !login("second", "two"));
    let stays = ["-u", "first", "-P", "one", "-q", "1", "-t", "t", "-W", "60", "-C", "2"];
    let mut stays = mosquitto("mosquitto_sub", port, &stays).spawn().expect("it is installed");
    let said = forebay.log_after("adapt connection", || passwd(&users, "second", "two"));
    assert!(said.contains("nodes untouched"), "{said}");
    until("the new user gets in", || login("second", "two"));
    until("who was there gets what it publishes", || {
        login("second", "two") && stays.try_wait().is_ok_and(|ended| ended.is_some())
    });
    assert!(stays.wait().expect("it ends").success());
    // One who is deleted does not get in any more, and what is no user is not.
    let output = forebay_passwd(&users, "second");
    assert!(output.status.success());
    until("who was deleted is kept out", || !login("second", "two"));
    let output = forebay_passwd(&users, "second");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no user `second` is in "));
}

#[test]
fn a_password_that_is_typed_at_a_terminal_is_not_shown_and_asked_for_twice() {
    let folder = Folder::new();
    let users = folder.path().join("users");
    let typed = |first: &str, again: &str| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/at_a_terminal.py");
        let mut command = command(python());
        command.arg(script).args([first, again, env!("CARGO_BIN_EXE_forebay"), "passwd", "plc"]);
        let output = command.arg("--file").arg(&users).output().expect("it is installed");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (is_done, shown) = typed("hunter2", "hunter2");
    assert!(is_done && shown == "Password: \r\nOnce more: \r\n", "{shown:?}");
    let made = fs::read_to_string(&users).expect("it is there");
    assert!(made.starts_with("plc:$7$"), "{made}");
    let (is_done, shown) = typed("hunter2", "hunter3");
    assert!(!is_done && shown.contains("the two passwords are not the same"), "{shown:?}");
    assert!(!shown.contains("hunter"), "{shown:?}");
    assert_eq!(fs::read_to_string(&users).expect("it is there"), made);
}

fn forebay_passwd(users: &Path, user: &str) -> std::process::Output {
    let file = users.display().to_string();
    forebay(["passwd", "--delete", "--file", &file, user])
}
