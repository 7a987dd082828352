//! What the repository promises about itself: who may import whom, and that everything generated
//! is fresh. `UPDATE=1` rewrites what is generated.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use forebay::{
    cli::{nodes, schema},
    config::{NodeTypeEntry, Types},
    lint::rules::RULES,
    plugins,
};

use crate::support::{Folder, python};

/// What the files of a folder under `src/` may import of the crate.
const MAY_IMPORT: [(&str, &[&str]); 4] = [
    ("cli", &["cli", "lint", "engine", "config", "plugins"]),
    ("lint", &["lint", "config"]),
    ("engine", &["engine", "config"]),
    ("config", &["config"]),
];

#[test]
fn imports_go_one_way() {
    let source = root().join("src");
    let mut wrong = Vec::new();
    for (area, allowed) in MAY_IMPORT {
        for file in files(&source.join(area), "rs") {
            // Tests may use the plugins that there are.
            let is_test = file.ends_with("tests.rs");
            for path in imports(&file, &source) {
                let Some(from) = path.first().filter(|first| is_area(first)) else { continue };
                let fits = allowed.contains(&from.as_str()) || is_test && from == "plugins";
                if !fits {
                    wrong.push(format!("{} imports {}", shown(&file), path.join("::")));
                }
            }
        }
    }
    assert_eq!(wrong, <[String; 0]>::default());
}

/// A rule that looks at nothing is kept by everybody.
#[test]
fn the_import_rule_sees_every_way_to_write_an_import() {
    #[track_caller]
    fn check(module: &str, text: &str, expected: &[&str]) {
        let module: Vec<String> = module.split("::").map(str::to_owned).collect();
        let found: Vec<String> =
            imports_of(text, &module).iter().map(|path| path.join("::")).collect();
        assert_eq!(found, expected);
    }
    check(
        "lint::checks",
        "use crate::{engine, config::{Draft, draft}};",
        &["engine", "config::Draft", "config::draft"],
    );
    check("lint::checks", "use super::super::engine::Engine as E;", &["engine::Engine"]);
    check("lint", "pub(crate) use super::engine::*;", &["engine::*"]);
    check("lint", "use self::report::Format;", &["lint::report::Format"]);
    check(
        "lint",
        "fn f() -> crate::engine::Plan { crate::cli::main() }",
        &["engine::Plan", "cli::main"],
    );
    check("lint", "// use crate::engine;\nuse std::fs;", &[]);
    assert!(!imports(&root().join("src/cli/mod.rs"), &root().join("src")).is_empty());
}

#[test]
fn only_one_file_names_a_plugin() {
    let names: Vec<String> = plugin_folders().map(|name| format!("forebay_{name}")).collect();
    for file in files(&root().join("src"), "rs") {
        let text = read(&file);
        let named = names.iter().find(|name| text.contains(name.as_str()));
        assert!(
            named.is_none() || file.ends_with("src/plugins.rs"),
            "{} names {}",
            shown(&file),
            named.map_or("nothing", |name| name)
        );
    }
}

#[test]
fn plugins_know_only_the_contract() {
    for plugin in plugin_folders() {
        let manifest = read(&plugin_folder(&plugin).join("Cargo.toml"));
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']);
            }
            let is_ours = line.trim_start().starts_with("forebay-");
            let is_contract = line.trim_start().starts_with("forebay-sdk");
            assert!(
                !is_ours || is_contract || section == "dev-dependencies",
                "plugins/{plugin} imports another plugin: {line}"
            );
        }
    }
}

#[test]
fn every_plugin_is_listed_and_complete() {
    let manifest = read(&root().join("Cargo.toml"));
    let features = manifest.split("default = [").nth(1).and_then(|rest| rest.split(']').next());
    let features = features.expect("Cargo.toml has default features");
    let listed: BTreeMap<&str, _> =
        plugins::all().into_iter().map(|plugin| (plugin.name, plugin)).collect();
    for name in plugin_folders() {
        let folder = plugin_folder(&name);
        assert!(listed.contains_key(&*name), "plugins/{name} is not in src/plugins.rs");
        assert!(
            features.contains(&format!("\"forebay-{name}\"")),
            "plugins/{name} is not a default feature in Cargo.toml"
        );
        for file in ["Cargo.toml", "README.md", "sample.yaml", "src/lib.rs"] {
            assert!(folder.join(file).is_file(), "plugins/{name} has no {file}");
        }
        let sources = files(&folder.join("src"), "rs");
        let has_tests = sources.iter().any(|file| read(file).contains("#[test]"));
        assert!(has_tests, "plugins/{name} has no tests");
        let plugin = listed[&*name];
        for entry in plugin.types {
            let used = format!("type: {}", entry.name());
            assert!(plugin.sample.contains(&used), "plugins/{name}/sample.yaml shows no {used}");
        }
    }
    assert_eq!(listed.len(), plugin_folders().count(), "a plugin is listed that has no folder");
}

