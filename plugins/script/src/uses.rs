//! Which parts of `msg` a script uses, read from its syntax tree, so that only those are converted.
//!
//! The rule: whatever is not understood here counts as a use of everything.

use std::{collections::BTreeSet, mem, ptr};

use rhai::{AST, ASTFlags, ASTNode, BinaryExpr, Expr, Identifier, Position, Stmt};

use crate::{
    host::{Needs, Operators},
    modules::Modules,
};

/// The fields of a message, as scripts know it.
pub(crate) const FIELDS: [&str; 4] = ["topic", "time", "payload", "meta"];

/// What a script uses of the messages it gets, and of what it remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    pub topic: bool,
    pub time: bool,
    pub meta: bool,
    pub payload: PayloadUse,
    pub state: StateUse,
}

/// What a script uses of `state`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum StateUse {
    #[default]
    Nothing,
    /// It changes nothing.
    Reads,
    /// It may change these fields, sorted, and no others.
    Fields(Vec<Identifier>),
    /// It may change anything.
    Whole,
}

impl StateUse {
    pub(crate) fn may_change(&self) -> bool {
        matches!(self, StateUse::Fields(_) | StateUse::Whole)
    }
}

/// What a script uses of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PayloadUse {
    /// Nothing but these fields.
    Fields {
        /// Every field that is read or written, sorted.
        all: Vec<Identifier>,
        /// Those that may be changed, sorted.
        written: Vec<Identifier>,
    },
    /// Anything.
    Whole,
}

impl Default for PayloadUse {
    fn default() -> PayloadUse {
        PayloadUse::Fields { all: Vec::new(), written: Vec::new() }
    }
}

impl Uses {
    /// Everything: right for any script.
    pub(crate) fn everything() -> Uses {
        Uses {
            topic: true,
            time: true,
            meta: true,
            payload: PayloadUse::Whole,
            state: StateUse::Whole,
        }
    }

    /// What this script uses.
    pub(crate) fn of(ast: &AST) -> Uses {
        let mut found = Found::default();
        // Functions do not see `msg`; they get it as an argument, which counts as a use here.
        for statement in ast.statements() {
            statement.walk(&mut Vec::new(), &mut |path| found.visit(path));
        }
        if found.everything {
            return Uses::everything();
        }
        let payload = if found.whole_payload {
            PayloadUse::Whole
        } else {
            PayloadUse::Fields {
                all: found.fields.into_iter().collect(),
                written: found.written.into_iter().collect(),
            }
        };
        Uses {
            topic: found.parts.contains("topic"),
            time: found.parts.contains("time"),
            meta: found.parts.contains("meta"),
            payload,
            state: found.state,
        }
    }
}

#[derive(Default)]
struct Found {
    parts: BTreeSet<String>,
    fields: BTreeSet<Identifier>,
    written: BTreeSet<Identifier>,
    whole_payload: bool,
    state: StateUse,
    everything: bool,
}

