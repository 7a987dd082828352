//! Reads a folder: its plugins first, then its pipelines.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use forebay_sdk::{Finding, Span, finding::quoted, schema_of};
use forebay_yaml::{self as yaml, Content, Entry, Limits, Scalar, Style, Yaml};

use super::{
    draft::{Draft, Part},
    folder::{Copy, Folder},
    loader::Reading,
    pipeline,
    runtime::Runtime,
    types::{ExpansionEntry, Types},
    variables::{self, Environment},
};

/// Reads a folder. What is wrong with its files is among the draft's findings; a folder that cannot
/// be read is an error.
pub fn load(root: &Path, types: &Types, environment: Environment<'_>) -> anyhow::Result<Draft> {
    Ok(read(Folder::open(root)?, types, environment))
}

/// Reads a copy as if it stood in the place of the folder.
pub fn load_copy(
    copy: Copy<'_>,
    types: &Types,
    environment: Environment<'_>,
) -> anyhow::Result<Draft> {
    Ok(read(Folder::open_copy(copy)?, types, environment))
}

/// Reads a folder as if other files stood in the place of some, each by the path that users know those by.
pub fn load_instead(
    root: &Path,
    instead: BTreeMap<String, PathBuf>,
    types: &Types,
    environment: Environment<'_>,
) -> anyhow::Result<Draft> {
    Ok(read(Folder::open(root)?.with_instead(instead), types, environment))
}

fn read(folder: Folder, types: &Types, environment: Environment<'_>) -> Draft {
    let mut draft = Draft::new(Arc::new(types.clone()));
    draft.place = folder.identified_place();
    runtime(&folder, environment, &mut draft);
    plugins(&folder, &mut draft);
    for path in &folder.pipelines {
        if let Some((file, tree)) = read_tree(path, &folder, environment, &mut draft) {
            pipeline::read(tree, file, path, &folder, &mut draft);
        }
    }
    try_unused_types(&folder, &mut draft);
    name_users(&mut draft);
    draft.findings.extend(folder.overlooked());
    folder.watched.iter().for_each(|watched| draft.watched.folder(watched));
    draft.findings.extend(folder.findings);
    draft
}

/// Reads a pipeline that stands in a larger text, such as an example in Markdown: `text` is what
/// is shown, and `yaml` the same with blanks for all that is no part of the pipeline. Names of
/// files are relative to `beside`.
pub fn load_part(
    shown: &str,
    text: &str,
    yaml: &str,
    beside: &Path,
    types: &Types,
    environment: Environment<'_>,
) -> Draft {
    let folder = Folder::empty(beside);
    let mut draft = Draft::new(Arc::new(types.clone()));
    let file = draft.texts.add(shown.to_owned(), text.to_owned());
    // The whole text may be longer than a pipeline, and each part of it is read by itself.
    let limits =
        Limits { size_bytes: yaml.len().max(Limits::default().size_bytes), ..Limits::default() };
    match yaml::parse(yaml, file, limits, &mut draft.findings) {
        Some(mut tree) => {
            variables::fill(&mut tree, &folder, environment, &mut draft);
            pipeline::read(tree, file, &beside.join("example.yaml"), &folder, &mut draft);
        }
        None => draft.texts.not_read(file),
    }
    draft
}

/// Reads `forebay.yaml`, when there is one.
fn runtime(folder: &Folder, environment: Environment<'_>, draft: &mut Draft) {
    let path = folder.root.join("forebay.yaml");
    if !path.exists() {
        return;
    }
    let Some((file, text)) = draft.reading(folder).text(&path, Limits::default().size_bytes) else {
        return;
    };
    let Some(mut tree) = yaml::parse(&text, file, Limits::default(), &mut draft.findings) else {
        draft.runtime.data = data_line(&text, folder, environment, &draft.types);
        return;
    };
    variables::fill(&mut tree, folder, environment, draft);
    match read_runtime(&tree, &folder.root, draft) {
        Some(runtime) => draft.runtime = runtime,
        None => draft.runtime.data = data(&tree),
    }
    draft.runtime_written = Some(tree);
}

fn read_runtime(tree: &Yaml, folder: &Path, draft: &mut Draft) -> Option<Runtime> {
    const TITLE: &str = "forebay.yaml";
    let is_wrong = draft.check_settings(tree, &schema_of::<Runtime>(), TITLE, tree.span);
    let runtime: Runtime =
        (!is_wrong).then(|| yaml::decode(tree, TITLE, &mut draft.findings)).flatten()?;
    if let Some((api, written)) = runtime.api.as_ref().zip(tree.get("api")) {
        api.check(written, folder, &mut draft.findings);
    }
    Some(runtime)
}

/// What a file with mistakes still says: without the data folder nobody finds what ran before.
fn data(runtime: &Yaml) -> Option<PathBuf> {
    runtime.get("data").and_then(Yaml::text).map(PathBuf::from)
}

/// The same of a file that is no YAML.
fn data_line(
    text: &str,
    folder: &Folder,
    environment: Environment<'_>,
    types: &Arc<Types>,
) -> Option<PathBuf> {
    let line = text.lines().find(|line| line.starts_with("data:"))?;
    let mut tree = yaml::parse(line, 0, Limits::default(), &mut Vec::new())?;
    let mut unread = Draft::new(Arc::clone(types));
    variables::fill(&mut tree, folder, environment, &mut unread);
    data(&tree)
}

