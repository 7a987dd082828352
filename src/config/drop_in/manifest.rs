//! What stands in a `plugin.yaml`.

use std::{collections::BTreeMap, sync::LazyLock};

use forebay_sdk::{Finding, Level, Role, Span, rules::SETTING_VALUE, schema_of};
use forebay_yaml::{self as yaml, Yaml};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::setting::{Setting, SettingWritten};
use crate::{config::common, rules::BAD_NAME};

/// As far as it could be read.
pub(super) struct Manifest {
    pub name: String,
    pub summary: String,
    /// In the order in which they are written.
    pub settings: Vec<Setting>,
    pub outputs: Vec<String>,
    /// Whether all that is declared is known, right or wrong.
    pub is_read: bool,
    /// Whether it is right.
    pub is_right: bool,
}

/// As its author writes it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ManifestWritten {
    /// What nodes write after `type:`. The name of the folder, too.
    name: String,
    /// What nodes of this type do. One sentence.
    summary: String,
    /// The settings of a node. The script reads them as `settings.NAME`.
    #[serde(default)]
    settings: BTreeMap<String, SettingWritten>,
    /// Names of further outputs, for `emit("name", msg)` in the script. Other nodes read them as `from:
    /// node.name`. Letters, digits, `-` and `_`.
    #[serde(default)]
    outputs: Vec<String>,
}

/// JSON Schema of a `plugin.yaml`.
pub fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<ManifestWritten>);
    &SCHEMA
}

impl Manifest {
    /// Reads one, and reports what is wrong with it. `folder` is the name of its folder, and the type is
    /// known by that when another one is written.
    pub(super) fn read(tree: &Yaml, folder: &str, findings: &mut Vec<Finding>) -> Manifest {
        let before = findings.len();
        let title = format!("plugin `{folder}`");
        let Some(written) = yaml::read::<ManifestWritten>(tree, schema(), &title, findings) else {
            return Manifest::unknown(folder);
        };
        let ManifestWritten { name, summary, settings: mut all, outputs } = written;
        if name != folder {
            let message = format!("plugin `{name}` stands in the folder `{folder}`");
            let span = tree.at("name").span;
            let finding = Finding::error(&BAD_NAME, span, message, "expected the same name");
            findings.push(finding.edit("the name of the folder", span, folder));
        }
        if let Some(label) = unfit_for_a_type(folder) {
            let message = format!("`{folder}` cannot be the name of a plugin");
            findings.push(Finding::error(&BAD_NAME, tree.at("name").span, message, label));
        }
        let mut settings = Vec::new();
        for entry in tree.at("settings").entries().unwrap_or_default() {
            let Some(written) = all.remove(&entry.key) else { continue };
            if let Some((message, label)) = unfit_for_a_setting(&entry.key) {
                findings.push(Finding::error(&BAD_NAME, entry.key_span, message, label));
                continue;
            }
            let wrong = |span: Span, message: String, label: &str| {
                findings.push(Finding::error(&SETTING_VALUE, span, message, label));
            };
            written.check(&entry.key, &entry.value, wrong);
            settings.push(Setting::of(&entry.key, written, &entry.value, findings));
        }
        let is_right = findings[before..].iter().all(|finding| finding.level != Level::Error);
        Manifest { name: folder.to_owned(), summary, settings, outputs, is_read: true, is_right }
    }

    /// One of which nothing is known but the name.
    pub(super) fn unknown(name: &str) -> Manifest {
        Manifest {
            name: name.to_owned(),
            summary: String::new(),
            settings: Vec::new(),
            outputs: Vec::new(),
            is_read: false,
            is_right: false,
        }
    }
}

/// What is wrong with a name that stands behind `type:`.
fn unfit_for_a_type(name: &str) -> Option<&'static str> {
    let fits = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    match name {
        name if name.is_empty() || !name.chars().all(fits) => {
            Some("expected letters, digits, `-` and `_`")
        }
        name if name.starts_with('-') => Some("expected a letter or a digit in front"),
        _ => None,
    }
}

/// What is wrong with a name that stands behind `settings.` in a script.
fn unfit_for_a_setting(name: &str) -> Option<(String, &'static str)> {
    if common::is_common(Role::Transform, name) {
        let message =
            format!("every transform has a setting `{name}`, which the plugin never sees");
        return Some((message, "expected another name"));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(fits) {
        return None;
    }
    let message = format!("`{name}` cannot be the name of a setting");
    Some((
        message,
        "expected letters, digits and `_`, a letter in front: the script reads settings.NAME",
    ))
}
