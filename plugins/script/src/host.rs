//! What a script can call and how much it may use.
//!
//! One engine runs all scripts. What differs from run to run is kept aside for its time, on its
//! thread: a run begins and ends in [`run`], and scripts do not wait.

use std::{
    any::TypeId,
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    ptr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use forebay_sdk::{Coverage, Timestamp, clock, number};
use rhai::{
    AST, Array, Dynamic, Engine, EvalAltResult, EvalContext, FnPtr, FuncRegistration,
    ImmutableString, Map, Module, ModuleResolver, NativeCallContext, OptimizationLevel, ParseError,
    Position, Scope, Shared,
    packages::{Package, StandardPackage},
};
use tracing::debug;

use crate::{
    bytes, convert, hashes, modules::Modules, patterns, run_clock::RunClock, statistics, times,
    words::did_you_mean,
};

// Sizes count what lies inside, too: a list of texts is as long as all of its texts together.
// They bound how deep values are nested, and with it the stack that copying a value takes.
pub(crate) const MAX_TEXT_BYTES: usize = 64 * 1024;
pub(crate) const MAX_LIST_VALUES: usize = 4096;
pub(crate) const MAX_MAP_VALUES: usize = 4096;
pub(crate) const MAX_VARIABLES: usize = 256;
pub(crate) const MAX_CALL_LEVELS: usize = 16;
const MAX_FUNCTIONS: usize = 128;
/// Each `import` that is run counts.
const MAX_MODULES: usize = 64;
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
/// The same of a run that handles more than this many bytes: one operation may then go through
/// them all, and the clock is read the more often, the more they are.
const BYTES_FOR_FEW_CLOCKS: usize = 64 * 1024;
/// How deep functions may hold on to each other.
const MAX_FUNCTION_LEVELS: usize = 64;
/// Measuring a value costs about this part of an operation.
const VALUES_PER_OPERATION: usize = 4;

/// What a script that takes note of what of it runs calls with the number of a spot.
pub(crate) const REACHED: &str = "reached__";

/// Functions that a script must not have.
const WITHHELD: [&str; 3] = ["sleep", "eval", REACHED];

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
    /// To be dropped once the two above were read.
    pub captured: Captured,
}

/// What functions captured of the variables of a run, by where it lies. It is emptied once nobody needs
/// it any more: a function that captured the variable in which it lies would hold on to itself for ever.
#[derive(Default)]
pub(crate) struct Captured(pub(crate) BTreeMap<usize, Dynamic>);

/// What ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Operations,
    Time,
    Memory,
    /// A value that is missing was to stand in a text.
    Missing,
    /// A list or map was to stand in a text, and is too large for one.
    TextTooLong,
}

/// Why a run ends, and where: in the script, or in a module.
struct EndsAs {
    why: Stopped,
    at: Position,
    module: Option<String>,
}

/// What a script needs to run, beside what all have.
#[derive(Clone)]
pub(crate) struct Needs {
    pub operators: Operators,
    /// Some function captures variables, so they are noted.
    pub captures: bool,
    /// What it imports.
    pub modules: Modules,
    /// Takes note of what of it runs.
    pub coverage: Option<Arc<Coverage>>,
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
    modules: Modules,
    coverage: Option<Arc<Coverage>>,
    limits: Limits,
    clock: RunClock,
    /// Counted up to the last look.
    operations: u32,
    /// The most bytes that variables may hold.
    room: usize,
    /// From so many operations on, variables are measured again.
    measure_at: u32,
    /// What the run ends as, once it comes to its next operation.
    ended: Option<EndsAs>,
    /// It has used up a limit, and ends where it next names a variable.
    over: Option<Stopped>,
    /// Roughly how much it handles, in bytes.
    held_bytes: usize,
    emitted: Vec<(usize, Dynamic)>,
    captured: Captured,
}

thread_local! {
    /// The run of this thread.
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
    /// Operations until somebody looks at the limits again.
    static LEFT: Cell<u32> = const { Cell::new(0) };
    /// Whether variables are to be measured when the script next names one.
    static MEASURES: Cell<bool> = const { Cell::new(false) };
    /// Whether the script has functions that capture variables.
    static CAPTURES: Cell<bool> = const { Cell::new(false) };
}

