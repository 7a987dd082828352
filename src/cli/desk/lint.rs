//! `forebay lint`: says what is wrong, and opens nothing.

mod markdown;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, anyhow, bail};
use forebay_sdk::{Finding, Level};
use forebay_yaml::Limits;

use super::{
    super::{
        explain::rule,
        folder::{DEFAULT_FOLDER, nothing_to_run, process_environment, types},
        output::{Ending, count_of, found, is_reader_gone, print, shown, use_color},
        runtime::block_on,
    },
    again,
    folder::folder_of,
    test,
    test::pipeline::{LintedTests, is_test_file, lint_all},
};
use crate::{
    config::{self, Draft, Environment, Watched, folder, watch::Watch},
    lint::{
        Checked,
        report::{Format, Part, printable, render_all},
    },
};

/// Check pipelines without running them.
///
/// A folder is checked as a whole, as `forebay run` would read it. Of a single file,
/// the whole folder is read too, because connections are shared, and what speaks of
/// the file is shown.
///
/// In a Markdown file, each block fenced as `yaml` that has a section of a pipeline is
/// checked by itself; what may stand in other files is taken for granted, and
/// `yaml ignore` leaves a block out. A folder without pipelines is searched for
/// Markdown files.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Folders, pipeline files, Markdown files. `-` reads a pipeline from standard input, and
    /// checks it as if it stood in the current folder alone.
    #[arg(default_value = DEFAULT_FOLDER)]
    paths: Vec<PathBuf>,
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
    /// Take variables and files of secrets that are not there for granted, as where
    /// only the repository is: in CI.
    #[arg(long)]
    without_secrets: bool,
    /// A file of lines such as `NAME=value`, which go before the environment. May be
    /// given again.
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Check again after each change, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

fn rule_name(name: &str) -> anyhow::Result<String> {
    rule(name).map(|rule| rule.name.to_owned())
}

fn lowerable_rule_name(name: &str) -> anyhow::Result<String> {
    let rule = rule(name)?;
    if !rule.can_be_allowed() {
        bail!("`{name}` cannot be a warning: nothing can run with it");
    }
    Ok(rule.name.to_owned())
}

impl Arguments {
    /// Lints what was read, with the levels that were asked for.
    fn lint(&self, mut draft: Draft) -> Checked {
        self.deny.iter().for_each(|rule| draft.runtime.lint.deny(rule.clone()));
        self.warn.iter().for_each(|rule| draft.runtime.lint.warn(rule.clone()));
        draft.is_set_elsewhere = self.without_secrets;
        crate::lint::lint(draft)
    }

    /// The variables of the files that were named. The last one that has a name counts.
    fn variables(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut variables = BTreeMap::new();
        for file in &self.env_file {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("reading {}", file.display()))?;
            variables.extend(text.lines().filter_map(variable));
        }
        Ok(variables)
    }
}

/// `NAME=value`, `export NAME="value"`. None for a comment and for anything else.
fn variable(line: &str) -> Option<(String, String)> {
    let line = line.trim_start_matches('\u{feff}').trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
    let value = value.trim();
    let quoted = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote)));
    Some((name.trim().to_owned(), quoted.unwrap_or(value).to_owned()))
}

/// In place of a path.
const STANDARD_INPUT: &str = "-";

/// What there is to check.
#[derive(Default)]
struct Wanted {
    /// Folders of pipelines, each with the files to report on; none for all.
    folders: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    markdown: BTreeSet<PathBuf>,
    standard_input: bool,
}

/// What came of it.
#[derive(Default)]
struct Looked {
    checked: Vec<Checked>,
    /// Files of tests of pipelines that are right.
    tests: Vec<LintedTests>,
    examples: usize,
    /// Changes when anything that was read does.
    content_hash: u64,
    /// Where a change matters.
    watched: Watched,
}

pub(super) fn lint(arguments: Arguments) -> anyhow::Result<Ending> {
    if arguments.watch {
        if arguments.paths.iter().any(|path| path == Path::new(STANDARD_INPUT)) {
            bail!("standard input does not change: `--watch` needs a folder or a file");
        }
        return block_on(watch(&arguments));
    }
    let looked = look(&wanted(&arguments.paths)?, &arguments)?;
    report(&looked, &arguments)
}

