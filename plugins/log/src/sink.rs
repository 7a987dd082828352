//! The running log.

use std::io::{self, Write};

use anyhow::Context;
use forebay_sdk::beside::{Beside, beside};
use forebay_sdk::{
    Capabilities, Configured, Emitter, Message, Node, Sink, Site, WriteError, Written,
};

use crate::line::{self, Layout};

const BATCH_MESSAGES: usize = 100;

/// A log that was understood.
#[derive(Clone)]
pub(crate) struct Log {
    pub layout: Layout,
    pub open: fn() -> Box<dyn Write>,
}

impl Configured for Log {
    fn build(&self, _: Site) -> Node {
        Node::sink(self.start())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { batch_messages: BATCH_MESSAGES, ..Capabilities::default() }
    }
}

impl Log {
    pub fn start(&self) -> Printer {
        Printer { log: self.clone(), printing: None }
    }
}

pub(crate) struct Printer {
    log: Log,
    /// A write that the engine stopped waiting for. Whoever reads our output may have stopped, so
    /// it is waited for before the next: one blocked thread is enough.
    printing: Option<Beside<io::Result<()>>>,
}

impl Sink for Printer {
    async fn connect(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn write(&mut self, batch: &[Message], _: &mut Emitter) -> Result<Written, WriteError> {
        if let Some(earlier) = &mut self.printing {
            // Its messages are in a later batch again, and so is its error.
            let _ = earlier.await;
        }
        let Log { layout, open } = self.log;
        let lines = line::lines(batch, layout);
        let written = Written::bytes(lines.len());
        let printing = self.printing.insert(beside(move || print(&mut open(), &lines)));
        let printed = printing.await;
        self.printing = None;
        printed.context("printing messages")?.context("printing messages")?;
        Ok(written)
    }
}

/// One call for all lines, so that those of others do not come in between.
fn print(out: &mut dyn Write, lines: &str) -> io::Result<()> {
    out.write_all(lines.as_bytes())?;
    out.flush()
}
