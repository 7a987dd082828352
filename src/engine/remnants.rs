//! What nodes and connections that are gone remember on disk. It is kept for a month, for a file of
//! pipelines may come back, and counted from when they were first missed: how old a file is says nothing
//! of a node whose state seldom changes.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::buffer;
use crate::config::Name;

const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// An empty file, made when a folder was first nobody's. A node's own files have other names.
const GONE_SINCE: &str = "gone-since";

/// Removes the files of all that is in none of `used` and was missed for a month. `now` is by a wall
/// clock that was set.
pub fn remove_old(nodes: &Path, used: &BTreeSet<Name>, now: SystemTime) -> io::Result<()> {
    // Those of nodes before that of their pipeline.
    for (name, folder) in buffer::folders_in(nodes)?.into_iter().rev() {
        let mark = folder.join(GONE_SINCE);
        if used.contains(name.as_str()) {
            remove_mark(&mark)?;
            continue;
        }
        let files = files(&folder)?;
        if files.iter().all(|file| *file == mark) {
            // Also that of a pipeline, once it is empty.
            remove(&folder, &files)?;
            continue;
        }
        match fs::symlink_metadata(&mark) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                File::create_new(&mark)?.set_modified(now)?;
            }
            since => {
                let gone_for = now.duration_since(since?.modified()?);
                if gone_for.is_ok_and(|gone_for| gone_for >= KEPT_FOR) {
                    remove(&folder, &files)?;
                }
            }
        }
    }
    Ok(())
}

fn remove_mark(mark: &Path) -> io::Result<()> {
    match fs::remove_file(mark) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The files of one folder, and no folders.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// Removes the files, and the folder unless it holds those of others.
fn remove(folder: &Path, files: &[PathBuf]) -> io::Result<()> {
    files.iter().try_for_each(fs::remove_file)?;
    let _ = fs::remove_dir(folder);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// A data folder in which two nodes of one pipeline and a connection remember something.
    fn nodes() -> tempfile::TempDir {
        let nodes = tempfile::tempdir().unwrap();
        for (folder, file) in [("p/a", "state.json"), ("p/b", "state.json"), ("plant", "dialect")] {
            fs::create_dir_all(nodes.path().join(folder)).unwrap();
            fs::write(nodes.path().join(folder).join(file), "{}").unwrap();
        }
        nodes
    }

    /// Looks once a day, and returns what is left in the end.
    fn after(nodes: &Path, days: u32, used: &[&str]) -> Vec<String> {
        let used = used.iter().map(|name| Name::from(*name)).collect();
        for day in 0..=days {
            remove_old(nodes, &used, SystemTime::UNIX_EPOCH + DAY * day).unwrap();
        }
        buffer::folders_in(nodes).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn the_state_of_a_node_that_was_removed_stayed_for_ever() {
        let nodes = nodes();
        assert_eq!(after(nodes.path(), 29, &["p/a"]), ["p", "p/a", "p/b", "plant"]);
        assert_eq!(after(nodes.path(), 30, &["p/a"]), ["p", "p/a"]);
        assert!(nodes.path().join("p/a/state.json").exists());
        assert_eq!(after(nodes.path(), 30, &[]), Vec::<String>::new());
    }

    #[test]
    fn a_node_that_comes_back_is_missed_anew() {
        let nodes = nodes();
        let all = ["p/a", "p/b", "plant"];
        after(nodes.path(), 29, &[]);
        after(nodes.path(), 29, &all);
        assert_eq!(after(nodes.path(), 29, &[]), ["p", "p/a", "p/b", "plant"]);
    }

    #[test]
    fn the_files_of_others_stay() {
        let nodes = nodes();
        let theirs = nodes.path().join("p/b/theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("file"), "").unwrap();
        after(nodes.path(), 40, &[]);
        assert!(theirs.join("file").exists());
        assert!(!nodes.path().join("p/b/state.json").exists());
    }
}
