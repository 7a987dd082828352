//! A condition on messages, or another value that is computed of one: a single expression of the script language.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use forebay_sdk::{
    Expression, FieldRead, Gives, Level, Message, Period, Problem, Value, expression::Expressions,
};
use rhai::{AST, Dynamic, Map, Position, Stmt};

use crate::{
    convert,
    drop_in::Rhai,
    failure::Failure,
    fields,
    host::{self, Limits, Needs},
    lint,
    modules::Modules,
    rules::{SCRIPT_SYNTAX, SENDS_NOTHING, UNKNOWN_VARIABLE},
    transform::incoming,
    uses::{self, StateUse, Uses},
    words::problem,
};

/// A condition has no loops to speak of.
const LIMITS: Limits = Limits { max_operations: 10_000, timeout: Period::seconds(1).0 };

/// A condition that compiles.
#[derive(Clone)]
pub(crate) struct Condition(Computed);

/// An expression that compiles.
#[derive(Clone)]
struct Computed {
    ast: AST,
    uses: Uses,
    needs: Needs,
    reads: Vec<FieldRead>,
    /// None: it sends nothing.
    outputs: Arc<[String]>,
    /// The setting that holds it, for errors.
    setting: String,
}

impl Expressions for Rhai {
    fn compile(
        &self,
        text: &str,
        setting: &str,
        gives: Gives,
        problems: &mut Vec<Problem>,
    ) -> Option<Arc<dyn Expression>> {
        let (computed, found) = Computed::compile(text, setting, gives);
        problems.extend(found);
        Some(Arc::new(computed?))
    }
}

impl Condition {
    /// Reads a condition, and reports what is wrong with it. `setting` is where it stands.
    pub(crate) fn compile(text: &str, setting: &str) -> (Option<Condition>, Vec<Problem>) {
        let (computed, problems) = Computed::compile(text, setting, Gives::Truth);
        (computed.map(Condition), problems)
    }

    /// The fields that it reads.
    pub(crate) fn reads(&self) -> Vec<FieldRead> {
        self.0.reads.clone()
    }

    /// Whether it holds for a message of a node.
    pub(crate) fn holds(&self, message: &Message, node: &Arc<str>) -> anyhow::Result<bool> {
        self.0.holds(message, node)
    }
}

impl Computed {
    fn compile(text: &str, setting: &str, gives: Gives) -> (Option<Computed>, Vec<Problem>) {
        let noun = match gives {
            Gives::Truth => "condition",
            Gives::Value => "expression",
        };
        let (ast, mut problems) = lint::compile(text, &[]);
        // It sends nothing.
        problems.retain(|problem| problem.rule != &SENDS_NOTHING);
        problems.extend(ast.as_ref().and_then(|ast| no_expression(ast, gives)));
        for problem in &mut problems {
            setting.clone_into(&mut problem.setting);
            problem.message = problem.message.replacen("script", noun, 1);
            if problem.rule == &UNKNOWN_VARIABLE && problem.label.starts_with("expected msg") {
                let name = problem.message.split('`').nth(1).unwrap_or_default();
                problem.label = format!("a field of the payload is `msg.payload.{name}`");
            }
        }
        let is_right = problems.iter().all(|problem| problem.level != Level::Error);
        let ast = ast.filter(|_| is_right);
        (ast.map(|ast| Computed::of(ast, setting)), problems)
    }

    fn of(written: AST, setting: &str) -> Computed {
        let reads = fields::of(&written).0.reads.into_iter();
        let reads = reads.map(|read| FieldRead { setting: setting.to_owned().into(), ..read });
        let reads = reads.collect();
        let ast = host::optimize(written);
        let (uses, needs) = (Uses::of(&ast), uses::needs(&ast, Modules::default()));
        let (outputs, setting) = (Arc::new([]), setting.to_owned());
        Computed { ast, uses, needs, reads, outputs, setting }
    }

    /// What it gives is read by `read`.
    fn evaluate<T>(
        &self,
        message: &Message,
        node: &Arc<str>,
        read: impl FnOnce(Dynamic) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let (msg, _) = incoming(&self.uses, message)?;
        let mut scope = host::scope(Map::new(), Map::new());
        scope.push_constant("msg", msg);
        let room = message.payload.size_bytes();
        let ended =
            host::run(&self.ast, &mut scope, node, &self.outputs, LIMITS, &self.needs, room);
        let value = ended.result.map_err(|error| {
            let modules = &self.needs.modules;
            let failure = Failure { ast: &self.ast, modules, limits: LIMITS, file: None };
            anyhow!(failure.words_of(*error))
        });
        value.and_then(read).with_context(|| format!("`{}`", self.setting))
    }
}

impl Expression for Computed {
    fn value(&self, message: &Message, node: &Arc<str>) -> anyhow::Result<Value> {
        self.evaluate(message, node, |value| convert::to_value(&value).map_err(anyhow::Error::msg))
    }

    fn holds(&self, message: &Message, node: &Arc<str>) -> anyhow::Result<bool> {
        self.evaluate(message, node, |value| {
            let kind = convert::kind(&value);
            value.as_bool().map_err(|_| anyhow!("expected true or false, found {kind}"))
        })
    }

    fn reads(&self) -> Vec<FieldRead> {
        self.reads.clone()
    }

    fn reads_time(&self) -> bool {
        self.uses.time
    }
}

/// What is no expression: several statements, or one that changes something.
fn no_expression(ast: &AST, gives: Gives) -> Option<Problem> {
    let is_one = match ast.statements() {
        [Stmt::Expr(_) | Stmt::FnCall(..)] => Uses::of(ast).state == StateUse::Nothing,
        _ => false,
    };
    let at = ast.statements().iter().map(Stmt::position).find(|at| !at.is_none());
    let at = at.unwrap_or(Position::NONE);
    let label = match ast.statements() {
        [Stmt::Assignment(_)] if gives == Gives::Truth => "`=` changes a value; `==` compares",
        _ if gives == Gives::Truth => {
            "expected one expression that is true or false, such as `msg.payload.power > 100`"
        }
        _ => "expected one expression, such as `msg.payload.volts * msg.payload.amps`",
    };
    (!is_one)
        .then(|| problem(&SCRIPT_SYNTAX, at, "script cannot be used".to_owned(), label.to_owned()))
}
