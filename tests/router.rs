//! The pipelines in `pipelines/router` do what they say, with a router, a broker and a boiler that others play; and the
//! modem of a Linux machine is read of a bus and a ModemManager that others play.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::support::{
    Folder, Forebay, ModbusServer, ModemManager, Mosquitto, Rutos, Subscriber, fresh_data_folder,
    program, publish, until,
};

const GPS: &str = "/api/gps/position/status";
const IO: &str = "/api/io/status";
const MODEMS: &str = "/api/modems/status";

/// All of it.
struct Site {
    router: Rutos,
    broker: Mosquitto,
    boiler: ModbusServer,
    heard: Subscriber,
    folder: Folder,
    forebay: Option<Forebay>,
}

impl Site {
    /// With the files as they stand, but for how often the router is asked.
    fn start() -> Site {
        let mut router = Rutos::start();
        router.put(MODEMS, &modem(1_000, "Registered, home"));
        router.put(
            "/api/system/device/usage/status",
            &json!({ "uptime_seconds": 217_360, "load": { "min1": 0.42 } }),
        );
        router.put(
            "/api/system/device/status",
            &json!({ "static": { "fw_version": "RUTC_R_00.07.24.5" } }),
        );
        router.put(
            "/api/interfaces/status",
            &json!([{ "id": "mob1s1a1", "area_type": "wan", "up": true,
            "network_type": "mobile", "ipaddrs": ["10.1.2.3/32"] }]),
        );
        router.put(IO, &pins(false));
        router.put(GPS, &position(54.687, "1"));
        let broker = Mosquitto::start();
        let heard = Subscriber::to(broker.port, "site/a/#");
        let folder = Folder::new();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/router");
        for file in fs::read_dir(examples).unwrap() {
            let path = file.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let text = ["every: 5m", "every: 1m"]
                .iter()
                .fold(text, |text, every| text.replace(every, "every: 1s"));
            folder.write(path.file_name().unwrap().to_str().unwrap(), &text);
        }
        let boiler = ModbusServer::behind_gateway();
        Site { router, broker, boiler, heard, folder, forebay: None }
    }

    fn command(&self) -> Command {
        let mut command = program();
        command
            .env("ROUTER_URL", self.router.url())
            .env("ROUTER_PASSWORD", "secret-of-the-router")
            .env("ROUTER_FINGERPRINT", &self.router.fingerprint)
            .env("PLANT_BROKER", self.broker.url())
            .env("BOILER_URL", format!("rtu+tcp://127.0.0.1:{}", self.boiler.port));
        command
    }

    fn run(mut self) -> Site {
        let mut command = self.command();
        command.arg("run").arg(self.folder.path()).arg("--data").arg(fresh_data_folder());
        let forebay = Forebay::of(command);
        forebay.wait_for_log("running");
        self.forebay = Some(forebay);
        self
    }

    /// Waits for a message on a topic.
    #[track_caller]
    fn hears(&self, topic: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let value = |payload: &str| serde_json::from_str::<Value>(payload).unwrap_or_default();
        let got =
            self.heard.wait_for(topic, |got| got.topic == topic && is_it(&value(&got.payload)));
        value(&got.payload)
    }

    fn has_heard(&self, topic: &str) -> bool {
        self.heard.got().iter().any(|got| got.topic == topic)
    }
}

fn modem(bytes: u64, state: &str) -> Value {
    json!([{ "id": "2-1", "primary": true, "data_conn_state": "Connected", "ntype": "LTE", "rsrp": -83,
        "operator_state": state, "active_sim": 1, "txbytes": bytes, "rxbytes": bytes }])
}

fn pins(is_open: bool) -> Value {
    json!([{ "id": "din1", "value": if is_open { "1" } else { "0" } }, { "id": "dout1", "value": "0" }])
}

fn position(latitude: f64, fix: &str) -> Value {
    json!({ "fix_status": fix, "latitude": latitude.to_string(), "longitude": "25.279", "speed": "36.0",
        "satellites": "9" })
}

#[test]
fn the_health_of_the_router_reaches_the_broker_unless_it_roams() {
    let mut site = Site::start().run();
    let first = site.hears("site/a/router", |said| said.get("device").is_some());
    assert_eq!(first["signal"]["rsrp"], -83);
    assert_eq!(first["system"]["uptime"], 217_360);
    assert_eq!(first["wan"]["kind"], "mobile");
    assert_eq!(first["device"]["firmware"], "RUTC_R_00.07.24.5");
    assert_eq!(site.router.count("login"), 1);

    site.router.put(MODEMS, &modem(1_000, "Registered, roaming"));
    let forebay = site.forebay.as_ref().unwrap();
    forebay.wait_for_log("held back as long as link.roaming");
    site.router.put(MODEMS, &modem(1_000, "Registered, home"));
    site.hears("site/a/router", |said| said["signal"]["roaming"] == true);
}

#[test]
fn a_door_that_stands_open_is_told_to_the_broker_and_by_text_once() {
    let mut site = Site::start().run();
    site.hears("site/a/door", |said| said["open"] == false);
    site.router.put(IO, &pins(true));
    site.hears("site/a/door", |said| said["open"] == true);
    let alarm = site.hears("site/a/alarms", |said| said["alarm"] == "door/opened");
    assert_eq!((&alarm["state"], &alarm["active"]), (&json!("raised"), &json!(true)));
    let text = site.router.wait_for("POST /api/messages/actions/send");
    let expected = r#"{"data": {"modem": "2-1", "number": "+491701234567", "message": "The door of the pump house is open."}}"#;
    assert_eq!(text, format!("POST /api/messages/actions/send {expected}"));
    site.router.put(IO, &pins(false));
    site.hears("site/a/alarms", |said| said["state"] == "cleared");
    assert_eq!(site.router.count("POST"), 1, "there is no text when it is closed");
    assert!(!site.has_heard("site/a/alarms/unsent"));
}

