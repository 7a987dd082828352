//! `forebay lint`: says what is wrong, and opens nothing.

use std::path::{Path, PathBuf};

use anyhow::bail;
use forebay_sdk::Level;

use super::{DEFAULT_FOLDER, Ending, check, print, process_environment, summary, use_color};
use crate::lint::report::{Format, render};

/// Check pipelines without running them.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A folder, or one of its pipeline files.
    #[arg(default_value = DEFAULT_FOLDER)]
    path: PathBuf,
    /// How findings are printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Warnings fail too.
    #[arg(long)]
    strict: bool,
}

pub(super) fn lint(arguments: Arguments) -> anyhow::Result<Ending> {
    let (folder, only) = folder_of(&arguments.path);
    let mut checked = check(&folder, &process_environment)?;
    if let Some(only) = &only {
        // The whole folder is read all the same: connections are shared.
        let texts = &checked.texts;
        checked.findings.retain(|finding| {
            finding.span.is_some_and(|span| Path::new(texts.path(span.file)).ends_with(only))
        });
    } else if checked.pipelines == 0 && checked.findings.is_empty() {
        bail!("{}", nothing_here(&folder));
    }
    let color = use_color(&std::io::stdout());
    print(&render(&checked.findings, &checked.texts, arguments.format, color))?;
    if arguments.format == Format::Full {
        let place = only.map(|only| format!(" ({})", only.display())).unwrap_or_default();
        print(&format!("{}{place}\n", summary(&checked)))?;
    }
    let fails = |level| level == Level::Error || arguments.strict;
    match checked.findings.iter().any(|finding| fails(finding.level)) {
        true => Ok(Ending::Findings),
        false => Ok(Ending::Fine),
    }
}

/// The same words wherever an empty folder is met.
pub(super) fn nothing_here(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "{folder} holds no pipeline file (*.yaml); `forebay new {folder}/hello.yaml` writes one"
    )
}

/// The folder to read, and the one file of it to report on.
fn folder_of(path: &Path) -> (PathBuf, Option<PathBuf>) {
    if !path.is_file() {
        return (path.to_owned(), None);
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().map(PathBuf::from);
    let is_inner = parent.file_name().is_some_and(|name| name == "pipelines");
    match parent.parent() {
        Some(root) if is_inner && !root.as_os_str().is_empty() => (root.to_owned(), name),
        Some(_) if is_inner => (PathBuf::from("."), name),
        _ => (parent.to_owned(), name),
    }
}
