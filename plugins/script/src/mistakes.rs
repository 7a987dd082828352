//! What a script that compiles does in vain, as far as its syntax tree tells.
//!
//! The rule: what is not understood here may be right.

use std::{collections::BTreeSet, ptr};

use forebay_sdk::Problem;
use rhai::{AST, ASTFlags, ASTNode, Expr, FnCallExpr, Position, Stmt};

use crate::{
    rules::{
        CHANGED_CONSTANT, CHANGED_IN_PLACE, SENDS_NOTHING, STATE_REPLACED, SWALLOWED_SCRIPT,
        WHOLE_DIVISION,
    },
    words::problem,
};

/// Functions that change the value they are called on, and give nothing, whatever that value is.
const IN_PLACE: [&str; 24] = [
    "append",
    "chop",
    "clear",
    "crop",
    "dedup",
    "fill_with",
    "for_each",
    "insert",
    "make_lower",
    "make_upper",
    "mixin",
    "pad",
    "push",
    "replace",
    "reverse",
    "set",
    "sort",
    "sort_by",
    "sort_desc",
    "splice",
    "trim",
    "truncate",
    "write_ascii",
    "write_utf8",
];

/// Functions that give nothing beside those.
const GIVE_NOTHING: [&str; 2] = ["print", "debug"];

/// What is done in vain. `has` tells the names that the script gives to functions, variables and
/// fields of its own; `may_change` those of variables that are no constants.
pub(crate) fn find(
    ast: &AST,
    text: &str,
    has: impl Fn(&str) -> bool,
    may_change: impl Fn(&str) -> bool,
) -> Vec<Problem> {
    let constants = changed_constants(ast).into_iter().filter(|(name, _)| !may_change(name));
    let mut problems: Vec<Problem> =
        constants.map(|(name, at)| changed_constant(&name, at)).collect();
    ast.walk(&mut |path: &[ASTNode]| {
        problems.extend(changed_in_place(path, &has));
        problems.extend(whole_division(path));
        problems.extend(state_replaced(path).filter(|_| !has("state")));
        true
    });
    match swallowed(text) {
        Some(swallowed) => problems.push(swallowed),
        None => problems.extend(sends_nothing(ast, &has)),
    }
    problems
}

/// `x = x.trim()`.
fn changed_in_place(path: &[ASTNode], has: impl Fn(&str) -> bool) -> Option<Problem> {
    let (ASTNode::Expr(called), mut outer) = path.split_last()? else { return None };
    let mut value: &Expr = called;
    let (Expr::MethodCall(call, at) | Expr::FnCall(call, at)) = value else { return None };
    if !IN_PLACE.contains(&call.name.as_str()) || call.is_operator_call() || has(&call.name) {
        return None;
    }
    loop {
        (value, outer) = match outer.split_last() {
            // To the beginning of the chain that ends here.
            Some((
                ASTNode::Expr(chain @ (Expr::Dot(parts, ..) | Expr::Index(parts, ..))),
                rest,
            )) if ptr::eq(&parts.rhs, value) => (chain, rest),
            // The value of a block is that of its last statement.
            Some((ASTNode::Stmt(statement), [rest @ .., ASTNode::Expr(block)]))
                if is_value_of(block, statement) =>
            {
                (block, rest)
            }
            None | Some((ASTNode::Stmt(Stmt::Expr(_)), _)) => return None,
            Some(_) => break,
        };
    }
    let name = &call.name;
    let message = format!("`{name}` changes a value in place and gives nothing");
    let label = "make it a statement of its own, and use the value after it".to_owned();
    Some(problem(&CHANGED_IN_PLACE, *at, message, label))
}

fn is_value_of(block: &Expr, statement: &Stmt) -> bool {
    let Expr::Stmt(block) = block else { return false };
    block.statements().last().is_some_and(|last| ptr::eq(last, statement))
}

