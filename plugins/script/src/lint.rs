//! What is wrong with a script before it runs.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use forebay_sdk::{Level, ModuleSource, Problem, finding::nearest};
use rhai::{
    AST, ASTFlags, ASTNode, Expr, FnAccess, FnCallExpr, LexError, ParseError, ParseErrorType,
    Position, Stmt,
};

use crate::{
    failure::Failure,
    host::{self, Limits},
    mistakes::{self, without_comment},
    modules::{Imported, Modules, imports},
    patterns,
    rules::{
        SCRIPT_SYNTAX, SENDS_NOTHING, UNDECLARED_OUTPUT, UNKNOWN_FIELD, UNKNOWN_FUNCTION,
        UNKNOWN_VARIABLE,
    },
    uses::{FIELDS, Step, starts_chain, steps},
    words::{did_you_mean, for_function, for_object, lowercase_first, problem},
};

/// One unknown variable hides the next; this many are looked for.
const MAX_UNKNOWN_VARIABLES: usize = 16;

/// What a module may use to make its constants.
const MODULE_LIMITS: Limits = Limits { max_operations: 100_000, timeout: Duration::from_secs(1) };

/// Functions that the language itself has, whatever they are called with.
const BUILT_IN: [&str; 7] =
    ["call", "curry", "Fn", "is_def_fn", "is_def_var", "is_shared", "type_of"];

/// A script as it was written, with what it imports.
#[derive(Clone)]
pub(crate) struct Code {
    pub ast: AST,
    pub modules: Modules,
}

/// Compiles a script and what it imports, and reports what is wrong with them. None when nothing could
/// run.
pub(crate) fn script(
    text: &str,
    sources: &[ModuleSource],
    around: &Around<'_>,
) -> (Option<Code>, Vec<Problem>) {
    let (modules, mut problems) = modules(sources);
    let is_right = problems.iter().all(|problem| problem.level != Level::Error);
    let (ast, found) = compile_by(host::read, text, around, &modules);
    problems.extend(found);
    problems.extend(ast.iter().flat_map(|ast| overlooked_imports(ast, sources)));
    (ast.filter(|_| is_right).map(|ast| Code { ast, modules }), problems)
}

/// Imports that nobody read: behind a text with `${...}`, they look like a part of it.
fn overlooked_imports(ast: &AST, sources: &[ModuleSource]) -> Vec<Problem> {
    let mut problems = Vec::new();
    ast.walk(&mut |path: &[ASTNode]| {
        if let Some(ASTNode::Stmt(Stmt::Import(parts, at))) = path.last()
            && let Expr::StringConstant(name, _) = &parts.0
            && sources.iter().all(|source| *source.name != **name)
        {
            let message = format!("script cannot import `{name}` here");
            let label = "expected at the beginning of the script".to_owned();
            problems.push(problem(&SCRIPT_SYNTAX, *at, message, label));
        }
        true
    });
    problems
}

/// Compiles a text that imports nothing.
pub(crate) fn compile(text: &str, outputs: &[String]) -> (Option<AST>, Vec<Problem>) {
    compile_by(host::read, text, &Around::script(outputs), &Modules::default())
}

/// Compiles modules, each behind those that it imports itself. One that is wrong is left out.
fn modules(sources: &[ModuleSource]) -> (Modules, Vec<Problem>) {
    let (mut modules, mut problems) = (Modules::default(), Vec::new());
    for ModuleSource { name, path, text } in sources {
        let (ast, found) = compile_by(host::read_module, text, &Around::Module, &modules);
        problems.extend(found.into_iter().map(|problem| problem.in_module(name)));
        let Some(mut ast) = ast.map(host::optimize_module) else { continue };
        // What is wrong with one that it imports was said.
        if imports(text).iter().any(|import| modules.get(&import.name).is_none()) {
            continue;
        }
        ast.set_source(&**name);
        match host::module(&ast, &modules, MODULE_LIMITS) {
            Ok(module) => modules.add(name, Imported { path: Arc::clone(path), ast, module }),
            Err(error) => {
                let at = error.position();
                let (ast, modules) = (&ast, &modules);
                let failure = Failure { ast, modules, limits: MODULE_LIMITS, file: None };
                let words = failure.words_of(*error);
                let message = "a constant of the module cannot be computed".to_owned();
                problems.push(problem(&SCRIPT_SYNTAX, at, message, words).in_module(name));
            }
        }
    }
    (modules, problems)
}

