//! ModemManager on a bus of its own, played by Python.

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
};

use super::{command, kill, lines::Lines, python, spawn, until};

/// A bus below a root, and ModemManager on it. See `modem_manager.py`.
pub struct ModemManager {
    bus: Child,
    manager: Child,
}

impl ModemManager {
    #[track_caller]
    pub fn start(root: &Path) -> ModemManager {
        let folder = root.join("run/dbus");
        fs::create_dir_all(&folder).expect("a folder of the test");
        let socket = folder.join("system_bus_socket");
        let address = format!("unix:path={}", socket.display());
        let config = folder.join("bus.conf");
        let text = format!(
            "<busconfig><listen>{address}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
             <allow send_destination=\"*\" eavesdrop=\"true\"/>\
             <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>\n"
        );
        fs::write(&config, text).expect("writing a test file");
        let mut daemon = command("dbus-daemon");
        daemon.arg("--nofork").arg("--nopidfile").arg("--config-file").arg(config);
        let bus = spawn(&mut daemon);
        until("the bus is there", || socket.exists());
        let script =
            Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/modem_manager.py"));
        let mut player = command(python());
        let mut manager = spawn(player.arg(script).arg(address).stdout(Stdio::piped()));
        let log = Lines::default();
        log.collect(manager.stdout.take().expect("stdout is piped"));
        log.wait_for("modem manager", 0, |line| line == "listening");
        ModemManager { bus, manager }
    }
}

impl Drop for ModemManager {
    fn drop(&mut self) {
        kill(&mut self.manager);
        kill(&mut self.bus);
    }
}
