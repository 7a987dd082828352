//! Looks at a folder for `run`: whether it can run, and what could in its place.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use forebay_sdk::{Finding, Level};
use tokio::task::spawn_blocking;
use tracing::{error, warn};

use super::{
    accepted::{self, Copy},
    folder::{check, nothing_to_run, types},
    output::{summary, use_color},
};
use crate::{
    config::{Environment, Place, Watched, runtime::LogFormat},
    lint::{
        self, Checked,
        report::{Format, render},
    },
};

/// Looks up the variables that pipelines ask for.
pub(super) type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Files that cannot run.
pub(super) struct Refused {
    /// What is wrong, in few words.
    pub(super) why: String,
    /// None when the folder could not be read.
    pub(super) checked: Option<Checked>,
}

/// Reads and checks a folder. A reload refuses what a start refuses. Only one thing differs: whoever
/// takes the last file out of the place that runs wants nothing to run.
pub(super) async fn look(
    folder: &Path,
    variables: &Variables,
    place: Option<&Place>,
) -> Result<Checked, Refused> {
    let checked = check_beside(folder, variables).await;
    let checked = checked.map_err(|error| Refused { why: format!("{error:#}"), checked: None })?;
    let why = match (checked.is_empty(), &checked.graph) {
        (true, _) if place != Some(&checked.place) => nothing_to_run(folder, &checked),
        (_, Some(_)) => return Ok(checked),
        (_, None) => summary(&checked),
    };
    Err(Refused { why, checked: Some(checked) })
}

/// Reading and compiling many files takes a while; the nodes go on meanwhile.
async fn check_beside(folder: &Path, variables: &Variables) -> anyhow::Result<Checked> {
    let (folder, variables) = (folder.to_owned(), Arc::clone(variables));
    spawn_blocking(move || check(&folder, &*variables)).await.context("checking the folder")?
}

/// What ran before, for when the folder cannot run.
pub(super) struct LastGood {
    pub(super) copy: Copy,
    /// Without a graph when it cannot run either, such as when its secrets are gone.
    pub(super) checked: Checked,
}

/// The newest of the accepted sets that can run, else the newest. None when none was accepted yet.
pub(super) fn last_good(
    data: &Path,
    folder: &Path,
    environment: Environment<'_>,
) -> anyhow::Result<Option<LastGood>> {
    let mut newest = None;
    for copy in accepted::copies(data, folder)? {
        let Ok(draft) = copy.load(folder, types(), environment) else { continue };
        let mut checked = lint::lint(draft);
        checked.texts.see_from(folder);
        let found = LastGood { copy, checked };
        if found.checked.graph.is_some() {
            return Ok(Some(found));
        }
        newest = newest.or(Some(found));
    }
    Ok(newest)
}

/// The same, while the nodes go on.
pub(super) async fn last_good_beside(
    data: &Path,
    folder: &Path,
    variables: &Variables,
) -> anyhow::Result<Option<LastGood>> {
    let (data, folder, variables) = (data.to_owned(), folder.to_owned(), Arc::clone(variables));
    let find = move || last_good(&data, &folder, &*variables);
    spawn_blocking(find).await.context("reading what was accepted")?
}

impl Refused {
    /// What the files say about the data folder, as far as they can be read.
    pub(super) fn data(&self) -> Option<PathBuf> {
        self.checked.as_ref().and_then(|checked| checked.runtime.data.clone())
    }

    /// Changes when there is something new to say.
    pub(super) fn content_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.why.hash(&mut hasher);
        self.checked.as_ref().map_or(hasher.finish(), |checked| checked.content_hash)
    }

    /// Where to look for what mends it.
    pub(super) fn watched(&self, folder: &Path) -> Watched {
        match &self.checked {
            Some(checked) => checked.watched.clone(),
            None => {
                let mut watched = Watched::default();
                watched.folder(folder);
                watched
            }
        }
    }

    /// What is wrong, a line each.
    pub(super) fn short_findings(&self) -> Vec<String> {
        self.checked.as_ref().map(short_findings).unwrap_or_default()
    }

    /// Says what is wrong where.
    pub(super) fn print(&self, format: LogFormat) {
        self.checked.iter().for_each(|checked| print_findings(checked, format));
    }
}

/// The first findings, a line each, for who looks on: errors, then warnings.
pub(super) fn short_findings(checked: &Checked) -> Vec<String> {
    const MOST_SHOWN: usize = 50;
    let mut findings: Vec<&Finding> = checked.findings.iter().collect();
    findings.sort_by_key(|finding| finding.level != Level::Error);
    let left_out = findings.len().saturating_sub(MOST_SHOWN);
    let shown: Vec<Finding> = findings.into_iter().take(MOST_SHOWN).cloned().collect();
    let lines = render(&shown, &checked.texts, Format::Short, false);
    let rest = (left_out > 0).then(|| format!("and {left_out} more"));
    lines.lines().map(str::to_owned).chain(rest).collect()
}

/// Findings are for people and go to standard error as they are; in a log of JSON they are lines.
pub(super) fn print_findings(checked: &Checked, format: LogFormat) {
    match format {
        LogFormat::Text => {
            let color = use_color(&std::io::stderr());
            eprint!("{}", render(&checked.findings, &checked.texts, Format::Full, color));
        }
        LogFormat::Json => {
            for finding in &checked.findings {
                let line =
                    render(std::slice::from_ref(finding), &checked.texts, Format::Short, false);
                match finding.level {
                    Level::Error => error!(rule = finding.rule.name, "{}", line.trim_end()),
                    Level::Warning => warn!(rule = finding.rule.name, "{}", line.trim_end()),
                }
            }
        }
    }
}