/// What a text is a part of.
pub(crate) enum Around<'a> {
    /// A node, which has these outputs beside the main one and `errors`.
    Script {
        outputs: &'a [String],
        /// It is called again with what a web service answers.
        asks: bool,
    },
    /// Scripts that import it.
    Module,
}

impl Around<'_> {
    /// A node that asks nobody.
    pub(crate) fn script(outputs: &[String]) -> Around<'_> {
        Around::Script { outputs, asks: false }
    }

    /// The variables that are there before it makes any.
    fn variables(&self) -> &'static [&'static str] {
        match self {
            Around::Script { asks: false, .. } => &["msg", "state", "settings"],
            Around::Script { asks: true, .. } => &["msg", "state", "settings", host::ANSWER],
            Around::Module => &[],
        }
    }
}

/// Compiles by any compiler, which gets the text and the names that are to count as known.
pub(crate) fn compile_by(
    compiler: impl Fn(&str, &[String]) -> Result<AST, ParseError>,
    text: &str,
    around: &Around<'_>,
    modules: &Modules,
) -> (Option<AST>, Vec<Problem>) {
    if text.trim().is_empty() {
        let (message, label) = match around {
            Around::Script { .. } => ("`script` is empty", "expected a script, such as `msg`"),
            Around::Module => {
                ("module is empty", "expected functions, such as `fn half(x) { x / 2 }`")
            }
        };
        let empty = Problem::new("script", message, label).rule(&SCRIPT_SYNTAX);
        return match around {
            Around::Script { .. } => (None, vec![empty]),
            Around::Module => (None, vec![empty.inside(1, 1)]),
        };
    }
    let mut unknown: Vec<(String, Position)> = Vec::new();
    // A compiler knows those that every script has.
    let mut names: Vec<String> = around
        .variables()
        .iter()
        .filter(|name| **name == host::ANSWER)
        .map(|name| (*name).to_owned())
        .collect();
    let compiled = loop {
        match compiler(text, &names) {
            Ok(ast) => break Ok(ast),
            Err(error) => match *error.0 {
                ParseErrorType::VariableUndefined(name)
                    if !names.contains(&name) && unknown.len() < MAX_UNKNOWN_VARIABLES =>
                {
                    names.push(name.clone());
                    unknown.push((name, error.1));
                }
                other => break Err((other, error.1)),
            },
        }
    };
    let mut tree = Tree { modules: modules.clone(), ..Tree::default() };
    if let Ok(ast) = &compiled {
        tree.read(ast);
    }
    // Of functions, the tree says more.
    let is_said = |one: &&(String, Position)| tree.unseen.contains(one);
    let unsaid = unknown.iter().filter(|one| !is_said(one));
    let mut problems: Vec<Problem> =
        unsaid.map(|(name, at)| unknown_variable(name, *at, &tree, around)).collect();
    match compiled {
        Ok(ast) => {
            problems.extend(tree.problems(around).into_iter().filter(|p| !follows(p, &unknown)));
            problems.extend(mistakes::find(
                &ast,
                text,
                |name| tree.has(name),
                |name| tree.locals.contains(name),
            ));
            if let Around::Module = around {
                problems.retain(|problem| problem.rule != &SENDS_NOTHING);
                problems.extend(no_part_of_a_module(&ast));
            }
            problems.sort_by_key(|problem| problem.inside);
            // With names that only count as known it is another script.
            (unknown.is_empty().then_some(ast), problems)
        }
        Err((error, at)) => {
            problems.push(syntax(&error, at, text));
            (None, problems)
        }
    }
}

/// What a module cannot hold: it is no script, and nobody would run it.
fn no_part_of_a_module(ast: &AST) -> Option<Problem> {
    let is_part = |statement: &&Stmt| match statement {
        Stmt::Var(_, flags, _) => flags.contains(ASTFlags::CONSTANT),
        Stmt::Import(..) | Stmt::Export(..) | Stmt::Noop(_) => true,
        _ => false,
    };
    let other = ast.statements().iter().find(|statement| !is_part(statement))?;
    let message = "a module has statements that nobody runs".to_owned();
    let label =
        "expected functions, and constants such as `export const ZERO = 273.15;`".to_owned();
    Some(problem(&SCRIPT_SYNTAX, other.position(), message, label))
}

