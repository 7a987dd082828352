//! The command line: one file for each verb.
//!
//! Exit codes: 0 fine, 1 findings, 2 could not run.

mod accepted;
mod answer;
mod columns;
mod folder;
mod half_written;
mod init_log;
pub mod kinds;
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
mod demo;
mod doctor;
mod expand;
mod explain;
mod fmt;
mod graph;
mod health;
mod import;
mod last_seen;
mod lint;
mod new;
pub mod nodes;
mod passwd;
mod plan;
mod record;
mod replay;
mod run;
pub mod schema;
mod script;
mod status;
mod tap;
mod test;
mod tools;
mod top;

use std::{io::Write, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::output::Ending;
use crate::lint::report::printable;

/// Declarative edge pipelines: YAML files in a folder, run on a router.
#[derive(Parser)]
#[command(name = "forebay", version, max_term_width = 100)]
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
    Replay(replay::Arguments),
    Top(top::Arguments),
    Lint(lint::Arguments),
    Test(test::Arguments),
    Explain(explain::Arguments),
    Fmt(fmt::Arguments),
    Graph(graph::Arguments),
    Plan(plan::Arguments),
    Buffer(buffer::Arguments),
    Nodes(nodes::Arguments),
    New(new::Arguments),
    Schema(schema::Arguments),
    Demo(demo::Arguments),
    Doctor(doctor::Arguments),
    Import(import::Arguments),
    Passwd(passwd::Arguments),
    Script(script::Arguments),
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
        Verb::Replay(arguments) => replay::replay(arguments),
        Verb::Top(arguments) => top::top(arguments),
        Verb::Lint(arguments) => lint::lint(arguments),
        Verb::Test(arguments) => test::test(arguments),
        Verb::Explain(arguments) => explain::explain(arguments),
        Verb::Fmt(arguments) => fmt::fmt(arguments),
        Verb::Graph(arguments) => graph::graph(arguments),
        Verb::Plan(arguments) => plan::plan(arguments),
        Verb::Buffer(arguments) => buffer::buffer(arguments),
        Verb::Nodes(arguments) => nodes::nodes(arguments),
        Verb::New(arguments) => new::new(arguments),
        Verb::Schema(arguments) => schema::schema(arguments),
        Verb::Demo(arguments) => demo::demo(arguments),
        Verb::Doctor(arguments) => doctor::doctor(arguments),
        Verb::Import(arguments) => import::import(arguments),
        Verb::Passwd(arguments) => passwd::passwd(arguments),
        Verb::Script(arguments) => script::script(arguments),
    }
}
