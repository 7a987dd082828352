//! Data flow from real devices to real brokers, while people edit the files.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    Folder, Forebay, ModbusServer, Mosquitto, Subscriber, WebServer, free_port, orders, publish,
    throughout, until,
};

/// A meter to a broker, through the script `load.rhai`.
fn meter_to_broker(meter: &ModbusServer, broker: &Mosquitto) -> String {
    format!(
        "connections:
  bus: {{ type: modbus, url: 'tcp://127.0.0.1:{}' }}
  cloud: {{ type: mqtt, url: '{}', client_id: forebay }}
sources:
  meter:
    type: modbus
    connection: bus
    every: 100ms
    registers:
      - {{ name: volts, input: 0x0000, kind: f32, unit: V }}
      - {{ name: amps, input: 0x0006, kind: f32 }}
      - {{ name: power, input: 0x0034, kind: f32, scale: 0.001 }}
      - {{ name: frequency, input: 0x0046, kind: f32 }}
      - {{ name: readings, input: 0x0048, kind: f32 }}
transforms:
  load: {{ from: meter, type: script, script: load.rhai }}
sinks:
  plant: {{ from: load, type: mqtt, connection: cloud, topic: site/a/meter, qos: 1 }}
",
        meter.port,
        broker.url()
    )
}

#[test]
fn values_arrive_at_the_broker_as_the_meter_shows_them() {
    let (meter, broker) = (ModbusServer::start(), Mosquitto::start());
    let subscriber = Subscriber::to(broker.port, "#");
    let folder = Folder::with(&[
        ("load.rhai", "msg.payload.percent = round(msg.payload.amps / 63.0 * 100.0, 1);\nmsg\n"),
        ("plant.yaml", &meter_to_broker(&meter, &broker)),
    ]);
    let _forebay = Forebay::run(folder.path());

    let got = subscriber.wait_for("values", |_| true);

    assert_eq!((&*got.topic, got.qos, got.retained), ("site/a/meter", 1, false));
    assert_eq!(
        got.payload,
        r#"{"volts":230.1,"amps":12.6,"power":1.402,"frequency":50.02,"readings":1.0,"percent":20.0}"#
    );
    until("one connection to the meter", || meter.connections() == 1);
}

/// How changes get into a folder.
trait Editor {
    fn folder(&self) -> &Path;
    fn put(&mut self, file: &str, text: &str);
    fn remove(&mut self, file: &str);
}

/// Writes into the files, as `cp` and simple editors do.
struct InPlace(Folder);

impl Editor for InPlace {
    fn folder(&self) -> &Path {
        self.0.path()
    }
    fn put(&mut self, file: &str, text: &str) {
        self.0.write(file, text);
    }
    fn remove(&mut self, file: &str) {
        self.0.remove(file);
    }
}

/// Renames a new file over the old one, as vim and rsync do.
struct Renaming(Folder);

impl Editor for Renaming {
    fn folder(&self) -> &Path {
        self.0.path()
    }
    fn put(&mut self, file: &str, text: &str) {
        self.0.replace(file, text);
    }
    fn remove(&mut self, file: &str) {
        self.0.remove(file);
    }
}

/// Does what Kubernetes does with a ConfigMap: each change is a new folder with all files, and then
/// the link `..data` points there. The files themselves are links through `..data`.
struct Kubernetes {
    folder: Folder,
    files: BTreeMap<String, String>,
    generation: u32,
}

impl Kubernetes {
    fn new() -> Kubernetes {
        Kubernetes { folder: Folder::new(), files: BTreeMap::new(), generation: 0 }
    }

    fn swap(&mut self) {
        let before = format!("..{}", self.generation);
        self.generation += 1;
        for (file, text) in &self.files {
            self.folder.write(&format!("..{}/{file}", self.generation), text);
        }
        self.folder.link("..data", &format!("..{}", self.generation));
        // Not there the first time.
        let _ = fs::remove_dir_all(self.folder.path().join(before));
    }
}

impl Editor for Kubernetes {
    fn folder(&self) -> &Path {
        self.folder.path()
    }
    fn put(&mut self, file: &str, text: &str) {
        let is_new = self.files.insert(file.to_owned(), text.to_owned()).is_none();
        self.swap();
        if is_new {
            self.folder.link(file, &format!("..data/{file}"));
        }
    }
    fn remove(&mut self, file: &str) {
        self.files.remove(file);
        self.swap();
        self.folder.remove(file);
    }
}

#[test]
fn an_edit_in_place_takes_over_without_a_gap() {
    check_edits(InPlace(Folder::new()), &[]);
}

