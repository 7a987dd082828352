//! What a script can call and how much it may use.
//!
//! One engine runs all scripts. What differs from run to run is kept aside for its time, on its
//! thread: a run begins and ends in [`run`], and scripts do not wait.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use forebay_sdk::{Timestamp, number};
use rhai::{
    AST, Dynamic, Engine, EvalAltResult, EvalContext, ImmutableString, Module, NativeCallContext,
    OptimizationLevel, ParseError, Position, Scope, Shared,
    packages::{Package, StandardPackage},
};
use tokio::time::Instant;
use tracing::debug;

use crate::{convert, words::did_you_mean};

// Sizes count what lies inside, too: a list of texts is as long as all of its texts together.
// They bound how deep values are nested, and with it the stack that copying a value takes.
pub(crate) const MAX_TEXT_BYTES: usize = 64 * 1024;
pub(crate) const MAX_LIST_VALUES: usize = 4096;
pub(crate) const MAX_MAP_VALUES: usize = 4096;
pub(crate) const MAX_VARIABLES: usize = 256;
pub(crate) const MAX_CALL_LEVELS: usize = 16;
const MAX_FUNCTIONS: usize = 128;
const MAX_EXPRESSION_DEPTH: usize = 48;
const MAX_EXPRESSION_DEPTH_IN_FUNCTION: usize = 24;
/// Messages that a script may send on for one that comes in.
pub(crate) const MAX_MESSAGES: usize = 1000;
/// What the variables of a script may hold at one time, beside the message. The sizes above do not
/// see what is put into a map or list by its key, or into one that lies in another.
pub(crate) const MAX_VARIABLES_BYTES: usize = 16 * 1024 * 1024;
/// A script has room for its message as often as this, as a value takes more than its JSON.
const ROOM_PER_PAYLOAD_BYTE: usize = 64;

/// Reading the clock costs more than an operation.
const OPERATIONS_BETWEEN_CLOCKS: u32 = 64;
/// Measuring a value costs about this part of an operation.
const VALUES_PER_OPERATION: usize = 4;

/// Functions of the standard packages that a script must not have.
const WITHHELD: [&str; 2] = ["sleep", "eval"];

/// How much a run may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub max_operations: u32,
    pub timeout: Duration,
}

/// What a run ended as, and what the script emitted: the index of the output, and what to send there.
pub(crate) struct Ended {
    pub result: Result<Dynamic, Box<EvalAltResult>>,
    pub emitted: Vec<(usize, Dynamic)>,
}

/// What ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Operations,
    Time,
    Memory,
    /// A value that is missing was to stand in a text.
    Missing,
}

/// How operators find what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operators {
    /// By what the language does.
    Fast,
    /// By our functions first: a text and a missing value are not to be joined. Needed where a `+`
    /// may join texts.
    Careful,
}

/// A run, as long as it lasts.
struct Run {
    node: Arc<str>,
    outputs: Arc<[String]>,
    limits: Limits,
    deadline: Instant,
    /// Counted up to the last look.
    operations: u32,
    /// The most bytes that variables may hold.
    room: usize,
    /// From so many operations on, variables are measured again.
    measure_at: u32,
    /// Where a value that is missing was to stand in a text.
    missing_at: Option<Position>,
    emitted: Vec<(usize, Dynamic)>,
}

thread_local! {
    /// The run of this thread.
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
    /// Operations until somebody looks at the limits again.
    static LEFT: Cell<u32> = const { Cell::new(0) };
    /// Whether variables are to be measured when the script next names one.
    static MEASURES: Cell<bool> = const { Cell::new(false) };
}

