//! The outputs of a chip. They belong to the connection: a sink that is replaced leaves its lines as they
//! are, and whoever takes its place finds them held.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use forebay_sdk::{
    Voice, World,
    world::gpio::{Bias, Drive, GpioChip, GpioRequest, HeldLine, Usage},
};
use tokio::time::Instant;
use tracing::info;

use crate::{
    line::{Found, LineId, NotHeld, is_gone},
    output::{Output, Rules},
};

/// How long a line whose sink is gone stays held: another sink may take its place.
const ORPHANED_FOR: Duration = Duration::from_secs(2);
/// After how long a line that could not be had, or switched, is tried again.
pub const TRY_AGAIN: Duration = Duration::from_secs(10);

/// What a sink wants of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub name: String,
    pub line: LineId,
    pub hardware: Hardware,
    pub rules: Rules,
    /// The level when the line is taken. None keeps the one that it has.
    pub initial: Option<bool>,
}

/// How a line is driven. One for which this changes is taken anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    pub active_low: bool,
    pub bias: Option<Bias>,
    pub drive: Drive,
}

/// All outputs of a chip that sinks want.
#[derive(Default)]
pub struct Outputs(Mutex<Vec<Line>>);

struct Line {
    wanted: Wanted,
    /// Under what name it is held.
    holder: Arc<str>,
    /// How many sinks are there that want it: two for a moment when one takes the place of the other.
    sinks: usize,
    orphan_since: Instant,
    state: State,
}

enum State {
    /// Not held yet, and to what level it will be switched then.
    Free {
        level: Option<bool>,
    },
    /// Cannot be had.
    Refused {
        why: Arc<str>,
        at: Instant,
    },
    Held(Held),
}

struct Held {
    line: Box<dyn HeldLine>,
    title: Arc<str>,
    output: Output,
    /// Switching it failed.
    failed_at: Option<Instant>,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ordered {
    /// The level that was ordered.
    pub level: bool,
    /// How long it has to wait, because the line must stay as it is.
    pub waits: Option<Duration>,
}

/// Why an order was not carried out.
pub enum Failed {
    /// The chip is gone. Nothing happened.
    Gone,
    /// The line is not held yet. Nothing happened.
    NotYet,
    /// The line cannot be had.
    Refused(anyhow::Error),
    /// The driver failed, and nobody knows what it did.
    Broken(anyhow::Error),
}

impl Outputs {
    /// A sink of this name wants these.
    pub fn register(&self, node: &Arc<str>, wanted: &[Wanted]) {
        let mut lines = self.lines();
        for wanted in wanted {
            let Some(line) = lines.iter_mut().find(|line| line.wanted.line == wanted.line) else {
                lines.push(Line {
                    state: State::Free { level: wanted.initial },
                    wanted: wanted.clone(),
                    holder: Arc::clone(node),
                    sinks: 1,
                    orphan_since: Instant::now(),
                });
                continue;
            };
            line.sinks += 1;
            line.holder = Arc::clone(node);
            let is_driven_alike = line.wanted.hardware == wanted.hardware;
            line.wanted = wanted.clone();
            match &mut line.state {
                State::Held(held) if is_driven_alike => held.output.rules = wanted.rules.clone(),
                // No glitch but that of being let go for a moment.
                State::Held(held) => {
                    line.state = State::Free { level: Some(held.output.level()) };
                }
                State::Free { .. } | State::Refused { .. } => {
                    line.state = State::Free { level: wanted.initial };
                }
            }
        }
    }

    /// A sink is gone that wanted these.
    pub fn unregister(&self, wanted: &[Wanted]) {
        let mut lines = self.lines();
        for line in
            lines.iter_mut().filter(|line| wanted.iter().any(|it| it.line == line.wanted.line))
        {
            line.sinks = line.sinks.saturating_sub(1);
            line.orphan_since = Instant::now();
        }
    }

