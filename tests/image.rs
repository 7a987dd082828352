//! The image runs as on a router: by a real Docker engine, with little memory, no rights and a root that it cannot
//! write. `FOREBAY_LONG=1` builds it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
    time::Duration,
};

use crate::support::{
    Docker, Folder, IMAGE, Mosquitto, Subscriber, WebServer, free_port, now, orders, publish, until,
};

/// Who the image runs as.
const USER: u32 = 65532;
const MIB: u64 = 1 << 20;

const BEAT: &str = "\
sources:
  beat: { type: timer, every: 1h, payload: one }
sinks:
  screen: { from: beat, type: log }
";

/// A folder that others than its owner can read, as one on a router is.
fn folder(files: &[(&str, &str)]) -> Folder {
    let folder = Folder::with(files);
    let all = Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), all).expect("the folder is ours");
    folder
}

/// How Docker is told to show a folder or a file in a container.
fn mount(of: &Path, at: &str) -> String {
    format!("--volume={}:{at}", of.display())
}

#[test]
fn the_image_is_one_small_layer_without_a_root_user() {
    let Some(docker) = Docker::with_image() else { return };
    let of = |field: &str| docker.ask(&["image", "inspect", "--format", field, IMAGE]);
    assert_eq!(of("{{len .RootFS.Layers}}"), "1");
    assert_eq!(of("{{.Config.User}}"), format!("{USER}:{USER}"));
    let bytes: u64 = of("{{.Size}}").parse().expect("a number");
    println!("the image has {:.2} MB", bytes as f64 / 1e6);
    assert!(bytes < MOST_IMAGE_BYTES, "{bytes}");
}

/// Twice the flash of a router holds it: an update needs the old one beside the new one, and a storage driver that
/// copies needs each layer in full.
const MOST_IMAGE_BYTES: u64 = 20_000_000;

