//! The owner of a bus, who alone talks on it.
//!
//! It opens the link, and opens it anew after everything but an answer or an exception: a late
//! answer would else be taken for that of the next request. When the link cannot be opened, `run`
//! ends, the engine waits and calls it again; meanwhile every read fails at once.

use std::{any::Any, sync::Arc};

use forebay_sdk::{Busy, Configured, Connection, Node, Shared, Site, Voice, World};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval_at, sleep_until},
};
use tracing::debug;

use crate::{
    bus::{Bus, Line, Read, SharedBus},
    busy::{BusyTime, SLICE},
    link::{Answer, Failure, Link},
    load,
};

/// Reads that wait for their turn; further nodes wait for a place in the queue. A node has at most
/// one read under way, so this is no limit that anybody sees.
const QUEUE_READS: usize = 16;

impl Configured for Bus {
    fn build(&self, site: Site) -> Node {
        let (line, line_seen) = watch::channel(Line::Opening);
        let shared = SharedBus::new(self, line_seen);
        let owner = Owner { bus: self.clone(), line, world: site.world };
        Node::connection(Shared::new(Arc::new(shared)), owner)
    }

    fn load(&self, users: &[&dyn Any]) -> Vec<Busy> {
        load::load(self, users)
    }
}

/// The task that owns the link.
struct Owner {
    bus: Bus,
    line: watch::Sender<Line>,
    world: World,
}

impl Owner {
    /// Opens the link. Whoever waits learns why when that does not work.
    async fn open(&self, voice: &Voice) -> anyhow::Result<Link> {
        let Bus { to, connect_timeout, .. } = &self.bus;
        let opened = Link::open(&self.world, to, *connect_timeout, voice).await;
        opened.inspect_err(|error| {
            self.line.send_replace(Line::Down(format!("{error:#}").into()));
        })
    }
}

impl Connection for Owner {
    /// Serves reads until the link cannot be opened.
    async fn run(&mut self, voice: &Voice) -> anyhow::Result<()> {
        let owner = &*self;
        let link = Some(owner.open(voice).await?);
        let now = Instant::now();
        let mut session =
            Session { owner, voice, link, quiet_until: now, time: BusyTime::since(now) };
        voice.ready();
        let (reads, mut queue) = mpsc::channel(QUEUE_READS);
        owner.line.send_replace(Line::Serving(reads));
        let mut slice = interval_at(now + SLICE, SLICE);
        loop {
            tokio::select! {
                read = queue.recv() => match read {
                    Some(read) => session.serve(read).await?,
                    // The line holds a sender, so the queue ends with this function and not before.
                    None => return Ok(()),
                },
                _ = slice.tick() => voice.busy(session.time.turn(Instant::now())),
            }
        }
    }
}

/// One run of the owner. Dropped with it, and the link too: in the middle of a request it cannot
/// be used again.
struct Session<'a> {
    owner: &'a Owner,
    voice: &'a Voice,
    link: Option<Link>,
    quiet_until: Instant,
    time: BusyTime,
}

impl Session<'_> {
    /// Answers one read. Fails when the link cannot be opened.
    async fn serve(&mut self, read: Read) -> anyhow::Result<()> {
        // Its node was stopped meanwhile.
        if read.reply.is_closed() {
            return Ok(());
        }
        quiet(self.quiet_until).await;
        let began = Instant::now();
        let was_open = self.link.is_some();
        let mut answer = self.ask(&read).await?;
        // Many devices hang up on who was silent for a minute, and a read may be repeated.
        if was_open && matches!(answer, Err(Failure::HungUp(_))) {
            debug!(bus = %self.owner.bus.to, "the other side hung up; asking again");
            answer = self.ask(&read).await?;
        }
        self.quiet_until = Instant::now() + *self.owner.bus.pause;
        self.time.add(self.quiet_until - began);
        // The node may have been stopped meanwhile.
        let _ = read.reply.send(answer);
        Ok(())
    }

    async fn ask(&mut self, read: &Read) -> anyhow::Result<Result<Answer, Failure>> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.owner.open(self.voice).await?,
        };
        let answer = link.read(read.unit, read.block, self.owner.bus.timeout).await;
        match &answer {
            Ok(_) | Err(Failure::Exception(_)) => self.link = Some(link),
            Err(failure) => debug!(bus = %self.owner.bus.to, %failure, "closing the link"),
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
        self.voice.busy(0.0);
        self.owner.line.send_if_modified(|line| match line {
            Line::Serving(_) => {
                *line = Line::stopped();
                true
            }
            Line::Opening | Line::Down(_) => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_bus_without_a_pause_took_a_millisecond_between_requests() {
        assert!(quiet(Instant::now()).now_or_never().is_some());
        assert!(quiet(Instant::now() + PAUSE).now_or_never().is_none());
    }
}
