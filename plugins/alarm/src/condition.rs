//! What an alarm can be about.

use std::{collections::VecDeque, time::Duration};

use forebay_sdk::Timestamp;
use serde::{Deserialize, Serialize};

/// The most values that are remembered of a device.
const MOST_RECENT: usize = 1000;

/// A condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    Above,
    Below,
    Is,
    Changes,
    Silent,
    When,
}

/// The values that came lately, with their times in nanoseconds since 1970.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Recent(VecDeque<(i64, f64)>);

impl Recent {
    /// By how much the values of the last while differ, with this one.
    pub(crate) fn spread(&mut self, value: f64, time: Timestamp, within: Duration) -> f64 {
        let now = time.unix_nanos();
        let within = i64::try_from(within.as_nanos()).unwrap_or(i64::MAX);
        // A clock that was set back makes what came before of no use.
        self.0.retain(|(then, _)| (0..=within).contains(&(now - then)));
        if self.0.len() == MOST_RECENT {
            self.0.pop_front();
        }
        self.0.push_back((now, value));
        let values = self.0.iter().map(|(_, value)| *value);
        let most = values.clone().fold(f64::MIN, f64::max);
        most - values.fold(f64::MAX, f64::min)
    }
}
