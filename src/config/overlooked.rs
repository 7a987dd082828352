//! Files that look like pipelines and are not read: in the wrong folder, or with the wrong ending.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use forebay_sdk::{Finding, Role};

use super::folder::{Folder, is_pipeline_name};
use crate::rules::IGNORED_FILE;

/// Enough to see what a file is.
const LOOK_BYTES: u64 = 4096;
/// A folder of many other files is no reason for many findings.
const MOST: usize = 20;

impl Folder {
    /// One warning for each.
    pub fn overlooked(&self) -> Vec<Finding> {
        find(self)
    }
}

fn find(folder: &Folder) -> Vec<Finding> {
    let place = folder.place.as_path();
    let mut findings = Vec::new();
    let shown = folder.shown(place);
    let target = |name: &str| match shown.as_str() {
        "" => name.to_owned(),
        shown => format!("{shown}/{name}"),
    };
    for path in entries(place) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let plain = with_plain_ending(name);
        if path.is_dir() {
            // What stands below another folder is the business of that one.
            if place == folder.root {
                continue;
            }
            for inner in entries(&path).into_iter().filter(|path| is_pipeline(path)) {
                let name = inner.file_name().unwrap_or_default().to_string_lossy();
                let why = format!("folders below {shown} are not looked into");
                findings.push(ignored(folder, &inner, &why, &target(&name)));
            }
        } else if plain != name && is_pipeline_name(&plain) && looks_like_one(&path) {
            let why = "the names of pipelines end in `.yaml`";
            findings.push(ignored(folder, &path, why, &target(&plain)));
        }
    }
    if place != folder.root {
        let is_runtime = |path: &PathBuf| path.ends_with("forebay.yaml");
        let beside = entries(&folder.root).into_iter();
        for path in beside.filter(|path| !is_runtime(path) && is_pipeline(path)) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let why = format!("with a folder {shown}, only that is looked into");
            findings.push(ignored(folder, &path, &why, &target(&name)));
        }
    }
    findings.truncate(MOST);
    findings
}

fn ignored(folder: &Folder, path: &Path, why: &str, target: &str) -> Finding {
    let message = format!("{} is not read: {why}", folder.shown(path));
    Finding::warning(&IGNORED_FILE, None, message, "").help(format!("rename it to {target}"))
}

/// The name as that of a pipeline: `Boiler.YAML.txt` is `Boiler.yaml`.
fn with_plain_ending(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let length = lower.strip_suffix(".txt").map_or(name.len(), str::len);
    let stem = lower[..length].rfind('.').unwrap_or(length);
    format!("{}{}", &name[..stem], &lower[stem..length])
}

/// What stands in a folder, sorted, without what is hidden.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_hidden =
        |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| !is_hidden(path)).collect();
    paths.sort();
    paths
}

fn is_pipeline(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    is_pipeline_name(&name) && looks_like_one(path)
}

/// Whether a section of a pipeline begins in the file.
fn looks_like_one(path: &Path) -> bool {
    // Other programs have connections too.
    let sections = || Role::ALL.into_iter().filter(|role| *role != Role::Connection);
    let begins = |line: &str| {
        let behind = |role: Role| line.strip_prefix(role.section());
        sections().filter_map(behind).any(|rest| rest.starts_with(':'))
    };
    let mut bytes = Vec::new();
    let is_file = fs::metadata(path).is_ok_and(|meta| meta.is_file());
    let mut read = || fs::File::open(path)?.take(LOOK_BYTES).read_to_end(&mut bytes);
    is_file && read().is_ok() && String::from_utf8_lossy(&bytes).lines().any(begins)
}