/// Whether it is about a method of an object that is not there.
fn follows(problem: &Problem, unknown: &[(String, Position)]) -> bool {
    let lines = unknown.iter().filter(|(name, _)| for_object(name).is_some());
    let mut lines = lines.filter_map(|(_, at)| at.line());
    problem.rule == &UNKNOWN_FUNCTION
        && problem.inside.is_some_and(|(line, _)| lines.any(|of| of == line))
}

fn unknown_variable(name: &str, at: Position, tree: &Tree, around: &Around<'_>) -> Problem {
    let own = tree.locals.iter().chain(&tree.constants);
    let known = around.variables().iter().copied().chain(own.map(String::as_str));
    let near = nearest(name, known.filter(|known| *known != name));
    let label = match (for_object(name), near, around) {
        (Some(ours), ..) => ours.to_owned(),
        (None, Some(near), _) => format!("did you mean `{near}`?"),
        (None, None, Around::Script { .. }) => {
            format!("expected msg, state, settings, or a variable made with `let {name} = ...`")
        }
        (None, None, Around::Module) => "expected a constant of the module".to_owned(),
    };
    problem(&UNKNOWN_VARIABLE, at, format!("script has no variable `{name}`"), label)
}

fn syntax(error: &ParseErrorType, at: Position, text: &str) -> Problem {
    use ParseErrorType as E;
    let (label, at) = match error {
        E::MissingToken(..) | E::UnexpectedEOF if mistakes::swallowed(text).is_some() => {
            let label =
                "the script ends here: the comment takes the rest of the line; write `script: |`";
            (label.to_owned(), end_of_code_before(text, Position::NONE))
        }
        E::MissingToken(token, _) if token == ";" => {
            let end = end_of_code_before(text, at);
            // Behind the last statement nobody needs a `;`.
            let is_last = end == end_of_code_before(text, Position::NONE);
            let label = if is_last {
                "the script ends here; expected `}`"
            } else {
                "expected `;` after this"
            };
            (label.to_owned(), end)
        }
        E::MissingToken(token, why) => (format!("expected `{token}` {why}"), at),
        E::UnexpectedEOF => {
            let end = end_of_code_before(text, Position::NONE);
            ("the script ends here, unfinished".to_owned(), end)
        }
        E::Reserved(word) => (reserved(word, text, at), at),
        E::BadInput(LexError::MalformedChar(_)) => ("text stands in double quotes".to_owned(), at),
        E::ModuleUndefined(name) => (
            format!("there is no module `{name}`; expected `import \"lib/...\" as {name};` above"),
            at,
        ),
        E::ExprTooDeep => ("nested too deep; split it with `let`".to_owned(), at),
        other => (lowercase_first(&other.to_string()), at),
    };
    problem(&SCRIPT_SYNTAX, at, "script cannot be read".to_owned(), label)
}

fn reserved(word: &str, text: &str, at: Position) -> String {
    let line = text.lines().nth(at.line().unwrap_or(1) - 1).unwrap_or_default();
    let before: String = line.chars().take(at.position().unwrap_or(1) - 1).collect();
    if before.ends_with('.') {
        return format!("`{word}` is reserved; write a field of that name as [\"{word}\"]");
    }
    match word {
        "var" => "variables are made with `let`".to_owned(),
        "null" | "nil" | "undefined" => format!("there is no `{word}`; nothing is `()`"),
        _ => format!("`{word}` is reserved"),
    }
}

/// The last character of code before a place; before the end of the text when it is none.
fn end_of_code_before(text: &str, at: Position) -> Position {
    let last = at.line().unwrap_or(usize::MAX);
    let lines: Vec<&str> = text.lines().take(last).collect();
    for (index, line) in lines.iter().enumerate().rev() {
        let before = match at.position() {
            Some(column) if index + 1 == last => column.saturating_sub(1),
            _ => usize::MAX,
        };
        let code: String = without_comment(line).chars().take(before).collect();
        let column = code.trim_end().chars().count();
        if let (Ok(line), Ok(column @ 1..)) = (u16::try_from(index + 1), u16::try_from(column)) {
            return Position::new(line, column);
        }
    }
    at
}

