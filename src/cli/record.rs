//! `forebay record`: what nodes of a program that runs emit, in a file that can be played back.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use forebay_sdk::{Period, Size};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{
    folder::DataFolder,
    output::{Ending, count_of, is_reader_gone},
    runtime::block_on,
    status::nobody_there,
    tap::{mask, what_leaves},
};
use crate::api::listen;

/// Record what nodes emit, to be played back by `forebay replay` and by tests.
///
/// A line of JSON for each message, with the seconds since the recording began. It does not slow
/// the nodes: what comes faster than it can be written is left out, and counted.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Arguments {
    /// The nodes, such as `boiler-room/meter`, or outputs of theirs: `boiler-room/route.high`.
    #[arg(required = true)]
    nodes: Vec<String>,
    /// The file. It is replaced. Standard output when left out.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// End after this time.
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = Period::parse)]
    lasts: Period,
    /// End before the file is larger than this.
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = Size::parse)]
    max_bytes: Size,
    /// Fields that are written as `***`, wherever in the payload they are.
    #[arg(long, value_delimiter = ',')]
    mask: Vec<String>,
    #[command(flatten)]
    data: DataFolder,
}

/// What is written, and how much.
struct Recorder {
    out: Box<dyn Write>,
    messages: usize,
    left_out: u64,
    bytes: u64,
    is_full: bool,
}

pub(super) fn record(arguments: Arguments) -> anyhow::Result<Ending> {
    let out: Box<dyn Write> = match &arguments.out {
        Some(path) => {
            Box::new(File::create(path).with_context(|| format!("making {}", path.display()))?)
        }
        None => Box::new(io::stdout()),
    };
    let recorder = Recorder { out, messages: 0, left_out: 0, bytes: 0, is_full: false };
    let recorder = Mutex::new(recorder);
    block_on(async {
        let all = arguments.nodes.iter().map(|node| record_one(node, &arguments, &recorder));
        // The time is over: that is how it is to end.
        timeout(*arguments.lasts, try_join_all(all)).await.unwrap_or_else(|_| Ok(Vec::new()))
    })?;
    let Recorder { messages, left_out, is_full, .. } =
        recorder.into_inner().unwrap_or_else(PoisonError::into_inner);
    let more = match (left_out, is_full) {
        (0, false) => String::new(),
        (0, true) => format!("; it ended at {}", arguments.max_bytes),
        (left_out, _) => format!("; {left_out} came too fast and are left out"),
    };
    // The recording itself may be on standard output.
    let _ = writeln!(io::stderr(), "recorded {}{more}", count_of(messages, "message"));
    Ok(Ending::Fine)
}

async fn record_one(
    node: &str,
    arguments: &Arguments,
    recorder: &Mutex<Recorder>,
) -> anyhow::Result<()> {
    let data = arguments.data.path(None);
    let question = format!("{}&all", what_leaves(node));
    let began = Instant::now();
    let is_there = listen(&data, &question, |line| {
        let mut message: Value = serde_json::from_str(line)?;
        mask(&mut message, &arguments.mask);
        let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
        recorder.write(message, began.elapsed(), arguments.max_bytes.0)
    });
    if !is_there.await? {
        return Err(nobody_there(&data));
    }
    let is_full = recorder.lock().unwrap_or_else(PoisonError::into_inner).is_full;
    if !is_full && !is_reader_gone() {
        bail!("{node} is gone, or the program that runs it");
    }
    Ok(())
}

impl Recorder {
    /// Writes a message. False when that was the last.
    fn write(&mut self, mut message: Value, at: Duration, most: u64) -> anyhow::Result<bool> {
        self.left_out += message["left_out"].as_u64().unwrap_or(0);
        let millis = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        message["at"] = json!(millis as f64 / 1000.0);
        if let Some(members) = message.as_object_mut() {
            members.remove("left_out");
        }
        let line = format!("{message}\n");
        self.bytes += line.len() as u64;
        self.is_full |= self.bytes > most;
        if self.is_full {
            return Ok(false);
        }
        self.out.write_all(line.as_bytes()).context("writing the recording")?;
        self.out.flush().context("writing the recording")?;
        self.messages += 1;
        Ok(!is_reader_gone())
    }
}
