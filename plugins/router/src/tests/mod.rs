//! What is promised of the router, against a simulated one on a stopped clock.

mod actions;
mod counting;
mod day;
mod doctor;
mod firmwares;
mod machines;
mod managed;
mod panel;
mod session;
mod shapes;
mod simulated;
mod tls;

use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Message, Node, Shared, Site, Voice,
    connection::DynConnection,
    testing::{self, Collected, Heard},
    world::memory::Memory,
};
use serde_json::Value;
use tokio::{task::AbortHandle, time::sleep};

/// 2026-11-21T09:00:00Z.
pub const NOW: i64 = 1_795_251_600_000_000_000;

/// A connection that runs as the engine runs it: again after a pause when it ends.
pub struct Running {
    pub shared: Shared,
    pub heard: Arc<Heard>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// The settings of a connection to the simulated router.
pub fn settings(more: &str) -> String {
    format!("url: http://192.168.1.1\nusername: forebay\npassword: secret-of-the-router\n{more}")
}

pub fn connect(memory: &Memory, settings: &str) -> Running {
    connect_at(memory, settings, std::path::Path::new("no-data"))
}

pub fn connect_at(memory: &Memory, settings: &str, data: &std::path::Path) -> Running {
    let (voice, heard) = testing::voice();
    let site = Site {
        world: memory.world(),
        data: data.into(),
        voice: voice.clone(),
        ..testing::site(None)
    };
    // What is only a warning may be tried.
    let (configured, _) = testing::resolve(&crate::connection(), settings);
    let Node::Connection(shared, connection) = configured.expect("what can run").build(site) else {
        panic!("not a connection");
    };
    let task = tokio::spawn(run_again(connection, voice)).abort_handle();
    Running { shared, heard, tasks: vec![task] }
}

async fn run_again(mut connection: Box<dyn DynConnection>, voice: Voice) {
    loop {
        if let Err(error) = connection.run(&voice).await {
            voice.trouble(&error);
        }
        sleep(Duration::from_secs(10)).await;
    }
}

impl Running {
    /// A source on it. What it sends is collected.
    pub fn read(&mut self, settings: &str) -> Collected {
        let node = testing::build(&crate::source(), settings, Some(self.shared.clone()));
        let Node::Source(source) = node else { panic!("not a source") };
        let (out, collected) = testing::outlet(20_000);
        let run = async move {
            let mut source = source;
            let _ = source.run(&out).await;
        };
        self.tasks.push(tokio::spawn(run).abort_handle());
        collected
    }
}

/// The next message.
pub async fn next(collected: &mut Collected) -> Value {
    let envelope = collected.envelopes.recv().await.expect("a source that goes on");
    testing::delivered(envelope)
}

pub fn message(payload: impl Into<Value>) -> Message {
    Message::new("asked", payload.into())
}
