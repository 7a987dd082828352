//! The broker that everybody knows, and its command-line clients.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Stdio},
};

use tempfile::TempDir;

use super::{command, find, free_port, kill, lines::Lines, send_signal, spawn, until, wait_exit};

/// A Mosquitto of our own. Ends with the test.
pub struct Mosquitto {
    process: Option<Child>,
    /// Everything that it logs, over all its restarts.
    pub log: Lines,
    pub port: u16,
    folder: TempDir,
}

impl Mosquitto {
    /// Keeps sessions and retained messages on disk, at a proper stop.
    #[track_caller]
    pub fn start() -> Mosquitto {
        let mut mosquitto = Mosquitto::stopped();
        mosquitto.resume();
        mosquitto
    }

    /// One that does not run yet, with its port chosen.
    pub fn stopped() -> Mosquitto {
        let folder = tempfile::tempdir().expect("the system has a folder for temporary files");
        Mosquitto { process: None, log: Lines::default(), port: free_port(), folder }
    }

    /// Starts it, with what it kept on disk.
    #[track_caller]
    pub fn resume(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let config = self.folder.path().join("mosquitto.conf");
        let (port, store) = (self.port, self.folder.path().display());
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest stderr\n\
             log_type all\nconnection_messages true\npersistence true\n\
             persistence_location {store}/\n",
        );
        fs::write(&config, text).expect("writing a test file");
        let mut command = command("mosquitto");
        command.arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = spawn(&mut command);
        self.log.collect(process.stderr.take().expect("stderr is piped"));
        self.process = Some(process);
        until("mosquitto listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    /// Starts it as if for the first time: no sessions, no retained messages.
    #[track_caller]
    pub fn resume_fresh(&mut self) {
        let _ = fs::remove_file(self.folder.path().join("mosquitto.db"));
        self.resume();
    }

    /// Stops it properly: it writes down what it knows.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        send_signal(&process, "TERM");
        wait_exit(&mut process, "mosquitto ends");
    }

    /// Ends it without notice.
    pub fn kill(&mut self) {
        kill(&mut self.process.take().expect("it runs"));
    }

    /// Makes it silent, with all its sockets open.
    pub fn freeze(&self) {
        send_signal(self.process.as_ref().expect("it runs"), "STOP");
    }

    /// Goes on as if nothing had been.
    pub fn thaw(&self) {
        send_signal(self.process.as_ref().expect("it runs"), "CONT");
    }

    /// `mqtt://127.0.0.1:1883`
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// How many messages of QoS 1 a client has acknowledged.
    pub fn acknowledged_by(&self, client_id: &str) -> usize {
        self.log.count_of(&format!("Received PUBACK from {client_id} "))
    }

    /// How many messages were sent to a client.
    pub fn sent_to(&self, client_id: &str) -> usize {
        self.log.count_of(&format!("Sending PUBLISH to {client_id} "))
    }

    /// How often a client came.
    pub fn connections_of(&self, client_id: &str) -> usize {
        let came = |line: &String| {
            line.contains("New client") && line.contains(&format!(" as {client_id} "))
        };
        self.log.all().iter().filter(|line| came(line)).count()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            kill(&mut process);
        }
    }
}

/// Publishes with `mosquitto_pub`; at QoS 1 and 2 returns once the broker has it.
#[track_caller]
pub fn publish(port: u16, topic: &str, payload: &str, options: &[&str]) {
    let mut command = command("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", topic, "-m", payload]);
    let mut process = spawn(command.args(options));
    assert!(wait_exit(&mut process, "mosquitto_pub ends").success(), "publishing to {topic}");
}

/// A message as a subscriber got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub topic: String,
    pub payload: String,
    pub qos: u8,
    pub retained: bool,
}

/// A `mosquitto_sub`. It connects again by itself.
pub struct Subscriber {
    process: Child,
    lines: Lines,
}

impl Subscriber {
    /// Subscribes at QoS 2, so that messages come as they were published, and waits until the
    /// broker has agreed.
    #[track_caller]
    pub fn to(port: u16, topic: &str) -> Subscriber {
        // Else it keeps its lines to itself until a message comes.
        let mut command = command("stdbuf");
        command.arg("-oL").arg(find("mosquitto_sub"));
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", topic]);
        command.args(["-q", "2", "-d", "-F", "%q\t%r\t%t\t%p"]);
        let mut process = spawn(command.stdout(Stdio::piped()));
        let lines = Lines::default();
        lines.collect(process.stdout.take().expect("stdout is piped"));
        let subscriber = Subscriber { process, lines };
        let is_answer = |line: &str| line.starts_with("Subscribed");
        subscriber.lines.wait_for("answer to the subscription", 0, is_answer);
        subscriber
    }

    /// All messages so far.
    pub fn got(&self) -> Vec<Got> {
        self.lines.all().iter().filter_map(|line| Got::parse(line)).collect()
    }

    /// The payloads of all messages so far.
    pub fn payloads(&self) -> Vec<String> {
        self.got().into_iter().map(|got| got.payload).collect()
    }

    /// Waits for a message.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Got) -> bool) -> Got {
        self.wait_from(0, what, wanted)
    }

    /// Waits for a message that comes from now on.
    #[track_caller]
    pub fn wait_for_new(&self, what: &str, wanted: impl Fn(&Got) -> bool) -> Got {
        self.wait_from(self.lines.count(), what, wanted)
    }

    #[track_caller]
    fn wait_from(&self, from: usize, what: &str, wanted: impl Fn(&Got) -> bool) -> Got {
        let what = format!("message with {what}");
        let is_it = |line: &str| Got::parse(line).is_some_and(|got| wanted(&got));
        let (_, line) = self.lines.wait_for(&what, from, is_it);
        Got::parse(&line).expect("it was parsed just now")
    }
}

impl Got {
    fn parse(line: &str) -> Option<Got> {
        let mut parts = line.splitn(4, '\t');
        let qos = parts.next()?.parse().ok()?;
        let retained = parts.next()? == "1";
        let topic = parts.next()?.to_owned();
        Some(Got { topic, payload: parts.next()?.to_owned(), qos, retained })
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}
