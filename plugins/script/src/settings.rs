//! What users write, and what it comes to.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{Configured, Import, Period, Problem, Script, Settings};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    host::Limits,
    lint::{self, Around},
    modules,
    own_settings::{self, OwnSettings},
    transform::{Program, ScriptType},
};

/// Names that every node gives to outputs of its own.
const RESERVED_OUTPUTS: [&str; 2] = ["main", "errors"];

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScriptSettings {
    /// The script, in Rhai: its text, or the path of a `.rhai` file. It gets `msg` and returns what
    /// to send on: a message, a list of messages, or `()` for none.
    script: Script,
    /// Values that the script reads as `settings.name`, so that one script can serve many nodes.
    /// Nobody can change them.
    #[serde(default)]
    settings: OwnSettings,
    /// Names of further outputs, for `emit("name", msg)`. Other nodes read them as `from:
    /// node.name`. Letters, digits, `-` and `_`.
    #[serde(default)]
    outputs: Vec<String>,
    /// The most operations one message may take: a value read, a call, a step of a loop is about
    /// one each. A script that needs more fails.
    #[serde(default = "default_max_operations")]
    #[schemars(range(min = 1, max = 10_000_000))]
    max_operations: u32,
    /// The longest one message may take, 1ms to 5s. Everything else on the same processor waits
    /// meanwhile. While others have the processor, a script is not stopped for that.
    #[serde(default = "default_timeout")]
    timeout: Period,
}

/// About 5 ms on a PC and below 50 ms on a small router, when the operations are cheap ones.
/// `timeout` is for the others.
pub(crate) const fn default_max_operations() -> u32 {
    100_000
}

pub(crate) const fn default_timeout() -> Period {
    Period(Duration::from_millis(50))
}

impl Settings for ScriptSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        problems
            .extend(output_names(&self.outputs, "outputs", |index| format!("outputs[{index}]")));
        problems.extend(self.check_timeout());
        let Script { text, modules } = &self.script;
        let (compiled, found) = lint::script(text, modules, &Around::script(&self.outputs));
        problems.extend(found);
        if let Some(compiled) = &compiled {
            problems.extend(own_settings::check(&compiled.ast, self.settings.keys(), "the node"));
        }
        let limits = Limits { max_operations: self.max_operations, timeout: self.timeout.0 };
        let program = Program::new(compiled?, &self.settings, self.outputs.into(), limits);
        Some(ScriptType(Arc::new(program)))
    }

    fn imports(script: &str) -> Vec<Import> {
        modules::imports(script)
    }
}

impl ScriptSettings {
    fn check_timeout(&self) -> Option<Problem> {
        let millis = self.timeout.as_millis();
        if (1..=5000).contains(&millis) {
            return None;
        }
        let label = format!("expected 1ms to 5s, found {}", self.timeout);
        Some(Problem::new("timeout", "`timeout` is out of range", label))
    }
}

/// What is wrong with the names of outputs. `place` tells where each stands in the setting.
pub(crate) fn output_names(
    names: &[String],
    setting: &str,
    place: impl Fn(usize) -> String,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let (message, label) = if name.is_empty() || !name.chars().all(fits) {
            let label = format!("expected letters, digits, `-` and `_`, found \"{name}\"");
            (format!("`{setting}` has a name that cannot be used: \"{name}\""), label)
        } else if RESERVED_OUTPUTS.contains(&name.as_str()) {
            let label = "every node has this output; take another name".to_owned();
            (format!("`{setting}` has the reserved name `{name}`"), label)
        } else if names[..index].contains(name) {
            (format!("`{setting}` has `{name}` twice"), "stands above already".to_owned())
        } else {
            continue;
        };
        problems.push(Problem::new(place(index), message, label));
    }
    problems
}