fn report(looked: &Looked, arguments: &Arguments) -> anyhow::Result<Ending> {
    let least = if arguments.strict { Level::Warning } else { Level::Error };
    let tests = looked.tests.iter();
    let tests = tests.map(|LintedTests { findings, texts, .. }| Part { findings, texts });
    let parts: Vec<Part> = looked.checked.iter().map(Checked::part).chain(tests).collect();
    let color = use_color(&io::stdout());
    print(&render_all(&parts, arguments.format, color, least))?;
    if arguments.format == Format::Full {
        // The worst of them, for whoever wants to know more.
        let first = looked.findings().min_by_key(|finding| finding.level);
        let more = first.map(|first| format!("; `forebay explain {}` says why", first.rule));
        let summary = summary(looked, &arguments.paths);
        print(&format!("{summary}{}\n", more.unwrap_or_default()))?;
    }
    let fails = looked.findings().any(|finding| finding.level <= least);
    Ok(if fails { Ending::Findings } else { Ending::Fine })
}

/// Checks again after each change. Ends with a signal, or with whoever reads what it prints.
async fn watch(arguments: &Arguments) -> anyhow::Result<Ending> {
    // What was named and is not there is a mistake; what goes away later may come back.
    wanted(&arguments.paths)?;
    let mut watch = Watch::new(true);
    let mut seen = None;
    loop {
        let looked = wanted(&arguments.paths).and_then(|wanted| look(&wanted, arguments));
        match looked {
            Ok(looked) => {
                watch.set(&looked.watched);
                if seen != Some(looked.content_hash) {
                    seen = Some(looked.content_hash);
                    begin_again(arguments.format)?;
                    report(&looked, arguments)?;
                }
            }
            Err(error) => {
                seen = None;
                watch.forget();
                begin_again(arguments.format)?;
                print(&format!("error: {}\n", printable(&format!("{error:#}"))))?;
            }
        }
        if is_reader_gone() {
            return Ok(Ending::Fine);
        }
        watch.changed().await;
    }
}

fn begin_again(format: Format) -> anyhow::Result<()> {
    match format {
        Format::Full => again::begin_again("checked"),
        _ => Ok(()),
    }
}

fn wanted(paths: &[PathBuf]) -> anyhow::Result<Wanted> {
    let mut wanted = Wanted::default();
    for path in paths {
        if path == Path::new(STANDARD_INPUT) {
            wanted.standard_input = true;
            continue;
        }
        if path.is_file() {
            if markdown::is_markdown(path) {
                wanted.markdown.insert(path.clone());
                continue;
            }
            let (folder, file) = folder_of(path);
            wanted.folders.entry(folder).or_default().extend(file);
            continue;
        }
        let folder = config::Folder::open(path)?;
        let holds_pipelines = !folder.pipelines.is_empty() || !folder.overlooked().is_empty();
        let pages = if holds_pipelines { Vec::new() } else { markdown::files_below(path)? };
        if pages.is_empty() {
            wanted.folders.entry(path.clone()).or_default().clear();
        }
        wanted.markdown.extend(pages);
    }
    Ok(wanted)
}

