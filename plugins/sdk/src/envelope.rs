//! What travels on a wire.

use tokio::time::Instant;

use crate::{delivery::Delivery, message::Message};

/// An output of a node, by number: [`Port::MAIN`], [`Port::ERRORS`], then the named ones in the
/// order of [`crate::Configured::outputs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u16);

impl Port {
    /// Where messages go unless a node says otherwise.
    pub const MAIN: Port = Port(0);
    /// Where a message goes that the node could not handle.
    pub const ERRORS: Port = Port(1);

    /// The port of the output that stands at `index` in [`crate::Configured::outputs`].
    pub fn named(index: usize) -> Port {
        let index = u16::try_from(index).unwrap_or(u16::MAX - 2);
        Port(index + 2)
    }
}

/// A message on a wire, with the promise to deliver it when its source wants to know.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// What travels.
    pub message: Message,
    /// None when the source does not track the message.
    pub delivery: Option<Delivery>,
    /// When a source sent it, or what it was made of. The engine fills it in where it leaves a node; what a node held
    /// began when it left that.
    pub began: Option<Instant>,
}

impl Envelope {
    /// A message that begins its way.
    pub fn new(message: Message, delivery: Option<Delivery>) -> Envelope {
        Envelope { message, delivery, began: None }
    }
}
