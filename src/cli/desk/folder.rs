//! The folder that a verb is pointed at.

use std::path::{Path, PathBuf};

use forebay_sdk::Finding;

use super::super::folder::{process_environment, types};
use crate::config::{self, Texts, Types};

/// The folder to read, and the one file of it to report on, relative to the folder.
pub(super) fn folder_of(path: &Path) -> (PathBuf, Option<PathBuf>) {
    if !path.is_file() {
        return (path.to_owned(), None);
    }
    let here = Path::new(".");
    let or_here = |folder: &Path| {
        if folder.as_os_str().is_empty() { here.to_owned() } else { folder.to_owned() }
    };
    let parent = path.parent().unwrap_or(here);
    let name = path.file_name().map(PathBuf::from);
    // From inside of it, the folder has no name in the path.
    let is_inside = std::path::absolute(path)
        .is_ok_and(|path| path.parent().is_some_and(|parent| parent.ends_with("pipelines")));
    if is_inside {
        let name = name.map(|name| Path::new("pipelines").join(name));
        return match parent.file_name() {
            Some(_) => (or_here(parent.parent().unwrap_or(here)), name),
            None => (parent.join(".."), name),
        };
    }
    (or_here(parent), name)
}

/// The node types of this build and those that a folder brings along, with what is wrong with these.
pub(super) fn types_of(folder: &Path) -> anyhow::Result<(Types, Vec<Finding>, Texts)> {
    let mut draft = config::load(folder, types(), &process_environment)?;
    draft.texts.see_from(folder);
    let is_of_plugin = |finding: &Finding| {
        finding.span.is_some_and(|span| draft.texts.path(span.file).starts_with("plugins/"))
    };
    let findings = draft.findings.into_iter().filter(is_of_plugin).collect();
    Ok((Types::clone(&draft.types), findings, draft.texts))
}
