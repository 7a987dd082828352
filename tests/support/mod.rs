//! What the tests are made of: peers as processes, the program as a process, folders, deadlines.
//!
//! Nothing here waits for a fixed time: it waits for something to be seen, until a deadline.

mod aedes;
mod browser;
mod cutter;
mod docker;
mod folder;
mod forebay;
mod language_server;
mod lines;
mod machine;
mod modbus_server;
mod modem_manager;
mod mosquitto;
mod mqtt_peer;
mod namespace;
mod openssl;
mod pipelines;
mod proxy;
mod rutos;
mod serial_line;
mod web_server;

use std::{
    ffi::OsStr,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

pub use self::{
    aedes::Aedes,
    browser::Browser,
    cutter::{By, Cutter},
    docker::{Container, Docker, IMAGE},
    folder::Folder,
    forebay::{Forebay, forebay, fresh_data_folder, program},
    language_server::LanguageServer,
    lines::Lines,
    machine::Machine,
    modbus_server::ModbusServer,
    modem_manager::ModemManager,
    mosquitto::{Mosquitto, Publisher, Subscriber, ask, publish},
    mqtt_peer::{Reader, publish_value},
    namespace::start_inside,
    openssl::{Certificates, Make, TlsServer},
    pipelines::{numbers, orders},
    proxy::Proxy,
    rutos::Rutos,
    serial_line::SerialLine,
    web_server::WebServer,
};

/// How long to wait at most. Ample: a machine that builds and tests at the same time is slow, and
/// after a long outage the program pauses for up to half a minute between two tries.
pub fn longest_wait() -> Duration {
    Duration::from_secs(if is_long() { 150 } else { 40 })
}

/// The time, for deadlines against real processes.
#[allow(clippy::disallowed_methods, reason = "other processes do not know tokio's clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Looks until the condition holds. Panics with what was wanted when it does not in time.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let longest = longest_wait();
    let deadline = now() + longest;
    while !holds() {
        assert!(now() < deadline, "waited {longest:?} in vain: {what}");
        look_again_soon();
    }
}

/// Watches for a while that the condition goes on to hold, for what must not happen.
#[track_caller]
pub fn throughout(span: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let end = now() + span;
    while now() < end {
        assert!(holds(), "did not stay so: {what}");
        look_again_soon();
    }
}

fn look_again_soon() {
    pause(Duration::from_millis(20));
}

/// Lets time pass: between two looks, or to a moment that is chosen at random. Never to give
/// something time to happen.
#[allow(clippy::disallowed_methods, reason = "the one place, and its use is said above")]
pub fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// A port of this machine that nobody listens at.
///
/// Below those that the system gives to outgoing connections: a client that tries a closed port of
/// its own machine again and again would at some time connect to itself.
pub fn free_port() -> u16 {
    free_listener().local_addr().expect("it listens").port()
}

/// Listens at such a port. Nobody can take it in between.
pub fn free_listener() -> TcpListener {
    const FIRST: u16 = 10_240;
    const COUNT: u16 = 22_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test runs beside each other begin at different places.
    let offset = (std::process::id() % 220) as u16 * 100;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (offset + step) % COUNT;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener;
        }
    }
}

/// The long forms of the tests: `FOREBAY_LONG=1`.
pub fn is_long() -> bool {
    std::env::var_os("FOREBAY_LONG").is_some_and(|value| value == "1")
}

/// Whether the program runs on an emulated processor, whose memory and threads would be measured in the place of its own:
/// `FOREBAY_ARM64=1`. Says that the test is skipped.
pub fn is_emulated() -> bool {
    let is_emulated = std::env::var_os("FOREBAY_ARM64").is_some_and(|value| value == "1");
    if is_emulated {
        eprintln!("skipped: it would be the emulator that this looks at");
    }
    is_emulated
}

/// A program that ends with the test that starts it, even when the test is killed.
#[track_caller]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(find(program)).stdin(Stdio::null());
    command
}

/// Looks for a program where the shell does, and where Debian hides those of root.
#[track_caller]
fn find(program: impl AsRef<OsStr>) -> PathBuf {
    let program = program.as_ref();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let mut places = folders.map(|folder| folder.join(program));
    places.find(|place| place.is_file()).unwrap_or_else(|| {
        let program = program.display();
        panic!("there is no {program}: run `tests/run` once, it installs what the tests need")
    })
}

#[track_caller]
pub fn spawn(command: &mut Command) -> Child {
    command.spawn().expect("`setpriv` is part of every Debian")
}

/// Sends a signal to a process that we started. By a system call: a bare Debian has no `kill`.
fn send_signal(process: &Child, signal: &str) {
    use rustix::process::{Pid, Signal, kill_process};
    let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("the id of a process");
    let signal = match signal {
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "HUP" => Signal::HUP,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        other => panic!("no test has sent {other} yet"),
    };
    kill_process(id, signal).expect("it runs, or waits to be asked for its end");
}

/// Waits for a process to end by itself.
#[track_caller]
fn wait_exit(process: &mut Child, what: &str) -> std::process::ExitStatus {
    let mut status = None;
    until(what, || {
        status = process.try_wait().expect("the process is ours");
        status.is_some()
    });
    status.expect("until() saw it")
}

/// Ends a process of ours at once.
pub fn kill(process: &mut Child) {
    // Errors say that it ended before.
    let _ = process.kill();
    let _ = process.wait();
}

/// The folder of what `tests/run` installs.
#[track_caller]
pub fn test_tools() -> PathBuf {
    let python = python();
    python.ancestors().nth(2).expect("it is in `bin` of the folder").to_owned()
}

/// The Python of the test tools, with pymodbus in it.
#[track_caller]
pub fn python() -> PathBuf {
    let built = || {
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("test-tools/bin/python")
    };
    let python = std::env::var_os("FOREBAY_TEST_PYTHON").map_or_else(built, PathBuf::from);
    assert!(
        python.exists(),
        "there is no {}: run `tests/run` once, it installs what this test needs",
        python.display()
    );
    python
}

/// Has Prometheus's own tool look at a text or at files, as in `promtool check metrics`. Panics with what it says.
#[track_caller]
pub fn promtool(what: &[&str], text: &str) {
    let place = Folder::with(&[("text", text)]);
    let mut command = Command::new(test_tools().join("promtool"));
    let text = std::fs::File::open(place.path().join("text")).expect("it was written");
    let output = command.args(what).stdin(text).output().expect("promtool starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What a reader that others wrote says about a report of that kind.
#[track_caller]
pub fn read_report(kind: &str, text: &str) -> String {
    let place = Folder::with(&[("report", text)]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/read_report.py");
    let mut command = Command::new(python());
    command.arg(script).arg(kind).arg(place.path().join("report"));
    let output = command.output().expect("the reader starts");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{text}\n{}", said(&output.stderr));
    said(&output.stdout)
}
