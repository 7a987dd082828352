//! `forebay nodes`: every node type, its settings and a sample, out of the settings structs.

use serde_json::{Value, json};

use super::{Ending, print};
use crate::{
    config::{NodeTypeEntry, Types},
    plugins,
};

/// List the node types, or describe one with its settings and a sample.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The type to describe, such as `mqtt`.
    name: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn nodes(arguments: Arguments) -> anyhow::Result<Ending> {
    let types = Types::new(&plugins::all());
    let name = arguments.name.as_deref();
    let chosen: Vec<&NodeTypeEntry> = types
        .iter()
        .filter(|entry| name.is_none_or(|name| entry.node_type.name() == name))
        .collect();
    if let (Some(name), true) = (name, chosen.is_empty()) {
        anyhow::bail!("there is no node type `{name}`; `forebay nodes` lists them");
    }
    let text = match (arguments.json, name) {
        (true, _) => {
            chosen.iter().map(|entry| as_json(entry)).collect::<Value>().to_string() + "\n"
        }
        (false, None) => list(&chosen),
        (false, Some(_)) => describe(&chosen),
    };
    print(&text)?;
    Ok(Ending::Fine)
}

fn list(entries: &[&NodeTypeEntry]) -> String {
    let line = |entry: &&NodeTypeEntry| {
        let (role, name) = (entry.node_type.role().noun(), entry.node_type.name());
        format!("{role:<11} {name:<8} {}\n", entry.node_type.summary())
    };
    let lines: String = entries.iter().map(line).collect();
    lines + "\n`forebay nodes TYPE` shows the settings of a type and a sample.\n"
}

fn describe(entries: &[&NodeTypeEntry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let (name, noun) = (entry.node_type.name(), entry.node_type.role().noun());
        text += &format!("{name} {noun}: {}\n\n", entry.node_type.summary());
        for row in rows(&entry.schema) {
            text += &format!("  {}  ({})\n", row.path, row.value);
            for line in wrap(&row.about) {
                text += &format!("      {line}\n");
            }
        }
        text += "\n";
    }
    if let Some(entry) = entries.first() {
        text += &format!("Sample:\n\n{}", entry.plugin.sample);
    }
    text
}

fn as_json(entry: &NodeTypeEntry) -> Value {
    json!({
        "type": entry.node_type.name(),
        "role": entry.node_type.role().noun(),
        "plugin": entry.plugin.name,
        "summary": entry.node_type.summary(),
        "schema": entry.schema,
    })
}

/// One setting of a type.
pub struct Row {
    /// `registers[].kind`.
    pub path: String,
    /// Its type and default in words: `duration, default 5s`.
    pub value: String,
    /// What it does.
    pub about: String,
}

/// All settings of a schema, those inside others behind them.
pub fn rows(schema: &Value) -> Vec<Row> {
    let mut found = Vec::new();
    add_rows(schema, "", &mut found);
    found
}

/// The settings of a type as a table for its README.
pub fn markdown(schema: &Value) -> String {
    let cell = |text: &str| text.replace('\n', " ").replace('|', "\\|");
    let mut table = "| setting | value | what it does |\n|---|---|---|\n".to_owned();
    for row in rows(schema) {
        let (value, about) = (cell(&row.value), cell(&row.about));
        table += &format!("| `{}` | {value} | {about} |\n", row.path);
    }
    table
}

fn add_rows(schema: &Value, prefix: &str, found: &mut Vec<Row>) {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if prefix.is_empty() && name == "type" {
            continue;
        }
        let path = format!("{prefix}{name}");
        let about = property["description"].as_str().unwrap_or_default().to_owned();
        let value = value_words(property, required.contains(&name.as_str()));
        found.push(Row { path: path.clone(), value, about });
        let inner =
            alternatives(property).into_iter().find(|schema| schema["properties"].is_object());
        let items = &alternatives(property).into_iter().find(|schema| schema["items"].is_object());
        match (inner, items) {
            (Some(inner), _) => add_rows(inner, &format!("{path}."), found),
            (None, Some(list)) => add_rows(&list["items"], &format!("{path}[]."), found),
            (None, None) => (),
        }
    }
}

/// The schema itself, or what it offers to choose from.
fn alternatives(schema: &Value) -> Vec<&Value> {
    match schema["anyOf"].as_array() {
        Some(alternatives) => {
            alternatives.iter().filter(|schema| schema["type"] != "null").collect()
        }
        None => vec![schema],
    }
}

fn value_words(schema: &Value, required: bool) -> String {
    let mut words =
        alternatives(schema).into_iter().map(type_words).collect::<Vec<_>>().join(" or ");
    match &schema["default"] {
        Value::Null if required => words += ", required",
        Value::Null => (),
        Value::Object(_) => (),
        Value::String(text) if text.is_empty() => (),
        Value::String(text) => words += &format!(", default `{text}`"),
        other => words += &format!(", default `{other}`"),
    }
    words
}

fn type_words(schema: &Value) -> String {
    let choices = choices(schema);
    if !choices.is_empty() {
        return choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(" ");
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").unwrap_or(&Value::Null),
        kind => kind,
    };
    let words = match (schema["format"].as_str(), kind.as_str()) {
        (Some("forebay-duration"), _) => "duration",
        (Some("forebay-size"), _) => "size",
        (Some("forebay-secret"), _) => "secret text",
        (Some("forebay-script"), _) => "script, or path of a `.rhai` file",
        (_, Some("string")) => "text",
        (_, Some("boolean")) => "`true` or `false`",
        (_, Some("integer")) => "whole number",
        (_, Some("number")) => "number",
        (_, Some("array")) => "list",
        (_, Some("object")) => "map",
        _ => "any value",
    };
    match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(least), Some(most)) => format!("{words}, {least} to {most}"),
        _ => words.to_owned(),
    }
}

fn choices(schema: &Value) -> Vec<&str> {
    let listed = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let described = schema["oneOf"].as_array().into_iter().flatten().flat_map(choices);
    listed.chain(schema["const"].as_str()).chain(described).collect()
}

/// Lines of at most 90 characters.
fn wrap(text: &str) -> Vec<String> {
    const WIDTH: usize = 90;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
