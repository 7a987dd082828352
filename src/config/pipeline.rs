//! One file's tree to connections and nodes.

use std::{path::Path, sync::Arc};

use forebay_sdk::{
    Finding, Role, Span,
    finding::{nearest, quoted},
    rules::SETTING_TYPE,
};
use forebay_yaml::{Content, Entry, Yaml, type_called};

use super::{
    draft::{Draft, Pipeline},
    folder::Folder,
    graph::Name,
    read_part::{Called, Reader},
    types::{DESCRIPTION, ExpansionEntry},
};
use crate::rules::UNKNOWN_SECTION;

pub(super) fn read(tree: Yaml, file: u32, path: &Path, folder: &Folder, draft: &mut Draft) {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let types = Arc::clone(&draft.types);
    let pipeline = name.clone();
    let mut reader = Reader { is_whole: true, pipeline, path, folder, types: &types, draft };
    reader.file(tree, Span::new(file, 0..0));
    let is_whole = reader.is_whole;
    draft.pipelines.push(Pipeline { name, file, is_whole });
}

/// What a section of a file holds.
enum Section<'a> {
    Description,
    Parts(Role),
    /// Things that stand for several parts.
    Wholes(&'a ExpansionEntry),
}

impl<'a> Reader<'a> {
    fn file(&mut self, tree: Yaml, begin: Span) {
        let Content::Map(sections) = tree.content else {
            let label = format!("expected sections such as `sources:`, found {}", tree.describe());
            let span = first_line(&self.draft.texts.text(begin.file), tree.span);
            self.is_whole = false;
            return self.error(&UNKNOWN_SECTION, span, NO_PIPELINE, label);
        };
        self.file_name_is_fit(begin);
        // They hold anchors.
        let sections: Vec<Entry> =
            sections.into_iter().filter(|section| !section.key.starts_with("x-")).collect();
        let is_one = sections.iter().any(|section| self.meant(&section.key).is_some());
        match sections.first() {
            Some(first) if !is_one => self.not_a_pipeline(first),
            _ => sections.into_iter().for_each(|section| self.section(section)),
        }
    }

