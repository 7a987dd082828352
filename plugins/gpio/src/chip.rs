//! A chip as its nodes see it, and as its owner (`connection.rs`) tells of it.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{World, connection::Down, world::gpio::GpioChip};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use crate::{line::ChipName, outputs::Outputs};

/// How often a chip is looked at that nobody has said anything about. Kernels before 6.7 wake nobody when one
/// goes away.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long who needs the chip waits for it.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A connection that was understood.
#[derive(Clone)]
pub struct ChipSettings {
    pub chip: ChipName,
}

/// A chip as its nodes see it.
pub struct Chip {
    pub name: ChipName,
    pub world: World,
    pub outputs: Outputs,
    pub state: watch::Sender<State>,
    /// Something is to be done about outputs.
    pub changed: Notify,
    /// A node has seen that the chip is gone.
    pub lost: Notify,
}

/// Whether a chip is there.
#[derive(Clone)]
pub enum State {
    /// The owner has not looked yet.
    Opening,
    /// The chip is there. Told again each time that something has become of outputs.
    There(Arc<GpioChip>),
    /// Why not.
    Away(Arc<str>),
}

impl Chip {
    /// One that nobody has looked for yet.
    pub fn new(name: ChipName, world: World) -> Chip {
        Chip {
            name,
            world,
            outputs: Outputs::default(),
            state: watch::channel(State::Opening).0,
            changed: Notify::new(),
            lost: Notify::new(),
        }
    }

    /// Waits for the chip. After a while it says why it is not there.
    pub async fn there(&self) -> Result<Arc<GpioChip>, Down> {
        let mut state = self.state.subscribe();
        let there = state.wait_for(|state| matches!(state, State::There(_)));
        if let Ok(Ok(state)) = timeout(LONGEST_WAIT, there).await
            && let State::There(chip) = &*state
        {
            return Ok(Arc::clone(chip));
        }
        Err(self.why())
    }

    /// Waits until something becomes of the chip or its outputs. False when nothing does.
    pub async fn is_told(&self, since: &mut Told) -> bool {
        matches!(timeout(LONGEST_WAIT, since.0.changed()).await, Ok(Ok(())))
    }

    /// From when on something is new.
    pub fn now(&self) -> Told {
        Told(self.state.subscribe())
    }

    /// Why the chip is not there.
    pub fn why(&self) -> Down {
        Down::new(match &*self.state.borrow() {
            State::Away(why) => Arc::clone(why),
            State::Opening | State::There(_) => "the chip is still being looked for".into(),
        })
    }

    /// A node has seen that the chip is gone.
    pub fn lost(&self) -> Down {
        self.lost.notify_one();
        Down::new(format!("{} is gone", self.name))
    }

    /// The owner is to look at the outputs.
    pub fn changed(&self) {
        self.changed.notify_one();
    }
}

/// What somebody has been told of a chip.
pub struct Told(watch::Receiver<State>);
