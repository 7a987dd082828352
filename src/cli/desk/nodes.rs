//! `forebay nodes`: every node type, its settings and a sample, out of the settings structs.

#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
};

use forebay_sdk::{Inventory, Profile, Role, units::form_of};
use serde_json::{Map, Value, json};

use super::{
    super::{
        columns,
        folder::{process_environment, types},
        output::{Ending, Format, Printed, print, use_color},
    },
    folder::types_of,
    kinds::{self, Kind},
};
use crate::{
    config::{self, Types, common::NEEDED},
    lint::report::{self, render},
};

/// List the node types, or describe one with its settings and a sample.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The type to describe, such as `mqtt`; a profile to print, such as `sdm630`; or a node of the
    /// folder, such as `boiler-room/meter`, to see what it reads and writes in its device.
    name: Option<String>,
    /// The folder of that node, and whose plugins are types, too. When left out, the one at hand.
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    printed: Printed,
}

pub(super) fn nodes(arguments: Arguments) -> anyhow::Result<Ending> {
    let name = arguments.name.as_deref();
    if let Some(node) = name.filter(|name| name.contains('/')) {
        return inventory(node, &arguments);
    }
    let types = types_at(&arguments.folder)?;
    let mut chosen = kinds::all(&types);
    let profile = chosen.iter().flat_map(|kind| kind.profiles).find(|p| Some(p.name) == name);
    chosen.retain(|kind| name.is_none_or(|name| kind.name == name));
    if let (Some(profile), true, Format::Text) =
        (profile, chosen.is_empty(), arguments.printed.format())
    {
        print(profile.text)?;
        return Ok(Ending::Fine);
    }
    if let (Some(name), true) = (name, chosen.is_empty()) {
        anyhow::bail!("there is no node type `{name}`; `forebay nodes` lists them");
    }
    let text = match (arguments.printed.format(), name) {
        (Format::Json, _) => chosen.iter().map(as_json).collect::<Value>().to_string() + "\n",
        (Format::Text, None) => list(&chosen),
        (Format::Text, Some(_)) => describe(&chosen),
    };
    print(&text)?;
    Ok(Ending::Fine)
}

/// A folder without plugins is not read: it may be any.
fn types_at(folder: &Path) -> anyhow::Result<Types> {
    if !folder.join("plugins").is_dir() {
        return Ok(types().clone());
    }
    let (types, findings, texts) = types_of(folder)?;
    eprint!("{}", render(&findings, &texts, report::Format::Full, use_color(&io::stderr())));
    Ok(types)
}

/// What a node of the folder reads and writes on the other side.
fn inventory(node: &str, arguments: &Arguments) -> anyhow::Result<Ending> {
    let draft = config::load(&arguments.folder, self::types(), &process_environment)?;
    let named = draft.parts.iter().find(|part| {
        part.role != Role::Connection && format!("{}/{}", part.pipeline, part.short) == node
    });
    let Some(part) = named else {
        anyhow::bail!("there is no node `{node}` in {}", arguments.folder.display());
    };
    let Some(configured) = &part.configured else {
        anyhow::bail!("{} cannot be read; `forebay lint` says why", part.title());
    };
    let Inventory { heads, rows } = configured.inventory();
    if arguments.printed.format() == Format::Json {
        let row = |row: &Vec<String>| {
            heads
                .iter()
                .zip(row)
                .map(|(head, cell)| (head.replace(' ', "_"), json!(cell)))
                .collect::<Value>()
        };
        print(
            &(json!({ "node": node, "rows": rows.iter().map(row).collect::<Value>() }).to_string()
                + "\n"),
        )?;
        return Ok(Ending::Fine);
    }
    let mut text = format!("{} {} `{node}`\n\n", part.type_name, part.role.noun());
    if rows.is_empty() {
        text += "Its settings name nothing by itself on the other side.\n";
    }
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    let lines: Vec<Vec<String>> = if rows.is_empty() { rows } else { [vec![heads], rows].concat() };
    let width = |column: usize| lines.iter().map(|line| columns::width(&line[column])).max();
    for line in &lines {
        let cells = line.iter().enumerate();
        let cells = cells.map(|(column, cell)| columns::padded(cell, width(column).unwrap_or(0)));
        text += format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end();
        text += "\n";
    }
    print(&text)?;
    Ok(Ending::Fine)
}