/// Runs a script of a node. `payload_bytes` is the size of the message.
pub(crate) fn run(
    ast: &AST,
    scope: &mut Scope<'static>,
    node: &Arc<str>,
    outputs: &Arc<[String]>,
    limits: Limits,
    operators: Operators,
    payload_bytes: usize,
) -> Ended {
    let stretch = limits.max_operations.min(OPERATIONS_BETWEEN_CLOCKS);
    LEFT.set(stretch);
    MEASURES.set(false);
    RUN.set(Some(Run {
        node: Arc::clone(node),
        outputs: Arc::clone(outputs),
        limits,
        deadline: Instant::now() + limits.timeout,
        operations: stretch,
        room: MAX_VARIABLES_BYTES + payload_bytes.saturating_mul(ROOM_PER_PAYLOAD_BYTE),
        measure_at: 0,
        missing_at: None,
        emitted: Vec::new(),
    }));
    let engine = match operators {
        Operators::Fast => &ENGINE,
        Operators::Careful => &CAREFUL,
    };
    let result = engine.eval_ast_with_scope(scope, ast);
    let Some(run) = RUN.take() else { return Ended { result, emitted: Vec::new() } };
    let result = match run.missing_at {
        None => result,
        Some(at) => Err(EvalAltResult::ErrorTerminated(Dynamic::from(Stopped::Missing), at).into()),
    };
    Ended { result, emitted: run.emitted }
}

/// Runs scripts. Optimizes what it compiles.
static ENGINE: LazyLock<Engine> = LazyLock::new(engine);

/// Runs scripts with [`Operators::Careful`].
static CAREFUL: LazyLock<Engine> = LazyLock::new(|| {
    let mut careful = engine();
    careful.set_fast_operators(false);
    careful
});

/// Leaves the tree as it was written: the optimizer takes out what can never run, and with it the
/// mistakes in there, which somebody will meet who changes a constant.
static READER: LazyLock<Engine> = LazyLock::new(|| {
    let mut reader = engine();
    reader.set_optimization_level(OptimizationLevel::None);
    reader
});

/// Compiles a script as it was written. `also` are names that are to count as known.
pub(crate) fn read(text: &str, also: &[String]) -> Result<AST, ParseError> {
    compile(&READER, text, also)
}

/// The same with any engine.
pub(crate) fn compile(engine: &Engine, text: &str, also: &[String]) -> Result<AST, ParseError> {
    let mut scope = scope(rhai::Map::new(), rhai::Map::new());
    scope.push("msg", rhai::Map::new());
    for name in also {
        scope.push(name.clone(), Dynamic::UNIT);
    }
    engine.compile_with_scope(&scope, text)
}

/// A script as it will run.
pub(crate) fn optimize(written: AST) -> AST {
    // With a constant among them the optimizer would put its value where it is assigned to.
    let mut scope = Scope::new();
    for name in ["state", "settings", "msg"] {
        scope.push(name, rhai::Map::new());
    }
    ENGINE.optimize_ast(&scope, written, OptimizationLevel::Simple)
}

/// The variables that last from message to message.
pub(crate) fn scope(state: rhai::Map, settings: rhai::Map) -> Scope<'static> {
    let mut scope = Scope::new();
    scope.push("state", state);
    scope.push_constant("settings", settings);
    scope
}

/// How many these are.
pub(crate) const LASTING: usize = 2;

/// The functions that scripts can call, with the numbers of values they take. A method counts
/// the value in front of the point.
pub(crate) fn functions() -> &'static BTreeMap<String, BTreeSet<usize>> {
    static FUNCTIONS: LazyLock<BTreeMap<String, BTreeSet<usize>>> = LazyLock::new(|| {
        let signature =
            |info: rhai::FuncInfo| Some((info.metadata.name.to_string(), info.metadata.num_params));
        let mut functions: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for (name, values) in ENGINE.collect_fn_metadata(None, signature, true) {
            functions.entry(name).or_default().insert(values);
        }
        functions.retain(|name, _| !WITHHELD.contains(&name.as_str()));
        functions
    });
    &FUNCTIONS
}

