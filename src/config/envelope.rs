//! `envelope:`: what a sink writes beside the values of a payload, under names of the user's choice.

use forebay_sdk::{Problem, TimeForm};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is written beside the values of each payload: the names of the fields. What has no name is not
/// written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeSettings {
    /// Has the time of the message.
    #[schemars(length(min = 1))]
    pub time: Option<String>,
    /// How that time is written.
    #[serde(default)]
    pub time_as: TimeForm,
    /// Is `true` when the message waited for the link, so that a backlog can be told from what comes now;
    /// else it is not there.
    #[schemars(length(min = 1))]
    pub historical: Option<String>,
    /// Has why values are missing or doubtful, by field, where a source says so (`meta.quality`).
    #[schemars(length(min = 1))]
    pub quality: Option<String>,
    /// Has the units of the values, by field, where a source says so (`meta.units`).
    #[schemars(length(min = 1))]
    pub units: Option<String>,
    /// Has the payload itself. When left out, the others stand among its fields; a payload that is no map
    /// is then called `value`.
    #[schemars(length(min = 1))]
    pub values: Option<String>,
}

impl EnvelopeSettings {
    /// What the types cannot say.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let named = self.named();
        let mut report = |setting: &str, message: String, label: &str| {
            problems.push(Problem::new(setting, message, label));
        };
        for (index, (setting, name)) in named.iter().enumerate() {
            if let Some((other, _)) = named[..index].iter().find(|(_, other)| other == name) {
                let message = format!("`envelope.{setting}` has the name of `envelope.{other}`");
                report(setting, message, "expected another name");
            }
        }
        if named.is_empty() {
            let message = "`envelope` writes nothing".to_owned();
            report("", message, "expected a name, such as `time: time`");
        }
        if self.time.is_none() && self.time_as != TimeForm::default() {
            let message = "`envelope.time_as` does nothing without `time`".to_owned();
            report("time_as", message, "expected `time: time` beside it");
        }
        problems
    }

    /// The settings that have a name, and those names.
    fn named(&self) -> Vec<(&'static str, &str)> {
        let settings = [
            ("time", &self.time),
            ("historical", &self.historical),
            ("quality", &self.quality),
            ("units", &self.units),
            ("values", &self.values),
        ];
        settings
            .into_iter()
            .filter_map(|(setting, name)| Some((setting, name.as_deref()?)))
            .collect()
    }
}
