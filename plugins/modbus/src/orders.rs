//! What holds for all messages that ask a device for something, and what is known of a request that failed.

use std::time::Duration;

pub use forebay_sdk::orders::{ANSWERS, Bounds, Pace};
use forebay_sdk::{Capabilities, Period};
use tokio_modbus::ExceptionCode;

use crate::link::Failure;

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
