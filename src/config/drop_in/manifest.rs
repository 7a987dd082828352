//! What stands in a `plugin.yaml`.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use forebay_sdk::{
    Finding, Level, Period, Problem, Role, ScriptLimits, Span, rules::SETTING_VALUE, schema_of,
};
use forebay_yaml::{self as yaml, Entry, Yaml};
use schemars::JsonSchema;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};

use super::setting::{Setting, SettingWritten};
use crate::{config::common, rules::BAD_NAME};

/// As far as it could be read.
pub(super) struct Manifest {
    pub name: String,
    pub summary: String,
    /// In the order in which they are written.
    pub settings: Vec<Setting>,
    pub outputs: Vec<String>,
    pub role: Role,
    /// The places that its script may ask by HTTP, each an origin or the name of a setting in braces.
    pub may_ask: Vec<String>,
    pub limits: ScriptLimits,
    /// The parts that it stands for, as they are written. Without any, it is a script.
    pub parts: Vec<(Role, Entry)>,
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
    /// What its nodes are.
    #[serde(default)]
    role: RoleWritten,
    /// Of a script that is a source: how often it runs when a node does not say `every`. Each node has to, when this is left out.
    #[serde(default)]
    every: Option<Period>,
    /// What its script may do beside computing, as a source or a sink.
    #[serde(default)]
    allow: AllowWritten,
    /// What one run of its script may use.
    #[serde(default)]
    limits: LimitsWritten,
    /// Connections of a type that stands for several nodes, as in a pipeline.
    #[serde(default)]
    #[schemars(with = "Map<String, Value>")]
    #[expect(dead_code, reason = "it is read as it was written")]
    connections: Sections,
    /// Sources of a type that stands for several nodes, as in a pipeline.
    #[serde(default)]
    #[schemars(with = "Map<String, Value>")]
    #[expect(dead_code, reason = "it is read as it was written")]
    sources: Sections,
    /// Transforms of a type that stands for several nodes, as in a pipeline. `from: input` is what its node reads, `output` the one that
    /// others read by its name, and `${settings.NAME}` what a node says.
    #[serde(default)]
    #[schemars(with = "Map<String, Value>")]
    #[expect(dead_code, reason = "it is read as it was written")]
    transforms: Sections,
    /// Sinks of a type that stands for several nodes, as in a pipeline.
    #[serde(default)]
    #[schemars(with = "Map<String, Value>")]
    #[expect(dead_code, reason = "it is read as it was written")]
    sinks: Sections,
}

/// They are read from the tree, with their places.
type Sections = IgnoredAny;

/// What a type is in a pipeline.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum RoleWritten {
    /// Its nodes bring messages in. A script runs at each beat of a clock.
    Source,
    /// They turn messages into others.
    #[default]
    Transform,
    /// They take messages out. A script asks web services to take them.
    Sink,
}

/// What a script may do beside computing.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct AllowWritten {
    /// The web services that it may ask, and no others: `https://api.example.com`, with a port when it has one of its own. `{NAME}` is the one that
    /// stands in the setting of that name.
    http: Vec<String>,
}

