//! Lines of a real kernel's GPIO character device, and what others put onto them.

use std::ffi::OsStr;

use crate::support::{Folder, Machine, forebay};

/// What the kernel makes up: a chip whose lines have names and of which a driver holds one.
const PLUG_IN: &str = "
cd /sys/kernel/config/gpio-sim && mkdir -p card/bank && echo 8 >card/bank/num_lines && echo sim-card >card/bank/label
for name in 0=DOOR 2=METER 3=HEATING 4=PUMP; do mkdir card/bank/line${name%=*}; echo ${name#*=} >card/bank/line${name%=*}/name; done
mkdir card/bank/line3/hog && echo thermostat >card/bank/line3/hog/name && echo input >card/bank/line3/hog/direction
echo 1 >card/live";
const BACK_IN: &str = "echo 1 >/sys/kernel/config/gpio-sim/card/live";
const PULL_OUT: &str = "echo 0 >/sys/kernel/config/gpio-sim/card/live";
/// Where its lines are driven and read.
const LINES: &str = "lines=$(echo /sys/devices/platform/$(cat /sys/kernel/config/gpio-sim/card/dev_name)/gpiochip*)";

const PIPELINE: &str = r#"
connections:
  card: { type: gpio, chip: sim-card }
  hall: { type: broker, listen: ["127.0.0.1:18830"] }
  plant: { type: mqtt, url: "mqtt://127.0.0.1:18830", client_id: gateway }
sources:
  inputs:
    type: gpio
    connection: card
    every: 1s
    lines:
      - { name: door, line: DOOR, debounce: 50ms }
      - { name: heating, line: HEATING }
      - { name: button, line: 6, edge: rising, bias: pull_up, active_low: true }
      - { name: water, line: METER, count: { per_unit: 100, rate: flow } }
  heard: { type: mqtt, connection: hall, topics: [inputs] }
transforms:
  changes: { from: inputs, type: filter, when: '"edge" in msg.meta' }
  late:
    from: heard
    type: script
    script: |
      msg.payload.late_ms = msg.time - msg.payload.at;
      msg
sinks:
  readings:
    from: inputs
    type: mqtt
    connection: plant
    topic: inputs
    qos: 1
    envelope: { time: at, time_as: unix_ms }
  shown: { from: late, type: log }
  pump:
    from: changes
    type: gpio
    connection: card
    lines:
      - { name: door, line: PUMP, safe: off }
      - { name: lamp, line: 5, active_low: true, initial: keep }
      - { name: button, line: 7, pulse: 300ms }
"#;

#[test]
fn a_line_that_nodes_of_two_files_use_is_found_before_anything_runs() {
    let chip = "connections:\n  CARD: { type: gpio, chip: CHIP }\n";
    let source =
        "sources:\n  in: { type: gpio, connection: card, lines: [{ name: a, line: 17 }] }\n";
    let reader = "sinks:\n  log: { from: in, type: log }\n";
    let sink = "sources:\n  tick: { type: timer, every: 1s }\nsinks:\n  \
                out: { from: tick, type: gpio, connection: bank, lines: [{ name: b, line: LINE }] }\n";
    let found = |chip_name: &str, line: &str| {
        let one =
            [&chip.replace("CARD", "card").replace("CHIP", "gpiochip0"), source, reader].concat();
        let card = chip.replace("CARD", "bank").replace("CHIP", chip_name);
        let other = [&card, &*sink.replace("LINE", line)].concat();
        let folder = Folder::with(&[("a.yaml", &one), ("b.yaml", &other)]);
        let linted = forebay([OsStr::new("lint"), folder.path().as_os_str()]);
        String::from_utf8_lossy(&linted.stdout).into_owned()
    };
    let clash = "error[claimed-twice]: `a/in` and `b/out` both claim line 17 of gpiochip0";
    for chip_name in ["gpiochip0", "/dev/gpiochip0", "'0'"] {
        let said = found(chip_name, "17");
        assert!(said.starts_with(clash), "{said}");
    }
    for (chip_name, line) in [("gpiochip1", "17"), ("gpiochip0", "18")] {
        let said = found(chip_name, line);
        assert!(!said.contains("claimed-twice"), "{said}");
    }
}

#[test]
fn an_edge_on_a_real_kernel_is_published_with_its_time_and_outputs_follow() {
    let folder = Folder::with(&[("io.yaml", PIPELINE)]);
    let Some(mut machine) = Machine::with(folder.path()) else { return };
    let (program, place) = (machine.program.clone(), machine.folder.clone());
    machine.shell(PLUG_IN);
    let run = format!(
        "{program} run {place} --data /tmp/forebay-gpio >/tmp/forebay-gpio.log 2>&1 & pid=$!"
    );
    machine.shell(&run);
    let log = "cat /tmp/forebay-gpio.log";
    let said = machine.until(r#""door":false"#, log);
    assert!(said.contains("is in use by `thermostat`"), "{said}");

    // An edge, with its latency; and what a contact does that bounces.
    machine.shell(LINES);
    machine
        .shell("for pull in up down up down up; do echo pull-$pull >$lines/sim_gpio0/pull; done");
    let said = machine.until("late_ms", &format!("{log} | grep '\"door\":true,\"at\"' || true"));
    eprintln!("the edge, as it was published: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    machine.until("1", "cat $lines/sim_gpio4/value");

    // A button that pulls a line down which its bias pulls up, and the pulse that it gives.
    assert_eq!(machine.shell("cat $lines/sim_gpio6/pull"), "pull-up");
    machine.shell("echo pull-down >$lines/sim_gpio6/pull");
    machine.until("1", "cat $lines/sim_gpio7/value");
    machine.until("0", "cat $lines/sim_gpio7/value");
    machine.until(r#""button":true,"at""#, log);
    // An output that was left as it was: low, which is on.
    assert_eq!(machine.shell("cat $lines/sim_gpio5/value"), "0");

    // Each pulse counts. The made-up chip itself loses some that follow each other at once.
    machine.shell("n=0; while [ $n -lt 200 ]; do for pull in up down; do echo pull-$pull >$lines/sim_gpio2/pull; usleep 5000; done; n=$((n+1)); done");
    machine.until(r#""water":2,"#, log);

    // What the program says of it, and others see.
    let seen = machine.shell(&format!("{program} doctor card {place} || true"));
    assert!(seen.contains("(`DOOR`) of gpiochip"), "{seen}");
    assert!(seen.contains("is in use by `forebay io/inputs`"), "{seen}");

    // A card that is pulled out and comes back.
    machine.shell(PULL_OUT);
    machine.until("sim-card is gone", log);
    machine.shell(&format!("echo >/tmp/forebay-gpio.log; {BACK_IN}"));
    machine.until(r#""door":false"#, log);
    machine.shell(LINES);
    machine.shell("echo pull-up >$lines/sim_gpio0/pull");
    machine.until("1", "cat $lines/sim_gpio4/value");

    // Killed, and started again: what was counted is there, once it was written, at most every ten seconds. Stopped: the
    // output is safe.
    machine
        .until(r#""pulses":200"#, "find /tmp/forebay-gpio -name pulses.json -exec cat {} +; echo");
    machine.shell("kill -9 $pid; wait $pid; echo >/tmp/forebay-gpio.log");
    machine.shell(&run);
    machine.until(r#""water":2,"#, log);
    machine.shell("echo pull-down >$lines/sim_gpio0/pull");
    machine.until(r#""door":false,"at""#, log);
    machine.shell("echo pull-up >$lines/sim_gpio0/pull");
    machine.until("1", "cat $lines/sim_gpio4/value");
    machine.shell("kill $pid; wait $pid; true");
    let level = machine.shell("cat $lines/sim_gpio4/value");
    assert_eq!(level, "0");
    machine.shell(&format!("{PULL_OUT}; cd /sys/kernel/config/gpio-sim && rmdir card/bank/line3/hog card/bank/line* card/bank card"));
}
