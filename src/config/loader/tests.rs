//! Types that a folder brings along come, change and go with its files.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::{Arc, Weak},
};

use forebay_sdk::{
    Configured, Finding, Node, NodeType, Plugin, Resolved, Role, Site, rules::MISSING_SETTING,
};
use forebay_yaml::Yaml;
use serde_json::{Value, json};

use super::{Loader, Reading};
use crate::{
    config::{Draft, Graph, Types, example, load, tests::folder_of},
    lint::{self, report::Format},
};

/// Makes a transform of each folder with a `plugin.yaml`, in which its name stands.
struct FromYaml;

impl Loader for FromYaml {
    fn load(&self, plugins: &Path, reading: &mut Reading<'_>) -> Vec<Plugin> {
        let entries = fs::read_dir(plugins).into_iter().flatten().flatten();
        let mut folders: Vec<_> = entries.map(|entry| entry.path()).collect();
        folders.sort();
        folders.iter().filter_map(|folder| plugin(folder, reading)).collect()
    }
}

fn plugin(folder: &Path, reading: &mut Reading<'_>) -> Option<Plugin> {
    let (_, tree) = reading.yaml(&folder.join("plugin.yaml"))?;
    let Some(name) = tree.get("name") else {
        let finding = Finding::error(&MISSING_SETTING, tree.span, "a plugin has no name", "");
        reading.findings.push(finding);
        return None;
    };
    let name = name.text().unwrap_or_default().to_owned();
    if reading.is_taken(Some(Role::Transform), &name) {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    tree.to_value().to_string().hash(&mut hasher);
    let schema = json!({ "type": "object", "properties": {} });
    let loaded = Loaded { name: name.clone(), schema, fingerprint: hasher.finish() };
    Some(Plugin::new(name, "").offers(loaded))
}

struct Loaded {
    name: String,
    schema: Value,
    fingerprint: u64,
}

impl NodeType for Loaded {
    fn name(&self) -> &str {
        &self.name
    }
    fn role(&self) -> Role {
        Role::Transform
    }
    fn summary(&self) -> &str {
        "Was loaded."
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
    fn configure(&self, _: &Yaml, _: &mut Vec<Finding>) -> Resolved {
        Resolved { configured: Some(Arc::new(Nothing)), problems: Vec::new() }
    }
}

struct Nothing;

impl Configured for Nothing {
    fn build(&self, _: Site) -> Node {
        unreachable!("nothing runs here")
    }
}

const PIPELINE: &str = "=== pipelines/x.yaml\nsources:\n  b: { type: beat }\ntransforms:\n  \
     c: { type: celsius, from: b }\n  p: { type: pass, from: c }\nsinks:\n  e: { type: end, from: p }\n";

fn draft(files: &str) -> Draft {
    let types = Types::new(vec![example::plugin()]).loading(FromYaml);
    let folder = folder_of(files);
    load(folder.path(), &types, &|_| None).unwrap()
}

fn graph(files: &str) -> Graph {
    let checked = lint::lint(draft(files));
    let found = lint::report::render(&checked.findings, &checked.texts, Format::Full, false);
    checked.graph.unwrap_or_else(|| panic!("{found}"))
}

#[track_caller]
fn check(files: &str, expected: &[&str]) {
    let checked = lint::lint(draft(files));
    let found = lint::report::render(&checked.findings, &checked.texts, Format::Short, false);
    assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{found}");
}

fn with_plugin(text: &str) -> String {
    format!("{PIPELINE}=== plugins/celsius/plugin.yaml\n{text}")
}

#[test]
fn a_type_comes_and_goes_with_its_folder() {
    check(&with_plugin("name: celsius\n"), &[]);
    check(
        PIPELINE,
        &["pipelines/x.yaml:4:14: error[unknown-type]: there is no transform type `celsius`"],
    );
    // A build that loads nothing leaves the folder alone.
    let folder = folder_of(&with_plugin("- \n"));
    let types = Types::new(vec![example::plugin()]);
    let draft = load(folder.path(), &types, &|_| None).unwrap();
    assert!(draft.texts.iter().all(|(path, _)| !path.starts_with("plugins")));
}

#[test]
fn an_edited_plugin_replaces_its_nodes_and_no_others() {
    let fingerprints = |text: &str| -> BTreeMap<String, u64> {
        let graph = graph(&with_plugin(text));
        graph.nodes.iter().map(|(name, spec)| (name.to_string(), spec.fingerprint)).collect()
    };
    let before = fingerprints("name: celsius\nfactor: 1\n");
    assert_eq!(before, fingerprints("# said\nname: celsius\nfactor: 1\n"));
    let after = fingerprints("name: celsius\nfactor: 2\n");
    let changed: Vec<&String> =
        before.keys().filter(|name| before[*name] != after[*name]).collect();
    assert_eq!(changed, ["x/c"]);
}

#[test]
fn what_is_wrong_with_a_plugin_is_shown_in_its_file() {
    let unknown =
        "pipelines/x.yaml:4:14: error[unknown-type]: there is no transform type `celsius`";
    check(
        &with_plugin("# a plugin\nnmae: celsius\n"),
        &["plugins/celsius/plugin.yaml:2:1: error[missing-setting]: a plugin has no name", unknown],
    );
    check(
        &with_plugin("name: 'celsius\n"),
        &[
            "plugins/celsius/plugin.yaml:1:7: error[yaml-syntax]: file is not valid YAML (this quote is not closed in its line)",
            unknown,
        ],
    );
    check(
        &format!("{PIPELINE}=== plugins/celsius/other\n"),
        &[
            "plugins/celsius/plugin.yaml:1:1: error[unreadable-file]: plugins/celsius/plugin.yaml cannot be read (there is no such file)",
            unknown,
        ],
    );
}

#[test]
fn a_change_to_a_plugin_is_a_change() {
    let draft_of = |text: &str| draft(&with_plugin(text));
    let before = draft_of("name: celsius\n");
    assert_eq!(before.content_hash(), draft_of("name: celsius\n").content_hash());
    assert_ne!(before.content_hash(), draft_of("name: celsius # said\n").content_hash());
    let watched: Vec<&str> =
        before.watched.folders.iter().filter_map(|folder| folder.file_name()?.to_str()).collect();
    assert!(watched.contains(&"plugins") && watched.contains(&"celsius"), "{watched:?}");
}

#[test]
fn a_name_that_is_taken_stays_with_who_has_it() {
    let pipeline = PIPELINE.replace("celsius", "pass");
    let fingerprint = |files: &str| graph(files).nodes["x/c"].fingerprint;
    let with_plugin = format!("{pipeline}=== plugins/other/plugin.yaml\nname: pass\n");
    assert_eq!(fingerprint(&with_plugin), fingerprint(&pipeline));
}

#[test]
fn a_type_is_gone_with_the_last_that_uses_it() {
    let draft = draft(&with_plugin("name: celsius\n"));
    let part = draft.parts.iter().find(|part| part.short == "c").unwrap();
    let node_type: Weak<dyn NodeType> = Arc::downgrade(part.node_type.as_ref().unwrap());
    assert!(node_type.upgrade().is_some());
    let graph = lint::lint(draft).graph.unwrap();
    assert!(node_type.upgrade().is_none(), "nodes that run keep their settings alone");
    drop(graph);
}
