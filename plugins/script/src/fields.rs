//! Which fields of the payload a script reads and sends, for the check that something gives them.
//!
//! The rule: what is not understood here is unknown, and of the unknown nothing is said.

use std::{collections::BTreeSet, ptr};

use forebay_sdk::{FieldRead, Fields, Sends};
use rhai::{AST, ASTFlags, ASTNode, Expr, Position, Stmt};

use crate::uses::{PayloadUse, Step, Uses, starts_chain, steps};

/// What a script that compiles reads and sends: of the payload, and of `meta`.
pub(crate) fn of(ast: &AST) -> (Fields, Fields) {
    // Who looks at the payload as a whole may look there for a field, add some or remove some.
    let PayloadUse::Fields { written, .. } = Uses::of(ast).payload else {
        return Default::default();
    };
    let mut found = Found::default();
    for statement in ast.statements() {
        statement.walk(&mut Vec::new(), &mut |path: &[ASTNode]| {
            found.visit(path);
            true
        });
    }
    found.payload.made.extend(written.iter().map(ToString::to_string));
    (found.payload.facts(), found.meta.facts())
}

/// Whether a script may give messages other topics than those that they came with.
pub(crate) fn sets_topic(ast: &AST) -> bool {
    if Uses::of(ast) == Uses::everything() {
        return true;
    }
    let mut sets = false;
    for statement in ast.statements() {
        statement.walk(&mut Vec::new(), &mut |path: &[ASTNode]| {
            sets |= match path {
                [.., ASTNode::Expr(Expr::Map(parts, _))] => parts.1.contains_key("topic"),
                [.., ASTNode::Expr(Expr::DynamicConstant(value, _))] => {
                    value.as_map_ref().is_ok_and(|map| map.contains_key("topic"))
                }
                [.., ASTNode::Stmt(Stmt::Assignment(parts))] => {
                    matches!(steps(&parts.1.lhs).first(), Some(Step::Field("topic", _)))
                }
                _ => false,
            };
            !sets
        });
    }
    sets
}

/// What a script does with the fields of the payload, or with the entries of `meta`.
#[derive(Default)]
struct Part {
    reads: Vec<FieldRead>,
    /// Fields that the script is prepared to miss.
    optional: BTreeSet<String>,
    /// Fields that the script makes.
    made: BTreeSet<String>,
    /// It may send anything.
    anything: bool,
}

impl Part {
    fn facts(self) -> Fields {
        let Part { mut reads, optional, made, anything } = self;
        reads.retain(|read| !optional.contains(&read.field));
        Fields { reads, sends: if anything { Sends::Unknown } else { Sends::Also(made) } }
    }

    fn reads(&mut self, field: &str, at: Position, may_be_missing: bool) {
        if may_be_missing {
            self.optional.insert(field.to_owned());
        }
        let inside = at.line().zip(at.position());
        self.reads.push(FieldRead { field: field.to_owned(), setting: "script".into(), inside });
    }

    /// All of it is made anew, of what `value` says.
    fn is_made_of(&mut self, value: &Expr) {
        match fields_of(value) {
            Some(fields) => self.made.extend(fields),
            None => self.anything = true,
        }
    }
}

#[derive(Default)]
struct Found {
    payload: Part,
    meta: Part,
}

impl Found {
    /// Looks at the last node of `path`; the others are what it stands in.
    fn visit(&mut self, path: &[ASTNode]) {
        let Some((node, outer)) = path.split_last() else { return };
        match node {
            ASTNode::Expr(Expr::Variable(variable, ..)) if variable.1 == "msg" => {
                if let Some((ASTNode::Expr(chain), outer)) = outer.split_last()
                    && starts_chain(chain, node, outer)
                {
                    self.chain(chain, outer);
                }
            }
            // A message of the script's own making.
            ASTNode::Expr(Expr::Map(parts, _)) => self.own(|part| parts.1.contains_key(part)),
            ASTNode::Expr(Expr::DynamicConstant(value, _)) => {
                self.own(|part| value.as_map_ref().is_ok_and(|map| map.contains_key(part)));
            }
            _ => (),
        }
    }

    fn own(&mut self, says: impl Fn(&str) -> bool) {
        self.payload.anything |= says("payload");
        self.meta.anything |= says("meta");
    }

    /// Sees `msg.payload.a` in `chain`, which stands in `outer`.
    fn chain(&mut self, chain: &Expr, outer: &[ASTNode]) {
        let assignment = outer.last().and_then(|node| match node {
            ASTNode::Stmt(Stmt::Assignment(parts)) if ptr::eq(&parts.1.lhs, chain) => Some(parts),
            _ => None,
        });
        let steps = steps(chain);
        let (Some(Step::Field(name, _)), inside) = (steps.first(), steps.get(1..)) else { return };
        let part = match *name {
            "payload" => &mut self.payload,
            "meta" => &mut self.meta,
            _ => return,
        };
        match (inside.unwrap_or_default(), assignment) {
            ([], Some(parts)) => part.is_made_of(&parts.1.rhs),
            ([Step::Field(field, _)], Some(parts)) if !parts.0.is_op_assignment() => {
                part.made.insert((*field).to_owned());
            }
            ([Step::Field(field, at), ..], _) => {
                part.reads(field, *at, may_be_missing(chain, outer));
            }
            // Who looks at it as a whole may add some.
            _ => part.anything = true,
        }
    }
}

/// The names in a map that is written out.
fn fields_of(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Map(parts, _) => Some(parts.1.keys().map(ToString::to_string).collect()),
        Expr::DynamicConstant(value, _) => {
            Some(value.as_map_ref().ok()?.keys().map(ToString::to_string).collect())
        }
        _ => None,
    }
}

/// Whether the script says what is to happen when the value is not there: `a ?? 0`, `a == ()`,
/// `a?.b`, `type_of(a)`, or a `try` around it.
pub(crate) fn may_be_missing(chain: &Expr, outer: &[ASTNode]) -> bool {
    let is_optional_link = |expr: &Expr| matches!(expr, Expr::Dot(_, flags, _) | Expr::Index(_, flags, _) if flags.contains(ASTFlags::NEGATED));
    let mut rest = chain;
    while let Expr::Dot(parts, ..) | Expr::Index(parts, ..) = rest {
        if is_optional_link(rest) {
            return true;
        }
        rest = &parts.rhs;
    }
    if outer.iter().any(|node| matches!(node, ASTNode::Stmt(Stmt::TryCatch(..)))) {
        return true;
    }
    match outer.last() {
        Some(ASTNode::Expr(Expr::Coalesce(values, _))) => {
            values.last().is_none_or(|last| !ptr::eq(last, chain))
        }
        Some(ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _))) => {
            let is_compared = matches!(call.name.as_str(), "==" | "!=");
            let with_nothing = call.args.iter().any(|value| matches!(value, Expr::Unit(_)));
            call.name == "type_of" || is_compared && with_nothing
        }
        Some(ASTNode::Stmt(Stmt::Switch(parts, _))) => ptr::eq(&parts.0, chain),
        _ => false,
    }
}