/// An engine with the functions and limits of every script.
pub(crate) fn engine() -> Engine {
    static STANDARD: LazyLock<Shared<Module>> =
        LazyLock::new(|| StandardPackage::new().as_shared_module());

    let mut engine = Engine::new_raw();
    engine.register_global_module(Shared::clone(&STANDARD));
    engine
        .set_strict_variables(true)
        .disable_symbol("eval")
        .set_max_string_size(MAX_TEXT_BYTES)
        .set_max_array_size(MAX_LIST_VALUES)
        .set_max_map_size(MAX_MAP_VALUES)
        .set_max_variables(MAX_VARIABLES)
        .set_max_functions(MAX_FUNCTIONS)
        .set_max_call_levels(MAX_CALL_LEVELS)
        .set_max_expr_depths(MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_DEPTH_IN_FUNCTION);

    // Counted here: the engine forgets what a function did that was called by `map` or `filter`.
    engine.on_progress(|_| match LEFT.get().checked_sub(1) {
        Some(left) => {
            LEFT.set(left);
            None
        }
        None => RUN.with_borrow_mut(|run| run.as_mut()?.look()).map(Dynamic::from),
    });
    #[expect(deprecated, reason = "is not, says its documentation; it may change")]
    engine.on_var(|_, _, scene| {
        if MEASURES.get() {
            measure(&scene)?;
        }
        Ok(None)
    });
    engine.on_print(|text| debug!(node = %node(), "{text}"));
    engine.on_debug(|text, _, at| debug!(node = %node(), line = at.line(), "{text}"));

    engine.register_fn("emit", emit);
    engine.register_fn("now", || Timestamp::now().unix_millis());
    engine.register_fn("round", number::round);
    engine.register_fn("round", |number: i64, _digits: i64| number);
    engine.register_fn("round", |number: i64| number);
    engine.register_fn("parse_json", parse_json);
    engine.register_fn("to_json", |value: Dynamic| to_json(&value));
    // The standard one for maps would be taken before one for any value; it makes what is not JSON.
    engine.register_fn("to_json", |map: rhai::Map| to_json(&Dynamic::from_map(map)));
    // The standard ones leave out what is missing.
    engine.register_fn("+", |_: ImmutableString, (): ()| joins_nothing("+ (string, ())"));
    engine.register_fn("+", |(): (), _: ImmutableString| joins_nothing("+ ((), string)"));
    engine.register_fn("+=", |_: &mut ImmutableString, (): ()| joins_nothing("+ (string, ())"));
    engine.register_fn("append", |_: &mut ImmutableString, (): ()| {
        joins_nothing("append (string, ())")
    });
    engine.register_fn("to_string", |call: NativeCallContext, (): ()| missing(&call));
    // The standard ones block the thread, or make a text of any length.
    engine.register_fn("sleep", |_: i64| cannot_wait());
    engine.register_fn("sleep", |_: f64| cannot_wait());
    engine.register_fn("replace", replace);
    engine.register_fn("replace", |text: &mut ImmutableString, old: char, new: ImmutableString| {
        replace(text, old.to_string().into(), new)
    });
    engine
}

impl Run {
    /// Looks whether the run may go on, at the first operation behind those that were counted.
    fn look(&mut self) -> Option<Stopped> {
        if self.missing_at.is_some() {
            return Some(Stopped::Missing);
        }
        if self.operations >= self.limits.max_operations {
            return Some(Stopped::Operations);
        }
        if Instant::now() > self.deadline {
            return Some(Stopped::Time);
        }
        let stretch = OPERATIONS_BETWEEN_CLOCKS.min(self.limits.max_operations - self.operations);
        MEASURES.set(self.operations >= self.measure_at);
        self.operations += stretch;
        // This one is the first of them.
        LEFT.set(stretch - 1);
        None
    }
}

/// Ends the run when its variables hold more than they may.
fn measure(scene: &EvalContext) -> Result<(), Box<EvalAltResult>> {
    MEASURES.set(false);
    let mut measured = Measured::default();
    scene.scope().iter_raw().for_each(|(_, _, value)| measured.add(value));
    scene.this_ptr().into_iter().for_each(|this| measured.add(this));
    RUN.with_borrow_mut(|run| {
        let Some(run) = run else { return Ok(()) };
        if measured.bytes > run.room {
            let stopped = Dynamic::from(Stopped::Memory);
            return Err(EvalAltResult::ErrorTerminated(stopped, Position::NONE).into());
        }
        // Not so often that measuring takes longer than the script itself.
        let pause = u32::try_from(measured.values / VALUES_PER_OPERATION).unwrap_or(u32::MAX);
        run.measure_at = run.operations.saturating_add(pause);
        Ok(())
    })
}

