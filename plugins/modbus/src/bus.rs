//! One bus and its one owner: nodes queue their reads, the owner serves them one at a time.
//!
//! The owner opens the link, and opens it anew after everything but an answer or an exception:
//! a late answer would else be taken for that of the next request. When the link cannot be opened,
//! `run` ends, the engine waits and calls it again; meanwhile every read fails at once.

use std::{sync::Arc, time::Duration};

use forebay_sdk::Connection;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tracing::debug;

use crate::{
    block::Block,
    connection::{ModbusConnection, endpoint},
    link::Link,
};

pub use crate::link::{Answer, Failure};

/// Reads that wait for their turn; further nodes wait for a place in the queue. A node has at most
/// one read under way, so this is no limit that anybody sees.
const QUEUE_READS: usize = 16;

/// So that the owner, who knows why the link does not open, speaks first.
const GRACE: Duration = Duration::from_secs(1);

const STOPPED: &str = "the connection was stopped";

/// A bus as its nodes see it.
pub struct Bus {
    place: Arc<str>,
    line: watch::Receiver<Line>,
    /// How long to wait for the owner to open the link for the first time.
    opening: Duration,
}

/// The task that owns the link.
pub struct Owner {
    settings: ModbusConnection,
    place: Arc<str>,
    line: watch::Sender<Line>,
}

/// Whether reads are served.
#[derive(Clone)]
enum Line {
    /// The owner has not tried yet.
    Opening,
    Serving(mpsc::Sender<Read>),
    /// Why not.
    Down(Arc<str>),
}

/// A read on its way to the owner.
struct Read {
    unit: u8,
    block: Block,
    reply: oneshot::Sender<Result<Answer, Failure>>,
}

/// A bus and its owner.
pub fn bus(settings: ModbusConnection) -> (Bus, Owner) {
    let place: Arc<str> = match endpoint(&settings.url) {
        Ok(place) => place.to_string().into(),
        // The check refused it, and what it holds is not ours to print.
        Err(_) => "an unknown place".into(),
    };
    let (line, line_seen) = watch::channel(Line::Opening);
    let opening = *settings.connect_timeout + GRACE;
    let bus = Bus { place: Arc::clone(&place), line: line_seen, opening };
    (bus, Owner { settings, place, line })
}

impl Bus {
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

impl Owner {
    /// Opens the link. Whoever waits learns why when that does not work.
    async fn open(&self) -> anyhow::Result<Link> {
        let opened = Link::open(&self.settings.url, self.settings.connect_timeout).await;
        opened.inspect_err(|error| {
            self.line.send_replace(Line::Down(format!("{error:#}").into()));
        })
    }
}

impl Connection for Owner {
    /// Serves reads until the link cannot be opened.
    async fn run(&mut self, ready: &(dyn Fn() + Send + Sync)) -> anyhow::Result<()> {
        let owner = &*self;
        let link = Some(owner.open().await?);
        let mut session = Session { owner, link, quiet_until: Instant::now() };
        ready();
        let (reads, mut queue) = mpsc::channel(QUEUE_READS);
        owner.line.send_replace(Line::Serving(reads));
        loop {
            // The line holds a sender, so the queue ends with this function and not before.
            let Some(read) = queue.recv().await else { return Ok(()) };
            session.serve(read).await?;
        }
    }
}

/// One run of the owner. Dropped with it, and the link too: in the middle of a request it cannot
/// be used again.
struct Session<'a> {
    owner: &'a Owner,
    link: Option<Link>,
    quiet_until: Instant,
}

impl Session<'_> {
    /// Answers one read. Fails when the link cannot be opened.
    async fn serve(&mut self, read: Read) -> anyhow::Result<()> {
        // Its node was stopped meanwhile.
        if read.reply.is_closed() {
            return Ok(());
        }
        quiet(self.quiet_until).await;
        let was_open = self.link.is_some();
        let mut answer = self.ask(&read).await?;
        // Many devices hang up on who was silent for a minute, and a read may be repeated.
        if was_open && matches!(answer, Err(Failure::HungUp(_))) {
            debug!(bus = %self.owner.place, "the other side hung up; asking again");
            answer = self.ask(&read).await?;
        }
        self.quiet_until = Instant::now() + *self.owner.settings.pause;
        // The node may have been stopped meanwhile.
        let _ = read.reply.send(answer);
        Ok(())
    }

    async fn ask(&mut self, read: &Read) -> anyhow::Result<Result<Answer, Failure>> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.owner.open().await?,
        };
        let answer = link.read(read.unit, read.block, self.owner.settings.timeout).await;
        match &answer {
            Ok(_) | Err(Failure::Exception(_)) => self.link = Some(link),
            Err(failure) => debug!(bus = %self.owner.place, %failure, "closing the link"),
        }
        Ok(answer)
    }
}

/// Waits until the bus was left alone for long enough. A timer that is due at once would still take
/// a millisecond, and a poll of a hundred requests a tenth of a second.
async fn quiet(until: Instant) {
    if Instant::now() < until {
        sleep_until(until).await;
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.owner.line.send_if_modified(|line| match line {
            Line::Serving(_) => {
                *line = Line::Down(STOPPED.into());
                true
            }
            Line::Opening | Line::Down(_) => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const PAUSE: forebay_sdk::Period = forebay_sdk::Period::seconds(1);

    #[tokio::test(start_paused = true)]
    async fn a_bus_without_a_pause_took_a_millisecond_between_requests() {
        assert!(quiet(Instant::now()).now_or_never().is_some());
        assert!(quiet(Instant::now() + *PAUSE).now_or_never().is_none());
    }
}
