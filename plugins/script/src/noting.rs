//! A script that takes note of what of it runs: in front of each statement stands a call that says so. Statements in
//! functions have none: the language does not let others into those.

use std::sync::{Arc, LazyLock};

use forebay_sdk::{At, Reachable, Spot};
use rhai::{AST, Expr, FnCallExpr, Position, Stmt, StmtBlock};

use crate::host::{self, REACHED};

/// The call, without what it says.
static CALL: LazyLock<Option<Box<FnCallExpr>>> = LazyLock::new(|| {
    let call = host::read(&format!("{REACHED}(0)"), &[]).ok()?;
    match call.statements().first()? {
        Stmt::FnCall(call, _) => Some(call.clone()),
        Stmt::Expr(value) => match &**value {
            Expr::FnCall(call, _) => Some(call.clone()),
            _ => None,
        },
        _ => None,
    }
});

/// The same script with these calls, and what they stand for.
pub(crate) fn noting(ast: &AST, file: Option<&Arc<str>>) -> (AST, Vec<Spot>) {
    let mut noting = Noting { file, spots: Vec::new() };
    let statements = noting.statements(ast.statements());
    (AST::new(statements, Arc::clone(ast.shared_lib())), noting.spots)
}

struct Noting<'a> {
    file: Option<&'a Arc<str>>,
    spots: Vec<Spot>,
}

impl Noting<'_> {
    fn statements(&mut self, statements: &[Stmt]) -> Vec<Stmt> {
        let mut noted = Vec::new();
        for statement in statements {
            // What is put there for a function that captures variables is none of the author's.
            if !matches!(statement, Stmt::Noop(_) | Stmt::Share(_)) {
                noted.extend(self.call(statement.position(), Reachable::Statement));
            }
            let mut statement = statement.clone();
            self.inside(&mut statement);
            noted.push(statement);
        }
        noted
    }

    fn block(&mut self, block: &mut StmtBlock) {
        let statements = self.statements(block.statements());
        *block = StmtBlock::new_with_span(statements, block.span());
    }

    fn inside(&mut self, statement: &mut Stmt) {
        match statement {
            Stmt::If(flow, at) => {
                self.block(&mut flow.body);
                if flow.branch.is_empty() {
                    let call = self.call(*at, Reachable::WayAround);
                    flow.branch = StmtBlock::new_with_span(call, flow.body.span());
                } else {
                    self.block(&mut flow.branch);
                }
            }
            Stmt::While(flow, _) | Stmt::Do(flow, _, _) => self.block(&mut flow.body),
            Stmt::For(parts, _) => self.block(&mut parts.2.body),
            Stmt::Block(block) => self.block(block),
            Stmt::TryCatch(flow, _) => {
                self.block(&mut flow.body);
                self.block(&mut flow.branch);
            }
            Stmt::Switch(parts, _) => {
                parts.1.expressions.iter_mut().for_each(|case| self.value(&mut case.rhs));
            }
            Stmt::Expr(value) => self.value(value),
            Stmt::Var(parts, ..) => self.value(&mut parts.1),
            Stmt::Assignment(parts) => self.value(&mut parts.1.rhs),
            Stmt::Return(Some(value), ..) => self.value(value),
            _ => (),
        }
    }

    /// A value that is a block, or an `if`.
    fn value(&mut self, value: &mut Expr) {
        if let Expr::Stmt(block) = value {
            self.block(block);
        }
    }

    fn call(&mut self, at: Position, what: Reachable) -> Option<Stmt> {
        let inside = (at.line()?, at.position().unwrap_or(1));
        let mut call = CALL.clone()?;
        let number = i64::try_from(self.spots.len()).ok()?;
        *call.args.first_mut()? = Expr::IntegerConstant(number, Position::NONE);
        self.spots.push(Spot { at: At { file: self.file.map(Arc::clone), inside }, what });
        // It is nowhere, so no error is taken for one of the call.
        Some(Stmt::FnCall(call, Position::NONE))
    }
}
