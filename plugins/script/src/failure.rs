//! Errors of a running script, in the user's words and with their place.

use std::sync::Arc;

use anyhow::anyhow;
use forebay_sdk::{At, Fault, Period};
use rhai::{AST, ASTNode, Dynamic, EvalAltResult, Expr, Position, Scope, Stmt};

use crate::{
    convert::kind_of_type,
    host::{
        Limits, MAX_CALL_LEVELS, MAX_LIST_VALUES, MAX_MAP_VALUES, MAX_TEXT_BYTES, MAX_VARIABLES,
        MAX_VARIABLES_BYTES, Stopped,
    },
    modules::{Imported, Modules},
    uses::{Step, steps},
    words::lowercase_first,
};

/// How many values an error shows, and how much of each, in characters.
const MOST_USED: usize = 6;
const MOST_SHOWN: usize = 40;

/// What is needed to describe an error of a script.
pub(crate) struct Failure<'a> {
    pub ast: &'a AST,
    /// What it imports.
    pub modules: &'a Modules,
    pub limits: Limits,
    /// The file that holds the script, when that is no setting of the node.
    pub file: Option<&'a Arc<str>>,
}

impl Failure<'_> {
    /// `division by zero: 1 / 0`, and its place when it has one. `scope` are the variables as the script left them.
    pub(crate) fn describe(&self, error: EvalAltResult, scope: &Scope) -> anyhow::Error {
        match self.module_of(&error) {
            Some(module) => {
                // It sees no variables of the script.
                let called = self.at(call_of(&error));
                let failure = Failure { ast: &module.ast, file: Some(&module.path), ..*self };
                failure.described(error, called, &Scope::new())
            }
            None => self.described(error, None, scope),
        }
    }

    fn described(&self, error: EvalAltResult, called: Option<At>, scope: &Scope) -> anyhow::Error {
        let (words, place) = self.words_and_place(error);
        match self.at(place) {
            Some(at) => {
                let used = self.used(at.inside.0, scope);
                Fault { setting: "script", at, called, words, used }.into()
            }
            None => anyhow!(words),
        }
    }

    fn at(&self, place: Position) -> Option<At> {
        let inside = (place.line()?, place.position().unwrap_or(1));
        Some(At { file: self.file.map(Arc::clone), inside })
    }

    /// The module whose function went wrong.
    fn module_of(&self, error: &EvalAltResult) -> Option<&Imported> {
        let (mut error, mut found) = (error, None);
        while let EvalAltResult::ErrorInFunctionCall(_, source, inner, _) = error {
            found = self.modules.get(source);
            error = inner;
        }
        found
    }

    /// The same without a place.
    pub(crate) fn words_of(&self, error: EvalAltResult) -> String {
        self.words_and_place(error).0
    }

    /// The values of what stands in a line of the script: `msg.payload.a = 5, msg.payload.b = 0`.
    fn used(&self, line: usize, scope: &Scope) -> String {
        let mut names: Vec<(String, String)> = Vec::new();
        self.ast.walk(&mut |path: &[ASTNode]| {
            if let Some(ASTNode::Expr(expr)) = path.last()
                && place_of(expr).line() == Some(line)
                && let (Some(name), Some(value)) = (name_of(expr), value_of(expr, scope))
                && !names.iter().any(|(known, _)| *known == name)
            {
                names.push((name, value));
            }
            true
        });
        let shown: Vec<String> = names
            .into_iter()
            .take(MOST_USED)
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        shown.join(", ")
    }

    fn words_and_place(&self, error: EvalAltResult) -> (String, Position) {
        let mut place = error.position();
        let mut error = error;
        // The innermost place is the one at fault.
        while let EvalAltResult::ErrorInFunctionCall(_, _, inner, at) = error {
            place = if inner.position().is_none() { at } else { inner.position() };
            error = *inner;
        }
        (self.words(&mut error, place), place)
    }

    fn words(&self, error: &mut EvalAltResult, place: Position) -> String {
        use EvalAltResult as E;
        match error {
            E::ErrorTerminated(why, _) => self.stopped(why.clone().try_cast(), place),
            E::ErrorStackOverflow(_) => {
                format!("functions call each other more than {MAX_CALL_LEVELS} levels deep")
            }
            E::ErrorTooManyVariables(_) => format!("more than {MAX_VARIABLES} variables"),
            E::ErrorDataTooLarge(what, _) => too_large(what),
            E::ErrorFunctionNotFound(call, _) => self.no_function(call, place),
            E::ErrorDotExpr(..) | E::ErrorIndexingType(..) => self.no_field(error, place),
            E::ErrorArrayBounds(length, index, _) => {
                format!("the list has {}, none at {index}", count(*length, "value"))
            }
            E::ErrorStringBounds(length, index, _) => {
                format!("the text has {}, none at {index}", count(*length, "character"))
            }
            E::ErrorMismatchDataType(wanted, found, _) => {
                format!("expected {}, found {}", kind_of_type(wanted), kind_of_type(found))
            }
            E::ErrorAssignmentToConstant(name, _) => constant(name),
            E::ErrorNonPureMethodCallOnConstant(..) => {
                constant(self.operand(place, 0).unwrap_or_default().trim_matches('`'))
            }
            E::ErrorVariableNotFound(name, _) => format!("there is no variable `{name}` here"),
            E::ErrorFor(_) => "`for` needs a list, a text or a range".to_owned(),
            E::ErrorRuntime(thrown, _) if thrown.is::<Stopped>() => {
                self.stopped(thrown.clone().try_cast(), place)
            }
            E::ErrorRuntime(thrown, _) if thrown.is_unit() => {
                "the script threw an error".to_owned()
            }
            E::ErrorRuntime(thrown, _) => thrown.to_string(),
            error => {
                error.set_position(Position::NONE);
                lowercase_first(&error.to_string())
            }
        }
    }

    fn stopped(&self, why: Option<Stopped>, place: Position) -> String {
        let Limits { max_operations, timeout } = self.limits;
        match why {
            Some(Stopped::Operations) => {
                format!("script ran for more than {max_operations} operations (`max_operations`)")
            }
            Some(Stopped::Memory) => {
                let mebibytes = MAX_VARIABLES_BYTES / (1024 * 1024);
                format!("variables grew beyond {mebibytes} MiB")
            }
            Some(Stopped::Missing) => {
                let what = self.operand(place, 0).or_else(|| self.part_of_text(place));
                let what = what.unwrap_or_else(|| "a value".to_owned());
                format!("{what} is missing or null, so it cannot stand in a text")
            }
            Some(Stopped::TextTooLong) => too_large("string"),
            Some(Stopped::Time) | None => {
                format!("script ran for longer than {} (`timeout`)", Period(timeout))
            }
        }
    }

    /// `call` is a name and the types of its values: `+ ((), i64)`.
    fn no_function(&self, call: &str, place: Position) -> String {
        let Some((name, types)) = call.split_once(" (") else { return lowercase_first(call) };
        let types: Vec<&str> = match types.strip_suffix(')').unwrap_or(types) {
            "" => Vec::new(),
            types => types.split(", ").collect(),
        };
        let kinds: Vec<&str> = types.iter().map(|kind| kind_of_type(kind)).collect();
        if let Some(index) = types.iter().position(|kind| *kind == "()") {
            let what = self.operand(place, index).unwrap_or_else(|| "a value".to_owned());
            return format!("{what} is missing or null, so `{name}` cannot be used on it");
        }
        let is_operator = !name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        match (kinds.as_slice(), is_operator) {
            ([one], _) => format!("`{name}` cannot be used on {one}"),
            ([left, right], true) => format!("`{name}` cannot be used on {left} and {right}"),
            ([], _) => format!("there is no function `{name}` that takes no values"),
            _ => format!("there is no function `{name}` that takes {}", kinds.join(", ")),
        }
    }

    /// A field of a value that has no fields.
    fn no_field(&self, error: &EvalAltResult, place: Position) -> String {
        let (what, kind) = match error {
            EvalAltResult::ErrorDotExpr(text, _) => {
                let quoted: Vec<&str> = text.split('\'').collect();
                let field = quoted.get(1).copied().unwrap_or_default();
                // `for type 'T'` and, when something is assigned, `to handle 'U'`.
                (format!("field `{field}`"), quoted.get(3).copied().unwrap_or_default())
            }
            EvalAltResult::ErrorIndexingType(text, _) => {
                ("index".to_owned(), text.split(" [").next().unwrap_or_default())
            }
            _ => return "a field cannot be read".to_owned(),
        };
        let owner = self.owner(place);
        match (kind, owner) {
            ("()", Some(owner)) => format!("`{owner}` is missing or null, so it has no {what}"),
            (_, Some(owner)) => format!("`{owner}` is {}, so it has no {what}", kind_of_type(kind)),
            ("()", None) => format!("a missing or null value has no {what}"),
            (_, None) => format!("{} has no {what}", kind_of_type(kind)),
        }
    }

    /// The text of the value number `index` of the call at a place.
    fn operand(&self, place: Position, index: usize) -> Option<String> {
        let mut found = None;
        self.ast.walk(&mut |path: &[ASTNode]| {
            match path.last() {
                Some(
                    ASTNode::Expr(Expr::FnCall(call, at)) | ASTNode::Stmt(Stmt::FnCall(call, at)),
                ) if *at == place => {
                    found = call.args.get(index).and_then(name_of);
                }
                // The first value of a method is the one that it is called on.
                Some(ASTNode::Expr(Expr::MethodCall(call, at))) if *at == place && index > 0 => {
                    found = call.args.get(index - 1).and_then(name_of);
                }
                Some(ASTNode::Expr(chain @ Expr::Dot(..))) if index == 0 => {
                    found = found.take().or_else(|| method_owner(chain, place));
                }
                Some(ASTNode::Stmt(Stmt::Assignment(parts))) if parts.0.position() == place => {
                    let side = if index == 0 { &parts.1.lhs } else { &parts.1.rhs };
                    found = name_of(side);
                }
                _ => (),
            }
            found.is_none()
        });
        found.map(|name| format!("`{name}`"))
    }

    /// The part of a text between backticks that stands at a place.
    fn part_of_text(&self, place: Position) -> Option<String> {
        let mut found = None;
        self.ast.walk(&mut |path: &[ASTNode]| {
            if let Some(ASTNode::Expr(Expr::InterpolatedString(parts, _))) = path.last() {
                found =
                    parts.iter().find(|part| part.position() == place).and_then(
                        |part| match part {
                            Expr::Stmt(block) => match block.statements() {
                                [Stmt::Expr(only)] => name_of(only),
                                _ => None,
                            },
                            part => name_of(part),
                        },
                    );
            }
            found.is_none()
        });
        found.map(|name| format!("`{name}`"))
    }

    /// What stands in front of the field or index at a place.
    fn owner(&self, place: Position) -> Option<String> {
        let mut found = None;
        self.ast.walk(&mut |path: &[ASTNode]| {
            if let Some(ASTNode::Expr(chain @ (Expr::Dot(..) | Expr::Index(..)))) = path.last() {
                found = front(chain, place);
            }
            found.is_none()
        });
        found
    }
}

