use std::collections::BTreeMap;

use forebay_sdk::Level;

use crate::{
    config::{load, tests::folder_of},
    lint::{
        self, Checked,
        report::{Format, render},
    },
    plugins,
};

const PIPELINE: &str = "=== pipelines/x.yaml\nsources:\n  b: { type: timer, every: 10s }\n\
     transforms:\n  c: { type: times, from: b, by: 3 }\n  d: { type: filter, from: c, when: \
     msg.payload.count > 1 }\nsinks:\n  e: { type: log, from: d }\n";
const MANIFEST: &str = "name: times\nsummary: Multiplies the count.\nsettings:\n  by: { type: \
     number, required: true, about: The factor. }\n  more: { type: integer, default: 0 }\n";
const SCRIPT: &str = "msg.payload.count *= settings.by + settings.more;\nmsg\n";

fn checked(files: &str) -> Checked {
    let folder = folder_of(files);
    lint::lint(load(folder.path(), &plugins::types(), &|_| None).unwrap())
}

#[track_caller]
fn check(pipeline: &str, manifest: &str, script: &str, expected: &[&str]) {
    check_files(&with(pipeline, manifest, script), expected);
}

/// Each set of files has one finding.
#[track_caller]
fn check_each<const N: usize>(cases: [(String, String); N]) {
    let wrong = cases.into_iter().filter_map(|(files, expected)| {
        let checked = checked(&files);
        let found = render(&checked.findings, &checked.texts, Format::Short, false);
        let fits = found.starts_with(&expected) && found.lines().count() == 1;
        (!fits).then(|| format!("expected {expected}\nfound    {found}"))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[track_caller]
fn check_files(files: &str, expected: &[&str]) {
    let checked = checked(files);
    let found = render(&checked.findings, &checked.texts, Format::Short, false);
    let lines: Vec<&str> = found.lines().collect();
    let fits = lines.iter().zip(expected).all(|(line, expected)| line.starts_with(expected));
    assert!(fits && lines.len() == expected.len(), "expected {expected:#?}, found\n{found}");
}

fn with(pipeline: &str, manifest: &str, script: &str) -> String {
    format!(
        "{pipeline}=== plugins/times/plugin.yaml\n{manifest}=== plugins/times/times.rhai\n{script}"
    )
}

fn fingerprints(manifest: &str, script: &str) -> BTreeMap<String, u64> {
    let graph = checked(&with(PIPELINE, manifest, script)).graph.unwrap();
    graph.nodes.iter().map(|(name, spec)| (name.to_string(), spec.fingerprint)).collect()
}

#[test]
fn a_folder_with_a_script_is_a_type() {
    check(PIPELINE, MANIFEST, SCRIPT, &[]);
}

#[test]
fn an_edited_script_replaces_the_nodes_of_its_type_and_no_others() {
    let before = fingerprints(MANIFEST, SCRIPT);
    for after in [
        fingerprints(MANIFEST, &SCRIPT.replace("*=", "+=")),
        fingerprints(&MANIFEST.replace("default: 0", "default: 1"), SCRIPT),
    ] {
        let changed = before.keys().filter(|name| before[*name] != after[*name]);
        assert_eq!(changed.collect::<Vec<_>>(), ["x/c"]);
    }
    assert_eq!(before, fingerprints(&format!("# said\n{MANIFEST}"), SCRIPT));
}

#[test]
fn a_wrong_setting_of_a_node_is_shown_in_the_pipeline() {
    let of = |settings: &str| PIPELINE.replace("by: 3", settings);
    let wrong = |settings: &str, finding: &str| {
        check(&of(settings), MANIFEST, SCRIPT, &[&format!("pipelines/x.yaml:{finding}")]);
    };
    wrong("more: 1", "4:3: error[missing-setting]: times transform `c` needs `by`");
    wrong(
        "by: 1, mroe: 2",
        "4:37: error[unknown-setting]: times transform `c` has no setting `mroe`",
    );
    wrong("by: fast", "4:34: error[setting-type]: `by` has the wrong type");
    wrong("by: 1, more: 1.5", "4:43: error[setting-type]: `more` has the wrong type");
}

#[test]
fn a_mistake_in_a_script_is_shown_in_its_file_with_the_nodes_that_have_it() {
    let files = with(PIPELINE, MANIFEST, "msg.payload.count *= settings.bi;\nmsg\n");
    let checked = checked(&files);
    let of_script = checked.findings.iter().find(|found| found.level == Level::Error).unwrap();
    assert_eq!(
        render(std::slice::from_ref(of_script), &checked.texts, Format::Full, false),
        "error[missing-script-setting]: script reads `settings.bi`, which plugin.yaml does not have
 --> plugins/times/times.rhai:1:31
  |
1 | msg.payload.count *= settings.bi;
  |                               ^^ did you mean `by`?
  |
  = note: used by `x/c`

"
    );
    assert!(checked.graph.is_none());
    let unused = PIPELINE.replace("type: times", "type: filter").replace("by: 3", "when: 'true'");
    let checked = self::checked(&with(&unused, MANIFEST, "msg +\n"));
    assert_eq!(checked.findings[0].note.as_deref(), Some("no node uses it"));
}

/// What follows from a mistake is not reported beside it: the nodes of the type are right.
#[test]
fn a_mistake_in_a_script_of_a_plugin_is_one_finding() {
    let cases = [
        ("\nmsg.payload +;", "2:14: error[script-syntax]: script cannot be read"),
        ("mgs", "1:38: error[unknown-variable]: script has no variable `mgs`"),
        ("ruond(1.0); msg", "1:38: error[unknown-function]: script has no function `ruond`"),
        ("emit(\"high\", msg);", "1:43: error[undeclared-output]: `outputs` does not have `high`"),
    ];
    check_each(cases.map(|(text, finding)| {
        let script = format!("let x = settings.by + settings.more; {text}");
        (with(PIPELINE, MANIFEST, &script), format!("plugins/times/times.rhai:{finding}"))
    }));
}

#[test]
fn a_mistake_in_a_plugin_yaml_is_one_finding() {
    let cases = [
        (
            "name: times",
            "name: time",
            "1:7: error[bad-name]: plugin `time` stands in the folder `times`",
        ),
        (
            "name: times",
            "nmae: times",
            "1:1: error[unknown-setting]: plugin `times` has no setting `nmae`",
        ),
        (
            "type: integer",
            "type: int",
            "5:17: error[setting-type]: `settings.more.type` is not one of its choices",
        ),
        (
            "default: 0",
            "default: a",
            "5:35: error[setting-type]: the default of `more` has the wrong type",
        ),
        (
            "default: 0",
            "default: 0, min: 5",
            "5:35: error[setting-type]: the default of `more` is out of range",
        ),
        (
            "default: 0",
            "default: 0, required: true",
            "5:35: error[setting-value]: `more` is required, so its default is never used",
        ),
        (
            "default: 0",
            "default: 0, one_of: [a]",
            "5:46: error[setting-value]: `more` has `one_of` and is no text",
        ),
        (
            "default: 0",
            "min: 7, max: 6",
            "5:31: error[setting-value]: no number is right for `more`",
        ),
        (
            "\n  more:",
            "\n  from: { type: string }\n  more:",
            "5:3: error[bad-name]: every transform has a setting `from`, which the plugin never \
             sees",
        ),
        (
            "\n  more:",
            "\n  a-b: { type: string }\n  more:",
            "5:3: error[bad-name]: `a-b` cannot be the name of a setting",
        ),
        (
            "settings:",
            "outputs: [errors]\nsettings:",
            "3:11: error[setting-value]: `outputs` has the reserved name `errors`",
        ),
        ("settings:", "settings: [\n", "3:11: error[yaml-syntax]: file is not valid YAML"),
    ];
    check_each(cases.map(|(from, to, finding)| {
        let manifest = MANIFEST.replace(from, to);
        (with(PIPELINE, &manifest, SCRIPT), format!("plugins/times/plugin.yaml:{finding}"))
    }));
}

#[test]
fn a_setting_that_the_script_does_not_read_is_a_warning() {
    let manifest = format!("{MANIFEST}  unit: {{ type: string }}\n");
    let finding = "plugins/times/plugin.yaml:6:3: warning[unread-script-setting]: script does not \
         read the setting `unit`";
    check(PIPELINE, &manifest, SCRIPT, &[finding]);
}

#[test]
fn a_plugin_without_one_of_its_files_says_which() {
    let finding = "plugins/times/times.rhai:1:1: error[unreadable-file]: plugins/times/times.rhai \
         cannot be read (there is no such file)";
    let other = "=== plugins/times/script.rhai\n";
    let files = format!("{PIPELINE}=== plugins/times/plugin.yaml\n{MANIFEST}{other}{SCRIPT}");
    check_files(&files, &[finding]);
    let help = checked(&files).findings[0].help.clone();
    assert_eq!(help.as_deref(), Some("rename script.rhai to times.rhai"));

    let finding = "plugins/times/plugin.yaml:1:1: error[unreadable-file]: \
         plugins/times/plugin.yaml cannot be read (there is no such file)";
    check_files(&format!("{PIPELINE}=== plugins/times/times.rhai\n{SCRIPT}"), &[finding]);
    let stray = "warning[ignored-file]: plugins/x.rhai is not read: a plugin is a folder with a plugin.yaml";
    let files = with(PIPELINE, MANIFEST, SCRIPT);
    check_files(&format!("{files}=== plugins/x.rhai\nmsg\n=== plugins/notes/a.md\n"), &[stray]);
}

#[test]
fn a_plugin_cannot_take_the_name_of_a_native_type_but_of_one_that_is_a_script() {
    let files = "=== plugins/filter/plugin.yaml\nname: filter\nsummary: Mine.\n=== \
         plugins/filter/filter.rhai\nmsg\n";
    let finding = "plugins/filter/plugin.yaml:1:7: error[bad-name]: there is a transform type `filter` already";
    let first = PIPELINE.replace("type: times", "type: unit-convert");
    let pipeline = first.replace("by: 3", "field: count, from_unit: K, to_unit: degC");
    check_files(&format!("{pipeline}{files}"), &[finding]);

    let mine = "=== plugins/unit-convert/plugin.yaml\nname: unit-convert\nsummary: Mine.\n=== \
         plugins/unit-convert/unit-convert.rhai\nmsg\n";
    let finding = "pipelines/x.yaml:4:37: error[unknown-setting]: unit-convert transform `c` has no setting `field`";
    let checked = checked(&format!("{pipeline}{mine}"));
    let found = render(&checked.findings, &checked.texts, Format::Short, false);
    assert!(found.contains(finding), "{found}");
    check_files(&pipeline, &[]);
}

#[test]
fn a_change_to_any_file_of_a_plugin_is_noticed() {
    let checked = checked(&with(PIPELINE, MANIFEST, SCRIPT));
    assert_eq!(checked.count(Level::Error), 0);
    for name in ["plugin.yaml", "times.rhai"] {
        assert!(checked.watched.concerns(std::path::Path::new(name)), "{name}");
    }
    let names: Vec<_> =
        checked.watched.folders.iter().filter_map(|folder| folder.file_name()?.to_str()).collect();
    assert!(names.contains(&"plugins") && names.contains(&"times"), "{names:?}");
}
