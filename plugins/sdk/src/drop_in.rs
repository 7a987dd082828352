//! Nodes that a folder brings along as a script. Whoever reads the folder knows no language of
//! scripts, and who knows one reads no folders: between them stands [`Language`].

use std::{sync::Arc, time::Duration};

use forebay_yaml::ModuleSource;
use serde_json::{Map, Value};

use crate::{
    plugin::Role,
    settings::{Configured, Import, Problem},
};

/// A language in which users write node types.
pub trait Language: Send + Sync {
    /// How the names of its files end, without the point.
    fn ending(&self) -> &'static str;

    /// What scripts see and call, as a file that editors read.
    fn definitions(&self) -> String;

    /// What a script imports, whether the rest of it is right or wrong.
    fn imports(&self, script: &str) -> Vec<Import>;

    /// Compiles a script. What is wrong with it is reported by setting: `script`, with the place inside,
    /// `outputs[0]`, `settings.NAME`. None when nothing could run.
    fn compile(
        &self,
        source: &ScriptSource,
        problems: &mut Vec<Problem>,
    ) -> Option<Arc<dyn Compiled>>;
}

/// A script that is to become a node type.
#[derive(Clone, Debug)]
pub struct ScriptSource {
    /// What it says.
    pub text: Arc<str>,
    /// What it imports, each behind those that it imports itself.
    pub modules: Vec<ModuleSource>,
    /// Its file, as errors name it.
    pub path: Arc<str>,
    /// The settings that a node of the type has. One that is left out is null.
    pub settings: Vec<String>,
    /// The outputs beside the main one and `errors`.
    pub outputs: Vec<String>,
    /// What it is in a pipeline. A source has the setting `every`, in milliseconds.
    pub role: Role,
    /// The places that it may ask by HTTP: scheme, host and port, or `{NAME}` for that in a setting.
    pub may_ask: Vec<String>,
    /// What it may use.
    pub limits: ScriptLimits,
}

/// What a script may use; as any script, where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptLimits {
    /// The most operations of one run.
    pub max_operations: Option<u32>,
    /// The longest one run may take, but for what it waits for.
    pub timeout: Option<Duration>,
    /// The longest an answer to a request may take.
    pub answer_within: Option<Duration>,
}

/// A script, compiled.
pub trait Compiled: Send + Sync {
    /// A node of these settings. They fit the type, so nothing can be wrong.
    fn configure(&self, settings: &Map<String, Value>) -> Arc<dyn Configured>;
}
