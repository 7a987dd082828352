//! The settings that a node gives its script: those that the script reads, and those that are there.

use std::collections::BTreeMap;

use forebay_sdk::{Problem, Value, finding::nearest};
use rhai::{AST, ASTNode, Expr, Position};

use crate::{
    fields::may_be_missing,
    rules::{MISSING_SCRIPT_SETTING, UNREAD_SCRIPT_SETTING},
    uses::{Step, starts_chain, steps},
    words::problem,
};

/// By name, in the order in which they are written.
pub(crate) type OwnSettings = serde_json::Map<String, Value>;

/// Reports settings that a script reads and that are not there, and those that it does not read. `owner`
/// is what should have them.
pub(crate) fn check<'a>(
    ast: &AST,
    settings: impl Iterator<Item = &'a String> + Clone,
    owner: &str,
) -> Vec<Problem> {
    let has = |name: &str| settings.clone().any(|there| there == name);
    let reads = Reads::of(ast);
    let mut problems = Vec::new();
    for (name, at) in &reads.needed {
        if has(name) {
            continue;
        }
        let message = format!("script reads `settings.{name}`, which {owner} does not have");
        let unread = settings.clone().map(String::as_str).filter(|there| !reads.has(there));
        let label = match nearest(name, unread) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected a setting such as `settings: {{ {name}: ... }}`"),
        };
        problems.push(problem(&MISSING_SCRIPT_SETTING, *at, message, label));
    }
    for name in settings.clone().filter(|name| !reads.as_a_whole && !reads.has(name)) {
        let message = format!("script does not read the setting `{name}`");
        let missing = reads.needed.keys().chain(&reads.optional).map(String::as_str);
        let label = match nearest(name, missing.filter(|read| !has(read))) {
            Some(near) => format!("it reads `settings.{near}`"),
            None => format!("it would be read as `settings.{name}`"),
        };
        let unread = Problem::new(format!("settings.{name}"), message, label);
        problems.push(unread.rule(&UNREAD_SCRIPT_SETTING).warning());
    }
    problems
}

#[derive(Default)]
struct Reads {
    /// Those that have to be there, and where they are first read.
    needed: BTreeMap<String, Position>,
    /// Those that may be missing.
    optional: Vec<String>,
    /// Any may be read.
    as_a_whole: bool,
}

impl Reads {
    fn of(ast: &AST) -> Reads {
        let mut reads = Reads::default();
        for statement in ast.statements() {
            statement.walk(&mut Vec::new(), &mut |path: &[ASTNode]| {
                reads.visit(path);
                true
            });
        }
        reads
    }

    /// Looks at the last node of `path`; the others are what it stands in.
    fn visit(&mut self, path: &[ASTNode]) {
        let Some((node @ ASTNode::Expr(Expr::Variable(variable, ..)), outer)) = path.split_last()
        else {
            return;
        };
        if variable.1 != "settings" {
            return;
        }
        let chain = outer.split_last().and_then(|(parent, outer)| match parent {
            ASTNode::Expr(chain) if starts_chain(chain, node, outer) => Some((*chain, outer)),
            _ => None,
        });
        let first = chain.and_then(|(chain, outer)| match steps(chain).first() {
            Some(Step::Field(name, at)) => Some(((*name).to_owned(), *at, chain, outer)),
            _ => None,
        });
        match first {
            Some((name, _, chain, outer)) if may_be_missing(chain, outer) => {
                self.optional.push(name);
            }
            Some((name, at, ..)) => {
                self.needed.entry(name).or_insert(at);
            }
            None => self.as_a_whole = true,
        }
    }

    fn has(&self, name: &str) -> bool {
        self.needed.contains_key(name) || self.optional.iter().any(|there| there == name)
    }
}
