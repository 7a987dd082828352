//! One file's tree to connections and nodes.

use std::{path::Path, sync::Arc, time::Duration};

use forebay_sdk::{
    Configured, Finding, Level, Role, Span,
    finding::nearest,
    units::form,
    yaml::{self, Content, Entry, Hidden, Scalar, Yaml},
};

use super::{
    buffer::{Batch, BatchSettings, Buffer, BufferSettings, QueueSettings},
    draft::{Draft, Input, Part, Pipeline, Uses},
    folder::{self, Folder},
    graph::Name,
    types::{COMMON, NodeTypeEntry, Types},
};

/// A script is code for people to read, not data.
const MOST_SCRIPT_BYTES: usize = 256 * 1024;

pub(super) fn read(
    tree: Yaml,
    file: u32,
    path: &Path,
    folder: &Folder,
    types: &Types,
    draft: &mut Draft,
) {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut reader = Reader { is_whole: true, pipeline: name.clone(), path, folder, types, draft };
    match tree.content {
        Content::Map(sections) => {
            reader.file_name_is_fit(&name, Span::new(file, 0..0));
            match sections.iter().any(|section| meant(&section.key).is_some())
                || sections.is_empty()
            {
                true => sections.into_iter().for_each(|section| reader.section(section)),
                false => reader.not_a_pipeline(&sections[0]),
            }
        }
        _ => {
            let label = format!("expected sections such as `sources:`, found {}", tree.describe());
            let span = first_line(&reader.draft.texts.text(file), tree.span);
            let message = "file is not a pipeline";
            reader.is_whole = false;
            reader.draft.findings.push(Finding::error("unknown-section", span, message, label));
        }
    }
    let is_whole = reader.is_whole;
    draft.pipelines.push(Pipeline { name, file, is_whole });
}

/// What stands at the top of a pipeline file.
const SECTIONS: [&str; 5] = ["description", "connections", "sources", "transforms", "sinks"];

/// The section that a key is, or was probably meant to be.
fn meant(key: &str) -> Option<&'static str> {
    let exact = SECTIONS.into_iter().find(|section| *section == key);
    exact.or_else(|| nearest(key, SECTIONS))
}

struct Reader<'a> {
    /// Whether all nodes of the file are known.
    is_whole: bool,
    pipeline: String,
    path: &'a Path,
    folder: &'a Folder,
    types: &'a Types,
    draft: &'a mut Draft,
}

impl<'a> Reader<'a> {
    fn section(&mut self, section: Entry) {
        let meant = meant(&section.key);
        if meant != Some(section.key.as_str()) {
            self.unknown_section(&section);
        }
        // A section that is misspelt is read as what it was meant to be: its nodes are there.
        let Some(role) = Role::ALL.into_iter().find(|role| Some(role.section()) == meant) else {
            if meant.is_some() {
                self.description(&section.value);
            }
            return;
        };
        match section.value.content {
            Content::Map(entries) => entries.into_iter().for_each(|entry| self.part(role, entry)),
            _ if section.value.is_null() => (),
            _ => self.no_names(role, &section),
        }
    }

    /// A section that is not a map. Its nodes are not known, so nobody can say that one is missing.
    fn no_names(&mut self, role: Role, section: &Entry) {
        self.is_whole = false;
        let message = format!("`{}` holds no {}", section.key, role.section());
        let label = format!("expected names with settings, found {}", section.value.describe());
        let finding = Finding::error("setting-type", section.value.span, message, label);
        let first = match &section.value.content {
            Content::List(items) => items.first(),
            _ => None,
        };
        // `- name: meter`, `- meter:` and `- meter`.
        let name = first.and_then(|first| match first.entries() {
            Some(entries) => match first.get("name").and_then(Yaml::text) {
                Some(name) => Some(name.to_owned()),
                None => entries.first().map(|entry| entry.key.clone()),
            },
            None => first.text().map(str::to_owned),
        });
        self.draft.findings.push(match name {
            Some(name) => finding.help(format!(
                "write `{name}:` without a dash, and its settings below it, further to the right"
            )),
            None => finding,
        });
    }

    fn not_a_pipeline(&mut self, first: &Entry) {
        self.is_whole = false;
        let message = "file is not a pipeline";
        let label = "expected sections such as `sources:`";
        let finding = Finding::error("unknown-section", first.key_span, message, label);
        let names: Vec<String> = SECTIONS.iter().map(|name| format!("`{name}`")).collect();
        self.draft.findings.push(finding.help(format!(
            "sections are {}; keep other files out of this folder",
            names.join(", ")
        )));
    }

