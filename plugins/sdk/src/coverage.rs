//! What of a script ran, for `forebay test --coverage`.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::fault::At;

/// The places of one script, and which of them were reached.
pub struct Coverage {
    /// The setting that holds the script.
    pub setting: &'static str,
    spots: Vec<(Spot, AtomicBool)>,
}

/// A place that can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Where it stands.
    pub at: At,
    /// What is reached there.
    pub what: Reachable,
}

/// What can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachable {
    /// A statement.
    Statement,
    /// The way around a block, when its condition does not hold and nothing is written for that.
    WayAround,
}

impl Coverage {
    /// Nothing was reached yet.
    pub fn new(setting: &'static str, spots: Vec<Spot>) -> Coverage {
        let spots = spots.into_iter().map(|spot| (spot, AtomicBool::new(false))).collect();
        Coverage { setting, spots }
    }

    /// The spot of this number was reached.
    pub fn reach(&self, number: usize) {
        if let Some((_, reached)) = self.spots.get(number) {
            reached.store(true, Ordering::Relaxed);
        }
    }

    /// All spots in the order of the script, and whether each was reached.
    pub fn spots(&self) -> impl Iterator<Item = (&Spot, bool)> {
        self.spots.iter().map(|(spot, reached)| (spot, reached.load(Ordering::Relaxed)))
    }
}