#[test]
fn the_tables_in_the_readmes_are_fresh() {
    for plugin in plugins::all() {
        let path = plugin_folder(plugin.name).join("README.md");
        let types = Types::new(&[plugin]);
        let mut text = read(&path);
        for entry in types.iter() {
            text = with_table(&text, entry, &path);
        }
        let markers = text.matches("<!-- settings:").count();
        assert_eq!(markers, types.iter().count(), "{} has other tables too", shown(&path));
        must_be(&path, &text);
    }
}

/// The README with the table of one type as it should be.
fn with_table(readme: &str, entry: &NodeTypeEntry, path: &Path) -> String {
    const END: &str = "<!-- /settings -->";
    let (name, role) = (entry.node_type.name(), entry.node_type.role().noun());
    let begin = format!("<!-- settings: {name} {role} -->\n");
    let missing = format!("{} has no {}", shown(path), begin.trim_end());
    let (before, rest) = readme.split_once(&begin).expect(&missing);
    let (_, after) = rest.split_once(END).expect("a table has an end");
    format!("{before}{begin}{}{END}{after}", nodes::markdown(&entry.schema))
}

#[test]
fn the_tables_in_the_readmes_say_something() {
    for entry in Types::new(&plugins::all()).iter() {
        for row in nodes::rows(&entry.schema) {
            let (name, path) = (entry.node_type.name(), row.path);
            assert!(!row.about.is_empty(), "`{path}` of {name} does not say what it does");
            assert!(!row.value.is_empty(), "`{path}` of {name} does not say what it takes");
        }
    }
}

#[test]
fn the_schemas_are_fresh() {
    let schemas = root().join("schemas");
    must_be(&schemas.join("pipeline.schema.json"), &schema::text(schema::File::Pipeline));
    must_be(&schemas.join("runtime.schema.json"), &schema::text(schema::File::Runtime));
}

/// What an editor shows is what stands in the schema.
#[test]
fn every_setting_in_the_schemas_says_what_it_is_and_takes() {
    for name in ["pipeline", "runtime"] {
        let schema = read(&root().join("schemas").join(format!("{name}.schema.json")));
        let schema = serde_json::from_str(&schema).unwrap();
        let mut settings = 0;
        each_setting(&schema, name, &mut |path, setting| {
            settings += 1;
            let text = |key: &str| setting[key].as_str().unwrap_or_default();
            assert!(!text("description").is_empty(), "{path} says nothing");
            // An editor would offer it as a value.
            assert!(setting.get("default").is_none_or(|default| !default.is_null()), "{path}");
            let alternatives = setting["anyOf"].as_array().into_iter().flatten();
            for one in alternatives.chain([setting]) {
                let types = one["type"].as_array().into_iter().flatten().chain([&one["type"]]);
                let is_whole = types.clone().any(|kind| kind == "integer");
                assert!(!is_whole || one["minimum"].is_number(), "{path} has no least value");
            }
        });
        assert!(settings > 3, "{name}: {settings}");
    }
}

/// Visits the properties of a schema and of what is inside it.
fn each_setting(
    schema: &serde_json::Value,
    path: &str,
    visit: &mut dyn FnMut(&str, &serde_json::Value),
) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        // The type is a constant, which the node type's own description explains.
        let path = format!("{path}.{name}");
        if property.get("const").is_none() && property.get("enum").is_none() {
            visit(&path, property);
        }
        each_setting(property, &path, visit);
    }
    for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
        each_setting(definition, name, visit);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(key) {
            each_setting(inner, path, visit);
        }
    }
    for one in schema["anyOf"].as_array().into_iter().flatten() {
        each_setting(one, path, visit);
    }
}

