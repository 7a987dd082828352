//! The `file` sink: appends each message to a file as a line, and starts a new file when it is
//! large enough. A line that was settled is on the disk.

mod append;
mod record;
#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use forebay_sdk::{
    Capabilities, Claim, Format, Links, Message, Native, Node, Plugin, Problem, Role, Settings,
    Sink, Size, WriteError,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::spawn_blocking;

use crate::append::Appender;

/// What this folder offers.
pub static PLUGIN: Plugin = Plugin {
    name: "file",
    types: &[&FILE],
    readme: include_str!("../README.md"),
    sample: include_str!("../sample.yaml"),
    devices: &[],
};

static FILE: Native<FileSettings> =
    Native::new(Role::Sink, "file", "Appends each message to a file as a line.");

const BATCH_MESSAGES: usize = 100;
/// A smaller file would do little but rotate.
const SMALLEST_FILE: Size = Size(1024);

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FileSettings {
    /// The file, such as `/var/log/site.jsonl`. Missing folders are made.
    path: String,
    /// How a payload becomes a line. Line breaks inside a `text` are written as `\n` and `\r`;
    /// `bytes` are written as they are, line breaks too.
    #[serde(default)]
    format: Format,
    /// When a line would make the file larger than this, the file is renamed to `<path>.1`,
    /// `<path>.1` to `<path>.2` and so on, and a new file begins. At least 1KiB. A single line
    /// that is larger gets a file of its own.
    #[serde(default = "default_max_size")]
    max_size: Size,
    /// How many renamed files are kept, beside the one that is written: 0 to 99. The oldest is
    /// deleted.
    #[serde(default = "default_keep")]
    #[schemars(range(min = 0, max = 99))]
    keep: u8,
    /// A message counts as delivered once it is on the disk, safe from a power cut. With `false`,
    /// once the operating system has it: easier on flash memory, safe from a crash of Forebay only.
    #[serde(default = "default_sync")]
    sync: bool,
}

fn default_max_size() -> Size {
    Size(16 << 20)
}

fn default_keep() -> u8 {
    4
}

fn default_sync() -> bool {
    true
}

impl Settings for FileSettings {
    fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let has_name = Path::new(&self.path).file_name().is_some() && !self.path.ends_with('/');
        if !has_name || self.path.contains('\0') {
            let message = "`path` does not name a file";
            let label = "expected a path such as `/var/log/site.jsonl`";
            problems.push(Problem::new("path", message, label));
        }
        if has_name && Path::new(&self.path).is_relative() {
            let message = "`path` depends on where Forebay is started";
            let label = "expected an absolute path, such as `/var/log/site.jsonl`";
            let problem = Problem::new("path", message, label);
            problems.push(problem.rule("relative-path").warning());
        }
        if self.max_size < SMALLEST_FILE {
            let message = "`max_size` is too small";
            let label = format!("expected at least {SMALLEST_FILE}, found {}", self.max_size);
            problems.push(Problem::new("max_size", message, label));
        }
        problems
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::path("file", &self.path, "path")]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { batch_messages: BATCH_MESSAGES, ..Capabilities::default() }
    }

    fn build(self, _: Links) -> Node {
        let appender = Appender {
            path: self.path.into(),
            max_bytes: self.max_size.0,
            keep: self.keep,
            sync: self.sync,
        };
        Node::sink(FileSink { format: self.format, appender: Arc::new(Mutex::new(appender)) })
    }
}

struct FileSink {
    format: Format,
    /// Locked while writing: a write that the engine stopped waiting for goes on, and the next
    /// must not come in between.
    appender: Arc<Mutex<Appender>>,
}

impl Sink for FileSink {
    async fn connect(&mut self) -> anyhow::Result<()> {
        self.append(Vec::new()).await
    }

    async fn write(&mut self, batch: &[Message]) -> Result<(), WriteError> {
        let records: Result<Vec<_>, _> =
            batch.iter().map(|message| record::record(message, self.format)).collect();
        let records = records.map_err(WriteError::Reject)?;
        Ok(self.append(records).await?)
    }
}

impl FileSink {
    async fn append(&self, records: Vec<Vec<u8>>) -> anyhow::Result<()> {
        let appender = Arc::clone(&self.appender);
        // A disk may take its time; the other nodes must not wait for it.
        let append = move || {
            // The appender keeps nothing between two calls that a panic could have left half done.
            appender.lock().unwrap_or_else(PoisonError::into_inner).append(&records)
        };
        spawn_blocking(append).await.context("waiting for the disk")?
    }
}
