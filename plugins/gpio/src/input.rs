//! An input that is watched: by the edges that the kernel tells, or by reading it over and over where the
//! chip raises no interrupts.

use std::{io, sync::Arc, time::Duration};

use forebay_sdk::{
    World,
    world::gpio::{Bias, Edges, GpioChip, GpioRequest, HeldLine, Usage},
};
use tokio::time::{Instant, sleep_until};

use crate::{
    line::{Found, LineId, NotHeld},
    pulses::Meter,
};

/// How often a line is read whose chip raises no interrupts, when nobody said.
pub const POLL: Duration = Duration::from_millis(100);

/// How long a line is left alone before its first level is told, beside `debounce`: what pulls it takes some
/// milliseconds, and what it has before that would be a false alarm at each start.
const SETTLES: Duration = Duration::from_millis(10);
/// With a longer `debounce`, what it then has is told.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A line that is to be watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub name: Arc<str>,
    pub line: LineId,
    pub active_low: bool,
    pub bias: Option<Bias>,
    pub debounce: Duration,
    pub edges: Edges,
    /// Reads the line this often, without interrupts.
    pub poll: Option<Duration>,
    /// Counts its edges.
    pub meter: Option<Meter>,
}

/// A line that is watched.
pub struct Watched {
    held: Box<dyn HeldLine>,
    way: Way,
    edges: Edges,
    pub level: bool,
    /// When the level was read.
    read_at: Instant,
}

enum Way {
    /// The kernel tells each; the number of the last.
    Told(u32),
    Polled(Poll),
}

struct Poll {
    every: Duration,
    next: Instant,
    debounce: Duration,
    /// Since when the line has another level.
    other_since: Option<Instant>,
}

/// One change of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub at: Instant,
    pub level: bool,
    /// Edges before it that were lost, since they came faster than they were read.
    pub lost: u64,
}

impl Input {
    /// How long its level needs to come to rest after somebody began to watch it.
    pub fn settles(&self) -> Duration {
        (self.debounce + SETTLES).min(LONGEST_WAIT)
    }

    /// Begins to watch the line.
    pub async fn watch(
        &self,
        chip: &GpioChip,
        world: &World,
        node: &str,
    ) -> Result<Watched, NotHeld> {
        let found = Found::on(chip, &self.line).map_err(NotHeld::Refused)?;
        let request = |edges: Option<Edges>, debounce: Duration| GpioRequest {
            chip: chip.name.clone(),
            line: found.number,
            holder: format!("forebay {node}"),
            active_low: self.active_low,
            bias: self.bias,
            usage: Usage::Input { edges, debounce },
        };
        let polled = |every: Duration| {
            let (next, debounce) = (Instant::now() + every, self.debounce);
            Way::Polled(Poll { every, next, debounce, other_since: None })
        };
        let (held, way) = match self.poll {
            Some(every) => (found.hold(world, request(None, Duration::ZERO)).await?, polled(every)),
            None => match found.hold(world, request(Some(self.edges), self.debounce)).await {
                Ok(held) => (held, Way::Told(0)),
                // Drivers say in many ways that they have no interrupt for a line.
                Err(refused @ NotHeld::Refused(_)) => {
                    match found.hold(world, request(None, Duration::ZERO)).await {
                        Ok(held) => (held, polled(POLL)),
                        Err(_) => return Err(refused),
                    }
                }
                Err(other) => return Err(other),
            },
        };
        let level = held.level().map_err(NotHeld::of)?;
        let (edges, read_at) = (self.edges, Instant::now());
        Ok(Watched { held, way, edges, level, read_at })
    }
}

impl Watched {
    /// How often the line is read, although nobody asked for that.
    pub fn is_polled_every(&self) -> Option<Duration> {
        match &self.way {
            Way::Told(_) => None,
            Way::Polled(poll) => Some(poll.every),
        }
    }

    /// The level now, as the driver reads it.
    pub fn look(&self) -> io::Result<bool> {
        self.held.level()
    }

    /// Begins with the level that the line has come to by now.
    pub fn begin(&mut self) -> io::Result<()> {
        (self.level, self.read_at) = (self.held.level()?, Instant::now());
        Ok(())
    }

    /// Waits for the next change that is to be told. Dropping the future loses none.
    pub async fn next(&mut self) -> io::Result<Change> {
        loop {
            let change = match &mut self.way {
                Way::Told(number) => {
                    let edge = self.held.edge().await?;
                    let lost = edge.number.wrapping_sub(*number).saturating_sub(1);
                    *number = edge.number;
                    Some(Change { at: edge.at, level: edge.level, lost: lost.into() })
                }
                Way::Polled(poll) => {
                    sleep_until(poll.next).await;
                    poll.next = Instant::now() + poll.every;
                    poll.look(self.held.level()?, self.level)
                }
            };
            let Some(change) = change else { continue };
            // The level was read after this edge, and told with it.
            let is_told = change.at < self.read_at && change.level == self.level;
            self.level = change.level;
            let is_wanted = match self.edges {
                Edges::Rising => change.level,
                Edges::Falling => !change.level,
                Edges::Both => !is_told,
            };
            if is_wanted {
                return Ok(change);
            }
        }
    }
}

impl Poll {
    /// What a level says that was just read.
    fn look(&mut self, level: bool, before: bool) -> Option<Change> {
        if level == before {
            self.other_since = None;
            return None;
        }
        let now = Instant::now();
        let at = *self.other_since.get_or_insert(now);
        if now.saturating_duration_since(at) < self.debounce {
            return None;
        }
        self.other_since = None;
        Some(Change { at, level, lost: 0 })
    }
}
