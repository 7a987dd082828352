//! Stands in for a source or a sink whose other side no plugin plays: what the sink is given is taken note of, and the
//! source sends what a test says.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::bail;
use forebay_sdk::{
    Capabilities, Configured, Emitter, Message, Node, Outlet, Port, Role, Sink, Site, Source,
    WriteError, Written,
    world::memory::{Traffic, Way},
};
use tokio::{sync::Notify, time::Instant};

/// What outlives the node: a reload, and a power cut.
#[derive(Default)]
pub struct OtherSide {
    pub way: Way,
    inside: Mutex<Inside>,
    told: Notify,
}

#[derive(Default)]
struct Inside {
    taken: Vec<(Instant, Message)>,
    to_send: VecDeque<(Port, Message)>,
}

impl OtherSide {
    /// What the sink was given, since this was last asked.
    pub fn taken(&self) -> Vec<(Instant, Message)> {
        std::mem::take(&mut self.inside().taken)
    }

    /// As it is when a test begins.
    pub fn renew(&self) -> Way {
        *self.inside() = Inside::default();
        self.way.set(Traffic::Flows);
        self.way.clone()
    }

    /// Has the source send a message.
    pub fn send(&self, port: Port, message: Message) {
        self.inside().to_send.push_back((port, message));
        self.told.notify_one();
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node that stands in for another.
pub struct StandIn {
    /// The one that it stands in for.
    pub stands_for: Arc<dyn Configured>,
    pub role: Role,
    pub other_side: Arc<OtherSide>,
}

impl Configured for StandIn {
    fn build(&self, _: Site) -> Node {
        let other_side = Arc::clone(&self.other_side);
        match self.role {
            Role::Source => Node::source(Sending(other_side)),
            _ => Node::sink(Taking(other_side)),
        }
    }

    fn capabilities(&self) -> Capabilities {
        self.stands_for.capabilities()
    }

    fn outputs(&self) -> Vec<String> {
        self.stands_for.outputs()
    }
}

struct Sending(Arc<OtherSide>);

impl Source for Sending {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        out.ready();
        loop {
            let told = self.0.told.notified();
            let next = self.0.inside().to_send.pop_front();
            match next {
                Some((port, message)) => out.send_to(port, message).await,
                None => told.await,
            }
        }
    }
}

struct Taking(Arc<OtherSide>);

impl Taking {
    async fn reach(&self) -> anyhow::Result<()> {
        match self.0.way.traffic() {
            Traffic::Flows => Ok(()),
            Traffic::Refused => bail!("the test has it down"),
            Traffic::Vanishes => std::future::pending().await,
        }
    }
}

impl Sink for Taking {
    async fn connect(&mut self) -> anyhow::Result<()> {
        self.reach().await
    }

    async fn write(&mut self, batch: &[Message], _: &mut Emitter) -> Result<Written, WriteError> {
        self.reach().await.map_err(WriteError::retry)?;
        let now = Instant::now();
        self.0.inside().taken.extend(batch.iter().map(|message| (now, message.clone())));
        Ok(Written::default())
    }
}
