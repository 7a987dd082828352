//! What scripts see and call, for editors: a file `.d.rhai`, made of the functions that are there and of the README.

#[cfg(test)]
mod tests;

use std::{any::TypeId, collections::BTreeMap};

use rhai::{Array, Blob, Dynamic, FnPtr, ImmutableString, Map};

use crate::host;

const README: &str = include_str!("../README.md");

const HEAD: &str = "\
module static;

/// The message: `topic`, `time` in milliseconds since 1970, `payload`, `meta`.
let msg: map;

/// What lasts from message to message.
let state: map;

/// The values that stand in `settings` of the node. Nobody can change them.
const settings: map;
";

/// The file.
pub(crate) fn text() -> String {
    let told = told(README);
    let functions = host::signatures().into_iter().map(|(name, types)| {
        let told = told.get(&name).and_then(|told| {
            told.iter().find(|told| told.parameters.len() == types.len()).or(told.first())
        });
        let names = told.map_or(&[][..], |told| &told.parameters);
        let parameters = types.iter().enumerate().map(|(index, kind)| {
            let name = names.get(index).filter(|_| names.len() == types.len());
            format!("{}: {}", name.map_or("_", String::as_str), name_of(*kind))
        });
        let function = format!("fn {name}({});\n", parameters.collect::<Vec<_>>().join(", "));
        (function, told.map(|told| told.about.as_str()))
    });
    // Several kinds of text are one to scripts.
    let functions: BTreeMap<String, Option<&str>> = functions.collect();
    let mut text = HEAD.to_owned();
    for (function, about) in functions {
        let about = about.map(|about| format!("/// {about}\n")).unwrap_or_default();
        text += &format!("\n{about}{function}");
    }
    text
}

/// What the README says of a function.
struct Told {
    parameters: Vec<String>,
    about: String,
}

/// The rows of its table of functions, by name: `round(x)`, `round(x, digits)`, and what they do.
fn told(readme: &str) -> BTreeMap<String, Vec<Told>> {
    let table = readme.split("## Functions").nth(1).unwrap_or_default();
    let table = table.split("\n## ").next().unwrap_or_default();
    let mut told: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    for row in table.lines().filter_map(|line| line.strip_prefix("| ")) {
        let Some((calls, about)) = row.trim_end_matches([' ', '|']).split_once(" | ") else {
            continue;
        };
        for call in calls.split('`').skip(1).step_by(2) {
            let (name, parameters) = call.split_once('(').unwrap_or((call, ""));
            let parameters = parameters.trim_end_matches(')').split(", ");
            // A value that is written out has no name.
            let name_of = |word: &str| match word.starts_with('"') {
                true => "text".to_owned(),
                false => word.to_owned(),
            };
            let parameters = parameters.filter(|word| !word.is_empty()).map(name_of).collect();
            let about = about.replace("](", " (").replace('[', "");
            told.entry(name.to_owned()).or_default().push(Told { parameters, about });
        }
    }
    told
}

/// What the language calls a type.
fn name_of(kind: TypeId) -> &'static str {
    let names = [
        (TypeId::of::<i64>(), "int"),
        (TypeId::of::<f64>(), "float"),
        (TypeId::of::<bool>(), "bool"),
        (TypeId::of::<char>(), "char"),
        (TypeId::of::<()>(), "()"),
        (TypeId::of::<ImmutableString>(), "String"),
        (TypeId::of::<&str>(), "String"),
        (TypeId::of::<String>(), "String"),
        (TypeId::of::<Array>(), "Array"),
        (TypeId::of::<Blob>(), "Blob"),
        (TypeId::of::<Map>(), "Map"),
        (TypeId::of::<FnPtr>(), "Fn"),
        (TypeId::of::<Dynamic>(), "?"),
        (TypeId::of::<std::ops::Range<i64>>(), "Range"),
        (TypeId::of::<std::ops::RangeInclusive<i64>>(), "Range="),
    ];
    names.iter().find(|(known, _)| *known == kind).map_or("?", |(_, name)| name)
}
