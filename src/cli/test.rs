//! `forebay test`: runs the tests of plugins, on the code that runs, with a clock that stands still.

mod answers;
mod differences;
mod play;
#[cfg(test)]
mod tests;
mod written;

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
};

use anyhow::bail;
use forebay_sdk::{Finding, Level, Plugin, Role};
use forebay_yaml::Limits;
use serde_json::json;

pub use self::written::schema;
use self::written::{Test, Tested, read};
use super::{
    folder::{DEFAULT_FOLDER, types_of},
    output::{Ending, Format, count_of, print, use_color},
};
use crate::{
    config::{
        Texts, Types,
        drop_in::{MANIFEST, TESTS},
        folder::read_text,
    },
    lint::{
        Checked,
        report::{self, printable, render},
    },
};

/// Run the tests of plugins: what `tests.yaml` in `plugins/NAME` says that comes of which messages.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A folder with `plugins`, or the folder of one plugin.
    #[arg(default_value = DEFAULT_FOLDER)]
    folder: PathBuf,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What became of one test.
struct Outcome {
    plugin: String,
    test: String,
    /// Where it stands: `plugins/celsius/tests.yaml:2:5`.
    place: String,
    /// What is otherwise than expected. Empty when it passed.
    failures: Vec<String>,
}

pub(super) fn test(arguments: Arguments) -> anyhow::Result<Ending> {
    let (root, only) = what_to_test(&arguments.folder)?;
    let folders = plugin_folders(&root, only.as_deref())?;
    let (types, mut findings, mut texts) = types_of(&root)?;
    findings.retain(|finding| is_of(finding, &folders, &texts));
    let (mut outcomes, mut without) = (Vec::new(), Vec::new());
    for name in &folders {
        let shown = format!("plugins/{name}/{TESTS}");
        let path = root.join(&shown);
        if !path.exists() {
            without.push(name.as_str());
            continue;
        }
        match read_text(&path, Limits::default().size_bytes) {
            Ok(text) => outcomes.extend(run(name, &shown, text, &types, &mut texts, &mut findings)),
            Err(problem) => bail!("{shown} {}: {}", problem.message, problem.label),
        }
    }
    let is_wrong = findings.iter().any(|finding| finding.level == Level::Error);
    let has_failed = outcomes.iter().any(|outcome| !outcome.failures.is_empty());
    match arguments.format {
        Format::Text => say(&outcomes, &without, &findings, &texts)?,
        Format::Json => {
            print(&render(&findings, &texts, report::Format::Json, false))?;
            outcomes.iter().try_for_each(|outcome| print(&as_json(outcome)))?;
        }
    }
    if outcomes.is_empty() && !is_wrong {
        bail!("{} has no plugins/NAME/{TESTS}", root.display());
    }
    Ok(if is_wrong || has_failed { Ending::Findings } else { Ending::Fine })
}

/// Adds to what was checked of a folder what is wrong with the tests of its plugins. They keep nothing from running.
pub(super) fn lint(root: &Path, types: &Types, checked: &mut Checked) {
    let Checked { texts, findings, watched, content_hash, .. } = checked;
    for name in plugin_folders(root, None).unwrap_or_default() {
        let shown = format!("plugins/{name}/{TESTS}");
        let path = root.join(&shown);
        watched.file(&path);
        // A plugin need not have any.
        let Ok(text) = read_text(&path, Limits::default().size_bytes) else { continue };
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        *content_hash ^= hasher.finish();
        let file = texts.add(shown, text.clone());
        if let Some(tested) = tested(types, &name) {
            read(&text, file, &tested, findings);
        }
    }
}

/// The folder to read, and the one plugin to test.
fn what_to_test(folder: &Path) -> anyhow::Result<(PathBuf, Option<String>)> {
    if !folder.join(MANIFEST).is_file() {
        return Ok((folder.to_owned(), None));
    }
    let whole = std::path::absolute(folder)?;
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
    match whole.parent().filter(|plugins| plugins.ends_with("plugins")).and_then(Path::parent) {
        Some(root) => Ok((root.to_owned(), name)),
        None => bail!("{} is a plugin and stands in no folder `plugins`", folder.display()),
    }
}

