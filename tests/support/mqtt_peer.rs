//! What the libraries of others make of payloads over MQTT. See `mqtt_peer.py`.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{command, kill, lines::Lines, python, spawn, wait_exit};

/// A subscriber that reads payloads.
pub struct Reader {
    process: Child,
    lines: Lines,
}

impl Reader {
    /// Subscribes, and waits until the broker has agreed. `how` is the format and the compression.
    #[track_caller]
    pub fn to(port: u16, filter: &str, how: [&str; 2]) -> Reader {
        let mut process = spawn(peer("subscribe", port, filter, how).stdout(Stdio::piped()));
        let lines = Lines::default();
        lines.collect(process.stdout.take().expect("stdout is piped"));
        let reader = Reader { process, lines };
        reader.lines.wait_for("answer to the subscription", 0, |line| line == "subscribed");
        reader
    }

    /// All messages so far: topic, tab, value as JSON with its fields in order.
    pub fn got(&self) -> Vec<String> {
        self.lines.all().into_iter().filter(|line| line.contains('\t')).collect()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}

/// Publishes a value, which is given as JSON. Returns once the broker has it.
#[track_caller]
pub fn publish_value(port: u16, topic: &str, how: [&str; 2], json: &str) {
    let mut process = spawn(peer("publish", port, topic, how).arg(json));
    assert!(wait_exit(&mut process, "the publisher ends").success(), "publishing to {topic}");
}

fn peer(verb: &str, port: u16, topic: &str, how: [&str; 2]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/mqtt_peer.py");
    let mut peer = command(python());
    peer.arg(script).args([verb, &port.to_string(), topic]).args(how);
    peer
}