    fn description(&mut self, value: &Yaml) {
        if value.text().is_none() {
            let label = format!("expected text, found {}", value.describe());
            self.error("setting-type", value.span, "`description` has the wrong type", label);
        }
    }

    fn unknown_section(&mut self, section: &Entry) {
        // What stands below one that nobody knows may be nodes.
        self.is_whole &= meant(&section.key).is_some() || section.value.scalar().is_some();
        let message = format!("there is no section `{}`", section.key);
        let finding = Finding::error("unknown-section", section.key_span, message, "");
        self.draft.findings.push(match meant(&section.key) {
            Some(near) => {
                finding.edit("a section with a similar name exists", section.key_span, near)
            }
            None => {
                let names: Vec<String> = SECTIONS.iter().map(|name| format!("`{name}`")).collect();
                finding.help(format!("sections are {}", names.join(", ")))
            }
        });
    }

    /// A connection or a node.
    fn part(&mut self, role: Role, entry: Entry) {
        let is_section = SECTIONS.contains(&entry.key.as_str()) && entry.key != "description";
        if is_section && entry.value.entries().is_some() && entry.value.get("type").is_none() {
            let message = format!("section `{}` stands inside `{}`", entry.key, role.section());
            let label = "expected no space in front";
            self.error("unknown-section", entry.key_span, message, label);
            return self.section(entry);
        }
        self.name_is_fit(&entry.key, entry.key_span, role.noun());
        let name: Name = match role {
            Role::Connection => entry.key.as_str().into(),
            _ => format!("{}/{}", self.pipeline, entry.key).into(),
        };
        let before = self.draft.findings.len();
        let part = self.read_part(role, name, &entry.key, entry.key_span, entry.value);
        // Every finding about a node shows the line that names it.
        for finding in &mut self.draft.findings[before..] {
            if finding.span != Some(entry.key_span) && finding.context.is_empty() {
                finding.context.push((entry.key_span, String::new()));
            }
        }
        self.draft.parts.extend(part);
    }

    fn read_part(
        &mut self,
        role: Role,
        name: Name,
        short: &str,
        name_span: Span,
        settings: Yaml,
    ) -> Option<Part> {
        if settings.entries().is_none() {
            let message = format!("{} `{short}` has no settings", role.noun());
            let label = format!("expected a map with a `type`, found {}", settings.describe());
            let span = if settings.is_null() { name_span } else { settings.span };
            self.error("setting-type", span, message, label);
            return None;
        }
        let mut part = Part {
            name,
            short: short.to_owned(),
            pipeline: self.pipeline.clone(),
            name_span,
            role,
            type_name: String::new(),
            settings,
            common: Vec::new(),
            configured: None,
            uses: None,
            has_from: false,
            from: Vec::new(),
            buffer: Buffer::default(),
            must_deliver: false,
            batch: Batch { max_messages: 1, max_wait: Duration::ZERO },
        };
        // What a node reads is known even when its type is not, so that its wires can be checked.
        part.has_from = part.settings.get("from").is_some();
        part.from = inputs(part.settings.get("from"));
        if let Some(entry) = self.find_type(&mut part) {
            self.configure(&mut part, entry);
        }
        Some(part)
    }

