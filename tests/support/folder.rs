//! A folder of pipelines that goes away with its test.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// A temporary folder. Paths are relative to it, folders in between are made.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().expect("the system has a folder for temporary files"))
    }

    /// A folder with these files.
    pub fn with(files: &[(&str, &str)]) -> Folder {
        let folder = Folder::new();
        files.iter().for_each(|(path, text)| folder.write(path, text));
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes into the file, as `cp` and simple editors do.
    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.place(path), text).expect("writing a test file");
    }

    /// Writes another file and renames it over, as careful editors do: the file gets a new inode,
    /// and nobody ever sees half of it.
    pub fn replace(&self, path: &str, text: &str) {
        let wanted = self.place(path);
        let fresh = wanted.with_file_name("..being-written");
        fs::write(&fresh, text).expect("writing a test file");
        fs::rename(&fresh, &wanted).expect("renaming a test file");
    }

    /// Has a copy of a folder in it.
    pub fn copy(&self, from: &Path, path: &str) {
        for entry in fs::read_dir(from).expect("it is there").flatten() {
            let path = format!("{path}/{}", entry.file_name().to_string_lossy());
            match entry.path().is_dir() {
                true => self.copy(&entry.path(), &path),
                false => drop(fs::copy(entry.path(), self.place(&path)).expect("there is room")),
            }
        }
    }

    pub fn remove(&self, path: &str) {
        fs::remove_file(self.place(path)).expect("removing a test file");
    }

    /// Points a symbolic link elsewhere in one step, as Kubernetes does with `..data`.
    pub fn link(&self, path: &str, target: &str) {
        let wanted = self.place(path);
        let fresh = wanted.with_file_name("..being-linked");
        symlink(target, &fresh).expect("making a link");
        fs::rename(&fresh, &wanted).expect("renaming a link");
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap_or_default()
    }

    fn place(&self, path: &str) -> PathBuf {
        let place = self.path().join(path);
        let parent = place.parent().expect("it is inside the folder");
        fs::create_dir_all(parent).expect("making a test folder");
        place
    }
}
