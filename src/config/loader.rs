//! Plugins that a folder brings along. Which kinds there are is not known here: whoever puts the
//! program together hands in a [`Loader`].

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use forebay_sdk::{Finding, Plugin, Role, Span, rules::YAML_SYNTAX};
use forebay_yaml::{self as yaml, Limits, Yaml};

use super::{
    folder::{Folder, Unreadable},
    texts::Texts,
    watched::Watched,
};

/// Makes plugins of files.
pub trait Loader: Send + Sync {
    /// The plugins below a folder `plugins`, as far as they can be used. What is wrong with their
    /// files is among the findings then, a name that is taken included.
    fn load(&self, plugins: &Path, reading: &mut Reading<'_>) -> Vec<Plugin>;
}

/// Reads files of a folder, so that findings can show them and a change to them is noticed.
pub struct Reading<'a> {
    /// What is wrong so far.
    pub findings: &'a mut Vec<Finding>,
    pub(super) folder: &'a Folder,
    pub(super) texts: &'a mut Texts,
    pub(super) watched: &'a mut Watched,
    pub(super) taken: BTreeSet<(Option<Role>, String)>,
}

impl Reading<'_> {
    /// Reads a text of at most `most_bytes`: the number that spans call it by, and what it says.
    /// None when it cannot be read, which is then reported.
    pub fn text(&mut self, path: &Path, most_bytes: usize) -> Option<(u32, Arc<str>)> {
        let shown = self.folder.shown(path);
        self.watched.file(path);
        match self.folder.read(path, most_bytes) {
            Ok(text) => {
                let file = self.texts.add(shown, text);
                Some((file, self.texts.text(file)))
            }
            Err(problem) => {
                let nowhere = Span::new(self.texts.add(shown.clone(), String::new()), 0..0);
                let message = format!("{shown} {}", problem.message);
                let finding = Finding::error(problem.rule, nowhere, message, problem.label);
                self.findings.push(finding);
                None
            }
        }
    }

    /// Reads a text that a script imports, once for all who do.
    pub(super) fn import(
        &mut self,
        path: &Path,
        most_bytes: usize,
    ) -> Result<(u32, Arc<str>), Unreadable> {
        let shown = self.folder.shown(path);
        self.watched.file(path);
        let file = match self.texts.find(&shown) {
            Some(file) => file,
            None => self.texts.add(shown, self.folder.read(path, most_bytes)?),
        };
        Ok((file, self.texts.text(file)))
    }

    /// Reads a file of YAML. Variables are left as they are written.
    pub fn yaml(&mut self, path: &Path) -> Option<(u32, Yaml)> {
        let limits = Limits::default();
        let (file, text) = self.text(path, limits.size_bytes)?;
        let before = self.findings.len();
        let tree = yaml::parse(&text, file, limits, self.findings);
        if tree.is_none() || self.findings[before..].iter().any(|f| f.rule == &YAML_SYNTAX) {
            self.texts.not_read(file);
        }
        Some((file, tree?))
    }

    /// A path as users know it.
    pub fn shown(&self, path: &Path) -> String {
        self.folder.shown(path)
    }

    /// Notices what changes in a folder.
    pub fn watch(&mut self, folder: &Path) {
        self.watched.folder(folder);
    }

    /// Whether there is such a type in the section of a role, or such a section, already. It stays
    /// what it is.
    pub fn is_taken(&self, role: Option<Role>, name: &str) -> bool {
        self.taken.contains(&(role, name.to_owned()))
    }
}
