//! `forebay replay`: what pipelines make of what was recorded.

use std::{path::PathBuf, time::Duration};

use anyhow::bail;
use serde_json::json;

use super::{
    super::{
        folder::DEFAULT_FOLDER,
        output::{Ending, Format, Printed, is_reader_gone, print},
        runtime::block_on,
    },
    test::pipeline::{Replayed, replay as play_back},
};
use crate::lint::report::printable;

/// Show what the pipelines of a folder make of a recording: what goes into each sink.
///
/// The nodes that were recorded send what they sent, and the rest runs as in `forebay test`: by a
/// clock of its own, with no socket and no device opened.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// What `forebay record` wrote.
    recording: PathBuf,
    /// The folder of pipelines.
    #[arg(default_value = DEFAULT_FOLDER)]
    folder: PathBuf,
    /// Print at this pace: 1 as it was, 10 ten times as fast. As fast as it goes when left out.
    #[arg(long, value_name = "TIMES", value_parser = pace)]
    speed: Option<f64>,
    #[command(flatten)]
    printed: Printed,
}

fn pace(text: &str) -> Result<f64, String> {
    let pace = text.parse().ok().filter(|pace| (0.001..=1e6).contains(pace));
    pace.ok_or_else(|| "expected a number from 0.001 to 1000000".to_owned())
}

pub(super) fn replay(arguments: Arguments) -> anyhow::Result<Ending> {
    let Some(replayed) = play_back(&arguments.folder, &arguments.recording)? else {
        return Ok(Ending::Findings);
    };
    if replayed.is_empty() {
        bail!("nothing of the recording came to a sink");
    }
    let format = arguments.printed.format();
    let Some(speed) = arguments.speed else {
        replayed.iter().try_for_each(|one| print(&said(one, format)))?;
        return Ok(Ending::Fine);
    };
    block_on(async {
        let mut before = Duration::ZERO;
        for one in &replayed {
            tokio::time::sleep(one.at.saturating_sub(before).div_f64(speed)).await;
            before = one.at;
            print(&said(one, format))?;
            if is_reader_gone() {
                break;
            }
        }
        Ok(Ending::Fine)
    })
}

/// `12.345  boiler/plant  site/a  {"power":3}`.
fn said(Replayed { at, sink, message }: &Replayed, format: Format) -> String {
    let (at, payload) = (at.as_secs_f64(), message.payload.to_value_lossy());
    match format {
        Format::Json => {
            let line =
                json!({ "at": at, "sink": &**sink, "topic": &*message.topic, "payload": payload });
            format!("{line}\n")
        }
        Format::Text => {
            let line = format!("{at:.3}  {sink}  {}  {payload}", message.topic);
            format!("{}\n", printable(&line))
        }
    }
}
