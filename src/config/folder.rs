//! Which files of a folder are pipelines, and reading them with care.

use std::{
    collections::BTreeSet,
    fs,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use forebay_sdk::Finding;

/// At most this many pipeline files are read.
const MOST_FILES: usize = 10_000;

/// A folder that was looked through.
pub struct Folder {
    /// The folder that the user named.
    pub root: PathBuf,
    /// What `${file:path}` is relative to.
    pub files: PathBuf,
    /// Where the pipeline files are: the folder itself, or `pipelines` in it.
    pub place: PathBuf,
    /// The pipeline files, sorted.
    pub pipelines: Vec<PathBuf>,
    /// Folders in which a change matters.
    pub watched: BTreeSet<PathBuf>,
    /// Entries that look like pipelines and are none.
    pub findings: Vec<Finding>,
}

/// Why a file was not read.
pub struct Problem {
    /// The rule that names it.
    pub rule: &'static str,
    /// Goes on from the file's name: `cannot be read`.
    pub message: String,
    /// The reason.
    pub label: String,
}

impl Folder {
    /// Looks through `root/pipelines` when there is one, else through `root` itself.
    pub fn open(root: &Path, files: &Path) -> anyhow::Result<Folder> {
        if !root.is_dir() {
            match root.exists() {
                true => {
                    bail!("{} is a file; forebay runs a folder of pipeline files", root.display())
                }
                false => bail!("there is no folder {}", root.display()),
            }
        }
        let inner = root.join("pipelines");
        let place = if inner.is_dir() { inner } else { root.to_owned() };
        let mut folder = Folder {
            files: files.to_owned(),
            place: place.clone(),
            watched: BTreeSet::from([root.to_owned(), place.clone()]),
            ..Folder::empty(root)
        };
        let entries =
            fs::read_dir(&place).with_context(|| format!("reading {}", place.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("reading {}", place.display()))?.path();
            if !is_pipeline_name(&path) || path == root.join("forebay.yaml") {
                continue;
            }
            match path.is_dir() {
                true => folder.findings.push(folder.a_folder(&path)),
                false => folder.pipelines.push(path),
            }
        }
        folder.pipelines.sort();
        if folder.pipelines.len() > MOST_FILES {
            bail!("{} holds more than {MOST_FILES} pipeline files", place.display());
        }
        Ok(folder)
    }

    /// A folder of which nothing is read.
    pub fn empty(root: &Path) -> Folder {
        Folder {
            root: root.to_owned(),
            files: root.to_owned(),
            place: root.to_owned(),
            pipelines: Vec::new(),
            watched: BTreeSet::new(),
            findings: Vec::new(),
        }
    }

    /// A path as users know it: relative to the folder they named.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    fn a_folder(&self, path: &Path) -> Finding {
        let message = format!("{} is a folder, not a pipeline file", self.shown(path));
        Finding::error("unreadable-file", None, message, "")
            .help("rename it, or move it out of this folder")
    }
}

/// `*.yaml` and `*.yml`, but for hidden files and the tests of pipelines.
fn is_pipeline_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
    let is_test = name.ends_with(".test.yaml") || name.ends_with(".test.yml");
    is_yaml && !is_test && !name.starts_with('.')
}

/// Reads a text of at most `most_bytes`.
pub fn read_text(path: &Path, most_bytes: usize) -> Result<String, Problem> {
    let unreadable = |label: String| Problem {
        rule: "unreadable-file",
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
    if bytes.len() > most_bytes {
        return Err(Problem {
            rule: "yaml-too-big",
            message: "is too long".to_owned(),
            label: format!("more than {} KiB", most_bytes / 1024),
        });
    }
    let is_utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    String::from_utf8(bytes).map_err(|error| Problem {
        rule: "yaml-syntax",
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
        _ => error.to_string(),
    }
}
