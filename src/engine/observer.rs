//! Who sees all that passes, for tests of pipelines. A tap shows what somebody takes in time; this one misses nothing.

use forebay_sdk::{Delivery, Message, Port};

use crate::config::Name;

/// Sees all that passes. Called by the nodes as they run, so it does not wait.
pub trait Observer: Send + Sync {
    /// A message leaves a node, whether anybody reads it or not.
    fn came_out(&self, node: &Name, port: Port, message: &Message);

    /// A message is on its way to a reader. What this gives is one promise more that the reader has to keep.
    fn goes_in(&self, reader: &Name, message: &Message) -> Option<Delivery>;
}
