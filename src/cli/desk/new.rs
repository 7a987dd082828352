//! `forebay new`: something that runs, to change from there.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::{
    super::output::{Ending, print, shown},
    schema::{self, File},
};
use crate::{
    config::{
        Folder,
        drop_in::{MANIFEST, TESTS},
    },
    plugins,
};

/// The folder of a folder's pipelines, when it has one.
const PIPELINES: &str = "pipelines";
/// In the place of a path: a plugin is to be made.
const PLUGIN: &str = "plugin";

/// Write a pipeline to begin with, a whole folder, or a node type of your own. Never overwrites a file.
///
/// `forebay new plugin NAME` makes a node type of a script: its settings, the script and its tests,
/// below `plugins` of the folder at hand.
///
/// A folder gets the schema by which editors complete and explain settings, and a `.gitignore`
/// for secrets. One that holds pipelines already gets another where they are.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A file (`pipelines/boiler.yaml`), or a folder to make. Or `plugin`, before its name.
    path: PathBuf,
    /// The name of the plugin.
    name: Option<String>,
    /// The node type to show in the pipeline; `forebay nodes` lists them.
    #[arg(long = "type", default_value = "timer")]
    node_type: String,
}

const RUNTIME: &str = "\
# yaml-language-server: $schema=schemas/runtime.schema.json
# Settings of the runtime. Everything here may be left out.
log: { level: info, format: text }
stop_within: 8s
";

const GIT_IGNORE: &str = "\
# Passwords and keys stay out of git.
/secrets/
.env
";

const SCHEMA: &str = "schemas/pipeline.schema.json";

pub(super) fn new(arguments: Arguments) -> anyhow::Result<Ending> {
    if let Some(name) = &arguments.name {
        if arguments.path != Path::new(PLUGIN) {
            bail!("two things to make: `{}` and `{name}`", arguments.path.display());
        }
        return a_plugin(name);
    }
    if arguments.path == Path::new(PLUGIN) {
        bail!("a plugin needs a name: `forebay new plugin NAME`");
    }
    let sample = sample(&arguments.node_type)?;
    let path = &arguments.path;
    let is_file = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
    let folder =
        if is_file { a_file(path, &sample)? } else { a_folder(path, &arguments, &sample)? };
    let folder = shown(&folder);
    print(&format!("next: forebay lint {folder} && forebay run {folder}\n"))?;
    Ok(Ending::Fine)
}

/// What a new plugin is: it runs, and shows what one consists of.
const MANIFEST_TEXT: &str = "\
name: NAME
summary: Doubles a field.
settings:
  field: { type: string, required: true, about: The field to double. }
";
const SCRIPT_TEXT: &str = "\
// `settings` are those of the node. What stands in the last line is sent on.
let field = settings.field;
msg.payload[field] = msg.payload[field] * 2;
msg
";
const TESTS_TEXT: &str = "\
tests:
  - name: twice one is two
    settings: { field: count }
    send:
      - { payload: { count: 1 } }
    expect:
      - { payload: { count: 2 } }
";

/// A node type of a script, below `plugins` of the folder at hand.
fn a_plugin(name: &str) -> anyhow::Result<Ending> {
    let fits = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.starts_with('-') || !name.chars().all(fits) {
        bail!("`{name}` cannot be the name of a plugin; it has letters, digits, `-` and `_`");
    }
    // From inside of `plugins` or `pipelines`, too.
    let here = std::env::current_dir()?;
    let root = match here.file_name().and_then(|name| name.to_str()) {
        Some("plugins" | PIPELINES) => PathBuf::from(".."),
        _ => PathBuf::new(),
    };
    let folder = root.join("plugins").join(name);
    let for_editors = |schema: &str, text: &str| {
        let path = format!("schemas/{schema}.schema.json");
        match root.join(&path).exists() {
            true => format!("# yaml-language-server: $schema=../../{path}\n{text}"),
            false => text.to_owned(),
        }
    };
    if root.join("schemas").is_dir() {
        write_missing(&root.join("schemas/plugin.schema.json"), &schema::text(File::Plugin))?;
        let tests = root.join("schemas/plugin-tests.schema.json");
        write_missing(&tests, &schema::text(File::PluginTests))?;
    }
    let manifest = for_editors("plugin", &MANIFEST_TEXT.replace("NAME", name));
    write_new(&folder.join(MANIFEST), &manifest)?;
    write_new(&folder.join(format!("{name}.rhai")), SCRIPT_TEXT)?;
    write_new(&folder.join(TESTS), &for_editors("plugin-tests", TESTS_TEXT))?;
    print(&format!("next: forebay test {}\n", shown(&folder)))?;
    Ok(Ending::Fine)
}