#[test]
fn an_edit_by_rename_takes_over_without_a_gap() {
    check_edits(Renaming(Folder::new()), &[]);
}

#[test]
fn a_swapped_link_of_kubernetes_takes_over_without_a_gap() {
    check_edits(Kubernetes::new(), &[]);
}

#[test]
fn an_edit_is_seen_by_the_poll_alone() {
    check_edits(InPlace(Folder::new()), &["--poll"]);
}

/// Edits the script, breaks it, repairs it; removes the pipeline and brings it back.
#[track_caller]
fn check_edits(mut editor: impl Editor, arguments: &[&str]) {
    let (meter, broker) = (ModbusServer::start(), Mosquitto::start());
    let subscriber = Subscriber::to(broker.port, "#");
    let pipeline = meter_to_broker(&meter, &broker);
    editor.put("load.rhai", "msg.payload.version = 1;\nmsg\n");
    editor.put("plant.yaml", &pipeline);
    let forebay = Forebay::run_with(editor.folder(), arguments);
    let wait_for_version = |version: u64| {
        let is_it = |payload: &str| json_of(payload)["version"] == version;
        subscriber.wait_for_new(&format!("version {version}"), |got| is_it(&got.payload));
    };
    wait_for_version(1);

    forebay.log_after("reloaded: replace plant/load; 2 nodes untouched", || {
        editor.put("load.rhai", "msg.payload.version = 2;\nmsg\n");
    });
    wait_for_version(2);

    let broken = "msg.payload.version = 3;\nmsg.payload.wrong = ;\nmsg\n";
    forebay
        .log_after("; still running the pipelines loaded at ", || editor.put("load.rhai", broken));
    forebay.wait_for_log("error[script-syntax]: script cannot be read");
    forebay.wait_for_log("load.rhai:2:21");
    wait_for_version(2);

    forebay.log_after("reloaded: replace plant/load; 2 nodes untouched", || {
        editor.put("load.rhai", "msg.payload.version = 4;\nmsg\n");
    });
    wait_for_version(4);

    let readings: Vec<Value> =
        subscriber.payloads().iter().map(|payload| json_of(payload)["readings"].clone()).collect();
    let each_once: Vec<Value> = (1..=readings.len()).map(|n| json!(n as f64)).collect();
    assert_eq!(readings, each_once, "readings that were missed or came twice");
    until("one connection to the meter", || meter.connections() == 1);
    until("one connection to the broker", || broker.connections_of("forebay") == 1);

    let line = forebay.log_after("reloaded: stop ", || editor.remove("plant.yaml"));
    assert!(
        line.contains("stop plant/load plant/meter plant/plant, stop connection bus cloud"),
        "{line}"
    );
    // Behind everything that was on its way.
    publish(broker.port, "marker", "{}", &[]);
    subscriber.wait_for("the marker", |got| got.topic == "marker");
    throughout(Duration::from_millis(500), "nothing is published", || {
        subscriber.got().last().is_some_and(|got| got.topic == "marker")
    });

    forebay.log_after("reloaded: start connection bus cloud", || {
        editor.put("plant.yaml", &pipeline);
    });
    wait_for_version(4);
    until("the second connection to the meter", || meter.connections() == 2);
}

fn json_of(payload: &str) -> Value {
    serde_json::from_str(payload).unwrap_or_else(|error| panic!("{payload}: {error}"))
}