/// Where the script called the function that went wrong.
fn call_of(error: &EvalAltResult) -> Position {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, _, at) => *at,
        _ => Position::NONE,
    }
}

/// `msg.payload.a` of an expression that only reads fields.
fn name_of(expr: &Expr) -> Option<String> {
    if let Expr::Variable(variable, ..) = expr {
        return Some(variable.1.to_string());
    }
    let mut name = base(expr)?;
    for step in steps(expr) {
        match step {
            Step::Field(field, _) => {
                name.push('.');
                name.push_str(field);
            }
            Step::Index(index) => name.push_str(&format!("[{}]", name_of(index)?)),
            Step::Call | Step::Other => return None,
        }
    }
    Some(name)
}

/// Where an expression that only reads fields begins.
fn place_of(expr: &Expr) -> Position {
    match expr {
        Expr::Variable(_, _, at) => *at,
        Expr::Dot(parts, ..) | Expr::Index(parts, ..) => place_of(&parts.lhs),
        _ => Position::NONE,
    }
}

/// What such an expression gives, for people. None for a list or a map, and for what may be secret.
fn value_of(expr: &Expr, scope: &Scope) -> Option<String> {
    let name = match expr {
        Expr::Variable(variable, ..) => variable.1.to_string(),
        _ => base(expr)?,
    };
    if name == "settings" {
        return None;
    }
    let mut value = scope.get(&name)?.flatten_clone();
    for step in steps(expr) {
        let Step::Field(field, _) = step else { return None };
        let inside = match value.as_map_ref() {
            Ok(map) => map.get(field).map_or(Dynamic::UNIT, Dynamic::flatten_clone),
            Err(_) => return None,
        };
        value = inside;
    }
    if value.is_unit() {
        return Some("null".to_owned());
    }
    let text = match value.as_immutable_string_ref() {
        Ok(text) => format!("{:?}", text.as_str()),
        Err(_) if value.is_map() || value.is_array() || value.is_fnptr() || value.is_blob() => {
            return None;
        }
        Err(_) => value.to_string(),
    };
    match text.chars().count() {
        0..=MOST_SHOWN => Some(text),
        _ => Some(text.chars().take(MOST_SHOWN).chain("…".chars()).collect()),
    }
}