#[test]
fn the_image_says_that_it_works_where_nothing_is_mounted() {
    let Some(docker) = Docker::with_image() else { return };
    let container = docker.run(&[]);
    container.wait_for_log("it works", 1);
    until("it is healthy", || container.inspect(".State.Health.Status") == "healthy");
    let status = container.forebay(&["status", "--format", "json"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("hello/beat"), "{status:?}");
    assert!(!container.log().contains("WARN"), "{}", container.log());
}

#[test]
fn the_examples_run_in_32_mib() {
    let Some(docker) = Docker::with_image() else { return };
    let pipelines = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let examples = folder(&[]);
    examples.copy(&pipelines, "pipelines");
    let port = free_port();
    let container = docker.run(&[
        "--memory=32m",
        "--env=METER_URL=tcp://127.0.0.1:9",
        &format!("--env=BROKER_LISTEN=127.0.0.1:{port}"),
        &mount(examples.path(), "/etc/forebay:ro"),
    ]);
    until("it is healthy", || container.inspect(".State.Health.Status") == "healthy");
    let heartbeats = Subscriber::to(port, "site/a/heartbeat");
    heartbeats.wait_for("a heartbeat", |_| true);
    // What a device publishes, as fast as it can.
    for n in 0..200 {
        publish(port, &format!("device/{n}"), "1", &["-q", "1"]);
    }
    let memory = container.memory();
    println!("RSS {:.1} MiB, {:.1} at most", mib(memory.now), mib(memory.most));
    assert!(memory.most < 20 * MIB, "{} at most", memory.most);
    assert_eq!(container.inspect(".State.OOMKilled"), "false");
    assert_eq!(container.inspect(".RestartCount"), "0");
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

#[test]
fn queues_stay_below_the_memory_that_the_container_has() {
    let Some(docker) = Docker::with_image() else { return };
    let port = free_port();
    // Ten queues of 4 MiB, with nobody to take what is in them.
    let mut text = format!(
        "connections:\n  away: {{ type: mqtt, url: 'mqtt://127.0.0.1:{port}' }}\n\
         sources:\n  fill:\n    type: timer\n    every: 10ms\n    payload: {}\nsinks:\n",
        "x".repeat(32 << 10)
    );
    for n in 0..10 {
        text += &format!(
            "  s{n}: {{ from: fill, type: mqtt, connection: away, topic: t{n}, buffer: {{ when_full: drop_oldest }} }}\n"
        );
    }
    let pipelines = folder(&[("pipelines/a.yaml", &text)]);
    let container = docker.run(&["--memory=32m", &mount(pipelines.path(), "/etc/forebay:ro")]);
    container.wait_for_log("to stay within the memory limit", 1);
    until("the queues are full", || {
        let status = container.forebay(&["status", "--format", "json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        status.to_string().contains("\"dropped\":") && dropped(&status) > 100
    });
    assert_eq!(container.inspect(".State.OOMKilled"), "false");
    assert_eq!(container.inspect(".RestartCount"), "0");
}

/// How many messages limits have dropped, of all nodes.
fn dropped(status: &serde_json::Value) -> u64 {
    match status {
        serde_json::Value::Object(fields) => {
            let own = fields.get("dropped").and_then(serde_json::Value::as_u64).unwrap_or(0);
            own + fields.values().map(dropped).sum::<u64>()
        }
        serde_json::Value::Array(items) => items.iter().map(dropped).sum(),
        _ => 0,
    }
}

#[test]
fn a_stop_delivers_what_is_queued_before_docker_loses_patience() {
    let Some(docker) = Docker::with_image() else { return };
    let (broker, service) = (Mosquitto::start(), WebServer::start());
    service.shut();
    let pipelines = folder(&[("pipelines/a.yaml", &orders(&broker.url(), &service.url()))]);
    let container = docker.run(&[&mount(pipelines.path(), "/etc/forebay:ro")]);
    until("subscribed", || broker.log.count_of("Sending SUBACK to forebay") == 1);
    for n in 1..=15 {
        publish(broker.port, "order", &n.to_string(), &["-q", "1"]);
    }
    until("all are on their way", || broker.sent_to("forebay") == 15);
    let asked = now();
    // Ten seconds, then a kill: what Docker does unless it is told otherwise.
    std::thread::scope(|threads| {
        threads.spawn(|| docker.ask(&["stop", &container.id]));
        container.wait_for_log("stopping on SIGTERM", 1);
        service.open();
    });
    assert!(asked.elapsed() < Duration::from_secs(10), "took {:?}", asked.elapsed());
    assert_eq!(container.inspect(".State.ExitCode"), "0");
    container.wait_for_log("stopped; everything was delivered", 1);
    assert_eq!(service.bodies.count(), 15);
}

#[test]
fn what_a_buffer_holds_survives_a_kill_and_another_container() {
    let Some(docker) = Docker::with_image() else { return };
    let broker = Mosquitto::stopped();
    let pipelines = folder(&[(
        "pipelines/a.yaml",
        &format!(
            "connections:
  cloud: {{ type: mqtt, url: 'mqtt://127.0.0.1:{}' }}
sources:
  beat: {{ type: timer, every: 50ms }}
sinks:
  plant: {{ from: beat, type: mqtt, connection: cloud, topic: beats, qos: 1, buffer: {{ store: disk, sync: always }} }}
",
            broker.port
        ),
    )]);
    let config = mount(pipelines.path(), "/etc/forebay:ro");
    let options = [config.as_str(), "--volume=data:/var/lib/forebay", "--restart=unless-stopped"];
    let container = docker.run(&options);
    let kept = |container: &crate::support::Container| {
        let listed = container.forebay(&["buffer", "ls"]);
        String::from_utf8_lossy(&listed.stdout).into_owned()
    };
    until("a message is on disk", || kept(&container).contains("plant"));
    let pid = container.inspect(".State.Pid");
    docker.ask(&["kill", "--signal=KILL", &container.id]);
    until("it was killed", || container.inspect(".State.Pid") != pid);
    docker.ask(&["rm", "--force", &container.id]);

    let mut broker = broker;
    broker.resume();
    let beats = Subscriber::to(broker.port, "beats");
    let updated = docker.run(&options);
    beats.wait_for("the first beat of the container that is gone", |got| {
        got.payload == r#"{"count":1}"#
    });
    drop(updated);
}

#[test]
fn a_mounted_folder_is_followed_however_it_is_edited() {
    let Some(docker) = Docker::with_image() else { return };
    let text = |payload: &str| BEAT.replace("one", payload);
    let pipelines = folder(&[("v1/a.yaml", &text("one")), ("v2/a.yaml", &text("five"))]);
    pipelines.link("pipelines", "v1");
    let container = docker.run(&[&mount(pipelines.path(), "/etc/forebay:ro")]);
    container.wait_for_log("one", 1);
    pipelines.write("v1/a.yaml", &text("two"));
    container.wait_for_log("two", 1);
    pipelines.replace("v1/a.yaml", &text("three"));
    container.wait_for_log("three", 1);
    pipelines.link("pipelines", "v2");
    container.wait_for_log("five", 1);
    pipelines.write("v2/a.yaml", "sinks: { screen: { from: nobody, type: log } }\n");
    container.wait_for_log("error[unknown-node]", 1);
    until("it goes on", || container.inspect(".State.Health.Status") == "healthy");
}

#[test]
fn a_file_mounted_alone_is_followed_when_it_is_written_in_place() {
    let Some(docker) = Docker::with_image() else { return };
    let files = folder(&[("a.yaml", BEAT)]);
    let file = mount(&files.path().join("a.yaml"), "/etc/forebay/pipelines/hello.yaml:ro");
    let container = docker.run(&[&file]);
    container.wait_for_log("one", 1);
    files.write("a.yaml", &BEAT.replace("one", "two"));
    container.wait_for_log("two", 1);
}

#[test]
fn a_volume_of_somebody_else_is_said_with_what_mends_it() {
    let Some(docker) = Docker::with_image() else { return };
    let (pipelines, data) = (folder(&[("a.yaml", BEAT)]), folder(&[]));
    let (config, volume) =
        (mount(pipelines.path(), "/etc/forebay:ro"), mount(data.path(), "/var/lib/forebay"));
    let container = docker.run(&[&config, &volume]);
    container.wait_for_log(
        "cannot write to /var/lib/forebay, which belongs to user 0 while this is user 65532; \
         `chown 65532` it, or run as user 0",
        1,
    );
    container.wait_for_log("one", 1);
    until("it is unhealthy", || container.inspect(".State.Health.Status") == "unhealthy");

    // As it says.
    chown(data.path(), Some(USER), None).expect("the folder is ours");
    docker.ask(&["restart", &container.id]);
    until("it is healthy", || container.inspect(".State.Health.Status") == "healthy");
    chown(data.path(), Some(0), None).expect("the folder is ours");
    let of_root = folder(&[]);
    let volume = mount(of_root.path(), "/var/lib/forebay");
    let as_root = docker.run(&[&config, &volume, "--user=0:0"]);
    until("it is healthy, too", || as_root.inspect(".State.Health.Status") == "healthy");
}

#[test]
fn a_full_volume_stops_nothing() {
    let Some(docker) = Docker::with_image() else { return };
    let port = free_port();
    let pipelines = folder(&[(
        "a.yaml",
        &format!(
            "connections:
  cloud: {{ type: mqtt, url: 'mqtt://127.0.0.1:{port}' }}
sources:
  beat: {{ type: timer, every: 20ms, payload: {} }}
sinks:
  plant: {{ from: beat, type: mqtt, connection: cloud, topic: beats, qos: 1, buffer: {{ store: disk, when_full: drop_oldest }} }}
",
            "x".repeat(16 << 10)
        ),
    )]);
    let container = docker.run(&[
        &mount(pipelines.path(), "/etc/forebay:ro"),
        &format!("--tmpfs=/var/lib/forebay:size=2m,uid={USER},mode=750"),
    ]);
    container.wait_for_log("the oldest messages in the buffer on disk were dropped", 1);
    until("it is healthy", || container.inspect(".State.Health.Status") == "healthy");
    assert_eq!(container.inspect(".RestartCount"), "0");
}

#[test]
fn a_device_is_opened_by_its_group() {
    let Some(docker) = Docker::with_image() else { return };
    let pipelines = folder(&[(
        "a.yaml",
        "sources:
  meter:
    type: modbus
    connection: { type: modbus, url: 'rtu:///dev/rs485?baud=9600' }
    unit: 1
    every: 1s
    registers: [{ name: power, input: 0 }]
sinks:
  screen: { from: meter, type: log }
",
    )]);
    // The first serial line of this machine, for a group that has no other rights.
    const GROUP: u32 = 4242;
    let device = pipelines.path().join("line");
    let made = Command::new("mknod").arg(&device).args(["c", "4", "64"]).status();
    assert!(made.is_ok_and(|status| status.success()), "root may make devices");
    chown(&device, Some(0), Some(GROUP)).expect("the device is ours");
    fs::set_permissions(&device, Permissions::from_mode(0o660)).expect("the device is ours");

    let config = mount(pipelines.path(), "/etc/forebay:ro");
    let shown = format!("--device={}:/dev/rs485", device.display());
    docker.run(&[&config, &shown]).wait_for_log("Permission denied", 1);
    let may = docker.run(&[&config, &shown, &format!("--group-add={GROUP}")]);
    may.wait_for_log("meter", 1);
    assert!(!may.log().contains("Permission denied"), "{}", may.log());
}