/// Where a constant is assigned to, as `const a = 1; a = 2`, or a part of one. `settings` is one.
pub(crate) fn changed_constants(ast: &AST) -> Vec<(String, Position)> {
    let mut constants = BTreeSet::from(["settings".to_owned()]);
    let mut changed = Vec::new();
    ast.walk(&mut |path: &[ASTNode]| {
        match path.last() {
            Some(ASTNode::Stmt(Stmt::Var(parts, flags, _)))
                if flags.contains(ASTFlags::CONSTANT) =>
            {
                constants.insert(parts.0.name.to_string());
            }
            Some(ASTNode::Stmt(Stmt::Assignment(parts))) => {
                let mut first = &parts.1.lhs;
                while let Expr::Dot(parts, ..) | Expr::Index(parts, ..) = first {
                    first = &parts.lhs;
                }
                if let Expr::Variable(variable, _, at) = first {
                    changed.push((variable.1.to_string(), *at));
                }
            }
            _ => (),
        }
        true
    });
    changed.retain(|(name, _)| constants.contains(name));
    changed
}

fn changed_constant(name: &str, at: Position) -> Problem {
    let message = format!("`{name}` is a constant and cannot be changed");
    let label = format!("make a copy with another name: `let copy = {name};`");
    problem(&CHANGED_CONSTANT, at, message, label)
}

/// `state = 5`, `state += 1`.
fn state_replaced(path: &[ASTNode]) -> Option<Problem> {
    let Some(ASTNode::Stmt(Stmt::Assignment(parts))) = path.last() else { return None };
    let (operator, sides) = &**parts;
    let Expr::Variable(variable, _, at) = &sides.lhs else { return None };
    let kind = kind_if_no_map(&sides.rhs)?;
    if variable.1 != "state" {
        return None;
    }
    let (message, sign) = match operator.is_op_assignment() {
        true => (format!("`state` is a map, and cannot be changed by {kind}"), "+="),
        false => (format!("`state` is replaced by {kind}, and has to stay a map"), "="),
    };
    let label = format!("give the value a name, as in `state.value {sign} ...`");
    Some(problem(&STATE_REPLACED, *at, message, label))
}

/// What an expression gives, when that is surely no map.
fn kind_if_no_map(value: &Expr) -> Option<&'static str> {
    Some(match value {
        Expr::IntegerConstant(..) | Expr::FloatConstant(..) => "a number",
        Expr::BoolConstant(..) | Expr::And(..) | Expr::Or(..) => "true or false",
        Expr::StringConstant(..) | Expr::InterpolatedString(..) | Expr::CharConstant(..) => {
            "a text"
        }
        Expr::Array(..) => "a list",
        Expr::Unit(..) => "nothing",
        Expr::DynamicConstant(value, _) if value.is_array() => "a list",
        Expr::FnCall(call, _) if call.is_operator_call() => match call.name.as_str() {
            "-" | "*" | "/" | "%" | "**" => "a number",
            "==" | "!=" | "<" | ">" | "<=" | ">=" | "!" => "true or false",
            "+" => call.args.iter().find_map(kind_if_no_map)?,
            _ => return None,
        },
        _ => return None,
    })
}

/// `1500 / 1000`.
fn whole_division(path: &[ASTNode]) -> Option<Problem> {
    let (Some(ASTNode::Expr(Expr::FnCall(call, at))) | Some(ASTNode::Stmt(Stmt::FnCall(call, at)))) =
        path.last()
    else {
        return None;
    };
    if call.name != "/" || !call.args.iter().all(is_whole) {
        return None;
    }
    if let [Expr::IntegerConstant(left, _), Expr::IntegerConstant(right, _)] = call.args.as_slice()
        && left.checked_rem(*right) == Some(0)
    {
        return None;
    }
    let message = "`/` between whole numbers cuts off what is behind the point".to_owned();
    let label = "write one of them with a point, as in `2.0`".to_owned();
    Some(problem(&WHOLE_DIVISION, *at, message, label).warning())
}

/// Whether an expression surely gives a whole number.
fn is_whole(value: &Expr) -> bool {
    match value {
        Expr::IntegerConstant(..) => true,
        Expr::FnCall(call, _) if call.is_operator_call() => {
            matches!(call.name.as_str(), "+" | "-" | "*" | "/" | "%")
                && call.args.iter().all(is_whole)
        }
        Expr::FnCall(call, _) => matches!(call.name.as_str(), "len" | "to_int" | "parse_int"),
        value => {
            method_at_end(value).is_some_and(|call| matches!(call.name.as_str(), "len" | "to_int"))
        }
    }
}

/// The method that a chain ends with.
fn method_at_end(value: &Expr) -> Option<&FnCallExpr> {
    match value {
        Expr::Dot(parts, ..) | Expr::Index(parts, ..) => method_at_end(&parts.rhs),
        Expr::MethodCall(call, _) => Some(call),
        _ => None,
    }
}