    /// Takes what is wanted and not held, and lets go of what nobody wants any more. Fails when the chip
    /// is gone.
    pub async fn take(&self, chip: &GpioChip, world: &World, voice: &Voice) -> anyhow::Result<()> {
        self.let_go_of_orphans();
        for (wanted, holder, level) in self.to_take() {
            let what = format!("output `{}`", wanted.name);
            let taken = take(&wanted, &holder, level, chip, world).await;
            let mut lines = self.lines();
            // A reload may have come in between.
            let Some(line) = lines.iter_mut().find(|line| line.wanted == wanted) else { continue };
            line.state = match taken {
                Ok(held) => {
                    voice.trouble_is_over(&what);
                    State::Held(held)
                }
                Err(NotHeld::Gone(error)) => {
                    line.state = State::Free { level: wanted.initial };
                    return Err(error.into());
                }
                Err(other) => {
                    let why = other.into_error();
                    voice.trouble_lasts(&what, &why);
                    State::Refused { why: format!("{why:#}").into(), at: Instant::now() }
                }
            };
        }
        Ok(())
    }

    /// Those to take now, under whose name and at which level.
    fn to_take(&self) -> Vec<(Wanted, Arc<str>, Option<bool>)> {
        let now = Instant::now();
        let lines = self.lines();
        let to_take = lines.iter().filter(|line| line.sinks > 0).filter_map(|line| {
            let level = match line.state {
                State::Free { level } => level,
                State::Refused { at, .. } if at + TRY_AGAIN <= now => line.wanted.initial,
                State::Refused { .. } | State::Held(_) => return None,
            };
            Some((line.wanted.clone(), Arc::clone(&line.holder), level))
        });
        to_take.collect()
    }

    fn let_go_of_orphans(&self) {
        let now = Instant::now();
        self.lines().retain_mut(|line| {
            let stays = line.sinks > 0 || now < line.orphan_since + ORPHANED_FOR;
            if !stays {
                line.make_safe();
            }
            stays
        });
    }

    /// Switches what is due. Fails when the chip is gone.
    pub fn switch(&self, voice: &Voice) -> anyhow::Result<()> {
        let now = Instant::now();
        for line in self.lines().iter_mut() {
            let Line { wanted, state: State::Held(held), .. } = line else { continue };
            let what = format!("output `{}`", wanted.name);
            if held.failed_at.is_some_and(|at| now < at + TRY_AGAIN) {
                continue;
            }
            if let Some(level) = held.output.next_level(now) {
                match held.switch(level, now) {
                    Ok(()) => {
                        info!(line = %held.title, "switched `{}` {}", wanted.name, word(level))
                    }
                    Err(error) if is_gone(&error) => return Err(error.into()),
                    Err(error) => {
                        held.failed_at = Some(now);
                        let error = anyhow::Error::new(error);
                        voice.trouble_lasts(&what, &error.context("switching it"));
                        continue;
                    }
                }
            }
            match (held.output.is_lost(now), wanted.rules.safe, wanted.rules.safe_after) {
                (true, Some(safe), Some(after)) => {
                    let after = forebay_sdk::Period(after);
                    let why = anyhow!(
                        "no command came for {after}, so it is to be {}, which is safe",
                        word(safe)
                    );
                    voice.trouble_lasts(&what, &why);
                }
                _ => voice.trouble_is_over(&what),
            }
        }
        Ok(())
    }

    /// When to look again.
    pub fn due(&self) -> Option<Instant> {
        let due = |line: &Line| match &line.state {
            _ if line.sinks == 0 => Some(line.orphan_since + ORPHANED_FOR),
            State::Free { .. } => None,
            State::Refused { at, .. } => Some(*at + TRY_AGAIN),
            State::Held(Held { output, failed_at, .. }) => {
                let due = output.due();
                failed_at.map_or(due, |at| due.map(|due| due.max(at + TRY_AGAIN)))
            }
        };
        self.lines().iter().filter_map(due).min()
    }