impl Found {
    /// Looks at the last node of `path`; the others are what it stands in. False ends the walk.
    fn visit(&mut self, path: &[ASTNode]) -> bool {
        let (node, outer) = path.split_last().expect("a walk visits a node");
        match node {
            ASTNode::Expr(Expr::Variable(variable, ..)) if variable.1 == "msg" => {
                self.variable(node, outer);
            }
            ASTNode::Expr(Expr::Variable(variable, ..)) if variable.1 == "state" => {
                self.state(node, outer);
            }
            // The walk does not go into the value of a `break`.
            ASTNode::Stmt(Stmt::BreakLoop(Some(_), ..)) => self.everything = true,
            ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _)) => {
                // A call that sees the caller's variables; and one that could forge our mark.
                self.everything |= call.capture_parent_scope || call.name == "set_tag";
            }
            ASTNode::Expr(Expr::MethodCall(call, _)) => self.everything |= call.name == "set_tag",
            _ => (),
        }
        !self.everything
    }

    fn variable(&mut self, node: &ASTNode, outer: &[ASTNode]) {
        match outer.split_last() {
            Some((ASTNode::Expr(parent), outer)) if starts_chain(parent, node, outer) => {
                self.chain(parent, &steps(parent), outer);
            }
            _ => self.everything |= !flows_out(node, outer),
        }
    }

    /// Sees `state`, in a chain or by itself.
    fn state(&mut self, node: &ASTNode, outer: &[ASTNode]) {
        let steps = match outer.split_last() {
            Some((ASTNode::Expr(chain), outer)) if starts_chain(chain, node, outer) => {
                let steps = steps(chain);
                // A function may change what it is called on.
                let is_argument = match outer.last() {
                    Some(
                        ASTNode::Expr(Expr::FnCall(call, _) | Expr::MethodCall(call, _))
                        | ASTNode::Stmt(Stmt::FnCall(call, _)),
                    ) => !call.is_operator_call(),
                    _ => false,
                };
                let calls = steps.iter().any(|step| matches!(step, Step::Call));
                if assignment(chain, outer).is_none() && !calls && !is_argument {
                    if self.state == StateUse::Nothing {
                        self.state = StateUse::Reads;
                    }
                    return;
                }
                steps
            }
            _ => Vec::new(),
        };
        self.state = match (mem::take(&mut self.state), steps.first()) {
            (StateUse::Whole, _) | (_, None | Some(Step::Call | Step::Index(_) | Step::Other)) => {
                StateUse::Whole
            }
            (StateUse::Fields(mut names), Some(Step::Field(name, _))) => {
                let name = Identifier::from(*name);
                if let Err(at) = names.binary_search(&name) {
                    names.insert(at, name);
                }
                StateUse::Fields(names)
            }
            (_, Some(Step::Field(name, _))) => StateUse::Fields(vec![(*name).into()]),
        };
    }

    /// Sees `msg.a.b` in `chain`, which stands in `outer`.
    fn chain(&mut self, chain: &Expr, steps: &[Step], outer: &[ASTNode]) {
        let assignment = assignment(chain, outer);
        match steps {
            [Step::Field("payload", _), Step::Field(field, _), rest @ ..] => {
                self.fields.insert((*field).into());
                // A method may change the value it is called on.
                if assignment.is_some() || rest.iter().any(|step| matches!(step, Step::Call)) {
                    self.written.insert((*field).into());
                }
            }
            // A new payload needs nothing of the old one.
            [Step::Field("payload", _)] if assignment == Some(false) => (),
            [Step::Field("payload", _), ..] => self.whole_payload = true,
            [Step::Field(part, _), ..] => {
                self.parts.insert((*part).to_owned());
            }
            _ => self.everything = true,
        }
    }
}

/// Whether `chain` is what is assigned to; then, whether its value counts, as with `+=`.
fn assignment(chain: &Expr, outer: &[ASTNode]) -> Option<bool> {
    match outer.last() {
        Some(ASTNode::Stmt(Stmt::Assignment(parts))) if ptr::eq(&parts.1.lhs, chain) => {
            Some(parts.0.is_op_assignment())
        }
        _ => None,
    }
}

/// Whether a script names a variable.
pub(crate) fn names(ast: &AST, name: &str) -> bool {
    let mut names = false;
    ast.walk(&mut |path: &[ASTNode]| {
        names |= matches!(path.last(), Some(ASTNode::Expr(Expr::Variable(variable, ..))) if variable.1 == name);
        !names
    });
    names
}

/// What a script needs to run.
pub(crate) fn needs(ast: &AST, modules: Modules) -> Needs {
    let all = || modules.iter().map(|module| &module.ast).chain([ast]);
    let is_careful = all().any(|ast| operators(ast) == Operators::Careful);
    let operators = if is_careful { Operators::Careful } else { Operators::Fast };
    let captures = all().any(captures);
    Needs { operators, captures, modules, coverage: None }
}