/// Runs a script of a node. `payload_bytes` is the size of the message.
pub(crate) fn run(
    ast: &AST,
    scope: &mut Scope<'static>,
    node: &Arc<str>,
    outputs: &Arc<[String]>,
    limits: Limits,
    needs: &Needs,
    payload_bytes: usize,
) -> Ended {
    let (node, outputs) = (Arc::clone(node), Arc::clone(outputs));
    begin(Run {
        coverage: needs.coverage.clone(),
        room: MAX_VARIABLES_BYTES + payload_bytes.saturating_mul(ROOM_PER_PAYLOAD_BYTE),
        held_bytes: payload_bytes,
        ..Run::within(limits, node, outputs, needs.modules.clone())
    });
    CAPTURES.set(needs.captures);
    let engine = match needs.operators {
        Operators::Fast => &ENGINE,
        Operators::Careful => &CAREFUL,
    };
    let result = engine.eval_ast_with_scope(scope, ast);
    let Some(mut run) = RUN.take() else {
        return Ended { result, emitted: Vec::new(), captured: Captured::default() };
    };
    let result = match run.ended {
        // Somebody caught it, and came to the end.
        None => match run.over {
            Some(why) if result.is_ok() => {
                Err(EvalAltResult::ErrorTerminated(Dynamic::from(why), Position::NONE).into())
            }
            _ => result,
        },
        Some(EndsAs { why, at, module }) => {
            let error = EvalAltResult::ErrorTerminated(Dynamic::from(why), at).into();
            Err(match module {
                None => error,
                Some(module) => {
                    EvalAltResult::ErrorInFunctionCall(String::new(), module, error, at).into()
                }
            })
        }
    };
    run.captured.spare_lasting(scope);
    Ended { result, emitted: run.emitted, captured: run.captured }
}

/// Makes a module of what it says. It has functions and constants; only these are computed.
pub(crate) fn module(
    ast: &AST,
    modules: &Modules,
    limits: Limits,
) -> Result<Shared<Module>, Box<EvalAltResult>> {
    begin(Run::within(limits, "".into(), [].into(), modules.clone()));
    CAPTURES.set(false);
    let made = Module::eval_ast_as_new(Scope::new(), ast, &ENGINE);
    RUN.set(None);
    made.map(Shared::new)
}

fn begin(run: Run) {
    let stretch = run.limits.max_operations.min(operations_between_clocks(run.held_bytes));
    LEFT.set(stretch);
    MEASURES.set(false);
    RUN.set(Some(Run { operations: stretch, ..run }));
}

/// Finds the modules of the script that runs.
struct OfTheRun;

impl ModuleResolver for OfTheRun {
    fn resolve(
        &self,
        _: &Engine,
        _: Option<&str>,
        name: &str,
        at: Position,
    ) -> Result<Shared<Module>, Box<EvalAltResult>> {
        let find =
            |run: &Option<Run>| Some(Shared::clone(&run.as_ref()?.modules.get(name)?.module));
        RUN.with_borrow(find)
            .ok_or_else(|| EvalAltResult::ErrorModuleNotFound(name.to_owned(), at).into())
    }
}

impl Captured {
    fn note(&mut self, value: &Dynamic) {
        if let Some(place) = shared_place(value) {
            self.0.entry(place).or_insert_with(|| value.clone());
        }
    }

    /// What was there before the run stays.
    fn spare_lasting(&mut self, scope: &Scope) {
        if self.0.is_empty() {
            return;
        }
        // The latest come first.
        let lasting = scope.iter_raw().skip(scope.len() - LASTING);
        for (_, _, value) in lasting {
            if let Some(place) = shared_place(value) {
                self.0.remove(&place);
            }
        }
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        for value in self.0.values_mut() {
            if let Some(mut inside) = value.write_lock::<Dynamic>() {
                *inside = Dynamic::UNIT;
            }
        }
    }
}

