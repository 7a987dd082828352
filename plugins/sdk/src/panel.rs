//! Inputs and outputs that another program has, and that are asked for over a network: those of a router.
//!
//! A connection offers them as `Shared::new(..).also(Arc::new(SharedPanel(..)))`.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;

use crate::node::WriteError;

/// The inputs and outputs of something, as the nodes of a connection get to see them.
pub struct SharedPanel(pub Arc<dyn Panel>);

/// Inputs and outputs, by their names, such as `din1`. `true` is what the other side calls 1, on or closed.
pub trait Panel: Send + Sync + 'static {
    /// Resolves once the other side answers, or with the reason why it does not.
    fn ready(&self) -> BoxFuture<'_, anyhow::Result<()>>;

    /// The levels of all that there are.
    fn levels(&self) -> BoxFuture<'_, anyhow::Result<BTreeMap<String, bool>>>;

    /// The pulses that the other side has counted, by input. Empty where it counts none.
    fn counts(&self) -> BoxFuture<'_, anyhow::Result<BTreeMap<String, u64>>>;

    /// Switches an output, once at most.
    fn set(&self, name: &str, level: bool) -> BoxFuture<'_, Result<(), WriteError>>;
}
