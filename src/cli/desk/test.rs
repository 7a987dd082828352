//! `forebay test`: runs the tests of pipelines and of plugins, on the code that runs, with a clock of their own.

mod answers;
mod differences;
mod junit;
pub mod pipeline;
mod play;
mod results;
#[cfg(test)]
mod tests;
mod written;

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::bail;
use forebay_sdk::{Finding, Plugin, Role};
use forebay_yaml::Limits;
use serde_json::json;
use tokio::task::spawn_blocking;

pub use self::written::schema;
use self::{
    pipeline::How,
    results::{Outcome, Report, Results, Whose},
    written::{Test, Tested, read},
};
use super::{
    super::{
        folder::{DEFAULT_FOLDER, process_environment, types},
        output::{Ending, count_of, is_reader_gone, print, use_color},
        runtime::block_on,
    },
    again::begin_again,
    folder::{folder_of, types_of},
};
use crate::{
    config::{
        self, Texts, Types, Watched,
        drop_in::{MANIFEST, TESTS},
        folder::read_text,
        watch::Watch,
    },
    lint::{
        Checked,
        report::{self, printable, render},
    },
};

/// Run the tests of a folder: those of its pipelines, and those of its plugins.
///
/// A file NAME.test.yaml beside a pipeline says what the world does, and what must come of
/// it. The pipeline runs as a whole, against devices and brokers in memory, by a clock
/// that passes hours in no time. No socket and no device is opened. What `tests.yaml` in
/// `plugins/NAME` says is what comes of single messages.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// A folder, a file of tests, or the folder of one plugin.
    #[arg(default_value = DEFAULT_FOLDER)]
    folder: PathBuf,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Printed,
    /// Write the files that tests name with `golden`, in the place of comparing with them.
    #[arg(long)]
    update: bool,
    /// What all chance in the tests of pipelines comes from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Run the tests again after each change, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// Tell what of the pipelines their tests did not reach: statements of scripts, outputs, wires.
    #[arg(long)]
    coverage: bool,
    /// Try N random schedules of faults on the tests of pipelines, too: outages, a power cut, a
    /// full disk, steps of the clock, reloads. The first that breaks a promise is made as short as
    /// it gets, and printed as a test.
    #[arg(long, value_name = "N")]
    fuzz: Option<usize>,
}

/// How it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Printed {
    /// For people.
    #[default]
    Text,
    /// An object for each test.
    Json,
    /// JUnit XML, for CI systems.
    Junit,
}

pub(super) fn test(arguments: Arguments) -> anyhow::Result<Ending> {
    match arguments.watch {
        true => block_on(watch(arguments)),
        false => test_once(&arguments),
    }
}

/// Tests again after each change. Ends with a signal, or with whoever reads what it prints.
async fn watch(arguments: Arguments) -> anyhow::Result<Ending> {
    let (root, _) = what_to_test(&arguments.folder)?;
    let arguments = Arc::new(arguments);
    let (mut watch, mut seen) = (Watch::new(true), None);
    loop {
        let tested = match read_by_tests(&root) {
            Ok((watched, hash)) => {
                watch.set(&watched);
                if seen.replace(hash) == Some(hash) {
                    Ok(Ending::Fine)
                } else {
                    begin_again("tested")?;
                    let arguments = Arc::clone(&arguments);
                    // Tests have a runtime of their own, with a clock that stands still.
                    spawn_blocking(move || test_once(&arguments)).await?
                }
            }
            Err(error) => {
                seen = None;
                watch.forget();
                begin_again("tested")?;
                Err(error)
            }
        };
        if let Err(error) = tested {
            print(&format!("error: {}\n", printable(&format!("{error:#}"))))?;
        }
        if is_reader_gone() {
            return Ok(Ending::Fine);
        }
        watch.changed().await;
    }
}

/// Where a change matters to the tests of a folder, and what is another number when something has changed.
fn read_by_tests(root: &Path) -> anyhow::Result<(Watched, u64)> {
    let draft = config::load(root, types(), &process_environment)?;
    let types = Arc::clone(&draft.types);
    let mut checked = crate::lint::lint(draft);
    lint(root, &types, &mut checked);
    let Checked { mut watched, content_hash, .. } = checked;
    let mut hasher = DefaultHasher::new();
    content_hash.hash(&mut hasher);
    for path in pipeline::read_by_tests(root)? {
        watched.file(&path);
        fs::read(&path).unwrap_or_default().hash(&mut hasher);
    }
    Ok((watched, hasher.finish()))
}

