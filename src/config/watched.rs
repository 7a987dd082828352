//! What a change must be looked for in.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::folder::is_pipeline_name;

/// The folders that were read from, and the names of the files that were read there, or would have been.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Folders in which a change matters.
    pub folders: BTreeSet<PathBuf>,
    files: BTreeSet<OsString>,
}

impl Watched {
    /// Takes note of a file, be it there or not.
    pub fn file(&mut self, path: &Path) {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        self.folders.insert(parent.unwrap_or(Path::new(".")).to_owned());
        self.files.extend(path.file_name().map(OsString::from));
    }

    /// Takes note of a folder, whatever may come to stand in it.
    pub fn folder(&mut self, path: &Path) {
        self.folders.insert(path.to_owned());
    }

    /// Takes note of all that another has.
    pub fn add(&mut self, other: &Watched) {
        self.folders.extend(other.folders.iter().cloned());
        self.files.extend(other.files.iter().cloned());
    }

    /// Whether a file of this name is one that is read, or would be. By names alone: links lead to one
    /// folder by many paths.
    pub fn concerns(&self, path: &Path) -> bool {
        let Some(name) = path.file_name() else { return false };
        self.files.contains(name) || is_pipeline_name(&name.to_string_lossy())
    }
}
