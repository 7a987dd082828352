//! `forebay schema`: JSON Schemas for editors, out of the settings structs.

#[cfg(test)]
mod tests;

use std::{ffi::OsString, io, path::Path};

use anyhow::bail;
use clap::ValueEnum;
use forebay_sdk::{Level, Role, schema_of};
use serde_json::{Map, Value, json};

use super::{
    super::{
        folder::types,
        output::{Ending, print, use_color},
    },
    folder::types_of,
    kinds::{self, Kind},
    test::{pipeline::settings::TestFileSettings, schema as tests_schema},
};
use crate::{
    config::{Runtime, Types, common::NEEDED, drop_in::manifest_schema},
    lint::report::{Format, render},
    plugins::definitions,
};

/// Print the JSON Schema of a kind of file, for editors.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which kind of file: pipeline (when left out), runtime, profile, plugin, plugin-tests, test or script. Or a folder: the schema of its
    /// pipelines, which knows the types in its `plugins`.
    what: Option<OsString>,
}

/// The kinds of file that have a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum File {
    /// A pipeline.
    #[default]
    Pipeline,
    /// `forebay.yaml`.
    Runtime,
    /// A file of `profiles/`: the registers of a kind of device.
    Profile,
    /// A `plugin.yaml` in a folder of `plugins/`.
    Plugin,
    /// A `tests.yaml` beside it.
    PluginTests,
    /// What scripts see and call: no JSON Schema, but a `.d.rhai` file, which editors of Rhai read.
    Script,
    /// A `NAME.test.yaml` beside a pipeline.
    Test,
}

pub(super) fn schema(arguments: Arguments) -> anyhow::Result<Ending> {
    let Some(what) = arguments.what else {
        print(&text(File::Pipeline))?;
        return Ok(Ending::Fine);
    };
    match what.to_str().and_then(|word| File::from_str(word, false).ok()) {
        Some(file) => print(&text(file))?,
        None => return of_folder(Path::new(&what)),
    }
    Ok(Ending::Fine)
}

/// The schema of the pipelines of a folder. What is wrong with its plugins is said beside it.
fn of_folder(folder: &Path) -> anyhow::Result<Ending> {
    if !folder.is_dir() {
        let kinds: Vec<String> = File::value_variants()
            .iter()
            .filter_map(|file| Some(file.to_possible_value()?.get_name().to_owned()))
            .collect();
        bail!(
            "{} is no folder, and no kind of file; these are {}",
            folder.display(),
            kinds.join(", ")
        );
    }
    let (types, findings, texts) = types_of(folder)?;
    eprint!("{}", render(&findings, &texts, Format::Full, use_color(&io::stderr())));
    print(&pretty(&pipeline(&types)))?;
    let is_wrong = findings.iter().any(|finding| finding.level == Level::Error);
    Ok(if is_wrong { Ending::Findings } else { Ending::Fine })
}

/// The schema as it is committed under `schemas/`.
pub fn text(file: File) -> String {
    let schema = match file {
        File::Pipeline => pipeline(types()),
        File::Runtime => runtime(),
        File::Profile => profile(types()),
        File::Plugin => plugin(manifest_schema().clone(), "plugins/NAME/plugin.yaml"),
        File::PluginTests => plugin(tests_schema(), "plugins/NAME/tests.yaml"),
        File::Script => return definitions(),
        File::Test => test(),
    };
    pretty(&schema)
}

fn pretty(schema: &Value) -> String {
    // A `Value` has text keys only, all that serde_json could refuse.
    serde_json::to_string_pretty(schema).unwrap_or_default() + "\n"
}

fn plugin(mut schema: Value, title: &str) -> Value {
    schema["$schema"] = DIALECT.into();
    schema["title"] = title.into();
    for property in
        schema["properties"].as_object_mut().into_iter().flat_map(|all| all.values_mut())
    {
        without_empty_defaults(property);
    }
    schema
}

fn test() -> Value {
    let mut schema = schema_of::<TestFileSettings>();
    schema["$schema"] = DIALECT.into();
    schema["title"] = "NAME.test.yaml".into();
    without_empty_defaults(&mut schema);
    schema
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

/// One kind of node has profiles.
fn profile(types: &Types) -> Value {
    let profiles = types.iter().find_map(|entry| entry.node_type.profiles());
    let mut schema = profiles.map_or(Value::Bool(false), |profiles| (profiles.schema)());
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".to_owned(), DIALECT.into());
        schema.insert("title".to_owned(), "profiles/NAME.yaml".into());
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
    let kinds = kinds::all(types);
    for role in Role::ALL {
        let of_role: Vec<&Kind> = kinds.iter().filter(|kind| kind.role == Some(role)).collect();
        let names: Vec<&str> = of_role.iter().map(|kind| kind.name).collect();
        let choose = |kind: &&Kind| {
            let is_it =
                json!({ "properties": { "type": { "const": kind.name } }, "required": ["type"] });
            json!({ "if": is_it, "then": { "$ref": reference(kind) } })
        };
        let node = json!({
            "type": "object",
            "properties": { "type": { "enum": names } },
            "required": ["type"],
            "allOf": of_role.iter().map(choose).collect::<Vec<_>>(),
        });
        properties.insert(role.section().to_owned(), section(section_about(role), node));
    }
    for kind in kinds.iter().filter(|kind| kind.role.is_none()) {
        let each = json!({ "$ref": reference(kind) });
        properties.insert(kind.name.to_owned(), section(kind.summary, each));
    }
    let definitions: Map<String, Value> =
        kinds.iter().map(|kind| (key(kind), published(kind))).collect();
    json!({
        "$schema": DIALECT,
        "type": "object",
        "properties": properties,
        "patternProperties": { "^x-": true },
        "additionalProperties": false,
        "$defs": definitions,
    })
}

/// A map of names that its author chooses.
fn section(about: &str, each: Value) -> Value {
    json!({
        "type": ["object", "null"],
        "description": about,
        "propertyNames": { "pattern": NAMES },
        "additionalProperties": each,
    })
}

/// By which name its schema stands among the definitions.
fn key(kind: &Kind<'_>) -> String {
    match kind.role {
        Some(role) => format!("{}-{}", role.noun(), kind.name),
        None => kind.noun.to_owned(),
    }
}

fn reference(kind: &Kind<'_>) -> String {
    format!("#/$defs/{}", key(kind))
}

/// A number or a word may also come from a variable, which is text to an editor.
fn published(kind: &Kind<'_>) -> Value {
    let mut schema = kind.schema.clone();
    // What an editor shows above the description of a setting.
    let title = kind.title();
    schema["title"] = title.as_str().into();
    let mut needed = Vec::new();
    for (name, property) in schema["properties"].as_object_mut().into_iter().flatten() {
        let mark = property.as_object_mut().and_then(|property| property.remove(NEEDED));
        needed.extend(mark.map(|_| Value::from(name.as_str())));
        allow_variable(property, &title);
    }
    if let Some(required) = schema["required"].as_array_mut() {
        required.extend(needed);
    }
    schema
}

fn allow_variable(schema: &mut Value, title: &str) {
    let Some(object) = schema.as_object_mut() else { return };
    drop_empty_default(object);
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

/// To leave a setting out is no value of it; an editor would offer it as one.
fn drop_empty_default(object: &mut Map<String, Value>) {
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
}

/// The same for all that is inside.
fn without_empty_defaults(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            drop_empty_default(object);
            object.values_mut().for_each(without_empty_defaults);
        }
        Value::Array(list) => list.iter_mut().for_each(without_empty_defaults),
        _ => (),
    }
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