/// What one run of a script may use.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct LimitsWritten {
    /// The most operations: a value read, a call, a step of a loop is about one each. 100000 when left out.
    #[schemars(range(min = 1, max = 10_000_000))]
    max_operations: Option<u32>,
    /// The longest it may take, 1ms to 5s. 50ms when left out. Everything else on the same processor waits meanwhile.
    timeout: Option<Period>,
    /// The longest an answer to a request may take, 10ms to 1m. 10s when left out.
    answer_within: Option<Period>,
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
        let ManifestWritten {
            name,
            summary,
            settings: mut all,
            outputs,
            role,
            every,
            allow,
            limits,
            ..
        } = written;
        let role = match role {
            RoleWritten::Source => Role::Source,
            RoleWritten::Transform => Role::Transform,
            RoleWritten::Sink => Role::Sink,
        };
        let parts = parts(tree);
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
        let beats = role == Role::Source && parts.is_empty();
        if beats {
            settings.push(Setting::every(every, tree));
        }
        for entry in tree.at("settings").entries().unwrap_or_default() {
            let Some(written) = all.remove(&entry.key) else { continue };
            if let Some((message, label)) = unfit_for_a_setting(&entry.key, role, beats) {
                findings.push(Finding::error(&BAD_NAME, entry.key_span, message, label));
                continue;
            }
            let wrong = |span: Span, message: String, label: &str| {
                findings.push(Finding::error(&SETTING_VALUE, span, message, label));
            };
            written.check(&entry.key, &entry.value, wrong);
            settings.push(Setting::of(&entry.key, written, &entry.value, findings));
        }
        findings.extend(out_of_place(tree, role, !parts.is_empty()));
        findings.extend(limits.out_of_range().map(|problem| problem.at(|path| tree.at(path).span)));
        for (index, place) in allow.http.iter().enumerate() {
            if let Some(label) = unfit_to_ask(place, &settings) {
                let span = tree.at(&format!("allow.http[{index}]")).span;
                let message = format!("`{place}` is no place that can be asked");
                findings.push(Finding::error(&SETTING_VALUE, span, message, label));
            }
        }
        let is_right = findings[before..].iter().all(|finding| finding.level != Level::Error);
        let LimitsWritten { max_operations, timeout, answer_within } = limits;
        let (timeout, answer_within) = (timeout.map(|t| t.0), answer_within.map(|t| t.0));
        Manifest {
            name: folder.to_owned(),
            summary,
            settings,
            outputs,
            role,
            may_ask: allow.http,
            limits: ScriptLimits { max_operations, timeout, answer_within },
            parts,
            is_read: true,
            is_right,
        }
    }

    /// One of which nothing is known but the name.
    pub(super) fn unknown(name: &str) -> Manifest {
        Manifest {
            name: name.to_owned(),
            summary: String::new(),
            settings: Vec::new(),
            outputs: Vec::new(),
            role: Role::Transform,
            may_ask: Vec::new(),
            limits: ScriptLimits::default(),
            parts: Vec::new(),
            is_read: false,
            is_right: false,
        }
    }
}

impl LimitsWritten {
    fn out_of_range(&self) -> impl Iterator<Item = Problem> + use<> {
        let millis = |least, most| {
            Period(Duration::from_millis(least))..=Period(Duration::from_millis(most))
        };
        let within = |name: &str, value: Option<Period>, range| {
            Problem::unless_within(format!("limits.{name}"), &value?, range)
        };
        let timeout = within("timeout", self.timeout, millis(1, 5_000));
        timeout.into_iter().chain(within("answer_within", self.answer_within, millis(10, 60_000)))
    }
}

/// The parts of a type that stands for several nodes.
fn parts(tree: &Yaml) -> Vec<(Role, Entry)> {
    let of_role = |role: Role| {
        let entries = tree.get(role.section()).and_then(Yaml::entries).unwrap_or_default();
        entries.iter().map(move |entry| (role, entry.clone()))
    };
    Role::ALL.into_iter().flat_map(of_role).collect()
}

/// What is said of a type that it has no use for.
fn out_of_place(tree: &Yaml, role: Role, has_parts: bool) -> Vec<Finding> {
    let uses = [
        ("every", role == Role::Source && !has_parts, "only for a source that is a script"),
        (
            "allow",
            role != Role::Transform && !has_parts,
            "only for a source or a sink that is a script",
        ),
        ("limits", !has_parts, "only for a script"),
        ("outputs", !has_parts, "only for a script; the outputs are those of the part `output`"),
    ];
    let unused = uses.into_iter().filter(|(_, is_used, _)| !is_used);
    let finding = |(key, _, label)| {
        let entry = tree.entry(key)?;
        let message = format!("`{key}` has no use here");
        Some(Finding::error(&SETTING_VALUE, entry.key_span, message, label))
    };
    unused.filter_map(finding).collect()
}

/// What is wrong with a place that a script wants to ask.
fn unfit_to_ask(place: &str, settings: &[Setting]) -> Option<String> {
    if let Some(name) = place.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let is_it = |setting: &&Setting| setting.name == name && setting.is_text();
        let is_there = settings.iter().any(|setting| is_it(&setting));
        return (!is_there).then(|| {
            format!("expected a setting of type `string`, such as `{name}: {{ type: string }}`")
        });
    }
    let host = place.strip_prefix("https://").or_else(|| place.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ', '*']) => None,
        _ => Some("expected scheme and host alone, such as `https://api.example.com`".to_owned()),
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
fn unfit_for_a_setting(name: &str, role: Role, beats: bool) -> Option<(String, &'static str)> {
    if beats && name == "every" {
        let message = "a source that is a script has the setting `every` already".to_owned();
        return Some((message, "its default is `every:` at the top of plugin.yaml"));
    }
    if common::is_common(role, name) {
        let noun = role.noun();
        let message = format!("every {noun} has a setting `{name}`, which the plugin never sees");
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
