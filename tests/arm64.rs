//! A router with ARM64: its kernel, its memory, its disk, and what is left when its power fails. Emulated, so slow;
//! `FOREBAY_LONG=1 tests/run` fetches it.

use std::{collections::BTreeSet, fs::File, path::Path, process::Command, time::Duration};

use crate::support::{
    Folder, Machine, Mosquitto, Publisher, Subscriber, is_long, now, numbers, pause, until,
};

/// The flash that the router has for data.
const DISK_BYTES: u64 = 64 << 20;
/// What the example pipelines may take of its memory: 10 MB. They took 8,728 KiB, of which 2,880 were data and the rest the program.
const MOST_MEMORY_KIB: u64 = 10_000_000 / 1024;
/// Where the router finds this machine.
const HERE: &str = "10.0.2.2";
/// Starts the program as the image does, with the number of its process in `pid`. What it says goes to a file.
const START: &str = "/forebay run /folder >>/tmp/log 2>&1 & pid=$!";

/// A disk with an empty file system.
fn disk(folder: &Folder) -> std::path::PathBuf {
    let path = folder.path().join("disk");
    let made = File::create(&path).and_then(|file| file.set_len(DISK_BYTES));
    made.expect("there is room for a disk");
    let status = Command::new("/usr/sbin/mkfs.ext4").arg("-q").arg(&path).status();
    assert!(status.is_ok_and(|status| status.success()), "`mkfs.ext4` is part of every Debian");
    path
}

#[test]
fn the_examples_run_on_a_router_with_512_mb() {
    let place = Folder::new();
    let disk = disk(&place);
    let company = Mosquitto::start();
    let readings = Subscriber::to(company.port, "company/#");
    let examples = Folder::new();
    examples.copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines"), "pipelines");
    let Some(mut router) = Machine::router(examples.path(), &disk) else { return };
    router.shell("/forebay simulate modbus --listen tcp://127.0.0.1:5020 >/dev/null 2>&1 &");
    let asked = now();
    router.shell(&format!(
        "export METER_URL=tcp://127.0.0.1:5020 COMPANY_BROKER=mqtt://{HERE}:{}\n{START}",
        company.port
    ));
    readings.wait_for("a reading of the meter", |got| got.payload.contains("power_kw"));
    println!("the first reading after {:.1?}, on an emulated router", asked.elapsed());
    let status = router.shell("grep -E 'VmHWM|VmRSS|RssAnon' /proc/$pid/status");
    println!("{status}");
    let rss: u64 = status
        .lines()
        .find_map(|line| {
            line.trim().strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok()
        })
        .expect("Linux says so");
    assert!(rss < MOST_MEMORY_KIB, "{status}");
    assert!(router.shell("/forebay health").contains("well"));
}

const BUTTON: &str = r#"
connections:
  controller: { type: gpio, chip: "9030000.pl061" }
  hall: { type: broker, listen: ["127.0.0.1:18830"] }
  plant: { type: mqtt, url: "mqtt://127.0.0.1:18830", client_id: gateway }
  company: { type: mqtt, url: "${env:COMPANY_BROKER}", client_id: site-a }
sources:
  inputs: { type: gpio, connection: controller, lines: [{ name: button, line: 3 }] }
  heard: { type: mqtt, connection: hall, topics: [button] }
transforms:
  late: { from: heard, type: script, script: "msg.payload.late_ms = msg.time - msg.payload.at; msg" }
sinks:
  plant:
    from: inputs
    type: mqtt
    connection: plant
    topic: button
    qos: 1
    envelope: { time: at, time_as: unix_ms }
  company: { from: inputs, type: mqtt, connection: company, topic: company/button, qos: 1 }
  shown: { from: late, type: log }
"#;

#[test]
fn an_edge_at_the_controller_of_a_router_is_published() {
    let place = Folder::new();
    let disk = disk(&place);
    let company = Mosquitto::start();
    let told = Subscriber::to(company.port, "company/#");
    let folder = Folder::with(&[("a.yaml", BUTTON)]);
    let Some(mut router) = Machine::router(folder.path(), &disk) else { return };
    // Where the kernel has a driver for the button, that holds its line.
    router.shell("echo gpio-keys >/sys/bus/platform/drivers/gpio-keys/unbind 2>/dev/null || true");
    router.shell(&format!("export COMPANY_BROKER=mqtt://{HERE}:{}\n{START}", company.port));
    let is = |level: bool| format!(r#"{{"button":{level}}}"#);
    told.wait_for("the level at first", |got| got.payload == is(false));
    let pressed = now();
    router.press_power_button();
    told.wait_for("the edge", |got| got.payload == is(true));
    println!("the edge arrived {:.1?} after the button was pressed", pressed.elapsed());
    // The emulator lets go of it after a tenth of a second.
    until("the edge back", || told.payloads().len() == 3);
    let late = router.until("late_ms", "grep '\"button\":true,\"at\"' /tmp/log || true");
    println!("and by the clock of the router: {late}");
    assert_eq!(told.payloads(), [is(false), is(true), is(false)]);
}

#[test]
fn power_cuts_of_a_router_lose_nothing_that_was_acknowledged() {
    let cuts = if is_long() { 50 } else { 3 };
    let (plant, cloud) = (Mosquitto::start(), Mosquitto::start());
    let at = |port: u16| format!("mqtt://{HERE}:{port}");
    let subscriber = Subscriber::remembered(cloud.port, "#");
    let folder =
        Folder::with(&[("a.yaml", &numbers(&at(plant.port), &at(cloud.port), "store: disk"))]);
    let place = Folder::new();
    let disk = disk(&place);
    let start = || {
        let mut router = Machine::router(folder.path(), &disk)?;
        router.shell(START);
        Some(router)
    };
    let Some(mut router) = start() else { return };
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);

    let seed = fastrand::u64(..);
    println!("the moments of the cuts follow from the seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut publisher = Publisher::to(plant.port, "number");
    let mut published = BTreeSet::new();
    for _ in 0..cuts {
        let count = random.usize(50..=300);
        for _ in 0..count {
            let payload = format!(r#"{{"n":{}}}"#, published.len());
            publisher.send(&payload);
            published.insert(payload);
        }
        let wanted = plant.acknowledged_by("forebay") + random.usize(1..=count / 2);
        until("it works", || plant.acknowledged_by("forebay") >= wanted);
        pause(Duration::from_millis(random.u64(0..500)));
        // Ends the machine at once, as the power does.
        drop(router);
        router = start().expect("it was there before");
    }
    publisher.finish();
    let arrived = || subscriber.payloads().into_iter().collect::<BTreeSet<_>>();
    until("all messages arrive", || arrived().is_superset(&published));
    assert_eq!(arrived(), published);
    println!(
        "{cuts} cuts, {} messages: {} came twice",
        published.len(),
        subscriber.got().len() - published.len()
    );
    let log = router.shell("cat /tmp/log");
    assert!(!log.contains("ERROR"), "{log}");
}
