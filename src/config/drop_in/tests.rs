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

/// The nodes of a graph with what they read.
fn graph(files: &str) -> Vec<String> {
    let checked = checked(files);
    let found = render(&checked.findings, &checked.texts, Format::Short, false);
    let graph = checked.graph.unwrap_or_else(|| panic!("{found}"));
    let nodes = graph.nodes.iter().map(|(name, spec)| {
        let from: Vec<&str> = spec.from.iter().map(|output| &*output.written).collect();
        format!("{} {name} < {}", spec.type_name, from.join(", "))
    });
    nodes.collect()
}

const SOURCE: &str = "=== plugins/sky/plugin.yaml
name: sky
summary: Asks for the weather.
role: source
every: 10m
allow: { http: [\"https://api.example.com\", \"{server}\"] }
limits: { timeout: 20ms, answer_within: 5s }
settings:
  server: { type: string, default: \"http://10.0.0.2\" }
  token: { type: string, secret: true, default: none }
=== plugins/sky/sky.rhai
if answer == () {
    return #{ url: settings.server + `/now`, headers: #{ Authorization: settings.token } };
}
msg.payload.temp = answer.payload.temp;
msg
";
const READER: &str = "sinks:\n  e: { type: log, from: s }\n";

#[test]
fn a_script_is_a_source_with_a_beat() {
    let files = |settings: &str| {
        format!("=== pipelines/x.yaml\nsources:\n  s: {{ type: sky{settings} }}\n{READER}{SOURCE}")
    };
    assert_eq!(graph(&files("")), ["log x/e < s", "sky x/s < "]);
    check_files(&files(", every: 1m, server: 'https://10.0.0.3:8443'"), &[]);
    let wrong = |settings: &str, finding: &str| {
        check_files(&files(settings), &[&format!("pipelines/x.yaml:2:{finding}")]);
    };
    wrong(", every: 10ms", "26: error[setting-value]: `every` is out of range");
    wrong(", server: 10.0.0.3", "27: error[setting-value]: `server` is no place that can be asked");
    wrong(", token: hunter2", "26: warning[plain-secret]: `token` can be read by everybody");
    // Without a default each node has to have one.
    let files = files("").replace("every: 10m\n", "");
    check_files(
        &files,
        &["pipelines/x.yaml:2:3: error[missing-setting]: sky source `s` needs `every`"],
    );
}

#[test]
fn a_script_is_a_sink_that_asks_only_whom_it_may() {
    let files = |more: &str| {
        format!(
            "=== pipelines/x.yaml\nsources:\n  b: {{ type: timer, every: 10s }}\nsinks:\n  push:\n    from: b\n    \
             type: push\n    buffer: {{ store: disk }}\n  e: {{ type: log, from: push.answers }}\n=== \
             plugins/push/plugin.yaml\nname: push\nsummary: Pushes.\nrole: sink\n{more}=== \
             plugins/push/push.rhai\n#{{ url: `https://api.example.com/1`, body: msg.payload }}\n"
        )
    };
    let allow = "allow: { http: [\"https://api.example.com\"] }\n";
    assert_eq!(graph(&files(allow)), ["timer x/b < ", "log x/e < push.answers", "push x/push < b"]);
}

#[test]
fn what_a_plugin_may_not_say_is_found_in_its_file() {
    let pipeline = PIPELINE.replace("type: times", "type: filter").replace("by: 3", "when: 'true'");
    let cases = [
        ("every: 5s\n", "3:1: error[setting-value]: `every` has no use here"),
        ("allow: { http: [] }\n", "3:1: error[setting-value]: `allow` has no use here"),
        (
            "limits: { timeout: 6s }\n",
            "3:20: error[setting-value]: `limits.timeout` is out of range",
        ),
        (
            "role: source\nsettings: { every: { type: duration } }\n",
            "4:13: error[bad-name]: a source that is a script has the setting `every` already",
        ),
        (
            "role: sink\nsettings: { batch: { type: map } }\n",
            "4:13: error[bad-name]: every sink has a setting `batch`, which the plugin never sees",
        ),
        (
            "role: sink\nallow: { http: [example.com] }\n",
            "4:17: error[setting-value]: `example.com` is no place that can be asked",
        ),
        (
            "role: sink\nallow: { http: [\"https://example.com/a\"] }\n",
            "4:17: error[setting-value]: `https://example.com/a` is no place that can be asked",
        ),
        (
            "role: sink\nallow: { http: [\"{host}\"] }\n",
            "4:17: error[setting-value]: `{host}` is no place that can be asked",
        ),
        ("role: conection\n", "3:7: error[setting-type]: `role` is not one of its choices"),
    ];
    check_each(cases.map(|(text, finding)| {
        let manifest = format!("name: times\nsummary: Multiplies.\n{text}");
        (with(&pipeline, &manifest, "msg\n"), format!("plugins/times/plugin.yaml:{finding}"))
    }));
}

const WHOLE: &str = "=== plugins/calm/plugin.yaml
name: calm
summary: Smooths a field and raises an alarm of it.
settings:
  field: { type: string, required: true }
  every: { type: duration, default: 10s }
  limit: { type: number }
transforms:
  means:
    from: input
    type: window
    every: ${settings.every}
    fields: { temp: [mean] }
  tidy:
    from: means
    type: script
    script: lib/tidy.rhai
    settings: { field: \"${settings.field}\", about: \"mean of ${settings.field}\", limit: \"${settings.limit}\" }
  output:
    from: [tidy, means.errors]
    type: filter
    when: msg.payload.temp > 3
=== plugins/calm/lib/tidy.rhai
msg.payload.about = settings.about + settings.field + (settings.limit ?? 3);
msg
";

fn calm(node: &str, whole: &str) -> String {
    format!(
        "=== pipelines/x.yaml\nsources:\n  b: {{ type: timer, every: 10s, payload: {{ temp: 1 }} }}\ntransforms:\n  \
         {node}\nsinks:\n  e: {{ type: log, from: c }}\n{whole}"
    )
}

#[test]
fn a_plugin_stands_for_several_nodes() {
    let node =
        "c: { type: calm, from: b, field: temp, buffer: { max_messages: 5 }, state: persist }";
    assert_eq!(
        graph(&calm(node, WHOLE)),
        [
            "timer x/b < ",
            "filter x/c < :tidy, :means.errors",
            "window x/c:means < b",
            "script x/c:tidy < :means",
            "log x/e < c",
        ]
    );
    let graph = checked(&calm(node, WHOLE)).graph.unwrap();
    assert_eq!(graph.nodes["x/c:means"].common.buffer.max_messages, 5);
    assert_eq!(graph.nodes["x/c:tidy"].common.buffer.max_messages, 10_000);
    let persists = |name: &str| graph.nodes[name].common.state != crate::config::StateKept::Memory;
    assert!(persists("x/c:means") && persists("x/c"), "all that remember do so on disk");
}

#[test]
fn what_a_node_says_reaches_the_parts_that_use_it_and_no_others() {
    let fingerprints = |node: &str| {
        let graph = checked(&calm(node, WHOLE)).graph.unwrap();
        let of = |(name, spec): (&std::sync::Arc<str>, &crate::config::NodeSpec)| {
            (name.to_string(), spec.fingerprint)
        };
        graph.nodes.iter().map(of).collect::<BTreeMap<_, _>>()
    };
    let before = fingerprints("c: { type: calm, from: b, field: temp }");
    for (node, changed) in [
        ("c: { type: calm, from: b, field: temp, every: 10s }", vec![]),
        ("c: { type: calm, from: b, field: temp, every: 20s }", vec!["x/c:means"]),
        ("c: { type: calm, from: b, field: flow }", vec!["x/c:tidy"]),
        ("c: { type: calm, from: b, field: temp, limit: 5 }", vec!["x/c:tidy"]),
    ] {
        let after = fingerprints(node);
        let differing = before.keys().filter(|name| before[*name] != after[*name]);
        assert_eq!(differing.collect::<Vec<_>>(), changed, "{node}");
    }
}

#[test]
fn a_mistake_in_a_whole_is_shown_in_its_file_whether_or_not_it_is_used() {
    let used = "c: { type: calm, from: b, field: temp }\n  d: { type: calm, from: c, field: temp }";
    let unused = "c: { type: filter, from: b, when: 'true' }";
    let cases = [
        (
            "type: window",
            "type: windw",
            "10:11: error[unknown-type]: there is no transform type `windw`",
        ),
        ("fields: { temp: [mean] }", "fileds: { temp: [mean] }", "12:5: error[unknown-setting]: "),
        ("temp: [mean]", "temp: [maen]", "12:21: error[setting-type]: "),
        ("from: means\n", "from: meens\n", "14:11: error[unknown-node]: no part is named `meens`"),
        ("from: input", "from: [b]", "9:12: error[unknown-node]: no part is named `b`"),
        ("  output:", "  result:", "1:7: error[setting-value]: the transform has no part `output`"),
        (
            "of ${settings.field}",
            "of ${settings.feild}",
            "17:52: error[setting-value]: plugin has no setting `feild`",
        ),
        (
            "${settings.every}",
            "5s",
            "5:3: warning[setting-value]: no part uses the setting `every`",
        ),
    ];
    for (from, to, finding) in cases {
        for node in [used, unused] {
            let files = calm(node, &WHOLE.replace(from, to));
            let checked = checked(&files);
            let in_plugin: Vec<String> =
                render(&checked.findings, &checked.texts, Format::Short, false)
                    .lines()
                    .filter(|line| line.starts_with("plugins/"))
                    .map(str::to_owned)
                    .collect();
            let expected = format!("plugins/calm/plugin.yaml:{finding}");
            assert!(
                in_plugin.first().is_some_and(|line| line.starts_with(&expected)),
                "{expected}: {in_plugin:#?}"
            );
        }
    }
    let checked = checked(&calm(used, &WHOLE.replace("temp: [mean]", "temp: [maen]")));
    let note = checked.findings.iter().find_map(|finding| finding.note.clone());
    assert!(note.as_deref().is_some_and(|note| note.contains("`x/c:means`, ")), "{note:?}");
}

#[test]
fn a_mistake_of_a_node_is_shown_where_it_is_written() {
    let wrong = |node: &str, expected: &str| check_files(&calm(node, WHOLE), &[expected]);
    wrong(
        "c: { type: calm, from: b }",
        "pipelines/x.yaml:4:3: error[missing-setting]: calm transform `c` needs `field`",
    );
    wrong(
        "c: { type: calm, from: b, field: temp, evry: 5s }",
        "pipelines/x.yaml:4:42: error[unknown-setting]: calm transform `c` has no setting `evry`",
    );
    wrong(
        "c: { type: calm, from: b, field: temp, every: 0s }",
        "pipelines/x.yaml:4:49: error[setting-value]: `every` ",
    );
}
