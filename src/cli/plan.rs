//! `forebay plan`: what a reload would do.

use std::path::PathBuf;

use super::{
    accepted,
    folder::{DEFAULT_FOLDER, check, data_folder, process_environment, types},
    output::{Ending, Format, Printed, print, summary, use_color},
};
use crate::{
    config::Graph,
    engine,
    lint::{
        self, Checked,
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
    /// The data folder of the runtime.
    #[arg(long)]
    data: Option<PathBuf>,
    #[command(flatten)]
    printed: Printed,
}

pub(super) fn plan(arguments: Arguments) -> anyhow::Result<Ending> {
    let wanted = check(&arguments.folder, &process_environment)?;
    let Some(graph) = &wanted.graph else {
        if arguments.printed.format() == Format::Json {
            print(&render(&wanted.findings, &wanted.texts, report::Format::Json, false))?;
            return Ok(Ending::Findings);
        }
        let color = use_color(&std::io::stdout());
        print(&render(&wanted.findings, &wanted.texts, report::Format::Full, color))?;
        print(&format!("{}: a reload would be refused\n", summary(&wanted)))?;
        return Ok(Ending::Findings);
    };
    let running = running(&arguments, &wanted)?;
    let plan = engine::plan(running.as_ref().unwrap_or(&Graph::default()), graph);
    match arguments.printed.format() {
        Format::Json => print(&format!("{}\n", as_json(&plan)))?,
        Format::Text => print(&as_text(&plan, running.is_some()))?,
    }
    Ok(Ending::Fine)
}

/// What runs now, as far as is known.
fn running(arguments: &Arguments, wanted: &Checked) -> anyhow::Result<Option<Graph>> {
    if let Some(other) = &arguments.against {
        return Ok(check(other, &process_environment)?.graph);
    }
    let data = data_folder(arguments.data.clone(), wanted.runtime.data.clone());
    let Some(copy) = accepted::newest(&data)? else { return Ok(None) };
    let draft = copy.load(&arguments.folder, types(), &process_environment)?;
    Ok(lint::lint(draft).graph)
}

fn as_text(plan: &engine::Plan, is_known: bool) -> String {
    let mut text = String::new();
    if !is_known {
        text += "nothing is known to run here, so everything would start\n";
    }
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

fn as_json(plan: &engine::Plan) -> serde_json::Value {
    let mut object = serde_json::Map::new();
    for (verb, names) in plan.steps() {
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        object.insert(verb.replace(' ', "_"), names.into());
    }
    object.insert("untouched".to_owned(), plan.untouched.into());
    object.into()
}
