//! Sources and sinks against chips in memory, on a stopped clock.

mod asked;
mod inputs;
mod settings;
mod switching;

use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Message, Node, Shared, Site, Value, Voice,
    connection::DynConnection,
    testing::{self, Collected, Heard, build_at},
    world::memory::{Memory, Pins},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::connection;

/// Nothing here takes as long, unless something hangs.
const DEADLINE: Duration = Duration::from_secs(120);
/// The engine's pause before it runs something again.
const PAUSE: Duration = Duration::from_millis(100);
/// Where the tests are: 2026-11-21T09:00:00Z.
const NOW: i64 = 1_795_251_600_000_000_000;
const CHIP: &str = "gpiochip0";
const LABEL: &str = "expander";

/// A world with a chip of eight lines, and a connection to it that runs.
struct Board {
    memory: Memory,
    shared: Shared,
    connection: Arc<Heard>,
    tasks: JoinSet<()>,
}

impl Board {
    fn new() -> Board {
        Board::with(Memory::new(NOW), &format!("chip: {CHIP}"))
    }

    fn with(memory: Memory, settings: &str) -> Board {
        plug_in(memory.pins(), CHIP);
        let (voice, heard) = testing::voice();
        let site = Site { world: memory.world(), voice: voice.clone(), ..testing::site(None) };
        let Node::Connection(shared, owner) = build_at(&connection(), settings, site) else {
            panic!("not a connection");
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_running(owner, voice));
        Board { memory, shared, connection: heard, tasks }
    }

    fn pins(&self) -> &Pins {
        self.memory.pins()
    }

    fn site(&self) -> (Site, Arc<Heard>) {
        let (voice, heard) = testing::voice();
        let world = self.memory.world();
        (Site { voice, world, ..testing::site(Some(self.shared.clone())) }, heard)
    }
}

fn plug_in(pins: &Pins, name: &str) {
    pins.plug_in(name, LABEL, &["DOOR", "SMOKE", "METER", "", "PUMP", "FAN", "", "TWIN"]);
}

async fn keep_running(mut connection: Box<dyn DynConnection>, voice: Voice) {
    loop {
        let error = connection.run(&voice).await.expect_err("it only ends when something fails");
        voice.trouble(&error);
        sleep(PAUSE).await;
    }
}

/// What was sent next, and how long ago that was in milliseconds.
async fn next(collected: &mut Collected) -> Message {
    let next = timeout(DEADLINE, collected.envelopes.recv()).await;
    next.expect("a message in time").unwrap().message
}

fn said(message: &Message) -> Value {
    message.payload.value().unwrap().clone()
}

/// Lets everybody do what there is to do.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}
