//! The files that scripts import: all below one folder, each read with what it imports itself.

#[cfg(test)]
mod tests;

use std::path::{Component, Path, PathBuf};

use forebay_sdk::{Finding, Import, ModuleSource, Span};
use forebay_yaml::Module;

use super::{inside::inside_file, loader::Reading};
use crate::rules::{BAD_IMPORT, SCRIPT_MISSING};

/// A module is code for people to read, not data.
const MOST_MODULE_BYTES: usize = 256 * 1024;
/// The most modules that one script may have.
const MOST_MODULES: usize = 64;
/// How their files end.
const ENDING: &str = "rhai";

/// Reads what a script imports, each module behind those that it imports itself. Names lead below
/// `folder` alone; `imports` tells what a text imports, and `place` where a line and column of the script stand.
pub(super) fn read(
    script: &str,
    folder: &Path,
    imports: &dyn Fn(&str) -> Vec<Import>,
    place: &dyn Fn((usize, usize)) -> Span,
    reading: &mut Reading<'_>,
) -> Vec<Module> {
    let mut modules = Modules { folder, imports, reading, read: Vec::new(), open: Vec::new() };
    modules.add(script, place);
    modules.read
}

struct Modules<'a, 'r> {
    folder: &'a Path,
    imports: &'a dyn Fn(&str) -> Vec<Import>,
    reading: &'a mut Reading<'r>,
    read: Vec<Module>,
    /// Those whose own imports are being read.
    open: Vec<String>,
}

impl Modules<'_, '_> {
    fn add(&mut self, text: &str, place: &dyn Fn((usize, usize)) -> Span) {
        for Import { name, inside } in (self.imports)(text) {
            if self.read.iter().any(|module| *module.source.name == *name) {
                continue;
            }
            match self.path(&name) {
                Ok(path) => self.module(name, &path, place(inside)),
                Err(label) => {
                    let message = format!("script cannot import `{name}`");
                    let finding = Finding::error(&BAD_IMPORT, place(inside), message, label);
                    self.reading.findings.push(finding);
                }
            }
        }
    }

    /// The file of a module, or why it cannot have one.
    fn path(&self, name: &str) -> Result<PathBuf, String> {
        if self.open.iter().any(|open| open == name) {
            return Err("this module imports the one that imports it".to_owned());
        }
        if self.read.len() + self.open.len() >= MOST_MODULES {
            return Err(format!("more than {MOST_MODULES} modules for one script"));
        }
        if let Some(stem) = name.strip_suffix(".rhai") {
            return Err(format!("expected the name without its ending: `{stem}`"));
        }
        let is_below = |path: &Path| path.components().all(|c| matches!(c, Component::Normal(_)));
        if name.is_empty() || !is_below(Path::new(name)) {
            let folder = self.reading.shown(self.folder);
            let folder = if folder.is_empty() { "this folder".to_owned() } else { folder };
            return Err(format!("expected a file below {folder}, such as `lib/units`"));
        }
        let mut path = self.folder.join(name).into_os_string();
        path.push(format!(".{ENDING}"));
        Ok(path.into())
    }

    fn module(&mut self, name: String, path: &Path, imported: Span) {
        let shown = self.reading.shown(path);
        let (file, text) = match self.reading.import(path, MOST_MODULE_BYTES) {
            Ok(read) => read,
            Err(problem) => {
                let message = format!("module {shown} {}", problem.message);
                let finding = Finding::error(&SCRIPT_MISSING, imported, message, problem.label);
                self.reading.findings.push(finding);
                return;
            }
        };
        self.open.push(name.clone());
        let place = |at| inside_file(file, &text, at).unwrap_or(Span::new(file, 0..0));
        self.add(&text, &place);
        self.open.pop();
        let source = ModuleSource { name: name.into(), path: shown.into(), text };
        self.read.push(Module { file, source });
    }
}