/// Where a captured value lies, the same for all that share it. None when it is not captured, or at work.
fn shared_place(value: &Dynamic) -> Option<usize> {
    let inside = if value.is_shared() { value.read_lock::<Dynamic>() } else { None };
    inside.map(|inside| ptr::from_ref::<Dynamic>(&inside).addr())
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
    let mut scope = scope(Map::new(), Map::new());
    scope.push("msg", Map::new());
    for name in also {
        scope.push(name.clone(), Dynamic::UNIT);
    }
    engine.compile_with_scope(&scope, text)
}

/// Compiles a module as it was written: it sees no variables but its own.
pub(crate) fn read_module(text: &str, also: &[String]) -> Result<AST, ParseError> {
    let mut scope = Scope::new();
    for name in also {
        scope.push(name.clone(), Dynamic::UNIT);
    }
    READER.compile_with_scope(&scope, text)
}

/// A script as it will run.
pub(crate) fn optimize(written: AST) -> AST {
    // With a constant among them the optimizer would put its value where it is assigned to.
    let mut scope = Scope::new();
    for name in ["state", "settings", "msg", ANSWER] {
        scope.push(name, Map::new());
    }
    ENGINE.optimize_ast(&scope, written, OptimizationLevel::Simple)
}

/// A module as it will run.
pub(crate) fn optimize_module(written: AST) -> AST {
    ENGINE.optimize_ast(&Scope::new(), written, OptimizationLevel::Simple)
}

/// The variables that last from message to message.
pub(crate) fn scope(state: Map, settings: Map) -> Scope<'static> {
    let mut scope = Scope::new();
    scope.push("state", state);
    scope.push_constant("settings", settings);
    scope
}

/// The variable with what a web service answered.
pub(crate) const ANSWER: &str = "answer";

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

/// The same with the types of these values, but for operators.
pub(crate) fn signatures() -> Vec<(String, Vec<TypeId>)> {
    let signature = |info: rhai::FuncInfo| {
        Some((info.metadata.name.to_string(), info.metadata.param_types.to_vec()))
    };
    let mut signatures = ENGINE.collect_fn_metadata(None, signature, true);
    let is_word = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    signatures.retain(|(name, _)| is_word(name) && !WITHHELD.contains(&name.as_str()));
    signatures
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
        .set_max_modules(MAX_MODULES)
        .set_module_resolver(OfTheRun)
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
    engine.on_var(|name, _, scene| {
        // A function that captures a variable names it afterwards.
        if CAPTURES.get()
            && let Some(value) = scene.scope().get(name)
            && value.is_shared()
        {
            RUN.with_borrow_mut(|run| {
                run.as_mut().map_or(Ok(()), |run| run.names_captured(value))
            })?;
        }
        if MEASURES.get() {
            measure(&scene)?;
        }
        Ok(None)
    });
    engine.on_print(|text| debug!(node = %node(), "{text}"));
    engine.on_debug(|text, _, at| debug!(node = %node(), line = at.line(), "{text}"));

    engine.register_fn("emit", emit);
    engine.register_fn(REACHED, reached);
    engine.register_fn("now", || Timestamp::now().unix_millis());
    engine.register_fn("random", fastrand::f64);
    engine.register_fn("round", number::round);
    engine.register_fn("round", |number: i64, _digits: i64| number);
    engine.register_fn("round", |number: i64| number);
    engine.register_fn("parse_json", parse_json);
    engine.register_fn("to_json", |value: Dynamic| to_json(&value));
    // The standard one for maps would be taken before one for any value; it makes what is not JSON.
    engine.register_fn("to_json", |map: Map| to_json(&Dynamic::from_map(map)));
    statistics::register(&mut engine);
    hashes::register(&mut engine);
    patterns::register(&mut engine, MAX_TEXT_BYTES);
    times::register(&mut engine);
    bytes::register(&mut engine, MAX_TEXT_BYTES, MAX_LIST_VALUES);
    // The standard ones leave out what is missing.
    engine.register_fn("+", |_: ImmutableString, (): ()| joins_nothing("+ (string, ())"));
    engine.register_fn("+", |(): (), _: ImmutableString| joins_nothing("+ ((), string)"));
    engine.register_fn("+=", |_: &mut ImmutableString, (): ()| joins_nothing("+ (string, ())"));
    engine.register_fn("append", |_: &mut ImmutableString, (): ()| {
        joins_nothing("append (string, ())")
    });
    engine.register_fn("to_string", |call: NativeCallContext, (): ()| missing(&call));
    for name in ["to_string", "print", "to_debug", "debug"] {
        FuncRegistration::new(name)
            .with_purity(true)
            .register_into_engine(&mut engine, |call: NativeCallContext, list: &mut Array| {
                shown(&call, |out| show_list(list, out))
            });
        FuncRegistration::new(name)
            .with_purity(true)
            .register_into_engine(&mut engine, |call: NativeCallContext, map: &mut Map| {
                shown(&call, |out| show_map(map, out))
            });
    }
    // The standard ones block the thread, or make a text of any length.
    engine.register_fn("sleep", |_: i64| cannot_wait());
    engine.register_fn("sleep", |_: f64| cannot_wait());
    engine.register_fn("replace", replace);
    engine.register_fn("replace", |text: &mut ImmutableString, old: char, new: ImmutableString| {
        replace(text, old.to_string().into(), new)
    });
    engine
}

