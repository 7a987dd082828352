//! The command line: one file for each verb. Those of whoever writes pipelines are in `desk/`.
//!
//! Exit codes: 0 fine, 1 findings, 2 could not run.

mod accepted;
mod answer;
mod columns;
mod folder;
mod half_written;
mod init_log;
mod lock;
mod look;
mod metrics;
mod outlook;
mod output;
mod receipts;
mod recorded;
mod report;
mod running;
mod runtime;
mod tried;

mod buffer;
#[cfg(feature = "desk")]
pub mod desk;
mod doctor;
mod expand;
mod explain;
mod health;
mod last_seen;
mod passwd;
mod plan;
mod record;
mod run;
mod status;
mod tap;
mod tools;
mod top;

use std::{io::Write, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::output::Ending;
use crate::lint::report::printable;

/// Declarative edge pipelines: YAML files in a folder, run on a router.
#[derive(Parser)]
#[command(name = "forebay", version, max_term_width = 100)]
#[cfg_attr(
    not(feature = "desk"),
    command(
        after_help = "This program was built without the verbs that check, draw, try and test pipelines (feature `desk`)."
    )
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Run(run::Arguments),
    Status(status::Arguments),
    Health(health::Arguments),
    Tap(tap::Arguments),
    Record(record::Arguments),
    Top(top::Arguments),
    #[cfg(feature = "desk")]
    #[command(flatten)]
    Desk(desk::Verb),
    Explain(explain::Arguments),
    Plan(plan::Arguments),
    Buffer(buffer::Arguments),
    Doctor(doctor::Arguments),
    Passwd(passwd::Arguments),
}

/// Reads the command line, does what it says, and returns the exit code.
pub fn main() -> ExitCode {
    let tools = tools::all();
    let matches = tools::add(Arguments::command(), &tools).get_matches();
    let outcome = match tools::called(&tools, &matches) {
        Some((tool, matches)) => tools::run(tool, matches),
        None => {
            let arguments = Arguments::from_arg_matches(&matches);
            do_verb(arguments.unwrap_or_else(|error| error.exit()).verb)
        }
    };
    match outcome {
        Ok(Ending::Fine) => ExitCode::SUCCESS,
        Ok(Ending::Findings) => ExitCode::from(1),
        Err(error) => {
            let said = format!("{error:#}");
            let lines: Vec<_> = said.lines().map(printable).collect();
            let _ = writeln!(std::io::stderr(), "error: {}", lines.join("\n"));
            ExitCode::from(2)
        }
    }
}

fn do_verb(verb: Verb) -> anyhow::Result<Ending> {
    match verb {
        Verb::Run(arguments) => run::run(arguments),
        Verb::Status(arguments) => status::status(arguments),
        Verb::Health(arguments) => health::health(arguments),
        Verb::Tap(arguments) => tap::tap(arguments),
        Verb::Record(arguments) => record::record(arguments),
        Verb::Top(arguments) => top::top(arguments),
        #[cfg(feature = "desk")]
        Verb::Desk(verb) => desk::do_verb(verb),
        Verb::Explain(arguments) => explain::explain(arguments),
        Verb::Plan(arguments) => plan::plan(arguments),
        Verb::Buffer(arguments) => buffer::buffer(arguments),
        Verb::Doctor(arguments) => doctor::doctor(arguments),
        Verb::Passwd(arguments) => passwd::passwd(arguments),
    }
}
