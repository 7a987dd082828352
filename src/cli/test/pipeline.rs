//! Tests of whole pipelines: what stands in the `NAME.test.yaml` beside them.

mod case;
mod judge;
mod players;
mod read;
mod run;
mod scene;
mod seen;
pub mod settings;
mod stand_in;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
};

use forebay_sdk::Finding;

use self::read::FileRead;
pub use self::run::How;
use super::results::{Outcome, Results, Whose};
use crate::{
    config::{Folder, Texts},
    lint::report::{Format, render},
};

/// Runs the tests of a folder, or one file of them.
pub(super) fn run_all(
    root: &Path,
    only: Option<&Path>,
    how: How,
    results: &mut Results,
) -> anyhow::Result<()> {
    let files = test_files(&Folder::open(root)?)?;
    for path in files.into_iter().filter(|path| only.is_none_or(|only| path == only)) {
        let FileRead { tests, findings, texts, lint } = read::read(root, &path)?;
        for test in &tests {
            let failures = run::run(test, how)?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            results.outcomes.push(Outcome {
                whose: Whose::Pipeline(stem.trim_end_matches(".test").to_owned()),
                test: test.name.clone(),
                place: test.place.clone(),
                failures: failures.iter().map(judge::Failure::said).collect(),
            });
        }
        let known: Vec<String> = results.findings.iter().map(rendered).collect();
        // What is wrong with the folder is so for each file of tests.
        let lint = lint.into_iter().filter(|found| !known.contains(&rendered(found)));
        results.findings.extend(lint.collect::<Vec<_>>());
        results.findings.push((findings, texts));
    }
    Ok(())
}

fn rendered((findings, texts): &(Vec<Finding>, Texts)) -> String {
    render(findings, texts, Format::Short, false)
}

/// What is wrong with the tests of a folder whose pipelines are right.
pub fn lint_all(root: &Path) -> anyhow::Result<Vec<LintedTests>> {
    let mut linted = Vec::new();
    for path in test_files(&Folder::open(root)?)? {
        let FileRead { findings, texts, .. } = read::read(root, &path)?;
        linted.push(LintedTests { path, findings, texts });
    }
    Ok(linted)
}

/// What is wrong with a file of tests.
pub struct LintedTests {
    pub path: PathBuf,
    pub findings: Vec<Finding>,
    pub texts: Texts,
}

/// Whether a file is one of tests.
pub fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".test.yaml") || name.ends_with(".test.yml")
}

/// The files of tests, beside the pipelines, in the order of their names.
pub fn test_files(folder: &Folder) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(&folder.place)?.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| is_test_file(path)).collect();
    files.sort();
    Ok(files)
}