/// Adds the types that the folder brings along.
fn plugins(folder: &Folder, draft: &mut Draft) {
    let (path, Some(loader)) = (folder.root.join("plugins"), draft.types.loader()) else { return };
    if !path.is_dir() {
        return;
    }
    draft.watched.folder(&path);
    let taken = draft.types.taken();
    let found = loader.load(&path, &mut Reading { taken, ..draft.reading(folder) });
    draft.types = Arc::new(draft.types.with(found));
}

/// The node of [`load_whole`].
pub const WHOLE: &str = "test/node";

/// Reads a pipeline in which there is nothing but a node that stands for several, a source in front of it that never
/// sends and a sink that reads it. Places in what is wrong with it are those in the files of whose texts it was made.
pub fn load_whole(entry: &ExpansionEntry, settings: &Yaml, types: &Types) -> Draft {
    const AROUND: &str = "sources:\n  in: { type: timer, every: 1h }\ntransforms:\n  node: { from: in }\n\
                          sinks:\n  out: { from: node, type: log }\n";
    let beside = entry.expansion.beside().unwrap_or_default();
    let folder = Folder::empty(beside.parent().unwrap_or(Path::new("")));
    let mut draft = Draft::new(Arc::new(types.clone()));
    let mut tree = yaml::parse(AROUND, u32::MAX, Limits::default(), &mut draft.findings)
        .unwrap_or_else(|| Yaml::empty_map(Span::default()));
    if let Some(node) = node_mut(&mut tree) {
        let kind = Scalar::new(entry.expansion.name(), Style::Plain);
        let kind = Yaml { span: settings.span, content: Content::Scalar(kind) };
        node.push(Entry { key: "type".to_owned(), key_span: settings.span, value: kind });
        node.extend(settings.entries().unwrap_or_default().iter().cloned());
    }
    pipeline::read(tree, u32::MAX, Path::new("test.yaml"), &folder, &mut draft);
    draft
}

/// The settings of the one transform.
fn node_mut(tree: &mut Yaml) -> Option<&mut Vec<Entry>> {
    let Content::Map(sections) = &mut tree.content else { return None };
    let section = sections.iter_mut().find(|section| section.key == "transforms")?;
    let Content::Map(nodes) = &mut section.value.content else { return None };
    match &mut nodes.first_mut()?.value.content {
        Content::Map(settings) => Some(settings),
        Content::List(_) | Content::Scalar(_) => None,
    }
}

/// A type that stands for several nodes is taken apart once, also when no node has it: what is wrong in it is to be
/// seen before one has.
fn try_unused_types(folder: &Folder, draft: &mut Draft) {
    let types = Arc::clone(&draft.types);
    let is_unused = |entry: &&ExpansionEntry| {
        entry.expansion.beside().is_some() && !draft.expanded.contains(entry.expansion.name())
    };
    for entry in types.expansions().filter(is_unused).collect::<Vec<_>>() {
        let mut tried = Draft::new(Arc::clone(&types));
        tried.texts = draft.texts.clone();
        let count = tried.texts.count();
        let file = tried.texts.add(String::new(), entry.plugin.sample.clone().into_owned());
        let sample = yaml::parse(&entry.plugin.sample, file, Limits::default(), &mut Vec::new());
        let path = folder.place.join("sample.yaml");
        if let Some(sample) = sample {
            pipeline::read(sample, file, &path, folder, &mut tried);
        }
        let is_its_own = |finding: &Finding| finding.span.is_some_and(|span| span.file < count);
        let mut findings = tried.findings;
        findings.retain(is_its_own);
        findings.iter_mut().for_each(|finding| finding.context.clear());
        draft.findings.extend(findings);
    }
}

/// Says with what is wrong in a plugin, or in a module of scripts, which nodes use it. What several use is
/// wrong once.
fn name_users(draft: &mut Draft) {
    let Draft { findings, texts, parts, .. } = draft;
    let mut said = BTreeSet::new();
    findings.retain_mut(|finding| {
        let Some(span) = finding.span else { return true };
        let path = Path::new(texts.path(span.file));
        let plugin = path.strip_prefix("plugins").ok().and_then(|inside| inside.iter().next());
        let imports = |part: &&Part| part.modules().any(|module| module.file == span.file);
        let users = match plugin {
            Some(plugin) => {
                let is_user = |part: &&Part| {
                    let whole = part.taken_from.as_deref();
                    *part.type_name == *plugin || whole.is_some_and(|whole| *whole == *plugin)
                };
                quoted(parts.iter().filter(is_user).map(|part| &*part.name))
            }
            None => quoted(parts.iter().filter(imports).map(|part| &*part.name)),
        };
        let users = match (users.as_str(), plugin) {
            ("", None) => return true,
            ("", Some(_)) => "no node uses it".to_owned(),
            (users, _) => format!("used by {users}"),
        };
        finding.note = Some(match finding.note.take() {
            Some(note) => format!("{note}\n{users}"),
            None => users,
        });
        said.insert((finding.rule, span))
    });
}

/// Reads one file as a tree and fills in its variables.
fn read_tree(
    path: &Path,
    folder: &Folder,
    environment: Environment<'_>,
    draft: &mut Draft,
) -> Option<(u32, Yaml)> {
    let (file, mut tree) = draft.reading(folder).yaml(path)?;
    variables::fill(&mut tree, folder, environment, draft);
    Some((file, tree))
}