fn operations_between_clocks(held_bytes: usize) -> u32 {
    let times = u32::try_from(held_bytes / BYTES_FOR_FEW_CLOCKS).unwrap_or(u32::MAX);
    (OPERATIONS_BETWEEN_CLOCKS / times.max(1)).max(1)
}

impl Run {
    /// One that holds nothing, from now on.
    fn within(limits: Limits, node: Arc<str>, outputs: Arc<[String]>, modules: Modules) -> Run {
        Run {
            node,
            outputs,
            modules,
            coverage: None,
            limits,
            clock: RunClock::of(limits.timeout),
            operations: 0,
            room: MAX_VARIABLES_BYTES,
            measure_at: 0,
            ended: None,
            over: None,
            held_bytes: 0,
            emitted: Vec::new(),
            captured: Captured::default(),
        }
    }

    /// The script names a variable that a function captured. Where one is at work, the language waits for
    /// it for some fifty milliseconds, which no operation counts: the clock is read here.
    fn names_captured(&mut self, value: &Dynamic) -> Result<(), Box<EvalAltResult>> {
        self.captured.note(value);
        if self.clock.elapsed() <= self.limits.timeout {
            return Ok(());
        }
        Err(EvalAltResult::ErrorTerminated(Dynamic::from(Stopped::Time), Position::NONE).into())
    }

    /// Looks whether the run may go on, at the first operation behind those that were counted.
    fn look(&mut self) -> Option<Stopped> {
        if let Some(why) = self.ended.as_ref().map(|ended| ended.why).or(self.over) {
            return Some(why);
        }
        let is_out_of_operations = self.operations >= self.limits.max_operations;
        if is_out_of_operations || self.clock.is_up(self.clock.elapsed(), clock::worked) {
            let why = if is_out_of_operations { Stopped::Operations } else { Stopped::Time };
            self.over = Some(why);
            MEASURES.set(true);
            LEFT.set(operations_between_clocks(self.held_bytes));
            return None;
        }
        let stretch = operations_between_clocks(self.held_bytes)
            .min(self.limits.max_operations - self.operations);
        MEASURES.set(self.operations >= self.measure_at);
        self.operations += stretch;
        // This one is the first of them.
        LEFT.set(stretch - 1);
        None
    }
}