fn test_once(arguments: &Arguments) -> anyhow::Result<Ending> {
    let (root, only) = what_to_test(&arguments.folder)?;
    let mut results = Results::default();
    match &only {
        Only::File(_) => (),
        Only::Plugin(name) => of_plugins(&root, Some(name), &mut results)?,
        Only::Nothing if root.join("plugins").is_dir() => of_plugins(&root, None, &mut results)?,
        Only::Nothing => (),
    }
    let file = if let Only::File(file) = &only { Some(file.as_path()) } else { None };
    if !matches!(only, Only::Plugin(_)) {
        let how =
            How { seed: arguments.seed, updates: arguments.update, covers: arguments.coverage };
        pipeline::run_all(&root, file, how, &mut results)?;
        if let Some(count) = arguments.fuzz.filter(|_| !results.is_wrong()) {
            pipeline::fuzz_all(&root, file, (arguments.seed, count), &mut results)?;
        }
    }
    match arguments.format {
        Printed::Text => say(&results)?,
        Printed::Json => {
            for (findings, texts) in &results.findings {
                print(&render(findings, texts, report::Format::Json, false))?;
            }
            results.outcomes.iter().try_for_each(|outcome| print(&as_json(outcome)))?;
            for (file, report) in &results.coverage {
                print(&format!("{}\n", json!({ "file": file, "coverage": report })))?;
            }
        }
        Printed::Junit => print(&junit::junit(&results))?,
    }
    if results.outcomes.is_empty() && !results.is_wrong() {
        let root = root.display();
        let has_plugins = Path::new("plugins").is_dir();
        let here = if has_plugins { "; `forebay test .` tests those at hand" } else { "" };
        bail!("{root} has no NAME.test.yaml beside a pipeline, and no plugins/NAME/{TESTS}{here}");
    }
    let has_failed = results.failed().next().is_some();
    Ok(if results.is_wrong() || has_failed { Ending::Findings } else { Ending::Fine })
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

/// What of a folder is tested.
enum Only {
    /// All of it.
    Nothing,
    Plugin(String),
    File(PathBuf),
}

/// The folder to read, and what of it to test.
fn what_to_test(path: &Path) -> anyhow::Result<(PathBuf, Only)> {
    if let (root, Some(file)) = folder_of(path) {
        let file = root.join(file);
        return Ok((root, Only::File(file)));
    }
    if !path.join(MANIFEST).is_file() {
        return Ok((path.to_owned(), Only::Nothing));
    }
    let whole = std::path::absolute(path)?;
    let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match whole.parent().filter(|plugins| plugins.ends_with("plugins")).and_then(Path::parent) {
        Some(root) => Ok((root.to_owned(), Only::Plugin(name))),
        None => bail!("{} is a plugin and stands in no folder `plugins`", path.display()),
    }
}

/// Runs the tests of plugins.
fn of_plugins(root: &Path, only: Option<&str>, results: &mut Results) -> anyhow::Result<()> {
    let folders = plugin_folders(root, only)?;
    let (types, mut findings, mut texts) = types_of(root)?;
    findings.retain(|finding| is_of(finding, &folders, &texts));
    for name in folders {
        let shown = format!("plugins/{name}/{TESTS}");
        let path = root.join(&shown);
        if !path.exists() {
            results.without.push(name);
            continue;
        }
        match read_text(&path, Limits::default().size_bytes) {
            Ok(text) => {
                let outcomes = run(&name, &shown, text, &types, &mut texts, &mut findings);
                results.outcomes.extend(outcomes);
            }
            Err(problem) => bail!("{shown} {}: {}", problem.message, problem.label),
        }
    }
    results.findings.push((findings, texts));
    Ok(())
}

/// The plugins of a folder, by name.
fn plugin_folders(root: &Path, only: Option<&str>) -> anyhow::Result<Vec<String>> {
    let plugins = root.join("plugins");
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
            whose: Whose::Plugin(plugin.to_owned()),
            place: format!("{}:{line}:{column}", texts.seen(file)),
            failures: play::play(&test),
            test: test.name,
        }
    };
    tests.into_iter().map(outcome).collect()
}

fn say(results: &Results) -> anyhow::Result<()> {
    let color = use_color(&io::stdout());
    for (findings, texts) in &results.findings {
        print(&render(findings, texts, report::Format::Full, color))?;
    }
    for Outcome { whose, test, place, failures } in results.failed() {
        let name = whose.name();
        print(&format!("{name}: {}\n  at {}\n", printable(test), printable(place)))?;
        for line in failures.iter().flat_map(|failure| failure.lines()) {
            print(&format!("  {}\n", printable(line)))?;
        }
        print("\n")?;
    }
    if !results.without.is_empty() {
        print(&format!("no {TESTS}: {}\n", results.without.join(", ")))?;
    }
    for (file, report) in &results.coverage {
        print(&covered(file, report))?;
    }
    if let Some(tried) = results.tried {
        print(&format!("{} of faults broke no promise\n", count_of(tried, "random schedule")))?;
    }
    let all = count_of(results.outcomes.len(), "test");
    match (results.failed().count(), results.outcomes.len()) {
        (_, 0) => Ok(()),
        (0, _) => print(&format!("{all} passed\n")),
        (failed, _) => print(&format!("{failed} of {all} failed\n")),
    }
}

fn covered(file: &str, report: &Report) -> String {
    let Report { places, reached, .. } = report;
    let mut text = match places {
        0 => format!("{file}: no scripts\n"),
        places => {
            format!("{file}: {reached} of {} of scripts reached\n", count_of(*places, "place"))
        }
    };
    let parts = [
        ("not reached", &report.not_reached),
        ("nothing left by", &report.outputs_not_taken),
        ("nothing went from", &report.wires_not_taken),
    ];
    for (what, all) in parts.into_iter().filter(|(_, all)| !all.is_empty()) {
        text += &format!("  {what} {}\n", all.join(", "));
    }
    text + "\n"
}

fn as_json(outcome: &Outcome) -> String {
    let Outcome { whose, test, place, failures } = outcome;
    let passed = failures.is_empty();
    let kind = match whose {
        Whose::Plugin(_) => "plugin",
        Whose::Pipeline(_) => "pipeline",
    };
    let line = json!({
        kind: whose.name(), "test": test, "place": place, "passed": passed, "failures": failures,
    });
    format!("{line}\n")
}