fn look(wanted: &Wanted, arguments: &Arguments) -> anyhow::Result<Looked> {
    let mut looked = Looked::default();
    let variables = arguments.variables()?;
    let environment =
        |name: &str| variables.get(name).cloned().or_else(|| process_environment(name));
    for (folder, files) in &wanted.folders {
        let draft = config::load(folder, types(), &environment)?;
        let types = Arc::clone(&draft.types);
        let mut checked = arguments.lint(draft);
        test::lint(folder, &types, &mut checked);
        if checked.is_empty() {
            bail!("{}", nothing_to_run(folder, &checked));
        }
        let (tests, files): (BTreeSet<PathBuf>, BTreeSet<PathBuf>) =
            files.iter().cloned().partition(|file| is_test_file(file));
        let is_of_tests_alone = files.is_empty() && !tests.is_empty();
        match is_of_tests_alone {
            true => checked.findings.clear(),
            false => keep(&files, folder, &mut checked)?,
        }
        checked.texts.see_from(folder);
        // Tests run on a graph, and there is none with an error in it.
        if checked.graph.is_some() && (files.is_empty() || is_of_tests_alone) {
            let is_wanted = |linted: &LintedTests| {
                tests.is_empty() || tests.iter().any(|file| folder.join(file) == linted.path)
            };
            looked.add_tests(lint_all(folder)?.into_iter().filter(is_wanted));
        }
        looked.add(checked);
    }
    if wanted.standard_input {
        looked.add(arguments.lint(standard_input(&environment)?));
    }
    for path in &wanted.markdown {
        looked.watched.file(path);
        for checked in markdown::check(path, |draft| arguments.lint(draft))? {
            looked.examples += 1;
            looked.add(checked);
        }
    }
    Ok(looked)
}

fn standard_input(environment: Environment<'_>) -> anyhow::Result<Draft> {
    const SHOWN: &str = "standard input";
    let most_bytes = Limits::default().size_bytes;
    let mut bytes = Vec::new();
    let mut input = io::stdin().take(most_bytes as u64 + 1);
    input.read_to_end(&mut bytes).context("reading standard input")?;
    let text = folder::text_of(bytes, most_bytes)
        .map_err(|problem| anyhow!("{SHOWN} {}: {}", problem.message, problem.label))?;
    Ok(config::load_part(SHOWN, &text, &text, Path::new("."), types(), environment))
}

impl Looked {
    fn add(&mut self, checked: Checked) {
        self.content_hash = self.content_hash.rotate_left(1) ^ checked.content_hash;
        self.watched.add(&checked.watched);
        self.checked.push(checked);
    }

    fn add_tests(&mut self, tests: impl Iterator<Item = LintedTests>) {
        for linted in tests {
            let mut hasher = DefaultHasher::new();
            linted.texts.iter().for_each(|(_, text)| text.hash(&mut hasher));
            self.content_hash = self.content_hash.rotate_left(1) ^ hasher.finish();
            self.watched.file(&linted.path);
            self.tests.push(linted);
        }
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        let tests = self.tests.iter().flat_map(|linted| &linted.findings);
        self.checked.iter().flat_map(|checked| &checked.findings).chain(tests)
    }

    fn count(&self, level: Level) -> usize {
        self.findings().filter(|finding| finding.level == level).count()
    }
}

/// Keeps the findings that speak of one of the files, also those in a script that it uses.
fn keep(files: &BTreeSet<PathBuf>, folder: &Path, checked: &mut Checked) -> anyhow::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let texts = &checked.texts;
    for file in files {
        if !texts.iter().any(|(path, _)| Path::new(path) == file) {
            bail!(
                "{} is no pipeline file: their names end in `.yaml` and do not begin with a dot",
                folder.join(file).display()
            );
        }
    }
    let is_wanted = |finding: &Finding| {
        let context = finding.context.iter().map(|(span, _)| *span);
        let mut spans = finding.span.into_iter().chain(context);
        spans.any(|span| files.contains(Path::new(texts.path(span.file))))
    };
    checked.findings.retain(is_wanted);
    Ok(())
}

fn summary(looked: &Looked, paths: &[PathBuf]) -> String {
    let pipelines: usize = looked.checked.iter().map(|checked| checked.pipelines).sum();
    let mut places = Vec::new();
    if pipelines > looked.examples {
        places.push(count_of(pipelines - looked.examples, "pipeline"));
    }
    if looked.examples > 0 {
        places.push(count_of(looked.examples, "example"));
    }
    let found = found(looked.count(Level::Error), looked.count(Level::Warning));
    // None could be read.
    let nowhere = places.is_empty();
    let place = if nowhere { String::new() } else { format!(" in {}", places.join(" and ")) };
    let of = match paths {
        [path] if path.is_file() && !markdown::is_markdown(path) => {
            format!(" ({})", shown(Path::new(path.file_name().unwrap_or_default())))
        }
        _ => String::new(),
    };
    format!("{found}{place}{of}")
}
