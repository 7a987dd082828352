//! The program in namespaces of its own: a small disk, a disk that cannot be written, no network.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{Forebay, command, kill, lines::Lines, program, spawn};

/// Starts `forebay run` in new namespaces (`m` mounts, `n` network, as `unshare` names them), behind
/// a shell script that finds the data folder as `$DATA`. None, with a line that says so, where that
/// is not permitted.
#[track_caller]
pub fn start_inside(kinds: &str, script: &str, folder: &Path, data: &Path) -> Option<Forebay> {
    let Some(options) = permitted(kinds) else {
        eprintln!("skipped: new namespaces ({kinds}) are not permitted here");
        return None;
    };
    // Set again at the end: new rights clear it.
    let script = format!("set -e\n{script}\nexec setpriv --pdeathsig KILL -- \"$@\"");
    let inner = program();
    let mut command = Command::new("unshare");
    command.arg(options).args(["sh", "-c", &script, "sh"]).arg(inner.get_program());
    command.arg("run").arg(folder).arg("--data").arg(data).env("DATA", data);
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Some(Forebay::of(command))
}

/// Root may make namespaces as it is; others become the root of a user namespace first.
fn permitted(kinds: &str) -> Option<String> {
    let may = |options: &String| {
        let mut attempt = command("unshare");
        let attempt = attempt.arg(options).arg("true").stderr(Stdio::null());
        spawn(attempt).wait().is_ok_and(|status| status.success())
    };
    [format!("-{kinds}"), format!("-r{kinds}")].into_iter().find(may)
}

impl Forebay {
    /// A path as the program sees it in its namespace.
    pub fn sees(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.id()));
        root.join(path.strip_prefix("/").expect("tests have absolute paths"))
    }

    /// Runs a shell script in its namespaces.
    #[track_caller]
    pub fn shell_inside(&self, kinds: &str, script: &str) {
        let mut running = self.spawn_inside(kinds, script);
        let status = running.process.wait().expect("it was started");
        assert!(status.success(), "{script}:\n{}", running.log.all().join("\n"));
    }

    /// Starts a shell script in its namespaces.
    #[track_caller]
    pub fn spawn_inside(&self, kinds: &str, script: &str) -> Running {
        let mut process = spawn(self.enter(kinds, script).stderr(Stdio::piped()));
        let log = Lines::default();
        log.collect(process.stderr.take().expect("stderr is piped"));
        Running { process, log }
    }

    /// What starts a shell script in its namespaces.
    pub fn enter(&self, kinds: &str, script: &str) -> Command {
        let is_root = permitted(kinds).is_some_and(|options| !options.contains('r'));
        let user = if is_root { "" } else { "U" };
        let mut command = command("nsenter");
        command.args(["--preserve-credentials", "-t", &self.id().to_string()]);
        let kinds = format!("{user}{kinds}");
        command.args(kinds.chars().map(|kind| format!("-{kind}")));
        let script = format!("PATH=$PATH:/usr/sbin:/sbin\n{script}");
        command.args(["sh", "-ec", &script]);
        command
    }

    /// Starts a Mosquitto in its network.
    #[track_caller]
    pub fn mosquitto_inside(&self, kinds: &str, port: u16) -> Running {
        let config = "allow_anonymous true\nuser root\nlog_dest stderr\nlog_type all\n";
        let script = format!(
            "config=$(mktemp)\nprintf 'listener {port} 127.0.0.1\n{config}' >$config\n\
             exec setpriv --pdeathsig KILL mosquitto -c $config",
        );
        self.spawn_inside(kinds, &script)
    }
}

/// A process that ends with the test.
pub struct Running {
    process: Child,
    /// What it complains of.
    pub log: Lines,
}

impl Drop for Running {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}
