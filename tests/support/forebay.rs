//! The program under test, as a process.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

use super::{kill, lines::Lines, send_signal, spawn, wait_exit};

/// Runs the program until it ends by itself.
pub fn forebay<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    let mut command = program();
    command.args(arguments).stdin(Stdio::null());
    command.output().expect("the built program starts")
}

/// The built program, or what `FOREBAY_PROGRAM` names, such as one for another processor. Without what the
/// environment of the tests would tell it, and with a data folder of its own: what one accepts is not what
/// another falls back to.
pub fn program() -> Command {
    let built = || env!("CARGO_BIN_EXE_forebay").into();
    let mut command = Command::new(std::env::var_os("FOREBAY_PROGRAM").unwrap_or_else(built));
    command.env("NO_COLOR", "1").env_remove("FOREBAY_LOG").env("FOREBAY_DATA", fresh_data_folder());
    command
}

/// A data folder that is not there yet, where Cargo keeps what tests leave behind.
pub fn fresh_data_folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("data-{}-{number}", std::process::id());
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A running `forebay run`. Ends with the test.
pub struct Forebay {
    process: Child,
    /// What it logs, and what it prints.
    pub log: Lines,
    /// Its data folder, which goes away with it.
    _data: Option<TempDir>,
}

impl Forebay {
    /// Runs the folder and waits until its nodes are started.
    #[track_caller]
    pub fn run(folder: &Path) -> Forebay {
        Forebay::run_with(folder, &[])
    }

    /// The same, with more arguments.
    #[track_caller]
    pub fn run_with(folder: &Path, arguments: &[&str]) -> Forebay {
        let forebay = Forebay::start(folder, arguments);
        forebay.wait_for_log("running");
        forebay
    }

    /// Starts `forebay run` and waits for nothing.
    pub fn start(folder: &Path, arguments: &[&str]) -> Forebay {
        let data = tempfile::tempdir().expect("the system has a folder for temporary files");
        let mut forebay = Forebay::start_on(folder, data.path(), arguments);
        forebay._data = Some(data);
        forebay
    }

    /// Runs with a data folder that outlives it, and waits until its nodes are started.
    #[track_caller]
    pub fn run_on(folder: &Path, data: &Path) -> Forebay {
        let forebay = Forebay::start_on(folder, data, &[]);
        forebay.wait_for_log("running");
        forebay
    }

    /// The same, and waits for nothing.
    pub fn start_on(folder: &Path, data: &Path, arguments: &[&str]) -> Forebay {
        let mut command = program();
        command.arg("run").arg(folder).arg("--data").arg(data).args(arguments);
        Forebay::of(command)
    }

    /// Starts any verb, with arguments and variables: see [`program`].
    pub fn of(wanted: Command) -> Forebay {
        let mut command = super::command(wanted.get_program());
        command.args(wanted.get_args()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in wanted.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = wanted.get_current_dir() {
            command.current_dir(folder);
        }
        let mut process = spawn(&mut command);
        let log = Lines::default();
        log.collect(process.stderr.take().expect("stderr is piped"));
        log.collect(process.stdout.take().expect("stdout is piped"));
        Forebay { process, log, _data: None }
    }

    /// Waits for a line that contains the text, from the beginning of the log on.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        self.log.wait_for(&format!("`{text}` in the log"), 0, |line| line.contains(text)).1
    }

    /// Does something and waits for a line that it causes. Returns the line.
    #[track_caller]
    pub fn log_after(&self, text: &str, cause: impl FnOnce()) -> String {
        let from = self.log.count();
        cause();
        self.log.wait_for(&format!("`{text}` in the log"), from, |line| line.contains(text)).1
    }

    /// Sends a signal by name: `TERM`, `INT`, `HUP`, `KILL`.
    pub fn signal(&self, signal: &str) {
        send_signal(&self.process, signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        wait_exit(&mut self.process, "forebay ends")
    }

    /// Ends it without notice, as a power cut does.
    pub fn kill(&mut self) {
        kill(&mut self.process);
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it has not ended.
    pub fn is_alive(&mut self) -> bool {
        self.process.try_wait().is_ok_and(|status| status.is_none())
    }

    /// How many files, sockets and so on it holds open.
    pub fn open_files(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.process.id()));
        files.expect("it runs").count()
    }

    /// Resident memory.
    pub fn rss_bytes(&self) -> u64 {
        self.status("VmRSS:") * 1024
    }

    /// The most resident memory since its start.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.status("VmHWM:") * 1024
    }

    pub fn threads(&self) -> u64 {
        self.status("Threads:")
    }

    /// A number of `/proc/PID/status`.
    fn status(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let text = fs::read_to_string(path).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect("Linux writes numbers there")
    }
}

impl Drop for Forebay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of forebay\n{}\n---", self.log.all().join("\n"));
        }
        self.kill();
    }
}
