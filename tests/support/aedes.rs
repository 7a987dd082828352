//! A broker of another make: aedes, from npm.

use std::process::{Child, Stdio};

use super::{command, kill, lines::Lines, spawn, test_tools};

const PROGRAM: &str = "
const aedes = require('aedes')();
const server = require('net').createServer(aedes.handle);
aedes.on('subscribe', (subscriptions) =>
    subscriptions.forEach((it) => console.log('subscribe', it.topic)));
aedes.on('publish', (packet) => console.log('publish', packet.topic, packet.payload.toString()));
aedes.on('connectionError', (client, error) => console.log(error.message));
server.listen(0, '127.0.0.1', () => console.log('port', server.address().port));
";
/// In the place of the first server.
const OVER_WEBSOCKET: &str = "
const ws = require('ws');
const server = require('http').createServer();
new ws.Server({ server }).on('connection', (it) => aedes.handle(ws.createWebSocketStream(it)));
";

/// An aedes. Speaks MQTT 3.1.1 alone, and ends with the test.
pub struct Aedes {
    process: Child,
    /// What is subscribed to and published, and what goes wrong.
    pub log: Lines,
    pub port: u16,
}

impl Aedes {
    #[track_caller]
    pub fn start() -> Aedes {
        Aedes::run(PROGRAM)
    }

    /// One that speaks WebSocket.
    #[track_caller]
    pub fn start_over_websocket() -> Aedes {
        let server =
            PROGRAM.lines().find(|line| line.contains("createServer")).expect("it has one");
        Aedes::run(&PROGRAM.replace(server, OVER_WEBSOCKET))
    }

    #[track_caller]
    fn run(program: &str) -> Aedes {
        let mut process = command("node");
        process.current_dir(test_tools()).args(["-e", program]).stdout(Stdio::piped());
        let mut process = spawn(&mut process);
        let log = Lines::default();
        log.collect(process.stdout.take().expect("stdout is piped"));
        let (_, said) = log.wait_for("the port of aedes", 0, |line| line.starts_with("port "));
        let port = said.trim_start_matches("port ").parse().expect("it is a number");
        Aedes { process, log, port }
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

impl Drop for Aedes {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}