#[derive(Default)]
struct Measured {
    values: usize,
    bytes: usize,
}

impl Measured {
    /// Adds a value and what lies in it. What a function holds on to is not looked at: it may be at
    /// work with it.
    fn add(&mut self, value: &Dynamic) {
        self.values += 1;
        self.bytes += size_of::<Dynamic>();
        if value.is_shared() {
            return;
        }
        if let Ok(text) = value.as_immutable_string_ref() {
            self.bytes += text.len();
        } else if let Ok(items) = value.as_array_ref() {
            items.iter().for_each(|item| self.add(item));
        } else if let Ok(fields) = value.as_map_ref() {
            for (name, value) in fields.iter() {
                self.bytes += size_of::<rhai::Identifier>() + name.len();
                self.add(value);
            }
        } else if let Ok(bytes) = value.as_blob_ref() {
            self.bytes += bytes.len();
        }
    }
}

/// The name of the node, for the log.
fn node() -> Arc<str> {
    let name = |run: &Option<Run>| run.as_ref().map(|run| Arc::clone(&run.node));
    RUN.with_borrow(name).unwrap_or_else(|| Arc::from(""))
}

fn emit(output: ImmutableString, message: Dynamic) -> Result<(), Box<EvalAltResult>> {
    RUN.with_borrow_mut(|run| {
        let Some(run) = run else { return Ok(()) };
        let Some(index) = run.outputs.iter().position(|name| *name == output.as_str()) else {
            let near = did_you_mean(&output, run.outputs.iter().map(String::as_str));
            return Err(format!("`outputs` does not have `{output}`{near}").into());
        };
        if run.emitted.len() >= MAX_MESSAGES {
            return Err(format!("more than {MAX_MESSAGES} messages for one").into());
        }
        run.emitted.push((index, message));
        Ok(())
    })
}

fn cannot_wait() -> Result<(), Box<EvalAltResult>> {
    Err("a script cannot wait".into())
}

fn parse_json(text: &str) -> Result<Dynamic, Box<EvalAltResult>> {
    serde_json::from_str(text)
        .map(|value| convert::to_dynamic(&value))
        .map_err(|error| format!("text is not JSON: {error}").into())
}

/// An error as if there was no such function. `call` is its name and the types of its values.
fn joins_nothing(call: &str) -> Result<Dynamic, Box<EvalAltResult>> {
    Err(EvalAltResult::ErrorFunctionNotFound(call.to_owned(), Position::NONE).into())
}

/// Ends the run soon: in a text between backticks, an error would be taken for a text.
fn missing(call: &NativeCallContext) -> ImmutableString {
    RUN.with_borrow_mut(|run| {
        if let Some(run) = run {
            run.missing_at.get_or_insert(call.call_position());
        }
    });
    LEFT.set(0);
    ImmutableString::new()
}

fn to_json(value: &Dynamic) -> Result<String, Box<EvalAltResult>> {
    let mut text = Bounded(Vec::new());
    match convert::write_json(value, &mut text) {
        Ok(()) => Ok(String::from_utf8(text.0).unwrap_or_default()),
        Err(_) if text.0.len() > MAX_TEXT_BYTES => Err(text_too_long()),
        Err(error) => Err(error.into()),
    }
}

/// Takes a text up to the limit, so that nobody works for long on one that is refused.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        match self.0.len() <= MAX_TEXT_BYTES {
            true => Ok(bytes.len()),
            false => Err(io::ErrorKind::FileTooLarge.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn text_too_long() -> Box<EvalAltResult> {
    let kind = "Length of string".to_owned();
    EvalAltResult::ErrorDataTooLarge(kind, Position::NONE).into()
}

fn replace(
    text: &mut ImmutableString,
    old: ImmutableString,
    new: ImmutableString,
) -> Result<(), Box<EvalAltResult>> {
    let found = text.matches(old.as_str()).count();
    if text.len() + found * new.len() > MAX_TEXT_BYTES + found * old.len() {
        return Err(text_too_long());
    }
    *text = text.replace(old.as_str(), &new).into();
    Ok(())
}
