//! The broker that everybody knows, and its command-line clients.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, ChildStdin, Stdio},
};

use tempfile::TempDir;

use super::{command, find, free_port, kill, lines::Lines, send_signal, spawn, until, wait_exit};

/// A Mosquitto of our own. Ends with the test.
pub struct Mosquitto {
    process: Option<Child>,
    /// Everything that it logs, over all its restarts.
    pub log: Lines,
    pub port: u16,
    /// More lines of its configuration.
    more: String,
    folder: TempDir,
}

/// Where a Mosquitto speaks TLS.
pub struct TlsListener {
    pub port: u16,
    /// Whom to trust, as PEM text.
    pub ca: String,
}

impl Mosquitto {
    /// Keeps sessions and retained messages on disk, at a proper stop.
    #[track_caller]
    pub fn start() -> Mosquitto {
        let mut mosquitto = Mosquitto::stopped();
        mosquitto.resume();
        mosquitto
    }

    /// One with more lines in its configuration.
    #[track_caller]
    pub fn start_with(more: &str) -> Mosquitto {
        let mut mosquitto = Mosquitto::stopped();
        mosquitto.more = more.to_owned();
        mosquitto.resume();
        mosquitto
    }

    /// One that sends each answer at once, and not only when the one before was confirmed.
    #[track_caller]
    pub fn start_prompt() -> Mosquitto {
        Mosquitto::start_with("set_tcp_nodelay true\n")
    }

    /// One that lets everybody publish, and subscribe to these filters only. Its own lists of rights
    /// refuse no subscription; its plugin for rights does.
    #[track_caller]
    pub fn start_granting(filters: &[&str]) -> Mosquitto {
        let mut mosquitto = Mosquitto::stopped();
        let grant = |filter: &&str| {
            format!(r#"{{"acltype":"subscribePattern","topic":"{filter}","allow":true}}"#)
        };
        let grants = filters.iter().map(grant).collect::<Vec<_>>().join(",");
        let rights = format!(
            r#"{{"defaultACLAccess":{{"publishClientSend":true,"publishClientReceive":true,
            "subscribe":false,"unsubscribe":true}},"clients":[],"anonymousGroup":"all",
            "groups":[{{"groupname":"all","roles":[{{"rolename":"some"}}],"clients":[]}}],
            "roles":[{{"rolename":"some","acls":[{grants}]}}]}}"#
        );
        let place = mosquitto.place("rights.json");
        fs::write(&place, rights).expect("writing a test file");
        let folders = fs::read_dir("/usr/lib").expect("the system has libraries").flatten();
        let mut plugins = folders.map(|folder| folder.path().join("mosquitto_dynamic_security.so"));
        let plugin = plugins.find(|plugin| plugin.exists()).expect("mosquitto brings it along");
        mosquitto.more =
            format!("plugin {}\nplugin_opt_config_file {}\n", plugin.display(), place.display());
        mosquitto.resume();
        mosquitto
    }

    /// One that does not run yet, with its port chosen.
    pub fn stopped() -> Mosquitto {
        let folder = tempfile::tempdir().expect("the system has a folder for temporary files");
        let (port, more) = (free_port(), String::new());
        Mosquitto { process: None, log: Lines::default(), port, more, folder }
    }

    /// One that also speaks TLS, at another port and with a certificate made just now.
    #[track_caller]
    pub fn start_with_tls() -> (Mosquitto, TlsListener) {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let made = made.expect("making a certificate");
        let mut mosquitto = Mosquitto::stopped();
        let (cert, key) = (mosquitto.place("cert.pem"), mosquitto.place("key.pem"));
        fs::write(&cert, made.cert.pem()).expect("writing a test file");
        fs::write(&key, made.signing_key.serialize_pem()).expect("writing a test file");
        let tls = TlsListener { port: free_port(), ca: made.cert.pem() };
        mosquitto.more = format!(
            "listener {} 127.0.0.1\ncertfile {}\nkeyfile {}\n",
            tls.port,
            cert.display(),
            key.display()
        );
        mosquitto.resume();
        (mosquitto, tls)
    }

    fn place(&self, file: &str) -> std::path::PathBuf {
        self.folder.path().join(file)
    }

    /// Starts it, with what it kept on disk.
    #[track_caller]
    pub fn resume(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let config = self.place("mosquitto.conf");
        let (port, store) = (self.port, self.folder.path().display());
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest stderr\n\
             log_type all\nconnection_messages true\nmax_queued_messages 0\n\
             persistence true\npersistence_location {store}/\n{}",
            self.more
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
        let _ = fs::remove_file(self.place("mosquitto.db"));
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

/// Asks with `mosquitto_rr`, in MQTT 5, and waits for the answer: its payload, correlation data and user
/// properties.
#[track_caller]
pub fn ask(port: u16, topic: &str, payload: &str, options: &[&str]) -> String {
    let mut command = command("mosquitto_rr");
    command.args(["-V", "5", "-h", "127.0.0.1", "-p", &port.to_string(), "-W", "60"]);
    command.args(["-t", topic, "-e", "answers/7", "-m", payload, "-F", "%p %D %P"]);
    let mut process = spawn(command.args(options).stdout(Stdio::piped()));
    let mut output = process.stdout.take().expect("stdout is piped");
    assert!(wait_exit(&mut process, "mosquitto_rr ends").success(), "an answer to {topic}");
    let mut answer = String::new();
    output.read_to_string(&mut answer).expect("it is text");
    answer
}

/// A `mosquitto_pub` that publishes line after line.
pub struct Publisher {
    process: Child,
    input: ChildStdin,
}

impl Publisher {
    #[track_caller]
    pub fn to(port: u16, topic: &str) -> Publisher {
        Publisher::at_qos(port, topic, 1)
    }

    #[track_caller]
    pub fn at_qos(port: u16, topic: &str, qos: u8) -> Publisher {
        let mut command = command("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", topic, "-l", "-q"]);
        command.arg(qos.to_string());
        let mut process = spawn(command.stdin(Stdio::piped()));
        let input = process.stdin.take().expect("stdin is piped");
        Publisher { process, input }
    }

    /// Publishes a line, some time soon.
    #[track_caller]
    pub fn send(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("mosquitto_pub runs");
    }

    /// Returns once the broker has everything.
    #[track_caller]
    pub fn finish(mut self) {
        drop(self.input);
        assert!(wait_exit(&mut self.process, "mosquitto_pub ends").success(), "publishing lines");
    }
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
        Subscriber::with(port, topic, &[])
    }

    /// One whom the broker remembers while it is not connected, and so while the broker restarts.
    #[track_caller]
    pub fn remembered(port: u16, topic: &str) -> Subscriber {
        Subscriber::with(port, topic, &["-i", "subscriber", "-c"])
    }

    #[track_caller]
    fn with(port: u16, topic: &str, options: &[&str]) -> Subscriber {
        // Else it keeps its lines to itself until a message comes.
        let mut command = command("stdbuf");
        command.arg("-oL").arg(find("mosquitto_sub"));
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", topic]);
        command.args(["-q", "2", "-d", "-F", "%q\t%r\t%t\t%p"]).args(options);
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
        // The end of a line is cut off, and so an empty payload is no part.
        let payload = parts.next().unwrap_or_default().to_owned();
        Some(Got { topic, payload, qos, retained })
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}
