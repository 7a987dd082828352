//! Tests of whole pipelines: what stands in the `NAME.test.yaml` beside them.

mod case;
mod covered;
mod fuzz;
mod judge;
mod players;
mod read;
mod recording;
mod replay;
mod run;
mod scene;
mod seen;
mod sent;
pub mod settings;
mod stand_in;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
};

use forebay_sdk::Finding;

use self::{
    covered::Covered,
    read::{FileRead, Notes},
    run::Ran,
};
pub use self::{
    replay::{Replayed, replay},
    run::How,
};
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
    for path in chosen(root, only)? {
        let notes = if how.covers { Notes::Taken } else { Notes::None };
        let FileRead { tests, findings, texts, noted, lint } = read::read(root, &path, notes)?;
        let mut covered = Covered::default();
        for test in &tests {
            let Ran { failures, record } = run::run(test, how)?;
            covered.add(test, &record);
            results.outcomes.push(Outcome {
                whose: Whose::Pipeline(stem(&path)),
                test: test.name.clone(),
                place: test.place.clone(),
                failures: failures.iter().map(judge::Failure::said).collect(),
            });
        }
        if how.covers && !tests.is_empty() {
            let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            results.coverage.push((shown, covered.report(&noted)));
        }
        let known: Vec<String> = results.findings.iter().map(rendered).collect();
        // What is wrong with the folder is so for each file of tests.
        let lint = lint.into_iter().filter(|found| !known.contains(&rendered(found)));
        results.findings.extend(lint.collect::<Vec<_>>());
        results.findings.push((findings, texts));
    }
    Ok(())
}

/// Tries random schedules of faults on the tests, `count` in all, until one breaks a promise.
pub(super) fn fuzz_all(
    root: &Path,
    only: Option<&Path>,
    (seed, count): (u64, usize),
    results: &mut Results,
) -> anyhow::Result<()> {
    let mut tests = Vec::new();
    for path in chosen(root, only)? {
        let FileRead { tests: of_file, .. } = read::read(root, &path, Notes::None)?;
        tests.extend(of_file.into_iter().map(|test| (stem(&path), test)));
    }
    for (seed, (stem, test)) in (seed..).zip(tests.iter().cycle()).take(count) {
        let Some(found) = fuzz::fuzz(test, seed)? else { continue };
        let fuzz::Found { seed, broken, test: shown } = found;
        results.outcomes.push(Outcome {
            whose: Whose::Pipeline(stem.clone()),
            test: format!("{}, with faults by the seed {seed}", test.name),
            place: test.place.clone(),
            failures: broken.into_iter().chain([shown]).collect(),
        });
        return Ok(());
    }
    if !tests.is_empty() {
        results.tried = Some(count);
    }
    Ok(())
}

/// The files of tests of a folder, and those that they name.
pub(super) fn read_by_tests(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = test_files(&Folder::open(root)?)?;
    for path in files.clone() {
        for test in read::read(root, &path, Notes::None)?.tests {
            let named = test.steps.iter().filter_map(|step| Some(&step.uses.as_ref()?.0));
            let replayed = test.world.iter().filter_map(|said| said.way.replay.as_ref());
            files.extend(named.chain(replayed).map(|file| test.beside.join(file)));
        }
    }
    Ok(files)
}

/// The files of tests that are asked for.
fn chosen(root: &Path, only: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = test_files(&Folder::open(root)?)?;
    files.retain(|path| only.is_none_or(|only| path == only));
    Ok(files)
}

/// What a file of tests is called after.
fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.trim_end_matches(".test").to_owned()
}

fn rendered((findings, texts): &(Vec<Finding>, Texts)) -> String {
    render(findings, texts, Format::Short, false)
}

/// What is wrong with the tests of a folder whose pipelines are right.
pub fn lint_all(root: &Path) -> anyhow::Result<Vec<LintedTests>> {
    let mut linted = Vec::new();
    for path in test_files(&Folder::open(root)?)? {
        let FileRead { findings, texts, .. } = read::read(root, &path, Notes::None)?;
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
