//! What is wrong with a script before it runs.

use std::collections::BTreeSet;

use forebay_sdk::{Problem, finding::nearest};
use rhai::{
    AST, ASTFlags, ASTNode, Expr, FnCallExpr, LexError, ParseError, ParseErrorType, Position, Stmt,
};

use crate::{
    host,
    mistakes::{self, without_comment},
    patterns,
    rules::{SCRIPT_SYNTAX, UNDECLARED_OUTPUT, UNKNOWN_FIELD, UNKNOWN_FUNCTION, UNKNOWN_VARIABLE},
    uses::{FIELDS, Step, starts_chain, steps},
    words::{did_you_mean, for_function, for_object, lowercase_first, problem},
};

/// One unknown variable hides the next; this many are looked for.
const MAX_UNKNOWN_VARIABLES: usize = 16;

/// Functions that the language itself has, whatever they are called with.
const BUILT_IN: [&str; 7] =
    ["call", "curry", "Fn", "is_def_fn", "is_def_var", "is_shared", "type_of"];

/// Compiles a script as it was written, and reports what is wrong with it. None when nothing could
/// run.
pub(crate) fn compile(text: &str, outputs: &[String]) -> (Option<AST>, Vec<Problem>) {
    compile_by(host::read, text, outputs)
}

/// The same by any compiler, which gets the text and the names that are to count as known.
pub(crate) fn compile_by(
    compiler: impl Fn(&str, &[String]) -> Result<AST, ParseError>,
    text: &str,
    outputs: &[String],
) -> (Option<AST>, Vec<Problem>) {
    if text.trim().is_empty() {
        let label = "expected a script, such as `msg`";
        let empty = Problem::new("script", "`script` is empty", label).rule(&SCRIPT_SYNTAX);
        return (None, vec![empty]);
    }
    let mut unknown: Vec<(String, Position)> = Vec::new();
    let mut names = Vec::new();
    let compiled = loop {
        match compiler(text, &names) {
            Ok(ast) => break Ok(ast),
            Err(error) => match *error.0 {
                ParseErrorType::VariableUndefined(name)
                    if !names.contains(&name) && names.len() < MAX_UNKNOWN_VARIABLES =>
                {
                    names.push(name.clone());
                    unknown.push((name, error.1));
                }
                other => break Err((other, error.1)),
            },
        }
    };
    let mut tree = Tree::default();
    if let Ok(ast) = &compiled {
        tree.read(ast);
    }
    let mut problems: Vec<Problem> =
        unknown.iter().map(|(name, at)| unknown_variable(name, *at, &tree)).collect();
    match compiled {
        Ok(ast) => {
            problems.extend(tree.problems(outputs).into_iter().filter(|p| !follows(p, &unknown)));
            problems.extend(mistakes::find(
                &ast,
                text,
                |name| tree.has(name),
                |name| tree.locals.contains(name),
            ));
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

/// Whether it is about a method of an object that is not there.
fn follows(problem: &Problem, unknown: &[(String, Position)]) -> bool {
    let lines = unknown.iter().filter(|(name, _)| for_object(name).is_some());
    let mut lines = lines.filter_map(|(_, at)| at.line());
    problem.rule == &UNKNOWN_FUNCTION
        && problem.inside.is_some_and(|(line, _)| lines.any(|of| of == line))
}

fn unknown_variable(name: &str, at: Position, tree: &Tree) -> Problem {
    let own = tree.locals.iter().chain(&tree.constants);
    let known = ["msg", "state", "settings"].into_iter().chain(own.map(String::as_str));
    let near = nearest(name, known.filter(|known| *known != name));
    let label = match (for_object(name), near) {
        (Some(ours), _) => ours.to_owned(),
        (None, Some(near)) => format!("did you mean `{near}`?"),
        (None, None) => {
            format!("expected msg, state, settings, or a variable made with `let {name} = ...`")
        }
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
        "import" | "export" => "a script cannot load other scripts".to_owned(),
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
}

struct Call {
    name: String,
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
            Some(Expr::StringConstant(output, at)) if call.name == "emit" && !is_method => {
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
            if let Some(ASTNode::Expr(Expr::Variable(variable, _, at))) = path.last() {
                read.push((variable.1.to_string(), *at));
            }
            true
        });
        self.unseen.extend(read.into_iter().filter(|(name, _)| !inside.has_variable(name)));
    }

    fn problems(&self, outputs: &[String]) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(self.calls.iter().filter_map(|call| self.function(call)));
        problems.extend(self.calls.iter().filter_map(|call| output(call, outputs)));
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
            let label = "functions see only their parameters; pass it as one".to_owned();
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
        let takes: Vec<String> = takes.iter().map(ToString::to_string).collect();
        let label = format!("expected {}, found {}", takes.join(" or "), call.values);
        let message = format!("`{name}` gets the wrong number of values");
        Some(problem(&UNKNOWN_FUNCTION, call.at, message, label))
    }
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
