//! What scripts import is found, is read once, and is a part of who imports it.

use std::collections::BTreeMap;

use crate::{
    config::{load, tests::folder_of},
    lint::{
        self, Checked,
        report::{Format, render},
    },
    plugins,
};

const PIPELINE: &str = "=== pipelines/x.yaml
sources:
  b: { type: timer, every: 10s }
transforms:
  own: { from: b, type: script, script: msg }
  one: { from: own, type: script, script: scripts/one.rhai }
  two:
    from: one
    type: script
    script: |
      import \"lib/units\" as units;
      msg.payload.count = units::twice(msg.payload.count);
      msg
sinks:
  e: { type: log, from: two }
=== pipelines/scripts/one.rhai
import \"lib/units\" as u;
msg.payload.count = u::twice(msg.payload.count);
msg
";
const UNITS: &str = "import \"lib/more\" as more;\nfn twice(x) { more::times(x, 2) }\n";
const MORE: &str = "fn times(x, y) { x * y }\n";

fn checked(files: &str) -> Checked {
    let folder = folder_of(files);
    lint::lint(load(folder.path(), &plugins::types(), &|_| None).unwrap())
}

fn with(units: &str, more: &str) -> String {
    format!("{PIPELINE}=== pipelines/lib/units.rhai\n{units}=== pipelines/lib/more.rhai\n{more}")
}

fn found(files: &str) -> String {
    let checked = checked(files);
    render(&checked.findings, &checked.texts, Format::Short, false)
}

fn fingerprints(files: &str) -> BTreeMap<String, u64> {
    let graph = checked(files).graph.unwrap_or_else(|| panic!("{}", found(files)));
    graph.nodes.iter().map(|(name, spec)| (name.to_string(), spec.fingerprint)).collect()
}

#[test]
fn a_change_of_a_module_changes_the_nodes_that_import_it_and_no_others() {
    let before = fingerprints(&with(UNITS, MORE));
    for files in
        [with(&UNITS.replace("x, 2", "x, 3"), MORE), with(UNITS, &MORE.replace("x * y", "y * x"))]
    {
        let after = fingerprints(&files);
        let changed = before.keys().filter(|name| before[*name] != after[*name]);
        assert_eq!(changed.collect::<Vec<_>>(), ["x/one", "x/two"]);
    }
}

#[test]
fn a_module_is_looked_after() {
    let checked = checked(&with(UNITS, MORE));
    for name in ["units.rhai", "more.rhai"] {
        assert!(checked.watched.concerns(std::path::Path::new(name)), "{name}");
    }
    assert!(checked.watched.folders.iter().any(|folder| folder.ends_with("pipelines/lib")));
    let before = checked.texts.iter().filter(|(path, _)| path.ends_with("units.rhai")).count();
    assert_eq!(before, 1, "it is read once for both");
}

#[test]
fn a_mistake_in_a_module_is_one_finding_that_names_who_imports_it() {
    let checked = checked(&with(UNITS, "fn times(x, y) { x * z }\n"));
    assert_eq!(
        render(&checked.findings, &checked.texts, Format::Full, false),
        "error[unknown-variable]: function has no variable `z`
 --> pipelines/lib/more.rhai:1:22
  |
1 | fn times(x, y) { x * z }
  |                      ^ functions see only their parameters; pass it as one
  |
 ::: pipelines/x.yaml:5:43
  |
5 |   one: { from: own, type: script, script: scripts/one.rhai }
  |                                           ---------------- used here
  |
  = note: used by `x/one`, `x/two`

"
    );
    assert!(checked.graph.is_none());
}

#[test]
fn only_modules_below_the_folder_are_imported() {
    let importing = |name: &str| {
        found(&format!(
            "=== pipelines/x.yaml\nsources:\n  b: {{ type: timer, every: 10s }}\ntransforms:\n  s:\n    \
             from: b\n    type: script\n    script: |\n      import \"{name}\" as m;\n      msg\nsinks:\n  \
             e: {{ type: log, from: s }}\n=== pipelines/a.rhai\nimport \"b\" as b;\nfn f() {{ 1 }}\n=== \
             pipelines/b.rhai\nimport \"a\" as a;\nfn f() {{ 1 }}\n=== secret.rhai\nfn f() {{ 1 }}\n"
        ))
    };
    for (name, finding) in [
        (
            "../secret",
            "8:14: error[bad-import]: script cannot import `../secret` (expected a file below pipelines, such as `lib/units`)",
        ),
        (
            "lib/../../secret",
            "8:14: error[bad-import]: script cannot import `lib/../../secret` (expected a file below pipelines, such as `lib/units`)",
        ),
        (
            "/etc/secret",
            "8:14: error[bad-import]: script cannot import `/etc/secret` (expected a file below pipelines, such as `lib/units`)",
        ),
        (
            "",
            "8:14: error[bad-import]: script cannot import `` (expected a file below pipelines, such as `lib/units`)",
        ),
        (
            "a.rhai",
            "8:14: error[bad-import]: script cannot import `a.rhai` (expected the name without its ending: `a`)",
        ),
        (
            "lib/none",
            "8:14: error[script-missing]: module pipelines/lib/none.rhai cannot be read (there is no such file)",
        ),
    ] {
        assert_eq!(importing(name), format!("pipelines/x.yaml:{finding}\n"));
    }
    let cycle = "pipelines/b.rhai:1:8: error[bad-import]: script cannot import `a` (this module imports the one that imports it)\n";
    assert_eq!(importing("a"), cycle);
}

#[test]
fn a_plugin_has_modules_of_its_own() {
    let files = |import: &str, module: &str| {
        format!(
            "=== pipelines/x.yaml\nsources:\n  b: {{ type: timer, every: 10s }}\ntransforms:\n  c: {{ type: times, \
             from: b }}\nsinks:\n  e: {{ type: log, from: c }}\n=== plugins/times/plugin.yaml\nname: times\n\
             summary: Multiplies.\n=== plugins/times/times.rhai\nimport \"{import}\" as m;\n\
             msg.payload.count = m::twice(msg.payload.count);\nmsg\n=== plugins/times/lib/m.rhai\n{module}\n"
        )
    };
    let right = "fn twice(x) { x * 2 }";
    assert_eq!(found(&files("lib/m", right)), "");
    let (before, after) = (
        fingerprints(&files("lib/m", right)),
        fingerprints(&files("lib/m", "fn twice(x) { 2 * x }")),
    );
    assert!(before["x/c"] != after["x/c"] && before["x/b"] == after["x/b"]);
    assert_eq!(
        found(&files("lib/m", "fn twice(x) { y }")),
        "plugins/times/lib/m.rhai:1:15: error[unknown-variable]: function has no variable `y` \
         (functions see only their parameters; pass it as one)\n"
    );
    assert_eq!(
        found(&files("../../secret", right)),
        "plugins/times/times.rhai:1:8: error[bad-import]: script cannot import `../../secret` (expected a file below \
         plugins/times, such as `lib/units`)\n"
    );
}
