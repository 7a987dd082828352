//! A type of a folder that stands for several nodes, as its `plugin.yaml` has them.

use std::{collections::BTreeSet, path::PathBuf};

use forebay_sdk::{Expanded, Expansion, Finding, Role, finding::quoted, rules::SETTING_VALUE};
use forebay_yaml::{Content, Entry, Scalar, Style, Yaml};
use serde_json::Value;

use super::setting::Setting;
use crate::{
    config::common,
    rules::{NO_INPUT, UNKNOWN_NODE},
};

/// What the node reads, to its parts.
const INPUT: &str = "input";
/// The part that has the name of the node.
const OUTPUT: &str = "output";
/// How a text begins for which something of the node stands.
const BEGIN: &str = "${settings.";

pub(super) struct Whole {
    pub name: String,
    pub summary: String,
    pub role: Role,
    pub schema: Value,
    pub settings: Vec<Setting>,
    pub parts: Vec<(Role, Entry)>,
    /// Its `plugin.yaml`.
    pub path: PathBuf,
    /// Whether its parts can be made.
    pub is_right: bool,
}

/// What is wrong with parts, apart from what they are.
pub(super) fn check(
    parts: &[(Role, Entry)],
    role: Role,
    settings: &[Setting],
    manifest: &Yaml,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let names = || parts.iter().map(|(_, entry)| entry.key.as_str());
    let may_be: &[Role] = match role {
        Role::Source => &[Role::Source, Role::Transform],
        Role::Transform | Role::Connection => &[Role::Transform],
        Role::Sink => &[Role::Sink],
    };
    let noun = role.noun();
    if !parts.iter().any(|(role, entry)| entry.key == OUTPUT && may_be.contains(role)) {
        let sections = quoted(may_be.iter().map(|role| role.section()));
        let message = format!("the {noun} has no part `{OUTPUT}`");
        let label = format!("expected one in {sections}: it has the name of the node");
        findings.push(Finding::error(&SETTING_VALUE, manifest.at("name").span, message, label));
    }
    let (mut reads_input, mut is_all_known) = (false, true);
    for word in parts.iter().flat_map(|(_, entry)| words(entry.value.get("from"))) {
        let text = word.text().unwrap_or_default();
        let node = text.split_once('.').map_or(text, |(node, _)| node);
        reads_input |= node == INPUT;
        let known = names().chain((role != Role::Source).then_some(INPUT));
        if !known.clone().any(|known| known == node) && !text.contains(BEGIN) {
            is_all_known = false;
            let message = format!("no part is named `{node}`");
            let label = format!("expected {}", quoted(known));
            findings.push(Finding::error(&UNKNOWN_NODE, word.span, message, label));
        }
    }
    // A name that is not known may have been meant so.
    if role != Role::Source && !reads_input && is_all_known {
        let message = format!("no part of the {noun} reads what it gets");
        let label = format!("expected a part with `from: {INPUT}`");
        findings.push(Finding::error(&NO_INPUT, manifest.at("name").span, message, label));
    }
    let mut used = BTreeSet::new();
    let mut see = |name: &str, scalar: &Yaml| {
        used.insert(name.to_owned());
        if settings.iter().all(|setting| setting.name != name) {
            let message = format!("plugin has no setting `{name}`");
            let label = match settings {
                [] => "it has none".to_owned(),
                all => format!("expected {}", quoted(all.iter().map(|one| one.name.as_str()))),
            };
            findings.push(Finding::error(&SETTING_VALUE, scalar.span, message, label));
        }
    };
    parts.iter().for_each(|(_, entry)| each_name(&entry.value, &mut see));
    for entry in manifest.at("settings").entries().unwrap_or_default() {
        if !used.contains(&entry.key) {
            let message = format!("no part uses the setting `{}`", entry.key);
            let label = format!("it would be used as `{BEGIN}{}}}`", entry.key);
            findings.push(Finding::warning(&SETTING_VALUE, entry.key_span, message, label));
        }
    }
    findings
}

impl Expansion for Whole {
    fn name(&self) -> &str {
        &self.name
    }
    fn noun(&self) -> &str {
        self.role.noun()
    }
    fn role(&self) -> Option<Role> {
        Some(self.role)
    }
    fn summary(&self) -> &str {
        &self.summary
    }
    fn schema(&self) -> Value {
        self.schema.clone()
    }
    fn beside(&self) -> Option<PathBuf> {
        Some(self.path.clone())
    }

    fn expand(&self, _: &str, settings: &Yaml, _: &mut Vec<Finding>) -> Vec<Expanded> {
        // What is wrong is shown in its own file.
        let parts = self.parts.iter().filter(|_| self.is_right);
        parts.map(|(role, entry)| self.part(*role, entry, settings)).collect()
    }
}

