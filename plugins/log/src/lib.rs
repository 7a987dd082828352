//! The `log` sink: prints each message as a line. Nothing that comes from outside reaches the
//! terminal as a control character.

mod line;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use anyhow::Context;
use forebay_sdk::{
    Capabilities, Links, Message, Native, Node, Plugin, Role, Settings, Sink, WriteError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_blocking};

/// What this folder offers.
pub static PLUGIN: Plugin = Plugin {
    name: "log",
    types: &[&LOG],
    readme: include_str!("../README.md"),
    sample: include_str!("../sample.yaml"),
    devices: &[],
};

static LOG: Native<LogSettings> =
    Native::new(Role::Sink, "log", "Prints each message as a line on standard output.");

const BATCH_MESSAGES: usize = 100;

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogSettings {
    /// How a line looks.
    #[serde(default)]
    format: Layout,
    /// Where the lines go.
    #[serde(default)]
    to: Stream,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Layout {
    /// `09:14:02.120 site/a/boiler {"flow":71.5}`: time of day in UTC, topic (`-` for none), and
    /// payload as JSON.
    #[default]
    Text,
    /// A JSON object with `time`, `topic`, `payload` and `meta`.
    Json,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Stream {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error, where the log of the program itself goes too.
    Stderr,
}

impl Settings for LogSettings {
    fn capabilities(&self) -> Capabilities {
        Capabilities { batch_messages: BATCH_MESSAGES, ..Capabilities::default() }
    }

    fn build(self, _: Links) -> Node {
        let open = match self.to {
            Stream::Stdout => || Box::new(io::stdout().lock()) as Box<dyn Write>,
            Stream::Stderr => || Box::new(io::stderr().lock()) as Box<dyn Write>,
        };
        Node::sink(Log { layout: self.format, open, printing: None })
    }
}

struct Log {
    layout: Layout,
    open: fn() -> Box<dyn Write>,
    /// A write that the engine stopped waiting for. Whoever reads our output may have stopped, so
    /// it is waited for before the next: one blocked thread is enough.
    printing: Option<JoinHandle<io::Result<()>>>,
}

impl Sink for Log {
    async fn connect(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn write(&mut self, batch: &[Message]) -> Result<(), WriteError> {
        if let Some(earlier) = &mut self.printing {
            // Its messages are in a later batch again, and so is its error.
            let _ = earlier.await;
        }
        let lines = line::lines(batch, self.layout);
        let open = self.open;
        let printing = self.printing.insert(spawn_blocking(move || print(&mut open(), &lines)));
        let printed = printing.await;
        self.printing = None;
        printed.context("printing messages")?.context("printing messages")?;
        Ok(())
    }
}

/// One call for all lines, so that those of others do not come in between.
fn print(out: &mut dyn Write, lines: &str) -> io::Result<()> {
    out.write_all(lines.as_bytes())?;
    out.flush()
}
