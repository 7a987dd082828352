//! `forebay plan`: what a reload would do.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    buffer::printable,
    expand::expanded,
    folder::{DEFAULT_FOLDER, check, data_folder, process_environment},
    lock,
    look::{LastGood, last_good},
    outlook::{Outlook, as_text, would},
    output::{Ending, Format, Printed, print, summary, use_color},
    runtime::block_on,
};
use crate::{
    api::{Answer, ask},
    lint::{
        Checked,
        report::{self, render},
    },
};

/// Say what a reload of a folder would do to the pipelines that run.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The folder.
    #[arg(default_value = DEFAULT_FOLDER)]
    folder: PathBuf,
    /// Compare with this folder, not with what was accepted last.
    #[arg(long)]
    against: Option<PathBuf>,
    /// Show the nodes that bridges and the like stand for, as YAML, instead.
    #[arg(long)]
    expand: bool,
    /// The data folder of the runtime.
    #[arg(long)]
    data: Option<PathBuf>,
    #[command(flatten)]
    printed: Printed,
}

/// Reading a large folder takes a while on a router.
const WITHIN: Duration = Duration::from_secs(60);

pub(super) fn plan(arguments: Arguments) -> anyhow::Result<Ending> {
    if arguments.expand {
        print(&expanded(&arguments.folder)?)?;
        return Ok(Ending::Fine);
    }
    let wanted = check(&arguments.folder, &process_environment)?;
    let data = data_folder(arguments.data.clone(), wanted.runtime.data.clone());
    if arguments.against.is_none()
        && let Some(outlook) = ask_who_runs(&data, &arguments.folder)
    {
        return say(&outlook, &wanted, arguments.printed.format());
    }
    let Some(graph) = &wanted.graph else {
        print_findings(&wanted, arguments.printed.format())?;
        if arguments.printed.format() == Format::Text {
            let stays = last_good(&data, &arguments.folder, &process_environment)?;
            let stays = stays.map(|last| format!("\n{}", what_runs(&data, &last)));
            let stays = stays.unwrap_or_default();
            print(&format!("{}: a reload would be refused{stays}\n", summary(&wanted)))?;
        }
        return Ok(Ending::Findings);
    };
    let (running, said) = match &arguments.against {
        Some(other) => (check(other, &process_environment)?.graph, String::new()),
        None => match last_good(&data, &arguments.folder, &process_environment)? {
            Some(last) => {
                let said = what_runs(&data, &last);
                (last.checked.graph, format!("{said}\n"))
            }
            None => (None, NOTHING_KNOWN.to_owned()),
        },
    };
    let would = would(&running.unwrap_or_default(), graph, &data);
    match arguments.printed.format() {
        Format::Json => print(&format!("{would}\n"))?,
        Format::Text => print(&format!("{said}{}", as_text(&would)))?,
    }
    Ok(Ending::Fine)
}

/// What the process says that runs this folder. None when nobody does, or it does not answer: then what was accepted last
/// tells as much, but for variables and secrets that only the process has.
fn ask_who_runs(data: &Path, folder: &Path) -> Option<Outlook> {
    let asked = block_on(ask(data, "/plan", WITHIN));
    let outlook: Outlook = match asked {
        Ok(Answer::Said(said)) => serde_json::from_value(said).ok()?,
        Ok(Answer::Nobody) => return None,
        Err(error) => {
            eprintln!("{error:#}: comparing with what was accepted last");
            return None;
        }
    };
    (folder.canonicalize().ok()? == outlook.folder).then_some(outlook)
}

/// Prints what the process said. It reads the folder with variables of its own, so what is found here may be other.
fn say(outlook: &Outlook, here: &Checked, format: Format) -> anyhow::Result<Ending> {
    let Outlook { pid, goes_on, refused, findings, would, .. } = outlook;
    let Some(would) = would else {
        match here.graph {
            None => print_findings(here, format)?,
            Some(_) => {
                findings.iter().try_for_each(|line| print(&format!("{}\n", printable(line))))?
            }
        }
        if format == Format::Text {
            let why = refused.as_deref().unwrap_or_default();
            print(&format!("{why}: a reload would be refused\nprocess {pid}: {goes_on}\n"))?;
        }
        return Ok(Ending::Findings);
    };
    match format {
        Format::Json => print(&format!("{would}\n"))?,
        Format::Text => print(&format!("process {pid}: {goes_on}\n{}", as_text(would)))?,
    }
    Ok(Ending::Fine)
}

fn print_findings(checked: &Checked, format: Format) -> anyhow::Result<()> {
    let (format, color) = match format {
        Format::Json => (report::Format::Json, false),
        Format::Text => (report::Format::Full, use_color(&std::io::stdout())),
    };
    print(&render(&checked.findings, &checked.texts, format, color))
}

const NOTHING_KNOWN: &str = "nothing is known to run here, so everything would start\n";

/// Which set of files runs, and who runs it.
fn what_runs(data: &Path, last: &LastGood) -> String {
    let when = last.copy.when();
    match lock::holder(data) {
        Some(holder) => format!("what runs was accepted {when}; {holder} runs it"),
        None => {
            format!("nothing runs on {} now; what ran last was accepted {when}", data.display())
        }
    }
}
