//! A copy of the files that `run` accepted last: `plan` compares with it.
//!
//! Each copy is a folder below `DATA/accepted` with a number for a name. It is written beside the
//! others, made safe from a power cut, and only then named, so that at every moment the one with the
//! highest number is whole. The one before it stays, for whoever is reading it just now.
//!
//! In a copy, `files/` holds what stands in the folder of pipelines, as it was written: of a secret, the
//! variable's name. What was read from elsewhere, such as a script two folders up, is numbered in
//! `outside/`, and `outside.json` says which path means which.

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

use crate::config::{self, Draft, Environment, Texts, Types};

/// The copy that was kept last, if there is one.
pub(super) fn newest(data: &Path) -> anyhow::Result<Option<Copy>> {
    let place = place(data);
    let numbers = numbers(&place).with_context(|| format!("reading {}", place.display()))?;
    Ok(numbers.last().map(|number| Copy { folder: place.join(number.to_string()) }))
}

/// Keeps these texts as the newest copy. When they are what it holds already, nothing is written.
pub(super) fn keep(data: &Path, texts: &Texts) -> anyhow::Result<()> {
    keep_in_steps(data, texts, &mut || Ok(()))
        .with_context(|| format!("keeping a copy of the accepted files in {}", data.display()))
}

/// A whole copy.
pub(super) struct Copy {
    folder: PathBuf,
}

impl Copy {
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
    texts: &Texts,
    step: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<()> {
    let (place, wanted) = (place(data), contents(texts));
    let numbers = numbers(&place)?;
    let newest = numbers.last().copied();
    let is_kept =
        |number: u64| read_all(&place.join(number.to_string())).is_ok_and(|files| files == wanted);
    if !newest.is_some_and(is_kept) {
        let fresh = place.join("new");
        step()?;
        remove(&fresh)?;
        step()?;
        fs::create_dir_all(fresh.join(FILES))?;
        // A password may stand in a pipeline file.
        fs::set_permissions(&place, fs::Permissions::from_mode(0o700))?;
        for (path, text) in &wanted {
            step()?;
            write(&fresh.join(path), text)?;
        }
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

/// All files below a folder, by their paths in it.
fn read_all(folder: &Path) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for path in walk(folder)?.files {
        let text = fs::read(&path)?;
        files.insert(path.strip_prefix(folder).unwrap_or(&path).to_owned(), text);
    }
    Ok(files)
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
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
