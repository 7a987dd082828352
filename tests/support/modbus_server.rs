//! Modbus devices, played by pymodbus and libmodbus.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Child, Stdio},
};

use super::{command, kill, lines::Lines, python, spawn};

/// A Modbus server that others wrote.
pub struct ModbusServer {
    process: Child,
    log: Lines,
    pub port: u16,
}

impl ModbusServer {
    /// An SDM630 on Modbus TCP. See `sdm630_server.py` for its registers.
    #[track_caller]
    pub fn start() -> ModbusServer {
        ModbusServer::play("sdm630_server.py", &[])
    }

    /// A device at a serial line. See `rtu_server.py` for its registers.
    #[track_caller]
    pub fn at_line(device: &Path) -> ModbusServer {
        ModbusServer::play("rtu_server.py", &[device.as_os_str()])
    }

    /// The same device on a line that a gateway passes on.
    #[track_caller]
    pub fn behind_gateway() -> ModbusServer {
        ModbusServer::play("rtu_server.py", &[])
    }

    /// A device that holds a register image.
    #[track_caller]
    pub fn of_image(image: &Path) -> ModbusServer {
        ModbusServer::play("image_server.py", &[image.as_os_str()])
    }

    /// The same device on Modbus TCP, by libmodbus. See `libmodbus.py`.
    #[track_caller]
    pub fn by_libmodbus() -> ModbusServer {
        ModbusServer::play("libmodbus.py", &["server".as_ref()])
    }

    #[track_caller]
    fn play(script: &str, arguments: &[&OsStr]) -> ModbusServer {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support"));
        let mut player = command(python());
        player.arg(folder.join(script)).args(arguments).stdout(Stdio::piped());
        let mut process = spawn(&mut player);
        let log = Lines::default();
        log.collect(process.stdout.take().expect("stdout is piped"));
        let mut server = ModbusServer { process, log, port: 0 };
        let is_port = |line: &str| line.starts_with("listening ");
        let (_, line) = server.log.wait_for("port of the meter", 0, is_port);
        server.port = line["listening ".len()..].parse().expect("the script prints a port");
        server
    }

    /// Waits for a line that it prints from the beginning on, such as `wrote 6 100 7`.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        self.log.wait_for(text, 0, |line| line == text);
    }

    /// How often it printed that.
    pub fn count(&self, text: &str) -> usize {
        self.log.count_of(text)
    }

    /// How many TCP connections it has accepted so far.
    pub fn connections(&self) -> usize {
        self.log.count_of("connected")
    }
}

impl Drop for ModbusServer {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}
