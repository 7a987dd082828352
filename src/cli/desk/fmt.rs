//! `forebay fmt`: one way to write a pipeline, so that a diff shows what changed and nothing else.

use std::{
    ffi::OsString,
    fs,
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::Context;
use forebay_sdk::{Finding, Level, Role};
use forebay_yaml::{
    Limits,
    layout::{Layout, Refused, layout},
};

use super::{
    super::{
        folder::{DEFAULT_FOLDER, nothing_here},
        output::{Ending, count_of, print, print_bytes, shown, use_color},
    },
    test::pipeline::test_files,
};
use crate::{
    config::{
        Folder, Texts,
        drop_in::{MANIFEST, TESTS},
        folder::{self, Unreadable},
    },
    lint::report::{Format, render},
};

/// Lay out pipeline files in one way, so that a diff shows what changed.
///
/// Sections stand in the order description, connections, sources, transforms, sinks,
/// with an empty line between them; the settings of a node begin with from, type,
/// connection, and go on as they were written. Lists of `{ ... }` are set as tables.
///
/// The `plugin.yaml` and `tests.yaml` of plugins are laid out, too.
///
/// What a file means never changes, nor do its comments, its line ends and the lines
/// of its scripts. A file that is no valid YAML is left as it is.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Folders, or single files. `-` reads standard input and writes standard output.
    #[arg(default_value = DEFAULT_FOLDER)]
    paths: Vec<PathBuf>,
    /// Change nothing, list the files that would change, and fail if there are any.
    #[arg(long)]
    check: bool,
}

/// What became of one file.
enum Outcome {
    /// It is laid out as it should be.
    Same,
    /// It would have this text.
    Differs(String),
    /// It stays as it is, for this reason.
    Refused(String),
}

pub(super) fn fmt(arguments: Arguments) -> anyhow::Result<Ending> {
    if arguments.paths == [Path::new("-")] {
        return standard_input(arguments.check);
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for path in &arguments.paths {
        if path.is_file() {
            files.push(path.clone());
        } else {
            files.extend(files_of(path)?);
        }
    }
    let (mut changed, mut refused) = (0, 0);
    for path in &files {
        let shown = shown(path);
        let text = folder::read_text(path, Limits::default().size_bytes);
        let outcome = match &text {
            Ok(text) => laid_out(text, &shown, layout_of(path)),
            Err(problem) => unreadable(&shown, problem),
        };
        match outcome {
            Outcome::Same => (),
            Outcome::Differs(fresh) => {
                changed += 1;
                let verb = if arguments.check { "would format" } else { "formatted" };
                let line = first_difference(&text.unwrap_or_default(), &fresh);
                if !arguments.check {
                    replace(path, &fresh).with_context(|| format!("writing {shown}"))?;
                }
                print(&format!("{verb} {shown} (from line {line} on)\n"))?;
            }
            Outcome::Refused(why) => {
                refused += 1;
                print(&why)?;
            }
        }
    }
    print(&summary(files.len(), changed, refused, arguments.check))?;
    let fails = refused > 0 || arguments.check && changed > 0;
    Ok(if fails { Ending::Findings } else { Ending::Fine })
}

/// For editors. What cannot be laid out comes back as it was, so that nothing is lost.
fn standard_input(check: bool) -> anyhow::Result<Ending> {
    const READING: &str = "reading standard input";
    let most_bytes = Limits::default().size_bytes;
    let mut input = io::stdin().lock();
    let mut bytes = Vec::new();
    input.by_ref().take(most_bytes as u64 + 1).read_to_end(&mut bytes).context(READING)?;
    let outcome = match folder::text_of(bytes.clone(), most_bytes) {
        Ok(text) => laid_out(&text, "standard input", &LAYOUT),
        Err(problem) => unreadable("standard input", &problem),
    };
    let why = match outcome {
        Outcome::Differs(_) if check => return Ok(Ending::Findings),
        Outcome::Differs(fresh) => return print(&fresh).map(|()| Ending::Fine),
        Outcome::Same if check => return Ok(Ending::Fine),
        Outcome::Same => return print_bytes(&bytes).map(|()| Ending::Fine),
        Outcome::Refused(why) => why,
    };
    if !check {
        // The rest, of a text that is too long, follows piece by piece.
        while !bytes.is_empty() {
            print_bytes(&bytes)?;
            bytes.clear();
            input.by_ref().take(most_bytes as u64).read_to_end(&mut bytes).context(READING)?;
        }
    }
    let _ = write!(io::stderr(), "{why}");
    Ok(Ending::Findings)
}

fn unreadable(shown: &str, problem: &Unreadable) -> Outcome {
    let message = format!("{shown} {}", problem.message);
    let finding = Finding::error(problem.rule, None, message, problem.label.as_str());
    Outcome::Refused(drawn(&[finding], &Texts::default()))
}

/// The pipelines of a folder, their tests, its `forebay.yaml` and what its plugins are.
fn files_of(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    // The folder of one plugin.
    if path.join(MANIFEST).is_file() {
        return Ok(files_of_plugin(path).collect());
    }
    let folder = Folder::open(path)?;
    let runtime = path.join("forebay.yaml");
    let runtime = runtime.is_file().then_some(runtime);
    let tests = test_files(&folder)?;
    let plugins = fs::read_dir(path.join("plugins")).into_iter().flatten().flatten();
    let mut plugins: Vec<PathBuf> = plugins.map(|entry| entry.path()).collect();
    plugins.sort();
    let of_plugins = plugins.iter().flat_map(|plugin| files_of_plugin(plugin));
    let files: Vec<PathBuf> =
        runtime.into_iter().chain(folder.pipelines).chain(tests).chain(of_plugins).collect();
    if files.is_empty() {
        anyhow::bail!("{}", nothing_here(path));
    }
    Ok(files)
}

fn files_of_plugin(plugin: &Path) -> impl Iterator<Item = PathBuf> {
    [MANIFEST, TESTS].map(|name| plugin.join(name)).into_iter().filter(|path| path.is_file())
}

fn layout_of(path: &Path) -> &'static Layout {
    if path.ends_with(MANIFEST) { &MANIFEST_LAYOUT } else { &LAYOUT }
}

