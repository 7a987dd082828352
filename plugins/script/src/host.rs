//! What a script can call and how much it may use: the engine of one node.
//!
//! Each node has an engine of its own, with its own limits and outputs. The standard functions
//! are shared by all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use forebay_sdk::{Timestamp, number};
use rhai::{
    AST, Dynamic, Engine, EvalAltResult, ImmutableString, Module, ParseError, Position, Scope,
    Shared,
    packages::{Package, StandardPackage},
};
use tokio::time::Instant;
use tracing::debug;

use crate::{convert, did_you_mean};

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

/// Reading the clock costs more than an operation.
const OPERATIONS_BETWEEN_CLOCKS: u64 = 64;

/// Functions of the standard packages that a script must not have.
const WITHHELD: [&str; 2] = ["sleep", "eval"];

/// What `emit` collected: the index of the output, and what to send there.
pub(crate) type Outbox = Arc<Mutex<Vec<(usize, Dynamic)>>>;

/// Takes out what `emit` collected.
pub(crate) fn drain(outbox: &Outbox) -> Vec<(usize, Dynamic)> {
    std::mem::take(&mut *outbox.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The moment at which a run has taken too long.
#[derive(Clone)]
pub(crate) struct Deadline {
    start: Instant,
    after_start_micros: Arc<AtomicU64>,
}

impl Deadline {
    pub(crate) fn new() -> Deadline {
        Deadline { start: Instant::now(), after_start_micros: Arc::default() }
    }

    /// Starts the time of a run.
    pub(crate) fn set(&self, timeout: Duration) {
        let micros = self.elapsed_micros().saturating_add(micros(timeout));
        self.after_start_micros.store(micros, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.elapsed_micros() > self.after_start_micros.load(Ordering::Relaxed)
    }

    fn elapsed_micros(&self) -> u64 {
        micros(self.start.elapsed())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// An engine with the functions and limits of every script. `emit` fills `outbox`.
pub(crate) fn engine(node: &Arc<str>, outputs: &[String], outbox: &Outbox) -> Engine {
    static STANDARD: OnceLock<Shared<Module>> = OnceLock::new();
    let standard = STANDARD.get_or_init(|| StandardPackage::new().as_shared_module());

    let mut engine = Engine::new_raw();
    engine.register_global_module(Shared::clone(standard));
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

    let (printer, debugger) = (Arc::clone(node), Arc::clone(node));
    engine.on_print(move |text| debug!(node = %printer, "{text}"));
    engine.on_debug(move |text, _, at| debug!(node = %debugger, line = at.line(), "{text}"));

    register_emit(&mut engine, outputs, outbox);
    engine.register_fn("now", || Timestamp::now().unix_millis());
    engine.register_fn("round", number::round);
    engine.register_fn("round", |number: i64, _digits: i64| number);
    engine.register_fn("round", |number: i64| number);
    engine.register_fn("parse_json", parse_json);
    engine.register_fn("to_json", |value: Dynamic| -> Result<String, Box<EvalAltResult>> {
        Ok(convert::to_value(&value)?.to_string())
    });
    // The standard ones block the thread, or make a text of any length.
    engine.register_fn("sleep", |_: i64| cannot_wait());
    engine.register_fn("sleep", |_: f64| cannot_wait());
    engine.register_fn("replace", replace);
    engine.register_fn("replace", |text: &mut ImmutableString, old: char, new: ImmutableString| {
        replace(text, old.to_string().into(), new)
    });
    engine
}

/// Stops a run that takes too many operations or too long.
pub(crate) fn limit(engine: &mut Engine, max_operations: u32, deadline: Deadline) {
    engine.set_max_operations(max_operations.into());
    engine.on_progress(move |operations| {
        (operations.is_multiple_of(OPERATIONS_BETWEEN_CLOCKS) && deadline.is_over())
            .then_some(Dynamic::UNIT)
    });
}

/// The variables that a script starts with.
pub(crate) fn scope(state: rhai::Map) -> Scope<'static> {
    let mut scope = Scope::new();
    scope.push("state", state);
    scope
}

/// Compiles as it will run. `also` are names that are to count as known.
pub(crate) fn compile(engine: &Engine, text: &str, also: &[String]) -> Result<AST, ParseError> {
    let mut scope = scope(rhai::Map::new());
    scope.push("msg", rhai::Map::new());
    for name in also {
        scope.push(name.clone(), Dynamic::UNIT);
    }
    engine.compile_with_scope(&scope, text)
}

/// The functions that scripts can call, with the numbers of values they take. A method counts
/// the value in front of the point.
pub(crate) fn functions() -> &'static BTreeMap<String, BTreeSet<usize>> {
    static FUNCTIONS: OnceLock<BTreeMap<String, BTreeSet<usize>>> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        let engine = engine(&Arc::from(""), &[], &Outbox::default());
        let signature =
            |info: rhai::FuncInfo| Some((info.metadata.name.to_string(), info.metadata.num_params));
        let mut functions: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for (name, values) in engine.collect_fn_metadata(None, signature, true) {
            functions.entry(name).or_default().insert(values);
        }
        functions.retain(|name, _| !WITHHELD.contains(&name.as_str()));
        functions
    })
}

fn register_emit(engine: &mut Engine, outputs: &[String], outbox: &Outbox) {
    let (outputs, outbox) = (outputs.to_vec(), Arc::clone(outbox));
    let emit = move |output: ImmutableString, message: Dynamic| {
        let Some(index) = outputs.iter().position(|name| *name == output.as_str()) else {
            let near = did_you_mean(&output, outputs.iter().map(String::as_str));
            return Err(format!("`outputs` does not have `{output}`{near}").into());
        };
        let mut emitted = outbox.lock().unwrap_or_else(PoisonError::into_inner);
        if emitted.len() >= MAX_MESSAGES {
            return Err(format!("more than {MAX_MESSAGES} messages for one").into());
        }
        emitted.push((index, message));
        Ok::<(), Box<EvalAltResult>>(())
    };
    engine.register_fn("emit", emit);
}

fn cannot_wait() -> Result<(), Box<EvalAltResult>> {
    Err("a script cannot wait".into())
}

fn parse_json(text: &str) -> Result<Dynamic, Box<EvalAltResult>> {
    serde_json::from_str(text)
        .map(|value| convert::to_dynamic(&value))
        .map_err(|error| format!("text is not JSON: {error}").into())
}

fn replace(
    text: &mut ImmutableString,
    old: ImmutableString,
    new: ImmutableString,
) -> Result<(), Box<EvalAltResult>> {
    let found = text.matches(old.as_str()).count();
    if text.len() + found * new.len() > MAX_TEXT_BYTES + found * old.len() {
        let kind = "Length of string".to_owned();
        return Err(EvalAltResult::ErrorDataTooLarge(kind, Position::NONE).into());
    }
    *text = text.replace(old.as_str(), &new).into();
    Ok(())
}
