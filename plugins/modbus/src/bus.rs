//! One bus, as its settings describe it and as its nodes see it: they queue their reads, and the
//! owner (`connection.rs`) serves them one at a time.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{Endpoint, Period};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use crate::{
    block::Block,
    link::{Answer, Failure},
    serial::SerialLine,
};

/// So that the owner, who knows why the link does not open, speaks first.
const GRACE: Duration = Duration::from_secs(1);

const STOPPED: &str = "the connection was stopped";

/// A bus that was understood.
#[derive(Clone, Debug)]
pub struct Bus {
    /// The device, or the gateway to the devices.
    pub to: Endpoint,
    /// The serial line behind the gateway, when we were told of one.
    pub behind: Option<SerialLine>,
    /// How long to wait for an answer.
    pub timeout: Period,
    /// How long opening the link may take.
    pub connect_timeout: Period,
    /// How long to leave the bus alone after an answer.
    pub pause: Period,
}

/// A bus as its nodes see it.
pub struct SharedBus {
    place: Arc<str>,
    line: watch::Receiver<Line>,
    /// How long to wait for the owner to open the link for the first time.
    opening: Duration,
}

/// Whether reads are served.
#[derive(Clone)]
pub enum Line {
    /// The owner has not tried yet.
    Opening,
    Serving(mpsc::Sender<Read>),
    /// Why not.
    Down(Arc<str>),
}

/// A read on its way to the owner.
pub struct Read {
    pub unit: u8,
    pub block: Block,
    pub reply: oneshot::Sender<Result<Answer, Failure>>,
}

impl Line {
    /// The owner was stopped.
    pub fn stopped() -> Line {
        Line::Down(STOPPED.into())
    }
}

impl SharedBus {
    /// The bus whose owner writes to the other end of `line`.
    pub fn new(bus: &Bus, line: watch::Receiver<Line>) -> SharedBus {
        let place = bus.to.to_string().into();
        SharedBus { place, line, opening: *bus.connect_timeout + GRACE }
    }

    /// Where the bus is, as `192.168.1.50:502`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Reads a block from a device once it is this read's turn.
    pub async fn read(&self, unit: u8, block: Block) -> Result<Answer, Failure> {
        let reads = self.line_up().await?;
        let (reply, answer) = oneshot::channel();
        // Both fail when the owner stops, however it does.
        if reads.send(Read { unit, block, reply }).await.is_err() {
            return Err(self.down());
        }
        answer.await.unwrap_or_else(|_| Err(self.down()))
    }

    /// The queue, unless the line is down.
    async fn line_up(&self) -> Result<mpsc::Sender<Read>, Failure> {
        let mut line = self.line.clone();
        let opened = line.wait_for(|line| !matches!(line, Line::Opening));
        match timeout(self.opening, opened).await {
            Ok(Ok(line)) => match &*line {
                Line::Serving(reads) => Ok(reads.clone()),
                Line::Opening | Line::Down(_) => Err(down(&line)),
            },
            Ok(Err(_)) => Err(Failure::NotConnected(STOPPED.into())),
            Err(_) => Err(self.down()),
        }
    }

    fn down(&self) -> Failure {
        down(&self.line.borrow())
    }
}

fn down(line: &Line) -> Failure {
    match line {
        Line::Down(reason) => Failure::NotConnected(Arc::clone(reason)),
        Line::Opening => Failure::NotConnected("the connection is still being opened".into()),
        // Its owner was dropped a moment ago.
        Line::Serving(_) => Failure::NotConnected(STOPPED.into()),
    }
}
