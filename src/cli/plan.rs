//! `forebay plan`: what a reload would do.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{
    buffer::{counted, printable},
    expand::expanded,
    folder::{DEFAULT_FOLDER, check, data_folder, process_environment},
    lock,
    look::{LastGood, last_good},
    output::{Ending, Format, Printed, print, summary, use_color},
};
use crate::{
    engine,
    lint::report::{self, render},
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

pub(super) fn plan(arguments: Arguments) -> anyhow::Result<Ending> {
    if arguments.expand {
        print(&expanded(&arguments.folder)?)?;
        return Ok(Ending::Fine);
    }
    let wanted = check(&arguments.folder, &process_environment)?;
    let data = data_folder(arguments.data.clone(), wanted.runtime.data.clone());
    let Some(graph) = &wanted.graph else {
        if arguments.printed.format() == Format::Json {
            print(&render(&wanted.findings, &wanted.texts, report::Format::Json, false))?;
            return Ok(Ending::Findings);
        }
        let color = use_color(&std::io::stdout());
        print(&render(&wanted.findings, &wanted.texts, report::Format::Full, color))?;
        let stays = last_good(&data, &arguments.folder, &process_environment)?;
        let stays = stays.map(|last| format!("\n{}", what_runs(&data, &last)));
        let stays = stays.unwrap_or_default();
        print(&format!("{}: a reload would be refused{stays}\n", summary(&wanted)))?;
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
    let plan = engine::plan(&running.unwrap_or_default(), graph);
    let left = engine::left_behind(&data, graph);
    match arguments.printed.format() {
        Format::Json => print(&format!("{}\n", as_json(&plan, &left)))?,
        Format::Text => print(&format!("{said}{}{}", as_text(&plan), left_text(&left)))?,
    }
    Ok(Ending::Fine)
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

fn as_text(plan: &engine::Plan) -> String {
    let mut text = String::new();
    for (verb, names) in plan.steps() {
        for name in names {
            text += &format!("{verb} {name}\n");
        }
    }
    if plan.is_empty() {
        text += "nothing would change\n";
    }
    text += &format!("{} untouched\n", plan.untouched);
    text
}

/// What is on disk for sinks that are renamed or removed, or were before.
fn left_text(left: &[(String, u64)]) -> String {
    let line = |(node, messages): &(String, u64)| {
        let (node, messages) = (printable(node), counted(*messages));
        format!(
            "{messages} of {node} on disk would stay behind; `forebay buffer move {node} NEW` gives them to another sink\n"
        )
    };
    left.iter().map(line).collect()
}

fn as_json(plan: &engine::Plan, left: &[(String, u64)]) -> serde_json::Value {
    let mut object = serde_json::Map::new();
    for (verb, names) in plan.steps() {
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        object.insert(verb.replace(' ', "_"), names.into());
    }
    object.insert("untouched".to_owned(), plan.untouched.into());
    let left = left.iter().map(|(node, messages)| json!({ "node": node, "messages": messages }));
    object.insert("left_behind".to_owned(), left.collect());
    object.into()
}
