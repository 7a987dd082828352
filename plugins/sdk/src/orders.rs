//! What holds for all messages that ask for something to be done: whether one is too old, and whether one
//! may be carried out now.

use std::time::Duration;

use anyhow::{anyhow, bail};
use forebay_yaml::units::{Period, Rate};
use tokio::time::Instant;

use crate::{clock, message::Message, node::WriteError, settings::Problem, timestamp::Timestamp};

/// The output on which the answers leave.
pub const ANSWERS: &str = "answers";

/// Which messages are carried out, and how many.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// How old one may be.
    pub expires_after: Option<Period>,
    /// How many are carried out in what time.
    pub rate: Option<Rate>,
}

/// When the next message may be carried out.
#[derive(Default)]
pub struct Pace {
    next: Option<Instant>,
}

impl Bounds {
    /// Refuses a message that is too old.
    ///
    /// # Errors
    ///
    /// When it is.
    pub fn check_age(&self, message: &Message) -> anyhow::Result<()> {
        let Some(most) = self.expires_after else { return Ok(()) };
        let then = clock::restamped(message.time).unix_nanos();
        let age = Timestamp::now().unix_nanos().saturating_sub(then).max(0);
        let age = Duration::from_nanos(age.unsigned_abs());
        if age > *most {
            bail!(
                "not carried out: the message is {} s old, and `expires_after` is {most}",
                age.as_secs()
            );
        }
        Ok(())
    }

    /// Counts a message that is about to be carried out, or says when it may come again.
    ///
    /// # Errors
    ///
    /// A [`WriteError::Retry`] while the one before is too recent.
    pub fn wait_for_turn(&self, pace: &mut Pace) -> Result<(), WriteError> {
        let Some(rate) = self.rate else { return Ok(()) };
        pace.take_turn(rate).map_err(|left| {
            let error = anyhow!("no more than `rate: {rate}` are carried out; this one waits");
            WriteError::Retry { error, after: Some(left), taken: 0 }
        })
    }
}

impl Pace {
    /// Takes a turn.
    ///
    /// # Errors
    ///
    /// How long it is until the next, when none is left.
    pub fn take_turn(&mut self, rate: Rate) -> Result<(), Duration> {
        let now = Instant::now();
        match self.next.and_then(|next| next.checked_duration_since(now)) {
            Some(left) if !left.is_zero() => Err(left),
            _ => {
                self.next = Some(now + rate.0);
                Ok(())
            }
        }
    }

    /// Nothing came of the turn that was taken last: there is another one at once.
    pub fn give_back(&mut self) {
        self.next = None;
    }
}

/// What is wrong with `expires_after`.
pub fn too_old(expires_after: Option<Period>) -> Option<Problem> {
    let (least, most) = (Period::seconds(1), Period::seconds(31 * 86_400));
    Problem::unless_within("expires_after", &expires_after?, least..=most)
}
