//! What holds for all messages that ask for something: whether one is too old, whether one may be
//! carried out now, and what is known of a request that failed.

use std::time::Duration;

use anyhow::{anyhow, bail};
use forebay_sdk::{Capabilities, Message, Period, Rate, Timestamp, WriteError, clock};
use tokio::time::Instant;
use tokio_modbus::ExceptionCode;

use crate::link::Failure;

/// The output on which the answers leave.
pub const ANSWERS: &str = "answers";
/// A message may name many registers, and each answer may take as long as the bus waits for one. A
/// sink stops at the first that does not come, so this is hardly ever reached.
pub const LONGEST_WRITE: Duration = Duration::from_secs(600);

/// Those of a sink that carries out one message after the other, and none of them twice.
pub fn capabilities() -> Capabilities {
    Capabilities {
        batch_messages: 1,
        repeats: false,
        longest_try: LONGEST_WRITE,
        ..Capabilities::default()
    }
}

/// Which messages are carried out, and how many.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// How old one may be.
    pub expires_after: Option<Period>,
    pub rate: Option<Rate>,
}

/// When the next message may be carried out.
#[derive(Default)]
pub struct Pace {
    next: Option<Instant>,
}

/// What is known of a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The device has not done it, and will not.
    Refused,
    /// It never left, or the device said that it is busy. It may be asked in a while.
    NotSent(Option<Period>),
    /// Nobody knows.
    Unknown,
}

impl Bounds {
    /// Refuses a message that is too old.
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
    pub fn wait_for_turn(&self, pace: &mut Pace) -> Result<(), WriteError> {
        let Some(rate) = self.rate else { return Ok(()) };
        let now = Instant::now();
        if let Some(left) = pace.next.and_then(|next| next.checked_duration_since(now))
            && !left.is_zero()
        {
            let error = anyhow!("no more than `rate: {rate}` are carried out; this one waits");
            return Err(WriteError::Retry { error, after: Some(left), taken: 0 });
        }
        pace.next = Some(now + rate.0);
        Ok(())
    }
}

impl Fate {
    /// What a failure says about the request.
    pub fn of(failure: &Failure) -> Fate {
        match failure {
            Failure::NotConnected(_)
            | Failure::Exception(
                ExceptionCode::ServerDeviceBusy | ExceptionCode::GatewayPathUnavailable,
            ) => Fate::NotSent(None),
            Failure::Resting(rest) => Fate::NotSent(Some(rest.left)),
            // The gateway heard nothing of the device, which may have heard the gateway; or the device
            // has begun, and says that it needs longer than one waits.
            Failure::Exception(ExceptionCode::GatewayTargetDevice | ExceptionCode::Acknowledge)
            | Failure::Silence { .. }
            | Failure::HungUp { .. }
            | Failure::Broken(_) => Fate::Unknown,
            Failure::Exception(_) => Fate::Refused,
        }
    }
}
