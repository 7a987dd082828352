//! Modules: files of functions and constants that scripts import.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use forebay_sdk::Import;
use rhai::{AST, Engine, Module, Shared, Token};

/// What a script imports, by the names under which it does. Cloning shares it.
#[derive(Clone, Default)]
pub(crate) struct Modules(Arc<BTreeMap<Arc<str>, Arc<Imported>>>);

/// A module that was compiled.
pub(crate) struct Imported {
    /// Its file, as users know it.
    pub path: Arc<str>,
    pub ast: AST,
    pub module: Shared<Module>,
}

impl Modules {
    pub(crate) fn add(&mut self, name: &Arc<str>, imported: Imported) {
        Arc::make_mut(&mut self.0).insert(Arc::clone(name), Arc::new(imported));
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Imported> {
        self.0.get(name).map(|imported| &**imported)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Imported> {
        self.0.values().map(|imported| &**imported)
    }
}

/// What a text imports, whether the rest of it is right or wrong.
pub(crate) fn imports(text: &str) -> Vec<Import> {
    if !text.contains("import") {
        return Vec::new();
    }
    let engine = Engine::new_raw();
    let (tokens, _control) = engine.lex([&text]);
    let mut imports = Vec::new();
    let mut last = Token::EOF;
    for (token, at) in tokens.take_while(|(token, _)| *token != Token::EOF) {
        if let (Token::Import, Token::StringConstant(name)) = (&last, &token) {
            let inside = (at.line().unwrap_or(1), at.position().unwrap_or(1));
            imports.push(Import { name: name.to_string(), inside });
        }
        last = token;
    }
    imports
}
