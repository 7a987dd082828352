//! Which files of a folder are pipelines, and reading them with care.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, bail};
use forebay_sdk::{
    Finding, Rule,
    rules::{YAML_SYNTAX, YAML_TOO_BIG},
};

use crate::rules::UNREADABLE_FILE;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// At most this many pipeline files are read.
const MOST_FILES: usize = 10_000;

/// A folder that was looked through.
pub struct Folder {
    /// The folder that the user named.
    pub root: PathBuf,
    /// What `${file:path}` is relative to: the folder itself, but for a copy of it.
    pub files: PathBuf,
    /// In a copy, where the files are now that were read from outside the folder, by the paths that
    /// users know them by.
    outside: BTreeMap<String, PathBuf>,
    /// Where the pipeline files are: the folder itself, or `pipelines` in it.
    pub place: PathBuf,
    /// The pipeline files, sorted.
    pub pipelines: Vec<PathBuf>,
    /// Folders in which a change matters.
    pub watched: BTreeSet<PathBuf>,
    /// Entries that look like pipelines and are none.
    pub findings: Vec<Finding>,
}

/// The folder that pipeline files were looked for in. It is another one when something else is mounted
/// there, or a link leads elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    /// Its device and inode.
    identity: Option<(u64, u64)>,
}

/// A copy of a folder, which can be read as if it stood in its place.
pub struct Copy<'a> {
    /// What was in the folder.
    pub root: &'a Path,
    /// What was read from outside of it, by the paths that users know it by.
    pub outside: BTreeMap<String, PathBuf>,
    /// The folder itself, for the secrets in it.
    pub original: &'a Path,
}

/// Why a file was not read.
pub struct Unreadable {
    /// The rule that names it.
    pub rule: &'static Rule,
    /// Goes on from the file's name: `cannot be read`.
    pub message: String,
    /// The reason.
    pub label: String,
}

impl Folder {
    /// Looks through `root/pipelines` when there is one, else through `root` itself.
    pub fn open(root: &Path) -> anyhow::Result<Folder> {
        if !root.is_dir() {
            if root.exists() {
                bail!("{} is a file; forebay runs a folder of pipeline files", root.display())
            }
            bail!("there is no folder {}", root.display())
        }
        let inner = root.join("pipelines");
        let place = if inner.is_dir() { inner } else { root.to_owned() };
        let mut folder = Folder {
            place: place.clone(),
            watched: BTreeSet::from([root.to_owned(), place.clone()]),
            ..Folder::empty(root)
        };
        let entries =
            fs::read_dir(&place).with_context(|| format!("reading {}", place.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("reading {}", place.display()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !is_pipeline_name(&name) || path == root.join("forebay.yaml") {
                continue;
            }
            if path.is_dir() {
                folder.findings.push(folder.a_folder(&path));
            } else {
                folder.pipelines.push(path);
            }
        }
        folder.pipelines.sort();
        if folder.pipelines.len() > MOST_FILES {
            bail!("{} holds more than {MOST_FILES} pipeline files", place.display());
        }
        Ok(folder)
    }

    /// Looks through a copy.
    pub fn open_copy(copy: Copy<'_>) -> anyhow::Result<Folder> {
        let Copy { root, outside, original } = copy;
        Ok(Folder { files: original.to_owned(), outside, ..Folder::open(root)? })
    }

    /// The same with other files in the place of some, each by the path that users know those by.
    pub fn with_instead(self, instead: BTreeMap<String, PathBuf>) -> Folder {
        Folder { outside: instead, ..self }
    }

    /// Whether this is what was accepted once. What the files that it names have become since keeps
    /// nothing from starting: who reads them does so again and again.
    pub fn is_copy(&self) -> bool {
        self.files != self.root
    }

    /// A folder of which nothing is read.
    pub fn empty(root: &Path) -> Folder {
        Folder {
            root: root.to_owned(),
            files: root.to_owned(),
            outside: BTreeMap::new(),
            place: root.to_owned(),
            pipelines: Vec::new(),
            watched: BTreeSet::new(),
            findings: Vec::new(),
        }
    }

    /// Where the pipeline files are, and which folder that is just now.
    pub fn identified_place(&self) -> Place {
        let identity = fs::metadata(&self.place).ok().map(|meta| (meta.dev(), meta.ino()));
        Place { path: self.place.clone(), identity }
    }

    /// A path as users know it: relative to the folder they named.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// Whether there is something at a path, be it readable or not.
    pub fn has(&self, path: &Path) -> bool {
        self.outside.contains_key(&self.shown(path)) || fs::symlink_metadata(path).is_ok()
    }

    /// Reads a text of at most `most_bytes` that a pipeline names.
    pub fn read(&self, path: &Path, most_bytes: usize) -> Result<String, Unreadable> {
        let copy = self.outside.get(&self.shown(path));
        read_text(copy.map_or(path, PathBuf::as_path), most_bytes)
    }

    fn a_folder(&self, path: &Path) -> Finding {
        let message = format!("{} is a folder, not a pipeline file", self.shown(path));
        Finding::error(&UNREADABLE_FILE, None, message, "")
            .help("rename it, or move it out of this folder")
    }
}

/// A path as it is from wherever one stands.
pub(super) fn whole(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if !whole.components().any(|part| part == Component::ParentDir) {
        return whole;
    }
    // Only the system knows where `..` leads, because of links.
    let there = whole.ancestors().find_map(|folder| Some((folder, folder.canonicalize().ok()?)));
    there
        .and_then(|(folder, there)| Some(there.join(whole.strip_prefix(folder).ok()?)))
        .unwrap_or(whole)
}

/// `*.yaml` and `*.yml`, but for hidden files and the tests of pipelines.
pub(super) fn is_pipeline_name(name: &str) -> bool {
    let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
    let is_test = name.ends_with(".test.yaml") || name.ends_with(".test.yml");
    is_yaml && !is_test && !name.starts_with('.')
}

/// Reads a text of at most `most_bytes`, without the mark by which editors say that it is UTF-8.
pub fn read_text(path: &Path, most_bytes: usize) -> Result<String, Unreadable> {
    let unreadable = |label: String| Unreadable {
        rule: &UNREADABLE_FILE,
        message: "cannot be read".to_owned(),
        label,
    };
    // A pipe or a device with a fitting name would block.
    let is_file =
        fs::metadata(path).map(|meta| meta.is_file()).map_err(|e| unreadable(reason(&e)))?;
    if !is_file {
        return Err(unreadable("it is not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(most_bytes as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(reason(&error)))?;
    text_of(bytes, most_bytes)
}

/// Takes bytes for a text of at most `most_bytes`.
pub fn text_of(mut bytes: Vec<u8>, most_bytes: usize) -> Result<String, Unreadable> {
    if bytes.len() > most_bytes {
        return Err(Unreadable {
            rule: &YAML_TOO_BIG,
            message: "is too long".to_owned(),
            label: format!("more than {} KiB", most_bytes / 1024),
        });
    }
    let is_utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    String::from_utf8(bytes).map_err(|error| Unreadable {
        rule: &YAML_SYNTAX,
        message: "is not text".to_owned(),
        label: match is_utf16 {
            true => "it is UTF-16; save it as UTF-8".to_owned(),
            false => format!("byte {} is not UTF-8", error.utf8_error().valid_up_to() + 1),
        },
    })
}

/// The system's reason, without its number.
pub fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        _ if error.raw_os_error() == Some(libc::ELOOP) => {
            "its symbolic links lead back to themselves".to_owned()
        }
        _ => error.to_string(),
    }
}
