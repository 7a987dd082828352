//! `forebay lint`: says what is wrong, and opens nothing.

use std::path::{Path, PathBuf};

use anyhow::bail;
use forebay_sdk::Level;

use super::{
    DEFAULT_FOLDER, Ending, explain::no_rule, print, process_environment, summary, types, use_color,
};
use crate::{
    config,
    lint::{
        report::{Format, render},
        rules::{self, Rule},
    },
};

/// Check pipelines without running them.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A folder, or one of its pipeline files.
    #[arg(default_value = DEFAULT_FOLDER)]
    path: PathBuf,
    /// How findings are printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Warnings fail too.
    #[arg(long)]
    strict: bool,
    /// Make findings of a rule errors, over what `forebay.yaml` says. May be given again.
    #[arg(long, value_name = "RULE", value_parser = rule_name)]
    deny: Vec<String>,
    /// Make findings of a rule warnings, over what `forebay.yaml` says. May be given again.
    #[arg(long, value_name = "RULE", value_parser = lowerable_rule_name)]
    warn: Vec<String>,
}

fn rule_name(name: &str) -> anyhow::Result<String> {
    rules::find(name).map(|rule| rule.name.to_owned()).ok_or_else(|| no_rule(name))
}

fn lowerable_rule_name(name: &str) -> anyhow::Result<String> {
    let name = rule_name(name)?;
    match rules::find(&name).is_some_and(Rule::can_be_allowed) {
        true => Ok(name),
        false => bail!("`{name}` cannot be a warning: nothing can run with it"),
    }
}

pub(super) fn lint(arguments: Arguments) -> anyhow::Result<Ending> {
    let (folder, only) = folder_of(&arguments.path);
    let mut draft = config::load(&folder, &folder, types(), &process_environment)?;
    arguments.deny.into_iter().for_each(|rule| draft.runtime.lint.deny(rule));
    arguments.warn.into_iter().for_each(|rule| draft.runtime.lint.warn(rule));
    let mut checked = crate::lint::lint(draft);
    if let Some(only) = &only {
        // The whole folder is read all the same: connections are shared.
        let texts = &checked.texts;
        checked.findings.retain(|finding| {
            finding.span.is_some_and(|span| Path::new(texts.path(span.file)).ends_with(only))
        });
    }
    let color = use_color(&std::io::stdout());
    print(&render(&checked.findings, &checked.texts, arguments.format, color))?;
    if only.is_none() && checked.is_empty() {
        bail!("{}", nothing_here(&folder));
    }
    if arguments.format == Format::Full {
        let place = only.map(|only| format!(" ({})", only.display())).unwrap_or_default();
        // The worst of them, for whoever wants to know more.
        let first = checked.findings.iter().min_by_key(|finding| finding.level);
        let more = first.map(|first| format!("; `forebay explain {}` says why", first.rule));
        print(&format!("{}{place}{}\n", summary(&checked), more.unwrap_or_default()))?;
    }
    let fails = |level| level == Level::Error || arguments.strict;
    match checked.findings.iter().any(|finding| fails(finding.level)) {
        true => Ok(Ending::Findings),
        false => Ok(Ending::Fine),
    }
}

/// The same words wherever an empty folder is met.
pub(super) fn nothing_here(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "{folder} holds no pipeline file (*.yaml); `forebay new {folder}/hello.yaml` writes one"
    )
}

/// The folder to read, and the one file of it to report on.
fn folder_of(path: &Path) -> (PathBuf, Option<PathBuf>) {
    if !path.is_file() {
        return (path.to_owned(), None);
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().map(PathBuf::from);
    let is_inner = parent.file_name().is_some_and(|name| name == "pipelines");
    match parent.parent() {
        Some(root) if is_inner && !root.as_os_str().is_empty() => (root.to_owned(), name),
        Some(_) if is_inner => (PathBuf::from("."), name),
        _ => (parent.to_owned(), name),
    }
}