/// The schemas are for editors, so somebody else's validator must find them right.
#[test]
fn the_schemas_accept_what_is_right_and_refuse_what_is_wrong() {
    let examples = files(&root().join("pipelines"), "yaml");
    let samples = plugin_folders().map(|name| plugin_folder(&name).join("sample.yaml"));
    for file in examples.into_iter().chain(samples) {
        let verdict = validate("pipeline", &file);
        assert_eq!(verdict, "valid", "{}", shown(&file));
    }
    let folder = Folder::new();
    let check = |schema: &str, text: &str, expected: &str| {
        folder.write("x.yaml", text);
        let verdict = validate(schema, &folder.path().join("x.yaml"));
        assert!(verdict.contains(expected), "{text}\n{verdict}");
    };
    let meter = |setting: &str| {
        format!(
            "sources:\n  m:\n    type: modbus\n    connection: bus\n    every: 5s\n    {setting}\n    \
             registers: [{{ name: a, input: 0, kind: f32 }}]\n"
        )
    };
    check("pipeline", &meter("unit: 1"), "valid");
    check("pipeline", &meter("unit: ${env:UNIT}"), "valid");
    check("pipeline", &meter("unit: 300"), "300 is ");
    check("pipeline", &meter("unti: 1"), "'unti' was unexpected");
    check("pipeline", &meter("unit: 1").replace("f32", "f23"), "'f23' is ");
    check("pipeline", &meter("unit: 1").replace("every: 5s", "every: 5"), "5 is not of type");
    check(
        "pipeline",
        &meter("unit: 1").replace("every: 5s", "every: soon"),
        "'soon' does not match",
    );
    check("pipeline", &meter("unit: 1").replace("    every: 5s\n", ""), "'every' is a required");
    check("pipeline", "sources: { m: { type: modbsu } }", "'modbsu' is not one of");
    check("pipeline", "sources: { m: { every: 5s } }", "'type' is a required");
    check("pipeline", "sinks: { s: { type: log } }", "'from' is a required");
    check("pipeline", "sinks: { s: { type: log, from: [] } }", "[] is ");
    check("pipeline", "sources: { a.b: { type: timer, every: 5s } }", "'a.b' does not match");
    check("pipeline", "sink: {}", "'sink' was unexpected");
    check("runtime", "log: { level: debug }\nstop_within: 2s", "valid");
    check("runtime", "log: { level: loud }", "'loud' is ");
    check("runtime", "stop: 2s", "'stop' was unexpected");
}

/// `valid`, or what is wrong.
fn validate(schema: &str, file: &Path) -> String {
    let schema = root().join("schemas").join(format!("{schema}.schema.json"));
    let mut command = Command::new(python());
    command.arg(root().join("tests/support/validate.py")).arg(schema).arg(file);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn every_rule_has_a_page_and_every_page_a_rule() {
    // Words with a hyphen that name no rule.
    const OTHERS: [&str; 8] = [
        "content-length",
        "last-good",
        "retry-after",
        "site-a",
        "tell-nobody",
        "transfer-encoding",
        "x-forebay-was",
        "yaml-language-server",
    ];
    let rules: BTreeSet<String> = RULES.iter().map(|rule| rule.name.to_owned()).collect();
    let mut named = BTreeSet::new();
    for folder in ["src", "plugins"] {
        for file in files(&root().join(folder), "rs") {
            let is_list = file.ends_with("src/lint/rules.rs");
            if !is_list && !file.ends_with("tests.rs") && !file.parent().unwrap().ends_with("tests")
            {
                let code = read(&file);
                let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                named.extend(words_with_hyphen(code));
            }
        }
    }
    named.retain(|word| !OTHERS.contains(&word.as_str()) && !word.starts_with("forebay-"));
    assert_eq!(named, rules, "left: in the code, right: with a page in src/lint/rules");
    let pages = files(&root().join("src/lint/rules"), "md");
    let pages = pages.iter().map(|page| page.file_stem().unwrap().to_string_lossy().into_owned());
    assert_eq!(pages.collect::<BTreeSet<_>>(), rules, "left: the pages, right: the list");
}

/// Texts in quotes that are made of words with hyphens between them.
fn words_with_hyphen(code: &str) -> impl Iterator<Item = String> {
    let is_one = |text: &&str| {
        text.contains('-')
            && text
                .split('-')
                .all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
    };
    // A rule of one word stands behind the call that makes a finding.
    let alone = ["Finding::error(\"", "Finding::warning(\"", ".rule(\"", "rule: \""];
    let alone = alone.iter().flat_map(|call| code.split(call).skip(1));
    let alone = alone.filter_map(|rest| rest.split('"').next());
    let mut found: BTreeSet<String> = code.split('"').filter(is_one).map(str::to_owned).collect();
    found.extend(alone.map(str::to_owned));
    found.into_iter()
}

#[test]
fn the_top_level_is_what_a_visitor_expects() {
    const EXPECTED: [&str; 11] = [
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "Dockerfile",
        "LICENSE",
        "README.md",
        "pipelines",
        "plugins",
        "schemas",
        "src",
        "tests",
    ];
    const OPTIONAL: [&str; 2] = ["benches", "target"];
    let entries = fs::read_dir(root()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let visible: BTreeSet<String> =
        names.filter(|name| !name.starts_with('.') && !OPTIONAL.contains(&name.as_str())).collect();
    assert_eq!(visible, EXPECTED.map(str::to_owned).into());
}

#[test]
fn nothing_is_left_for_later() {
    // In two pieces, or this file would be the first to be found.
    let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["to", "do!("], ["unimpl", "emented!("]];
    let words = words.map(|halves| halves.concat());
    for folder in ["src", "plugins", "tests", "benches", "pipelines"] {
        for end in ["rs", "rhai", "toml", "yaml", "md", "py"] {
            for file in files(&root().join(folder), end) {
                let text = fs::read(&file).unwrap();
                let text = String::from_utf8_lossy(&text);
                let found = words.iter().find(|word| text.contains(word.as_str()));
                assert_eq!(found, None, "{}", shown(&file));
            }
        }
    }
}

/// Fails when a file is not as it should be; with `UPDATE=1` writes it.
#[track_caller]
fn must_be(path: &Path, expected: &str) {
    let now = fs::read_to_string(path).unwrap_or_default();
    if now == expected {
        return;
    }
    if std::env::var_os("UPDATE").is_some() {
        return fs::write(path, expected).unwrap();
    }
    let differs = now.lines().zip(expected.lines()).find(|(now, expected)| now != expected);
    panic!("{} is stale; UPDATE=1 rewrites it. First difference: {differs:#?}", shown(path));
}

/// Where the paths of a file lead, as far as they stay in the crate.
fn imports(file: &Path, source: &Path) -> Vec<Vec<String>> {
    let inner = file.strip_prefix(source).unwrap().with_extension("");
    let mut module: Vec<String> =
        inner.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    imports_of(&read(file), &module)
}

fn imports_of(text: &str, module: &[String]) -> Vec<Vec<String>> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = Vec::new();
    let starts = ["crate::", "super::", "self::"];
    let mut at = 0;
    while let Some(next) = starts.iter().filter_map(|start| code[at..].find(start)).min() {
        let begin = at + next;
        let before = code[..begin].chars().next_back().unwrap_or(' ');
        let tree = tree_at(&code[begin..]);
        at = begin + tree.len().max("self::".len());
        if !before.is_alphanumeric() && !matches!(before, '_' | ':' | '$') {
            found.extend(expand(tree).iter().map(|path| resolve(path, module)));
        }
    }
    found
}