    /// Fails when the chip is gone, as far as a line of it says so.
    pub fn look(&self) -> anyhow::Result<()> {
        let lines = self.lines();
        let held = lines.iter().find_map(|line| match &line.state {
            State::Held(held) => Some(held),
            _ => None,
        });
        match held.map(|held| held.line.level()) {
            Some(Err(error)) if is_gone(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The chip is gone, and with it what was known of its lines: they begin anew.
    pub fn forget(&self) {
        for line in self.lines().iter_mut() {
            line.state = State::Free { level: line.wanted.initial };
        }
    }

    /// Switches all to their safe states and lets go of them.
    pub fn close(&self) {
        for mut line in self.lines().drain(..) {
            line.make_safe();
        }
    }

    /// Whether it is known of each of these lines if it can be had. Fails when none can.
    pub fn are_known(&self, wanted: &[Wanted]) -> anyhow::Result<bool> {
        let lines = self.lines();
        let mut refused = None;
        let mut is_held = false;
        for wanted in wanted {
            let line = lines.iter().find(|line| line.wanted.line == wanted.line);
            match line.map(|line| &line.state) {
                None | Some(State::Free { .. }) => return Ok(false),
                Some(State::Held(_)) => is_held = true,
                Some(State::Refused { why, .. }) => refused = Some(Arc::clone(why)),
            }
        }
        match refused.filter(|_| !is_held) {
            Some(why) => Err(anyhow!("{why}")),
            None => Ok(true),
        }
    }

    /// Carries out an order, now or as soon as the line may change. None toggles.
    pub fn order(&self, id: &LineId, level: Option<bool>) -> Result<Ordered, Failed> {
        let now = Instant::now();
        self.with(id, |held| {
            let level = level.unwrap_or(!held.output.level());
            let before = held.output.clone();
            held.output.order(level, now);
            // Also when nothing changes: the line says then whether it is still there.
            let switched = match held.output.next_level(now) {
                Some(next) => held.switch(next, now),
                None => held.line.set(held.output.level()),
            };
            if let Err(error) = switched {
                held.output = before;
                return Err(error);
            }
            Ok(Ordered { level, waits: held.output.waits(now) })
        })
    }

    /// The level of a line, as its driver reads it.
    pub fn level(&self, id: &LineId) -> Result<bool, Failed> {
        self.with(id, |held| held.line.level())
    }

    fn with<T>(
        &self,
        id: &LineId,
        work: impl FnOnce(&mut Held) -> std::io::Result<T>,
    ) -> Result<T, Failed> {
        let mut lines = self.lines();
        let line = lines.iter_mut().find(|line| line.wanted.line == *id);
        match line.map(|line| &mut line.state) {
            None | Some(State::Free { .. }) => Err(Failed::NotYet),
            Some(State::Refused { why, .. }) => Err(Failed::Refused(anyhow!("{why}"))),
            Some(State::Held(held)) => work(held).map_err(|error| {
                if is_gone(&error) {
                    return Failed::Gone;
                }
                Failed::Broken(anyhow::Error::new(error).context(held.title.to_string()))
            }),
        }
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn take(
    wanted: &Wanted,
    holder: &str,
    level: Option<bool>,
    chip: &GpioChip,
    world: &World,
) -> Result<Held, NotHeld> {
    let found = Found::on(chip, &wanted.line).map_err(NotHeld::Refused)?;
    let Hardware { active_low, bias, drive } = wanted.hardware;
    let request = GpioRequest {
        chip: chip.name.clone(),
        line: found.number,
        holder: format!("forebay {holder}"),
        active_low,
        bias,
        usage: Usage::Output { drive, level },
    };
    let line = found.hold(world, request).await?;
    let level = match level {
        Some(level) => level,
        None => line.level().map_err(NotHeld::of)?,
    };
    let output = Output::new(wanted.rules.clone(), level, Instant::now());
    Ok(Held { line, title: found.title.into(), output, failed_at: None })
}

impl Line {
    /// Nobody will say any more what the level is to be.
    fn make_safe(&mut self) {
        let (State::Held(held), Some(safe)) = (&self.state, self.wanted.rules.safe) else { return };
        match held.line.set(safe) {
            Ok(()) => {
                info!(line = %held.title, "`{}` is {}, which is safe", self.wanted.name, word(safe))
            }
            Err(error) => {
                info!(line = %held.title, %error, "`{}` cannot be made safe", self.wanted.name)
            }
        }
    }
}

impl Held {
    fn switch(&mut self, level: bool, now: Instant) -> std::io::Result<()> {
        self.line.set(level)?;
        self.output.switched(level, now);
        self.failed_at = None;
        Ok(())
    }
}

/// A level, as people say it.
pub fn word(level: bool) -> &'static str {
    if level { "on" } else { "off" }
}