/// Whether some function may capture a variable.
fn captures(ast: &AST) -> bool {
    let mut captures = false;
    ast.walk(&mut |path: &[ASTNode]| {
        // The walk does not go into the value of a `break`.
        captures |=
            matches!(path, [.., ASTNode::Stmt(Stmt::Share(_) | Stmt::BreakLoop(Some(_), ..))]);
        !captures
    });
    captures
}

/// Whether some `+` may be one of texts: nothing in front of it or behind it is a number.
fn operators(ast: &AST) -> Operators {
    let mut operators = Operators::Fast;
    ast.walk(&mut |path: &[ASTNode]| {
        if let Some(ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _))) =
            path.last()
            && call.name == "+"
            && !call.args.iter().any(is_number)
        {
            operators = Operators::Careful;
        }
        operators == Operators::Fast
    });
    operators
}

fn is_number(expr: &Expr) -> bool {
    matches!(expr, Expr::IntegerConstant(..) | Expr::FloatConstant(..))
}

/// One step of `msg.field["field"].call()`.
pub(crate) enum Step<'a> {
    Field(&'a str, Position),
    /// `[...]` of what is no text that is written out.
    Index(&'a Expr),
    Call,
    Other,
}

/// The steps behind the first value of a chain.
pub(crate) fn steps(chain: &Expr) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = link(chain);
    while let Some((parts, flags, is_index)) = rest {
        // Without the flag the right side is this step and those behind it.
        rest = if flags.contains(ASTFlags::BREAK) { None } else { link(&parts.rhs) };
        let step = rest.map_or(&parts.rhs, |(parts, ..)| &parts.lhs);
        steps.push(match step {
            Expr::StringConstant(name, at) if is_index => Step::Field(name.as_str(), *at),
            Expr::Property(property, at) if !is_index => Step::Field(property.2.as_str(), *at),
            Expr::MethodCall(..) | Expr::FnCall(..) if !is_index => Step::Call,
            index if is_index => Step::Index(index),
            _ => Step::Other,
        });
    }
    steps
}

fn link(expr: &Expr) -> Option<(&BinaryExpr, ASTFlags, bool)> {
    match expr {
        Expr::Dot(parts, flags, _) => Some((parts, *flags, false)),
        Expr::Index(parts, flags, _) => Some((parts, *flags, true)),
        _ => None,
    }
}

/// Whether `parent` is a chain that begins with `node`. In `list[msg].x` the tree has `msg` on the
/// left of `.x`, too, but as a step of the chain around it.
pub(crate) fn starts_chain(parent: &Expr, node: &ASTNode, outer: &[ASTNode]) -> bool {
    let begins = link(parent).is_some_and(|(parts, ..)| is(node, &parts.lhs));
    let is_step = match outer.last() {
        Some(ASTNode::Expr(outer)) => link(outer).is_some_and(|(parts, flags, _)| {
            ptr::eq(&parts.rhs, parent) && !flags.contains(ASTFlags::BREAK)
        }),
        _ => false,
    };
    begins && !is_step
}

fn is(node: &ASTNode, expr: &Expr) -> bool {
    matches!(node, ASTNode::Expr(node) if ptr::eq(*node, expr))
}

/// Whether all that happens to a value is that it is sent on, or dropped.
fn flows_out(node: &ASTNode, outer: &[ASTNode]) -> bool {
    let mut inner = node;
    for node in outer.iter().rev() {
        match node {
            ASTNode::Expr(Expr::Array(..)) => (),
            ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _)) => {
                return call.name == "emit"
                    && !call.is_qualified()
                    && call.args.len() == 2
                    && is(inner, &call.args[1]);
            }
            ASTNode::Stmt(Stmt::Return(_, flags, _)) => return !flags.contains(ASTFlags::BREAK),
            ASTNode::Stmt(Stmt::Switch(parts, _)) if !is(inner, &parts.0) => (),
            ASTNode::Stmt(Stmt::Expr(_) | Stmt::If(..) | Stmt::Block(_) | Stmt::TryCatch(..)) => (),
            _ => return false,
        }
        inner = node;
    }
    true
}