/// Ends the run when it has used up a limit, or when its variables hold more than they may.
fn measure(scene: &EvalContext) -> Result<(), Box<EvalAltResult>> {
    MEASURES.set(false);
    let mut measured = Measured::default();
    RUN.with_borrow_mut(|run| {
        let Some(run) = run else { return Ok(()) };
        if let Some(why) = run.over {
            // Also when somebody caught it.
            MEASURES.set(true);
            return Err(EvalAltResult::ErrorRuntime(Dynamic::from(why), Position::NONE).into());
        }
        let variables = scene.scope().iter_raw().map(|(_, _, value)| value);
        let variables = variables.filter(|value| !value.is_shared()).chain(scene.this_ptr());
        variables.chain(run.captured.0.values()).for_each(|value| {
            measured.add(value, MAX_FUNCTION_LEVELS, run.room);
        });
        if measured.bytes > run.room {
            let stopped = Dynamic::from(Stopped::Memory);
            return Err(EvalAltResult::ErrorTerminated(stopped, Position::NONE).into());
        }
        run.held_bytes = measured.bytes;
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
    /// Adds a value, what lies in it, and what a function holds on to, up to a limit. A function may
    /// hold on to itself, in a circle, and so one of many levels counts as beyond any limit.
    fn add(&mut self, value: &Dynamic, function_levels: usize, limit: usize) {
        if self.bytes > limit {
            return;
        }
        self.values += 1;
        self.bytes += size_of::<Dynamic>();
        if value.is_shared() {
            // One that is at work is measured another time.
            if let Some(inside) = value.read_lock::<Dynamic>() {
                self.add(&inside, function_levels, limit);
            }
        } else if let Ok(text) = value.as_immutable_string_ref() {
            self.bytes += text.len();
        } else if let Ok(items) = value.as_array_ref() {
            items.iter().for_each(|item| self.add(item, function_levels, limit));
        } else if let Ok(fields) = value.as_map_ref() {
            for (name, value) in fields.iter() {
                self.add(value, function_levels, limit);
                self.bytes = self.bytes.saturating_add(size_of::<rhai::Identifier>() + name.len());
            }
        } else if let Ok(bytes) = value.as_blob_ref() {
            self.bytes += bytes.len();
        } else if let Some(function) = value.read_lock::<FnPtr>() {
            match function_levels.checked_sub(1) {
                Some(levels) => {
                    function.iter_curry().for_each(|held| self.add(held, levels, limit))
                }
                None => self.bytes = usize::MAX,
            }
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

/// What a script of [`crate::noting`] calls. It takes nothing of its limit.
fn reached(number: i64) {
    /// The call, its value, and the statement that it is.
    const OPERATIONS: u32 = 3;
    RUN.with_borrow(|run| {
        let coverage = run.as_ref().and_then(|run| run.coverage.as_ref());
        if let (Some(coverage), Ok(number)) = (coverage, usize::try_from(number)) {
            coverage.reach(number);
        }
    });
    LEFT.set(LEFT.get().saturating_add(OPERATIONS));
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

/// Ends the run at its next operation: in a text between backticks, an error would be taken for a
/// text.
fn end_soon(why: Stopped, call: &NativeCallContext) {
    RUN.with_borrow_mut(|run| {
        if let Some(run) = run {
            run.ended.get_or_insert_with(|| EndsAs {
                why,
                at: call.call_position(),
                module: call.call_source().map(str::to_owned),
            });
        }
    });
    LEFT.set(0);
}

fn missing(call: &NativeCallContext) -> ImmutableString {
    end_soon(Stopped::Missing, call);
    ImmutableString::new()
}

/// A list or a map as a text. The standard functions make one of any length.
fn shown(
    call: &NativeCallContext,
    show: impl FnOnce(&mut Bounded) -> io::Result<()>,
) -> ImmutableString {
    let mut text = Bounded(Vec::new());
    if show(&mut text).is_err() {
        end_soon(Stopped::TextTooLong, call);
        return ImmutableString::new();
    }
    String::from_utf8(text.0).unwrap_or_default().into()
}

fn show_list(items: &Array, out: &mut Bounded) -> io::Result<()> {
    out.write_all(b"[")?;
    for (index, item) in items.iter().enumerate() {
        out.write_all(if index > 0 { b", " } else { b"" })?;
        show(item, out)?;
    }
    out.write_all(b"]")
}

fn show_map(fields: &Map, out: &mut Bounded) -> io::Result<()> {
    out.write_all(b"#{")?;
    for (index, (name, value)) in fields.iter().enumerate() {
        write!(out, "{}{name:?}: ", if index > 0 { ", " } else { "" })?;
        show(value, out)?;
    }
    out.write_all(b"}")
}

fn show(value: &Dynamic, out: &mut Bounded) -> io::Result<()> {
    if let Ok(items) = value.as_array_ref() {
        show_list(&items, out)
    } else if let Ok(fields) = value.as_map_ref() {
        show_map(&fields, out)
    } else {
        write!(out, "{value:?}")
    }
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
