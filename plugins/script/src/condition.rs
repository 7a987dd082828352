//! A condition on messages: one expression of the script language that gives true or false.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use forebay_sdk::{FieldRead, Message, Period, Problem};
use rhai::{AST, Dynamic, EvalAltResult, Map, Position, Scope, Stmt};

use crate::{
    convert,
    failure::Failure,
    fields,
    host::{self, Limits, Needs},
    lint,
    rules::{SCRIPT_SYNTAX, SENDS_NOTHING, UNKNOWN_VARIABLE},
    transform::incoming,
    uses::{self, StateUse, Uses},
    words::problem,
};

/// A condition has no loops to speak of.
const LIMITS: Limits = Limits { max_operations: 10_000, timeout: Period::seconds(1).0 };

/// A condition that compiles.
#[derive(Clone)]
pub(crate) struct Condition {
    ast: AST,
    uses: Uses,
    needs: Needs,
    reads: Vec<FieldRead>,
    /// None: it sends nothing.
    outputs: Arc<[String]>,
    /// The setting that holds it, for errors.
    setting: String,
}

impl Condition {
    /// Reads a condition, and reports what is wrong with it. `setting` is where it stands.
    pub(crate) fn compile(text: &str, setting: &str) -> (Option<Condition>, Vec<Problem>) {
        let (ast, mut problems) = lint::compile(text, &[]);
        // A condition sends nothing.
        problems.retain(|problem| problem.rule != &SENDS_NOTHING);
        problems.extend(ast.as_ref().and_then(no_condition));
        for problem in &mut problems {
            setting.clone_into(&mut problem.setting);
            problem.message = problem.message.replacen("script", "condition", 1);
            if problem.rule == &UNKNOWN_VARIABLE && problem.label.starts_with("expected msg") {
                let name = problem.message.split('`').nth(1).unwrap_or_default();
                problem.label = format!("a field of the payload is `msg.payload.{name}`");
            }
        }
        let is_right = problems.iter().all(|problem| problem.level != forebay_sdk::Level::Error);
        let ast = ast.filter(|_| is_right);
        (ast.map(|ast| Condition::of(ast, setting)), problems)
    }

    fn of(written: AST, setting: &str) -> Condition {
        let reads = fields::of(&written).0.reads.into_iter();
        let reads = reads.map(|read| FieldRead { setting: setting.to_owned().into(), ..read });
        let reads = reads.collect();
        let ast = host::optimize(written);
        let (uses, needs) = (Uses::of(&ast), uses::needs(&ast));
        let (outputs, setting) = (Arc::new([]), setting.to_owned());
        Condition { ast, uses, needs, reads, outputs, setting }
    }

    /// The fields that it reads.
    pub(crate) fn reads(&self) -> Vec<FieldRead> {
        self.reads.clone()
    }

    /// Whether it holds for a message of a node.
    pub(crate) fn holds(&self, message: &Message, node: &Arc<str>) -> anyhow::Result<bool> {
        let (msg, _) = incoming(&self.uses, message)?;
        let mut scope = host::scope(Map::new(), Map::new());
        scope.push_constant("msg", msg);
        let result = self.evaluate(&mut scope, node, message.payload.size_bytes());
        let value = result.map_err(|error| {
            let failure = Failure { ast: &self.ast, limits: LIMITS, file: None };
            anyhow!(failure.words_of(*error))
        });
        let truth = value.and_then(|value| {
            let kind = convert::kind(&value);
            value.as_bool().map_err(|_| anyhow!("expected true or false, found {kind}"))
        });
        truth.with_context(|| format!("`{}`", self.setting))
    }

    fn evaluate(
        &self,
        scope: &mut Scope<'static>,
        node: &Arc<str>,
        payload_bytes: usize,
    ) -> Result<Dynamic, Box<EvalAltResult>> {
        host::run(&self.ast, scope, node, &self.outputs, LIMITS, self.needs, payload_bytes).result
    }
}

/// What is no condition: several statements, or one that changes something.
fn no_condition(ast: &AST) -> Option<Problem> {
    let is_one = match ast.statements() {
        [Stmt::Expr(_) | Stmt::FnCall(..)] => Uses::of(ast).state == StateUse::Nothing,
        _ => false,
    };
    let at = ast.statements().iter().map(Stmt::position).find(|at| !at.is_none());
    let at = at.unwrap_or(Position::NONE);
    let label = match ast.statements() {
        [Stmt::Assignment(_)] => "`=` changes a value; `==` compares".to_owned(),
        _ => "expected one expression that is true or false, such as `msg.payload.power > 100`"
            .to_owned(),
    };
    (!is_one).then(|| problem(&SCRIPT_SYNTAX, at, "script cannot be used".to_owned(), label))
}