/// What the checks need of a syntax tree.
#[derive(Default)]
struct Tree {
    /// Names of variables, in any scope.
    locals: BTreeSet<String>,
    constants: BTreeSet<String>,
    calls: Vec<Call>,
    /// Fields of `msg` that a message does not have.
    fields: Vec<(String, Position)>,
    /// Functions of the script, and how many values they take.
    functions: Vec<(String, usize)>,
    /// Whatever may be the name of a field: a function in a map is called like a method.
    names: BTreeSet<String>,
    /// Variables that a function reads and does not have.
    unseen: Vec<(String, Position)>,
    /// What can be imported.
    modules: Modules,
    imports: Vec<Imports>,
}

/// An `import`.
struct Imports {
    /// None when it is no text that is written out.
    module: Option<String>,
    /// Empty when it has none.
    alias: String,
    at: Position,
}

struct Call {
    name: String,
    /// The name of the module in front of it: `units` in `units::half(x)`.
    module: Option<String>,
    values: usize,
    is_method: bool,
    at: Position,
    /// The output and its place, of a call of `emit` that names it.
    emits_to: Option<(String, Position)>,
    /// Whether the first value is a text that is written out.
    gets_text: bool,
    /// The last value, when it is one.
    last_text: Option<(String, Position)>,
}

impl Tree {
    fn read(&mut self, ast: &AST) {
        for function in ast.iter_fn_def() {
            self.functions.push((function.name.to_string(), function.params.len()));
            self.locals.extend(function.params.iter().map(ToString::to_string));
        }
        ast.walk(&mut |path: &[ASTNode]| {
            self.node(path);
            true
        });
        for statement in ast.statements() {
            statement.walk(&mut Vec::new(), &mut |path: &[ASTNode]| {
                self.field_of_msg(path);
                true
            });
        }
        self.read_functions(ast);
    }

    fn node(&mut self, path: &[ASTNode]) {
        match path.last() {
            Some(ASTNode::Stmt(Stmt::Var(parts, flags, _))) => {
                if flags.contains(ASTFlags::CONSTANT) {
                    self.constants.insert(parts.0.name.to_string());
                } else {
                    self.locals.insert(parts.0.name.to_string());
                }
            }
            Some(ASTNode::Stmt(Stmt::For(parts, ..))) => {
                self.locals.insert(parts.0.name.to_string());
                self.locals.extend(parts.1.iter().map(|counter| counter.name.to_string()));
            }
            Some(ASTNode::Stmt(Stmt::TryCatch(parts, _))) => {
                if let Expr::Variable(variable, ..) = &parts.expr {
                    self.locals.insert(variable.1.to_string());
                }
            }
            Some(ASTNode::Stmt(Stmt::FnCall(call, at)) | ASTNode::Expr(Expr::FnCall(call, at))) => {
                self.call(call, *at, false);
            }
            Some(ASTNode::Expr(Expr::MethodCall(call, at))) => self.call(call, *at, true),
            Some(ASTNode::Stmt(Stmt::Import(parts, at))) => self.imports.push(Imports {
                module: match &parts.0 {
                    Expr::StringConstant(name, _) => Some(name.to_string()),
                    _ => None,
                },
                alias: parts.1.name.to_string(),
                at: *at,
            }),
            Some(ASTNode::Expr(Expr::Property(property, _))) => {
                self.names.insert(property.2.to_string());
            }
            Some(ASTNode::Expr(Expr::StringConstant(text, _))) => {
                self.names.insert(text.to_string());
            }
            Some(ASTNode::Expr(Expr::Map(parts, _))) => {
                self.names.extend(parts.1.keys().map(ToString::to_string));
            }
            Some(ASTNode::Expr(Expr::DynamicConstant(value, _))) => {
                let map = value.as_map_ref();
                self.names.extend(map.iter().flat_map(|map| map.keys()).map(ToString::to_string));
            }
            _ => (),
        }
    }

    fn call(&mut self, call: &FnCallExpr, at: Position, is_method: bool) {
        if call.is_operator_call() {
            return;
        }
        let emits_to = match call.args.first() {
            Some(Expr::StringConstant(output, at))
                if call.name == "emit" && !is_method && !call.is_qualified() =>
            {
                Some((output.to_string(), *at))
            }
            _ => None,
        };
        let values = call.args.len();
        let gets_text = matches!(
            call.args.first(),
            Some(Expr::StringConstant(..) | Expr::InterpolatedString(..))
        );
        let last_text = match call.args.last() {
            Some(Expr::StringConstant(text, at)) => Some((text.to_string(), *at)),
            _ => None,
        };
        self.calls.push(Call {
            gets_text,
            last_text,
            name: call.name.to_string(),
            module: call.is_qualified().then(|| call.namespace.to_string()),
            values,
            is_method,
            at,
            emits_to,
        });
    }

