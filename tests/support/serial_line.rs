//! A serial line without wires: two devices, and what is written to one comes out of the other.

use std::{
    path::{Path, PathBuf},
    process::Child,
};

use tempfile::TempDir;

use super::{command, is_emulated, kill, spawn, until};

/// A pair of pseudo-terminals that `socat` connects.
pub struct SerialLine {
    process: Child,
    folder: TempDir,
}

impl SerialLine {
    /// None on an emulated processor: the emulator does not know how the speed of a line is set (`TCSETS2`).
    #[track_caller]
    pub fn new() -> Option<SerialLine> {
        if is_emulated() {
            return None;
        }
        let folder = tempfile::tempdir().expect("the system has a folder for temporary files");
        let process = connect(folder.path());
        Some(SerialLine { process, folder })
    }

    /// Pulls both ends out. The devices are gone.
    #[track_caller]
    pub fn pull_out(&mut self) {
        kill(&mut self.process);
        for end in [self.ours(), self.theirs()] {
            let _ = std::fs::remove_file(end);
        }
    }

    /// Plugs them in again: other devices by the same names.
    #[track_caller]
    pub fn plug_in(&mut self) {
        self.process = connect(self.folder.path());
    }

    /// The device of the program under test.
    pub fn ours(&self) -> PathBuf {
        self.folder.path().join("ours")
    }

    /// What `mbpoll` reads at our end, once nobody else is there.
    #[track_caller]
    pub fn read_holding_registers(&self, unit: u8, start: u16, count: u16) -> Vec<u16> {
        let mut client = command("mbpoll");
        client.args(["-m", "rtu", "-b", "19200", "-P", "none", "-0", "-1", "-q"]);
        client.args(["-a", &unit.to_string(), "-r", &start.to_string(), "-c", &count.to_string()]);
        let output = client.arg(self.ours()).output().expect("mbpoll starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let values = text.lines().filter(|line| line.starts_with('['));
        let values =
            values.filter_map(|line| line.rsplit(char::is_whitespace).next()?.parse().ok());
        values.collect()
    }

    /// The device of the peer.
    pub fn theirs(&self) -> PathBuf {
        self.folder.path().join("theirs")
    }
}

#[track_caller]
fn connect(folder: &Path) -> Child {
    let end = |name: &str| format!("pty,raw,echo=0,link={}", folder.join(name).display());
    let process = spawn(command("socat").arg(end("ours")).arg(end("theirs")));
    let both = || folder.join("ours").exists() && folder.join("theirs").exists();
    until("both ends of the line", both);
    process
}

impl Drop for SerialLine {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}