fn laid_out(text: &str, shown: &str, how: &Layout) -> Outcome {
    match layout(text, how) {
        Ok(fresh) if fresh == text => Outcome::Same,
        Ok(fresh) => Outcome::Differs(fresh),
        Err(Refused::Invalid(mut findings)) => {
            let mut texts = Texts::default();
            let file = texts.add(shown.to_owned(), text.to_owned());
            texts.not_read(file);
            findings.iter_mut().for_each(|finding| texts.hide_in(finding));
            Outcome::Refused(drawn(&findings, &texts))
        }
        Err(Refused::WouldChange) => {
            let why = "its layout cannot be changed without changing what it means";
            Outcome::Refused(format!("left {shown} as it is: {why}\n"))
        }
    }
}

fn drawn(findings: &[Finding], texts: &Texts) -> String {
    debug_assert!(findings.iter().all(|finding| finding.level == Level::Error));
    render(findings, texts, Format::Full, use_color(&std::io::stdout()))
}

/// How pipelines are written, and their tests, and `forebay.yaml`, which has none of these keys.
const LAYOUT: Layout = Layout { rank, apart, binds: |comment| comment.contains("forebay:") };

/// How a `plugin.yaml` is written: what the type is called, what it may, and then what it is made of.
const MANIFEST_LAYOUT: Layout = Layout { rank: rank_in_manifest, ..LAYOUT };

fn rank_in_manifest(path: &[&str], key: &str) -> usize {
    const BEFORE: [&str; 8] =
        ["name", "summary", "role", "every", "allow", "limits", "settings", "outputs"];
    match path {
        [] if key.starts_with("x-") => 0,
        [] => {
            let known = BEFORE.iter().position(|known| *known == key);
            known.map_or_else(|| BEFORE.len() + rank(path, key), |place| place + 1)
        }
        _ => rank(path, key),
    }
}

fn rank(path: &[&str], key: &str) -> usize {
    let is_section = |name: &str| Role::ALL.iter().any(|role| role.section() == name);
    let order: &[&str] = match path {
        // What holds anchors stands above their use.
        [] if key.starts_with("x-") => return 0,
        [] => &[
            "",
            "description",
            "pipelines",
            "env",
            "world",
            "connections",
            "sources",
            "transforms",
            "sinks",
            "tests",
        ],
        [section, _] | [section, _, "connection"] if is_section(section) => {
            &["from", "type", "connection"]
        }
        _ => &[],
    };
    order.iter().position(|known| *known == key).unwrap_or(order.len())
}

fn apart(path: &[&str], key: &str) -> bool {
    path.is_empty() && Role::ALL.iter().any(|role| role.section() == key)
}

fn first_difference(before: &str, after: &str) -> usize {
    let same = before.split('\n').zip(after.split('\n')).take_while(|(a, b)| a == b);
    same.count() + 1
}

/// Writes another file and puts it in the place of this one, so that nobody ever reads half of it.
/// A link stays one, and the file keeps its owner.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let path = path.canonicalize()?;
    // Hidden, so that nobody takes it for a pipeline.
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let fresh = path.with_file_name(name);
    let replaced = write_beside(&fresh, text).and_then(|()| put_over(&fresh, &path, text));
    // Gone already, unless something went wrong or the file stayed the same one.
    let _ = fs::remove_file(&fresh);
    Ok(replaced?)
}

/// Only its owner reads it until it is in its place, for there may be secrets in it.
fn write_beside(fresh: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Where another file could not be what this one is (somebody else's, of several names, mounted by
/// itself), its contents are written over: what is to be written is on the disk then.
fn put_over(fresh: &Path, path: &Path, text: &str) -> io::Result<()> {
    let before = fs::metadata(path)?;
    let renamed = match before.nlink() {
        1 => chown(fresh, Some(before.uid()), Some(before.gid()))
            .and_then(|()| fs::set_permissions(fresh, before.permissions()))
            .and_then(|()| fs::rename(fresh, path)),
        _ => Err(ErrorKind::PermissionDenied.into()),
    };
    match renamed {
        Err(error)
            if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ResourceBusy) =>
        {
            fs::write(path, text)
        }
        renamed => renamed,
    }
}

fn summary(files: usize, changed: usize, refused: usize, check: bool) -> String {
    let verb = if check { "would be formatted" } else { "formatted" };
    let mut parts = vec![match changed {
        0 => "nothing to format".to_owned(),
        changed => format!("{} {verb}", count_of(changed, "file")),
    }];
    if refused > 0 {
        parts.push(format!("{} left as written", count_of(refused, "file")));
    }
    format!("{}, of {}\n", parts.join(", "), count_of(files, "file"))
}
