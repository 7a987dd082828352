//! The owner of a bus, who alone talks on it.
//!
//! It opens the link, serves who waits (`turns.rs`), and opens the link anew when it is of no more
//! use. When it cannot be opened, `run` ends, the engine waits and calls it again; meanwhile every
//! request fails at once.

use std::{any::Any, pin::pin, sync::Arc, time::Duration};

use forebay_sdk::{
    Busy, Claim, Configured, Connection, Examination, Node, Shared, Site, Voice, World,
    line::LineOwner,
};
use futures_util::future::{FutureExt, LocalBoxFuture};
use tokio::{
    task::yield_now,
    time::{Instant, sleep_until},
};
use tokio_modbus::ExceptionCode;
use tracing::debug;

use crate::{
    ask::Ask,
    bus::{Bus, SharedBus},
    busy::{BusyTime, SLICE},
    examine::examine,
    frame::Framing,
    link::{Answer, Failure, Link, Place},
    load,
    turns::{Job, Serving, Turn, Turns, Waiting},
};

/// Firewalls and routers on the way forget a connection on which nothing came for a while, some
/// after two seconds. A request without an answer is then asked again on a new one.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1);
/// So many requests in a row without any answer, and a link on the network is opened anew. Not at the first: a
/// unit that is dead behind a gateway must not cost the others their connection, and some devices
/// answer nothing for a second after it was opened.
const MOST_SILENT: u32 = 3;

impl Configured for Bus {
    fn build(&self, site: Site) -> Node {
        let (shared, line) = SharedBus::new(self);
        let owner = Owner { bus: self.clone(), line, world: site.world };
        Node::connection(Shared::new(Arc::new(shared)), owner)
    }

    fn claims(&self) -> Vec<Claim> {
        match &self.to {
            Place::Serial(device, _) => vec![Claim::path("serial line", device, "url")],
            Place::Network(to, _) => vec![Claim::peer(to, "url")],
        }
    }

    fn reaches(&self) -> Vec<String> {
        vec![match &self.to {
            Place::Serial(device, _) => device.display().to_string(),
            Place::Network(to, _) => to.to_string(),
        }]
    }

    fn load(&self, users: &[&dyn Any]) -> Vec<Busy> {
        load::load(self, users)
    }

    fn examine<'a>(&'a self, asked: &'a Examination<'a>) -> Option<LocalBoxFuture<'a, ()>> {
        Some(examine(self, asked).boxed_local())
    }
}

/// The task that owns the link.
struct Owner {
    bus: Bus,
    line: LineOwner<Job>,
    world: World,
}

impl Owner {
    /// Opens the link. Whoever waits learns why when that does not work.
    async fn open(&self, voice: &Voice) -> anyhow::Result<Open> {
        let Bus { to, connect_timeout, .. } = &self.bus;
        let opened = Link::open(&self.world, to, *connect_timeout, voice).await;
        let link = opened.inspect_err(|error| self.line.down(format!("{error:#}")))?;
        Ok(Open { link, answered: None, silent: 0 })
    }
}

impl Connection for Owner {
    /// Serves requests until the link cannot be opened.
    async fn run(&mut self, voice: &Voice) -> anyhow::Result<()> {
        let owner = &*self;
        let Bus { to, timeout, breaker, after_connect, .. } = &owner.bus;
        let link = owner.open(voice).await?;
        let now = Instant::now();
        let mut session = Session {
            owner,
            voice,
            link: Some(link),
            turns: Turns::new(to.framing(), **timeout, *breaker),
            used: now,
            quiet_until: now + **after_connect,
            time: BusyTime::since(now),
            slice_ends: now + SLICE,
        };
        voice.ready();
        let mut jobs = owner.line.serve();
        // One for all turns: a timer that is set for each request costs as much as the request.
        let mut look = pin!(sleep_until(session.next_look()));
        loop {
            while let Some(job) = jobs.next_waiting() {
                session.turns.enter(job);
            }
            let now = Instant::now();
            session.keep_time(now);
            let next = match session.turns.next(now, &|block| owner.bus.cost(block)) {
                Turn::Serve(serving) => {
                    session.serve(serving, now).await?;
                    continue;
                }
                Turn::WaitUntil(instant) => instant.min(session.next_look()),
                Turn::Idle => session.next_look(),
            };
            if look.deadline() != next {
                look.as_mut().reset(next);
            }
            tokio::select! {
                biased;
                job = jobs.next() => session.turns.enter(job),
                () = &mut look => session.close_if_idle(),
            }
        }
    }
}

/// One run of the owner. Dropped with it, and the link too: in the middle of a request it cannot
/// be used again.
struct Session<'a> {
    owner: &'a Owner,
    voice: &'a Voice,
    link: Option<Open>,
    turns: Turns,
    /// When the link was last of use.
    used: Instant,
    quiet_until: Instant,
    time: BusyTime,
    slice_ends: Instant,
}

/// A link, and how it is.
struct Open {
    link: Link,
    /// When anything on it last answered.
    answered: Option<Instant>,
    /// Requests since then.
    silent: u32,
}

