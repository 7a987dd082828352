//! Node types that stand in folders of their own, `plugins/NAME`: what they are in `plugin.yaml`, and
//! what they do in a script, `NAME.rhai`.

mod manifest;
mod setting;
#[cfg(test)]
mod tests;
mod whole;

use std::{
    borrow::Cow,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use forebay_sdk::{
    Compiled, Finding, Language, Level, ModuleSource, NodeType, Period, Plugin, Problem, Resolved,
    Role, ScriptSource, Span,
};
use forebay_yaml::{self as yaml, Limits, Module, Yaml};
use serde_json::{Map, Value, json};

pub use self::manifest::schema as manifest_schema;
use self::{manifest::Manifest, setting::Setting, whole::Whole};
use super::{
    inside::inside_file,
    loader::{Loader, Reading},
    modules,
};
use crate::rules::{BAD_NAME, IGNORED_FILE, UNREADABLE_FILE};

/// The file that makes a folder a plugin.
pub const MANIFEST: &str = "plugin.yaml";
/// The file with its tests.
pub const TESTS: &str = "tests.yaml";
/// The setting with the beat of a source.
const EVERY: &str = "every";
/// Faster than this a script does nothing but run.
const SHORTEST_BEAT: Period = Period(Duration::from_millis(100));
const LONGEST_BEAT: Period = Period::seconds(366 * 86_400);
/// A script is code for people to read, not data.
const MOST_SCRIPT_BYTES: usize = 256 * 1024;
/// At most this many plugins are read.
const MOST_PLUGINS: usize = 1000;

/// Loads the plugins of a folder that are written in a language of scripts.
pub struct DropIns(pub Arc<dyn Language>);

/// A plugin of that kind which is compiled in: the texts of its folder.
#[derive(Clone, Copy, Debug)]
pub struct Standard {
    /// The name of the folder, and of the type.
    pub name: &'static str,
    /// `plugin.yaml`.
    pub manifest: &'static str,
    /// The script.
    pub script: &'static str,
}

/// What a folder makes.
enum Made {
    Script(DropIn),
    Whole(Whole),
}

/// A type whose code is a script.
struct DropIn {
    name: String,
    summary: String,
    role: Role,
    schema: Value,
    settings: Vec<Setting>,
    may_ask: Vec<String>,
    fingerprint: u64,
    is_standard: bool,
    language: Arc<dyn Language>,
    source: ScriptSource,
    /// Those that are compiled in wait until somebody uses them. None when it cannot run.
    compiled: OnceLock<Option<Arc<dyn Compiled>>>,
}

impl DropIns {
    /// A plugin that is compiled in. One of the same name in a folder takes its place.
    pub fn standard(&self, plugin: &Standard) -> Plugin {
        let mut wrong = Vec::new();
        let tree = yaml::parse(plugin.manifest, 0, Limits::default(), &mut wrong);
        let tree = tree.unwrap_or_else(|| Yaml::empty_map(Span::default()));
        let path = format!("built-in plugins/{0}/{0}.{1}", plugin.name, self.0.ending());
        let manifest = Manifest::read(&tree, plugin.name, &mut wrong);
        debug_assert!(wrong.is_empty(), "{}: {wrong:?}", plugin.name);
        let script = Arc::from(plugin.script);
        let made =
            DropIn { is_standard: true, ..self.made(manifest, &tree, script, path, Vec::new()) };
        let sample = sample(&made.name, made.role, &made.settings);
        Plugin::new(plugin.name, sample).offers(made)
    }

    fn plugin(&self, folder: &Path, reading: &mut Reading<'_>) -> Option<Plugin> {
        reading.watch(folder);
        let path = folder.join(MANIFEST);
        if !path.exists() && !self.is_meant_as_plugin(folder) {
            return None;
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let made = match reading.yaml(&path) {
            Some((_, tree)) => self.of_manifest(&tree, folder, &name, reading)?,
            None => {
                say_what_to_rename(&folder.join("plugin.yml"), &path, reading.findings);
                let tree = Yaml::empty_map(Span::default());
                Made::Script(self.unusable(Manifest::unknown(&name), &tree))
            }
        };
        Some(match made {
            Made::Script(made) => {
                let sample = sample(&made.name, made.role, &made.settings);
                Plugin::new(name, sample).offers(made)
            }
            Made::Whole(made) => {
                let sample = sample(&made.name, made.role, &made.settings);
                Plugin::new(name, sample).expands(made)
            }
        })
    }

    /// None when its name is another's.
    fn of_manifest(
        &self,
        tree: &Yaml,
        folder: &Path,
        name: &str,
        reading: &mut Reading<'_>,
    ) -> Option<Made> {
        let manifest = Manifest::read(tree, name, reading.findings);
        let named = tree.get("name").map_or(tree.span, |name| name.span);
        if reading.is_taken(Some(manifest.role), &manifest.name) {
            let noun = manifest.role.noun();
            let message = format!("there is a {noun} type `{}` already", manifest.name);
            let label = "expected another name, for the folder too";
            reading.findings.push(Finding::error(&BAD_NAME, named, message, label));
            return None;
        }
        if !manifest.parts.is_empty() {
            return Some(Made::Whole(whole(manifest, tree, folder, reading)));
        }
        let path = folder.join(format!("{name}.{}", self.0.ending()));
        let Some((file, script)) = reading.text(&path, MOST_SCRIPT_BYTES) else {
            let other = entries(folder).into_iter().find(|path| self.is_script(path));
            other.iter().for_each(|other| say_what_to_rename(other, &path, reading.findings));
            return Some(Made::Script(self.unusable(manifest, tree)));
        };
        // What a script reads and sends is wrong by what is declared.
        if !manifest.is_read {
            return Some(Made::Script(self.unusable(manifest, tree)));
        }
        let place = |at| inside_file(file, &script, at).unwrap_or(Span::new(file, 0..0));
        let imports = |text: &str| self.0.imports(text);
        let before = reading.findings.len();
        let modules = modules::read(&script, folder, &imports, &place, reading);
        if reading.findings.len() > before {
            return Some(Made::Script(self.unusable(manifest, tree)));
        }
        let sources = modules.iter().map(|module| module.source.clone()).collect();
        let text = Arc::clone(&script);
        let made = self.made(manifest, tree, text, reading.shown(&path), sources);
        let mut problems = Vec::new();
        let compiled = self.0.compile(&made.source, &mut problems);
        let is_right = problems.iter().all(|problem| problem.level != Level::Error);
        let placed = problems.into_iter().map(|problem| {
            let is_it = |module: &&Module| problem.module.as_ref() == Some(&module.source.name);
            match modules.iter().find(is_it) {
                Some(Module { file, source }) => placed(problem, tree, (*file, &source.text)),
                None => placed(problem, tree, (file, &script)),
            }
        });
        reading.findings.extend(placed);
        let compiled = OnceLock::from(compiled.filter(|_| is_right));
        Some(Made::Script(DropIn { compiled, ..made }))
    }

    fn made(
        &self,
        manifest: Manifest,
        tree: &Yaml,
        text: Arc<str>,
        path: String,
        modules: Vec<ModuleSource>,
    ) -> DropIn {
        let Manifest { name, summary, settings, outputs, role, may_ask, limits, is_right, .. } =
            manifest;
        let mut hasher = DefaultHasher::new();
        (tree.to_value().to_string(), &text, &modules).hash(&mut hasher);
        // Nobody but the beat needs this one.
        let is_read = |setting: &&Setting| role != Role::Source || setting.name != EVERY;
        let names = settings.iter().filter(is_read).map(|one| one.name.clone()).collect();
        DropIn {
            schema: schema(&settings, is_right),
            name,
            summary,
            role,
            may_ask: may_ask.clone(),
            settings,
            fingerprint: hasher.finish(),
            is_standard: false,
            language: Arc::clone(&self.0),
            source: ScriptSource {
                text,
                modules,
                path: path.into(),
                settings: names,
                outputs,
                role,
                may_ask,
                limits,
            },
            compiled: OnceLock::new(),
        }
    }

    /// What cannot run has a name all the same, so that the nodes of it are not found wrong, too.
    fn unusable(&self, manifest: Manifest, tree: &Yaml) -> DropIn {
        let made = self.made(manifest, tree, "".into(), String::new(), Vec::new());
        DropIn { compiled: OnceLock::from(None), ..made }
    }

    fn is_meant_as_plugin(&self, folder: &Path) -> bool {
        let is_part = |path: &PathBuf| {
            self.is_script(path) || path.ends_with("plugin.yml") || path.ends_with(TESTS)
        };
        entries(folder).iter().any(is_part)
    }

    fn is_script(&self, path: &Path) -> bool {
        path.extension().is_some_and(|ending| ending == self.0.ending())
    }

    /// What stands beside the folders of plugins.
    fn stray(&self, path: &Path, reading: &mut Reading<'_>) {
        let is_yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        if is_yaml || self.is_script(path) {
            let message = format!(
                "{} is not read: a plugin is a folder with a {MANIFEST}",
                reading.shown(path)
            );
            reading.findings.push(Finding::warning(&IGNORED_FILE, None, message, ""));
        }
    }
}

impl Loader for DropIns {
    fn load(&self, plugins: &Path, reading: &mut Reading<'_>) -> Vec<Plugin> {
        let (folders, files): (Vec<_>, Vec<_>) =
            entries(plugins).into_iter().partition(|path| path.is_dir());
        files.iter().for_each(|path| self.stray(path, reading));
        if folders.len() > MOST_PLUGINS {
            let message = format!("{} holds too many plugins", reading.shown(plugins));
            let label = format!("more than {MOST_PLUGINS}");
            reading.findings.push(Finding::error(&UNREADABLE_FILE, None, message, label));
        }
        let folders = folders.iter().take(MOST_PLUGINS);
        folders.filter_map(|folder| self.plugin(folder, reading)).collect()
    }
}

/// Adds to the finding about a missing file which one is probably meant.
fn say_what_to_rename(there: &Path, wanted: &Path, findings: &mut [Finding]) {
    let name = |path: &Path| path.file_name().unwrap_or_default().display().to_string();
    if let Some(finding) = findings.last_mut().filter(|_| there.exists() && !wanted.exists()) {
        finding.help = Some(format!("rename {} to {}", name(there), name(wanted)));
    }
}

/// What is in a folder, but for hidden files, sorted.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let shown = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let mut paths: Vec<PathBuf> = shown.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Gives a problem of a script, or of what it is compiled with, its place.
fn placed(problem: Problem, manifest: &Yaml, (file, text): (u32, &str)) -> Finding {
    let inside = problem.inside.and_then(|place| inside_file(file, text, place));
    let named = |setting: &str| manifest.get("settings")?.entry(setting.strip_prefix("settings.")?);
    problem.at(|setting| match (setting, named(setting)) {
        ("script", _) => inside.unwrap_or(Span::new(file, 0..0)),
        (_, Some(entry)) => entry.key_span,
        (setting, None) => manifest.at(setting).span,
    })
}

/// JSON Schema of the settings of a type. One of which not all is known takes anything.
fn schema(settings: &[Setting], is_right: bool) -> Value {
    let properties = settings.iter().map(|setting| (setting.name.clone(), setting.schema()));
    let required: Vec<&str> = settings
        .iter()
        .filter(|setting| setting.is_required && is_right)
        .map(|setting| setting.name.as_str())
        .collect();
    json!({
        "type": "object",
        "properties": properties.collect::<Map<String, Value>>(),
        "required": required,
        "additionalProperties": !is_right,
    })
}

/// A type that stands for several nodes.
fn whole(manifest: Manifest, tree: &Yaml, folder: &Path, reading: &mut Reading<'_>) -> Whole {
    let Manifest { name, summary, settings, role, parts, is_right, .. } = manifest;
    let wrong = whole::check(&parts, role, &settings, tree);
    let is_right = is_right && wrong.iter().all(|finding| finding.level != Level::Error);
    reading.findings.extend(wrong);
    let (schema, path) = (schema(&settings, is_right), folder.join(MANIFEST));
    Whole { name, summary, role, schema, settings, parts, path, is_right }
}

/// A pipeline that shows a type.
fn sample(name: &str, role: Role, settings: &[Setting]) -> String {
    let mut node = format!("    type: {name}\n");
    for setting in settings {
        let hash = if setting.is_required { "" } else { "# " };
        node += &format!("    {hash}{}: {}\n", setting.name, setting.example());
    }
    let meter = "sources:\n  meter: { type: timer, every: 10s }\n";
    match role {
        Role::Source => {
            format!("sources:\n  {name}:\n{node}\nsinks:\n  out: {{ from: {name}, type: log }}\n")
        }
        Role::Sink => format!("{meter}\nsinks:\n  {name}:\n    from: meter\n{node}"),
        Role::Transform | Role::Connection => format!(
            "{meter}\ntransforms:\n  {name}:\n    from: meter\n{node}\nsinks:\n  \
             out: {{ from: {name}, type: log }}\n"
        ),
    }
}

impl NodeType for DropIn {
    fn name(&self) -> &str {
        &self.name
    }
    fn role(&self) -> Role {
        self.role
    }
    fn summary(&self) -> &str {
        &self.summary
    }
    fn connections(&self) -> &[Cow<'static, str>] {
        &[]
    }
    fn schema(&self) -> Value {
        self.schema.clone()
    }
    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
    fn gives_way(&self) -> bool {
        self.is_standard
    }

    fn configure(&self, settings: &Yaml, _: &mut Vec<Finding>) -> Resolved {
        let compile = || self.language.compile(&self.source, &mut Vec::new());
        let compiled = self.compiled.get_or_init(compile).as_ref();
        let of = |setting: &Setting| (setting.name.clone(), setting.of_node(settings));
        let values: Map<String, Value> = self.settings.iter().map(of).collect();
        let configured = compiled.map(|compiled| compiled.configure(&values));
        let problems = self.no_beat(&values).into_iter().chain(self.no_place(&values)).collect();
        Resolved { configured, problems }
    }
}

impl DropIn {
    /// A beat that no clock should have.
    fn no_beat(&self, values: &Map<String, Value>) -> Option<Problem> {
        let millis = values.get(EVERY).filter(|_| self.role == Role::Source)?.as_u64()?;
        let every = Period(Duration::from_millis(millis));
        Problem::unless_within(EVERY, &every, SHORTEST_BEAT..=LONGEST_BEAT)
    }

    /// A setting that names whom to ask, and does not.
    fn no_place(&self, values: &Map<String, Value>) -> Option<Problem> {
        let named = self.may_ask.iter().filter_map(|place| {
            let name = place.strip_prefix('{')?.strip_suffix('}')?;
            Some((name, values.get(name)?.as_str()?))
        });
        let is_url = |text: &str| text.starts_with("https://") || text.starts_with("http://");
        let (name, _) = named.into_iter().find(|(_, text)| !is_url(text))?;
        let message = format!("`{name}` is no place that can be asked");
        Some(Problem::new(name, message, "expected such as `https://192.168.1.20`"))
    }
}
