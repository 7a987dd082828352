//! `forebay schema`: JSON Schemas for editors, out of the settings structs.

use forebay_sdk::{Role, schema_of};
use serde_json::{Map, Value, json};

use super::{Ending, print, types};
use crate::config::{NodeTypeEntry, Runtime, Types};

/// Print the JSON Schema of a kind of file, for editors.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Which kind of file.
    #[arg(value_enum, default_value_t)]
    file: File,
}

/// The kinds of file that have a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum File {
    /// A pipeline.
    #[default]
    Pipeline,
    /// `forebay.yaml`.
    Runtime,
}

pub(super) fn schema(arguments: Arguments) -> anyhow::Result<Ending> {
    print(&text(arguments.file))?;
    Ok(Ending::Fine)
}

/// The schema as it is committed under `schemas/`.
pub fn text(file: File) -> String {
    let schema = match file {
        File::Pipeline => pipeline(types()),
        File::Runtime => runtime(),
    };
    // A `Value` has text keys only, all that serde_json could refuse.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

fn runtime() -> Value {
    let mut schema = schema_of::<Runtime>();
    schema["$schema"] = DIALECT.into();
    let title = "forebay.yaml";
    schema["title"] = title.into();
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.values_mut().for_each(|property| allow_variable(property, title));
    }
    schema
}

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Of ASCII, only letters, digits, `-` and `_`. Classes of Unicode would say it better, and are not
/// known to every validator.
const NAMES: &str = r"^[^\x00-,./:-@\[-^`{-\x7f]+$";

fn pipeline(types: &Types) -> Value {
    let mut properties = Map::new();
    let about = "What the pipeline is for. One sentence.";
    properties.insert("description".to_owned(), json!({ "type": "string", "description": about }));
    let mut definitions = Map::new();
    for role in Role::ALL {
        let of_role: Vec<&NodeTypeEntry> =
            types.iter().filter(|entry| entry.node_type.role() == role).collect();
        let names: Vec<&str> = of_role.iter().map(|entry| entry.node_type.name()).collect();
        let choose = |entry: &&NodeTypeEntry| {
            let name = entry.node_type.name();
            let is_it =
                json!({ "properties": { "type": { "const": name } }, "required": ["type"] });
            json!({ "if": is_it, "then": { "$ref": format!("#/$defs/{}", key(role, name)) } })
        };
        let node = json!({
            "type": "object",
            "properties": { "type": { "enum": names } },
            "required": ["type"],
            "allOf": of_role.iter().map(choose).collect::<Vec<_>>(),
        });
        for entry in &of_role {
            definitions.insert(key(role, entry.node_type.name()), published(entry));
        }
        let section = json!({
            "type": ["object", "null"],
            "description": section_about(role),
            "propertyNames": { "pattern": NAMES },
            "additionalProperties": node,
        });
        properties.insert(role.section().to_owned(), section);
    }
    json!({
        "$schema": DIALECT,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": definitions,
    })
}

fn key(role: Role, name: &str) -> String {
    format!("{}-{name}", role.noun())
}

/// A number or a word may also come from a variable, which is text to an editor.
fn published(entry: &NodeTypeEntry) -> Value {
    let mut schema = entry.schema.clone();
    // What an editor shows above the description of a setting.
    let title = format!("{} {}", entry.node_type.name(), entry.node_type.role().noun());
    schema["title"] = title.as_str().into();
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.values_mut().for_each(|property| allow_variable(property, &title));
    }
    if matches!(entry.node_type.role(), Role::Transform | Role::Sink)
        && let Some(required) = schema["required"].as_array_mut()
    {
        required.push("from".into());
    }
    schema
}

fn allow_variable(schema: &mut Value, title: &str) {
    let Some(object) = schema.as_object_mut() else { return };
    // To leave a setting out is no value of it; an editor would offer it as one.
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    for inner in ["properties", "anyOf"] {
        match object.get_mut(inner) {
            Some(Value::Object(map)) => map.values_mut().for_each(|one| allow_variable(one, title)),
            Some(Value::Array(list)) => list.iter_mut().for_each(|one| allow_variable(one, title)),
            _ => (),
        }
    }
    for inner in ["items", "additionalProperties"] {
        object
            .get_mut(inner)
            .filter(|inner| inner.is_object())
            .into_iter()
            .for_each(|inner| allow_variable(inner, title));
    }
    let types: Vec<&str> = match &object.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is_number = types.iter().any(|kind| matches!(*kind, "integer" | "number" | "boolean"));
    let is_word = ["enum", "oneOf"].iter().any(|key| object.contains_key(*key));
    if !is_number && !is_word {
        return;
    }
    // The description and default stay where an editor looks for them.
    let mut outer = Map::new();
    for key in ["description", "default"] {
        if let Some(value) = object.remove(key) {
            outer.insert(key.to_owned(), value);
        }
    }
    object.insert("title".to_owned(), title.into());
    let variable = json!({ "type": "string", "pattern": r"\$\{" });
    let either = json!([std::mem::take(object), variable]);
    outer.insert("anyOf".to_owned(), either);
    *object = outer;
}

fn section_about(role: Role) -> &'static str {
    match role {
        Role::Connection => {
            "What nodes share: a bus, a broker session. Known in every file of the folder."
        }
        Role::Source => "Nodes that bring messages in.",
        Role::Transform => "Nodes that turn messages into others.",
        Role::Sink => "Nodes that take messages out.",
    }
}