impl Session<'_> {
    /// Serves one request, and answers it unless the device wants to be asked again. Fails when the
    /// link cannot be opened.
    async fn serve(&mut self, mut serving: Serving, now: Instant) -> anyhow::Result<()> {
        // Nodes may have been stopped meanwhile.
        serving.waiting.retain(|waiting| !waiting.job.reply.is_closed());
        if serving.waiting.is_empty() {
            return Ok(());
        }
        let Serving { unit, ref ask, .. } = serving;
        let answer = match self.turns.rests(unit, now) {
            Some(rest) => Err(Failure::Resting(rest)),
            None => self.ask(unit, ask).await?,
        };
        let busy = match &answer {
            Err(Failure::Exception(
                ExceptionCode::IllegalDataAddress | ExceptionCode::IllegalDataValue,
            )) if serving.waiting.len() > 1 => {
                self.turns.split(serving);
                return Ok(());
            }
            Err(Failure::Exception(ExceptionCode::ServerDeviceBusy)) => true,
            // It has begun, and to ask whether it has ended is to ask again. What was to be written
            // is not written twice.
            Err(Failure::Exception(ExceptionCode::Acknowledge)) => ask.is_read(),
            _ => false,
        };
        let whole = ask.reads();
        if let (Some(whole), true) = (whole, serving.waiting.len() > 1) {
            match &answer {
                Ok(_) => self.turns.answered_together(unit, whole),
                Err(failure) if failure.is_silence() => self.turns.silent_together(unit, whole),
                Err(_) => (),
            }
        }
        for waiting in serving.waiting {
            let answered =
                if busy { self.turns.enter_again(waiting, Instant::now()) } else { Err(waiting) };
            if let Err(Waiting { job, .. }) = answered {
                let part = |answer: &Answer| match (whole, job.ask.reads()) {
                    (Some(whole), Some(part)) if part != whole => answer.part(whole, part),
                    _ => answer.clone(),
                };
                // The node may have been stopped meanwhile.
                let _ = job.reply.send(answer.as_ref().map(part).map_err(Clone::clone));
            }
        }
        // Who has its next request in line may not want it any more.
        if answer.is_err() {
            yield_now().await;
        }
        Ok(())
    }

    /// Asks a unit, on a new link where the old one may be the reason that there is no answer.
    async fn ask(&mut self, unit: u8, ask: &Ask) -> anyhow::Result<Result<Answer, Failure>> {
        let idle = self.used.elapsed();
        let was_open = self.link.is_some();
        let was_alive = self.link.as_ref().is_some_and(|open| open.answered.is_some());
        if let Some(first) = self.turns.clears(unit, ask) {
            match self.try_once(unit, &first).await? {
                Ok(_) | Err(Failure::Exception(_)) => (),
                Err(failure) => return Ok(Err(failure)),
            }
        }
        let answer = self.try_once(unit, ask).await?;
        let again = match &answer {
            // Many devices hang up on who was silent for a minute.
            Err(Failure::HungUp { .. }) => was_open,
            Err(Failure::Silence { .. }) => {
                was_alive && idle > FORGOTTEN_AFTER && self.owner.bus.to.framing() != Framing::Rtu
            }
            _ => false,
        };
        if !again || !ask.is_read() {
            return Ok(answer);
        }
        debug!(bus = %self.owner.bus.to, "no answer on a link that was idle; asking again on a new one");
        self.link = None;
        self.try_once(unit, ask).await
    }

    async fn try_once(&mut self, unit: u8, ask: &Ask) -> anyhow::Result<Result<Answer, Failure>> {
        let Bus { timeout, pause, after_connect, to, line, .. } = &self.owner.bus;
        let mut open = match self.link.take() {
            Some(open) => open,
            None => {
                let open = self.owner.open(self.voice).await?;
                self.quiet_until = Instant::now() + **after_connect;
                open
            }
        };
        quiet(self.quiet_until).await;
        let began = Instant::now();
        let answer = open.link.call(unit, ask, *timeout).await;
        let ended = Instant::now();
        match &answer {
            Ok(_) => self.turns.answered(unit, ended),
            Err(failure) if failure.is_silence() => {
                self.turns.was_silent(unit, ask, ended - began, ended);
            }
            Err(Failure::Exception(_)) => self.turns.refused(unit, ask, ended),
            Err(_) => (),
        }
        match &answer {
            Ok(_) | Err(Failure::Exception(_)) => {
                (open.answered, open.silent) = (Some(ended), 0);
                self.link = Some(open);
            }
            Err(Failure::Silence { .. }) => {
                open.silent += 1;
                // On a serial line two who talk at once are not understood.
                if let (Framing::Rtu, Some(line)) = (to.framing(), line) {
                    open.link.settle(line.silence()).await;
                }
                let keeps = matches!(to, Place::Serial(..)) || open.silent < MOST_SILENT;
                self.link = keeps.then_some(open);
            }
            Err(failure) => debug!(bus = %to, %failure, "closing the link"),
        }
        let now = Instant::now();
        let silence = line.filter(|_| to.framing() == Framing::Rtu).map(|line| line.silence());
        self.quiet_until = now + silence.unwrap_or_default().max(**pause);
        self.used = now;
        self.time.add(self.quiet_until - began);
        Ok(answer)
    }

    /// When to look again although nobody asks.
    fn next_look(&self) -> Instant {
        let close = self.owner.bus.idle_close.filter(|_| self.link.is_some());
        let close = close.map(|after| self.used + *after);
        close.map_or(self.slice_ends, |close| close.min(self.slice_ends))
    }

    fn close_if_idle(&mut self) {
        if self.owner.bus.idle_close.is_some_and(|after| self.used.elapsed() >= *after) {
            self.link = None;
        }
    }

    /// Says now and then how busy the bus is.
    fn keep_time(&mut self, now: Instant) {
        if now >= self.slice_ends {
            self.voice.busy(self.time.turn(now));
            self.slice_ends = now + SLICE;
        }
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
