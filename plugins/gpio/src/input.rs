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
    way: Way,
    edges: Edges,
    pub level: bool,
    /// When the level was read.
    read_at: Instant,
}

enum Way {
    /// The kernel tells each edge.
    Told {
        line: Box<dyn HeldLine>,
        /// That of the last one.
        number: u32,
    },
    /// It is read over and over.
    Polled { line: Box<dyn HeldLine>, every: Duration, next: Instant, lasting: Lasting },
    /// Somebody else reads it, and says what it has.
    Shown(Lasting),
}

/// Whether a level lasts.
struct Lasting {
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

    pub fn is_counted_by_router(&self) -> bool {
        self.meter.as_ref().is_some_and(|meter| meter.is_counted_by_router)
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
        let polled = |line, every: Duration| {
            let next = Instant::now() + every;
            Way::Polled { line, every, next, lasting: Lasting::of(self) }
        };
        let way = match self.poll {
            Some(every) => polled(found.hold(world, request(None, Duration::ZERO)).await?, every),
            None => match found.hold(world, request(Some(self.edges), self.debounce)).await {
                Ok(line) => Way::Told { line, number: 0 },
                // Drivers say in many ways that they have no interrupt for a line.
                Err(refused @ NotHeld::Refused(_)) => {
                    match found.hold(world, request(None, Duration::ZERO)).await {
                        Ok(line) => polled(line, POLL),
                        Err(_) => return Err(refused),
                    }
                }
                Err(other) => return Err(other),
            },
        };
        let mut watched = Watched { way, edges: self.edges, level: false, read_at: Instant::now() };
        watched.begin().map_err(NotHeld::of)?;
        Ok(watched)
    }
}

impl Watched {
    /// One that somebody else reads, and that has this level.
    pub fn shown(input: &Input, level: bool) -> Watched {
        let (way, edges) = (Way::Shown(Lasting::of(input)), input.edges);
        Watched { way, edges, level, read_at: Instant::now() }
    }

    /// How often the line is read, although nobody asked for that.
    pub fn is_polled_every(&self) -> Option<Duration> {
        match &self.way {
            Way::Polled { every, .. } => Some(*every),
            Way::Told { .. } | Way::Shown(_) => None,
        }
    }

    /// The level now, as the driver reads it.
    pub fn look(&self) -> io::Result<bool> {
        match &self.way {
            Way::Told { line, .. } | Way::Polled { line, .. } => line.level(),
            Way::Shown(_) => Ok(self.level),
        }
    }

    /// Begins with the level that the line has come to by now.
    pub fn begin(&mut self) -> io::Result<()> {
        (self.level, self.read_at) = (self.look()?, Instant::now());
        Ok(())
    }

    /// Somebody has read this level. The change that is to be told, when there is one.
    pub fn show(&mut self, level: bool) -> Option<Change> {
        let Way::Shown(lasting) = &mut self.way else { return None };
        let change = lasting.look(level, self.level)?;
        self.take_in(change)
    }

    /// Looks whether an edge was lost: some chips tell only the first of two that come fast. The change that is to be
    /// told, when there is one.
    pub fn catch_up(&mut self) -> io::Result<Option<Change>> {
        if !matches!(self.way, Way::Told { .. }) || self.edges != Edges::Both {
            return Ok(None);
        }
        let before = self.level;
        self.begin()?;
        let change = Change { at: self.read_at, level: self.level, lost: 0 };
        Ok((self.level != before).then_some(change))
    }

    /// Waits for the next change that is to be told. Dropping the future loses none.
    pub async fn next(&mut self) -> io::Result<Change> {
        loop {
            let change = match &mut self.way {
                Way::Told { line, number } => {
                    let edge = line.edge().await?;
                    let lost = edge.number.wrapping_sub(*number).saturating_sub(1);
                    *number = edge.number;
                    Some(Change { at: edge.at, level: edge.level, lost: lost.into() })
                }
                Way::Polled { line, every, next, lasting } => {
                    sleep_until(*next).await;
                    *next = Instant::now() + *every;
                    lasting.look(line.level()?, self.level)
                }
                Way::Shown(_) => std::future::pending().await,
            };
            if let Some(change) = change.and_then(|change| self.take_in(change)) {
                return Ok(change);
            }
        }
    }

    /// Takes in a change, and says whether it is one to tell.
    fn take_in(&mut self, change: Change) -> Option<Change> {
        // The level was read after this edge, and told with it.
        let is_told = change.at < self.read_at && change.level == self.level;
        self.level = change.level;
        let is_wanted = match self.edges {
            Edges::Rising => change.level,
            Edges::Falling => !change.level,
            Edges::Both => !is_told,
        };
        is_wanted.then_some(change)
    }
}

impl Lasting {
    fn of(input: &Input) -> Lasting {
        Lasting { debounce: input.debounce, other_since: None }
    }

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