/// One file, where a runtime would read it. Returns the folder to run.
fn a_file(path: &Path, sample: &str) -> anyhow::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default();
    let or_here = |folder: &Path| match folder.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => folder.to_owned(),
    };
    let parent = or_here(path.parent().unwrap_or(Path::new("")));
    if parent.file_name().is_some_and(|name| name == PIPELINES) {
        let root = or_here(parent.parent().unwrap_or(Path::new("")));
        if !parent.exists() && holds_pipelines(&root) {
            bail!(
                "the pipelines of {} stand in the folder itself, and none of them would run beside a \
                 folder {PIPELINES}: write {}",
                root.display(),
                root.join(name).display()
            );
        }
        write_new(path, &for_editors(&root, PIPELINES, sample))?;
        return Ok(root);
    }
    let inner = parent.join(PIPELINES);
    if inner.is_dir() {
        bail!("{} would not be read: write {}", path.display(), inner.join(name).display());
    }
    write_new(path, &for_editors(&parent, "", sample))?;
    Ok(parent)
}

/// All that a folder of pipelines begins with, or what is missing in one.
fn a_folder(root: &Path, arguments: &Arguments, sample: &str) -> anyhow::Result<PathBuf> {
    let place =
        if holds_pipelines(root) && !root.join(PIPELINES).is_dir() { "" } else { PIPELINES };
    let pipeline = root.join(place).join(format!("{}.yaml", arguments.node_type));
    if pipeline.exists() {
        bail!("{} exists already; nothing was overwritten", pipeline.display());
    }
    write_missing(&root.join(SCHEMA), &schema::text(File::Pipeline))?;
    write_missing(&root.join("schemas/runtime.schema.json"), &schema::text(File::Runtime))?;
    write_missing(&root.join("schemas/script.d.rhai"), &schema::text(File::Script))?;
    write_new(&pipeline, &for_editors(root, place, sample))?;
    write_missing(&root.join("forebay.yaml"), RUNTIME)?;
    write_missing(&root.join(".gitignore"), GIT_IGNORE)?;
    Ok(root.to_owned())
}

/// The line by which editors find the schema, when that is there.
fn for_editors(root: &Path, place: &str, sample: &str) -> String {
    let up = if place.is_empty() { "" } else { "../" };
    match root.join(SCHEMA).exists() {
        true => format!("# yaml-language-server: $schema={up}{SCHEMA}\n{sample}"),
        false => sample.to_owned(),
    }
}

/// Whether pipelines stand in a folder itself.
fn holds_pipelines(root: &Path) -> bool {
    let folder = Folder::open(root);
    folder.is_ok_and(|folder| folder.place == root && !folder.pipelines.is_empty())
}

fn sample(node_type: &str) -> anyhow::Result<String> {
    let plugins = plugins::all();
    let offers = |name: &str| {
        plugins.iter().find(|plugin| plugin.types.iter().any(|entry| entry.name() == name))
    };
    match offers(node_type) {
        Some(plugin) => Ok(plugin.sample_of(node_type).to_owned()),
        None => {
            let names: Vec<&str> = plugins.iter().map(|plugin| &*plugin.name).collect();
            bail!("there is no node type `{node_type}`; types are {}", names.join(", "))
        }
    }
}

/// What is there already stays as it is.
fn write_missing(path: &Path, text: &str) -> anyhow::Result<()> {
    if path.exists() { Ok(()) } else { write_new(path, text) }
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
    print(&format!("wrote {}\n", shown(path)))
}
