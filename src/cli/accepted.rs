//! Copies of the files that `run` accepted: what it starts with when the folder cannot run, and what
//! `plan` compares with.
//!
//! Each copy is a folder below `DATA/accepted` with a number for a name. It is written beside the
//! others, made safe from a power cut, and only then named, so that at every moment the one with the
//! highest number is whole. The one before it stays, for whoever is reading it just now.
//!
//! In a copy, `files/` holds what stands in the folder of pipelines, as it was written: of a secret, the
//! variable's name. What was read from elsewhere, such as a script two folders up, is numbered in
//! `outside/`, and `outside.json` says which path means which. `accepted.json` says when that was, and of
//! which folder.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use anyhow::Context;
use forebay_sdk::Timestamp;
use serde::{Deserialize, Serialize};

use super::output::about;
use crate::config::{self, Draft, Environment, Texts, Types};

/// The copies of a folder that there are, the newest first.
pub(super) fn copies(data: &Path, of: &Path) -> anyhow::Result<Vec<Copy>> {
    let place = place(data);
    let numbers = numbers(&place).with_context(|| format!("reading {}", place.display()))?;
    let copies = numbers.iter().rev();
    let copies = copies.filter_map(|number| Copy::at(place.join(number.to_string())));
    Ok(copies.filter(|copy| copy.accepted.folder == absolute(of)).collect())
}

/// Keeps the texts of a folder as the newest copy. When they are what it holds already, nothing is
/// written.
pub(super) fn keep(data: &Path, of: &Path, texts: &Texts) -> anyhow::Result<()> {
    keep_in_steps(data, &Accepted::now(of), texts, &mut || Ok(()))
        .with_context(|| format!("keeping a copy of the accepted files in {}", data.display()))
}

/// A whole copy.
pub(super) struct Copy {
    folder: PathBuf,
    accepted: Accepted,
}

/// What was accepted when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Accepted {
    folder: PathBuf,
    /// By the clock of that time, set or not.
    unix_nanos: i64,
}

impl Accepted {
    fn now(folder: &Path) -> Accepted {
        Accepted { folder: absolute(folder), unix_nanos: Timestamp::now().unix_nanos() }
    }
}

impl Copy {
    /// None when it does not say of which folder it is: it may be another one's.
    fn at(folder: PathBuf) -> Option<Copy> {
        let accepted = serde_json::from_slice(&fs::read(folder.join(ACCEPTED)).ok()?).ok()?;
        Some(Copy { folder, accepted })
    }

    /// When it was accepted, to stand behind that word: `3 hours ago (2026-11-21T09:14:02.120Z)`.
    pub(super) fn when(&self) -> String {
        let (then, now) = (Timestamp::from_unix_nanos(self.accepted.unix_nanos), Timestamp::now());
        let at = then.to_rfc3339();
        // A router without a battery starts with a clock that is behind.
        match u64::try_from(now.unix_nanos() - then.unix_nanos()) {
            Ok(nanos) => format!("{} ago ({at})", about(nanos / 1_000_000_000)),
            Err(_) => format!("at {at}, which the clock has not reached yet"),
        }
    }

    /// Reads it as if it stood in the place of `folder`, where the secrets still are.
    pub(super) fn load(
        &self,
        folder: &Path,
        types: &Types,
        environment: Environment<'_>,
    ) -> anyhow::Result<Draft> {
        let list = self.folder.join(LIST);
        let outside: BTreeMap<String, PathBuf> = match fs::read(&list) {
            Ok(list) => serde_json::from_slice(&list)?,
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => Err(error).with_context(|| format!("reading {}", list.display()))?,
        };
        let outside = outside.into_iter().map(|(path, copy)| (path, self.folder.join(copy)));
        let (root, outside) = (&*self.folder.join(FILES), outside.collect());
        config::load_copy(config::Copy { root, outside, original: folder }, types, environment)
    }
}

/// What stands in the folder.
const FILES: &str = "files";
/// What was read from elsewhere.
const OUTSIDE: &str = "outside";
/// From where it was read.
const LIST: &str = "outside.json";
/// When it was accepted.
const ACCEPTED: &str = "accepted.json";

/// The same folder, wherever this program was started. A link stays what it is: what it leads to
/// changes, and may not be there.
fn absolute(folder: &Path) -> PathBuf {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}

