//! What waits in front of a node, for who looks: what the log has, read some at a time, then what is only in memory.

use std::{collections::VecDeque, sync::Arc};

use forebay_sdk::Message;
use tracing::debug;

use super::{
    inbox::Inbox,
    tap::{Nodes, Tapped},
};
use crate::config::{Name, NodeSpec};

/// Of what waits in memory, and in no log, so many are shown.
const MOST_IN_MEMORY: usize = 100;
/// What is read of the log at once.
const READ_BYTES: usize = 64 << 10;

/// What waited when somebody asked, the oldest first. What is delivered or dropped meanwhile may be missing.
pub struct Backlog {
    inbox: Arc<Inbox>,
    names: Names,
    of: Nodes,
    /// Where to read on in the log, and where to end.
    rest: std::ops::Range<u64>,
    read: VecDeque<Tapped>,
    in_memory: VecDeque<Tapped>,
}

/// What nodes the messages come from.
struct Names {
    node: Arc<str>,
    /// By how the node wrote them in its `from:`, and by who made the message.
    inputs: Vec<(Arc<str>, Name, Arc<str>)>,
}

impl Backlog {
    /// Nothing in front of a node that does not wait.
    pub(super) fn of(name: &Name, spec: &NodeSpec, inbox: &Arc<Inbox>, of: Nodes) -> Backlog {
        let inputs = spec.from.iter().map(|input| {
            (Arc::clone(&input.written), Arc::clone(&input.node), input.full_name().into())
        });
        let names = Names { node: Arc::clone(name), inputs: inputs.collect() };
        let (below, waiting) = inbox.waiting(MOST_IN_MEMORY);
        let shown =
            |(message, from)| Tapped::new(names.of(&message, from), message, Arc::clone(&of));
        let in_memory = waiting.into_iter().map(shown).collect();
        let (inbox, rest) = (Arc::clone(inbox), 0..below.unwrap_or(0));
        Backlog { inbox, names, of, rest, read: VecDeque::new(), in_memory }
    }

    /// The next one.
    pub async fn next(&mut self) -> Option<Tapped> {
        while self.read.is_empty() && !self.rest.is_empty() {
            let read = match self.inbox.read_log(self.rest.start, READ_BYTES).await {
                Some(Ok(read)) => read,
                // The node's state says that its disk fails.
                Some(Err(error)) => {
                    debug!(node = %self.names.node, %error, "what waits cannot be shown");
                    Vec::new()
                }
                None => Vec::new(),
            };
            self.rest.start = read.last().map_or(self.rest.end, |(seq, _)| seq + 1);
            let below = self.rest.end;
            for (_, message) in read.into_iter().filter(|(seq, _)| *seq < below) {
                let name = self.names.of(&message, None);
                self.read.push_back(Tapped::new(name, message, Arc::clone(&self.of)));
            }
        }
        self.read.pop_front().or_else(|| self.in_memory.pop_front())
    }
}

impl Names {
    /// The output that a message came out of, as far as that is known.
    fn of(&self, message: &Message, from: Option<Arc<str>>) -> Arc<str> {
        let mut inputs = self.inputs.iter();
        let source = message.meta.source.as_ref();
        let found = match (&from, self.inputs.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => inputs.find(|(_, node, _)| Some(node) == source),
            (Some(from), _) => inputs.find(|(written, _, _)| written == from),
        };
        Arc::clone(found.map_or(&self.node, |(_, _, name)| name))
    }
}
