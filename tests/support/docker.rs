//! A Docker engine of our own, with the image that the `Dockerfile` makes.
//!
//! The engine keeps what it has built beside the test tools, so that only the first build takes long. Needs root and
//! control groups; `FOREBAY_LONG=1 tests/run` installs it.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard},
};

use tempfile::TempDir;

use super::{is_long, lines::Lines, send_signal, spawn, test_tools, until, wait_exit};

/// One at a time: all have one store of images.
static ENGINE: Mutex<()> = Mutex::new(());
/// The name of the image.
pub const IMAGE: &str = "forebay:test";
/// Debian's, which can build; another client before it on the way may not.
const CLIENT: &str = "/usr/bin/docker";

/// A running engine. Ends with the test, and all of its containers with it.
pub struct Docker {
    process: Child,
    /// Its socket, and what it keeps for its life only.
    place: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Docker {
    /// Starts an engine and builds the image, unless `FOREBAY_IMAGE` says that it was built before. None, with a line
    /// that says so, where that cannot be.
    #[track_caller]
    pub fn with_image() -> Option<Docker> {
        if !is_long() {
            eprintln!(
                "skipped: a container's build takes long; `FOREBAY_LONG=1 tests/run` does it"
            );
            return None;
        }
        let docker = Docker::start()?;
        if std::env::var_os("FOREBAY_IMAGE").is_some() {
            return Some(docker);
        }
        docker.import_toolchain();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let built = docker
            .command(&["build", "--network", "host", "--quiet", "-t", IMAGE])
            .arg(root)
            .env("DOCKER_BUILDKIT", "1")
            .output()
            .expect("the client starts");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Some(docker)
    }

    #[track_caller]
    fn start() -> Option<Docker> {
        let alone = ENGINE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let dockerd = Path::new("/usr/sbin/dockerd");
        if !dockerd.exists() || !rustix::process::getuid().is_root() {
            eprintln!(
                "skipped: no Docker engine can be started here: it needs root, and `dockerd`"
            );
            return None;
        }
        let place = tempfile::tempdir().expect("the system has a folder for temporary files");
        let mut command = Command::new(dockerd);
        // Containers share the network of this machine, as on a router; nothing of its firewall is touched.
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--data-root"]);
        command.arg(test_tools().join("docker")).arg("--exec-root").arg(place.path().join("exec"));
        command.arg("--pidfile").arg(place.path().join("pid"));
        command.arg("--host").arg(format!("unix://{}/socket", place.path().display()));
        // Asked to end, it ends its containers first; so it is not killed with the thread that started it.
        let mut process = spawn(command.stdin(Stdio::null()).stderr(Stdio::piped()));
        let log = Lines::default();
        log.collect(process.stderr.take().expect("it is piped"));
        let mut ended = false;
        until("the engine listens, or ends", || {
            ended = process.try_wait().expect("it is ours").is_some();
            ended || log.count_of("API listen on") == 1
        });
        if ended {
            let why = log.all().pop().unwrap_or_default();
            eprintln!("skipped: no Docker engine can run here: {why}");
            return None;
        }
        Some(Docker { process, place, _alone: alone })
    }

    /// The image that ours begins with: from where everybody has it, or made here of what it is made of, where no
    /// registry can be reached.
    #[track_caller]
    fn import_toolchain(&self) {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile"));
        let text = text.expect("it is in the repository");
        let name =
            text.lines().find_map(|line| line.strip_prefix("FROM --platform=$BUILDPLATFORM "));
        let name =
            name.and_then(|rest| rest.split(' ').next()).expect("it begins with a toolchain");
        let has = |verb: &[&str]| self.command(verb).arg(name).output().expect("the client starts");
        if has(&["image", "inspect"]).status.success() || has(&["pull"]).status.success() {
            return;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/toolchain_image");
        let made =
            Command::new(script).args([CLIENT, name]).env("DOCKER_HOST", self.host()).output();
        let made = made.expect("there is a shell");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn host(&self) -> String {
        format!("unix://{}/socket", self.place.path().display())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CLIENT);
        command.args(arguments).stdin(Stdio::null()).env("DOCKER_HOST", self.host());
        command
    }

    /// Runs the client, and gives what it printed.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> String {
        let output = self.try_ask(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs the client, whatever comes of it.
    #[track_caller]
    pub fn try_ask(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the client starts")
    }

    /// Runs the image the way that the README says, with as little as it has said to need.
    #[track_caller]
    pub fn run(&self, options: &[&str]) -> Container<'_> {
        let mut arguments = vec!["run", "--detach", "--network=host", "--memory=64m"];
        arguments.extend(["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]);
        arguments.extend(["--log-driver=local", "--log-opt=max-size=1m", "--health-interval=1s"]);
        arguments.extend(options);
        arguments.push(IMAGE);
        Container { docker: self, id: self.ask(&arguments) }
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let left = self.command(&["ps", "--all", "--quiet"]).output();
        let left = left.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for id in left.unwrap_or_default().split_whitespace() {
            let _ = self.command(&["rm", "--force", "--volumes", id]).output();
        }
        send_signal(&self.process, "TERM");
        wait_exit(&mut self.process, "the engine ends");
    }
}

/// A container of the image. Ends with the engine.
pub struct Container<'a> {
    docker: &'a Docker,
    pub id: String,
}

impl Container<'_> {
    /// All that it has logged.
    #[track_caller]
    pub fn log(&self) -> String {
        let output = self.docker.try_ask(&["logs", &self.id]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        format!("{}{}", text(&output.stdout), text(&output.stderr))
    }

    /// Waits until it has logged a text so often.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str, times: usize) {
        let mut log = String::new();
        until(&format!("`{text}` in the log, {times} times"), || {
            log = self.log();
            log.matches(text).count() >= times
        });
    }

    /// What the engine knows of it: `.State.Health.Status`.
    #[track_caller]
    pub fn inspect(&self, field: &str) -> String {
        self.docker.ask(&["inspect", "--format", &format!("{{{{{field}}}}}"), &self.id])
    }

    /// Runs the program once more inside of it.
    #[track_caller]
    pub fn forebay(&self, arguments: &[&str]) -> Output {
        let exec = [["exec", &self.id, "/forebay"].as_slice(), arguments].concat();
        self.docker.try_ask(&exec)
    }

    /// The most memory that it has taken, in bytes, with the files that it has read.
    #[track_caller]
    pub fn memory(&self) -> Memory {
        let pid = self.inspect(".State.Pid");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.expect("Linux writes numbers there") * 1024
        };
        Memory { now: field("VmRSS:"), most: field("VmHWM:") }
    }
}

/// Resident memory of the program, in bytes.
pub struct Memory {
    pub now: u64,
    pub most: u64,
}
