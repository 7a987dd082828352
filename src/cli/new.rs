//! `forebay new`: something that runs, to change from there.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::output::{Ending, print};
use crate::plugins;

/// Write a pipeline to begin with, or a whole folder. Never overwrites a file.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A file (`pipelines/boiler.yaml`), or a folder to make.
    path: PathBuf,
    /// The node type to show in the pipeline; `forebay nodes` lists them.
    #[arg(long = "type", default_value = "timer")]
    node_type: String,
}

const RUNTIME: &str = "\
# Settings of the runtime. Everything here may be left out.
log: { level: info, format: text }
stop_within: 8s
";

pub(super) fn new(arguments: Arguments) -> anyhow::Result<Ending> {
    let sample = sample(&arguments.node_type)?;
    let path = &arguments.path;
    let is_file = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
    let folder = if is_file {
        write_new(path, &sample)?;
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    } else {
        let pipeline = path.join("pipelines").join(format!("{}.yaml", arguments.node_type));
        write_new(&pipeline, &sample)?;
        write_new(&path.join("forebay.yaml"), RUNTIME)?;
        path
    };
    print(&format!("next: forebay lint {0} && forebay run {0}\n", folder.display()))?;
    Ok(Ending::Fine)
}

fn sample(node_type: &str) -> anyhow::Result<String> {
    let plugins = plugins::all();
    let offers = |name: &str| {
        plugins.iter().find(|plugin| plugin.types.iter().any(|entry| entry.name() == name))
    };
    match offers(node_type) {
        Some(plugin) => Ok(plugin.sample.to_string()),
        None => {
            let names: Vec<&str> = plugins.iter().map(|plugin| &*plugin.name).collect();
            bail!("there is no node type `{node_type}`; types are {}", names.join(", "))
        }
    }
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let writing = || format!("writing {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(writing)?;
    }
    let opened = OpenOptions::new().write(true).create_new(true).open(path);
    if opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists) {
        bail!("{} exists already; nothing was overwritten", path.display());
    }
    let mut file = opened.with_context(writing)?;
    file.write_all(text.as_bytes()).with_context(writing)?;
    print(&format!("wrote {}\n", path.display()))
}