/// The name of the variable that a chain begins with.
fn base(chain: &Expr) -> Option<String> {
    match chain {
        Expr::Dot(parts, ..) | Expr::Index(parts, ..) => match &parts.lhs {
            Expr::Variable(variable, ..) => Some(variable.1.to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// The part of a chain in front of its field at a place.
fn front(chain: &Expr, place: Position) -> Option<String> {
    let mut name = base(chain)?;
    for step in steps(chain) {
        match step {
            Step::Field(_, at) if at == place => return Some(name),
            Step::Field(field, _) => {
                name.push('.');
                name.push_str(field);
            }
            Step::Index(index) => name.push_str(&format!("[{}]", name_of(index)?)),
            Step::Call | Step::Other => return None,
        }
    }
    None
}

/// The part of a chain in front of its method at a place.
fn method_owner(chain: &Expr, place: Position) -> Option<String> {
    let mut rest = chain;
    // The place of a call stands beside the call, not in it.
    let called = loop {
        match rest {
            Expr::Dot(parts, ..) | Expr::Index(parts, ..) => rest = &parts.rhs,
            Expr::MethodCall(_, at) => break *at == place,
            _ => break false,
        }
    };
    if !called {
        return None;
    }
    let mut name = base(chain)?;
    for step in steps(chain) {
        match step {
            Step::Field(field, _) => {
                name.push('.');
                name.push_str(field);
            }
            Step::Call => return Some(name),
            Step::Index(index) => name.push_str(&format!("[{}]", name_of(index)?)),
            Step::Other => return None,
        }
    }
    None
}

fn constant(name: &str) -> String {
    match name {
        "" => "a constant cannot be changed".to_owned(),
        name => format!("`{name}` is a constant and cannot be changed"),
    }
}

fn too_large(what: &str) -> String {
    let what = what.to_lowercase();
    if what.contains("string") {
        format!("a text grew beyond {MAX_TEXT_BYTES} bytes")
    } else if what.contains("map") {
        format!("a map grew beyond {MAX_MAP_VALUES} values")
    } else {
        format!("a list grew beyond {MAX_LIST_VALUES} values")
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