/// A script of one line of which a comment takes the rest, as `script: >` makes of several.
pub(crate) fn swallowed(text: &str) -> Option<Problem> {
    let line = text.trim_end();
    let code = without_comment(line);
    let comment = &line[code.len()..];
    if line.contains('\n') || !looks_like_code(comment) {
        return None;
    }
    let at = Position::new(1, u16::try_from(code.chars().count() + 1).ok()?);
    let message = "a comment takes the rest of the script".to_owned();
    let label = "goes to the end of the line, and the script is one line".to_owned();
    let help = "write `script: |`, which keeps the lines; `>` joins them";
    Some(problem(&SWALLOWED_SCRIPT, at, message, label).help(help))
}

fn looks_like_code(comment: &str) -> bool {
    comment.contains(';') || comment.ends_with(" msg") || comment.ends_with('}')
}

/// A line without `//` and what follows, unless that stands in quotes.
pub(crate) fn without_comment(line: &str) -> &str {
    let is_comment = |at: &usize| {
        let quotes = |mark| line[..*at].matches(mark).count() % 2 == 1;
        !quotes('"') && !quotes('`')
    };
    let comment = line.match_indices("//").map(|(at, _)| at).find(is_comment);
    &line[..comment.unwrap_or(line.len())]
}

/// A script that neither returns, nor emits, nor throws.
fn sends_nothing(ast: &AST, has: &impl Fn(&str) -> bool) -> Option<Problem> {
    let mut sends = ast.statements().last().is_some_and(|last| gives(last, has));
    ast.walk(&mut |path: &[ASTNode]| {
        sends |= match path.last() {
            Some(ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _))) => {
                matches!(call.name.as_str(), "emit" | "call") || call.capture_parent_scope
            }
            Some(ASTNode::Expr(Expr::MethodCall(call, _))) => {
                matches!(call.name.as_str(), "emit" | "call")
            }
            // `throw`, too.
            Some(ASTNode::Stmt(Stmt::Return(value, flags, _))) => {
                value.is_some() || flags.contains(ASTFlags::BREAK)
            }
            _ => false,
        };
        !sends
    });
    if sends {
        return None;
    }
    let start = Position::new(1, 1);
    let at = ast.statements().last().map_or(start, |last| last.position());
    let message = "script sends nothing, whatever comes in".to_owned();
    let label = "nothing is returned; to pass the message on, end the script with `msg`".to_owned();
    Some(problem(&SENDS_NOTHING, at, message, label).warning())
}

/// Whether the value of a statement may be something.
fn gives(statement: &Stmt, has: &impl Fn(&str) -> bool) -> bool {
    let any = |statements: &[Stmt]| statements.last().is_some_and(|last| gives(last, has));
    let called = |call: &FnCallExpr| {
        let name = call.name.as_str();
        has(name) || !IN_PLACE.contains(&name) && !GIVE_NOTHING.contains(&name)
    };
    match statement {
        Stmt::Noop(_)
        | Stmt::Var(..)
        | Stmt::Assignment(_)
        | Stmt::While(..)
        | Stmt::Do(..)
        | Stmt::For(..) => breaks_with_value(statement),
        // What it returns is seen elsewhere.
        Stmt::Return(..) => false,
        Stmt::If(parts, _) => any(parts.body.statements()) || any(parts.branch.statements()),
        Stmt::TryCatch(parts, _) => any(parts.body.statements()) || any(parts.branch.statements()),
        Stmt::Block(block) => any(block.statements()),
        Stmt::FnCall(call, _) => called(call),
        Stmt::Expr(value) => match &**value {
            Expr::Unit(_) => false,
            Expr::Stmt(block) => any(block.statements()),
            Expr::FnCall(call, _) => called(call),
            value => method_at_end(value).is_none_or(called),
        },
        _ => true,
    }
}

fn breaks_with_value(statement: &Stmt) -> bool {
    let mut breaks = false;
    statement.walk(&mut Vec::new(), &mut |path: &[ASTNode]| {
        breaks |= matches!(path.last(), Some(ASTNode::Stmt(Stmt::BreakLoop(Some(_), ..))));
        !breaks
    });
    breaks
}