#[test]
fn a_message_is_acknowledged_only_once_the_service_has_it() {
    let (broker, service) = (Mosquitto::start(), WebServer::start());
    service.shut();
    let folder = Folder::with(&[("a.yaml", &orders(&broker.url(), &service.url()))]);
    let _forebay = Forebay::run(folder.path());
    until("subscribed", || broker.log.count_of("Sending SUBACK to forebay") == 1);

    publish(broker.port, "order/1", r#"{"n":1}"#, &["-q", "1"]);
    until("sent on", || broker.sent_to("forebay") == 1);
    throughout(
        Duration::from_millis(500),
        "the service took nothing, and nothing is settled",
        || broker.acknowledged_by("forebay") == 0 && service.bodies.count() == 0,
    );
    service.open();

    until("settled", || broker.acknowledged_by("forebay") == 1);
    assert_eq!(service.bodies.all(), [r#"{"n":1}"#]);
}

#[test]
fn what_was_not_delivered_comes_again_after_a_power_cut() {
    let broker = Mosquitto::start();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/");
    let folder = Folder::with(&[("a.yaml", &orders(&broker.url(), &url))]);
    let mut forebay = Forebay::run(folder.path());
    until("subscribed", || broker.log.count_of("Sending SUBACK to forebay") == 1);
    for n in 1..=5 {
        publish(broker.port, "order", &format!(r#"{{"n":{n}}}"#), &["-q", "1"]);
    }
    until("all are on their way", || broker.sent_to("forebay") == 5);
    forebay.wait_for_log("will try again");
    assert_eq!(broker.acknowledged_by("forebay"), 0);

    forebay.kill();
    let service = WebServer::start_at(port);
    let _forebay = Forebay::run(folder.path());

    let wanted: Vec<_> = (1..=5).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    until("all arrived", || service.bodies.count() >= 5);
    assert_eq!(service.bodies.all(), wanted);
    until("all settled", || broker.acknowledged_by("forebay") == 5);
}

#[test]
fn batches_arrive_at_a_web_service_with_their_headers() {
    let service = WebServer::start();
    let folder = Folder::with(&[(
        "a.yaml",
        &format!(
            "sources:
  beat: {{ type: timer, every: 20ms }}
sinks:
  service:
    from: beat
    type: http
    url: '{}'
    headers: {{ X-Site: site-a }}
    body: array
    batch: {{ max_messages: 3, max_wait: 10s }}
",
            service.url()
        ),
    )]);
    let _forebay = Forebay::run(folder.path());

    until("two batches", || service.bodies.count() >= 2);
    let bodies = service.bodies.all();
    assert_eq!(bodies[0], r#"[{"count":1},{"count":2},{"count":3}]"#);
    assert_eq!(bodies[1], r#"[{"count":4},{"count":5},{"count":6}]"#);
    let headers = service.headers.all();
    for wanted in ["x-site: site-a", "content-type: application/json"] {
        assert!(headers.iter().any(|header| header == wanted), "{wanted} in {headers:?}");
    }
}

#[test]
fn lines_of_a_file_are_messages_in_order() {
    let folder = Folder::new();
    let text = format!(
        "sources:
  beat: {{ type: timer, every: 20ms }}
sinks:
  day-book: {{ from: beat, type: file, path: '{}' }}
",
        folder.path().join("out/beat.jsonl").display()
    );
    folder.write("a.yaml", &text);
    let _forebay = Forebay::run(folder.path());

    until("five lines", || folder.read("out/beat.jsonl").lines().count() > 5);
    let book = folder.read("out/beat.jsonl");
    for (line, n) in book.lines().take(5).zip(1..) {
        assert_eq!(line, format!(r#"{{"count":{n}}}"#));
    }
}

#[test]
fn the_embedded_broker_serves_clients_of_others_and_its_own_nodes() {
    let port = free_port();
    let folder = Folder::with(&[(
        "a.yaml",
        &format!(
            "connections:
  hall: {{ type: broker, listen: ['127.0.0.1:{port}'] }}
sources:
  readings: {{ type: mqtt, connection: hall, topics: [machine/+/reading], qos: 2 }}
transforms:
  judge:
    from: readings
    type: script
    script: |
      msg.topic = \"judged/\" + msg.payload.n;
      msg.payload.hot = msg.payload.temp > 80;
      msg
sinks:
  back: {{ from: judge, type: mqtt, connection: hall, qos: 1, retain: true }}
"
        ),
    )]);
    let _forebay = Forebay::run(folder.path());
    until("the broker listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let subscriber = Subscriber::to(port, "#");

    for (qos, version) in [("0", "mqttv311"), ("1", "mqttv5"), ("2", "mqttv311")] {
        let payload = format!(r#"{{"n":{qos},"temp":8{qos}}}"#);
        publish(port, "machine/a/reading", &payload, &["-q", qos, "-V", version]);
        let got = subscriber.wait_for("the original", |got| got.payload == payload);
        assert_eq!((&*got.topic, got.qos.to_string()), ("machine/a/reading", qos.to_owned()));
        let judged = format!("judged/{qos}");
        let got = subscriber.wait_for("the judgement", |got| got.topic == judged);
        assert_eq!((json_of(&got.payload)["hot"].clone(), got.qos), (json!(qos != "0"), 1));
    }

    publish(port, "machine/a/state", "on", &["-q", "1", "-r"]);
    let late = Subscriber::to(port, "#");
    let state = late.wait_for("the state", |got| got.topic == "machine/a/state");
    assert_eq!((&*state.payload, state.retained), ("on", true));
    assert!(late.wait_for("a judgement", |got| got.topic == "judged/2").retained);
}