/// The path that a text begins with, and the names in braces behind it.
fn tree_at(text: &str) -> &str {
    let mut depth = 0;
    let ends = |(_, c): &(usize, char)| match c {
        '{' => {
            depth += 1;
            false
        }
        '}' => {
            depth -= 1;
            depth < 0
        }
        ' ' | ',' | '\n' => depth == 0,
        c => depth == 0 && !c.is_alphanumeric() && !matches!(c, ':' | '_' | '*'),
    };
    let end = text.char_indices().find(ends).map_or(text.len(), |(end, _)| end);
    // In an expression, a brace behind a path opens a block.
    let tree = &text[..end];
    match tree.find('{') {
        Some(brace) if !tree[..brace].ends_with("::") => &tree[..brace],
        _ => tree.trim_end_matches(':'),
    }
}

/// `a::{b, c::d}` becomes `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<String> {
    let Some((front, inside)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        return vec![path.to_owned()];
    };
    let inside = inside.trim_end().strip_suffix('}').unwrap_or(inside);
    let mut depth = 0;
    let parts = inside.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    parts.flat_map(expand).map(|path| format!("{}{path}", front.trim())).collect()
}

/// A path from the top of the crate.
fn resolve(path: &str, module: &[String]) -> Vec<String> {
    let mut here = module.to_vec();
    let steps = path.split("::").map(str::trim);
    for (index, step) in steps.enumerate() {
        match step {
            "crate" => here.clear(),
            "super" => {
                here.pop();
            }
            "self" if index == 0 => (),
            step => here.push(step.to_owned()),
        }
    }
    here
}

fn is_area(name: &str) -> bool {
    MAY_IMPORT.iter().any(|(area, _)| *area == name) || name == "plugins"
}

fn plugin_folders() -> impl Iterator<Item = String> {
    let entries = fs::read_dir(root().join("plugins")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "sdk" && !name.starts_with('.'))
}

fn plugin_folder(name: &str) -> PathBuf {
    root().join("plugins").join(name)
}

/// All files below a folder with this extension, sorted.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.extension().is_some_and(|found| found == end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
