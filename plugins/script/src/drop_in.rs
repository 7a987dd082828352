//! Node types that users write as a script in a folder of its own.

use std::sync::Arc;

use forebay_sdk::{Compiled, Configured, Import, Language, Problem, ScriptSource, Value};

use crate::{
    definitions,
    host::Limits,
    lint::{self, Code},
    modules, own_settings,
    settings::{default_max_operations, default_timeout, output_names},
    transform::{Program, ScriptType},
};

/// As for a `script` node that says nothing of them.
const LIMITS: Limits =
    Limits { max_operations: default_max_operations(), timeout: default_timeout().0 };

/// The language of scripts.
pub struct Rhai;

/// A script that several nodes run, each with settings of its own.
struct Shared {
    /// As its author wrote it.
    code: Code,
    outputs: Arc<[String]>,
    path: Arc<str>,
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
        let (code, found) = lint::script(&source.text, &source.modules, outputs);
        problems.extend(found);
        let code = code?;
        problems.extend(own_settings::check(&code.ast, source.settings.iter(), "plugin.yaml"));
        let (outputs, path) = (outputs.as_slice().into(), Arc::clone(&source.path));
        Some(Arc::new(Shared { code, outputs, path }))
    }
}

impl Compiled for Shared {
    fn configure(&self, settings: &serde_json::Map<String, Value>) -> Arc<dyn Configured> {
        let (code, outputs) = (self.code.clone(), Arc::clone(&self.outputs));
        let program = Program::new(code, settings, outputs, LIMITS).of_file(&self.path);
        Arc::new(ScriptType(Arc::new(program)))
    }
}
