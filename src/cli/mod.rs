//! The command line: one file for each verb.
//!
//! Exit codes: 0 fine, 1 findings, 2 could not run.

mod buffer;
mod demo;
mod explain;
mod fmt;
mod graph;
mod init_log;
mod last_good;
mod lint;
mod new;
pub mod nodes;
mod plan;
mod run;
pub mod schema;

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::OnceLock,
};

use clap::{Parser, Subcommand};
use forebay_sdk::Level;

use crate::{
    config::{self, Environment, Types},
    lint::Checked,
    plugins,
};

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
    Lint(lint::Arguments),
    Explain(explain::Arguments),
    Fmt(fmt::Arguments),
    Graph(graph::Arguments),
    Plan(plan::Arguments),
    Buffer(buffer::Arguments),
    Nodes(nodes::Arguments),
    New(new::Arguments),
    Schema(schema::Arguments),
    Demo(demo::Arguments),
}

/// How a verb ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Fine,
    Findings,
}

/// Where pipelines live unless the command line says otherwise.
const DEFAULT_FOLDER: &str = "/etc/forebay";

/// Reads the command line, does what it says, and returns the exit code.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Run(arguments) => run::run(arguments),
        Verb::Lint(arguments) => lint::lint(arguments),
        Verb::Explain(arguments) => explain::explain(arguments),
        Verb::Fmt(arguments) => fmt::fmt(arguments),
        Verb::Graph(arguments) => graph::graph(arguments),
        Verb::Plan(arguments) => plan::plan(arguments),
        Verb::Buffer(arguments) => buffer::buffer(arguments),
        Verb::Nodes(arguments) => nodes::nodes(arguments),
        Verb::New(arguments) => new::new(arguments),
        Verb::Schema(arguments) => schema::schema(arguments),
        Verb::Demo(arguments) => demo::demo(arguments),
    };
    match outcome {
        Ok(Ending::Fine) => ExitCode::SUCCESS,
        Ok(Ending::Findings) => ExitCode::from(1),
        // Whoever reads the output has read enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Writes to standard output, where a reader that went away is no panic.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Reads and checks a folder: what `lint` reports is what keeps `run` from running.
fn check(folder: &Path, environment: Environment<'_>) -> anyhow::Result<Checked> {
    Ok(crate::lint::lint(config::load(folder, folder, types(), environment)?))
}

/// The node types of this build. Made once: their schemas cost more than reading a folder, and a
/// folder is read again at each look for changes.
fn types() -> &'static Types {
    static TYPES: OnceLock<Types> = OnceLock::new();
    TYPES.get_or_init(|| Types::new(&plugins::all()))
}

/// The variables of this process.
fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn use_color(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Where data go: the command line, the environment, `forebay.yaml`, then the default.
fn data_folder(argument: Option<PathBuf>, setting: Option<PathBuf>) -> PathBuf {
    const DEFAULT: &str = "/var/lib/forebay";
    let environment = || std::env::var_os("FOREBAY_DATA").map(PathBuf::from);
    argument.or_else(environment).or(setting).unwrap_or_else(|| DEFAULT.into())
}

/// "1 error and 2 warnings in 3 pipelines", for the line below findings.
fn summary(checked: &Checked) -> String {
    let found = found(checked.count(Level::Error), checked.count(Level::Warning));
    match checked.pipelines {
        // None could be read.
        0 => found,
        pipelines => format!("{found} in {}", count_of(pipelines, "pipeline")),
    }
}

/// "1 error and 2 warnings".
fn found(errors: usize, warnings: usize) -> String {
    match (errors, warnings) {
        (0, 0) => "no findings".to_owned(),
        (errors, 0) => count_of(errors, "error"),
        (0, warnings) => count_of(warnings, "warning"),
        (errors, warnings) => {
            format!("{} and {}", count_of(errors, "error"), count_of(warnings, "warning"))
        }
    }
}

/// "1 error", "2 errors".
fn count_of(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}
