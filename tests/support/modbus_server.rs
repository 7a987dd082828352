//! A meter: an SDM630 played by pymodbus.

use std::process::{Child, Stdio};

use super::{command, kill, lines::Lines, python, spawn};

/// A Modbus TCP server that others wrote. See `sdm630_server.py` for its registers.
pub struct ModbusServer {
    process: Child,
    log: Lines,
    pub port: u16,
}

impl ModbusServer {
    #[track_caller]
    pub fn start() -> ModbusServer {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/sdm630_server.py");
        let mut process = spawn(command(python()).arg(script).stdout(Stdio::piped()));
        let log = Lines::default();
        log.collect(process.stdout.take().expect("stdout is piped"));
        let mut server = ModbusServer { process, log, port: 0 };
        let is_port = |line: &str| line.starts_with("listening ");
        let (_, line) = server.log.wait_for("port of the meter", 0, is_port);
        server.port = line["listening ".len()..].parse().expect("the script prints a port");
        server
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
