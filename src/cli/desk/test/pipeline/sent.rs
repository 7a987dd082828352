//! A message that a source sends.

use std::time::Duration;

use forebay_sdk::{Message, Port};

/// A message that is sent.
#[derive(Clone)]
pub struct Sent {
    /// When, since the beginning of the test.
    pub at: Duration,
    pub port: Port,
    pub message: Message,
}