/// The plugins of a folder, by name.
fn plugin_folders(root: &Path, only: Option<&str>) -> anyhow::Result<Vec<String>> {
    let plugins = root.join("plugins");
    if !plugins.is_dir() {
        let here = if Path::new("plugins").is_dir() {
            "; `forebay test .` tests those at hand"
        } else {
            ""
        };
        bail!("{} has no folder plugins, so there is nothing to test{here}", root.display());
    }
    let entries = fs::read_dir(&plugins)?.flatten();
    let is_plugin = |path: &PathBuf| path.join(MANIFEST).exists() || path.join(TESTS).exists();
    let folders = entries.map(|entry| entry.path()).filter(is_plugin);
    let names = folders.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let mut names: Vec<String> =
        names.filter(|name| only.is_none_or(|only| name == only)).collect();
    names.sort();
    Ok(names)
}

/// Whether something is wrong in one of these plugins.
fn is_of(finding: &Finding, plugins: &[String], texts: &Texts) -> bool {
    let path = finding.span.map(|span| texts.path(span.file)).unwrap_or_default();
    plugins.iter().any(|name| path.starts_with(&format!("plugins/{name}/")))
}

/// The type that a plugin offers.
fn tested<'a>(types: &'a Types, plugin: &str) -> Option<Tested<'a>> {
    let is_of_it = |offering: &Plugin| offering.name == plugin;
    let of_role = |role| {
        let own = types.get(role, plugin).filter(|entry| is_of_it(&entry.plugin));
        let whole = || types.expansion(role, plugin).filter(|entry| is_of_it(&entry.plugin));
        let whole = || Some(Tested::Whole(whole()?, types));
        own.map(|entry| Tested::Type(entry)).or_else(whole)
    };
    Role::ALL.into_iter().find_map(of_role)
}

/// Runs the tests in the text of a `tests.yaml`.
fn run(
    plugin: &str,
    shown: &str,
    text: String,
    types: &Types,
    texts: &mut Texts,
    findings: &mut Vec<Finding>,
) -> Vec<Outcome> {
    let file = texts.add(shown.to_owned(), text.clone());
    let Some(tested) = tested(types, plugin) else { return Vec::new() };
    let tests = read(&text, file, &tested, findings);
    let outcome = |test: Test| {
        let (line, column) = texts.line_column(file, test.span.range().start);
        Outcome {
            plugin: plugin.to_owned(),
            place: format!("{}:{line}:{column}", texts.seen(file)),
            failures: play::play(&test),
            test: test.name,
        }
    };
    tests.into_iter().map(outcome).collect()
}

fn say(
    outcomes: &[Outcome],
    without: &[&str],
    findings: &[Finding],
    texts: &Texts,
) -> anyhow::Result<()> {
    let color = use_color(&io::stdout());
    print(&render(findings, texts, report::Format::Full, color))?;
    let failed: Vec<&Outcome> = outcomes.iter().filter(|one| !one.failures.is_empty()).collect();
    for Outcome { plugin, test, place, failures } in &failed {
        print(&format!("{plugin}: {}\n  at {}\n", printable(test), printable(place)))?;
        for failure in failures {
            print(&format!("  {}\n", printable(failure)))?;
        }
        print("\n")?;
    }
    if !without.is_empty() {
        print(&format!("no {TESTS}: {}\n", without.join(", ")))?;
    }
    let all = count_of(outcomes.len(), "test");
    match (failed.len(), outcomes.len()) {
        (_, 0) => Ok(()),
        (0, _) => print(&format!("{all} passed\n")),
        (failed, _) => print(&format!("{failed} of {all} failed\n")),
    }
}

fn as_json(outcome: &Outcome) -> String {
    let Outcome { plugin, test, place, failures } = outcome;
    let passed = failures.is_empty();
    let line = json!({
        "plugin": plugin, "test": test, "place": place, "passed": passed, "failures": failures,
    });
    format!("{line}\n")
}