#[test]
fn a_track_is_thinned_and_the_depot_is_left() {
    let mut site = Site::start().run();
    site.hears("site/a/position", |said| said["gps"]["latitude"] == 54.687);
    site.hears("site/a/depot", |said| said["geofence"]["event"] == "inside");
    // Some 333 m to the north, within the five seconds of a beat.
    site.router.put(GPS, &position(54.690, "1"));
    let moved = site.hears("site/a/position", |said| said["gps"]["latitude"] == 54.69);
    let distance = moved["track"]["distance"].as_f64().unwrap();
    assert!((330.0..337.0).contains(&distance), "{distance}");
    site.hears("site/a/depot", |said| said["geofence"]["event"] == "leave");
}

#[test]
fn commands_are_checked_carried_out_and_answered() {
    let site = Site::start().run();
    let port = site.broker.port;
    let subscribed = |topic: &str| site.broker.log.count_of(topic) > 0;
    until("it hears commands", || subscribed("site/a/pump/set") && subscribed("site/a/boiler/set"));
    publish(port, "site/a/pump/set", r#"{"dout1": true}"#, &["-q", "1"]);
    let done = site.hears("site/a/done", |said| said.get("done").is_some());
    assert_eq!(done["done"], json!([{ "action": "output", "output": "dout1", "value": true }]));
    let switched = site.router.wait_for("POST /api/io/dout1/actions/change_state");
    assert!(switched.ends_with(r#"{"data": {"value": "1"}}"#), "{switched}");

    publish(port, "site/a/boiler/set", r#"{"setpoint": 65.5}"#, &["-q", "1"]);
    let written = site.hears("site/a/done", |said| said.get("written").is_some());
    assert_eq!(written["written"], json!({ "setpoint": 65.5 }));
    site.boiler.wait_for("wrote 6 107 655");

    for (topic, command) in [
        ("site/a/pump/set", r#"{"dout2": true}"#),
        ("site/a/pump/set", "on"),
        ("site/a/boiler/set", r#"{"setpoint": 95}"#),
    ] {
        let before = site.heard.got().iter().filter(|got| got.topic == "site/a/refused").count();
        publish(port, topic, command, &["-q", "1"]);
        until("it is refused", || {
            site.heard.got().iter().filter(|got| got.topic == "site/a/refused").count() > before
        });
    }
    assert_eq!(site.router.count("POST"), 1);
}

#[test]
fn a_month_that_has_used_its_data_is_told_once() {
    let mut site = Site::start().run();
    let first = site.hears("site/a/data", |_| true);
    assert_eq!(first["data"]["month"], json!({ "up": 0, "down": 0 }));
    assert_eq!(first["data"]["total"], json!({ "up": 1_000, "down": 1_000 }));
    site.router.put(MODEMS, &modem(2_100_000_000, "Registered, home"));
    site.hears("site/a/alarms", |said| {
        said["alarm"] == "budget/budget" && said["state"] == "raised"
    });
    let text = site.router.wait_for("POST /api/messages/actions/send");
    assert!(text.contains("Site A has used 4 of its 5 GB of this month."), "{text}");
    site.router.put(MODEMS, &modem(2_200_000_000, "Registered, home"));
    site.hears("site/a/data", |_| true);
    assert_eq!(site.router.count("POST"), 1);
}

/// From the name to what the pipelines read and set, by the certificate that the router made itself.
#[test]
fn the_doctor_finds_such_a_router_well_and_a_changed_certificate_not() {
    let site = Site::start();
    let ask = |fingerprint: &str| {
        let mut command = site.command();
        command.env("ROUTER_FINGERPRINT", fingerprint);
        let output = command.args(["doctor", "router"]).arg(site.folder.path()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = ask(&site.router.fingerprint);
    assert_eq!(code, Some(0), "{said}");
    for expected in [
        "RutOS answers at /api",
        "`forebay` is let in",
        "there is an output `dout1`",
        "`sms` has modem 2-1",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    let (code, said) = ask(&"00".repeat(32));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is not trusted: it shows another certificate"), "{said}");
    assert_eq!((site.router.count("login"), site.router.count("POST")), (1, 0));
}

#[test]
fn the_modem_of_a_linux_machine_is_read_by_way_of_its_bus() {
    let root = Folder::with(&[
        ("proc/uptime", "217360.42 400000.00\n"),
        (
            "proc/1/net/dev",
            "Inter-| Receive | Transmit\n face |bytes packets\n wwan0:300 1 0 0 0 0 0 0 400 1 0 0 0 0 0 0\n",
        ),
    ]);
    let _manager = ModemManager::start(root.path());
    let folder = Folder::with(&[(
        "a.yaml",
        &format!(
            "connections:\n  machine: {{ type: router, provider: linux, root: '{}' }}\n\
             sources:\n  modem: {{ type: router, connection: machine, every: 1s, groups: [signal, data] }}\n\
             sinks:\n  out: {{ from: modem, type: log }}\n",
            root.path().display()
        ),
    )]);
    let forebay = Forebay::run(folder.path());
    let line = forebay.wait_for_log("\"technology\"");
    let said: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
    assert_eq!(
        said["signal"],
        json!({
            "modem": "wwan0", "connected": true, "registered": true, "roaming": true, "operator": "LMT",
            "technology": "LTE", "band": "LTE B3", "quality": 67, "rssi": -61.0, "rsrp": -93.0, "rsrq": -11.0,
            "sinr": 8.4, "sim": 1,
        })
    );
    assert_eq!(said["data"]["total"], json!({ "up": 400, "down": 300 }));
}