impl Whole {
    fn part(&self, role: Role, entry: &Entry, node: &Yaml) -> Expanded {
        let mut settings = entry.value.clone();
        self.fill(&mut settings, node);
        let reads_input = words(entry.value.get("from")).any(|word| word.text() == Some(INPUT));
        if let Content::Map(entries) = &mut settings.content {
            for entry in entries.iter_mut() {
                match entry.key.as_str() {
                    "from" => self.rewire(&mut entry.value, node.get("from")),
                    "connection" => self.name_sibling(&mut entry.value),
                    _ => (),
                }
            }
            let is_output = entry.key == OUTPUT;
            for given in node.entries().unwrap_or_default() {
                let concerns = match given.key.as_str() {
                    "type" | "from" => false,
                    "state" => role == Role::Transform,
                    "buffer" if self.role == Role::Transform => reads_input,
                    key => is_output && common::is_common(self.role, key),
                };
                let has_it = entries.iter().any(|own| own.key == given.key);
                if concerns && !has_it && common::is_common(role, &given.key) {
                    entries.push(given.clone());
                }
            }
        }
        // What is wrong with the node as others see it is shown where it stands.
        let (part, origin) = match entry.key == OUTPUT {
            true => (String::new(), node.get("type").map_or(node.span, |kind| kind.span)),
            false => (entry.key.clone(), entry.key_span),
        };
        Expanded { role, part, settings, origin }
    }

    /// Puts what a node says in the place of `${settings.NAME}`. An entry for which it says nothing is left out.
    fn fill(&self, yaml: &mut Yaml, node: &Yaml) {
        let value = |name: &str| {
            let setting = self.settings.iter().find(|setting| setting.name == name);
            setting.and_then(|setting| setting.written(node))
        };
        match &mut yaml.content {
            Content::List(items) => items.iter_mut().for_each(|item| self.fill(item, node)),
            Content::Map(entries) => {
                entries.retain(|entry| whole_name(&entry.value).is_none_or(|n| value(n).is_some()));
                entries.iter_mut().for_each(|entry| self.fill(&mut entry.value, node));
            }
            Content::Scalar(_) => match whole_name(yaml) {
                Some(name) => {
                    if let Some(value) = value(name) {
                        *yaml = value.clone();
                    }
                }
                None => fill_text(yaml, value),
            },
        }
    }

    /// Names of parts are told from those of the pipeline by a colon in front.
    fn rewire(&self, from: &mut Yaml, input: Option<&Yaml>) {
        let inputs: Vec<Yaml> = words(input).cloned().collect();
        let mut all = Vec::new();
        for word in words(Some(from)) {
            match word.text() {
                Some(INPUT) => all.extend(inputs.iter().cloned()),
                _ => {
                    let mut word = word.clone();
                    self.name_sibling(&mut word);
                    all.push(word);
                }
            }
        }
        from.content = Content::List(all);
    }

    fn name_sibling(&self, yaml: &mut Yaml) {
        let Content::Scalar(scalar) = &mut yaml.content else { return };
        let (node, output) = match scalar.text.split_once('.') {
            Some((node, output)) => (node, Some(output)),
            None => (scalar.text.as_str(), None),
        };
        if self.parts.iter().all(|(_, entry)| entry.key != node) {
            return;
        }
        let part = if node == OUTPUT { "" } else { node };
        scalar.text = match output {
            Some(output) => format!(":{part}.{output}"),
            None => format!(":{part}"),
        };
        scalar.style = Style::Quoted;
    }
}

/// The texts in `from:`, be it one or a list.
fn words(from: Option<&Yaml>) -> impl Iterator<Item = &Yaml> {
    let all = match from.map(|from| (&from.content, from)) {
        Some((Content::List(items), _)) => items.iter().collect(),
        Some((Content::Scalar(_), one)) => vec![one],
        _ => Vec::new(),
    };
    all.into_iter()
}

/// The setting for which the whole of a text stands.
fn whole_name(yaml: &Yaml) -> Option<&str> {
    let name = open(yaml)?.strip_prefix(BEGIN)?.strip_suffix('}')?;
    (!name.contains(['$', '}'])).then_some(name)
}

/// A text in which settings are filled in: none of several lines, which may be a script.
fn open(yaml: &Yaml) -> Option<&str> {
    let scalar = yaml.scalar()?;
    let is_line = !matches!(scalar.style, Style::Literal | Style::Folded);
    is_line.then_some(scalar.text.as_str())
}

fn each_name(yaml: &Yaml, see: &mut impl FnMut(&str, &Yaml)) {
    match &yaml.content {
        Content::List(items) => items.iter().for_each(|item| each_name(item, see)),
        Content::Map(entries) => entries.iter().for_each(|entry| each_name(&entry.value, see)),
        Content::Scalar(_) => {
            let pieces = open(yaml).unwrap_or_default().split(BEGIN).skip(1);
            pieces.filter_map(|piece| piece.split_once('}')).for_each(|(name, _)| see(name, yaml));
        }
    }
}

/// Fills settings into a part of a text. What came out of a variable stays hidden.
fn fill_text<'a>(yaml: &mut Yaml, value: impl Fn(&str) -> Option<&'a Yaml>) {
    let Some(written) = open(yaml).filter(|text| text.contains(BEGIN)).map(str::to_owned) else {
        return;
    };
    let Content::Scalar(scalar) = &mut yaml.content else { return };
    let mut pieces = written.split(BEGIN);
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, behind) = piece.split_once('}').unwrap_or((piece, ""));
        let given: Option<&Scalar> = value(name).and_then(Yaml::scalar);
        text += given.map_or("", |given| given.text.as_str());
        text += behind;
        if given.is_some_and(|given| given.template.is_some()) {
            scalar.template = Some(written.clone());
        }
    }
    scalar.text = text;
}
