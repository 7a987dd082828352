//! One connection or node: its type, its settings, and what it is wired to.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
};

use forebay_sdk::{
    Finding, Level, NodeType, Role, Rule, Span,
    finding::{nearest, quoted},
    rules::{MISSING_SETTING, SETTING_TYPE, UNKNOWN_SETTING},
};
use forebay_yaml::{self as yaml, Content, Scalar, Yaml};

use serde_json::Value;

use super::{
    common::{self, Common},
    draft::{Draft, How, Part, Upstream, Uses},
    folder::{self, Folder},
    graph::Name,
    inside::{file_of, inside},
    modules,
    places::{Places, is_script},
    types::{NodeTypeEntry, Types},
};
use crate::rules::{BAD_NAME, SCRIPT_MISSING, UNKNOWN_TYPE};

/// A script is code for people to read, not data.
const MOST_SCRIPT_BYTES: usize = 256 * 1024;

/// The list of all whom the world trusts has a quarter of it.
const MOST_CERTIFICATE_BYTES: usize = 1024 * 1024;

/// Reads the parts of one file.
pub(super) struct Reader<'a> {
    /// Whether all nodes of the file are known.
    pub is_whole: bool,
    pub pipeline: String,
    pub path: &'a Path,
    pub folder: &'a Folder,
    pub types: &'a Types,
    pub draft: &'a mut Draft,
}

/// What a part is called, and where that stands.
pub(super) struct Called<'a> {
    pub role: Role,
    pub name: Name,
    pub short: String,
    pub span: Span,
    /// What it was taken out of, when it was not written as it is.
    pub whole: Option<&'a Whole<'a>>,
}

/// Something that several parts were made of.
pub(super) struct Whole<'a> {
    pub name: &'a str,
    /// What it is, as its author wrote.
    pub type_name: &'a str,
    /// The section in which it is a type.
    pub role: Option<Role>,
    /// The YAML that made the part at hand.
    pub origin: Span,
}

impl Whole<'_> {
    /// The name of a part within the pipeline. Users cannot write such a name.
    pub(super) fn short(&self, part: &str) -> String {
        match part {
            "" => self.name.to_owned(),
            part => format!("{}:{part}", self.name),
        }
    }

    /// The name of a part in the folder.
    pub(super) fn full(&self, pipeline: &str, role: Role, part: &str) -> Name {
        let short = self.short(part);
        // A connection has its name in all of the folder, any other whole in its pipeline.
        let is_global = part.is_empty() || self.role == Some(Role::Connection);
        match role {
            Role::Connection if is_global => short.into(),
            _ => format!("{pipeline}/{short}").into(),
        }
    }
}

impl<'a> Reader<'a> {
    /// Reads a part. None when there is nothing to read.
    pub(super) fn read_part(&mut self, called: Called<'_>, settings: Yaml) -> Option<Part> {
        let Called { role, name, short, span, whole } = called;
        if settings.entries().is_none() {
            self.no_settings(role.noun(), &short, "a map with a `type`", span, &settings);
            return None;
        }
        let mut part = Part {
            name,
            short,
            pipeline: self.pipeline.clone(),
            name_span: span,
            origin: whole.map(|whole| whole.origin),
            taken_from: whole.map(|whole| whole.type_name.to_owned()),
            role,
            type_name: String::new(),
            node_type: None,
            common_settings: Yaml::empty_map(settings.span),
            common: Common::default(),
            places: Places::default(),
            configured: None,
            files: 0,
            uses: None,
            // What a node reads is known even when its type is not, so that its wires can be checked.
            has_from: settings.get("from").is_some(),
            from: upstream(settings.get("from"), whole),
            settings,
        };
        if let Some(entry) = self.find_type(&mut part) {
            part.node_type = Some(Arc::clone(&entry.node_type));
            self.configure(&mut part, entry, whole);
        }
        Some(part)
    }

    /// Says that something has a name and nothing else.
    pub(super) fn no_settings(
        &mut self,
        noun: &str,
        short: &str,
        expected: &str,
        name: Span,
        found: &Yaml,
    ) {
        let message = format!("{noun} `{short}` has no settings");
        let label = format!("expected {expected}, found {}", found.describe());
        let span = if found.is_null() { name } else { found.span };
        self.error(&SETTING_TYPE, span, message, label);
    }