    /// The section that a key is, or was probably meant to be.
    fn meant(&self, key: &str) -> Option<&'a str> {
        let exact = self.types.sections().find(|section| *section == key);
        exact
            .or_else(|| nearest(key, self.types.sections()))
            .or_else(|| type_called(key, self.types.sections()))
    }

    fn section_called(&self, name: &str) -> Option<Section<'a>> {
        if name == DESCRIPTION {
            return Some(Section::Description);
        }
        let role = Role::ALL.into_iter().find(|role| role.section() == name);
        let wholes = || self.types.section(name).map(|entry| Section::Wholes(entry));
        role.map(Section::Parts).or_else(wholes)
    }

    fn section(&mut self, mut section: Entry) {
        let meant = self.meant(&section.key);
        if meant != Some(section.key.as_str()) {
            self.unknown_section(&section, meant);
        }
        // A section that is misspelt is read as what it was meant to be: its nodes are there.
        match meant.and_then(|name| self.section_called(name)) {
            None => (),
            Some(Section::Description) => self.description(&section.value),
            Some(Section::Parts(role)) => {
                self.take_back_settings(role, &mut section.value);
                self.entries(section, role.section(), |reader, entry| reader.part(role, entry));
            }
            Some(Section::Wholes(whole)) => {
                let name = whole.expansion.name();
                self.entries(section, name, |reader, entry| reader.whole(whole, entry));
            }
        }
    }

    /// A setting that stands as far to the left as its node is read as what it was meant to be.
    fn take_back_settings(&mut self, role: Role, section: &mut Yaml) {
        let Content::Map(entries) = &mut section.content else { return };
        let mut kept: Vec<Entry> = Vec::new();
        for entry in std::mem::take(entries) {
            match kept.last_mut() {
                Some(above) if self.is_setting_of(role, above, &entry) => {
                    self.too_far_left(role, above, &entry);
                    above.value.span.end = entry.value.span.end.max(entry.key_span.end);
                    match &mut above.value.content {
                        Content::Map(settings) => settings.push(entry),
                        empty => *empty = Content::Map(vec![entry]),
                    }
                }
                _ => kept.push(entry),
            }
        }
        *entries = kept;
    }

    /// Whether an entry of a section is no node of its own, but a setting of the one above it.
    fn is_setting_of(&mut self, role: Role, above: &Entry, entry: &Entry) -> bool {
        let is_open = above.value.entries().is_some() || above.value.is_null();
        let is_node = entry.value.is_null() || entry.value.get("type").is_some();
        if !is_open || is_node || above.value.get(&entry.key).is_some() {
            return false;
        }
        let (types, draft) = (self.types, &mut *self.draft);
        let mut has_it = |name: &str| {
            let Some(node_type) = types.get(role, name) else { return false };
            let schema = draft.schema(Some(role), name, || node_type.schema());
            schema["properties"].get(&entry.key).is_some()
        };
        match above.value.get("type").and_then(Yaml::text) {
            Some(name) => has_it(name),
            None => types.names(role).any(has_it),
        }
    }

    fn too_far_left(&mut self, role: Role, above: &Entry, entry: &Entry) {
        let text = self.draft.texts.text(entry.key_span.file);
        let column = |span: Span| {
            let before = &text[..span.range().start];
            before.len() - before.rfind('\n').map_or(0, |newline| newline + 1)
        };
        let first = above.value.entries().and_then(|settings| settings.first());
        let wanted = first.map_or(column(above.key_span) + 2, |first| column(first.key_span));
        let here = column(entry.key_span);
        let message =
            format!("`{}` belongs to {} `{}` above it", entry.key, role.noun(), above.key);
        let label = format!("expected {wanted} spaces in front, found {here}");
        let finding = Finding::error(&SETTING_TYPE, entry.key_span, message, label);
        let is_one_line =
            text.get(entry.value.span.range()).is_some_and(|text| !text.contains('\n'));
        let finding = match wanted.checked_sub(here).filter(|_| is_one_line) {
            Some(missing) => {
                let start = Span { end: entry.key_span.start, ..entry.key_span };
                finding.edit("this would be right", start, " ".repeat(missing))
            }
            None => finding,
        };
        self.draft.findings.push(finding.context(above.key_span, ""));
    }

    fn entries(&mut self, section: Entry, noun: &str, mut read: impl FnMut(&mut Self, Entry)) {
        match section.value.content {
            Content::Map(entries) => entries.into_iter().for_each(|entry| read(self, entry)),
            _ if section.value.is_null() => (),
            _ => self.no_names(noun, &section),
        }
    }

    /// A section that is not a map. Its nodes are not known, so nobody can say that one is missing.
    fn no_names(&mut self, noun: &str, section: &Entry) {
        self.is_whole = false;
        let message = format!("`{}` holds no {noun}", section.key);
        let label = format!("expected names with settings, found {}", section.value.describe());
        let finding = Finding::error(&SETTING_TYPE, section.value.span, message, label);
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
        let label = "expected sections such as `sources:`";
        let finding = Finding::error(&UNKNOWN_SECTION, first.key_span, NO_PIPELINE, label);
        let sections = quoted(self.types.sections());
        let help = format!("sections are {sections}; keep other files out of this folder");
        self.draft.findings.push(finding.help(help));
    }

    fn description(&mut self, value: &Yaml) {
        if value.text().is_none() {
            let label = format!("expected text, found {}", value.describe());
            self.error(&SETTING_TYPE, value.span, "`description` has the wrong type", label);
        }
    }

    fn unknown_section(&mut self, section: &Entry, meant: Option<&str>) {
        // What stands below one that nobody knows may be nodes.
        self.is_whole &= meant.is_some() || section.value.scalar().is_some();
        let message = format!("there is no section `{}`", section.key);
        let finding = Finding::error(&UNKNOWN_SECTION, section.key_span, message, "");
        self.draft.findings.push(match meant {
            Some(near) => {
                finding.edit("a section with a similar name exists", section.key_span, near)
            }
            None => finding.help(format!("sections are {}", quoted(self.types.sections()))),
        });
    }

    /// A connection or a node, or what stands for several and is written like one.
    fn part(&mut self, role: Role, entry: Entry) {
        if self.is_section_inside(&entry, role.section()) {
            return self.section(entry);
        }
        let type_name = entry.value.get("type").and_then(Yaml::text);
        if let Some(whole) = type_name.and_then(|name| self.types.expansion(role, name)) {
            return self.named(entry, role.noun(), |reader, entry| {
                reader.expand(Some(role), whole, entry);
            });
        }
        self.named(entry, role.noun(), |reader, entry| {
            let name: Name = match role {
                Role::Connection => entry.key.as_str().into(),
                _ => format!("{}/{}", reader.pipeline, entry.key).into(),
            };
            let called = Called { role, name, short: entry.key, span: entry.key_span, whole: None };
            let part = reader.read_part(called, entry.value);
            reader.draft.parts.extend(part);
        });
    }

    /// What stands for several, in a section of its own.
    fn whole(&mut self, whole: &ExpansionEntry, entry: Entry) {
        if self.is_section_inside(&entry, whole.expansion.name()) {
            return self.section(entry);
        }
        self.named(entry, whole.expansion.noun(), |reader, entry| {
            reader.expand(None, whole, entry);
        });
    }

    /// Whether a section stands too far to the right, which is reported.
    fn is_section_inside(&mut self, entry: &Entry, around: &str) -> bool {
        let key = entry.key.as_str();
        let is_section = key != DESCRIPTION && self.types.sections().any(|name| name == key);
        if !is_section || entry.value.entries().is_none() || entry.value.get("type").is_some() {
            return false;
        }
        let message = format!("section `{key}` stands inside `{around}`");
        self.error(&UNKNOWN_SECTION, entry.key_span, message, "expected no space in front");
        true
    }

    /// Reads something that has a name. Every finding about it shows the line that names it.
    fn named(&mut self, entry: Entry, noun: &str, read: impl FnOnce(&mut Self, Entry)) {
        let (name, span) = (entry.key.clone(), entry.key_span);
        self.name_is_fit(&name, span, noun);
        let before = self.draft.findings.len();
        read(self, entry);
        for finding in &mut self.draft.findings[before..] {
            if finding.span != Some(span) && finding.context.is_empty() {
                finding.context.push((span, String::new()));
            }
        }
    }

    /// The file's name is the pipeline's.
    fn file_name_is_fit(&mut self, begin: Span) {
        let before = self.draft.findings.len();
        let name = self.pipeline.clone();
        self.name_is_fit(&name, begin, "pipeline file");
        let fit = |c: char| if c.is_alphanumeric() || c == '_' { c } else { '-' };
        let better: String = name.chars().map(fit).collect();
        for finding in &mut self.draft.findings[before..] {
            finding.help = Some(format!("rename the file to `{better}.yaml`"));
        }
    }
}

const NO_PIPELINE: &str = "file is not a pipeline";

/// What is wrong with a whole file is shown at its first line.
fn first_line(text: &str, span: Span) -> Span {
    let range = span.range();
    let length = text.get(range.clone()).and_then(|text| text.lines().next()).map_or(0, str::len);
    Span::new(span.file, range.start..range.start + length)
}
