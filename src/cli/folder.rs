//! The folders that a verb works on: where they are, what to say of an empty one, and reading one.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::{
    config::{self, Environment, Types},
    lint::{self, Checked},
    plugins,
};

/// Where pipelines live unless the command line says otherwise.
pub(super) const DEFAULT_FOLDER: &str = "/etc/forebay";

/// Where data go: the command line, the environment, `forebay.yaml`, then the default.
pub(super) fn data_folder(argument: Option<PathBuf>, setting: Option<PathBuf>) -> PathBuf {
    const DEFAULT: &str = "/var/lib/forebay";
    let environment = || std::env::var_os("FOREBAY_DATA").map(PathBuf::from);
    argument.or_else(environment).or(setting).unwrap_or_else(|| DEFAULT.into())
}

/// The data folder, for the verbs that ask what runs, or look at what it keeps.
#[derive(clap::Args)]
pub(super) struct DataFolder {
    /// The data folder of the runtime. [default: FOREBAY_DATA, `data` in forebay.yaml, or /var/lib/forebay]
    #[arg(long)]
    data: Option<PathBuf>,
}

impl DataFolder {
    /// Where it is. A folder of pipelines says it, when nothing else does.
    pub(super) fn path(&self, pipelines: Option<&Path>) -> PathBuf {
        let is_said = self.data.is_some() || std::env::var_os("FOREBAY_DATA").is_some();
        let pipelines = pipelines.unwrap_or(Path::new(DEFAULT_FOLDER));
        let setting = || check(pipelines, &process_environment).ok()?.runtime.data;
        let setting = if is_said { None } else { setting() };
        data_folder(self.data.clone(), setting)
    }
}

/// Reads and checks a folder: what `lint` reports is what keeps `run` from running.
pub(super) fn check(folder: &Path, environment: Environment<'_>) -> anyhow::Result<Checked> {
    let mut checked = lint::lint(config::load(folder, types(), environment)?);
    checked.texts.see_from(folder);
    Ok(checked)
}

/// The node types of this build, and what finds those of a folder. Made once.
pub(super) fn types() -> &'static Types {
    static TYPES: OnceLock<Types> = OnceLock::new();
    TYPES.get_or_init(plugins::types)
}

/// The variables of this process.
pub(super) fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What stands in the place of pipelines, when something does.
pub(super) fn nothing_to_run(folder: &Path, checked: &Checked) -> String {
    let said: Vec<&str> = checked.findings.iter().map(|found| found.message.as_str()).collect();
    if said.is_empty() {
        return nothing_here(folder);
    }
    format!("{} holds no pipeline file (*.yaml): {}", folder.display(), said.join("; "))
}

/// The same words wherever an empty folder is met.
pub(super) fn nothing_here(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "{folder} holds no pipeline file (*.yaml); `forebay new {folder}/hello.yaml` writes one"
    )
}
