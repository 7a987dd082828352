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
    cli::desk::{
        kinds::{self, Kind},
        nodes, schema,
    },
    config::Types,
    plugins,
    warnings::WARNINGS,
};
use forebay_sdk::{Rule, rules::RULES as CONTRACT};

use crate::support::{Folder, python};

/// What the files of a folder under `src/` may import of the crate.
const MAY_IMPORT: [(&str, &[&str]); 7] = [
    ("cli", &["cli", "api", "lint", "engine", "config", "rules", "warnings", "plugins"]),
    ("api", &["api", "warnings"]),
    ("lint", &["lint", "config", "rules"]),
    ("engine", &["engine", "config", "warnings"]),
    ("config", &["config", "rules", "warnings"]),
    ("rules", &["rules"]),
    ("warnings", &["warnings"]),
];

/// Who may read YAML. The SDK hands plugins what they need of it.
const MAY_READ_YAML: [&str; 3] = ["cli", "lint", "config"];

/// What the code of a plugin does not name: bytes come and go through the world that it is given, and
/// the time is that of one clock, so that tests can put others in their place.
const NOT_IN_PLUGINS: [&str; 9] = [
    "tokio::net",
    "tokio_serial",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os::unix::net",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Files that may all the same, each with what it names and why.
const IN_PLUGINS_ALL_THE_SAME: [(&str, &str, &str); 1] =
    [("plugins/http/src/answer.rs", "std::time::SystemTime", "what the library makes of a date")];

#[test]
fn imports_go_one_way() {
    let source = root().join("src");
    let mut wrong = Vec::new();
    for (area, allowed) in MAY_IMPORT {
        for file in files(&source.join(area), "rs") {
            // Tests may use the plugins that there are, and look at what lint makes of a draft.
            let is_test = is_test(&file);
            let above: &[&str] = if area == "config" { &["plugins", "lint"] } else { &["plugins"] };
            for path in imports(&file, &source) {
                let Some(from) = path.first().filter(|first| is_area(first)) else { continue };
                let from = from.as_str();
                let fits = allowed.contains(&from) || is_test && above.contains(&from);
                if !fits {
                    wrong.push(format!("{} imports {}", shown(&file), path.join("::")));
                }
            }
        }
    }
    assert_eq!(wrong, <[String; 0]>::default());
}

#[test]
fn who_reads_yaml_is_known() {
    let source = root().join("src");
    for file in files(&source, "rs") {
        let area = file.strip_prefix(&source).unwrap().iter().next().unwrap().to_string_lossy();
        let text = read(&file);
        let reads = ["forebay_yaml", "yaml::"].iter().any(|name| text.contains(name));
        assert!(!reads || MAY_READ_YAML.contains(&&*area), "{} reads YAML", shown(&file));
    }
}

/// The files of each crate of ours can be read one after another.
#[test]
fn no_two_files_import_each_other() {
    let plugins = plugin_folders().map(|name| plugin_folder(&name));
    let crates = [root().to_owned(), root().join("yaml"), plugin_folder("sdk")];
    let mut circles = Vec::new();
    for folder in crates.into_iter().chain(plugins) {
        let source = folder.join("src");
        let mut texts = BTreeMap::new();
        for file in files(&source, "rs") {
            // The program is a crate of its own, on top of the library.
            if !is_test(&file) && !file.ends_with("src/main.rs") {
                let inner = file.strip_prefix(&source).unwrap().to_owned();
                texts.insert(inner, code(&read(&file)));
            }
        }
        let found = circles_of(&texts).into_iter();
        circles.extend(found.map(|circle| format!("{}: {}", shown(&source), circle.join(", "))));
    }
    assert_eq!(
        circles,
        <[String; 0]>::default(),
        "files that import each other, if only by way of others"
    );
}

#[test]
fn a_circle_of_files_is_seen() {
    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &[&[&str]]) {
        let files = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned()));
        let circles = circles_of(&files.collect());
        assert_eq!(circles, expected);
    }
    check(&[("lib.rs", "pub use crate::a::A;"), ("a.rs", "use std::fs;")], &[]);
    check(
        &[("lib.rs", "pub use a::A;\nmod a;"), ("a.rs", "use crate::B;")],
        &[&["a.rs", "lib.rs"]],
    );
    check(
        &[("a.rs", "use crate::b::c::C;"), ("b/mod.rs", ""), ("b/c.rs", "use super::super::a;")],
        &[&["a.rs", "b/c.rs"]],
    );
    check(
        &[
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use self::c::C;"),
            ("b/c.rs", "use crate::a::A;"),
        ],
        &[&["a.rs", "b/c.rs", "b.rs"]],
    );
    check(&[("a.rs", "use crate::b;"), ("b.rs", "use super::c;"), ("c.rs", "mod a;")], &[]);
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
fn plugins_go_outside_by_the_world_they_are_given() {
    let mut found = BTreeSet::new();
    for plugin in plugin_folders() {
        for file in files(&plugin_folder(&plugin).join("src"), "rs") {
            if is_test(&file) {
                continue;
            }
            let paths = paths_of(&code(&read(&file)), &["std::", "tokio::", "tokio_serial"]);
            for path in paths {
                let named = NOT_IN_PLUGINS.iter().find(|name| is_below(&path, name));
                found.extend(named.map(|name| (shown(&file), (*name).to_owned())));
            }
        }
    }
    let allowed = IN_PLUGINS_ALL_THE_SAME.iter();
    let allowed = allowed.map(|(file, name, _)| ((*file).to_owned(), (*name).to_owned()));
    assert_eq!(found, allowed.collect(), "left: what is named, right: what may be");
}