    fn field_of_msg(&mut self, path: &[ASTNode]) {
        let [outer @ .., ASTNode::Expr(parent), node @ ASTNode::Expr(Expr::Variable(variable, ..))] =
            path
        else {
            return;
        };
        if variable.1 != "msg" || !starts_chain(parent, node, outer) {
            return;
        }
        if let Some(Step::Field(field, at)) = steps(parent).first()
            && !FIELDS.contains(field)
        {
            self.fields.push(((*field).to_owned(), *at));
        }
    }

    /// Functions see their parameters and what they make themselves, nothing of the script. What
    /// one of them has counts as known in all: better to miss a mistake than to invent one.
    fn read_functions(&mut self, ast: &AST) {
        let functions = ast.clone_functions_only();
        let mut inside = Tree::default();
        let params = functions.iter_functions().flat_map(|function| function.params);
        inside.locals.extend(params.map(str::to_owned));
        let mut read: Vec<(String, Position)> = Vec::new();
        functions.walk(&mut |path: &[ASTNode]| {
            inside.node(path);
            if let Some(ASTNode::Expr(Expr::Variable(variable, _, at))) = path.last()
                && variable.2.is_empty()
            {
                read.push((variable.1.to_string(), *at));
            }
            true
        });
        self.unseen.extend(read.into_iter().filter(|(name, _)| !inside.has_variable(name)));
    }

    fn problems(&self, around: &Around<'_>) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(self.imports.iter().filter_map(no_import));
        problems.extend(self.calls.iter().filter_map(|call| match &call.module {
            None => self.function(call),
            Some(alias) => self.function_of_module(call, alias),
        }));
        if let Around::Script { outputs, .. } = around {
            problems.extend(self.calls.iter().filter_map(|call| output(call, outputs)));
        }
        problems.extend(self.calls.iter().filter_map(|call| self.pattern(call)));
        // A variable of that name may be anything.
        let fields = self.fields.iter().filter(|_| !self.has_variable("msg"));
        problems.extend(fields.map(|(field, at)| {
            let label = match nearest(field, FIELDS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "expected topic, time, payload or meta".to_owned(),
            };
            problem(&UNKNOWN_FIELD, *at, format!("a message has no field `{field}`"), label)
        }));
        problems.extend(self.unseen.iter().map(|(name, at)| {
            let label = match self.constants.contains(name) {
                true => format!("functions see constants of the script as `global::{name}`"),
                false => "functions see only their parameters; pass it as one".to_owned(),
            };
            problem(&UNKNOWN_VARIABLE, *at, format!("function has no variable `{name}`"), label)
        }));
        problems
    }

    /// A pattern that is written out and is none.
    fn pattern(&self, call: &Call) -> Option<Problem> {
        let is_own = self.functions.iter().any(|(own, _)| *own == call.name);
        let at_end = patterns::AT_END.contains(&call.name.as_str()) && !is_own;
        let (text, at) = call.last_text.as_ref().filter(|_| at_end)?;
        let why = patterns::compile(text).err()?;
        let message = "script has a pattern that is no regular expression".to_owned();
        Some(problem(&SCRIPT_SYNTAX, *at, message, why))
    }

    /// Whether the script gives a name to a function, a variable or a field of its own.
    fn has(&self, name: &str) -> bool {
        self.functions.iter().any(|(own, _)| own == name)
            || self.has_variable(name)
            || self.names.contains(name)
    }

    fn has_variable(&self, name: &str) -> bool {
        self.locals.contains(name) || self.constants.contains(name)
    }

