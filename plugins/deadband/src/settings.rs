//! What users write under a `deadband` transform.

use std::sync::Arc;

use forebay_sdk::{By, Configured, DeadbandSettings, Path, Period, Problem, Sending, Settings};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::transform::{DeadbandNode, Send, Watched};

/// The most fields that a node watches.
const MOST_FIELDS: usize = 256;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadbandNodeSettings {
    /// The fields that decide, and how far each must move from what was sent last: `power: 10` in its
    /// unit, or a map. `.` is the whole payload, when that is a bare number.
    fields: IndexMap<String, DeadbandSettings>,
    /// What goes on when a field has moved.
    #[serde(default)]
    send: Send,
    /// A field is sent after this time though it has not moved, unless it says otherwise.
    max_interval: Option<Period>,
    /// Which messages are compared with each other: those with the same in this field, or in all
    /// fields of this list; `[]` for all messages. Those of the same topic when left out.
    #[serde(default)]
    by: By,
}

impl Settings for DeadbandNodeSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let DeadbandNodeSettings { fields, send, max_interval, by } = self;
        if fields.is_empty() || fields.len() > MOST_FIELDS {
            let label = format!("expected 1 to {MOST_FIELDS} fields, found {}", fields.len());
            problems.push(Problem::new("fields", "`fields` names no field that decides", label));
        }
        let mut watched = Vec::with_capacity(fields.len());
        for (name, deadband) in &fields {
            let setting = format!("fields.{name}");
            let path = match send {
                Send::Message => Path::parse(name),
                // What is not in a map cannot be left out.
                Send::Changes => Path::parse_names(name),
            };
            let path = path.map_err(|label| {
                let message = format!("`fields` has a name that is no field: \"{name}\"");
                Problem::new(setting.clone(), message, label)
            });
            let sending = deadband.resolve().map_err(|wrong| {
                let message = format!("the deadband of `{name}` is no distance");
                Problem::new(setting.clone(), message, format!("expected 0 or more in `{wrong}`"))
            });
            match (path, sending) {
                (Ok(path), Ok(sending)) => {
                    let longest = sending.longest.or(max_interval.map(|period| period.0));
                    let sending = Sending { longest, ..sending };
                    watched.push(Watched { name: name.clone(), path, sending });
                }
                (path, sending) => {
                    problems.extend([path.err(), sending.err()].into_iter().flatten())
                }
            }
        }
        Some(DeadbandNode { watched: Arc::from(watched), send, by })
    }
}