fn list(kinds: &[Kind<'_>]) -> String {
    let widest = kinds.iter().map(|kind| kind.name.len()).max().unwrap_or_default();
    let line = |kind: &Kind| format!("{:<11} {:<widest$} {}\n", kind.noun, kind.name, kind.summary);
    let lines: String = kinds.iter().map(line).collect();
    lines + "\n`forebay nodes TYPE` shows the settings of a type and a sample.\n"
}

fn describe(kinds: &[Kind<'_>]) -> String {
    let mut text = String::new();
    for kind in kinds {
        text += &format!("{}: {}\n\n", kind.title(), kind.summary);
        for row in rows(&kind.schema) {
            text += &format!("  {}  ({})\n", row.path, row.value);
            for line in [&row.about].into_iter().chain(&row.choices).flat_map(|text| wrap(text)) {
                text += &format!("      {line}\n");
            }
        }
        text += "\n";
    }
    let mut profiles: Vec<&Profile> = kinds.iter().flat_map(|kind| kind.profiles).collect();
    profiles.sort_by_key(|profile| profile.name);
    profiles.dedup_by_key(|profile| profile.name);
    if !profiles.is_empty() {
        text += "Profiles, each shown by `forebay nodes PROFILE`:\n\n";
        let line = |profile: &&Profile| format!("  {:<18}  {}\n", profile.name, profile.summary());
        text.extend(profiles.iter().map(line));
        text += "\n";
    }
    if let Some(kind) = kinds.first() {
        text += &format!("Sample:\n\n{}", kind.plugin.sample_of(kind.name));
    }
    text
}

fn as_json(kind: &Kind<'_>) -> Value {
    let name = if kind.role.is_some() { "type" } else { "section" };
    json!({
        name: kind.name,
        "role": kind.noun,
        "plugin": kind.plugin.name,
        "summary": kind.summary,
        "schema": kind.schema,
        "profiles": kind.profiles.iter().map(|profile| profile.name).collect::<Vec<_>>(),
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
    /// What each word means that it can be set to: `` `drop_oldest`: .. ``.
    pub choices: Vec<String>,
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
        let about: Vec<String> = [row.about].iter().chain(&row.choices).map(|t| cell(t)).collect();
        table += &format!("| `{}` | {} | {} |\n", row.path, cell(&row.value), about.join("<br>"));
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
        let is_required = required.contains(&name.as_str()) || property[NEEDED] == true;
        let value = value_words(property, is_required);
        let choices = alternatives(property).into_iter().flat_map(choices_described).collect();
        found.push(Row { path: path.clone(), value, about, choices });
        let inner =
            alternatives(property).into_iter().find(|schema| schema["properties"].is_object());
        let items = &alternatives(property).into_iter().find(|schema| schema["items"].is_object());
        match (inner, items) {
            (Some(inner), _) => add_rows(inner, &format!("{path}."), found),
            // A part of a part has the same settings.
            (None, Some(list)) if names(&list["items"]).eq(names(schema)) => (),
            (None, Some(list)) => add_rows(&list["items"], &format!("{path}[]."), found),
            // A map whose names are up to its author.
            (None, None) => {
                for each in alternatives(&property["additionalProperties"]) {
                    add_rows(each, &format!("{path}.*."), found);
                }
            }
        }
    }
}

/// What the settings of a schema are called.
fn names(schema: &Value) -> impl Iterator<Item = &String> {
    schema["properties"].as_object().into_iter().flat_map(Map::keys)
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
    let words = match (form_of(schema), kind.as_str()) {
        (Some(form), _) => form.noun,
        (_, Some("string")) => "text",
        (_, Some("boolean")) => "`true` or `false`",
        (_, Some("integer")) => "whole number",
        (_, Some("number")) => "number",
        (_, Some("array")) => return collection("list", &schema["items"]),
        (_, Some("object")) => return collection("map", &schema["additionalProperties"]),
        _ => "text, number, list or map",
    };
    match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(least), Some(most)) => format!("{words}, {least} to {most}"),
        _ => words.to_owned(),
    }
}

/// `list of text`. What is inside a map of settings stands in rows of its own.
fn collection(noun: &str, inside: &Value) -> String {
    if !inside.is_object() || inside["properties"].is_object() {
        return noun.to_owned();
    }
    let each: Vec<String> = alternatives(inside).into_iter().map(type_words).collect();
    format!("{noun} of {}", each.join(" or "))
}

/// What each choice means, when its author says so and there is one.
fn choices_described(schema: &Value) -> Vec<String> {
    let listed = schema["oneOf"].as_array().into_iter().flatten();
    let described = listed.filter_map(|choice| {
        let (word, about) = (choice["const"].as_str()?, choice["description"].as_str()?);
        Some(format!("`{word}`: {about}"))
    });
    let described: Vec<String> = described.collect();
    if described.len() > 1 { described } else { Vec::new() }
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
