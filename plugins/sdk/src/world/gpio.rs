//! Lines of GPIO chips, as a world lets them be looked at and held.
//!
//! A level is the line's logical one throughout: `true` is active, whichever voltage that is.

use std::{io, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

/// A chip as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpioChip {
    /// What the system calls it, such as `gpiochip0`. A chip that comes back may get another name.
    pub name: String,
    /// What its driver calls it, such as `pinctrl-bcm2711`.
    pub label: String,
    /// Its lines, by their numbers.
    pub lines: Vec<GpioLine>,
}

/// A line as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpioLine {
    /// What the board calls it. Empty for many.
    pub name: String,
    /// Whether it is driven by this machine.
    pub is_output: bool,
    /// Who holds it, by the name that they gave, which may be empty. None when nobody does.
    pub holder: Option<String>,
}

/// A line that somebody wants to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpioRequest {
    /// The system's name of the chip.
    pub chip: String,
    /// The number of the line.
    pub line: u32,
    /// Under what name others see it held; what is longer than 31 bytes is cut off.
    pub holder: String,
    /// Whether low is active.
    pub active_low: bool,
    /// None leaves it as it is.
    pub bias: Option<Bias>,
    /// What for.
    pub usage: Usage,
}

/// What pulls a line that nobody drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Bias {
    PullUp,
    PullDown,
    Disabled,
}

/// What a line is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// To be read.
    Input {
        /// Which edges are told. None: the driver need not be able to.
        edges: Option<Edges>,
        /// For how long a level must last before its edge is told. Zero tells each edge at once.
        debounce: Duration,
    },
    /// To be driven.
    Output {
        /// How.
        drive: Drive,
        /// The level at first. None keeps the one that the line has.
        level: Option<bool>,
    },
}

/// Which edges are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edges {
    /// From inactive to active.
    Rising,
    /// From active to inactive.
    Falling,
    /// All of them.
    Both,
}

/// How an output drives its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drive {
    /// Both ways.
    #[default]
    PushPull,
    /// Only down.
    OpenDrain,
    /// Only up.
    OpenSource,
}

/// An edge of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// When the kernel saw it.
    pub at: Instant,
    /// The level behind it.
    pub level: bool,
    /// Counts the edges of this line from 1, also those that were lost before they were read; after
    /// the last number of 32 bits comes 0.
    pub number: u32,
}

/// A line that is held. Dropping it lets go of it.
///
/// Errors of all of these: what the system says, such as `ENODEV` once the chip is gone.
pub trait HeldLine: Send + Sync {
    /// The level of the line now; of an output too.
    fn level(&self) -> io::Result<bool>;
    /// Drives an output.
    fn set(&self, level: bool) -> io::Result<()>;
    /// The next edge. Dropping the future loses none.
    fn edge(&self) -> BoxFuture<'_, io::Result<Edge>>;
}
