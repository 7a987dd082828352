//! A router with RutOS, played by Python.

use std::{
    io::Write,
    path::Path,
    process::{Child, ChildStdin, Stdio},
};

use serde_json::Value;

use super::{command, kill, lines::Lines, openssl::Certificates, python, spawn};

/// A router that shows a certificate of its own making. See `rutos.py`.
pub struct Rutos {
    process: Child,
    input: ChildStdin,
    log: Lines,
    pub port: u16,
    /// SHA-256 of its certificate.
    pub fingerprint: String,
    _certificates: Certificates,
}

impl Rutos {
    #[track_caller]
    pub fn start() -> Rutos {
        let certificates = Certificates::new();
        certificates.authority("router");
        let script = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/rutos.py"));
        let mut player = command(python());
        player.arg(script);
        player.args([certificates.shown("router", "pem"), certificates.shown("router", "key")]);
        let mut process = spawn(player.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let log = Lines::default();
        log.collect(process.stdout.take().expect("stdout is piped"));
        let input = process.stdin.take().expect("stdin is piped");
        let said = |what: &str| {
            let (_, line) = log.wait_for(what, 0, |line| line.starts_with(what));
            line[what.len() + 1..].to_owned()
        };
        let fingerprint = said("fingerprint");
        let port = said("listening").parse().expect("the script prints a port");
        Rutos { process, input, log, port, fingerprint, _certificates: certificates }
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// From now on this stands at a path.
    pub fn put(&mut self, path: &str, data: &Value) {
        writeln!(self.input, "{path} {data}").expect("it runs");
    }

    /// Waits for a request that does something, from the beginning on. Returns it with its body.
    #[track_caller]
    pub fn wait_for(&self, request: &str) -> String {
        self.log.wait_for(request, 0, |line| line.starts_with(request)).1
    }

    /// How many lines it printed that begin so.
    pub fn count(&self, start: &str) -> usize {
        self.log.all().iter().filter(|line| line.starts_with(start)).count()
    }
}

impl Drop for Rutos {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}