    fn find_type(&mut self, part: &mut Part) -> Option<&'a NodeTypeEntry> {
        let noun = part.role.noun();
        let Some(written) = part.settings.get("type") else {
            let keys = part.settings.entries().unwrap_or_default();
            if let Some(near) = keys.iter().find(|entry| nearest(&entry.key, ["type"]).is_some()) {
                let message = format!("{noun} `{}` has no setting `{}`", part.short, near.key);
                let finding = Finding::error("unknown-setting", near.key_span, message, "");
                let title = "a setting with a similar name exists";
                self.draft.findings.push(finding.edit(title, near.key_span, "type"));
                return None;
            }
            let message = format!("{noun} `{}` needs `type`", part.short);
            let help = format!("types of {noun} are {}", self.type_names(part.role));
            let finding =
                Finding::error("missing-setting", part.name_span, message, "`type` is missing");
            self.draft.findings.push(finding.help(help));
            return None;
        };
        let Some(name) = written.scalar().and_then(Scalar::as_text).map(str::to_owned) else {
            let message = format!("`type` of {noun} `{}` has the wrong type", part.short);
            let label = format!("expected text, found {}", written.describe());
            let help = format!("types of {noun} are {}", self.type_names(part.role));
            let finding = Finding::error("setting-type", written.span, message, label);
            self.draft.findings.push(finding.help(help));
            return None;
        };
        part.type_name.clone_from(&name);
        let entry = self.types.get(part.role, &name);
        if entry.is_none() {
            let elsewhere: Vec<&str> = Role::ALL
                .into_iter()
                .filter(|role| self.types.get(*role, &name).is_some())
                .map(Role::noun)
                .collect();
            let label = (!elsewhere.is_empty())
                .then(|| format!("`{name}` is a {}, not a {noun}", elsewhere.join(" or a ")));
            let message = format!("there is no {noun} type `{name}`");
            let finding =
                Finding::error("unknown-type", written.span, message, label.unwrap_or_default());
            let near = nearest(&name, self.types.names(part.role));
            self.draft.findings.push(match near {
                Some(near) => finding.edit("a type with a similar name exists", written.span, near),
                None => finding.help(format!("types of {noun} are {}", self.type_names(part.role))),
            });
        }
        entry
    }

    fn type_names(&self, role: Role) -> String {
        let names: Vec<String> = self.types.names(role).map(|name| format!("`{name}`")).collect();
        names.join(", ")
    }

    /// Checks all settings, then takes those that every node has and gives the rest to the type.
    fn configure(&mut self, part: &mut Part, entry: &'a NodeTypeEntry) {
        let before = self.draft.findings.len();
        self.include_scripts(part, entry);
        let findings = &mut self.draft.findings;
        let secrets =
            yaml::check(&part.settings, &entry.schema, &part.title(), part.name_span, findings);
        for secret in secrets {
            self.draft.texts.hide(secret.span);
            self.draft.findings.extend(plain_secret(&secret));
        }
        part.uses = self.uses(part, entry);
        let is_wrong = |finding: &Finding| finding.level == Level::Error;
        let wrong = self.draft.findings[before..].iter().any(is_wrong);
        part.common = strip_common(&mut part.settings);
        if wrong {
            return;
        }
        part.configured = entry.node_type.configure(&part.settings, &mut self.draft.findings);
        let Some(configured) = &part.configured else { return };
        if let Some(buffer) = part.common("buffer") {
            part.buffer = self.buffer(part.role, buffer, entry).unwrap_or(part.buffer);
        }
        part.batch = self.batch(&part.title(), configured, part.common("batch"), entry);
        let must_deliver = part.common("must_deliver");
        part.must_deliver = must_deliver
            .is_some_and(|entry| entry.value.to_value() == serde_json::Value::Bool(true));
    }

    fn buffer(&mut self, role: Role, written: &Entry, entry: &NodeTypeEntry) -> Option<Buffer> {
        if role == Role::Transform {
            return self.read_common::<QueueSettings>(written, entry).map(Buffer::from);
        }
        let settings: BufferSettings = self.read_common(written, entry)?;
        for problem in settings.check() {
            let span = written.value.at(&problem.setting).span;
            self.error(problem.rule, span, problem.message, problem.label);
        }
        Some(settings.into())
    }

    fn batch(
        &mut self,
        title: &str,
        configured: &Arc<dyn Configured>,
        written: Option<&Entry>,
        entry: &NodeTypeEntry,
    ) -> Batch {
        let usual = configured.capabilities().batch_messages;
        let Some(written) = written else {
            return Batch { max_messages: usual, max_wait: Duration::ZERO };
        };
        if usual == 1 {
            let message = format!("{title} writes one message at a time");
            self.error("setting-value", written.key_span, message, "`batch` has no effect here");
        }
        let settings: BatchSettings = self.read_common(written, entry).unwrap_or_default();
        Batch {
            max_messages: settings.max_messages.map_or(usual, |asked| asked as usize),
            max_wait: *settings.max_wait,
        }
    }

    /// Reads a setting that every node has, by its part of the node's schema.
    fn read_common<T: serde::de::DeserializeOwned>(
        &mut self,
        written: &Entry,
        entry: &NodeTypeEntry,
    ) -> Option<T> {
        let schema = &entry.schema["properties"][&written.key];
        yaml::read(&written.value, schema, "setting", &mut self.draft.findings)
    }

    /// The connection of a node. One that is written in place becomes a connection of its own.
    fn uses(&mut self, part: &Part, entry: &NodeTypeEntry) -> Option<Uses> {
        let value = part.settings.get("connection")?;
        let allowed = entry.node_type.connections();
        let in_place = value.entries().is_some();
        let (connection, span) = match &value.content {
            Content::Map(_) => {
                let name: Name = format!("{}.connection", part.name).into();
                let short = format!("{}.connection", part.short);
                let key_span = part.settings.entry("connection").map_or(value.span, |e| e.key_span);
                let own = self.read_part(
                    Role::Connection,
                    Arc::clone(&name),
                    &short,
                    key_span,
                    value.clone(),
                );
                self.draft.parts.extend(own);
                (name, key_span)
            }
            _ => (value.text()?.into(), value.span),
        };
        Some(Uses { connection, span, in_place, allowed })
    }

    /// Puts the text of a `.rhai` file in the place of its path.
    fn include_scripts(&mut self, part: &mut Part, entry: &NodeTypeEntry) {
        let Content::Map(settings) = &mut part.settings.content else { return };
        for setting in settings {
            let pointer = format!("/properties/{}/format", setting.key);
            let is_script = entry.schema.pointer(&pointer).is_some_and(|f| f == form::SCRIPT);
            let Content::Scalar(scalar) = &mut setting.value.content else { continue };
            if !is_script || scalar.text.contains('\n') || !scalar.text.ends_with(".rhai") {
                continue;
            }
            let beside = self.path.parent().unwrap_or(Path::new(""));
            let path = beside.join(&scalar.text);
            self.draft.watched.extend(path.parent().map(Path::to_owned));
            let shown = self.folder.shown(&path);
            match folder::read_text(&path, MOST_SCRIPT_BYTES) {
                Ok(text) => {
                    scalar.included = Some(self.draft.texts.add(shown, text.clone()));
                    scalar.text = text;
                }
                Err(problem) => {
                    let message = format!("script {shown} {}", problem.message);
                    let finding = Finding::error(
                        "script-missing",
                        setting.value.span,
                        message,
                        problem.label,
                    );
                    self.draft.findings.push(finding);
                }
            }
        }
    }

    /// Names are used in `from: node.output` and in `pipeline/node`.
    fn name_is_fit(&mut self, name: &str, span: Span, noun: &str) {
        let fits = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        let label = match name {
            name if name.is_empty() || !name.chars().all(fits) => {
                "expected letters, digits, `-` and `_`"
            }
            name if name.starts_with('-') => "expected a letter or a digit in front",
            _ => return,
        };
        let message = format!("`{name}` cannot be the name of a {noun}");
        self.error("bad-name", span, message, label);
    }

    /// The file's name is the pipeline's.
    fn file_name_is_fit(&mut self, name: &str, span: Span) {
        let before = self.draft.findings.len();
        self.name_is_fit(name, span, "pipeline file");
        let fit = |c: char| if c.is_alphanumeric() || c == '_' { c } else { '-' };
        let better: String = name.chars().map(fit).collect();
        for finding in &mut self.draft.findings[before..] {
            finding.help = Some(format!("rename the file to `{better}.yaml`"));
        }
    }

    fn error(
        &mut self,
        rule: &'static str,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
    ) {
        self.draft.findings.push(Finding::error(rule, span, message, label));
    }
}

