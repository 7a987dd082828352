//! The running file sink.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use forebay_sdk::{
    Capabilities, Claim, Configured, Emitter, Figure, Format, Message, Node, Sink, Site, Voice,
    WriteError, Written, beside,
};

use crate::{append::Appender, record::record};

const BATCH_MESSAGES: usize = 100;

/// A file sink that was understood.
pub(crate) struct FileSink {
    pub format: Format,
    pub appender: Appender,
}

impl Configured for FileSink {
    fn build(&self, site: Site) -> Node {
        let appender = Arc::new(Mutex::new(self.appender.clone()));
        Node::sink(Appending { format: self.format, appender, voice: site.voice })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { batch_messages: BATCH_MESSAGES, ..Capabilities::default() }
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::path("file", &self.appender.path, "path")]
    }
}

struct Appending {
    format: Format,
    /// Locked while writing: a write that the engine stopped waiting for goes on, and the next
    /// must not come in between.
    appender: Arc<Mutex<Appender>>,
    voice: Voice,
}

impl Sink for Appending {
    async fn connect(&mut self) -> anyhow::Result<()> {
        self.append(Vec::new()).await
    }

    async fn write(&mut self, batch: &[Message], _: &mut Emitter) -> Result<Written, WriteError> {
        let records: Result<Vec<_>, _> =
            batch.iter().map(|message| record(message, self.format)).collect();
        let records = records.map_err(WriteError::Reject)?;
        let bytes = records.iter().map(Vec::len).sum();
        self.append(records).await?;
        self.voice.count(Figure::BytesToDisk, bytes as u64);
        Ok(Written::bytes(bytes))
    }
}

impl Appending {
    async fn append(&self, records: Vec<Vec<u8>>) -> anyhow::Result<()> {
        let appender = Arc::clone(&self.appender);
        // A disk may take its time; the other nodes must not wait for it.
        let append = move || {
            // The appender keeps nothing between two calls that a panic could have left half done.
            appender.lock().unwrap_or_else(PoisonError::into_inner).append(&records)
        };
        beside(append).await.context("waiting for the disk")?
    }
}
