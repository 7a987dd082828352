//! `forebay health`: whether all is well, as an exit code.

use std::time::Duration;

use super::{
    folder::DataFolder,
    lock,
    output::{Ending, Format, Printed, print},
    report::{Health, Wellness},
    runtime::block_on,
};
use crate::{
    api::{Answer, ask},
    lint::report::printable,
};

/// Say whether all is well with the pipelines that run. Exit code 0 when they run, also when something waits
/// for its other side; 1 when nothing runs, or nobody answers.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    data: DataFolder,
    /// Exit code 1 also when something is not well.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    printed: Printed,
}

/// A container's health check gives up after a while, too.
const WITHIN: Duration = Duration::from_secs(5);

pub(super) fn health(arguments: Arguments) -> anyhow::Result<Ending> {
    block_on(async move {
        let data = arguments.data.path(None);
        let health = match ask(&data, "/health", WITHIN).await {
            Ok(Answer::Said(said)) => serde_json::from_value(said)?,
            Ok(Answer::Nobody) => nobody(match lock::holder(&data) {
                Some(holder) => format!("{holder} runs on {} and cannot be asked", data.display()),
                None => format!("nothing runs on {}", data.display()),
            }),
            Err(error) => nobody(format!("{error:#}")),
        };
        match arguments.printed.format() {
            Format::Json => print(&format!("{}\n", serde_json::to_string(&health)?))?,
            Format::Text => print(&as_text(&health))?,
        }
        let is_fine = match health.state {
            Wellness::Well => true,
            Wellness::Degraded => !arguments.strict,
            Wellness::NotReady => false,
        };
        Ok(if is_fine { Ending::Fine } else { Ending::Findings })
    })
}

fn nobody(why: String) -> Health {
    Health { state: Wellness::NotReady, why: vec![why] }
}

pub(super) fn as_text(health: &Health) -> String {
    let mut text = match health.state {
        Wellness::Well => "well\n",
        Wellness::Degraded => "not all is well:\n",
        Wellness::NotReady => "not ready:\n",
    }
    .to_owned();
    health.why.iter().for_each(|line| text += &format!("  {}\n", printable(line)));
    text
}