    fn function(&self, call: &Call) -> Option<Problem> {
        let name = call.name.as_str();
        if BUILT_IN.contains(&name) || name.starts_with("anon$") {
            return None;
        }
        let known = host::functions();
        let native = known.get(name);
        if name == "log" && call.gets_text && self.functions.iter().all(|(own, _)| own != name) {
            let message = "`log` is the logarithm, and gets a text".to_owned();
            let label = "did you mean `print`?".to_owned();
            return Some(problem(&UNKNOWN_FUNCTION, call.at, message, label));
        }
        let scripted: Vec<usize> = self
            .functions
            .iter()
            .filter(|(own, _)| own == name)
            .map(|(_, values)| *values)
            .collect();
        if native.is_none() && scripted.is_empty() {
            if call.is_method && self.names.contains(name) {
                return None;
            }
            let own = self.functions.iter().map(|(own, _)| own.as_str());
            let is_word = |name: &&str| name.starts_with(|c: char| c.is_alphabetic());
            let choices = known.keys().map(String::as_str).filter(is_word).chain(own);
            let label = match for_function(name) {
                Some(ours) => ours.to_owned(),
                None => format!("not found{}", did_you_mean(name, choices)),
            };
            let message = format!("script has no function `{name}`");
            return Some(problem(&UNKNOWN_FUNCTION, call.at, message, label));
        }
        let all = call.values + usize::from(call.is_method);
        let fits = native.is_some_and(|takes| takes.contains(&all))
            // A method of the script has the value in front as `this`.
            || scripted.iter().any(|takes| *takes == all || *takes == call.values);
        if fits {
            return None;
        }
        let mut takes: BTreeSet<usize> = scripted.into_iter().collect();
        let front = usize::from(call.is_method);
        takes.extend(native.into_iter().flatten().map(|takes| takes.saturating_sub(front)));
        Some(wrong_number(call, takes))
    }

    /// A function that the module does not have which the script imports under that name.
    fn function_of_module(&self, call: &Call, alias: &str) -> Option<Problem> {
        let import = self.imports.iter().find(|import| import.alias == alias)?;
        let module = import.module.as_deref()?;
        let all: Vec<_> = self.modules.get(module)?.ast.iter_functions().collect();
        let named = || all.iter().filter(|function| function.name == call.name);
        let message = || format!("module `{module}` has no function `{}`", call.name);
        if named().any(|function| function.access == FnAccess::Private) {
            let label = "there it is `private`".to_owned();
            return Some(problem(&UNKNOWN_FUNCTION, call.at, message(), label));
        }
        if named().any(|function| function.params.len() == call.values) {
            return None;
        }
        let takes: BTreeSet<usize> = named().map(|function| function.params.len()).collect();
        if !takes.is_empty() {
            return Some(wrong_number(call, takes));
        }
        let near = did_you_mean(&call.name, all.iter().map(|function| function.name));
        Some(problem(&UNKNOWN_FUNCTION, call.at, message(), format!("not found{near}")))
    }
}

fn wrong_number(call: &Call, takes: BTreeSet<usize>) -> Problem {
    let takes: Vec<String> = takes.iter().map(ToString::to_string).collect();
    let label = format!("expected {}, found {}", takes.join(" or "), call.values);
    let message = format!("`{}` gets the wrong number of values", call.name);
    problem(&UNKNOWN_FUNCTION, call.at, message, label)
}

/// An import that says too little.
fn no_import(import: &Imports) -> Option<Problem> {
    let label = match (&import.module, import.alias.as_str()) {
        (None, _) => "expected the name of a module in quotes, such as \"lib/units\"".to_owned(),
        (Some(module), "") => format!("expected `import \"{module}\" as` and a name for it"),
        _ => return None,
    };
    let message = "script has an `import` that cannot be used".to_owned();
    Some(problem(&SCRIPT_SYNTAX, import.at, message, label))
}

fn output(call: &Call, outputs: &[String]) -> Option<Problem> {
    let (output, at) = call.emits_to.as_ref()?;
    if outputs.contains(output) {
        return None;
    }
    let label = match nearest(output, outputs.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if output == "errors" => "`throw` sends a message to the errors output".to_owned(),
        None if output == "main" => "what the script returns goes to the main output".to_owned(),
        None => format!("add the setting `outputs: [{}]`", listed(outputs, output)),
    };
    let message = format!("`outputs` does not have `{output}`");
    Some(problem(&UNDECLARED_OUTPUT, *at, message, label))
}

fn listed(outputs: &[String], new: &str) -> String {
    let all: Vec<&str> = outputs.iter().map(String::as_str).chain([new]).collect();
    all.join(", ")
}
