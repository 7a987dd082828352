//! Which fields of the payload a script reads and sends, for the check that something gives them.
//!
//! The rule: what is not understood here is unknown, and of the unknown nothing is said.

use std::{collections::BTreeSet, ptr};

use forebay_sdk::{FieldRead, Fields, Sends};
use rhai::{AST, ASTFlags, ASTNode, Expr, Stmt};

use crate::uses::{PayloadUse, Step, Uses, starts_chain, steps};

/// What a script that compiles reads and sends.
pub(crate) fn of(ast: &AST) -> Fields {
    // Who looks at the payload as a whole may look there for a field, add some or remove some.
    let PayloadUse::Fields { written, .. } = Uses::of(ast).payload else {
        return Fields::default();
    };
    let mut found = Found::default();
    for statement in ast.statements() {
        statement.walk(&mut Vec::new(), &mut |path: &[ASTNode]| {
            found.visit(path);
            true
        });
    }
    let mut reads = found.reads;
    reads.retain(|read| !found.optional.contains(&read.field));
    let mut sent: BTreeSet<String> = written.iter().map(ToString::to_string).collect();
    sent.extend(found.made);
    let sends = if found.anything { Sends::Unknown } else { Sends::Also(sent) };
    Fields { reads, sends }
}

#[derive(Default)]
struct Found {
    reads: Vec<FieldRead>,
    /// Fields that the script is prepared to miss.
    optional: BTreeSet<String>,
    /// Fields of payloads that the script makes.
    made: BTreeSet<String>,
    /// It may send anything.
    anything: bool,
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
            ASTNode::Expr(Expr::Map(parts, _)) => self.anything |= parts.1.contains_key("payload"),
            ASTNode::Expr(Expr::DynamicConstant(value, _)) => {
                self.anything |= value.as_map_ref().is_ok_and(|map| map.contains_key("payload"));
            }
            _ => (),
        }
    }

    /// Sees `msg.payload.a` in `chain`, which stands in `outer`.
    fn chain(&mut self, chain: &Expr, outer: &[ASTNode]) {
        let assignment = outer.last().and_then(|node| match node {
            ASTNode::Stmt(Stmt::Assignment(parts)) if ptr::eq(&parts.1.lhs, chain) => Some(parts),
            _ => None,
        });
        let steps = steps(chain);
        match (steps.as_slice(), assignment) {
            ([Step::Field("payload", _)], Some(parts)) => match fields_of(&parts.1.rhs) {
                Some(fields) => self.made.extend(fields),
                None => self.anything = true,
            },
            ([Step::Field("payload", _), Step::Field(..)], Some(parts))
                if !parts.0.is_op_assignment() => {}
            ([Step::Field("payload", _), Step::Field(field, at), ..], _) => {
                if may_be_missing(chain, outer) {
                    self.optional.insert((*field).to_owned());
                }
                let inside = at.line().zip(at.position());
                let field = (*field).to_owned();
                self.reads.push(FieldRead { field, setting: "script".into(), inside });
            }
            _ => (),
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
