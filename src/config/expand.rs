//! Takes apart what stands for several nodes. What comes out is read as if its author had written it.

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use forebay_sdk::{Finding, Level, Role, Rule, Span};
use forebay_yaml::{Content, Entry, Yaml};

use super::{
    read_part::{Called, Reader, Whole},
    types::ExpansionEntry,
};

impl Reader<'_> {
    /// Reads one thing as the connections and nodes that it stands for.
    pub(super) fn expand(&mut self, role: Option<Role>, entry: &ExpansionEntry, written: Entry) {
        let Entry { key: name, key_span, value: settings } = written;
        let expansion = Arc::clone(&entry.expansion);
        let title = match role {
            Some(role) => format!("{} {} `{name}`", expansion.name(), role.noun()),
            None => format!("{} `{name}`", expansion.noun()),
        };
        let before = self.draft.findings.len();
        if settings.entries().is_none() {
            self.no_settings(expansion.noun(), &name, "a map", key_span, &settings);
        } else {
            let schema = self.draft.schema(role, expansion.name(), || entry.schema());
            self.draft.check_settings(&settings, &schema, &title, key_span);
        }
        let is_wrong = |finding: &Finding| finding.level == Level::Error;
        if self.draft.findings[before..].iter().any(is_wrong) {
            // Nobody knows what it would have been taken apart into.
            self.is_whole = false;
            return;
        }
        let beside = expansion.beside();
        let made = expansion.expand(&name, &settings, &mut self.draft.findings);
        for part in made {
            let mut settings = part.settings;
            place(&mut settings, part.origin);
            if !part.part.is_empty() {
                self.name_is_fit(&part.part, part.origin, "part");
            }
            let type_name = expansion.name();
            let whole = Whole { name: &name, type_name, role, origin: part.origin };
            let called = Called {
                role: part.role,
                name: whole.full(&self.pipeline, part.role, &part.part),
                short: whole.short(&part.part),
                span: key_span,
                whole: Some(&whole),
            };
            let mut reader = Reader {
                is_whole: self.is_whole,
                pipeline: self.pipeline.clone(),
                path: beside.as_deref().unwrap_or(self.path),
                folder: self.folder,
                types: self.types,
                draft: &mut *self.draft,
            };
            let part = reader.read_part(called, settings);
            self.is_whole = reader.is_whole;
            self.draft.parts.extend(part);
        }
        self.draft.expanded.insert(expansion.name().to_owned());
        self.once(before);
    }

    /// One mistake may end up in several parts.
    fn once(&mut self, before: usize) {
        let mut said: BTreeSet<(&Rule, Span)> = BTreeSet::new();
        let findings = self.draft.findings.split_off(before);
        let is_new =
            |finding: &Finding| finding.span.is_none_or(|span| said.insert((finding.rule, span)));
        self.draft.findings.extend(findings.into_iter().filter(is_new));
    }
}

/// Gives what has no place, because it was made, that of what made it.
fn place(yaml: &mut Yaml, origin: Span) {
    let settle = |span: &mut Span| {
        if *span == Span::default() {
            *span = origin;
        }
    };
    settle(&mut yaml.span);
    match &mut yaml.content {
        Content::Scalar(_) => (),
        Content::List(items) => items.iter_mut().for_each(|item| place(item, origin)),
        Content::Map(entries) => {
            for entry in entries {
                settle(&mut entry.key_span);
                place(&mut entry.value, origin);
            }
        }
    }
}
