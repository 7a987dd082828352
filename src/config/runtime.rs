//! `forebay.yaml`: the settings of the runtime. Everything works without it.

use std::path::PathBuf;

use forebay_sdk::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The settings of the runtime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// Folder for what must survive a restart. `--data` and `FOREBAY_DATA` go before it.
    pub data: Option<PathBuf>,
    /// How much is logged, and how.
    pub log: Log,
    /// How long a stop may take: sources stop, what is queued is delivered, then the program
    /// ends. What is left then is lost unless its source sends it again.
    pub stop_within: Period,
    /// How bad findings are, for `lint` and `run` alike.
    pub lint: Judgement,
}

/// How bad findings are. Which rules there are says `forebay explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Judgement {
    /// Rules whose warnings are errors here, so that a set of files with one is refused.
    pub deny: Vec<String>,
    /// Rules whose findings are only warnings here. Goes before `deny`. An error that leaves nothing
    /// to run stays one.
    pub warn: Vec<String>,
}

/// How much is logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The least important lines that are still logged. `FOREBAY_LOG` goes before it.
    pub level: LogLevel,
    /// How lines look.
    pub format: LogFormat,
}

/// What an operator must do about a line decides its level.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Data was lost, or a person must act.
    Error,
    /// Something unexpected that mended itself.
    Warn,
    /// What the operator did, and how it ended.
    #[default]
    Info,
    /// Everything else.
    Debug,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line, for programs.
    Json,
}

impl Judgement {
    /// Makes findings of a rule errors, whatever was asked before.
    pub fn deny(&mut self, rule: String) {
        self.warn.retain(|name| *name != rule);
        self.deny.push(rule);
    }

    /// Makes findings of a rule warnings, whatever was asked before.
    pub fn warn(&mut self, rule: String) {
        self.deny.retain(|name| *name != rule);
        self.warn.push(rule);
    }
}

impl Default for Runtime {
    fn default() -> Runtime {
        Runtime {
            data: None,
            log: Log::default(),
            stop_within: Period::seconds(8),
            lint: Judgement::default(),
        }
    }
}