    fn find_type(&mut self, part: &mut Part) -> Option<&'a NodeTypeEntry> {
        let noun = part.role.noun();
        let Some(written) = part.settings.get("type") else {
            let keys = part.settings.entries().unwrap_or_default();
            if let Some(near) = keys.iter().find(|entry| nearest(&entry.key, ["type"]).is_some()) {
                let message = format!("{noun} `{}` has no setting `{}`", part.short, near.key);
                let finding = Finding::error(&UNKNOWN_SETTING, near.key_span, message, "");
                let title = "a setting with a similar name exists";
                self.draft.findings.push(finding.edit(title, near.key_span, "type"));
                return None;
            }
            let message = format!("{noun} `{}` needs `type`", part.short);
            let help = format!("types of {noun} are {}", quoted(self.types.names(part.role)));
            let finding =
                Finding::error(&MISSING_SETTING, part.span(), message, "`type` is missing");
            self.draft.findings.push(finding.help(help));
            return None;
        };
        let Some(name) = written.scalar().and_then(Scalar::as_text).map(str::to_owned) else {
            let message = format!("`type` of {noun} `{}` has the wrong type", part.short);
            let label = format!("expected text, found {}", written.describe());
            let help = format!("types of {noun} are {}", quoted(self.types.names(part.role)));
            let finding = Finding::error(&SETTING_TYPE, written.span, message, label);
            self.draft.findings.push(finding.help(help));
            return None;
        };
        part.type_name.clone_from(&name);
        let entry = self.types.get(part.role, &name);
        if entry.is_none() {
            let finding = self.unknown_type(part.role, &name, written.span);
            self.draft.findings.push(finding);
        }
        entry.map(|entry| &**entry)
    }

    fn unknown_type(&self, role: Role, name: &str, span: Span) -> Finding {
        let noun = role.noun();
        let message = format!("there is no {noun} type `{name}`");
        let finding = |label: String| Finding::error(&UNKNOWN_TYPE, span, message, label);
        if self.types.expansion(role, name).is_some() {
            let section = role.section();
            return finding(format!("`{name}` stands for several nodes: only below `{section}`"));
        }
        let has_it = |role: &Role| self.types.names(*role).any(|other| other == name);
        let elsewhere: Vec<&str> = Role::ALL.into_iter().filter(has_it).map(Role::noun).collect();
        let finding = match elsewhere.as_slice() {
            [] => finding(String::new()),
            nouns => finding(format!("`{name}` is a {}, not a {noun}", nouns.join(" or a "))),
        };
        let near = nearest(name, self.types.names(role));
        match near.or_else(|| yaml::type_called(name, self.types.names(role))) {
            Some(near) => finding.edit("a type with a similar name exists", span, near),
            None => finding.help(format!("types of {noun} are {}", quoted(self.types.names(role)))),
        }
    }

    /// Checks all settings, then takes those that every node has and gives the rest to the type.
    fn configure(&mut self, part: &mut Part, entry: &NodeTypeEntry, whole: Option<&Whole<'_>>) {
        let before = self.draft.findings.len();
        let schema = self.draft.schema(Some(part.role), &part.type_name, || entry.schema());
        self.include_scripts(part, entry, &schema);
        self.take_in_profile(part);
        let (title, span) = (part.title(), part.span());
        self.draft.check_settings(&part.settings, &schema, &title, span);
        part.uses = self.uses(part, whole);
        let is_wrong = |finding: &Finding| finding.level == Level::Error;
        let wrong = self.draft.findings[before..].iter().any(is_wrong);
        take_common(part);
        if wrong {
            return;
        }
        let findings = &mut self.draft.findings;
        let resolved = entry.node_type.configure(&part.settings, findings);
        let texts = &self.draft.texts;
        findings.extend(resolved.problems.into_iter().map(|problem| part.place(problem, texts)));
        part.configured = resolved.configured;
        part.places = Places::of(&part.settings, &schema, texts);
        let Some(configured) = &part.configured else { return };
        if !self.folder.is_copy() {
            let wrong = configured.check_files(&self.folder.files);
            findings.extend(wrong.into_iter().map(|problem| part.place(problem, texts)));
        }
        let (written, can) = (&part.common_settings, configured.capabilities());
        let common = common::read(part.role, written, &part.title(), can, findings);
        if let Some(common) = common {
            part.common = common;
        }
        part.files = self.read_files(&configured.files(&self.folder.files));
    }

    /// A hash of what is in files that a node reads as it runs. A change of them is noticed.
    fn read_files(&mut self, paths: &[PathBuf]) -> u64 {
        let mut hasher = DefaultHasher::new();
        for path in paths {
            self.draft.watched.file(path);
            // What is wrong with it was said before.
            if let Ok(text) = folder::read_text(path, MOST_CERTIFICATE_BYTES) {
                self.draft.note_unshown(&text);
                text.hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// The connection of a node. One that is written in place becomes a connection of its own.
    fn uses(&mut self, part: &Part, whole: Option<&Whole<'_>>) -> Option<Uses> {
        let entry = part.settings.entry("connection")?;
        if entry.value.entries().is_none() {
            let text = entry.value.text()?;
            let span = entry.value.span;
            return Some(match whole.zip(text.strip_prefix(':')) {
                Some((whole, part)) => {
                    let connection = whole.full(&self.pipeline, Role::Connection, part);
                    Uses { connection, span, how: How::Sibling }
                }
                None => Uses { connection: text.into(), span, how: How::ByName },
            });
        }
        let own = Called {
            role: Role::Connection,
            name: format!("{}.connection", part.name).into(),
            short: format!("{}.connection", part.short),
            span: entry.key_span,
            whole,
        };
        let connection = Arc::clone(&own.name);
        let own = self.read_part(own, entry.value.clone());
        self.draft.parts.extend(own);
        Some(Uses { connection, span: entry.key_span, how: How::InPlace })
    }

    /// Puts the texts of `.rhai` files in the places of their paths, and what scripts import beside them.
    fn include_scripts(&mut self, part: &mut Part, entry: &NodeTypeEntry, schema: &Value) {
        let Content::Map(settings) = &mut part.settings.content else { return };
        for setting in settings.iter_mut().filter(|one| is_script(schema, &one.key)) {
            self.include_script(&mut setting.value);
            self.import_modules(&mut setting.value, &*entry.node_type);
        }
    }

    fn include_script(&mut self, value: &mut Yaml) {
        let span = value.span;
        let Content::Scalar(scalar) = &mut value.content else { return };
        if scalar.text.contains('\n') || !scalar.text.ends_with(".rhai") {
            return;
        }
        let beside = self.path.parent().unwrap_or(Path::new(""));
        let path = beside.join(&scalar.text);
        self.draft.watched.file(&path);
        let shown = self.folder.shown(&path);
        match self.folder.read(&path, MOST_SCRIPT_BYTES) {
            Ok(text) => {
                scalar.included = Some(self.draft.texts.add(shown, text.clone()));
                scalar.text = text;
            }
            Err(problem) => {
                let message = format!("script {shown} {}", problem.message);
                let finding = Finding::error(&SCRIPT_MISSING, span, message, problem.label);
                let help = format!("looked for {}", folder::whole(&path).display());
                self.draft.findings.push(finding.help(help));
            }
        }
    }

    /// Names of modules are relative to the folder of the pipeline, wherever the script stands.
    fn import_modules(&mut self, value: &mut Yaml, node_type: &dyn NodeType) {
        let Some(script) = value.text() else { return };
        let text = file_of(value).map_or_else(|| "".into(), |file| self.draft.texts.text(file));
        let place = |at| inside(value, at, &text).unwrap_or(value.span);
        let beside = self.path.parent().unwrap_or(Path::new(""));
        let imports = |text: &str| node_type.imports(text);
        let reading = &mut self.draft.reading(self.folder);
        let modules = modules::read(script, beside, &imports, &place, reading);
        if let Content::Scalar(scalar) = &mut value.content {
            scalar.modules = modules;
        }
    }

    /// Names are used in `from: node.output` and in `pipeline/node`.
    pub(super) fn name_is_fit(&mut self, name: &str, span: Span, noun: &str) {
        let fits = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        let label = match name {
            name if name.is_empty() || !name.chars().all(fits) => {
                "expected letters, digits, `-` and `_`"
            }
            name if name.starts_with('-') => "expected a letter or a digit in front",
            _ => return,
        };
        let message = format!("`{name}` cannot be the name of a {noun}");
        self.error(&BAD_NAME, span, message, label);
    }

    pub(super) fn error(
        &mut self,
        rule: &'static Rule,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
    ) {
        self.draft.findings.push(Finding::error(rule, span, message, label));
    }
}

/// Takes the settings that every node has out of those of the type.
fn take_common(part: &mut Part) {
    let Content::Map(entries) = &mut part.settings.content else { return };
    let is_common = |key: &str| common::is_common(part.role, key);
    let (common, own) =
        std::mem::take(entries).into_iter().partition(|entry| is_common(&entry.key));
    *entries = own;
    part.common_settings.content = Content::Map(common);
}

/// `from: a`, `from: a.errors`, `from: [a, b]`. What is neither was reported with the settings.
fn upstream(from: Option<&Yaml>, whole: Option<&Whole<'_>>) -> Vec<Upstream> {
    let read = |yaml: &Yaml| {
        let text = yaml.scalar()?.as_text()?;
        let (node, output) = match text.split_once('.') {
            Some((node, output)) => (node, Some(output.to_owned())),
            None => (text, None),
        };
        let sibling = whole.zip(node.strip_prefix(':'));
        let (node, is_sibling) = match sibling {
            Some((whole, part)) => (whole.short(part), true),
            None => (node.to_owned(), false),
        };
        Some(Upstream { node, output, span: yaml.span, written: text.into(), is_sibling })
    };
    match from.map(|from| (&from.content, from)) {
        Some((Content::List(items), _)) => items.iter().filter_map(read).collect(),
        Some((Content::Scalar(_), from)) if !from.is_null() => read(from).into_iter().collect(),
        _ => Vec::new(),
    }
}