/// Files of pipelines are kept in git and passed on.
fn plain_secret(hidden: &Hidden) -> Option<Finding> {
    let setting = hidden.secret_in_clear.as_ref()?;
    let name = setting.rsplit('.').next().unwrap_or(setting);
    let file = name.to_lowercase();
    let message = format!("`{setting}` can be read by everybody who sees this file");
    let label = format!("expected `${{file:secrets/{file}}}`");
    let finding = Finding::warning("plain-secret", hidden.span, message, label);
    let help =
        format!("write it into secrets/{file}, or take it from the environment: ${{env:NAME}}");
    Some(finding.help(help))
}

/// Removes the settings that every node has; returns them.
fn strip_common(settings: &mut Yaml) -> Vec<Entry> {
    let Content::Map(entries) = &mut settings.content else { return Vec::new() };
    let (common, own) =
        std::mem::take(entries).into_iter().partition(|entry| COMMON.contains(&entry.key.as_str()));
    *entries = own;
    common
}

/// `from: a`, `from: a.errors`, `from: [a, b]`. What is neither was reported with the settings.
fn inputs(from: Option<&Yaml>) -> Vec<Input> {
    let read = |yaml: &Yaml| {
        let text = yaml.scalar()?.as_text()?;
        let (node, output) = match text.split_once('.') {
            Some((node, output)) => (node, Some(output.to_owned())),
            None => (text, None),
        };
        Some(Input { node: node.to_owned(), output, span: yaml.span })
    };
    match from.map(|from| (&from.content, from)) {
        Some((Content::List(items), _)) => items.iter().filter_map(read).collect(),
        Some((Content::Scalar(_), from)) if !from.is_null() => read(from).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// What is wrong with a whole file is shown at its first line.
fn first_line(text: &str, span: Span) -> Span {
    let range = span.range();
    let length = text.get(range.clone()).and_then(|text| text.lines().next()).map_or(0, str::len);
    Span::new(span.file, range.start..range.start + length)
}
