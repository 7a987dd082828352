//! What a reload would do, as it is told and asked for.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::buffer::{counted, printable};
use crate::{config::Graph, engine};

/// What a process that runs says of a reload of its folder as it stands.
#[derive(Serialize, Deserialize)]
pub(super) struct Outlook {
    pub(super) pid: u32,
    /// Which folder that is.
    pub(super) folder: PathBuf,
    /// What runs meanwhile, in words.
    pub(super) goes_on: String,
    /// Why it would be refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
    /// What lint finds in it, a line each.
    pub(super) findings: Vec<String>,
    /// What it would do, unless it would be refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) would: Option<Value>,
}

/// What going from one graph to the other does: the names of nodes and connections by what becomes of them, and what it
/// leaves behind on disk.
pub(super) fn would(running: &Graph, wanted: &Graph, data: &Path) -> Value {
    let plan = engine::plan(running, wanted);
    let mut would = Map::new();
    for (verb, names) in plan.steps() {
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        would.insert(verb.replace(' ', "_"), names.into());
    }
    would.insert("untouched".to_owned(), plan.untouched.into());
    let left = engine::left_behind(data, wanted);
    let left = left.iter().map(|(node, messages)| json!({ "node": node, "messages": messages }));
    would.insert("left_behind".to_owned(), left.collect());
    would.into()
}

/// The same for people.
pub(super) fn as_text(would: &Value) -> String {
    let mut text = String::new();
    for (verb, names) in would.as_object().into_iter().flatten() {
        let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
        names.for_each(|name| text += &format!("{} {}\n", verb.replace('_', " "), printable(name)));
    }
    if text.is_empty() {
        text += "nothing would change\n";
    }
    text += &format!("{} untouched\n", would["untouched"]);
    for left in would["left_behind"].as_array().into_iter().flatten() {
        let node = printable(left["node"].as_str().unwrap_or_default());
        let messages = counted(left["messages"].as_u64().unwrap_or_default());
        text += &format!(
            "{messages} of {node} on disk would stay behind; `forebay buffer move {node} NEW` gives them to another sink\n"
        );
    }
    text
}