/// Which branch of a `select!` is looked at first is chance, and a run of `forebay test` is the same each time.
#[test]
fn no_chance_decides_what_is_looked_at_first() {
    let plugins = plugin_folders().map(|name| plugin_folder(&name).join("src"));
    for folder in plugins.chain([root().join("src/engine"), plugin_folder("sdk").join("src")]) {
        for file in files(&folder, "rs").into_iter().filter(|file| !is_test(file)) {
            let text = read(&file);
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for (before, behind) in code.match_indices("select! {").map(|(at, _)| code.split_at(at))
            {
                let line = before.lines().count();
                let is_biased = behind["select! {".len()..].trim_start().starts_with("biased;");
                assert!(is_biased, "{}:{line} is not `biased`", shown(&file));
            }
        }
    }
}

/// Whether a path is a name, or something in it.
fn is_below(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn every_plugin_is_listed_and_complete() {
    let manifest = read(&root().join("Cargo.toml"));
    let features = manifest.split("default = [").nth(1).and_then(|rest| rest.split(']').next());
    let features = features.expect("Cargo.toml has default features");
    let listed = plugins::all();
    for name in plugin_folders() {
        let folder = plugin_folder(&name);
        let plugin = listed.iter().find(|plugin| plugin.name == name);
        let plugin = plugin.unwrap_or_else(|| panic!("plugins/{name} is not in src/plugins.rs"));
        assert!(
            features.contains(&format!("\"forebay-{name}\"")),
            "plugins/{name} is not a default feature in Cargo.toml"
        );
        for file in ["Cargo.toml", "README.md", "sample.yaml", "src/lib.rs", "src/settings.rs"] {
            assert!(folder.join(file).is_file(), "plugins/{name} has no {file}");
        }
        let runs = |role: &str| {
            let source = folder.join("src");
            source.join(format!("{role}.rs")).exists() || source.join(role).join("mod.rs").exists()
        };
        for node_type in &plugin.types {
            let (noun, name) = (node_type.role().noun(), node_type.name());
            assert!(runs(noun), "plugins/{name} offers a {noun} and has no src/{noun}.rs");
        }
        let sources = files(&folder.join("src"), "rs");
        let has_tests = sources.iter().any(|file| read(file).contains("#[test]"));
        assert!(has_tests, "plugins/{name} has no tests");
        for entry in &plugin.types {
            let used = format!("type: {}", entry.name());
            let sample = plugin.sample_of(entry.name());
            assert!(sample.contains(&used), "no sample of plugins/{name} shows {used}");
        }
    }
    assert_eq!(listed.len(), plugin_folders().count(), "a plugin is listed that has no folder");
}

#[test]
fn every_script_plugin_is_built_in_and_complete() {
    let listed: BTreeSet<String> =
        plugins::STANDARD.iter().map(|plugin| plugin.name.to_owned()).collect();
    assert_eq!(listed, script_plugin_folders(), "left: in src/plugins.rs, right: folders");
    for plugin in plugins::STANDARD {
        let (folder, script) = (plugin_folder(plugin.name), format!("{}.rhai", plugin.name));
        let files = [("plugin.yaml", plugin.manifest), (&script, plugin.script)];
        for (name, text) in files {
            let path = folder.join(name);
            assert_eq!(read(&path), text, "{} is another one in src/plugins.rs", shown(&path));
        }
        for file in ["tests.yaml", "README.md"] {
            assert!(folder.join(file).is_file(), "plugins/{} has no {file}", plugin.name);
        }
    }
}

#[test]
fn the_tables_in_the_readmes_are_fresh() {
    for plugin in plugins::all().into_iter().chain(plugins::standard()) {
        let path = plugin_folder(&plugin.name).join("README.md");
        let types = Types::new(vec![plugin]);
        let mut text = read(&path);
        let kinds = kinds::all(&types);
        for kind in &kinds {
            text = with_table(&text, kind, &path);
        }
        let markers = text.matches("<!-- settings:").count();
        assert_eq!(markers, kinds.len(), "{} has other tables too", shown(&path));
        must_be(&path, &text);
    }
}

/// The README with the table of one type as it should be.
fn with_table(readme: &str, kind: &Kind<'_>, path: &Path) -> String {
    const END: &str = "<!-- /settings -->";
    let begin = format!("<!-- settings: {} {} -->\n", kind.name, kind.noun);
    let missing = format!("{} has no {}", shown(path), begin.trim_end());
    let (before, rest) = readme.split_once(&begin).expect(&missing);
    let (_, after) = rest.split_once(END).expect("a table has an end");
    format!("{before}{begin}{}{END}{after}", nodes::markdown(&kind.schema))
}

#[test]
fn the_tables_in_the_readmes_say_something() {
    for entry in plugins::types().iter() {
        for row in nodes::rows(&entry.schema()) {
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
    must_be(&schemas.join("profile.schema.json"), &schema::text(schema::File::Profile));
    must_be(&schemas.join("plugin.schema.json"), &schema::text(schema::File::Plugin));
    must_be(&schemas.join("plugin-tests.schema.json"), &schema::text(schema::File::PluginTests));
    must_be(&schemas.join("script.d.rhai"), &schema::text(schema::File::Script));
    must_be(&schemas.join("test.schema.json"), &schema::text(schema::File::Test));
}

/// What an editor shows is what stands in the schema.
#[test]
fn every_setting_in_the_schemas_says_what_it_is_and_takes() {
    for name in ["pipeline", "runtime", "profile", "plugin", "plugin-tests", "test"] {
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
    let is_test = |file: &PathBuf| shown(file).ends_with(".test.yaml");
    let (tests, examples): (Vec<_>, Vec<_>) =
        files(&root().join("pipelines"), "yaml").into_iter().partition(is_test);
    let samples = plugin_folders()
        .flat_map(|name| files(&plugin_folder(&name), "yaml"))
        .filter(|file| shown(file).ends_with("sample.yaml"));
    let profiles = files(&plugin_folder("modbus").join("profiles"), "yaml")
        .into_iter()
        .filter(|file| !shown(file).contains("/images/"));
    let pipelines = examples.into_iter().chain(samples).collect();
    let profiles = profiles.collect::<Vec<_>>();
    for (schema, files) in [("pipeline", pipelines), ("profile", profiles), ("test", tests)] {
        let verdicts = validate(schema, &files);
        let wrong = files.iter().zip(verdicts.lines()).filter(|(_, verdict)| *verdict != "valid");
        let wrong: Vec<_> = wrong.map(|(file, verdict)| (shown(file), verdict)).collect();
        assert_eq!(wrong, []);
        assert_eq!(verdicts.lines().count(), files.len(), "{verdicts}");
    }
    let folder = Folder::new();
    let check = |schema: &str, text: &str, expected: &str| {
        folder.write("x.yaml", text);
        let verdict = validate(schema, &[folder.path().join("x.yaml")]);
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
    check("pipeline", "sink: {}", "'sink' does not match");
    check("runtime", "log: { level: debug }\nstop_within: 2s", "valid");
    check("runtime", "log: { level: loud }", "'loud' is ");
    check("runtime", "stop: 2s", "'stop' was unexpected");
    let without = meter("unit: 1").replace("registers:", "# registers:");
    check("pipeline", &without, "'registers' is a required");
    check("pipeline", &without.replace("every", "profile: x\n    every"), "valid");
    check("profile", "registers: [{ name: a, input: 0, kind: f23 }]", "'f23' is ");
}

/// Of each file a line `valid`, or what is wrong.
fn validate(schema: &str, files: &[PathBuf]) -> String {
    let schema = root().join("schemas").join(format!("{schema}.schema.json"));
    let mut command = Command::new(python());
    command.arg(root().join("tests/support/validate.py")).arg(schema).args(files);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Whoever declares a rule has its page beside it.
#[test]
fn every_rule_has_a_page_and_every_page_a_rule() {
    let mut others: BTreeSet<&str> = names(&CONTRACT);
    check_pages(&["yaml/rules", "plugins/sdk/rules"], &others);
    for plugin in plugins::all() {
        let own = names(&plugin.rules);
        check_pages(&[&format!("plugins/{}/rules", plugin.name)], &own);
        others.extend(own);
    }
    let types = Types::new(plugins::all());
    let all: Vec<&Rule> = types.rules().iter().collect();
    let core = names(&all).difference(&others).copied().collect();
    check_pages(&["src/rules"], &core);
    for rule in all {
        let title = rule.page.lines().next();
        assert_eq!(title, Some(&*format!("# {}", rule.name)), "the page is that of another rule");
    }
}

/// Whoever reads the log at the site can ask what a line means.
#[test]
fn every_warning_of_the_log_has_a_page_and_every_page_a_line() {
    let names: BTreeSet<&str> = WARNINGS.iter().map(|warning| warning.name).collect();
    check_pages(&["src/warnings"], &names);
    let rules = Types::new(plugins::all());
    for warning in WARNINGS {
        let (name, page) = (warning.name, warning.page);
        assert_eq!(page.lines().next(), Some(&*format!("# {name}")), "the page is another's");
        for heading in ["\nLog: ", "\n## What it means\n", "\n## What to do\n\n* "] {
            assert!(page.contains(heading), "{name}: {heading}");
        }
        assert!(rules.rules().find(name).is_none(), "{name} is a rule of lint, too");
    }
    let mut named = BTreeSet::new();
    for file in ["src", "plugins", "yaml"].iter().flat_map(|it| files(&root().join(it), "rs")) {
        if is_test(&file) {
            continue;
        }
        let code = code(&read(&file));
        let calls = ["warn!(", "error!("];
        for line in calls.iter().flat_map(|call| code.split(call).skip(1)) {
            let line = line.trim_start();
            // What a function gives is named where that does.
            if line.starts_with("%rule, ") {
                continue;
            }
            let name = line.strip_prefix("rule = ");
            let name = name.unwrap_or_else(|| panic!("{}: {line:.80}", shown(&file)));
            named.extend(name.strip_prefix('%').map(name_of));
        }
        let given = code.split("=> &").skip(1).map(name_of);
        named.extend(given.filter(|name| names.contains(&**name)));
    }
    let named = named.iter().map(String::as_str).collect::<BTreeSet<_>>();
    assert_eq!(named, names, "what the log names, and the pages");
}

/// `LOST_MESSAGES, …` is `lost-messages`.
fn name_of(code: &str) -> String {
    code.split(',').next().unwrap_or_default().to_lowercase().replace('_', "-")
}

fn names(rules: &[&'static Rule]) -> BTreeSet<&'static str> {
    rules.iter().map(|rule| rule.name).collect()
}

#[track_caller]
fn check_pages(folders: &[&str], rules: &BTreeSet<&str>) {
    let pages: Vec<PathBuf> =
        folders.iter().flat_map(|folder| files(&root().join(folder), "md")).collect();
    let pages = pages.iter().map(|page| page.file_stem().unwrap().to_str().unwrap());
    assert_eq!(pages.collect::<BTreeSet<_>>(), *rules, "pages in {folders:?}, and the rules there");
}

#[test]
fn the_top_level_is_what_a_visitor_expects() {
    const EXPECTED: [&str; 14] = [
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "Dockerfile",
        "LICENSE",
        "README.md",
        "monitoring",
        "pipelines",
        "plugins",
        "release",
        "schemas",
        "src",
        "tests",
        "yaml",
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
    for folder in ["src", "plugins", "yaml", "tests", "benches", "pipelines", "release"] {
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

/// The files of a crate that import each other, by their paths below its `src`: each circle once.
fn circles_of(files: &BTreeMap<PathBuf, String>) -> Vec<Vec<String>> {
    let by_module: BTreeMap<Vec<String>, &PathBuf> =
        files.keys().map(|file| (module_of(file), file)).collect();
    let mut imports: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> = BTreeMap::new();
    for (file, text) in files {
        let module = module_of(file);
        // A module is also named without `self::` in front, by the file that declares it.
        let own: Vec<String> = declared(text).map(|name| format!("{name}::")).collect();
        let own = paths_of(text, &own.iter().map(String::as_str).collect::<Vec<_>>());
        let own = own.iter().map(|path| resolve(&format!("self::{path}"), &module));
        let paths = imports_of(text, &module).into_iter().chain(own);
        let target = |path: Vec<String>| {
            let mut lengths = (0..=path.len()).rev();
            lengths.find_map(|length| by_module.get(&path[..length]).copied())
        };
        imports.insert(file, paths.filter_map(target).filter(|target| *target != file).collect());
    }
    let reach = |from: &PathBuf| {
        let mut seen = BTreeSet::new();
        let mut ahead: Vec<&PathBuf> = imports[from].iter().copied().collect();
        while let Some(next) = ahead.pop() {
            if seen.insert(next) {
                ahead.extend(&imports[next]);
            }
        }
        seen
    };
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        imports.keys().map(|file| (*file, reach(file))).collect();
    let circle = |file: &PathBuf| {
        let there_and_back = reached[file].iter().filter(|other| reached[**other].contains(file));
        there_and_back.map(|file| file.display().to_string()).collect::<Vec<_>>()
    };
    let circles: BTreeSet<Vec<String>> = files.keys().map(circle).collect();
    circles.into_iter().filter(|circle| !circle.is_empty()).collect()
}

/// The modules that a file declares.
fn declared(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(|line| line.trim_start_matches("pub ").trim_end());
    let lines = lines.map(|line| line.strip_prefix("pub(crate) ").unwrap_or(line));
    lines.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
}

/// The module that a file below `src` holds.
fn module_of(file: &Path) -> Vec<String> {
    let parts = file.with_extension("");
    let mut module: Vec<String> =
        parts.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] || module == ["main"] {
        module.pop();
    }
    module
}

/// Where the paths of a file lead, as far as they stay in the crate.
fn imports(file: &Path, source: &Path) -> Vec<Vec<String>> {
    imports_of(&read(file), &module_of(file.strip_prefix(source).unwrap()))
}

fn imports_of(text: &str, module: &[String]) -> Vec<Vec<String>> {
    let paths = paths_of(text, &["crate::", "super::", "self::"]);
    paths.iter().map(|path| resolve(path, module)).collect()
}

/// The paths in a text that begin in one of these ways, those in braces one by one.
fn paths_of(text: &str, starts: &[&str]) -> Vec<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = starts.iter().filter_map(|start| code[at..].find(start)).min() {
        let begin = at + next;
        let before = code[..begin].chars().next_back().unwrap_or(' ');
        let tree = tree_at(&code[begin..]);
        at = begin + tree.len().max("self::".len()).min(code.len() - begin);
        if !before.is_alphanumeric() && !matches!(before, '_' | ':' | '$') {
            found.extend(expand(tree));
        }
    }
    found
}

/// What a file runs: without its tests, and without what is there for tests only.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut lines = text.lines();
    let mut code = String::new();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            lines.next();
            continue;
        }
        code += line;
        code.push('\n');
    }
    code
}

/// Whether a file holds tests, or what is there for tests only.
fn is_test(file: &Path) -> bool {
    let below = file.strip_prefix(root()).unwrap_or(file);
    let is_named = |part: &str| matches!(part, "tests" | "tests.rs" | "testing.rs");
    let is_declared = || {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let declaration = format!("#[cfg(test)]\nmod {stem};");
        let folder = file.parent().unwrap_or(Path::new(""));
        let beside = ["mod.rs", "lib.rs"].map(|name| folder.join(name));
        let mut parents = beside.into_iter().chain([folder.with_extension("rs")]);
        parents.any(|parent| fs::read_to_string(parent).is_ok_and(|t| t.contains(&declaration)))
    };
    below.iter().any(|part| part.to_str().is_some_and(is_named)) || is_declared()
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

/// The native ones.
fn plugin_folders() -> impl Iterator<Item = String> {
    let entries = fs::read_dir(root().join("plugins")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "sdk" && plugin_folder(name).join("Cargo.toml").exists())
}

/// Those that are scripts.
fn script_plugin_folders() -> BTreeSet<String> {
    let entries = fs::read_dir(root().join("plugins")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| plugin_folder(name).join("plugin.yaml").exists()).collect()
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
