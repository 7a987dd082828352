//! `forebay import`: the configuration of another program as a pipeline.

mod acl;
mod mosquitto;
#[cfg(test)]
mod tests;
mod yaml;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use self::mosquitto::Line;
use super::super::output::{Ending, print};

/// Turn the configuration of Mosquitto into a pipeline, and print it.
///
/// Bridges, listeners, users and rights become YAML; each line that has no counterpart becomes a comment that
/// says why. Files that it names are read too, but for secrets: `forebay import mosquitto.conf > pipelines/site.yaml`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A `mosquitto.conf`.
    file: PathBuf,
}

/// No configuration is larger, nor are all of its files.
const LARGEST_BYTES: u64 = 1 << 20;
const MOST_FILES: usize = 100;

pub(super) fn import(arguments: Arguments) -> anyhow::Result<Ending> {
    let mut lines = Vec::new();
    read(&arguments.file, &mut lines, &mut 0)?;
    let text = mosquitto::convert(lines, &|path| text_of(path).ok());
    print(&text)?;
    Ok(Ending::Fine)
}

/// The lines of a file, and of those that it includes.
fn read(path: &Path, lines: &mut Vec<Line>, files: &mut usize) -> anyhow::Result<()> {
    *files += 1;
    if *files > MOST_FILES {
        bail!("{} includes more than {MOST_FILES} files", path.display());
    }
    let text = text_of(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for line in mosquitto::lines(&name, &text) {
        match (line.option.as_str(), folder(&line.value)) {
            ("include_dir", Some(found)) => {
                for path in found {
                    read(&path, lines, files)?;
                }
            }
            _ => lines.push(line),
        }
    }
    Ok(())
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    let reading = || format!("reading {}", path.display());
    let size = fs::metadata(path).with_context(reading)?.len();
    if size > LARGEST_BYTES {
        bail!("{} is larger than 1 MiB: is it a configuration?", path.display());
    }
    let bytes = fs::read(path).with_context(reading)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The files that Mosquitto reads in a folder, in its order. None when there is no such folder here.
fn folder(path: &str) -> Option<Vec<PathBuf>> {
    let entries = fs::read_dir(path).ok()?.flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "conf")).collect();
    found.sort();
    Some(found)
}