fn place(data: &Path) -> PathBuf {
    data.join("accepted")
}

/// The copies that there are, oldest first.
fn numbers(place: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// `step` is asked before each change of the disk, so that a test can stop between any two.
fn keep_in_steps(
    data: &Path,
    accepted: &Accepted,
    texts: &Texts,
    step: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<()> {
    let (place, wanted) = (place(data), contents(texts));
    let numbers = numbers(&place)?;
    let newest = numbers.last().copied();
    let kept = newest.and_then(|number| Copy::at(place.join(number.to_string())));
    let kept = kept.filter(|copy| copy.accepted.folder == accepted.folder);
    let before = kept.and_then(|copy| Some((read_all(&copy.folder).ok()?, copy.folder)));
    if before.as_ref().is_none_or(|(files, _)| *files != wanted) {
        let fresh = place.join("new");
        step()?;
        remove(&fresh)?;
        step()?;
        fs::create_dir_all(fresh.join(FILES))?;
        // A password may stand in a pipeline file.
        fs::set_permissions(&place, fs::Permissions::from_mode(0o700))?;
        for (path, text) in &wanted {
            step()?;
            let same = before.as_ref().filter(|(files, _)| files.get(path) == Some(text));
            let same = same.map(|(_, folder)| folder.join(path));
            write(&fresh.join(path), text, same.as_deref())?;
        }
        step()?;
        write(&fresh.join(ACCEPTED), &serde_json::to_vec(accepted)?, None)?;
        step()?;
        sync_folders(&fresh)?;
        let number = newest.unwrap_or(0) + 1;
        step()?;
        fs::rename(&fresh, place.join(number.to_string()))?;
        step()?;
        sync(&place)?;
        sync(data)?;
    }
    let (_, old) = numbers.split_last().unwrap_or((&0, &[]));
    for number in old {
        step()?;
        remove(&place.join(number.to_string()))?;
    }
    // Where versions before this one kept it.
    for name in ["last-good", "last-good.new"] {
        step()?;
        remove(&data.join(name))?;
    }
    Ok(())
}

/// The files of a copy, by their paths in it.
fn contents(texts: &Texts) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut outside: BTreeMap<&str, PathBuf> = BTreeMap::new();
    for (path, text) in texts.iter() {
        let copy = if is_inside(Path::new(path)) {
            Path::new(FILES).join(path)
        } else {
            let number = outside.len();
            let copy = || Path::new(OUTSIDE).join(number.to_string());
            outside.entry(path).or_insert_with(copy).clone()
        };
        files.insert(copy, text.as_bytes().to_vec());
    }
    if !outside.is_empty() {
        // Texts are all there is in it, so it can be written.
        files.insert(LIST.into(), serde_json::to_vec(&outside).unwrap_or_default());
    }
    files
}

/// Whether a path leads to nowhere but into the folder.
fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// All files of a copy by their paths in it, but for the one that says when that was.
fn read_all(folder: &Path) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let is_content = |path: &PathBuf| *path != folder.join(ACCEPTED);
    for path in walk(folder)?.files.into_iter().filter(is_content) {
        let text = fs::read(&path)?;
        files.insert(path.strip_prefix(folder).unwrap_or(&path).to_owned(), text);
    }
    Ok(files)
}

/// Writes a text. When the copy before has the same one, that file gets a second name: of thousands of
/// files few change, and a file that is not written wears no flash.
fn write(path: &Path, text: &[u8], same: Option<&Path>) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    // Not every file system knows second names.
    if same.is_some_and(|same| fs::hard_link(same, path).is_ok()) {
        return Ok(());
    }
    let mut file = File::create(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// Makes the names of files safe from a power cut.
fn sync_folders(folder: &Path) -> io::Result<()> {
    walk(folder)?.folders.iter().try_for_each(|folder| sync(folder))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// What is below a folder, itself included.
struct Walk {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

fn walk(folder: &Path) -> io::Result<Walk> {
    let mut found = Walk { files: Vec::new(), folders: vec![folder.to_owned()] };
    let mut looked = 0;
    while let Some(folder) = found.folders.get(looked).cloned() {
        looked += 1;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.folders.push(entry.path());
            } else {
                found.files.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Removes a folder that may not be there.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
