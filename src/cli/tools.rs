//! The verbs that plugins bring: their arguments, the file that they read, and what they say.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};
use forebay_sdk::{
    Finding, Tool, World,
    tool::{Argument, Call, Given, Screen, Stopped, Takes},
};
use forebay_yaml::{self as yaml, Limits, Yaml};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    output::{Ending, knows_escapes, print, use_color},
    runtime::block_on,
};
use crate::{
    config::Texts,
    lint::report::{Format, render},
    plugins,
};

/// All tools of this build.
pub(super) fn all() -> Vec<Tool> {
    plugins::all().into_iter().flat_map(|plugin| plugin.tools).collect()
}

/// The command line with the verbs of the tools.
pub(super) fn add(mut command: Command, tools: &[Tool]) -> Command {
    for tool in tools {
        command = match tool.path {
            [verb, object] => {
                let leaf = verb_of(tool, object);
                let is_there = command.find_subcommand(verb).is_some();
                if is_there {
                    command.mut_subcommand(*verb, |known| known.subcommand(leaf))
                } else {
                    let group = Command::new(*verb).about(tool.summary).subcommand(leaf);
                    command.subcommand(group.arg_required_else_help(true).subcommand_required(true))
                }
            }
            [verb, ..] => command.subcommand(verb_of(tool, verb)),
            [] => command,
        };
    }
    command
}

fn verb_of(tool: &Tool, name: &'static str) -> Command {
    let about = match tool.about {
        "" => tool.summary.to_owned(),
        more => format!("{}\n\n{more}", tool.summary),
    };
    let verb = Command::new(name).about(tool.summary).long_about(about);
    verb.args(tool.arguments.iter().map(argument))
}

fn argument(argument: &Argument) -> Arg {
    let Argument { name, takes, about } = *argument;
    let arg = Arg::new(name).help(about);
    match takes {
        Takes::Place => arg.required(true).value_name(name),
        Takes::File => arg.value_name(name),
        Takes::Nothing => arg.long(name).action(ArgAction::SetTrue),
        Takes::Maybe(value) => {
            arg.long(name).value_name(value).num_args(0..=1).require_equals(true)
        }
        Takes::One(value) => arg.long(name).value_name(value),
        Takes::Several(value) => arg.long(name).value_name(value).action(ArgAction::Append),
    }
}

/// The tool that was called, and what stood behind it.
pub(super) fn called<'a>(
    tools: &'a [Tool],
    matches: &'a ArgMatches,
) -> Option<(&'a Tool, &'a ArgMatches)> {
    tools.iter().find_map(|tool| {
        let step = |matches: &'a ArgMatches, word: &&str| {
            matches.subcommand().filter(|(name, _)| name == word).map(|(_, inner)| inner)
        };
        let inner = tool.path.iter().try_fold(matches, step)?;
        Some((tool, inner))
    })
}

/// Runs a tool until it has ended, or is told to.
pub(super) fn run(tool: &Tool, matches: &ArgMatches) -> anyhow::Result<Ending> {
    let given = given(tool, matches);
    let name = tool.arguments.iter().find(|argument| argument.takes == Takes::File);
    let path = name.and_then(|argument| given.one(argument.name)).map(str::to_owned);
    let mut texts = Texts::default();
    let file = match &path {
        Some(path) => match read(tool, Path::new(path), &mut texts)? {
            Ok(tree) => Some(tree),
            Err(findings) => return say_findings(&findings, &texts),
        },
        None => None,
    };
    let screen = Box::new(Terminal { progresses: knows_escapes(&io::stderr()) });
    let call = Call { given, file: file.clone(), world: World::system(), screen };
    let ended = block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
        let stopped = tokio::select! {
            ended = (tool.run)(call) => ended.err(),
            _ = tokio::signal::ctrl_c() => None,
            _ = terminate.recv() => None,
        };
        match stopped {
            None => Ok(Ending::Fine),
            Some(Stopped::Failed(error)) => Err(error),
            Some(Stopped::Wrong(mut findings, problems)) => {
                let place = |setting: &str| file.as_ref().map(|tree| tree.at(setting).span);
                let at = |setting: &str| place(setting).unwrap_or_default();
                findings.extend(problems.into_iter().map(|problem| problem.at(at)));
                say_findings(&findings, &texts)
            }
        }
    });
    Terminal { progresses: knows_escapes(&io::stderr()) }.progress("");
    ended
}

fn say_findings(findings: &[Finding], texts: &Texts) -> anyhow::Result<Ending> {
    print(&render(findings, texts, Format::Full, use_color(&io::stdout())))?;
    Ok(Ending::Findings)
}

fn given(tool: &Tool, matches: &ArgMatches) -> Given {
    let mut given = BTreeMap::new();
    for Argument { name, takes, .. } in tool.arguments {
        let is_there = matches.value_source(name) == Some(ValueSource::CommandLine);
        if is_there {
            let values = match takes {
                Takes::Nothing => Vec::new(),
                _ => matches.get_many(name).unwrap_or_default().cloned().collect(),
            };
            given.insert(*name, values);
        }
    }
    Given(given)
}

/// Reads a file, or says what is wrong with it.
fn read(tool: &Tool, path: &Path, texts: &mut Texts) -> anyhow::Result<Result<Yaml, Vec<Finding>>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let number = texts.add(path.display().to_string(), text.clone());
    let mut findings = Vec::new();
    let tree = yaml::parse(&text, number, Limits::default(), &mut findings);
    if let (Some(tree), Some(schema)) = (&tree, tool.schema) {
        yaml::check(tree, &schema(), &tool.path.join(" "), tree.span, &mut findings);
    }
    Ok(match tree {
        Some(tree) if findings.is_empty() => Ok(tree),
        _ => Err(findings),
    })
}

/// Standard output, and a line of standard error that is written over.
struct Terminal {
    progresses: bool,
}

impl Screen for Terminal {
    fn print(&self, text: &str) {
        self.progress("");
        // Nobody reads it any more, or a full disk: there is nobody to tell.
        let _ = print(text);
    }

    fn progress(&self, line: &str) {
        const WIDEST: usize = 79;
        if self.progresses {
            let line: String = line.chars().take(WIDEST).collect();
            let mut out = io::stderr().lock();
            let _ = write!(out, "\r\x1b[K{line}").and_then(|()| out.flush());
        }
    }
}
