//! Node types that users write as a script in a folder of its own.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Compiled, Configured, Import, Language, Problem, Role, ScriptLimits, ScriptSource, Value,
};

use crate::{
    asking::Permission,
    definitions,
    host::Limits,
    lint::{self, Around, Code},
    modules, own_settings,
    settings::{default_max_operations, default_timeout, output_names},
    sink::SendingType,
    source::BeatingType,
    transform::{Program, ScriptType},
};

/// How long an answer to a request may take, when nothing is said.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The language of scripts.
pub struct Rhai;

/// A script that several nodes run, each with settings of its own.
struct Shared {
    /// As its author wrote it.
    code: Code,
    outputs: Arc<[String]>,
    path: Arc<str>,
    role: Role,
    may_ask: Vec<String>,
    limits: Limits,
    answer_within: Duration,
}

impl Language for Rhai {
    fn ending(&self) -> &'static str {
        "rhai"
    }

    fn definitions(&self) -> String {
        definitions::text()
    }

    fn imports(&self, script: &str) -> Vec<Import> {
        modules::imports(script)
    }

    fn compile(
        &self,
        source: &ScriptSource,
        problems: &mut Vec<Problem>,
    ) -> Option<Arc<dyn Compiled>> {
        let outputs = &source.outputs;
        problems.extend(output_names(outputs, "outputs", |index| format!("outputs[{index}]")));
        let around = Around::Script { outputs, asks: !source.may_ask.is_empty() };
        let (code, found) = lint::script(&source.text, &source.modules, &around);
        problems.extend(found);
        let code = code?;
        problems.extend(own_settings::check(&code.ast, source.settings.iter(), "plugin.yaml"));
        let ScriptLimits { max_operations, timeout, answer_within } = source.limits;
        Some(Arc::new(Shared {
            code,
            outputs: outputs.as_slice().into(),
            path: Arc::clone(&source.path),
            role: source.role,
            may_ask: source.may_ask.clone(),
            limits: Limits {
                max_operations: max_operations.unwrap_or_else(default_max_operations),
                timeout: timeout.unwrap_or_else(|| default_timeout().0),
            },
            answer_within: answer_within.unwrap_or(ANSWER_WITHIN),
        }))
    }
}

impl Compiled for Shared {
    fn configure(&self, settings: &serde_json::Map<String, Value>) -> Arc<dyn Configured> {
        let (code, outputs) = (self.code.clone(), Arc::clone(&self.outputs));
        let program = Program::new(code, settings, outputs, self.limits).of_file(&self.path);
        let program = program.asking(!self.may_ask.is_empty());
        let places = self.may_ask.iter().filter_map(|place| self::place(place, settings));
        let permission = Permission { places: places.collect(), answer_within: self.answer_within };
        match self.role {
            Role::Source => {
                let millis = settings.get("every").and_then(Value::as_u64).unwrap_or_default();
                let every = Duration::from_millis(millis);
                Arc::new(BeatingType { program: Arc::new(program), every, permission })
            }
            Role::Sink => {
                Arc::new(SendingType { program: Arc::new(program.of_sink()), permission })
            }
            Role::Transform | Role::Connection => Arc::new(ScriptType(Arc::new(program))),
        }
    }
}

/// A place that may be asked: as it is written, or as the setting in braces says.
fn place(written: &str, settings: &serde_json::Map<String, Value>) -> Option<String> {
    let named = written.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    match named {
        Some(setting) => Some(settings.get(setting)?.as_str()?.to_owned()),
        None => Some(written.to_owned()),
    }
}
