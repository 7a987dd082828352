//! A script that asks web services to take messages.

use std::sync::Arc;

use anyhow::anyhow;
use forebay_sdk::{
    Capabilities, Configured, Coverage, Emitter, Message, Node, Saved, Sink, Site, WriteError,
    Written, node::LONGEST_TRY,
};

use crate::{
    asking::{Asking, MOST_REQUESTS, Permission},
    transform::Program,
};

/// The output on which answers leave, and what the script returns.
const ANSWERS: &str = "answers";

/// A sink before it runs.
pub(crate) struct SendingType {
    pub program: Arc<Program>,
    pub permission: Permission,
}

struct Sending(Asking);

impl Configured for SendingType {
    fn build(&self, site: Site) -> Node {
        Node::sink(Sending(Asking::new(Arc::clone(&self.program), self.permission.clone(), &site)))
    }

    fn capabilities(&self) -> Capabilities {
        let requests = u32::try_from(MOST_REQUESTS).unwrap_or(u32::MAX);
        let longest_try = LONGEST_TRY.max(self.permission.answer_within * (requests + 1));
        let is_inward = self.permission.places.is_empty();
        Capabilities { longest_try, is_inward, ..Capabilities::default() }
    }

    fn reaches(&self) -> Vec<String> {
        self.permission.reaches()
    }

    fn noting(&self) -> Option<(Arc<dyn Configured>, Arc<Coverage>)> {
        let (program, coverage) = self.program.noting();
        let permission = self.permission.clone();
        Some((Arc::new(SendingType { program, permission }), coverage))
    }

    fn outputs(&self) -> Vec<String> {
        let declared = self.program.outputs().iter().cloned();
        [ANSWERS.to_owned()].into_iter().chain(declared).collect()
    }
}

impl Sink for Sending {
    async fn connect(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn write(&mut self, batch: &[Message], out: &mut Emitter) -> Result<Written, WriteError> {
        // One message by this sink's capabilities.
        let [message] = batch else {
            return Err(WriteError::reject(anyhow!("a script takes one message at a time")));
        };
        for (port, answer) in self.0.run(message).await? {
            out.emit_to(port, answer);
        }
        Ok(Written::default())
    }

    fn save(&mut self) -> Option<Saved> {
        self.0.save()
    }
}
